"""Which gates open for which samples."""

from __future__ import annotations

import numpy as np

from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    GREY,
    PAGE_INCHES,
    VERMILLION,
    Canvas,
    NothingRecorded,
    annotated_matrices,
    fitted,
    inches,
    learner_name,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run

_POINTS = 200  # of each gate and kind of sample


@styled
def gate_matrix(run: Run, learner: str | None = None, *, figure: Canvas | None = None) -> Canvas:
    """Share of each task's test samples whose gate t is open, at the end of the run, in percent;
    default: of all learners with gates."""
    learners = [learner] if learner is not None else list(run.learners)
    by_learner = {name: run.summary(name).get("gate_matrix") for name in learners}
    matrices = {name: values for name, values in by_learner.items() if values is not None}
    if not matrices:
        raise NothingRecorded("no gate matrix (did a learner with gates run to the end?)")
    return annotated_matrices(matrices, "gate", "task of the sample", figure)


@styled
def gate_scores(run: Run, learner: str | None = None, *, figure: Canvas | None = None) -> Canvas:
    """Calibrated scores of each gate after the last task, of its own task's samples and of others',
    and below, the share of them for which it is open.

    Points are single samples (at most 200), black bars quartiles, red lines medians: scores that
    are equal for most samples show as a cloud at one height.

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
    is_open = answers.gate_scores > 0 if answers.gates is None else answers.gates.astype(bool)
    figure = new_figure(PAGE_INCHES, 3.2, figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    random = np.random.default_rng(0)  # where a point stands across
    for own, colour, side in ((True, BLUE, -0.2), (False, GREY, 0.2)):
        among = [(task == t) == own for t in range(n_gates)]
        filled = [t for t in range(n_gates) if among[t].any()]
        if not filled:
            continue
        name = "its own task" if own else "other tasks"
        for t in filled:
            scores = answers.gate_scores[among[t], t]
            shown = random.permutation(scores)[:_POINTS]
            across = t + side + random.uniform(-0.15, 0.15, len(shown))
            above.plot(
                across, shown, ".", color=colour, markersize=2.5, alpha=0.6, rasterized=True,
                markeredgewidth=0,
            )  # fmt: skip
            low, median, high = np.percentile(scores, (25, 50, 75))
            above.plot([t + side] * 2, [low, high], color=BLACK, linewidth=1.5)
            above.plot([t + side - 0.16, t + side + 0.16], [median] * 2, color=VERMILLION)
        shares = [100 * float(is_open[among[t], t].mean()) for t in filled]
        below.bar([t + side for t in filled], shares, 0.36, color=colour, label=name)
    above.axhline(0, color=BLACK, linewidth=0.6, zorder=0)
    step = -(-n_gates // 25)
    below.set_xticks(range(0, n_gates, step), [str(t + 1) for t in range(0, n_gates, step)])
    below.set(xlabel="gate", ylabel="open (%)", ylim=(0, 105))
    above.set_ylabel("score above\nthreshold (sd)")
    above.set_title(fitted(f"{learner_name(learner)}: samples, quartiles, median", inches(figure)))
    legend_below(figure, below.get_legend_handles_labels(), 2)
    return figure
