"""ANN against SNN, task by task and over seeds.

python analysis/ann_vs_snn.py runs/X --out figures            # one run
python analysis/ann_vs_snn.py runs/compare_tiny --out figures # `snn-artsy compare`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from snn_artsy.cli import script
from snn_artsy.plots import save_figures
from snn_artsy.plots.comparison import differences
from snn_artsy.recording import open_run

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import summary_of


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path, help="of a run or of a comparison")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="directory of the PDFs")
    parser.add_argument("--against", default="artsy_ann", help="what comparisons are made with")
    arguments = parser.parse_args(words)
    if arguments.directory.suffix == ".h5" or (arguments.directory / "run.h5").is_file():
        with open_run(arguments.directory) as run:
            names = ("accuracy_per_step", "ann_minus_snn")
            for path in save_figures(run, arguments.out, ("pdf",), names):
                print(path)
    else:
        summary = summary_of(arguments.directory, comparison=True)
        arguments.out.mkdir(parents=True, exist_ok=True)
        target = arguments.out / "differences.pdf"
        differences(summary, arguments.against).savefig(target)
        print(target)


if __name__ == "__main__":
    script(main)
