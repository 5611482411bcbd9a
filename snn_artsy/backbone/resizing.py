"""Images resized by torch's kernel for 8 bits, in the place of Pillow's."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from timm.data.transforms import MaybeToTensor
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from snn_artsy.checks import ConfigError

_STEPS = (transforms.Resize, transforms.CenterCrop, MaybeToTensor, transforms.Normalize)
_OF_TENSORS = (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)


class ResizedByTorch(transforms.Compose):  # type: ignore[misc] # torchvision is untyped
    """timm's steps for an image that is tested, resized as a tensor: float32 [3, H, W].

    torch and Pillow take the same weights with other roundings, so that pixels differ by 1 or 2 of
    255 here and there; for photographs of 500 px this is several times faster.

    Args:
        steps: timm's own transform: resizing, central crop, to a tensor, normalisation.
        name: Of the backbone, for errors.

    Raises:
        ConfigError: It has other steps, or an interpolation that torch has for no tensor.
    """

    def __init__(self, steps: Any, name: str) -> None:
        super().__init__(list(steps.transforms))
        found = tuple(type(step) for step in self.transforms)
        if found != _STEPS:
            raise ConfigError(
                "backbone.resizing",
                f"images of {name!r} are prepared in other steps "
                f"({', '.join(kind.__name__ for kind in found)}); use pillow",
                "torch",
            )
        resize = self.transforms[0]
        if resize.interpolation not in _OF_TENSORS:
            raise ConfigError(
                "backbone.resizing",
                f"{name!r} asks for {resize.interpolation.value} interpolation, which torch has "
                "not; use pillow",
                "torch",
            )
        self.size = [resize.size] if isinstance(resize.size, int) else list(resize.size)

    def __call__(self, image: Image.Image) -> Tensor:
        resize, crop, _, normalize = self.transforms
        pixels = functional.pil_to_tensor(image)
        pixels = functional.resize(pixels, self.size, resize.interpolation, antialias=True)
        # The colours of a pixel lie side by side until here, where torch resizes fastest; it
        # normalises several times faster where each colour is a plane.
        planes = crop(pixels).contiguous()
        normal: Tensor = normalize(functional.to_dtype(planes, torch.float32, scale=True))
        return normal
