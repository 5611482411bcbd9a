"""The plasticity window as measured in the run."""

from __future__ import annotations

import numpy as np

from snn_artsy.evaluation.window import Window, measured_window
from snn_artsy.plots.style import (
    BLUE,
    GREY,
    VERMILLION,
    Canvas,
    NothingRecorded,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.recording.reader import Run

# Most batches that are read of each sub-network, so that memory does not grow with the run.
_MOST = 2000


def window_of(run: Run) -> Window:
    """Plasticity window from the recorded pairs of all sub-networks' traced contacts.

    Raises:
        NothingRecorded: They were not recorded, or too few updates ended within the bounds.
    """
    read = ((t, run.pairings(t, _MOST)) for t in run.synapse_tasks)
    tables = [(t, table) for t, table in read if table is not None]
    if not tables:
        raise NothingRecorded("no spike pairs of traced contacts (record.pairings)")
    lags = tables[0][1].lag_ms
    columns: dict[str, list[np.ndarray]] = {"pairs": [], "contact": []}
    for t, table in tables:
        columns["pairs"].append(table.pairs.reshape(-1, len(lags)))
        number = 10**6 * t + np.arange(table.before.shape[1])
        columns["contact"].append(np.broadcast_to(number, table.before.shape).ravel())
        for name in ("post_spikes", "competition", "before", "after"):
            columns.setdefault(name, []).append(getattr(table, name).ravel())
    try:
        return measured_window(lags, **{k: np.concatenate(v) for k, v in columns.items()})
    except ValueError as error:
        raise NothingRecorded(f"no plasticity window: {error}") from error


@styled
def stdp_window(run: Run, *, figure: Canvas | None = None) -> Canvas:
    """Change of AMPA occupancy per spike pair against its lag, measured in this run by regression
    on the pairs of its traced contacts; bars: 95 % interval over contacts."""
    window = window_of(run)
    figure = new_figure(3.5, 2.6, figure)
    axes = figure.add_subplot()
    for sign, colour, name in ((1, BLUE, "pre before post"), (-1, VERMILLION, "post before pre")):
        side = np.isfinite(window.change) & (np.sign(window.lag_ms) == sign)
        if side.any():
            spread = [
                window.change[side] - window.low[side],
                window.high[side] - window.change[side],
            ]
            axes.errorbar(
                window.lag_ms[side], window.change[side], np.maximum(spread, 0),
                fmt="o", color=colour, markersize=3, elinewidth=0.7, label=name,
            )  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    axes.set(xlabel="lag, post less pre (ms)", ylabel="change of occupancy per pair")
    axes.set_title(f"{window.n_contacts} contacts, {window.n_updates} updates within the bounds")
    legend_below(figure, axes.get_legend_handles_labels(), 2)
    return figure
