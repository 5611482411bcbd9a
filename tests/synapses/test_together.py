"""Contacts of each image's own: layers side by side, against the rule on private contacts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from engines import in_torch
from torch import Tensor

from snn_artsy.config import ContactConfig
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Signals, TripletSTDP
from snn_artsy.synapses import SilentSynapseLayer, simulate_apart
from snn_artsy.synapses.receptors import membrane_mV

N_PRE, N_POST, T, B = 20, 6, 120, 5
RULES: dict[str, Any] = {
    "pair": PairSTDP(a_plus=0.04, a_minus=0.03),
    "gated": GatedSTDP(
        PairSTDP(a_plus=0.04, a_minus=0.03), Gating(target=0.6, tau_target_ms=100.0)
    ),
    "triplet": TripletSTDP(a3_plus=0.005, a2_minus=0.03),
}


def layers_of(rule: Any, transmission: Any = "plain") -> list[SilentSynapseLayer]:
    contacts = ContactConfig(silent_share=0.3, transmission=transmission)
    generator = torch.Generator().manual_seed(1)
    layer = SilentSynapseLayer(
        N_PRE, N_POST, rule=rule, contacts=contacts, generator=generator
    ).train()
    layer.ampa.mul_(0.6)
    return [copy.deepcopy(layer) for _ in range(B)]


def trains() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    pre = (torch.rand(T, B, N_PRE, generator=generator) < 0.12).float()
    return pre, 1.5 * (torch.rand(T, B, N_POST, generator=generator) < 0.1)


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("name", RULES)
def test_each_image_learns_as_the_rule_does_on_private_contacts(name: str, taught: bool) -> None:
    rule, (pre, current) = RULES[name], trains()
    layers = layers_of(rule)
    w = torch.stack([layer.ampa.double() for layer in layers])
    answers = simulate_apart(layers, pre, current if taught else None)
    spikes = torch.cat([response.spikes for response, _, _ in answers], 1)
    membrane = torch.cat([response.membrane for response, _, _ in answers], 1)
    v_mV = membrane_mV(membrane, torch.ones(N_POST), spikes).double()
    traces = rule.start(pre[0].double(), spikes[0].double(), private=True)
    for t in range(T):
        signals = Signals(pre[t].double(), spikes[t].double(), v_mV[t])
        change, traces = rule.step(w, traces, signals, 1.0)
        w = (w + change).clamp(0.0, 1.0)
    assert spikes.sum() > 20 and (w[0] - w[1]).abs().max() > 0.02
    assert (torch.stack([layer.ampa for layer in layers]) - w).abs().max() < 1e-5


def test_the_compiled_loop_answers_like_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pre, _ = trains()
    rule = PairSTDP(a_plus=0.2, a_minus=0.05)
    compiled = layers_of(rule, "graded")
    found = simulate_apart(compiled, pre)
    in_torch(monkeypatch)
    reference = layers_of(rule, "graded")
    for b, (response, _, events) in enumerate(simulate_apart(reference, pre)):
        assert torch.equal(response.spikes, found[b][0].spikes)
        assert torch.equal(events.step, found[b][2].step) and len(events.step) > 0
        assert (reference[b].ampa - compiled[b].ampa).abs().max() < 1e-5


def test_pieces_go_on_and_threads_change_nothing() -> None:
    pre, current = trains()
    whole, pieces = layers_of(RULES["gated"]), layers_of(RULES["gated"])
    before = torch.get_num_threads()
    simulate_apart(whole, pre, current)
    try:
        torch.set_num_threads(3)
        answers = simulate_apart(pieces, pre[:50], current[:50])
        simulate_apart(pieces, pre[50:], current[50:], [state for _, state, _ in answers])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one.ampa, other.ampa)


def test_what_does_not_fit_together_is_refused() -> None:
    layers, (pre, current) = layers_of(RULES["pair"]), trains()
    with pytest.raises(ValueError, match="layers: expected 5 different ones, given 1; copy them"):
        simulate_apart([layers[0]] * B, pre)
    with pytest.raises(ValueError, match="pre: "):
        simulate_apart(layers[:2], pre)
    with pytest.raises(ValueError, match="current: "):
        simulate_apart(layers, pre, current[:, :2])
    with pytest.raises(ValueError, match="states: expected 5, one for each layer, given 0"):
        simulate_apart(layers, pre, None, [])
    assert simulate_apart([], pre) == []


@pytest.mark.parametrize("wrong", ["NaN", "other inputs", "a state of another rule"])
def test_no_layer_learns_when_a_later_one_cannot(wrong: str) -> None:
    layers, (pre, current) = layers_of(RULES["pair"]), trains()
    states = [layer.simulate(pre[:3, :1])[1] for layer in layers_of(RULES["pair"])]
    if wrong == "NaN":
        pre[-1, -1, 0] = float("nan")
    elif wrong == "other inputs":
        layers[-1] = SilentSynapseLayer(N_PRE + 1, N_POST, rule=RULES["pair"])
    else:
        states[-1] = layers_of(RULES["triplet"])[0].simulate(pre[:3, :1])[1]
    before = [layer.ampa.clone() for layer in layers]
    with pytest.raises(ValueError, match=r"pre: |state: "):
        simulate_apart(layers, pre, current, states)
    assert all(torch.equal(x, layer.ampa) for x, layer in zip(before, layers, strict=True))
