"""What recording costs: wall time of the default plan, and peak memory against the run's length.

    python experiments/benchmarks/recording_overhead.py [--repeats 7] [--json FILE]

Time: the default run's learners on cached features, without recording and with it (run.h5 and
checkpoints, synced), in turn; what recording takes is the median over pairs, told as a share of
their time and of a whole `snn-artsy run` (features and figures included). Memory: the spiking
learner with the default plan for 1, 4 and 16 epochs, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from snn_artsy.config import RunConfig
from snn_artsy.recording import RunRecorder
from snn_artsy.runs.checkpoint import Checkpoint, state_path
from snn_artsy.runs.checkpointer import Checkpointer
from snn_artsy.runs.features import FeatureStream, prepare
from snn_artsy.runs.loop import run_learner
from snn_artsy.runs.run import execute

QUIET = Console(quiet=True)
EPOCHS = (1, 4, 16)


def learn(config: RunConfig, frozen: FeatureStream, directory: Path | None) -> float:
    """Seconds of all learners; recorded in ``directory``, if given."""
    at = time.perf_counter()
    if directory is None:
        for name in config.learners:
            run_learner(name, config, frozen, "cpu", QUIET)
        return time.perf_counter() - at
    facts = {"seed": config.seed, "versions": {"none": "0"}, "git_commit": "none"}
    with RunRecorder(directory, "", facts, config.record) as recorder:
        checkpointer = Checkpointer(
            directory, recorder, Checkpoint(frozen.facts(config, "cpu")), "cpu"
        )
        for name in config.learners:
            file = state_path(directory, name)
            measures = run_learner(
                name, config, frozen, "cpu", QUIET, recorder, file, checkpointer=checkpointer
            )
            checkpointer.latest.finish({"a_last": measures["a_last"]})
            checkpointer.save()
    return time.perf_counter() - at


def time_overhead(repeats: int) -> dict[str, Any]:
    """Seconds without and with recording, and the overhead of each pair."""
    config = RunConfig(device="cpu")
    frozen = prepare(config, "cpu", QUIET)
    learn(config, frozen, None)  # what is compiled or loaded on first use
    without, recorded = [], []
    with tempfile.TemporaryDirectory() as place:
        for k in range(repeats):
            without.append(learn(config, frozen, None))
            recorded.append(learn(config, frozen, Path(place) / str(k)))
        size = (Path(place) / "0" / "run.h5").stat().st_size
        at = time.perf_counter()
        fresh = replace(config.backbone, cache_dir=str(Path(place) / "features"))
        execute(replace(config, backbone=fresh, out=str(Path(place) / "whole")))
        whole = time.perf_counter() - at
    overhead = [b / a - 1 for a, b in zip(without, recorded, strict=True)]
    taken = statistics.median(b - a for a, b in zip(without, recorded, strict=True))
    return {
        "whole_run_seconds": whole,
        "share_of_whole_run": taken / whole,
        "seconds_without": without,
        "seconds_recorded": recorded,
        "overhead": overhead,
        "overhead_median": statistics.median(overhead),
        "run_h5_bytes": size,
    }


def peak_memory(epochs: int) -> dict[str, Any]:
    """Peak resident bytes of this process after a recorded run of so many epochs."""
    config = RunConfig(device="cpu", learners=["artsy_snn"])
    plasticity = replace(config.snn.plasticity, epochs=epochs)
    config = replace(config, snn=replace(config.snn, plasticity=plasticity))
    frozen = prepare(config, "cpu", QUIET)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as place:
        learn(config, frozen, Path(place) / "run")
        size = (Path(place) / "run" / "run.h5").stat().st_size
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "epochs": epochs,
        "peak_bytes": after * unit,
        "of_learning_bytes": (after - before) * unit,
        "run_h5_bytes": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)  # of one memory process
    arguments = parser.parse_args()
    if arguments.epochs is not None:
        print(json.dumps(peak_memory(arguments.epochs)))
        return
    memory = []
    for epochs in EPOCHS:
        command = [sys.executable, __file__, "--epochs", str(epochs)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        memory.append(json.loads(done.stdout))
    found = {"time": time_overhead(arguments.repeats), "memory": memory}
    found["threads"] = torch.get_num_threads()
    for row in memory:
        print(
            f"{row['epochs']:3d} epochs: peak {row['peak_bytes'] / 2**20:.0f} MiB, run.h5 "
            f"{row['run_h5_bytes'] / 2**20:.1f} MiB"
        )
    seconds = found["time"]
    print(
        f"without {statistics.median(seconds['seconds_without']):.2f} s, recorded "
        f"{statistics.median(seconds['seconds_recorded']):.2f} s, overhead "
        f"{100 * seconds['overhead_median']:.1f} % (median of {arguments.repeats} pairs; "
        f"{100 * min(seconds['overhead']):.1f} to {100 * max(seconds['overhead']):.1f} %); "
        f"{100 * seconds['share_of_whole_run']:.1f} % of the whole run's "
        f"{seconds['whole_run_seconds']:.1f} s"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
