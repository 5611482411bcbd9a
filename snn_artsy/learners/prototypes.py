"""Class prototypes and the cosine classifier, the same for every learner."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import Tensor

from snn_artsy.chunks import chunks
from snn_artsy.learners.state import listed, numbered


def class_means(features: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Mean feature of each class: features [n, D], labels [n] -> [len(classes), D]."""
    return torch.stack([features[labels == c].mean(0) for c in classes])


def means_of_answers(
    answer: Callable[[slice], Tensor], labels: Tensor, classes: tuple[int, ...]
) -> Tensor:
    """`class_means` of what is computed some samples at a time, and is too large to be kept.

    Args:
        answer: Of some of the samples, [k, ...].
        labels: Of all of them, [n].

    Returns:
        [len(classes), ...].
    """
    of_class = torch.stack([labels == c for c in classes])
    sums = [
        torch.stack([part[own[rows]].sum(0) for own in of_class])
        for rows in chunks(len(labels))
        for part in [answer(rows)]
    ]
    total = torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]
    return total / of_class.sum(1).view(-1, *[1] * (total.dim() - 1))


def cosine_scores(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of each feature with each prototype: [B, D], [C, D] -> [B, C]."""
    return _unit(features) @ _unit(prototypes).T


def _unit(x: Tensor) -> Tensor:
    """Unit vectors x / |x|, [..., D]; 0 where |x| is, and NaN where |x| overflows.

    There ``F.normalize`` gives 0, and every class would get the same score without a word.
    """
    norm = x.norm(dim=-1, keepdim=True)
    return x / norm.clamp_min(1e-12).masked_fill(norm.isinf(), torch.nan)


def complete(base_old: Tensor, base_new: Tensor, gained_new: Tensor) -> Tensor:
    """What a new sub-network would answer to classes that are gone (Zhou et al. 2024, EASE).

    Each old class is a mixture of the new ones, weighted by the softmax of the cosines between
    their prototypes in the space that both have been seen in.

    Args:
        base_old: Prototypes of the old classes in the common space, [C_old, D].
        base_new: Prototypes of the new classes there, [C_new, D].
        gained_new: Mean answer of the new sub-network to the new classes, [C_new, D].

    Returns:
        Estimated mean answer to the old classes, [C_old, D].
    """
    return torch.softmax(cosine_scores(base_old, base_new), dim=1) @ gained_new


def _added(gates: Tensor, gained: Tensor) -> Tensor:
    """sum_t m_t h_t: m bool [B, N], h_t [B, N, D] -> [B, D]."""
    return (gates[:, None].to(gained.dtype) @ gained)[:, 0]


class GatedPrototypes:
    """Prototypes of z = h_0 + sum_t m_t h_t for any pattern of open gates m.

    A sample is compared with prototypes made under its own pattern, p_c(m) = P0_c + sum_t m_t P_tc,
    where P0_c is the mean of h_0 and P_tc the mean of h_t over class c's training samples: measured
    when class c came with or after sub-network t. When it came before, P_tc is the mean of h_t over
    the class's Gaussian pseudo-features, or without replay it is completed (`complete`).
    With all gates shut this is the nearest class mean by cosine on h_0 (our definition).
    """

    def __init__(self) -> None:
        self.base: Tensor | None = None  # P0, [C, D]
        self.gained: list[Tensor] = []  # P_t, each [C, D]
        self._products: tuple[list[Tensor], Tensor] | None = None  # `_gram`, and of what

    @property
    def n_classes(self) -> int:
        return 0 if self.base is None else len(self.base)

    def add(self, base: Tensor, gained: list[Tensor], replayed: Tensor | None = None) -> None:
        """Add a task's classes.

        Args:
            base: Mean h_0 of its classes, [n, D].
            gained: Mean h_t of its classes under every sub-network so far, its own last; each
                [n, D]. Empty for a learner without sub-networks.
            replayed: Mean h_t of the new sub-network over pseudo-features of each older class,
                [C_old, D]; None: completed instead.
        """
        if gained and len(gained) > len(self.gained):
            new = gained[-1]
            if replayed is None:
                replayed = complete(self.base, base, new) if self.base is not None else new[:0]
            self.gained.append(replayed)
        self.gained = [torch.cat([p, g]) for p, g in zip(self.gained, gained, strict=True)]
        self.base = base if self.base is None else torch.cat([self.base, base])

    def scores(self, h0: Tensor, gates: Tensor, gained: Tensor, with_h0: bool = True) -> Tensor:
        """Cosine class scores [B, C].

        Args:
            h0: [B, D]. gates: m, bool [B, N]. gained: h_t, [B, N, D]; read where the gate is open.
            with_h0: False leaves h_0 out of z, and P0 out of the prototypes; a sample with all
                gates shut then has the score 0 for every class.
        """
        if self.base is None:
            raise RuntimeError("no prototypes yet: learn a task first")
        if not self.gained:
            return cosine_scores(h0, self.base)
        z = with_h0 * h0 + _added(gates, gained)
        patterns, inverse = gates.unique(dim=0, return_inverse=True)
        if len(patterns) > len(self.gained) + 1:
            return self._of_many_patterns(_unit(z), gates, with_h0)
        table = torch.stack(self.gained)
        scores = h0.new_empty(len(h0), len(self.base))
        for k, pattern in enumerate(patterns):
            rows = inverse == k
            scores[rows] = cosine_scores(z[rows], with_h0 * self.base + table[pattern].sum(0))
        return scores

    def _of_many_patterns(self, unit: Tensor, gates: Tensor, with_h0: bool) -> Tensor:
        """Cosine scores of z / |z| [B, D] with p_c(m), which is linear in m, as are their products,
        while |p_c(m)|^2 is quadratic in it: a prototype for each pattern and class need not be made
        ([B, C]; with twenty gates nearly each sample has a pattern of its own)."""
        assert self.base is not None
        parts = [self.base, *self.gained]
        opened = torch.cat([gates.new_full((len(gates), 1), with_h0), gates], dim=1)
        products = unit.new_zeros(len(unit), len(self.base))
        for part, own in zip(parts, opened.T, strict=True):
            products[own] += unit[own] @ part.T
        m = opened.double()
        square = (m[:, :, None] * m[:, None, :]).flatten(1) @ self._gram(parts).T
        norm = square.clamp_min(0).sqrt().to(unit.dtype)
        return products / norm.clamp_min(1e-12).masked_fill(norm.isinf(), torch.nan)

    def _gram(self, parts: list[Tensor]) -> Tensor:
        """Products of each class's prototypes with each other, [C, (1 + N)^2]; sums of them cancel,
        hence float64. Kept until there are other prototypes."""
        kept = self._products
        if kept is None or len(kept[0]) != len(parts) or any(map(operator.is_not, kept[0], parts)):
            table = torch.stack(parts, dim=1).double()
            self._products = kept = parts, (table @ table.mT).flatten(1)
        return kept[1]

    def effect(self, h0: Tensor, gates: Tensor, gained: Tensor) -> tuple[Tensor, Tensor]:
        """What open gates do: ``|sum_t m_t h_t| / |h_0|`` and the class that would be predicted
        with all of them shut, each [B]; arguments as in `scores`."""
        assert self.base is not None
        added = _added(gates, gained) if self.gained else torch.zeros_like(h0)
        share = added.norm(dim=1) / h0.norm(dim=1).clamp_min(1e-12)
        return share, cosine_scores(h0, self.base).argmax(1)

    def state_dict(self) -> dict[str, Tensor]:
        state = {} if self.base is None else {"prototypes.base": self.base}
        return state | numbered("prototypes.gained.", self.gained)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.base = state.get("prototypes.base")
        self.gained = listed(state, "prototypes.gained.")
