"""Evidence for classes: how far it can be trusted, and how that of several is made one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURES = tuple(2.0 ** (k / 2) for k in range(15))
"""1 to 128: discriminants fitted to few samples are too sure of new ones, never too cautious."""
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of a sub-network's evidence for a class, beside its gate's."""


@dataclass(frozen=True)
class Beside:
    """A part of the gates' evidence that stays where a sub-network's own takes the other's place.

    Args:
        share: Of the part that is replaced by the evidence of a sub-network, which sees what that
            part sees and more.
        evidence: What stays, float64 [B, C]; its share and units are in it.
    """

    share: float
    evidence: Tensor

    def joined_by(self, own: Tensor, rows: Tensor | slice, classes: slice) -> Tensor:
        """A sub-network's evidence for some samples and classes, and what stays of the gates'."""
        return self.share * own + self.evidence[rows, classes]


def negative_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Summed over samples, at each of `TEMPERATURES`: logits [n, C], target [n] -> [K]."""
    costs = [F.cross_entropy(logits / t, target, reduction="sum") for t in TEMPERATURES]
    return torch.stack(costs)


def pool_costs(own: Tensor, gate: Tensor, target: Tensor) -> Tensor:
    """Cost of each pool of a sub-network's evidence and the gates' on validation samples.

    A logarithmic opinion pool softmax((w own + (1 - w) gate) / T) (Genest & Zidek 1986), w of
    `SHARES` and T of `TEMPERATURES`: summed negative log-likelihoods [S, K].

    Args:
        own, gate: Evidence for some classes, [n, C].
        target: The samples' places among them, int64 [n].
    """
    pools = [w * own + (1.0 - w) * gate for w in SHARES]
    return torch.stack([negative_log_likelihood(pool, target) for pool in pools])


def chained(splits: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Class posteriors log P(c | x) from a chain of nested dichotomies (Frank & Kramer 2004).

    Each task is told from those that came later, given that the sample is of none before:
    log P(c) = log q_t(c) + sum_{u < t} log q_u(later than u) for a class c of task t.

    Args:
        splits: log q_t of the classes of task t and of all later ones, [B, C - C_{<t}] each.
        counts: Classes of each task.
    """
    reached = splits[0].new_zeros(len(splits[0]))
    parts = []
    for split, n in zip(splits, counts, strict=True):
        parts.append(reached[:, None] + split[:, :n])
        if n < split.shape[1]:
            reached = reached + split[:, n:].logsumexp(1)
    return torch.cat(parts, dim=1)


def pooled(splits: Sequence[Tensor], opened: Tensor, gate: Tensor) -> Tensor:
    """Class posteriors log P(c | x) of opened sub-networks in equal parts (a logarithmic opinion
    pool; Genest & Zidek 1986), and the gates' own where none is open: [B, C].

    Args:
        splits: log q_t of all classes, [B, C] each.
        opened: m_t, bool [B, N].
        gate: Of the gates, [B, C].
    """
    total = torch.stack([s * m[:, None] for s, m in zip(splits, opened.T, strict=True)]).sum(0)
    mean = total / opened.sum(1, keepdim=True).clamp_min(1)
    return torch.where(opened.any(1)[:, None], mean, gate).log_softmax(1)


def of_tasks(gate: Tensor, of_class: Tensor) -> Tensor:
    """Task posteriors log P(t | x), summed over classes: log P(c | x) [B, C] -> [B, N]."""
    counts = of_class.bincount().tolist()
    return torch.stack([part.logsumexp(1) for part in gate.split(counts, 1)], dim=1)


def shuffled_tasks(gate: Tensor, of_class: Tensor, order: Tensor) -> Tensor:
    """Class posteriors with the tasks' probabilities given to tasks in another order, while each
    keeps what is said of its classes among themselves: log P(c | x) [B, C], order [B, N]."""
    tasks = of_tasks(gate, of_class)
    among = gate - tasks[:, of_class]
    return tasks.gather(1, order)[:, of_class] + among
