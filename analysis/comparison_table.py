"""A comparison (`snn-artsy compare`) -> Markdown tables, printed or put into a file.

    python analysis/comparison_table.py runs/compare_tiny
    python analysis/comparison_table.py runs/compare_tiny --into experiments/RESULTS.md \
        --name compare_tiny --against simplecil,ease
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert, summary_of

from snn_artsy.cli import script
from snn_artsy.runs.tables import domain_cells, learner_cells, markdown, pair_cells

KEYS = (
    "a_last", "a_last_spikes_only", "a_avg", "task_identification", "oracle_task_accuracy",
    "mean_open_gates", "parameters", "stored_bytes", "vit_passes_per_image",
    "inference_ms_per_image", "seconds",
)  # fmt: skip

DOMAIN_WORDS = {
    "class": "data set of the predicted class",
    "gate": "data set of the largest gate",
    "open": "a gate of the data set open",
}


def tables(summary: dict[str, Any], against: list[str]) -> str:
    """One line a learner; the same for each data set, if there are several; then the pairs with one
    of ``against``, in points of A_last."""
    learners = summary["learners"]
    headings, rows = learner_cells(learners, KEYS, page=True)
    for name, cells in rows:
        low, high = learners[name]["a_last"]["interval_95"]
        cells.append(f"{100 * low:.1f} to {100 * high:.1f}")
    lines = markdown([*headings, "95 % of A_last"], rows)
    domains, of_domains = domain_cells(learners)
    if domains:
        shown = [DOMAIN_WORDS.get(name, name) for name in domains]
        lines += ["", *markdown(shown, of_domains)]
    lines += ["", "| a - b | points | 95 % | h | p (Holm) |", "|---|---:|---:|---:|---:|"]
    for pair in summary["pairs"]:
        if pair["b"] in against or pair["a"] in against:
            cells = pair_cells(pair, turned=pair["b"] not in against)
            lines.append(f"| {' | '.join(cells)} |")
    config, alike = summary["config"], summary["alike"]
    seeds = summary["seeds"]
    commits = ", ".join(commit[:10] for commit in summary["git_commits"])
    lines += [
        "",
        f"{config['data']['name']}, {config['backbone']['name']}, "
        f"seeds {seeds[0]}-{seeds[-1]} "
        f"(class order, {100 * config['data']['train_share']:.0f} % of the training images, "
        f"noise), {summary['device']}, {summary['threads']} threads, commit {commits}. "
        "Mean ± sd over seeds, percent; intervals and p: t, seeds and test images crossed "
        f"(docs/statistics.md); h: Cohen's; p corrected for all {len(summary['pairs'])} pairs.",
        *(f"{', '.join(others)}: the same answers as {name}." for name, *others in alike),
        *(f"{text}." for text in summary["warnings"]),
    ]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--against", default="simplecil,ease")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="comparison")
    given = parser.parse_args(words)
    summary = summary_of(given.comparison, comparison=True)
    text = tables(summary, given.against.split(","))
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
