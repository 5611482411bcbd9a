"""When a gate opens: calibration of thr_t, and Gaussians that stand in for data that is gone."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_artsy.config import GateConfig
from snn_artsy.synapses.encoding import within_class_covariance


def balanced_threshold(good: Tensor, bad: Tensor) -> float:
    """Threshold with the largest balanced accuracy of ``score > threshold`` (our definition).

    Candidates are the midpoints between neighbouring scores and the largest score itself (nothing
    opens); of equally good ones the highest, so that a gate that tells nothing stays shut.

    Args:
        good: Scores of features of the gate's own task, [n > 0].
        bad: Scores of other tasks' features. Without any, the 5 % quantile of ``good``.
    """
    if len(bad) == 0:
        return float(torch.quantile(good.double(), 0.05))
    values = torch.cat([good, bad]).double().unique()
    candidates = torch.cat([(values[1:] + values[:-1]) / 2, values[-1:]])
    opens_good = (good.double()[:, None] > candidates).double().mean(0)
    opens_bad = (bad.double()[:, None] > candidates).double().mean(0)
    balanced = opens_good - opens_bad
    best = torch.nonzero(balanced == balanced.max())[-1, 0]
    return float(candidates[best])


class GateThresholds:
    """thr_t of each task's gate, kept up to date as tasks arrive, from scores alone.

    Sub-networks are frozen once learnt, so the score of a validation sample under an old gate stays
    valid: numbers are kept, never the samples.
    """

    def __init__(self) -> None:
        self.good: list[Tensor] = []
        self.bad: list[Tensor] = []
        self.threshold: list[float] = []
        self.spread: list[float] = []

    def add_task(self, good: Tensor, bad: Tensor) -> None:
        """A new gate: scores of its own task's validation features, and of stand-ins for others."""
        self.good.append(good.cpu())
        self.bad.append(bad.cpu())

    def fixed(self, n_tasks: int) -> None:
        """thr_t = 0 for scores that are log-odds."""
        self.threshold, self.spread = [0.0] * n_tasks, [1.0] * n_tasks

    def add_bad(self, gate: int, scores: Tensor) -> None:
        """Scores of a later task's validation features under an older gate."""
        self.bad[gate] = torch.cat([self.bad[gate], scores.cpu()])

    def refresh(self) -> None:
        """Calibrate all gates on what is known now."""
        self.threshold = [
            balanced_threshold(g, b) for g, b in zip(self.good, self.bad, strict=True)
        ]
        # scores of different gates are compared in units of their scatter
        pairs = zip(self.good, self.bad, strict=True)
        scatter = [torch.cat([g, b]).double().std(correction=0) for g, b in pairs]
        self.spread = [max(float(s), 1e-6) for s in scatter]

    def calibrated(self, scores: Tensor) -> Tensor:
        """(S_t - thr_t) / spread_t: gate t is open where positive. scores [B, N] -> [B, N]."""
        return (scores - scores.new_tensor(self.threshold)) / scores.new_tensor(self.spread)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "gate.threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "gate.spread": torch.tensor(self.spread, dtype=torch.float64),
        }


class DiscriminantGates:
    """S_t as the log-odds of task t against the best other task (our definition).

    Classes are Gaussians with means mu_c and one covariance Sigma, pooled over every class of every
    task (linear discriminant analysis, Fisher 1936), equally likely:

        g_c(x) = x' Sigma^-1 mu_c - mu_c' Sigma^-1 mu_c / 2,
        S_t(x) = max_{c in t} g_c(x) - max_{c not in t} g_c(x),

    so that exactly the gate of the likeliest class opens at thr_t = 0. Only sums are kept, which
    makes S_t the same whatever the order of tasks. With one task there is no other: S_0 = 1.

    Args:
        shrinkage: rho in (1 - rho) Sigma + rho tr(Sigma)/D I.
    """

    def __init__(self, shrinkage: float) -> None:
        self.shrinkage = shrinkage
        self.means: list[Tensor] = []  # of each task's classes, float64 [n, D]
        self.scatter: Tensor | None = None
        self.freedom = 0

    def add_task(self, features: Tensor, labels: Tensor) -> None:
        """Features [n, D] and labels [n] of one task."""
        x = features.double()
        classes, member = labels.unique(return_inverse=True)
        means = torch.stack([x[labels == c].mean(0) for c in classes])
        rest = x - means[member]
        scatter = rest.T @ rest
        self.scatter = scatter if self.scatter is None else self.scatter + scatter
        self.freedom += len(x) - len(classes)
        self.means.append(means)

    def scores(self, features: Tensor) -> Tensor:
        """S_t for every task so far, [B, D] -> [B, N]."""
        if self.scatter is None:
            raise RuntimeError("no gates yet: add a task first")
        if len(self.means) == 1:
            return features.new_ones(len(features), 1)
        covariance = self.scatter / max(self.freedom, 1)
        identity = torch.eye(len(covariance)).to(covariance)
        mean_variance = covariance.diagonal().mean().clamp_min(1e-12)
        covariance = (1 - self.shrinkage) * covariance + self.shrinkage * mean_variance * identity
        means = torch.cat(self.means)
        weights = torch.linalg.solve(covariance, means.T)
        g = features.double() @ weights - 0.5 * (means.T * weights).sum(0)
        best = torch.stack(
            [part.max(1).values for part in g.split([len(m) for m in self.means], 1)], dim=1
        )
        first, second = best.topk(2, dim=1).values.T
        others = torch.where(best == first[:, None], second[:, None], first[:, None])
        return (best - others).to(features.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        kept = {} if self.scatter is None else {"discriminant.scatter": self.scatter}
        return kept | {f"discriminant.means.{t}": m for t, m in enumerate(self.means)}


class ClassGaussians:
    """Per-class Gaussians of h_0: class means and each task's pooled, shrunk covariance.

    The exemplar-free stand-in for data of tasks that are gone (our definition).
    """

    def __init__(self, config: GateConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.means: list[Tensor] = []
        self.factors: list[Tensor] = []

    def add_task(self, features: Tensor, labels: Tensor) -> None:
        """Features [n, D], labels [n] of one task."""
        x = features.double()
        covariance = within_class_covariance(x, labels, self.config.shrinkage)
        jitter = 1e-6 * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
        self.factors.append(torch.linalg.cholesky(covariance + jitter).float())
        self.means.append(torch.stack([features[labels == c].mean(0) for c in labels.unique()]))

    def sample(self, tasks: list[int], purpose: int) -> Tensor:
        """Pseudo-features of every class of some tasks, [n, D]; the same for the same arguments."""
        if not self.means:
            raise RuntimeError("no Gaussians yet: add a task first")
        device, dim = self.means[0].device, self.means[0].shape[1]
        if self.config.replay == "none":
            tasks = []
        parts = [torch.zeros(0, dim, device=device)]
        for t in tasks:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + purpose * 1009 + t)
            mean = self.means[t].repeat_interleave(self.config.pseudo_per_class, dim=0)
            noise = torch.randn(mean.shape, generator=generator).to(device)
            parts.append(mean + noise @ self.factors[t].T)
        return torch.cat(parts)

    @property
    def replays(self) -> bool:
        return self.config.replay == "gaussian" and bool(self.means)

    def class_means_of(self, answers: Tensor) -> Tensor:
        """Mean over each class's pseudo-features of something computed on `sample`'s result,
        [n, ...] -> [n / pseudo_per_class, ...]."""
        return answers.unflatten(0, (-1, self.config.pseudo_per_class)).mean(1)

    def stored_parameters(self) -> int:
        if self.config.replay == "none":
            return 0
        return sum(x.numel() for x in (*self.means, *self.factors))

    def stored_bytes(self) -> int:
        if self.config.replay == "none":
            return 0
        return sum(x.numel() * x.element_size() for x in (*self.means, *self.factors))
