"""How silent contacts convert: `python analysis/conversion_dynamics.py runs/X [--out DIR]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from snn_artsy.cli import script
from snn_artsy.plots import save_figures
from snn_artsy.recording import open_run

NAMES = (
    "conversion_counts",
    "conversion_rate",
    "conversion_raster",
    "wake_and_sleep",
    "silent_survival",
    "transition_flow",
    "ampa_occupancy",
    "contact_trace",
    "stdp_window",
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory or its run.h5")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="directory of the PDFs")
    arguments = parser.parse_args(words)
    skipped: dict[str, str] = {}
    with open_run(arguments.run) as run:
        for path in save_figures(run, arguments.out, ("pdf",), NAMES, skipped):
            print(path)
    for name, reason in skipped.items():
        print(f"{name}: skipped, {reason}")


if __name__ == "__main__":
    script(main)
