"""What the cost model says of a run is what is multiplied in it, counted where it is done."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import layered
from snn_artsy.learners import Setting
from snn_artsy.learners import build as build_learner
from snn_artsy.learners.base import LabelledBatch, Split, Task
from snn_artsy.learners.tasks import join
from snn_artsy.recording.estimate import TaskSize
from snn_artsy.runs.cost import beside, work

DIM, CLASSES, TRAIN, TEST = 96, 4, 200, 80  # classes and samples of a task, of which there are 3
SETTINGS: dict[str, Any] = {
    "ann.bottleneck": 16, "ann.gate_hidden": 16, "ann.epochs": 4, "ann.batch_size": 20,
    "gate.pseudo_per_class": 8, "snn.neuron.per_class": 4,
}  # fmt: skip


class Multiplications(TorchDispatchMode):
    """Those of products of matrices, of factors and of what these solve; twice in double."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name, shapes = func._schema.name, [a.shape for a in args if isinstance(a, torch.Tensor)]
        if name in ("aten::mm", "aten::bmm", "aten::mv", "aten::dot"):
            n = prod(shapes[0]) * (shapes[1][-1] if len(shapes[1]) > 1 else 1)
        elif name in ("aten::addmm", "aten::addmm_", "aten::addmv"):
            n = prod(shapes[1]) * (shapes[2][-1] if len(shapes[2]) > 1 else 1)
        elif name == "aten::linalg_cholesky_ex":
            n = shapes[0][0] ** 3 / 6
        elif name == "aten::linalg_solve_triangular":
            n = shapes[0][0] ** 2 * shapes[1][1] / 2
        elif name == "aten::_linalg_solve_ex":
            n = shapes[0][0] ** 3 / 3 + shapes[0][0] ** 2 * shapes[1][1]
        else:
            return found
        self.n += n * (2 if args[0].dtype == torch.float64 else 1)
        return found


def stream() -> tuple[list[Task], list[LabelledBatch]]:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3 * CLASSES, DIM, generator=generator)

    def batch(t: int, n: int, split: Split) -> LabelledBatch:
        labels = t * CLASSES + CLASSES - 1 - torch.arange(n) % CLASSES
        features = means[labels] + torch.randn(n, DIM, generator=generator)
        return LabelledBatch(features, 1000 * t + torch.arange(n), split, labels=labels)

    tasks = [
        Task(
            t,
            tuple(range(t * CLASSES, (t + 1) * CLASSES)),
            batch(t, TRAIN, "train"),
            batch(t, 20, "validation"),
        )
        for t in range(3)
    ]
    return tasks, [batch(t, TEST, "test") for t in range(3)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("simplecil", {}),
        ("artsy_ann", {}),
        ("artsy_ann", {"gate.pseudo_per_class": 60}),
        ("artsy_ann_lda", {}),
        ("artsy_ann_ridge", {"artsy_ridge.projection": 120}),
        ("ranpac", {"ranpac.projection": 120}),
        ("ranpac", {"ranpac.projection": 400}),
        ("artsy_snn", {}),
    ],
)
def test_a_forecast_counts_what_is_multiplied(name: str, settings: dict[str, Any]) -> None:
    config = build(RunConfig, layered(SETTINGS | settings))
    learner = build_learner(name, Setting(config, DIM, "cpu"))
    tasks, tests = stream()
    with Multiplications() as counted:
        for t, task in enumerate(tasks):
            learner.learn(task)
            learner.predict(join(tests[: t + 1]))
    sizes = [TaskSize(CLASSES, TRAIN, TEST)] * 3
    foretold = work(name, config, DIM, sizes)[0] + beside(name, config, DIM, sizes)[0]
    assert 0.65 < foretold / counted.n < 1.3
