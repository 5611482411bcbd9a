"""Recorded runs as files that other tools open: NWB and SONATA; without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.export.nwb import write_nwb
from snn_artsy.export.sonata import write_sonata
from snn_artsy.recording.reader import Run

FORMATS: dict[str, tuple[Callable[[Run, Path], None], str]] = {
    "nwb": (write_nwb, "run.nwb"),
    "sonata": (write_sonata, "sonata"),
}
"""Format -> how it is written, and the name of what is written."""


def export(run: Run, to: str, out: str | Path | None = None) -> Path:
    """Write a run in another format.

    Args:
        run: An opened run.
        to: One of `FORMATS`.
        out: The file (``nwb``) or directory (``sonata``) to make; default: beside run.h5.

    Returns:
        What was made; it appears whole or not at all.

    Raises:
        ConfigError: Unknown format, something is there already, or a package is missing.
    """
    if to not in FORMATS:
        raise ConfigError(f"to: {to!r} is unknown; choose from {', '.join(FORMATS)}")
    write, name = FORMATS[to]
    target = run.path.parent / name if out is None else Path(out).expanduser()
    if target.exists():
        raise ConfigError(f'out: "{target}" exists; give another name, or delete it')
    part = target.with_name(f".part-{target.name}")
    _remove(part)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(run, part)
        part.rename(target)
    finally:
        _remove(part)
    return target


def _remove(path: Path) -> None:
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    path.unlink(missing_ok=True)


__all__ = ["FORMATS", "export", "write_nwb", "write_sonata"]
