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
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.runs import checkpoint
from snn_artsy.runs.features import FeatureStream

# Share of a run's time that checkpoints may take, with what they have the recorder write; a task or
# an epoch that ends too soon after the last checkpoint gets none.
CHECKPOINT_SHARE = 0.05


@dataclass
class Checkpointer:
    """Writes a run's checkpoints, each with what was recorded until then."""

    directory: Path
    recorder: RunRecorder
    kept: checkpoint.Checkpoint
    device: str
    due: float = -math.inf
    steps: list[StepAnswers] = field(default_factory=list)  # of the learner that goes on
    answers: list[tuple[int, StepAnswers]] = field(default_factory=list)  # not on the disk yet

    def save(self) -> None:
        """A checkpoint, whatever it takes."""
        at = time.perf_counter()
        self.recorder.flush()
        self.kept.recorded = self.recorder.recorded
        checkpoint.save(self.directory, self.kept)
        now = time.perf_counter()
        self.due = now + (now - at) * (1 / CHECKPOINT_SHARE - 1)

    def begin(self, name: str, learner: Learner, frozen: FeatureStream) -> list[StepAnswers]:
        """A learner starts, or goes on from where it was: its answers so far."""
        kept, self.answers = self.kept, []
        if kept.learner != name:
            kept.begin(name)
            return []
        seen = [task for task, _ in frozen.tasks[: kept.step]]
        if kept.state:
            try:
                learner.restore({k: v.to(self.device) for k, v in kept.state.items()}, seen)
                torch.set_rng_state(kept.state["torch_rng"])
            except Exception as error:  # tensors of another shape or kind fail anywhere
                raise ConfigError(
                    f"checkpoint: it does not fit {name} ({error}); start a new run"
                ) from error
        return self.steps

    def learnt(
        self, learner: Learner, seconds: float, seconds_learning: float, answers: StepAnswers | None
    ) -> None:
        """After a task, with its answers, or after an epoch: a checkpoint, if one is due.

        Raises:
            NotFinite: The learner's state is not; it is not written then.
        """
        kept = self.kept
        assert kept.learner is not None
        if answers is not None:
            self.answers.append((kept.step, answers))
            kept.step += 1
        if time.perf_counter() < self.due:
            return
        state = learner.checkpoint()
        require_finite(f"checkpoint of {kept.learner}", state)
        for step, each in self.answers:
            kept.answers.append(checkpoint.save_answers(self.directory, kept.learner, step, each))
        self.answers = []
        kept.seconds, kept.seconds_learning = seconds, seconds_learning
        kept.state = state | {"torch_rng": torch.get_rng_state()}
        self.save()
