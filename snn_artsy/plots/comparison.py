"""Learners compared over seeds: from the summary of ``snn-artsy compare``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from snn_artsy.evaluation.metrics import wilson_interval
from snn_artsy.plots.style import (
    BLACK,
    GREY,
    Canvas,
    NothingRecorded,
    fitted,
    inches,
    learner_colour,
    learner_marker,
    learner_name,
    new_figure,
    plain,
    styled,
)
from snn_artsy.printing import names_of
from snn_artsy.recording.reader import Run

_SPIKES = " (spikes)"


@styled
def differences(
    summary: Mapping[str, Any],
    against: str = "simplecil",
    leave_out: Collection[str] = (),
    *,
    figure: Canvas | None = None,
) -> Canvas:
    """A_last of each learner less that of one of them, with 95 % intervals over seeds and test
    images, large and filled where Holm's p < 0.05, else hollow; small grey lines are single seeds.

    Args:
        summary: ``summary.json`` of a comparison.
        against: The learner that is subtracted.
        leave_out: Learners not to draw, such as those far below all others.

    Raises:
        NothingRecorded: It did not take part, or was alone.
    """
    rows = []
    # of entries that answered alike, the first stands for all
    against = next((g[0] for g in summary.get("alike", ()) if against in g), against)
    for pair in summary["pairs"]:
        shown = not {n.removesuffix(_SPIKES) for n in (pair["a"], pair["b"])} & set(leave_out)
        if shown and against in (pair["a"], pair["b"]):
            sign = 1.0 if pair["b"] == against else -1.0
            other = pair["a"] if sign > 0 else pair["b"]
            low, high = sorted(sign * 100 * bound for bound in pair["interval_95"])
            values = [sign * 100 * v for v in pair["values"]]
            rows.append((other, sign * 100 * pair["difference"], low, high, values, pair["p_holm"]))
    if not rows:
        raise NothingRecorded(f"no pair with {against} in this comparison")
    rows.sort(key=lambda row: row[1])
    figure = new_figure(4.6, 0.8 + 0.22 * len(rows), figure)
    axes = figure.add_subplot()
    for y, (name, mean, low, high, values, p) in enumerate(rows):
        learner = name.removesuffix(_SPIKES)
        colour = learner_colour(learner, y)
        axes.plot(values, [y] * len(values), "|", color=GREY, markersize=5, zorder=1)
        axes.errorbar(
            mean, y, xerr=[[max(mean - low, 0)], [max(high - mean, 0)]],
            fmt=learner_marker(learner), color=colour, markersize=6, elinewidth=1.0,
            markerfacecolor=colour if p < 0.05 else "white", markeredgewidth=1.0,
        )  # fmt: skip
    axes.axvline(0, color=BLACK, linewidth=0.6)
    names = [
        learner_name(r[0].removesuffix(_SPIKES))
        + (", spikes alone" if r[0].endswith(_SPIKES) else "")
        for r in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    axes.set_xlabel(f"A_last less that of {learner_name(against)} (points)")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure


@styled
def runs_compared(runs: Sequence[Run], *, figure: Canvas | None = None) -> Canvas:
    """Accuracy of each run's learners after the last task, with 95 % Wilson intervals over its test
    samples; of spiking learners also, as hollow marks, from postsynaptic spikes alone."""
    rows = []
    for run in runs:
        for learner in run.learners:
            steps = run.steps(learner)
            if steps:
                answers = run.predictions(learner, steps[-1])
                for predicted, filled in (
                    (answers.predicted, True),
                    (answers.spike_predicted, False),
                ):
                    if predicted is not None:
                        right = int((predicted == answers.label).sum())
                        bounds = wilson_interval(right, len(predicted))
                        rows.append((run, learner, filled, right / len(predicted), bounds))
    if not rows:
        raise NothingRecorded("no predictions were recorded")
    figure = new_figure(4.6, 0.8 + 0.2 * len(rows), figure)
    called = dict(zip(runs, names_of([run.path.parent for run in runs]), strict=True))
    names = [
        f"{plain(called[run])}: {learner_name(learner)}" + ("" if filled else ", spikes only")
        for run, learner, filled, _, _ in rows
    ]
    names = [fitted(name, 0.45 * inches(figure)) for name in names]
    axes = figure.add_subplot()
    for y, (_, learner, filled, share, (low, high)) in enumerate(rows):
        colour = learner_colour(learner, y)
        axes.errorbar(
            100 * share, y, xerr=100 * np.array([[share - low], [high - share]]),
            fmt=learner_marker(learner), color=colour, markersize=6, elinewidth=0.8,
            markerfacecolor=colour if filled else "white", markeredgewidth=1.0,
            label=names[y].replace("\n", " "),
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel("A_last (%)")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure
