"""Sums over inputs, and tiles of neurons whose contacts with one input stand together."""

from __future__ import annotations

import numpy as np

from snn_artsy.observer import SILENT
from snn_artsy.synapses.loops.inner import inner
from snn_artsy.synapses.loops.records import FAST, Floats, Indices

# For sums over inputs on top of what all loops may do.
REORDERED = {*FAST, "reassoc"}

# Inputs whose contacts change at a time: with a tile of neurons they stay in L1.
COLUMNS = 16

_SILENT = np.float32(SILENT)


# Numba compiles a loop in a fraction of the time that its own assignment of slices takes, `any`,
# `sum` or `copy`; the machine code is the same.


@inner()
def fill(values: Floats, number: np.float32) -> None:
    for i in range(len(values)):
        values[i] = number


@inner()
def copy(source: Floats, to: Floats) -> None:
    for i in range(len(to)):
        to[i] = source[i]


@inner()
def any_set(values: Floats) -> bool:
    found = False
    for i in range(len(values)):
        found |= bool(values[i] != np.float32(0.0))
    return found


@inner(fastmath=FAST)
def add(sums: Floats, factor: np.float32, values: Floats) -> None:
    for i in range(len(sums)):
        sums[i] += factor * values[i]


@inner(fastmath=FAST)
def scatter(sums: Floats, factor: np.float32, where: Indices, values: Floats) -> None:
    for e in range(len(where)):
        sums[where[e]] += factor * values[e]


@inner(fastmath=FAST)
def scatter_rows(sums: Floats, factors: Floats, where: Indices, values: Floats) -> None:
    """`scatter` for as many neurons as there are factors."""
    width = len(factors)
    for e in range(len(where)):
        k, value = where[e] * width, values[e]
        for j in range(width):
            sums[k + j] += factors[j] * value


@inner(fastmath=REORDERED)
def sum_at(values: Floats, where: Indices) -> np.float32:
    total = np.float32(0.0)
    for e in range(len(where)):
        total += values[where[e]]
    return total


@inner(fastmath=REORDERED)
def sum_open(ampa: Floats, state: Floats, where: Indices) -> np.float32:
    total = np.float32(0.0)
    for e in range(len(where)):
        i = where[e]
        total += ampa[i] if state[i] != _SILENT else np.float32(0.0)
    return total


@inner(fastmath=REORDERED)
def count_open(state: Floats, where: Indices) -> np.float32:
    count = np.float32(0.0)
    for e in range(len(where)):
        count += np.float32(1.0) if state[where[e]] != _SILENT else np.float32(0.0)
    return count


@inner(fastmath=FAST)
def sum_rows(
    sums: Floats, ampa: Floats, state: Floats, where: Indices, graded: bool, stateless: bool
) -> None:
    """`sum_at`, `sum_open` or `count_open` for as many neurons as there are sums."""
    width, zero, one = len(sums), np.float32(0.0), np.float32(1.0)
    fill(sums, zero)
    for e in range(len(where)):
        k = where[e] * width
        if stateless:
            for j in range(width):
                sums[j] += ampa[k + j]
        elif graded:
            for j in range(width):
                sums[j] += ampa[k + j] if state[k + j] != _SILENT else zero
        else:
            for j in range(width):
                sums[j] += one if state[k + j] != _SILENT else zero


@inner(fastmath=FAST)
def add_products(sums: Floats, factors: Floats, values: Floats, i: int) -> None:
    """To the ``sums`` of some inputs from i on: of all presentations, factors [B, neurons] times
    values [B, n]. Eight at a time are added, one after the other."""
    n_batch, width = factors.shape
    n, whole = len(sums) // width, n_batch - n_batch % 8
    for b in range(0, whole, 8):
        for k in range(n):
            x0, x1, x2, x3 = (
                values[b, i + k], values[b + 1, i + k], values[b + 2, i + k], values[b + 3, i + k],
            )  # fmt: skip
            x4, x5, x6, x7 = (
                values[b + 4, i + k], values[b + 5, i + k], values[b + 6, i + k],
                values[b + 7, i + k],
            )  # fmt: skip
            for j in range(width):
                sums[k * width + j] = (
                    sums[k * width + j] + x0 * factors[b, j] + x1 * factors[b + 1, j]
                    + x2 * factors[b + 2, j] + x3 * factors[b + 3, j] + x4 * factors[b + 4, j]
                    + x5 * factors[b + 5, j] + x6 * factors[b + 6, j] + x7 * factors[b + 7, j]
                )  # fmt: skip
    for b in range(whole, n_batch):
        for k in range(n):
            x0 = values[b, i + k]
            for j in range(width):
                sums[k * width + j] += x0 * factors[b, j]


@inner()
def pack(rows: Floats, flat: Floats) -> None:
    """Transpose rows [neurons, n_pre]; some inputs at a time, so that they stay in the cache."""
    width, n = len(rows), len(flat) // len(rows)
    for i in range(0, n, COLUMNS):
        for j in range(width):
            for k in range(i, min(i + COLUMNS, n)):
                flat[k * width + j] = rows[j, k]


@inner()
def unpack(flat: Floats, rows: Floats) -> None:
    width, n = len(rows), len(flat) // len(rows)
    for i in range(0, n, COLUMNS):
        for j in range(width):
            for k in range(i, min(i + COLUMNS, n)):
                rows[j, k] = flat[k * width + j]
