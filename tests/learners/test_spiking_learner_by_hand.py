"""Artsy (SNN) against a naive reference: what it recalls, when its gates open, what it learns.

The layer that fires is tested elsewhere; here it is asked for its spikes, and everything that the
learner makes of them is worked out again in loops that share no code with it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import Floats, balanced_threshold, calibrated, class_mean, floats, gated_scores
from numpy.typing import NDArray
from synthetic_features import DIM, N_CLASSES, N_TASKS, PER_TASK, gaussian_stream, unlabelled

from snn_artsy.config import (
    ANNConfig,
    ContactConfig,
    GateConfig,
    PlasticityConfig,
    SNNConfig,
    TeacherConfig,
)
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Batch
from snn_artsy.observer import NullObserver, Presentations
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import make_schedule, teaching_spikes

STREAM = gaussian_stream(n_train=16, n_validation=9, n_test=6)
TEST = STREAM.test
K, STEPS, READOUT = 8, 20, 0.7  # a readout so strong that the recall decides
SEED = 5


class Shown(NullObserver):
    """Keeps which samples were shown, in order."""

    def __init__(self) -> None:
        self.batches: list[Presentations] = []

    def presentations(self, shown: Presentations) -> None:
        self.batches.append(shown)


def learner_of(config: SNNConfig, observer: Any = None, **values: Any) -> ArtsySNN:
    values = {"gate": GateConfig(pseudo_per_class=7), **values}
    return ArtsySNN(
        config, ANNConfig(epochs=3, lr=0.5, scale=2.0), dim=DIM, device="cpu", seed=SEED,
        observer=observer, **values,
    )  # fmt: skip


@cache
def learnt(mode: Any) -> ArtsySNN:
    learner = learner_of(SNNConfig(mode=mode, readout=READOUT))
    for task in STREAM.tasks:
        learner.learn(task)
    return learner


def pseudo(learner: ArtsySNN, tasks: list[int], purpose: int) -> tuple[Batch, NDArray[np.int64]]:
    drawn = learner.replay.batch(tasks, purpose)
    batch = Batch(drawn.features, torch.arange(len(drawn)), "pseudo")  # type: ignore[arg-type]
    return batch, drawn.labels.numpy()


def spikes_of(learner: ArtsySNN, u: int, batch: Batch) -> tuple[Floats, Floats]:
    """Spikes of each class assembly of sub-network u, and its mean final membrane, [B, n]."""
    response = learner.layers[u].respond(learner.input_spikes(batch))
    counts, final = floats(response.spikes), floats(response.final)
    n = counts.shape[2] // K
    fired = np.zeros((counts.shape[1], n))
    membrane = np.zeros_like(fired)
    for b in range(len(fired)):
        for c in range(n):
            fired[b, c] = counts[:, b, c * K : (c + 1) * K].sum()
            membrane[b, c] = final[b, c * K : (c + 1) * K].mean()
    return fired, membrane


def votes_of(learner: ArtsySNN, u: int, batch: Batch) -> Floats:
    """Spikes, ties broken by the membrane: 0.4 x / (1 + |x|) is less than half a spike."""
    fired, membrane = spikes_of(learner, u, batch)
    return fired + 0.4 * membrane / (1 + np.abs(membrane))


def gate_score(learner: ArtsySNN, u: int, batch: Batch) -> Floats:
    """S_u, [B]: the largest vote; 0 where nothing fired."""
    fired, _ = spikes_of(learner, u, batch)
    votes = votes_of(learner, u, batch)
    return np.array([max(v) if sum(f) > 0 else 0.0 for v, f in zip(votes, fired, strict=True)])


def recalled(learner: ArtsySNN, u: int, batch: Batch) -> Floats:
    """h_u of each sample, [B, D]."""
    if learner.config.mode == "gate":
        state = {k: floats(v) for k, v in learner.adapters[u].state_dict().items()}
        x = floats(batch.features)
        hidden = np.maximum(x @ state["down.weight"].T + state["down.bias"], 0.0)
        return 2.0 * (hidden @ state["up.weight"].T + state["up.bias"])
    fired, _ = spikes_of(learner, u, batch)
    first = floats(STREAM.tasks[0].train.features).mean(0)
    classes = STREAM.tasks[u].classes
    h = np.zeros((len(fired), DIM))
    for b, spikes in enumerate(fired):
        rates = spikes / (K * STEPS)
        for c, label in enumerate(classes):
            # lateral inhibition: what all assemblies answer recalls nothing
            recall = class_mean([STREAM.tasks[u].train], label) - first
            h[b] += READOUT * max(rates[c] - rates.mean(), 0.0) * recall
    return h


def prototypes(learner: ArtsySNN) -> tuple[Floats, Floats]:
    """P0 [C, D] and P_u [N, C, D]: of older classes over what stands in for them."""
    base = np.zeros((N_CLASSES, DIM))
    tables = np.zeros((N_TASKS, N_CLASSES, DIM))
    for t, task in enumerate(STREAM.tasks):
        for label in task.classes:
            base[label] = class_mean([task.train, task.validation], label)
        for u in range(t + 1):
            answers = [recalled(learner, u, part) for part in (task.train, task.validation)]
            labels = np.concatenate([task.train.labels, task.validation.labels])
            for label in task.classes:
                tables[u, label] = np.concatenate(answers)[labels == label].mean(0)
        if t:
            batch, labels = pseudo(learner, list(range(t)), purpose=4)
            answers_old = recalled(learner, t, batch)
            for label in range(t * PER_TASK):
                tables[t, label] = answers_old[labels == label].mean(0)
    return base, tables


def calibration(learner: ArtsySNN) -> tuple[list[Floats], list[Floats]]:
    """Scores that each gate is calibrated on: its own task's validation samples are good; bad are
    stand-ins for earlier tasks, and validation samples of every later task."""
    good, bad = [], []
    for t, task in enumerate(STREAM.tasks):
        good.append(gate_score(learner, t, unlabelled(task.validation)))
        others = (
            [gate_score(learner, t, pseudo(learner, list(range(t)), purpose=3)[0])] if t else []
        )
        others += [
            gate_score(learner, t, unlabelled(later.validation)) for later in STREAM.tasks[t + 1 :]
        ]
        bad.append(np.concatenate(others))
    return good, bad


@pytest.mark.parametrize("mode", ["full", "gate"])
def test_thresholds_follow_every_task_s_validation_samples(mode: str) -> None:
    learner = learnt(mode)
    good, bad = calibration(learner)
    expected = [balanced_threshold(g, b) for g, b in zip(good, bad, strict=True)]
    np.testing.assert_allclose(learner.thresholds.threshold, expected, rtol=0, atol=1e-5)
    # or it would not matter which samples they are
    assert expected != [balanced_threshold(g, b[:7]) for g, b in zip(good, bad, strict=True)]


@pytest.mark.parametrize("mode", ["full", "gate"])
def test_answers_are_those_worked_out_sample_by_sample(mode: str) -> None:
    learner = learnt(mode)
    batch = unlabelled(TEST)
    prediction = learner.predict(batch)
    scores = np.stack([gate_score(learner, u, batch) for u in range(N_TASKS)], axis=1)
    expected = calibrated(scores, *calibration(learner))
    assert prediction.gate_scores is not None and prediction.gates is not None
    np.testing.assert_allclose(prediction.gate_scores, expected, rtol=0, atol=1e-4)
    sure = np.abs(expected) > 1e-4
    np.testing.assert_array_equal(prediction.gates.numpy()[sure], (expected > 0)[sure])
    gained = np.stack([recalled(learner, u, batch) for u in range(N_TASKS)], axis=1)
    base, tables = prototypes(learner)
    h0 = floats(TEST.features)
    answer = gated_scores(h0, gained, prediction.gates, base, tables)
    np.testing.assert_allclose(prediction.scores, answer, rtol=0, atol=1e-5)
    # the sub-networks take part in it: without them the answers are others
    alone = gated_scores(h0, gained, np.zeros_like(sure), base, tables)
    assert np.abs(answer - alone).max() > 0.01
    assert prediction.gates.any(1).any() and not prediction.gates.all()


def test_spikes_alone_decide_by_votes_and_not_at_all_in_silence() -> None:
    learner = learnt("full")
    batch = unlabelled(TEST)
    # a sample like any other, and one at the mean of task 1, which drives no unit at all
    batch = Batch(batch.features.clone(), batch.index, "test")
    batch.features[1] = STREAM.tasks[0].train.features.double().mean(0).float()
    found = learner.predict(batch)
    expected = np.concatenate([votes_of(learner, u, batch) for u in range(N_TASKS)], axis=1)
    fired = np.concatenate([spikes_of(learner, u, batch)[0] for u in range(N_TASKS)], axis=1)
    silent = fired.sum(1) == 0
    assert silent[1] and not silent.all()
    expected[silent] = -np.inf
    np.testing.assert_allclose(found.spike_scores, expected, rtol=0, atol=1e-5)
    # every spike is one operation for each functional contact of its unit
    shown = floats(learner.input_spikes(batch)).sum(0)
    functional = sum((floats(layer.state) > 0).sum(0) for layer in learner.layers)
    np.testing.assert_allclose(found.operations, shown @ functional, rtol=1e-6)


def test_the_true_task_opens_its_own_gate_and_is_not_looked_at_otherwise() -> None:
    learner, batch = learnt("full"), unlabelled(TEST)
    task = TEST.labels // PER_TASK
    for told in (task, (task + 1) % N_TASKS):
        oracle = Batch(batch.features, batch.index, "test", true_task=told)
        prediction = learner.predict(oracle)
        gates = np.zeros((len(TEST), N_TASKS), dtype=bool)
        for b, own in enumerate(told.tolist()):
            gates[b, own] = True
        np.testing.assert_array_equal(prediction.gates, gates)
        gained = np.stack([recalled(learner, u, batch) for u in range(N_TASKS)], axis=1)
        expected = gated_scores(floats(TEST.features), gained, gates, *prototypes(learner))
        np.testing.assert_allclose(prediction.scores, expected, rtol=0, atol=1e-5)


# --- learning -------------------------------------------------------------------------------------


def new_layer(config: SNNConfig) -> SilentSynapseLayer:
    """A sub-network before its task: every contact silent, targets graded within an assembly."""
    rule = config.plasticity
    graded = rule.target * (1 + rule.target_spread * torch.linspace(-1, 1, K))
    return SilentSynapseLayer(
        2 * DIM, K * PER_TASK, config.encoding.dt, config.neuron, rule, config.contacts,
        update=rule.update, batch_reduction=rule.batch_reduction,
        target_factor=torch.cat([graded] * PER_TASK),
    )  # fmt: skip


def taught(config: SNNConfig, shown: Presentations, epoch: int) -> Any:
    """The teaching current of a batch, in thresholds: [T, B, n]."""
    own = torch.zeros(len(shown.label), K * PER_TASK, dtype=torch.bool)
    for b, label in enumerate(shown.label):
        c = int(label) % PER_TASK
        own[b, c * K : (c + 1) * K] = True
    schedule = make_schedule(config.encoding, config.teacher)
    index = torch.from_numpy(shown.index)
    spikes = teaching_spikes(schedule, config.teacher, own, SEED, 3 + 8 * epoch, index)
    return spikes * config.teacher.current


def seen_by(learner: ArtsySNN, shown: Presentations, epoch: int) -> Any:
    """Input spikes of a batch as it was shown in training, [T, B, 2 D]."""
    task = STREAM.tasks[shown.task].train
    row_of = {number: row for row, number in enumerate(task.index.tolist())}
    rows = [row_of[number] for number in shown.index.tolist()]
    assert learner.scaling is not None
    z = learner.scaling(task.features[rows])
    # each epoch has its own noise: another multiple of 8
    return learner.encoder(z, SEED, 8 * epoch, torch.from_numpy(shown.index))


@pytest.mark.parametrize("plastic_old", [False, True])
def test_what_is_learnt_follows_from_what_was_shown(plastic_old: bool) -> None:
    """Every sub-network anew, from the order of presentation that the observer was told: its own
    task's samples with a teacher, and with ``plastic_old`` later ones without."""
    config = SNNConfig(
        plastic_old=plastic_old,
        plasticity=PlasticityConfig(epochs=2, batch_size=8, a_plus=0.05),
        contacts=ContactConfig(consolidate_ms=2000.0),
        teacher=TeacherConfig(current=1.6),
    )
    told = Shown()
    learner = learner_of(config, told)
    for task in STREAM.tasks:
        learner.learn(task)
    expected: list[SilentSynapseLayer] = []
    frozen: list[Any] = []
    for t, task in enumerate(STREAM.tasks):
        expected.append(new_layer(config))
        batches = [b for b in told.batches if b.task == t and b.split == "train"]
        left, duration = len(task.train), config.encoding.duration_ms(teaching=True)
        epoch = 0
        for shown in batches:
            pre = seen_by(learner, shown, epoch)
            expected[t].pair(pre, taught(config, shown, epoch), duration)
            for old in expected[:t] if plastic_old else []:
                old.pair(pre, None, duration)
            left -= len(shown.index)
            if left == 0:
                epoch, left = epoch + 1, len(task.train)
        assert epoch == 2
        expected[t].capture()
        frozen.append(expected[t].ampa.clone())
    for layer, wanted, at_its_end in zip(learner.layers, expected, frozen, strict=True):
        assert torch.equal(layer.ampa, wanted.ampa)
        assert torch.equal(layer.state, wanted.state)
        assert torch.equal(layer.functional_ms, wanted.functional_ms)
        assert len(wanted.state.unique()) > 1
        if layer is not learner.layers[-1]:
            assert torch.equal(layer.ampa, at_its_end) != plastic_old
