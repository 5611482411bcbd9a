"""A teaching current of x thresholds is the same for every neuron, and each pulse is one spike."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import snntorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_artsy.config import EncodingConfig, NeuronConfig, TeacherConfig
from snn_artsy.rules import PairSTDP
from snn_artsy.synapses import SilentSynapseLayer, make_schedule


def taught(
    pulses: torch.Tensor, neuron: Any, dt_ms: float, update: Any = "presentation"
) -> torch.Tensor:
    """Spikes of one neuron for a teaching current [T], by the way that training takes."""
    layer = SilentSynapseLayer(2, 1, dt_ms, neuron, PairSTDP(), update=update).train()
    return layer(torch.zeros(len(pulses), 1, 2), teacher=pulses[:, None, None])[:, 0, 0]


@pytest.mark.parametrize("update", ["presentation", "step"])
@pytest.mark.parametrize("model", ["leaky", "synaptic"])
@pytest.mark.parametrize("code", ["poisson", "regular", "current", "latency"])
@pytest.mark.parametrize("preset", ["physiological", "fast"])
def test_every_pulse_of_a_preset_is_one_spike(
    preset: Any, code: Any, model: Any, update: Any
) -> None:
    for n_steps, current in product((8, 20, 40, 400), (1.001, 1.5, 5.0)):
        encoding = EncodingConfig(preset=preset, code=code, n_steps=n_steps)
        schedule = make_schedule(encoding, TeacherConfig(current=current))
        pulses = current * schedule.teach[:, 0].float()
        spikes = taught(pulses, NeuronConfig(model=model), encoding.dt, update)
        assert torch.equal(spikes, schedule.teach[:, 0].float()), (n_steps, current)


@settings(max_examples=25, deadline=None)
@given(
    on=st.lists(st.booleans(), min_size=1, max_size=40),
    current=st.floats(1.01, 100.0),
    dt_ms=st.floats(0.1, 50.0),
    tau_ms=st.floats(0.1, 1000.0),
    model=st.sampled_from(["leaky", "synaptic"]),
)
def test_any_pulses_are_as_many_spikes(
    on: list[bool], current: float, dt_ms: float, tau_ms: float, model: Any
) -> None:
    pulses = torch.tensor(on).float()
    spikes = taught(current * pulses, NeuronConfig(model=model, tau_mem_ms=tau_ms), dt_ms)
    assert torch.equal(spikes, pulses)


def test_pulses_below_threshold_still_add_up() -> None:
    beta = math.exp(-1.0 / 20.0)
    spikes = taught(torch.tensor([0.8, 0.8, 0.0, 0.8, 0.8]), NeuronConfig(), 1.0)
    assert 0.8 * (1 + beta) > 1
    assert spikes.tolist() == [0, 1, 0, 0, 1]


def test_own_spikes_are_still_reset_by_subtraction() -> None:
    layer = SilentSynapseLayer(1, 1, 1.0, NeuronConfig())
    current = torch.tensor([3.0, 0.0, 0.0])[:, None, None]
    silent = torch.zeros(3, 1, 1)
    assert layer.respond(silent, current).spikes.flatten().tolist() == [1, 1, 0]
    assert layer.clamp(current).spikes.flatten().tolist() == [1, 0, 0]


UNITS: dict[str, Any] = {
    "Leaky": lambda threshold: snntorch.Leaky(beta=0.9, threshold=threshold),
    "Lapicque": lambda threshold: snntorch.Lapicque(beta=0.9, threshold=threshold),
    "Lapicque of R and C": lambda threshold: snntorch.Lapicque(
        R=5.0, C=3.0, time_step=0.5, threshold=threshold
    ),
    "Synaptic": lambda threshold: snntorch.Synaptic(alpha=0.8, beta=0.9, threshold=threshold),
    "leaky": lambda threshold: NeuronConfig(threshold=threshold),
    "synaptic": lambda threshold: NeuronConfig(model="synaptic", threshold=threshold),
}
# what stays of a membrane in a step; Lapicque: 1 - dt / (R C), R C = dt / ln(1 / beta)
KEPT = {
    "Leaky": 0.9, "Lapicque": 1.0 + math.log(0.9), "Lapicque of R and C": 1.0 - 0.5 / 15.0,
    "Synaptic": 0.9, "leaky": math.exp(-1 / 20), "synaptic": math.exp(-1 / 20),
}  # fmt: skip


@pytest.mark.parametrize("threshold", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("name", UNITS)
def test_x_thresholds_take_the_membrane_from_rest_to_x(name: str, threshold: float) -> None:
    """Against a loop in Python floats: one pulse below threshold, then the leak alone."""
    for x in (-1.5, 0.25, 0.99):
        current = torch.zeros(12, 1, 1)
        current[2] = x
        layer = SilentSynapseLayer(3, 1, neuron=UNITS[name](threshold), rule=None)
        v, expected = 0.0, []
        for t in range(12):
            v = KEPT[name] * v + (x if t == 2 else 0.0)
            expected.append(v)
        for answer in (
            layer.respond(torch.zeros(12, 1, 3), current),
            layer.pair(torch.zeros(12, 1, 3), current)[0],
        ):
            assert answer.membrane.flatten().tolist() == pytest.approx(expected, abs=1e-6)
            assert answer.spikes.sum() == 0


@pytest.mark.parametrize("name", ["Leaky", "Lapicque", "Synaptic"])
def test_a_pulse_of_one_and_a_half_thresholds_is_one_spike(name: str) -> None:
    pulses = torch.zeros(120)
    pulses[9::10] = 1.5
    for threshold in (0.3, 1.0):
        assert taught(pulses, UNITS[name](threshold), 1.0).sum() == 12


@pytest.mark.parametrize("name", ["Leaky", "Lapicque", "Synaptic"])
def test_contact_currents_are_thresholds_too(name: str) -> None:
    layer = SilentSynapseLayer(3, 1, neuron=UNITS[name](2.0), rule=None, contact_current=0.2)
    layer.state.fill_(1)
    pre = torch.zeros(4, 1, 3)
    pre[0, 0, :2] = 1.0
    membrane = layer.respond(pre).membrane.flatten().tolist()
    assert membrane[0] == pytest.approx(0.4)
    after = 0.9 * 0.4 + 0.8 * 0.4 if name == "Synaptic" else KEPT[name] * 0.4
    assert membrane[1] == pytest.approx(after)


def test_an_electrode_leaves_the_synapse_alone() -> None:
    """Synaptic: contacts and electrode at once are the sum of both, each in its own way."""
    pre = (torch.rand(20, 2, 3, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    current = torch.randn(20, 2, 1, generator=torch.Generator().manual_seed(1)) * 0.3
    unit = snntorch.Synaptic(alpha=0.8, beta=0.9, reset_mechanism="none")
    layer = SilentSynapseLayer(3, 1, neuron=unit, rule=None, contact_current=0.05)
    layer.state.fill_(1)
    both = layer.respond(pre, current).membrane
    apart = layer.respond(pre).membrane + layer.respond(torch.zeros_like(pre), current).membrane
    torch.testing.assert_close(both, apart)
