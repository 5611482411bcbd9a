"""Accuracy against the length T of a test presentation, with spikes per image.

    python analysis/accuracy_vs_steps.py runs/steps_tiny --ann runs/compare_tiny \
        --out docs/figures/accuracy_vs_steps.png

From a study of `experiments/studies/steps.yaml`; mean over seeds, bands of one standard deviation.
``--ann``: a comparison whose Artsy (ANN) and SimpleCIL are drawn as lines for reference.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from snn_artsy.plots.style import BLUE, GREY, VERMILLION, learner_name, new_figure, styled

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figure4 import Cells, read

COLOURS = {"fast": VERMILLION, "physiological": BLUE}


@styled
def draw(cells: Cells, references: dict[str, float]) -> Figure:
    """Left: accuracy, solid with h_0, dashed from spikes alone. Right: spikes per image."""
    figure = new_figure(7.2, 2.7)
    accuracy, spikes = figure.subplots(1, 2)
    for preset, colour in COLOURS.items():
        rows = [c for name, c in cells.items() if name.startswith(preset)]
        steps = np.array([row["test_steps"][0] for row in rows])
        rate = rows[0]["max_rate_hz"][0]
        for measure, style, text in (("a_last", "-", "with h_0"),
                                     ("a_last_spikes_only", "--", "spikes alone")):  # fmt: skip
            values = 100 * np.array([row[measure] for row in rows])
            mean, sd = values.mean(1), values.std(1, ddof=1)
            label = f"{preset} ({rate:.0f} Hz at most), {text}"
            accuracy.plot(steps, mean, marker=".", linestyle=style, color=colour, label=label)
            accuracy.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        shown = np.array([row["spikes_per_image"] for row in rows]).mean(1)
        spikes.plot(steps, shown, ".-", color=colour)
    for k, (name, value) in enumerate(references.items()):
        accuracy.axhline(100 * value, color=GREY, linewidth=0.8, linestyle=("-", ":")[k % 2],
                         label=learner_name(name))  # fmt: skip
    for axes in (accuracy, spikes):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("steps T of a test presentation")
    accuracy.set_ylabel("A_last (%)")
    spikes.set_ylabel("postsynaptic spikes per image")
    spikes.set_yscale("log")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--ann", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    references = {}
    if given.ann is not None:
        summary = json.loads((given.ann / "summary.json").read_text(encoding="utf-8"))
        for name in ("artsy_ann", "simplecil"):
            references[name] = summary["learners"][name]["a_last"]["mean"]
    draw(read(given.study), references).savefig(given.out, dpi=200)


if __name__ == "__main__":
    main()
