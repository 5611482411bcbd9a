"""The learners on three tasks of Gaussian clusters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from synthetic_features import (
    CHANCE,
    DIM,
    N_CLASSES,
    N_TASKS,
    PER_TASK,
    accuracy,
    gaussian_stream,
    pick,
    predict_in_parts,
    unlabelled,
)
from torch import Tensor

from snn_artsy.config import (
    ANNConfig,
    ContactConfig,
    EncodingConfig,
    GateConfig,
    NeuronConfig,
    PlasticityConfig,
    RecordConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.evaluation.efficiency import synaptic_operations
from snn_artsy.learners import Setting, build
from snn_artsy.learners.artsy_ann import ArtsyANN
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Learner
from snn_artsy.learners.simplecil import SimpleCIL
from snn_artsy.observer import Conversions, NullObserver, Presentations

STREAM = gaussian_stream()
TEST = STREAM.test


def learn_all(learner: Any) -> Any:
    for task in STREAM.tasks:
        learner.learn(task)
    return learner


def ann(seed: int = 0, gate: GateConfig | None = None) -> ArtsyANN:
    config = RunConfig(ann=ANNConfig(epochs=5), gate=gate or GateConfig(), seed=seed)
    return built("artsy_ann", config)


def built(name: str, config: RunConfig) -> Any:
    return build(name, Setting(config, DIM, "cpu"))


def snn(
    config: SNNConfig | None = None, seed: int = 0, gate: GateConfig | None = None, **values: Any
) -> ArtsySNN:
    config, gate = config or SNNConfig(), gate or GateConfig()
    return ArtsySNN(config, ANNConfig(epochs=5), gate, DIM, "cpu", seed, **values)


MAKERS: dict[str, Callable[[], Learner]] = {
    "simplecil": SimpleCIL,
    "artsy_ann": ann,
    "artsy_ann, exemplars": lambda: ann(gate=GateConfig(replay="exemplars")),
    "artsy_ann, quantile": lambda: ann(gate=GateConfig(threshold="quantile")),
    "artsy_ann, lda": lambda: built("artsy_ann_lda", RunConfig(ann=ANNConfig(epochs=5), seed=0)),
    "artsy_ann, ridge": lambda: built(
        "artsy_ann_ridge",
        RunConfig(ann=ANNConfig(epochs=5), artsy_ridge=RidgeGateConfig(projection=100), seed=0),
    ),
    "artsy_best": lambda: built("artsy_best", RunConfig(ann=ANNConfig(epochs=5), seed=0)),
    "artsy_snn": snn,
    "artsy_snn, exemplars": lambda: snn(gate=GateConfig(replay="exemplars")),
    "artsy_snn, gate": lambda: snn(SNNConfig(mode="gate")),
    "artsy_snn, current": lambda: snn(SNNConfig(encoding=EncodingConfig(code="current"))),
    "artsy_snn, synaptic": lambda: snn(SNNConfig(neuron=NeuronConfig(model="synaptic"))),
    "artsy_snn, conductance": lambda: snn(SNNConfig(fidelity="conductance")),
    "artsy_snn, plastic old": lambda: snn(SNNConfig(plastic_old=True)),
    "artsy_snn, sparse": lambda: snn(SNNConfig(contacts=ContactConfig(probability=0.5))),
}
SPIKING = [name for name in MAKERS if name.startswith("artsy_snn")]
ALL = list(MAKERS)


@cache
def learnt(name: str) -> Any:
    """A learner after all tasks; shared, so it must only be asked."""
    return learn_all(MAKERS[name]())


def nearest_class_mean(features: Tensor) -> NDArray[np.float64]:
    """Cosines [B, C] with the class means over training and validation samples, numpy only."""
    means = np.zeros((N_CLASSES, DIM))
    for task in STREAM.tasks:
        x = np.concatenate([task.train.features.numpy(), task.validation.features.numpy()])
        y = np.concatenate([task.train.labels.numpy(), task.validation.labels.numpy()])
        for c in task.classes:
            means[c] = x[y == c].astype(np.float64).mean(0)
    h = features.numpy().astype(np.float64)
    norms = np.linalg.norm(h, axis=1)[:, None] * np.linalg.norm(means, axis=1)[None]
    cosines: NDArray[np.float64] = h @ means.T / norms
    return cosines


# --- every learner --------------------------------------------------------------------------------


def test_simplecil_is_the_nearest_class_mean() -> None:
    scores = learnt("simplecil").predict(TEST).scores
    expected = nearest_class_mean(TEST.features)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-6)
    assert scores.argmax(1).tolist() == expected.argmax(1).tolist()


@pytest.mark.parametrize("name", ALL)
def test_three_tasks_are_learnt(name: str) -> None:
    prediction = learnt(name).predict(TEST)
    assert prediction.scores.shape == (len(TEST), N_CLASSES)
    assert accuracy(prediction.scores, TEST) > 4 * CHANCE
    # the first task has not been forgotten
    first = pick(TEST, (TEST.labels < PER_TASK).nonzero()[:, 0])
    assert accuracy(learnt(name).predict(first).scores, first) > 3 * CHANCE


@pytest.mark.parametrize("name", SPIKING)
def test_postsynaptic_spikes_alone_beat_chance(name: str) -> None:
    spikes = learnt(name).predict(TEST).spike_scores
    assert spikes.shape == (len(TEST), N_CLASSES)
    assert accuracy(spikes, TEST) > 3 * CHANCE


@pytest.mark.parametrize("name", ALL)
def test_predictions_do_not_depend_on_batch_size_or_order(name: str) -> None:
    learner = learnt(name)
    whole = learner.predict(TEST)
    n = len(TEST)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    shuffled = learner.predict(pick(TEST, order))
    assert torch.equal(shuffled.scores.argmax(1), whole.scores.argmax(1)[order])
    splits = [[1] * n, [7] * (n // 7) + [n % 7]]
    answers = [(predict_in_parts(learner, TEST, sizes), torch.arange(n)) for sizes in splits]
    for other, rows in [*answers, (shuffled, order)]:
        torch.testing.assert_close(other.scores, whole.scores[rows], rtol=0, atol=1e-5)
        assert torch.equal(other.scores.argmax(1), whole.scores.argmax(1)[rows])
        if whole.gates is not None:
            assert torch.equal(other.gates, whole.gates[rows])
        if whole.spike_scores is not None:
            # spikes are exact, so is everything counted from them
            assert torch.equal(other.spike_scores, whole.spike_scores[rows])
            assert torch.equal(other.gate_scores, whole.gate_scores[rows])


@pytest.mark.parametrize("name", ["artsy_ann", "artsy_snn", "artsy_snn, gate"])
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    again = learn_all(MAKERS[name]())
    state = learnt(name).state_dict()
    assert state.keys() == again.state_dict().keys()
    for key, value in again.state_dict().items():
        assert torch.equal(value, state[key]), key
    one, two = learnt(name).predict(TEST), again.predict(TEST)
    assert torch.equal(one.scores, two.scores)
    assert torch.equal(one.gate_scores, two.gate_scores)


def test_another_seed_gives_other_numbers() -> None:
    for name, other in (("artsy_ann", ann(seed=1)), ("artsy_snn", snn(seed=1))):
        changed = learn_all(other).predict(TEST).gate_scores
        assert not torch.equal(changed, learnt(name).predict(TEST).gate_scores)


@pytest.mark.parametrize("name", ALL)
def test_labels_of_the_test_batch_are_not_used(name: str) -> None:
    learner = learnt(name)
    blind = learner.predict(unlabelled(TEST))
    assert torch.equal(blind.scores, learner.predict(TEST).scores)


@pytest.mark.parametrize("name", ["artsy_ann", "artsy_snn", "artsy_snn, gate"])
def test_gates_are_open_where_the_calibrated_score_is_positive(name: str) -> None:
    prediction = learnt(name).predict(TEST)
    assert prediction.gates.shape == (len(TEST), N_TASKS)
    assert torch.equal(prediction.gates, prediction.gate_scores > 0)
    assert 0 < int(prediction.gates.sum()) < prediction.gates.numel()


@pytest.mark.parametrize("name", ["artsy_ann", "artsy_best", "artsy_snn", "artsy_snn, gate"])
def test_the_oracle_gate_opens_the_true_task_s_gate_alone(name: str) -> None:
    task = TEST.labels // PER_TASK
    oracle = unlabelled(TEST)
    object.__setattr__(oracle, "true_task", task)
    gates = learnt(name).predict(oracle).gates
    assert torch.equal(gates, torch.nn.functional.one_hot(task, N_TASKS).bool())


@pytest.mark.parametrize("name", ["artsy_ann", "artsy_best", "artsy_snn", "artsy_snn, gate"])
def test_old_parts_are_unchanged_by_later_tasks(name: str) -> None:
    learner: Any = MAKERS[name]()
    frozen: dict[str, Tensor] = {}
    for t, task in enumerate(STREAM.tasks):
        learner.learn(task)
        state = learner.state_dict()
        for key, value in frozen.items():
            assert torch.equal(state[key], value), f"{key} changed in task {t}"
        for key in state:
            # gates of the ANN learner are refreshed on purpose
            if key.startswith(
                (
                    f"layers.{t}.",
                    f"adapters.{t}.",
                    f"subnetworks.{t}.",
                    f"recall.{t}",
                    "scaling.",
                )
            ):
                frozen.setdefault(key, state[key].clone())
    assert any(".2." in key for key in frozen)
    if "snn" in name:
        assert {"layers.0.state", "layers.0.ampa", "scaling.matrix"} <= frozen.keys()


@pytest.mark.parametrize("name", ["artsy_ann", "artsy_snn"])
def test_learners_run_without_replay(name: str) -> None:
    gate = GateConfig(replay="none")
    learner = learn_all(ann(gate=gate) if name == "artsy_ann" else snn(gate=gate))
    assert accuracy(learner.predict(TEST).scores, TEST) > 4 * CHANCE
    # no Gaussians are kept: only the state itself is counted
    state = sum(v.numel() * v.element_size() for v in learner.state_dict().values())
    assert learner.report()["stored_bytes"] == state
    assert learnt(name).report()["stored_bytes"] > state


def test_simplecil_needs_a_task() -> None:
    with pytest.raises(RuntimeError, match="learn a task first"):
        SimpleCIL().predict(TEST)


# --- ANN ------------------------------------------------------------------------------------------


def test_adapters_are_trained_and_reported() -> None:
    learner = learnt("artsy_ann")
    assert [float(a.up.weight.abs().max()) > 0 for a in learner.networks] == [True] * N_TASKS
    assert not any(p.requires_grad for a in learner.networks for p in a.parameters())
    hidden, r = ANNConfig().gate_hidden, ANNConfig().bottleneck
    adapter = DIM * r + r + r * DIM + DIM
    gate = 2 * DIM + DIM * hidden + hidden + hidden + 1
    assert learner.report()["parameters"] == N_TASKS * (adapter + gate)


# --- SNN ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "gate"])
def test_silent_synapses_leave_the_nearest_class_mean(mode: Any) -> None:
    """With every AMPA conversion blocked nothing fires, and Artsy is SimpleCIL."""
    rule = PlasticityConfig(rule="none")
    learner = learn_all(snn(SNNConfig(mode=mode, plasticity=rule)))
    prediction = learner.predict(TEST)
    assert learner.report()["spikes_per_image"] == 0.0
    assert learner.report()["functional_share"] == 0.0
    assert not bool(prediction.gates.any())
    assert bool((prediction.spike_scores == -torch.inf).all())
    assert torch.equal(prediction.scores, learnt("simplecil").predict(TEST).scores)


def test_blocked_nmda_receptors_block_all_conversions() -> None:
    # so much magnesium that even the spike's peak hardly unblocks
    rule = PlasticityConfig(mg_mM=1e6)
    learner = learn_all(snn(SNNConfig(plasticity=rule)))
    assert learner.report()["functional_share"] == 0.0
    assert 0 < learnt("artsy_snn").report()["functional_share"] < 1


@pytest.mark.parametrize("update", ["presentation", "step"])
def test_dendrites_change_what_converts_in_a_run(update: Any) -> None:
    """And a clamp in their place at the potential of a spike changes it again."""
    kinds = ({}, {"depolarisation": "dendrite"}, {"clamp_mV": 20.0})
    contacts = []
    for given in kinds:
        plasticity = PlasticityConfig(update=update, **given)
        learner = snn(SNNConfig(plasticity=plasticity))
        learner.learn(STREAM.tasks[0])
        contacts.append(learner.layers[0].state > 0)
    for one, two in itertools.combinations(contacts, 2):
        assert float((one != two).float().mean()) > 0.001


@pytest.mark.parametrize("control", ["permuted_contacts", "random_contacts"])
def test_misplaced_contacts_destroy_the_decision_from_spikes(control: Any) -> None:
    intact = learnt("artsy_snn")
    controlled = learn_all(snn(control=control))
    right = accuracy(intact.predict(TEST).spike_scores, TEST)
    wrong = accuracy(controlled.predict(TEST).spike_scores, TEST)
    assert wrong < right / 2
    # at equal density, and for permuted contacts in every neuron; later tasks are shown in another
    # order than to the intact learner, so that only the first sub-network learnt the same
    one, two = controlled.layers[0].state, intact.layers[0].state
    assert controlled.layers[0].counts().tolist() == intact.layers[0].counts().tolist()
    assert not torch.equal(one, two)
    if control == "permuted_contacts":
        assert torch.equal((one > 0).sum(1), (two > 0).sum(1))


def test_shuffled_teacher_labels_destroy_the_decision_from_spikes() -> None:
    right = accuracy(learnt("artsy_snn").predict(TEST).spike_scores, TEST)
    controlled = learn_all(snn(control="shuffled_labels"))
    assert accuracy(controlled.predict(TEST).spike_scores, TEST) < right * 2 / 3


def test_the_membrane_breaks_ties_and_never_outvotes_a_spike() -> None:
    learner = learnt("artsy_snn")
    k = learner.config.neuron.per_class
    for votes, counts in learner._responses(TEST.features, TEST.index, "test"):
        spikes = counts.unflatten(1, (-1, k)).sum(2)
        assert float((votes - spikes).abs().max()) < 0.5
        assert not torch.equal(votes, spikes)
        chosen = spikes.gather(1, votes.argmax(1, keepdim=True))[:, 0]
        assert torch.equal(chosen, spikes.max(1).values)


def test_spike_scores_are_the_assemblies_counts() -> None:
    """Counts of each class's own neurons, recomputed from the layers' spikes."""
    learner = learnt("artsy_snn")
    assert learner.scaling is not None
    pre = learner.encoder(learner.scaling(TEST.features), learner.seed, 1, TEST.index)
    scores = learner.predict(TEST).spike_scores
    k = learner.config.neuron.per_class
    for c in range(N_CLASSES):
        layer, first = learner.layers[c // PER_TASK], (c % PER_TASK) * k
        expected = layer(pre)[:, :, first : first + k].sum((0, 2))
        assert torch.equal(scores[:, c].round(), expected)


def test_some_subnetworks_answer_as_they_do_among_all() -> None:
    learner = learnt("artsy_snn")
    everybody = learner._responses(TEST.features, TEST.index, "test")
    for t in range(N_TASKS):
        ((votes, counts),) = learner._responses(TEST.features, TEST.index, "test", only=[t])
        assert torch.equal(votes, everybody[t][0])
        assert torch.equal(counts, everybody[t][1])
    assert not torch.equal(everybody[0][1], everybody[2][1])


def test_report_adds_up() -> None:
    report = learnt("artsy_snn").report()
    k = SNNConfig().neuron.per_class
    assert report["n_contacts"] == N_TASKS * PER_TASK * k * 2 * DIM
    parts = [report[f"n_{state}"] for state in ("silent", "functional", "consolidated")]
    assert sum(parts) == report["n_contacts"]
    # captured at each task's end
    assert report["n_functional"] == 0 < report["n_consolidated"]
    assert report["functional_share"] == parts[2] / report["n_contacts"]
    shown = sum(len(task.train) for task in STREAM.tasks)
    assert report["simulated_ms"] == shown * SNNConfig().encoding.duration_ms(teaching=True)


# --- what the observer is told --------------------------------------------------------------------


@dataclass
class Listener(NullObserver):
    """Keeps everything that it is told."""

    plan: RecordConfig = field(  # type: ignore[misc]
        default_factory=lambda: RecordConfig(spike_presentations=3, traced_synapses=4)
    )
    groups: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    shown: list[Presentations] = field(default_factory=list)
    fired: list[tuple[str, NDArray[np.float64], NDArray[np.int64]]] = field(default_factory=list)
    told: list[tuple[int, float, NDArray[np.int64]]] = field(default_factory=list)
    events: list[Conversions] = field(default_factory=list)
    snapshots: dict[tuple[int, str], tuple[Any, Any]] = field(default_factory=dict)
    traces: list[tuple[int, Any, Any, dict[str, Any]]] = field(default_factory=list)

    def population(self, name: str, group: NDArray[np.int64]) -> None:
        assert name not in self.groups
        self.groups[name] = group

    def presentations(self, shown: Presentations) -> None:
        self.shown.append(shown)

    def spikes(
        self, population: str, time_ms: NDArray[np.float64], node: NDArray[np.int64]
    ) -> None:
        assert population in self.groups
        self.fired.append((population, time_ms, node))

    def counts(self, task: int, time_ms: float, counts: NDArray[np.int64]) -> None:
        self.told.append((task, time_ms, counts.copy()))

    def conversions(self, events: Conversions) -> None:
        self.events.append(events)

    def snapshot(self, task: int, moment: str, ampa: Any, state: Any) -> None:
        self.snapshots[task, moment] = (ampa.copy(), state.copy())

    def trace(self, task: int, time_ms: Any, synapse: Any, variables: dict[str, Any]) -> None:
        self.traces.append((task, time_ms, synapse, variables))


@lru_cache(maxsize=1)
def observed() -> tuple[ArtsySNN, Listener]:
    listener = Listener()
    # short consolidation and weak occupancy, so that all kinds of conversion occur
    config = SNNConfig(
        plasticity=PlasticityConfig(batch_size=8, epochs=2, a_plus=0.05),
        contacts=ContactConfig(consolidate_ms=3000.0),
    )
    learner = snn(config, observer=listener)
    for task in STREAM.tasks:
        learner.learn(task)
        learner.predict(TEST)
        learner.snapshot(f"after_task_{task.number}")
    return learner, listener


def test_observed_counts_are_constant_in_sum_and_follow_the_conversions() -> None:
    learner, listener = observed()
    n = learner.layers[0].n_post * learner.layers[0].n_pre
    running = {t: np.array([n, 0, 0]) for t in range(N_TASKS)}
    pending = list(listener.events)
    for task, time_ms, counts in listener.told:
        # counts are told first and an update's conversions right after, at the same time
        while pending and pending[0].task == task and pending[0].time_ms[0] <= time_ms:
            event = pending.pop(0)
            running[task] = running[task] - np.bincount(event.old, minlength=3)
            running[task] = running[task] + np.bincount(event.new, minlength=3)
            if event.time_ms[0] == time_ms and (running[task] == counts).all():
                break  # capture at the task's end has the same time as the last batch
        assert counts.sum() == n
        assert counts.tolist() == running[task].tolist()
    assert not pending
    kinds = {(int(o), int(w)) for e in listener.events for o, w in zip(e.old, e.new, strict=True)}
    assert kinds == {(0, 1), (1, 0), (1, 2)}


def test_conversions_replayed_from_all_silent_give_the_snapshots() -> None:
    learner, listener = observed()
    state = {t: np.zeros((16, 2 * DIM, 1), dtype=np.uint8) for t in range(N_TASKS)}
    for event in listener.events:
        where = (event.post, event.pre, event.contact)
        assert (state[event.task][where] == event.old).all()
        state[event.task][where] = event.new
    for t, layer in enumerate(learner.layers):
        ampa, snapshot = listener.snapshots[t, f"after_task_{N_TASKS - 1}"]
        assert (snapshot == state[t]).all()
        assert (snapshot[:, :, 0] == layer.state.numpy()).all()
        assert (ampa[:, :, 0] == layer.ampa.numpy()).all()
        # an earlier snapshot of the same sub-network is no different
        assert (listener.snapshots[t, f"after_task_{t}"][1] == snapshot).all()


def test_observed_presentations_cover_the_training_in_order() -> None:
    learner, listener = observed()
    training = [p for p in listener.shown if p.split == "train"]
    for task in STREAM.tasks:
        index = np.concatenate([p.index for p in training if p.task == task.number])
        label = np.concatenate([p.label for p in training if p.task == task.number])
        label_of = dict(zip(task.train.index.tolist(), task.train.labels.tolist(), strict=True))
        # each sample once in each of the two epochs, with its own label
        n = len(task.train)
        for epoch in (index[:n], index[n:]):
            assert sorted(epoch.tolist()) == sorted(label_of)
        assert [label_of[i] for i in index.tolist()] == label.tolist()
    start = np.concatenate([p.start_ms for p in listener.shown])
    stop = np.concatenate([p.stop_ms for p in listener.shown])
    duration = learner.config.encoding.duration_ms(teaching=True)
    np.testing.assert_allclose(np.diff(start), duration)
    np.testing.assert_allclose(stop - start, duration)  # no gap between presentations by default
    assert learner.probe.clock_ms == pytest.approx(stop[-1])
    tests = [p for p in listener.shown if p.split == "test"]
    assert [len(p.index) for p in tests] == [3] * N_TASKS
    assert all(p.teacher_ms is None for p in tests)
    assert all(p.teacher_ms is not None for p in training)


def test_observed_spikes_belong_to_recorded_presentations() -> None:
    _, listener = observed()
    assert listener.groups["retina"].tolist() == [0] * DIM + [1] * DIM
    assert listener.groups["task1"].tolist() == [2] * 8 + [3] * 8
    recorded = np.concatenate(
        [
            np.stack([p.start_ms, p.stop_ms], 1)[:3]
            for k, p in enumerate(listener.shown)
            if p.split == "test" or k == 0 or listener.shown[k - 1].task != p.task
        ]
    )
    assert len(recorded) == 2 * 3 * N_TASKS  # three in training and three in the test, each task
    latest: dict[str, float] = {}
    for population, time_ms, node in listener.fired:
        inside = (time_ms[:, None] >= recorded[:, 0]) & (time_ms[:, None] < recorded[:, 1])
        assert inside.any(1).all()
        assert node.max(initial=0) < len(listener.groups[population])
        if len(time_ms):
            # calls of one population come in order of time
            assert time_ms.min() >= latest.get(population, 0.0)
            latest[population] = float(time_ms.max())
    assert set(latest) == {"retina", *(f"task{t}" for t in range(N_TASKS))}
    # in training only the taught assembly fires, at the teacher's time or just after
    first = listener.shown[0]
    assert first.teacher_ms is not None
    _, time_ms, node = next(f for f in listener.fired if f[0] == "task0")
    b = np.searchsorted(first.start_ms, time_ms, side="right") - 1
    assert (listener.groups["task0"][node] == first.label[b]).all()
    assert (time_ms >= first.teacher_ms[b]).all()


def test_observed_traces_follow_the_same_contacts() -> None:
    learner, listener = observed()
    for t in range(N_TASKS):
        mine = [x for x in listener.traces if x[0] == t]
        assert mine
        for _, _, synapse, variables in mine:
            assert synapse.tolist() == mine[0][2].tolist()
            assert len(synapse) == 4
            assert all(v.shape == (1, 4) for v in variables.values())
        pre, post, _ = mine[-1][2].T
        ampa = learner.layers[t].ampa.numpy()
        assert mine[-1][3]["ampa"][0].tolist() == ampa[post, pre].tolist()


def test_watching_changes_nothing() -> None:
    watched = learn_all(snn(observer=Listener()))
    plain = learnt("artsy_snn")
    for key, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[key], value), key
    assert torch.equal(watched.predict(TEST).scores, plain.predict(TEST).scores)


def test_shuffled_timing_moves_the_training_spikes_out_of_the_volleys() -> None:
    total: dict[str, int] = {}
    for control in ("none", "shuffled_timing"):
        listener = Listener()
        learner = snn(observer=listener, control=control)  # type: ignore[arg-type]
        learner.learn(STREAM.tasks[0])
        _, time_ms, _ = next(f for f in listener.fired if f[0] == "retina")
        encoding = learner.config.encoding
        step = np.round(time_ms % encoding.duration_ms(teaching=True) / encoding.dt).astype(int)
        in_volley = learner.schedule.volley.numpy()[step]
        assert in_volley.all() == (control == "none")
        total[control] = len(time_ms)
    # the same presentations with the same number of spikes
    assert total["none"] == total["shuffled_timing"] > 0


def test_longer_test_presentations_leave_learning_as_it_is() -> None:
    longer = learn_all(snn(SNNConfig(encoding=EncodingConfig(test_steps=60))))
    shown = learnt("artsy_snn")
    for t in range(N_TASKS):
        assert torch.equal(longer.layers[t].state, shown.layers[t].state)
        assert torch.equal(longer.layers[t].ampa, shown.layers[t].ampa)
    counts = [
        torch.stack([c.sum() for _, c in x._responses(TEST.features, TEST.index, "test")]).sum()
        for x in (longer, shown)
    ]
    assert 2.5 < float(counts[0] / counts[1]) < 3.5  # 60 steps against 20
    assert longer.report()["test_steps"] == 60


def test_synaptic_operations_are_those_of_the_cited_definition() -> None:
    """Against NeuroBench's count (evaluation.efficiency, tested by brute force there)."""
    learner = learnt("artsy_snn")
    test = STREAM.test
    spent = learner.predict(test).operations
    pre = learner.input_spikes(test).numpy()
    weights = [layer.transmitted().numpy() for layer in learner.layers]
    expected = sum(synaptic_operations(w, pre).accumulate for w in weights)
    assert spent is not None and expected > 0
    assert float(spent.double().mean()) == pytest.approx(expected, rel=1e-5)


def test_multiply_accumulates_of_gates_and_open_subnetworks() -> None:
    learner = learnt("artsy_ann")
    found = learner.predict(STREAM.test)
    c = learner.config
    gate = learner.dim * c.gate_hidden + c.gate_hidden
    behind = 2 * learner.dim * c.bottleneck
    assert found.gates is not None and found.operations is not None
    expected = N_TASKS * gate + found.gates.sum(1) * behind
    torch.testing.assert_close(found.operations, expected.float())
