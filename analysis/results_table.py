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
from typing import Any

from snn_artsy.evaluation.statistics import spread
from snn_artsy.runs.tables import MeasureColumn, learner_cells, markdown

KEYS = (
    "a_last", "a_last_spikes_only", "a_avg", "task_identification", "oracle_task_accuracy",
    "forgetting_max_last", "forgetting_spikes_only", "a_last_old_spikes_only",
    "a_last_new_spikes_only", "functional_share", "mean_open_gates", "spikes_per_image",
    "timing_index", "timing_index_equal_density", "seconds",
)  # fmt: skip


def cell(values: list[float | None], scale: float) -> str:
    """Mean, with the standard deviation where there are several numbers."""
    numbers = [value for value in values if value is not None]
    return MeasureColumn("", "", scale).cell(spread(numbers) if numbers else None)


def table(rows: dict[str, list[dict[str, Any]]], keys: tuple[str, ...] = KEYS) -> list[str]:
    """One line a row, mean ± sd where there are several runs; columns of no row are left out."""
    found = {name: [{k: v for k, v in run.items() if v is not None} for run in runs]
             for name, runs in rows.items()}  # fmt: skip
    spreads = {
        name: {k: spread([r[k] for r in runs if k in r]) for k in keys if any(k in r for r in runs)}
        for name, runs in found.items()
    }
    return markdown(*learner_cells(spreads, keys, page=True))


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
