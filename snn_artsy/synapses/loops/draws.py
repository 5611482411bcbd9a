"""`noise.numbers` of many units in one compiled call."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.synapses.loops.records import Floats

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _40 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(40)
_SCALE = np.float32(2.0**-24)


@njit(cache=True, nogil=True)
def fill(start: NDArray[np.uint64], numbers: Floats) -> None:
    """Write the numbers of units 0, 1, ... under some keys: start [n], numbers [n, n_units]."""
    for r in range(len(start)):
        key, row = start[r], numbers[r]
        for i in range(len(row)):
            x = key + np.uint64(i + 1) * _GOLDEN
            x = (x ^ (x >> _30)) * _MIX_1
            x = (x ^ (x >> _27)) * _MIX_2
            x = x ^ (x >> _31)
            row[i] = np.float32(np.int64(x >> _40)) * _SCALE
