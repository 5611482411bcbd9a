"""How contacts convert: counts over time, single events, occupancy."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT, STATE_NAMES
from snn_artsy.plots.style import (
    BLUE,
    GREEN,
    GREY,
    PAGE_INCHES,
    STATE_COLOURS,
    VERMILLION,
    Canvas,
    NothingRecorded,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.plots.timeline import Timeline, counts_from_birth
from snn_artsy.recording.reader import Run
from snn_artsy.recording.tables import Events

_TRANSITIONS = (
    (SILENT, FUNCTIONAL, "silent → functional", BLUE),
    (FUNCTIONAL, SILENT, "functional → silent", VERMILLION),
    (FUNCTIONAL, CONSOLIDATED, "functional → consolidated", GREEN),
)


def total_counts(run: Run, tasks: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Contacts in each state, summed over sub-networks: time_ms [n], counts [n, 3].

    Between its own counts a sub-network keeps the last one; before its first it has no contacts.
    """
    series = [c for task in tasks if len((c := counts_from_birth(run, task)).time_ms)]
    if not series:
        raise NothingRecorded("no state counts (did a spiking learner run?)")
    time_ms = np.unique(np.concatenate([counts.time_ms for counts in series]))
    total = np.zeros((len(time_ms), len(STATE_NAMES)), dtype=np.int64)
    for counts in series:
        last = np.searchsorted(counts.time_ms, time_ms, side="right") - 1
        total += np.where(last[:, None] >= 0, counts.counts[last], 0)
    return time_ms, total


@styled
def conversion_counts(run: Run, task: int | None = None, *, figure: Canvas | None = None) -> Canvas:
    """Silent, functional and consolidated contacts over the training presentations.

    Args:
        task: Only this sub-network's contacts; default: those of all sub-networks together.
    """
    time_ms, counts = total_counts(run, run.synapse_tasks if task is None else (task,))
    timeline = Timeline.of(run)
    figure = new_figure(PAGE_INCHES, 2.6, figure)
    axes = figure.add_subplot()
    shown = timeline.presentations(time_ms)
    for state, name in enumerate(STATE_NAMES):
        axes.plot(
            shown, counts[:, state], drawstyle="steps-post", color=STATE_COLOURS[name], label=name
        )
    whose = "all sub-networks" if task is None else f"sub-network {task + 1}"
    axes.set_ylabel(f"contacts, {whose}")
    axes.set_ylim(0, 1.12 * max(1, counts.max()))  # room for the names of the tasks
    axes.yaxis.set_major_formatter("{x:,.0f}")
    timeline.draw(axes)
    legend_below(figure, axes.get_legend_handles_labels(), 3)
    return figure


@styled
def conversion_rate(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """Contacts that change state per training presentation, for each kind of transition, summed
    over sub-networks: a point for each update, at the middle of the presentations it was made from.
    Contacts that are captured or become labile between presentations are left out."""
    timeline = Timeline.of(run)
    updates, n_changed = _changes_per_update(run, float(timeline.stop_ms[-1]))
    if not any(n.any() for n in n_changed.values()):
        raise NothingRecorded("no conversion events (none happened, or record.conversions is off)")
    ends = timeline.presentations(updates)
    begins = np.concatenate([[0.0], ends[:-1]])
    figure = new_figure(PAGE_INCHES, 2.6, figure)
    axes = figure.add_subplot()
    for old, new, name, colour in _TRANSITIONS:
        n = n_changed[old, new]
        if n.any():
            shown = ends > begins  # no rate for what changes between presentations
            x, rate = 0.5 * (begins + ends)[shown], n[shown] / (ends - begins)[shown]
            # a new task is a new sub-network: its rate does not follow from the one before
            task = np.searchsorted(list(timeline.task_starts().values()), x, side="right")
            for number in np.unique(task):
                axes.plot(
                    x[task == number], rate[task == number], ".-" if len(x) < 100 else "-",
                    color=colour, linewidth=0.9, label=name if number == task[0] else None,
                )  # fmt: skip
    axes.set_ylabel("contacts per presentation")
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    timeline.draw(axes)
    legend_below(figure, axes.get_legend_handles_labels(), 3)
    return figure


def _changes_per_update(
    run: Run, stop_ms: float
) -> tuple[NDArray[np.float64], dict[tuple[int, int], NDArray[np.int64]]]:
    """Times of all updates; of each transition, how many contacts made it since the one before."""
    counted = [run.counts(task).time_ms for task in run.synapse_tasks]
    updates = np.unique(np.concatenate([*counted, [stop_ms]]))
    n_changed = {t[:2]: np.zeros(len(updates), dtype=np.int64) for t in _TRANSITIONS}
    for task, times in zip(run.synapse_tasks, counted, strict=True):
        own, n = np.unique(times, return_counts=True)
        captured = own[n > 1]  # times with two counts: after the last update and after capture
        for block in run.event_blocks(task):
            for (old, new), total in n_changed.items():
                mine = (block.old == old) & (block.new == new)
                if new == CONSOLIDATED:
                    mine &= ~np.isin(block.time_ms, captured)
                position = np.searchsorted(updates, block.time_ms[mine])
                total += np.bincount(position, minlength=len(updates))[: len(updates)]
    return updates, n_changed


@styled
def conversion_raster(run: Run, most: int = 200_000, *, figure: Canvas | None = None) -> Canvas:
    """Every change of state as a mark: training presentations x contact, coloured by transition.

    The y axis stacks the sub-networks' postsynaptic neurons; within a neuron's row, height is the
    presynaptic unit.

    Args:
        most: Beyond so many events only every k-th is drawn; the title then says so.
    """
    timeline = Timeline.of(run)
    total = sum(run.n_events(task) for task in run.synapse_tasks)
    if not total:
        raise NothingRecorded("no conversion events (none happened, or record.conversions is off)")
    every = -(-total // most)
    figure = new_figure(PAGE_INCHES, 3.4, figure)
    axes = figure.add_subplot()
    drawn = total // every
    size = float(np.clip(4e4 / drawn, 0.4, 12.0))
    alpha = float(np.clip(3e4 / drawn, 0.05, 1.0))  # many events show as density
    offset = 0
    handles = {}
    for task in run.synapse_tasks:
        events = _thinned(run, task, every)
        if not len(events.time_ms):
            continue
        group = run.group(f"task{task}")
        n_post = int(events.post.max()) + 1 if group is None else len(group)
        row = offset + events.post + events.pre / (events.pre.max() + 1)
        x = timeline.presentations(events.time_ms)
        masks = [(events.old == old) & (events.new == new) for old, new, _, _ in _TRANSITIONS]
        # Rare transitions are drawn last, or the common ones would cover them.
        for transition in np.argsort([-mask.sum() for mask in masks]):
            mine, (_, _, name, colour) = masks[transition], _TRANSITIONS[transition]
            if mine.any():
                axes.scatter(
                    x[mine],
                    row[mine],
                    s=size,
                    c=colour,
                    alpha=alpha,
                    marker="|" if drawn < 5000 else "s",
                    linewidths=0.5 if drawn < 5000 else 0,
                    rasterized=True,
                    label=name,
                )
                handles[name] = Line2D([], [], color=colour, marker="s", linestyle="", label=name)
        offset += n_post
        axes.axhline(offset, color=GREY, linewidth=0.4)
    axes.set_ylim(0, offset * 1.1)  # room for the names of the tasks
    axes.set_ylabel("postsynaptic neuron (sub-networks stacked)")
    if every > 1:
        axes.set_title(f"one of {every} events drawn, of {total:,}")
    timeline.draw(axes)
    legend_below(figure, (list(handles.values()), list(handles)), 3, handletextpad=0.2)
    return figure


def _thinned(run: Run, task: int, every: int) -> Events:
    """Every k-th event of a sub-network, k being ``every``."""
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in Events.__dataclass_fields__}
    before = 0
    for block in run.event_blocks(task):
        for name, parts in pieces.items():
            # a copy, or the view would keep the whole block
            parts.append(getattr(block, name)[-before % every :: every].copy())
        before += len(block.time_ms)
    columns = {
        name: np.concatenate(parts) if parts else np.empty(0, int) for name, parts in pieces.items()
    }
    return Events(**columns)


@styled
def ampa_occupancy(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """Distribution of AMPA occupancy over the contacts of all sub-networks at each task end."""
    edges = np.linspace(0.0, 1.0, 41)
    pooled: dict[str, NDArray[np.int64]] = {}
    order: dict[str, tuple[int, str]] = {}
    for task in run.synapse_tasks:
        for position, moment in enumerate(run.moments(task)):
            values = np.clip(run.snapshot(task, moment).ampa.ravel(), 0.0, 1.0)
            pooled[moment] = pooled.get(moment, 0) + np.histogram(values, edges)[0]
            order.setdefault(moment, (task + position, moment))  # a task's moments start at it
    if not pooled:
        raise NothingRecorded("no snapshots (did a spiking learner run with record.snapshots?)")
    figure = new_figure(3.9, 2.6, figure)
    axes = figure.add_subplot()
    moments = sorted(pooled, key=lambda name: order[name])
    colours = matplotlib.colormaps["cividis"](np.linspace(0.0, 0.9, len(moments)))
    for moment, colour in zip(moments, colours, strict=True):
        share = pooled[moment] / pooled[moment].sum()
        number = moment.removeprefix("after_task_")
        name = f"task {int(number) + 1}" if number.isdigit() else moment
        axes.stairs(share, edges, color=colour, label=name, linewidth=1.0)
    axes.set_yscale("log")
    axes.set(xlim=(0, 1), xlabel="AMPA occupancy a", ylabel="share of contacts")
    legend_below(figure, axes.get_legend_handles_labels(), 5, title="after")
    return figure
