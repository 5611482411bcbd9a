"""How far a run has come, on the disk: what ``snn-artsy resume`` goes on from.

``checkpoint/run.safetensors`` holds the unfinished learner's tensors and, as JSON in its header,
everything else; ``checkpoint/answers/<learner>-<step>.safetensors`` the answers after each task.
Every file appears whole (temporary name, sync, rename), and nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.recording import storage

FORMAT = "snn-artsy-checkpoint"
VERSION = 1
FOLDER = "checkpoint"
_FILE = "run.safetensors"


@dataclass
class Checkpoint:
    """How far a run has come.

    Args:
        config: The configuration, as plain data.
        facts: What else the numbers depend on: ``device``, ``backbone_sha256``.
        recorded: Rows of each dataset of ``run.h5`` at this moment (`RunRecorder.recorded`).
        finished: Measures of the learners that are done.
        failed: Learners that were given up because their numbers were not finite, and where.
        controls: Measures of the controls that are done.
        learner: The learner at work; its ``state`` goes with it.
        step: Tasks that it has learnt and given answers after.
        seconds, seconds_learning: What it has taken so far (s).
        state: What it goes on from (`Learner.checkpoint`), and ``torch_rng``.
    """

    config: dict[str, Any]
    facts: dict[str, Any]
    recorded: dict[str, int] = field(default_factory=dict)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)
    learner: str | None = None
    step: int = 0
    seconds: float = 0.0
    seconds_learning: float = 0.0
    state: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, learner: str) -> None:
        """Another learner is at work."""
        self.learner, self.step, self.state = learner, 0, {}
        self.seconds = self.seconds_learning = 0.0

    def finish(self, measures: dict[str, Any]) -> None:
        """The learner at work is done."""
        assert self.learner is not None
        self.finished[self.learner] = measures
        self.learner, self.state = None, {}

    def fail(self, why: str) -> None:
        """The learner at work is given up."""
        assert self.learner is not None
        self.failed[self.learner] = why
        self.learner, self.state = None, {}


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of the run in ``directory``.

    Raises:
        RecordingError: It can't be written.
    """
    plain = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint) if f.name != "state"}
    header = {"format": FORMAT, "version": str(VERSION), "run": json.dumps(plain)}
    write_tensors(directory / FOLDER / _FILE, checkpoint.state, header)


def load(directory: Path) -> Checkpoint | None:
    """The checkpoint of the run in ``directory``; None if there is none.

    Raises:
        ConfigError: Not a checkpoint, damaged, or of a newer version.
    """
    path = directory / FOLDER / _FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        if header.get("format") != FORMAT:
            raise ConfigError(f'checkpoint: "{path}" is not a checkpoint of a run')
        if int(header["version"]) > VERSION:
            raise ConfigError(
                f'checkpoint: "{path}" has version {header["version"]}, this program reads up to '
                f"{VERSION}; use the program that wrote it, or a newer one"
            )
        plain = json.loads(header["run"])
        return Checkpoint(**plain, state=load_file(path))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f'checkpoint: "{path}" is damaged ({error})') from error


def save_answers(directory: Path, learner: str, step: int, answers: StepAnswers) -> None:
    """Keep a learner's answers after task ``step``."""
    columns = {f.name: getattr(answers, f.name) for f in fields(answers)}
    tensors = {name: torch.as_tensor(c) for name, c in columns.items() if c is not None}
    tensors["seconds"] = torch.tensor(answers.seconds, dtype=torch.float64)
    write_tensors(_answers_file(directory, learner, step), tensors)


def load_answers(directory: Path, learner: str, steps: int) -> list[StepAnswers]:
    """A learner's answers after tasks 0 .. ``steps`` - 1.

    Raises:
        ConfigError: They are missing or damaged.
    """
    found = []
    for step in range(steps):
        path = _answers_file(directory, learner, step)
        try:
            tensors = load_file(path)
            seconds = float(tensors.pop("seconds"))
            found.append(StepAnswers(**{k: v.numpy() for k, v in tensors.items()}, seconds=seconds))
        except (SafetensorError, KeyError, TypeError, OSError) as error:
            raise ConfigError(f'checkpoint: "{path}" is missing or damaged ({error})') from error
    return found


def remove(directory: Path) -> None:
    """A finished run needs no checkpoint."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None
) -> None:
    """A safetensors file that appears whole.

    Raises:
        RecordingError: It can't be written.
    """
    # copies: safetensors refuses tensors that share memory
    own = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with storage.whole(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(own, part, header)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: theirs, now ours`` for every value that differs between two configurations."""
    found = []
    for key in sorted({*ours, *theirs}):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {b!r} and is {a!r}")
    return found


def _answers_file(directory: Path, learner: str, step: int) -> Path:
    return directory / FOLDER / "answers" / f"{learner}-{step}.safetensors"
