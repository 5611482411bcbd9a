"""Where a run goes: a directory of its own, never one that already holds something."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from snn_artsy.checks import ConfigError


def run_directory(out: str | None, label: str) -> Path:
    """Choose the directory of a new run; it is not created yet.

    Args:
        out: Directory asked for; None: ``runs/<date>-<time>-<label>``, numbered if taken.
        label: What the run is about, for its name.

    Raises:
        ConfigError: ``out`` holds files already, or can't be a directory.
    """
    if out is None:
        stem = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{label}"
        candidate, number = stem, 1
        while candidate.exists():
            number += 1
            candidate = stem.with_name(f"{stem.name}-{number}")
        return candidate
    path = Path(out).expanduser()
    for parent in (path, *path.parents):
        if parent.exists():
            if not parent.is_dir():
                raise ConfigError(f'out: "{parent}" is a file; give a directory')
            if not os.access(parent, os.W_OK):
                raise ConfigError(f'out: "{parent}" is not writable; give another directory')
            break
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(
            f'out: "{out}" already holds a run or other files, which were left as they are; '
            "give another directory"
        )
    return path
