"""Recording a run in one HDF5 file and reading it back; nothing in here needs torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_artsy.recording.reader import Run, open_run
    from snn_artsy.recording.schema import RecordingError
    from snn_artsy.recording.writer import RunRecorder

__all__ = ["RecordingError", "Run", "RunRecorder", "open_run"]

_HOME = {"RecordingError": "schema", "Run": "reader", "RunRecorder": "writer", "open_run": "reader"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
