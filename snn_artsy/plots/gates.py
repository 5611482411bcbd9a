"""Which gates open for which samples."""

from __future__ import annotations

from matplotlib.figure import Figure

from snn_artsy.plots.style import (
    NothingRecorded,
    annotated_matrices,
    styled,
)
from snn_artsy.recording.reader import Run


@styled
def gate_matrix(run: Run, learner: str | None = None) -> Figure:
    """Share of each task's test samples whose gate t is open, at the end of the run, in percent;
    default: of all learners with gates."""
    learners = [learner] if learner is not None else list(run.learners)
    found = {name: run.summary(name).get("gate_matrix") for name in learners}
    matrices = {name: values for name, values in found.items() if values is not None}
    if not matrices:
        raise NothingRecorded("no gate matrix (did a learner with gates run to the end?)")
    return annotated_matrices(matrices, "gate", "task of the sample")
