"""Files that a command makes of a run: each whole or not at all, and in nobody's place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.files import whole


def write_outputs(files: Mapping[Path, bytes], overwrite: bool = False) -> None:
    """Write files, their directories made if missing; what is the same already is left alone.

    Raises:
        ConfigError: Something else is there and not to be overwritten (nothing is written then), or
            a file can't be written.
    """
    if not overwrite:
        for path, content in files.items():
            if os.path.lexists(path) and not _holds(path, content):
                refuse(path)
    for path, content in files.items():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _holds(path, content):
                with whole(path) as part:
                    part.write_bytes(content)


def refuse(path: Path) -> None:
    """Refuse to write where something is already.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        "out",
        f'"{path}" exists and was left as it is; give another place with --out, or --overwrite',
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours.

    Raises:
        ConfigError: ``path`` can't be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            "out", f'"{path}" cannot be written ({error.strerror or error}); give another place'
        ) from error


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False
