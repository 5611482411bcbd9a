"""How learners grow with the number of tasks: parameters, bytes, synapses, time, accuracy.

    python analysis/growth.py 5=runs/growth_5 10=runs/growth_10 20=runs/growth_20 \
        50=runs/growth_50 --out docs/figures/growth.png --into experiments/RESULTS.md --name growth

From comparisons (`snn-artsy compare --data.n_tasks N`) of the same classes; mean over seeds.
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
from snn_artsy.config_builder import convert
from snn_artsy.plots.style import learner_colour, learner_name, new_figure, styled
from snn_artsy.runs.tables import COLUMNS

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import by_name, cell, insert, summary_of

KEYS = (
    "parameters", "n_contacts", "stored_bytes", "inference_ms_per_image", "seconds_learning",
    "a_last",
)  # fmt: skip
MEASURES = [
    (key, COLUMNS[key].title + ", %" * (COLUMNS[key].scale == 100), COLUMNS[key].scale)
    for key in KEYS
]
"""Key, heading, what values are multiplied by."""


@styled
def draw(summaries: dict[int, dict[str, Any]]) -> Figure:
    """One panel a measure (but synapses), one line a learner, bars of one standard deviation."""
    figure = new_figure(7.2, 4.0)
    panels = figure.subplots(2, 3).flatten()
    shown = [m for m in MEASURES if m[0] != "n_contacts"]
    tasks = sorted(summaries)
    learners = summaries[tasks[0]]["learners"]
    for axes, (measure, label, scale) in zip(panels, shown, strict=False):
        for position, name in enumerate(learners):
            found = [summaries[n]["learners"][name][measure]["values"] for n in tasks]
            values = scale * np.array(found)
            if not values.any():
                continue  # nothing to draw on a logarithmic axis
            colour = learner_colour(name, position)
            mean, sd = values.mean(1), values.std(1, ddof=1)
            axes.errorbar(tasks, mean, sd, marker=".", color=colour, label=learner_name(name))
        axes.set(xlabel="tasks", ylabel=label, xscale="log")
        axes.set_xticks(tasks, [str(n) for n in tasks])
        axes.minorticks_off()
        if measure != "a_last":
            axes.set_yscale("log")
    panels[-1].axis("off")
    panels[-1].legend(*panels[len(shown) - 1].get_legend_handles_labels(), loc="center")
    return figure


def table(summaries: dict[int, dict[str, Any]]) -> str:
    lines = ["| | tasks | " + " | ".join(label for _, label, _ in MEASURES) + " |"]
    lines.append("|---|" + "---:|" * (len(MEASURES) + 1))
    tasks = sorted(summaries)
    for name in summaries[tasks[0]]["learners"]:
        for n in tasks:
            measures = summaries[n]["learners"][name]
            cells = [
                cell(measures[k]["values"] if k in measures else [], s) for k, _, s in MEASURES
            ]
            lines.append(f"| {name} | {n} | " + " | ".join(cells) + " |")
    first = summaries[tasks[0]]
    commits = sorted({c[:10] for s in summaries.values() for c in s["git_commits"]})
    lines += [
        "",
        f"Mean ± sd over {len(first['seeds'])} seeds, {first['device']}, {first['threads']} "
        f"threads, commit {', '.join(commits)}. Time from h_0 on: features are extracted "
        "beforehand, one pass of the ViT an image for every learner.",
    ]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("comparisons", nargs="+", metavar="TASKS=DIR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="growth")
    given = parser.parse_args(words)
    folders = by_name(given.comparisons)
    summaries = {
        convert(int, n_tasks, "comparisons"): summary_of(folder, comparison=True)
        for n_tasks, folder in folders.items()
    }
    draw(summaries).savefig(given.out, dpi=200)
    text = table(summaries)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
