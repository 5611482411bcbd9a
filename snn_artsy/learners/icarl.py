"""iCaRL: herded exemplars, distillation, and the nearest mean of exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.checks import ConfigError, require
from snn_artsy.config import MemoryConfig
from snn_artsy.learners.base import Batch, Prediction, Task, sizes
from snn_artsy.learners.memory import Rehearsing
from snn_artsy.learners.prototypes import class_means, cosine_scores
from snn_artsy.learners.replay import Exemplars
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.tasks import join


class ICaRL(Rehearsing):
    """iCaRL on frozen features (Rebuffi, Kolesnikov, Sperl & Lampert 2017, arXiv 1611.07725).

    The task's samples and the exemplars are learnt together: a sigmoid for each class, new ones
    with their labels, old ones with what the classifier answered before (algorithm 3). Then K
    exemplars in all, or so many a class, are chosen by herding on phi (algorithm 4), and a sample
    is of the class whose exemplars' mean phi is nearest to its own, both of unit length (algorithm
    1). What is learnt shows in phi alone, so there must be an MLP.

    Raises:
        ConfigError: ``hidden`` is 0.
    """

    def __init__(self, config: MemoryConfig, dim: int, device: str, seed: int) -> None:
        super().__init__(config, dim, device, seed)
        require(
            config.hidden > 0,
            "memory.hidden",
            config.hidden,
            "icarl answers by class means of learnt features: give units, or use simplecil",
        )
        self.exemplars = Exemplars(config.per_class or 0)
        self.means = torch.zeros(0, dim, device=device)  # of exemplars' unit phi, [C, D]

    def learn(self, task: Task) -> None:
        old = range(len(self.exemplars.tasks))
        joined = [task.train, self.exemplars.batch([*old], 0)] if old else [task.train]
        samples, n_old = join(joined), len(self.weight)
        with torch.no_grad():
            before = self.logits(samples.features).sigmoid()
        trained = self.grow(task)
        targets = F.one_hot(samples.labels, len(self.weight)).float()
        targets[:, :n_old] = before

        def loss(rows: Tensor) -> Tensor:
            part = rows.to(samples.index.device)
            answers, wanted = self.logits(samples.features[part]), targets[part]
            every = F.binary_cross_entropy_with_logits(answers, wanted, reduction="none")
            return every.sum(1).mean()

        minimise(loss, trained, len(samples), self.config, self.generator)
        self._choose(task)

    def _choose(self, task: Task) -> None:
        per_class = self.config.per_class or self._share()
        self.exemplars.shrink(per_class)
        with torch.no_grad():
            self.exemplars.add_task(task.train, self.embedded(task.train.features))
            every = self.exemplars.batch([*range(len(self.exemplars.tasks))], 0)
            phi = F.normalize(self.embedded(every.features), dim=1)
            self.means = class_means(phi, every.labels, tuple(range(len(self.weight))))

    def _share(self) -> int:
        """K over the number of classes, rounded down."""
        assert self.config.total is not None  # MemoryConfig sees to it that one of the two is given
        if self.config.total < len(self.weight):
            raise ConfigError(
                "memory.total",
                f"is less than one a class of {len(self.weight)} classes; give at least as many",
                self.config.total,
            )
        return self.config.total // len(self.weight)

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.means):
            raise RuntimeError("no exemplars yet: learn a task first")
        with torch.no_grad():
            return Prediction(cosine_scores(self.embedded(batch.features), self.means))

    def checkpoint(self) -> dict[str, Tensor]:
        return super().checkpoint() | self.exemplars.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        super().restore(state, tasks)
        self.exemplars.restore(state, (task.train for task in tasks))

    def report(self) -> dict[str, Any]:
        state = self.state_dict()
        report = sizes(sum(v.numel() for v in state.values()) - self.means.numel(), state)
        report["stored_parameters"] += self.exemplars.stored_parameters()
        report["stored_bytes"] += self.exemplars.stored_bytes()
        return report | {"kept_samples": sum(map(len, self.exemplars.tasks))}
