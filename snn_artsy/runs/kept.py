"""Which learners a finished run keeps, found out without torch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.files import SUMMARY_FILE

_STATE = re.compile(r"[^/\\]+/state/(.+)\.safetensors")


def require_kept(run: Path, learner: str) -> None:
    """Refuse a learner that a run's directory, or a pack of it, does not keep; what is no run at
    all is left to whoever reads it.

    Raises:
        ConfigError: It keeps others, or none.
    """
    if run.is_dir():
        if (run / SUMMARY_FILE).is_file():
            known = sorted(file.stem for file in (run / "state").glob("*.safetensors"))
            if learner not in known:
                raise not_kept(run, learner, known)
    elif zipfile.is_zipfile(run):
        try:
            with zipfile.ZipFile(run) as archive:
                found = map(_STATE.fullmatch, archive.namelist())
        except (zipfile.BadZipFile, OSError):
            return
        known = sorted(match[1] for match in found if match)
        if learner not in known:
            raise not_kept(run, learner, known)


def not_kept(run: Path, learner: str, known: Iterable[str]) -> ConfigError:
    """What to say of a learner that a run does not keep."""
    return ConfigError(
        "run",
        f'no trained {learner} at "{run}"; it has {", ".join(known) or "none"}: choose one of '
        f"these, or run `snn-artsy run` with {learner} among its learners",
    )
