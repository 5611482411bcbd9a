"""Artsy (ANN) without one of its parts, against what is left by definition."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_features import (
    CHANCE,
    DIM,
    N_CLASSES,
    PER_TASK,
    accuracy,
    gaussian_stream,
    unlabelled,
)

from snn_artsy.config import ANNConfig, RunConfig
from snn_artsy.learners import Setting, build
from snn_artsy.learners.prototypes import GatedPrototypes

STREAM = gaussian_stream()
TEST = STREAM.test
CONFIG = RunConfig(ann=ANNConfig(epochs=5, lr=0.5))  # strong sub-networks, or nothing would differ
ABLATIONS = ("artsy_ann_no_gates", "artsy_ann_e0", "artsy_ann_subnetworks", "artsy_ann_gate_alone")


@cache
def learnt(name: str) -> Any:
    learner = build(name, Setting(CONFIG, DIM, "cpu"))
    for task in STREAM.tasks:
        learner.learn(task)
    return learner


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_learn_the_same_and_answer_otherwise(name: str) -> None:
    whole, part = learnt("artsy_ann"), learnt(name)
    state = part.state_dict()
    for key, value in whole.state_dict().items():
        assert torch.equal(state[key], value), key
    own = [value for key, value in state.items() if key not in whole.state_dict()]
    kept = {
        "stored_parameters": sum(value.numel() for value in own),
        "stored_bytes": sum(value.nbytes for value in own),
    }
    report = whole.report()
    assert part.report() == report | {name: report[name] + more for name, more in kept.items()}
    assert not torch.equal(part.predict(TEST).scores, whole.predict(TEST).scores)


def test_the_pre_trained_model_alone_is_the_nearest_class_mean() -> None:
    prediction = learnt("artsy_ann_e0").predict(TEST)
    assert torch.equal(prediction.scores, learnt("simplecil").predict(TEST).scores)
    assert prediction.gates is None
    assert prediction.gate_scores is None


def test_the_gate_alone_names_the_task_and_h0_the_class_within_it() -> None:
    """Against a loop over samples; the gates are those of the whole."""
    learner = learnt("artsy_ann_gate_alone")
    prediction, whole = learner.predict(TEST), learnt("artsy_ann").predict(TEST)
    assert torch.equal(prediction.gate_scores, whole.gate_scores)
    cosines = learnt("simplecil").predict(TEST).scores
    plain = 0
    for row, scores in enumerate(whole.gate_scores):
        task = max(range(len(scores)), key=lambda t: float(scores[t]))
        own = range(PER_TASK * task, PER_TASK * (task + 1))
        best = max(own, key=lambda c: float(cosines[row, c]))
        assert int(prediction.scores[row].argmax()) == best
        assert prediction.gates[row].nonzero()[:, 0].tolist() == [task]
        plain += int(cosines[row].argmax()) == best
    assert plain < len(TEST)  # else the gates would not matter
    given = learner.predict(dataclasses.replace(TEST, true_task=TEST.labels // PER_TASK))
    assert torch.equal(given.scores.argmax(1) // PER_TASK, TEST.labels // PER_TASK)


def test_without_gates_all_sub_networks_add_up() -> None:
    learner = learnt("artsy_ann_no_gates")
    prediction = learner.predict(TEST)
    assert prediction.gates is None
    h0 = TEST.features
    with torch.no_grad():
        z = (h0 + sum(adapter(h0) for adapter in learner.networks)).double().numpy()
    table = (learner.prototypes.base + sum(learner.prototypes.gained)).double().numpy()
    norms = np.linalg.norm(z, axis=1)[:, None] * np.linalg.norm(table, axis=1)
    np.testing.assert_allclose(prediction.scores.numpy(), z @ table.T / norms, atol=1e-5)


def test_sub_networks_alone_leave_h0_out_of_sample_and_prototype() -> None:
    learner = learnt("artsy_ann_subnetworks")
    prediction, whole = learner.predict(TEST), learnt("artsy_ann").predict(TEST)
    assert torch.equal(prediction.gates, whole.gates)
    several = 0
    for row, gates in enumerate(prediction.gates):
        opened = gates.nonzero()[:, 0].tolist()
        several += len(opened) > 1
        if not opened:
            assert prediction.scores[row].tolist() == [0.0] * N_CLASSES
            continue
        h0 = TEST.features[row : row + 1]
        with torch.no_grad():
            z = sum(learner.networks[t](h0) for t in opened)
        table = sum(learner.prototypes.gained[t] for t in opened)
        expected = torch.nn.functional.cosine_similarity(z, table, dim=1)
        torch.testing.assert_close(prediction.scores[row], expected, rtol=0, atol=1e-5)
    assert several > 0
    assert not bool(prediction.gates.any(1).all())
    assert accuracy(prediction.scores, TEST) > 2 * CHANCE


def test_the_oracle_gate_alone_decides_which_sub_network_answers() -> None:
    """oracle_gate_accuracy: m_t := 1[t = true task], all classes competing."""
    learner = learnt("artsy_ann")
    batch = unlabelled(TEST)
    task = TEST.labels // PER_TASK
    object.__setattr__(batch, "true_task", task)
    scores = learner.predict(batch).scores
    with torch.no_grad():
        for t, adapter in enumerate(learner.networks):
            rows = task == t
            z = TEST.features[rows] + adapter(TEST.features[rows])
            table = learner.prototypes.base + learner.prototypes.gained[t]
            expected = torch.nn.functional.cosine_similarity(z[:, None], table[None], dim=2)
            torch.testing.assert_close(scores[rows], expected, rtol=0, atol=1e-5)


def test_leaving_out_h0_by_hand() -> None:
    prototypes = GatedPrototypes()
    prototypes.add(
        torch.tensor([[9.0, 9.0], [9.0, -9.0]]), [torch.tensor([[1.0, 0.0], [0.0, 1.0]])]
    )
    h0, gained = torch.tensor([[5.0, 5.0]]), torch.tensor([[[3.0, 4.0]]])
    opened = torch.tensor([[True]])
    scores = prototypes.scores(h0, opened, gained, with_h0=False)
    torch.testing.assert_close(scores, torch.tensor([[0.6, 0.8]]))
    # with h_0: (8, 9) with (10, 9) and (9, -8)
    scores = prototypes.scores(h0, opened, gained)
    expected = [161 / (145 * 181) ** 0.5, 0.0]
    torch.testing.assert_close(scores, torch.tensor([expected]))
