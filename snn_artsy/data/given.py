"""Images that a user gives, as people have them: files, folders, Pillow's images, arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snn_artsy.checks import ConfigError, named
from snn_artsy.data.folders import FolderSplit, images_in, refuse_deep, shown
from snn_artsy.files import at_home

KEY = "image"
"""What errors about these images begin with."""

# Beyond this ratio of its sides a resized image would fill the memory. All that a transformer sees
# of it is in the middle, of which so much is cut out first.
_LONGEST = 50


class GivenImages:
    """Images without labels, in the order in which they are given: an `ImageSplit`.

    Args:
        given: A file, a folder (all images below it, by name), an image of Pillow, an array, or a
            list of these. An array is uint8: [H, W] or [H, W, 3], or several of one size,
            [n, H, W] or [n, H, W, 3].

    Raises:
        ConfigError: Something else, no such file, or no image at all.
    """

    def __init__(self, given: Any) -> None:
        self._images: list[Path | Image.Image | NDArray[np.uint8]] = _listed(given)
        if not self._images:
            raise ConfigError(KEY, "none given; give files, folders, images of Pillow or arrays")
        files = self.files
        self._files = FolderSplit(Path(), [str(f) for f in files], np.zeros(len(files), np.int64))
        self._number = {str(file): number for number, file in enumerate(files)}
        self.labels = np.full(len(self._images), -1)
        self._checked = False

    def __len__(self) -> int:
        return len(self._images)

    @property
    def files(self) -> list[Path]:
        """Those that are files."""
        return [image for image in self._images if isinstance(image, Path)]

    def load(self, i: int) -> Image.Image:
        image = self._images[i]
        if isinstance(image, Path):
            with named("data.root", KEY):
                image = self._files.load(self._number[str(image)])
        elif isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        return _middle(image.convert("RGB"))

    def name(self, i: int) -> str:
        """Its path as it was given, or its number."""
        image = self._images[i]
        return shown(image) if isinstance(image, Path) else f"image {i}"

    def check(self, index: NDArray[np.int64] | None = None) -> None:
        """Read the files whole, so that a damaged one is named before anything takes long.

        Raises:
            ConfigError: Names those that cannot be read.
        """
        if self._checked:
            return
        with named("data.root", KEY):
            self._files.check(np.arange(len(self._files)), decode=True)
        self._checked = True

    def fingerprint(self) -> str:
        raise NotImplementedError("features of given images are not kept")


def _listed(given: Any) -> list[Path | Image.Image | NDArray[np.uint8]]:
    if isinstance(given, (str, os.PathLike)):
        path = at_home(given)
        try:
            is_folder, there = path.is_dir(), os.path.lexists(path)
        except ValueError:  # a character that no path can have
            is_folder = there = False
        if not (there and str(given)):  # an empty text is no place, though a path makes "." of it
            raise ConfigError(KEY, f"no file or folder {shown(path)}; give images that are there")
        with named("data.root", KEY):
            return list(images_in(path)) if is_folder else [path]
    if isinstance(given, Image.Image):
        try:
            refuse_deep(given)
        except ValueError as error:
            raise ConfigError(KEY, f"{error}; convert them first") from error
        return [given]
    if isinstance(given, Sequence) and not isinstance(given, bytes):
        return [image for each in given for image in _listed(each)]
    array = np.asarray(given)
    several = array.ndim == 4 or (array.ndim == 3 and array.shape[2] not in (3, 4))
    if array.dtype != np.uint8 or array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise ConfigError(
            KEY,
            f"a {type(given).__name__} of {array.dtype} {list(array.shape)} is no image; give "
            "uint8 [H, W], [H, W, 3], [n, H, W] or [n, H, W, 3], or features, float32 [n, D]",
        )
    return list(array) if several else [array]


def _middle(image: Image.Image) -> Image.Image:
    """The image, or the middle of one that is very long."""
    width, height = image.size
    longest = _LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(width - longest, 0) // 2, max(height - longest, 0) // 2
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))
