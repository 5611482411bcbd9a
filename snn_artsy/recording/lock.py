"""Whether a run is still being written, so that a killed one is not taken for a running one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from snn_artsy.recording.schema import SEGMENT_FOLDER, RecordingError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows: no advisory locks; a killed run then keeps saying "running"
    fcntl = None

CAN_LOCK: bool = fcntl is not None
"""Whether a running writer can be told from a killed one."""

_NAME = "writer.lock"


class WriterLock:
    """Held as long as the writer's process lives: the system drops it on any death."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(
            directory / SEGMENT_FOLDER / _NAME, os.O_RDWR | os.O_CREAT, 0o644
        )
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._descriptor)
                raise RecordingError(f"{directory}: another process is writing there") from error

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def writer_alive(directory: Path) -> bool:
    """True if a process holds the writer's lock, or if that can't be known."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(directory / SEGMENT_FOLDER / _NAME, os.O_RDONLY)
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
