"""The trunk that all sub-networks share: tokens before the first adapter, kept on disk."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.backbone.augmentation import Augmentation
from snn_artsy.backbone.features import (
    cache_directory,
    cache_key,
    cache_path,
    extract_features,
    images_per_pass,
    in_passes,
    kept_under,
    read_cache,
)
from snn_artsy.backbone.vit import FrozenBackbone
from snn_artsy.config import BackboneConfig
from snn_artsy.data.sources import ImageSplit
from snn_artsy.threads import cores


class Trunk:
    """Tokens of some images of a split (`FrozenBackbone.trunk`), float16, computed once.

    With ``config.cache`` they are kept beside the features, under everything that these depend on
    and ``first``. Where they may not be kept, or would not fit, those that were asked for last are
    kept in a file without a name, and the others are computed again when they are asked for, with
    the same numbers.

    Args:
        index: The images, by their numbers in the split.
        room: Bytes that the tokens may take.
        threads: Of the computation; default: all cores.
    """

    def __init__(
        self,
        backbone: FrozenBackbone,
        split: ImageSplit,
        index: NDArray[np.int64],
        first: int,
        config: BackboneConfig,
        room: int,
        threads: int | None = None,
    ) -> None:
        self.backbone, self.split, self.first, self.config = backbone, split, first, config
        self.index = np.unique(index)
        self.threads = threads or cores()
        self.shape = backbone.trunk_shape(first)
        self._map: NDArray[np.float16] | None = None
        self._newest = _Newest(config, min(room, self.bytes), self.shape)
        self._fits = self.bytes <= room

    @property
    def bytes(self) -> int:
        """Of all tokens."""
        return len(self.index) * _row_bytes(self.shape)

    def features(
        self, on_progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """h_0 of the images in the order of their numbers, as `extract_features`; the tokens come
        from the same passes.

        Raises:
            NotFinite: A feature or a token is NaN or infinite; nothing is kept then.
        """

        def extract(tokens_to: Callable[[slice, Tensor], None] | None) -> NDArray[np.float32]:
            return extract_features(
                self.backbone,
                self.split,
                self.index,
                self.config,
                on_progress,
                self.threads,
                self.first,
                tokens_to,
            )

        if not self._fits:
            return extract(None)
        if not self.config.cache:
            return extract(self._put)
        key = cache_key(self.backbone, self.split, self.index, self.config, self.first)
        key |= {"kept": "tokens"}
        path, shape = cache_path(key, self.config), (len(self.index), *self.shape)
        self._map = read_cache(path, shape, np.float16)
        if self._map is not None:
            return extract(None)
        features, extracting = None, False
        unwritten: list[OSError] = []

        def keep(_: slice, tokens: Tensor) -> None:
            try:
                if not unwritten:
                    _write(file, tokens)
            except OSError as error:  # told at the end: the features do not depend on it
                unwritten.append(error)

        try:
            if self.bytes > shutil.disk_usage(path.parent).free:
                raise OSError("the disk is full")
            with kept_under(path, key) as file:
                header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
                extracting = True
                features = extract(keep)
                extracting = False
                if unwritten:
                    raise unwritten[0]
        except OSError as error:
            if extracting:  # an image that can't be read
                raise
            if isinstance(error, TimeoutError) and features is None:
                return extract(self._put)  # another process is writing them
            warnings.warn(
                f"the trunk's tokens could not be kept in {path.parent}: {error}", stacklevel=2
            )
            return extract(None) if features is None else features
        self._map = np.load(path, mmap_mode="c", allow_pickle=False)
        return features

    def tokens(self, numbers: NDArray[np.int64]) -> Tensor:
        """Tokens of images by their numbers in the split: float16 [n, 2, T, D], on the CPU."""
        if self._map is not None:
            return torch.from_numpy(self._map[np.searchsorted(self.index, numbers)])
        wanted = dict.fromkeys(numbers.tolist())  # in order, each once
        tokens = {i: self._newest.get(i) for i in wanted if i in self._newest}
        missing = np.array([i for i in wanted if i not in tokens], dtype=np.int64)

        def compute(images: Tensor) -> Sequence[Tensor]:
            return (self.backbone.rounded(images, self.first),)

        def collect(rows: slice, computed: Sequence[Tensor]) -> None:
            tokens.update(zip(missing[rows].tolist(), computed[0], strict=True))

        if len(missing):
            self.backbone.export(images_per_pass(self.backbone, self.config), self.first)
        in_passes(self.backbone, self.split, missing, self.config, self.threads, compute, collect)
        for number in missing.tolist():
            self._newest.put(number, tokens[number])
        return torch.stack([tokens[i] for i in numbers.tolist()])

    def augmented(
        self, numbers: NDArray[np.int64], augmentation: Augmentation, draw: int
    ) -> Tensor:
        """Tokens of augmented images, computed anew and not kept: as `tokens`.

        Args:
            draw: Together with an image's number it says how the image is augmented.
        """
        parts: list[Tensor] = []

        def compute(images: Tensor) -> Sequence[Tensor]:
            return (self.backbone.rounded(images, self.first),)

        def collect(_: slice, computed: Sequence[Tensor]) -> None:
            parts.append(computed[0])

        def prepare(image: Any, number: int) -> Tensor:
            return augmentation(image, draw + number)

        self.backbone.export(images_per_pass(self.backbone, self.config), self.first)
        in_passes(
            self.backbone, self.split, numbers, self.config, self.threads, compute, collect, prepare
        )
        return torch.cat(parts)

    def _put(self, rows: slice, tokens: Tensor) -> None:
        for number, each in zip(self.index[rows].tolist(), tokens, strict=True):
            self._newest.put(number, each)


class _Newest:
    """The tokens that were put in last, as many as there is room for, in a file without a name."""

    def __init__(self, config: BackboneConfig, room: int, shape: tuple[int, ...]) -> None:
        self.shape, self.row = shape, _row_bytes(shape)
        self.capacity = room // self.row
        self.slots: dict[int, int] = {}  # of each number, the oldest first
        folder = cache_directory(config) if config.cache else None
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this is)

    def __contains__(self, number: int) -> bool:
        return number in self.slots

    def get(self, number: int) -> Tensor:
        self.file.seek(self.slots[number] * self.row)
        read = np.frombuffer(bytearray(self.file.read(self.row)), dtype=np.float16)
        return torch.from_numpy(read.reshape(self.shape))

    def put(self, number: int, tokens: Tensor) -> None:
        if not self.capacity:
            return
        if number in self.slots:
            slot = self.slots.pop(number)
        elif len(self.slots) < self.capacity:
            slot = len(self.slots)
        else:
            slot = self.slots.pop(next(iter(self.slots)))
        try:
            self.file.seek(slot * self.row)
            self.file.write(tokens.cpu().numpy().tobytes())
            self.file.flush()
        except OSError:  # the disk is full
            self.slots, self.capacity = {}, 0
            return
        self.slots[number] = slot


def _row_bytes(shape: tuple[int, ...]) -> int:
    return 2 * int(np.prod(shape))


def _write(file: IO[bytes], tokens: Tensor) -> None:
    file.write(tokens.cpu().numpy().tobytes())
