"""The ANN parts of Artsy: a bottleneck adapter on h_0 and an MLP gate, each trained by SGD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.config import ANNConfig
from snn_artsy.learners.prototypes import cosine_scores


class HeadAdapter(nn.Module):
    """h_t = s W_up ReLU(W_down h_0): placement ``head``, no residual.

    The adapter of AdaptFormer (Chen et al. 2022) on the embedding instead of inside the
    blocks; W_up = 0 at start.
    """

    def __init__(self, dim: int, config: ANNConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = config.scale
        self.down = nn.Linear(dim, config.bottleneck)
        self.up = nn.Linear(config.bottleneck, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5, generator=generator)
        for parameter in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(parameter)

    def forward(self, h0: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return self.scale * self.up(F.relu(self.down(h0)))


class MLPGate(nn.Module):
    """The paper's artificial synapse S_t: a small MLP on h_0, one logit a sample."""

    def __init__(self, dim: int, config: ANNConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, config.gate_hidden)
        self.out = nn.Linear(config.gate_hidden, 1)
        for layer in (self.hidden, self.out):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, h0: Tensor) -> Tensor:
        """[B, D] -> logits [B]."""
        return self.out(F.relu(self.hidden(self.norm(h0))))[:, 0]


def _batches(n: int, size: int, generator: torch.Generator) -> list[Tensor]:
    return list(torch.randperm(n, generator=generator).split(size))


def train_adapter(
    adapter: HeadAdapter,
    features: Tensor,
    labels: Tensor,
    classes: tuple[int, ...],
    config: ANNConfig,
    generator: torch.Generator,
) -> None:
    """Cross-entropy of a cosine classifier over the task's classes; freezes the adapter.

    The classifier's weights start at the class means and are dropped afterwards; its scale is
    learnt (CosineLinear of the CIL toolboxes).
    """
    target = labels - classes[0]
    means = torch.stack([features[labels == c].mean(0) for c in classes])
    weight = nn.Parameter(F.normalize(means, dim=1))
    sigma = nn.Parameter(features.new_tensor(10.0))
    trained = [*adapter.parameters(), weight, sigma]
    optimiser = torch.optim.SGD(
        trained, lr=config.lr, momentum=0.9, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
    for _ in range(config.epochs):
        for rows in _batches(len(features), config.batch_size, generator):
            h0 = features[rows.to(features.device)]
            loss = F.cross_entropy(
                sigma * cosine_scores(h0 + adapter(h0), weight), target[rows.to(target.device)]
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        schedule.step()
    adapter.requires_grad_(False)


def train_gate(
    gate: MLPGate, good: Tensor, bad: Tensor, config: ANNConfig, generator: torch.Generator
) -> None:
    """Binary cross-entropy, both kinds of features weighing the same: good [n, D], bad [m, D]."""
    if len(good) == 0 or len(bad) == 0:
        return
    features = torch.cat([good, bad])
    target = torch.cat([features.new_ones(len(good)), features.new_zeros(len(bad))])
    weight = torch.where(target > 0, 0.5 / len(good), 0.5 / len(bad)) * len(features)
    optimiser = torch.optim.Adam(gate.parameters(), lr=config.gate_lr)
    for _ in range(config.gate_epochs):
        for batch in _batches(len(features), config.batch_size, generator):
            rows = batch.to(features.device)
            loss = F.binary_cross_entropy_with_logits(
                gate(features[rows]), target[rows], weight=weight[rows]
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
