"""Figures from recorded runs: functions Run -> matplotlib Figure, without torch or pyplot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from snn_artsy.plots.accuracy import accuracy_matrix, accuracy_per_step, ann_minus_snn
from snn_artsy.plots.conversion import (
    ampa_occupancy,
    conversion_counts,
    conversion_raster,
    conversion_rate,
)
from snn_artsy.plots.gates import gate_matrix, gate_scores
from snn_artsy.plots.rasters import spike_raster
from snn_artsy.plots.style import NothingRecorded
from snn_artsy.plots.synapses import (
    contact_trace,
    silent_survival,
    state_flow,
    transition_flow,
    weight_map,
)
from snn_artsy.plots.window import stdp_window
from snn_artsy.recording.reader import Run

__all__ = [
    "FIGURES",
    "NothingRecorded",
    "accuracy_matrix",
    "accuracy_per_step",
    "ampa_occupancy",
    "ann_minus_snn",
    "contact_trace",
    "conversion_counts",
    "conversion_raster",
    "conversion_rate",
    "gate_matrix",
    "gate_scores",
    "save_figures",
    "silent_survival",
    "spike_raster",
    "state_flow",
    "stdp_window",
    "transition_flow",
    "weight_map",
]

_log = logging.getLogger(__name__)

FIGURES: dict[str, Callable[[Run], Figure]] = {
    "conversion_counts": conversion_counts,
    "conversion_rate": conversion_rate,
    "conversion_raster": conversion_raster,
    "silent_survival": silent_survival,
    "state_flow": state_flow,
    "transition_flow": transition_flow,
    "ampa_occupancy": ampa_occupancy,
    "weight_map": weight_map,
    "contact_trace": contact_trace,
    "stdp_window": stdp_window,
    "spike_raster": spike_raster,
    "accuracy_per_step": accuracy_per_step,
    "ann_minus_snn": ann_minus_snn,
    "accuracy_matrix": accuracy_matrix,
    "gate_matrix": gate_matrix,
    "gate_scores": gate_scores,
}
"""Every figure that needs nothing but a run, by the name of its file."""


def save_figures(
    run: Run,
    directory: str | Path,
    formats: Sequence[str] = ("png",),
    names: Sequence[str] | None = None,
    skipped: dict[str, str] | None = None,
) -> list[Path]:
    """Draw figures of a run into ``directory``, made if missing.

    Args:
        formats: File formats of matplotlib, such as ``png``, ``pdf`` and ``svg``.
        names: Keys of :data:`FIGURES`; default: all.
        skipped: Filled with figure -> reason for those whose data the run lacks.

    Returns:
        The files written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in FIGURES if names is None else names:
        try:
            figure = FIGURES[name](run)
        except NothingRecorded as reason:
            _log.info("figure %s skipped: %s", name, reason)
            if skipped is not None:
                skipped[name] = str(reason)
            continue
        for extension in formats:
            path = directory / f"{name}.{extension}"
            figure.savefig(path, dpi=200)
            written.append(path)
    return written
