"""Several layers at once: shown the same input together, or each an image of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_tensor
from snn_artsy.synapses import engine_numba, engine_torch
from snn_artsy.synapses.circuit import Circuit, Contacts, Ongoing, Response, StateEvents
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.population import check_kind
from snn_artsy.synapses.release import Draws


def respond_together(
    layers: Sequence[SilentSynapseLayer], pre: Tensor, draws: Draws | None = None
) -> list[Response]:
    """``[layer.respond(pre, draws=draws) for layer in layers]``, one product and one integration
    for all.

    Sub-networks do not see each other, so that their neurons can be integrated as one population.
    Where sums would not be exact (graded transmission), and for neurons, receptors and contacts
    that fail, which cannot be joined, the layers answer one by one.
    """
    return Joined(layers).respond(pre, draws)


class Joined:
    """Layers that are shown the same inputs again and again (`respond_together`): what follows from
    their contacts alone is made once, for the contacts as they are now.

    Attributes:
        fan_out: Contacts of each site that transmit, float [n_sites].
    """

    def __init__(self, layers: Sequence[SilentSynapseLayer]) -> None:
        for layer in layers:
            check_kind("layers", layer, SilentSynapseLayer)
        self.layers = tuple(layers)
        first = layers[0] if layers else None
        self._circuit: Circuit | None = None
        if first is None or not all(layer._joins(first) for layer in layers):
            return
        circuits = [layer.circuit() for layer in layers]
        self._about = _about(layers)
        parts = zip(*(circuit.contacts for circuit in circuits), strict=True)
        contacts = Contacts(*(torch.cat(part) for part in parts))
        self._circuit = replace(circuits[0], contacts=contacts)
        self._weights = engine_torch.transmitted(self._circuit)
        self._balanced = engine_torch.balance_and_threshold(self._circuit, self._weights)

    def holds(self, layers: Sequence[SilentSynapseLayer]) -> bool:
        """Whether it was made of these layers, and neither their contacts nor what they are has
        changed since."""
        circuit, same = self._circuit, [id(x) for x in layers] == [id(x) for x in self.layers]
        if circuit is None or not same or _about(layers) != self._about:
            return False
        sizes = [layer.n_post for layer in layers]
        kept = (circuit.contacts.exists.split(sizes), circuit.contacts.state.split(sizes))
        return all(
            torch.equal(layer.exists, exists) and torch.equal(layer.state, state)
            for layer, exists, state in zip(layers, *kept, strict=True)
        )

    @cached_property
    def fan_out(self) -> Tensor:
        if self._circuit is not None:
            return (self._weights != 0).sum(0).float()
        return torch.stack([(x.transmitted() != 0).sum(0) for x in self.layers]).sum(0).float()

    def respond(self, pre: Tensor, draws: Draws | None = None) -> list[Response]:
        """`respond_together`."""
        circuit = self._circuit
        if circuit is None:
            return [layer.respond(pre, draws=draws) for layer in self.layers]
        pre, _ = self.layers[0]._checked(pre, None)
        state = engine_torch.begin(circuit, pre.shape[1], self._balanced)
        whole, _ = engine_numba.transmit(circuit, state, pre, None, weights=self._weights)
        sizes = [layer.n_post for layer in self.layers]
        each = (x.split(sizes, -1) for x in (whole.spikes, whole.membrane, whole.final))
        return [Response(*part) for part in zip(*each, strict=True)]


def _about(layers: Sequence[SilentSynapseLayer]) -> list[Any]:
    """What an answer depends on beside the contacts."""
    return [
        (x.neuron, x.contacts, x.dt_ms, x._joins(layers[0]), x.ampa.dtype, x.ampa.device)
        for x in layers
    ]


def simulate_apart(
    layers: Sequence[SilentSynapseLayer],
    pre: Tensor,
    current: Tensor | None = None,
    states: Sequence[Ongoing] | None = None,
) -> list[tuple[Response, Ongoing, StateEvents]]:
    """`SilentSynapseLayer.simulate` where each image has contacts of its own.

    Layer b is shown image b alone, so that nothing is shared; each takes the engine that it would
    take by itself, and they run side by side in as many threads as torch uses::

        layers = [copy.deepcopy(layer) for _ in range(pre.shape[1])]
        answers = simulate_apart(layers, pre)

    Args:
        layers: One for each image, all of them different objects.
        pre: Spikes, [T, B, n_pre]. current: In thresholds, [T, B, n_post].
        states: Where the last piece ended, one for each layer; None: at rest.

    Raises:
        TypeError, ValueError: As for `SilentSynapseLayer.simulate`; there are not as many layers,
            or states, as images, or a layer comes twice.
    """
    for layer in layers:
        check_kind("layers", layer, SilentSynapseLayer)
    n = len({id(layer) for layer in layers})
    if n != len(layers):
        raise ValueError(f"layers: expected {len(layers)} different ones, given {n}; copy them")
    sizes: Sizes = {"B": n}
    if n:
        check_tensor("pre", pre, "T B n_pre", sizes, layers[0].ampa)
    if current is not None and n:
        check_tensor("current", current, "T B n_post", sizes, layers[0].ampa)
    if states is not None and len(states) != n:
        raise ValueError(f"states: expected {n}, one for each layer, given {len(states)}")

    pieces = []  # all are looked at before a layer learns
    for b, layer in enumerate(layers):
        shown, state = slice(b, b + 1), None if states is None else states[b]
        at_b = None if current is None else current[:, shown]
        pieces.append(layer._checked_piece(pre[:, shown], at_b, state))

    def one(b: int) -> tuple[Response, Ongoing, StateEvents]:
        return layers[b]._simulated(*pieces[b])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(one, range(n)))
