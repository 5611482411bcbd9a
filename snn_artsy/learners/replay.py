"""What stands in for the data of tasks that are gone: nothing, Gaussians, or a few exemplars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import GateConfig
from snn_artsy.learners.base import LabelledBatch
from snn_artsy.learners.state import listed, number, numbered
from snn_artsy.learners.tasks import join, take
from snn_artsy.synapses.encoding import (
    shrunk,
    within_class_covariance,
    within_class_scatter,
)

KEPT = 2**28
"""Bytes of drawn stand-ins that are kept to be used again; they are drawn anew otherwise."""


class Replay(Protocol):
    """Interface of replay: takes a task's training samples and later gives stand-ins for them."""

    def add_task(self, train: LabelledBatch) -> None: ...

    def batch(self, tasks: list[int], purpose: int, mirrored: bool = False) -> LabelledBatch:
        """Stand-ins for some tasks' samples, in the tasks' order; none for an empty list.

        Args:
            tasks: Task numbers.
            purpose: What they are for; where they are drawn, another purpose has other draws.
            mirrored: Where they are drawn, half of each class is drawn and the other half is its
                mirror image at the class's mean, so that chance does not shift the mean
                (antithetic variates: Hammersley & Morton 1956).
        """
        ...

    def stored_parameters(self) -> int: ...

    def stored_bytes(self) -> int: ...

    def checkpoint(self) -> dict[str, Tensor]: ...

    def restore(self, state: dict[str, Tensor], training: Iterable[LabelledBatch]) -> None:
        """Take over `checkpoint`; ``training``: the samples of the tasks that were added."""
        ...


class NoReplay:
    """No replay: nothing stands in for the data of older tasks."""

    def __init__(self) -> None:
        self.nothing: LabelledBatch | None = None

    def add_task(self, train: LabelledBatch) -> None:
        self.nothing = take(train, train.index[:0])

    def batch(self, tasks: list[int], purpose: int, mirrored: bool = False) -> LabelledBatch:
        return _known(self.nothing)

    def stored_parameters(self) -> int:
        return 0

    def stored_bytes(self) -> int:
        return 0

    def checkpoint(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor], training: Iterable[LabelledBatch]) -> None:
        for train in training:
            self.add_task(train)


class ClassGaussians:
    """Per-class Gaussians of h_0: class means, and a pooled, shrunk covariance.

    The exemplar-free stand-in for data of tasks that are gone (our definition). Its features have
    no images.

    Args:
        per_class: Samples of each class.
        shrinkage: Of the covariance, towards a multiple of the identity; None: estimated.
        seed: Of the draws; the same arguments of `batch` give the same samples.
        shared: All classes so far share one covariance; else the classes of each task do.
    """

    def __init__(
        self, per_class: int, shrinkage: float | None, seed: int, shared: bool = False
    ) -> None:
        self.per_class, self.shrinkage, self.seed, self.shared = per_class, shrinkage, seed, shared
        self.classes: list[Tensor] = []
        self.means: list[Tensor] = []
        self._drawn: dict[tuple[int, int, bool], Tensor] = {}
        self.factors: list[Tensor] = []  # of each task's covariance; shared: of the one
        self.scatter: Tensor | None = None  # shared: sum of squares around class means, [D, D]
        self.freedom = 0.0  # its degrees of freedom

    def add_task(self, train: LabelledBatch) -> None:
        x = train.features.double()
        classes = train.labels.unique()
        if self.shared:
            own = within_class_scatter(x, train.labels)
            self.scatter = own if self.scatter is None else self.scatter + own
            self.freedom += max(len(x) - len(classes), 1)
            mean_square = x.square().mean()
            covariance = self.scatter / self.freedom
            covariance = shrunk(covariance, self.shrinkage, mean_square, self.freedom)
            self.factors = [cholesky(covariance)]
            self._drawn.clear()
        else:
            covariance = within_class_covariance(x, train.labels, self.shrinkage)
            self.factors.append(cholesky(covariance))
        self.classes.append(classes)
        self.means.append(torch.stack([train.features[train.labels == c].mean(0) for c in classes]))

    def joined_by(self, train: LabelledBatch) -> tuple[Tensor, Tensor, float]:
        """Means of all classes, the covariance that they share and its degrees of freedom, with
        those of a task whose samples are at hand and not yet added: [C, D] and [D, D], float64.

        Raises:
            RuntimeError: Classes of different tasks have no covariance in common.
        """
        if self.means and self.scatter is None:
            raise RuntimeError("each task has a covariance of its own: use gate.covariance pooled")
        x, classes = train.features.double(), train.labels.unique()
        scatter = within_class_scatter(x, train.labels)
        freedom = float(max(len(x) - len(classes), 1))
        if self.scatter is not None:
            scatter, freedom = scatter + self.scatter, freedom + self.freedom
        own = torch.stack([x[train.labels == c].mean(0) for c in classes])
        return (
            torch.cat([*(means.double() for means in self.means), own]),
            scatter / freedom,
            freedom,
        )

    def batch(self, tasks: list[int], purpose: int, mirrored: bool = False) -> LabelledBatch:
        if not self.means:
            raise RuntimeError("no Gaussians yet: add a task first")
        parts, labels = [self.means[0][:0]], [self.classes[0][:0]]
        for t in tasks:
            parts.append(self._stand_ins(t, purpose, mirrored))
            labels.append(self.classes[t].repeat_interleave(self.per_class))
        features = torch.cat(parts)
        index = torch.arange(len(features), device=features.device)
        return LabelledBatch(features, index, "train", labels=torch.cat(labels))

    def _stand_ins(self, t: int, purpose: int, mirrored: bool) -> Tensor:
        """Those of one task, [n, D]: the same whenever they are asked for, so that those that were
        asked for last are kept, as many as `KEPT` allows."""
        key = t, purpose, mirrored
        drawn = self._drawn.pop(key, None)
        if drawn is None:
            drawn = self._draw(t, purpose, mirrored)
        self._drawn[key] = drawn  # the last one now
        while sum(x.numel() * x.element_size() for x in self._drawn.values()) > KEPT:
            del self._drawn[next(iter(self._drawn))]
        return drawn

    def _draw(self, t: int, purpose: int, mirrored: bool) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + purpose * 1009 + t)
        mean = self.means[t].repeat_interleave(self.per_class, dim=0)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        if mirrored:
            drawn = noise.unflatten(0, (-1, self.per_class))
            half = self.per_class // 2
            noise = torch.cat([drawn[:, half:], -drawn[:, self.per_class - half :]], dim=1)
            noise = noise.flatten(0, 1)
        return mean + noise @ self.factors[0 if self.shared else t].T

    def stored_parameters(self) -> int:
        return sum(x.numel() for x in self._stored())

    def stored_bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in self._stored())

    def _stored(self) -> list[Tensor]:
        """What is kept from task to task: shared factors follow from the sums."""
        return [*self.means, *(self.factors if self.scatter is None else [self.scatter])]

    def checkpoint(self) -> dict[str, Tensor]:
        sums = (
            {}
            if self.scatter is None
            else {
                "replay.scatter": self.scatter,
                "replay.freedom": number(self.freedom),
            }
        )
        return (
            numbered("replay.classes.", self.classes)
            | numbered("replay.means.", self.means)
            | numbered("replay.factors.", self.factors)
            | sums
        )

    def restore(self, state: dict[str, Tensor], training: Iterable[LabelledBatch]) -> None:
        self.classes = listed(state, "replay.classes.")
        self.means = listed(state, "replay.means.")
        self.factors = listed(state, "replay.factors.")
        self._drawn.clear()
        if self.shared and self.means:
            self.scatter, self.freedom = state["replay.scatter"], state["replay.freedom"].item()


def cholesky(covariance: Tensor) -> Tensor:
    """Lower factor of a covariance, float32; float64's rounding must not make it indefinite."""
    jitter = 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
    return torch.linalg.cholesky(covariance + jitter).float()


def herd(features: Tensor, n: int) -> Tensor:
    """The ``n`` samples whose running mean stays nearest to the class mean (Rebuffi et al. 2017,
    iCaRL, algorithm 4), on L2-normalised features: [m, D] -> positions int64 [min(n, m)]."""
    x = F.normalize(features.double(), dim=1)
    mean, total = x.mean(0), torch.zeros_like(x[0])
    chosen: list[int] = []
    for k in range(1, min(n, len(x)) + 1):
        distance = (mean - (total + x) / k).square().sum(1)
        distance[chosen] = torch.inf
        chosen.append(int(distance.argmin()))
        total = total + x[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.int64, device=features.device)


class Exemplars:
    """A few training samples of each class, chosen by herding.

    Args:
        per_class: How many.
        image_bytes: Of an image that is kept as well, for sub-networks that need pixels; else 0.
    """

    def __init__(self, per_class: int, image_bytes: int = 0) -> None:
        self.per_class, self.image_bytes = per_class, image_bytes
        self.tasks: list[LabelledBatch] = []

    def add_task(self, train: LabelledBatch, features: Tensor | None = None) -> None:
        """Keep some of a task's samples.

        Args:
            features: By which they are chosen, [n, D]; default: h_0.
        """
        seen = train.features if features is None else features
        rows = [
            torch.nonzero(train.labels == c)[:, 0][herd(seen[train.labels == c], self.per_class)]
            for c in train.labels.unique()
        ]
        self._keep(train, torch.cat(rows))

    def shrink(self, per_class: int) -> None:
        """Keep the first ``per_class`` of each class, now and of tasks to come (Rebuffi et al.
        2017, iCaRL, algorithm 5)."""
        self.per_class = per_class
        for t, batch in enumerate(self.tasks):
            classes = batch.labels.unique()
            rows = [torch.nonzero(batch.labels == c)[:per_class, 0] for c in classes]
            self.tasks[t] = take(batch, torch.cat(rows))

    def _keep(self, train: LabelledBatch, rows: Tensor) -> None:
        exemplars = take(train, rows.to(train.index.device))
        # without its loaders a sample is its features alone
        alone = replace(exemplars, load_images=None, load_tokens=None, load_augmented=None)
        self.tasks.append(exemplars if self.image_bytes else alone)

    def batch(self, tasks: list[int], purpose: int, mirrored: bool = False) -> LabelledBatch:
        if not self.tasks:
            raise RuntimeError("no exemplars yet: add a task first")
        nothing = take(self.tasks[0], self.tasks[0].index[:0])
        return join([self.tasks[t] for t in tasks]) if tasks else nothing

    def stored_parameters(self) -> int:
        return sum(batch.features.numel() for batch in self.tasks)

    def stored_bytes(self) -> int:
        n = sum(len(batch) for batch in self.tasks)
        return 4 * self.stored_parameters() + n * self.image_bytes

    def checkpoint(self) -> dict[str, Tensor]:
        """Numbers of the stored samples; features and images are read from the data again."""
        return numbered("replay.index.", [batch.index for batch in self.tasks])

    def restore(self, state: dict[str, Tensor], training: Iterable[LabelledBatch]) -> None:
        self.tasks = []
        for train, index in zip(training, listed(state, "replay.index."), strict=True):
            rows = {int(number): row for row, number in enumerate(train.index)}
            self._keep(train, torch.tensor([rows[int(i)] for i in index], dtype=torch.int64))


def build_replay(config: GateConfig, seed: int, image_bytes: int = 0) -> Replay:
    """What ``config.replay`` names."""
    if config.replay == "exemplars":
        return Exemplars(config.exemplars_per_class, image_bytes)
    if config.replay == "gaussian":
        shared = config.covariance == "pooled"
        return ClassGaussians(config.pseudo_per_class, config.shrinkage, seed, shared)
    return NoReplay()


def _known(batch: LabelledBatch | None) -> LabelledBatch:
    if batch is None:
        raise RuntimeError("no task yet: add a task first")
    return batch
