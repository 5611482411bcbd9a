"""Settings x seeds of one learner on one data set -> a Markdown table with mean and sd.

    python experiments/study.py experiments/studies/rules.yaml --seeds 5 --out runs/rules_digits
    python experiments/study.py experiments/studies/rules.yaml --out runs/rules_tiny --seeds 5 \
        --config experiments/tiny_imagenet_10step.yaml --set data.root=DIR \
        --set backbone.checkpoint=FILE
    ... --into experiments/RESULTS.md --name rules_digits

A study is a YAML file: name of each setting -> keys that differ from the configuration; the learner
is ``artsy_snn``, or what ``--learner`` names, or a setting's key ``learners`` (one name). Features
are extracted once for each class order. ``study.json`` keeps every value and the commit it was
made at; finished cells are kept when the command is run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete, layered
from snn_artsy.provenance import provenance
from snn_artsy.runs.features import choose_device, prepare
from snn_artsy.runs.loop import run_learner

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "analysis"))
from results_table import insert
from results_table import table as markdown_table

KEYS = (
    "a_last_spikes_only", "a_last", "task_identification", "gate_identification",
    "mean_open_gates", "gate_precision", "gate_recall", "all_silent_share", "converted_share",
    "timing_index", "test_steps", "max_rate_hz", "spikes_per_image",
    "synaptic_operations_per_image", "stored_bytes", "seconds_learning",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first_seed", type=int, default=1993)
    parser.add_argument("--learner", default="artsy_snn")
    parser.add_argument("--timing", action="store_true", help="measure timing_index too")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--columns", help="columns of the table, separated by commas")
    given = parser.parse_args()
    settings = yaml.safe_load(given.study.read_text(encoding="utf-8"))
    base = yaml.safe_load(given.config.read_text(encoding="utf-8")) if given.config else {}
    pairs = (item.split("=", 1) for item in given.set)
    base = layered(base, {key: yaml.safe_load(value) for key, value in pairs})
    start = layered(base, {"learners": [given.learner]})
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "study.json"
    facts = provenance(1)
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = {"cells": {}, "commits": {}} | found | {"study": settings, "base": base}
    console = Console()
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        configs = {
            name: build(RunConfig, complete(start, over or {}, {"seed": seed}))
            for name, over in settings.items()
        }
        wanted = {n: c for n, c in configs.items() if f"{n}/{seed}" not in found["cells"]}
        if not wanted:
            continue
        first = next(iter(wanted.values()))
        device = choose_device(first.device)
        frozen = prepare(first, device, console)
        for name, config in wanted.items():
            measures = run_learner(config.learners[0], config, frozen, device, Console(quiet=True))
            values = {key: measures[key] for key in KEYS if key in measures}
            if (
                given.timing
                and config.learners == ["artsy_snn"]
                and config.snn.plasticity.rule != "none"
            ):
                values["timing_index"] = values["a_last_spikes_only"] - shuffled(
                    config, frozen, device
                )
            found["cells"][f"{name}/{seed}"] = {k: float(v) for k, v in values.items()}
            found["commits"][f"{name}/{seed}"] = facts["git_commit"]
            found["device"] = device
            file.write_text(json.dumps(found, indent=1), encoding="utf-8")
            console.print(name, seed, found["cells"][f"{name}/{seed}"], highlight=False)
    text = table(found, list(settings), given)
    print(text)
    if given.into:
        insert(given.into, given.name, text)


def shuffled(config: RunConfig, frozen: Any, device: str) -> float:
    """A_last from spikes alone, presynaptic spikes shuffled in time inside each presentation."""
    from snn_artsy.learners import build_snn
    from snn_artsy.learners.tasks import join
    from snn_artsy.runs.evaluate import evaluate

    learner = build_snn(frozen.setting(config, device), "shuffled_timing")
    for task, _ in frozen.tasks:
        learner.learn(task)
    seen = join([test for _, test in frozen.tasks])
    answers = evaluate(learner, seen, frozen.stream.task_of_label, oracle=False)
    return float((answers.spike_predicted == answers.labels).mean())


def table(found: dict[str, Any], names: list[str], given: argparse.Namespace) -> str:
    runs = {
        name: [v for key, v in found["cells"].items() if key.rsplit("/", 1)[0] == name]
        for name in names
    }
    wanted = given.columns.split(",") if given.columns else KEYS
    lines = markdown_table(runs, tuple(key for key in KEYS if key in wanted))
    config = build(RunConfig, complete(found["base"]))
    commits = sorted({str(commit)[:10] for commit in found["commits"].values()})
    seeds = f"{given.first_seed}-{given.first_seed + given.seeds - 1}"
    lines += ["", f"{asdict(config)['data']['name']}, {config.backbone.name}, seeds {seeds}, "
              f"{found['device']}, commit {', '.join(commits)}; mean ± sd, percent "
              "(but for seconds)."]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
