"""Thresholds of the gates, and the Gaussians that stand in for old data."""

import math

import pytest
import torch

from snn_artsy.config import GateConfig
from snn_artsy.learners.gating import ClassGaussians, GateThresholds, balanced_threshold


def balanced_accuracy(good: list[float], bad: list[float], threshold: float) -> float:
    opened = sum(g > threshold for g in good) / len(good)
    shut = sum(b <= threshold for b in bad) / len(bad)
    return (opened + shut) / 2


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        # separable: between the two groups
        ([3.0, 4.0, 5.0], [0.0, 1.0], 2.0),
        # one bad score among the good: above it lies 1/2 + 1, below it 1 + 2/3
        ([3.0, 5.0], [0.0, 1.0, 4.0], 2.0),
        # two equally good thresholds (1.5 and 3.5, balanced accuracy 3/4): the higher one
        ([2.0, 4.0], [1.0, 3.0], 3.5),
        # good below bad: nothing is gained by opening
        ([0.0, 1.0], [2.0, 3.0], 3.0),
    ],
)
def test_balanced_threshold_by_hand(good: list[float], bad: list[float], expected: float) -> None:
    assert balanced_threshold(torch.tensor(good), torch.tensor(bad)) == expected


def test_balanced_threshold_weighs_both_kinds_alike() -> None:
    # 1 good against 99 bad: plain accuracy would keep the gate shut at 98 bad scores below 5
    good, bad = [5.0], [0.0] * 90 + [6.0] * 9
    assert balanced_threshold(torch.tensor(good), torch.tensor(bad)) == 2.5


def test_no_threshold_does_better() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        # on a coarse grid, so that ties occur
        good = (torch.randn(15, generator=generator) * 2 + 1).round() / 2
        bad = (torch.randn(25, generator=generator) * 2).round() / 2
        found = balanced_accuracy(good.tolist(), bad.tolist(), balanced_threshold(good, bad))
        grid = [k / 8 - 10 for k in range(160)]
        best = max(balanced_accuracy(good.tolist(), bad.tolist(), x) for x in grid)
        assert found == pytest.approx(best)


def test_identical_scores_keep_the_gate_shut() -> None:
    thresholds = GateThresholds()
    thresholds.add_task(torch.full((5,), 0.1), torch.full((9,), 0.1))
    thresholds.refresh()
    assert not bool((thresholds.calibrated(torch.full((4, 1), 0.1)) > 0).any())
    assert bool(torch.isfinite(thresholds.calibrated(torch.zeros(1, 1))).all())


def test_without_bad_scores_95_percent_of_the_good_open_the_gate() -> None:
    good = torch.arange(101.0)
    threshold = balanced_threshold(good, torch.zeros(0))
    assert threshold == pytest.approx(5.0)
    assert int((good > threshold).sum()) == 95


def test_calibrated_scores_in_units_of_each_gate_s_scatter() -> None:
    thresholds = GateThresholds()
    thresholds.add_task(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]))  # threshold 2
    thresholds.add_task(torch.tensor([30.0, 40.0]), torch.tensor([10.0, 0.0]))  # the same, times 10
    thresholds.refresh()
    assert thresholds.threshold == [2.0, 20.0]
    # scatter of 0, 1, 3, 4 around 2: sqrt((4 + 1 + 1 + 4) / 4)
    sd = math.sqrt(2.5)
    calibrated = thresholds.calibrated(torch.tensor([[5.0, 50.0], [2.0, 10.0]]))
    assert calibrated.flatten().tolist() == pytest.approx([3 / sd, 3 / sd, 0.0, -1 / sd])


def test_later_tasks_move_an_older_gate_s_threshold() -> None:
    thresholds = GateThresholds()
    thresholds.add_task(torch.tensor([3.0, 4.0, 6.0, 7.0]), torch.tensor([0.0]))
    thresholds.refresh()
    assert thresholds.threshold == [1.5]
    thresholds.add_bad(0, torch.tensor([5.0, 5.0, 5.0]))
    thresholds.refresh()
    assert thresholds.threshold == [5.5]


# --- Gaussians ------------------------------------------------------------------------------------


def learnt(config: GateConfig, seed: int = 0) -> tuple[ClassGaussians, torch.Tensor, torch.Tensor]:
    """Two classes with means (0, 5, -5) and (10, 0, 0) and one correlated covariance."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    means = torch.tensor([[0.0, 5.0, -5.0], [10.0, 0.0, 0.0]])
    labels = torch.arange(2).repeat_interleave(4000)
    features = means[labels] + torch.randn(8000, 3, generator=generator) @ mixing.T
    gaussians = ClassGaussians(config, seed)
    gaussians.add_task(features, labels)
    return gaussians, means, mixing @ mixing.T


def test_samples_have_each_class_s_mean_and_the_pooled_covariance() -> None:
    n = 4000
    gaussians, means, covariance = learnt(GateConfig(pseudo_per_class=n, shrinkage=1e-6))
    samples = gaussians.sample([0], purpose=1)
    assert samples.shape == (2 * n, 3)
    for c, drawn in enumerate(samples.split(n)):
        # standard errors below: sqrt(5 / 4000) = .035 of a mean, 5 * sqrt(2 / 4000) of a variance
        torch.testing.assert_close(drawn.mean(0), means[c], rtol=0, atol=0.2)
        torch.testing.assert_close(torch.cov(drawn.T), covariance, rtol=0, atol=0.7)


def test_shrinkage_pulls_the_covariance_towards_a_sphere() -> None:
    n = 4000
    gaussians, _, covariance = learnt(GateConfig(pseudo_per_class=n, shrinkage=1.0))
    drawn = gaussians.sample([0], purpose=1)[:n]
    sphere = covariance.diagonal().mean() * torch.eye(3)
    torch.testing.assert_close(torch.cov(drawn.T), sphere, rtol=0, atol=0.3)


def test_the_same_arguments_give_the_same_samples() -> None:
    config = GateConfig(pseudo_per_class=5)
    gaussians, _, _ = learnt(config)
    first = gaussians.sample([0], purpose=1)
    assert torch.equal(gaussians.sample([0], purpose=1), first)
    assert torch.equal(learnt(config)[0].sample([0], purpose=1), first)
    assert not torch.equal(gaussians.sample([0], purpose=2), first)
    assert not torch.equal(learnt(config, seed=1)[0].sample([0], purpose=1), first)


def test_tasks_come_in_the_order_asked_for() -> None:
    gaussians = ClassGaussians(GateConfig(pseudo_per_class=3), 0)
    for offset in (0.0, 100.0):
        features = offset + torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
        gaussians.add_task(features, torch.arange(20) % 2)
    both = gaussians.sample([1, 0], purpose=1)
    assert torch.equal(both[:6], gaussians.sample([1], purpose=1))
    assert torch.equal(both[6:], gaussians.sample([0], purpose=1))
    assert float(both[:6].min()) > 50 > float(both[6:].max())
    assert gaussians.sample([], purpose=1).shape == (0, 2)


def test_mean_of_answers_class_by_class() -> None:
    gaussians, _, _ = learnt(GateConfig(pseudo_per_class=2))
    answers = torch.tensor([[1.0, 10.0], [3.0, 30.0], [5.0, 0.0], [5.0, 2.0]])
    assert gaussians.class_means_of(answers).tolist() == [[2.0, 20.0], [5.0, 1.0]]


def test_without_replay_nothing_is_drawn_and_nothing_is_counted_as_stored() -> None:
    gaussians, _, _ = learnt(GateConfig(replay="none"))
    assert gaussians.sample([0], purpose=1).shape == (0, 3)
    assert not gaussians.replays
    assert gaussians.stored_bytes() == 0
    with_replay, _, _ = learnt(GateConfig())
    assert with_replay.replays
    # means 2 x 3 and a covariance factor 3 x 3, float32
    assert with_replay.stored_bytes() == 4 * (6 + 9)


def test_gaussians_need_a_task() -> None:
    gaussians = ClassGaussians(GateConfig(), 0)
    assert not gaussians.replays
    with pytest.raises(RuntimeError, match="add a task first"):
        gaussians.sample([0], purpose=1)
