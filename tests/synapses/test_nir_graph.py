"""NIR graphs: snnTorch's own reader gives the layer's spikes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.physiology import Receptors
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.nir_graph import nir_graph

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")

N_PRE, STEPS, PRESENTATIONS = 40, 30, 100
SOME = ContactConfig(silent_share=0.6)


def layer(n_post: int, seed: int, **values: Any) -> SilentSynapseLayer:
    values = {"contacts": SOME, "generator": torch.Generator().manual_seed(seed)} | values
    return SilentSynapseLayer(N_PRE, n_post, **values).eval()


def shown() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return (torch.rand(STEPS, PRESENTATIONS, N_PRE, generator=generator) < 0.1).float()


def read(path: Path, layers: list[SilentSynapseLayer]) -> tuple[Any, Any]:
    """The graph, which has been in a file, and what snnTorch makes of it."""
    from snntorch.import_nir import import_from_nir

    nir.write(path, nir_graph(layers))
    graph = nir.read(path)
    return graph, import_from_nir(graph)


@pytest.mark.parametrize("per_connection", [1, 3])
def test_snntorch_reads_the_spikes_of_a_neuron_that_resets_to_zero(
    tmp_path: Path, per_connection: int
) -> None:
    unit = snntorch.Leaky(
        beta=torch.tensor(0.9), threshold=torch.tensor(2.0), reset_mechanism="zero",
        reset_delay=False,
    )  # fmt: skip
    some = replace(SOME, per_connection=per_connection)
    # ten contacts of 0.1 would reach the threshold exactly, or not, by the order they are added in
    own = layer(12, 1, neuron=unit, contacts=some, contact_current=0.097)
    graph, network = read(tmp_path / "layer.nir", [own])
    assert graph.nodes["neurons"].metadata["reset"] == "zero"
    pre = shown()
    expected = own(pre)
    with torch.no_grad():
        found = torch.stack([network(pre[t])[0] for t in range(STEPS)])
    assert torch.equal(found, expected) and 1000 < expected.sum() < found.numel() / 2


def test_snntorch_reads_weights_and_decay_of_the_layers_of_a_run(tmp_path: Path) -> None:
    """Their reset, which a LIF of NIR has not, is put in by hand, as the documentation does."""
    layers = [layer(n, n, neuron=NeuronConfig(floor=-0.5)) for n in (8, 5)]
    graph, network = read(tmp_path / "layers.nir", layers)
    about = graph.nodes["neurons"].metadata
    assert (about["reset"], about["floor"], about["dt_ms"]) == ("subtract", -0.5, 1.0)
    lif = snntorch.Leaky(network.neurons.beta, reset_mechanism="none")
    pre, v, found = shown(), torch.zeros(PRESENTATIONS, 13), []
    with torch.no_grad():
        for t in range(STEPS):
            spikes, v = lif(network.contacts(pre[t]), v)
            v = (v - spikes).clamp_min(about["floor"])
            found.append(spikes)
    expected = torch.cat([each(pre) for each in layers], dim=2)
    assert torch.equal(torch.stack(found).to(expected), expected)
    assert 500 < expected.sum() < expected.numel() / 2


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_norse_reads_the_spikes(tmp_path: Path, reset: str) -> None:
    """Norse takes r for 1, and its neurons reset to a value, as the documentation says."""
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional.reset import reset_subtract

    unit = snntorch.Leaky(
        beta=torch.tensor(0.9), threshold=torch.tensor(2.0), reset_mechanism="zero",
        reset_delay=False,
    )  # fmt: skip
    own = {"zero": {"neuron": unit, "contact_current": 0.097},
           "subtract": {"neuron": NeuronConfig(floor=-0.5)}}  # fmt: skip
    single = layer(12, 1, **own[reset])
    nir.write(tmp_path / "layer.nir", nir_graph([single]))
    graph = nir.read(tmp_path / "layer.nir")
    neurons, contacts = graph.nodes["neurons"], graph.nodes["contacts"]
    contacts.weight *= neurons.r[:, None]
    neurons.r[:] = 1.0
    network = norse.from_nir(graph, dt=neurons.metadata["step_s"])
    lif = network.get_submodule("neurons")
    if reset == "subtract":
        lif.p = lif.p._replace(reset_method=reset_subtract)
    pre, state, found = shown(), None, []
    with torch.no_grad():
        for t in range(STEPS):
            spikes, state = lif(network.get_submodule("contacts")(pre[t]), state)
            if reset == "subtract":
                state = state._replace(v=state.v.clamp_min(neurons.metadata["floor"]))
            found.append(spikes)
    expected = single(pre)
    assert torch.equal(torch.stack(found), expected.float())
    assert 500 < expected.sum() < expected.numel() / 2


def test_weights_are_net_inputs_in_thresholds_by_hand() -> None:
    """Two of four contacts are functional: 1 - 1/2 and -1/2, over 0.3 sqrt(4 / 4) or 1."""
    small = SilentSynapseLayer(4, 1, neuron=NeuronConfig(threshold=3.0), contacts=SOME)
    small.state.copy_(torch.tensor([[1, 0, 2, 0]], dtype=torch.uint8))
    graph = nir_graph([small])
    assert graph.nodes["contacts"].weight.tolist() == [
        pytest.approx([0.5 / 3, -0.5 / 3, 0.5 / 3, -0.5 / 3])
    ]
    neurons = graph.nodes["neurons"]
    beta = torch.exp(torch.tensor(-1.0 / small.neuron.tau_mem_ms)).item()
    assert neurons.tau[0] == pytest.approx(1e-4 / (1 - beta))
    assert neurons.r[0] * 1e-4 / neurons.tau[0] == pytest.approx(1.0)
    assert graph.edges == [
        ("input", "contacts"), ("contacts", "neurons"), ("neurons", "output")
    ]  # fmt: skip
    assert nir_graph([small], step_s=1e-3).nodes["neurons"].tau[0] == pytest.approx(
        1e-3 / (1 - beta)
    )


def test_what_a_graph_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="no conductances"):
        nir_graph([layer(3, 0, receptors=Receptors())])
    with pytest.raises(ConfigError, match="Synaptic has no NIR node"):
        nir_graph([layer(3, 0, neuron=NeuronConfig(model="synaptic"))])
    with pytest.raises(ConfigError, match="different neurons"):
        nir_graph([layer(3, 0), layer(3, 0, neuron=NeuronConfig(tau_mem_ms=5.0))])


def test_contacts_that_fail_are_refused() -> None:
    failing = ContactConfig(release_probability=0.5)
    own = SilentSynapseLayer(N_PRE, 2, contacts=failing, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ConfigError, match=r"release_probability: .*never fail"):
        nir_graph([own])
