"""Files that appear whole or not at all, locks, and SHA-256: each is done here, and only here."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILE = "writer.lock"
"""Of a directory that is being written (`snn_artsy.recording.lock`)."""
CONFIG_FILE, SUMMARY_FILE = "config.yaml", "summary.json"
"""Of the directory of a run or a comparison: what was asked for, and what came out."""

# Who looks whether a lock is held holds it for a moment (s).
_PATIENCE, _PAUSE = 0.2, 0.05


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` in full; one of a user whom the system does not know stays as it is."""
    return Path(os.path.expanduser(path))


class Lock:
    """The file ``path``, held from construction to `release`, and no longer than this process
    lives: the system drops it on any death. A context manager.

    Raises:
        TimeoutError: Another process, or another lock of this one, holds it.
        OSError: It can't be made.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock  # takes 40 ms, which no --help should

        if not path.parent.is_dir():  # or filelock would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
        self._lock = FileLock(path, timeout=_PATIENCE, thread_local=False)
        self._lock.acquire(poll_interval=_PAUSE)

    def release(self) -> None:
        """Remove the file, then let go."""
        if self._lock.is_locked:
            with suppress(OSError):  # a folder that is gone, or may no longer be written
                os.unlink(self._lock.lock_file)
            self._lock.release()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def whole(path: Path, part: Path | None = None) -> Iterator[Path]:
    """The temporary name to write a file or a directory under, which gets its own name at the end.
    After a failure or a signal nothing half written stays.

    Args:
        part: The temporary name; default: ``<name>.part``, for a place where nobody else writes.

    Raises:
        OSError: It can't be written.
    """
    part = part or path.with_name(f"{path.name}.part")
    # A leftover, or a link that somebody put there to have its target written over.
    remove(part)
    try:
        yield part
        publish(part, path)
    except BaseException:
        with suppress(OSError):
            remove(part)
        raise


def publish(part: Path, path: Path) -> None:
    """Put what was written on the disk, then rename it, so that it is seen whole or not at all.
    Where a directory is there already, its other files stay."""
    if part.is_dir() and path.is_dir():
        for file in part.iterdir():
            publish(file, path / file.name)
        part.rmdir()
        return
    _sync(part)
    os.replace(part, path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file, a link or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(pieces: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of all pieces, one after the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """As ``sha256sum`` has it.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as stream:
        return sha256(iter(lambda: stream.read(2**20), b""))
