"""One measure of all learners in several runs -> a Markdown table, less the first run's.

    python analysis/runs_beside.py float32=runs/float32 bfloat16=runs/bfloat16
    python analysis/runs_beside.py A=runs/a B=runs/b --measure a_avg --into PAGE --name ways

For runs that differ in how the same is computed: where classes, images or seeds differ, what is
less than the first run's means nothing, and such runs are refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import by_name, put, summary_of

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script
from snn_artsy.runs.tables import ABSENT


def table(summaries: Mapping[str, dict[str, Any]], measure: str) -> str:
    """Rows of learners; the first run's percent, then each other one's difference in points.

    Raises:
        ConfigError: The runs are of other images or seeds, or no learner has the measure.
    """
    (_, first), *_ = summaries.items()
    for name, summary in summaries.items():
        for what in ("images", "class_order", "data", "seed"):
            if _of(summary, what) != _of(first, what):
                raise ConfigError("directories", f"{name} has another {what}; give runs of one")
    names = [name for name, found in first["learners"].items() if found.get(measure) is not None]
    if not names:
        raise ConfigError("measure", f"no learner has {measure!r}; see summary.json")
    others = [name for name in summaries if summaries[name] is not first]
    lines = [
        _row(f"{measure}, %", [*list(summaries)[:1], *(f"{name}, less that" for name in others)]),
        "|---|" + "---:|" * len(summaries),
    ]
    largest = dict.fromkeys(others, 0.0)
    for learner in names:
        base, cells = first["learners"][learner][measure], []
        for name in others:
            value = summaries[name]["learners"].get(learner, {}).get(measure)
            if value is None:
                cells.append(ABSENT)
                continue
            cells.append(f"{100 * (value - base):+.2f}")
            largest[name] = max(largest[name], abs(value - base))
        lines.append(_row(learner, [f"{100 * base:.2f}", *cells]))
    lines.append(_row("largest difference", ["", *(f"{100 * d:.2f}" for d in largest.values())]))
    about = f"{first['config']['data']['name']}, {first['config']['backbone']['name']}, seed"
    return "\n".join([*lines, "", f"{about} {first['config']['seed']}."])


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _of(summary: dict[str, Any], what: str) -> Any:
    config = summary["config"]
    if what == "data":  # but where it lies
        return {key: value for key, value in config["data"].items() if key != "root"}
    return config[what] if what == "seed" else summary[what]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--measure", default="a_last")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="runs_beside")
    arguments = parser.parse_args(words)
    found = {name: summary_of(path) for name, path in by_name(arguments.runs).items()}
    text = table(found, arguments.measure)
    put(text, arguments.into, arguments.name)


if __name__ == "__main__":
    script(main)
