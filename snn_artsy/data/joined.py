"""Images of several data sets as one: splits one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from snn_artsy.config import DataConfig
from snn_artsy.data.sources import ImageSplit
from snn_artsy.files import sha256


class JoinedSplit:
    """Splits of a sequence's sources one after the other: image i of the second one has the number
    n + i, n being the images of the first.

    Args:
        parts: A split of each source.
        class_numbers: Of each source, the class in the sequence of each of its own.
    """

    def __init__(
        self, parts: Sequence[ImageSplit], class_numbers: Sequence[NDArray[np.int64]]
    ) -> None:
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *map(len, parts)])
        self.labels: NDArray[np.int64] = np.concatenate(
            [numbers[part.labels] for numbers, part in zip(class_numbers, parts, strict=True)]
        )

    def __len__(self) -> int:
        return int(self.starts[-1])

    def load(self, i: int) -> Image.Image:
        [(number, own)] = self._located([i])
        with DataConfig.keys_of_source(number):
            return self.parts[number].load(int(own[0]))

    def name(self, i: int) -> str:
        [(number, own)] = self._located([i])
        return self.parts[number].name(int(own[0]))

    def check(self, index: NDArray[np.int64]) -> None:
        for number, own in self._located(index):
            with DataConfig.keys_of_source(number):
                self.parts[number].check(own)

    def fingerprint(self) -> str:
        digests = []
        for number, part in enumerate(self.parts):
            with DataConfig.keys_of_source(number):
                digests.append(part.fingerprint())
        return sha256([digest.encode() for digest in digests])

    def _located(
        self, index: Sequence[int] | NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        return [(number, own) for number, _, own in by_part(self, np.asarray(index))]


def by_part(
    split: ImageSplit, index: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Which of these images come from which part of a split; a split that is not joined is its own
    only part.

    Yields:
        The part's number, the rows of ``index`` that it has, and their numbers in the part; of no
        images, none of the first part.
    """
    if not isinstance(split, JoinedSplit):
        yield 0, np.arange(len(index)), index
        return
    part_of = np.searchsorted(split.starts, index, side="right") - 1
    for number in np.unique(part_of) if len(index) else [0]:
        rows = np.flatnonzero(part_of == number)
        yield int(number), rows, index[rows] - split.starts[number]


def parts_of(split: ImageSplit) -> tuple[ImageSplit, ...]:
    """The splits that a split is joined of; one that is not is its own only part."""
    return split.parts if isinstance(split, JoinedSplit) else (split,)
