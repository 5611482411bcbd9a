"""One contact through its conversion: receptors, membrane and traces over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_artsy.observer import STATE_NAMES
from snn_artsy.plots.style import (
    BLUE,
    GREY,
    PAGE_INCHES,
    VERMILLION,
    Canvas,
    NothingRecorded,
    fitted,
    inches,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run

_LABELS = {
    "ampa": "AMPA\noccupancy",
    "state": "state",
    "pre_trace": "glutamate\ntrace",
    "nmda_open": "NMDA open",
    "membrane_mV": "membrane\n(mV)",
    "post_trace": "postsynaptic\ntrace",
}
# The points of a series that has no more than these are batches, and each gets a mark.
_MARKED = 60


@styled
def contact_series(
    time_ms: ArrayLike,
    variables: Mapping[str, ArrayLike],
    changes_ms: Sequence[float] = (),
    starts_ms: Sequence[float] = (),
    title: str = "",
    becomes: Sequence[int] = (),
    *,
    figure: Canvas | None = None,
) -> Canvas:
    """One contact's variables over time, of a run or of `synapses.trace_contacts`.

    Args:
        time_ms: [n]. variables: Name -> [n]; drawn are ``ampa``, ``state``, ``pre_trace``,
            ``nmda_open``, ``membrane_mV`` and ``post_trace``.
        changes_ms: When its state changed: red lines.
        starts_ms: When presentations started: grey lines.
        becomes: State code after each of the changes; the line of the state then follows those that
            came with the last point or after it, as capture at a task's end does.
    """
    names = [name for name in _LABELS if name in variables]
    figure = new_figure(PAGE_INCHES, 0.6 + 0.75 * len(names), figure)
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    seconds = np.asarray(time_ms, dtype=np.float64) / 1000
    for axes, name in zip(panels, names, strict=True):
        steps = name in ("state", "ampa") and len(seconds) > _MARKED
        style = {"drawstyle": "steps-post"} if name == "state" or steps else {}
        if len(seconds) <= _MARKED and name != "state":
            style["marker"] = "."
        x, y = seconds, np.asarray(variables[name])
        if name == "state":
            x, y = _followed(x, y, changes_ms, becomes)
        axes.plot(x, y, color=BLUE, **style)
        axes.set_ylabel(_LABELS[name])
        for change in changes_ms:
            axes.axvline(change / 1000, color=VERMILLION, linewidth=0.8, zorder=0)
        for start in starts_ms:
            axes.axvline(start / 1000, color=GREY, linewidth=0.4, zorder=-1)
        if name == "state":
            axes.set_yticks(range(3), STATE_NAMES)
    panels[0].set_title(fitted(title, inches(figure) - 0.9))
    panels[-1].set_xlabel("simulated time (s)")
    return figure


@styled
def contact_trace(
    run: Run, task: int | None = None, synapse: int | None = None, *, figure: Canvas | None = None
) -> Canvas:
    """Receptors, membrane and traces of one contact through its conversion; red lines mark changes
    of its state.

    With `update: step` it is the window around a change (else the first one), in every step, and
    grey lines mark where presentations start. With `update: presentation` it is the whole training:
    occupancy and state after each batch, the others as means of the batch.

    Args:
        task: The sub-network; default: the first with traces.
        synapse: Row of its traced contacts; default: the one whose first change came latest, of
            those that changed within a window, so that most is seen of what led to it.

    Raises:
        NothingRecorded: There are no traces.
    """
    known = [t for t in run.synapse_tasks if run.traced(t) is not None]
    if task is None and known:
        task = known[0]
    traced = run.traced(task) if task is not None else None
    if task is None or traced is None or not len(traced):
        raise NothingRecorded("no traced contacts (record.traced_synapses)")
    changes = _changes_of(run, task, traced)
    times = run.traces(task, 0)
    assert times is not None
    windows = _windows(run, times.time_ms)
    first = [
        min((c for c, _ in own if _window_of(windows, times.time_ms, c) is not None), default=-1.0)
        for own in changes
    ]
    if synapse is None:
        end = times.time_ms[-1]  # what changes there shows nothing of the time after
        synapse = max(range(len(traced)), key=lambda k: (first[k] < end, first[k], -k))
    window = _window_of(windows, times.time_ms, first[synapse])
    rows = windows[0] if window is None else window
    traces = run.traces(task, synapse)
    assert traces is not None
    time_ms = traces.time_ms[rows]
    within = changes[synapse]
    starts: list[float] = []
    if len(windows) > 1:
        shown = run.stimulus.start_ms
        starts = shown[(shown >= time_ms[0]) & (shown <= time_ms[-1])].tolist()
        within = [(c, new) for c, new in within if time_ms[0] <= c <= time_ms[-1]]
    pre, post, _ = traced[synapse]
    return contact_series(
        time_ms,
        {name: values[rows, 0] for name, values in traces.variables.items()},
        [change for change, _ in within],
        starts,
        f"sub-network {task + 1}, unit {pre} to neuron {post}; red lines: changes of state",
        [new for _, new in within],
        figure=figure,
    )


def _windows(run: Run, time_ms: NDArray[np.float64]) -> list[slice]:
    """Rows of traces that follow each other without a presentation left out."""
    start, stop = run.stimulus.start_ms, run.stimulus.stop_ms
    if len(time_ms) < 2 or not len(start):
        return [slice(0, len(time_ms))]
    # between the last step of one presentation and the first of the next there is the gap between
    # presentations; where one is left out there is its length besides
    gap = max(0.0, float(np.min(np.diff(start), initial=np.inf) - np.min(stop - start)))
    gap = gap if np.isfinite(gap) else 0.0
    between = np.diff(time_ms)
    apart = between > np.median(between) + gap + 0.5 * float(np.min(stop - start))
    edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(time_ms)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _window_of(
    windows: list[slice], time_ms: NDArray[np.float64], change_ms: float
) -> slice | None:
    """The window in which a change came."""
    inside = (w for w in windows if time_ms[w][0] <= change_ms <= time_ms[w][-1])
    return next(inside, None)


def _followed(
    seconds: NDArray[np.float64],
    state: NDArray[np.float64],
    changes_ms: Sequence[float],
    becomes: Sequence[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The state's line with the changes that came with its last point or after it, and a little of
    the time after them."""
    late = [
        (change / 1000, new)
        for change, new in zip(changes_ms, becomes, strict=False)
        if change / 1000 >= seconds[-1]
    ]
    if not late:
        return seconds, state
    end = late[-1][0]
    late.append((end + 0.02 * (end - seconds[0]), late[-1][1]))
    x, y = np.array(late).T
    return np.concatenate([seconds, x]), np.concatenate([state, y])


def _changes_of(run: Run, task: int, traced: NDArray[np.int64]) -> list[list[tuple[float, int]]]:
    """Times (ms) at which each traced contact changed state, and what it became."""
    times: list[list[tuple[float, int]]] = [[] for _ in traced]
    for events in run.event_blocks(task):
        for k, (pre, post, contact) in enumerate(traced):
            own = (events.pre == pre) & (events.post == post) & (events.contact == contact)
            times[k] += zip(events.time_ms[own].tolist(), events.new[own].tolist(), strict=True)
    return times
