"""Low-level pieces of the writer: datasets as the schema wants them, files that appear whole."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_artsy import files
from snn_artsy.recording import schema

CHUNK_BYTES = 2**17  # a compromise between compression, small runs and reading a slice of spikes
MERGE_BYTES = 2**20  # set aside for a merge, besides the size of what is merged


def store(file: h5py.File, path: str, values: NDArray[Any], more: bool = True) -> None:
    """Append ``values`` to a growing dataset, or write (replace) one that is written once.

    Args:
        more: Whether other rows may follow; without, nothing is set aside for them.
    """
    entry = _entry(path)
    if entry.shape and values.ndim != len(entry.shape):
        raise schema.RecordingError(
            f"{path}: got an array of shape {values.shape}, expected [{', '.join(entry.shape)}]"
        )
    if entry.grows and path in file:
        dataset = file[path]
        if dataset.shape[1:] != values.shape[1:]:
            raise schema.RecordingError(
                f"{path}: rows of shape {values.shape[1:]} after rows of shape {dataset.shape[1:]}"
            )
        rows = dataset.shape[0]
        dataset.resize(rows + len(values), axis=0)
        dataset[rows:] = values
        return
    if path in file:
        del file[path]
    options: dict[str, Any] = {}
    if entry.grows:
        row_bytes = max(1, values.dtype.itemsize * int(np.prod(values.shape[1:])))
        rows = max(1, CHUNK_BYTES // row_bytes)
        rows = rows if more else max(1, min(rows, len(values)))
        options = {"maxshape": (None, *values.shape[1:]), "chunks": (rows, *values.shape[1:])}
    # libsonata's wheels (0.2) are built without deflate: what SONATA tools read stays uncompressed.
    packed = not path.startswith("/spikes/")
    if not packed:
        options["fletcher32"] = True  # damage shows, as it does in deflated data
    if packed and values.size and (entry.grows or values.nbytes >= 4096):
        options |= {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    kept_as = entry.numpy_dtype
    if entry.dtype == schema.TEXT:
        kept_as = h5py.string_dtype("utf-8", values.dtype.itemsize)
        values = values.view(kept_as)  # HDF5 takes plain bytes for ASCII
    dataset = file.create_dataset(path, data=values, dtype=kept_as, **options)
    dataset.attrs["units"] = entry.unit if entry.unit != "--" else "none"


def _entry(path: str) -> schema.Dataset:
    entry = schema.lookup(path)
    if entry is None:
        raise schema.RecordingError(f"{path}: not part of the file format {schema.FORMAT}")
    return entry


def merge(target: h5py.File, segment: h5py.File) -> None:
    """Add a segment's datasets and group attributes to ``target``."""

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        path = f"/{name}"
        if isinstance(item, h5py.Dataset):
            _entry(path)  # before anything is read
            store(target, path, item[()])
            return
        group = target.require_group(path)
        for key in item.attrs:
            group.attrs.create(key, item.attrs[key], dtype=item.attrs.get_id(key).dtype)

    segment.visititems(add)


@contextmanager
def in_memory(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that is written at the end, by Python. HDF5 itself (2.0) crashes the process
    when a disk fills up, or a file gets too large, while it closes a file."""
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        yield file
    path.write_bytes(image.getbuffer())


@contextmanager
def extended(path: Path, n_bytes: int) -> Iterator[h5py.File]:
    """An HDF5 file that is too large for memory, open to get about ``n_bytes`` more. The system
    sets room for them aside first, so that HDF5 does not meet a full disk (see `in_memory`).

    Raises:
        OSError: There is no room.
    """
    # Replaced chunks leave gaps, and datasets have indexes.
    room = n_bytes + MERGE_BYTES
    with path.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), path.stat().st_size, room)
        elif shutil.disk_usage(path).free < room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with h5py.File(path, "r+") as file:  # cuts off what it has not used when it is closed
        yield file


@contextmanager
def whole(path: Path, sealed: bool = False) -> Iterator[Path]:
    """`snn_artsy.files.whole` for the files of a run.

    Args:
        sealed: With its checksum beside it (`checksum_file`).

    Raises:
        RecordingError: It can't be written.
    """
    try:
        with files.whole(path) as part:
            yield part
            if sealed:
                # two files cannot be replaced at once: while one is, the sums of both are listed
                new = f"{files.file_sha256(part)}  {path.name}\n"
                write_text(checksum_file(path), _listed_sum(path) + new)
        if sealed:
            write_text(checksum_file(path), new)
    except (OSError, RuntimeError) as error:
        raise cannot_write(path, error) from error


def _listed_sum(path: Path) -> str:
    seal = checksum_file(path)
    if path.is_file() and not seal.is_file():
        return f"{files.file_sha256(path)}  {path.name}\n"
    return seal.read_text(encoding="utf-8") if path.is_file() else ""


def write_text(path: Path, text: str) -> None:
    """A text file that appears whole.

    Raises:
        RecordingError: It can't be written.
    """
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def checksum_file(path: Path) -> Path:
    """Where the checksum of a segment, or of run.h5, stands."""
    return path.with_suffix(".h5.sha256")


def intact(path: Path) -> bool | None:
    """Whether a file is what its checksum says; None if it has none."""
    try:
        listed = checksum_file(path).read_bytes()
        while True:
            checksum = files.file_sha256(path).encode()
            if checksum in (line[:64] for line in listed.splitlines()):
                return True
            # its writer may have replaced both between our two looks
            before, listed = listed, checksum_file(path).read_bytes()
            if listed == before:
                return False
    except FileNotFoundError:
        return None


def segment_path(directory: Path, number: int) -> Path:
    """``segments/0001.h5`` is the first."""
    return directory / schema.SEGMENT_FOLDER / f"{number:04d}.h5"


def newer_segments(directory: Path, merged: int) -> Iterator[Path]:
    """Segments that a run.h5 with ``merged`` of them does not hold, in order.

    Raises:
        FileNotFoundError: The next one is missing, but not the last.
        DamageError: The next one is damaged.
    """
    newer = [number for number in segment_numbers(directory) if number > merged]
    for number in range(merged + 1, newer[-1] + 1 if newer else 0):
        segment = segment_path(directory, number)
        sound = intact(segment)
        if sound is None:
            missing = checksum_file(segment) if segment.is_file() else segment
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(missing))
        if not sound:
            raise schema.DamageError(
                f"{segment}: damaged (checksum differs); remove it and the later segments to "
                "read what was recorded before"
            )
        yield segment


def sound_segments(directory: Path, merged: int) -> list[Path]:
    """As `newer_segments`, up to the first that is missing or damaged."""
    segments = []
    with suppress(FileNotFoundError, schema.DamageError):
        for segment in newer_segments(directory, merged):
            segments.append(segment)
    return segments


def cut(file: h5py.File, recorded: Mapping[str, int]) -> None:
    """Drop what was recorded after a moment.

    Args:
        recorded: Path -> rows at that moment; of datasets that are written once, any number.

    Raises:
        DamageError: The file holds less.
    """
    there: dict[str, h5py.Dataset] = {}
    file.visititems(
        lambda name, item: there.update({f"/{name}": item} if hasattr(item, "shape") else {})
    )
    for path, rows in recorded.items():
        entry = schema.lookup(path)
        if path not in there or (entry and entry.grows and len(there[path]) < rows):
            raise schema.DamageError(
                f"{file.filename}: {path} holds less than was recorded when the checkpoint was "
                "made; the run cannot go on from there"
            )
    for path, dataset in there.items():
        entry = schema.lookup(path)
        if path not in recorded:
            del file[path]
        elif entry is not None and entry.grows:
            dataset.resize(recorded[path], axis=0)
    _drop_empty_groups(file)


def _drop_empty_groups(group: h5py.Group) -> None:
    for name, item in list(group.items()):
        if isinstance(item, h5py.Group):
            _drop_empty_groups(item)
            if not len(item):
                del group[name]


def cannot_write(path: Path, error: Exception) -> schema.RecordingError:
    """What to tell when a file of a run can't be written; the error itself if it tells already."""
    if isinstance(error, schema.RecordingError):
        return error
    try:
        free = f"{shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free there"
    except OSError:
        free = "its directory is gone"
    return schema.RecordingError(
        f"{path}: cannot be written ({error}; {free}); what was recorded before is kept: "
        "snn_artsy.recording.open_run opens it, `snn-artsy resume` goes on from it"
    )


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the finished segments, ascending."""
    folder = directory / schema.SEGMENT_FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(file.stem) for file in folder.glob("*.h5") if file.stem.isdigit())


def merge_bytes(directory: Path, recorded: Iterable[str]) -> int:
    """By how much run.h5 may grow by the finished segments.

    Args:
        recorded: Paths of all datasets; what is not compressed takes whole chunks.
    """
    paths = (segment_path(directory, number) for number in segment_numbers(directory))
    loose = sum(path.startswith("/spikes/") for path in recorded)
    return sum(path.stat().st_size for path in paths) + CHUNK_BYTES * loose
