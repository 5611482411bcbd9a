"""Ridge regression on random features, from sums over samples (RanPAC; McDonnell et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.chunks import chunks
from snn_artsy.learners.state import number, set_generator

# both as in McDonnell et al. 2023 (authors' code)
RIDGES = tuple(10.0**k for k in range(-8, 9))
FITTED_SHARE = 0.8
COLUMNS = 250
"""Of a Gram matrix at a time: with fewer, more of its symmetry is used, in slower products."""


@dataclass
class Sums:
    """All that a ridge regression needs of its samples.

    Args:
        gram: G = sum f f', float64 [M, M].
        moments: Q = sum f y', [M, C].
        squares: sum |y|^2.
    """

    gram: Tensor
    moments: Tensor
    squares: float = 0.0

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Add samples [n, M] with targets [n, C], in place."""
        # G is symmetric: what is right of the diagonal's blocks is a copy of what is below
        for cols in torch.arange(len(self.gram)).split(COLUMNS):
            first, last = int(cols[0]), int(cols[-1]) + 1
            products = features[:, first:last].T @ features[:, :last]
            self.gram[first:last, :last] += products
            self.gram[:first, first:last] += products[:, :first].T
        self.moments.addmm_(features.T, targets)
        self.squares += float(targets.square().sum())

    def error(self, weight: Tensor) -> float:
        """Squared error sum |W'f - y|^2 of a solution W [M, C]."""
        return float((weight * (self.gram @ weight - 2.0 * self.moments)).sum()) + self.squares


def solved(matrix: Tensor, ridge: float, right: Tensor, work: Tensor) -> Tensor | None:
    """(A + ridge I)^-1 B by Cholesky's factor, made in ``work``; None if there is none.

    Args:
        matrix: A, symmetric, float64 [M, M]. right: B, [M, C].
        work: [M, M], overwritten: a matrix of 10,000 features takes 800 MB.
    """
    work.copy_(matrix).diagonal().add_(ridge)
    # LAPACK counts by columns, and the transpose of a symmetric matrix is the matrix: no copy
    factor, failed = work.T, torch.empty((), dtype=torch.int32, device=work.device)
    torch.linalg.cholesky_ex(factor, out=(factor, failed))
    if failed:
        return None
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.T, half, upper=True)


def ridge_by_sums(fitted: Sums, held: Sums) -> float:
    """The ridge parameter whose solution for some samples has the smallest squared error on others.

    For more samples than features.
    """
    work = torch.empty_like(fitted.gram)

    def error(ridge: float) -> float:
        weight = solved(fitted.gram, ridge, fitted.moments, work)
        return math.inf if weight is None else held.error(weight)

    return min(RIDGES, key=error)


def ridge_by_samples(features: Tensor, targets: Tensor, n_fitted: int) -> float:
    """`ridge_by_sums` for fewer samples than features: those after the first ``n_fitted`` are held.

    W = F' (F F' + ridge I)^-1 Y, so that products of samples with each other are all that counts.

    Args:
        features: F, float64 [n, M]. targets: Y, float64 [n, C].
    """
    products = features @ features[:n_fitted].T
    work = torch.empty_like(products[:n_fitted])

    def error(ridge: float) -> float:
        dual = solved(products[:n_fitted], ridge, targets[:n_fitted], work)
        if dual is None:
            return math.inf
        return float((products[n_fitted:] @ dual - targets[n_fitted:]).square().sum())

    return min(RIDGES, key=error)


class RandomRidge:
    """f(x) = ReLU(x P), W = (G + ridge I)^-1 Q with G = sum f f' and Q = sum f y' over all data.

    P has standard normal entries. G [M, M] and Q [M, C] are sums over samples, so that W is the
    ridge solution for all data seen, whatever the order of tasks; samples are added in place, some
    at a time. The ridge parameter is chosen anew with each task on a fifth of that task's data, as
    the authors do, and is never below the rounding error of tr(G). Sums are kept as float64: small
    parameters need it (the authors' code keeps float32, half the bytes).

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
        """Samples [n, D] of new classes: ``member`` int64 [n] counts them from 0.

        Raises:
            LinAlgError: The sums cannot be solved: they are not finite.
        """
        order = torch.randperm(len(x), generator=self.generator).to(x.device)
        x, member = x[order], member[order]
        n_fitted = int(FITTED_SHARE * len(x))
        if n_fitted <= len(self.gram):
            features = self._random_features(x)
            self.ridge = ridge_by_samples(features, _targets(member, n_classes), n_fitted)
            parts = [self._sums(x, member, n_classes)]
        else:
            parts = [
                self._sums(x[rows], member[rows], n_classes)
                for rows in (slice(n_fitted), slice(n_fitted, None))
            ]
            self.ridge = ridge_by_sums(*parts)
        for part in parts:
            self.gram += part.gram
        moments = torch.stack([part.moments for part in parts]).sum(0)
        self.sums = torch.cat([self.sums, moments], dim=1)
        self.weight = self._solution()

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
        self.weight = self._solution()

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)
        set_generator(self.generator, state["generator"])

    def _sums(self, x: Tensor, member: Tensor, n_classes: int) -> Sums:
        sums = Sums(torch.zeros_like(self.gram), self.sums.new_zeros(len(self.gram), n_classes))
        for rows in chunks(len(x)):
            sums.add(self._random_features(x[rows]), _targets(member[rows], n_classes))
        return sums

    def _solution(self) -> Tensor:
        # a ridge below the sum's rounding error has no effect, and few samples' gram is singular
        least = torch.finfo(self.gram.dtype).eps * float(self.gram.diagonal().sum())
        work = torch.empty_like(self.gram)
        for more in (1.0, 10.0, 100.0, 1000.0):
            found = solved(self.gram, more * max(self.ridge, least), self.sums, work)
            if found is not None:
                return found
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            "sums of random features are not positive definite"
        )

    def _random_features(self, x: Tensor) -> Tensor:
        """[B, D] -> float64 [B, M]."""
        return F.relu(x @ self.projection).double()


def _targets(member: Tensor, n_classes: int) -> Tensor:
    """1 for each sample's class, 0 for the others: int64 [n] -> float64 [n, n_classes]."""
    return F.one_hot(member, n_classes).double()
