"""Accuracy, time and passes of the ViT against the number of blocks with adapters (``ann.blocks``).

    python analysis/accuracy_over_blocks.py --config experiments/traffic_signs_5step.yaml \
        --set data.root=DIR --set backbone.checkpoint=FILE --seeds 3 --out runs/blocks.json \
        --figure docs/figures/blocks.png

Each number of blocks k is a comparison (`snn-artsy compare`) below ``--out`` without its suffix,
whose finished cells are kept: the same command goes on. All k learn with one seed before the next
seed begins, so that their times can be compared on a machine that gets slower or faster. Prints
Markdown tables and writes every value; ``--into`` puts the tables into a page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import ConfigError, require
from snn_artsy.cli import script
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import convert
from snn_artsy.evaluation.statistics import crossed_mean, mean_interval
from snn_artsy.plots.style import PAGE_INCHES, learner_colour, learner_name, new_figure, styled
from snn_artsy.runs.cells import Cell, cell_file, read_cell
from snn_artsy.runs.compare import compare
from snn_artsy.runs.tables import ABSENT, COLUMNS, markdown

sys.path.insert(0, str(Path(__file__).resolve().parent))
from over_seeds import Asked, asked, differences, interval
from results_table import cell

Cells = dict[tuple[int, str], list[Cell]]
"""Of each k and learner, one for each seed."""


def with_blocks(config: RunConfig, k: int, learners: list[str], folder: Path) -> RunConfig:
    own = replace(config.ann, blocks=k)
    return replace(config, learners=learners, ann=own, out=str(folder / f"k_{k}"))


def carried_out(of: Asked, blocks: list[int], learners: list[str]) -> Cells:
    """Every k's comparison, from what is there.

    Raises:
        RuntimeError: A learner's numbers were not finite.
    """
    folder, quiet = of.given.out.with_suffix(""), Console(quiet=True)
    configs = {k: with_blocks(of.config, k, learners, folder) for k in blocks}
    for n, seed in enumerate(of.seeds, start=1):
        for k, config in configs.items():
            print(f"seed {seed}, {k} blocks", file=sys.stderr, flush=True)
            _, summary = compare(config, n, quiet)
            if "failed" in summary:
                raise RuntimeError("; ".join(summary["failed"].values()))
    return {
        (k, name): [read_cell(cell_file(Path(str(config.out)), name, seed))[0] for seed in of.seeds]
        for k, config in configs.items()
        for name in learners
    }


def right(cells: list[Cell]) -> NDArray[np.float64]:
    """Whether each test image was answered rightly with each seed, [n_seeds, n_images]."""
    return np.stack([each.correct for each in cells]).astype(np.float64)


def share_of_time(cells: list[Cell], whole: list[Cell]) -> list[float]:
    """Seconds of learning with each seed, as a share of those of other cells; empty of a learner
    that trains nothing."""
    if any(each.measures["parameters"] == 0 for each in whole):
        return []
    measure = "seconds_learning"
    pairs = zip(cells, whole, strict=True)
    return [one.measures[measure] / other.measures[measure] for one, other in pairs]


def tables(cells: Cells) -> tuple[str, int]:
    """One line a learner and k; then the first learner against the others at each k. And for how
    many differences p was corrected."""
    learners = list(dict.fromkeys(name for _, name in cells))
    most = max(k for k, _ in cells)
    shown = ("seconds_learning", "vit_passes_per_image")
    rows = []
    for name in learners:
        for k in sorted(k for k, other in cells if other == name):
            own = cells[k, name]
            shares = share_of_time(own, cells[most, name])
            numbers = [[each.measures[measure] for each in own] for measure in shown]
            rows.append(
                (
                    f"{learner_name(name)}, {k}",
                    [
                        cell([each.measures["a_last"] for each in own], 100),
                        interval(right(own)),
                        cell(numbers[0], COLUMNS[shown[0]].scale),
                        _with_interval(shares),
                        f"{np.mean(numbers[1]):.2f}",
                    ],
                )
            )
    head = ["A_last", "95 %", "seconds learning", f"share of k = {most}", "ViT passes"]
    first, *others = learners
    pairs = {
        (name, k): (right(cells[k, first]), right(cells[k, name]))
        for name in others
        for k in sorted({k for k, _ in cells})
    }
    found, n_tests = differences(pairs)
    compared = [
        (f"{learner_name(first)} - {learner_name(name)}, {k}", texts)
        for (name, k), texts in found.items()
    ]
    lines = markdown(head, rows)
    lines += ["", *markdown(["points", "p (Holm)"], compared)] if compared else []
    return "\n".join(lines), n_tests


def _with_interval(shares: list[float]) -> str:
    """Mean and t interval over seeds."""
    if not shares:
        return ABSENT
    if len(shares) == 1:
        return f"{shares[0]:.2f}"
    mean, low, high = mean_interval(shares)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


@styled
def draw(cells: Cells) -> Figure:
    """Accuracy with 95 % intervals, seconds of learning and passes of the ViT an image, each
    against k."""
    figure = new_figure(PAGE_INCHES, 2.6)
    accuracy, seconds, passes = figure.subplots(1, 3)
    for position, name in enumerate(dict.fromkeys(name for _, name in cells)):
        ks = sorted(k for k, other in cells if other == name)
        style = {"color": learner_colour(name, position), "marker": "."}
        found = [crossed_mean(right(cells[k, name])) for k in ks]
        ends = np.array([each.interval() for each in found]).T
        mean = np.array([each.mean for each in found])
        accuracy.errorbar(
            ks, 100 * mean, 100 * np.abs(ends - mean), label=learner_name(name), **style
        )
        for axes, measure in ((seconds, "seconds_learning"), (passes, "vit_passes_per_image")):
            values = np.array([[c.measures[measure] for c in cells[k, name]] for k in ks])
            sd = values.std(1, ddof=1) if values.shape[1] > 1 else None
            axes.errorbar(ks, values.mean(1), sd, **style)
    for axes, label in ((accuracy, "A_last (%)"), (seconds, "seconds learning"),
                        (passes, "ViT passes an image")):  # fmt: skip
        axes.set(xlabel="blocks with adapters", ylabel=label)
        axes.set_xticks(sorted({k for k, _ in cells}))
    for axes in (seconds, passes):
        axes.set_ylim(0, None)
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def numbers(text: str) -> list[int]:
    """Numbers of blocks, ascending."""
    found = sorted({convert(int, word.strip(), "blocks") for word in text.split(",")})
    require(found[0] > 0, "blocks", text, "give numbers of blocks, separated by commas")
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", default="1,2,4,8,12")
    parser.add_argument("--learners", default="artsy_best,ease,simplecil")
    parser.add_argument("--figure", type=Path, help="its suffix says of which kind: .png, .pdf")
    of = asked(parser, words, "accuracy_over_blocks")
    blocks, learners = numbers(of.given.blocks), of.given.learners.split(",")
    config, figure = of.config, of.given.figure
    require(
        config.ann.placement == "blocks",
        "ann.placement",
        config.ann.placement,
        "adapters are counted in the blocks; use blocks",
    )
    require(of.given.out.suffix == ".json", "out", str(of.given.out), "give a name in .json")
    if figure is not None and figure.suffix[1:] not in Figure().canvas.get_supported_filetypes():
        raise ConfigError("figure", f'"{figure}" has no suffix of a figure; use .png or .pdf')
    backbone = FrozenBackbone.build(config.backbone, of.device)
    for k in blocks:  # a slip must not be found after hours
        backbone.first_adapted(k)
        with_blocks(config, k, learners, Path())
    cells = carried_out(of, blocks, learners)
    measures: list[dict[str, Any]] = [
        {"blocks": k, "learner": name, "seed": seed, "commit": each.commit, **each.measures}
        for (k, name), own in cells.items()
        for seed, each in zip(of.seeds, own, strict=True)
    ]
    text, n_tests = tables(cells)
    n_tasks = len(next(iter(cells.values()))[0].curves["a_t"])
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        draw(cells).savefig(figure, dpi=200)
    of.keep({"cells": measures})
    of.tell(
        text,
        f"{n_tasks} tasks; adapters in the last k blocks, k behind the comma. Percent, "
        "mean ± sd over seeds; intervals and p: t, seeds and test images crossed "
        f"(docs/statistics.md), p corrected for all {n_tests} differences; of times: t over seeds, "
        "all k with a seed one after the other.",
    )


if __name__ == "__main__":
    script(main)
