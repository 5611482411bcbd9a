"""The layer between two layers of a user's own model: snnTorch neurons, learning, updates."""

import copy
import math
from dataclasses import replace
from typing import Literal

import pytest
import snntorch
import torch
from torch import Tensor

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Rule, Signals, TripletSTDP
from snn_artsy.synapses import SilentSynapseLayer

T, B, N_PRE, N_POST = 60, 3, 12, 4
RULES: list[Rule] = [
    PairSTDP(a_plus=0.03, a_minus=0.01),
    PairSTDP(a_plus=0.1, a_minus=0.02, bounds_of="soft", pairing="nearest"),
    TripletSTDP(a2_plus=0.02),
    GatedSTDP(PairSTDP(a_plus=0.1, a_minus=0.01), Gating(target=0.5)),
]


def stimulus(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pre = (torch.rand(T, B, N_PRE, generator=generator) < 0.15).double()
    teacher = torch.zeros(T, B, N_POST, dtype=torch.float64)
    teacher[9::10, :, :2] = 1.5
    return pre, teacher


@pytest.mark.parametrize(
    "neuron",
    [
        snntorch.Leaky(beta=torch.tensor(0.9, dtype=torch.float64)),
        snntorch.Synaptic(
            alpha=torch.tensor(0.5, dtype=torch.float64), beta=torch.tensor(0.9).double()
        ),
        snntorch.Lapicque(beta=torch.tensor(0.9, dtype=torch.float64)),
    ],
    ids=lambda neuron: type(neuron).__name__,
)
def test_a_snntorch_neuron_is_used_as_it_is(neuron: snntorch.SpikingNeuron) -> None:
    current = 0.4
    layer = SilentSynapseLayer(N_PRE, N_POST, neuron=neuron, contact_current=current).double()
    layer.state.fill_(FUNCTIONAL)
    pre, _ = stimulus()
    spikes = layer(pre)
    # by hand: the same neuron, driven by the sum of the inputs
    own = copy.deepcopy(neuron)
    # Lapicque multiplies its input by dt / C, with C = dt / (R ln(1 / beta)) and R = 1
    scale = 1.0 / math.log(1.0 / 0.9) if isinstance(neuron, snntorch.Lapicque) else 1.0
    state = tuple(torch.zeros(B, N_POST).double() for _ in range(1 + ("Syn" in type(own).__name__)))
    for t in range(T):
        drive = current * pre[t].sum(1, keepdim=True).expand(B, N_POST)
        fired, *after = own(scale * drive, *state)
        state = tuple(after)
        assert torch.equal(spikes[t], fired.double())
    assert spikes.sum() > 0
    assert all(each is not neuron for each in snntorch.SpikingNeuron.instances)


def test_something_else_is_no_neuron() -> None:
    with pytest.raises(TypeError, match="neuron: ReLU"):
        SilentSynapseLayer(2, 2, neuron=torch.nn.ReLU())


def test_it_learns_in_train_mode_with_a_teacher_and_only_then() -> None:
    pre, teacher = stimulus()
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=RULES[0]).double()
    layer(pre)
    layer.eval()
    layer(pre, teacher)
    assert int(layer.counts()[SILENT]) == N_PRE * N_POST and float(layer.ampa.sum()) == 0
    layer.train()
    spikes = layer(pre, teacher)
    assert float(spikes[:, :, 2:].sum()) == 0 and float(spikes[:, :, :2].sum()) > 0
    assert int(layer.counts()[FUNCTIONAL]) > 0
    assert float(layer.ampa[2:].sum()) == 0
    again = SilentSynapseLayer(N_PRE, N_POST, rule=RULES[0]).double()
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.respond(pre).spikes, layer.respond(pre).spikes)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_updates_in_every_step_equal_a_loop(rule: Rule) -> None:
    """`update: step` against the rule's own step on weights that change, states by hand."""
    pre, teacher = stimulus(1)
    contacts = ContactConfig(consolidate_ms=40.0 * B)
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=rule, contacts=contacts, update="step").double()
    response, change = layer.pair(pre, teacher)

    w = torch.zeros(N_POST, N_PRE, dtype=torch.float64)
    state, clock = torch.zeros_like(w, dtype=torch.int64), torch.zeros_like(w)
    post = response.spikes
    traces = rule.start(pre[0], post[0])
    events = []
    for t in range(T):
        v_mV = torch.where(post[t] > 0, 20.0, -70.0).double()
        dw, traces = rule.step(w, traces, Signals(pre[t], post[t], v_mV), 1.0)
        w = (w + dw).clamp(0, 1)
        for j in range(N_POST):
            for i in range(N_PRE):
                was = int(state[j, i])
                if was == SILENT and w[j, i] >= 0.5:
                    state[j, i], clock[j, i] = FUNCTIONAL, 0.0
                elif was == FUNCTIONAL and w[j, i] <= 0.25:
                    state[j, i] = SILENT
                elif was == FUNCTIONAL:
                    clock[j, i] += B
                    if clock[j, i] >= 40.0 * B:
                        state[j, i] = CONSOLIDATED
                if int(state[j, i]) != was:
                    events.append((t, j, i, was, int(state[j, i])))
    torch.testing.assert_close(layer.ampa, w, rtol=0, atol=1e-12)
    assert torch.equal(layer.state.long(), state)
    columns = (change.step, change.post, change.pre, change.old, change.new)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == events
    assert {FUNCTIONAL, CONSOLIDATED} & set(state.unique().tolist())


def test_the_two_updates_are_two_models() -> None:
    pre, teacher = stimulus(2)
    rule = PairSTDP(a_plus=0.05, a_minus=0.02, bounds_of="soft")
    ampa = {}
    for update in ("presentation", "step"):
        layer = SilentSynapseLayer(N_PRE, N_POST, rule=rule, update=update).double()
        layer.pair(pre, teacher)
        ampa[update] = layer.ampa
    assert not torch.allclose(ampa["presentation"], ampa["step"], atol=1e-3)


def test_filopodia_and_mature_contacts_at_birth() -> None:
    contacts = ContactConfig(filopodia=5, silent_share=0.25)
    generator = torch.Generator().manual_seed(0)
    layer = SilentSynapseLayer(40, 500, contacts=contacts, generator=generator)
    assert (layer.exists.sum(1) == 5).all()
    silent, functional, consolidated = layer.counts().tolist()
    assert functional == 0 and silent + consolidated == 2500
    assert abs(silent - 625) < 4 * (2500 * 0.25 * 0.75) ** 0.5
    assert torch.equal(layer.born_silent, layer.exists & (layer.state == SILENT))
    assert torch.equal(layer.ampa > 0, layer.state == CONSOLIDATED)


def test_mature_contacts_need_more_to_change() -> None:
    pre, teacher = stimulus(3)
    rule = PairSTDP(a_plus=0.0, a_minus=0.002)
    after = {}
    for share in (1.0, 0.25, 0.0):
        contacts = ContactConfig(mature_plasticity=share)
        layer = SilentSynapseLayer(N_PRE, N_POST, rule=rule, contacts=contacts).double()
        layer.state.fill_(FUNCTIONAL)
        layer.ampa.fill_(0.9)
        layer.pair(pre, teacher)
        after[share] = 0.9 - layer.ampa
    assert float(after[1.0].max()) > 0
    torch.testing.assert_close(after[0.25], 0.25 * after[1.0])
    assert float(after[0.0].abs().max()) == 0


def test_occupancy_decays_unless_consolidated() -> None:
    pre, teacher = stimulus(4)
    contacts = ContactConfig(decay_ms=100.0)
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=PairSTDP(0.0, 0.0), contacts=contacts).double()
    layer.ampa.fill_(0.8)
    layer.state[:2], layer.state[2:] = FUNCTIONAL, CONSOLIDATED
    layer.pair(pre, teacher)
    expected = torch.tensor(0.8 * 2.718281828459045 ** (-T * B / 100.0)).double()
    torch.testing.assert_close(layer.ampa[:2], expected.expand(2, N_PRE))
    assert (layer.state[:2] == SILENT).all()  # 0.13 is below theta_down
    assert (layer.ampa[2:] == 0.8).all() and (layer.state[2:] == CONSOLIDATED).all()


def test_without_consolidation_nothing_is_consolidated() -> None:
    pre, teacher = stimulus(5)
    contacts = ContactConfig(consolidation=False, consolidate_ms=1.0)
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=RULES[0], contacts=contacts).double()
    for _ in range(3):
        layer.pair(pre, teacher)
    layer.capture()
    assert int(layer.counts()[FUNCTIONAL]) > 0 and int(layer.counts()[CONSOLIDATED]) == 0


def test_own_spikes_teach_when_there_is_no_electrode() -> None:
    pre, _ = stimulus(6)
    neuron = NeuronConfig(threshold=0.5)
    layer = SilentSynapseLayer(N_PRE, N_POST, neuron=neuron, rule=replace(RULES[0], a_minus=0.0))
    layer = layer.double()
    layer.state[0, :4], layer.ampa[0, :4] = FUNCTIONAL, 0.6
    response, _ = layer.pair(pre, None)
    assert float(response.counts[:, 0].sum()) > 0
    assert float(layer.ampa[0, :4].min()) > 0.6
    assert float(layer.ampa[1:].sum()) == 0  # silent neurons neither fire nor learn


@pytest.mark.parametrize("update", ["presentation", "step"])
def test_a_batch_is_summed_or_averaged(update: Literal["step", "presentation"]) -> None:
    pre, teacher = stimulus()
    after = {}
    reductions: tuple[Literal["sum", "mean"], ...] = ("sum", "mean")
    for reduction in reductions:
        layer = SilentSynapseLayer(
            N_PRE, N_POST, rule=RULES[0], update=update, batch_reduction=reduction
        ).double()
        layer.pair(pre[:, :1].expand(-1, B, -1), teacher)  # B replicas
        after[reduction] = layer.ampa
    alone = SilentSynapseLayer(N_PRE, N_POST, rule=RULES[0], update=update).double()
    alone.pair(pre[:, :1], teacher[:, :1])
    assert 0 < alone.ampa.max() < 1
    torch.testing.assert_close(after["mean"], alone.ampa)
    assert after["sum"].sum() > 1.5 * alone.ampa.sum()


def test_a_layer_keeps_contacts_without_a_tag_functional() -> None:
    layer = SilentSynapseLayer(3, 1, contacts=ContactConfig(tag_ms=50.0))
    layer.state.copy_(torch.tensor([[FUNCTIONAL, FUNCTIONAL, SILENT]]))
    layer.functional_ms.copy_(torch.tensor([[20.0, 60.0, 0.0]]))
    change = layer.capture()
    assert layer.state.tolist() == [[CONSOLIDATED, FUNCTIONAL, SILENT]]
    assert layer.functional_ms.tolist() == [[0.0, 60.0, 0.0]] and len(change.pre) == 1
