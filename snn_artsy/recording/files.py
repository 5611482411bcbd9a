"""Opening files that are not trusted: what a run file cannot be is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_artsy.recording import schema, storage
from snn_artsy.recording.schema import DamageError, RecordingError

_MAX_OBJECTS = 100_000
# deflate packs at most 1032:1; a dataset that claims more is not backed by data
_MAX_RATIO = 1100
# up to here a file's checksum is verified whenever it is opened
_SEAL_BYTES = 2**28


def check_seal(path: Path, of_any_size: bool = False) -> None:
    """Refuse a file that is not what its checksum says, before HDF5 sees it: damage in just the
    wrong place can make the HDF5 library itself loop. Large files are only checked by ``snn-artsy
    info`` and ``resume``, since that takes seconds a gigabyte."""
    small = path.stat().st_size <= _SEAL_BYTES
    if (small or of_any_size) and storage.intact(path) is False:
        raise DamageError(
            f"{path}: damaged, its checksum is not that of {storage.checksum_file(path).name}; "
            "copy it again, or delete that file if you changed this one on purpose"
        )


def open_file(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordingError(
            f"{path}: not a readable HDF5 file (truncated or another format): {error}"
        ) from error


@contextmanager
def damage_in(file: h5py.File) -> Iterator[None]:
    """Turn what h5py raises on a damaged file (nearly anything) into a RecordingError."""
    try:
        yield
    except RecordingError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise RecordingError(f"{file.filename}: damaged ({error})") from error


def attributes_of(item: h5py.Group) -> dict[str, Any]:
    values = {name: item.attrs[name] for name in item.attrs}
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
    }


def check_format(path: Path, attributes: Mapping[str, Any]) -> None:
    if attributes.get("format") != schema.FORMAT:
        raise RecordingError(
            f"{path}: format {attributes.get('format', 'not named')}, expected {schema.FORMAT}; "
            "only runs recorded by snn-artsy can be opened"
        )
    version = attributes.get("format_version")
    if version != schema.FORMAT_VERSION:
        raise RecordingError(
            f"{path}: format version {version!r}, but this release of snn-artsy reads version "
            f"{schema.FORMAT_VERSION}; install the release that made the run"
        )
    for name, kind in (("status", str), ("merged_segments", int)):
        if not isinstance(attributes.get(name), kind):
            raise RecordingError(f"{path}: attribute {name} is missing or of another type")


def walk(file: h5py.File) -> list[tuple[str, h5py.Group | h5py.Dataset]]:
    """Everything in the file with its absolute path; refuses links that are not hard links."""
    found: list[tuple[str, h5py.Group | h5py.Dataset]] = []
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            path = f"{prefix}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RecordingError(f"{file.filename}: {path} is a link; run files hold none")
            item = group[name]
            found.append((path, item))
            # Hard links can form a cycle: bounded by the number of objects, not by trust.
            if len(found) > _MAX_OBJECTS or path.count("/") > 8:
                raise RecordingError(f"{file.filename}: more objects or levels than a run file has")
            if isinstance(item, h5py.Group):
                waiting.append((path, item))
    return found


def check_tree(file: h5py.File) -> None:
    """Types, axes and sizes are those of the schema."""
    path = file.filename
    for name, item in walk(file):
        entry = schema.lookup(name)
        if not isinstance(item, h5py.Dataset):
            if entry is not None and entry.shape:
                raise RecordingError(f"{path}: {name} is a group, expected a dataset")
            continue
        if item.is_virtual or item.external:
            raise RecordingError(f"{path}: {name} takes its data from another file")
        if entry is None:
            continue
        if item.dtype != entry.numpy_dtype or (entry.shape and item.ndim != len(entry.shape)):
            raise RecordingError(
                f"{path}: {name} is {item.dtype} {item.shape}, expected {entry.dtype} "
                f"[{', '.join(entry.shape) or 'any'}]"
            )
        held = item.id.get_storage_size()
        if item.nbytes > _MAX_RATIO * held + 4096:
            raise RecordingError(
                f"{path}: {name} declares {item.nbytes} bytes but holds {held}; the file is damaged"
            )


@contextmanager
def open_checked(path: Path) -> Iterator[h5py.File]:
    """A run.h5 or a segment, alone: whole, of this format, and with links to nowhere else.

    Raises:
        RecordingError: It is not.
    """
    check_seal(path, of_any_size=True)
    with open_file(path) as file:
        with damage_in(file):
            check_tree(file)
        yield file


def read_attributes(path: Path) -> dict[str, Any]:
    """Root attributes of a run.h5 that is whole and of this format, by name.

    Raises:
        RecordingError: It is not.
    """
    with open_checked(path) as file, damage_in(file):
        attributes = attributes_of(file)
    check_format(path, attributes)
    return attributes


def read_values(
    dataset: h5py.Dataset, rows: slice = slice(None), columns: slice | None = None
) -> NDArray[Any]:
    chosen = () if not dataset.ndim else rows if columns is None else (rows, columns)
    values = np.asarray(dataset[chosen])
    # h5py marks enumerations in the type; to their user they are plain codes.
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def first_at(times: h5py.Dataset, value: float) -> int:
    """Position of the first time >= value in a sorted dataset, by bisection on the disk."""
    if value == -np.inf:
        return 0
    low, high = 0, len(times)
    if value == np.inf:
        return high
    while low < high:
        middle = (low + high) // 2
        if times[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
