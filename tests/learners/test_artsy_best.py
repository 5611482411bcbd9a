"""Artsy whose answer uses what its gates know: against loops, and against its own gates alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_features import DIM, N_CLASSES, N_TASKS, PER_TASK, accuracy, gaussian_stream
from torch import Tensor, nn

import snn_artsy.learners.opened_evidence
from snn_artsy.checks import ConfigError
from snn_artsy.config import ANNConfig, BestGateConfig
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.base import LabelledBatch, all_training
from snn_artsy.learners.class_evidence import (
    SHARES,
    TEMPERATURES,
    chained,
    of_tasks,
    pool_costs,
)
from snn_artsy.learners.gates import DiscriminantGates

SHIFTS = 0.4 * torch.randn(N_TASKS, DIM, generator=torch.Generator().manual_seed(5))


def shifted(batch: LabelledBatch) -> LabelledBatch:
    return replace(batch, features=batch.features + SHIFTS[batch.labels // PER_TASK])


# h_0 tells tasks better than the classes within them
STREAM = gaussian_stream(distance=0.25)
TASKS = [
    replace(task, train=shifted(task.train), validation=shifted(task.validation))
    for task in STREAM.tasks
]
TEST = shifted(STREAM.test)
OF_CLASS = torch.arange(N_CLASSES) // PER_TASK


class Telling(nn.Module):
    """Tells classes of its own task apart, and is as sure of those of others, by chance."""

    vit_passes = 0.25

    def __init__(self, task: int) -> None:
        super().__init__()
        self.task, self.asked = task, 0

    def answer(self, batch: LabelledBatch) -> Tensor:
        self.asked += len(batch)
        own = batch.labels // PER_TASK == self.task
        told = torch.where(own, batch.labels, batch.index // 7) % PER_TASK
        return 5.0 * torch.nn.functional.one_hot(told, batch.features.shape[1]).float()


@cache
def learnt() -> ArtsyBest:
    numbers = iter(range(N_TASKS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.learners.opened_evidence, "train", lambda *_: None)
        build: Any = lambda generator: Telling(next(numbers))  # noqa: E731
        learner = ArtsyBest(BestGateConfig(), ANNConfig(), build, "cpu", seed=3)
        for task in TASKS:
            learner.learn(task)
    return learner


def answered(gates: str = "likeliest", n_open: int = 2, oracle: bool = False) -> Any:
    learner = learnt()
    learner.subnetworks.config = BestGateConfig(gates=gates, open=n_open)
    batch = replace(TEST, true_task=OF_CLASS[TEST.labels]) if oracle else TEST
    return learner.predict(batch)


def score(*args: Any, **values: Any) -> float:
    return accuracy(answered(*args, **values).scores, TEST)


def test_the_answer_is_not_worse_than_the_gates_alone() -> None:
    alone = score("first")
    assert 1.5 / N_CLASSES < alone < 0.85
    for n_open in (1, 2, 3):
        assert score(n_open=n_open) > alone + 0.05
    assert score(oracle=True) > 0.95


def test_controls_of_the_gates_lower_the_score() -> None:
    given = score()
    assert score("shuffled") < given - 0.1
    assert score("open") < given - 0.05
    # what is shuffled depends on the sample alone
    shuffled = answered("shuffled")
    again = learnt().predict(replace(TEST, **{k: getattr(TEST, k)[5:9] for k in
                                              ("features", "index", "labels")}))  # fmt: skip
    torch.testing.assert_close(again.scores, shuffled.scores[5:9])
    assert torch.equal(again.gates, shuffled.gates[5:9])
    orders = [row.argsort().tolist() for row in shuffled.gate_scores]
    assert orders != [row.argsort().tolist() for row in answered().gate_scores]


def test_only_opened_sub_networks_are_computed_and_counted() -> None:
    networks: Any = learnt().subnetworks.networks
    for n_open in (1, 2):
        before = [network.asked for network in networks]
        answer = answered(n_open=n_open)
        asked = [network.asked - b for network, b in zip(networks, before, strict=True)]
        assert torch.equal(answer.gates.sum(1), torch.full((len(TEST),), n_open))
        assert asked == [len(TEST), *answer.gates[:, 1:].sum(0).tolist()]
        expected = 1.25 + 0.25 * answer.gates[:, 1:].sum(1)
        torch.testing.assert_close(answer.vit_passes, expected)
        # the opened ones are those with the largest S_t, and S_t > 0 says P(t) > 1/2
        best = answer.gate_scores.topk(n_open, dim=1).indices
        assert bool(answer.gates.gather(1, best).all())


def test_what_opened_sub_networks_add_and_change_is_told() -> None:
    """Each adds a vector of length 5; with no gate open the gates' own evidence answers."""
    alone = answered("first")
    assert not bool(alone.added_norm.any())
    assert torch.equal(alone.shut_predicted, alone.scores.argmax(1))
    one, everything = answered(n_open=1), answered("open")
    h0 = TEST.features.norm(dim=1)
    torch.testing.assert_close(one.added_norm * h0, torch.full_like(h0, 5.0))
    told = torch.stack([network.answer(TEST) for network in learnt().subnetworks.networks])
    torch.testing.assert_close(everything.added_norm * h0, told.sum(0).norm(dim=1))
    for answer in (one, everything):
        assert torch.equal(answer.shut_predicted, alone.scores.argmax(1))
    changed = one.scores.argmax(1) != one.shut_predicted
    assert 0.05 < float(changed.float().mean()) < 0.6


def test_an_oracle_rules_out_the_classes_of_other_tasks() -> None:
    predicted = answered(oracle=True).scores.argmax(1)
    assert torch.equal(OF_CLASS[predicted], OF_CLASS[TEST.labels])


def test_a_chain_of_splits_by_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = [2, 3, 1]
    splits = [
        torch.randn(7, n, generator=generator).double().log_softmax(1) for n in (6, 4, 1)
    ]  # of tasks 0, 1 and 2, of 1 and 2, of 2
    found = chained(splits, counts).exp()
    for b in range(7):
        q = [split[b].exp().tolist() for split in splits]
        later = [sum(q[0][2:]), sum(q[1][3:])]
        expected = q[0][:2] + [later[0] * x for x in q[1][:3]] + [later[0] * later[1] * q[2][0]]
        assert found[b].tolist() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(found.sum(1), torch.ones(7).double())


def test_a_chain_of_one_evidence_is_that_evidence() -> None:
    """Where no sub-network is open, the gates' posteriors come back."""
    gate = torch.randn(5, 6, generator=torch.Generator().manual_seed(2)).double().log_softmax(1)
    splits = [gate[:, first:].log_softmax(1) for first in (0, 2, 5)]
    torch.testing.assert_close(chained(splits, [2, 3, 1]), gate)
    of_class = torch.tensor([0, 0, 1, 1, 1, 2])
    tasks = torch.stack([gate[:, of_class == t].exp().sum(1) for t in range(3)], dim=1)
    torch.testing.assert_close(of_tasks(gate, of_class).exp(), tasks)


def test_pools_cost_what_loops_say() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(3, (40,), generator=generator)
    own = torch.randn(40, 3, generator=generator).double()
    gate = torch.randn(40, 3, generator=generator).double()
    found = pool_costs(own, gate, target)
    for i, w in enumerate(SHARES):
        for k, t in enumerate(TEMPERATURES):
            cost = 0.0
            for x, g, c in zip(own.numpy(), gate.numpy(), target.tolist(), strict=True):
                logits = (w * x + (1 - w) * g) / t
                cost -= logits[c] - np.log(np.exp(logits).sum())
            assert float(found[i, k]) == pytest.approx(cost)
    # nothing to choose on
    assert not bool(pool_costs(own[:0], gate[:0], target[:0]).any())


def test_a_sub_network_tells_its_task_from_later_ones() -> None:
    """Gates that know nothing, and a first sub-network that marks its own task: all others shut,
    the task of every sample is told, whichever it is."""
    learner = learnt().subnetworks
    nothing = torch.zeros(len(TEST), N_CLASSES, dtype=torch.float64)
    learner.config = BestGateConfig(open=N_TASKS)
    tasks = of_tasks(learner.answer(TEST, nothing).scores.double().log_softmax(1), OF_CLASS)
    told = tasks.argmax(1) == OF_CLASS[TEST.labels]
    assert float(told.float().mean()) > 0.75


def test_shut_gates_leave_h0_alone() -> None:
    """Then it is a discriminant of h_0, with a single pass."""
    numbers = iter(range(N_TASKS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.learners.opened_evidence, "train", lambda *_: None)
        build: Any = lambda generator: Telling(next(numbers))  # noqa: E731
        shut = ArtsyBest(BestGateConfig(gates="shut"), ANNConfig(), build, "cpu", seed=3)
        alone = DiscriminantGates(None)
        for task in TASKS:
            shut.learn(task)
            features, labels, _ = all_training(task)
            alone.add_task(features, labels)
    answer = shut.predict(TEST)
    assert torch.equal(answer.scores.argmax(1), alone.class_scores(TEST.features).argmax(1))
    assert answer.vit_passes is not None
    assert bool((answer.vit_passes == 1).all())


def test_wrong_values_are_refused() -> None:
    for key, value in (("shrinkage", 0.0), ("open", 0), ("gates", "ajar")):
        with pytest.raises(ConfigError, match=rf"artsy_best\.{key}"):
            BestGateConfig(**{key: value})
