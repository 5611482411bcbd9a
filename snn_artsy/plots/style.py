"""How every figure looks: sizes of a paper column, colours safe for colour-blind readers."""

from __future__ import annotations

import io
import logging
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, overload

import matplotlib
import matplotlib.font_manager
import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError, require
from snn_artsy.registry import LEARNERS

P = ParamSpec("P")
Canvas = Figure | SubFigure
"""What can be drawn into."""

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
    "er": GREEN,
    "derpp": PURPLE,
    "icarl": SKY,
}
_OTHER_COLOURS = (GREEN, VERMILLION, PURPLE, SKY, YELLOW)

COLUMN_INCHES = 3.5
PAGE_INCHES = 7.2
# One column and the whole page, in mm, as the journals' guides for authors have them.
WIDTHS_MM = {
    "nature": 89.0,
    "nature-page": 183.0,
    "cell": 85.0,
    "cell-page": 174.0,
    "pnas": 87.0,
    "pnas-page": 178.0,
    "jneurosci": 85.0,
    "jneurosci-page": 176.0,
    "frontiers": 85.0,
    "frontiers-page": 180.0,
    "ieee": 88.9,
    "ieee-page": 181.9,
    "neurips": 139.7,
}

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "snn-artsy",  # the same figure gives the same file
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.width": 0.7,
    "ytick.major.size": 2.5,
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


@dataclass(frozen=True)
class _Look:
    """Style sheets over this module's settings, and a width in inches instead of each figure's."""

    sheets: tuple[str | Path, ...] = ()
    width: float | None = None


_PLAIN = _Look()
_look: ContextVar[_Look] = ContextVar("look")


@contextmanager
def look(*sheets: str | Path, width: str | float | None = None) -> Iterator[None]:
    """Draw and save figures as for print, within a ``with`` block.

    Args:
        sheets: Style sheets of matplotlib, by name or file, over the settings of this package:
            fonts, sizes, lines, and colours by their ``axes.prop_cycle``. The width of a
            ``figure.figsize`` in them holds, too; a figure's height is its own.
        width: As in `width_inches`; a bare number is in mm.

    Raises:
        ConfigError: No such style sheet, one with numbers that no figure can be drawn with, or no
            such width.
    """
    inches = None if width is None else width_inches(str(width))
    before = matplotlib.rcParamsDefault["figure.figsize"][0]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for sheet in sheets:
            with _nothing_ignored(sheet):
                _use([sheet])
            _check_numbers(sheet)
        own = float(matplotlib.rcParams["figure.figsize"][0])
    if inches is None and own != before:
        inches = width_inches(f"{own:f}in", "style")
    token = _look.set(_Look(sheets, inches))
    try:
        yield
    finally:
        _look.reset(token)


def width_inches(text: str, key: str = "width") -> float:
    """A width such as ``85mm``, ``8.5cm``, ``3.5in`` or ``85`` (mm), or a name of `WIDTHS_MM`.

    Raises:
        ConfigError: It is none, or not 30 to 500 mm.
    """
    mm = WIDTHS_MM.get(text)
    found = re.fullmatch(r"(\d+(?:\.\d*)?) *(mm|cm|in)?", text)
    if mm is None and found:
        mm = float(found[1]) * {"cm": 10.0, "in": 25.4}.get(found[2] or "mm", 1.0)
    names = ", ".join(WIDTHS_MM)
    if mm is None:
        raise ConfigError(key, f"{text!r} is no width; give one such as 85mm, or {names}")
    require(30 <= mm <= 500, key, text, "use 30 to 500 mm")
    return mm / 25.4


_TEXT = re.compile(r".*(font\.|font|label|title)size")
_SIZE = re.compile(r"(?!agg\.|animation\.).*(size|width|pad|dpi)")


def _check_numbers(sheet: str | Path) -> None:
    """Refuse what matplotlib takes and then cannot draw, or draws as an empty or endless page."""
    for key, value in matplotlib.rcParams.items():
        usual = matplotlib.rcParamsDefault[key]
        if value == usual or not isinstance(value, int | float) or isinstance(value, bool):
            continue
        low, most = int(bool(_TEXT.fullmatch(key))), 2400 if key.endswith("dpi") else 200
        where = f'"{sheet}" sets {key} to {value:g}'
        if not math.isfinite(value):
            raise ConfigError("style", f"{where}, which is no number; correct it there")
        if _SIZE.fullmatch(key) and not low <= value <= most:
            raise ConfigError("style", f"{where}; use {low} to {most} there")


@contextmanager
def _nothing_ignored(sheet: str | Path) -> Iterator[None]:
    """Refuse lines that matplotlib leaves out with a remark, since they would do nothing."""
    remarks: list[str] = []
    log, handler = logging.getLogger("matplotlib"), logging.Handler(logging.WARNING)
    handler.emit = lambda record: remarks.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    propagates, log.propagate = log.propagate, False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        log.propagate = propagates
        log.removeHandler(handler)
    remarks += [str(each.message) for each in caught if each.category is UserWarning]
    if remarks:
        remark = " ".join(remarks[0].split())[:300]
        raise ConfigError("style", f'"{sheet}" cannot be used ({remark}); correct it there')


def _use(sheets: Sequence[str | Path]) -> None:
    for sheet in sheets:
        try:
            matplotlib.style.use(sheet)
        except (OSError, ValueError) as error:  # none there, or no text
            reason = f'no style sheet "{sheet}"; give a file or a name that matplotlib knows'
            raise ConfigError("style", reason) from error


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's defaults with this module's settings and the style sheets of `look`, whatever
    the user has set besides (LaTeX for all text, say); what was set holds again afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        _use(_look.get(_PLAIN).sheets)
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


def styled(draw: Callable[P, Canvas]) -> Callable[P, Figure]:
    """Draw under this module's settings and leave matplotlib's global ones as they were; what is
    returned is the whole figure, also where a part of one was drawn into."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with settings():
            figure = draw(*args, **kwargs)
            # Ticks are made when the figure is drawn, under whatever settings hold then.
            for axes in figure.axes:
                set_now: dict[Any, Any] = dict(matplotlib.rcParams)
                for axis in ("x", "y"):
                    axes.tick_params(
                        axis=axis,
                        labelsize=set_now[f"{axis}tick.labelsize"],
                        width=set_now[f"{axis}tick.major.width"],
                        length=set_now[f"{axis}tick.major.size"],
                    )
            cycle = matplotlib.rcParams["axes.prop_cycle"].by_key().get("color", [])
            if cycle and cycle != matplotlib.rcParamsDefault["axes.prop_cycle"].by_key()["color"]:
                _recolour(figure, cycle)
        root = figure.figure
        assert isinstance(root, Figure)
        return root

    return drawn


def _recolour(figure: Canvas, cycle: Sequence[str]) -> None:
    """Replace this module's colours by those of a style sheet's cycle, in their order."""
    ours = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW)
    new = {to_rgb(old): to_rgb(cycle[k % len(cycle)]) for k, old in enumerate(ours)}

    def replaced(value: Any) -> Any:
        rows = to_rgba_array(value)
        return [(*new.get(tuple(row[:3]), tuple(row[:3])), row[3]) for row in rows]

    for artist in figure.findobj(Artist):
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is None or put is None or (name == "color" and hasattr(artist, "get_facecolor")):
                continue
            found = get()
            if isinstance(found, str) and found in ("auto", "none"):
                continue
            colours = replaced(found)
            if len(colours):
                many = isinstance(found, np.ndarray) and found.ndim == 2
                put(colours if many else colours[0])


@overload
def new_figure(width: float = COLUMN_INCHES, height: float = 2.4) -> Figure: ...
@overload
def new_figure(width: float, height: float, figure: Canvas | None) -> Canvas: ...
def new_figure(
    width: float = COLUMN_INCHES, height: float = 2.4, figure: Canvas | None = None
) -> Canvas:
    """An empty figure, or the one that is given; sizes in inches, `look` has a word in the width.

    Args:
        figure: A figure, or one of its subfigures, to draw into.
    """
    if figure is None:
        return Figure(figsize=(_look.get(_PLAIN).width or width, height), layout="constrained")
    root = figure.figure
    if root.get_layout_engine() is None:  # legends stand outside of axes
        root.set_layout_engine("constrained")
    return figure


def in_rows(
    n: int, height: float, *, least: float = 1.7, **given: Any
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure as wide as a page with panels beside each other; where a narrower one leaves less
    than ``least`` inches to each, they stand in rows.

    Args:
        n: Panels.
        height: Of a row, in inches.
        given: Of matplotlib's ``subplots``; ``width_ratios`` hold where there is one row.

    Returns:
        The figure, and its panels [n].
    """
    figure = new_figure(PAGE_INCHES, height)
    columns = max(1, min(n, int(inches(figure) / least)))
    rows = -(-n // columns)
    columns = -(-n // rows)  # as many in each
    figure.set_figheight(rows * height)
    if rows > 1:
        given.pop("width_ratios", None)
    panels = figure.subplots(rows, columns, squeeze=False, **given).ravel()
    for axes in panels[n:]:
        axes.remove()
    return figure, panels[:n]


def label_left(panels: Iterable[Axes], text: str) -> None:
    """A label of the vertical axes, once a row."""
    for axes in panels:
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(text)


def inches(figure: Canvas) -> float:
    """Width of what is drawn into."""
    return float(figure.bbox.width / figure.figure.dpi)


def legend_below(
    figure: Canvas, entries: tuple[Sequence[Artist], Sequence[str]], columns: int, **given: Any
) -> Legend | None:
    """A legend under all axes, of handles and their labels, in at most so many columns and never
    wider than the figure; none where there is nothing to explain."""
    handles, labels = entries
    for n in range(min(columns, len(handles)), 0, -1):
        legend = figure.legend(
            handles, labels, loc="outside lower center", ncols=n, columnspacing=1.2, **given
        )
        if n == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return legend
        legend.remove()
    return None


def class_name(names: Sequence[str], label: int) -> str:
    """A class by its name, cut where it is long, or by its position in runs that have no names."""
    if not 0 <= label < len(names):
        return str(label)
    name = names[label]
    return plain(name if len(name) <= 24 else f"{name[:23]}…")


def plain(text: str) -> str:
    """Text as it stands: matplotlib would set what is between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def learner_name(learner: str) -> str:
    return LEARNERS.label(learner)


def learner_colour(learner: str, position: int) -> str:
    return LEARNER_COLOURS.get(learner, _OTHER_COLOURS[position % len(_OTHER_COLOURS)])


def learner_marker(learner: str) -> str:
    """Marker of a learner; learners that share a colour differ in it."""
    names = list(LEARNER_COLOURS)
    return "osD^vPX*"[names.index(learner) % 8] if learner in names else "o"


def annotated_matrices(
    matrices: Mapping[str, NDArray[np.float64]],
    x_label: str,
    y_label: str,
    figure: Canvas | None = None,
) -> Canvas:
    """A panel for each learner's matrix of shares 0..1: shades, with percentages written in; NaN
    stays white. Tasks count from 1. Panels that do not fit beside each other stand in rows."""
    n = len(matrices)
    width = inches(figure) if figure is not None else _look.get(_PLAIN).width or 1.0 + 2.1 * n
    columns = max(1, min(n, int((width - 0.9) / 1.05)))
    rows = -(-n // columns)
    columns = -(-n // rows)  # as many in each
    each = (width - 1.0) / columns
    figure = new_figure(width, 0.4 + rows * min(each, 2.1), figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (learner, values) in zip(panels.flat, matrices.items(), strict=False):
        image = axes.imshow(values, cmap="cividis", vmin=0.0, vmax=1.0, aspect="equal")
        n_rows, n_columns = values.shape
        most = max(n_rows, n_columns)
        size = min(7.0, 22.0 * min(each, 2.1) / most)
        if size >= 3.5:  # beyond that, the numbers would be illegible
            for (i, j), value in np.ndenumerate(values):
                if np.isfinite(value):
                    colour = "white" if value < 0.55 else "black"
                    text = f"{100 * value:.0f}"
                    axes.text(j, i, text, ha="center", va="center", color=colour, size=size)
        for axis, count in ((axes.xaxis, n_columns), (axes.yaxis, n_rows)):
            shown = range(0, count, max(1, count // (10 if each > 1.6 else 5)))
            axis.set_ticks(shown, [str(k + 1) for k in shown])
        axes.spines[:].set_visible(False)
        axes.set_title(fitted(learner_name(learner), each))
    for axes in panels.flat[n:]:
        axes.remove()
    figure.supxlabel(x_label, size=matplotlib.rcParams["axes.labelsize"])
    figure.supylabel(y_label, size=matplotlib.rcParams["axes.labelsize"])
    bar = figure.colorbar(image, ax=list(panels.flat[:n]), shrink=0.8, pad=0.03)
    bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100 %"])
    bar.ax.set_frame_on(False)
    return figure


def fitted(text: str, width: float) -> str:
    """A title in lines that fit into so many inches."""
    size = matplotlib.font_manager.FontProperties(
        size=matplotlib.rcParams["axes.titlesize"]
    ).get_size_in_points()
    return textwrap.fill(text, max(8, int(72 * width / (0.55 * size))))
