"""Samples some at a time, so that memory does not grow with their number."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 4096
"""Samples at a time. Sums over more than that can differ in their last bits if it changes."""


def chunks(n: int) -> Iterator[slice]:
    """Parts of ``n`` samples, in order."""
    return (slice(start, start + ROWS) for start in range(0, n, ROWS))


def rows_of(array: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows of an array, copied.

    Of a memory map the pages that were read are given back, some samples at a time: as long as it
    is open they would count as this process's memory, in the end with the whole file.
    """
    mapped: mmap.mmap | None = getattr(array, "_mmap", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return array[index]
    taken = np.empty((len(index), *array.shape[1:]), array.dtype)
    for rows in chunks(len(index)):
        taken[rows] = array[index[rows]]
        mapped.madvise(mmap.MADV_DONTNEED)
    return taken
