"""Data of a protocol (virtual experiment) as NWB, by pynwb.

- spike trains (``pre/...``, ``post/...`` of ``pairing``): ``units``, with ``side`` and ``name``;
- what has as many rows as there are times beside it (``time_ms`` of the same group): time series in
  ``acquisition``, in seconds;
- everything else: arrays in ``scratch``, with unit and meaning as description.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.recording import storage

_MS = 1e-3  # seconds


class Column(Protocol):
    """An array with its unit and one line of meaning."""

    @property
    def values(self) -> NDArray[np.generic]: ...
    @property
    def unit(self) -> str: ...
    @property
    def meaning(self) -> str: ...


def write_protocol_nwb(
    columns: Mapping[str, Column], about: Mapping[str, str], source: Path, file: Path
) -> None:
    """Write an NWB file.

    Args:
        columns: Name, with at most one "/" for a group -> array.
        about: ``protocol``, ``parameters``, ``notes``, ``checks`` and ``git_commit`` of the file.
        source: The protocol's file, whose time is the session's.

    Raises:
        ConfigError: pynwb is not installed.
    """
    try:
        from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    except ImportError as error:
        raise ConfigError(
            "to", "'nwb' needs pynwb, which is not installed; pip install 'snn-artsy[nwb]'"
        ) from error
    start = datetime.fromtimestamp(source.stat().st_mtime, timezone.utc)
    content = NWBFile(
        session_description=f"virtual experiment {about['protocol']} (simulation)",
        identifier=f"{source.stem} {start.isoformat()}",
        session_start_time=start,
        experiment_description=about["parameters"],
        notes=f"{about['notes']}\nchecks: {about['checks']}",
        source_script=f"snn-artsy, commit {about['git_commit'] or 'unknown'}",
        source_script_file_name="snn-artsy",
    )
    for name, column in columns.items():
        group, _, own = name.rpartition("/")
        times = columns.get(f"{group}/time_ms" if group else "time_ms")
        values = np.atleast_1d(np.asarray(column.values))
        if group in ("pre", "post") and column.unit == "ms":
            _add_train(content, group, column)
        elif times is not None and own != "time_ms" and len(values) == len(times.values):
            content.add_acquisition(
                TimeSeries(
                    name=name.replace("/", "_"), data=values, unit=column.unit,
                    timestamps=_MS * np.asarray(times.values, dtype=np.float64),
                    description=column.meaning,
                )
            )  # fmt: skip
        else:
            text = f"{column.meaning} ({column.unit})"
            content.add_scratch(values, name=name.replace("/", "_"), description=text)
    with storage.in_memory(file) as target, NWBHDF5IO(file=target, mode="w") as io:
        io.write(content)


def _add_train(content: Any, side: str, column: Column) -> None:
    if content.units is None:
        content.add_unit_column("side", "pre or post: of the synapse")
        content.add_unit_column("unit_name", "as in the file of times")
    name = column.meaning.removeprefix("spike times of ")
    times = _MS * np.asarray(column.values, dtype=np.float64)
    content.add_unit(spike_times=times, side=side, unit_name=name)
