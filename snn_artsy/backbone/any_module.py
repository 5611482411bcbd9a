"""Features of images by any network of PyTorch, in the place of a timm model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from snn_artsy.checks import ConfigError, require, require_finite, whole_number
from snn_artsy.data.folders import FolderSplit
from snn_artsy.data.given import GivenImages
from snn_artsy.data.sources import ArraySplit


def features(
    module: nn.Module,
    transform: Callable[[Image.Image], Tensor],
    images: Any,
    *,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """What a network says of images, for `snn_artsy.data.from_arrays`: float32 [n, D].

    Args:
        module: [B, ...] of what ``transform`` gives -> [B, D]. It is asked in eval mode, without
            gradients, on its own device, and left as it was.
        transform: An RGB image -> a tensor, all of one shape, such as torchvision's.
        images: A file, a folder, an image of Pillow, arrays (uint8 [n, H, W] or [n, H, W, 3]), or a
            list of these; or a split of a data source.
        batch_size: Images in one pass.

    Raises:
        ConfigError: No image, one that cannot be read, or answers that are no features.
    """
    whole_number("batch_size", batch_size, 1)
    require(isinstance(module, nn.Module), "module", module, "give a torch.nn.Module")
    require(callable(transform), "transform", transform, "give a function of an image")
    split = images if isinstance(images, ArraySplit | FolderSplit) else GivenImages(images)
    split.check(np.arange(len(split)))
    own = next(chain(module.parameters(), module.buffers()), torch.zeros(0))
    training = {each: each.training for each in module.modules()}
    parts: list[NDArray[np.float32]] = []
    shape: torch.Size | None = None
    try:
        module.eval()
        with torch.inference_mode():
            for start in range(0, len(split), batch_size):
                numbers = range(start, min(start + batch_size, len(split)))
                batch = _stacked([transform(split.load(i)) for i in numbers], shape)
                shape = batch.shape[1:]
                parts.append(_checked(module(batch.to(own.device)), len(numbers)))
                if parts[-1].shape[1] != parts[0].shape[1]:
                    raise ConfigError("module", "gives rows of several lengths; let all have D")
    finally:
        for each, was in training.items():
            each.training = was
    return np.concatenate(parts)


def _stacked(images: Sequence[Tensor], shape: torch.Size | None) -> Tensor:
    """What a transform gave, as a batch; ``shape`` is that of earlier images."""
    for image in images:
        if not isinstance(image, Tensor):
            raise ConfigError("transform", f"gives {type(image).__name__}; let it give a tensor")
        shape = image.shape if shape is None else shape
        if image.shape != shape:
            raise ConfigError(
                "transform",
                f"gives {list(shape)} and {list(image.shape)}; let all images have one shape",
            )
    return torch.stack(list(images))


def _checked(answer: object, n: int) -> NDArray[np.float32]:
    good = isinstance(answer, Tensor) and answer.ndim == 2 and len(answer) == n and answer.shape[1]
    if not (isinstance(answer, Tensor) and good and answer.is_floating_point()):
        given = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ConfigError(
            "module", f"gives {given} for {n} images; let it give floats [{n}, D], a row an image"
        )
    found = answer.float().cpu()
    require_finite("features", {"the module's answer": found})
    return found.numpy()
