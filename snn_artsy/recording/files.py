"""Opening files that are not trusted: what a run file cannot be is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_artsy.recording import schema, storage
from snn_artsy.recording.schema import DamageError, RecordingError

# Opening a file takes a tenth of a millisecond an object.
_MAX_OBJECTS = 50_000
_MAX_ATTRIBUTES, _MAX_TEXT = 1_000, 2**22  # of one object; bytes
_MAX_CHUNK = 2**20  # HDF5's own choice is at most that; a row of a table can be larger
# deflate packs at most 1032:1; a dataset that claims more is not backed by data
_MAX_RATIO = 1100
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
# up to here a file's checksum is verified whenever it is opened
SEAL_BYTES = 2**28


def check_seal(path: Path, of_any_size: bool = False) -> None:
    """Refuse a file that is not what its checksum says, before HDF5 sees it: damage in just the
    wrong place can make the HDF5 library itself loop. Larger files are only checked by ``resume``
    and ``sha256sum -c``, since that takes seconds a gigabyte."""
    small = path.stat().st_size <= SEAL_BYTES
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
    except (
        OSError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError,
        MemoryError,
    ) as error:  # fmt: skip
        raise RecordingError(f"{file.filename}: damaged ({error})") from error


def attributes_of(item: h5py.Group) -> dict[str, Any]:
    """Attributes by name, as Python's numbers and texts where they are that.

    Raises:
        RecordingError: There are more, or larger ones, than a run file has.
    """
    attributes = item.attrs
    sizes = (attributes.get_id(name).get_storage_size() for name in attributes)
    if len(attributes) > _MAX_ATTRIBUTES or sum(sizes) > _MAX_TEXT:
        raise RecordingError(f"{item.file.filename}: {item.name} has too many or large attributes")
    values = {name: attributes[name] for name in attributes}
    for name, value in values.items():
        if isinstance(value, (str, bytes)) and len(value) > _MAX_TEXT:
            raise RecordingError(f"{item.file.filename}: attribute {name} is too large")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise RecordingError(
                    f"{item.file.filename}: attribute {name} is no text in UTF-8"
                ) from error
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in values.items()
    }


def check_format(path: Path, attributes: Mapping[str, Any]) -> None:
    """Check that a run file's root attributes are those of this version."""
    named = attributes.get("format", "not named")
    if not isinstance(named, str) or named != schema.FORMAT:
        raise RecordingError(
            f"{path}: format {named}, expected {schema.FORMAT}; "
            "only runs recorded by snn-artsy can be opened"
        )
    version = attributes.get("format_version")
    if not isinstance(version, int) or version != schema.FORMAT_VERSION:
        raise RecordingError(
            f"{path}: format version {version!r}, but this release of snn-artsy reads version "
            f"{schema.FORMAT_VERSION}; install the release that made the run"
        )
    for name in ("status", "merged_segments", "config", "start"):
        if name not in attributes:
            raise RecordingError(f"{path}: attribute {name} is missing or of another type")
    check_attributes(path, "/", attributes)
    if attributes["status"] not in schema.STATUSES:
        raise RecordingError(f"{path}: attribute status is {attributes['status']!r}")
    try:
        datetime.fromisoformat(attributes["start"])
    except ValueError as error:
        raise RecordingError(f"{path}: attribute start is no date ({error})") from error


_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "text (JSON)": (str,),
    "text (YAML)": (str,),
    "int": (int,),
    "number or text": (int, float, str),
}


def check_attributes(path: Path, on: str, attributes: Mapping[str, Any]) -> None:
    """Check that attributes of an object (``on``, as in the schema) have the schema's types."""
    kinds = {a.name: a.kind for a in schema.ATTRIBUTES if a.on == on}
    others = next((kind for name, kind in kinds.items() if name.startswith("(")), None)
    for name, value in attributes.items():
        kind = kinds.get(name, others)
        if kind in _KINDS and not isinstance(value, _KINDS[kind]):
            raise RecordingError(
                f"{path}: attribute {name} is missing or of another type: {type(value).__name__}, "
                f"expected {kind}"
            )


def walk(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Everything in the file with its absolute path; refuses links that are not hard links."""
    waiting: list[tuple[str, h5py.h5g.GroupID]] = [("", file.id)]
    n = 0
    while waiting:
        prefix, group = waiting.pop()
        # h5py's objects of the lower level: its upper one takes twice the time
        for name in group:
            path = f"{prefix}/{name.decode()}"
            if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise RecordingError(f"{file.filename}: {path} is a link; run files hold none")
            item = h5py.h5o.open(group, name)
            n += 1
            # Hard links can form a cycle: bounded by the number of objects, not by trust.
            if n > _MAX_OBJECTS or path.count("/") > 8:
                raise RecordingError(f"{file.filename}: more objects or levels than a run file has")
            if isinstance(item, h5py.h5g.GroupID):
                waiting.append((path, item))
                yield path, h5py.Group(item)
            elif isinstance(item, h5py.h5d.DatasetID):
                yield path, h5py.Dataset(item)


def check_tree(file: h5py.File) -> dict[str, tuple[int, ...]]:
    """Shapes of all datasets, by path, whose types, axes and sizes are those of the schema."""
    path = file.filename
    shapes: dict[str, tuple[int, ...]] = {}
    axes: dict[tuple[str, str], int] = {}  # group and name of an axis -> its size there
    for name, item in walk(file):
        if not isinstance(item, h5py.Dataset):
            _check_group(path, name, item)
            continue
        if schema.is_group(name):
            raise RecordingError(f"{path}: {name} is a dataset, expected a group")
        entry = schema.lookup(name)
        shape = item.shape
        shapes[name] = shape
        properties = item.id.get_create_plist()
        if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
            raise RecordingError(f"{path}: {name} takes its data from another file")
        if entry is None:
            continue
        if not entry.is_kept_as(item.dtype) or (entry.shape and len(shape) != len(entry.shape)):
            raise RecordingError(
                f"{path}: {name} is {item.dtype} {shape}, expected {entry.dtype} "
                f"[{', '.join(entry.shape) or 'any'}]"
            )
        held, declared = item.id.get_storage_size(), item.nbytes
        if declared > _MAX_RATIO * held + 4096:
            raise RecordingError(
                f"{path}: {name} declares {declared} bytes but holds {held}; the file is damaged"
            )
        if properties.get_layout() == h5py.h5d.CHUNKED:
            chunk = math.prod(properties.get_chunk()) * item.dtype.itemsize
            if chunk > max(declared, _MAX_CHUNK):
                raise RecordingError(
                    f"{path}: {name} is kept in pieces of {chunk} bytes, of which it has "
                    f"{declared}; the file is damaged"
                )
            _check_packing(path, name, item, chunk)
        group, _, last = name.rpartition("/")
        if not entry.shape and len(shape) != schema.MEASURE_AXES.get(last, len(shape)):
            raise RecordingError(f"{path}: {name} has {len(shape)} axes")
        for axis, size in zip(entry.shape, shape, strict=False):
            expected = int(axis) if axis.isdigit() else axes.setdefault((group, axis), size)
            if size != expected:
                raise RecordingError(
                    f"{path}: {group} has columns of different length: {name} has {size} "
                    f"{'' if axis.isdigit() else axis}, expected {expected}"
                )
    return shapes


def _check_packing(path: str, name: str, item: h5py.Dataset, chunk_bytes: int) -> None:
    """Pieces are packed as run files pack them: each is unpacked as a whole, whatever it holds, and
    other filters are code from elsewhere."""
    properties = item.id.get_create_plist()
    filters = {properties.get_filter(k)[0] for k in range(properties.get_nfilters())}
    if not filters <= _FILTERS:
        raise RecordingError(
            f"{path}: {name} is packed by a filter that run files do not use: "
            f"{', '.join(map(str, sorted(filters - _FILTERS)))}"
        )
    sizes: list[int] = []
    item.id.chunk_iter(lambda piece: sizes.append(piece.size))
    if max(sizes, default=0) > 1.01 * chunk_bytes + 64:
        raise RecordingError(
            f"{path}: {name} has a piece of {max(sizes)} bytes in place of {chunk_bytes}; the file "
            "is damaged"
        )


def _check_group(path: str, name: str, item: h5py.Group) -> None:
    entry = schema.lookup(name)
    if entry is not None and not schema.is_group(name):
        raise RecordingError(f"{path}: {name} is a group, expected a dataset")
    levels = name.split("/")
    if levels[1] == "evaluation" and len(levels) == 3:
        measures = attributes_of(item)
        check_attributes(Path(path), "/evaluation/<learner>", measures)
        if wrong := set(measures) & set(schema.MEASURE_AXES):
            raise RecordingError(f"{path}: {name} has {wrong.pop()} as an attribute")
    if levels[1] == "spikes" and len(levels) == 3:
        sorting = attributes_of(item).get("sorting", 0)
        if np.shape(sorting) or sorting not in schema.SORTING.values():
            raise RecordingError(f"{path}: attribute sorting of {name} is {sorting!r}")


def check_values(path: Path, name: str, values: NDArray[Any]) -> None:
    """Refuse values that nothing can be made of: times that are none, codes without a meaning."""
    entry = schema.lookup(name)
    if entry is None or not values.size:
        return
    if entry.dtype in schema.ENUMS:
        known = len(h5py.check_enum_dtype(entry.numpy_dtype))
        wrong = values.max() >= known
    elif entry.numpy_dtype.kind == "f":
        # NaN is "none" there, and "does not apply" among measures
        wrong = entry.unit == "ms" and not name.endswith("/teacher_ms")
        wrong = wrong and not np.isfinite(values).all()
    else:
        # -1 is "none"; beyond 2**53 these would be no whole numbers among others
        wrong = values.dtype.kind in "iu" and (values.min() < -1 or values.max() > 2**53)
    if wrong:
        raise RecordingError(f"{path}: {name} holds values that cannot be; the file is damaged")


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
