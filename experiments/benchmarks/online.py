"""Contacts that change in every step of each presentation, against batches: accuracy and CPU.

    python experiments/benchmarks/online.py --seeds 3 --into docs/benchmarks.md

Digits, without a recorder. CPU seconds of training and evaluation, all threads together; compiled
loops are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.runs.features import choose_device, prepare
from snn_artsy.runs.loop import run_learner

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

QUIET = Console(quiet=True)
FIRST_SEED = 1993
SETTINGS: dict[str, dict[str, Any]] = {
    "`presentation`, batches of 50": {"update": "presentation", "batch_size": 50},
    "`step`, one presentation at a time": {"update": "step", "batch_size": 1},
}
COLUMNS = {
    "A_last": ("a_last", 100.0),
    "A_last, spikes only": ("a_last_spikes_only", 100.0),
    "converted contacts": ("converted_share", 100.0),
    "CPU seconds": ("cpu", 1.0),
}


def measured(seed: int, setting: dict[str, Any], **data: Any) -> dict[str, float]:
    """Measures of one run of the spiking learner, and its CPU seconds."""
    values = {"seed": seed, "learners": ["artsy_snn"], "snn": {"plasticity": setting}}
    config = build(RunConfig, complete(values | ({"data": data} if data else {})))
    device = choose_device(config.device)
    frozen = prepare(config, device, QUIET)
    at = time.process_time()
    measures = run_learner("artsy_snn", config, frozen, device, QUIET)
    return {**measures, "cpu": time.process_time() - at}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="online")
    given = parser.parse_args()
    for setting in SETTINGS.values():
        measured(FIRST_SEED, setting, train_per_class=4, test_per_class=2)
    lines = [f"| update | {' | '.join(COLUMNS)} |", "|---|" + "---:|" * len(COLUMNS)]
    for name, setting in SETTINGS.items():
        runs = [measured(FIRST_SEED + k, setting) for k in range(given.seeds)]
        cells = []
        for key, scale in COLUMNS.values():
            values = [scale * float(run[key]) for run in runs]
            each = ", ".join(f"{value:.1f}" for value in values)
            cells.append(f"{statistics.mean(values):.1f} ({each})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    seeds = f"{FIRST_SEED}-{FIRST_SEED + given.seeds - 1}"
    lines += ["", f"digits, bundled, seeds {seeds}: mean (each seed); percent, but for seconds."]
    print("\n".join(lines))
    if given.into:
        insert(given.into, given.name, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
