"""What the probe tells an observer of invented presentations, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.config import (
    ContactConfig,
    EncodingConfig,
    NeuronConfig,
    PlasticityConfig,
    RecordConfig,
    SNNConfig,
)
from snn_artsy.learners.base import Batch, LabelledBatch
from snn_artsy.learners.probe import Probe
from snn_artsy.observer import NullObserver
from snn_artsy.rules import (
    CalciumRule,
    GatedSTDP,
    Gating,
    PairSTDP,
    Rule,
    TripletSTDP,
    VoltageSTDP,
)
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV
from snn_artsy.synapses import Response, SilentSynapseLayer, StateChange, StateEvents
from snn_artsy.synapses.traces import trace_before

# 12 steps of 2 ms: volleys of 3 steps every 6, the teacher one step after a volley
ENCODING = EncodingConfig(
    n_steps=12,
    test_steps=7,
    dt_ms=2.0,
    max_rate_hz=100.0,
    volley_ms=6.0,
    period_ms=12.0,
    isi_ms=3.0,
)
CONFIG = SNNConfig(
    encoding=ENCODING,
    plasticity=PlasticityConfig(tau_plus_ms=10.0, tau_minus_ms=30.0, mg_mM=0.5),
)
V_THRESHOLD_MV = -50.0


class Listener(NullObserver):
    """Keeps the arguments of every call, in order."""

    def __init__(self, **plan: Any) -> None:
        self._plan = RecordConfig(**plan)
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    @property
    def plan(self) -> RecordConfig:
        return self._plan

    def presentations(self, *args: Any) -> None:
        self.told.append(("presentations", args))

    def spikes(self, *args: Any) -> None:
        self.told.append(("spikes", args))

    def counts(self, *args: Any) -> None:
        self.told.append(("counts", args))

    def conversions(self, *args: Any) -> None:
        self.told.append(("conversions", args))

    def snapshot(self, *args: Any) -> None:
        self.told.append(("snapshot", args))

    def trace(self, *args: Any) -> None:
        self.told.append(("trace", args))

    def pairings(self, *args: Any) -> None:
        self.told.append(("pairings", args))

    def only(self, name: str) -> Any:
        """The arguments of the one call there was."""
        ((found, args),) = self.told
        assert found == name
        return args


def probe_of(seed: int = 1, **plan: Any) -> tuple[Probe, Listener]:
    listener = Listener(**plan)
    return Probe(listener, CONFIG, seed), listener


def layer_of(
    n_pre: int = 4, n_post: int = 3, probability: float = 1.0, rule: Rule | None = None
) -> SilentSynapseLayer:
    layer = SilentSynapseLayer(
        n_pre, n_post, 2.0, NeuronConfig(), rule or CONFIG.plasticity,
        ContactConfig(probability=probability), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    layer.ampa.copy_(torch.arange(n_pre * n_post).reshape(n_post, n_pre) / 20)
    layer.state[1, -2] = 1
    layer.state[2, 0] = 2
    return layer


def spikes_at(shape: tuple[int, int, int], *where: tuple[int, int, int]) -> Tensor:
    spikes = torch.zeros(shape)
    for t, b, n in where:
        spikes[t, b, n] = 1.0
    return spikes


# --- which presentations --------------------------------------------------------------------------


def test_every_second_presentation_until_there_are_three() -> None:
    probe, _ = probe_of(spike_presentations=3, spike_every=2)
    probe.wait_for_spikes("train")
    assert probe.recorded_of(3).tolist() == [0, 2]  # numbers 0 and 2
    assert probe.recorded_of(2).tolist() == [1]  # of 3 and 4
    assert probe.recorded_of(9).tolist() == []
    probe.wait_for_spikes("test")
    assert probe.recorded_of(1).tolist() == [0]
    assert (probe.presented, probe.to_record) == (1, 2)


def test_splits_that_are_not_asked_for_are_not_recorded() -> None:
    probe, _ = probe_of(splits=["test"])
    probe.wait_for_spikes("train")
    assert probe.recorded_of(5).tolist() == []
    probe.wait_for_spikes("test")
    assert probe.recorded_of(20).tolist() == list(range(8))


# --- what is told ---------------------------------------------------------------------------------


def test_changes_and_snapshots_name_the_contact_of_a_connection() -> None:
    """Column 5 of two contacts a connection is contact 1 of input 2."""
    probe, listener = probe_of()
    contacts = ContactConfig(per_connection=2)
    layer = SilentSynapseLayer(3, 2, 2.0, rule=CONFIG.plasticity, contacts=contacts)
    layer.ampa[1, 5] = 0.5
    one, code = torch.tensor([1]), torch.tensor([0], dtype=torch.uint8)
    probe.change(0, layer, StateChange(torch.tensor([5]), one, code, code + 1))
    probe.snapshot([layer], "after_task_0")
    told = dict(listener.told)
    (conversions,) = told["conversions"]
    assert (conversions.pre, conversions.post, conversions.contact) == ([2], [1], [1])
    _, _, ampa, state = told["snapshot"]
    assert ampa.shape == state.shape == (2, 3, 2) and ampa[1, 2, 1] == 0.5


def batch_of(n: int, split: Any = "train") -> LabelledBatch:
    number = torch.arange(n)
    return LabelledBatch(torch.zeros(n, 2), 50 + number, split, labels=number % 2)


def test_presentations_have_their_times() -> None:
    probe, listener = probe_of()
    start = np.array([0.0, 27.0])
    probe.presentations(batch_of(5), torch.tensor([3, 1]), start, 2, teaching=True)
    (shown,) = listener.only("presentations")
    assert shown.start_ms.tolist() == [0.0, 27.0]
    assert shown.stop_ms.tolist() == [24.0, 51.0]  # without the gap
    assert shown.teacher_ms is not None and shown.teacher_ms.tolist() == [6.0, 33.0]
    assert (shown.split, shown.task) == ("train", 2)
    assert (shown.index.tolist(), shown.label.tolist()) == ([53, 51], [1, 1])
    listener.told.clear()
    probe.presentations(batch_of(5, "test"), torch.tensor([0]), start[:1], 1, teaching=False)
    (shown,) = listener.only("presentations")
    assert shown.stop_ms.tolist() == [14.0] and shown.teacher_ms is None
    assert (shown.split, shown.task) == ("test", 1)


def test_spikes_have_their_times_and_neurons() -> None:
    probe, listener = probe_of()
    pre = spikes_at((12, 2, 4), (0, 0, 3), (5, 1, 0))
    post = {1: spikes_at((12, 2, 3), (11, 1, 2)), 4: spikes_at((12, 2, 3))}
    probe.spikes(pre, post, np.array([100.0, 127.0, 999.0]))
    assert [args[0] for _, args in listener.told] == ["retina", "task1", "task4"]
    times = [args[1].tolist() for _, args in listener.told]
    nodes = [args[2].tolist() for _, args in listener.told]
    assert times == [[100.0, 137.0], [149.0], []]
    assert nodes == [[3, 0], [2], []]


def test_conversions_are_told_after_the_counts() -> None:
    layer = layer_of()
    change = StateChange(
        pre=torch.tensor([2, 0]), post=torch.tensor([1, 2]),
        old=torch.tensor([0, 1], dtype=torch.uint8), new=torch.tensor([1, 2], dtype=torch.uint8),
    )  # fmt: skip
    probe, listener = probe_of()
    probe.clock_ms = 33.0
    probe.change(7, layer, change)
    (first, counts), (second, (events,)) = listener.told
    assert (first, second) == ("counts", "conversions")
    assert counts[:2] == (7, 33.0) and counts[2].tolist() == [10, 1, 1]
    assert (events.task, events.time_ms.tolist()) == (7, [33.0, 33.0])
    assert (events.pre.tolist(), events.post.tolist()) == ([2, 0], [1, 2])
    assert (events.old.tolist(), events.new.tolist()) == ([0, 1], [1, 2])
    assert events.contact.tolist() == [0, 0]
    nothing = StateChange(change.pre[:0], change.post[:0], change.old[:0], change.new[:0])
    for plan, told in (({}, nothing), ({"conversions": False}, change)):
        probe, listener = probe_of(**plan)
        probe.change(7, layer, told)
        assert [name for name, _ in listener.told] == ["counts"]


@pytest.mark.parametrize(("n_batch", "expected"), [(1, [103.0, 109.0]), (3, [103.0, 121.0])])
def test_changes_in_a_step_are_told_at_that_step(n_batch: int, expected: list[float]) -> None:
    """A step of a batch of B presentations stands for B steps, so that all lie within the batch."""
    code = torch.tensor([0, 1], dtype=torch.uint8)
    events = StateEvents(torch.tensor([2, 0]), torch.tensor([1, 2]), code, 1 - code,
                         step=torch.tensor([0, 3]))  # fmt: skip
    probe, listener = probe_of()
    probe.clock_ms = 103.0 + 27.0 * n_batch
    probe.change(7, layer_of(), events, 103.0 + 27.0 * np.arange(n_batch))
    (_, counts), (_, (told,)) = listener.told
    assert counts[1] == probe.clock_ms
    assert told.time_ms.tolist() == expected  # steps of 2 ms


def test_snapshots_show_every_contact_of_every_layer() -> None:
    probe, listener = probe_of()
    one, two = layer_of(), layer_of(n_pre=2, n_post=5)
    probe.snapshot([one, two], "after_task_1")
    assert [args[:2] for _, args in listener.told] == [(0, "after_task_1"), (1, "after_task_1")]
    for (_, args), layer in zip(listener.told, (one, two), strict=True):
        ampa, state = args[2:]
        assert ampa.shape == state.shape == (layer.n_post, layer.n_pre, 1)
        np.testing.assert_array_equal(ampa[:, :, 0], layer.ampa)
        np.testing.assert_array_equal(state[:, :, 0], layer.state)


def test_traced_contacts_exist_and_are_drawn_by_the_seed() -> None:
    layer = layer_of(n_pre=30, n_post=3, probability=0.5)
    probe, _ = probe_of(traced_synapses=9)
    chosen = probe.choose_traced(layer)
    assert chosen.shape == (9, 2) and len(chosen.unique(dim=0)) == 9
    assert bool(layer.exists[chosen[:, 0], chosen[:, 1]].all())
    assert torch.equal(chosen, probe_of(traced_synapses=9)[0].choose_traced(layer))
    assert not torch.equal(chosen, probe_of(seed=2, traced_synapses=9)[0].choose_traced(layer))
    assert len(probe_of(traced_synapses=999)[0].choose_traced(layer)) == int(layer.exists.sum())
    assert probe_of(traced_synapses=0)[0].choose_traced(layer).shape == (0, 2)


def response_of(post: Tensor) -> Response:
    """Membranes that rise with the step: t / 10 thresholds in every neuron."""
    membrane = torch.arange(len(post)).float()[:, None, None] / 10 * torch.ones_like(post)
    return Response(post, membrane, membrane[-1])


PRE = spikes_at((12, 2, 4), (1, 0, 2), (4, 0, 2), (3, 1, 2), (2, 1, 0))
POST = spikes_at((12, 2, 3), (2, 0, 1), (9, 0, 1), (3, 1, 1), (6, 1, 2))
TRACED = torch.tensor([[1, 2], [2, 0]])  # (post, pre)


def mean_trace(spikes: Tensor, node: int, tau_ms: float) -> float:
    """Of exp(-lag / tau) of all earlier spikes, over steps and samples."""
    total = 0.0
    for b in range(2):
        for t in range(12):
            for s in range(t):
                if spikes[s, b, node]:
                    total += math.exp(-2.0 * (t - s) / tau_ms)
    return total / 24


def test_traces_are_means_over_a_batch() -> None:
    probe, listener = probe_of()
    probe.clock_ms = 48.0
    layer = layer_of()
    probe.trace(3, layer, TRACED, PRE, response_of(POST))
    task, time_ms, synapse, variables = listener.only("trace")
    assert task == 3 and time_ms.tolist() == [48.0]
    assert synapse.tolist() == [[2, 1, 0], [0, 2, 0]]  # (pre, post, contact)
    assert set(variables) == set(RecordConfig().trace_variables)
    assert all(values.shape == (1, 2) for values in variables.values())
    assert variables["ampa"][0].tolist() == pytest.approx([0.3, 0.4])
    assert variables["state"][0].tolist() == [1.0, 2.0]
    for k, (post, pre) in enumerate(TRACED.tolist()):
        assert variables["pre_trace"][0, k] == pytest.approx(mean_trace(PRE, pre, 10.0), rel=1e-5)
        assert variables["post_trace"][0, k] == pytest.approx(
            mean_trace(POST, post, 30.0), rel=1e-5
        )
        v_sum = opened = 0.0
        for b in range(2):
            for t in range(12):
                span = V_THRESHOLD_MV - V_REST_MV
                v = V_PEAK_MV if POST[t, b, post] else V_REST_MV + span * t / 10
                glutamate = sum(math.exp(-2.0 * (t - s) / 10.0) for s in range(t) if PRE[s, b, pre])
                v_sum += v
                opened += glutamate / (1 + 0.5 * math.exp(-0.062 * v) / 3.57)
        assert variables["membrane_mV"][0, k] == pytest.approx(v_sum / 24, rel=1e-5)
        assert variables["nmda_open"][0, k] == pytest.approx(opened / 24, rel=1e-5)


BOTH, ALL = {"pre_trace", "post_trace"}, {"pre_trace", "post_trace", "nmda_open"}


@pytest.mark.parametrize(
    ("rule", "recorded", "tau_pre_ms", "tau_post_ms"),
    [
        (PairSTDP(tau_plus_ms=7.0, tau_minus_ms=11.0), BOTH, 7.0, 11.0),
        (TripletSTDP(), BOTH, 16.8, 33.7),
        (GatedSTDP(TripletSTDP(), Gating(mg_mM=0.5, nmda=0.25)), ALL, 16.8, 33.7),
        (VoltageSTDP(), set(), 0.0, 0.0),
        (CalciumRule(), set(), 0.0, 0.0),
        (GatedSTDP(CalciumRule()), set(), 0.0, 0.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_traces_are_those_of_the_running_rule(
    rule: Rule, recorded: set[str], tau_pre_ms: float, tau_post_ms: float
) -> None:
    probe, listener = probe_of()
    probe.trace(0, layer_of(rule=rule), TRACED, PRE, response_of(POST))
    variables = listener.only("trace")[3]
    assert set(variables) == {"ampa", "state", "membrane_mV", *recorded}
    for k, (post, pre) in enumerate(TRACED.tolist() if recorded else []):
        for name, spikes, node, tau_ms in (
            ("pre_trace", PRE, pre, tau_pre_ms), ("post_trace", POST, post, tau_post_ms),
        ):  # fmt: skip
            expected = pytest.approx(mean_trace(spikes, node, tau_ms), rel=1e-5)
            assert variables[name][0, k] == expected
    if recorded == ALL:  # a quarter of the receptors is not blocked by the drug
        probe.trace(0, layer_of(rule=GatedSTDP(TripletSTDP(), Gating(mg_mM=0.5))), TRACED, PRE,
                    response_of(POST))  # fmt: skip
        free = listener.told[-1][1][3]["nmda_open"]
        assert variables["nmda_open"][0].tolist() == pytest.approx((0.25 * free[0]).tolist())


def test_a_trace_of_nearest_spikes_is_set_and_not_raised() -> None:
    spikes = torch.zeros(6, 1, 1)
    spikes[1], spikes[2] = 1.0, 1.0
    keep = math.exp(-2.0 / 10.0)
    found = trace_before(spikes, 10.0, 2.0, nearest=True).flatten().tolist()
    assert found == pytest.approx([0.0, 0.0, keep, keep, keep**2, keep**3])
    summed = trace_before(spikes, 10.0, 2.0).flatten().tolist()
    assert summed[3] == pytest.approx(keep + keep**2)


def test_only_what_is_asked_for_is_traced() -> None:
    probe, listener = probe_of(trace_variables=["state", "ampa"])
    probe.trace(0, layer_of(), TRACED, PRE, response_of(POST))
    assert list(listener.only("trace")[3]) == ["state", "ampa"]
    for plan, traced in (({"trace_variables": []}, TRACED), ({}, TRACED[:0])):
        probe, listener = probe_of(**plan)
        probe.trace(0, layer_of(), traced, PRE, response_of(POST))
        assert not listener.told


def test_pairings_count_every_pair_at_its_lag() -> None:
    probe, listener = probe_of()
    probe.clock_ms = 24.0
    layer = layer_of()
    before = torch.tensor([0.25, 0.5])
    probe.pairings(5, layer, TRACED, before, PRE, response_of(POST))
    task, time_ms, batch = listener.only("pairings")
    assert (task, time_ms) == (5, 24.0)
    # 2 ms steps: bins of two steps, up to 6 on each side of the one at 0 (steps -1 and 0)
    assert batch.lag_ms.tolist() == [4.0 * k for k in range(-6, 7)]
    for k, (post, pre) in enumerate(TRACED.tolist()):
        expected = [0] * 13
        for b in range(2):
            for s in np.flatnonzero(PRE[:, b, pre]):
                for t in np.flatnonzero(POST[:, b, post]):
                    expected[math.floor((t - s + 1) / 2) + 6] += 1
        assert batch.pairs[k].tolist() == expected and sum(expected) > 0
    assert batch.post_spikes.tolist() == [3, 1]
    assert batch.before.tolist() == [0.25, 0.5]
    assert batch.after.tolist() == pytest.approx([0.3, 0.4])
    assert batch.competition.tolist() == layer.competition(TRACED[:, 1], TRACED[:, 0]).tolist()
    for plan, traced in (({"pairings": False}, TRACED), ({}, TRACED[:0])):
        probe, listener = probe_of(**plan)
        probe.pairings(5, layer, traced, before, PRE, response_of(POST))
        assert not listener.told


def test_test_presentations_come_one_after_the_other() -> None:
    probe, listener = probe_of(spike_presentations=2, spike_every=2)
    probe.clock_ms = 1000.0
    probe.wait_for_spikes("test")
    batch, rows = batch_of(9, "test"), torch.tensor([4, 5, 6, 7])
    pre = spikes_at((7, 4, 4), (0, 0, 1), (1, 1, 1), (6, 2, 3))
    answers = [
        response_of(spikes_at((7, 4, 3), (3, 0, 0))),
        response_of(spikes_at((7, 4, 3), (4, 2, 2), (5, 3, 0))),
    ]
    probe.test(batch, rows, pre, answers)
    (first, (shown,)), *rest = listener.told
    assert first == "presentations" and [name for name, _ in rest] == ["spikes"] * 3
    assert shown.index.tolist() == [54, 56]  # every second one
    assert shown.start_ms.tolist() == [1000.0, 1017.0]  # 7 steps of 2 ms and a gap of 3
    assert (shown.task, shown.split, shown.teacher_ms) == (1, "test", None)
    assert {args[0]: args[1].tolist() for _, args in rest} == {
        "retina": [1000.0, 1017.0 + 12.0], "task0": [1006.0], "task1": [1017.0 + 8.0],
    }  # fmt: skip
    assert probe.clock_ms == 1034.0
    listener.told.clear()
    probe.test(batch, rows, pre, answers)  # enough of them
    assert not listener.told and probe.clock_ms == 1034.0
    probe.wait_for_spikes("test")
    # without labels nothing is told
    probe.test(Batch(batch.features, batch.index, "test"), rows, pre, answers)
    assert not listener.told and probe.clock_ms == 1034.0
