"""Settings x seeds of one learner on one data set -> a Markdown table with mean and sd.

    python experiments/study.py experiments/studies/rules.yaml --seeds 5 --out runs/rules_digits
    python experiments/study.py experiments/studies/rules.yaml --out runs/rules_tiny --seeds 5 \
        --config experiments/tiny_imagenet_10step.yaml --set data.root=DIR \
        --set backbone.checkpoint=FILE --workers 4
    ... --into experiments/RESULTS.md --name rules_digits

A study is a YAML file: name of each setting -> keys that differ from the configuration; the learner
is ``artsy_snn``, or what ``--learner`` names, or a setting's key ``learners`` (one name). Each
setting is a comparison (`snn-artsy compare`) in a directory of its own below ``--out``, so that
finished cells are kept when the command is run again. ``study.json`` has every value of the table.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from snn_artsy.api import MOST_SEEDS
from snn_artsy.checks import ConfigError, require, within
from snn_artsy.cli import script
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import assignments, complete, layered, read_config
from snn_artsy.evaluation.statistics import mean_interval
from snn_artsy.learners.shuffled import EQUAL_DENSITY, timing_indices
from snn_artsy.registry import LEARNERS
from snn_artsy.runs.compare import compare
from snn_artsy.runs.workers import Resources
from snn_artsy.yaml_file import read_yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "analysis"))
from results_table import insert, page_with
from results_table import table as markdown_table

TIMING = (
    "timing_index_equal_parameters", "timing_index_equal_density", "timing_contacts_changed",
)  # fmt: skip
KEYS = (
    "a_last_spikes_only", "a_last", "task_identification", "gate_identification",
    "mean_open_gates", "gate_precision", "gate_recall", "all_silent_share", "converted_share",
    *TIMING, "test_steps", "max_rate_hz", "spikes_per_image",
    "synaptic_operations_per_image", "stored_bytes", "seconds_learning",
)  # fmt: skip
SHUFFLED = ("shuffled_timing", EQUAL_DENSITY)
OF_SHUFFLED = ("a_last_spikes_only", "contacts_changed")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first_seed", type=int, default=1993)
    parser.add_argument("--learner", default="artsy_snn")
    parser.add_argument("--timing", action="store_true", help="the two shuffled controls, too")
    parser.add_argument("--workers", type=int, default=1, help="seeds at a time")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--columns", help="columns of the table, separated by commas")
    given = parser.parse_args(words)
    settings = read_yaml(given.study, "study", f'"{given.study}"')
    named = isinstance(settings, dict) and settings
    require(bool(named), "study", str(given.study), "give a file of settings, NAME: {key: value}")
    base = read_config(given.config) if given.config else {}
    base = layered(base, assignments(given.set))
    within("seeds", given.seeds, 1, MOST_SEEDS)
    if given.into is not None:
        page_with(given.into, given.name)
    found = carry_out(settings, base, given)
    text = table(found, given)
    print(text)
    if given.into:
        insert(given.into, given.name, text)


def carry_out(
    settings: dict[str, Any], base: dict[str, Any], given: argparse.Namespace
) -> dict[str, Any]:
    """Compare each setting's learner over seeds; what is written to ``study.json``."""
    configs = {}
    for name, over in settings.items():
        out = given.out / re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
        own = {"learners": [given.learner], "seed": given.first_seed, "out": str(out)}
        configs[name] = build(RunConfig, complete(base, own, over or {}))
    file = given.out / "study.json"
    if file.is_file() and not any(Path(str(config.out)).is_dir() for config in configs.values()):
        raise ConfigError(
            "out", f'"{file}" has no cells beside it to go on from; choose another --out'
        )
    if given.timing:
        for control in ("ShuffledTiming", "ShuffledTimingEqualDensity"):
            LEARNERS.load(f"shuffled_timing:{control}")
    resources = Resources(given.address, given.workers)
    cells: dict[str, dict[str, float]] = {}
    commits: set[str] = set()
    for name, config in configs.items():
        print(name)
        learner, *_ = config.learners
        if given.timing and learner == "artsy_snn" and config.snn.plasticity.rule != "none":
            config = replace(config, learners=[learner, *SHUFFLED])
        _, summary = compare(config, given.seeds, Console(quiet=True), resources)
        for why in summary.get("failed", {}).values():
            print(f"failed: {why}")
        measures = summary["learners"].get(learner, {})
        values = {key: measures[key]["values"] for key in KEYS if key in measures}
        controls = {c: summary["learners"][c] for c in SHUFFLED if c in summary["learners"]}
        for i, seed in enumerate(summary["seeds"]):
            cell = {key: each[i] for key, each in values.items()}
            of_seed = {
                control: {key: numbers[key]["values"][i] for key in OF_SHUFFLED if key in numbers}
                for control, numbers in controls.items()
            }
            cell |= timing_indices(cell.get("a_last_spikes_only", 0.0), of_seed)
            cells[f"{name}/{seed}"] = cell
        commits |= set(summary["git_commits"])
    found = {"cells": cells, "commits": sorted(commits), "study": settings, "base": base,
             "device": summary["device"]}  # fmt: skip
    file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def intervals(runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """A line for each setting: 95 % intervals of the timing numbers over seeds."""
    lines = []
    for name, cells in runs.items():
        known = [key for key in TIMING if all(key in cell for cell in cells)]
        if not known or len(cells) < 2:
            continue
        ranges = (mean_interval([100 * cell[key] for cell in cells]) for key in known)
        parts = (
            f"{key} {mean:.1f} [{low:.1f}, {high:.1f}]"
            for key, (mean, low, high) in zip(known, ranges, strict=True)
        )
        lines += ["", f"{name}, 95 % intervals over seeds (Student's t): {', '.join(parts)}."]
    return lines


def table(found: dict[str, Any], given: argparse.Namespace) -> str:
    """One line a setting."""
    runs = {
        name: [v for key, v in found["cells"].items() if key.rsplit("/", 1)[0] == name]
        for name in found["study"]
    }
    wanted = given.columns.split(",") if given.columns else KEYS
    lines = markdown_table(runs, tuple(key for key in KEYS if key in wanted))
    config = build(RunConfig, complete(found["base"]))
    commits = ", ".join(commit[:10] for commit in found["commits"])
    seeds = f"{given.first_seed}-{given.first_seed + given.seeds - 1}"
    lines += ["", f"{config.data.name}, {config.backbone.name}, seeds {seeds}, {found['device']}, "
              f"commit {commits}; mean ± sd, percent (but for seconds)."]  # fmt: skip
    lines += intervals(runs)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    script(main)
