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
