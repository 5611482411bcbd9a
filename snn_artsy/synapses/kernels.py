"""Compiled loops of pair-based STDP with a weight update in every step, on the CPU (Numba).

What they compute is `online.learn_step_by_step`, the torch path that they are tested against. A
neuron's weights depend on no other neuron's, so a tile of a few neurons runs through all steps with
its weights in the cache. Weights of a tile lie as [n_pre, tile], so a presynaptic spike is one
vector operation on one row. Work grows with the number of spikes, not with that of weights.

Arrays are C-contiguous float32. Results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numba import njit, prange
from numba.core.config import NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set at import
from numpy.typing import NDArray

from snn_artsy.arrays import Sizes, check_array
from snn_artsy.rules import PairSTDP
from snn_artsy.rules.base import decay

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Answer = tuple[Floats, Floats, Floats]

# No NaN or infinity can arise from clipped weights, which lets min and max be vector instructions;
# sums keep their order.
FAST = {"nnan", "ninf", "nsz", "contract"}

# Neurons of a tile: four AVX-512 vectors; 768 inputs of them (192 KiB) stay in a core's L2 cache.
TILE = 64
# With shared weights loops over a tile are short beside what surrounds them; 576 KiB at 768 inputs.
SHARED_TILE = 192

# Lazy potentiation is a difference of sums that are scaled by exp(t/tau) from a block's start; over
# so many time constants that costs no precision that plain float32 has.
BLOCK_TAUS = 2.0

# Inputs whose potentiation is gathered at a time, one neuron's beside each other: long loops. The
# padding keeps one input's values in a column of different cache sets.
GAIN_BLOCK = 768
GAIN_PADDING = 16
# Columns of it that are transposed at a time.
COLUMNS = 8

SMALLEST = float(np.finfo(np.float32).tiny)

BOUNDS = {"additive": 0, "soft": 1, "van_rossum": 2, "power_law": 3}
ADDITIVE, SOFT, VAN_ROSSUM, POWER_LAW = range(4)


class Constants(NamedTuple):
    """Numbers of a run, float32 but for ``bounds`` and ``nearest``.

    Args:
        a_plus, a_minus: Of the rule. keep_x, keep_y: exp(-dt/tau) of the traces.
        bounds: One of `BOUNDS`. nearest: Traces are set to 1 by a spike, not raised by 1.
        power, mu, w_floor: power_law potentiates by power * max(w, w_floor)^mu.
        beta: Decay of the membrane in a step. gain: Of a spike through a weight of 1, in
            thresholds. floor: Lowest membrane, in thresholds.
    """

    a_plus: np.float32
    a_minus: np.float32
    keep_x: np.float32
    keep_y: np.float32
    bounds: int
    nearest: bool
    power: np.float32
    mu: np.float32
    w_floor: np.float32
    beta: np.float32
    gain: np.float32
    floor: np.float32


def constants(rule: PairSTDP, dt_ms: float, beta: float, gain: float, floor: float) -> Constants:
    """Numbers of the kernels for a rule and a leaky neuron."""
    f = np.float32
    return Constants(
        f(rule.a_plus), f(rule.a_minus),
        f(decay(dt_ms, rule.tau_plus_ms)), f(decay(dt_ms, rule.tau_minus_ms)),
        BOUNDS[rule.bounds_of], rule.pairing == "nearest",
        f(rule.w_reference ** (1.0 - rule.mu)), f(rule.mu), f(rule.w_floor),
        f(beta), f(gain), f(floor),
    )  # fmt: skip


def set_threads(n_threads: int) -> None:
    """Let the kernels use as many threads as torch does, as far as Numba started so many."""
    numba.set_num_threads(max(1, min(n_threads, NUMBA_NUM_THREADS)))


def learn_private(w: Floats, pre: Floats, current: Floats, c: Constants) -> Answer:
    """Show presentations pre [T, B, n_pre], current [T, B, n_post] to weights of their own.

    ``w`` [B, n_post, n_pre] changes in place; returns spikes and membranes [T, B, n_post] and the
    last membranes [B, n_post].

    Raises:
        TypeError, ValueError: An array is not C-contiguous float32 or does not fit the others.
    """
    _check(w, pre, current, "B n_post n_pre")
    n_steps, n_batch, n_pre = pre.shape
    answer = _answer(current)
    if c.bounds in (ADDITIVE, VAN_ROSSUM):
        start, where = spike_list(pre.reshape(-1, n_pre))
        tile = _tile(w.shape[1], n_batch, TILE)
        _private_lazy(w, start, where, current, *answer, c, _block(c, n_steps), tile)
        return answer
    for b in range(n_batch):
        one = slice(b, b + 1)
        part = learn_shared(
            w[b], np.ascontiguousarray(pre[:, one]), np.ascontiguousarray(current[:, one]), c
        )
        answer[0][:, one], answer[1][:, one], answer[2][one] = part
    return answer


def learn_shared(w: Floats, pre: Floats, current: Floats, c: Constants) -> Answer:
    """`learn_private` for weights w [n_post, n_pre] that a batch shares: changes are summed over it
    in every step."""
    _check(w, pre, current, "n_post n_pre")
    answer = _answer(current)
    by_input, by_batch = spikes_by_input(pre), spike_list(pre.reshape(-1, pre.shape[2]))
    block = _block(c, len(pre))
    _shared(w, *by_input, *by_batch, current, *answer, c, block, _tile(w.shape[0], 1, SHARED_TILE))
    return answer


def _check(w: Floats, pre: Floats, current: Floats, axes: str) -> None:
    """The loops below trust these sizes."""
    sizes: Sizes = {}
    check_array("pre", pre, "float32", "T B n_pre", sizes)
    check_array("current", current, "float32", "T B n_post", sizes)
    check_array("w", w, "float32", axes, sizes)


def _answer(current: Floats) -> Answer:
    return np.empty_like(current), np.empty_like(current), np.empty_like(current[0])


def _block(c: Constants, n_steps: int) -> int:
    """Steps between which presynaptic traces are scaled anew."""
    if c.keep_x == np.float32(1.0):  # a trace that float32 cannot see decay
        return n_steps
    return min(n_steps, max(1, int(-BLOCK_TAUS / math.log(max(float(c.keep_x), SMALLEST)))))


def _tile(n_post: int, n_batch: int, most: int) -> int:
    """Neurons of a tile: fewer where there would be less than one tile a thread."""
    share = -(-n_post * n_batch // numba.get_num_threads())
    return max(1, min(most, share))


@njit(cache=True)
def _scales(keep: np.float32, block: int) -> Floats:
    """keep^k for k = 0..block."""
    scale = np.empty(block + 1, np.float32)
    for k in range(block + 1):
        scale[k] = math.pow(keep, k)
    return scale


@njit(cache=True, parallel=True)
def spike_list(spikes: Floats) -> tuple[Integers, NDArray[np.int32]]:
    """Spikes [N, n] as positions: those of row r are where[start[r] : start[r + 1]], in order."""
    n_rows, n = spikes.shape
    start = np.zeros(n_rows + 1, np.int64)
    for r in prange(n_rows):
        count = 0
        for i in range(n):
            count += spikes[r, i] != 0.0
        start[r + 1] = count
    for r in range(n_rows):
        start[r + 1] += start[r]
    where = np.empty(start[n_rows], np.int32)
    for r in prange(n_rows):
        k = start[r]
        for i in range(n):
            if spikes[r, i] != 0.0:
                where[k] = i
                k += 1
    return start, where


@njit(cache=True, parallel=True)
def spikes_by_input(
    pre: Floats,
) -> tuple[Integers, NDArray[np.int32], NDArray[np.int32]]:
    """Spikes [T, B, n_pre] as lists of inputs and presentations: those of step t are at start[t] to
    start[t + 1], in the order of inputs."""
    n_steps, n_batch, n_pre = pre.shape
    start = np.zeros(n_steps + 1, np.int64)
    for t in prange(n_steps):
        count = 0
        for b in range(n_batch):
            for i in range(n_pre):
                count += pre[t, b, i] != 0.0
        start[t + 1] = count
    for t in range(n_steps):
        start[t + 1] += start[t]
    inputs, batch = np.empty(start[n_steps], np.int32), np.empty(start[n_steps], np.int32)
    for t in prange(n_steps):
        k = start[t]
        for i in range(n_pre):
            for b in range(n_batch):
                if pre[t, b, i] != 0.0:
                    inputs[k], batch[k] = i, b
                    k += 1
    return start, inputs, batch


@njit(cache=True, inline="always")
def _fire(
    drive: Floats, current: Floats, v: Floats, spikes: Floats, membrane: Floats, c: Constants
) -> None:
    """One step of a leaky integrate-and-fire neuron, threshold 1, reset by subtraction."""
    for p in range(len(v)):
        peak = c.beta * v[p] + c.gain * drive[p] + current[p]
        fired = np.float32(1.0) if peak > np.float32(1.0) else np.float32(0.0)
        spikes[p] = fired
        membrane[p] = peak
        v[p] = max(peak - fired, c.floor)


@njit(cache=True, parallel=True, fastmath=FAST)
def _private_lazy(
    w: Floats,
    start: Integers,
    where: NDArray[np.int32],
    current: Floats,
    spikes: Floats,
    membrane: Floats,
    final: Floats,
    c: Constants,
    block: int,
    tile: int,
) -> None:
    """Weights w [B, n_post, n_pre] of each presentation's own; ``bounds`` additive or van_rossum.

    Potentiation is lazy: a weight that no presynaptic spike reaches only grows, by
    a_plus x_i(t) at each postsynaptic spike, and nobody reads it before the next presynaptic spike.
    With Z_j(t) = sum of keep_x^t' over j's spikes up to t, its growth between two presynaptic
    spikes at s and t is a_plus x_i(s) keep_x^-s (Z_j(t) - Z_j(s)): one vector operation whatever
    the number of postsynaptic spikes. Clipping once is exact, since growth has one sign.

    Args:
        start, where: `spike_list` of presynaptic spikes [T * B, n_pre].
        current, spikes, membrane: [T, B, n_post]; the last two are written.
        final: Membrane after the last step, [B, n_post], written.
        block: Steps after which Z starts anew. tile: Neurons of a tile.
    """
    n_batch, n_post, n_pre = w.shape
    n_steps = len(spikes)
    tiles = (n_post + tile - 1) // tile
    zero, one = np.float32(0.0), np.float32(1.0)
    scale = _scales(c.keep_x, block)
    for job in prange(n_batch * tiles):
        b, first = job // tiles, (job % tiles) * tile
        size = min(tile, n_post - first)
        a = np.empty((n_pre, size), np.float32)
        for p in range(size):
            for i in range(n_pre):
                a[i, p] = w[b, first + p, i]
        v, y, drive = (
            np.zeros(size, np.float32),
            np.zeros(size, np.float32),
            np.empty(size, np.float32),
        )
        # row 0: before the block; row l + 1: step l of it
        z = np.zeros((block + 1, size), np.float32)
        fired = np.zeros((block + 1, size), np.float32)
        seen = np.zeros(n_pre, np.int64)  # row of z up to which a[i] is up to date
        x = np.zeros(n_pre, np.float32)  # presynaptic trace after that step, over keep_x^l
        pending = np.zeros(n_pre, np.float32)  # potentiation by a spike in that same step
        for origin in range(0, n_steps, block):
            length = min(block, n_steps - origin)
            for k in range(length):
                t = origin + k
                row = t * n_batch + b
                drive[:] = zero
                for e in range(start[row], start[row + 1]):
                    i = where[e]
                    held, again, s = pending[i], c.a_plus * x[i], seen[i]
                    if c.bounds == ADDITIVE:
                        for p in range(size):
                            u = min(max(a[i, p] + held * fired[s, p], zero), one)
                            u = min(u + again * (z[k, p] - z[s, p]), one)
                            drive[p] += u
                            a[i, p] = u - c.a_minus * y[p]
                    else:
                        for p in range(size):
                            u = min(max(a[i, p] + held * fired[s, p], zero), one)
                            u = min(u + again * (z[k, p] - z[s, p]), one)
                            drive[p] += u
                            a[i, p] = u - c.a_minus * y[p] * u
                    before = x[i] * scale[k]
                    pending[i] = c.a_plus * before
                    x[i] = (one if c.nearest else before + one) / scale[k]
                    seen[i] = k + 1
                out = spikes[t, b, first : first + size]
                _fire(
                    drive,
                    current[t, b, first : first + size],
                    v,
                    out,
                    membrane[t, b, first : first + size],
                    c,
                )
                for p in range(size):
                    fired[k + 1, p] = out[p]
                    z[k + 1, p] = z[k, p] + scale[k] * out[p]
                    raised = y[p] + (out[p] * (one - y[p]) if c.nearest else out[p])
                    y[p] = raised * c.keep_y
            for i in range(n_pre):
                held, again, s = pending[i], c.a_plus * x[i], seen[i]
                for p in range(size):
                    u = min(max(a[i, p] + held * fired[s, p], zero), one)
                    a[i, p] = min(u + again * (z[length, p] - z[s, p]), one)
                x[i] *= scale[length]
                pending[i] = zero
                seen[i] = 0
        for p in range(size):
            for i in range(n_pre):
                w[b, first + p, i] = a[i, p]
            final[b, first + p] = v[p]


# In the loops below, rows are taken out of their arrays first: an index that is a sum of two might
# be negative for all the compiler knows, and then it makes no vector instructions.


@njit(cache=True, inline="always", fastmath=FAST)
def _add_rows(total: Floats, rows: Floats, where: NDArray[np.int32]) -> None:
    """Add to ``total`` the sum of the rows at ``where``, four in one go."""
    k, n = 0, len(where)
    while k + 4 <= n:
        a, b, c, d = rows[where[k]], rows[where[k + 1]], rows[where[k + 2]], rows[where[k + 3]]
        for p in range(len(total)):
            total[p] += (a[p] + b[p]) + (c[p] + d[p])
        k += 4
    while k < n:
        a = rows[where[k]]
        for p in range(len(total)):
            total[p] += a[p]
        k += 1


@njit(cache=True)
def _columns(rows: Floats, first: int, out: Floats) -> None:
    """Eight columns of ``rows`` from ``first`` on, as rows of ``out``."""
    for p in range(out.shape[1]):
        row = rows[p, first : first + COLUMNS]
        out[0, p] = row[0]
        out[1, p] = row[1]
        out[2, p] = row[2]
        out[3, p] = row[3]
        out[4, p] = row[4]
        out[5, p] = row[5]
        out[6, p] = row[6]
        out[7, p] = row[7]


@njit(cache=True, parallel=True, fastmath=FAST)
def _shared(
    w: Floats,
    start: Integers,
    inputs: NDArray[np.int32],
    batch: NDArray[np.int32],
    row_start: Integers,
    where: NDArray[np.int32],
    current: Floats,
    spikes: Floats,
    membrane: Floats,
    final: Floats,
    c: Constants,
    block: int,
    tile: int,
) -> None:
    """Weights w [n_post, n_pre] shared by the batch, changes summed over it in every step.

    Presynaptic traces are kept over keep_x^k, k steps into a block, so that they need no decay.

    Args:
        start, inputs, batch: Presynaptic spikes; those of step t are start[t] to start[t + 1], in
            the order of inputs (`spikes_by_input`).
        row_start, where: The same in the order of presentations (`spike_list` of [T * B, n_pre]).
        current, spikes, membrane: [T, B, n_post]; the last two are written.
        final: Membrane after the last step, [B, n_post], written.
        block: Steps after which traces are scaled anew. tile: Neurons of a tile.
    """
    n_post, n_pre = w.shape
    n_steps, n_batch = spikes.shape[:2]
    zero, one = np.float32(0.0), np.float32(1.0)
    scale = _scales(c.keep_x, block)
    for job in prange((n_post + tile - 1) // tile):
        first = job * tile
        size = min(tile, n_post - first)
        a = np.empty((n_pre, size), np.float32)
        for p in range(size):
            for i in range(n_pre):
                a[i, p] = w[first + p, i]
        v, y = np.zeros((n_batch, size), np.float32), np.zeros((n_batch, size), np.float32)
        drive = np.empty((n_batch, size), np.float32)
        x = np.zeros((n_batch, n_pre), np.float32)
        gain = np.zeros((size, GAIN_BLOCK + GAIN_PADDING), np.float32)
        columns = np.empty((COLUMNS, size), np.float32)
        loss = np.empty(size, np.float32)
        n_spikes = np.empty(size, np.int64)
        spike_batch = np.empty((size, n_batch), np.int32)  # who made each neuron fire
        for t in range(n_steps):
            k = t % block
            if k == 0 and t > 0:
                for b in range(n_batch):
                    trace = x[b]
                    for i in range(n_pre):
                        trace[i] *= scale[block]
            drive[:] = zero
            n_spikes[:] = 0
            for b in range(n_batch):
                r = t * n_batch + b
                _add_rows(drive[b], a, where[row_start[r] : row_start[r + 1]])
                out = spikes[t, b, first : first + size]
                _fire(
                    drive[b],
                    current[t, b, first : first + size],
                    v[b],
                    out,
                    membrane[t, b, first : first + size],
                    c,
                )
                for p in range(size):
                    if out[p] != zero:
                        spike_batch[p, n_spikes[p]] = b
                        n_spikes[p] += 1
            e, end, up = start[t], start[t + 1], c.a_plus * scale[k]
            for i0 in range(0, n_pre, GAIN_BLOCK):
                width = min(GAIN_BLOCK, n_pre - i0)
                for p in range(size):
                    row = gain[p, :width]
                    row[:] = zero
                    _add_rows(row, x[:, i0 : i0 + width], spike_batch[p, : n_spikes[p]])
                for q in range(width):
                    if q % COLUMNS == 0:
                        _columns(gain, q, columns)
                    loss[:] = zero
                    while e < end and inputs[e] == i0 + q:
                        back = y[batch[e]]
                        for p in range(size):
                            loss[p] += back[p]
                        e += 1
                    _apply(a[i0 + q], up, columns[q % COLUMNS], loss, c)
            spike = one / scale[k]
            for e in range(start[t], end):
                i, b = inputs[e], batch[e]
                x[b, i] = spike if c.nearest else x[b, i] + spike
            for b in range(n_batch):
                out, back = spikes[t, b, first : first + size], y[b]
                for p in range(size):
                    raised = back[p] + (out[p] * (one - back[p]) if c.nearest else out[p])
                    back[p] = raised * c.keep_y
        for p in range(size):
            for i in range(n_pre):
                w[first + p, i] = a[i, p]
        for b in range(n_batch):
            for p in range(size):
                final[b, first + p] = v[b, p]


@njit(cache=True, inline="always", fastmath=FAST)
def _apply(w: Floats, up: np.float32, gain: Floats, loss: Floats, c: Constants) -> None:
    """Weights of one input: w <- clip(w + up(w) up gain - a_minus down(w) loss)."""
    zero, one = np.float32(0.0), np.float32(1.0)
    if c.bounds == ADDITIVE:
        for p in range(len(w)):
            u = w[p] + up * gain[p] - c.a_minus * loss[p]
            w[p] = min(max(u, zero), one)
    elif c.bounds == SOFT:
        for p in range(len(w)):
            u = w[p]
            u += up * (one - u) * gain[p] - c.a_minus * u * loss[p]
            w[p] = min(max(u, zero), one)
    elif c.bounds == VAN_ROSSUM:
        for p in range(len(w)):
            u = w[p]
            u += up * gain[p] - c.a_minus * u * loss[p]
            w[p] = min(max(u, zero), one)
    else:
        for p in range(len(w)):
            u = w[p]
            rise = up * c.power * max(u, c.w_floor) ** c.mu
            u += rise * gain[p] - c.a_minus * u * loss[p]
            w[p] = min(max(u, zero), one)
