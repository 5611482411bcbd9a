"""The bundled backbone: a small vision transformer, trained by us, that needs no download.

How it was trained, on what, and how good it is: ``docs/model_card.md``. It is a plain timm
``VisionTransformer`` and is loaded strictly; ``experiments/pretrain_backbone.py`` reproduces it.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["ARCHITECTURE", "DATA_CONFIG", "STEM_CHANNELS", "WEIGHTS", "bundled_vit", "new_vit"]

WEIGHTS = "vit_bundled_p8_64.safetensors"
"""File name of the weights, a resource of this package."""

ARCHITECTURE: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 1,
    "embed_dim": 192,
    "depth": 6,
    "num_heads": 3,
    "num_classes": 0,
    "global_pool": "token",
}
"""Arguments of timm's ``VisionTransformer``; the embedding layer is added by `new_vit`."""

STEM_CHANNELS: tuple[int, ...] = (48, 96, 192)
"""Output channels of the three stride-2 convolutions that make the 8 x 8 patch tokens."""

DATA_CONFIG: dict[str, Any] = {
    "input_size": (3, 64, 64),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 1.0,
}
"""How images must be prepared, in the style of timm's ``pretrained_cfg``."""


def new_vit() -> VisionTransformer:
    """Build the architecture with random weights (torch's global generator).

    Returns
    -------
    VisionTransformer
        Maps images [B, 3, 64, 64] to CLS features [B, 192].
    """
    # Imported here so that reading the constants costs no torch import.
    from functools import partial

    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed

    if not STEM_CHANNELS:
        return VisionTransformer(**ARCHITECTURE)
    stem = ConvStem(depth=len(STEM_CHANNELS), channels=STEM_CHANNELS)
    return VisionTransformer(
        **ARCHITECTURE, embed_layer=partial(HybridEmbed, backbone=stem, proj=False)
    )


def bundled_vit() -> VisionTransformer:
    """Load the bundled backbone, frozen and in evaluation mode.

    Returns
    -------
    VisionTransformer
        Maps images [B, 3, 64, 64], prepared as `DATA_CONFIG` says, to CLS features [B, 192].
    """
    from safetensors.torch import load_file

    vit = new_vit()
    with as_file(files(__package__) / WEIGHTS) as path:
        vit.load_state_dict(load_file(path), strict=True)
    return vit.eval().requires_grad_(False)
