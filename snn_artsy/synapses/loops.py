"""The compiled loop of a spiking layer on the CPU (Numba): all steps of some neurons in one call.

A neuron's contacts depend on no other neuron, given the input: there is feed-forward inhibition and
none between neurons. So each neuron's contacts run through a block of steps while they lie in the
cache, and only those are touched that a spike reaches. Functions here release the interpreter lock;
`engine_numba` calls `run` once a thread, for a share of the neurons each.

Arithmetic is float32, in the order of `engine_torch` and without fused operations, so that results
do not depend on how steps are cut into calls, nor on the number of threads. Sums over inputs may
be reordered by the compiler; with one-bit contacts they are sums of integers, hence exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT

Floats = NDArray[np.float32]
# unsigned, so that no index is looked at for being negative
Indices = NDArray[np.uint32]
Table = NDArray[np.int32]

# Floats are kept as floats while the loop runs, so that a contact's numbers are all of one kind.
_SILENT, _FUNCTIONAL = np.float32(SILENT), np.float32(FUNCTIONAL)
_CONSOLIDATED = np.float32(CONSOLIDATED)

# No NaN or infinity can arise from checked input, which lets min and max be vector instructions.
FAST = {"nnan", "ninf", "nsz"}
# For sums over inputs on top.
REORDERED = {"nnan", "ninf", "nsz", "reassoc"}

NEVER = np.finfo(np.float32).max  # infinity is out: the loops are compiled without it

# Presynaptic factors of so many numbers are made at a time; with its spikes they stay in L2.
BLOCK = 2**16


class Contacts(NamedTuple):
    """[n_post, n_pre], changed in place.

    Args:
        ampa, state, clock: See `circuit.Contacts`; ``clock`` (ms) is the one at step ``since``.
        exists: 1 or 0. since: Step, in steps of this call: whole numbers.
    """

    ampa: Floats
    state: Floats
    clock: Floats
    exists: Floats
    since: Floats


class Dynamics(NamedTuple):
    """Numbers of a contact's dynamics.

    Args:
        up, down_0, down, power_law, power, mu, floor: `rules.base.WeightDependence`.
        scale: Of every change: 1, or 1/B where changes of a batch are averaged.
        mature: Share of the change that functional and consolidated contacts take.
        kept: Share of its occupancy that a contact which is not consolidated keeps in a step.
        theta_up, theta_down: Of the states. elapsed_ms: Of a step.
        consolidate_ms: How long a contact must stay functional to be consolidated; `NEVER`.
        stateless: Contacts have no states: the occupancy is the weight.
    """

    up: np.float32
    down_0: np.float32
    down: np.float32
    power_law: bool
    power: np.float32
    mu: np.float32
    floor: np.float32
    scale: np.float32
    mature: np.float32
    kept: np.float32
    theta_up: np.float32
    theta_down: np.float32
    elapsed_ms: np.float32
    consolidate_ms: np.float32
    stateless: bool


class Neuron(NamedTuple):
    """Numbers of a leaky (or synaptic) neuron in units of its membrane.

    Args:
        beta, alpha: Decay of membrane and synaptic current in a step. floor: In thresholds.
        synaptic: There is a synaptic current. taught: An electrode replaces the synaptic input,
            and a spike takes the membrane to rest.
        graded: A contact transmits its occupancy, else 1.
    """

    beta: np.float32
    alpha: np.float32
    floor: np.float32
    synaptic: bool
    taught: bool
    graded: bool


class Plasticity(NamedTuple):
    """Numbers of a rule of spike times (`rules.base.SpikeTerms`), gated or not.

    Args:
        keep_x1, keep_x2, keep_y1, keep_y2: Decay of the traces in a step. nearest_x1, ...: Each
            spike sets the trace to 1.
        gain_pre, gain_post, loss_pre, loss_post: Coefficients, three each.
        at_spike, otherwise: `rules.nmda.insertion_event` at a postsynaptic spike, and without one.
        keep_slow: Decay of the presynaptic target's average in a step; ``gated``: there is one.
        given: The factors are in arrays, made by the rule's own functions.
    """

    keep_x1: np.float32
    keep_x2: np.float32
    keep_y1: np.float32
    keep_y2: np.float32
    nearest_x1: bool
    nearest_x2: bool
    nearest_y1: bool
    nearest_y2: bool
    gain_pre: tuple[np.float32, np.float32, np.float32]
    gain_post: tuple[np.float32, np.float32, np.float32]
    loss_pre: tuple[np.float32, np.float32, np.float32]
    loss_post: tuple[np.float32, np.float32, np.float32]
    at_spike: np.float32
    otherwise: np.float32
    keep_slow: np.float32
    fresh_slow: np.float32
    gated: bool
    given: bool


class Traces(NamedTuple):
    """Changed in place: presynaptic x [2, B, n_pre], postsynaptic y [2, B, n_post], and the slow
    average's sum [n_pre] and weight [1]."""

    x: Floats
    y: Floats
    slow: Floats
    weight: Floats


class Given(NamedTuple):
    """Factors of every step that a rule's own functions have made; empty where there are none.

    Args:
        gain_pre: [T, B, n_pre]. gain_post, loss_post: [T, B, n_post]. reference: [T, n_pre].
        loss_pre: At the spikes of `Spikes`, in their order.
    """

    gain_pre: Floats
    gain_post: Floats
    loss_post: Floats
    reference: Floats
    loss_pre: Floats


class Spikes(NamedTuple):
    """Presynaptic spikes: those of step t in presentation b are where[start[t B + b] :
    start[t B + b + 1]], in order. dense: The same as 0 and 1, [T, B, n_pre]."""

    start: NDArray[np.int64]
    where: Indices
    dense: Floats


class Population(NamedTuple):
    """Neurons: ``v`` and ``current`` are their state variables [B, n_post], changed in place.

    Args:
        threshold, balance, target: [n_post]. afferents: Spikes on existing contacts, [T, B, n_post]
            or [T, B, 1]. injected: In thresholds, [T, B, n_post]; empty: none.
        spikes, membrane: [T, B, n_post]; written. The spikes are read where factors are given.
    """

    v: Floats
    current: Floats
    threshold: Floats
    balance: Floats
    target: Floats
    afferents: Floats
    injected: Floats
    spikes: Floats
    membrane: Floats


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


@njit(cache=True, nogil=True, fastmath=FAST)
def _step_all(
    ampa: Floats, state: Floats, clock: Floats, exists: Floats, since: Floats, gain: Floats,
    loss: Floats, t: int, d: Dynamics,
) -> None:  # fmt: skip
    """Step t of all of a neuron's contacts where they decay: occupancies, states and clocks.

    What a contact is stands in factors of 0 and 1: they become vector instructions, ten times as
    fast as branches.
    """
    zero, one, now = np.float32(0.0), np.float32(1.0), np.float32(t)
    for i in range(len(ampa)):
        silent = one if state[i] == _SILENT else zero
        functional = one if state[i] == _FUNCTIONAL else zero
        before = clock[i] + (now - since[i]) * d.elapsed_ms
        due = functional if before >= d.consolidate_ms else zero  # since an earlier step
        fixed = max(one if state[i] == _CONSOLIDATED else zero, due)
        share = (silent + (one - silent) * d.mature) * d.scale
        change = (one + d.up * ampa[i]) * gain[i] - (d.down_0 + d.down * ampa[i]) * loss[i]
        a = min(max(ampa[i] + share * change, zero), one) * exists[i]
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
def _step_weights(ampa: Floats, exists: Floats, gain: Floats, loss: Floats, d: Dynamics) -> None:
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
def _add(sums: Floats, factor: np.float32, values: Floats) -> None:
    for i in range(len(sums)):
        sums[i] += factor * values[i]


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


@njit(cache=True, nogil=True)
def _changed(before: Floats, after: Floats) -> int:
    """How many codes differ."""
    n = np.int32(0)
    for i in range(len(before)):
        n += np.int32(1) if before[i] != after[i] else np.int32(0)
    return int(n)


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


@njit(cache=True, nogil=True, fastmath=FAST)
def _scatter(sums: Floats, factor: np.float32, where: Indices, values: Floats) -> None:
    for e in range(len(where)):
        sums[where[e]] += factor * values[e]


@njit(cache=True, nogil=True, fastmath=FAST)
def _gather(sums: Floats, where: Indices) -> Floats:
    """Take ``sums`` at positions out, 0 where a position comes again."""
    found = np.empty(len(where), np.float32)
    for e in range(len(where)):
        found[e] = sums[where[e]]
        sums[where[e]] = np.float32(0.0)
    return found


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
    """Occupancies of all of a neuron's contacts after a step, where none decays.

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
    j: int, t: int, i: int, ampa: Floats, state: Floats, clock: Floats, since: Floats, d: Dynamics,
    events: Table, n: int,
) -> int:  # fmt: skip
    """State of neuron j's contact i after step t. That it is consolidated is found when it would
    fall silent, or when the call ends; until then its clock is only read."""
    zero = np.float32(0.0)
    if state[i] == _SILENT and ampa[i] >= d.theta_up:
        state[i], clock[i], since[i] = _FUNCTIONAL, zero, np.float32(t + 1)
        _note(events, n, t, j, i, SILENT, FUNCTIONAL)
        return n + 1
    if state[i] == _FUNCTIONAL and ampa[i] <= d.theta_down and since[i] <= np.float32(t):
        if clock[i] + (np.float32(t) - since[i]) * d.elapsed_ms >= d.consolidate_ms:
            step = _due(clock[i], since[i], t, d)
            state[i], clock[i] = _CONSOLIDATED, zero
            _note(events, n, step, j, i, FUNCTIONAL, CONSOLIDATED)
        else:
            state[i], clock[i] = _SILENT, zero
            _note(events, n, t, j, i, FUNCTIONAL, SILENT)
        return n + 1
    return n


@njit(cache=True, nogil=True)
def _note_changes(
    j: int, t: int, before: Floats, state: Floats, clock: Floats, since: Floats, d: Dynamics,
    events: Table, n: int,
) -> None:  # fmt: skip
    """Changes of a neuron's contacts in step t; one that is consolidated gives up its clock."""
    for i in range(len(state)):
        if before[i] == state[i]:
            continue
        step = t
        if state[i] == _CONSOLIDATED:
            step = _due(clock[i], since[i], t, d)
            clock[i], since[i] = np.float32(0.0), np.float32(t + 1)
        _note(events, n, step, j, i, before[i], state[i])
        n += 1


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
    for t0 in range(0, n_steps, block):
        length = min(block, n_steps - t0)
        if not p.given:
            n_spikes = spikes.start[(t0 + length) * n_batch] - spikes.start[t0 * n_batch]
            loss_pre = np.empty(n_spikes, np.float32)
            _presynaptic(t0, length, spikes, traces, p, gain_pre, loss_pre, reference)
        for j in range(first, last):
            events, n_events = _neuron(
                j, t0, length, contacts, population, spikes, traces.y, gain_pre, reference,
                loss_pre, given, n, p, d, events, n_events,
            )  # fmt: skip
    if not d.stateless:
        for j in range(first, last):
            events = _room(events, n_events, n_pre)
            n_events = _settle(j, n_steps, contacts, d, events, n_events)
    return events[:n_events]


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


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _neuron(
    j: int, t0: int, length: int, contacts: Contacts, population: Population, spikes: Spikes,
    y: Floats, gain_pre: Floats, reference: Floats, loss_pre: Floats, given: Given, n: Neuron,
    p: Plasticity, d: Dynamics, events: Table, n_events: int,
) -> tuple[Table, int]:  # fmt: skip
    """A block of steps of neuron j."""
    n_batch, n_pre = spikes.dense.shape[1:]
    zero, one = np.float32(0.0), np.float32(1.0)
    ampa, state, clock = contacts.ampa[j], contacts.state[j], contacts.clock[j]
    exists, since = contacts.exists[j], contacts.since[j]
    threshold, balance, target = (
        population.threshold[j], population.balance[j], population.target[j],
    )  # fmt: skip
    afferents, column = population.afferents, min(j, population.afferents.shape[2] - 1)
    electrode = len(population.injected) > 0
    gain, loss = np.zeros(n_pre, np.float32), np.zeros(n_pre, np.float32)
    own_gain, own_loss = np.empty(n_batch, np.float32), np.empty(n_batch, np.float32)
    before = np.empty(n_pre, np.float32)
    base = spikes.start[t0 * n_batch]
    for k in range(length):
        t = t0 + k
        total, fires, stale = zero, False, False
        for b in range(n_batch):
            r = t * n_batch + b
            a, z = spikes.start[r], spikes.start[r + 1]
            if not p.given:
                drive = zero
                if not n.taught:
                    if d.stateless:
                        drive = _sum_at(ampa, spikes.where[a:z])
                    elif n.graded:
                        drive = _sum_open(ampa, state, spikes.where[a:z])
                    else:
                        drive = _count_open(state, spikes.where[a:z])
                    drive -= balance * afferents[t, b, column]
                injected = population.injected[t, b, j] * threshold if electrode else zero
                fired, peak, population.v[b, j], population.current[b, j] = _fire(
                    drive, injected, population.v[b, j], population.current[b, j], threshold, n
                )
                population.spikes[t, b, j] = fired
                population.membrane[t, b, j] = peak / threshold
                y1, y2 = y[0, b, j], y[1, b, j]
                event = p.at_spike if fired > zero else p.otherwise
                own_gain[b] = (p.gain_post[0] + p.gain_post[1] * y1 + p.gain_post[2] * y2) * event
                own_loss[b] = p.loss_post[0] + p.loss_post[1] * y1 + p.loss_post[2] * y2
                y[0, b, j] = _advanced(y1, fired, p.keep_y1, p.nearest_y1)
                y[1, b, j] = _advanced(y2, fired, p.keep_y2, p.nearest_y2)
            else:
                own_gain[b], own_loss[b] = given.gain_post[t, b, j], given.loss_post[t, b, j]
            if own_gain[b] != zero:
                fires = True
                total += own_gain[b]
                _add(gain, own_gain[b], gain_pre[k, b])
            stale |= own_loss[b] != zero and z > a
        every = fires or t == 0 or (d.kept != one and not d.stateless)
        if stale and (every or n_batch > 1):
            for b in range(n_batch):
                r = t * n_batch + b
                a, z = spikes.start[r], spikes.start[r + 1]
                _scatter(loss, own_loss[b], spikes.where[a:z], loss_pre[a - base : z - base])
        if every:
            if fires and p.gated:
                _add(gain, -(total * target), reference[k])
            if d.power_law:
                for i in range(n_pre):
                    gain[i] *= d.power * max(ampa[i], d.floor) ** d.mu
            if d.stateless:
                _step_weights(ampa, exists, gain, loss, d)
            elif d.kept == one:
                crossed = _change_all(ampa, state, exists, gain, loss, d)
                if crossed > 0:
                    events = _room(events, n_events, crossed)
                    for i in range(n_pre):
                        n_events = _convert(j, t, i, ampa, state, clock, since, d, events, n_events)
            else:
                before[:] = state
                _step_all(ampa, state, clock, exists, since, gain, loss, t, d)
                n_changed = _changed(before, state)
                if n_changed > 0:
                    events = _room(events, n_events, n_changed)
                    _note_changes(j, t, before, state, clock, since, d, events, n_events)
                    n_events += n_changed
            gain[:] = zero
            loss[:] = zero
        elif stale:
            # A neuron that does not fire loses receptors where a spike arrived, and nowhere else.
            a, z = spikes.start[t * n_batch], spikes.start[(t + 1) * n_batch]
            where, lost = spikes.where[a:z], loss_pre[a - base : z - base]
            if n_batch == 1:
                factor = own_loss[0]
            else:
                lost, factor = _gather(loss, where), one
            if d.stateless:
                _weaken(ampa, exists, where, lost, factor, d)
            else:
                crossed = _change_at(ampa, state, exists, where, lost, factor, d)
                if crossed > 0:  # in few steps
                    events = _room(events, n_events, crossed)
                    for e in range(len(where)):
                        n_events = _convert(
                            j, t, where[e], ampa, state, clock, since, d, events, n_events
                        )
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
