"""Joint training: a linear probe that may see all data again at each step (upper bound)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import JointConfig
from snn_artsy.learners.base import (
    Batch,
    LabelledBatch,
    Learner,
    Prediction,
    Task,
    sizes,
    stored_bytes,
)
from snn_artsy.learners.state import number

# Largest entry of the gradient, in the coordinates of the iteration, below which a fit has
# converged; scikit-learn's default, too. To choose among powers of ten less will do.
TOLERANCE, OF_CHOICE = 1e-4, 1e-3
# Earlier steps that L-BFGS keeps.
HISTORY = 20


class MultinomialRegression:
    """Mean cross-entropy of multinomial logistic regression + ``l2/2 |W|^2``; its bias is free.

    L-BFGS runs along the features' principal axes, each divided by the square root of the curvature
    l2 + variance / C that a class has there at W = 0 (of which Boehning 1992 has a bound: in place
    of 1/C it has 1/2, and takes more iterations). How many iterations it takes then hardly depends
    on the features' scales.

    Args:
        features: float64 [n, D]. labels: int64 [n].
    """

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.labels, self.mean = labels, features.mean(0)
        centred = features - self.mean  # so that they have nothing to do with the bias
        variances, self.axes = torch.linalg.eigh(centred.T @ centred / len(features))
        self.variances = variances.clamp_min(0)
        self.rotated = centred @ self.axes

    def fit(
        self, start: Tensor, l2: float, max_iterations: int, tolerance: float = TOLERANCE
    ) -> tuple[Tensor, float]:
        """The minimum, sought from ``start``, on which it depends as far as the iteration has not
        converged.

        Args:
            start: (W, b), [C, D + 1], bias last.

        Returns:
            (W, b), [C, D + 1], and the largest entry of the gradient that is left: converged if
            below ``tolerance``.
        """
        n_classes = len(start)
        scale, of_bias = (self.variances / n_classes + l2).rsqrt(), n_classes**0.5
        x = F.pad(self.rotated * scale, (0, 1), value=of_bias)
        bias = start[:, -1:] + start[:, :-1] @ self.mean[:, None]
        weight = torch.cat([start[:, :-1] @ self.axes / scale, bias / of_bias], dim=1)
        weight.requires_grad_(True)
        optimiser = torch.optim.LBFGS(
            [weight],
            max_iter=max_iterations,
            history_size=HISTORY,
            tolerance_grad=tolerance,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            penalty = l2 / 2 * (weight[:, :-1] * scale).square().sum()
            loss = F.cross_entropy(x @ weight.T, self.labels) + penalty
            loss.backward()
            return loss

        optimiser.step(closure)
        closure()  # the line search may have looked elsewhere last
        assert weight.grad is not None
        found = weight.detach()[:, :-1] * scale @ self.axes.T
        bias = weight.detach()[:, -1:] * of_bias - found @ self.mean[:, None]
        return torch.cat([found, bias], dim=1), float(weight.grad.abs().max())


def best_place(right: Callable[[int], float], n: int, start: int | None) -> int:
    """Where ``right`` is largest among n places, of equal ones the first: of all places, or walking
    from ``start`` as long as it does not fall (to the first) or rises (to the last)."""
    if start is None:
        return max(range(n), key=right)
    k, most = start, right(start)
    while k > 0 and right(k - 1) >= most:
        k, most = k - 1, right(k - 1)
    if k == start:
        while k + 1 < n and right(k + 1) > most:
            k, most = k + 1, right(k + 1)
    return k


class JointProbe(Learner):
    """Multinomial logistic regression on h_0, fitted anew to all data seen so far.

    An upper bound for classifiers that are linear in the frozen features, not for methods that
    change the features. The penalty is the one with the highest accuracy on the validation samples
    seen so far, of equal ones that with the likeliest labels; the first task tries all of them,
    later ones walk from the last one chosen as long as that rises. Then training and validation
    samples are fitted together, as linear probes are commonly evaluated (Radford et al. 2021).
    """

    revisits = True

    def __init__(self, config: JointConfig, dim: int, device: str) -> None:
        self.config = config
        self.weight = torch.zeros(0, dim + 1, dtype=torch.float64, device=device)
        self.l2 = self.gradient = float("nan")
        self.tasks: list[Task] = []

    def learn(self, task: Task) -> None:
        self.tasks.append(task)
        train = _joined([t.train for t in self.tasks])
        held = _joined([t.validation for t in self.tasks])
        new = self.weight.new_zeros(len(task.classes), self.weight.shape[1])
        weight, self.l2 = self._chosen(train, held, torch.cat([self.weight, new]))
        both = MultinomialRegression(*(torch.cat(parts) for parts in zip(train, held, strict=True)))
        self.weight, self.gradient = both.fit(weight, self.l2, self.config.max_iterations)

    def _chosen(
        self, train: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], weight: Tensor
    ) -> tuple[Tensor, float]:
        """The best penalty on ``held``, and its fit; each fit starts from the last one."""
        grid, regression = sorted(self.config.l2, reverse=True), MultinomialRegression(*train)
        if not len(held[0]):  # of an online stream that has brought none yet
            return weight, grid[0]
        fits: dict[int, tuple[float, Tensor]] = {}  # by place in the grid

        def right(k: int) -> float:
            """Right answers, and below 1 the geometric mean of the labels' probabilities."""
            nonlocal weight
            if k not in fits:
                weight, _ = regression.fit(weight, grid[k], self.config.max_iterations, OF_CHOICE)
                scores = _scores(held[0], weight)
                likely = float(torch.exp(-F.cross_entropy(scores, held[1])))
                fits[k] = int((scores.argmax(1) == held[1]).sum()) + likely, weight
            return fits[k][0]

        k = best_place(right, len(grid), grid.index(self.l2) if self.l2 in grid else None)
        return fits[k][1], grid[k]

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.weight):
            raise RuntimeError("no classifier yet: learn a task first")
        return Prediction(_scores(batch.features.double(), self.weight).float())

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"l2": number(self.l2), "gradient": number(self.gradient)}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.weight, self.tasks = state["weight"], list(tasks)
        self.l2, self.gradient = float(state["l2"]), float(state["gradient"])

    def report(self) -> dict[str, Any]:
        report = sizes(self.weight.numel(), self.state_dict())
        for task in self.tasks:  # it could not go on without the data
            for part in (task.train, task.validation):
                report["stored_bytes"] += stored_bytes(
                    {"features": part.features, "labels": part.labels}
                )
        return report | {"joint_l2": self.l2, "joint_gradient": self.gradient}


def _joined(parts: list[LabelledBatch]) -> tuple[Tensor, Tensor]:
    features, labels = [p.features.double() for p in parts], [p.labels for p in parts]
    return torch.cat(features), torch.cat(labels)


def _scores(features: Tensor, weight: Tensor) -> Tensor:
    return F.linear(features, weight[:, :-1], weight[:, -1])
