"""Runs -> a Markdown table (mean and standard deviation over seeds), printed or put into a file.

    python analysis/results_table.py runs/seed1993 runs/seed1994 runs/seed1995
    python analysis/results_table.py runs/default --into README.md --name default

``--into`` replaces what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in that file, so
that no number is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

COLUMNS = (
    ("a_last", "A_last", 100),
    ("a_last_spikes_only", "A_last, spikes only", 100),
    ("a_avg", "A_avg", 100),
    ("task_identification", "task identified", 100),
    ("oracle_task_accuracy", "oracle task", 100),
    ("forgetting_max_last", "forgetting", 100),
    ("functional_share", "functional contacts", 100),
    ("mean_open_gates", "open gates", 1),
    ("spikes_per_image", "spikes per image", 1),
    ("timing_index", "timing index", 100),
    ("seconds", "seconds", 1),
)


def cell(values: list[float | None], scale: float) -> str:
    """Mean, with the standard deviation where there are several runs."""
    numbers = [scale * value for value in values if value is not None]
    if not numbers:
        return "–"
    spread = f" ± {stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):.1f}{spread}"


def table(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line a row; columns that no row has are left out."""
    used = [c for c in COLUMNS if any(c[0] in run for runs in rows.values() for run in runs)]
    lines = ["| | " + " | ".join(title for _, title, _ in used) + " |"]
    lines.append("|---|" + "---:|" * len(used))
    for name, runs in rows.items():
        cells = [cell([run.get(key) for run in runs], scale) for key, _, scale in used]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def results(summaries: list[dict[str, Any]]) -> str:
    """The learners' table, and the controls' where they were run."""
    first = summaries[0]
    seeds = ", ".join(str(s["config"]["seed"]) for s in summaries)
    caption = (
        f"{first['config']['data']['name']}, {first['config']['backbone']['name']}, seeds {seeds}, "
        f"{first['device']}, {first['threads']} threads, commit {first['git_commit'][:10]}. "
        f"Percent, but for open gates, spikes and seconds; chance {100 * first['chance']:.1f}."
    )
    lines = table({n: [s["learners"][n] for s in summaries] for n in first["learners"]})
    if "controls" in first:
        controls = {n: [s["controls"][n] for s in summaries] for n in first["controls"]}
        lines += ["", "Controls of artsy_snn:", "", *table(controls)]
    return "\n".join([*lines, "", caption])


def insert(file: Path, name: str, text: str) -> None:
    """Replace what stands between a page's markers."""
    start, stop = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = file.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(stop), re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{file}: no {start} ... {stop} in it")
    file.write_text(pattern.sub(lambda _: f"{start}\n{text}\n{stop}", page), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="results")
    arguments = parser.parse_args()
    summaries = [
        json.loads((run / "summary.json").read_text(encoding="utf-8")) for run in arguments.runs
    ]
    text = results(summaries)
    if arguments.into is None:
        print(text)
        return
    insert(arguments.into, arguments.name, text)


if __name__ == "__main__":
    main()
