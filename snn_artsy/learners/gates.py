"""Artificial synapses S_t: the paper's MLP, and gates made of class scores."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.checks import require_finite
from snn_artsy.config import ANNConfig
from snn_artsy.learners.class_evidence import (
    SHARES,
    TEMPERATURES,
    Beside,
    negative_log_likelihood,
    pool_costs,
)
from snn_artsy.learners.ridge import RandomRidge
from snn_artsy.learners.state import below, listed, number, numbered, under
from snn_artsy.synapses.encoding import shrunk, within_class_scatter


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


def normed(h0: Tensor) -> Tensor:
    """Features of mean 0 and variance 1 in each sample (layer norm; Ba et al. 2016), [B, D]."""
    return F.layer_norm(h0, h0.shape[1:])


def train_gate(
    gate: MLPGate, good: Tensor, bad: Tensor, config: ANNConfig, generator: torch.Generator
) -> None:
    """Minimise binary cross-entropy, in which good [n, D] and bad [m, D] features weigh the same.

    Without bad features all the gate can learn is to open, and without good ones to stay shut.

    Raises:
        NotFinite: Training diverged.
    """
    if len(good) + len(bad) == 0:
        return
    features = torch.cat([good, bad])
    target = torch.cat([features.new_ones(len(good)), features.new_zeros(len(bad))])
    weight = torch.where(target > 0, 0.5 / max(len(good), 1), 0.5 / max(len(bad), 1))
    weight = weight * len(features)
    # one vector, so that Adam takes all parameters at once
    parameters = list(gate.parameters())
    whole = torch.cat([p.detach().flatten() for p in parameters]).requires_grad_()
    whole.grad = torch.zeros_like(whole)
    values, gradients = (_shaped(x, parameters) for x in (whole.detach(), whole.grad))
    optimiser = torch.optim.Adam([whole], lr=config.gate_lr, fused=True)
    with torch.no_grad():
        for _ in range(config.gate_epochs):
            order = torch.randperm(len(features), generator=generator)
            for batch in order.split(config.batch_size):
                rows = batch.to(features.device)
                x, share = normed(features[rows]), weight[rows] / len(rows)
                _descend(values, gradients, x, target[rows], share)
                optimiser.step()
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
    require_finite("training of a gate", gate.state_dict())


def _shaped(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of one vector, shaped as some tensors."""
    parts = flat.split([tensor.numel() for tensor in like])
    return [part.view_as(tensor) for part, tensor in zip(parts, like, strict=True)]


def _descend(
    values: Sequence[Tensor], gradients: Sequence[Tensor], x: Tensor, target: Tensor, share: Tensor
) -> None:
    """Write the gradients of a sum of binary cross-entropies by an `MLPGate`'s parameters.

    By hand: autograd would make the derivative by each sample's scaled features, [B, D], to sum
    those by scale and offset from, and go through memory several times.

    Args:
        values: Parameters, in the module's order. gradients: Of the same shapes, overwritten.
        x: `normed` features, [B, D].
        target: 1 where the gate should open, else 0, [B].
        share: Weights of the samples in the sum, [B].
    """
    scale, offset, weight, bias, out, out_bias = values
    hidden = torch.addmm(torch.addmv(bias, weight, offset), x, (weight * scale).T).relu_()
    slopes = (torch.addmv(out_bias, hidden, out[0]).sigmoid_() - target) * share
    of_hidden = torch.outer(slopes, out[0]).mul_(hidden > 0)
    products, sums = of_hidden.T @ x, of_hidden.sum(0)
    of_scale, of_offset, of_weight, of_bias, of_out, of_out_bias = gradients
    torch.sum(weight * products, 0, out=of_scale)
    torch.mv(weight.T, sums, out=of_offset)
    torch.addr(products.mul_(scale), sums, offset, out=of_weight)
    of_bias.copy_(sums)
    torch.mv(hidden.T, slopes, out=of_out[0])
    torch.sum(slopes, 0, keepdim=True, out=of_out_bias)


class ClassGates(Protocol):
    """S_t of every task from scores of classes, which need sums over all data seen only."""

    def add_task(self, features: Tensor, labels: Tensor) -> None:
        """Features [n, D] and labels [n] of one task."""
        ...

    def scores(self, features: Tensor) -> Tensor:
        """S_t for every task so far, [B, D] -> [B, N]."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All that `scores` needs."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...

    def checkpoint(self) -> dict[str, Tensor]: ...

    def restore(self, state: dict[str, Tensor]) -> None: ...


def margins(class_scores: Tensor, classes_per_task: list[int]) -> Tensor:
    """S_t = max_{c in t} g_c - max_{c not in t} g_c (our definition), [B, C] -> [B, N].

    The gate of the best class's task alone is above 0. With one task there is no other: S_0 = 1.
    """
    if len(classes_per_task) == 1:
        return class_scores.new_ones(len(class_scores), 1)
    best = torch.stack([g.max(1).values for g in class_scores.split(classes_per_task, 1)], dim=1)
    return less_the_others(best)


def less_the_others(scores: Tensor) -> Tensor:
    """Each task's score less the highest of all others, [B, N > 1]."""
    first, second = scores.topk(2, dim=1).values.T
    return scores - torch.where(scores == first[:, None], second[:, None], first[:, None])


class DiscriminantGates:
    """S_t as the log-odds of task t against the best other task (our definition).

    Classes are Gaussians with means mu_c and one covariance Sigma, pooled over every class of every
    task (linear discriminant analysis, Fisher 1936), equally likely:

        g_c(x) = x' Sigma^-1 mu_c - mu_c' Sigma^-1 mu_c / 2,

    and S_t their `margins`, so that exactly the gate of the likeliest class opens at thr_t = 0.
    Only sums are kept, which makes S_t the same whatever the order of tasks.

    Args:
        shrinkage: rho in (1 - rho) Sigma + rho tr(Sigma)/D I (`shrunk`); None: what the samples ask
            for (`oracle_shrinkage`).
    """

    def __init__(self, shrinkage: float | None) -> None:
        self.shrinkage = shrinkage
        self.means: list[Tensor] = []  # of each task's classes, float64 [n, D]
        self.scatter: Tensor | None = None
        self.freedom = 0
        self._solved: tuple[Tensor, Tensor] | None = None  # `discriminant` of what is known

    def add_task(self, features: Tensor, labels: Tensor) -> None:
        """Features [n, D] and labels [n] of one task."""
        classes = labels.unique()
        scatter = within_class_scatter(features, labels)
        self.scatter = scatter if self.scatter is None else self.scatter + scatter
        self.freedom += len(features) - len(classes)
        self.means.append(torch.stack([features[labels == c].double().mean(0) for c in classes]))
        self._solved = None

    def discriminant(self) -> tuple[Tensor, Tensor]:
        """Sigma^-1 mu_c, float64 [D, C], and mu_c' Sigma^-1 mu_c / 2, [C]."""
        if self.scatter is None:
            raise RuntimeError("no gates yet: add a task first")
        if self._solved is not None:
            return self._solved
        means = torch.cat(self.means)
        covariance = self.scatter / max(self.freedom, 1)
        mean_square = means.square().mean()
        covariance = shrunk(covariance, self.shrinkage, mean_square, self.freedom)
        weights = torch.linalg.solve(covariance, means.T)
        self._solved = weights, 0.5 * (means.T * weights).sum(0)
        return self._solved

    def class_scores(self, features: Tensor) -> Tensor:
        """g_c of every class so far, [B, D] -> float64 [B, C]."""
        weights, offsets = self.discriminant()
        return features.double() @ weights - offsets

    def scores(self, features: Tensor) -> Tensor:
        """S_t for every task so far, [B, D] -> [B, N]."""
        g = self.class_scores(features)
        return margins(g, [len(m) for m in self.means]).to(features.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        state = {} if self.scatter is None else {"discriminant.scatter": self.scatter}
        state |= numbered("discriminant.means.", self.means)
        return state | {"discriminant.freedom": number(self.freedom)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scatter = state.get("discriminant.scatter")
        self.means = listed(state, "discriminant.means.")
        self.freedom = int(state["discriminant.freedom"])
        self._solved = None

    # nothing is drawn: learning goes on from what answers
    checkpoint, restore = state_dict, load_state_dict


class PooledDiscriminants:
    """Evidence of a discriminant, pooled with that of one beside it which sees something else.

    g_c = (1 - w) g_c1 + w g_c2 T_1 / T_2, so that both are in units of the first one. T_1 and T_2
    say how far each can be trusted, and w whom more: they are likeliest for validation samples that
    no discriminant was fitted to, each asked when its task came (our definition; a logarithmic
    opinion pool, Genest & Zidek 1986).

    Args:
        shrinkage: Of each (`DiscriminantGates`).
        beside: There is a second one; or the first one's evidence stands as it is.
    """

    def __init__(self, shrinkage: float | None, beside: bool, device: torch.device | str) -> None:
        self.parts = [DiscriminantGates(shrinkage) for _ in range(1 + beside)]
        n = len(TEMPERATURES)
        self.costs = torch.zeros(len(self.parts), n, dtype=torch.float64, device=device)
        self.pools = torch.zeros(len(SHARES), n, dtype=torch.float64, device=device)

    def add_task(
        self,
        train: Sequence[Tensor],
        labels: Tensor,
        held: Sequence[Tensor],
        held_labels: Tensor,
    ) -> tuple[Tensor, Beside | None]:
        """Learn a task from all its samples, and find out whom to trust.

        Args:
            train, held: What each discriminant sees of training and validation samples, [n, D_i].

        Returns:
            As `evidence` for the validation samples, by training samples alone.
        """
        both = torch.cat([labels, held_labels])
        of_held = []
        for i, part in enumerate(self.parts):
            tried = deepcopy(part)
            tried.add_task(train[i], labels)
            of_held.append(tried.class_scores(held[i]))
            part.add_task(torch.cat([train[i], held[i]]), both)
        if len(of_held) > 1:
            costs = [negative_log_likelihood(own, held_labels) for own in of_held]
            self.costs = self.costs + torch.stack(costs)
            first, beside = self._in_units_of_the_first(of_held)
            self.pools = self.pools + pool_costs(beside, first, held_labels)
        return self._pool(of_held)

    def evidence(self, features: Sequence[Tensor]) -> tuple[Tensor, Beside | None]:
        """g_c of every class so far, [B, D_i] each -> float64 [B, C]; and w g_c2 T_1 / T_2 as what
        stays beside the first one."""
        each = zip(self.parts, features, strict=True)
        return self._pool([part.class_scores(seen) for part, seen in each])

    def _pool(self, each: list[Tensor]) -> tuple[Tensor, Beside | None]:
        if len(each) == 1:
            return each[0], None
        first, beside = self._in_units_of_the_first(each)
        w = SHARES[int(self.pools.argmin()) // len(TEMPERATURES)]
        stays = w * beside
        return (1.0 - w) * first + stays, Beside(1.0 - w, stays)

    def _in_units_of_the_first(self, each: list[Tensor]) -> tuple[Tensor, Tensor]:
        of_first, of_beside = (TEMPERATURES[k] for k in self.costs.argmin(1).tolist())
        return each[0], each[1] * (of_first / of_beside)

    def state_dict(self) -> dict[str, Tensor]:
        state = self.parts[0].state_dict()
        if len(self.parts) > 1:
            state |= under("beside.", self.parts[1].state_dict())
            state |= {"discriminant.costs": self.costs, "discriminant.pools": self.pools}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.parts[0].load_state_dict(state)
        if len(self.parts) > 1:
            self.parts[1].load_state_dict(below(state, "beside."))
            self.costs, self.pools = state["discriminant.costs"], state["discriminant.pools"]

    # nothing is drawn: learning goes on from what answers
    checkpoint, restore = state_dict, load_state_dict


class RidgeGates:
    """S_t as `margins` of a ridge regression on random features (RanPAC's classifier on h_0;
    McDonnell et al. 2023), so that exactly the best class's gate opens at thr_t = 0 (our use).

    Args:
        dim: D.
        projection: Random features M.
        generator: Draws them, and the samples on which the ridge parameter is chosen.
    """

    def __init__(
        self, dim: int, projection: int, generator: torch.Generator, device: torch.device | str
    ) -> None:
        self.ridge = RandomRidge(dim, projection, generator, device)
        self.classes_per_task: list[int] = []

    def add_task(self, features: Tensor, labels: Tensor) -> None:
        """Features [n, D] and labels [n] of one task."""
        classes, member = labels.unique(return_inverse=True)
        self.ridge.add(features, member, len(classes))
        self.classes_per_task.append(len(classes))

    def scores(self, features: Tensor) -> Tensor:
        """S_t for every task so far, [B, D] -> [B, N]."""
        return margins(self.ridge.scores(features), self.classes_per_task)

    def state_dict(self) -> dict[str, Tensor]:
        classes = torch.tensor(self.classes_per_task, dtype=torch.int64)
        return under("ridge.", self.ridge.state_dict()) | {"ridge_classes": classes}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.ridge.load_state_dict(below(state, "ridge."))
        self.classes_per_task = state["ridge_classes"].tolist()

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | under("ridge.", self.ridge.checkpoint())

    def restore(self, state: dict[str, Tensor]) -> None:
        self.ridge.restore(below(state, "ridge."))
        self.classes_per_task = state["ridge_classes"].tolist()
