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
from snn_artsy.learners.base import LabelledBatch
from snn_artsy.learners.opened_evidence import (
    SHARES,
    TEMPERATURES,
    combined,
    of_tasks,
    pooled,
)

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
    alone = score("shut")
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
    """Each adds a vector of length 5; with all gates shut the gates' own evidence answers."""
    alone = answered("shut")
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


def test_combined_evidence_by_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    of_class = torch.tensor([0, 0, 1, 1, 1, 2])
    gate = torch.randn(7, 6, generator=generator).double().log_softmax(1)
    raw = torch.randn(7, 6, generator=generator).double()
    within = torch.cat([part.log_softmax(1) for part in raw.split([2, 3, 1], 1)], 1)
    opened = torch.rand(7, 3, generator=generator) < 0.5
    assert 0 < int(opened.sum()) < opened.numel()
    found = combined(gate, within, opened, of_class)
    for b in range(7):
        for c in range(6):
            t = int(of_class[c])
            mine = [k for k in range(6) if int(of_class[k]) == t]
            task = sum(np.exp(float(gate[b, k])) for k in mine)
            e = [np.exp(float(raw[b, k])) for k in mine]
            share = e[mine.index(c)] / sum(e)
            expected = task * share if opened[b, t] else np.exp(float(gate[b, c]))
            assert np.exp(float(found[b, c])) == pytest.approx(expected, rel=1e-9)
            assert np.exp(float(of_tasks(gate, of_class)[b, t])) == pytest.approx(task, rel=1e-9)
    # probabilities, whichever gates are open
    torch.testing.assert_close(found.exp().sum(1), torch.ones(7).double())


def test_the_pool_has_the_least_cost_by_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randint(3, (40,), generator=generator)
    own = torch.randn(40, 3, generator=generator).double()
    gate = torch.randn(40, 3, generator=generator).double()
    own[torch.arange(40), target] += 1.5
    gate[torch.arange(40), target] += 0.7
    own, gate = 3.0 * own, 3.0 * gate  # too sure
    costs = {}
    for w in SHARES:
        for t in TEMPERATURES:
            cost = 0.0
            for x, g, c in zip(own.numpy(), gate.numpy(), target.tolist(), strict=True):
                logits = (w * x + (1 - w) * g) / t
                cost -= logits[c] - np.log(np.exp(logits).sum())
            costs[w / t, (1 - w) / t] = cost
    best = min(costs, key=lambda pair: costs[pair])
    assert pooled(own, gate, target) == pytest.approx(best)
    assert 0 < best[1] < best[0] < 1
    # nothing to choose on: the sub-network's evidence as it is; noise is left out
    assert pooled(own[:0], gate[:0], target[:0]) == (1.0, 0.0)
    noise = 10.0 * torch.randn(40, 3, generator=generator).double()
    assert pooled(noise, gate, target)[0] == 0.0


def test_wrong_values_are_refused() -> None:
    for key, value in (("shrinkage", 0.0), ("open", 0), ("gates", "ajar")):
        with pytest.raises(ConfigError, match=rf"artsy_best\.{key}"):
            BestGateConfig(**{key: value})
