"""From the task stream and the cached features to the tasks and batches that learners see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.data.stream import SampleSet, TaskStream
from snn_artsy.learners.base import Batch, LabelledBatch, Split, Task

Load = Callable[..., Tensor]
"""(split, sample numbers [n]) -> what is known of them: features [n, D], transformed images
[n, 3, H, W], or tokens [n, 2, T, D]; validation images are numbered in the source's train split.
For images that are augmented a draw comes third."""


Loader = Callable[..., Tensor]

AnyBatch = TypeVar("AnyBatch", bound=Batch)
Item = TypeVar("Item")


class Made(Sequence[Item]):
    """Items that are made whenever they are asked for, so that only those in use take memory.

    Args:
        make: Makes an item from its number.
        numbers: Of all items.
    """

    def __init__(self, make: Callable[[int], Item], numbers: range) -> None:
        self.make, self.numbers = make, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Made[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | Made[Item]:
        if isinstance(at, slice):
            return Made(self.make, self.numbers[at])
        return self.make(self.numbers[at])


@dataclass(frozen=True)
class PartOf:
    """Loads the images or tokens of a batch, and of a part of it without loading the rest."""

    load: Load
    split: Split
    index: NDArray[np.int64]

    def __call__(self, *draw: int) -> Tensor:
        return self.load(self.split, self.index, *draw)


def feature_task_stream(
    stream: TaskStream,
    load_features: Load,
    device: torch.device | str,
    load_images: Load | None = None,
    load_tokens: Load | None = None,
    load_augmented: Load | None = None,
) -> Made[tuple[Task, LabelledBatch]]:
    """Each task with its own test batch, in order of arrival.

    Args:
        stream: Which samples belong to which task.
        load_features: Gives h_0; called whenever a task is asked for.
        device: Where features, numbers and labels are put.
        load_images: For learners that need pixels; called only when ``batch.images`` is read.
        load_tokens: For sub-networks in the blocks; called only when ``batch.tokens`` is read.
        load_augmented: The same of training images that are augmented.
    """

    def batch(samples: SampleSet, split: Split) -> LabelledBatch:
        return LabelledBatch(
            features=load_features(split, samples.index).to(device),
            index=torch.from_numpy(samples.index).to(device),
            split=split,
            labels=torch.from_numpy(samples.labels).to(device),
            load_images=load_images and PartOf(load_images, split, samples.index),
            load_tokens=load_tokens and PartOf(load_tokens, split, samples.index),
            load_augmented=PartOf(load_augmented, split, samples.index)
            if load_augmented and split == "train"
            else None,
        )

    def make(number: int) -> tuple[Task, LabelledBatch]:
        task = stream.tasks[number]
        train, validation = batch(task.train, "train"), batch(task.validation, "validation")
        return Task(task.number, task.classes, train, validation), batch(task.test, "test")

    return Made(make, range(len(stream.tasks)))


def take(batch: AnyBatch, rows: Tensor) -> AnyBatch:
    """Some samples of a batch: ``rows`` int64 [n] or bool [B], on the batch's device."""
    positions = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
    index = batch.index[positions]

    def loader(whole: Loader | None) -> Loader | None:
        if isinstance(whole, PartOf):
            return replace(whole, index=index.cpu().numpy())
        return None if whole is None else lambda *draw: whole(*draw)[positions.cpu()]

    part = replace(
        batch,
        features=batch.features[positions],
        index=index,
        true_task=None if batch.true_task is None else batch.true_task[positions],
        load_images=loader(batch.load_images),
        load_tokens=loader(batch.load_tokens),
        load_augmented=loader(batch.load_augmented),
    )
    return _labelled(part, batch, positions)


def _labelled(part: AnyBatch, whole: AnyBatch, rows: Tensor) -> AnyBatch:
    if isinstance(part, LabelledBatch) and isinstance(whole, LabelledBatch):
        return replace(part, labels=whole.labels[rows])
    return part


def join(batches: Sequence[LabelledBatch]) -> LabelledBatch:
    """Batches of one split, one after the other; with images or tokens if all have
    them."""
    batches = list(batches)
    return replace(
        batches[0],
        features=torch.cat([b.features for b in batches]),
        index=torch.cat([b.index for b in batches]),
        labels=torch.cat([b.labels for b in batches]),
        load_images=_joined([b.load_images for b in batches]),
        load_tokens=_joined([b.load_tokens for b in batches]),
        load_augmented=_joined([b.load_augmented for b in batches]),
    )


def whole(task: Task) -> LabelledBatch:
    """A task's training and validation samples as one batch of the training split."""
    return join([task.train, replace(task.validation, split="train")])


def _joined(loaders: Sequence[Loader | None]) -> Loader | None:
    present = [loader for loader in loaders if loader is not None]
    parts = [loader for loader in present if isinstance(loader, PartOf)]
    if len(parts) == len(loaders):
        return replace(parts[0], index=np.concatenate([part.index for part in parts]))
    if len(present) < len(loaders):
        return None
    return lambda *draw: torch.cat([each(*draw) for each in present])
