"""Calibration of the thresholds thr_t above which gates open."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_artsy.config import GateConfig
from snn_artsy.learners.state import listed, numbered


def balanced_threshold(good: Tensor, bad: Tensor) -> float:
    """Threshold with the largest balanced accuracy of ``score > threshold`` (our definition).

    Candidates are the midpoints between neighbouring scores and the largest score itself (nothing
    opens); of equally good ones the highest, so that a gate that tells nothing stays shut.

    Args:
        good: Scores of features of the gate's own task, [n > 0].
        bad: Scores of other tasks' features, [m > 0].
    """
    values = torch.cat([good, bad]).double().unique()
    candidates = torch.cat([(values[1:] + values[:-1]) / 2, values[-1:]])
    balanced = _share_above(good, candidates) - _share_above(bad, candidates)
    best = torch.nonzero(balanced == balanced.max())[-1, 0]
    return float(candidates[best])


def _share_above(scores: Tensor, candidates: Tensor) -> Tensor:
    """Share of scores [n] above each of some thresholds [k], float64. Sorted: a comparison of each
    score with each threshold would take 3 GB where a thousand classes are replayed."""
    ordered = scores.double().sort().values
    below = torch.searchsorted(ordered, candidates, right=True)
    return (len(ordered) - below).double() / len(ordered)


def quantile_threshold(good: Tensor, quantile: float) -> float:
    """Threshold that all but the share ``quantile`` of the task's own scores exceed."""
    return float(torch.quantile(good.double(), quantile))


class GateThresholds:
    """thr_t of each task's gate, kept up to date as tasks arrive, from scores alone.

    Sub-networks are frozen once learnt, so the score of a validation sample under an old gate stays
    valid: scores are stored, never the samples.
    """

    def __init__(self, config: GateConfig) -> None:
        self.config = config
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
        self.threshold = [self._threshold(g, b) for g, b in zip(self.good, self.bad, strict=True)]
        # scores of different gates are compared in units of their scatter
        pairs = zip(self.good, self.bad, strict=True)
        scatter = [torch.cat([g, b]).double().std(correction=0) for g, b in pairs]
        self.spread = [max(float(s), 1e-6) for s in scatter]

    def _threshold(self, good: Tensor, bad: Tensor) -> float:
        # without scores of other tasks, as for the first task, only the quantile is known
        if self.config.threshold == "quantile" or len(bad) == 0:
            return quantile_threshold(good, self.config.quantile)
        return balanced_threshold(good, bad)

    def calibrated(self, scores: Tensor) -> Tensor:
        """(S_t - thr_t) / spread_t: gate t is open where positive. scores [B, N] -> [B, N]."""
        return (scores - scores.new_tensor(self.threshold)) / scores.new_tensor(self.spread)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "gate.threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "gate.spread": torch.tensor(self.spread, dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.threshold = state["gate.threshold"].tolist()
        self.spread = state["gate.spread"].tolist()

    def checkpoint(self) -> dict[str, Tensor]:
        """`state_dict` and the scores, which later tasks are calibrated with."""
        scores = numbered("gate.good.", self.good) | numbered("gate.bad.", self.bad)
        return self.state_dict() | scores

    def restore(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)
        self.good = [scores.cpu() for scores in listed(state, "gate.good.")]
        self.bad = [scores.cpu() for scores in listed(state, "gate.bad.")]
