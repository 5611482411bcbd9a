"""How often intervals over seeds and test images hold the truth, by simulation.

    python experiments/interval_coverage.py --out experiments/recorded/interval_coverage.json \
        --into docs/statistics.md

Two learners are given test images that are easy or hard for both, images that suit one of them, and
seeds that make each better or worse; whether image i is answered rightly with seed s is a threshold
of the sum of these normal numbers (a probit model). The accuracy over all seeds and images, and the
difference of the learners (none), are known in closed form.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from snn_artsy.evaluation.statistics import crossed_mean
from snn_artsy.provenance import versions
from snn_artsy.runs.progress import progress_bar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "analysis"))
from results_table import insert

SPREADS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)
"""Standard deviation of a learner's accuracy over seeds."""

# Of the latent normal numbers: an image for both learners, an image for one, each single answer.
IMAGE, OWN, SINGLE = 1.0, 0.5, 1.0
WITHOUT_SEEDS = math.sqrt(IMAGE**2 + OWN**2 + SINGLE**2)


def latent(accuracy: float, spread: float) -> tuple[float, float]:
    """Mean and seeds' standard deviation of the latent number for these of the accuracy."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def mean_of(seed_sd: float) -> float:
        return float(stats.norm.ppf(accuracy)) * math.sqrt(WITHOUT_SEEDS**2 + seed_sd**2)

    def sd(seed_sd: float) -> float:
        of_seed = stats.norm.cdf((mean_of(seed_sd) + seed_sd * nodes) / WITHOUT_SEEDS)
        return float(math.sqrt(max(0.0, weights @ of_seed**2 - (weights @ of_seed) ** 2)))

    if spread == 0:
        return mean_of(0.0), 0.0
    seed_sd = float(optimize.brentq(lambda u: sd(u) - spread, 0.0, 20.0))
    return mean_of(seed_sd), seed_sd


def coverage(
    n_seeds: int, n_images: int, accuracy: float, spread: float, repeats: int, seed: int
) -> dict[str, float]:
    """Shares of simulations in which the 95 % intervals of one learner's accuracy and of the
    difference hold the truth, and in which p of the difference is below 0.05."""
    draws = np.random.default_rng([seed, n_seeds, n_images, round(1e4 * spread)])
    mean, seed_sd = latent(accuracy, spread)
    held = held_difference = rejected = 0
    for _ in range(repeats):
        image = IMAGE * draws.standard_normal(n_images)
        answers = [
            mean
            + seed_sd * draws.standard_normal((n_seeds, 1))
            + image
            + OWN * draws.standard_normal(n_images)
            + SINGLE * draws.standard_normal((n_seeds, n_images))
            > 0
            for _ in range(2)
        ]
        low, high = crossed_mean(answers[0]).interval()
        held += low <= accuracy <= high
        difference = crossed_mean(answers[0].astype(float) - answers[1])
        low, high = difference.interval()
        held_difference += low <= 0 <= high
        rejected += difference.p_value() < 0.05
    return {
        "accuracy": held / repeats,
        "difference": held_difference / repeats,
        "false_positives": rejected / repeats,
    }


def table(found: dict) -> str:  # type: ignore[type-arg]
    lines = [
        "| seeds | spread of seeds, points | A_last: held | difference: held | p < 0.05 |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['seeds']} | {100 * row['spread']:.0f} | {100 * row['accuracy']:.1f} "
            f"| {100 * row['difference']:.1f} | {100 * row['false_positives']:.1f} |"
        )
    error = 100 * math.sqrt(0.05 * 0.95 / found["repeats"])
    lines += [
        "",
        f"Percent of {found['repeats']} simulations each (standard error {error:.1f}), accuracy "
        f"{100 * found['mean_accuracy']:.0f} %, {found['images']} test images, no difference "
        f"between the learners, seed {found['seed']}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--accuracy", type=float, default=0.66)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    rows = []
    from rich.console import Console

    with progress_bar(Console(stderr=True)) as progress:
        bar = progress.add_task("settings", total=len(given.seeds) * len(SPREADS))
        for n_seeds in given.seeds:
            for spread in SPREADS:
                shares = coverage(
                    n_seeds, given.images, given.accuracy, spread, given.repeats, given.seed
                )
                rows.append({"seeds": n_seeds, "spread": spread, **shares})
                progress.advance(bar)
    found = {
        "rows": rows,
        "images": given.images,
        "mean_accuracy": given.accuracy,
        "repeats": given.repeats,
        "seed": given.seed,
        "versions": versions(),
    }
    text = table(found)
    print(text)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.into is not None:
        insert(given.into, "interval_coverage", text)


if __name__ == "__main__":
    main()
