"""Rest, threshold and peak of the neurons in mV: who uses them, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from engines import in_torch

from snn_artsy.checks import ConfigError
from snn_artsy.config import NeuronConfig, PlasticityConfig, SNNConfig
from snn_artsy.config_builder import build
from snn_artsy.physiology import Membrane
from snn_artsy.rules import GatedSTDP, VoltageSTDP
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.expectation import pair_in_the_mean
from snn_artsy.synapses.receptors import dendrite_mV, membrane_mV
from snn_artsy.synapses.tracing import trace_contacts

OTHER = NeuronConfig(v_rest_mV=-65.0, v_th_mV=-45.0, v_peak_mV=0.0)
FAST = PlasticityConfig(a_plus=0.2, target=0.5)


def block(v_mV: float) -> float:
    return 1.0 / (1.0 + math.exp(-0.062 * v_mV) / 3.57)


def layer_of(
    neuron: NeuronConfig, rule: PlasticityConfig = FAST, **more: object
) -> SilentSynapseLayer:
    return SilentSynapseLayer(3, 2, 1.0, neuron, rule, **more)  # type: ignore[arg-type]


def shown() -> tuple[torch.Tensor, torch.Tensor]:
    """Three inputs 2, 6 and 12 ms before the teacher of the first neuron, twice."""
    pre, taught = torch.zeros(60, 1, 3), torch.zeros(60, 1, 2)
    for volley in (0, 30):
        for i, lead in enumerate((2, 6, 12)):
            pre[volley + 20 - lead, 0, i] = 1.0
        taught[volley + 20, 0, 0] = 1.5
    return pre, taught


def test_defaults_are_those_that_were_constants() -> None:
    assert NeuronConfig().membrane == Membrane()
    assert SNNConfig().rule() == PlasticityConfig().build()
    v, one = torch.tensor([0.0, 1.0, 0.5, 2.0]), torch.tensor(1.0)
    fired = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert membrane_mV(v, one, fired).tolist() == [-70.0, -50.0, -60.0, 20.0]
    assert membrane_mV(v, one, fired, OTHER.membrane).tolist() == [-65.0, -45.0, -55.0, 0.0]
    # a dendrite: the reversal potential at most, a spike at its peak
    assert dendrite_mV(10.0 * v, fired, OTHER.membrane).tolist() == [-65.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("update", ["step", "presentation"])
def test_the_gate_of_both_engines_follows_them(
    update: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B_0 is B(V_th + 10 mV), and a spike opens the gate to B(V_peak): occupancies by hand."""
    compiled = layer_of(OTHER, replace(FAST, target=1e-9), update=update)
    compiled.pair(*shown())
    floor = block(-35.0)
    gate = (block(0.0) - floor) / (1.0 - floor)
    for i, lead in enumerate((2, 6, 12)):
        x = math.exp(-lead / 20.0)
        fresh = x + x * (1.0 + math.exp(-30.0 / 20.0))  # the first volley's is left
        loss = 0.004 * math.exp(-(30.0 - lead) / 20.0)
        expected = 0.2 * gate * fresh - loss
        assert float(compiled.ampa[0, i]) == pytest.approx(expected, rel=1e-4)
    in_torch(monkeypatch)
    reference = layer_of(OTHER, replace(FAST, target=1e-9), update=update)
    reference.pair(*shown())
    torch.testing.assert_close(reference.ampa, compiled.ampa)
    usual = layer_of(NeuronConfig(), replace(FAST, target=1e-9), update=update)
    usual.pair(*shown())
    assert float((usual.ampa - compiled.ampa)[0].min()) > 0.01


def test_the_mean_field_and_the_spikes_agree() -> None:
    spiking, mean = layer_of(OTHER), layer_of(OTHER)
    pre, taught = shown()
    spiking.pair(pre, taught)
    pair_in_the_mean(mean, pre, (taught > 0).float(), 60.0)
    torch.testing.assert_close(mean.ampa, spiking.ampa)


def test_traces_and_the_voltage_rule_follow_them() -> None:
    layer = layer_of(OTHER, update="step")
    series = trace_contacts(layer, torch.tensor([[0, 0], [1, 0]]), *shown())["membrane_mV"]
    assert float(series[0, 0]) == -65.0 and float(series[20, 0]) == 0.0
    assert series[:, 1].unique().tolist() == [-65.0]
    voltage = PlasticityConfig(rule="voltage")
    assert voltage.build(OTHER.membrane) == VoltageSTDP(v_rest_mV=-65.0)
    own = PlasticityConfig(rule="voltage", voltage=VoltageSTDP(v_rest_mV=-70.6))
    assert own.build(OTHER.membrane) == VoltageSTDP(v_rest_mV=-70.6)
    rule = SNNConfig(neuron=OTHER).rule()
    assert isinstance(rule, GatedSTDP)
    assert (rule.gating.v_rest_mV, rule.gating.v_th_mV) == (-65.0, -45.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"neuron": {"v_rest_mV": -50}}, "snn.neuron.v_rest_mV: -50.0 cannot be used; rest must"),
        ({"neuron": {"v_th_mV": 20}}, "snn.neuron.v_peak_mV: 20.0 cannot be used; a spike must"),
        ({"neuron": {"v_th_mV": 5}}, "snn.neuron.v_th_mV: 5.0 cannot be used; the threshold must"),
        ({"receptors": {"e_rev_mV": -55}}, "snn.neuron.v_th_mV: -50.0 cannot be used"),
        ({"neuron": {"v_rest_mV": -300}}, "snn.neuron.v_rest_mV: -300.0 cannot be used; use -200"),
        ({"fidelity": "conductance", "receptors": {"e_gaba_mV": -60}},
         "snn.receptors.e_gaba_mV: -60.0 cannot be used; inhibition balances"),
    ],
)  # fmt: skip
def test_what_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(SNNConfig, values, "snn.")
    assert str(refused.value).startswith(message), refused.value
