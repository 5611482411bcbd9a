#!/usr/bin/env python3
"""What adapters in the last k blocks cost: wall time, CPU time and passes of the ViT.

    python experiments/benchmarks/blocks.py --root IMAGES --checkpoint WEIGHTS --k 1 2 4 8 12
    python experiments/benchmarks/blocks.py ... --k 4 --before CHECKOUT

The small case is 10 classes in 5 tasks, 8 training and 8 test images a class, 2 epochs, and
DeiT-Tiny; EASE computes every sub-network for every image, Artsy those behind open gates. Each run
is a process of its own in one thread. Its first run fills the feature cache, which belongs to this
benchmark; the second one is measured, so that features are not, but with ``--cold`` the first is.
Without --root and --checkpoint images and weights are random: the times are the same.

``--before`` names a checkout of an earlier version, which has adapters in all blocks, and runs it
beside ours, interleaved.
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
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[2]
LEARNERS = ("ease", "artsy_ann")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder with train/ and test/")
    parser.add_argument("--checkpoint", type=Path, help="weights of DeiT-Tiny")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument(
        "--precision", nargs="+", default=["float32"], help="backbone.precision of our runs"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cold", action="store_true", help="measure runs with an empty cache")
    parser.add_argument("--json", type=Path, help="write every measurement here")
    options = parser.parse_args()
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        root = options.root or random_images(Path(scratch) / "images")
        for repeat in range(options.repeats):
            cases: list[tuple[Path, int | None, str]]
            cases = [(HERE, k, precision) for precision in options.precision for k in options.k]
            if options.before is not None:
                cases.insert(0, (options.before, None, "float32"))
            for checkout, k, precision in cases:
                cache = Path(scratch) / f"cache_{checkout.name}_{k}_{precision}"
                if options.cold:
                    cache = cache / str(repeat)
                elif not cache.exists():
                    one_run(checkout, k, precision, root, cache, options)
                measured.append(one_run(checkout, k, precision, root, cache, options))
                print(json.dumps(measured[-1]), flush=True)
    print(table(measured))
    if options.json is not None:
        options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def one_run(
    checkout: Path,
    k: int | None,
    precision: str,
    root: Path,
    cache: Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Wall and CPU seconds of a run and its learners' measures; ``k`` None: all blocks, by a
    version that knows neither ``ann.blocks`` nor ``backbone.precision``."""
    cache.mkdir(parents=True, exist_ok=True)
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    environment = os.environ | one_thread
    environment |= {"PYTHONPATH": str(checkout.resolve()), "SNN_ARTSY_CACHE": str(cache)}
    with tempfile.TemporaryDirectory() as out:
        values: dict[str, Any] = {
            "data.name": "imagefolder", "data.root": root.resolve(), "data.class_range": "[0, 10]",
            "data.n_tasks": 5, "data.train_per_class": 8, "data.test_per_class": 8,
            "backbone.name": "deit_tiny_patch16_224", "ann.placement": "blocks",
            "ann.epochs": options.epochs, "learners": ",".join(LEARNERS), "threads": 1,
            "out": f"{out}/run",
        }  # fmt: skip
        if options.checkpoint is not None:
            values["backbone.checkpoint"] = options.checkpoint.resolve()
        else:
            values["backbone.pretrained"] = "false"
        if k is not None:
            values |= {"ann.blocks": k, "backbone.precision": precision}
        command = [sys.executable, "-m", "snn_artsy", "run"]
        for key, value in values.items():
            command += [f"--{key}", str(value)]
        before, started = os.times(), time.perf_counter()
        # elsewhere than in a checkout, whose code Python would take before that of PYTHONPATH
        subprocess.run(command, env=environment, cwd=out, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - started, os.times()
        text = Path(out, "run", "summary.json").read_text(encoding="utf-8")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    learners = json.loads(text)["learners"]
    keys = ("seconds", "seconds_learning", "vit_passes_per_image", "a_last")
    found = {name: {key: learners[name][key] for key in keys} for name in LEARNERS}
    version = "before" if k is None else "now"
    about = {"version": version, "blocks": k, "precision": precision}
    return {**about, "wall": wall, "cpu": cpu, "learners": found}


def table(measured: list[dict[str, Any]]) -> str:
    """Medians over the repeats, as Markdown."""
    head = ["version", "blocks", "precision", "wall s", "CPU s", "learners, each alone, s"]
    rows = [f"| {' | '.join([*head, 'ViT passes an image, EASE', 'Artsy'])} |"]
    rows.append("|---|---|---|---:|---:|---:|---:|---:|")
    keys = ("version", "blocks", "precision")
    for case in dict.fromkeys(tuple(m[key] for key in keys) for m in measured):
        own = [m for m in measured if tuple(m[key] for key in keys) == case]
        version, k, precision = case
        wall, cpu = (np.median([m[key] for m in own]) for key in ("wall", "cpu"))
        learning = np.median([sum(m["learners"][n]["seconds"] for n in LEARNERS) for m in own])
        passes = [own[0]["learners"][n]["vit_passes_per_image"] for n in LEARNERS]
        rows.append(
            f"| {version} | {k or 'all'} | {precision} | {wall:.1f} | {cpu:.1f} | {learning:.1f} | "
            + " | ".join(f"{p:.2f}" for p in passes)
            + " |"
        )
    return "\n".join(rows)


def random_images(root: Path) -> Path:
    """Ten classes of noise."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for c in range(10):
            folder = root / split / f"class_{c}"
            folder.mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


if __name__ == "__main__":
    main()
