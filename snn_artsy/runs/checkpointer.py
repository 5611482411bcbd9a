"""When a run gets a checkpoint, and what is in it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from snn_artsy.checks import ConfigError, require_finite
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.learners.base import Learner
from snn_artsy.learners.tasks import Made
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.runs import checkpoint
from snn_artsy.runs.features import FeatureStream

# Largest share of a run's time for checkpoints, the recorder's writing included; a task or
# an epoch that ends too soon after the last checkpoint gets none.
CHECKPOINT_SHARE = 0.05


@dataclass
class Checkpointer:
    """Writes a run's checkpoints, each with what was recorded until then."""

    directory: Path
    recorder: RunRecorder
    latest: checkpoint.Checkpoint
    device: str
    due: float = -math.inf
    steps: list[StepAnswers] = field(default_factory=list)  # of the learner that goes on
    answers: list[tuple[int, StepAnswers]] = field(default_factory=list)  # not on the disk yet

    def save(self) -> None:
        """Write a checkpoint now, however short a time ago the last one was."""
        at = time.perf_counter()
        self.recorder.flush()
        self.latest.recorded = self.recorder.recorded
        checkpoint.save(self.directory, self.latest)
        now = time.perf_counter()
        self.due = now + (now - at) * (1 / CHECKPOINT_SHARE - 1)

    def begin(self, name: str, learner: Learner, features: FeatureStream) -> list[StepAnswers]:
        """Start a learner, or restore it where it was; its answers so far are returned."""
        latest, self.answers = self.latest, []
        if latest.learner != name:
            latest.begin(name)
            return []
        tasks = Made(lambda t: features.tasks[t][0], range(latest.step))
        if latest.state:
            try:
                learner.restore({k: v.to(self.device) for k, v in latest.state.items()}, tasks)
                torch.set_rng_state(latest.state["torch_rng"])
            except Exception as error:  # tensors of another shape or kind fail anywhere
                raise ConfigError(
                    "checkpoint", f"it does not fit {name} ({error}); start a new run"
                ) from error
        return self.steps

    def learnt(
        self, learner: Learner, seconds: float, seconds_learning: float, answers: StepAnswers | None
    ) -> None:
        """Write a checkpoint after a task (with its answers) or an epoch, if one is due.

        Raises:
            NotFinite: The learner's state is not finite; it is not written then.
        """
        latest = self.latest
        assert latest.learner is not None
        if answers is not None:
            self.answers.append((latest.step, answers))
            latest.step += 1
        if time.perf_counter() < self.due:
            return
        state = learner.checkpoint()
        require_finite(f"checkpoint of {latest.learner}", state)
        for step, each in self.answers:
            latest.answers.append(
                checkpoint.save_answers(self.directory, latest.learner, step, each)
            )
        self.answers = []
        latest.seconds, latest.seconds_learning = seconds, seconds_learning
        latest.state = state | {"torch_rng": torch.get_rng_state()}
        self.save()
