"""The common x axis of training: presentations, with simulated time above and task boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from snn_artsy.plots.style import GREY, NothingRecorded, inches
from snn_artsy.recording.reader import Run
from snn_artsy.recording.tables import Counts


@dataclass(frozen=True)
class Timeline:
    """Training presentations: ``start_ms`` and ``stop_ms`` [n] ascending, ``task`` [n]."""

    start_ms: NDArray[np.float64]
    stop_ms: NDArray[np.float64]
    task: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run) -> Timeline:
        """Timeline of a run; raises NothingRecorded without training presentations."""
        stimulus = run.stimulus
        train = stimulus.of_split("train")
        if not train.any():
            raise NothingRecorded("no training presentations (did a spiking learner run?)")
        return cls(stimulus.start_ms[train], stimulus.stop_ms[train], stimulus.task[train])

    def presentations(self, time_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Training presentations shown by ``time_ms``, fractions within one counted; what is shown
        between two of them (tests, replay) is no part of any."""
        begun = np.searchsorted(self.start_ms, time_ms, side="right") - 1
        k = np.maximum(begun, 0)
        length = self.stop_ms[k] - self.start_ms[k]
        within = (np.asarray(time_ms) - self.start_ms[k]) / np.where(length > 0, length, 1.0)
        return np.where(begun < 0, 0.0, k + np.clip(within, 0.0, 1.0))

    def task_starts(self) -> dict[int, int]:
        """Task -> training presentations shown before its first."""
        tasks, first = np.unique(self.task, return_index=True)
        return {int(task): int(position) for task, position in zip(tasks, first, strict=True)}

    def draw(self, axes: Axes) -> None:
        """Label the x axis, put simulated seconds above and mark where tasks begin."""
        n = len(self.stop_ms)
        # One more edge at the mean pace on either side: np.interp does not extrapolate, so ticks
        # beyond the data would otherwise all be drawn at its ends.
        first = self.start_ms[0]
        pace_ms = (self.stop_ms[-1] - first) / n
        before, after = first - n * pace_ms, self.stop_ms[-1] + n * pace_ms
        edges = np.concatenate([[before, first], self.stop_ms, [after]]) / 1000.0
        numbers = np.concatenate([[-n], np.arange(n + 1), [2 * n]])
        above = axes.secondary_xaxis(
            "top",
            functions=(
                lambda x: np.interp(np.asarray(x, dtype=np.float64), numbers, edges),
                lambda t: np.interp(np.asarray(t, dtype=np.float64), edges, numbers),
            ),
        )
        above.set_xlabel("simulated time (s)")
        wide = max(2, int(inches(axes.figure)))
        round_s = MaxNLocator(wide + 1, steps=[1, 2, 2.5, 5, 10]).tick_values(edges[1], edges[-2])
        times = round_s[(round_s >= edges[1]) & (round_s <= edges[-2])]
        # replay and tests between tasks crowd even steps of time, which then are not all told
        told, last = list[float](), -np.inf
        for time, place in zip(times, np.interp(times, edges, numbers), strict=True):
            if place - last >= 0.6 * n / wide:
                told.append(time)
                last = place
        above.set_xticks(told, [f"{time:.10g}" for time in told])
        axes.spines["top"].set_visible(False)
        axes.set_xlim(0, 1.005 * n)  # the last step would lie on the frame
        axes.set_xlabel("training presentations")
        starts = self.task_starts()
        ends = [*list(starts.values())[1:], n]
        width = inches(axes.figure)
        in_words = len(starts) * 0.45 < 0.8 * width
        every = max(1, int(np.ceil(len(starts) * 0.2 / max(0.8 * width, 0.2))))
        for number, ((task, start), end) in enumerate(zip(starts.items(), ends, strict=True)):
            if start:
                axes.axvline(start, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
            if number % every:
                continue
            axes.annotate(
                f"task {task + 1}" if in_words else f"{task + 1}",
                ((start + end) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                size=6,
                color="0.35",
            )


def counts_from_birth(run: Run, task: int) -> Counts:
    """Contacts of a sub-network in each state, from its birth on.

    Runs count first after the first batch; what the contacts were before follows from the changes
    of state until then. Of runs that recorded no changes that is unknown, and the counts are as
    they were recorded.
    """
    counts = run.counts(task)
    stimulus = run.stimulus
    born = stimulus.start_ms[stimulus.of_split("train") & (stimulus.task == task)]
    changed = bool(np.diff(counts.counts, axis=0).any())
    if not len(counts.time_ms) or not len(born) or (changed and not run.n_events(task)):
        return counts
    first = counts.counts[0].astype(np.int64)
    for block in run.event_blocks(task):
        early = block.time_ms <= counts.time_ms[0]
        first = first + np.bincount(block.old[early], minlength=3)
        first = first - np.bincount(block.new[early], minlength=3)
    return Counts(
        np.concatenate([[born.min()], counts.time_ms]), np.concatenate([[first], counts.counts])
    )
