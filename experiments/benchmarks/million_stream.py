"""Learners on a stream of up to a million images: time, memory and disk, beside a forecast.

    python experiments/benchmarks/million_stream.py --images 1280000 --json million.json
    python experiments/benchmarks/million_stream.py --images 10000 40000 160000 --json growth.json
    python experiments/benchmarks/million_stream.py --table growth.json million.json --into PAGE

Features take the place of images: 768 numbers each, 1,000 classes in 20 tasks, a Gaussian a class,
drawn in parts from the seed and written to a file, as a backbone's are. A twentieth more are test
images; after each task all those of the tasks so far are answered. Every learner goes through the
run's own loop in a process of its own, with its recording and what it has learnt on the disk.

- ``seconds``: by the clock, of learning, answering and recording. ``cpu_seconds``: processor time
  of the run, which depends less on what else the machine does; of it ``cpu_seconds_learning``. All
  but learning are answers after each task, to a twentieth of the images of all tasks so far, and
  what is measured of them. ``microseconds_per_image``: processor time for a training image.
- ``peak_gib``: largest resident size of the learner's own process (Linux).
- ``disk_gib``: features, recording and what was learnt.
- The forecast is `snn_artsy.runs.cost`: its multiplications and numbers moved at this machine's
  measured rates, its batches at the measured time of one sample's, and its arrays.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.chunks import chunks, rows_of
from snn_artsy.config import ANNConfig, RecordConfig, RunConfig
from snn_artsy.data.stream import SampleSet, TaskSplit, TaskStream
from snn_artsy.learners.base import LabelledBatch, Split, Task
from snn_artsy.learners.gates import MLPGate, train_gate
from snn_artsy.learners.shelf import Shelf
from snn_artsy.learners.subnetworks import HeadAdapter, train
from snn_artsy.learners.tasks import feature_task_stream
from snn_artsy.recording.estimate import TaskSize
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.runs.cost import beside, memory, work
from snn_artsy.runs.features import FeatureStream
from snn_artsy.runs.loop import run_learner
from snn_artsy.threads import computing_with

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

DIM, CLASSES, TASKS, SEED = 768, 1000, 20, 1993
LEARNERS = (
    "simplecil", "artsy_ann_lda", "artsy_ann_ridge", "ranpac", "artsy_ann", "artsy_snn",
)  # fmt: skip
SPREAD = 0.15
"""Of class means, in standard deviations within a class: neighbours overlap."""
GIB = 2**30


def labels_of(split: str, number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes of images by their numbers: all of them in turn, or of tests those of all tasks in
    turn, since there may be fewer than classes. A task's last class comes first there: the largest
    label says how many classes an answer must have scores of."""
    if split == "train":
        return number % CLASSES
    per_task = CLASSES // TASKS
    return number % TASKS * per_task + per_task - 1 - number // TASKS % per_task


def make_features(folder: Path, n_images: int) -> None:
    """Write the features of training and test images."""
    means = SPREAD * np.random.default_rng(SEED).standard_normal((CLASSES, DIM), dtype=np.float32)
    for stream, (split, n) in enumerate((("train", n_images), ("test", n_images // 20))):
        file = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.float32, (n, DIM))
        for rows in chunks(n):
            number = np.arange(n)[rows]
            rng = np.random.default_rng([SEED, stream, rows.start])
            noise = rng.standard_normal((len(number), DIM), dtype=np.float32)
            file[rows] = 1.0 + means[labels_of(split, number)] + noise
        file.flush()


def make_stream(n_images: int) -> TaskStream:
    """Tasks of 50 classes; every tenth training image of a class validates."""
    train, test = np.arange(n_images), np.arange(n_images // 20)
    validates = train // CLASSES % 10 == 9

    def samples(split: str, number: NDArray[np.int64], task: int) -> SampleSet:
        labels = labels_of(split, number)
        own = labels // (CLASSES // TASKS) == task
        return SampleSet(number[own], labels[own])

    tasks = [
        TaskSplit(
            t,
            tuple(range(t * CLASSES // TASKS, (t + 1) * CLASSES // TASKS)),
            samples("train", train[~validates], t),
            samples("train", train[validates], t),
            samples("test", test, t),
            "synthetic",
        )
        for t in range(TASKS)
    ]
    return TaskStream(np.arange(CLASSES), tuple(map(str, range(CLASSES))), tuple(tasks))


class ProcessorTime(Shelf):
    """Has a run's seconds counted in processor time; of adapters on h_0 it keeps nothing."""

    def clock(self) -> float:
        return time.process_time()


def measured(name: str, n_images: int, folder: Path, threads: int) -> dict[str, Any]:
    """One learner's run over the features in ``folder``, in this process."""
    stream = make_stream(n_images)
    kept = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in ("train", "test")}

    def load(split: Split, index: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(rows_of(kept["test" if split == "test" else "train"], index))

    tasks = feature_task_stream(stream, load, "cpu")
    config = RunConfig(learners=[name], device="cpu", threads=threads, seed=SEED)
    features = FeatureStream(tasks, stream, DIM, "", {}, 0.0, shelf=ProcessorTime())
    quiet = Console(quiet=True)
    with tempfile.TemporaryDirectory(dir=folder) as out, computing_with(threads):
        with RunRecorder(out, "", {"seed": SEED}, RecordConfig()) as recorder:
            state, begun = Path(out, "state.safetensors"), time.perf_counter()
            measures = run_learner(name, config, features, "cpu", quiet, recorder, state)
            seconds = time.perf_counter() - begun
        disk = sum(f.stat().st_size for f in (*folder.glob("*.npy"), *Path(out).iterdir()))
    # getrusage would count the pages that the process which wrote the features had at the fork
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
    return {
        "seconds": seconds,
        "cpu_seconds": measures["seconds"],
        "cpu_seconds_learning": measures["seconds_learning"],
        "peak_gib": peak / GIB,
        "disk_gib": disk / GIB,
        "microseconds_per_image": 1e6 * measures["seconds"] / n_images,
        "a_last": measures["a_last"],
    }


def rates(threads: int) -> tuple[float, float, float]:
    """Of processor time: multiplications a second; seconds of a batch of gradient descent beyond
    what its samples take, the mean of an adapter's and a gate's; numbers a second that are read
    from memory or written there."""
    config = ANNConfig(batch_size=1, epochs=2, gate_epochs=2)
    generator = torch.Generator().manual_seed(SEED)
    few = LabelledBatch(torch.randn(50, DIM), torch.arange(50), "train", labels=torch.arange(50))
    task = Task(0, tuple(range(50)), few, few)
    a, many = torch.randn(2000, 2000), torch.randn(50_000, DIM)
    rows = torch.randperm(len(many))[:10_000]
    found = []

    def descend() -> None:
        train(HeadAdapter(DIM, config, generator), task, config, generator)
        good, bad = few.features.split(25)
        train_gate(MLPGate(DIM, config, generator), good, bad, config, generator)

    with computing_with(threads):
        for run in (lambda: a @ a, descend, lambda: many[rows]):
            run()
            times = []
            for _ in range(5):
                at = time.process_time()
                run()
                times.append(time.process_time() - at)
            found.append(median(times))
    return 2000**3 / found[0], found[1] / (4 * len(few)), 2 * len(rows) * DIM / found[2]


def forecast(
    name: str, n_images: int, threads: int, fast: tuple[float, float, float]
) -> dict[str, float]:
    """What the cost model says of a learner before it runs."""
    config = RunConfig(learners=[name], device="cpu", threads=threads)
    sizes = [
        TaskSize(len(task.classes), len(task.train), len(task.test))
        for task in make_stream(n_images).tasks
    ]
    products, passes = work(name, config, DIM, sizes)
    more, moved = beside(name, config, DIM, sizes)
    return {
        "forecast_seconds": (products + more) / fast[0] + passes * fast[1] + moved / fast[2],
        "forecast_gib": memory(name, config, DIM, sizes)[0] / GIB,
    }


def table(results: dict[int, dict[str, dict[str, Any]]], threads: int) -> str:
    """Rows of learners and sizes, as Markdown."""
    lines = [
        "| learner | images | seconds | CPU s | forecast s | CPU µs an image | of it learning | "
        "peak GiB | forecast GiB | disk GiB | A_last |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in LEARNERS:
        for n, learners in sorted(results.items()):
            if (one := learners.get(name)) is not None:
                foretold, gib = f"{one['forecast_seconds']:,.1f}", f"{one['forecast_gib']:.2f}"
                if "seconds" not in one:
                    lines.append(
                        f"| {name} | {n:,} | – | – | {foretold} | – | – | – | {gib} | – | – |"
                    )
                    continue
                peak = f"{one['peak_gib']:.2f}" if "peak_gib" in one else "–"
                lines.append(
                    f"| {name} | {n:,} | {one['seconds']:,.1f} | {one['cpu_seconds']:,.1f} | "
                    f"{foretold} | {one['microseconds_per_image']:,.0f} | "
                    f"{1e6 * one['cpu_seconds_learning'] / n:,.0f} | {peak} | "
                    f"{gib} | {one['disk_gib']:.2f} | {100 * one['a_last']:.1f} |"
                )
    lines += ["", f"{CLASSES:,} classes in {TASKS} tasks, D = {DIM}, {threads} threads."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1_280_000])
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=LEARNERS)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--scratch", type=Path, help="where features lie meanwhile")
    parser.add_argument("--json", type=Path, help="write the results of the largest stream here")
    parser.add_argument("--table", type=Path, nargs="+", default=[], metavar="JSON",
                        help="measure nothing: the table of what was measured before, and the "
                             "forecast by this machine's rates")  # fmt: skip
    parser.add_argument("--foretold", type=int, nargs="+", default=[], metavar="IMAGES",
                        help="with --table: sizes for which learners that were not measured have "
                             "their forecast alone")  # fmt: skip
    parser.add_argument("--into", type=Path, help="a page with <!-- million_stream --> markers")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a learner, in a process of its own
    options = parser.parse_args()
    if min(options.images) < 10 * CLASSES:
        parser.error(f"--images: use at least {10 * CLASSES}, ten of each class")
    if options.one:
        print(json.dumps(measured(options.one, *options.images, options.scratch, options.threads)))
        return
    results: dict[int, dict[str, dict[str, Any]]] = {}
    for file in options.table:
        before = json.loads(file.read_text(encoding="utf-8"))
        options.threads = before["threads"]
        for n, learners in before["of_images"].items():
            results.setdefault(int(n), {}).update(learners)
    for n in options.foretold:
        results[n] = {name: {} for name in options.learners} | results.get(n, {})
    fast = rates(options.threads)
    for n, learners in results.items():  # measured before, forecast now
        for name, one in learners.items():
            one |= forecast(name, n, options.threads, fast)
    for n in () if options.table else options.images:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            make_features(Path(scratch), n)
            for name in options.learners:
                command = [sys.executable, __file__, "--one", name, "--images", str(n)]
                command += ["--scratch", scratch, "--threads", str(options.threads)]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                one = json.loads(told.splitlines()[-1]) | forecast(name, n, options.threads, fast)
                results.setdefault(n, {})[name] = one
                print(n, name, json.dumps(one), flush=True)
                if options.json is not None:
                    whole = {"images": max(results), "learners": results[max(results)]}
                    whole |= {"threads": options.threads, "of_images": results}
                    options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    page = table(results, options.threads)
    print(page)
    if options.into is not None:
        insert(options.into, "million_stream", page)


if __name__ == "__main__":
    main()
