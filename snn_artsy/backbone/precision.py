"""Which arithmetic the frozen ViT takes where the configuration leaves it open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from snn_artsy.backbone.vit import FrozenBackbone
from snn_artsy.data.sources import ImageSplit

CHECKED = 16
"""Images whose features are compared."""
LEAST_COSINE = 0.9995
"""Of an image's features in bfloat16 with those in float32."""

CPUINFO = Path("/proc/cpuinfo")
# x86 by AVX-512 or AMX, and Arm, as Linux calls them
_MULTIPLIES_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def has_bfloat16(device: torch.device) -> bool:
    """Whether a processor or GPU has instructions for products in bfloat16.

    Without them torch emulates these, which is slower than float32. Of a processor Linux alone says
    it; elsewhere it counts as without.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        words = CPUINFO.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not _MULTIPLIES_BFLOAT16.isdisjoint(words)


def settle_precision(backbone: FrozenBackbone, split: ImageSplit, index: NDArray[np.int64]) -> str:
    """Let a backbone compute in bfloat16 where that is fast and changes little, else in float32.

    It changes little if the first images' features have a cosine of at least `LEAST_COSINE` with
    those in float32.

    Returns:
        What was chosen and why, in words.
    """
    backbone.precision = "float32"
    device = backbone.device
    if not has_bfloat16(device):
        return f"backbone.precision: float32, this {device.type} has no bfloat16"
    images = backbone.load_images(split, index[:CHECKED]).to(device)
    exact = backbone(images)
    backbone.precision = "bfloat16"
    least = float(torch.cosine_similarity(exact, backbone(images)).min())
    told = f"the least cosine with float32 is {least:.5f} for the first {len(images)} images"
    if not least >= LEAST_COSINE:  # NaN is no agreement
        backbone.precision = "float32"
    return f"backbone.precision: {backbone.precision}, {told}"
