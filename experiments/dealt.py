"""Learners that show each image of a new task to one earlier sub-network (``ann.earlier: dealt``).

    PYTHONPATH=experiments snn-artsy compare --own dealt:EaseDealt --learners ease,ease_dealt ...

A comparison has one configuration; with these it pairs learners that differ in nothing else, which
have the same sub-networks. Their configuration has ``ann.earlier: all``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from snn_artsy.learners import Batch, Learner, Prediction, Setting, Task, build, register


class Dealt(Learner):
    """The learner of that name with ``ann.earlier: dealt``."""

    of: ClassVar[str]

    def __init__(self, s: Setting) -> None:
        ann = replace(s.config.ann, earlier="dealt")
        self.learner = build(self.of, replace(s, config=replace(s.config, ann=ann)))

    def learn(self, task: Task) -> None:
        self.learner.after_epoch = self.after_epoch
        self.learner.learn(task)

    def predict(self, batch: Batch) -> Prediction:
        return self.learner.predict(batch)

    def state_dict(self) -> dict[str, Tensor]:
        return self.learner.state_dict()

    def checkpoint(self) -> dict[str, Tensor]:
        return self.learner.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.learner.restore(state, tasks)

    def report(self) -> dict[str, Any]:
        return self.learner.report()


@register("ease_dealt", label="EASE, dealt")
class EaseDealt(Dealt):
    of = "ease"


@register("artsy_ann_dealt", label="Artsy (ANN), dealt")
class ArtsyANNDealt(Dealt):
    of = "artsy_ann"


@register("artsy_best_dealt", label="Artsy (best gate), dealt")
class ArtsyBestDealt(Dealt):
    of = "artsy_best"
