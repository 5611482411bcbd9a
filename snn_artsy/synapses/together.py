"""Several layers at once: shown the same input together, or each an image of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_tensor
from snn_artsy.synapses import engine_numba, engine_torch
from snn_artsy.synapses.circuit import Contacts, Ongoing, Response, StateEvents
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
    for layer in layers:
        check_kind("layers", layer, SilentSynapseLayer)
    first = layers[0] if layers else None
    if first is None or not all(layer._joins(first) for layer in layers):
        return [layer.respond(pre, draws=draws) for layer in layers]
    pre, _ = first._checked(pre, None)
    circuits = [layer.circuit() for layer in layers]
    parts = zip(*(circuit.contacts for circuit in circuits), strict=True)
    together = replace(circuits[0], contacts=Contacts(*(torch.cat(part) for part in parts)))
    state = engine_torch.begin(together, pre.shape[1])
    whole, _ = engine_numba.transmit(together, state, pre, None)
    sizes = [layer.n_post for layer in layers]
    each = (x.split(sizes, -1) for x in (whole.spikes, whole.membrane, whole.final))
    return [Response(*part) for part in zip(*each, strict=True)]


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
