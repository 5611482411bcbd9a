"""Experience replay, DER++ and iCaRL against what the papers' formulas give by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from synthetic_features import DIM, N_TASKS, gaussian_stream
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import DERConfig, MemoryConfig, RunConfig
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.derpp import DarkExperienceReplay
from snn_artsy.learners.er import ExperienceReplay
from snn_artsy.learners.icarl import ICaRL
from snn_artsy.learners.memory import PassingSamples
from snn_artsy.learners.replay import Exemplars

LR, WHOLE = 0.1, 1000
STREAM = gaussian_stream(n_train=12, n_validation=3, n_test=10, distance=2.0)


def samples(labels: list[int], first: int = 0) -> LabelledBatch:
    """Samples whose only feature is their number."""
    index = first + torch.arange(len(labels))
    return LabelledBatch(index[:, None].float(), index, "train", labels=torch.tensor(labels))


def kept(config: MemoryConfig, labels: list[int], at_once: int, seed: int = 0) -> list[int]:
    memory = PassingSamples(config, 1, "cpu", torch.Generator().manual_seed(seed))
    for start in range(0, len(labels), at_once):
        part = samples(labels[start : start + at_once], start)
        memory.add(part, part.features)
    assert memory.features[:, 0].tolist() == memory.index.tolist()
    assert memory.logits[:, 0].tolist() == memory.index.tolist()
    assert [labels[i] for i in memory.index] == memory.labels.tolist()
    return sorted(memory.index.tolist())


@pytest.mark.parametrize("at_once", [1, 4, 12])
def test_a_ring_buffer_keeps_the_last_samples_of_each_class(at_once: int) -> None:
    labels = [0, 0, 1, 0, 0, 2, 1, 0, 1, 1, 0, 0]
    assert kept(MemoryConfig(per_class=2), labels, at_once) == [5, 8, 9, 10, 11]


def test_a_reservoir_keeps_every_sample_with_the_same_probability() -> None:
    config, times = MemoryConfig(total=3), 600
    assert kept(config, [0, 1, 0], 2) == [0, 1, 2]
    found: Counter[int] = Counter()
    for seed in range(times):
        chosen = kept(config, [0] * 9, 4, seed)
        assert len(chosen) == 3
        found.update(chosen)
    # 3 of 9 each: five standard deviations of a binomial share
    assert all(abs(found[i] / times - 1 / 3) < 5 * (2 / 9 / times) ** 0.5 for i in range(9))


def test_logits_of_samples_that_pass_again_are_renewed() -> None:
    memory = PassingSamples(MemoryConfig(per_class=5), 1, "cpu", torch.Generator())
    memory.add(samples([0, 0, 0]), torch.tensor([[1.0], [2.0], [3.0]]))
    memory.add(samples([1], 3), torch.tensor([[4.0, 5.0]]))
    assert memory.logits.tolist() == [[1, 0], [2, 0], [3, 0], [4, 5]]
    assert memory.known.tolist() == [1, 1, 1, 2]
    again = samples([0, 0], 1)
    memory.renew(again, torch.tensor([[6.0, 7.0], [8.0, 9.0]]))
    assert memory.logits.tolist() == [[1, 0], [6, 7], [8, 9], [4, 5]]
    assert memory.known.tolist() == [1, 2, 2, 2]


def one_step(**values: Any) -> MemoryConfig:
    """Gradient descent of one step over everything, without an MLP."""
    return MemoryConfig(
        **{"hidden": 0, "epochs": 1, "lr": LR, "batch_size": WHOLE, "weight_decay": 0.0, **values}
    )


def softmax_gradient(
    weight: NDArray[Any], x: NDArray[Any], labels: NDArray[Any]
) -> NDArray[np.float64]:
    """Of the mean cross-entropy; bias last in ``weight`` and ``x``."""
    p = np.exp(x @ weight.T)
    p /= p.sum(1, keepdims=True)
    result: NDArray[np.float64] = (p - np.eye(len(weight))[labels]).T @ x / len(x)
    return result


def with_one(features: Tensor) -> NDArray[np.float64]:
    return np.pad(features.double().numpy(), ((0, 0), (0, 1)), constant_values=1.0)


def weights(learner: Any) -> NDArray[np.float64]:
    both = torch.cat([learner.weight, learner.bias[:, None]], dim=1)
    return both.detach().double().numpy()


def test_experience_replay_takes_a_step_on_the_batch_and_the_memory_together() -> None:
    learner = ExperienceReplay(one_step(total=WHOLE), DIM, "cpu", 0)
    first, second = STREAM.tasks[0].train, STREAM.tasks[1].train
    learner.learn(STREAM.tasks[0])
    w = -LR * softmax_gradient(np.zeros((2, DIM + 1)), with_one(first.features), first.labels)
    assert weights(learner) == pytest.approx(w, abs=1e-6)
    learner.learn(STREAM.tasks[1])
    x = np.concatenate([with_one(first.features), with_one(second.features)])
    w = np.pad(w, ((0, 2), (0, 0)))
    w = w - LR * softmax_gradient(w, x, np.concatenate([first.labels, second.labels]))
    assert weights(learner) == pytest.approx(w, abs=1e-6)
    assert learner.report()["kept_samples"] == len(first) + len(second)


def test_dark_experience_replay_adds_kept_logits_and_labels() -> None:
    der = DERConfig(alpha=0.3, beta=0.7)
    learner = DarkExperienceReplay(one_step(total=WHOLE), der, DIM, "cpu", 0)
    first, second = STREAM.tasks[0].train, STREAM.tasks[1].train
    learner.learn(STREAM.tasks[0])
    assert learner.memory.logits.abs().max() == 0  # as answered before the first step
    x, y = with_one(first.features), with_one(second.features)
    w = -LR * softmax_gradient(np.zeros((2, DIM + 1)), x, first.labels)
    assert weights(learner) == pytest.approx(w, abs=1e-6)
    learner.learn(STREAM.tasks[1])
    w = np.pad(w, ((0, 2), (0, 0)))
    # d/dW of the mean of (W x - 0)^2 over the samples and the two classes known then
    answers = np.zeros_like(w)
    answers[:2] = 2 * (x @ w[:2].T).T @ x / (len(x) * 2)
    step = softmax_gradient(w, y, second.labels)
    step = step + 0.3 * answers + 0.7 * softmax_gradient(w, x, first.labels)
    assert weights(learner) == pytest.approx(w - LR * step, abs=1e-6)
    assert learner.memory.known.tolist() == [2] * len(first) + [4] * len(second)


def test_icarl_takes_a_step_on_new_labels_and_old_answers() -> None:
    learner = ICaRL(one_step(per_class=WHOLE, hidden=3), DIM, "cpu", 0)
    first, second = STREAM.tasks[0].train, STREAM.tasks[1].train
    learner.learn(STREAM.tasks[0])  # W_up starts at zero: phi = h_0 in this step
    x = with_one(first.features)
    w = -LR * (0.5 - np.eye(2)[first.labels]).T @ x / len(x)
    assert weights(learner) == pytest.approx(w, abs=1e-6)
    every = torch.cat([second.features, learner.exemplars.tasks[0].features])
    phi = with_one(learner.embedded(every).detach())
    labels = np.concatenate([second.labels, learner.exemplars.tasks[0].labels])
    w = np.pad(w, ((0, 2), (0, 0)))
    wanted = np.eye(4)[labels]
    wanted[:, :2] = 1 / (1 + np.exp(-phi @ w[:2].T))
    step = (1 / (1 + np.exp(-phi @ w.T)) - wanted).T @ phi / len(phi)
    assert np.abs(step[:2]).max() < 1e-12  # old answers are as they were
    learner.learn(STREAM.tasks[1])
    assert weights(learner) == pytest.approx(w - LR * step, abs=1e-6)


def test_icarl_answers_by_the_nearest_mean_of_its_exemplars() -> None:
    config = MemoryConfig(total=13, hidden=4, epochs=2)
    learner = ICaRL(config, DIM, "cpu", 0)
    for t, task in enumerate(STREAM.tasks):
        learner.learn(task)
        counts = torch.cat([b.labels for b in learner.exemplars.tasks]).bincount()
        assert counts.tolist() == [13 // (2 * (t + 1))] * (2 * (t + 1))
    with torch.no_grad():
        means = []
        for c in range(6):
            own = learner.exemplars.tasks[c // 2]
            phi = learner.embedded(own.features[own.labels == c])
            means.append(F.normalize(F.normalize(phi, dim=1).mean(0), dim=0))
        asked = F.normalize(learner.embedded(STREAM.test.features), dim=1)
        nearest = torch.cdist(asked, torch.stack(means)).argmin(1)
    assert torch.equal(learner.predict(STREAM.test).scores.argmax(1), nearest)
    with pytest.raises(ConfigError, match=r"memory\.total: 3 is less than .* 6 classes"):
        few = ICaRL(MemoryConfig(total=3, epochs=1), DIM, "cpu", 0)
        for task in (Task(0, tuple(range(6)), STREAM.test, STREAM.test),):
            few.learn(task)


def test_exemplars_shrink_to_the_first_that_were_chosen() -> None:
    two, one = Exemplars(4), Exemplars(2)
    for task in STREAM.tasks[:2]:
        two.add_task(task.train)
        one.add_task(task.train)
    two.shrink(2)
    for a, b in zip(two.tasks, one.tasks, strict=True):
        assert torch.equal(a.index, b.index) and torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("name", ["er", "derpp"])
def test_what_is_rehearsed_is_remembered(name: str) -> None:
    """Beside the same without a memory worth the name."""

    def old_accuracy(**memory: Any) -> float:
        config = RunConfig(memory=MemoryConfig(epochs=10, **memory))
        learner = build(name, Setting(config, DIM, "cpu"))
        for task in STREAM.tasks:
            learner.learn(task)
        old = STREAM.test.labels < 2 * (N_TASKS - 1)
        predicted = learner.predict(STREAM.test).scores.argmax(1)
        return float((predicted == STREAM.test.labels)[old].float().mean())

    assert old_accuracy(per_class=10) > old_accuracy(total=1) + 0.2


def test_a_memory_has_one_size_and_icarl_needs_features_of_its_own() -> None:
    assert MemoryConfig().per_class == 20 and MemoryConfig(total=9).per_class is None
    with pytest.raises(ConfigError, match=r"memory\.total: 5 cannot be used.*not both"):
        MemoryConfig(per_class=5, total=5)
    with pytest.raises(ConfigError, match=r"memory\.hidden: 0 cannot be used.*simplecil"):
        ICaRL(MemoryConfig(hidden=0), DIM, "cpu", 0)
    for name in ("per_class", "total", "epochs", "batch_size", "lr"):
        with pytest.raises(ConfigError, match=rf"memory\.{name}: 0"):
            MemoryConfig(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"derpp\.beta: -1"):
        DERConfig(beta=-1.0)
