"""APER with an adapter (ADAM in the paper's first version): adapt once, then only prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training, sizes
from snn_artsy.learners.prototypes import class_means, cosine_scores
from snn_artsy.learners.state import below, set_generator
from snn_artsy.learners.subnetworks import (
    Build,
    embed,
    embed_training,
    n_parameters,
    passes,
    states,
    train,
)


class APERAdapter(Learner):
    """Nearest class mean by cosine on [h_0, h_0 + h_1] (Zhou et al. 2024, arXiv 2303.07338).

    h_1 is an adapter trained on the first task's classes and frozen then. The embeddings of the
    pre-trained and of the adapted model stand side by side, 2D numbers, and a class is its mean.
    """

    def __init__(self, config: ANNConfig, build: Build, dim: int, device: str, seed: int) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.network = build(self.generator)
        self.prototypes = torch.zeros(0, 2 * dim, device=device)

    def learn(self, task: Task) -> None:
        if not len(self.prototypes):
            train(self.network, task, self.config, self.generator)
        h0, labels, _ = all_training(task)
        both = torch.cat([h0, embed_training(self.network, task)], dim=1)
        new = class_means(both, labels, task.classes)
        self.prototypes = torch.cat([self.prototypes, new])

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.prototypes):
            raise RuntimeError("no prototypes yet: learn a task first")
        both = torch.cat([batch.features, embed([self.network], batch)[:, 0]], dim=1)
        scores = cosine_scores(both, self.prototypes)
        return Prediction(scores, vit_passes=passes([self.network], batch, with_h0=True))

    def state_dict(self) -> dict[str, Tensor]:
        return {"prototypes": self.prototypes} | states([self.network])

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.prototypes = state["prototypes"]
        self.network.load_state_dict(below(state, "subnetworks.0."))

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        return sizes(n_parameters([self.network]), self.state_dict())
