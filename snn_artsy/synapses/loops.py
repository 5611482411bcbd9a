"""The compiled loop of a spiking layer on the CPU (Numba): all steps of some neurons in one call.

A neuron's contacts depend on no other neuron, given the input: there is feed-forward inhibition and
none between neurons. So each neuron's contacts run through a block of steps while they lie in the
cache, and only those are touched that a spike reaches (`_neuron`). In a batch spikes reach most of
them in every step; there a tile of neurons runs at a time (`_tile`), whose contacts with one input
stand together, so that a spike is a few vector instructions. Functions here release the interpreter
lock; `engine_numba` calls `run` once a thread, for a share of the neurons each.

Arithmetic is float32, in the order of `engine_torch` and without fused operations, so that results
do not depend on how steps are cut into calls, nor on the number of threads. Sums over inputs may
be reordered by the compiler; with one-bit contacts they are sums of integers, hence exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.synapses.records import (
    Contacts,
    Dynamics,
    Floats,
    Given,
    Indices,
    Neuron,
    Plasticity,
    Population,
    Spikes,
    Traces,
)

Table = NDArray[np.int32]

# Floats are kept as floats while the loop runs, so that a contact's numbers are all of one kind.
_SILENT, _FUNCTIONAL = np.float32(SILENT), np.float32(FUNCTIONAL)
_CONSOLIDATED = np.float32(CONSOLIDATED)

# No NaN or infinity can arise from checked input, which lets min and max be vector instructions.
FAST = {"nnan", "ninf", "nsz"}
# For sums over inputs on top.
REORDERED = {"nnan", "ninf", "nsz", "reassoc"}

# Neurons whose contacts run through a block of steps together where a batch is shown, and inputs
# whose contacts change at a time: together they stay in L2, or in L1.
TILE, COLUMNS = 64, 16

# Presynaptic factors of so many numbers are made at a time; with its spikes they stay in L2.
BLOCK = 2**16


# --- spikes ---------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def spike_list(rows: Floats) -> tuple[NDArray[np.int64], Indices]:
    """Where rows [N, n] are not 0: of row r, where[start[r] : start[r + 1]], in order."""
    n_rows, n = rows.shape
    start = np.zeros(n_rows + 1, np.int64)
    for r in range(n_rows):
        count = 0
        for i in range(n):
            count += rows[r, i] != np.float32(0.0)
        start[r + 1] = start[r] + count
    where = np.empty(start[n_rows], np.uint32)
    k = 0
    for r in range(n_rows):
        if start[r + 1] == start[r]:
            continue
        for i in range(n):
            if rows[r, i] != np.float32(0.0):
                where[k] = i
                k += 1
    return start, where


# --- contacts -------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _due(clock: np.float32, set_at: np.float32, t: int, d: Dynamics) -> int:
    """First step after which a functional contact counts as consolidated, at most t."""
    since = np.int64(set_at)
    n = np.int64(math.ceil((d.consolidate_ms - clock) / d.elapsed_ms))
    if n < 1:
        n = np.int64(1)
    while n > 1 and clock + np.float32(n - 1) * d.elapsed_ms >= d.consolidate_ms:
        n -= 1
    while since + n < t and clock + np.float32(n) * d.elapsed_ms < d.consolidate_ms:
        n += 1
    step = int(since + n - 1)
    return step if step < t else t


@njit(cache=True, nogil=True)
def _part(c: Contacts, a: int, z: int) -> Contacts:
    return Contacts(c.ampa[a:z], c.state[a:z], c.clock[a:z], c.exists[a:z], c.since[a:z])


@njit(cache=True, nogil=True, fastmath=FAST)
def _step_all(c: Contacts, gain: Floats, loss: Floats, t: int, d: Dynamics) -> None:
    """Step t of all contacts where they decay, or are fixed once they are consolidated, so that
    each one's state must be known: occupancies, states and clocks.

    What a contact is stands in factors of 0 and 1: they become vector instructions, ten times as
    fast as branches.
    """
    ampa, state, clock, since = c.ampa, c.state, c.clock, c.since
    zero, one, now = np.float32(0.0), np.float32(1.0), np.float32(t)
    for i in range(len(ampa)):
        silent = one if state[i] == _SILENT else zero
        functional = one if state[i] == _FUNCTIONAL else zero
        before = clock[i] + (now - since[i]) * d.elapsed_ms
        due = functional if before >= d.consolidate_ms else zero  # since an earlier step
        fixed = max(one if state[i] == _CONSOLIDATED else zero, due)
        share = (silent + (one - silent) * d.mature) * d.scale
        if d.fixed:
            share *= one - fixed
        change = (one + d.up * ampa[i]) * gain[i] - (d.down_0 + d.down * ampa[i]) * loss[i]
        a = min(max(ampa[i] + share * change, zero), one) * c.exists[i]
        a *= fixed + (one - fixed) * d.kept
        ampa[i] = a
        lasts = zero if a <= d.theta_down else functional
        lasts *= one - fixed
        rises = silent if a >= d.theta_up else zero
        state[i] = (rises + lasts) * _FUNCTIONAL + fixed * _CONSOLIDATED
        # A functional contact's clock stays where it was set; `_note_changes` reads it when the
        # contact is consolidated.
        kept = functional * max(lasts, fixed)
        clock[i] *= kept
        since[i] = since[i] * kept + (now + one) * (one - kept)


@njit(cache=True, nogil=True, fastmath=FAST)
def _change_weights(ampa: Floats, exists: Floats, gain: Floats, loss: Floats, d: Dynamics) -> None:
    """`_change_all` of contacts without states.

    This and `_weaken` are loops of their own because looking at states, even at such as never
    change, makes ordinary synapses a good deal slower.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    for i in range(len(ampa)):
        change = (one + d.up * ampa[i]) * gain[i] - (d.down_0 + d.down * ampa[i]) * loss[i]
        a = min(max(ampa[i] + d.scale * change, zero), one)
        ampa[i] = a * exists[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def _weaken(
    ampa: Floats, exists: Floats, where: Indices, lost: Floats, factor: np.float32, d: Dynamics
) -> None:
    """`_change_at` of contacts without states."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for e in range(len(where)):
        i = where[e]
        w = ampa[i] - d.scale * ((d.down_0 + d.down * ampa[i]) * (factor * lost[e]))
        ampa[i] = min(max(w, zero), one) * exists[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def _change_all(
    ampa: Floats, state: Floats, exists: Floats, gain: Floats, loss: Floats, d: Dynamics
) -> int:
    """Occupancies after a step, where none decays.

    Returns:
        How many contacts change their state by it.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    crossed = np.int32(0)
    for i in range(len(ampa)):
        share = (one if state[i] == _SILENT else d.mature) * d.scale
        change = (one + d.up * ampa[i]) * gain[i] - (d.down_0 + d.down * ampa[i]) * loss[i]
        a = min(max(ampa[i] + share * change, zero), one) * exists[i]
        ampa[i] = a
        rises = (state[i] == _SILENT) & (a >= d.theta_up)
        crossed += np.int32(rises | ((state[i] == _FUNCTIONAL) & (a <= d.theta_down)))
    return int(crossed)


@njit(cache=True, nogil=True, fastmath=FAST)
def _change_at(
    ampa: Floats, state: Floats, exists: Floats, where: Indices, lost: Floats, factor: np.float32,
    d: Dynamics,
) -> int:  # fmt: skip
    """`_change_all` by depression ``factor * lost`` of the contacts at positions ``where``."""
    zero, one = np.float32(0.0), np.float32(1.0)
    crossed = np.int32(0)
    for e in range(len(where)):
        i = where[e]
        share = (one if state[i] == _SILENT else d.mature) * d.scale
        w = ampa[i] - share * ((d.down_0 + d.down * ampa[i]) * (factor * lost[e]))
        w = min(max(w, zero), one) * exists[i]
        ampa[i] = w
        rises = (state[i] == _SILENT) & (w >= d.theta_up)
        crossed += np.int32(rises | ((state[i] == _FUNCTIONAL) & (w <= d.theta_down)))
    return int(crossed)


@njit(cache=True, nogil=True, fastmath=FAST)
def _convert(
    c: Contacts, k: int, t: int, j: int, i: int, d: Dynamics, events: Table, n: int
) -> int:
    """State of contact k, neuron j's with input i, after step t. That it is consolidated is found
    when it would fall silent, or when the call ends; until then its clock is only read."""
    ampa, state, clock, since = c.ampa, c.state, c.clock, c.since
    zero = np.float32(0.0)
    if state[k] == _SILENT and ampa[k] >= d.theta_up:
        state[k], clock[k], since[k] = _FUNCTIONAL, zero, np.float32(t + 1)
        _note(events, n, t, j, i, SILENT, FUNCTIONAL)
        return n + 1
    if state[k] == _FUNCTIONAL and ampa[k] <= d.theta_down and since[k] <= np.float32(t):
        if clock[k] + (np.float32(t) - since[k]) * d.elapsed_ms >= d.consolidate_ms:
            step = _due(clock[k], since[k], t, d)
            state[k], clock[k] = _CONSOLIDATED, zero
            _note(events, n, step, j, i, FUNCTIONAL, CONSOLIDATED)
        else:
            state[k], clock[k] = _SILENT, zero
            _note(events, n, t, j, i, FUNCTIONAL, SILENT)
        return n + 1
    return n


@njit(cache=True, nogil=True)
def _changed(before: Floats, after: Floats) -> int:
    """How many codes differ."""
    n = np.int32(0)
    for i in range(len(before)):
        n += np.int32(1) if before[i] != after[i] else np.int32(0)
    return int(n)


@njit(cache=True, nogil=True)
def _note_change(
    c: Contacts, k: int, t: int, j: int, i: int, before: np.float32, d: Dynamics, events: Table,
    n: int,
) -> int:  # fmt: skip
    """What `_step_all` made of contact k; one that is consolidated gives up its clock."""
    if before == c.state[k]:
        return n
    step = t
    if c.state[k] == _CONSOLIDATED:
        step = _due(c.clock[k], c.since[k], t, d)
        c.clock[k], c.since[k] = np.float32(0.0), np.float32(t + 1)
    _note(events, n, step, j, i, int(before), int(c.state[k]))
    return n + 1


@njit(cache=True, nogil=True)
def _room(events: Table, n: int, more: int) -> Table:
    """``events`` [most, 5] with room for ``more`` after the first n."""
    if n + more <= len(events):
        return events
    larger = np.empty((2 * (n + more), 5), np.int32)
    larger[:n] = events[:n]
    return larger


@njit(cache=True, nogil=True)
def _note(events: Table, n: int, t: int, j: int, i: int, old: int, new: int) -> None:
    events[n, 0], events[n, 1], events[n, 2], events[n, 3], events[n, 4] = t, j, i, old, new


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _change(
    c: Contacts, gain: Floats, loss: Floats, j0: int, i0: int, width: int, t: int, d: Dynamics,
    events: Table, n: int,
) -> tuple[Table, int]:  # fmt: skip
    """Step t of contacts with states, of ``width`` neurons from j0 on with inputs from i0 on."""
    if d.kept == np.float32(1.0) and not d.fixed:
        crossed = _change_all(c.ampa, c.state, c.exists, gain, loss, d)
        if crossed > 0:  # in few steps
            events = _room(events, n, crossed)
            for k in range(len(c.state)):
                n = _convert(c, k, t, j0 + k % width, i0 + k // width, d, events, n)
    else:
        before = c.state.copy()
        _step_all(c, gain, loss, t, d)
        n_changed = _changed(before, c.state)
        if n_changed > 0:
            events = _room(events, n, n_changed)
            for k in range(len(c.state)):
                j, i = j0 + k % width, i0 + k // width
                n = _note_change(c, k, t, j, i, before[k], d, events, n)
    return events, n


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _weigh(gain: Floats, ampa: Floats, d: Dynamics) -> None:
    """A power of the occupancy that potentiation goes with."""
    for i in range(len(gain)):
        gain[i] *= d.power * max(ampa[i], d.floor) ** d.mu


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _settle(j: int, t: int, contacts: Contacts, d: Dynamics, events: Table, n_events: int) -> int:
    """Consolidate what is due before step t."""
    state, clock, since = contacts.state[j], contacts.clock[j], contacts.since[j]
    for i in range(len(state)):
        if state[i] == _FUNCTIONAL:
            now = clock[i] + (np.float32(t) - since[i]) * d.elapsed_ms
            if now >= d.consolidate_ms:
                step = _due(clock[i], since[i], t, d)
                _note(events, n_events, step, j, i, FUNCTIONAL, CONSOLIDATED)
                n_events += 1
                state[i], clock[i], since[i] = _CONSOLIDATED, np.float32(0.0), np.float32(t)
    return n_events


# --- sums -----------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=FAST)
def _add(sums: Floats, factor: np.float32, values: Floats) -> None:
    for i in range(len(sums)):
        sums[i] += factor * values[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def _scatter(sums: Floats, factor: np.float32, where: Indices, values: Floats) -> None:
    for e in range(len(where)):
        sums[where[e]] += factor * values[e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _scatter_rows(sums: Floats, factors: Floats, where: Indices, values: Floats) -> None:
    """`_scatter` for as many neurons as there are factors."""
    width = len(factors)
    for e in range(len(where)):
        k, value = where[e] * width, values[e]
        for j in range(width):
            sums[k + j] += factors[j] * value


@njit(cache=True, nogil=True, fastmath=REORDERED)
def _sum_at(values: Floats, where: Indices) -> np.float32:
    total = np.float32(0.0)
    for e in range(len(where)):
        total += values[where[e]]
    return total


@njit(cache=True, nogil=True, fastmath=REORDERED)
def _sum_open(ampa: Floats, state: Floats, where: Indices) -> np.float32:
    total = np.float32(0.0)
    for e in range(len(where)):
        i = where[e]
        total += ampa[i] if state[i] != _SILENT else np.float32(0.0)
    return total


@njit(cache=True, nogil=True, fastmath=REORDERED)
def _count_open(state: Floats, where: Indices) -> np.float32:
    count = np.float32(0.0)
    for e in range(len(where)):
        count += np.float32(1.0) if state[where[e]] != _SILENT else np.float32(0.0)
    return count


@njit(cache=True, nogil=True, fastmath=FAST)
def _sum_rows(
    sums: Floats, ampa: Floats, state: Floats, where: Indices, graded: bool, stateless: bool
) -> None:
    """`_sum_at`, `_sum_open` or `_count_open` for as many neurons as there are sums."""
    width, zero, one = len(sums), np.float32(0.0), np.float32(1.0)
    sums[:] = zero
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


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_products(sums: Floats, factors: Floats, values: Floats, i: int) -> None:
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


@njit(cache=True, nogil=True)
def _pack(rows: Floats, flat: Floats) -> None:
    """Transpose rows [neurons, n_pre]; some inputs at a time, so that they stay in the cache."""
    width, n = len(rows), len(flat) // len(rows)
    for i in range(0, n, COLUMNS):
        for j in range(width):
            for k in range(i, min(i + COLUMNS, n)):
                flat[k * width + j] = rows[j, k]


@njit(cache=True, nogil=True)
def _unpack(flat: Floats, rows: Floats) -> None:
    width, n = len(rows), len(flat) // len(rows)
    for i in range(0, n, COLUMNS):
        for j in range(width):
            for k in range(i, min(i + COLUMNS, n)):
                rows[j, k] = flat[k * width + j]


# --- neurons --------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _fire(
    drive: np.float32, injected: np.float32, v: np.float32, current: np.float32,
    threshold: np.float32, n: Neuron,
) -> tuple[np.float32, np.float32, np.float32, np.float32]:  # fmt: skip
    """One step of a neuron: whether it fires, its membrane at the peak and after the reset, and its
    synaptic current."""
    one = np.float32(1.0)
    if n.synaptic:
        current = n.alpha * current + (drive + injected)
        peak = n.beta * v + current
        current -= injected  # an electrode is no part of the synapse
    else:
        peak = n.beta * v + (drive + injected)
    fired = one if peak - threshold > np.float32(0.0) else np.float32(0.0)
    left = peak * (one - fired) if n.taught else peak - fired * threshold
    return fired, peak, max(left, n.floor * threshold), current


@njit(cache=True, nogil=True)
def _advanced(trace: np.float32, spike: np.float32, keep: np.float32, nearest: bool) -> np.float32:
    """`rules.base.advance`."""
    raised = trace + spike * (np.float32(1.0) - trace) if nearest else trace + spike
    return raised * keep


@njit(cache=True, nogil=True, fastmath=FAST)
def _postsynaptic(
    fired: np.float32, y1: np.float32, y2: np.float32, p: Plasticity
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Postsynaptic factors of potentiation and of depression, and the traces after the step."""
    event = p.at_spike if fired > np.float32(0.0) else p.otherwise
    gain = (p.gain_post[0] + p.gain_post[1] * y1 + p.gain_post[2] * y2) * event
    loss = p.loss_post[0] + p.loss_post[1] * y1 + p.loss_post[2] * y2
    y1 = _advanced(y1, fired, p.keep_y1, p.nearest_y1)
    y2 = _advanced(y2, fired, p.keep_y2, p.nearest_y2)
    return gain, loss, y1, y2


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _presynaptic(
    t0: int, n_steps: int, spikes: Spikes, traces: Traces, p: Plasticity, gain_pre: Floats,
    loss_pre: Floats, reference: Floats,
) -> None:  # fmt: skip
    """Presynaptic factors of a block of steps, the same for all neurons; traces are advanced.

    Args:
        gain_pre: [block, B, n_pre]. reference: [block, n_pre]. loss_pre: At the block's spikes, in
            their order. All written.
    """
    n_batch, n_pre = spikes.dense.shape[1:]
    one, share = np.float32(1.0), np.float32(n_batch)
    first = spikes.start[t0 * n_batch]
    for k in range(n_steps):
        for b in range(n_batch):
            x1, x2, g = traces.x[0, b], traces.x[1, b], gain_pre[k, b]
            row = spikes.dense[t0 + k, b]
            r = (t0 + k) * n_batch + b
            for e in range(spikes.start[r], spikes.start[r + 1]):
                i = spikes.where[e]
                loss_pre[e - first] = (
                    p.loss_pre[0] + p.loss_pre[1] * x1[i] + p.loss_pre[2] * x2[i]
                ) * row[i]
            for i in range(n_pre):
                g[i] = p.gain_pre[0] + p.gain_pre[1] * x1[i] + p.gain_pre[2] * x2[i]
            if p.nearest_x1:
                for i in range(n_pre):
                    x1[i] = (x1[i] + row[i] * (one - x1[i])) * p.keep_x1
            else:
                for i in range(n_pre):
                    x1[i] = (x1[i] + row[i]) * p.keep_x1
            if p.keep_x2 > np.float32(0.0):
                for i in range(n_pre):
                    x2[i] = _advanced(x2[i], row[i], p.keep_x2, p.nearest_x2)
        if p.gated:
            mean, slow = reference[k], traces.slow
            mean[:] = gain_pre[k, 0]
            for b in range(1, n_batch):
                for i in range(n_pre):
                    mean[i] += gain_pre[k, b, i]
            weight = traces.weight[0] * p.keep_slow + p.fresh_slow
            traces.weight[0] = weight
            over = max(weight, np.float32(np.finfo(np.float32).tiny))
            for i in range(n_pre):
                slow[i] = slow[i] * p.keep_slow + (mean[i] / share) * p.fresh_slow
                mean[i] = slow[i] / over


# --- the loop -------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def run(
    first: int, last: int, contacts: Contacts, population: Population, spikes: Spikes,
    traces: Traces, given: Given, n: Neuron, p: Plasticity, d: Dynamics,
) -> Table:  # fmt: skip
    """All steps of neurons ``first`` to ``last``; everything is written in place.

    Returns:
        Changes of state, int32 [n, 5]: step, post, pre, old and new code; not in order.
    """
    n_steps, n_batch, n_pre = spikes.dense.shape
    block = n_steps if p.given else min(n_steps, max(1, BLOCK // (n_batch * n_pre)))
    gain_pre, reference, loss_pre = given.gain_pre, given.reference, given.loss_pre
    if not p.given:
        gain_pre = np.empty((block, n_batch, n_pre), np.float32)
        reference = np.empty((block, n_pre), np.float32)
    events, n_events = np.empty((64, 5), np.int32), 0
    tiles = _tiles(first, last if n_batch > 1 else first, contacts, d.stateless)
    for t0 in range(0, n_steps, block):
        length = min(block, n_steps - t0)
        if not p.given:
            n_spikes = spikes.start[(t0 + length) * n_batch] - spikes.start[t0 * n_batch]
            loss_pre = np.empty(n_spikes, np.float32)
            _presynaptic(t0, length, spikes, traces, p, gain_pre, loss_pre, reference)
        if n_batch == 1:
            for j in range(first, last):
                events, n_events = _neuron(
                    j, t0, length, contacts, population, spikes, traces.y, gain_pre, reference,
                    loss_pre, given, n, p, d, events, n_events,
                )  # fmt: skip
        else:
            for j in range(first, last, TILE):
                end = min(j + TILE, last)
                events, n_events = _tile(
                    j, end, t0, length, _part(tiles, (j - first) * n_pre, (end - first) * n_pre),
                    population, spikes, traces.y, gain_pre, reference, loss_pre, given, n, p, d,
                    events, n_events,
                )  # fmt: skip
    if n_batch > 1:
        _write_back(first, last, tiles, contacts, d.stateless)
    if not d.stateless:
        for j in range(first, last):
            events = _room(events, n_events, n_pre)
            n_events = _settle(j, n_steps, contacts, d, events, n_events)
    return events[:n_events]


@njit(cache=True, nogil=True)
def _tiles(first: int, last: int, c: Contacts, stateless: bool) -> Contacts:
    """Contacts of neurons ``first`` to ``last`` as tiles, one after the other."""
    n_pre = c.ampa.shape[1]
    size = (last - first) * n_pre
    tiles = Contacts(
        np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32),
        np.empty(size, np.float32), np.empty(size, np.float32),
    )  # fmt: skip
    for j in range(first, last, TILE):
        end = min(j + TILE, last)
        tile = _part(tiles, (j - first) * n_pre, (end - first) * n_pre)
        _pack(c.ampa[j:end], tile.ampa)
        _pack(c.exists[j:end], tile.exists)
        if not stateless:
            _pack(c.state[j:end], tile.state)
            _pack(c.clock[j:end], tile.clock)
            _pack(c.since[j:end], tile.since)
    return tiles


@njit(cache=True, nogil=True)
def _write_back(first: int, last: int, tiles: Contacts, c: Contacts, stateless: bool) -> None:
    n_pre = c.ampa.shape[1]
    for j in range(first, last, TILE):
        end = min(j + TILE, last)
        tile = _part(tiles, (j - first) * n_pre, (end - first) * n_pre)
        _unpack(tile.ampa, c.ampa[j:end])
        if not stateless:
            _unpack(tile.state, c.state[j:end])
            _unpack(tile.clock, c.clock[j:end])
            _unpack(tile.since, c.since[j:end])


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _neuron(
    j: int, t0: int, length: int, contacts: Contacts, population: Population, spikes: Spikes,
    y: Floats, gain_pre: Floats, reference: Floats, loss_pre: Floats, given: Given, n: Neuron,
    p: Plasticity, d: Dynamics, events: Table, n_events: int,
) -> tuple[Table, int]:  # fmt: skip
    """A block of steps of neuron j in the only presentation."""
    n_pre = spikes.dense.shape[2]
    zero, one = np.float32(0.0), np.float32(1.0)
    ampa, state, exists = contacts.ampa[j], contacts.state[j], contacts.exists[j]
    c = Contacts(ampa, state, contacts.clock[j], exists, contacts.since[j])
    threshold, electrode = population.threshold[j], len(population.injected) > 0
    afferents, column = population.afferents, min(j, population.afferents.shape[2] - 1)
    gain, loss = np.zeros(n_pre, np.float32), np.zeros(n_pre, np.float32)
    base = spikes.start[t0]
    for k in range(length):
        t = t0 + k
        a, z = spikes.start[t], spikes.start[t + 1]
        if p.given:
            own_gain, own_loss = given.gain_post[t, 0, j], given.loss_post[t, 0, j]
        else:
            drive = zero
            if not n.taught:
                if d.stateless:
                    drive = _sum_at(ampa, spikes.where[a:z])
                elif n.graded:
                    drive = _sum_open(ampa, state, spikes.where[a:z])
                else:
                    drive = _count_open(state, spikes.where[a:z])
                drive -= population.balance[j] * afferents[t, 0, column]
            injected = population.injected[t, 0, j] * threshold if electrode else zero
            fired, peak, population.v[0, j], population.current[0, j] = _fire(
                drive, injected, population.v[0, j], population.current[0, j], threshold, n
            )
            population.spikes[t, 0, j] = fired
            population.membrane[t, 0, j] = peak / threshold
            own_gain, own_loss, y[0, 0, j], y[1, 0, j] = _postsynaptic(
                fired, y[0, 0, j], y[1, 0, j], p
            )
        stale = own_loss != zero and z > a
        every = (d.kept != one or (d.fixed and stale)) and not d.stateless
        if own_gain != zero or t == 0 or every:
            if stale:
                _scatter(loss, own_loss, spikes.where[a:z], loss_pre[a - base : z - base])
            if own_gain != zero:
                _add(gain, own_gain, gain_pre[k, 0])
                if p.gated:
                    _add(gain, -(own_gain * population.target[j]), reference[k])
                if d.power_law:
                    _weigh(gain, ampa, d)
            if d.stateless:
                _change_weights(ampa, exists, gain, loss, d)
            else:
                events, n_events = _change(c, gain, loss, j, 0, 1, t, d, events, n_events)
            gain[:] = zero
            loss[:] = zero
        elif stale:
            # A neuron that does not fire loses receptors where a spike arrived, and nowhere else.
            where, lost = spikes.where[a:z], loss_pre[a - base : z - base]
            if d.stateless:
                _weaken(ampa, exists, where, lost, own_loss, d)
            else:
                crossed = _change_at(ampa, state, exists, where, lost, own_loss, d)
                if crossed > 0:  # in few steps
                    events = _room(events, n_events, crossed)
                    for e in range(len(where)):
                        i = where[e]
                        n_events = _convert(c, i, t, j, i, d, events, n_events)
    return events, n_events


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _tile(
    first: int, last: int, t0: int, length: int, c: Contacts, population: Population,
    spikes: Spikes, y: Floats, gain_pre: Floats, reference: Floats, loss_pre: Floats, given: Given,
    n: Neuron, p: Plasticity, d: Dynamics, events: Table, n_events: int,
) -> tuple[Table, int]:  # fmt: skip
    """A block of steps of neurons ``first`` to ``last`` in several presentations.

    In a tile all of an input's contacts stand together, so that a spike is some vector
    instructions.
    """
    n_batch, n_pre = spikes.dense.shape[1:]
    width, zero = last - first, np.float32(0.0)
    electrode, afferents = len(population.injected) > 0, population.afferents
    gain, loss = np.empty(COLUMNS * width, np.float32), np.zeros(n_pre * width, np.float32)
    drive, total = np.zeros(width, np.float32), np.empty((1, width), np.float32)
    own_gain, own_loss = np.empty((n_batch, width), np.float32), np.empty(width, np.float32)
    base = spikes.start[t0 * n_batch]
    for k in range(length):
        t = t0 + k
        fires, stale = False, False
        for b in range(n_batch):
            a, z = spikes.start[t * n_batch + b], spikes.start[t * n_batch + b + 1]
            if p.given:
                own_gain[b] = given.gain_post[t, b, first:last]
                own_loss[:] = given.loss_post[t, b, first:last]
            else:
                if not n.taught:
                    _sum_rows(drive, c.ampa, c.state, spikes.where[a:z], n.graded, d.stateless)
                    for j in range(first, last):
                        column = min(j, afferents.shape[2] - 1)
                        drive[j - first] -= population.balance[j] * afferents[t, b, column]
                for j in range(first, last):
                    threshold = population.threshold[j]
                    injected = population.injected[t, b, j] * threshold if electrode else zero
                    fired, peak, population.v[b, j], population.current[b, j] = _fire(
                        drive[j - first], injected, population.v[b, j], population.current[b, j],
                        threshold, n,
                    )  # fmt: skip
                    population.spikes[t, b, j] = fired
                    population.membrane[t, b, j] = peak / threshold
                    own_gain[b, j - first], own_loss[j - first], y[0, b, j], y[1, b, j] = (
                        _postsynaptic(fired, y[0, b, j], y[1, b, j], p)
                    )
            if own_gain[b].any():
                fires = True
            if z > a and own_loss.any():
                stale = True
                _scatter_rows(loss, own_loss, spikes.where[a:z], loss_pre[a - base : z - base])
        decays = d.kept != np.float32(1.0)
        every = fires or t == 0 or ((decays or (d.fixed and stale)) and not d.stateless)
        if fires and p.gated:
            for j in range(width):
                total[0, j] = -(own_gain[:, j].sum() * population.target[first + j])
        # Neurons that do not fire lose receptors where a spike arrived, and nowhere else.
        a, z = spikes.start[t * n_batch], spikes.start[(t + 1) * n_batch]
        n_parts = (n_pre - 1) // COLUMNS + 1 if every else (z - a if stale else 0)
        for e in range(n_parts):
            i = e * COLUMNS if every else int(np.int64(spikes.where[a + e]))
            end = min(i + COLUMNS, n_pre) if every else i + 1
            at, to = i * width, end * width
            change = gain[: to - at]
            change[:] = zero
            if fires:
                _add_products(change, own_gain, gain_pre[k], i)
                if p.gated:
                    _add_products(change, total, reference[k : k + 1], i)
                if d.power_law:
                    _weigh(change, c.ampa[at:to], d)
            if d.stateless:
                _change_weights(c.ampa[at:to], c.exists[at:to], change, loss[at:to], d)
            else:
                events, n_events = _change(
                    _part(c, at, to), change, loss[at:to], first, i, width, t, d, events, n_events
                )
            loss[at:to] = zero
    return events, n_events


@njit(cache=True, nogil=True)
def integrate(first: int, last: int, population: Population, drive: Floats, n: Neuron) -> None:
    """All steps of neurons ``first`` to ``last`` for a net input ``drive`` [T, B, n_post] in units
    of the membrane (empty: none); spikes and membranes are written."""
    n_steps, n_batch = population.spikes.shape[:2]
    driven, electrode = len(drive) > 0, len(population.injected) > 0
    zero = np.float32(0.0)
    for t in range(n_steps):
        for b in range(n_batch):
            for j in range(first, last):
                threshold = population.threshold[j]
                injected = population.injected[t, b, j] * threshold if electrode else zero
                fired, peak, population.v[b, j], population.current[b, j] = _fire(
                    drive[t, b, j] if driven else zero, injected, population.v[b, j],
                    population.current[b, j], threshold, n,
                )  # fmt: skip
                population.spikes[t, b, j] = fired
                population.membrane[t, b, j] = peak / threshold
