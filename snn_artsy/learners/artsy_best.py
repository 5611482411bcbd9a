"""Artsy whose answer uses what its gates know: class evidence of gate and sub-networks combined."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig, BestGateConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, sizes
from snn_artsy.learners.gates import DiscriminantGates
from snn_artsy.learners.opened_evidence import OpenedEvidence
from snn_artsy.learners.replay import Exemplars
from snn_artsy.learners.subnetworks import Build


class ArtsyBest(Learner):
    """Gates by class evidence on [h_0, h_0 + h_1], and the evidence of the opened sub-networks.

    The gates' discriminant (`DiscriminantGates`) sees h_0 and the first task's sub-network, the
    only one that was there when any class was. What it says of every class opens the likeliest
    tasks' sub-networks and is combined with theirs (`OpenedEvidence`). Kept are class means, one
    scatter, discriminants and temperatures (our definition).
    """

    def __init__(
        self,
        config: BestGateConfig,
        ann: ANNConfig,
        build: Build,
        device: str,
        seed: int,
        exemplars: Exemplars | None = None,
    ) -> None:
        self.gates = DiscriminantGates(config.shrinkage)
        self.subnetworks = OpenedEvidence(config, ann, build, device, seed, exemplars)

    def learn(self, task: Task) -> None:
        self.subnetworks.train(task)
        train, held = (self._seen(part) for part in (task.train, task.validation))
        # evidence fitted to training samples alone is tried on the others
        tried = deepcopy(self.gates)
        tried.add_task(train, task.train.labels)
        self.subnetworks.calibrate(task, tried.class_scores(held))
        labels = torch.cat([task.train.labels, task.validation.labels])
        self.gates.add_task(torch.cat([train, held]), labels)

    def predict(self, batch: Batch) -> Prediction:
        seen = self._seen(batch)
        # the first sub-network has been computed for the gates
        first = None if self._shut else seen.chunk(2, 1)[1]
        return self.subnetworks.answer(batch, self.gates.class_scores(seen), first)

    def _seen(self, batch: Batch) -> Tensor:
        """What the gates see: [h_0, h_0 + h_1], [B, 2D]; h_0 where no sub-network may answer."""
        if self._shut:
            return batch.features
        return torch.cat([batch.features, self.subnetworks.first(batch)], dim=1)

    @property
    def _shut(self) -> bool:
        return self.subnetworks.config.gates == "shut"

    def state_dict(self) -> dict[str, Tensor]:
        return self.gates.state_dict() | self.subnetworks.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.gates.load_state_dict(state)
        self.subnetworks.load_state_dict(state)

    def checkpoint(self) -> dict[str, Tensor]:
        return self.gates.checkpoint() | self.subnetworks.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.gates.restore(state)
        self.subnetworks.restore(state, tasks)

    def report(self) -> dict[str, Any]:
        counted = sizes(self.subnetworks.n_parameters, self.state_dict())
        counted["temperature"] = self.subnetworks.temperature
        return self.subnetworks.with_exemplars(counted)
