"""RanPAC: random features and a ridge solution that needs only sums (McDonnell et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig, RanPACConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training, sizes
from snn_artsy.learners.ridge import RandomRidge
from snn_artsy.learners.state import below
from snn_artsy.learners.subnetworks import (
    Build,
    drawn_from,
    embed,
    embed_training,
    n_parameters,
    passes,
    states,
    train,
)


class RanPAC(Learner):
    """`RandomRidge` on h_0, or on h_0 + h_1 with an adapter trained on the first task
    (``adapt_first``)."""

    def __init__(
        self,
        config: RanPACConfig,
        ann: ANNConfig,
        build: Build,
        dim: int,
        device: str,
        seed: int,
    ) -> None:
        self.config, self.ann = config, ann
        self.generator = torch.Generator().manual_seed(seed)
        self.of_networks = drawn_from(ann, seed, self.generator)
        self.networks = [build(self.of_networks)] if config.adapt_first else []
        self.classifier = RandomRidge(dim, config.projection, self.generator, device)

    def learn(self, task: Task) -> None:
        if self.networks and not task.number:
            train(self.networks[0], task, self.ann, self.of_networks)
        x, labels, _ = all_training(task)
        if self.networks:
            x = embed_training(self.networks[0], task)
        self.classifier.add(x, labels - task.classes[0], len(task.classes))

    def predict(self, batch: Batch) -> Prediction:
        x = embed(self.networks, batch)[:, 0] if self.networks else batch.features
        return Prediction(
            self.classifier.scores(x), vit_passes=passes(self.networks, batch, with_h0=False)
        )

    def state_dict(self) -> dict[str, Tensor]:
        return self.classifier.state_dict() | states(self.networks)

    def checkpoint(self) -> dict[str, Tensor]:
        # the classifier's checkpoint holds the generator, which is the same one
        return self.classifier.checkpoint() | states(self.networks)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for network in self.networks:
            network.load_state_dict(below(state, "subnetworks.0."))
        self.classifier.load_state_dict(state)

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        self.classifier.restore(state)

    def report(self) -> dict[str, Any]:
        report = sizes(n_parameters(self.networks), self.state_dict())
        return report | {"ridge": self.classifier.ridge}
