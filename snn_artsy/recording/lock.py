"""One writer at a time: the lock of a directory, which also tells a killed run from a running one.

It is taken before anything in the directory is read, and held until the end.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from snn_artsy.files import LOCK_FILE
from snn_artsy.recording.schema import RecordingError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: no advisory locks; a killed run then keeps saying "running"
    fcntl = None

# A reader that looks whether somebody writes holds the lock for a moment.
_ATTEMPTS, _PAUSE = 5, 0.05


class WriterLock:
    """Held from its construction to `release`, and no longer than its process lives: the system
    drops it on any death. A context manager.

    Raises:
        RecordingError: Another process, or another lock of this one, holds it.
        OSError: The directory is not there, or not writable.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK_FILE
        self._descriptor = -1
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE if attempt else 0.0)
            if self._taken():
                return
        raise RecordingError(f"{directory}: another process is writing there")

    def _taken(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                self._descriptor = descriptor
                return True
        except (BlockingIOError, FileNotFoundError):
            pass  # held by another, or removed by one that has just ended
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return False

    def release(self) -> None:
        """Remove the lock's file, then let go."""
        if self._descriptor >= 0:
            with suppress(OSError):  # a folder that is gone, or may no longer be written
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def writer_alive(directory: Path) -> bool:
    """True if a process holds the writer's lock, or if that can't be known."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return True
    finally:
        os.close(descriptor)
