"""A protocol's outcome on disk: data in HDF5 with units, the figure, and one summary of many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from snn_artsy import output
from snn_artsy.checks import ConfigError
from snn_artsy.export import placed
from snn_artsy.export.protocol import write_protocol_nwb
from snn_artsy.files import whole
from snn_artsy.output import writing
from snn_artsy.plots.style import rendered
from snn_artsy.protocols.base import Check, Column, Outcome
from snn_artsy.provenance import provenance
from snn_artsy.recording import storage
from snn_artsy.recording.guard import first_look

FORMAT, FORMAT_VERSION = "snn-artsy-protocol", 1
FORMATS = ("png", "pdf")
"""Of figures, unless others are asked for."""
_LIST = "protocols.json"
_ABOUT = ("protocol", "parameters", "notes", "checks", "git_commit")


def check_free(
    names: Sequence[str], directory: Path, overwrite: bool, formats: Sequence[str] = FORMATS
) -> None:
    """Whether what protocols, named as on the command line, leave can be written, before there is
    anything to write.

    Raises:
        ConfigError: It would replace something that is not to be replaced, or the place can't be
            written.
    """
    for name in names:
        for kind in ("h5", *formats):
            output.check_free(directory / f"{name.replace('-', '_')}.{kind}", overwrite)
    output.check_free(directory / _LIST, overwrite=True)


def other_rows(names: Sequence[str], directory: Path) -> list[dict[str, Any]]:
    """What ``protocols.json`` says of other protocols than these.

    Raises:
        ConfigError: It is not such a list.
    """
    path = directory / _LIST
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [entry for entry in entries if entry["name"] not in names]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(
            "out", f'"{path}" is not a list of protocols ({error}); give another place with --out'
        ) from error


def save_list(entries: list[dict[str, Any]], directory: Path) -> None:
    """Write ``protocols.json``.

    Raises:
        ConfigError: It can't be written.
    """
    path = directory / _LIST
    with writing(path):
        directory.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def save(outcome: Outcome, directory: Path, seed: int, formats: Sequence[str] = FORMATS) -> None:
    """Write ``<protocol>.h5`` and the figure in all formats; each appears whole or not at all.

    Raises:
        ConfigError: They can't be written.
    """
    target = directory / f"{outcome.protocol}.h5"
    with writing(target):
        directory.mkdir(parents=True, exist_ok=True)
        with whole(target) as part:
            _save_data(outcome, part, seed)
        for kind in formats:
            with whole(target.with_suffix(f".{kind}")) as part:
                part.write_bytes(rendered(outcome.figure, kind, dpi=200))


def _save_data(outcome: Outcome, path: Path, seed: int) -> None:
    import torch  # here, so that files are read without it

    facts = provenance(torch.get_num_threads())
    with storage.in_memory(path) as file:
        file.attrs["format"], file.attrs["format_version"] = FORMAT, FORMAT_VERSION
        file.attrs["protocol"], file.attrs["seed"] = outcome.protocol, seed
        file.attrs["versions"] = json.dumps(facts["versions"])
        file.attrs["threads"] = facts["threads"]
        file.attrs["git_commit"] = facts["git_commit"] or ""
        values = {} if outcome.parameters is None else asdict(outcome.parameters)
        file.attrs["parameters"] = json.dumps(values, default=str)
        file.attrs["notes"] = "\n".join(outcome.notes)
        file.attrs["checks"] = json.dumps([asdict(check) for check in outcome.checks])
        for name, column in outcome.data.items():
            file[f"data/{name}"] = np.asarray(column.values)
            file[f"data/{name}"].attrs["unit"] = column.unit
            file[f"data/{name}"].attrs["meaning"] = column.meaning


def read(file: Path) -> tuple[dict[str, Column], tuple[Check, ...]]:
    """Data and checks of a protocol's file.

    Raises:
        ValueError: The file is not one of these, or of a newer version.
    """
    with h5py.File(file) as source:
        written = (source.attrs.get("format"), source.attrs.get("format_version"))
        if written != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"{file}: format {written}, expected {(FORMAT, FORMAT_VERSION)}")
        columns: dict[str, Column] = {}

        def take(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                columns[name] = Column(item[()], item.attrs["unit"], item.attrs["meaning"])

        source["data"].visititems(take)
        checks = tuple(Check(**check) for check in json.loads(source.attrs["checks"]))
    return columns, checks


def is_outcome(file: Path) -> bool:
    """Whether a file is one of these, after a first look (`snn_artsy.recording.guard`).

    Raises:
        RecordingError: It is damaged, or no HDF5 file.
    """
    first_look([file])
    with h5py.File(file) as source:
        return bool(source.attrs.get("format") == FORMAT)


def export_nwb(file: Path, out: Path | None = None, overwrite: bool = False) -> Path:
    """Write a protocol's data as NWB (`snn_artsy.export.protocol`), by default beside the file.

    Raises:
        ConfigError: The file is not one of these, or of a newer version, pynwb is missing,
            something is there already, or it can't be written.
    """
    target = file.with_suffix(".nwb") if out is None else out

    def write(part: Path) -> None:
        try:
            columns, _ = read(file)
            with h5py.File(file) as source:
                about = {key: str(source.attrs[key]) for key in _ABOUT}
            write_protocol_nwb(columns, about, file, part)
        except ConfigError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                "run", f'"{file}" is no data of a protocol of this version ({reason}); make it anew'
            ) from error

    return placed(target, write, overwrite)


def rows(outcome: Outcome, seconds: float, kind: str = FORMATS[0]) -> list[dict[str, Any]]:
    """One entry a check, as ``protocols.json`` lists them; ``published`` and ``reference`` are the
    same number, the first kept for who reads it.

    Args:
        kind: The format of the figure's file that is named.
    """
    return [
        {
            "name": outcome.protocol.replace("_", "-"),  # as on the command line
            "check": check.name,
            "measured": _finite(check.measured),
            "published": check.published,
            "tolerance": check.tolerance,
            "kind": check.kind,
            "unit": check.unit,
            "pass": None if check.not_compared else bool(check.passed),
            "source": check.source,
            "figure": f"{outcome.protocol}.{kind}",
            "data": f"{outcome.protocol}.h5",
            "seconds": seconds,
            "reference": check.published,
            "independent": check.independent,
            "not_compared": check.not_compared,
        }
        for check in outcome.checks
    ]


def failed(name: str, error: Exception, seconds: float) -> dict[str, Any]:
    """The entry of a protocol that broke off."""
    return {
        "name": name,
        "check": "runs",
        "measured": None,
        "published": None,
        "tolerance": None,
        "kind": None,
        "unit": None,
        "pass": False,
        "source": f"{type(error).__name__}: {error}",
        "figure": None,
        "data": None,
        "seconds": seconds,
        "reference": None,
        "independent": False,
        "not_compared": "",
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
