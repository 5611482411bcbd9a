"""What encoding loses and what spikes lose: float classifiers on h_0, on p and on spike counts.

    python analysis/encoder_ceiling.py --config experiments/tiny_imagenet_10step.yaml \
        --set data.root=DIR --set backbone.checkpoint=FILE --seeds 5 --out runs/encoder_ceiling.json

Ridge regression and multinomial logistic regression (softmax) are fitted to all training images of
a run's configuration at once, in double precision: to h_0, to the code p of the spiking learner
(docs/model.md, eq. 4), and to how often each input unit fires in a test presentation. Penalties are
those with the highest accuracy on validation images, which are then fitted, too; the code has the
statistics of task 1. Each seed takes 90 % of the training images, as in `snn-artsy compare`. What a
spiking learner with one-bit contacts stays below its counts' row is lost by plasticity, not by the
code. Prints a Markdown table over seeds and writes every value; ``--into`` puts the table into a
page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from snn_artsy.api import COMPARED, MOST_SEEDS
from snn_artsy.checks import ConfigError, within
from snn_artsy.cli import script
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import assignments, complete, read_config
from snn_artsy.evaluation.statistics import mean_interval, spread
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.joint import JointProbe
from snn_artsy.learners.tasks import join
from snn_artsy.provenance import provenance
from snn_artsy.runs.features import FeatureStream, choose_device, prepare
from snn_artsy.runs.tables import markdown
from snn_artsy.synapses.encoding import SpikeEncoder, fit_scaling
from snn_artsy.synapses.expansion import build_expansion
from snn_artsy.synapses.pairing import reading_schedule

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert, page_with

INPUTS = {"h_0": "h_0", "p": "code p", "counts": "spike counts"}
LOSSES = {"encoding loses (h_0 - p)": ("h_0", "p"), "spikes lose (p - counts)": ("p", "counts")}
CLASSIFIERS = ("ridge", "softmax")
PENALTIES = [10.0**k for k in range(-8, 4)]
"""Of ridge, in multiples of the mean square of the centred inputs summed over samples."""
AT_ONCE = 256  # samples that are encoded together


def ridge(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Least squares to one-hot labels with penalty |W|^2: weights [C, n] and intercepts [C].

    The intercept is not penalised; ``penalty`` is a multiple of tr(X' X)/n of centred inputs X.

    Args:
        x: float64 [n_samples, n]. y: int64 [n_samples].
    """
    target = torch.nn.functional.one_hot(y).to(x)
    centre, middle = x.mean(0), target.mean(0)
    rest = x - centre
    scatter = rest.T @ rest
    strength = penalty * scatter.diagonal().mean()
    scatter = scatter + strength * torch.eye(len(scatter)).to(x)
    weight = torch.linalg.solve(scatter, rest.T @ (target - middle)).T
    return weight, middle - weight @ centre


def of_ridge(train: LabelledBatch, held: LabelledBatch, test: LabelledBatch) -> float:
    def share_right(on: LabelledBatch, fitted: tuple[Tensor, Tensor]) -> float:
        scores = on.features @ fitted[0].T + fitted[1]
        return float((scores.argmax(1) == on.labels).double().mean())

    def score(penalty: float) -> float:
        return share_right(held, ridge(train.features, train.labels, penalty))

    best = max(sorted(PENALTIES, reverse=True), key=score)  # of equal ones the strongest
    both = join([train, held])
    return share_right(test, ridge(both.features, both.labels, best))


def of_softmax(
    train: LabelledBatch, held: LabelledBatch, test: LabelledBatch, config: RunConfig
) -> float:
    """Of the learner ``joint``, given all tasks as one."""
    probe = JointProbe(config.joint, train.features.shape[1], str(train.features.device))
    probe.learn(Task(0, tuple(train.labels.unique().tolist()), train, held))
    return float((probe.predict(test).scores.argmax(1) == test.labels).double().mean())


def inputs(config: RunConfig, frozen: FeatureStream) -> dict[str, list[LabelledBatch]]:
    """Training, validation and test samples of all tasks, by what stands in for their features."""
    tasks, encoding = [task for task, _ in frozen.tasks], config.snn.encoding
    whole = [
        join([task.train for task in tasks]),
        join([task.validation for task in tasks]),
        join([test for _, test in frozen.tasks]),
    ]
    scaling = fit_scaling(tasks[0].train.features, tasks[0].train.labels, encoding)
    n_units = 2 * whole[0].features.shape[1]
    expansion = build_expansion(config.snn.expansion, n_units, config.seed)
    reader = SpikeEncoder(encoding, reading_schedule(encoding), expansion)

    def counted(batch: LabelledBatch) -> Tensor:
        stream = int(batch.split == "test")  # samples of both splits are numbered from 0
        parts = zip(batch.features.split(AT_ONCE), batch.index.split(AT_ONCE), strict=True)
        spikes = [reader(scaling(x), config.seed, stream, index).sum(0) for x, index in parts]
        return torch.cat(spikes)

    codes = {
        "h_0": lambda batch: batch.features,
        "p": lambda batch: reader.drive(scaling(batch.features)),
        "counts": counted,
    }
    return {
        name: [replace(batch, features=code(batch).double()) for batch in whole]
        for name, code in codes.items()
    }


def accuracies(config: RunConfig, frozen: FeatureStream) -> dict[str, dict[str, float]]:
    """Accuracy on the test images (shares), by input and classifier."""
    found = {}
    for name, (train, held, test) in inputs(config, frozen).items():
        softmax = of_softmax(train, held, test, config)
        found[name] = {"ridge": of_ridge(train, held, test), "softmax": softmax}
    return found


def table(each: list[dict[str, dict[str, float]]]) -> str:
    """One line an input, then one a loss: mean ± sd over seeds, and the mean's 95 % interval."""

    def cells(values: list[float]) -> list[str]:
        found = spread(values)
        if len(values) == 1:
            return [f"{values[0]:.1f}", "–"]
        _, low, high = mean_interval(values)
        return [f"{found['mean']:.1f} ± {found['sd']:.1f}", f"{low:.1f} to {high:.1f}"]

    rows = []
    for name, title in INPUTS.items():
        of = ([100 * seed[name][c] for seed in each] for c in CLASSIFIERS)
        rows.append((title, [cell for values in of for cell in cells(values)]))
    for title, (a, b) in LOSSES.items():
        of = ([100 * (seed[a][c] - seed[b][c]) for seed in each] for c in CLASSIFIERS)
        rows.append((title, [cell for values in of for cell in cells(values)]))
    return "\n".join(markdown(["ridge", "95 %", "softmax", "95 %"], rows))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", help="of a run; default: that of a run without options")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="file of all values (JSON)")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="encoder_ceiling")
    given = parser.parse_args(words)
    base: dict[str, Any] = read_config(given.config) if given.config else {}
    config = build(RunConfig, complete(COMPARED, base, assignments(given.set)))
    within("seeds", given.seeds, 1, MOST_SEEDS)
    if given.out.exists():
        raise ConfigError("out", f'"{given.out}" is there; give another name')
    if given.into is not None:
        page_with(given.into, given.name)
    device, console = choose_device(config.device), Console(quiet=True)
    seeds = list(range(config.seed, config.seed + given.seeds))
    each = []
    for seed in seeds:
        own = replace(config, seed=seed)
        each.append(accuracies(own, prepare(own, device, console)))
    kept = {
        "data": config.data.name,
        "backbone": config.backbone.name,
        "encoding": vars(config.snn.encoding),
        "seeds": seeds,
        "accuracy": each,
        **provenance(torch.get_num_threads()),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    caption = (
        f"{config.data.name}, {config.backbone.name}, seeds {seeds[0]}-{seeds[-1]} (class order, "
        f"images for validation, {100 * config.data.train_share:.0f} % of the training images, "
        f"noise), code {config.snn.encoding.code}, T {config.snn.encoding.steps_shown}. Percent of "
        "test images, mean ± sd and t interval over seeds; losses are paired by seed."
    )
    text = f"{table(each)}\n\n{caption}"
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
