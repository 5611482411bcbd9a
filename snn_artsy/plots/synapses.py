"""Whole sub-networks: survival of silence, flow between states, weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from snn_artsy.observer import SILENT, STATE_NAMES
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    COLUMN_INCHES,
    GREEN,
    ORANGE,
    PAGE_INCHES,
    PURPLE,
    SKY,
    STATE_COLOURS,
    VERMILLION,
    Canvas,
    NothingRecorded,
    class_name,
    inches,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.plots.timeline import counts_from_birth
from snn_artsy.recording.reader import Run

_CYCLE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK)


@styled
def silent_survival(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """Share of each sub-network's contacts that are still silent, against the training
    presentations of its own task."""
    stimulus = run.stimulus
    training = stimulus.of_split("train")
    curves = {}
    for task in run.synapse_tasks:
        counts = counts_from_birth(run, task)
        own = np.sort(stimulus.stop_ms[training & (stimulus.task == task)])
        if not len(counts.time_ms) or not len(own):
            continue
        during = counts.time_ms <= own[-1]
        shown = np.searchsorted(own, counts.time_ms[during], side="right")
        total = counts.counts[during].sum(1)
        share = counts.counts[during, SILENT] / np.maximum(total, 1)
        curves[task] = (shown, 100 * share)
    if not curves:
        raise NothingRecorded("no state counts (did a spiking learner run?)")
    figure = new_figure(COLUMN_INCHES, 2.8, figure)
    axes = figure.add_subplot()
    for task, (shown, percent) in curves.items():
        axes.plot(shown, percent, drawstyle="steps-post", color=_CYCLE[task % len(_CYCLE)],
                  linestyle=("-", "--", ":")[task // len(_CYCLE) % 3],
                  label=f"{task + 1}")  # fmt: skip
    axes.set(xlabel="training presentations of its own task", ylabel="silent contacts (%)")
    axes.set_ylim(0, 102)
    legend_below(figure, axes.get_legend_handles_labels(), 10, title="sub-network")
    return figure


@styled
def state_flow(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """Share of contacts in each state after each task, sub-network by sub-network."""
    tasks = [task for task in run.synapse_tasks if len(run.counts(task).time_ms)]
    if not tasks:
        raise NothingRecorded("no state counts (did a spiking learner run?)")
    stimulus = run.stimulus
    training = stimulus.of_split("train")
    ends = [float(stimulus.stop_ms[training & (stimulus.task == t)].max(initial=0)) for t in tasks]
    figure = new_figure(PAGE_INCHES, 0.7 + 0.32 * len(tasks), figure)
    axes = figure.add_subplot()
    present: dict[str, bool] = {}
    for row, task in enumerate(tasks):
        counts = run.counts(task)
        for step, end in enumerate(ends):
            last = int(np.searchsorted(counts.time_ms, end, side="right")) - 1
            if last < 0 or tasks[step] < task:
                continue
            left = float(step)
            shares = counts.counts[last] / max(counts.counts[last].sum(), 1)
            for state, name in enumerate(STATE_NAMES):
                axes.barh(row, 0.92 * shares[state], 0.8, left, color=STATE_COLOURS[name])
                present |= {name: present.get(name, False) or shares[state] > 0}
                left += 0.92 * shares[state]
    axes.set_xticks(np.arange(len(tasks)) + 0.46, [str(t + 1) for t in tasks])
    axes.set_yticks(range(len(tasks)), [str(t + 1) for t in tasks])
    axes.invert_yaxis()
    axes.set(xlabel="after task (each box: all contacts)", ylabel="sub-network")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _state_legend(figure, [name for name, is_there in present.items() if is_there])
    return figure


def _state_legend(figure: Canvas, names: Sequence[str]) -> None:
    handles = [Patch(color=STATE_COLOURS[name], label=name) for name in names]
    legend_below(figure, (handles, names), 3)


@styled
def transition_flow(run: Run, task: int | None = None, *, figure: Canvas | None = None) -> Canvas:
    """How a sub-network's contacts move between states from one task's end to the next: columns
    are shares in each state, bands the contacts that went from one to another.

    Args:
        task: The sub-network; default: the first with snapshots.
    """
    task = _default_task(run, task)
    moments = run.moments(task)
    shares = [np.array([1.0, 0.0, 0.0])]  # born silent, as far as snapshots tell
    flows = []
    before: NDArray[np.uint8] | None = None
    for moment in moments:
        state = run.snapshot(task, moment).state
        codes = state.ravel() + 3 * (np.zeros_like(state) if before is None else before).ravel()
        flow = np.bincount(codes, minlength=9).reshape(3, 3) / state.size
        flows.append(flow)
        shares.append(flow.sum(0))
        before = state
    figure = new_figure(PAGE_INCHES, 2.8, figure)
    axes = figure.add_subplot()
    width = 0.16
    for step, share in enumerate(shares):
        axes.bar(
            np.full(3, step), share, width, np.concatenate([[0], share.cumsum()[:-1]]),
            color=list(STATE_COLOURS.values()),
        )  # fmt: skip
    for step, flow in enumerate(flows):
        x = np.linspace(step + width / 2, step + 1 - width / 2, 30)
        ease = 0.5 - 0.5 * np.cos(np.pi * (x - x[0]) / (x[-1] - x[0]))
        left = np.concatenate([[0], flow.sum(1).cumsum()[:-1]])
        right = np.concatenate([[0], flow.sum(0).cumsum()[:-1]])
        for old, new in np.ndindex(3, 3):
            share = flow[old, new]
            if share > 0:
                low = left[old] + (right[new] - left[old]) * ease
                colour = STATE_COLOURS[STATE_NAMES[new]]
                axes.fill_between(x, low, low + share, color=colour, alpha=0.35, linewidth=0)
                left[old] += share
                right[new] += share
    axes.set_xticks(range(len(shares)), ["birth", *(_in_words(m) for m in moments)])
    axes.set(ylim=(0, 1), ylabel=f"share of contacts, sub-network {task + 1}")
    axes.tick_params(axis="x", length=0)
    if len(shares) * 0.75 > inches(figure) - 0.6:  # names would run into each other
        axes.tick_params(axis="x", rotation=45)
    met = np.max(shares, axis=0) > 0
    _state_legend(figure, [name for name, is_met in zip(STATE_NAMES, met, strict=True) if is_met])
    return figure


# Most rows, columns and panels of a weight map; a printed page shows no finer detail.
_MAP_ROWS, _MAP_COLUMNS, _MAP_PANELS = 400, 1200, 12


@styled
def weight_map(run: Run, task: int | None = None, *, figure: Canvas | None = None) -> Canvas:
    """AMPA occupancy of every contact, postsynaptic neurons x presynaptic units, at the last
    snapshot of each sub-network.

    Args:
        task: Only this sub-network; default: all (the first 12).
    """
    known = [t for t in run.synapse_tasks if run.moments(t)]
    tasks = known[:_MAP_PANELS] if task is None else [_default_task(run, task)]
    if not tasks:
        raise NothingRecorded("no snapshot of occupancy (record.snapshots)")
    on_off = run.group("expansion") is None
    figure = new_figure(PAGE_INCHES, 2.8 if len(tasks) == 1 else 0.8 + 1.0 * len(tasks), figure)
    panels = figure.subplots(len(tasks), 1, sharex=True, squeeze=False)[:, 0]
    for axes, t in zip(panels, tasks, strict=True):
        moment = run.moments(t)[-1]
        ampa = run.snapshot(t, moment).ampa.mean(2)
        group = run.group(f"task{t}")
        n_post, n_pre = ampa.shape
        image = axes.imshow(
            _coarse(ampa, _MAP_ROWS, _MAP_COLUMNS), cmap="cividis", vmin=0, vmax=1, aspect="auto",
            interpolation="none", extent=(-0.5, n_pre - 0.5, n_post - 0.5, -0.5),
        )  # fmt: skip
        if group is not None and len(group) == n_post:
            for edge in np.flatnonzero(np.diff(group)):
                axes.axhline(edge + 0.5, color="white", linewidth=0.6)
            _name_classes(axes, group, run.class_names)
        if on_off:
            axes.axvline(n_pre / 2 - 0.5, color="white", linewidth=0.8)
        axes.set_title(f"sub-network {t + 1}, {_in_words(moment)}")
    panels[-1].set_xlabel(f"presynaptic unit{' (ON | OFF)' if on_off else ''}")
    figure.supylabel("postsynaptic neuron, by class", size=rcParams["axes.labelsize"])
    figure.colorbar(
        image, ax=panels, label="AMPA occupancy", shrink=0.9 if len(tasks) == 1 else 0.4
    )
    return figure


def _name_classes(axes: Axes, group: NDArray[np.int64], names: Sequence[str]) -> None:
    """Ticks with names at the assemblies' centres, where there are few enough to be read."""
    classes = [int(c) for c in dict.fromkeys(group) if c >= 0]
    if names and 0 < len(classes) <= 5:
        centres = [float(np.flatnonzero(group == c).mean()) for c in classes]
        axes.set_yticks(centres, [class_name(names, c) for c in classes])


def _coarse(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Means of blocks, so that at most so many rows and columns remain."""
    for axis, most in ((0, rows), (1, columns)):
        block = -(-values.shape[axis] // most)
        if block > 1:
            starts = np.arange(0, values.shape[axis], block)
            sums = np.add.reduceat(values, starts, axis=axis)
            n = np.diff([*starts, values.shape[axis]])
            values = (sums / (n[:, None] if axis == 0 else n)).astype(np.float32)
    return values


def _default_task(run: Run, task: int | None) -> int:
    """A sub-network with snapshots: the one asked for, or the first."""
    known = [t for t in run.synapse_tasks if run.moments(t)]
    if task is None and known:
        return known[0]
    if task is None or task not in known:
        raise NothingRecorded("no snapshot of occupancy (record.snapshots)")
    return task


def _in_words(moment: str) -> str:
    """``after_task_3`` -> "after task 4": files count tasks from 0, figures from 1."""
    *words, number = moment.split("_")
    return " ".join([*words, str(int(number) + 1) if number.isdigit() else number])
