"""What is released at many contacts, drawn and summed up in one compiled call."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.synapses.loops.records import Floats, InputSpikes

_GOLDEN, _ONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _40 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(40)
_SCALE = np.float32(2.0**-24)


@njit(cache=True, nogil=True)
def drive(
    spikes: InputSpikes, chances: Floats, start: NDArray[np.uint64], weights: Floats,
    first_neuron: int, total: Floats,
) -> None:  # fmt: skip
    """Add the weights of what releases to ``total`` [T * B, n_post]; shut contacts draw nothing.

    Args:
        chances: [T * B, n_sites]. start: Keys of `noise.numbers`, [T * B].
        weights: [n_sites, n_post]: an input's contacts stand together.
    """
    n_sites, n_post = weights.shape
    for r in range(len(total)):
        for e in range(spikes.start[r], spikes.start[r + 1]):
            i = np.int64(spikes.where[e])
            for j in range(n_post):
                if weights[i, j] == np.float32(0.0):
                    continue
                unit = np.uint64((first_neuron + j) * n_sites + i)
                x = start[r] + (unit + _ONE) * _GOLDEN
                x = (x ^ (x >> _30)) * _MIX_1
                x = (x ^ (x >> _27)) * _MIX_2
                x = x ^ (x >> _31)
                if np.float32(x >> _40) * _SCALE < chances[r, i]:
                    total[r, j] += weights[i, j]
