"""Settings x seeds of one learner on one data set -> a Markdown table, put into a page.

    python experiments/study.py experiments/studies/rules.yaml --seeds 5 --out runs/rules_digits
    python experiments/study.py experiments/studies/rules.yaml --out runs/rules_tiny --seeds 5 \
        --config experiments/tiny_imagenet_10step.yaml --set data.root=DIR \
        --set backbone.checkpoint=FILE --workers 4
    ... --into experiments/RESULTS.md --name rules_digits

What `snn-artsy study` does, with the files that the results name: of a study as that command takes
it (``vary`` or ``settings``), its own tables; of a file of bare settings, NAME: {key: value}, one
table with mean and sd, and with ``--timing`` the timing index from two more learners. The learner
is ``artsy_snn``, or what ``--learner`` names, or a setting's key ``learners`` (one name).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from snn_artsy.api import STUDIED
from snn_artsy.checks import require, within
from snn_artsy.cli import script
from snn_artsy.config import MOST_SEEDS, RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import assignments, complete, layered, read_config
from snn_artsy.evaluation.statistics import mean_interval
from snn_artsy.learners.shuffled import EQUAL_DENSITY, timing_indices
from snn_artsy.printing import make_console
from snn_artsy.registry import LEARNERS
from snn_artsy.runs.study import KEYS as OF_A_STUDY
from snn_artsy.runs.study import Setting, Study, carry_out, planned
from snn_artsy.runs.sweep import read_grid
from snn_artsy.runs.tables import study_markdown
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
    parser.add_argument("--vary", help="in place of the file's, as in `snn-artsy study`")
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
    content = read_yaml(given.study, "study", f'"{given.study}"')
    named = isinstance(content, dict) and content
    require(bool(named), "study", str(given.study), "give a file of settings, NAME: {key: value}")
    bare = not set(content) & set(OF_A_STUDY)
    shared = {} if bare else {k: v for k, v in content.items() if k not in OF_A_STUDY}
    about = {"settings": content} if bare else {k: content[k] for k in OF_A_STUDY if k in content}
    if given.vary is not None:
        about["vary"] = read_grid(given.vary)
    within("seeds", given.seeds, 1, MOST_SEEDS)
    if given.into is not None:
        page_with(given.into, given.name)
    base = read_config(given.config) if given.config else {}
    own = {"learners": [given.learner], "seed": given.first_seed}
    base = layered({} if bare else STUDIED, base, own, shared, assignments(given.set))
    study = planned(base, about | {"seeds": given.seeds}, given.out)
    if given.timing:
        study = with_controls(study)
    resources = Resources(given.address, given.workers)
    given.out.mkdir(parents=True, exist_ok=True)
    found = carry_out(study, given.out, make_console(), resources) | {"base": base}
    add_timing(found, study)
    file = given.out / "study.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = table(found, given) if bare else "\n".join(study_markdown(found)) + "\n"
    print(text)
    if given.into:
        insert(given.into, given.name, text)


def with_controls(study: Study) -> Study:
    """The same with the two shuffled controls beside each learner that has contacts to teach."""
    for control in ("ShuffledTiming", "ShuffledTimingEqualDensity"):
        LEARNERS.load(f"shuffled_timing:{control}")

    def controlled(setting: Setting) -> Setting:
        if setting.learner != "artsy_snn" or setting.config.snn.plasticity.rule == "none":
            return setting
        config = replace(setting.config, learners=[setting.learner, *SHUFFLED])
        return replace(setting, config=config)

    return replace(study, settings={n: controlled(each) for n, each in study.settings.items()})


def add_timing(found: dict[str, Any], study: Study) -> None:
    """Add the timing index to the cells of settings that have the controls."""
    for name, setting in study.settings.items():
        file = setting.directory / "summary.json"
        learners = json.loads(file.read_text(encoding="utf-8"))["learners"]
        controls = {control: learners[control] for control in SHUFFLED if control in learners}
        for i, seed in enumerate(found["seeds"]):
            of_seed = {
                control: {key: numbers[key]["values"][i] for key in OF_SHUFFLED if key in numbers}
                for control, numbers in controls.items()
            }
            if cell := found["cells"].get(f"{name}/{seed}"):
                cell |= timing_indices(cell.get("a_last_spikes_only", 0.0), of_seed)


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
