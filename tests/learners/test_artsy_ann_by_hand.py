"""Artsy (ANN) against a naive reference: gates, their refreshing and calibration, and answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import Floats, balanced_threshold, calibrated, class_mean, floats, gated_scores
from synthetic_features import DIM, N_CLASSES, N_TASKS, PER_TASK, gaussian_stream, unlabelled
from torch import Tensor

from snn_artsy.config import ANNConfig, GateConfig, RunConfig
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import Batch, LabelledBatch, Task
from snn_artsy.learners.gates import MLPGate, train_gate

STREAM = gaussian_stream(n_train=16, n_validation=9, n_test=6)
TEST = STREAM.test
# one batch holds all samples, so that their order does not matter; strong sub-networks
ANN = ANNConfig(
    bottleneck=6, scale=2.0, epochs=4, lr=0.3, batch_size=1000,
    gate_hidden=10, gate_epochs=3, gate_lr=0.05,
)  # fmt: skip
REPLAYS = {
    "gaussian": GateConfig(pseudo_per_class=7),
    "exemplars": GateConfig(replay="exemplars", exemplars_per_class=5),
}


def new_learner(gate: GateConfig, ann: ANNConfig = ANN) -> Any:
    return build("artsy_ann", Setting(RunConfig(ann=ann, gate=gate, seed=3), DIM, "cpu"))


@cache
def learnt(replay: str) -> Any:
    learner = new_learner(REPLAYS[replay])
    for task in STREAM.tasks:
        learner.learn(task)
    return learner


# --- gates ----------------------------------------------------------------------------------------

Weights = list[Tensor]


def weights_of(gate: MLPGate) -> Weights:
    """In float64: scale and offset of the norm, then weight and bias of both layers."""
    names = ("norm.weight", "norm.bias", "hidden.weight", "hidden.bias", "out.weight", "out.bias")
    state = gate.state_dict()
    return [state[name].double().clone() for name in names]


def logits(weights: Weights, x: Tensor) -> Tensor:
    """S of each sample: layer norm, one hidden layer, one number."""
    scale, offset, hidden, hidden_bias, out, out_bias = weights
    x = x.double()
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    normed = (x - mean) / (variance + 1e-5).sqrt() * scale + offset
    return (normed @ hidden.T + hidden_bias).clamp_min(0) @ out[0] + out_bias[0]


def trained(weights: Weights, good: Tensor, bad: Tensor) -> Weights:
    """Some steps of Adam (Kingma & Ba 2015) on all samples at once: half of the loss is the mean
    over good features, half the mean over bad ones."""
    weights = [w.clone().requires_grad_(True) for w in weights]
    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    for step in range(1, ANN.gate_epochs + 1):
        loss = torch.zeros((), dtype=torch.float64)
        if len(good):
            loss = loss + 0.5 * torch.log1p(torch.exp(-logits(weights, good))).mean()
        if len(bad):
            loss = loss + 0.5 * torch.log1p(torch.exp(logits(weights, bad))).mean()
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for k, g in enumerate(gradients):
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g * g
                m, v = first[k] / (1 - 0.9**step), second[k] / (1 - 0.999**step)
                weights[k] -= ANN.gate_lr * m / (v.sqrt() + 1e-8)
    return [w.detach() for w in weights]


def assert_same(gate: MLPGate, expected: Weights) -> None:
    for found, wanted in zip(weights_of(gate), expected, strict=True):
        # Adam divides by tiny gradients where a unit is all but dead: not to the last digit
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kinds", ["both", "as many", "good", "bad"])
def test_a_gate_s_training_by_hand(kinds: str) -> None:
    gate = MLPGate(DIM, ANN, torch.Generator().manual_seed(1))
    x, start = TEST.features, weights_of(gate)
    good, bad = x[:5] if kinds != "bad" else x[:0], x[5:] if kinds != "good" else x[:0]
    if kinds == "as many":
        bad = bad[:5]
    torch.testing.assert_close(gate(x).double(), logits(start, x), rtol=1e-4, atol=1e-5)
    train_gate(gate, good, bad, ANN, torch.Generator().manual_seed(0))
    assert_same(gate, trained(start, good, bad))
    with torch.no_grad():
        assert float((gate(x) - logits(start, x)).abs().max()) > 0.1
    before = weights_of(gate)
    train_gate(gate, x[:0], x[:0], ANN, torch.Generator().manual_seed(0))
    assert_same(gate, before)


@pytest.mark.parametrize("replay", REPLAYS)
def test_older_gates_are_refreshed_against_each_new_task(replay: str) -> None:
    """Good: stand-ins for the gate's own task; bad: the new task's training samples."""
    learner = new_learner(REPLAYS[replay])
    for t, task in enumerate(STREAM.tasks):
        before = [weights_of(gate) for gate in learner.gates]
        learner.learn(task)
        for u in range(t):
            good = learner.replay.batch([u], purpose=2).features
            expected = trained(before[u], good, task.train.features)
            assert_same(learner.gates[u], expected)
            moved = max(
                float((a - b).abs().max()) for a, b in zip(before[u], expected, strict=True)
            )
            assert moved > 0.05


def test_a_new_gate_tells_its_task_from_the_older_ones() -> None:
    learner = learnt("gaussian")
    for t, gate in enumerate(learner.gates[1:], start=1):
        with torch.no_grad():
            own = gate(STREAM.tasks[t].validation.features)
            older = torch.cat([gate(task.validation.features) for task in STREAM.tasks[:t]])
        # of all pairs of samples, the share in which the own one scores higher
        assert float((own[:, None] > older).double().mean()) > 0.8


# --- calibration and answers ----------------------------------------------------------------------


def scores_of(learner: Any, x: Tensor) -> Floats:
    """S_t of every gate, [B, N]."""
    with torch.no_grad():
        return np.stack([floats(logits(weights_of(g), x)) for g in learner.gates], axis=1)


def calibration(learner: Any) -> tuple[list[Floats], list[Floats]]:
    """For each gate: the newest task's validation samples, and stand-ins for every other task."""
    newest = N_TASKS - 1
    samples = [learner.replay.batch([u], purpose=3).features for u in range(newest)]
    samples.append(STREAM.tasks[newest].validation.features)
    scores = [scores_of(learner, x) for x in samples]
    good = [scores[t][:, t] for t in range(N_TASKS)]
    bad = [
        np.concatenate([scores[u][:, t] for u in range(N_TASKS) if u != t]) for t in range(N_TASKS)
    ]
    return good, bad


def answers_of(learner: Any, t: int, x: Tensor) -> Floats:
    """h_t = s W_up ReLU(W_down x + b) + ..., [B, D]."""
    state = {k: floats(v) for k, v in learner.networks[t].state_dict().items()}
    hidden = np.maximum(floats(x) @ state["down.weight"].T + state["down.bias"], 0.0)
    return ANN.scale * (hidden @ state["up.weight"].T + state["up.bias"])


def prototypes(learner: Any) -> tuple[Floats, Floats]:
    """P0 [C, D]: means over training and validation samples; P_t [N, C, D]: mean h_t over the same,
    for classes older than the sub-network over their stand-ins."""
    base = np.zeros((N_CLASSES, DIM))
    tables = np.zeros((N_TASKS, N_CLASSES, DIM))
    for t, task in enumerate(STREAM.tasks):
        x = torch.cat([task.train.features, task.validation.features])
        y = torch.cat([task.train.labels, task.validation.labels]).numpy()
        for label in task.classes:
            base[label] = class_mean([task.train, task.validation], label)
            for u in range(t + 1):
                tables[u, label] = answers_of(learner, u, x)[y == label].mean(0)
        if t:
            old = learner.replay.batch(list(range(t)), purpose=4)
            answers = answers_of(learner, t, old.features)
            for label in range(t * PER_TASK):
                tables[t, label] = answers[old.labels.numpy() == label].mean(0)
    return base, tables


@pytest.mark.parametrize("replay", REPLAYS)
def test_all_thresholds_are_found_anew_with_every_task(replay: str) -> None:
    learner = learnt(replay)
    expected = [balanced_threshold(g, b) for g, b in zip(*calibration(learner), strict=True)]
    np.testing.assert_allclose(learner.thresholds.threshold, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("replay", REPLAYS)
def test_answers_are_those_worked_out_sample_by_sample(replay: str) -> None:
    learner, batch = learnt(replay), unlabelled(TEST)
    prediction = learner.predict(batch)
    expected = calibrated(scores_of(learner, batch.features), *calibration(learner))
    np.testing.assert_allclose(prediction.gate_scores, expected, rtol=1e-3, atol=1e-3)
    sure = np.abs(expected) > 1e-3
    np.testing.assert_array_equal(prediction.gates.numpy()[sure], (expected > 0)[sure])
    h0 = floats(batch.features)
    gained = np.stack([answers_of(learner, t, batch.features) for t in range(N_TASKS)], axis=1)
    table = prototypes(learner)
    answer = gated_scores(h0, gained, prediction.gates, *table)
    np.testing.assert_allclose(prediction.scores, answer, rtol=0, atol=1e-4)
    alone = gated_scores(h0, gained, np.zeros_like(sure), *table)
    assert np.abs(answer - alone).max() > 0.05  # the sub-networks matter
    assert prediction.gates.any() and not prediction.gates.all()
    assert prediction.vit_passes.tolist() == [1] * len(TEST)
    # products of every gate, and of the sub-networks behind open ones
    gate, network = DIM * 10 + 10, 2 * DIM * 6
    expected_operations = [N_TASKS * gate + network * int(n) for n in prediction.gates.sum(1)]
    assert prediction.operations.tolist() == expected_operations


def test_the_true_task_is_used_where_it_is_told() -> None:
    learner = learnt("gaussian")
    told = (TEST.labels // PER_TASK + 1) % N_TASKS  # not even the true one
    oracle = Batch(TEST.features, TEST.index, "test", true_task=told)
    prediction = learner.predict(oracle)
    gates = np.eye(N_TASKS, dtype=bool)[told.numpy()]
    np.testing.assert_array_equal(prediction.gates, gates)
    gained = np.stack([answers_of(learner, t, TEST.features) for t in range(N_TASKS)], axis=1)
    expected = gated_scores(floats(TEST.features), gained, gates, *prototypes(learner))
    np.testing.assert_allclose(prediction.scores, expected, rtol=0, atol=1e-4)


def test_without_replay_an_old_gate_keeps_the_newest_data_as_bad() -> None:
    """Nothing is known of an old task: its threshold is a quantile of the newest validation
    scores, and the gates stay as they were born (one kind of features teaches nothing)."""
    learner = new_learner(GateConfig(replay="none"))
    for task in STREAM.tasks:
        before = [weights_of(gate) for gate in learner.gates]
        learner.learn(task)
        for gate, kept in zip(learner.gates, before, strict=False):
            assert_same(gate, kept)
    scores = scores_of(learner, STREAM.tasks[-1].validation.features)
    newest = N_TASKS - 1
    for t in range(newest):
        same = balanced_threshold(scores[:, t], scores[:, t])
        assert learner.thresholds.threshold[t] == pytest.approx(same, abs=1e-5)
    ordered = np.sort(scores[:, newest])
    position = 0.05 * (len(ordered) - 1)
    low = int(position)
    expected = ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
    assert learner.thresholds.threshold[newest] == pytest.approx(expected, abs=1e-5)
    # old classes are completed, not measured: every learner answers for all of them
    assert learner.predict(TEST).scores.shape == (len(TEST), N_CLASSES)


@pytest.mark.parametrize("kind", ["good", "bad", "none"])
def test_gates_can_be_trained_on_one_kind_of_features(kind: Any) -> None:
    learner = new_learner(GateConfig(features=kind, pseudo_per_class=7))
    for task in STREAM.tasks[:2]:
        before = [weights_of(gate) for gate in learner.gates]
        learner.learn(task)
    good = learner.replay.batch([0], purpose=2).features
    bad = STREAM.tasks[1].train.features
    nothing = bad[:0]
    kept = (good if kind == "good" else nothing, bad if kind == "bad" else nothing)
    expected = before[0] if kind == "none" else trained(before[0], *kept)
    assert_same(learner.gates[0], expected)


def test_a_small_task_by_hand() -> None:
    """One class of one sample each: prototypes are the samples, and the gate is calibrated on the
    one validation sample alone."""
    x = torch.eye(DIM)[:2]
    train = LabelledBatch(x, torch.arange(2), "train", labels=torch.arange(2))
    held = LabelledBatch(2 * x, torch.arange(2, 4), "validation", labels=torch.arange(2))
    learner = new_learner(GateConfig(replay="exemplars"))
    learner.learn(Task(0, (0, 1), train, held))
    torch.testing.assert_close(learner.prototypes.base, 1.5 * x)
    scores = scores_of(learner, held.features)[:, 0]
    low, high = scores.min(), scores.max()
    assert learner.thresholds.threshold[0] == pytest.approx(low + 0.05 * (high - low), abs=1e-5)
