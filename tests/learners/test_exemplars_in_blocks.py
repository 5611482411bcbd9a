"""Exemplars for sub-networks that open: old classes are measured under new sub-networks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_vit import BLOCKS, DIM, N_TASKS, PER_TASK, QUICK_SNN, small_vit, stream
from test_kept_learners import assert_same, kept

from snn_artsy.config import BestGateConfig, GateConfig, RunConfig
from snn_artsy.learners import Setting, build
from snn_artsy.learners.class_evidence import pooled
from snn_artsy.learners.replay import Exemplars, herd
from snn_artsy.learners.tasks import whole

# a validation sample's number is none of a training sample, as in the real stream
TASKS = [
    replace(task, validation=replace(task.validation, index=task.validation.index + 500))
    for task in stream()[0]
]
TEST = stream()[1]
SHRINKAGE = 0.3


def untaught(name: str, per_class: int, **values: Any) -> Any:
    config = RunConfig(
        ann=BLOCKS,
        snn=QUICK_SNN,
        seed=5,
        artsy_best=BestGateConfig(open=2, shrinkage=SHRINKAGE, **values),
        gate=GateConfig(replay="exemplars", exemplars_per_class=per_class),
    )
    return build(name, Setting(config, DIM, "cpu", backbone=small_vit()))


@cache
def learnt(name: str, per_class: int) -> Any:
    learner = untaught(name, per_class)
    for task in TASKS:
        learner.learn(task)
    return learner


def discriminant(
    x: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fisher's linear discriminant of all classes at once, with loops."""
    classes = np.unique(labels)
    means = np.stack([x[labels == c].mean(0) for c in classes])
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for row, label in zip(x, labels, strict=True):
        scatter += np.outer(row - means[label], row - means[label])
    covariance = scatter / (len(x) - len(classes))
    flat = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = np.linalg.solve((1 - SHRINKAGE) * covariance + SHRINKAGE * flat, means.T)
    return weights, 0.5 * (means.T * weights).sum(0)


def test_old_classes_are_found_exactly_under_new_sub_networks() -> None:
    """With every sample kept, a sub-network knows what it would if all tasks came at once."""
    opened = learnt("artsy_best", 16).subnetworks
    every = [whole(task) for task in TASKS]
    for t in range(N_TASKS):
        x, labels = [], []
        for batch in every:
            with torch.no_grad():
                h1, ht = (opened.networks[u].answer(batch) + batch.features for u in (0, t))
            parts = [batch.features, h1, ht][: 3 if t else 2]
            x.append(torch.cat(parts, 1).double().numpy())
            labels.append(batch.labels.numpy())
        weights, offsets = discriminant(np.concatenate(x), np.concatenate(labels))
        found = opened.own[t].discriminant()
        for values, by_hand in zip(found, (weights, offsets), strict=True):
            np.testing.assert_allclose(values.numpy(), by_hand, rtol=1e-3, atol=1e-3)


def test_opened_sub_networks_answer_in_equal_parts() -> None:
    """The answer by loops, from evidence for all classes of each opened sub-network."""
    learner = learnt("artsy_best", 4)
    opened, answer = learner.subnetworks, learner.predict(TEST)
    w, heat = opened._pool()
    with torch.no_grad():
        told = [n.answer(TEST) + TEST.features for n in opened.networks]
    seen = torch.cat([TEST.features, told[0]], 1)
    gate, _ = learner.gates.evidence([seen])
    for row in range(0, len(TEST), 5):
        total, n = torch.zeros(N_TASKS * PER_TASK).double(), 0
        for t in range(N_TASKS):
            if answer.gates[row, t]:
                x = seen[row] if t == 0 else torch.cat([seen[row], told[t][row]])
                weights, offsets = opened.own[t].discriminant()
                own = x.double() @ weights - offsets
                evidence = opened.temperature * (gate[row] / opened.temperature).log_softmax(0)
                total += ((w * own + (1 - w) * evidence) / heat).log_softmax(0)
                n += 1
        assert n == 2
        expected = (total / n).log_softmax(0).float()
        torch.testing.assert_close(answer.scores[row], expected, rtol=1e-3, atol=1e-3)
    right = (answer.scores.argmax(1) == TEST.labels).double().mean()
    assert float(right) > 0.6  # chance is 1/6


def test_a_pool_of_none_is_the_gates_own() -> None:
    generator = torch.Generator().manual_seed(0)
    gate, one, two = (
        torch.randn(3, 4, generator=generator).double().log_softmax(1) for _ in range(3)
    )
    opened = torch.tensor([[False, False], [True, False], [True, True]])
    found = pooled([one, two], opened, gate)
    torch.testing.assert_close(found[0], gate[0])
    torch.testing.assert_close(found[1], one[1])
    both = np.sqrt(np.exp(one[2].numpy()) * np.exp(two[2].numpy()))
    np.testing.assert_allclose(found[2].exp().numpy(), both / both.sum())


def test_an_oracle_and_open_gates_take_each_task_s_own_sub_network() -> None:
    of_class = torch.arange(N_TASKS * PER_TASK) // PER_TASK
    oracle = learnt("artsy_best", 4).predict(replace(TEST, true_task=of_class[TEST.labels]))
    predicted = oracle.scores.argmax(1)
    assert torch.equal(of_class[predicted], of_class[TEST.labels])
    assert float((predicted == TEST.labels).double().mean()) > 0.8


@pytest.mark.parametrize("name", ["artsy_best", "artsy_snn"])
def test_what_is_kept_is_counted_and_resumed(name: str) -> None:
    per_class, tasks = 3, TASKS[:2]
    learner, resumed = untaught(name, per_class), untaught(name, per_class)
    learner.learn(tasks[0])
    resumed.restore(kept(learner), tasks[:1])
    for each in (learner, resumed):
        each.learn(tasks[1])
    assert_same(resumed.checkpoint(), learner.checkpoint())
    assert torch.equal(resumed.predict(TEST).scores, learner.predict(TEST).scores)
    exemplars = learner.subnetworks.exemplars
    assert [len(batch) for batch in exemplars.tasks] == [per_class * PER_TASK] * 2
    # h_0 in single precision and an image of one byte a colour
    n = per_class * PER_TASK * 2
    of_samples = n * (4 * DIM + 3 * 16 * 16)
    state = learner.state_dict()
    stored = sum(v.numel() * v.element_size() for v in state.values()) + of_samples
    if name == "artsy_snn":  # what drives the synapses is kept for replay as spikes
        stored += n * 4 * DIM
        assert isinstance(learner.replay, Exemplars)
        for ours, theirs in zip(exemplars.tasks, learner.replay.tasks, strict=True):
            assert set(ours.index.tolist()) == set(theirs.index.tolist())
    else:
        every = whole(tasks[1])
        of_first = every.labels == tasks[1].classes[0]
        chosen = every.index[of_first][herd(every.features[of_first], per_class)]
        assert exemplars.tasks[1].index[:per_class].tolist() == chosen.tolist()
    assert learner.report()["stored_bytes"] == stored
    # and from what it has learnt alone it answers alike
    if name == "artsy_snn":
        other = untaught(name, per_class)
        other.load_state_dict(learner.state_dict())
        assert torch.equal(other.predict(TEST).scores, learner.predict(TEST).scores)


def test_controls_keep_exemplars_of_their_own() -> None:
    learner = untaught("artsy_snn", 2)
    control = learner.controls()["permuted_contacts"]
    assert control.subnetworks.exemplars is not learner.subnetworks.exemplars
    assert control.subnetworks.exemplars.image_bytes == 3 * 16 * 16
    for task in TASKS[:2]:
        control.learn(task)
    assert not learner.subnetworks.exemplars.tasks
    assert len(control.subnetworks.exemplars.tasks) == 2
