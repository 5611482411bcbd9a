"""RanPAC: random features and a ridge solution that needs only sums (McDonnell et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import ANNConfig, RanPACConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training, sizes
from snn_artsy.learners.state import below, number, set_generator
from snn_artsy.learners.subnetworks import (
    Build,
    embed,
    embed_training,
    n_parameters,
    passes,
    states,
    train,
)

# both as in McDonnell et al. 2023 (authors' code)
RIDGES = tuple(10.0**k for k in range(-8, 9))
FITTED_SHARE = 0.8


def best_ridge(features: Tensor, targets: Tensor, ridges: tuple[float, ...] = RIDGES) -> float:
    """The ridge parameter with the smallest mean squared error on the last fifth of the rows.

    Args:
        features: float64 [n, M], in random order; a single row leaves nothing to fit.
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


class RandomRidge:
    """f(x) = ReLU(x P), W = (G + ridge I)^-1 Q with G = sum f f' and Q = sum f y' over all data.

    P has standard normal entries. G [M, M] and Q [M, C] are sums over samples, so that W is the
    ridge solution for all data seen, whatever the order of tasks. The ridge parameter is chosen
    anew with each task on a fifth of that task's data, as the authors do, and is never below the
    rounding error of tr(G). Sums are kept as float64:
    small parameters need it (the authors' code keeps float32, half the bytes).

    Args:
        dim: D.
        projection: M.
        generator: Draws P, and the order of samples in which the ridge parameter is chosen.
    """

    def __init__(
        self, dim: int, projection: int, generator: torch.Generator, device: torch.device | str
    ) -> None:
        self.generator = generator
        self.projection = torch.randn(dim, projection, generator=generator).to(device)
        self.gram = torch.zeros(projection, projection, dtype=torch.float64, device=device)
        self.sums = torch.zeros(projection, 0, dtype=torch.float64, device=device)
        self.weight = self.sums
        self.ridge = float("nan")

    def add(self, x: Tensor, member: Tensor, n_classes: int) -> None:
        """Samples [n, D] of new classes: ``member`` int64 [n] counts them from 0."""
        features = self._random_features(x)
        targets = F.one_hot(member, n_classes).double()
        order = torch.randperm(len(features), generator=self.generator).to(features.device)
        self.ridge = best_ridge(features[order], targets[order])
        self.gram = self.gram + features.T @ features
        self.sums = torch.cat([self.sums, features.T @ targets], dim=1)
        self._solve()

    def _solve(self) -> None:
        # a ridge below the sum's rounding error has no effect, and few samples' gram is singular
        least = torch.finfo(self.gram.dtype).eps * float(self.gram.diagonal().sum())
        ridge = max(self.ridge, least) * torch.eye(len(self.gram)).to(self.gram)
        self.weight = torch.linalg.solve(self.gram + ridge, self.sums)

    def scores(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, C]."""
        if not self.sums.shape[1]:
            raise RuntimeError("no classifier yet: learn a task first")
        return (self._random_features(x) @ self.weight).float()

    def state_dict(self) -> dict[str, Tensor]:
        sums = {"projection": self.projection, "gram": self.gram, "sums": self.sums}
        return sums | {"ridge": number(self.ridge)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.projection, self.gram, self.sums = (
            state[name] for name in ("projection", "gram", "sums")
        )
        self.ridge = float(state["ridge"])
        self._solve()

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)
        set_generator(self.generator, state["generator"])

    def _random_features(self, x: Tensor) -> Tensor:
        """[B, D] -> float64 [B, M]."""
        return F.relu(x @ self.projection).double()


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
        self.networks = [build(self.generator)] if config.adapt_first else []
        self.classifier = RandomRidge(dim, config.projection, self.generator, device)

    def learn(self, task: Task) -> None:
        if self.networks and not task.number:
            train(self.networks[0], task, self.ann, self.generator)
        x, labels, _ = all_training(task)
        if self.networks:
            x = embed_training(self.networks, task)[0][:, 0]
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
