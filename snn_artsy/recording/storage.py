"""Low-level pieces of the writer: datasets as the schema wants them, files that appear whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_artsy.recording import schema

_CHUNK_BYTES = 2**17  # a compromise between compression, small runs and reading a slice of spikes


def store(file: h5py.File, path: str, values: NDArray[Any]) -> None:
    """Append ``values`` to a growing dataset, or write (replace) one that is written once."""
    entry = schema.lookup(path)
    if entry is None:
        raise schema.RecordingError(f"{path}: not part of the file format {schema.FORMAT}")
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
        rows = max(1, _CHUNK_BYTES // row_bytes)
        options = {"maxshape": (None, *values.shape[1:]), "chunks": (rows, *values.shape[1:])}
    # libsonata's wheels (0.2) are built without deflate: what SONATA tools read stays uncompressed.
    packed = not path.startswith("/spikes/")
    if not packed:
        options["fletcher32"] = True  # damage shows, as it does in deflated data
    if packed and values.size and (entry.grows or values.nbytes >= 4096):
        options |= {"compression": "gzip", "compression_opts": 4, "shuffle": True}
    dataset = file.create_dataset(path, data=values, dtype=entry.numpy_dtype, **options)
    dataset.attrs["units"] = entry.unit if entry.unit != "--" else "none"


def merge(target: h5py.File, segment: h5py.File) -> None:
    """Add a segment's datasets and group attributes to ``target``."""

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        path = f"/{name}"
        if isinstance(item, h5py.Dataset):
            store(target, path, item[()])
            return
        group = target.require_group(path)
        for key in item.attrs:
            group.attrs.create(key, item.attrs[key], dtype=item.attrs.get_id(key).dtype)

    segment.visititems(add)


def sync(path: Path) -> None:
    """Have the system put a file or a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(part: Path, path: Path) -> None:
    """Rename a finished temporary file to its name, so that it is seen whole or not at all."""
    sync(part)
    os.replace(part, path)
    sync(path.parent)


def checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def checksum_file(segment: Path) -> Path:
    return segment.with_suffix(".h5.sha256")


def segment_path(directory: Path, number: int) -> Path:
    """``segments/0001.h5`` is the first."""
    return directory / schema.SEGMENT_FOLDER / f"{number:04d}.h5"


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the finished segments, ascending."""
    folder = directory / schema.SEGMENT_FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(file.stem) for file in folder.glob("*.h5") if file.stem.isdigit())
