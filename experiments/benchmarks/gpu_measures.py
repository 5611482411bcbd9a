"""A GPU beside the CPU: agreement of both, feature extraction, and training of adapters.

    python experiments/benchmarks/gpu_measures.py --device cuda --json gpu.json

`gpu.sh` runs it after the tests and `stdp_throughput.py`, whose results it puts into the same JSON.

- ``agreement``: the bundled digits with every learner on both devices, and with some in the
  transformer's blocks: how far features are apart (least cosine), and of each learner A_last and
  seconds of learning on both, and the share of test images that both answer alike after the last
  task.
- ``vit``: images a second through a ViT with random weights, and in training adapters in its last
  blocks, in float32 and bfloat16; the share of the measured rate of matrix products in that
  precision, and the GPU memory that it took.
- ``tests``: how many there were, and of those that failed what they said.
- ``stdp_throughput``: of every layer the three limits and which of them binds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import ANNConfig, BackboneConfig, DataConfig, RunConfig
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.learners.subnetworks import BlockAdapters
from snn_artsy.runs.features import choose_device, prepare
from snn_artsy.runs.loop import run_learner

LEARNERS = {
    "head": ("simplecil", "ranpac", "artsy_ann", "artsy_ann_lda", "artsy_ann_ridge", "artsy_snn"),
    "blocks": ("ease", "artsy_best"),
}
BATCHES = {"cuda": 256, "cpu": 8}
BLOCKS = 4


def agreement(device: str, per_class: int | None) -> dict[str, Any]:
    """Features and answers of the bundled digits on the CPU and on the device."""
    quiet = Console(quiet=True)
    found: dict[str, Any] = {"least_cosine": 1.0, "learners": {}}
    for placement, learners in LEARNERS.items():
        config = RunConfig(
            data=DataConfig(train_per_class=per_class),
            backbone=BackboneConfig(cache=False),
            ann=ANNConfig(placement=placement, epochs=20 if placement == "head" else 4),
        )
        streams = {name: prepare(config, name, quiet) for name in ("cpu", device)}
        seen = [torch.cat([test.features.cpu() for _, test in s.tasks]) for s in streams.values()]
        least = float(torch.cosine_similarity(seen[0], seen[-1]).min())
        found["least_cosine"] = min(found["least_cosine"], least)
        for learner in learners:
            answers, measures = {}, {}
            for name, stream in streams.items():
                kept: list[StepAnswers] = []
                own = replace(config, device=name)
                measures[name] = run_learner(learner, own, stream, name, quiet, keep=kept)
                answers[name] = kept[-1].predicted
            of_each = {
                key: {name: each[key] for name, each in measures.items()}
                for key in ("a_last", "seconds_learning")
            }
            alike = float((answers["cpu"] == answers[device]).mean())
            found["learners"][f"{learner}, {placement}"] = of_each | {"answered_alike": alike}
    return found


def seconds(call: Callable[[], object], device: str, runs: int) -> float:
    """The shortest of some calls, after one that warms up."""
    best = float("inf")
    for run in range(runs + 1):
        at = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if run:
            best = min(best, time.perf_counter() - at)
    return best


def rate(device: str, dtype: torch.dtype, runs: int) -> float:
    """Operations a second of a product of large matrices."""
    n = 8192 if device == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / seconds(lambda: a @ a, device, runs)


def through_the_vit(model: str, device: str, runs: int) -> dict[str, Any]:
    """Extraction and training in both precisions: images a second, and share of `rate`."""
    config = BackboneConfig(name=model, pretrained=False)
    backbone = FrozenBackbone.build(config, device)
    n = BATCHES[device]
    images = torch.randn(n, *backbone.input_size, device=device)
    first = backbone.first_adapted(BLOCKS)
    adapters = BlockAdapters(backbone, ANNConfig(placement="blocks", blocks=BLOCKS),
                             torch.Generator().manual_seed(0)).to(device)  # fmt: skip
    optimiser = torch.optim.SGD(adapters.parameters(), lr=0.0)

    def training(tokens: Tensor) -> Callable[[], object]:
        def step() -> None:
            optimiser.zero_grad()
            adapters(tokens).square().mean().backward()
            optimiser.step()

        return step

    found: dict[str, Any] = {"model": model, "batch": n}
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        backbone.precision = precision
        tokens, most = backbone.rounded(images, first), rate(device, dtype, runs)
        calls = {"extraction": lambda: backbone(images), "adapters": training(tokens)}
        for name, call in calls.items():
            with FlopCounterMode(display=False) as counter:
                call()
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            took = seconds(call, device, runs)
            share = counter.get_total_flops() / took / most
            memory = torch.cuda.max_memory_allocated() if device == "cuda" else None
            found[f"{name}_{precision}"] = {
                "images_per_second": n / took, "share_of_rate": share, "peak_bytes": memory,
            }  # fmt: skip
        found[f"rate_{precision}"] = most
    return found


def tests(file: Path) -> dict[str, Any]:
    """What pytest's JUnit file says: numbers of tests, and what those said that failed."""
    suite = next(ElementTree.parse(file).getroot().iter("testsuite"))
    failed = {
        f"{case.get('classname')}::{case.get('name')}": part.get("message", "")
        for case in suite.iter("testcase")
        for part in case
        if part.tag in ("failure", "error")
    }
    numbers = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    return numbers | {"failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--models", nargs="+", default=["deit_tiny_patch16_224",
                                                        "vit_base_patch16_224"])  # fmt: skip
    parser.add_argument("--per-class", type=int, help="training images a class for the agreement")
    parser.add_argument("--runs", type=int, default=10, help="the shortest of so many counts")
    parser.add_argument("--tests", type=Path, help="JUnit file of the tests")
    parser.add_argument("--stdp", type=Path, help="JSON of stdp_throughput.py")
    parser.add_argument("--json", type=Path, required=True, help="write everything here")
    options = parser.parse_args()
    device = choose_device(options.device)
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "agreement": agreement(device, options.per_class),
        "vit": [through_the_vit(model, device, options.runs) for model in options.models],
    }
    if options.tests is not None:
        result["tests"] = tests(options.tests)
    if options.stdp is not None:
        result["stdp_throughput"] = json.loads(options.stdp.read_text(encoding="utf-8"))
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("device", "agreement", "vit")}, indent=1))


if __name__ == "__main__":
    main()
