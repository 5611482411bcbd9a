"""Checkpoints on disk, from which ``snn-artsy resume`` continues a run.

``checkpoint/run.safetensors`` holds the unfinished learner's tensors and, as JSON in its header,
everything else; ``settled.safetensors`` is the one from when the last learner was done, in case the
newer one gets damaged; ``answers/<learner>-<step>.safetensors`` are the answers after each task.
Every file appears whole (temporary name, sync, rename) and has a checksum of all it holds in its
header; nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from snn_artsy.backbone import pieces_of
from snn_artsy.checks import ConfigError
from snn_artsy.config_builder import build
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.files import sha256
from snn_artsy.recording import storage
from snn_artsy.recording.schema import DamageError, RecordingError
from snn_artsy.runs.directory import CHECKPOINT_FILE
from snn_artsy.runs.facts import Facts

FORMAT = "snn-artsy-checkpoint"
VERSION = 3
FOLDER, _FILE = CHECKPOINT_FILE.split("/")
_SETTLED = "settled.safetensors"


@dataclass
class Checkpoint:
    """Progress of a run, with everything that is needed to continue it.

    Args:
        facts: What the numbers depend on, as ``run.h5`` has it.
        recorded: Rows of each dataset of ``run.h5`` at this moment (`RunRecorder.recorded`).
        finished: Measures of the learners that are done.
        failed: Learners that were given up because their numbers were not finite, and where.
        states: SHA-256 of what each of them has learnt (`write_tensors`).
        controls: Measures of the controls that are done.
        learner: The learner at work; its ``state`` goes with it.
        step: Tasks that it has learnt and given answers after.
        answers: SHA-256 of its answers after each of them (`write_tensors`).
        seconds, seconds_learning: What it has taken so far (s).
        state: What it goes on from (`Learner.checkpoint`), and ``torch_rng``.
    """

    facts: Facts
    recorded: dict[str, int] = field(default_factory=dict)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)
    learner: str | None = None
    step: int = 0
    answers: list[str] = field(default_factory=list)
    seconds: float = 0.0
    seconds_learning: float = 0.0
    state: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, learner: str) -> None:
        """Note that this learner is at work from now on."""
        self.learner, self.step, self.answers, self.state = learner, 0, [], {}
        self.seconds = self.seconds_learning = 0.0

    def finish(self, measures: dict[str, Any]) -> None:
        """Note the measures of the learner at work, which is done."""
        assert self.learner is not None
        self.finished[self.learner] = measures
        self.learner, self.step, self.answers, self.state = None, 0, [], {}

    def fail(self, why: str) -> None:
        """Note why the learner at work was given up."""
        assert self.learner is not None
        self.failed[self.learner] = why
        self.learner, self.step, self.answers, self.state = None, 0, [], {}


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of the run in ``directory``.

    Raises:
        RecordingError: It can't be written.
    """
    plain = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint) if f.name != "state"}
    plain["facts"] = asdict(checkpoint.facts)
    header = {"format": FORMAT, "version": str(VERSION), "run": json.dumps(plain)}
    write_tensors(directory / FOLDER / _FILE, checkpoint.state, header)
    if checkpoint.learner is None:
        write_tensors(directory / FOLDER / _SETTLED, checkpoint.state, header)


def load(directory: Path) -> tuple[list[Checkpoint], list[str]]:
    """Checkpoints of the run in ``directory`` that are whole, newest first, and what is damaged.

    Raises:
        ConfigError: Not a checkpoint, or of another version.
        RecordingError: One cannot be read for now.
    """
    whole, damaged = [], []
    for name in (_FILE, _SETTLED):
        path = directory / FOLDER / name
        if path.is_file():
            try:
                whole.append(_load(path))
            except DamageError as error:
                damaged.append(str(error))
    return whole, damaged


def _load(path: Path) -> Checkpoint:
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise ConfigError("checkpoint", f'"{path}" is not a checkpoint of a run')
    if header.get("version") != str(VERSION):
        raise ConfigError(
            "checkpoint",
            f'"{path}" has version {header.get("version")}, this program reads '
            f"{VERSION}; finish the run with the program that began it, or start a new run",
        )
    if not header["sha256"]:
        raise DamageError(f"{path}: damaged (its checksum is missing)")
    try:
        checkpoint = build(Checkpoint, json.loads(header["run"]) | {"state": tensors})
    except (KeyError, TypeError, ValueError) as error:  # ConfigError is a ValueError
        raise ConfigError(
            "checkpoint",
            f'"{path}" does not hold what a checkpoint does ({error}); start a new run',
        ) from error
    sound = (
        all(isinstance(rows, int) and rows >= 0 for rows in checkpoint.recorded.values())
        and all(isinstance(measures, dict) for measures in checkpoint.finished.values())
        and all(isinstance(measures, dict) for measures in checkpoint.controls.values())
        and all(isinstance(why, str) for why in checkpoint.failed.values())
        and all(isinstance(digest, str) for digest in checkpoint.states.values())
        and checkpoint.step == len(checkpoint.answers)
    )
    if not sound:
        raise ConfigError(
            "checkpoint", f'"{path}" does not hold what a checkpoint does; start a new run'
        )
    return checkpoint


def save_answers(directory: Path, learner: str, step: int, answers: StepAnswers) -> str:
    """Store a learner's answers after task ``step``; returns their SHA-256."""
    columns = {f.name: getattr(answers, f.name) for f in fields(answers)}
    tensors = {name: torch.as_tensor(c) for name, c in columns.items() if c is not None}
    tensors["seconds"] = torch.tensor(answers.seconds, dtype=torch.float64)
    return write_tensors(_answers_file(directory, learner, step), tensors)


def load_answers(directory: Path, checkpoint: Checkpoint) -> list[StepAnswers]:
    """Answers of the learner at work, after each task that it has learnt.

    Raises:
        DamageError: They are missing, damaged, or not those that the checkpoint goes with.
        RecordingError: They cannot be read for now.
    """
    answers = []
    for step, digest in enumerate(checkpoint.answers):
        path = _answers_file(directory, str(checkpoint.learner), step)
        tensors, header = read_tensors(path)
        if header["sha256"] != digest:
            raise DamageError(f"{path}: not the answers that its checkpoint goes with")
        try:
            seconds = float(tensors.pop("seconds"))
            columns = {name: tensor.numpy() for name, tensor in tensors.items()}
            answers.append(StepAnswers(**columns, seconds=seconds))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DamageError(f"{path}: does not hold answers ({error})") from error
    return answers


def remove(directory: Path) -> None:
    """Remove the checkpoints of a finished run, which needs none."""
    # The main file goes after the settled one: without it, a run counts as done.
    for name in (_SETTLED, _FILE):
        (directory / FOLDER / name).unlink(missing_ok=True)
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def state_path(directory: Path, learner: str) -> Path:
    """Where a run keeps what a learner has learnt."""
    return directory / "state" / f"{learner}.safetensors"


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None
) -> str:
    """Write a whole safetensors file; returns the SHA-256 of its content, also in its header.

    Raises:
        RecordingError: It can't be written.
    """
    # copies: safetensors refuses tensors that share memory
    own = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    digest = _digest(own, header or {})
    with storage.whole(path) as part:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()  # safetensors gives its files to their owner alone, whatever the umask is
        mode = part.stat().st_mode
        try:
            save_file(own, part, {**(header or {}), "sha256": digest})
        except SafetensorError as error:
            raise OSError(str(error)) from error
        part.chmod(mode)
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote: tensors, and the header with its ``sha256``.

    Raises:
        DamageError: The file is missing, or not what was written.
        RecordingError: It cannot be read for now.
    """
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError as error:
        raise DamageError(f"{path}: missing") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = {name: text for name, text in header.items() if name != "sha256"}
        # older releases wrote no checksum; callers that know the header tell it from damage
        same = "sha256" not in header or header["sha256"] == _digest(tensors, told)
    except Exception as error:  # safetensors and torch name no exceptions for damaged files
        raise DamageError(f"{path}: damaged ({error})") from error
    if not same:
        raise DamageError(f"{path}: damaged (its checksum differs)")
    return tensors, {"sha256": "", **header}


def _digest(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """SHA-256 over the header, and over name, type, shape and bytes of every tensor."""
    return sha256([json.dumps(sorted(header.items())).encode(), *pieces_of(tensors.items())])


def _answers_file(directory: Path, learner: str, step: int) -> Path:
    return directory / FOLDER / "answers" / f"{learner}-{step}.safetensors"
