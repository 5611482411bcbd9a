"""Interrupted runs: what their directories hold, and whether they can continue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.files import CONFIG_FILE, LOCK_FILE, SUMMARY_FILE
from snn_artsy.recording import schema, storage
from snn_artsy.recording.guard import read_attributes
from snn_artsy.recording.lock import WriterLock
from snn_artsy.recording.schema import RecordingError
from snn_artsy.runs import checkpoint
from snn_artsy.runs.directory import CHECKPOINT_FILE
from snn_artsy.runs.facts import Facts, config_differences
from snn_artsy.yaml_file import read_mapping, yaml_text

# What a run has in its directory before run.h5 is there.
_BEFORE = {CONFIG_FILE, LOCK_FILE, schema.SEGMENT_FOLDER, f"{schema.RUN_FILE}.sha256"}
# Patterns of the temporary files that a killed process can leave.
_PARTS = (
    f"{CONFIG_FILE}.part",
    f"{schema.RUN_FILE}*.part",
    f"{SUMMARY_FILE}.part",
    "test_images.safetensors.part",
    "measures.jsonl.part",
    f"{schema.SEGMENT_FOLDER}/*.h5*.part",
    f"{checkpoint.FOLDER}/*.safetensors.part",
    f"{checkpoint.FOLDER}/answers/*.safetensors.part",
    "state/*.safetensors.part",
)


@dataclass(frozen=True)
class Begun:
    """A run that can go on.

    Args:
        config: Its configuration.
        facts: What it began with; None: nothing was recorded yet.
        checkpoints: What it can go on from, newest first.
        damaged: What cannot be used, in words.
    """

    config: RunConfig
    facts: Facts | None = None
    checkpoints: list[checkpoint.Checkpoint] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@contextmanager
def locked(directory: Path, key: str) -> Iterator[WriterLock]:
    """Hold the lock of ``directory``, so that nobody else writes in it.

    Raises:
        ConfigError: Another process does, or it can't be written; begins with ``key``.
    """
    try:
        lock = WriterLock(directory)
    except RecordingError as error:
        raise ConfigError(
            key, f'"{directory}" is still being written by another process; wait, or stop it first'
        ) from error
    except OSError as error:
        raise ConfigError(key, f'"{directory}" cannot be written ({error.strerror})') from error
    with lock:
        yield lock


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Say how to go on with the run if the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (f"; {how}",)
        raise


def begin(directory: Path, config: RunConfig) -> None:
    """Put the configuration of a run that starts into its empty directory."""
    storage.write_text(directory / CONFIG_FILE, yaml_text(asdict(config)))


def withdraw(directory: Path) -> None:
    """Take back `begin`, if nothing was recorded since: a failure leaves no directory that is in
    the way of the next command."""
    if (directory / schema.RUN_FILE).exists():
        return
    with suppress(OSError):
        (directory / schema.RUN_FILE).with_suffix(".h5.sha256").unlink(missing_ok=True)
        (directory / CONFIG_FILE).unlink(missing_ok=True)
        (directory / schema.SEGMENT_FOLDER).rmdir()


def read_begun(directory: Path) -> Begun:
    """What is in a directory whose lock is held; nothing is changed but leftovers removed.

    Raises:
        ConfigError: No run there, a finished or a damaged one, or its parts do not belong together.
        RecordingError: A file cannot be read for now.
    """
    run_file = directory / schema.RUN_FILE
    if not run_file.is_file():
        others = {entry.name for entry in directory.iterdir()} - _BEFORE
        others -= {name for name in others if name.endswith(".part")}
        if others or not (directory / CONFIG_FILE).is_file():
            raise ConfigError(
                "run",
                f'"{directory}" holds no run that was begun: no {schema.RUN_FILE} there; give '
                "the directory of a run",
            )
        _remove_leftovers(directory)
        return Begun(_configuration(directory, None))
    _remove_leftovers(directory)
    try:
        attributes = read_attributes(run_file)
    except RecordingError as error:
        raise ConfigError(
            "run",
            f"{error}; or run it anew in another directory, with `--config "
            f"{directory / CONFIG_FILE} --out ...`",
        ) from error
    if attributes["status"] == schema.COMPLETE and not (directory / CHECKPOINT_FILE).is_file():
        raise ConfigError("run", f'"{directory}" is complete, there is nothing to resume')
    facts = Facts.of_attributes(attributes, "run", f'"{run_file}"')
    config = _configuration(directory, facts)
    if changed := config_differences(facts.config, asdict(config)):
        raise ConfigError(
            "run",
            f'"{directory / CONFIG_FILE}" is not what the run began with: '
            f"{'; '.join(changed)}; give it back its values, or start a new run",
        )
    checkpoints, damaged = checkpoint.load(directory)
    for kept in checkpoints:
        if kept.facts != facts:
            raise ConfigError(
                "checkpoint",
                f'that in "{directory}" is of another run; put its own back, or remove '
                f'"{directory / checkpoint.FOLDER}" to have this run begin again',
            )
    return Begun(config, facts, checkpoints, damaged)


def _configuration(directory: Path, facts: Facts | None) -> RunConfig:
    """Configuration in config.yaml, where images may have moved; without it, as recorded."""
    file = directory / CONFIG_FILE
    name = f'"{file if file.is_file() else directory / schema.RUN_FILE}"'
    if file.is_file():
        values = read_mapping(file, "run", name)
    else:
        assert facts is not None
        values = facts.config
    try:
        return build(RunConfig, {**values, "out": str(directory)})
    except ConfigError as error:
        raise ConfigError("run", f"{name}: {error}") from error


def _remove_leftovers(directory: Path) -> None:
    """Remove temporary files of a killed process."""
    for pattern in _PARTS:
        for part in directory.glob(pattern):
            part.unlink(missing_ok=True)
