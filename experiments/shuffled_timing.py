"""The spiking learner, presynaptic spikes shuffled in time inside each training presentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from snn_artsy.learners import Batch, Learner, Prediction, Setting, Task, build_snn, register
from snn_artsy.learners.shuffled import ShuffledAtEqualDensity


@register("shuffled_timing", label="Artsy SNN, shuffled timing")
class ShuffledTiming(Learner):
    """The control of that name, as a learner that a comparison takes."""

    def __init__(self, s: Setting) -> None:
        self.control = build_snn(s, "shuffled_timing")

    def learn(self, task: Task) -> None:
        self.control.after_epoch = self.after_epoch
        self.control.learn(task)

    def predict(self, batch: Batch) -> Prediction:
        return self.control.predict(batch)

    def state_dict(self) -> dict[str, Tensor]:
        return self.control.state_dict()

    def checkpoint(self) -> dict[str, Tensor]:
        return self.control.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.control.restore(state, tasks)

    def report(self) -> dict[str, Any]:
        return self.control.report()


@register("shuffled_timing_equal_density", label="Artsy SNN, shuffled timing at equal density")
class ShuffledTimingEqualDensity(ShuffledAtEqualDensity):
    """The same with as many functional contacts as the model."""

    def __init__(self, s: Setting) -> None:
        super().__init__(build_snn(s))
