"""EASE: one adapter and one subspace a task (Zhou et al. 2024, CVPR, arXiv 2403.12030)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig, EaseConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, sizes
from snn_artsy.learners.prototypes import class_means, complete, cosine_scores
from snn_artsy.learners.state import listed, numbered, set_generator
from snn_artsy.learners.subnetworks import (
    Build,
    SubNetwork,
    begun,
    embed,
    embed_training,
    n_parameters,
    passes,
    rebuilt,
    shown,
    states,
    train,
)


def completed_table(measured: list[Tensor]) -> Tensor:
    """Prototypes of all classes in all subspaces (eqs. 8 to 10), [C, N, D].

    P_(u,s), task u's classes in subspace s, is measured for s <= u. For s > u their images were
    gone when adapter s came; then P_(u,s) = softmax(cos(P_(u,u), P_(v,u))) P_(v,s) over the
    classes of the tasks v >= s, which were measured in both subspaces. In the newest subspace these
    are the new classes, as in the paper; in older ones later classes take part too, as in the
    authors' code (``recalc_sim``).

    Args:
        measured: For each task u, [C_u, u + 1, D].
    """
    n = len(measured)
    rows = []
    for u, own in enumerate(measured):
        columns = list(own.unbind(1))
        for s in range(u + 1, n):
            later = measured[s:]
            in_u = torch.cat([m[:, u] for m in later])
            in_s = torch.cat([m[:, s] for m in later])
            columns.append(complete(own[:, u], in_u, in_s))
        rows.append(torch.stack(columns, dim=1))
    return torch.cat(rows)


def reweighted_scores(
    embedded: Tensor, table: Tensor, task_of_class: Tensor, alpha: float
) -> Tensor:
    """Class scores with the class's own subspace first (eq. 12), [B, C].

    cos in the own subspace + alpha * mean of the cosines in the other subspaces. The paper has the
    sum; the mean is what the authors' code computes, and its published results with it.

    Args:
        embedded: h_0 + h_s, [B, N, D].
        table: Prototypes, [C, N, D].
        task_of_class: int64 [C].
        alpha: Weight of the other subspaces.
    """
    n = table.shape[1]
    cosines = torch.stack([cosine_scores(embedded[:, s], table[:, s]) for s in range(n)], dim=2)
    weight = torch.full_like(cosines[0], alpha / max(n - 1, 1))
    weight[torch.arange(len(table), device=weight.device), task_of_class] = 1.0
    return (cosines * weight).sum(2)


class EASE(Learner):
    """A new adapter for each task; prototypes of old classes in new subspaces are completed."""

    def __init__(self, config: EaseConfig, ann: ANNConfig, build: Build, seed: int) -> None:
        self.config, self.ann, self.build = config, ann, build
        self.generator = torch.Generator().manual_seed(seed)
        self.networks: list[SubNetwork] = []
        self.measured: list[Tensor] = []
        self.table: Tensor | None = None

    def learn(self, task: Task) -> None:
        network = begun(self.build, self.networks, self.ann, self.generator)
        train(network, task, self.ann, self.generator)
        self.networks.append(network)
        labels = torch.cat([task.train.labels, task.validation.labels])
        means = []
        for s, each in enumerate(self.networks):
            rows = shown(task, s, task.number, self.ann)
            seen = labels if rows is None else labels[rows]
            means.append(class_means(embed_training(each, task, rows), seen, task.classes))
        self.measured.append(torch.stack(means, dim=1))
        self.table = completed_table(self.measured)

    def predict(self, batch: Batch) -> Prediction:
        if self.table is None:
            raise RuntimeError("no prototypes yet: learn a task first")
        task_of_class = torch.cat(
            [torch.full((len(m),), t) for t, m in enumerate(self.measured)]
        ).to(self.table.device)
        embedded = embed(self.networks, batch)
        scores = reweighted_scores(embedded, self.table, task_of_class, self.config.alpha)
        return Prediction(scores, vit_passes=passes(self.networks, batch, with_h0=False))

    def state_dict(self) -> dict[str, Tensor]:
        return numbered("prototypes.", self.measured) | states(self.networks)

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.networks = rebuilt(self.build, state)
        self.measured = listed(state, "prototypes.")
        self.table = completed_table(self.measured) if self.measured else None

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        return sizes(n_parameters(self.networks), self.state_dict())
