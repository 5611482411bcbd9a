"""A comparison (`snn-artsy compare`) -> Markdown tables, printed or put into a file.

    python analysis/comparison_table.py runs/compare_tiny
    python analysis/comparison_table.py runs/compare_tiny --into experiments/RESULTS.md \
        --name compare_tiny --against simplecil,ease
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import cell, insert

from snn_artsy.runs.tables import shown_p

COLUMNS = (
    ("a_last", "A_last", 100),
    ("a_last_spikes_only", "A_last, spikes only", 100),
    ("a_avg", "A_avg", 100),
    ("task_identification", "task identified", 100),
    ("oracle_task_accuracy", "oracle task", 100),
    ("mean_open_gates", "open gates", 1),
    ("parameters", "trained, thousands", 1e-3),
    ("stored_bytes", "stored, MB", 1e-6),
    ("vit_passes_per_image", "ViT passes", 1),
    ("inference_ms_per_image", "µs an image", 1000),
    ("seconds", "seconds", 1),
)


def tables(summary: dict[str, Any], against: list[str]) -> str:
    """One line a learner; then the pairs with one of ``against``, in points of A_last."""
    learners = summary["learners"]
    used = [c for c in COLUMNS if any(c[0] in measures for measures in learners.values())]
    lines = ["| | " + " | ".join(title for _, title, _ in used) + " | 95 % of A_last |"]
    lines.append("|---|" + "---:|" * (len(used) + 1))
    for name, measures in learners.items():
        cells = [cell(measures[k]["values"] if k in measures else [], s) for k, _, s in used]
        low, high = measures["a_last"]["interval_95"]
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * low:.1f} to {100 * high:.1f} |")
    lines += ["", "| a - b | points | 95 % | h | p (Holm) |", "|---|---:|---:|---:|---:|"]
    for pair in summary["pairs"]:
        if pair["b"] in against or pair["a"] in against:
            sign = 1 if pair["b"] in against else -1
            a, b = (pair["a"], pair["b"])[::sign]
            # + 0.0 makes a plain zero of -0.0
            low, high = sorted(sign * 100 * bound + 0.0 for bound in pair["interval_95"])
            points = sign * 100 * pair["difference"] + 0.0
            lines.append(
                f"| {a} - {b} | {points:+.2f} | {low:+.2f} to {high:+.2f} "
                f"| {sign * pair['cohens_h']:+.2f} | {shown_p(pair['p_holm'])} |"
            )
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--against", default="simplecil,ease")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="comparison")
    given = parser.parse_args()
    summary = json.loads((given.comparison / "summary.json").read_text(encoding="utf-8"))
    text = tables(summary, given.against.split(","))
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    main()
