"""Measures as they come: ``measures.jsonl`` in a run's directory, and TensorBoard if asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.evaluation.measures import StepAnswers, measure
from snn_artsy.recording.storage import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE, FOLDER = "measures.jsonl", "tensorboard"


class MeasureLog:
    """Adds a line after each task of each learner: ``{"learner": .., "step": .., measure: ..}``.

    Measures are those that a run which ended there would have. A run that goes on from a checkpoint
    leaves out what it learns again, so that every step is there once.

    Args:
        directory: Of the run.
        tensorboard: Also write event files, for each learner in a folder of its own.

    Raises:
        ConfigError: There is no package ``tensorboard``.
    """

    def __init__(self, directory: Path, tensorboard: bool = False) -> None:
        self.file, self.folder = directory / FILE, directory / FOLDER
        self.events: SummaryWriter | None = None
        self.tensorboard = tensorboard
        if tensorboard:
            require_tensorboard()

    def begin(self, learner: str, done: int) -> None:
        """A learner starts, or goes on after ``done`` tasks."""
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        kept = [line for line in lines if _stays(line, learner, done)]
        write_text(self.file, "".join(f"{line}\n" for line in kept))
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.events = SummaryWriter(str(self.folder / learner), purge_step=done)

    def step(
        self,
        learner: str,
        steps: list[StepAnswers],
        task_of_label: NDArray[np.int64],
        seconds: float,
    ) -> None:
        """The last of ``steps`` has been answered, ``seconds`` after the learner started."""
        known = task_of_label[: steps[-1].labels.max() + 1]
        values = scalars(measure(steps, known)) | {"seconds": seconds}
        line = {"learner": learner, "step": len(steps) - 1, **values}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")
        if self.events is not None:
            for name, value in values.items():
                self.events.add_scalar(name, value, len(steps) - 1)
            self.events.flush()

    def close(self) -> None:
        """The learner is done."""
        if self.events is not None:
            self.events.close()
            self.events = None


def scalars(measures: dict[str, Any]) -> dict[str, float]:
    """Measures that are one finite number."""
    found = {k: v for k, v in measures.items() if isinstance(v, int | float | np.number)}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def require_tensorboard() -> None:
    """Refuse (:class:`ConfigError`) where its writer cannot be imported."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "record.tensorboard",
            "tensorboard is not installed; pip install 'snn-artsy[tensorboard]'",
        ) from error


def _stays(line: str, learner: str, done: int) -> bool:
    try:
        entry = json.loads(line)
        return bool(entry["learner"] != learner or entry["step"] < done)
    except (ValueError, TypeError, KeyError):  # cut short by a kill
        return False
