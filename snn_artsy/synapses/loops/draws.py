"""`noise.numbers` of many units in one compiled call."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.synapses.loops.hashing import number
from snn_artsy.synapses.loops.records import Floats
from snn_artsy.synapses.loops.steps import SOURCES


@njit(cache=True, nogil=True)
def fill(start: NDArray[np.uint64], numbers: Floats, sources: int = SOURCES) -> None:
    """Write the numbers of units 0, 1, ... under some keys: start [n], numbers [n, n_units].

    Args:
        sources: Not used; see `SOURCES`.
    """
    for r in range(len(start)):
        key, row = start[r], numbers[r]
        for i in range(len(row)):
            row[i] = number(key, np.uint64(i))
