"""Wall time of Artsy (SNN) against Artsy (ANN) on the same cached features, and of a whole run.

    python experiments/benchmarks/wall_time.py --into docs/benchmarks.md
    python experiments/benchmarks/wall_time.py --config experiments/tiny_imagenet_10step.yaml \
        --data.root DIR --backbone.checkpoint FILE --into docs/benchmarks.md --name wall_time_tiny

Training and evaluation of all tasks, the SNN with presentations of T = 16 steps in training and
test, in interleaved runs; medians. Without ``--config`` the default run is timed too: `snn-artsy
run` in a process of its own, without cached features.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.runs.features import choose_device, prepare
from snn_artsy.runs.loop import run_learner

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

QUIET = Console(quiet=True)
STEPS = 16
LEARNERS = ("artsy_ann", "artsy_snn")


def timed(config: RunConfig, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds of everything, seconds of learning) of each learner and repeat."""
    device = choose_device(config.device)
    frozen = prepare(config, device, QUIET)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LEARNERS}
    for _ in range(repeats):
        for name in LEARNERS:
            measures = run_learner(name, config, frozen, device, QUIET)
            found[name].append((measures["seconds"], measures["seconds_learning"]))
    return found


def whole_run() -> float:
    """Seconds of the default run, from the command to its end."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "snn_artsy", "run", "--out", f"{scratch}/run"]
        command += ["--backbone.cache_dir", f"{scratch}/cache"]
        at = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--data.root", dest="root")
    parser.add_argument("--backbone.checkpoint", dest="checkpoint")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="wall_time")
    given = parser.parse_args()
    values: dict[str, Any] = {}
    if given.config is not None:
        values = yaml.safe_load(given.config.read_text(encoding="utf-8"))
        values.setdefault("data", {})["root"] = given.root
        values.setdefault("backbone", {})["checkpoint"] = given.checkpoint
    encoding = values.setdefault("snn", {}).setdefault("encoding", {})
    encoding |= {"n_steps": STEPS, "test_steps": STEPS}
    config = build(RunConfig, complete(values))
    found = timed(config, given.repeats)
    ratios = [s[0] / a[0] for a, s in zip(found["artsy_ann"], found["artsy_snn"], strict=True)]
    lines = ["| | seconds | of it learning |", "|---|---:|---:|"]
    for name, times in found.items():
        total, learning = (statistics.median(column) for column in zip(*times, strict=True))
        lines.append(f"| {name} | {total:.2f} | {learning:.2f} |")
    if given.config is None:
        lines.append(f"| `snn-artsy run`, features not cached | {whole_run():.1f} | |")
    lines += [
        "",
        f"{config.data.name}, {config.backbone.name}, T = {STEPS}, {torch.get_num_threads()} "
        f"threads. SNN / ANN: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f} in {given.repeats} interleaved pairs).",
    ]
    text = "\n".join(lines)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    main()
