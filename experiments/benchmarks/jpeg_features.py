"""Features of JPEG files in float32 and bfloat16, and their share of the rate of matrix products.

    python experiments/benchmarks/jpeg_features.py --into docs/benchmarks.md

Files of 64 and 500 pixels are made at run time (smoothed noise) and go through a ViT with random
weights at its own input size, decoding and resizing included.
Precisions take turns. Times are processor time, which depends less on what else the machine does:
images a second are those of one core. ``GEMM`` is a product of matrices of the ViT's sizes (1,576
tokens of 8 images) in the same precision; ``ViT`` the pass alone, of images in memory.
"""

from __future__ import annotations

import argparse
import json
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
    """A row for each size of files and precision."""
    config = BackboneConfig(name=model, pretrained=False, cache=False)
    backbone = FrozenBackbone.build(config, "cpu")
    images, width = torch.randn(8, *backbone.input_size), backbone.dim
    with FlopCounterMode(display=False) as counter:
        backbone(images)
    operations = counter.get_total_flops() / len(images)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for side in sides:
            root = Path(scratch, str(side))
            make_files(root, side, n)
            split = load_source(DataConfig(name="imagefolder", root=str(root))).train

            def extract(split: ImageSplit = split) -> object:
                return extract_features(backbone, split, np.arange(n), config, threads=1)

            took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in PRECISIONS}
            for turn in range(rounds + 1):
                for name in PRECISIONS:
                    backbone.precision = name
                    files = processor_seconds(extract)
                    alone = processor_seconds(lambda: backbone(images))
                    if turn:  # the first warms up
                        took[name].append(
                            (files / n, alone / len(images), matrix_rate(name, width))
                        )
            for name, times in took.items():
                of_file, alone, rate = (median(column) for column in zip(*times, strict=True))
                rows.append({
                    "side": side, "precision": name, "images_per_second": 1 / of_file,
                    "vit_per_second": 1 / alone, "gemm_per_second": rate,
                    "share": operations / of_file / rate, "share_vit": operations / alone / rate,
                })  # fmt: skip
    return rows


def table(model: str, rows: list[dict[str, Any]], n: int, rounds: int) -> str:
    lines = [
        "| file, px | precision | images a second | GEMM, GFLOP/s | share of it | ViT alone, "
        "images a second | share |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['side']} | {row['precision']} | {row['images_per_second']:.1f} | "
            f"{row['gemm_per_second'] / 1e9:.0f} | {100 * row['share']:.0f} % | "
            f"{row['vit_per_second']:.1f} | {100 * row['share_vit']:.0f} % |"
        )
    by = {(row["side"], row["precision"]): row["images_per_second"] for row in rows}
    ratios = ", ".join(
        f"{by[side, 'bfloat16'] / by[side, 'float32']:.2f} from files of {side} px"
        for side in dict.fromkeys(row["side"] for row in rows)
    )
    lines += ["", f"{model}, one core, {n} files, median of {rounds} turns. "
                  f"bfloat16 / float32: {ratios}."]  # fmt: skip
    return "\n".join(lines)


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
