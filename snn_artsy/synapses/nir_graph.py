"""Spiking sub-networks as a graph of the Neuromorphic Intermediate Representation (NIR).

NIR (Pedersen et al. 2024, Nature Communications 15:8122) describes networks that have learnt, for
simulators and neuromorphic chips. It needs the package ``nir``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import snntorch
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.synapses import engine_torch
from snn_artsy.synapses.layer import SilentSynapseLayer

if TYPE_CHECKING:
    import nir

SNNTORCH_STEP_S = 1e-4
"""The time step by which snnTorch reads the time constants of a NIR graph."""


def nir_graph(
    layers: Sequence[SilentSynapseLayer], step_s: float = SNNTORCH_STEP_S
) -> nir.NIRGraph:
    """Layers with the same input, as they transmit now, as one population of a NIR graph.

    Its nodes are ``input`` -> ``contacts`` (Affine) -> ``neurons`` (LIF) -> ``output``.
    Weights are net inputs in thresholds, inhibition included: 0 or less where a contact is silent
    or there is none. Thresholds are 1.

    Args:
        step_s: What a step of the layers is in the graph's time (s), in which tau = step_s / (1 -
            beta): a reader that takes this step by Euler's rule has the layers' own decay.

    Returns:
        The graph; the metadata of ``neurons`` say what its LIF, which resets to 0, cannot:
        ``reset`` (that of a layer's own neurons is ``subtract``), their membrane's ``floor`` in
        thresholds, and ``dt_ms``.

    Raises:
        ConfigError: Conductances, contacts that can fail, other neurons than leaky ones, layers
            that differ, or there is no package ``nir``.
    """
    try:
        import nir
    except ImportError as error:
        raise ConfigError("to", "nir is not installed; pip install 'snn-artsy[nir]'") from error
    weights = np.concatenate([_net_weights(layer) for layer in layers])
    kinds = {tuple(_dynamics(layer).items()) for layer in layers}
    if len(kinds) != 1:
        raise ConfigError("to", "layers of different neurons are no population; give them apart")
    neurons = dict(kinds.pop())
    n_post, n_pre = weights.shape
    tau = np.full(n_post, step_s / (1.0 - neurons.pop("beta")))
    nodes = {
        "input": nir.Input({"input": np.array([n_pre])}),
        "contacts": nir.Affine(weights, np.zeros(n_post)),
        "neurons": nir.LIF(
            tau=tau,
            r=tau / step_s,  # so that a current of one threshold is one threshold in one step
            v_leak=np.zeros(n_post),
            v_threshold=np.ones(n_post),
            metadata=neurons | {"step_s": step_s},
        ),
        "output": nir.Output({"output": np.array([n_post])}),
    }
    order = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(order)))


def _net_weights(layer: SilentSynapseLayer) -> Any:
    """Net input of a spike in thresholds, float64 [n_post, n_pre]."""
    if layer.contacts.fails:
        raise ConfigError(
            "snn.contacts.release_probability", "a NIR graph's contacts never fail: use 1"
        )
    circuit = layer.circuit()
    weights = engine_torch.transmitted(circuit)
    if circuit.unit is not None:
        return _per_input(layer, weights * circuit.contact_current)
    balance, threshold = engine_torch.balance_and_threshold(circuit, weights)
    inhibited = balance[:, None] * circuit.contacts.exists
    return _per_input(layer, (weights - inhibited) / threshold[:, None])


def _per_input(layer: SilentSynapseLayer, weights: Tensor) -> Any:
    """What all contacts of an input do together: [n_post, n_sites] -> float64 [n_post, n_pre]."""
    return weights.double().unflatten(1, (layer.n_pre, -1)).sum(2).cpu().numpy()


def _dynamics(layer: SilentSynapseLayer) -> dict[str, Any]:
    unit = engine_torch.neuron_of(layer.circuit(), layer.ampa.new_ones(layer.n_post))
    if layer.receptors is not None:
        raise ConfigError("snn.fidelity", "a NIR graph has no conductances: use current")
    if not isinstance(unit, snntorch.Leaky):
        raise ConfigError("snn.neuron.model", f"{type(unit).__name__} has no NIR node here: leaky")
    beta = torch.as_tensor(unit.beta).double()
    if not bool((beta == beta.mean()).all()) or not 0 <= float(beta.mean()) < 1:
        raise ConfigError("neuron.beta", "use one number below 1 for all neurons")
    known = {"beta": float(beta.mean()), "dt_ms": layer.dt_ms}
    if layer.unit is not None:
        return known | {"reset": str(unit.reset_mechanism)}
    return known | {"reset": "subtract", "floor": layer.neuron.floor}
