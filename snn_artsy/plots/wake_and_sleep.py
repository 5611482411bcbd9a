"""What wake and sleep do to contacts: unsilenced, silenced, consolidated, made labile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    PAGE_INCHES,
    VERMILLION,
    Canvas,
    NothingRecorded,
    inches,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run

CHANGES = {
    (SILENT, FUNCTIONAL): ("unsilenced", BLUE),
    (FUNCTIONAL, SILENT): ("silenced", VERMILLION),
    (FUNCTIONAL, CONSOLIDATED): ("consolidated", GREEN),
    (CONSOLIDATED, FUNCTIONAL): ("made labile", ORANGE),
}
_ASLEEP = "0.91"  # grey level of the shade
_BINS = 200  # about so many in the upper panel


@dataclass(frozen=True)
class Phases:
    """Runs of presentations of one task that are all training (wake) or all replay (sleep).

    Args:
        start_ms: Of every training and replayed presentation, ascending, [n].
        first: Number of each phase's first presentation, [phases].
        task: Of each phase, from 0.
        asleep: Whether each phase is replay.
    """

    start_ms: NDArray[np.float64]
    first: NDArray[np.int64]
    task: NDArray[np.int64]
    asleep: NDArray[np.bool_]

    @classmethod
    def of(cls, run: Run) -> Phases:
        """Phases of a run; raises NothingRecorded without training presentations."""
        stimulus = run.stimulus
        asleep = stimulus.of_split("replay")
        shown = asleep | stimulus.of_split("train")
        if not shown.any():
            raise NothingRecorded("no training presentations (did a spiking learner run?)")
        task, asleep = stimulus.task[shown], asleep[shown]
        begins = np.flatnonzero((np.diff(task) != 0) | (np.diff(asleep) != 0)) + 1
        first = np.concatenate([[0], begins])
        return cls(stimulus.start_ms[shown], first, task[first], asleep[first])

    @property
    def names(self) -> list[str]:
        return [
            f"{task + 1} {'sleep' if asleep else 'wake'}"
            for task, asleep in zip(self.task, self.asleep, strict=True)
        ]

    def bins(self, n: int) -> NDArray[np.int64]:
        """Edges of about ``n`` bins of presentations, each within one phase."""
        ends = [*self.first[1:], len(self.start_ms)]
        edges = [0]
        for begin, end in zip(self.first, ends, strict=True):
            parts = max(1, round(n * (end - begin) / len(self.start_ms)))
            edges += np.linspace(begin, end, min(parts, end - begin) + 1).round().tolist()[1:]
        return np.array(edges, dtype=np.int64)


def changes(
    run: Run, phases: Phases, first: NDArray[np.int64]
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Contacts of all sub-networks that made each transition of `CHANGES`, in parts of the
    presentations that begin with the numbers ``first``.

    A change at the very moment at which a part begins belongs to the part before it; only becoming
    labile, with which sleep begins, belongs to the new part.
    """
    begins = phases.start_ms[first[1:]]
    counts = {change: np.zeros(len(first), dtype=np.int64) for change in CHANGES}
    for task in run.synapse_tasks:
        for block in run.event_blocks(task):
            for (old, new), n in counts.items():
                times = block.time_ms[(block.old == old) & (block.new == new)]
                part = np.searchsorted(begins, times, "right" if old == CONSOLIDATED else "left")
                n += np.bincount(part, minlength=len(n))
    return counts


@styled
def wake_and_sleep(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """Above: contacts unsilenced and silenced per presentation, over training (wake) and replay
    (sleep, shaded). Below: how many contacts changed in each phase, with what is captured at a
    phase's end and what becomes labile as sleep begins."""
    phases = Phases.of(run)
    if not phases.asleep.any():
        raise NothingRecorded("no sleep (snn.replay.epochs is 0, nothing was replayed)")
    edges = phases.bins(_BINS)
    fine, whole = changes(run, phases, edges[:-1]), changes(run, phases, phases.first)
    if not any(n.any() for n in whole.values()):
        raise NothingRecorded("no conversion events (none happened, or record.conversions is off)")
    figure = new_figure(PAGE_INCHES, 4.0, figure)
    above, below = figure.subplots(2, 1)
    for change in ((SILENT, FUNCTIONAL), (FUNCTIONAL, SILENT)):
        rate, colour = fine[change] / np.diff(edges), CHANGES[change][1]
        above.stairs(rate, edges, baseline=None, color=colour, linewidth=0.9)
    _shade(above, phases, [*phases.first, edges[-1]])
    above.set(xlabel="presentations, training and replay", ylabel="contacts per\npresentation")
    happened = [change for change in CHANGES if whole[change].any()]
    at, width = np.arange(len(phases.first)), 0.8 / len(happened)
    for k, change in enumerate(happened):
        name, colour = CHANGES[change]
        below.bar(at + (k + 0.5) * width - 0.4, whole[change], width, color=colour, label=name)
    _shade(below, phases, [*(at - 0.5), len(at) - 0.5])
    names = phases.names
    crowded = len(names) * 0.55 > inches(figure) - 0.6
    below.set_xticks(at, names, rotation=90 if crowded else 0)
    below.set(xlabel="task and phase", ylabel="contacts in the phase")
    # sleep changes few contacts in many presentations: on linear axes they would not show
    for axes, least in ((above, 1.0 / np.diff(edges).max()), (below, 1.0)):
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7 * least)
        axes.yaxis.set_major_formatter("{x:,g}")
    legend_below(figure, below.get_legend_handles_labels(), 4)
    return figure


def _shade(axes: Axes, phases: Phases, edges: list[float]) -> None:
    for asleep, begin, end in zip(phases.asleep, edges[:-1], edges[1:], strict=True):
        if asleep:
            axes.axvspan(begin, end, color=_ASLEEP, linewidth=0, zorder=0)
    axes.set_xlim(edges[0], edges[-1])
