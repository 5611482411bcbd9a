"""What a figure shows, as a line of numbers: taken from what was drawn, so that figures of one's
own have it, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from numpy.typing import NDArray

_MOST = 8  # series in a line


def seen(figure: Figure) -> str:
    """Of each named series its first and last value, or its range; of a matrix the means on and off
    its diagonal; of a cloud of marks their number. Empty for a figure that has none of these."""
    told: dict[str, None] = {}
    for axes in figure.axes:
        told |= dict.fromkeys([*_lines(axes), *_bars(axes), *_marks(axes), *_images(axes)])
    told |= dict.fromkeys(_last_bars(figure))
    every = list(told)
    more = f"; {len(every) - _MOST} more" if len(every) > _MOST else ""
    return ("; ".join(every[:_MOST]) + more).replace("$", "")


def _lines(axes: Axes) -> Iterator[str]:
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    names = {id(c.lines[0]): str(c.get_label()) for c in bars}
    across = {id(c.lines[0]) for c in bars if c.has_xerr and not c.has_yerr}
    whole = [line for line in axes.lines if line.get_transform() == axes.transData]
    named = [(names.get(id(line), str(line.get_label())), line) for line in whole]
    series = [(n, line) for n, line in named if not n.startswith("_") and len(_values(line)) > 0]
    what = axes.get_ylabel().replace("\n", " ")
    if not series and len(whole) == 1:  # the only line of a panel is what its axis says
        series = [(what, whole[0])]
    elif not series and whole:
        every = np.concatenate([_values(line) for line in whole])
        if len(every):
            yield f"{what} {_number(every.min())} to {_number(every.max())}"
    for name, line in series:
        if np.size(line.get_xdata()) > 1 or id(line) in names:
            yield _series(name, _values(line, id(line) in across))


def _values(line: Any, across: bool = False) -> NDArray[np.float64]:
    y = np.asarray(line.get_xdata() if across else line.get_ydata(), dtype=np.float64)
    return y[np.isfinite(y)]


def _series(name: str, y: NDArray[np.float64]) -> str:
    if len(y) < 2:
        return f"{name} {_number(y[0])}" if len(y) else f"{name}: none"
    text = f"{name} {_number(y[0])} → {_number(y[-1])}"
    low, high = y.min(), y.max()
    if low < min(y[0], y[-1]) or high > max(y[0], y[-1]):
        text += f" (from {_number(low)} to {_number(high)})"
    return text


def _bars(axes: Axes) -> Iterator[str]:
    for bars in axes.containers:
        name = str(bars.get_label())
        if isinstance(bars, BarContainer) and not name.startswith("_") and len(bars):
            heights = np.array([bar.get_height() for bar in bars])
            yield f"{name} {_number(heights.min())} to {_number(heights.max())}"
    for steps in axes.patches:
        name = str(steps.get_label())
        if isinstance(steps, StepPatch) and name and not name.startswith("_"):
            values, edges, _ = steps.get_data()
            at = edges[int(np.argmax(values))]
            yield f"{name}: most at {_number(at)} ({_number(float(np.max(values)))})"


def _last_bars(figure: Figure) -> Iterator[str]:
    """Of bars that stand for what the legend's patches name, the last of each colour."""
    last: dict[str, float] = {}
    for axes in figure.axes:
        for bars in axes.containers:
            if isinstance(bars, BarContainer) and str(bars.get_label()).startswith("_"):
                across = bars.orientation == "horizontal"
                for bar in bars:
                    size = bar.get_width() if across else bar.get_height()
                    last[to_hex(bar.get_facecolor())] = size
    for legend in figure.legends if last else ():
        for handle, text in zip(legend.legend_handles, legend.texts, strict=True):
            colour = getattr(handle, "get_facecolor", lambda: None)()
            if colour is not None and to_hex(colour) in last:
                share = 100 * last[to_hex(colour)] / (sum(last.values()) or 1.0)
            yield f"{text.get_text()}, last: {_number(share)} %"


def _marks(axes: Axes) -> Iterator[str]:
    n: dict[str, int] = {}
    for marks in axes.collections:
        name = str(marks.get_label())
        if not name.startswith("_"):
            places: Any = marks.get_offsets()
            n[name] = n.get(name, 0) + len(places)
    yield from (f"{name}: {count:,} marks" for name, count in n.items())


def _images(axes: Axes) -> Iterator[str]:
    for image in axes.images:
        array: Any = image.get_array()
        values = np.asarray(np.ma.filled(array, np.nan), dtype=np.float64)
        if values.ndim != 2 or not np.isfinite(values).any():
            continue
        name = axes.get_title() or axes.get_ylabel()
        if values.shape[0] == values.shape[1]:
            own = np.eye(len(values), dtype=bool) & np.isfinite(values)
            other = ~np.eye(len(values), dtype=bool) & np.isfinite(values)
            text = f"{name}: mean on the diagonal {_number(values[own].mean())}"
            yield text + (f", elsewhere {_number(values[other].mean())}" if other.any() else "")
        else:
            yield f"{name}: mean {_number(float(np.nanmean(values)))}"


def _number(value: float) -> str:
    """Three digits, thousands apart; 0.0 is added lest a zero be negative."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}') + 0.0:g}"


def differing(configurations: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Keys that are not the same in all configurations, dotted, and what each has."""
    flat = [dict(_flat(values)) for values in configurations]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [(key, [_text(each.get(key)) for each in flat]) for key in keys if key != "out"]
    return [(key, cells) for key, cells in rows if len(set(cells)) > 1]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
