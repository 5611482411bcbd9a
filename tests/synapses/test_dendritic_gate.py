"""Contacts gated by the dendrite's potential, against a loop in Python floats."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import snntorch
import torch
from engines import in_torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.physiology import Receptors
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, VoltageSTDP
from snn_artsy.synapses import SilentSynapseLayer, trace_contacts
from snn_artsy.synapses.receptors import dendrite_mV, nmda_gate

N_PRE, N_POST, T, DT = 12, 3, 60, 2.0
PAIR = PairSTDP(a_plus=0.3, a_minus=0.04, tau_plus_ms=17.0, tau_minus_ms=34.0)
GATED = GatedSTDP(
    PAIR, Gating(target=0.25, tau_target_ms=90.0, nmda=0.8, mg_mM=0.7, depolarisation="dendrite")
)
NEURON = NeuronConfig(tau_mem_ms=11.0, threshold=0.3)


def layer_of(rule: Any = GATED, **options: Any) -> SilentSynapseLayer:
    contacts = ContactConfig(consolidation=False, silent_share=0.5, theta_up=0.4, theta_down=0.1)
    given = {"neuron": NEURON, "update": "step", **options}
    generator = torch.Generator().manual_seed(1)
    return SilentSynapseLayer(
        N_PRE, N_POST, DT, rule=rule, contacts=contacts, generator=generator, **given
    )


def batch(n_batch: int = 2, seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pre = (torch.rand(T, n_batch, N_PRE, generator=generator) < 0.12).double()
    teacher = 1.5 * (torch.rand(T, n_batch, N_POST, generator=generator) < 0.1).double()
    return pre, teacher


def gate(v_mV: float, gating: Gating) -> float:
    """Jahr & Stevens 1990, less what is open at rest in 1 mM magnesium."""
    opened = 1 / (1 + gating.mg_mM / 3.57 * math.exp(-0.062 * v_mV))
    at_rest = 1 / (1 + 1 / 3.57 * math.exp(-0.062 * -70.0))
    return gating.nmda * max(opened - at_rest, 0.0) / (1 - at_rest)


def by_hand(
    layer: SilentSynapseLayer, pre: Tensor, spikes: Tensor, in_steps: bool
) -> tuple[Any, list[Any]]:
    """Occupancy [n_post][n_pre] after a batch, and dendritic potentials [T][B][n_post]."""
    rule = layer.rule
    a = layer.ampa.tolist()
    open_ = (layer.state > 0).tolist()
    every = range(len(pre[0]))
    alpha = [sum(row) / N_PRE for row in open_]
    theta = [
        0.3 * max(1.0, math.sqrt(sum((o - alpha[j]) ** 2 for o in open_[j]))) for j in range(N_POST)
    ]
    keep = math.exp(-DT / 11.0)
    u = [[0.0] * N_POST for _ in every]
    change = [[0.0] * N_PRE for _ in range(N_POST)]
    slow, weight, potentials = [0.0] * N_PRE, 0.0, []
    for t in range(T):
        x = [
            [sum(math.exp(-(t - s) * DT / 17.0) for s in range(t) if pre[s, b, i])
             for i in range(N_PRE)]
            for b in every
        ]  # fmt: skip
        kept = math.exp(-DT * len(every) / rule.gating.tau_target_ms)
        weight = weight * kept + 1 - kept
        for i in range(N_PRE):
            slow[i] = slow[i] * kept + sum(x[b][i] for b in every) / len(every) * (1 - kept)
        for j in range(N_POST):
            for b in every:
                net = sum((open_[j][i] - alpha[j]) * float(pre[t, b, i]) for i in range(N_PRE))
                u[b][j] = u[b][j] * keep + net / theta[j]
                fired = bool(spikes[t, b, j])
                v_mV = 20.0 if fired else min(-70.0 + 20.0 * u[b][j], 0.0)
                event = gate(v_mV, rule.gating) * (1.0 if fired else DT / 10.0)
                y = sum(math.exp(-(t - s) * DT / 34.0) for s in range(t) if spikes[s, b, j])
                for i in range(N_PRE):
                    over = x[b][i] - rule.gating.target * slow[i] / weight
                    change[j][i] += rule.base.a_plus * event * over - 0.04 * float(pre[t, b, i]) * y
        potentials.append([list(row) for row in u])
        if in_steps or t == T - 1:
            for j in range(N_POST):
                for i in range(N_PRE):
                    a[j][i] = min(max(a[j][i] + change[j][i], 0.0), 1.0)
                    open_[j][i] = a[j][i] > (0.1 if open_[j][i] else 0.4 - 1e-12)
            change = [[0.0] * N_PRE for _ in range(N_POST)]
    return a, potentials


def like(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("update", ["step", "presentation"])
def test_contacts_follow_the_dendrite_as_a_loop_in_floats_does(update: str, taught: bool) -> None:
    rule = GatedSTDP(replace(PAIR, a_plus=0.1), GATED.gating)
    if update == "presentation":  # its target takes in the whole batch beforehand: test_rules.py
        rule = replace(rule, gating=replace(GATED.gating, target=0.0))
    layer = layer_of(rule, update=update).double()
    before = layer_of(rule, update=update).double()
    pre, teacher = batch()
    response, change = layer.pair(pre, teacher if taught else None)
    expected, potentials = by_hand(before, pre, response.spikes, update == "step")
    torch.testing.assert_close(layer.ampa, like(expected), atol=1e-10, rtol=0)
    assert response.dendrite is not None and len(change.pre) > 2
    torch.testing.assert_close(response.dendrite, like(potentials), atol=1e-10, rtol=0)
    # the loop knows more than spikes, and EPSPs saturate in some steps and not in others
    assert 0.005 < float((response.dendrite > 3.5).double().mean()) < 0.5
    soma = layer_of(replace(rule, gating=replace(rule.gating, depolarisation="spike"))).double()
    soma.update = layer.update
    soma.pair(pre, teacher if taught else None)
    assert float((soma.ampa - layer.ampa).abs().max()) > 0.1


@pytest.mark.parametrize("update", ["step", "presentation"])
def test_a_constant_in_the_place_of_the_gate_changes_what_converts(update: str) -> None:
    """Of equal mean: as much opens in all, whatever the potential."""
    gating = replace(GATED.gating, target=0.0, nmda=1.0, mg_mM=1.0)
    layer = layer_of(GatedSTDP(PAIR, gating), update=update)
    pre = batch()[0].float()
    quiet = torch.zeros(T, 2, N_POST)  # an electrode keeps the soma from firing
    response, _ = layer.pair(pre, quiet)
    assert response.dendrite is not None and not bool(response.spikes.any())
    opened = nmda_gate(dendrite_mV(response.dendrite, response.spikes), 1.0, -70.0)
    mean = float(opened.mean())
    constant = layer_of(
        GatedSTDP(PAIR, replace(gating, nmda=mean, mg_mM=0.0)), update=update
    )  # without a block all receptors are open, and there are as few as were open before
    constant.pair(pre, quiet)
    assert 0.02 < mean < 0.5
    different = constant.state != layer.state
    assert float(different.float().mean()) > 0.05
    assert float((constant.ampa - layer.ampa).abs().max()) > 0.2
    # With one factor for all neurons what a contact gains tells of its input alone, with the gate
    # of its neuron's neighbours, too.
    spread = {}
    for name, each in (("constant", constant), ("gate", layer)):
        gained = (each.ampa - layer_of().ampa).where(each.born_silent, torch.nan)
        spread[name] = max(
            float(values.max() - values.min())
            for values in (column[~column.isnan()] for column in gained.T)
            if len(values)
        )
    assert spread["constant"] < 1e-5
    assert spread["gate"] > 0.1


@pytest.mark.parametrize(("clamp_mV", "converts"), [(-70.0, False), (0.0, True), (40.0, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_voltage_clamp_decides_whatever_neurons_and_dendrites_do(
    clamp_mV: float, converts: bool, dtype: torch.dtype
) -> None:
    gating = replace(GATED.gating, target=0.0, clamp_mV=clamp_mV, mg_mM=1.0)
    layer = layer_of(GatedSTDP(replace(PAIR, a_minus=0.0), gating)).to(dtype)
    before = layer.ampa.clone()
    pre, teacher = batch()
    response, _ = layer.pair(pre, teacher)
    assert bool(response.spikes.any()) and response.dendrite is None
    assert bool((layer.ampa > before).any()) == converts
    if dtype is torch.float32:
        assert layer.takes_reference() is None  # nothing depends on the dendrite


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("n_batch", [1, 3])
def test_engines_agree(n_batch: int, taught: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pre, teacher = batch(n_batch)
    made = [layer_of() for _ in range(2)]
    given = teacher if taught else None
    found, _ = made[0].pair(pre, given)
    in_torch(monkeypatch)
    expected, _ = made[1].pair(pre, given)
    assert found.dendrite is not None and expected.dendrite is not None
    assert torch.equal(found.spikes, expected.spikes)
    torch.testing.assert_close(found.dendrite, expected.dendrite)
    torch.testing.assert_close(made[0].ampa, made[1].ampa, atol=2e-5, rtol=0)
    assert torch.equal(made[0].state, made[1].state)


@pytest.mark.parametrize("taught", [True, False])
def test_little_magnesium_opens_the_gate_below_threshold_in_both_engines(
    taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the soma's own potential counts, by degrees."""
    gating = Gating(target=0.0, mg_mM=0.2)
    pre, teacher = batch(1)
    made = [layer_of(GatedSTDP(PAIR, gating)) for _ in range(2)]
    given = 0.1 * teacher if taught else None  # below threshold
    made[0].pair(pre, given)
    in_torch(monkeypatch)
    response, _ = made[1].pair(pre, given)
    torch.testing.assert_close(made[0].ampa, made[1].ampa, atol=2e-5, rtol=0)
    shut = layer_of(GatedSTDP(PAIR, replace(gating, mg_mM=1.0)))
    shut.pair(pre, given)
    assert float((shut.ampa - made[0].ampa).abs().max()) > 0.01
    assert bool(response.spikes.any()) != taught


def test_what_is_traced_is_what_opens() -> None:
    pre, teacher = batch(1)
    layer = layer_of().double()
    contacts = torch.tensor([[0, 3], [2, 7]])
    series = trace_contacts(layer, contacts, pre, teacher)
    response, _ = layer.pair(pre, teacher)
    assert response.dendrite is not None
    v_mV = dendrite_mV(response.dendrite, response.spikes)[:, 0]
    for k, (j, _) in enumerate(contacts.tolist()):
        for t in range(T):
            opened = 0.8 / (1 + 0.7 * math.exp(-0.062 * float(v_mV[t, j])) / 3.57)
            expected = opened * float(series["pre_trace"][t, k])
            assert float(series["nmda_open"][t, k]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float((series["membrane_mV"] - v_mV[:, contacts[:, 0]]).abs().max()) > 5.0


def test_other_neurons_receptors_and_rules_have_dendrites_too() -> None:
    pre, teacher = batch()
    kinds: dict[str, dict[str, Any]] = {
        "snnTorch": {"neuron": snntorch.Leaky(beta=0.8, threshold=2.0), "contact_current": 0.3},
        "conductance": {"receptors": Receptors(mg_mM=0.7)},
        "voltage": {"rule": GatedSTDP(VoltageSTDP(a_ltp=1e-3, spike_ms=2.0), GATED.gating)},
    }
    for name, given in kinds.items():
        layer = layer_of(**given)
        before = layer.ampa.clone()
        response, _ = layer.pair(pre.float(), teacher.float())
        assert response.dendrite is not None, name
        # the potential is that of the dimensionless currents, whatever fires
        frozen = layer_of(rule=None, **{k: v for k, v in given.items() if k != "rule"})
        first = frozen.foresee(pre.float(), torch.tensor([0]))
        torch.testing.assert_close(response.dendrite[:1], first)
        assert not torch.equal(layer.ampa, before), name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depolarisation": "soma"}, "gating.depolarisation"),
        ({"clamp_mV": 1e4}, "gating.clamp_mV"),
        ({"clamp_mV": float("nan")}, "gating.clamp_mV"),
    ],
)
def test_what_a_gate_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gating(**given)


def test_a_dendrite_needs_a_time_constant() -> None:
    with pytest.raises(ValueError, match=r"neuron\.beta: it gives the membrane's time constant"):
        layer_of(neuron=snntorch.Leaky(beta=1.0))
    layer_of(neuron=snntorch.Leaky(beta=1.0), rule=GatedSTDP())
