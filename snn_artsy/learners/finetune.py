"""Sequential fine-tuning: what happens without any protection of old tasks (lower bound)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.config import FinetuneConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, sizes
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.state import set_generator
from snn_artsy.learners.subnetworks import Build
from snn_artsy.learners.tasks import take


class Finetune(Learner):
    """One classifier trained on each task's data in turn, starting from what the last one left.

    A linear head on h_0 (``finetune_linear``), or on h_0 + h with one adapter that all tasks share
    (``finetune_adapter``). Cross-entropy over all classes seen so far, so that old classes are
    pushed down by new ones (our definition of the baseline; toolboxes differ in whether old logits
    take part). New rows of the head start at zero.
    """

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

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.weight):
            raise RuntimeError("no classifier yet: learn a task first")
        with torch.no_grad():
            return Prediction(self._logits(batch))

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        state = self.state_dict()
        return sizes(sum(v.numel() for v in state.values()), state)

    def _logits(self, batch: Batch) -> Tensor:
        z = batch.features
        if self.adapter is not None:
            z = z + self.adapter.answer(batch)
        return F.linear(z, self.weight, self.bias)
