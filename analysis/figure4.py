"""Figure 4 of the paper: gates trained with and without good and bad features, and other gates.

    python analysis/figure4.py Tiny-ImageNet=runs/gates_tiny Caltech-101=runs/gates_caltech \
        --out docs/figures/figure4.png

From studies of `experiments/studies/gates.yaml`; mean over seeds, bars of one standard deviation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script
from snn_artsy.plots.style import BLUE, ORANGE, new_figure, styled

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import by_name

PANELS = (
    ("gate_identification", "own gate scores highest (%)", 100),
    ("mean_open_gates", "open gates a sample", 1),
    ("a_last", "A_last (%)", 100),
)

Cells = dict[str, dict[str, list[float]]]
"""Values over seeds of each measure of each setting."""


def read(directory: Path) -> Cells:
    """A study's cells, setting by setting in the study's order.

    Raises:
        ConfigError: There is no study.
    """
    file = directory / "study.json"
    try:
        study = json.loads(file.read_text(encoding="utf-8"))
        cells: Cells = {name: {} for name in study["study"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("study", f'"{file}" is none ({error}); make it again') from error
    for key, measures in study["cells"].items():
        for measure, value in measures.items():
            cells[key.rsplit("/", 1)[0]].setdefault(measure, []).append(value)
    return cells


@styled
def draw(studies: dict[str, Cells]) -> Figure:
    """One panel a measure, one bar a setting and data set."""
    settings = list(next(iter(studies.values())))
    figure = new_figure(7.2, 0.9 + 0.26 * len(settings))
    panels = figure.subplots(1, len(PANELS), sharey=True)
    rows = np.arange(len(settings))
    height = 0.8 / len(studies)
    for axes, (measure, label, scale) in zip(panels, PANELS, strict=True):
        for k, (name, cells) in enumerate(studies.items()):
            values = [scale * np.array(cells[s].get(measure, [np.nan])) for s in settings]
            at = rows + (k - (len(studies) - 1) / 2) * height
            mean = [v.mean() for v in values]
            sd = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in values]
            colour = (BLUE, ORANGE)[k % 2]
            if measure == "a_last":  # far from zero, where bars would have to start
                axes.errorbar(mean, at, xerr=sd, fmt="o", color=colour, label=name)
            else:
                bars = {"linewidth": 0.8}
                axes.barh(at, mean, height, xerr=sd, color=colour, error_kw=bars, label=name)
        axes.set_xlabel(label)
    panels[0].set_yticks(rows, settings)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("studies", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    folders = by_name(given.studies)
    draw({name: read(folder) for name, folder in folders.items()}).savefig(given.out, dpi=200)


if __name__ == "__main__":
    script(main)
