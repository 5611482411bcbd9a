"""Random crops and flips of training images, the same for the same draw."""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torchvision import transforms

from snn_artsy.backbone.vit import FrozenBackbone

# LAMDA-PILOT, utils/data.py
SCALE = (0.05, 1.0)
RATIO = (3 / 4, 4 / 3)

# torchvision draws from torch's own generator, which all threads that load images share
_DRAWING = Lock()


class Augmentation:
    """torchvision's ``RandomResizedCrop``, and with ``flips`` ``RandomHorizontalFlip``, in the
    place of the resizing and the central crop of the ViT's own transform.

    Args:
        backbone: Whose input size, interpolation and normalisation it has.
        flips: Half of the crops are mirrored, left to right.
    """

    def __init__(self, backbone: FrozenBackbone, flips: bool) -> None:
        own: Any = backbone.transform
        interpolation = next(s.interpolation for s in own.transforms if hasattr(s, "interpolation"))
        size = backbone.input_size[1:]
        steps: list[Any] = [transforms.RandomResizedCrop(size, SCALE, RATIO, interpolation)]
        if flips:
            steps.append(transforms.RandomHorizontalFlip())
        # to a tensor, and normalised: the last two of timm's
        self.transform = transforms.Compose([*steps, *own.transforms[-2:]])

    def __call__(self, image: Any, draw: int) -> Tensor:
        """A PIL image, cropped as ``draw`` says: float32 [3, H, W]."""
        with _DRAWING, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw)
            augmented: Tensor = self.transform(image)
        return augmented
