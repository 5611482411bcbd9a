"""One number of `noise.numbers`, for compiled code."""

from __future__ import annotations

import numpy as np

from snn_artsy.synapses.loops.inner import inner

_GOLDEN, _ONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(1)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _40 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(40)
_SCALE = np.float32(2.0**-24)


@inner()
def number(start: np.uint64, unit: np.uint64) -> np.float32:
    """A uniform number from [0, 1) of a unit under a key (SplitMix64; Steele, Lea & Flood 2014)."""
    x = start + (unit + _ONE) * _GOLDEN
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    x = x ^ (x >> _31)
    return np.float32(np.int64(x >> _40)) * _SCALE
