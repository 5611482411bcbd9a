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
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from snn_artsy.cli import script
from snn_artsy.config import RunConfig
from snn_artsy.evaluation.statistics import mean_interval, spread
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.joint import JointProbe
from snn_artsy.learners.tasks import join
from snn_artsy.runs.features import FeatureStream, prepare
from snn_artsy.runs.tables import markdown
from snn_artsy.synapses.encoding import SpikeEncoder, fit_scaling
from snn_artsy.synapses.expansion import build_expansion
from snn_artsy.synapses.pairing import reading_schedule

sys.path.insert(0, str(Path(__file__).resolve().parent))
from over_seeds import asked

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
    of = asked(parser, words, "encoder_ceiling")
    console = Console(quiet=True)
    each = [accuracies(own, prepare(own, of.device, console)) for own in of.configs()]
    encoding = of.config.snn.encoding
    of.keep({"encoding": vars(encoding), "accuracy": each})
    of.tell(
        table(each),
        f"code {encoding.code}, T {encoding.steps_shown}. Percent of "
        "test images, mean ± sd and t interval over seeds; losses are paired by seed.",
    )


if __name__ == "__main__":
    script(main)
