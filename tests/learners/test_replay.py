"""What stands in for old data: Gaussians, exemplars, nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.config import ConfigError, GateConfig
from snn_artsy.learners.base import LabelledBatch
from snn_artsy.learners.replay import ClassGaussians, Exemplars, NoReplay, build_replay, herd


def labelled(features: Tensor, labels: Tensor, images: Tensor | None = None) -> LabelledBatch:
    load = None if images is None else lambda: images
    index = torch.arange(len(labels))
    return LabelledBatch(features, index, "train", labels=labels, load_images=load)  # type: ignore[arg-type]


def learnt(
    per_class: int, shrinkage: float = 0.3, seed: int = 0
) -> tuple[ClassGaussians, Tensor, Tensor]:
    """Two classes with means (0, 5, -5) and (10, 0, 0) and one correlated covariance."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    means = torch.tensor([[0.0, 5.0, -5.0], [10.0, 0.0, 0.0]])
    labels = torch.arange(2).repeat_interleave(4000)
    features = means[labels] + torch.randn(8000, 3, generator=generator) @ mixing.T
    gaussians = ClassGaussians(per_class, shrinkage, seed)
    gaussians.add_task(labelled(features, labels + 4))
    return gaussians, means, mixing @ mixing.T


def test_samples_have_each_class_s_mean_and_the_pooled_covariance() -> None:
    n = 4000
    gaussians, means, covariance = learnt(n, shrinkage=1e-6)
    samples = gaussians.batch([0], purpose=1)
    assert samples.features.shape == (2 * n, 3)
    assert samples.labels.tolist() == [4] * n + [5] * n
    for c, drawn in enumerate(samples.features.split(n)):
        # standard errors below: sqrt(5 / 4000) = .035 of a mean, 5 * sqrt(2 / 4000) of a variance
        torch.testing.assert_close(drawn.mean(0), means[c], rtol=0, atol=0.2)
        torch.testing.assert_close(torch.cov(drawn.T), covariance, rtol=0, atol=0.7)


def test_shrinkage_pulls_the_covariance_towards_a_sphere() -> None:
    n = 4000
    gaussians, _, covariance = learnt(n, shrinkage=1.0)
    drawn = gaussians.batch([0], purpose=1).features[:n]
    sphere = covariance.diagonal().mean() * torch.eye(3)
    torch.testing.assert_close(torch.cov(drawn.T), sphere, rtol=0, atol=0.3)


@pytest.mark.parametrize("per_class", [40, 41, 1])
def test_mirrored_samples_have_each_class_s_mean_and_the_same_covariance(per_class: int) -> None:
    gaussians, *_ = learnt(per_class)
    drawn, mirrored = (gaussians.batch([0], purpose=1, mirrored=each) for each in (False, True))
    assert torch.equal(drawn.labels, mirrored.labels)
    half = per_class // 2
    for c, mean in zip(gaussians.classes[0], gaussians.means[0], strict=True):
        own, away = (x.features[x.labels == c] - mean for x in (drawn, mirrored))
        left_over = away[: per_class % 2].sum(0)  # an odd one has no mirror
        torch.testing.assert_close(away.sum(0), left_over, rtol=0, atol=1e-4)
        torch.testing.assert_close(away[: per_class - half], own[half:], rtol=0, atol=1e-5)


def test_the_same_arguments_give_the_same_samples() -> None:
    gaussians, _, _ = learnt(5)
    first = gaussians.batch([0], purpose=1).features
    assert torch.equal(gaussians.batch([0], purpose=1).features, first)
    assert torch.equal(learnt(5)[0].batch([0], purpose=1).features, first)
    assert not torch.equal(gaussians.batch([0], purpose=2).features, first)
    assert not torch.equal(learnt(5, seed=1)[0].batch([0], purpose=1).features, first)


def test_samples_drawn_before_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers whatever is kept; one covariance for all tasks changes with each task."""
    generator = torch.Generator().manual_seed(1)
    bound = 3 * 4 * 2 * 5 * 6  # three tasks' of two classes, 5 samples each of 6 numbers
    for shared in (False, True):
        stores = [ClassGaussians(5, 0.3, 0, shared) for _ in range(2)]
        for t in range(4):
            labels = 2 * t + torch.arange(12) % 2
            x = torch.randn(12, 6, generator=generator)
            train = LabelledBatch(x, torch.arange(12), "train", labels=labels)
            asked = []
            for store, room in zip(stores, (bound, 0), strict=True):
                monkeypatch.setattr("snn_artsy.learners.replay.KEPT", room)
                store.add_task(train)
                for _ in range(2):
                    asked.append(store.batch(list(range(t + 1)), purpose=1).features)
                held = sum(d.numel() * d.element_size() for d in store._drawn.values())
                assert held == min(room, 4 * 2 * 5 * 6 * (t + 1))
            assert all(torch.equal(asked[0], other) for other in asked[1:])


def test_tasks_come_in_the_order_asked_for() -> None:
    gaussians = ClassGaussians(3, 0.3, 0)
    for offset in (0.0, 100.0):
        features = offset + torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
        gaussians.add_task(labelled(features, torch.arange(20) % 2))
    both = gaussians.batch([1, 0], purpose=1).features
    assert torch.equal(both[:6], gaussians.batch([1], purpose=1).features)
    assert torch.equal(both[6:], gaussians.batch([0], purpose=1).features)
    assert float(both[:6].min()) > 50 > float(both[6:].max())
    assert gaussians.batch([], purpose=1).features.shape == (0, 2)


def test_gaussians_store_means_and_a_covariance_factor() -> None:
    gaussians, _, _ = learnt(2)
    assert gaussians.stored_parameters() == 6 + 9
    assert gaussians.stored_bytes() == 4 * (6 + 9)


def test_without_replay_nothing_comes_back_and_nothing_is_stored() -> None:
    replay = build_replay(GateConfig(replay="none"), 0)
    assert isinstance(replay, NoReplay)
    replay.add_task(labelled(torch.randn(4, 3), torch.tensor([0, 0, 1, 1])))
    assert replay.batch([0], purpose=1).features.shape == (0, 3)
    assert replay.stored_bytes() == replay.stored_parameters() == 0


def test_herding_by_hand() -> None:
    """On the unit circle at 0, 90 and 45 degrees: the middle one lies nearest to the mean, and of
    the others the one that is first, since both are as far."""
    x = torch.tensor([[3.0, 0.0], [0.0, 5.0], [2.0, 2.0]])
    assert herd(x, 1).tolist() == [2]
    assert sorted(herd(x, 3).tolist()) == [0, 1, 2]
    assert herd(x, 9).shape == (3,)


def test_herding_is_the_greedy_search() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).numpy().astype(np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    chosen: list[int] = []
    for _ in range(10):
        left = [i for i in range(30) if i not in chosen]
        gap = {i: np.linalg.norm(unit[[*chosen, i]].mean(0) - unit.mean(0)) for i in left}
        chosen.append(min(gap, key=gap.__getitem__))
    assert herd(torch.from_numpy(x), 10).tolist() == chosen


def test_exemplars_are_training_samples_with_their_own_images() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 3, generator=generator)
    images = features[:, :, None, None] * torch.ones(1, 1, 2, 2)  # an image says whose it is
    labels = torch.arange(20) % 4
    store = Exemplars(2, image_bytes=12)
    for task in (0, 1):
        rows = torch.nonzero(labels // 2 == task)[:, 0]
        store.add_task(labelled(features[rows], labels[rows], images[rows]))
    back = store.batch([1, 0], purpose=1)
    assert back.labels.tolist() == [2, 2, 3, 3, 0, 0, 1, 1]
    assert torch.equal(back.images[:, :, 0, 0], back.features)
    for feature, label in zip(back.features, back.labels, strict=True):
        own = features[labels == label]
        assert bool((own == feature).all(1).any())
    assert store.stored_bytes() == 8 * (3 * 4 + 12)
    assert len(store.batch([], purpose=1)) == 0


def test_exemplars_without_need_of_images_keep_features_alone() -> None:
    store = Exemplars(2)
    store.add_task(labelled(torch.randn(6, 3), torch.arange(6) % 2, torch.zeros(6, 3, 2, 2)))
    assert store.batch([0], purpose=1).load_images is None
    assert store.stored_bytes() == 4 * 3 * 4


@pytest.mark.parametrize("store", [ClassGaussians(2, 0.3, 0), Exemplars(2), NoReplay()])
def test_nothing_to_replay_before_the_first_task(store: ClassGaussians) -> None:
    with pytest.raises(RuntimeError, match="add a task first"):
        store.batch([], purpose=1)


def test_values_that_cannot_be_used() -> None:
    for values in ({"replay": "all"}, {"threshold": "x"}, {"features": "x"}, {"quantile": 1.0},
                   {"exemplars_per_class": 0}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"gate.{next(iter(values))}"):
            GateConfig(**values)  # type: ignore[arg-type]


def test_a_shared_covariance_is_that_of_all_classes_so_far() -> None:
    generator = torch.Generator().manual_seed(0)
    gaussians = ClassGaussians(5, 0.2, seed=1, shared=True)
    residuals, n_classes = [], 0
    for t, scale in enumerate((1.0, 3.0)):
        labels = torch.arange(3).repeat_interleave(20) + 3 * t
        x = torch.randn(60, 4, generator=generator) * scale + labels[:, None]
        gaussians.add_task(labelled(x, labels))
        for c in labels.unique():
            residuals.append(x[labels == c].double() - x[labels == c].double().mean(0))
            n_classes += 1
        rows = torch.cat(residuals)
        pooled = rows.T @ rows / (len(rows) - n_classes)
        expected = 0.8 * pooled + 0.2 * pooled.diagonal().mean() * torch.eye(4)
        (factor,) = gaussians.factors
        torch.testing.assert_close((factor @ factor.T).double(), expected, rtol=1e-4, atol=1e-4)
    # one mean a class and one matrix, whatever the number of tasks
    assert gaussians.stored_parameters() == 6 * 4 + 16
    assert gaussians.batch([0, 1], purpose=0).features.shape == (30, 4)


def test_statistics_of_classes_at_hand_join_those_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(30, 4, generator=generator) + t for t in range(2)]
    labels = torch.arange(2).repeat_interleave(15)
    gaussians = ClassGaussians(5, 0.2, seed=1, shared=True)
    gaussians.add_task(labelled(parts[0], labels))
    means, within, freedom = gaussians.joined_by(labelled(parts[1], labels + 2))
    gaussians.add_task(labelled(parts[1], labels + 2))
    torch.testing.assert_close(means.float(), torch.cat(gaussians.means))
    assert gaussians.scatter is not None
    torch.testing.assert_close(within, gaussians.scatter / gaussians.freedom)
    assert freedom == gaussians.freedom == 2 * 28


def test_covariances_of_each_task_cannot_be_joined() -> None:
    gaussians, _, _ = learnt(5)
    with pytest.raises(RuntimeError, match="pooled"):
        gaussians.joined_by(labelled(torch.randn(10, 3), torch.arange(2).repeat_interleave(5)))
