"""Virtual experiments on trained runs: from the data of their files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from snn_artsy.plots.style import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    Canvas,
    fitted,
    inches,
    legend_below,
    new_figure,
    styled,
)

_LESION_PANELS = (
    ("with_h0", "with $h_0$"),
    ("spikes_only", "spikes only"),
    ("task_identified", "task identified (spikes)"),
)


@styled
def lesion_curves(
    data: Mapping[str, NDArray[np.float64]], *, figure: Canvas | None = None
) -> Canvas:
    """Accuracy against the share of functional contacts cut, at random and the most driven first;
    means, with bars of one standard deviation over repeats or runs.

    Args:
        data: ``share_cut`` [shares] and ``<kind>/<measure>`` [repeats, shares], as in lesion.h5.
    """
    share = 100 * np.asarray(data["share_cut"])
    figure = new_figure(7.0, 2.6, figure)
    panels = figure.subplots(1, len(_LESION_PANELS), sharey=True)
    for axes, (measure, title) in zip(panels, _LESION_PANELS, strict=True):
        for kind, colour in (("random", BLUE), ("targeted", VERMILLION)):
            y = 100 * np.asarray(data[f"{kind}/{measure}"])
            spread = y.std(0, ddof=1) if len(y) > 1 else None
            axes.errorbar(share, y.mean(0), spread, color=colour, label=kind, elinewidth=0.7)
        intact = 100 * float(np.mean(data[f"random/{measure}"], axis=0)[0])
        axes.axhline(intact, color=GREY, lw=0.6, ls=":")
        axes.set_title(fitted(title, inches(figure) / 3 - 0.2))
    panels[1].set_xlabel("functional contacts cut (%)")
    panels[0].set_ylabel("test samples right (%)")
    legend_below(figure, panels[1].get_legend_handles_labels(), 2)
    return figure


@styled
def pharmacology_bars(
    names: tuple[str, ...], accuracy: NDArray[np.float64], *, figure: Canvas | None = None
) -> Canvas:
    """Accuracy in each condition, with h_0 and from spikes alone; bars of one standard deviation
    where there are several runs.

    Args:
        names: Of the conditions.
        accuracy: [runs, conditions, (with h_0, spikes only, ...)].
    """
    figure = new_figure(3.5, 2.4, figure)
    axes = figure.subplots()
    x = np.arange(len(names))
    for column, shift, colour, label in (
        (0, -0.2, GREEN, "with $h_0$"),
        (1, 0.2, BLUE, "spikes only"),
    ):
        y = 100 * accuracy[:, :, column]
        spread = y.std(0, ddof=1) if len(y) > 1 else None
        axes.bar(x + shift, y.mean(0), 0.38, yerr=spread, color=colour, label=label, capsize=2)
    axes.set_xticks(x, names)
    axes.set_ylabel("accuracy (%)")
    legend_below(figure, axes.get_legend_handles_labels(), 2)
    return figure
