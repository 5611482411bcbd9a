"""Contacts of trained runs cut, and receptors blocked: mean and spread over runs.

    for seed in 1993 1994 1995; do
      snn-artsy protocol lesion --run runs/tiny_imagenet_$seed --out runs/lesion_tiny/$seed
      snn-artsy protocol pharmacology --run runs/tiny_imagenet_$seed --out runs/lesion_tiny/$seed
    done
    python analysis/lesion.py runs/lesion_tiny/* --out docs/figures/lesion_tiny.png \
        --into experiments/RESULTS.md --name lesion_tiny

``--pharmacology FILE`` draws the second protocol.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script
from snn_artsy.plots.protocols import lesion_curves, pharmacology_bars

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import cell, insert

MEASURES = ("with_h0", "spikes_only", "task_identified")


def data_of(directory: Path, protocol: str) -> h5py.File:
    """What a protocol left.

    Raises:
        ConfigError: It left nothing there.
    """
    file = directory / f"{protocol}.h5"
    if not h5py.is_hdf5(file):
        raise ConfigError("directories", f'no data of {protocol} in "{directory}"; run it first')
    return h5py.File(file)


def lesions(directories: list[Path]) -> dict[str, NDArray[np.float64]]:
    """``<kind>/<measure>`` [runs, shares]: each run's mean over its repeats."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for directory in directories:
        with data_of(directory, "lesion") as file:
            share = file["data/share_cut"][()]
            for kind in ("random", "targeted"):
                for measure in MEASURES:
                    values = file[f"data/{kind}/{measure}"][()].mean(0)
                    found.setdefault(f"{kind}/{measure}", []).append(values)
    return {"share_cut": share} | {key: np.stack(values) for key, values in found.items()}


def pharmacology(directories: list[Path]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names of the conditions; accuracies [runs, conditions, measures]."""
    found = []
    for directory in directories:
        with data_of(directory, "pharmacology") as file:
            names = tuple(name.decode() for name in file["data/condition"][()])
            found.append(file["data/accuracy"][()])
    return names, np.stack(found)


def draw_pharmacology(directories: list[Path]) -> Figure:
    return pharmacology_bars(*pharmacology(directories))


def table(directories: list[Path]) -> str:
    data = lesions(directories)
    lines = ["| cut, % | random, with h_0 | random, spikes only | targeted, with h_0 | "
             "targeted, spikes only |", "|---:|" + "---:|" * 4]  # fmt: skip
    for k, share in enumerate(data["share_cut"]):
        cells = [
            cell(list(data[f"{kind}/{measure}"][:, k]), 100)
            for kind in ("random", "targeted")
            for measure in MEASURES[:2]
        ]
        lines.append(f"| {100 * share:.0f} | " + " | ".join(cells) + " |")
    names, accuracy = pharmacology(directories)
    lines += ["", "| | with h_0 | spikes only |", "|---|---:|---:|"]
    for k, name in enumerate(names):
        cells = [cell(list(accuracy[:, k, m]), 100) for m in range(2)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    with data_of(directories[0], "lesion") as file:
        commit = file.attrs["git_commit"][:10]
    lines += ["", f"Percent of test samples right, mean ± sd over {len(directories)} runs, "
              f"commit {commit}."]  # fmt: skip
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="figure of the lesions")
    parser.add_argument("--pharmacology", type=Path, help="figure of the blocked receptors")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="lesion")
    given = parser.parse_args(words)
    if given.out is not None:
        lesion_curves(lesions(given.directories)).savefig(given.out, dpi=200)
    if given.pharmacology is not None:
        draw_pharmacology(given.directories).savefig(given.pharmacology, dpi=200)
    text = table(given.directories)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
