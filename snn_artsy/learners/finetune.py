"""Sequential fine-tuning: what happens without any protection of old tasks (lower bound)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.config import FinetuneConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, sizes
from snn_artsy.learners.replay import ClassGaussians
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.state import set_generator
from snn_artsy.learners.subnetworks import Build
from snn_artsy.learners.tasks import take, whole

# both as in SLCA (Zhang et al. 2023)
ALIGNED_PER_CLASS = 256
TEMPERATURE = 0.1


class Finetune(Learner):
    """One classifier trained on each task's data in turn, starting from what the last one left.

    A linear head on h_0 (``finetune_linear``), or on h_0 + h with one adapter that all tasks share
    (``finetune_adapter``). Cross-entropy over all classes seen so far, so that old classes are
    pushed down by new ones (our definition of the baseline; toolboxes differ in whether old logits
    take part). New rows of the head start at zero.

    With ``alignment_epochs`` the head is then trained on samples of every class's Gaussian
    (classifier alignment of SLCA; Zhang et al. 2023): a mean of h_0, or of h_0 + h as it was when
    the class came, and a covariance that the task's classes share (ours; SLCA has one a class).
    """

    revisits = True

    def __init__(
        self,
        config: FinetuneConfig,
        dim: int,
        device: str,
        seed: int,
        build: Build | None = None,
    ) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.adapter = None if build is None else build(self.generator)
        self.weight = torch.zeros(0, dim, device=device)
        self.bias = torch.zeros(0, device=device)
        self.gaussians = ClassGaussians(ALIGNED_PER_CLASS, shrinkage=None, seed=seed)

    def learn(self, task: Task) -> None:
        train, new = task.train, len(task.classes)
        self.weight = nn.Parameter(F.pad(self.weight.detach(), (0, 0, 0, new)))
        self.bias = nn.Parameter(F.pad(self.bias.detach(), (0, new)))
        adapted = [] if self.adapter is None else list(self.adapter.parameters())

        def loss(rows: Tensor) -> Tensor:
            part = take(train, rows.to(train.index.device))
            return F.cross_entropy(self._logits(part), part.labels)

        parameters = [self.weight, self.bias, *adapted]
        minimise(loss, parameters, len(train), self.config, self.generator)
        if self.config.alignment_epochs:
            every = whole(task)
            with torch.no_grad():
                self.gaussians.add_task(replace(every, features=self._embedded(every)))
            if task.number:
                self._align(task.number)

    def _align(self, t: int) -> None:
        """Train the head alone on samples of all classes so far, with normalised logits."""
        drawn = self.gaussians.batch(list(range(t + 1)), purpose=t)
        of_task = [len(means) for means in self.gaussians.means]

        def loss(rows: Tensor) -> Tensor:
            part = take(drawn, rows.to(drawn.index.device))
            logits = F.linear(part.features, self.weight, self.bias)
            # by the mean of the tasks' norms, so that no task's logits win by their size
            norms = torch.stack([own.norm(dim=1) for own in logits.split(of_task, 1)])
            scale = TEMPERATURE * norms.mean(0).clamp_min(1e-7)
            return F.cross_entropy(logits / scale[:, None], part.labels)

        settings = replace(self.config, epochs=self.config.alignment_epochs)
        minimise(loss, [self.weight, self.bias], len(drawn), settings, self.generator)

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.weight):
            raise RuntimeError("no classifier yet: learn a task first")
        with torch.no_grad():
            return Prediction(self._logits(batch))

    def checkpoint(self) -> dict[str, Tensor]:
        kept = self.gaussians.checkpoint()
        return self.state_dict() | kept | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        self.gaussians.restore(state, [])
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        state = self.state_dict()
        report = sizes(sum(v.numel() for v in state.values()), state)
        report["stored_parameters"] += self.gaussians.stored_parameters()
        report["stored_bytes"] += self.gaussians.stored_bytes()
        return report

    def _logits(self, batch: Batch) -> Tensor:
        return F.linear(self._embedded(batch), self.weight, self.bias)

    def _embedded(self, batch: Batch) -> Tensor:
        """h_0, or h_0 + h."""
        if self.adapter is None:
            return batch.features
        return batch.features + self.adapter.answer(batch)
