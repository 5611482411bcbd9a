"""Recorded runs as other tools open them: NWB, SONATA, CSV and frames; without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.export.measures import as_csv as as_csv
from snn_artsy.export.measures import as_frame as as_frame
from snn_artsy.export.neo_block import to_neo as to_neo
from snn_artsy.export.nwb import write_nwb
from snn_artsy.export.sonata import write_sonata
from snn_artsy.files import at_home, whole
from snn_artsy.output import refuse, writing
from snn_artsy.recording.reader import Run

FORMATS: dict[str, tuple[Callable[[Run, Path], None], str]] = {
    "nwb": (write_nwb, "run.nwb"),
    "sonata": (write_sonata, "sonata"),
}
"""Format -> how it is written, and the name of what is written."""


def export(run: Run, to: str, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write a run in another format.

    Args:
        run: An opened run.
        to: One of `FORMATS`.
        out: The file (``nwb``) or directory (``sonata``) to make; default: beside run.h5.
        overwrite: Replace a file that is there; of a directory, the files that are made anew.

    Returns:
        What was made; it appears whole or not at all.

    Raises:
        ConfigError: Unknown format, something is there already or can't be written, the run holds
            nothing that the format has a place for, or a package is missing.
        RecordingError: The run file is damaged.
    """
    if to not in FORMATS:
        raise ConfigError("to", f"{to!r} is unknown; choose from {', '.join(FORMATS)}")
    return written(run, *FORMATS[to], out, overwrite)


def written(
    run: Run,
    write: Callable[[Run, Path], None],
    name: str,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """`export` by a writer of one's own, to ``out`` or as ``name`` beside run.h5."""
    target = run.path.parent / name if out is None else at_home(out)
    return placed(target, lambda part: write(run, part), overwrite)


def placed(target: Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Have something written under a temporary name, which gets its own at the end.

    Raises:
        ConfigError: Something is there already, or it can't be written.
    """
    if os.path.lexists(target) and not overwrite:
        refuse(target)
    if target.is_symlink():
        raise ConfigError("out", f'"{target}" is a link; give the place itself with --out')
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # what a file is, its last letters tell: they stay
        with whole(target, target.with_name(f".part-{target.name}")) as part:
            write(part)
    return target


__all__ = ["FORMATS", "export", "placed", "write_nwb", "write_sonata", "written"]
