"""What a recorded run says of itself, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_artsy.checks import ConfigError
from snn_artsy.files import SUMMARY_FILE
from snn_artsy.recording import storage
from snn_artsy.recording.files import SEAL_BYTES
from snn_artsy.recording.reader import Run

_SUMMARY_BYTES = 2**24

_COUNTED = {
    "presentations": "/stimulus/start_ms",
    "recorded spikes": "/spikes/[^/]+/timestamps",
    "conversion events": "/synapses/[^/]+/events/time_ms",
    "snapshots": "/synapses/[^/]+/snapshots/[^/]+/state",
}


def run_facts(run: Run) -> dict[str, str]:
    """What was run, with what, and how it ended."""
    config: Any = run.settings
    get = run.attributes.get
    learners = config.get("learners")
    facts = {
        "status": run.status,
        "data": _name(config, "data"),
        "backbone": _name(config, "backbone"),
        "learners": ", ".join(map(str, learners)) if isinstance(learners, list) else None,
        "seed": get("seed"),
        "device": get("device"),
        "start": get("start"),
        "end": get("end"),
        "git commit": get("git_commit"),
        "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _name(config: Mapping[str, Any], section: str) -> Any:
    chosen = config.get(section)
    if not isinstance(chosen, Mapping):
        return None
    sources = chosen.get("sources")  # of a sequence
    listed = sources if isinstance(sources, list) else []
    domains = [str(each.get("domain")) for each in listed if isinstance(each, Mapping)]
    return f"{chosen.get('name')}: {', '.join(domains)}" if domains else chosen.get("name")


def read_summary(directory: Path) -> dict[str, Any] | None:
    """``summary.json`` of a run; None if it has none.

    Raises:
        ConfigError: It is not what a run writes.
    """
    path = directory / SUMMARY_FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _SUMMARY_BYTES:
            raise ValueError("larger than a run's")
        summary = json.loads(path.read_text(encoding="utf-8"), parse_int=_number)
        _check_summary(summary)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            "run",
            f'"{path}" is not what a run writes ({error}); copy it again, or move it away: '
            "run.h5 holds the same measures",
        ) from error
    return dict(summary)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def _check_summary(summary: object) -> None:
    """Types of what the tables read."""
    if not isinstance(summary, dict):
        raise ValueError("no names with values")
    # a comparison has mean, sd and values of each measure
    measured = (str, list) if "pairs" in summary else (str, list, dict)
    for name in ("learners", "controls"):
        tables = summary.get(name, {})
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            raise ValueError(f"{name} holds no measures")
        for table in tables.values():
            if isinstance(table.get("a_last_spikes_only", 0.0), measured):
                raise ValueError("a_last_spikes_only is no number")
    if not isinstance(summary.get("failed", {}), dict):
        raise ValueError("failed holds no reasons")
    if "learners" not in summary:
        raise ValueError("no learners")
    config = summary.get("config", {})
    if not isinstance(config, dict) or not all(
        isinstance(config.get(section, {}), dict) for section in ("data", "backbone")
    ):
        raise ValueError("config holds no sections")
    if isinstance(summary.get("chance", 0.0), (str, list, dict)):
        raise ValueError("chance is no number")
    seeds = summary.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds:
        raise ValueError("seeds is no list of numbers")


def run_integrity(run: Run) -> str:
    """Whether the finished file is still what was written."""
    if run.path.stat().st_size > SEAL_BYTES:
        return "not looked at, since it is large: `sha256sum -c run.h5.sha256` does"
    sound = storage.intact(run.path)
    if sound is None:
        return "no checksum (not finished, or copied without it)"
    return "intact (SHA-256)" if sound else "damaged: its checksum differs"


def run_sizes(run: Run) -> dict[str, str]:
    """How much was recorded."""
    rows: dict[str, int] = {}
    for path, shape in run.datasets().items():
        for kind, pattern in _COUNTED.items():
            if re.fullmatch(pattern, path):
                rows[kind] = rows.get(kind, 0) + (shape[0] if len(shape) == 1 else 1)
    segments = (run.path.parent / "segments").glob("*.h5")
    size = sum(file.stat().st_size for file in (run.path, *segments))
    return {"file": f"{size / 1e6:.1f} MB"} | {kind: f"{n:,}" for kind, n in rows.items()}
