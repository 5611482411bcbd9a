"""Which gates open for which samples."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    GREY,
    PAGE_INCHES,
    VERMILLION,
    NothingRecorded,
    annotated_matrices,
    learner_name,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run


@styled
def gate_matrix(run: Run, learner: str | None = None) -> Figure:
    """Share of each task's test samples whose gate t is open, at the end of the run, in percent;
    default: of all learners with gates."""
    learners = [learner] if learner is not None else list(run.learners)
    by_learner = {name: run.summary(name).get("gate_matrix") for name in learners}
    matrices = {name: values for name, values in by_learner.items() if values is not None}
    if not matrices:
        raise NothingRecorded("no gate matrix (did a learner with gates run to the end?)")
    return annotated_matrices(matrices, "gate", "task of the sample")


@styled
def gate_scores(run: Run, learner: str | None = None) -> Figure:
    """Calibrated scores of each gate after the last task, of its own task's samples and of others';
    the gate is open above zero.

    Args:
        learner: Default: the last one with gates.
    """
    gated = [
        name
        for name in run.learners
        if run.steps(name) and run.predictions(name, run.steps(name)[-1]).gate_scores is not None
    ]
    if learner is None and gated:
        learner = gated[-1]
    matrix = None if learner is None else run.summary(learner).get("accuracy_matrix")
    if learner not in gated or matrix is None:
        raise NothingRecorded("no gate scores were recorded")
    steps = run.steps(learner)
    answers = run.predictions(learner, steps[-1])
    assert answers.gate_scores is not None
    # a class belongs to the task whose step it first appears in
    first = [np.unique(run.predictions(learner, step).label) for step in steps]
    task_of = {int(c): t for t in reversed(range(len(first))) for c in first[t]}
    task = np.array([task_of[int(c)] for c in answers.label])
    n_gates = answers.gate_scores.shape[1]
    figure = new_figure(PAGE_INCHES, 2.6)
    axes = figure.add_subplot()
    for own, colour, side in ((True, BLUE, 0.18), (False, GREY, -0.18)):
        scores = [answers.gate_scores[(task == t) == own, t] for t in range(n_gates)]
        filled = [t for t in range(n_gates) if len(scores[t])]
        axes.boxplot(
            [scores[t] for t in filled],
            positions=[t - side for t in filled],
            widths=0.3,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour, "linewidth": 0.6},
            medianprops={"color": VERMILLION},
            whiskerprops={"color": colour},
            capprops={"color": colour},
        )
        axes.plot([], [], "s", color=colour, label="its own task" if own else "other tasks")
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_xticks(range(n_gates), [str(t + 1) for t in range(n_gates)])
    axes.set(
        xlabel="gate", ylabel="score above threshold\n(standard deviations)",
        title=f"{learner_name(learner)}; boxes: quartiles, whiskers: 5 and 95 %",
    )  # fmt: skip
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
