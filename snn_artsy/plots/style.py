"""How every figure looks: sizes of a paper column, colours safe for colour-blind readers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.registry import LEARNERS

P = ParamSpec("P")

# Okabe & Ito, "Color Universal Design" (2008).
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#999999"

STATE_COLOURS = {"silent": GREY, "functional": BLUE, "consolidated": GREEN}
# Baselines dark, Artsy (ANN) and its variants warm, Artsy (SNN) and its mean field blue; with the
# marker each of them is told from all others (tested).
LEARNER_COLOURS = {
    "simplecil": BLACK,
    "finetune_linear": GREY,
    "finetune_adapter": GREY,
    "joint": GREEN,
    "aper_adapter": SKY,
    "ease": GREEN,
    "ranpac": PURPLE,
    "er": SKY,
    "derpp": PURPLE,
    "icarl": YELLOW,
    "artsy_ann": ORANGE,
    "artsy_ann_lda": VERMILLION,
    "artsy_ann_ridge": VERMILLION,
    "artsy_ann_no_gates": YELLOW,
    "artsy_ann_e0": YELLOW,
    "artsy_ann_subnetworks": ORANGE,
    "artsy_snn": BLUE,
    "artsy_ann_gate_alone": VERMILLION,
    "whitened_ncm": GREY,
    "binary_mean": SKY,
    "nested_mean": PURPLE,
    "mean_field": BLUE,
    "artsy_best": ORANGE,
}
_OTHER_COLOURS = (GREEN, VERMILLION, PURPLE, SKY, YELLOW)

COLUMN_INCHES = 3.5
PAGE_INCHES = 7.2

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "snn-artsy",  # the same figure gives the same file
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
}


class NothingRecorded(LookupError):
    """The run holds no data for this figure; the text says what is missing."""


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's defaults with this module's settings, whatever the user has set (LaTeX for all
    text, say); what was set holds again afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def rendered(figure: Figure, kind: str, dpi: int) -> bytes:
    """The content of a figure's file, the same for the same figure.

    Args:
        kind: A file format of matplotlib: ``png``, ``pdf``, ``svg``.
    """
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    target = io.BytesIO()
    with settings():
        figure.savefig(target, format=kind, dpi=dpi, metadata=dates.get(kind))
    return target.getvalue()


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under this module's settings and leave matplotlib's global ones as they were."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with settings():
            figure = draw(*args, **kwargs)
        # Ticks are made when the figure is drawn, under whatever settings hold then.
        for axes in figure.axes:
            axes.tick_params(labelsize=_SETTINGS["xtick.labelsize"], width=0.7, length=2.5)
        return figure

    return drawn


def new_figure(width: float = COLUMN_INCHES, height: float = 2.4) -> Figure:
    """An empty figure; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def learner_name(learner: str) -> str:
    return LEARNERS.label(learner)


def learner_colour(learner: str, position: int) -> str:
    return LEARNER_COLOURS.get(learner, _OTHER_COLOURS[position % len(_OTHER_COLOURS)])


def learner_marker(learner: str) -> str:
    """Marker of a learner; learners that share a colour differ in it."""
    names = list(LEARNER_COLOURS)
    return "osD^vPX*"[names.index(learner) % 8] if learner in names else "o"


def annotated_matrices(
    matrices: Mapping[str, NDArray[np.float64]], x_label: str, y_label: str
) -> Figure:
    """A panel for each learner's matrix of shares 0..1: shades, with percentages written in; NaN
    stays white. Tasks count from 1."""
    figure = new_figure(1.0 + 2.1 * len(matrices), 2.5)
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (learner, values) in zip(panels, matrices.items(), strict=True):
        image = axes.imshow(values, cmap="cividis", vmin=0.0, vmax=1.0, aspect="equal")
        rows, columns = values.shape
        if max(rows, columns) <= 20:  # beyond that, the numbers would be illegible
            size = 7.0 if max(rows, columns) <= 6 else 42.0 / max(rows, columns)
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    colour = "white" if value < 0.55 else "black"
                    text = f"{100 * value:.0f}"
                    axes.text(j, i, text, ha="center", va="center", color=colour, size=size)
        for axis, n in ((axes.xaxis, columns), (axes.yaxis, rows)):
            shown = range(0, n, max(1, n // 10))
            axis.set_ticks(shown, [str(k + 1) for k in shown])
        axes.spines[:].set_visible(False)
        axes.set(title=learner_name(learner), xlabel=x_label)
    panels[0].set_ylabel(y_label)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, pad=0.03)
    bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100 %"])
    bar.ax.set_frame_on(False)
    return figure
