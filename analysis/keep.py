"""Keep the numbers of finished comparisons, studies, runs and protocols in the repository.

    python analysis/keep.py runs/compare_tiny runs/steps_tiny runs/lesion_tiny/1993

Copies ``summary.json``, ``study.json``, ``spike_timing.json`` and the data of protocols
(``lesion.h5``, ``pharmacology.h5``) to ``experiments/recorded/``, under the same names below
``runs/``; paths of the machine that made them are cut to their last part. `analysis/figures.py`
draws from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script

RECORDED = Path(__file__).resolve().parents[1] / "experiments" / "recorded"
JSON = ("summary.json", "study.json", "spike_timing.json")
HDF5 = ("lesion.h5", "pharmacology.h5")


def without_paths(value: Any) -> Any:
    """Absolute paths, wherever they are in a tree of values, cut to their names."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def keep(directory: Path, target: Path) -> list[Path]:
    """The files kept from one directory.

    Raises:
        ConfigError: It has none of them.
    """
    kept = []
    if not any((directory / name).is_file() for name in (*JSON, *HDF5)):
        raise ConfigError("directories", f'nothing to keep in "{directory}"; give a finished run')
    target.mkdir(parents=True, exist_ok=True)
    for name in JSON:
        if (directory / name).is_file():
            tree = json.loads((directory / name).read_text(encoding="utf-8"))
            text = json.dumps(without_paths(tree), separators=(",", ":"), allow_nan=False)
            # one line a learner, pair or cell, so that changes can be read
            text = text.replace('},"', '},\n"').replace("},{", "},\n{")
            kept.append(target / name)
            kept[-1].write_text(text + "\n", encoding="utf-8")
    for name in HDF5:
        if (directory / name).is_file():
            kept.append(Path(shutil.copyfile(directory / name, target / name)))
    return kept


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directories", nargs="+", type=Path)
    for directory in parser.parse_args(words).directories:
        parts = directory.resolve().parts
        below = parts[parts.index("runs") + 1 :] if "runs" in parts else parts[-1:]
        for file in keep(directory, RECORDED.joinpath(*below)):
            print(file)


if __name__ == "__main__":
    script(main)
