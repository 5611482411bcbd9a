"""Accuracy against the length T of a test presentation, its spikes and synaptic operations.

    python analysis/accuracy_vs_steps.py runs/steps_tiny --runs runs/tiny_imagenet_1993 \
        runs/tiny_imagenet_1994 runs/tiny_imagenet_1995 --out docs/figures/accuracy_vs_steps.png

From a study of `experiments/studies/steps.yaml`; mean over seeds, bands and bars of one standard
deviation. ``--runs``: runs whose SimpleCIL and Artsy (ANN) are drawn for reference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from snn_artsy.cli import script
from snn_artsy.plots.style import BLUE, GREY, ORANGE, VERMILLION, learner_name, new_figure, styled

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figure4 import Cells, read
from results_table import summary_of

COLOURS = {"fast": VERMILLION, "physiological": BLUE}


@styled
def draw(cells: Cells, summaries: list[dict[str, Any]]) -> Figure:
    """Accuracy against T, spikes against T, accuracy against operations; solid with h_0, dashed
    from spikes alone. Operations: accumulates of the SNN, multiply-accumulates of the ANN."""
    figure = new_figure(7.2, 2.9)
    accuracy, spikes, cost = figure.subplots(1, 3)
    for preset, colour in COLOURS.items():
        rows = [c for name, c in cells.items() if name.startswith(preset)]
        steps = np.array([row["test_steps"][0] for row in rows])
        rate = rows[0]["max_rate_hz"][0]
        operations = [np.mean(row["synaptic_operations_per_image"]) for row in rows]
        for measure, style, text in (
            ("a_last", "-", "with $h_0$"),
            ("a_last_spikes_only", "--", "spikes alone"),
        ):
            values = 100 * np.array([row[measure] for row in rows])
            mean, sd = values.mean(1), values.std(1, ddof=1)
            label = f"{preset} ({rate:.0f} Hz at most), {text}"
            for axes, x in ((accuracy, steps), (cost, operations)):
                axes.plot(x, mean, marker=".", linestyle=style, color=colour, label=label)
                axes.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        shown = np.array([row["spikes_per_image"] for row in rows])
        spikes.errorbar(steps, shown.mean(1), shown.std(1, ddof=1), fmt=".-", color=colour)
    for k, name in enumerate(("artsy_ann", "simplecil")):
        found = [s["learners"][name] for s in summaries if name in s["learners"]]
        if found:
            values = 100 * np.array([measures["a_last"] for measures in found])
            style = {"color": GREY, "linewidth": 0.8, "linestyle": ("-", ":")[k % 2]}
            accuracy.axhline(values.mean(), label=learner_name(name), **style)
            if len(values) > 1:
                low, high = values.mean() + values.std(ddof=1) * np.array([-1.0, 1.0])
                accuracy.axhspan(low, high, color=GREY, alpha=0.2, linewidth=0)
            if "synaptic_operations_per_image" in found[0]:
                spent = np.array([m["synaptic_operations_per_image"] for m in found])
                sd = values.std(ddof=1) if len(values) > 1 else None
                cost.errorbar(spent.mean(), values.mean(), sd, fmt="s", color=ORANGE,
                              label=f"{learner_name(name)} (multiplications)")  # fmt: skip
    for axes in (accuracy, spikes):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("steps T of a test presentation")
    for axes in (accuracy, cost):
        axes.set_ylabel("A_last (%)")
    spikes.set_ylabel("postsynaptic spikes per image")
    spikes.set_yscale("log")
    cost.set_xscale("log")
    cost.set_xlabel("synaptic operations per image")
    handles = {
        text: handle
        for axes in (accuracy, cost)
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3)
    return figure


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    summaries = [summary_of(run) for run in given.runs]
    draw(read(given.study), summaries).savefig(given.out, dpi=200)


if __name__ == "__main__":
    script(main)
