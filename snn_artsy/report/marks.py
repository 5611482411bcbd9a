"""What a figure shows, as points with text, so that a page can say what is under the mouse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Beyond this, points of a figure are thinned: a page must stay small.
_MOST = 2000


class Mark(NamedTuple):
    """A point of a figure: ``x``, ``y`` as shares of its width and height from the top left corner,
    and what to say there."""

    x: float
    y: float
    text: str


def marks(figure: Figure) -> list[Mark]:
    """Points of lines and error bars, and cells of matrices, of a figure that has been drawn."""
    every: list[Mark] = []
    for axes in figure.axes:
        every += [*_of_lines(axes), *_of_images(axes)]
    return every[:: -(-len(every) // _MOST)] if every else []


def _of_lines(axes: Axes) -> list[Mark]:
    # an error bar's line is nameless, its container has the name
    names = {id(c.lines[0]): c.get_label() for c in axes.containers if hasattr(c, "lines")}
    marks = []
    for line in axes.lines:
        name = str(names.get(id(line), line.get_label()))
        xy = np.column_stack([np.asarray(v, dtype=float) for v in line.get_data()])
        if line.get_transform() != axes.transData or (len(xy) < 2 and name.startswith("_")):
            continue  # a rule across the panel
        said = "" if name.startswith("_") else f"{name}: "
        for (x, y), (fx, fy) in zip(xy, _shares(axes, xy), strict=True):
            if np.isfinite([fx, fy]).all():
                text = f"{said}{axes.format_xdata(x).strip()}, {axes.format_ydata(y).strip()}"
                marks.append(Mark(fx, fy, text))
    return marks


def _of_images(axes: Axes) -> list[Mark]:
    marks = []
    for image in axes.images:
        values = image.get_array()
        if values is None or values.ndim != 2 or values.size > _MOST:
            continue
        left, right, bottom, top = image.get_extent()
        first, last = (top, bottom) if image.origin == "upper" else (bottom, top)
        rows, columns = values.shape
        for (i, j), value in np.ndenumerate(np.ma.filled(values, np.nan)):
            x = left + (j + 0.5) / columns * (right - left)
            y = first + (i + 0.5) / rows * (last - first)
            fx, fy = _shares(axes, np.array([[x, y]]))[0]
            if np.isfinite(value):
                marks.append(Mark(fx, fy, f"row {i + 1}, column {j + 1}: {value:.3g}"))
    return marks


def _shares(axes: Axes, xy: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Data -> shares of the figure from its top left corner."""
    inside = axes.figure.transFigure.inverted().transform(axes.transData.transform(xy))
    return [(round(float(x), 4), round(1.0 - float(y), 4)) for x, y in inside]
