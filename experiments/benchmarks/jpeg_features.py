"""Features of JPEG files by precision, engine and resizing, and their share of the rate of matrix
products.

    python experiments/benchmarks/jpeg_features.py --into docs/benchmarks.md

Files of 64 and 500 pixels are made at run time (smoothed noise) and go through a ViT with random
weights at its own input size, decoding and resizing included. The ways take turns; the first is how
features were made before there was a choice, and still are unless ``backbone`` says so. Times
are processor time, which depends less on what else the machine does: images a second are those of
one core; graphs are exported before. ``GEMM`` is a product of matrices of the ViT's sizes (1,576
tokens of 8 images) in the same precision; ``ViT`` the pass alone, of images in memory.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.flop_counter import FlopCounterMode

from snn_artsy.backbone import FrozenBackbone, extract_features
from snn_artsy.config import BackboneConfig, DataConfig
from snn_artsy.data import load_source
from snn_artsy.data.sources import ImageSplit
from snn_artsy.threads import computing_with

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WAYS = (
    ("float32", "torch", "pillow"),
    ("bfloat16", "torch", "pillow"),
    ("bfloat16", "torch", "torch"),
    ("float32", "openvino", "torch"),
    ("bfloat16", "openvino", "torch"),
)
"""``backbone.precision``, ``engine`` and ``resizing``."""
TOKENS = 8 * 197  # of one pass


def make_files(root: Path, side: int, n: int) -> None:
    """Half of ``n`` images a class, and one of each to be tested."""
    rng = np.random.default_rng(side)
    for k in range(n + 2):
        folder = root / ("train" if k < n else "test") / f"class{k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        noise.filter(ImageFilter.GaussianBlur(2)).save(folder / f"{k}.jpg", quality=90)


def processor_seconds(call: Callable[[], object]) -> float:
    at = time.process_time()
    call()
    return time.process_time() - at


def matrix_rate(precision: str, width: int) -> float:
    """Operations a second of processor time, of products as in an MLP's first layer."""
    a = torch.randn(TOKENS, width).to(PRECISIONS[precision])
    b = torch.randn(width, 4 * width).to(PRECISIONS[precision])
    (a @ b).sum()

    def products() -> None:
        for _ in range(20):
            a @ b

    return 20 * 2 * TOKENS * width * 4 * width / processor_seconds(products)


def measured(model: str, sides: list[int], n: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each size of files and way."""
    configs = {
        way: BackboneConfig(name=model, pretrained=False, cache=False, precision=way[0],  # type: ignore[arg-type]
                            engine=way[1], resizing=way[2])  # type: ignore[arg-type]
        for way in WAYS
    }  # fmt: skip
    backbones = {way: FrozenBackbone.build(config, "cpu") for way, config in configs.items()}
    first = backbones[WAYS[0]]
    images, width = torch.randn(8, *first.input_size), first.dim
    with FlopCounterMode(display=False) as counter:
        first(images)
    operations = counter.get_total_flops() / len(images)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for side in sides:
            root = Path(scratch, str(side))
            make_files(root, side, n)
            split = load_source(DataConfig(name="imagefolder", root=str(root))).train
            took: dict[tuple[str, str, str], list[list[float]]] = {way: [] for way in WAYS}
            for turn in range(rounds + 1):
                for way, backbone in backbones.items():
                    times = one_turn(backbone, split, n, configs[way], images)
                    if turn:  # the first warms up
                        took[way].append([*times, matrix_rate(way[0], width)])
            for way, turns in took.items():
                of_file, alone, rate = (median(column) for column in zip(*turns, strict=True))
                rows.append({
                    "side": side, "way": way, "images_per_second": 1 / of_file,
                    "vit_per_second": 1 / alone, "gemm_per_second": rate,
                    "share": operations / of_file / rate, "share_vit": operations / alone / rate,
                })  # fmt: skip
    return rows


def one_turn(
    backbone: FrozenBackbone,
    split: ImageSplit,
    n: int,
    config: BackboneConfig,
    images: torch.Tensor,
) -> list[float]:
    """Processor seconds an image: from files, and of the pass alone."""
    files = processor_seconds(
        lambda: extract_features(backbone, split, np.arange(n), config, threads=1)
    )
    alone = processor_seconds(lambda: [backbone(images) for _ in range(4)])
    return [files / n, alone / 4 / len(images)]


def table(model: str, rows: list[dict[str, Any]], n: int, rounds: int) -> str:
    lines = [
        "| file, px | precision | engine | resizing | images a second | ratio | ViT alone | "
        "GEMM, GFLOP/s | share of GEMM, from files | ViT alone |",
        "|---:|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    before = {row["side"]: row["images_per_second"] for row in reversed(rows)}
    for row in rows:
        lines.append(
            f"| {row['side']} | {' | '.join(row['way'])} | {row['images_per_second']:.1f} | "
            f"{row['images_per_second'] / before[row['side']]:.2f} | "
            f"{row['vit_per_second']:.1f} | {row['gemm_per_second'] / 1e9:.0f} | "
            f"{100 * row['share']:.0f} % | {100 * row['share_vit']:.0f} % |"
        )
    lines += ["", f"{model}, one core of {processor()}, {n} files, median of {rounds} turns. "
                  "Ratio: to the first row of that size."]  # fmt: skip
    return "\n".join(lines)


def processor() -> str:
    """What the machine calls it."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return about.split("model name")[1].split("\n")[0].lstrip("\t :")
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="deit_tiny_patch16_224")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 500], help="of files, pixels")
    parser.add_argument("--images", type=int, default=64, help="files of each size, even")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--into", type=Path, help="a page with <!-- jpeg_features --> markers")
    options = parser.parse_args()
    if options.images < 2 or min(options.sides) < 8 or options.rounds < 1:
        parser.error("use two --images or more, --sides of 8 or more, one of --rounds or more")
    with computing_with(1):
        rows = measured(options.model, options.sides, options.images, options.rounds)
    page = table(options.model, rows, options.images, options.rounds)
    print(page)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.into is not None:
        insert(options.into, "jpeg_features", page)


if __name__ == "__main__":
    main()
