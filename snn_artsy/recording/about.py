"""What a recorded run says of itself, in words."""

from __future__ import annotations

import re
from typing import Any

from snn_artsy.recording import storage
from snn_artsy.recording.reader import Run
from snn_artsy.yaml_file import read_mapping

_COUNTED = {
    "presentations": "/stimulus/start_ms",
    "recorded spikes": "/spikes/[^/]+/timestamps",
    "conversion events": "/synapses/[^/]+/events/time_ms",
    "snapshots": "/synapses/[^/]+/snapshots/[^/]+/state",
}


def run_facts(run: Run) -> dict[str, str]:
    """What was run, with what, and how it ended."""
    config: Any = read_mapping(run.config, f'run: "{run.path}", its attribute config,')
    get = run.attributes.get
    facts = {
        "status": run.status,
        "data": config.get("data", {}).get("name"),
        "backbone": config.get("backbone", {}).get("name"),
        "learners": ", ".join(config.get("learners", [])),
        "seed": get("seed"),
        "device": get("device"),
        "start": get("start"),
        "end": get("end"),
        "git commit": get("git_commit"),
        "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def run_integrity(run: Run) -> str:
    """Whether the finished file is still what was written."""
    found = storage.intact(run.path)
    if found is None:
        return "no checksum (not finished, or copied without it)"
    return "intact (SHA-256)" if found else "damaged: its checksum differs"


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
