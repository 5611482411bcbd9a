"""What a recorder is told, checked before it is kept: a value of another kind would be cut or wrap
around without a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_artsy.config import RecordConfig
from snn_artsy.printing import as_text
from snn_artsy.recording import schema

_KINDS = {
    "f": "fiub",
    "i": "iub",
    "u": "iub",
    "b": "b",
    "S": "S",
}  # NumPy's kinds that are taken for each
_SCALARS = (str, int, float, np.number, np.bool_)


def column(path: str, values: ArrayLike) -> NDArray[Any]:
    """A copy of an array in the file's type.

    Raises:
        ValueError: Its place, type, shape or values are not of the file format.
    """
    entry = schema.lookup(path)
    if entry is None or "\0" in path or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path}: not part of the file format; use a name without slashes")
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{path}: rows of unequal length") from error
    if entry.dtype == schema.TEXT:
        given = np.array([as_text(str(text)).encode() for text in given.tolist()], "S")
    if entry.shape and given.ndim != len(entry.shape):
        raise ValueError(f"{path}: got shape {given.shape}, expected [{', '.join(entry.shape)}]")
    if not given.size:  # NumPy has no other type for an empty list
        return np.zeros(given.shape, dtype=entry.numpy_dtype)
    if given.dtype.kind not in _KINDS[entry.numpy_dtype.kind]:
        raise ValueError(f"{path}: got {given.dtype}, expected {entry.dtype}")
    if entry.numpy_dtype.kind == "u":
        codes = h5py.check_enum_dtype(entry.numpy_dtype)
        most = np.iinfo(np.int64).max if codes is None else max(codes.values())
        if given.min() < 0 or given.max() > most:
            raise ValueError(f"{path}: values beyond 0 to {most}")
    if entry.unit == "ms" and not path.endswith("/teacher_ms") and not np.isfinite(given).all():
        raise ValueError(f"{path}: times that are NaN or infinite")
    return np.array(given, dtype=entry.numpy_dtype)


def columns(arrays: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """`column` of each."""
    return {path: column(path, values) for path, values in arrays.items()}


def check_scalars(where: str, values: Mapping[str, Any]) -> None:
    """Attributes: numbers and text by name.

    Raises:
        ValueError: Something else.
    """
    for name, value in values.items():
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(f"{where}: {name!r} is no name")
        if value is not None and not isinstance(value, _SCALARS):
            raise ValueError(
                f"{where}: {name} is a {type(value).__name__}, expected a number or text"
            )


def check_recorder(
    config_yaml: object,
    attributes: Mapping[str, Any],
    plan: object,
    buffer_bytes: float,
    recorded: Mapping[str, int] | None,
) -> None:
    """What a `RunRecorder` is made with.

    Raises:
        ValueError: Not what it is documented to take.
    """
    if not isinstance(config_yaml, str):
        raise ValueError(f"config_yaml: got {type(config_yaml).__name__}, expected YAML text")
    if not isinstance(plan, RecordConfig):
        raise ValueError(f"plan: got {type(plan).__name__}, expected a RecordConfig")
    if not buffer_bytes > 0:
        raise ValueError("buffer_bytes: use a size above 0")
    check_scalars("attributes", {k: v for k, v in attributes.items() if k != "versions"})
    if not isinstance(attributes.get("seed", 0), (int, np.integer)):
        raise ValueError(f"attributes: seed is {attributes['seed']!r}, expected a whole number")
    for path, rows in (recorded or {}).items():
        if schema.lookup(path) is None or not isinstance(rows, int) or rows < 0:
            raise ValueError(f"recorded: {path!r}: {rows!r} is no number of rows of a dataset")
