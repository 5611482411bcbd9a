"""How passes, time and memory of learners with adapters in the blocks grow with the tasks.

    python experiments/benchmarks/task_growth.py --json growth.json --into docs/benchmarks.md

The same run with 10 tasks and with 20 that are as large: twice the images. What grows with the
tasks doubles then, and what grows with their square becomes four times as much. Images are random
and so are the weights: numbers of passes and times are those of any images. Every learner runs in a
process of its own, on tokens that are already in the cache.

Passes are those of single images through the blocks with adapters, counted where they are made:

- ``training``: with gradients; each is followed by a pass back.
- ``measuring``: of a task's images through the sub-networks that it meets, while it is learnt.
- ``answering``: of test images, after each task those of all tasks so far. There are twice as many
  of them, asked on average twice as often, so that four times as many answers must be given; but
  what a sub-network has said of an image is kept (`Shelf`).
- ``trunk``: of images through the blocks that all sub-networks share.

Learners with a sub-network for each task run a second time with ``ann.earlier: dealt``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from snn_artsy.api import configured
from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import RunConfig
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.learners.subnetworks import BlockAdapters
from snn_artsy.runs import loop
from snn_artsy.runs.features import prepare
from snn_artsy.threads import computing_with

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

KINDS = ("training", "measuring", "answering", "trunk")
DEALT = ("ease", "artsy_ann", "artsy_best", "artsy_snn")
LEARNERS = ("aper_adapter", "ranpac", *DEALT)
A_TASK, TRAIN, TEST = 2, 12, 4  # classes of a task, and images of a class


def random_images(root: Path, n_classes: int) -> Path:
    """Classes of noise, each around a colour of its own."""
    rng = np.random.default_rng(0)
    for c in range(n_classes):
        colour = rng.integers(0, 192, 3)
        for split, n in (("train", TRAIN), ("test", TEST)):
            folder = root / split / f"class_{c:03}"
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = (colour + rng.integers(0, 64, (64, 64, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def configured_run(
    root: Path, cache: Path, learner: str, earlier: str, n_tasks: int, blocks: int
) -> RunConfig:
    values = {
        "data.name": "imagefolder", "data.root": str(root), "data.n_tasks": n_tasks,
        "backbone.cache_dir": str(cache), "ann.placement": "blocks", "ann.blocks": blocks,
        "ann.epochs": 2, "ann.bottleneck": 16, "ann.earlier": earlier,
        "ranpac.projection": 500, "learners": [learner],
        "snn.mode": "gate", "snn.preset": "error", "snn.tap": "first", "threads": 1,
    }  # fmt: skip
    return configured(values)


class Counted:
    """Counts images that pass the blocks with adapters, and the trunk, while it is entered."""

    def __enter__(self) -> Counter[str]:
        passes: Counter[str] = Counter()
        self.own = BlockAdapters.forward, FrozenBackbone.trunk, loop.evaluate
        own_forward, own_trunk, own_evaluate = self.own
        kind = "measuring"

        def forward(network: BlockAdapters, tokens: Tensor) -> Tensor:
            passes["training" if torch.is_grad_enabled() else kind] += len(tokens)
            return own_forward(network, tokens)

        def trunk(backbone: FrozenBackbone, images: Tensor, first: int) -> Tensor:
            passes["trunk"] += len(images)
            return own_trunk(backbone, images, first)

        def evaluate(*given: Any) -> StepAnswers:
            nonlocal kind
            kind = "answering"
            try:
                return own_evaluate(*given)
            finally:
                kind = "measuring"

        self._put(forward, trunk, evaluate)
        return passes

    def __exit__(self, *_: object) -> None:
        self._put(*self.own)

    def _put(self, forward: Any, trunk: Any, evaluate: Any) -> None:
        BlockAdapters.forward, FrozenBackbone.trunk = forward, trunk  # type: ignore[method-assign]
        loop.evaluate = evaluate


def measured(config: RunConfig) -> dict[str, Any]:
    """One learner's run, in this process."""
    quiet = Console(quiet=True)
    with computing_with(config.threads or 1), Counted() as passes:
        features = prepare(config, "cpu", quiet)
        begun = time.process_time()
        (name,) = config.learners
        measures = loop.run_learner(name, config, features, "cpu", quiet)
        cpu = time.process_time() - begun
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = {kind: passes[kind] for kind in KINDS}
    sizes = {"cpu_seconds": cpu, "seconds": measures["seconds"], "peak_gib": peak / 2**30}
    return kinds | sizes | {"stored_mb": measures["stored_bytes"] / 1e6}


def table(found: dict[str, dict[str, dict[str, Any]]], few: int, many: int, blocks: int) -> str:
    """What each learner takes with few and many tasks, as Markdown."""
    units = {"cpu_seconds": "CPU s", "peak_gib": "peak GiB"}
    heads = [*KINDS[:-1], *units.values()]
    lines = [
        "| learner | " + " | ".join(f"{head}, {few} | {many} | ratio" for head in heads) + " |",
        "|---|" + "---:|" * 3 * len(heads),
    ]
    for name, runs in found.items():
        cells = [name]
        for key in (*KINDS[:-1], *units):
            a, b = (runs[str(n)][key] for n in (few, many))
            shown = (f"{x:.2f}" if isinstance(x, float) else f"{x:,}" for x in (a, b))
            cells += [*shown, f"{b / a:.1f}" if a else "–"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Tasks of {A_TASK} classes, {TRAIN} training and {TEST} test images a class, bundled ViT "
        f"with adapters in the last {blocks} blocks, 2 epochs, one thread, tokens in the cache.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs=2, default=[10, 20], help="few and many")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=LEARNERS)
    parser.add_argument("--blocks", type=int, default=2, help="last blocks with adapters")
    parser.add_argument("--json", type=Path, help="write every measurement here")
    parser.add_argument("--into", type=Path, help="a page with <!-- task_growth --> markers")
    options = parser.parse_args()
    few, many = options.tasks
    found: dict[str, dict[str, dict[str, Any]]] = {}
    runs = [(name, "all") for name in options.learners]
    runs += [(name, "dealt") for name in options.learners if name in DEALT]
    # forked from a process that has the libraries, and nothing else
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snn_artsy.runs.run", "snntorch", "timm"])
    with tempfile.TemporaryDirectory() as scratch:
        for n in (few, many):
            root = random_images(Path(scratch, str(n)), n * A_TASK)
            # a first run, which is not measured, puts the tokens into the cache
            for name, earlier in ((LEARNERS[0], "all"), *runs):
                asked = (root, Path(scratch, "cache"), name, earlier, n, options.blocks)
                with context.Pool(1) as process:
                    one = process.apply(measured, (configured_run(*asked),))
                row = f"{name}, dealt" if earlier == "dealt" else name
                found.setdefault(row, {})[str(n)] = one
                print(n, row, json.dumps(one), flush=True)
    page = table(found, few, many, options.blocks)
    print(page)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.into is not None:
        insert(options.into, "task_growth", page)


if __name__ == "__main__":
    main()
