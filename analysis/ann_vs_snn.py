"""ANN against SNN, task by task: `python analysis/ann_vs_snn.py runs/X [--out FILE]`."""

import argparse
from pathlib import Path

from snn_artsy.plots import accuracy_per_step
from snn_artsy.recording import open_run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run directory or its run.h5")
    parser.add_argument("--out", type=Path, default=Path("ann_vs_snn.pdf"), help="PDF, PNG or SVG")
    arguments = parser.parse_args()
    with open_run(arguments.run) as run:
        accuracy_per_step(run).savefig(arguments.out, dpi=300)
    print(arguments.out)
