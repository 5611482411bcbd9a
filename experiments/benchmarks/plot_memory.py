"""Memory that drawing every figure of a run file takes, against the size of the file.

    python experiments/benchmarks/plot_memory.py --gigabytes 0.02,0.2,2 --into docs/benchmarks.md

Each file is a run of invented numbers, written by the recorder: half of it spikes, the rest events,
traces, pairs and snapshots. Each is drawn in a process of its own, whose peak resident memory is
taken from the operating system; so is that of a process that only loads the package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from snn_artsy.config import RecordConfig
from snn_artsy.observer import Conversions, Pairings, Presentations
from snn_artsy.recording import RunRecorder

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

N_TASKS, N_PRE, N_POST, TRACED = 5, 4000, 400, 64
LAG_MS = np.arange(-100.0, 101.0, 5.0)
DRAW = """
import json, resource, sys, time
from snn_artsy.plots import save_figures
from snn_artsy.recording import open_run
start = time.perf_counter()
n = 0
if len(sys.argv) > 1:
    with open_run(sys.argv[1]) as run:
        n = len(save_figures(run, sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kB elsewhere
peak /= 1e6 if sys.platform == "darwin" else 1e3
print(json.dumps({"peak_mb": peak, "seconds": time.perf_counter() - start, "figures": n}))
"""


def write_run(directory: Path, n_bytes: float) -> int:
    """A run of about so many bytes on the disk; returns the size of its run.h5."""
    rng = np.random.default_rng(0)
    with RunRecorder(directory, "", {"seed": 0}, RecordConfig()) as recorder:
        recorder.population("retina", np.repeat([0, 1], N_PRE // 2))
        clock = 0.0
        synapse = rng.integers(0, N_POST, (TRACED, 3))
        synapse[:, 2] = 0
        for task in range(N_TASKS):
            recorder.population(f"task{task}", np.arange(N_POST) // 40)
            own = n_bytes / N_TASKS
            updates = 50
            for _ in range(updates):
                start = clock + 100.0 * np.arange(20)
                clock += 2000.0
                recorder.presentations(
                    Presentations(start, start + 100, "train", np.arange(20), np.zeros(20, int),
                                  task, start + 50)
                )  # fmt: skip
                n_spikes = int(0.5 * own / updates / 16)
                for population, size, n in (
                    ("retina", N_PRE, int(0.9 * n_spikes)),
                    (f"task{task}", N_POST, int(0.1 * n_spikes)),
                ):
                    times = np.sort(rng.uniform(clock - 2000.0, clock, n))
                    recorder.spikes(population, times, rng.integers(0, size, n))
                n = int(0.35 * own / updates / 12)  # as events are packed on the disk
                state = rng.integers(0, 2, n).astype(np.uint8)
                zero = np.zeros(n, np.int64)
                recorder.conversions(
                    Conversions(task, np.sort(rng.uniform(clock - 2000.0, clock, n)),
                                rng.integers(0, N_PRE, n), rng.integers(0, N_POST, n), zero,
                                state, 1 - state)
                )  # fmt: skip
                recorder.counts(task, clock, rng.integers(0, 10**6, 3))
                rows = max(1, int(0.15 * own / updates / (6 * 4 * TRACED)))
                names = ("ampa", "state", "pre_trace", "post_trace", "membrane_mV", "nmda_open")
                recorder.trace(
                    task, clock - np.arange(rows)[::-1] * (2000.0 / rows), synapse,
                    {n: rng.random((rows, TRACED), np.float32) for n in names},
                )  # fmt: skip
                before = rng.uniform(0.3, 0.6, TRACED).astype(np.float32)
                pairs = rng.poisson(1.0, (TRACED, len(LAG_MS)))
                recorder.pairings(
                    task,
                    clock,
                    Pairings(LAG_MS, pairs, pairs.sum(1), 0 * before, before, before + 0.1),
                )
            for earlier in range(task + 1):
                ampa = rng.random((N_POST, N_PRE, 1), np.float32)
                recorder.snapshot(
                    earlier, f"after_task_{task}", ampa, (ampa > 0.5).astype(np.uint8)
                )
            recorder.flush()
    return (directory / "run.h5").stat().st_size


def drawn(*arguments: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", DRAW, *arguments], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", default="0.02,0.2,2")
    parser.add_argument("--scratch", type=Path, help="directory for the files (default: temporary)")
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    empty = drawn()["peak_mb"]
    lines = ["| run.h5, MB | figures | peak memory, MB | above an empty process, MB | seconds |",
             "|---:|---:|---:|---:|---:|"]  # fmt: skip
    for size in given.gigabytes.split(","):
        with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
            begun = time.perf_counter()
            n_bytes = write_run(Path(scratch) / "run", 1e9 * float(size))
            print(
                f"{n_bytes / 1e6:.0f} MB written in {time.perf_counter() - begun:.0f} s", flush=True
            )
            found = drawn(str(Path(scratch) / "run"), str(Path(scratch) / "figures"))
            lines.append(
                f"| {n_bytes / 1e6:,.0f} | {found['figures']} | {found['peak_mb']:.0f} | "
                f"{found['peak_mb'] - empty:.0f} | {found['seconds']:.1f} |"
            )
    text = "\n".join(lines)
    print(text)
    if given.into is not None:
        insert(given.into, "plot_memory", text)


if __name__ == "__main__":
    main()
