"""One writer at a time: the lock of a directory, which also tells a killed run from a running one.

It is taken before anything in the directory is read, and held until the end.
"""

from __future__ import annotations

from pathlib import Path

from snn_artsy.files import LOCK_FILE, Lock
from snn_artsy.recording.schema import RecordingError


class WriterLock(Lock):
    """The lock of ``directory``.

    Raises:
        RecordingError: Another process, or another lock of this one, holds it.
        OSError: The directory is not there, or not writable.
    """

    def __init__(self, directory: Path) -> None:
        try:
            super().__init__(directory / LOCK_FILE)
        except TimeoutError as error:
            raise RecordingError(f"{directory}: another process is writing there") from error


def writer_alive(directory: Path) -> bool:
    """True if a process holds the writer's lock, or if that can't be known; what a killed one has
    left of it is removed."""
    if not (directory / LOCK_FILE).exists():
        return False
    try:
        WriterLock(directory).release()
    except (RecordingError, OSError):
        return True
    return False
