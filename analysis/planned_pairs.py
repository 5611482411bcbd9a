"""Planned differences in several comparisons, corrected for these tests alone.

    python analysis/planned_pairs.py artsy_ann_ridge:simplecil,artsy_ann_ridge:ease \
        Tiny-ImageNet=runs/compare_tiny Caltech-101=runs/compare_caltech \
        --into experiments/RESULTS.md --name planned

A comparison corrects p for all its pairs (Holm 1979), most of which nobody asks about; a question
that was asked beforehand is corrected for its own tests. Differences are those of A_last, over
seeds and test images as in the comparison, or of another ``--measure``, over seeds, which are
paired.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_artsy.checks import ConfigError, require
from snn_artsy.cli import script
from snn_artsy.evaluation.statistics import holm, seeds_mean
from snn_artsy.runs.tables import shown_p

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import by_name, insert, summary_of


def found(summary: dict[str, Any], a: str, b: str) -> tuple[float, tuple[float, float], float]:
    """Difference a - b, its 95 % interval, both in points, and p."""
    # of entries that answered alike, the first stands for all
    stands = {name: group[0] for group in summary.get("alike", ()) for name in group}
    a, b = stands.get(a, a), stands.get(b, b)
    if a == b and a in summary["learners"]:
        return 0.0, (0.0, 0.0), 1.0
    for pair in summary["pairs"]:
        if {pair["a"], pair["b"]} == {a, b}:
            sign = 1 if pair["a"] == a else -1
            low, high = sorted(sign * 100 * bound for bound in pair["interval_95"])
            return sign * 100 * pair["difference"], (low, high), pair["p"]
    known = ", ".join(summary["learners"])
    raise ConfigError("pairs", f"there is none of {a} and {b}; choose from {known}")


def over_seeds(
    summary: dict[str, Any], a: str, b: str, measure: str
) -> tuple[float, tuple[float, float], float]:
    """The same of another measure, which is one number a seed."""
    learners = summary["learners"]
    for name in (a, b):
        if measure not in learners.get(name, {}):
            raise ConfigError("measure", f"{name} has no {measure} there")
    values = zip(*(learners[name][measure]["values"] for name in (a, b)), strict=True)
    mean = seeds_mean([100 * (x - y) for x, y in values])
    return mean.mean, mean.interval(), mean.p_value()


def table(
    pairs: list[tuple[str, str]], summaries: dict[str, dict[str, Any]], measure: str = "a_last"
) -> str:
    """One line a data set and pair."""
    rows = [
        (name, a, b, *(found(s, a, b) if measure == "a_last" else over_seeds(s, a, b, measure)))
        for name, s in summaries.items()
        for a, b in pairs
    ]
    points = "points" if measure == "a_last" else f"points of {measure}"
    lines = [f"| data | a - b | {points} | 95 % | p | p (Holm) |", "|---|---|---:|---:|---:|---:|"]
    for (name, a, b, points, (low, high), p), corrected in zip(
        rows, holm([row[-1] for row in rows]), strict=True
    ):
        lines.append(
            f"| {name} | {a} - {b} | {round(points, 2) + 0.0:+.2f} | {low:+.2f} to {high:+.2f} "
            f"| {shown_p(p)} | {shown_p(corrected)} |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs", help="a:b, separated by commas")
    parser.add_argument("comparisons", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--measure", default="a_last")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="planned")
    given = parser.parse_args(words)
    folders = by_name(given.comparisons)
    summaries = {name: summary_of(folder, comparison=True) for name, folder in folders.items()}
    pairs = []
    for pair in given.pairs.split(","):
        a, _, b = pair.partition(":")
        require(bool(a and b), "pairs", given.pairs, "give a:b, separated by commas")
        pairs.append((a, b))
    text = table(pairs, summaries, given.measure)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
