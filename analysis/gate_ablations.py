"""What answers owe to gates and opened sub-networks: one thing changed at a time.

    python analysis/gate_ablations.py --config experiments/traffic_signs_5step.yaml \
        --set data.root=DIR --set backbone.checkpoint=FILE --seeds 5 --out runs/gate_ablations.json

The best ANN gate (`artsy_best`) and spiking gates (`artsy_snn` with adapters in the blocks) decide
over the same sub-networks, which are trained once for each seed; then the gates are changed
(`artsy_best.gates`, `.open`) and the test images of all tasks are answered after the last one.
``--controls`` adds what contacts learn without plasticity, labels or spike timing. Prints a
Markdown table over seeds and writes every value; ``--into`` puts the table into a page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from snn_artsy.checks import require
from snn_artsy.cli import script
from snn_artsy.config import BestGateConfig, RunConfig
from snn_artsy.evaluation.statistics import mean_interval, spread
from snn_artsy.learners import build as build_learner
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.base import Prediction
from snn_artsy.learners.spiking_gates import SpikingGates
from snn_artsy.learners.tasks import join
from snn_artsy.runs.evaluate import predict
from snn_artsy.runs.features import FeatureStream, prepare
from snn_artsy.runs.tables import markdown

sys.path.insert(0, str(Path(__file__).resolve().parent))
from over_seeds import asked

GATED = "gated"
LEARNERS = {"best": "best ANN gate", "spiking": "spiking gates"}


def settings(given: BestGateConfig, n_tasks: int) -> dict[str, BestGateConfig]:
    """How gates are set, by the name of the row."""
    changed: dict[str, dict[str, Any]] = {
        GATED: {},
        "one gate open": {"open": 1},
        "two gates open": {"open": 2},
        "every gate open, tasks weighed": {"open": n_tasks},
        "gates shuffled": {"gates": "shuffled"},
        "every gate open, tasks alike": {"gates": "open"},
        "gates' own arg max": {"gates": "first"},
        "every gate shut": {"gates": "shut"},
    }
    return {name: replace(given, **values) for name, values in changed.items()}


def answers(
    config: RunConfig, frozen: FeatureStream, device: str, controls: bool
) -> Iterator[tuple[str, str, Prediction]]:
    """Learner, row, and its answers to all test images after the last task."""
    setting, tasks = frozen.setting(config, device), [task for task, _ in frozen.tasks]
    test = join([test for _, test in frozen.tasks])
    best, spiking = build_learner("artsy_best", setting), build_learner("artsy_snn", setting)
    assert isinstance(best, ArtsyBest)
    require(
        isinstance(spiking, SpikingGates),
        "ann.placement",
        config.ann.placement,
        "compare gates over sub-networks in the blocks, with snn.mode gate",
    )
    assert isinstance(spiking, SpikingGates)
    shut = build_learner("artsy_best", replace_gates(setting, "shut"))
    assert isinstance(shut, ArtsyBest)
    of = of_task(frozen)
    for other in (spiking, shut):
        own = other.subnetworks.config
        other.subnetworks = best.subnetworks.sharing()
        other.subnetworks.config = own
    for task in tasks:
        for learner in (best, spiking, shut):
            learner.learn(task)
    for name, changed in settings(config.artsy_best, len(tasks)).items():
        for key, learner in (("best", best), ("spiking", spiking)):
            asked = shut if key == "best" and changed.gates == "shut" else learner
            asked.subnetworks.config = changed
            yield key, name, predict(asked, test)
    for key, learner in (("best", best), ("spiking", spiking)):
        learner.subnetworks.config = config.artsy_best
        oracle = replace(test, true_task=of[test.labels])
        yield key, "oracle gate", predict(learner, oracle)
    for name, control in (spiking.controls() if controls else {}).items():
        for task in tasks:
            control.learn(task)
        yield "spiking", name.replace("_", " "), predict(control, test)


def replace_gates(setting: Any, gates: str) -> Any:
    config = setting.config
    return replace(
        setting, config=replace(config, artsy_best=replace(config.artsy_best, gates=gates))
    )


def of_task(frozen: FeatureStream) -> torch.Tensor:
    """Task of each label, int64 [C]."""
    device = frozen.tasks[0][1].labels.device
    return torch.from_numpy(frozen.stream.task_of_label).to(device)


def measured(answer: Prediction, labels: torch.Tensor, of: torch.Tensor) -> dict[str, float]:
    """Shares of test images, gates open and passes of the ViT an image."""
    predicted = answer.scores.argmax(1)
    found = {
        "accuracy": float((predicted == labels).double().mean()),
        "task": float((of[predicted] == of[labels]).double().mean()),
    }
    if answer.gates is not None:
        found["open"] = float(answer.gates.sum(1).double().mean())
    if answer.vit_passes is not None:
        found["passes"] = float(answer.vit_passes.double().mean())
    if answer.spike_scores is not None:
        spikes = (answer.spike_scores.argmax(1) == labels) & ~answer.spike_scores.isneginf().all(1)
        found["spikes"] = float(spikes.double().mean())
    return found


def table(each: list[dict[str, dict[str, dict[str, float]]]]) -> str:
    """One line a learner and setting: mean ± sd over seeds, and the difference to the gated answer,
    paired by seed, with its t interval."""
    rows = []
    for key, title in LEARNERS.items():
        for name in each[0][key]:
            of = [seed[key][name] for seed in each]
            accuracy = [100 * m["accuracy"] for m in of]
            less = [
                100 * (m["accuracy"] - s[key][GATED]["accuracy"])
                for m, s in zip(of, each, strict=True)
            ]
            cells = [_mean(accuracy), _difference(less) if name != GATED else "–"]
            cells += [_mean([100 * m["task"] for m in of])]
            cells += [_mean([100 * m["spikes"] for m in of]) if "spikes" in of[0] else "–"]
            cells += [f"{_average(of, m)}" for m in ("open", "passes")]
            rows.append((f"{title}: {name}", cells))
    head = ["A_last", "less the gated answer", "task", "spikes only", "open gates", "ViT passes"]
    return "\n".join(markdown(head, rows))


def _mean(values: list[float]) -> str:
    found = spread(values)
    return f"{found['mean']:.1f} ± {found['sd']:.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _difference(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:+.1f}"
    mean, low, high = mean_interval(values)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _average(of: list[dict[str, float]], measure: str) -> str:
    return f"{sum(m[measure] for m in of) / len(of):.2f}" if measure in of[0] else "–"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--controls", action="store_true", help="of what contacts learn, too")
    of = asked(parser, words, "gate_ablations")
    each: list[dict[str, dict[str, dict[str, float]]]] = []
    for config in of.configs():
        own = replace(config, learners=["artsy_best", "artsy_snn"])
        frozen = prepare(own, of.device, Console(quiet=True))
        labels = join([test for _, test in frozen.tasks]).labels
        each.append({key: {} for key in LEARNERS})
        for key, name, answer in answers(own, frozen, of.device, of.given.controls):
            each[-1][key][name] = measured(answer, labels, of_task(frozen))
            found = 100 * each[-1][key][name]["accuracy"]
            said = f"seed {own.seed}, {LEARNERS[key]}: {name} {found:.1f}"
            print(said, file=sys.stderr, flush=True)
    of.keep({"measures": each})
    of.tell(
        table(each),
        f"{of.config.artsy_best.open} gates open. Percent of test images, mean ± sd over seeds; "
        "differences with t intervals.",
    )


if __name__ == "__main__":
    script(main)
