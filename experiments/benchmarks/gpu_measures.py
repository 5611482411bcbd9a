"""A GPU beside the CPU: agreement of both, feature extraction, and training of adapters.

    python experiments/benchmarks/gpu_measures.py --device cuda --json gpu.json

`gpu.sh` runs it after the tests and `stdp_throughput.py`, whose results it puts into the same JSON.

- ``agreement``: the bundled digits with every learner on both devices: how far features are apart
  (least cosine), and A_last on each.
- ``extraction``: images a second through a ViT with random weights, in float32 and bfloat16, and
  the share of the measured rate of matrix products in that precision.
- ``adapters``: the same of training adapters in the ViT's last blocks.
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
from snn_artsy.learners.subnetworks import BlockAdapters
from snn_artsy.runs.features import choose_device, prepare
from snn_artsy.runs.loop import run_learner

LEARNERS = ("simplecil", "ranpac", "artsy_ann", "artsy_ann_lda", "artsy_ann_ridge", "artsy_snn")
BATCHES = {"cuda": 256, "cpu": 8}
BLOCKS = 4


def agreement(device: str, per_class: int | None) -> dict[str, Any]:
    """Features and A_last of the bundled digits on the CPU and on the device."""
    config = RunConfig(
        data=DataConfig(train_per_class=per_class), backbone=BackboneConfig(cache=False)
    )
    quiet = Console(quiet=True)
    streams = {name: prepare(config, name, quiet) for name in ("cpu", device)}
    seen = [torch.cat([test.features.cpu() for _, test in s.tasks]) for s in streams.values()]
    last = {
        learner: {
            name: run_learner(learner, replace(config, device=name), stream, name, quiet)["a_last"]
            for name, stream in streams.items()
        }
        for learner in LEARNERS
    }
    least = float(torch.cosine_similarity(seen[0], seen[-1]).min())
    return {"least_cosine": least, "a_last": last}


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
            took = seconds(call, device, runs)
            share = counter.get_total_flops() / took / most
            found[f"{name}_{precision}"] = {"images_per_second": n / took, "share_of_rate": share}
        found[f"rate_{precision}"] = most
    return found


def tests(file: Path) -> dict[str, Any]:
    """What pytest's JUnit file says: numbers of tests, and names of those that failed."""
    suite = next(ElementTree.parse(file).getroot().iter("testsuite"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
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
