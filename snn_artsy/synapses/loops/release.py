"""What is released at many contacts, drawn and summed up in one compiled call."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.synapses.loops.hashing import number
from snn_artsy.synapses.loops.records import Floats, InputSpikes
from snn_artsy.synapses.loops.steps import SOURCES


@njit(cache=True, nogil=True)
def drive(
    spikes: InputSpikes, chances: Floats, start: NDArray[np.uint64], weights: Floats,
    first_neuron: int, total: Floats, sources: int = SOURCES,
) -> None:  # fmt: skip
    """Add the weights of what releases to ``total`` [T * B, n_post]; shut contacts draw nothing.

    Args:
        chances: [T * B, n_sites]. start: Keys of `noise.numbers`, [T * B].
        weights: [n_sites, n_post]: an input's contacts stand together.
        sources: Not used; see `SOURCES`.
    """
    n_sites, n_post = weights.shape
    for r in range(len(total)):
        for e in range(spikes.start[r], spikes.start[r + 1]):
            i = np.int64(spikes.where[e])
            for j in range(n_post):
                if weights[i, j] == np.float32(0.0):
                    continue
                unit = np.uint64((first_neuron + j) * n_sites + i)
                if number(start[r], unit) < chances[r, i]:
                    total[r, j] += weights[i, j]
