"""Where a run goes: a directory of its own, which no other process takes at the same time."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.files import CONFIG_FILE, LOCK_FILE, SUMMARY_FILE, at_home

CHECKPOINT_FILE = "checkpoint/run.safetensors"

# Files that a killed process can leave before a run has begun.
_LEFT = {LOCK_FILE, f"{CONFIG_FILE}.part"}
# Longest label in a name that is made here; file systems allow names of 255 bytes.
_LABEL_LENGTH = 60


def check_out(out: str | None) -> None:
    """Find out before the long imports whether ``out`` can hold a run, a begun one included.

    Raises:
        ConfigError: It can't be a directory, or holds a finished run or other files.
    """
    if out is None:
        return
    path = at_home(out)
    try:
        for parent in (path, *path.parents):
            if parent.exists():
                if not parent.is_dir():
                    raise ConfigError("out", f'"{parent}" is a file; give a directory')
                if not os.access(parent, os.W_OK):
                    raise ConfigError("out", f'"{parent}" is not writable; give another directory')
                break
        if not path.is_dir() or is_empty(path):
            return
        there = {entry.name for entry in path.iterdir()}
        done = is_finished(path)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    if done:
        raise ConfigError("out", f'"{out}" holds a finished run; give another directory')
    if not there & {CONFIG_FILE, "run.h5"}:
        raise ConfigError(
            "out",
            f'"{out}" already holds other files, which were left as they are; '
            "give another directory",
        )


def is_finished(directory: Path) -> bool:
    """Whether the run there is done: it has a summary, and no checkpoint to go on from."""
    return (directory / SUMMARY_FILE).is_file() and not (directory / CHECKPOINT_FILE).is_file()


def is_empty(directory: Path) -> bool:
    """Whether it holds only what a killed process can leave before a run has begun.

    Raises:
        OSError: It can't be read.
    """
    return all(entry.name in _LEFT for entry in directory.iterdir())


def claim(out: str | None, label: str) -> tuple[Path, list[Path]]:
    """Make the directory of a run.

    Args:
        out: Directory asked for; None: ``runs/<date>-<time>-<label>``, numbered if taken, so that
            runs begun in the same second get one each.
        label: What the run is about, for its name.

    Returns:
        The directory, and those that were made just now, innermost first: it and its parents.

    Raises:
        ConfigError: It can't be made.
    """
    if out is not None:
        path = at_home(out)
        try:
            parents = _made_parents(path)
            return path, [path, *parents] if _made(path) else parents
        except (OSError, ValueError) as error:
            raise _unusable(path, error) from error
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", label)[:_LABEL_LENGTH]
    stem = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{word}"
    candidate, number = stem, 1
    try:
        parents = _made_parents(stem)
        while not _made(candidate):
            number += 1
            candidate = stem.with_name(f"{stem.name}-{number}")
    except (OSError, ValueError) as error:
        raise _unusable(stem, error) from error
    return candidate, [candidate, *parents]


def give_back(made: list[Path]) -> None:
    """Remove directories that `claim` made and that stayed empty: nothing came of the run."""
    for directory in made:
        try:
            directory.rmdir()
        except OSError:  # not empty: there is something to go on from
            return


def _made_parents(path: Path) -> list[Path]:
    """Parents of ``path`` that were missing and are made here, innermost first."""
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _made(path: Path) -> bool:
    """Whether ``path`` was made here; False if it was there."""
    try:
        path.mkdir(parents=True)  # another process may have given back the parents meanwhile
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    return True


def _unusable(path: Path, error: OSError | ValueError) -> ConfigError:
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}..."
    # a ValueError means a character that no path can have
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError("out", f"{shown!r} cannot be used ({reason}); give another directory")
