"""A study: what is measured against what is varied, from ``study.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from snn_artsy.evaluation.contrasts import in_short, is_number, shown_value
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Canvas,
    NothingRecorded,
    legend_below,
    new_figure,
    styled,
)

_CYCLE = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK)


@styled
def study_figure(
    found: Mapping[str, Any],
    measures: Sequence[str] | None = None,
    *,
    figure: Canvas | None = None,
) -> Canvas:
    """One panel a measure (`study_lines`); lines are named once.

    Args:
        found: ``study.json``.
        measures: Of the study's; default: all.

    Raises:
        NothingRecorded: No setting has one of them.
    """
    chosen = list(found["measures"]) if measures is None else list(measures)
    if not chosen:
        raise NothingRecorded("the study has no measure")
    columns = 2 if len(chosen) in (2, 4) else min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(2.4 * columns, 0.4 + 2.2 * rows, figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, measure in zip(panels, chosen, strict=False):
        study_lines(axes, found, measure)
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    entries = panels[0].get_legend_handles_labels()
    if len(entries[0]) > 1:
        legend_below(figure, entries, columns=4)
    return figure


def study_lines(axes: Axes, found: Mapping[str, Any], measure: str) -> None:
    """Mean of a measure with its 95 % interval against the first key that is varied, one line for
    each combination of the others, drawn into axes of your own; small marks are single seeds.

    Args:
        found: ``study.json``.
        measure: One of its measures.

    Raises:
        NothingRecorded: No setting has it.
    """
    keys: list[str] = found["varied"]
    lines: dict[str, list[tuple[Any, Mapping[str, Any]]]] = {}
    for name, setting in found["settings"].items():
        if measure in setting["measures"]:
            values = setting["values"]
            line = ", ".join(f"{in_short(key)} {shown_value(values[key])}" for key in keys[1:])
            x = values[keys[0]] if keys else name
            lines.setdefault(line, []).append((x, setting["measures"][measure]))
    if not lines:
        raise NothingRecorded(f"no setting of this study has {measure}")
    scale = found["measures"][measure]["scale"]
    places = list(dict.fromkeys(shown_value(x) for points in lines.values() for x, _ in points))
    on_axis = all(is_number(x) for points in lines.values() for x, _ in points)
    numbers = [x for points in lines.values() for x, _ in points] if on_axis else [0, len(places)]
    apart = 0.012 * (max(numbers) - min(numbers))  # so that no interval hides another one
    for k, (line, points) in enumerate(lines.items()):
        shift = (k - (len(lines) - 1) / 2) * apart
        at = [x + shift if on_axis else places.index(shown_value(x)) + shift for x, _ in points]
        means = np.array([scale * entry["mean"] for _, entry in points])
        ends = np.array([entry["interval_95"] or [entry["mean"]] * 2 for _, entry in points])
        colour = _CYCLE[k % len(_CYCLE)]
        for x, (_, entry) in zip(at, points, strict=True):
            each = scale * np.array(entry["values"])
            axes.plot(np.full(len(each), x), each, "_", color=colour, alpha=0.35, markersize=3)
        axes.errorbar(
            at, means, yerr=np.abs(scale * ends.T - means), marker="o", color=colour,
            linestyle="-" if on_axis else "none", elinewidth=0.9, capsize=2, label=line or None,
        )  # fmt: skip
    if on_axis:
        axes.set_xlabel(in_short(keys[0]).replace("_", " "))
    else:
        crowded = len(places) > 3
        axes.set_xticks(range(len(places)), places, rotation=40 if crowded else 0,
                        ha="right" if crowded else "center")  # fmt: skip
        if keys:
            axes.set_xlabel(in_short(keys[0]).replace("_", " "))
    unit = " (%)" if scale == 100 else ""
    title = found["measures"][measure]["title"].replace(", ", ",\n")
    axes.set_ylabel(f"{title}{unit}")
