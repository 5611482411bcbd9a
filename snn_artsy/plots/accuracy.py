"""Accuracy while tasks arrive."""

from __future__ import annotations

import numpy as np

from snn_artsy.evaluation.metrics import wilson_interval
from snn_artsy.evaluation.statistics import crossed_mean
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    VERMILLION,
    Canvas,
    NothingRecorded,
    annotated_matrices,
    learner_colour,
    learner_marker,
    learner_name,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run


@styled
def accuracy_per_step(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """A_t of each learner over the classes seen so far, with 95 % Wilson intervals over the test
    samples; dashed: decided from postsynaptic spikes alone."""
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
                curves.append((np.array(points), style, colour, text, learner_marker(learner)))
    if not curves:
        raise NothingRecorded("no predictions were recorded")
    figure = new_figure(4.6, 2.8, figure)
    axes = figure.add_subplot()
    for position, (values, style, colour, text, marker) in enumerate(curves):
        steps, share, low, high = values.T
        # Curves of learners that agree would hide each other's intervals.
        shift = 0.06 * (position - (len(curves) - 1) / 2)
        axes.errorbar(
            steps + shift,
            100 * share,
            yerr=100 * np.abs(np.array([share - low, high - share])),
            linestyle=style,
            color=colour,
            marker=marker,
            markersize=3.5,
            markerfacecolor=colour if style == "-" else "white",
            elinewidth=0.7,
            label=text,
        )
        highest = max(highest, int(steps.max()))
    axes.set(xlabel="tasks learned", ylabel="accuracy on classes seen (%)")
    axes.set_xlim(0.6, highest + 0.4)
    axes.set_xticks(range(1, highest + 1, max(1, highest // 10)))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    legend_below(figure, axes.get_legend_handles_labels(), 2)
    return figure


@styled
def accuracy_matrix(
    run: Run, learner: str | None = None, *, figure: Canvas | None = None
) -> Canvas:
    """Accuracy on each task after each step, in percent; default: of all learners."""
    learners = [learner] if learner is not None else list(run.learners)
    by_learner = {name: run.summary(name).get("accuracy_matrix") for name in learners}
    matrices = {name: values for name, values in by_learner.items() if values is not None}
    if not matrices:
        raise NothingRecorded("no accuracy matrix was recorded")
    return annotated_matrices(matrices, "test task", "tasks learned", figure)


@styled
def ann_minus_snn(
    run: Run, ann: str = "artsy_ann", snn: str = "artsy_snn", *, figure: Canvas | None = None
) -> Canvas:
    """Accuracy of the ANN less that of the SNN after each task, on the same test images, with h_0
    and from spikes alone; bars: 95 % interval over test images (paired)."""
    if ann not in run.learners or snn not in run.learners:
        raise NothingRecorded(f"{ann} and {snn} did not both take part")
    steps = sorted(set(run.steps(ann)) & set(run.steps(snn)))
    compared = []
    for column, colour, shift, text in (
        ("predicted", BLUE, -0.08, "SNN with $h_0$"),
        ("spike_predicted", VERMILLION, 0.08, "SNN, spikes alone"),
    ):
        points = []
        for step in steps:
            a, b = run.predictions(ann, step), run.predictions(snn, step)
            answered = getattr(b, column)
            if answered is None:
                continue
            same, in_a, in_b = np.intersect1d(a.index, b.index, return_indices=True)
            if len(same) < 2:  # one image has no spread
                continue
            right = (a.predicted == a.label)[in_a], (answered == b.label)[in_b]
            difference = crossed_mean(right[0][None].astype(float) - right[1][None])
            points.append((step + 1, difference.mean, *difference.interval()))
        if points:
            compared.append((np.array(points).T, colour, shift, text))
    if not compared:
        raise NothingRecorded(f"no test images that both {ann} and {snn} answered were recorded")
    figure = new_figure(3.5, 2.6, figure)
    axes = figure.add_subplot()
    for (x, mean, low, high), colour, shift, text in compared:
        axes.errorbar(
            x + shift, 100 * mean, yerr=100 * np.abs([mean - low, high - mean]),
            fmt="o", color=colour, markersize=3.5, elinewidth=0.8, label=text,
        )  # fmt: skip
    axes.axhline(0, color=BLACK, linewidth=0.6)
    axes.set(xlabel="tasks learned", ylabel="ANN less SNN (points)")
    axes.set_xticks([step + 1 for step in steps][:: max(1, len(steps) // 10)])
    legend_below(figure, axes.get_legend_handles_labels(), 2)
    return figure
