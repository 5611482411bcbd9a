"""Spikes of single presentations."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.observer import INPUTS
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Canvas,
    NothingRecorded,
    class_name,
    fitted,
    inches,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run
from snn_artsy.recording.schema import SPLIT_NAMES


def input_of(run: Run) -> str | None:
    """The population of input units whose spikes were recorded; None if there is none."""
    return next((name for name in INPUTS if name in run.populations), None)


def default_presentation(run: Run) -> int:
    """Row of /stimulus of the last task's first training presentation whose spikes were recorded;
    of any recorded presentation if there is none."""
    stimulus = run.stimulus
    if input_of(run) is None or not len(stimulus):
        raise NothingRecorded("no recorded spikes (did a spiking learner run?)")
    train = stimulus.of_split("train")
    searched = [train & (stimulus.task == t) for t in np.unique(stimulus.task[train])[::-1]]
    for among in (*searched, np.ones(len(stimulus), dtype=bool)):
        row = _first_recorded(run, np.flatnonzero(among))
        if row is not None:
            return row
    raise NothingRecorded("no recorded spikes fall into a recorded presentation")


def _first_recorded(run: Run, rows: NDArray[np.int64]) -> int | None:
    """The first of ascending presentations into which an input spike falls."""
    start, stop = run.stimulus.start_ms[rows], run.stimulus.stop_ms[rows]
    population = input_of(run)
    assert population is not None
    k = 0
    while k < len(rows):
        spike = run.first_spike_ms(population, float(start[k]))
        if spike is None:
            return None
        k = int(np.searchsorted(stop, spike, side="right"))  # the first that ends after it
        if k < len(rows) and start[k] <= spike:
            return int(rows[k])
    return None


@styled
def spike_raster(
    run: Run, presentation: int | None = None, *, figure: Canvas | None = None
) -> Canvas:
    """Input and postsynaptic spikes of one presentation.

    Args:
        presentation: Row of the stimulus table; default: :func:`default_presentation`.

    Raises:
        NothingRecorded: Its spikes were not recorded.
    """
    row = default_presentation(run) if presentation is None else presentation
    stimulus = run.stimulus
    if not 0 <= row < len(stimulus):
        raise NothingRecorded(f"no presentation {row}; the run has {len(stimulus)}")
    start, stop = float(stimulus.start_ms[row]), float(stimulus.stop_ms[row])
    label, task = int(stimulus.label[row]), int(stimulus.task[row])

    population = input_of(run)
    inputs = run.spikes(population, start, stop) if population else None
    if population is None or inputs is None or not len(inputs.time_ms):
        raise NothingRecorded(f"the spikes of presentation {row} were not recorded")
    figure = new_figure(5.2, 4.0, figure)
    retina, post = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    name_of_class = f"class {class_name(run.class_names, label)}"
    polarity = run.group(population) if population == "retina" else None
    if polarity is None:
        _marks(retina, inputs.time_ms - start, inputs.node, BLACK, "input")
    else:
        for code, colour, name in ((0, BLUE, "ON"), (1, VERMILLION, "OFF")):
            mine = polarity[inputs.node] == code
            _marks(retina, inputs.time_ms[mine] - start, inputs.node[mine], colour, name)
        retina.set_ylim(-0.5, len(polarity) - 0.5)
    retina.set_ylabel("input unit")

    names = sorted(
        (name for name in run.populations if name.startswith("task")),
        key=lambda name: int(name[4:]),
    )
    told = {
        name: spikes
        for name in names
        if len((spikes := run.spikes(name, start, stop)).time_ms) or name == f"task{task}"
    }
    offset = 0
    for name, spikes in told.items():
        group = run.group(name)
        size = (int(spikes.node.max(initial=0)) + 1) if group is None else len(group)
        own = (
            np.zeros(len(spikes.node), dtype=bool) if group is None else group[spikes.node] == label
        )
        rows = spikes.node + offset
        _marks(post, spikes.time_ms[own] - start, rows[own], PURPLE, f"assembly of {name_of_class}")
        _marks(post, spikes.time_ms[~own] - start, rows[~own], BLACK, "other neurons")
        post.annotate(
            f"sub-network {int(name[4:]) + 1}" if len(told) == 1 else f"{int(name[4:]) + 1}",
            (1.0, offset + size / 2),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            rotation=270,
            va="center",
            size=6,
        )
        offset += size
        post.axhline(offset - 0.5, color=GREY, linewidth=0.4)
    post.set_ylim(-0.5, max(offset, 1) - 0.5)
    post.set_ylabel("postsynaptic neuron" if len(told) == 1 else "neurons by sub-network")
    period, spread = _teaching(run)
    first = float(stimulus.teacher_ms[row]) - start
    if np.isfinite(first):
        for teacher in np.arange(first, stop - start, period or np.inf):
            for axes in (retina, post):
                if spread:  # of the neurons of an assembly
                    axes.axvspan(
                        teacher, teacher + 2 * spread, color=ORANGE, alpha=0.3, linewidth=0,
                        zorder=0, label="teacher",
                    )  # fmt: skip
                else:
                    axes.axvline(
                        teacher, color=ORANGE, linestyle="--", linewidth=1.0, zorder=0,
                        label="teacher",
                    )  # fmt: skip
    # what fires in the first step would lie on the frame
    post.set(xlabel="time since stimulus onset (ms)", xlim=(-0.02 * (stop - start), stop - start))
    split = SPLIT_NAMES[int(stimulus.split[row])]
    title = f"presentation {row}: {split} sample {stimulus.index[row]}, {name_of_class}"
    retina.set_title(fitted(title, inches(figure) - 0.9))
    handles: dict[str, Artist] = {}
    for axes in (retina, post):
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    legend = legend_below(figure, (list(handles.values()), list(handles)), 5)
    for handle in [] if legend is None else legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([25])
    return figure


def _teaching(run: Run) -> tuple[float | None, float]:
    """How far teaching spikes are apart, and by how much they are spread over an assembly (ms), as
    the run's configuration says; one that says nothing has one teaching spike."""
    try:
        config: Any = run.settings
        encoding, teacher = config["snn"]["encoding"], config["snn"]["teacher"]
        period, spread = float(encoding["period_ms"]), float(teacher["phase_spread_ms"])
    except (ConfigError, KeyError, TypeError, ValueError):
        return None, 0.0
    return (period if period > 0 else None), max(spread, 0.0)


def _marks(
    axes: Axes, time_ms: NDArray[np.float64], row: NDArray[np.int64], colour: str, name: str
) -> None:
    if len(time_ms):
        size = float(np.clip(6e3 / len(time_ms), 1.5, 25.0))
        axes.scatter(
            time_ms,
            row,
            s=size,
            c=colour,
            marker="|",
            linewidths=0.9,
            rasterized=len(time_ms) > 2000,
            label=name,
        )
