"""Accuracy while tasks arrive."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from snn_artsy.evaluation.metrics import wilson_interval
from snn_artsy.plots.style import (
    NothingRecorded,
    annotated_matrices,
    learner_colour,
    learner_name,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run


@styled
def accuracy_per_step(run: Run) -> Figure:
    """A_t of each learner over the classes seen so far, with 95 % Wilson intervals over the test
    samples; dashed: decided from postsynaptic spikes alone."""
    figure = new_figure(4.6, 2.8)
    axes = figure.add_subplot()
    highest = 0
    curves = []
    for position, learner in enumerate(run.learners):
        colour, name = learner_colour(learner, position), learner_name(learner)
        for column, style, text in (
            ("predicted", "-", name),
            ("spike_predicted", "--", f"{name}, spikes only"),
        ):
            points = []
            for step in run.steps(learner):
                answers = run.predictions(learner, step)
                predicted = getattr(answers, column)
                if predicted is not None and len(predicted):
                    right = int((predicted == answers.label).sum())
                    low, high = wilson_interval(right, len(predicted))
                    points.append((step + 1, right / len(predicted), low, high))
            if points:
                curves.append((np.array(points), style, colour, text))
    for position, (values, style, colour, text) in enumerate(curves):
        steps, share, low, high = values.T
        # Curves of learners that agree would hide each other's intervals.
        shift = 0.06 * (position - (len(curves) - 1) / 2)
        axes.errorbar(
            steps + shift,
            100 * share,
            yerr=100 * np.abs(np.array([share - low, high - share])),
            linestyle=style,
            color=colour,
            marker="o",
            markersize=3.5,
            markerfacecolor=colour if style == "-" else "white",
            elinewidth=0.7,
            label=text,
        )
        highest = max(highest, int(steps.max()))
    if not curves:
        raise NothingRecorded("no predictions were recorded")
    axes.set(xlabel="tasks learned", ylabel="accuracy on classes seen (%)")
    axes.set_xlim(0.6, highest + 0.4)
    axes.set_xticks(range(1, highest + 1, max(1, highest // 10)))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


@styled
def accuracy_matrix(run: Run, learner: str | None = None) -> Figure:
    """Accuracy on each task after each step, in percent; default: of all learners."""
    learners = [learner] if learner is not None else list(run.learners)
    found = {name: run.summary(name).get("accuracy_matrix") for name in learners}
    matrices = {name: values for name, values in found.items() if values is not None}
    if not matrices:
        raise NothingRecorded("no accuracy matrix was recorded")
    return annotated_matrices(matrices, "test task", "tasks learned")
