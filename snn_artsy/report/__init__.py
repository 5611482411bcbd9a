"""Runs as one HTML page that needs no network: table, figures, configuration, how to reproduce."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from snn_artsy.output import write_outputs
from snn_artsy.plots import NothingRecorded
from snn_artsy.plots.comparison import runs_compared
from snn_artsy.plots.style import rendered, settings
from snn_artsy.printing import clean, quoted
from snn_artsy.recording.about import run_facts
from snn_artsy.recording.reader import Run
from snn_artsy.recording.schema import RecordingError
from snn_artsy.registry import FIGURES
from snn_artsy.report.marks import marks
from snn_artsy.runs.tables import DOMAIN_CAPTION, LEARNER_CAPTION, domain_cells, learner_cells

if TYPE_CHECKING:  # `snn_artsy.plots` imports it first, see there
    from matplotlib.figure import Figure

_DPI = 160


def write_report(runs: Sequence[Run], out: Path, overwrite: bool = False) -> Path:
    """Write the page; it appears whole or not at all. A figure that can't be drawn is named in it.

    Args:
        runs: Opened runs; several are compared.
        out: The HTML file.
        overwrite: Replace another file of this name.

    Raises:
        ConfigError: Another file is there, or ``out`` can't be written.
        RecordingError: A run file is damaged.
    """
    shown = [_section(run) for run in runs]
    all_learners = {
        f"{section['name']}: {learner}": measures
        for section in shown
        for learner, measures in section["measures"].items()
    }
    headings, rows = learner_cells(all_learners)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        title="SNN-Artsy: " + ", ".join(section["name"] for section in shown),
        runs=shown,
        comparison={"headings": headings, "rows": rows, "figures": _comparison(runs)},
        caption=LEARNER_CAPTION,
        domain_caption=DOMAIN_CAPTION,
    )
    write_outputs({out: page.encode("utf-8")}, overwrite)
    return out


def _comparison(runs: Sequence[Run]) -> list[dict[str, Any]]:
    if len(runs) < 2:
        return []
    try:
        return [_figure("runs compared", runs_compared(runs), runs_compared.__doc__ or "")]
    except NothingRecorded:
        return []


def _section(run: Run) -> dict[str, Any]:
    measures = {learner: run.summary(learner) for learner in run.learners}
    headings, rows = learner_cells(measures)
    figures, absent = [], {}
    for name, draw in FIGURES.items():
        try:
            figures.append(_figure(name, draw(run), draw.__doc__ or ""))
        except NothingRecorded as reason:
            absent[name.replace("_", " ")] = str(reason)
        except RecordingError:
            raise
        except Exception as error:
            absent[name.replace("_", " ")] = f"{type(error).__name__}: {error}"
    commit = run.attributes.get("git_commit") or "unknown"
    return {
        "name": run.path.parent.name,
        "status": run.status,
        "facts": run_facts(run),
        "measures": measures,
        "headings": headings,
        "rows": rows,
        "domains": domain_cells(measures),
        "figures": figures,
        "absent": absent,
        "config": run.config,
        "versions": run.versions,
        "reproduce": (
            f"# at commit {' '.join(clean(str(commit)).split())}, with the versions below\n"
            f"snn-artsy run --config {quoted(run.path.parent / 'config.yaml')} --out runs/again"
        ),
    }


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
        "type": "png",
        "data": base64.b64encode(content).decode(),
        "marks": points,
    }
