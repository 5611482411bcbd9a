"""A small task stream of Gaussian clusters in feature space, in place of images and a backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Prediction, Split, Task

N_TASKS, PER_TASK, DIM = 3, 2, 16
N_CLASSES = N_TASKS * PER_TASK
CHANCE = 1.0 / N_CLASSES


@dataclass(frozen=True)
class Stream:
    """Tasks in order of arrival, and one test batch over all classes."""

    tasks: list[Task]
    test: LabelledBatch


def gaussian_stream(
    n_train: int = 40,
    n_validation: int = 12,
    n_test: int = 20,
    distance: float = 0.9,
    seed: int = 0,
) -> Stream:
    """Isotropic unit clusters around means drawn from N(0, distance^2 I).

    Sample numbers are unique within a source split; training and validation share one, as in the
    real stream.
    """
    generator = torch.Generator().manual_seed(seed)
    means = distance * torch.randn(N_CLASSES, DIM, generator=generator)
    issued: dict[str, int] = {"train": 0, "test": 0}

    def batch(classes: range, per_class: int, split: Split) -> LabelledBatch:
        labels = torch.tensor(list(classes)).repeat(per_class)
        noise = torch.randn(len(labels), DIM, generator=generator)
        source = "test" if split == "test" else "train"
        index = issued[source] + torch.arange(len(labels))
        issued[source] += len(labels)
        return LabelledBatch(
            features=means[labels] + noise, index=index, split=split, labels=labels
        )

    tasks = []
    for t in range(N_TASKS):
        classes = range(t * PER_TASK, (t + 1) * PER_TASK)
        train, validation = (
            batch(classes, n_train, "train"),
            batch(classes, n_validation, "validation"),
        )
        tasks.append(Task(t, tuple(classes), train, validation))
    return Stream(tasks, batch(range(N_CLASSES), n_test, "test"))


def pick(batch: LabelledBatch, rows: Tensor) -> LabelledBatch:
    """Some rows of a batch, in the given order."""
    return replace(
        batch,
        features=batch.features[rows],
        index=batch.index[rows],
        labels=batch.labels[rows],
    )


def predict_in_parts(learner: Learner, batch: LabelledBatch, sizes: list[int]) -> Prediction:
    rows = torch.arange(len(batch)).split(sizes)
    return Prediction.concatenate([learner.predict(pick(batch, r)) for r in rows])


def accuracy(scores: Tensor, batch: LabelledBatch) -> float:
    return float((scores.argmax(1) == batch.labels).double().mean())


def unlabelled(batch: LabelledBatch) -> Batch:
    return Batch(features=batch.features, index=batch.index, split=batch.split)
