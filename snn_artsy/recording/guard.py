"""A first look at a file that may come from anywhere, by a process that may be lost.

Damage, or malice, in just the wrong place makes the HDF5 library loop for ever or take all memory,
which nothing in its own process can end. Whoever opens a file that is not their own looks at it
in a process of its own first, with a bound on time and memory.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_artsy.recording.files import (
    attributes_of,
    check_format,
    check_seal,
    check_tree,
    damage_in,
    open_checked,
    open_file,
)
from snn_artsy.recording.schema import RecordingError

_SECONDS = 5  # of computing
_BYTES = 2**28  # beyond what this process takes


def first_look(paths: Sequence[Path]) -> None:
    """Open run files as the reader does, in a process of its own. Does nothing on systems where a
    process cannot be forked.

    Raises:
        RecordingError: One of them is damaged, or costs more than any run file does.
    """
    if not paths or not hasattr(os, "fork"):
        return
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Threads of the mathematics libraries are not there in the new process, which needs none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reading)
        _look(paths, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        text = said.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    if text:
        raise RecordingError(text)
    if status:
        raise RecordingError(
            f"{paths[0]}: takes more time or memory to open than a run file does; it is damaged or "
            "no run file, copy it again"
        )


def read_attributes(path: Path) -> dict[str, Any]:
    """Root attributes of a run.h5 that is whole and of this format, by name, after a first look.

    Raises:
        RecordingError: It is not.
    """
    first_look([path])
    with open_checked(path) as file, damage_in(file):
        attributes = attributes_of(file)
    check_format(path, attributes)
    return attributes


def _look(paths: Sequence[Path], said: int) -> None:
    """Look at the files in the other process, and end it."""
    import resource  # here, since Windows has neither it nor fork

    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if pages := _pages():
            most = pages * resource.getpagesize() + _BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for path in paths:
            check_seal(path)
            with open_file(path) as file, damage_in(file):
                attributes_of(file)
                check_tree(file)
        code = 0
    except RecordingError as error:
        os.write(said, str(error).encode("utf-8", "replace")[:4000])
    finally:
        os._exit(code)


def _pages() -> int | None:
    """Of this process's address space; None on systems that do not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
