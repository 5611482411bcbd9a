"""Figures from recorded runs: functions Run -> matplotlib Figure, without torch or pyplot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_lowercase

from snn_artsy.plots import own_matplotlib  # noqa: F401  # before matplotlib itself

# isort: split
from matplotlib.figure import Figure

from snn_artsy.output import write_outputs
from snn_artsy.plots.accuracy import accuracy_matrix, accuracy_per_step, ann_minus_snn
from snn_artsy.plots.contact import contact_series, contact_trace
from snn_artsy.plots.conversion import (
    ampa_occupancy,
    conversion_counts,
    conversion_raster,
    conversion_rate,
)
from snn_artsy.plots.electrode import (
    ampa_nmda_ratio,
    epsc_averages,
    epsc_lines,
    occupancy_before_after,
    release_failures,
    scale_bars,
    spike_triggered_membrane,
)
from snn_artsy.plots.gates import gate_matrix, gate_scores
from snn_artsy.plots.rasters import spike_raster
from snn_artsy.plots.study import study_figure, study_lines
from snn_artsy.plots.style import (
    PAGE_INCHES,
    WIDTHS_MM,
    Canvas,
    NothingRecorded,
    inches,
    look,
    new_figure,
    plain,
    rendered,
)
from snn_artsy.plots.synapses import (
    silent_survival,
    state_flow,
    transition_flow,
    weight_map,
)
from snn_artsy.plots.wake_and_sleep import wake_and_sleep
from snn_artsy.plots.window import stdp_window, window_of
from snn_artsy.recording.reader import Run
from snn_artsy.recording.schema import RecordingError
from snn_artsy.registry import FIGURES

__all__ = [
    "FIGURES",
    "WIDTHS_MM",
    "NothingRecorded",
    "accuracy_matrix",
    "accuracy_per_step",
    "ampa_nmda_ratio",
    "ampa_occupancy",
    "ann_minus_snn",
    "contact_series",
    "contact_trace",
    "conversion_counts",
    "conversion_raster",
    "conversion_rate",
    "epsc_averages",
    "epsc_lines",
    "gate_matrix",
    "gate_scores",
    "look",
    "occupancy_before_after",
    "panels",
    "register",
    "release_failures",
    "save_figures",
    "scale_bars",
    "silent_survival",
    "spike_raster",
    "spike_triggered_membrane",
    "state_flow",
    "stdp_window",
    "study_figure",
    "study_lines",
    "transition_flow",
    "wake_and_sleep",
    "weight_map",
    "window_of",
]

_log = logging.getLogger(__name__)

register = FIGURES.register


def panels(name: str, runs: Sequence[Run], *, figure: Canvas | None = None) -> Figure:
    """The same figure of several runs beside each other, a letter and the run's name above each;
    below each other where they would be narrower than 60 mm.

    Args:
        name: Of :data:`snn_artsy.registry.FIGURES`.
        figure: To draw into.

    Raises:
        NothingRecorded: One of the runs lacks its data.
    """
    draw: Callable[..., Figure] = FIGURES[name]
    alone = [draw(run) for run in runs]
    wide = inches(figure or new_figure(PAGE_INCHES, 1.0))
    columns = max(1, min(len(runs), int(wide / 2.36)))
    rows = -(-len(runs) // columns)
    height = rows * (0.25 + max(one.get_figheight() for one in alone))
    figure = new_figure(wide, height, figure)
    places = figure.subfigures(rows, columns, squeeze=False).flat
    for letter, place, run in zip(ascii_lowercase, places, runs, strict=False):
        place.suptitle(
            f"{letter}  {plain(run.path.parent.name)}", x=0.02, ha="left", size=8, weight="bold"
        )
        draw(run, figure=place)
    whole = figure.figure
    assert isinstance(whole, Figure)
    return whole


def save_figures(
    run: Run,
    directory: str | Path,
    formats: Sequence[str] = ("png",),
    names: Sequence[str] | None = None,
    skipped: dict[str, str] | None = None,
    failed: dict[str, str] | None = None,
    overwrite: bool = False,
    beside: Sequence[Run] = (),
) -> list[Path]:
    """Draw figures of a run into ``directory``, made if missing. All are drawn before one is
    written, and each file appears whole.

    Args:
        formats: File formats of matplotlib, such as ``png``, ``pdf`` and ``svg``.
        names: Of :data:`snn_artsy.registry.FIGURES`; default: all.
        skipped: Filled with figure -> reason for those whose data the run lacks.
        failed: Filled with figure -> error for those that could not be drawn; default: the first
            one is raised.
        overwrite: Replace other files of these names.
        beside: Other runs, whose figures become panels beside this one's.

    Returns:
        The files written, or there already with the same content.

    Raises:
        ConfigError: Another file is there, or ``directory`` can't be written.
        RecordingError: The run file is damaged.
    """
    files: dict[Path, bytes] = {}
    for name in FIGURES if names is None else names:
        try:
            figure: object = panels(name, [run, *beside]) if beside else FIGURES[name](run)
            if not isinstance(figure, Figure):
                raise TypeError(f"expected a matplotlib Figure, given {type(figure).__name__}")
            for kind in formats:
                files[Path(directory) / f"{name}.{kind}"] = rendered(figure, kind, dpi=200)
        except NothingRecorded as reason:
            _log.info("figure %s skipped: %s", name, reason)
            if skipped is not None:
                skipped[name] = str(reason)
        except RecordingError:
            raise
        except Exception as error:
            if failed is None:
                raise
            failed[name] = f"{type(error).__name__}: {error}"
    write_outputs(files, overwrite)
    return list(files)
