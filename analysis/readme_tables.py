"""README's two tables, from the tables of experiments/RESULTS.md: nothing is measured here.

python analysis/readme_tables.py
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert, page_with

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "RESULTS.md"

# Heading -> block of RESULTS.md, and where it is explained.
SETTINGS = {
    "digits, default": ("default_seeds", "digits-5-tasks-of-2-classes-bundled-backbone"),
    "digits, `error`": ("error_digits", "error-driven-synapses-snnpreset-error"),
    "hand digits, `error`": ("error_hand", "error-driven-synapses-snnpreset-error"),
    "traffic signs, `blocks`": ("signs_parts", "what-is-where-in-the-image"),
    "five data sets, `blocks`": ("mixed", "what-is-where-in-the-image"),
}
# Row of the headline -> learner and column.
LEARNERS = {
    "nearest class mean of h_0 (`simplecil`)": ("simplecil", "A_last"),
    "the same, whitened (`whitened_ncm`)": ("whitened_ncm", "A_last"),
    "RanPAC (`ranpac`)": ("ranpac", "A_last"),
    "Artsy, ANN (`artsy_ann`)": ("artsy_ann", "A_last"),
    "Artsy, ANN, gates by class evidence (`artsy_best`)": ("artsy_best", "A_last"),
    "Artsy, SNN, with h_0 (`artsy_snn`)": ("artsy_snn", "A_last"),
    "Artsy, SNN, from spikes alone": ("artsy_snn", "A_last, spikes only"),
    "the same without spikes (`mean_field`)": ("mean_field", "A_last"),
}
# What contributes how much: in words, block, row, column, and whether the sign is turned.
PARTS = (
    ("sub-networks and gates, as in the paper", "Tiny-ImageNet, less `simplecil`", "compare_tiny",
     "simplecil - artsy_ann", "points", True),
    ("sub-networks, in the blocks", "traffic signs, gates that see h_0, less every gate shut",
     "signs_gates", "best ANN gate: every gate shut", "less the gated answer", True),
    ("the same", "gates that also see what is where in the image", "signs_parts_gates",
     "best ANN gate: every gate shut (e0)", "less the gated answer", True),
    ("gates", "traffic signs, gates that also see that, less all sub-networks alike",
     "signs_parts_gates", "best ANN gate: every gate open, tasks alike (no gates)",
     "less the gated answer", True),
    ("spikes", "digits, preset `error`, less `mean_field`", "error_digits",
     "artsy_snn (spikes) - mean_field", "points", False),
    ("the same", "Tiny-ImageNet, preset `timing`", "mean_timing_tiny",
     "artsy_snn (spikes) - mean_field", "points", False),
    ("spike timing, default", "Tiny-ImageNet, less shuffled in time, as many contacts",
     "timing_tiny", "default", "timing, equal density", False),
    ("the same", "digits", "timing_digits", "default", "timing, equal density", False),
    ("spike timing, preset `timing`", "Tiny-ImageNet", "timing_tiny", "timing",
     "timing, equal density", False),
    ("the same", "digits", "timing_digits", "timing", "timing, equal density", False),
)  # fmt: skip


def text_of(block: str) -> str:
    """What RESULTS.md has between the marks of a block.

    Raises:
        ConfigError: It has no such block.
    """
    page, pattern = page_with(RESULTS, block)
    found = pattern.search(page)
    assert found
    return found[0]


def n_seeds(block: str) -> int:
    """Of how many seeds a block says that it is."""
    said = re.search(r"[Ss]eeds (\d+)-(\d+)", text_of(block))
    if said is None:
        raise ConfigError(block, f"no seeds are named in {RESULTS.name}")
    return int(said[2]) - int(said[1]) + 1


def cells(block: str, row: str) -> dict[str, str]:
    """A row of a block's tables, heading -> cell; empty if the block has no such row.

    Raises:
        ConfigError: RESULTS.md has no such block.
    """
    headings: list[str] = []
    for line in text_of(block).splitlines():
        values = [cell.strip() for cell in line.strip("| ").split("|")]
        if line.startswith("| a - b |"):
            headings = values
        elif line.startswith("| | "):
            headings = ["", *values]
            headings = [h for k, h in enumerate(headings) if h or not k]
        elif line.startswith(f"| {row} |"):
            return dict(zip(headings, values, strict=False))
    return {}


def headline() -> str:
    """A_last of learners (rows) in several settings (columns), each with a link to its table."""
    links = [f"[{name}](experiments/RESULTS.md#{anchor})" for name, (_, anchor) in SETTINGS.items()]
    lines = [f"| A_last, % | {' | '.join(links)} |", "|---|" + "---:|" * len(SETTINGS)]
    for label, (learner, column) in LEARNERS.items():
        row = [cells(block, learner).get(column, "–") for block, _ in SETTINGS.values()]
        lines.append(f"| {label} | {' | '.join(row)} |")
    return "\n".join(lines)


def contributions() -> str:
    """What each part adds, in points of A_last, with what RESULTS.md says of its spread."""
    lines = ["| part | measured as | points | seeds |", "|---|---|---:|---:|"]
    for part, how, block, row, column, turned in PARTS:
        found = cells(block, row)
        if column not in found:
            raise ConfigError(block, f'no row "{row}" with a column "{column}" in {RESULTS.name}')
        text = found[column]
        if "95 %" in found and column == "points":
            text = f"{text} ({found['95 %']})"
        shown = _turned(text) if turned else text
        lines.append(f"| {part} | {how} | {shown} | {n_seeds(block)} |")
    return "\n".join(lines)


def _turned(text: str) -> str:
    """A difference and its interval, ``+1.0 (-0.5 to +2.5)``, of the other sign."""
    values = [-float(value) for value in re.findall(r"[-+]?\d+\.\d+", text)]
    digits = len(re.findall(r"\.(\d+)", text)[0])
    shown = [f"{value + 0.0:+.{digits}f}" for value in values]
    return f"{shown[0]} ({shown[2]} to {shown[1]})"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "README.md")
    into = parser.parse_args(words).into
    insert(into, "headline", headline())
    insert(into, "contributions", contributions())


if __name__ == "__main__":
    script(main)
