"""All steps of some neurons in one compiled call: the entry points of the loop."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.synapses.loops.contacts import (
    Table,
    change_at,
    change_states,
    change_weights,
    convert,
    part,
    room,
    settle,
    weaken,
    weigh,
)
from snn_artsy.synapses.loops.inner import inner
from snn_artsy.synapses.loops.neurons import fire, postsynaptic, presynaptic
from snn_artsy.synapses.loops.records import (
    FAST,
    ContactArrays,
    Dynamics,
    Floats,
    Given,
    Indices,
    InputSpikes,
    Neuron,
    Plasticity,
    Population,
    TraceArrays,
)
from snn_artsy.synapses.loops.sums import (
    COLUMNS,
    add,
    add_products,
    any_set,
    copy,
    count_open,
    fill,
    pack,
    scatter,
    scatter_rows,
    sum_at,
    sum_open,
    sum_rows,
    unpack,
)

# Neurons whose contacts run through a block of steps together where a batch is shown; they stay in
# L2.
TILE = 64

# Presynaptic factors of so many numbers are made at a time; with its spikes they stay in L2.
BLOCK = 2**16


def checksum(folder: Path) -> int:
    """A checksum of the Python files in a folder."""
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))))


SOURCES = checksum(Path(__file__).parent)
"""A default argument is part of the key under which Numba caches a compiled function; by this one a
change of any of these modules compiles the entry points again."""


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


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def run(
    first: int, last: int, contacts: ContactArrays, population: Population, spikes: InputSpikes,
    traces: TraceArrays, given: Given, n: Neuron, p: Plasticity, d: Dynamics,
    sources: int = SOURCES,
) -> Table:  # fmt: skip
    """All steps of neurons ``first`` to ``last``; everything is written in place.

    Args:
        sources: Not used; see `SOURCES`.

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
            presynaptic(t0, length, spikes, traces, p, gain_pre, loss_pre, reference)
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
                    j, end, t0, length, part(tiles, (j - first) * n_pre, (end - first) * n_pre),
                    population, spikes, traces.y, gain_pre, reference, loss_pre, given, n, p, d,
                    events, n_events,
                )  # fmt: skip
    if n_batch > 1:
        _write_back(first, last, tiles, contacts, d.stateless)
    if not d.stateless:
        for j in range(first, last):
            events = room(events, n_events, n_pre)
            n_events = settle(j, n_steps, contacts, d, events, n_events)
    return events[:n_events]


@inner()
def _tiles(first: int, last: int, c: ContactArrays, stateless: bool) -> ContactArrays:
    """ContactArrays of neurons ``first`` to ``last`` as tiles, one after the other."""
    n_pre = c.ampa.shape[1]
    size = (last - first) * n_pre
    tiles = ContactArrays(
        np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32),
        np.empty(size, np.float32), np.empty(size, np.float32),
    )  # fmt: skip
    for j in range(first, last, TILE):
        end = min(j + TILE, last)
        tile = part(tiles, (j - first) * n_pre, (end - first) * n_pre)
        pack(c.ampa[j:end], tile.ampa)
        pack(c.exists[j:end], tile.exists)
        if not stateless:
            pack(c.state[j:end], tile.state)
            pack(c.clock[j:end], tile.clock)
            pack(c.since[j:end], tile.since)
    return tiles


@inner()
def _write_back(
    first: int, last: int, tiles: ContactArrays, c: ContactArrays, stateless: bool
) -> None:
    n_pre = c.ampa.shape[1]
    for j in range(first, last, TILE):
        end = min(j + TILE, last)
        tile = part(tiles, (j - first) * n_pre, (end - first) * n_pre)
        unpack(tile.ampa, c.ampa[j:end])
        if not stateless:
            unpack(tile.state, c.state[j:end])
            unpack(tile.clock, c.clock[j:end])
            unpack(tile.since, c.since[j:end])


@inner(fastmath=FAST, error_model="numpy")
def _neuron(
    j: int, t0: int, length: int, contacts: ContactArrays, population: Population,
    spikes: InputSpikes, y: Floats, gain_pre: Floats, reference: Floats, loss_pre: Floats,
    given: Given, n: Neuron, p: Plasticity, d: Dynamics, events: Table, n_events: int,
) -> tuple[Table, int]:  # fmt: skip
    """A block of steps of neuron j in the only presentation."""
    n_pre = spikes.dense.shape[2]
    zero, one = np.float32(0.0), np.float32(1.0)
    ampa, state, exists = contacts.ampa[j], contacts.state[j], contacts.exists[j]
    c = ContactArrays(ampa, state, contacts.clock[j], exists, contacts.since[j])
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
                    drive = sum_at(ampa, spikes.where[a:z])
                elif n.graded:
                    drive = sum_open(ampa, state, spikes.where[a:z])
                else:
                    drive = count_open(state, spikes.where[a:z])
                drive -= population.balance[j] * afferents[t, 0, column]
            own_gain, own_loss = postsynaptic(fire(t, 0, j, drive, population, n), y, 0, j, p)
        stale = own_loss != zero and z > a
        every = (d.retention != one or (d.fixed and stale)) and not d.stateless
        if own_gain != zero or t == 0 or every:
            if stale:
                scatter(loss, own_loss, spikes.where[a:z], loss_pre[a - base : z - base])
            if own_gain != zero:
                add(gain, own_gain, gain_pre[k, 0])
                if p.gated:
                    add(gain, -(own_gain * population.target[j]), reference[k])
                if d.power_law:
                    weigh(gain, ampa, d)
            if d.stateless:
                change_weights(ampa, exists, gain, loss, d)
            else:
                events, n_events = change_states(c, gain, loss, j, 0, 1, t, d, events, n_events)
            fill(gain, zero)
            fill(loss, zero)
        elif stale:
            # A neuron that does not fire loses receptors where a spike arrived, and nowhere else.
            where, lost = spikes.where[a:z], loss_pre[a - base : z - base]
            if d.stateless:
                weaken(ampa, exists, where, lost, own_loss, d)
            else:
                crossed = change_at(ampa, state, exists, where, lost, own_loss, d)
                if crossed > 0:  # in few steps
                    events = room(events, n_events, crossed)
                    for e in range(len(where)):
                        i = int(np.int64(where[e]))
                        n_events = convert(c, i, t, j, i, d, events, n_events)
    return events, n_events


@inner(fastmath=FAST, error_model="numpy")
def _tile(
    first: int, last: int, t0: int, length: int, c: ContactArrays, population: Population,
    spikes: InputSpikes, y: Floats, gain_pre: Floats, reference: Floats, loss_pre: Floats,
    given: Given, n: Neuron, p: Plasticity, d: Dynamics, events: Table, n_events: int,
) -> tuple[Table, int]:  # fmt: skip
    """A block of steps of neurons ``first`` to ``last`` in several presentations.

    In a tile all of an input's contacts stand together, so that a spike is some vector
    instructions.
    """
    n_batch, n_pre = spikes.dense.shape[1:]
    width, zero = last - first, np.float32(0.0)
    afferents = population.afferents
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
                copy(given.gain_post[t, b, first:last], own_gain[b])
                copy(given.loss_post[t, b, first:last], own_loss)
            else:
                if not n.taught:
                    sum_rows(drive, c.ampa, c.state, spikes.where[a:z], n.graded, d.stateless)
                    for j in range(first, last):
                        column = min(j, afferents.shape[2] - 1)
                        drive[j - first] -= population.balance[j] * afferents[t, b, column]
                for j in range(first, last):
                    fired = fire(t, b, j, drive[j - first], population, n)
                    own_gain[b, j - first], own_loss[j - first] = postsynaptic(fired, y, b, j, p)
            if any_set(own_gain[b]):
                fires = True
            if z > a and any_set(own_loss):
                stale = True
                scatter_rows(loss, own_loss, spikes.where[a:z], loss_pre[a - base : z - base])
        decays = d.retention != np.float32(1.0)
        every = fires or t == 0 or ((decays or (d.fixed and stale)) and not d.stateless)
        if fires and p.gated:
            for j in range(width):
                summed = zero
                for b in range(n_batch):
                    summed += own_gain[b, j]
                total[0, j] = -(summed * population.target[first + j])
        # Neurons that do not fire lose receptors where a spike arrived, and nowhere else.
        a, z = spikes.start[t * n_batch], spikes.start[(t + 1) * n_batch]
        n_parts = (n_pre - 1) // COLUMNS + 1 if every else (z - a if stale else 0)
        for e in range(n_parts):
            i = e * COLUMNS if every else int(np.int64(spikes.where[a + e]))
            end = min(i + COLUMNS, n_pre) if every else i + 1
            at, to = i * width, end * width
            change = gain[: to - at]
            fill(change, zero)
            if fires:
                add_products(change, own_gain, gain_pre[k], i)
                if p.gated:
                    add_products(change, total, reference[k : k + 1], i)
                if d.power_law:
                    weigh(change, c.ampa[at:to], d)
            if d.stateless:
                change_weights(c.ampa[at:to], c.exists[at:to], change, loss[at:to], d)
            else:
                events, n_events = change_states(
                    part(c, at, to), change, loss[at:to], first, i, width, t, d, events, n_events
                )
            fill(loss[at:to], zero)
    return events, n_events


@njit(cache=True, nogil=True)
def integrate(
    first: int, last: int, population: Population, drive: Floats, n: Neuron,
    sources: int = SOURCES,
) -> None:  # fmt: skip
    """All steps of neurons ``first`` to ``last`` for a net input ``drive`` [T, B, n_post] in units
    of the membrane (empty: none); spikes and membranes are written."""
    n_steps, n_batch = population.spikes.shape[:2]
    driven, zero = len(drive) > 0, np.float32(0.0)
    for t in range(n_steps):
        for b in range(n_batch):
            for j in range(first, last):
                fire(t, b, j, drive[t, b, j] if driven else zero, population, n)
