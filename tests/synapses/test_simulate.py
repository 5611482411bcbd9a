"""Continuous activity in pieces of any length is what it is in one piece."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import snntorch
import torch
from engines import in_torch
from torch import Tensor

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.physiology import Receptors
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, TripletSTDP, VoltageSTDP
from snn_artsy.synapses import Ongoing, SilentSynapseLayer, StateEvents

N_PRE, N_POST, T = 30, 7, 240
FAST = PairSTDP(a_plus=0.08, a_minus=0.05)
LIVELY = {"silent_share": 0.3, "consolidate_ms": 60.0}
KINDS: dict[str, dict[str, Any]] = {
    "pair": {"rule": FAST},
    "gated": {"rule": GatedSTDP(FAST, Gating(target=0.6, tau_target_ms=100.0))},
    "dendrite": {"rule": GatedSTDP(FAST, Gating(target=0.6, depolarisation="dendrite"))},
    "triplet": {"rule": TripletSTDP(a3_plus=0.1, a2_minus=0.02)},
    "voltage": {"rule": VoltageSTDP(a_ltd=0.002, a_ltp=0.002)},
    "synaptic": {"rule": FAST, "neuron": NeuronConfig(model="synaptic")},
    "graded": {"rule": FAST, "contacts": ContactConfig(transmission="graded", **LIVELY)},
    "decaying": {"rule": FAST, "contacts": ContactConfig(decay_ms=300.0, **LIVELY)},
    "conductance": {
        "rule": FAST, "receptors": Receptors(), "neuron": snntorch.Leaky(beta=0.95),
        "contact_current": 0.5,
    },
    "no rule": {"rule": None},
}  # fmt: skip


def layer_of(name: str, dt_ms: float) -> SilentSynapseLayer:
    given = {"contacts": ContactConfig(**LIVELY), **KINDS[name]}
    generator = torch.Generator().manual_seed(3)
    return SilentSynapseLayer(N_PRE, N_POST, dt_ms, generator=generator, **given).train()


def activity(n_batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return (torch.rand(T, n_batch, N_PRE, generator=generator) < 0.12).float()


def in_pieces(
    layer: SilentSynapseLayer, pre: Tensor, lengths: list[int]
) -> tuple[Tensor, Ongoing, list[tuple[int, ...]]]:
    """Spikes, the last state, and all changes of state by step."""
    spikes, state, changes = [], None, []
    for piece in pre.split(lengths):
        at = 0 if state is None else state.step
        response, state, events = layer.simulate(piece, state=state)
        spikes.append(response.spikes)
        changes += [(at + t, *rest) for t, *rest in rows(events)]
    assert state is not None
    return torch.cat(spikes), state, sorted(changes)


def rows(events: StateEvents) -> list[tuple[int, ...]]:
    parts = (events.step, events.post, events.pre, events.old, events.new)
    return list(zip(*(part.tolist() for part in parts), strict=True))


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("dt_ms", [1.0, 0.3])
@pytest.mark.parametrize("n_batch", [1, 9])
@pytest.mark.parametrize("name", KINDS)
def test_pieces_are_the_whole_bit_for_bit(
    name: str, n_batch: int, dt_ms: float, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "torch":
        in_torch(monkeypatch)
    pre, found = activity(n_batch), []
    for lengths in ([T], [1, 2, 97, 140], [60] * 4):
        layer = layer_of(name, dt_ms)
        spikes, state, changes = in_pieces(layer, pre, lengths)
        found.append((layer, spikes, state, changes))
    whole = found[0]
    assert whole[1].sum() > 5
    if name not in ("no rule", "voltage"):
        assert len(whole[3]) > 5
    for layer, spikes, state, changes in found[1:]:
        assert torch.equal(spikes, whole[1]) and changes == whole[3]
        for key, value in layer.state_dict().items():
            assert torch.equal(value, whole[0].state_dict()[key]), key
        assert torch.equal(state.neuron[-1], whole[2].neuron[-1]) and state.step == T


def test_without_its_state_a_piece_begins_at_rest() -> None:
    """What goes wrong if the state is not handed on."""
    pre = activity()
    whole, _, _ = in_pieces(layer_of("pair", 1.0), pre, [T])
    layer = layer_of("pair", 1.0)
    apart = torch.cat([layer.simulate(piece)[0].spikes for piece in pre.split(12)])
    assert not torch.equal(whole, apart)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_every_change_of_state_is_told_with_its_step(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "torch":
        in_torch(monkeypatch)
    layer, pre = layer_of("gated", 1.0), activity()
    state = layer.state.clone()
    _, _, changes = in_pieces(layer_of("gated", 1.0), pre, [T])
    held = None
    for t in range(T):  # one step at a time, states compared
        before = layer.state.clone()
        _, held, _ = layer.simulate(pre[t : t + 1], state=held)
        post, pre_of = torch.nonzero(layer.state != before, as_tuple=True)
        expected = {
            (t, j, i, int(before[j, i]), int(layer.state[j, i]))
            for j, i in zip(post.tolist(), pre_of.tolist(), strict=True)
        }
        assert {change for change in changes if change[0] == t} == expected
    assert not torch.equal(state, layer.state)


def test_in_eval_mode_nothing_learns_and_a_current_is_added() -> None:
    layer, pre = layer_of("pair", 1.0).eval(), activity()
    before = layer.ampa.clone()
    current = torch.full((T, 1, N_POST), 0.3)
    response, _, events = layer.simulate(pre, current)
    assert torch.equal(response.spikes, layer.respond(pre, current).spikes)
    assert len(events.step) == 0 and torch.equal(layer.ampa, before)


class Tired(PairSTDP):
    """A slow variable of one's own: potentiation ceases as presynaptic activity adds up."""

    @property
    def slow(self) -> tuple[str, ...]:
        return ("activity",)

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Any:
        return (pre[0] * 0.0, pre * 0.0, post * 0.0)

    def factors(self, traces: Any, seen: Any, dt_ms: float) -> Any:
        activity, *fast = traces
        f, fast = PairSTDP.factors(PairSTDP(**asdict(self)), tuple(fast), seen, dt_ms)
        f = f._replace(gain_pre=f.gain_pre / (1.0 + activity))
        return f, (activity + seen.pre.sum(0), *fast)


@pytest.mark.parametrize("update", ["presentation", "step"])
@pytest.mark.parametrize("gated", [False, True])
def test_slow_state_of_ones_own_is_kept_and_saved(gated: bool, update: Any) -> None:
    tired = Tired(a_plus=0.08, a_minus=0.001)
    rule = GatedSTDP(tired, Gating(target=0.3)) if gated else tired
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=rule, update=update)
    pre, current = activity(2), 1.5 * (activity(2)[..., :N_POST])
    layer.pair(pre, current)
    layer.pair(pre, current)
    assert torch.equal(layer.state_dict()["slow_activity"], 2 * pre.sum((0, 1)))
    again = SilentSynapseLayer(N_PRE, N_POST, rule=rule, update=update)
    again.load_state_dict(layer.state_dict())
    for each in (layer, again):
        each.pair(pre, current)
    assert torch.equal(layer.ampa, again.ampa)
    fresh = SilentSynapseLayer(N_PRE, N_POST, rule=rule, update=update)
    fresh.load_state_dict({**layer.state_dict(), "slow_activity": torch.zeros(N_PRE)})
    before = fresh.ampa.clone()
    fresh.pair(pre, current)
    layer.pair(pre, current)
    assert not torch.equal(fresh.ampa, layer.ampa) and not torch.equal(fresh.ampa, before)


def test_a_state_of_another_kind_of_neuron_is_refused() -> None:
    pre = activity()[:20]
    _, state, _ = layer_of("pair", 1.0).simulate(pre)
    with pytest.raises(ValueError, match="state: expected 2 state variables of each neuron, given"):
        layer_of("synaptic", 1.0).simulate(pre, state=state)


def test_slow_state_that_is_not_finite_is_refused() -> None:
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=Tired())
    stored = {**layer.state_dict(), "slow_activity": torch.full((N_PRE,), float("nan"))}
    with pytest.raises(RuntimeError, match="slow_activity: expected numbers"):
        layer.load_state_dict(stored)


def test_a_state_of_another_rule_or_other_inputs_is_refused() -> None:
    pre = activity()[:20]
    states = {name: layer_of(name, 1.0).simulate(pre)[1] for name in ("pair", "gated", "triplet")}
    more = SilentSynapseLayer(N_PRE + 2, N_POST, rule=FAST)
    states["more inputs"] = more.simulate(torch.cat([pre, pre[..., :2]], 2))[1]
    for name in ("gated", "triplet", "more inputs"):
        layer = layer_of("pair", 1.0)
        before = layer.ampa.clone()
        with pytest.raises(ValueError, match="state: expected shape"):
            layer.simulate(pre, state=states[name])
        assert torch.equal(layer.ampa, before)
    # as many inputs as neurons: shapes alone do not tell two traces from one
    square = [
        SilentSynapseLayer(N_POST, N_POST, rule=KINDS[n]["rule"]) for n in ("pair", "triplet")
    ]
    _, state, _ = square[1].simulate(pre[..., :N_POST])
    with pytest.raises(ValueError, match="state: expected shapes"):
        square[0].simulate(pre[..., :N_POST], state=state)


@pytest.mark.parametrize("between", ["capture", "load", "labilise"])
def test_contacts_that_change_between_pieces_go_on_with_their_own_clocks(
    between: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled loop updates the timer of a functional contact lazily; what is done to it in
    between counts. The reference keeps no timer but the contact's."""
    pre, layers = activity(), []
    for engine in ("compiled", "torch"):
        if engine == "torch":
            in_torch(monkeypatch)
        layer = layer_of("pair", 1.0)
        first = {name: x.clone() for name, x in layer.state_dict().items()}
        _, state, _ = layer.simulate(pre[:50])
        if between == "load":
            layer.load_state_dict(first)
        else:
            layer.capture()
            if between == "labilise":
                layer.labilise()
        layer.simulate(pre[50:90], state=state)
        layers.append(layer)
    assert (layers[0].functional_ms > 0).any()
    for name in ("functional_ms", "state"):
        assert torch.equal(getattr(layers[0], name), getattr(layers[1], name)), name
