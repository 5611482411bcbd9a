"""Runs as one HTML page that needs no network: table, figures, configuration, how to reproduce."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from snn_artsy.files import CONFIG_FILE
from snn_artsy.output import write_outputs
from snn_artsy.plots import NothingRecorded
from snn_artsy.plots.comparison import differences, runs_compared
from snn_artsy.plots.style import rendered, settings
from snn_artsy.printing import clean, names_of, quoted
from snn_artsy.recording.about import run_facts
from snn_artsy.recording.reader import Run
from snn_artsy.recording.schema import RecordingError
from snn_artsy.registry import FIGURES
from snn_artsy.report.marks import marks
from snn_artsy.report.seen import differing, seen
from snn_artsy.runs.tables import (
    DOMAIN_CAPTION,
    LEARNER_CAPTION,
    domain_cells,
    learner_cells,
    pair_cells,
)

if TYPE_CHECKING:  # `snn_artsy.plots` imports it first, see there
    from matplotlib.figure import Figure

_DPI = 160


# What is asked first of a run.
_FIRST = ("accuracy_per_step", "accuracy_matrix", "ann_minus_snn")


def write_report(
    runs: Sequence[Run],
    out: Path,
    overwrite: bool = False,
    comparisons: Mapping[str, Mapping[str, Any]] | None = None,
    figures: bool = True,
) -> Path:
    """Write the page; it appears whole or not at all. A figure that can't be drawn is named in it.

    Args:
        runs: Opened runs; several are compared.
        out: The HTML file.
        overwrite: Replace another file of this name.
        comparisons: Name -> ``summary.json`` of a comparison, which come first.
        figures: With those of each run; those of comparisons are there in any case.

    Raises:
        ConfigError: Another file is there, or ``out`` can't be written.
        RecordingError: A run file is damaged.
    """
    called = names_of([run.path.parent for run in runs])
    shown = [_section(name, run, figures) for name, run in zip(called, runs, strict=True)]
    compared = [_of_comparison(name, found) for name, found in (comparisons or {}).items()]
    if len(shown) > 1:
        compared.append(_of_runs(runs, shown))
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    names = [*(comparisons or {}), *(section["name"] for section in shown)]
    page = environment.from_string(template).render(
        title="SNN-Artsy: " + ", ".join(names), compared=compared, runs=shown
    )
    write_outputs({out: page.encode("utf-8")}, overwrite)
    return out


def _table(
    title: str, first: str, headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]],
    caption: str = "",
) -> dict[str, Any]:  # fmt: skip
    return {"title": title, "first": first, "headings": headings, "rows": rows, "caption": caption}


def _of_runs(runs: Sequence[Run], shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several runs beside each other: measures, what differs between them, a figure."""
    every = {f"{s['name']}: {n}": measures for s in shown for n, measures in s["measures"].items()}
    tables = [_table("Learners", "run", *learner_cells(every), LEARNER_CAPTION)]
    configurations = [run.settings for run in runs]
    if rows := differing(configurations):
        names = [section["name"] for section in shown]
        tables.append(_table("What differs between the configurations", "key", names, rows))
    figures, _ = _drawn({"runs compared": lambda: runs_compared(runs)}, runs_compared.__doc__ or "")
    return {"name": "Runs compared", "failed": {}, "tables": tables, "figures": figures}


def _of_comparison(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Learners over seeds: mean and sd, the differences of pairs, and a figure of them; why some
    failed."""
    failed = found.get("failed", {})
    if not found["learners"]:
        return {"name": name, "failed": failed, "tables": [], "figures": []}
    headings, rows = learner_cells(found["learners"])
    pairs = [pair_cells(pair) for pair in found["pairs"]]
    tables = [_table("Learners, mean ± sd over seeds", "learner", headings, rows, LEARNER_CAPTION)]
    tables.append(
        _table("Differences of A_last", "a - b", ["points", "95 %", "h", "p (Holm)"],
               [(cells[0], cells[1:]) for cells in pairs])
    )  # fmt: skip
    against = next(iter(found["learners"]))
    figures, _ = _drawn(
        {f"differences from {against}": lambda: differences(found, against)},
        differences.__doc__ or "",
    )
    return {"name": name, "failed": failed, "tables": tables, "figures": figures}


def _section(name: str, run: Run, with_figures: bool) -> dict[str, Any]:
    measures = {learner: run.summary(learner) for learner in run.learners}
    tables = []
    if measures:
        tables.append(_table("Learners", "learner", *learner_cells(measures), LEARNER_CAPTION))
    headings, rows = domain_cells(measures)
    if headings:
        tables.append(_table("A_last by data set", "learner", headings, rows, DOMAIN_CAPTION))
    wanted = sorted(FIGURES, key=lambda figure: figure not in _FIRST) if with_figures else []
    draws = {figure: partial(FIGURES[figure], run) for figure in wanted}
    figures, absent = _drawn(draws)
    commit = run.attributes.get("git_commit") or "unknown"
    return {
        "name": name,
        "status": run.status,
        "facts": run_facts(run),
        "measures": measures,
        "tables": tables,
        "figures": figures,
        "absent": absent,
        "config": run.config,
        "versions": run.versions,
        "reproduce": (
            f"# at commit {' '.join(clean(str(commit)).split())}, with the versions below\n"
            f"snn-artsy run --config {quoted(run.path.parent / CONFIG_FILE)} --out runs/again"
        ),
    }


def _drawn(
    draws: Mapping[str, Callable[[], Any]], text: str = ""
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Figures that can be drawn, and why others can't."""
    figures, absent = [], {}
    for name, draw in draws.items():
        try:
            said = text or getattr(draw, "func", draw).__doc__ or ""
            figures.append(_figure(name, draw(), said))
        except NothingRecorded as reason:
            absent[name.replace("_", " ")] = str(reason)
        except RecordingError:
            raise
        except Exception as error:
            absent[name.replace("_", " ")] = f"{type(error).__name__}: {error}"
    return figures, absent


def _figure(name: str, figure: Figure, text: str) -> dict[str, Any]:
    """As PNG: a raster of tens of thousands of marks would make megabytes of SVG."""
    content = rendered(figure, "png", _DPI)
    with settings():
        points = marks(figure)
    # the docstring's first paragraph is the caption; arguments are for programmers
    caption = " ".join(text.split("\n\n")[0].split())
    return {
        "title": name.replace("_", " "),
        "text": caption,
        "seen": seen(figure),
        "type": "png",
        "data": base64.b64encode(content).decode(),
        "marks": points,
    }
