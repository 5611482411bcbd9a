"""Embeddings of samples by adapted networks: h_0 + h_t, the subspace of sub-network t."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig
from snn_artsy.learners.adapter import HeadAdapter, train_adapter
from snn_artsy.learners.base import Batch, Task

Build = Callable[[torch.Generator], HeadAdapter]
"""A new sub-network of the configured kind, its start drawn from a generator."""


def answer(network: HeadAdapter, batch: Batch) -> Tensor:
    """h_t, what the sub-network adds to h_0: [B, D]."""
    return network(batch.features)


def train(network: HeadAdapter, task: Task, config: ANNConfig, generator: torch.Generator) -> None:
    """Train a new sub-network on a task's classes; it is frozen then."""
    data = task.train
    train_adapter(network, data.features, data.labels, task.classes, config, generator)


def embed(networks: Sequence[HeadAdapter], batch: Batch) -> Tensor:
    """h_0 + h_t of each sub-network, [B, N, D], without gradients."""
    with torch.no_grad():
        return torch.stack([batch.features + answer(n, batch) for n in networks], dim=1)


def embed_training(networks: Sequence[HeadAdapter], task: Task) -> tuple[Tensor, Tensor]:
    """`embed` of all of a task's training and validation samples: [n, N, D], labels [n]."""
    parts = (task.train, task.validation)
    return torch.cat([embed(networks, p) for p in parts]), torch.cat([p.labels for p in parts])


def states(networks: Sequence[HeadAdapter]) -> dict[str, Tensor]:
    """Parameters of sub-networks for a learner's state_dict."""
    return {
        f"subnetworks.{t}.{key}": value
        for t, network in enumerate(networks)
        for key, value in network.state_dict().items()
    }


def n_parameters(networks: Sequence[HeadAdapter]) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())
