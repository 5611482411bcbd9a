"""Files that a command makes of a run: each whole or not at all, and in nobody's place."""

from __future__ import annotations

import errno
import os
import stat
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


def check_free(path: Path, overwrite: bool) -> None:
    """Look whether a file can be written, before there is anything to write.

    Raises:
        ConfigError: Something is there and not to be overwritten, or is a directory; or the place
            is below a file, or somebody else's.
    """
    if os.path.lexists(path) and not overwrite:
        refuse(path)
    with writing(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = 0
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(above, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def refuse(path: Path) -> None:
    """Refuse to write where something is already.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        "out",
        f'"{path}" exists and was left as it is; give another place, or --overwrite',
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
