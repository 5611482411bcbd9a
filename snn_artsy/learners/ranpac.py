"""RanPAC: random features and a ridge solution that needs only sums (McDonnell et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import ANNConfig, RanPACConfig
from snn_artsy.learners.base import Batch, Prediction, Task, all_training, sizes
from snn_artsy.learners.subspaces import Build, embed, embed_training, n_parameters, states, train

# both as in McDonnell et al. 2023 (authors' code)
RIDGES = tuple(10.0**k for k in range(-8, 9))
FITTED_SHARE = 0.8


def best_ridge(features: Tensor, targets: Tensor, ridges: tuple[float, ...] = RIDGES) -> float:
    """The ridge parameter with the smallest mean squared error on the last fifth of the rows.

    Args:
        features: float64 [n, M], in random order.
        targets: float64 [n, C].

    The solutions for all parameters come from one singular value decomposition of the first four
    fifths, X = U S V': W = V (S^2 + ridge)^-1 S U' Y.
    """
    fitted = int(FITTED_SHARE * len(features))
    u, s, vt = torch.linalg.svd(features[:fitted], full_matrices=False)
    held, image = features[fitted:] @ vt.T, u.T @ targets[:fitted]
    errors = [
        float(F.mse_loss((held * (s / (s.square() + ridge))) @ image, targets[fitted:]))
        for ridge in ridges
    ]
    return ridges[errors.index(min(errors))]


class RanPAC:
    """f(x) = ReLU(x P), W = (G + ridge I)^-1 Q with G = sum f f' and Q = sum f y' over all tasks.

    x is h_0, or h_0 + h_1 with an adapter trained on the first task (``adapt_first``). P has
    standard normal entries. G [M, M] and Q [M, C] are sums over samples, so that W is the ridge
    solution for all data seen, whatever the order of tasks. The ridge parameter is chosen anew with
    each task on a fifth of that task's training data, as the authors do. Sums are kept as float64:
    small parameters need it (the authors' code keeps float32, half the bytes).
    """

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
        self.network = build(self.generator) if config.adapt_first else None
        m = config.projection
        self.projection = torch.randn(dim, m, generator=self.generator).to(device)
        self.gram = torch.zeros(m, m, dtype=torch.float64, device=device)
        self.sums = torch.zeros(m, 0, dtype=torch.float64, device=device)
        self.weight = self.sums
        self.ridge = float("nan")

    def learn(self, task: Task) -> None:
        if self.network is not None and not self.sums.shape[1]:
            train(self.network, task, self.ann, self.generator)
        h0, labels, _ = all_training(task)
        embedded = h0 if self.network is None else embed_training([self.network], task)[0][:, 0]
        features = self._random_features(embedded)
        targets = F.one_hot(labels - task.classes[0], len(task.classes)).double()
        order = torch.randperm(len(features), generator=self.generator).to(features.device)
        self.ridge = best_ridge(features[order], targets[order])
        self.gram = self.gram + features.T @ features
        self.sums = torch.cat([self.sums, features.T @ targets], dim=1)
        ridge = self.ridge * torch.eye(len(self.gram)).to(self.gram)
        self.weight = torch.linalg.solve(self.gram + ridge, self.sums)

    def predict(self, batch: Batch) -> Prediction:
        if not self.sums.shape[1]:
            raise RuntimeError("no classifier yet: learn a task first")
        embedded = batch.features
        if self.network is not None:
            embedded = embed([self.network], batch)[:, 0]
        return Prediction((self._random_features(embedded) @ self.weight).float())

    def state_dict(self) -> dict[str, Tensor]:
        state = {"projection": self.projection, "gram": self.gram, "sums": self.sums}
        return state | ({} if self.network is None else states([self.network]))

    def report(self) -> dict[str, Any]:
        trained = 0 if self.network is None else n_parameters([self.network])
        return sizes(trained, self.state_dict()) | {"ridge": self.ridge}

    def _random_features(self, embedded: Tensor) -> Tensor:
        """[B, D] -> float64 [B, M]."""
        return F.relu(embedded @ self.projection).double()
