"""The common x axis of training: presentations, with simulated time above and task boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from snn_artsy.plots.style import GREY, NothingRecorded
from snn_artsy.recording.reader import Run


@dataclass(frozen=True)
class Timeline:
    """Training presentations: ``stop_ms`` [n] ascending, the first's ``start_ms``, ``task`` [n]."""

    start_ms: float
    stop_ms: NDArray[np.float64]
    task: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run) -> Timeline:
        """Timeline of a run; raises NothingRecorded without training presentations."""
        stimulus = run.stimulus
        train = stimulus.of_split("train")
        if not train.any():
            raise NothingRecorded("no training presentations (did a spiking learner run?)")
        start_ms = float(stimulus.start_ms[train][0])
        return cls(start_ms, stimulus.stop_ms[train], stimulus.task[train])

    def presentations(self, time_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Training presentations shown by ``time_ms``, fractions within one counted."""
        edges = np.concatenate([[self.start_ms], self.stop_ms])
        return np.interp(time_ms, edges, np.arange(len(edges)))

    def task_starts(self) -> dict[int, int]:
        """Task -> training presentations shown before its first."""
        tasks, first = np.unique(self.task, return_index=True)
        return {int(task): int(position) for task, position in zip(tasks, first, strict=True)}

    def draw(self, axes: Axes) -> None:
        """Label the x axis, put simulated seconds above and mark where tasks begin."""
        n = len(self.stop_ms)
        # One more edge at the mean pace on either side: np.interp does not extrapolate, so ticks
        # beyond the data would otherwise all be drawn at its ends.
        pace_ms = (self.stop_ms[-1] - self.start_ms) / n
        before, after = self.start_ms - n * pace_ms, self.stop_ms[-1] + n * pace_ms
        edges = np.concatenate([[before, self.start_ms], self.stop_ms, [after]]) / 1000.0
        numbers = np.concatenate([[-n], np.arange(n + 1), [2 * n]])
        above = axes.secondary_xaxis(
            "top",
            functions=(
                lambda x: np.interp(np.asarray(x, dtype=np.float64), numbers, edges),
                lambda t: np.interp(np.asarray(t, dtype=np.float64), edges, numbers),
            ),
        )
        above.set_xlabel("simulated time (s)")
        axes.spines["top"].set_visible(False)
        axes.set_xlim(0, 1.005 * n)  # the last step would lie on the frame
        axes.set_xlabel("training presentations")
        starts = self.task_starts()
        ends = [*list(starts.values())[1:], n]
        for (task, start), end in zip(starts.items(), ends, strict=True):
            if start:
                axes.axvline(start, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
            axes.annotate(
                f"task {task + 1}" if len(starts) <= 6 else f"{task + 1}",
                ((start + end) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                size=6,
                color="0.35",
            )
