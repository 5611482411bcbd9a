"""Contacts in a step: occupancies, states, clocks, and the events that tell of a change."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.synapses.loops.inner import inner
from snn_artsy.synapses.loops.records import FAST, ContactArrays, Dynamics, Floats, Indices
from snn_artsy.synapses.loops.sums import copy

Table = NDArray[np.int32]

# Floats are kept as floats while the loop runs, so that a contact's numbers are all of one kind.
_SILENT, _FUNCTIONAL = np.float32(SILENT), np.float32(FUNCTIONAL)
_CONSOLIDATED = np.float32(CONSOLIDATED)


@inner(fastmath=FAST, error_model="numpy")
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


@inner()
def part(c: ContactArrays, a: int, z: int) -> ContactArrays:
    return ContactArrays(c.ampa[a:z], c.state[a:z], c.clock[a:z], c.exists[a:z], c.since[a:z])


@inner(fastmath=FAST)
def _step_all(c: ContactArrays, gain: Floats, loss: Floats, t: int, d: Dynamics) -> None:
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
        a *= fixed + (one - fixed) * d.retention
        ampa[i] = a
        lasts = zero if a <= d.theta_down else functional
        lasts *= one - fixed
        rises = silent if a >= d.theta_up else zero
        state[i] = (rises + lasts) * _FUNCTIONAL + fixed * _CONSOLIDATED
        # A functional contact's clock stays where it was set; `_note_changes` reads it when the
        # contact is consolidated.
        runs = functional * max(lasts, fixed)
        clock[i] *= runs
        since[i] = since[i] * runs + (now + one) * (one - runs)


@inner(fastmath=FAST)
def change_weights(ampa: Floats, exists: Floats, gain: Floats, loss: Floats, d: Dynamics) -> None:
    """`_change_all` of contacts without states.

    This and `weaken` are loops of their own because looking at states, even at such as never
    change, makes ordinary synapses a good deal slower.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    for i in range(len(ampa)):
        change = (one + d.up * ampa[i]) * gain[i] - (d.down_0 + d.down * ampa[i]) * loss[i]
        a = min(max(ampa[i] + d.scale * change, zero), one)
        ampa[i] = a * exists[i]


@inner(fastmath=FAST)
def weaken(
    ampa: Floats, exists: Floats, where: Indices, lost: Floats, factor: np.float32, d: Dynamics
) -> None:
    """`change_at` of contacts without states."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for e in range(len(where)):
        i = where[e]
        w = ampa[i] - d.scale * ((d.down_0 + d.down * ampa[i]) * (factor * lost[e]))
        ampa[i] = min(max(w, zero), one) * exists[i]


@inner(fastmath=FAST)
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


@inner(fastmath=FAST)
def change_at(
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


@inner(fastmath=FAST)
def convert(
    c: ContactArrays, k: int, t: int, j: int, i: int, d: Dynamics, events: Table, n: int
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


@inner()
def _changed(before: Floats, after: Floats) -> int:
    """How many codes differ."""
    n = np.int32(0)
    for i in range(len(before)):
        n += np.int32(1) if before[i] != after[i] else np.int32(0)
    return int(n)


@inner()
def _note_change(
    c: ContactArrays, k: int, t: int, j: int, i: int, before: np.float32, d: Dynamics,
    events: Table, n: int,
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


@inner()
def room(events: Table, n: int, more: int) -> Table:
    """``events`` [most, 5] with room for ``more`` after the first n."""
    if n + more <= len(events):
        return events
    larger = np.empty((2 * (n + more), 5), np.int32)
    for r in range(n):
        for column in range(5):
            larger[r, column] = events[r, column]
    return larger


@inner()
def _note(events: Table, n: int, t: int, j: int, i: int, old: int, new: int) -> None:
    events[n, 0], events[n, 1], events[n, 2], events[n, 3], events[n, 4] = t, j, i, old, new


@inner(fastmath=FAST, error_model="numpy")
def change_states(
    c: ContactArrays, gain: Floats, loss: Floats, j0: int, i0: int, width: int, t: int, d: Dynamics,
    events: Table, n: int,
) -> tuple[Table, int]:  # fmt: skip
    """Step t of contacts with states, of ``width`` neurons from j0 on with inputs from i0 on."""
    if d.retention == np.float32(1.0) and not d.fixed:
        crossed = _change_all(c.ampa, c.state, c.exists, gain, loss, d)
        if crossed > 0:  # in few steps
            events = room(events, n, crossed)
            for k in range(len(c.state)):
                n = convert(c, k, t, j0 + k % width, i0 + k // width, d, events, n)
    else:
        before = np.empty(len(c.state), np.float32)
        copy(c.state, before)
        _step_all(c, gain, loss, t, d)
        n_changed = _changed(before, c.state)
        if n_changed > 0:
            events = room(events, n, n_changed)
            for k in range(len(c.state)):
                j, i = j0 + k % width, i0 + k // width
                n = _note_change(c, k, t, j, i, before[k], d, events, n)
    return events, n


@inner(fastmath=FAST, error_model="numpy")
def weigh(gain: Floats, ampa: Floats, d: Dynamics) -> None:
    """A power of the occupancy that potentiation goes with."""
    for i in range(len(gain)):
        gain[i] *= d.power * max(ampa[i], d.floor) ** d.mu


@inner(fastmath=FAST, error_model="numpy")
def settle(
    j: int, t: int, contacts: ContactArrays, d: Dynamics, events: Table, n_events: int
) -> int:
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
