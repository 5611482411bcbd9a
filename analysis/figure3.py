"""Figure 3 of the paper: accuracy of all, new and old classes at each step, with its table.

    python analysis/figure3.py runs/compare_tiny --learners ease,artsy_ann,artsy_ann_ridge \
        --out docs/figures/figure3_tiny.png --into experiments/RESULTS.md --name figure3_tiny

Mean over the seeds of a comparison (`snn-artsy compare`), bands of one standard deviation.
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
from snn_artsy.plots.style import learner_colour, learner_name, new_figure, styled

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import cell, insert, summary_of

PANELS = (
    ("a_t", "all classes seen"),
    ("new_accuracy", "newest task"),
    ("old_accuracy", "earlier tasks"),
)


@styled
def draw(summary: dict[str, Any], learners: list[str]) -> Figure:
    """One panel for each kind of classes, one line a learner."""
    figure = new_figure(7.2, 2.6)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (key, title) in zip(panels, PANELS, strict=True):
        for position, name in enumerate(learners):
            values = np.array(summary["learners"][name]["curves"][key]["values"], dtype=float)
            steps = np.arange(1, values.shape[1] + 1)
            shown = np.isfinite(values).all(0)
            mean, sd = 100 * values.mean(0)[shown], 100 * values.std(0, ddof=1)[shown]
            colour = learner_colour(name, position)
            axes.plot(steps[shown], mean, ".-", color=colour, label=learner_name(name))
            axes.fill_between(steps[shown], mean - sd, mean + sd, color=colour, alpha=0.15, lw=0)
        axes.set(title=title, xlabel="tasks learned")
        axes.grid(axis="y", color="0.9", linewidth=0.6)
    panels[0].set_ylabel("accuracy (%)")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(learners))
    return figure


def table(summary: dict[str, Any], learners: list[str]) -> str:
    """Last and average accuracy, and those of new and old tasks."""
    lines = ["| | A_last | A_avg | newest task, mean over steps | earlier tasks, last step |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name in learners:
        curves = {k: np.array(summary["learners"][name]["curves"][k]["values"], dtype=float)
                  for k, _ in PANELS}  # fmt: skip
        columns = (
            curves["a_t"][:, -1],
            curves["a_t"].mean(1),
            curves["new_accuracy"].mean(1),
            curves["old_accuracy"][:, -1],
        )
        lines.append(f"| {name} | " + " | ".join(cell(list(c), 100) for c in columns) + " |")
    commits = ", ".join(commit[:10] for commit in summary["git_commits"])
    seeds = summary["seeds"]
    lines += ["", f"Percent, mean ± sd over seeds {seeds[0]}-{seeds[-1]}, commit {commits}."]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--learners", default="ease,artsy_ann,artsy_ann_ridge")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="figure3")
    given = parser.parse_args(words)
    summary = summary_of(given.comparison, comparison=True)
    learners = given.learners.split(",")
    draw(summary, learners).savefig(given.out, dpi=200)
    text = table(summary, learners)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
