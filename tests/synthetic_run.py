"""A recorded run made of invented numbers, told through the observer interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snn_artsy.config import RecordConfig
from snn_artsy.evaluation import metrics
from snn_artsy.observer import (
    CONSOLIDATED,
    FUNCTIONAL,
    SILENT,
    Conversions,
    Pairings,
    Presentations,
    SynapseObserver,
)
from snn_artsy.recording import RunRecorder

N_TASKS, CLASSES, FEATURES, ASSEMBLY, CONTACTS = 3, 2, 20, 4, 2
DURATION_MS, TRAIN, TEST = 100.0, 40, 4
POST = CLASSES * ASSEMBLY
MEMBRANE_MV = (-70.0, -58.0, 20.0, -70.0)  # at each of the last steps before a batch ends
CONFIG = """seed: 7
data:
  name: invented
snn:
  contacts: {per_connection: 2, release_probability: 0.4}
  plasticity: {update: step}
"""


@dataclass
class Truth:
    """What was told, to compare with what is read."""

    spikes: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    counts: dict[int, list[tuple[float, NDArray[np.int64]]]] = field(default_factory=dict)
    events: dict[int, list[Conversions]] = field(default_factory=dict)
    ampa: dict[tuple[int, str], NDArray[np.float32]] = field(default_factory=dict)
    traces: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    stimuli: list[Presentations] = field(default_factory=list)


def simulate(observer: SynapseObserver, seed: int = 0) -> Truth:
    """Pretend to learn ``N_TASKS`` tasks of ``TRAIN`` presentations and show ``TEST`` samples after
    each."""
    rng = np.random.default_rng(seed)
    truth = Truth()
    clock = 0.0

    def show(task: int, split: str, n: int, n_spikes: int, posts: list[int]) -> None:
        nonlocal clock
        start = clock + DURATION_MS * np.arange(n)
        clock += DURATION_MS * n
        label = rng.integers(CLASSES * task, CLASSES * (task + 1), n)
        teacher = start + 30.0 if split == "train" else None
        stimuli = Presentations(
            start, start + DURATION_MS, split, rng.integers(0, 999, n), label, task, teacher
        )
        observer.presentations(stimuli)
        truth.stimuli.append(stimuli)
        for population, size, each in [
            ("retina", 2 * FEATURES, 60),
            *((f"task{u}", POST, 12) for u in posts),
        ]:
            for first in start[:n_spikes]:
                time_ms = first + rng.uniform(0, DURATION_MS, each)
                node = rng.integers(0, size, each)
                observer.spikes(population, time_ms, node)
                truth.spikes.setdefault(population, []).extend(zip(time_ms, node, strict=True))

    observer.population("retina", np.repeat([0, 1], FEATURES))
    for task in range(N_TASKS):
        observer.population(f"task{task}", np.repeat(np.arange(CLASSES) + CLASSES * task, ASSEMBLY))
        ampa = np.zeros((POST, 2 * FEATURES, CONTACTS), dtype=np.float32)
        state = np.full(ampa.shape, SILENT, dtype=np.uint8)
        synapse = np.stack([np.arange(5), np.arange(5), np.zeros(5, dtype=int)], axis=1)
        for _ in range(TRAIN // 10):
            show(task, "train", 10, 2, [task])
            was = state.copy()
            ampa = np.clip(ampa + rng.normal(0.12, 0.2, ampa.shape), 0, 1).astype(np.float32)
            state[(was == SILENT) & (ampa > 0.5)] = FUNCTIONAL
            state[(was == FUNCTIONAL) & (ampa < 0.3)] = SILENT
            state[(was == FUNCTIONAL) & (ampa > 0.9)] = CONSOLIDATED
            post, pre, contact = np.nonzero(state != was)
            time_ms = np.sort(rng.uniform(clock - 1000.0, clock, len(post)))
            events = Conversions(
                task, time_ms, pre, post, contact, was[state != was], state[state != was]
            )
            observer.conversions(events)
            truth.events.setdefault(task, []).append(events)
            counts = np.bincount(state.ravel(), minlength=3)
            observer.counts(task, clock, counts)
            truth.counts.setdefault(task, []).append((clock, counts))
            observer.pairings(task, clock, pairings(rng))
            values = rng.random((4, 5)).astype(np.float32)
            membrane = np.tile(np.array(MEMBRANE_MV, dtype=np.float32)[:, None], 5)
            variables = {"ampa": values, "membrane_mV": membrane}
            observer.trace(task, clock - np.arange(4.0)[::-1], synapse, variables)
            truth.traces.setdefault(task, []).append(values)
        observer.snapshot(task, f"after_task_{task}", ampa, state)
        truth.ampa[task, f"after_task_{task}"] = ampa
        show(task, "test", TEST, TEST, list(range(task + 1)))
    return truth


LAG_MS = np.arange(-20.0, 21.0, 10.0)
WINDOW = np.array([-0.002, -0.004, 0.0, 0.01, 0.005])  # of LAG_MS


def pairings(rng: np.random.Generator) -> Pairings:
    """A batch in which occupancies change by `WINDOW`."""
    pairs, before = rng.poisson(2.0, (5, len(LAG_MS))), rng.uniform(0.3, 0.6, 5)
    spikes = rng.poisson(4.0, 5)
    after = before + pairs @ WINDOW - 0.003 * spikes
    nothing = np.zeros(5, dtype=np.float32)
    return Pairings(
        LAG_MS, pairs, spikes, nothing, before.astype(np.float32), after.astype(np.float32)
    )


def evaluate(recorder: RunRecorder, seed: int = 0) -> dict[str, list[float]]:
    """Record invented answers of three learners; returns their A_t."""
    rng = np.random.default_rng(seed)
    accuracy: dict[str, list[float]] = {}
    task_of_label = np.repeat(np.arange(N_TASKS), CLASSES)
    for learner, skill in (("simplecil", 0.8), ("artsy_ann", 0.85), ("artsy_snn", 0.75)):
        gated = learner != "simplecil"
        answers = []
        for step in range(N_TASKS):
            n_classes = CLASSES * (step + 1)
            labels = np.repeat(np.arange(n_classes), 30)
            guess = rng.integers(0, n_classes, len(labels))
            predicted = np.where(rng.random(len(labels)) < skill, labels, guess)
            gates = rng.random((len(labels), step + 1)) < 0.2
            gates |= task_of_label[labels][:, None] == np.arange(step + 1)
            recorder.evaluation(
                learner,
                step,
                np.arange(len(labels)),
                labels,
                predicted,
                gates=gates if gated else None,
                gate_scores=rng.random(gates.shape) if gated else None,
                spike_predicted=guess if learner == "artsy_snn" else None,
                scores=rng.random((len(labels), n_classes)),
            )
            answers.append((labels, predicted))
            accuracy.setdefault(learner, []).append(float((labels == predicted).mean()))
        matrix = np.full((N_TASKS, N_TASKS), np.nan)
        for step, (labels, predicted) in enumerate(answers):
            for task in range(step + 1):
                mine = task_of_label[labels] == task
                matrix[step, task] = (labels == predicted)[mine].mean()
        measures: dict[str, object] = {
            "a_last": accuracy[learner][-1],
            "a_t": accuracy[learner],
            "accuracy_matrix": matrix,
            "mean_open_gates": None,
        }
        if gated:
            measures["gate_matrix"] = metrics.gate_matrix(gates, task_of_label[labels])
        recorder.summary(learner, measures)
    return accuracy


def record(
    directory: Path, plan: RecordConfig | None = None
) -> tuple[Truth, dict[str, list[float]]]:
    """A complete run."""
    attributes = {"seed": 7, "device": "cpu", "threads": 2}
    with RunRecorder(directory, CONFIG, attributes, plan or RecordConfig()) as recorder:
        truth = simulate(recorder)
        start = truth.stimuli[-1].stop_ms[-1] + DURATION_MS * np.arange(4)
        label, task = np.zeros(4, dtype=int), N_TASKS - 1
        asleep = Presentations(start, start + DURATION_MS, "replay", label, label, task)
        recorder.presentations(asleep)
        truth.stimuli.append(asleep)
        recorder.flush()
        return truth, evaluate(recorder)
