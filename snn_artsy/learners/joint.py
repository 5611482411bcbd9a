"""Joint training: a linear probe that may see all data again at each step (upper bound)."""

from __future__ import annotations

from collections.abc import Sequence
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

# mean gradient below which a fit counts as converged
TOLERANCE = 1e-6


def logistic_regression(
    features: Tensor, labels: Tensor, start: Tensor, l2: float, max_iterations: int
) -> Tensor:
    """Minimise mean cross-entropy + ``l2/2 |W|^2`` by L-BFGS; the bias is not penalised.

    Args:
        features: float64 [n, D]. labels: int64 [n].
        start: (W, b) to start from, [C, D + 1], bias last; the result depends on it only as far as
            the iteration has not converged.

    Returns:
        (W, b), [C, D + 1].
    """
    x = F.pad(features, (0, 1), value=1.0)
    weight = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [weight],
        max_iter=max_iterations,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(x @ weight.T, labels) + l2 / 2 * weight[:, :-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach()


class JointProbe(Learner):
    """Multinomial logistic regression on h_0, fitted anew to all data seen so far.

    An upper bound for classifiers that are linear in the frozen features, not for methods that
    change the features. The penalty is the one with the highest accuracy on the validation samples
    seen so far (of equal ones the strongest); then training and validation samples are fitted
    together, as linear probes are commonly evaluated (Radford et al. 2021).
    """

    def __init__(self, config: JointConfig, dim: int, device: str) -> None:
        self.config = config
        self.weight = torch.zeros(0, dim + 1, dtype=torch.float64, device=device)
        self.l2 = float("nan")
        self.tasks: list[Task] = []

    def learn(self, task: Task) -> None:
        self.tasks.append(task)
        x, y = _joined([t.train for t in self.tasks])
        x_held, y_held = _joined([t.validation for t in self.tasks])
        steps = self.config.max_iterations
        weight = self.weight.new_zeros(len(self.weight) + len(task.classes), x.shape[1] + 1)
        best, best_accuracy = weight, -1.0
        for l2 in sorted(self.config.l2, reverse=True):
            # each fit starts from that with the next stronger penalty
            weight = logistic_regression(x, y, weight, l2, steps)
            right = float((_scores(x_held, weight).argmax(1) == y_held).double().mean())
            if right > best_accuracy:
                best, best_accuracy, self.l2 = weight, right, l2
        x, y = torch.cat([x, x_held]), torch.cat([y, y_held])
        self.weight = logistic_regression(x, y, best, self.l2, steps)

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.weight):
            raise RuntimeError("no classifier yet: learn a task first")
        return Prediction(_scores(batch.features.double(), self.weight).float())

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"l2": number(self.l2)}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.weight, self.l2, self.tasks = state["weight"], float(state["l2"]), list(tasks)

    def report(self) -> dict[str, Any]:
        report = sizes(self.weight.numel(), self.state_dict())
        for task in self.tasks:  # it could not go on without the data
            for part in (task.train, task.validation):
                report["stored_bytes"] += stored_bytes(
                    {"features": part.features, "labels": part.labels}
                )
        return report | {"joint_l2": self.l2}


def _joined(parts: list[LabelledBatch]) -> tuple[Tensor, Tensor]:
    features, labels = [p.features.double() for p in parts], [p.labels for p in parts]
    return torch.cat(features), torch.cat(labels)


def _scores(features: Tensor, weight: Tensor) -> Tensor:
    return F.linear(features, weight[:, :-1], weight[:, -1])
