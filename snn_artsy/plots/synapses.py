"""Single contacts and whole sub-networks: survival of silence, weights, traces of one contact."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

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
    NothingRecorded,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run

_CYCLE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK)


@styled
def silent_survival(run: Run) -> Figure:
    """Share of each sub-network's contacts that are still silent, against the training
    presentations of its own task."""
    figure = new_figure(COLUMN_INCHES, 2.6)
    axes = figure.add_subplot()
    stimulus = run.stimulus
    training = stimulus.of_split("train")
    drawn = 0
    for task in run.synapse_tasks:
        counts = run.counts(task)
        own = np.sort(stimulus.stop_ms[training & (stimulus.task == task)])
        if not len(counts.time_ms) or not len(own):
            continue
        during = counts.time_ms <= own[-1]
        shown = np.searchsorted(own, counts.time_ms[during], side="right")
        total = counts.counts[during].sum(1)
        share = counts.counts[during, SILENT] / np.maximum(total, 1)
        # until the first count all contacts are as they were born: where the line starts
        axes.plot(shown, 100 * share, drawstyle="steps-post", color=_CYCLE[task % len(_CYCLE)],
                  linestyle=("-", "--", ":")[task // len(_CYCLE) % 3],
                  label=f"{task + 1}")  # fmt: skip
        drawn += 1
    if not drawn:
        raise NothingRecorded("no state counts (did a spiking learner run?)")
    axes.set(xlabel="training presentations of its own task", ylabel="silent contacts (%)")
    axes.set_ylim(0, 102)
    legend = axes.get_legend_handles_labels()
    figure.legend(*legend, loc="outside right center", title="sub-\nnetwork", ncols=1 + drawn // 12)
    return figure


@styled
def state_flow(run: Run) -> Figure:
    """Share of contacts in each state after each task, sub-network by sub-network: what converts
    stays converted, or does not."""
    tasks = [task for task in run.synapse_tasks if len(run.counts(task).time_ms)]
    if not tasks:
        raise NothingRecorded("no state counts (did a spiking learner run?)")
    stimulus = run.stimulus
    training = stimulus.of_split("train")
    ends = [float(stimulus.stop_ms[training & (stimulus.task == t)].max(initial=0)) for t in tasks]
    figure = new_figure(PAGE_INCHES, 0.7 + 0.32 * len(tasks))
    axes = figure.add_subplot()
    for row, task in enumerate(tasks):
        counts = run.counts(task)
        for step, end in enumerate(ends):
            last = int(np.searchsorted(counts.time_ms, end, side="right")) - 1
            if last < 0 or tasks[step] < task:
                continue
            left = float(step)
            shares = counts.counts[last] / max(counts.counts[last].sum(), 1)
            for state, name in enumerate(STATE_NAMES):
                axes.barh(row, 0.92 * shares[state], 0.8, left, color=STATE_COLOURS[name],
                          label=name if row == step == 0 else None)  # fmt: skip
                left += 0.92 * shares[state]
    axes.set_xticks(np.arange(len(tasks)) + 0.46, [str(t + 1) for t in tasks])
    axes.set_yticks(range(len(tasks)), [str(t + 1) for t in tasks])
    axes.invert_yaxis()
    axes.set(xlabel="after task (each box: all contacts)", ylabel="sub-network")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


@styled
def weight_map(run: Run, task: int | None = None) -> Figure:
    """AMPA occupancy of every contact of a sub-network, postsynaptic neurons x presynaptic units,
    at the last snapshot.

    Args:
        task: The sub-network; default: the first with a snapshot.
    """
    known = [t for t in run.synapse_tasks if run.moments(t)]
    if task is None and known:
        task = known[0]
    if task is None or task not in known:
        raise NothingRecorded("no snapshot of occupancy (record.snapshots)")
    moment = run.moments(task)[-1]
    ampa = run.snapshot(task, moment).ampa.mean(2)
    group = run.group(f"task{task}")
    figure = new_figure(PAGE_INCHES, 2.8)
    axes = figure.add_subplot()
    image = axes.imshow(ampa, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="none")
    if group is not None and len(group) == len(ampa):
        for edge in np.flatnonzero(np.diff(group)):
            axes.axhline(edge + 0.5, color="white", linewidth=0.6)
    axes.axvline(ampa.shape[1] / 2 - 0.5, color="white", linewidth=0.8)
    axes.set(xlabel="presynaptic unit (ON | OFF)", ylabel="postsynaptic neuron, by class",
             title=f"sub-network {task + 1}, {_in_words(moment)}")  # fmt: skip
    figure.colorbar(image, ax=axes, label="AMPA occupancy", shrink=0.9)
    return figure


@styled
def contact_trace(run: Run, task: int | None = None, synapse: int | None = None) -> Figure:
    """Recorded variables of one contact, over the training presentations; a line marks each change
    of its state.

    Args:
        task: The sub-network; default: the first with traces.
        synapse: Row of its traced contacts; default: the first that converted, else the first.
    """
    known = [t for t in run.synapse_tasks if run.traces(t) is not None]
    if task is None and known:
        task = known[0]
    traces = run.traces(task) if task is not None else None
    if task is None or traces is None or not len(traces.synapse):
        raise NothingRecorded("no traced contacts (record.traced_synapses)")
    events = run.events(task)
    changes = [
        np.flatnonzero((events.pre == pre) & (events.post == post) & (events.contact == contact))
        for pre, post, contact in traces.synapse
    ]
    if synapse is None:
        synapse = next((k for k, rows in enumerate(changes) if len(rows)), 0)
    names = [name for name in ("ampa", "state", "pre_trace", "post_trace")
             if name in traces.variables]  # fmt: skip
    labels = {"ampa": "AMPA\noccupancy", "state": "state", "pre_trace": "glutamate\ntrace",
              "post_trace": "postsynaptic\ntrace"}  # fmt: skip
    figure = new_figure(PAGE_INCHES, 0.6 + 0.9 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    seconds = traces.time_ms / 1000
    for axes, name in zip(panels, names, strict=True):
        style = {"drawstyle": "steps-post"} if name == "state" else {}
        axes.plot(seconds, traces.variables[name][:, synapse], color=BLUE, **style)
        axes.set_ylabel(labels[name])
        for row in changes[synapse]:
            axes.axvline(events.time_ms[row] / 1000, color=VERMILLION, linewidth=0.8, zorder=0)
        if name == "state":
            axes.set_yticks(range(3), STATE_NAMES)
    pre, post, _ = traces.synapse[synapse]
    panels[0].set_title(f"sub-network {task + 1}, unit {pre} to neuron {post}; "
                        "lines: changes of state")  # fmt: skip
    panels[-1].set_xlabel("simulated time (s)")
    return figure


def _in_words(moment: str) -> str:
    """``after_task_3`` -> "after task 4": files count tasks from 0, figures from 1."""
    *words, number = moment.split("_")
    return " ".join([*words, str(int(number) + 1) if number.isdigit() else number])
