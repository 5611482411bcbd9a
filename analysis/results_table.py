"""Runs -> a Markdown table (mean and standard deviation over seeds), printed or put into a file.

    python analysis/results_table.py runs/seed1993 runs/seed1994 runs/seed1995
    python analysis/results_table.py runs/default --into experiments/RESULTS.md --name default

``--into`` replaces what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in that file, so
that no number is typed by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script
from snn_artsy.evaluation.statistics import spread
from snn_artsy.recording.about import read_summary
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


def summary_of(directory: Path, comparison: bool = False) -> dict[str, Any]:
    """``summary.json`` of a finished run, or of a comparison.

    Raises:
        ConfigError: There is none, or of the other kind.
    """
    found = read_summary(directory)
    kind = "comparison" if comparison else "run"
    if found is None or ("pairs" in found) != comparison:
        raise ConfigError("summary", f'no {kind} in "{directory}"; give the directory of one')
    return found


def by_name(words: Sequence[str]) -> dict[str, Path]:
    """Directories that are given as NAME=DIR.

    Raises:
        ConfigError: A word is no such pair.
    """
    pairs = [word.partition("=") for word in words]
    for word, (name, _, directory) in zip(words, pairs, strict=True):
        if not (name and directory):
            raise ConfigError("directories", f"{word!r} cannot be used; give NAME=DIR")
    return {name: Path(directory) for name, _, directory in pairs}


def page_with(file: Path, name: str) -> tuple[str, re.Pattern[str]]:
    """A page, and its part with the markers of this name.

    Raises:
        ConfigError: They are not there.
    """
    start, stop = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = file.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(stop), re.DOTALL)
    if not pattern.search(page):
        raise ConfigError("into", f'no {start} ... {stop} in "{file}"; put them where it belongs')
    return page, pattern


def insert(file: Path, name: str, text: str) -> None:
    """Replace what stands between a page's markers."""
    page, pattern = page_with(file, name)
    part = f"<!-- {name} -->\n{text}\n<!-- /{name} -->"
    file.write_text(pattern.sub(lambda _: part, page), encoding="utf-8")


def put(text: str, into: Path | None, name: str) -> None:
    """Print a table, or put it between a page's markers."""
    if into is None:
        print(text)
    else:
        insert(into, name, text)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="results")
    arguments = parser.parse_args(words)
    text = results([summary_of(run) for run in arguments.runs])
    put(text, arguments.into, arguments.name)


if __name__ == "__main__":
    script(main)
