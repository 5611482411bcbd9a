"""Draw every figure of README, docs and RESULTS.md again, from recorded numbers.

    snn-artsy run --controls --out runs/default   # 20 seconds
    snn-artsy run --snn.preset error --learners artsy_snn --out runs/error
    python analysis/figures.py --default runs/default --error runs/error --overwrite

What took hours is in ``experiments/recorded/`` (numbers of comparisons, studies and protocols, kept
by `analysis/keep.py`); the figures of a single run are those of the default run, that of wake and
sleep is of a run with the error preset. ``--out`` is docs/figures by default; figures of a run that
is not given are left as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script
from snn_artsy.plots import FIGURES, save_figures
from snn_artsy.plots.comparison import differences
from snn_artsy.plots.protocols import lesion_curves
from snn_artsy.recording import open_run

sys.path.insert(0, str(Path(__file__).resolve().parent))
import accuracy_vs_steps
import figure3
import figure4
import growth
import lesion
import spike_timing

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "experiments" / "recorded"
TINY_RUNS = [RECORDED / f"tiny_imagenet_{seed}" for seed in (1993, 1994, 1995)]
LESIONS = [RECORDED / "lesion_tiny" / str(seed) for seed in (1993, 1994, 1995)]
# in the tables; on a common axis they would hide every other difference
FAR_BELOW = ("finetune_linear", "finetune_adapter", "artsy_ann_subnetworks")
SHOWN = ["ease", "artsy_ann", "artsy_ann_ridge"]


def summary(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    return found


FROM_RECORDED: dict[str, Callable[[], Figure]] = {
    "figure3_tiny": lambda: figure3.draw(summary(RECORDED / "compare_tiny"), SHOWN),
    "figure3_caltech": lambda: figure3.draw(summary(RECORDED / "compare_caltech"), SHOWN),
    "figure4": lambda: figure4.draw(
        {
            "Tiny-ImageNet": figure4.read(RECORDED / "gates_tiny"),
            "Caltech-101": figure4.read(RECORDED / "gates_caltech"),
        }
    ),
    "growth": lambda: growth.draw({n: summary(RECORDED / f"growth_{n}") for n in (5, 10, 20, 50)}),
    "accuracy_vs_steps": lambda: accuracy_vs_steps.draw(
        figure4.read(RECORDED / "steps_tiny"), [summary(run) for run in TINY_RUNS]
    ),
    "differences_tiny": lambda: differences(
        summary(RECORDED / "compare_tiny"), leave_out=FAR_BELOW
    ),
    "differences_caltech": lambda: differences(
        summary(RECORDED / "compare_caltech"), leave_out=FAR_BELOW
    ),
    "lesion_tiny": lambda: lesion_curves(lesion.lesions(LESIONS)),
    "pharmacology_tiny": lambda: lesion.draw_pharmacology(LESIONS),
    "spike_timing_tiny": lambda: spike_timing.draw(
        spike_timing.read(RECORDED / "spike_timing_tiny")
    ),
}
"""File (without .png) -> how it is drawn."""

# Drawn by analysis/schematic.py, experiments/pretrain_backbone.py and
# experiments/benchmarks/cost_model.py.
ELSEWHERE = (
    "blocks.png",
    "cost_model.png",
    "model.svg",
    "pretrain_curve.svg",
    "silent_share_digits.png",
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--default", type=Path, help="directory of the default run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures")
    parser.add_argument("--overwrite", action="store_true", help="replace figures of runs")
    parser.add_argument("--error", type=Path, help="directory of a run with the error preset")
    given = parser.parse_args(words)
    for directory in (given.default, given.error):
        if directory is not None:
            open_run(directory).close()  # one that is not there is no matter of minutes
    given.out.mkdir(parents=True, exist_ok=True)
    for name, draw in FROM_RECORDED.items():
        draw().savefig(given.out / f"{name}.png", dpi=150)
        print(given.out / f"{name}.png")
    asleep = ["wake_and_sleep"]
    awake = [name for name in FIGURES if name not in asleep]
    for directory, names in ((given.default, awake), (given.error, asleep)):
        if directory is None:
            continue
        skipped: dict[str, str] = {}
        with open_run(directory) as run:
            for path in save_figures(
                run, given.out, ("png",), names, skipped, None, given.overwrite
            ):
                print(path)
        if skipped:
            lacking = ", ".join(skipped)
            raise ConfigError(str(directory), f"lacks what {lacking} need; give another run")


if __name__ == "__main__":
    script(main)
