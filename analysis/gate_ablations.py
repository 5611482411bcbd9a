"""What answers owe to gates and opened sub-networks: one thing changed at a time.

    python analysis/gate_ablations.py --config experiments/traffic_signs_5step.yaml \
        --set data.root=DIR --set backbone.checkpoint=FILE --seeds 5 --out runs/gate_ablations.json

The best ANN gate (`artsy_best`) and spiking gates (`artsy_snn` with adapters in the blocks) decide
over the same sub-networks, which are trained once for each seed; then the gates are changed
(`artsy_best.gates`, `.open`) and the test images of all tasks are answered after the last one.
``--controls`` adds what contacts learn without plasticity, labels or spike timing, where they are
moved afterwards, and what is learnt without a spike (`mean_field`). No sub-network computes an
image twice, but times are those without that. Prints a Markdown table over seeds and writes every
value; ``--into`` puts the table into a page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from snn_artsy.checks import require
from snn_artsy.cli import script
from snn_artsy.config import BestGateConfig, RunConfig
from snn_artsy.evaluation import metrics
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.evaluation.statistics import spread
from snn_artsy.learners import build as build_learner
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Prediction, Task
from snn_artsy.learners.mean_field import MeanField
from snn_artsy.learners.shuffled import EQUAL_DENSITY, ShuffledAtEqualDensity
from snn_artsy.learners.spiking_gates import SpikingGates
from snn_artsy.learners.subnetworks import SubNetwork
from snn_artsy.learners.tasks import join, take
from snn_artsy.runs.compare import with_same_test_images
from snn_artsy.runs.evaluate import evaluate
from snn_artsy.runs.features import FeatureStream, prepare
from snn_artsy.runs.tables import ABSENT, markdown

sys.path.insert(0, str(Path(__file__).resolve().parent))
from over_seeds import asked, differences, interval

GATED = "gated"
LEARNERS = {"best": "best ANN gate", "spiking": "spiking gates"}
Measures = dict[str, dict[str, dict[str, Any]]]
"""Learner -> row -> measure -> value, of one seed."""


def settings(given: BestGateConfig, n_tasks: int) -> dict[str, BestGateConfig]:
    """How gates are set, by the name of the row."""
    changed: dict[str, dict[str, Any]] = {
        GATED: {},
        "one gate open": {"open": 1},
        "two gates open": {"open": 2},
        "every gate open, tasks weighed": {"open": n_tasks},
        "gates shuffled": {"gates": "shuffled"},
        "every gate open, tasks alike (no gates)": {"gates": "open"},
        "gates' own arg max": {"gates": "first"},
        "every gate shut (e0)": {"gates": "shut"},
    }
    return {name: replace(given, **values) for name, values in changed.items()}


class Remembered(nn.Module):
    """A sub-network that computes each image once and knows its answer from then on.

    Attributes:
        saved: Seconds that computing them again would have taken.
    """

    def __init__(self, network: SubNetwork) -> None:
        super().__init__()
        self.network, self.vit_passes = network, network.vit_passes
        self.known: dict[tuple[str, int], Tensor] = {}
        self.saved = self.spent = 0.0

    def answer(self, batch: Batch) -> Tensor:
        """h_t, what the sub-network adds to h_0: [B, D]."""
        if torch.is_grad_enabled():  # it is being trained
            return self.network.answer(batch)
        source = (
            "test" if batch.split == "test" else "train"
        )  # validation images are numbered in it
        keys = [(source, number) for number in batch.index.tolist()]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        if new:
            begun = perf_counter()
            answers = self.network.answer(take(batch, batch.index.new_tensor(new)))
            self.spent += perf_counter() - begun
            self.known |= zip((keys[row] for row in new), answers, strict=True)
        self.saved += (len(keys) - len(new)) * self.spent / max(len(self.known), 1)
        known = [self.known[key] for key in keys]
        return torch.stack(known) if known else batch.features[:0]


class MeanFieldGates(Learner):
    """Gates by what contacts learn from the mean of all trains, without a spike (`MeanField`).

    Evidence for validation samples, which calibrates the gates, is that of a second network, which
    training samples alone have taught.

    Args:
        spiking: Drives the contacts, and has learnt each task before this does.
    """

    def __init__(self, spiking: SpikingGates) -> None:
        self.spiking, self.subnetworks = spiking, spiking.subnetworks.sharing()
        self.taught, self.tried = (
            MeanField(spiking.config, spiking.gate, spiking.dim, spiking.device, spiking.seed)
            for _ in range(2)
        )

    def learn(self, task: Task) -> None:
        train, held = self._driven(task.train), self._driven(task.validation)
        self.tried.learn(replace(task, train=train, validation=take(held, held.index[:0])))
        self.subnetworks.calibrate(task, self.tried.predict(held).scores.double())
        self.taught.learn(replace(task, train=train, validation=held))

    def predict(self, batch: Batch) -> Prediction:
        scores = self.taught.predict(self._driven(batch)).scores
        answer = self.subnetworks.answer(batch, scores.double())
        return replace(answer, spike_scores=scores)

    def _driven(self, batch: Any) -> Any:
        return replace(batch, features=self.spiking.driven_by(batch))


def controls(spiking: SpikingGates) -> dict[str, Learner]:
    """Controls of the spiking gates by their names; they learn each task after these gates do."""
    found = spiking.controls()
    if EQUAL_DENSITY in found:  # these gates are its model
        found[EQUAL_DENSITY] = ShuffledAtEqualDensity(spiking, beside=True)
    return found | {"mean field": MeanFieldGates(spiking)}


@dataclass(frozen=True)
class Answered:
    """Answers to all test images.

    Args:
        learning: Seconds that the learner took to learn all tasks, sub-networks included; None:
            it has another one's sub-networks and gates.
    """

    answers: StepAnswers
    learning: float | None


class Seed:
    """Learners of one seed, over the same sub-networks."""

    def __init__(self, config: RunConfig, frozen: FeatureStream, device: str) -> None:
        self.config, self.frozen = config, frozen
        setting = frozen.setting(config, device)
        test = join([test for _, test in frozen.tasks])
        self.test = take(test, test.index.argsort())  # in the same order with every seed
        best, spiking = (build_learner(name, setting) for name in ("artsy_best", "artsy_snn"))
        shut = build_learner("artsy_best", replace(setting, config=_shut(config)))
        require(
            isinstance(spiking, SpikingGates),
            "ann.placement",
            config.ann.placement,
            "compare gates over sub-networks in the blocks, with snn.mode gate",
        )
        assert isinstance(best, ArtsyBest) and isinstance(shut, ArtsyBest)
        assert isinstance(spiking, SpikingGates)
        trained, make = best.subnetworks, best.subnetworks.build
        trained.build = lambda generator: Remembered(make(generator))  # type: ignore
        for other in (spiking, shut):
            own = other.subnetworks.config
            other.subnetworks = trained.sharing()
            other.subnetworks.config = own
        self.best, self.spiking, self.shut = best, spiking, shut

    def seconds(self, work: Callable[[], object]) -> float:
        """What some work would take if no answer of a sub-network were known."""

        def saved() -> float:
            return sum(n.saved for n in self.best.subnetworks.networks)  # type: ignore

        before, begun = saved(), perf_counter()
        work()
        return perf_counter() - begun + saved() - before

    def answers(self, with_controls: bool) -> Iterator[tuple[str, str, Answered]]:
        """Learner, row, and its answers to all test images after the last task."""
        others = controls(self.spiking) if with_controls else {}
        taught: dict[str, Learner] = {"best": self.best, "spiking": self.spiking}
        taught |= {"shut": self.shut} | others
        learning = dict.fromkeys(taught, 0.0)
        for task, _ in self.frozen.tasks:
            training = self.seconds(lambda task=task: self.best.subnetworks.train(task))
            for name, learner in taught.items():
                learning[name] += training
                learning[name] += self.seconds(lambda one=learner, task=task: one.learn(task))
        given, learners = self.config.artsy_best, {"best": self.best, "spiking": self.spiking}
        for name, changed in settings(given, len(self.frozen.tasks)).items():
            for key, learner in learners.items():
                ann_shut = key == "best" and changed.gates == "shut"
                asked = self.shut if ann_shut else learner
                asked.subnetworks.config = changed
                answered = self._answer(asked, self.test)
                yield key, name, Answered(answered, None if ann_shut else learning[key])
        of = torch.from_numpy(self.frozen.stream.task_of_label).to(self.test.labels.device)
        for key, learner in learners.items():
            learner.subnetworks.config = given
            oracle = replace(self.test, true_task=of[self.test.labels])
            yield key, "oracle gate", Answered(self._answer(learner, oracle), learning[key])
        for name in others:
            answered = self._answer(others[name], self.test)
            yield "spiking", name.replace("_", " "), Answered(answered, learning[name])

    def _answer(self, learner: Learner, samples: LabelledBatch) -> StepAnswers:
        """Answers, with the seconds that they would take if none of a sub-network were known."""
        stream, found = self.frozen.stream, []
        seconds = self.seconds(
            lambda: found.append(
                evaluate(learner, samples, stream.task_of_label, False, stream.class_of_label)
            )
        )
        return replace(found[0], seconds=seconds)


def _shut(config: RunConfig) -> RunConfig:
    return replace(config, artsy_best=replace(config.artsy_best, gates="shut"))


def measured(of: Answered, task_of_label: NDArray[np.int64]) -> dict[str, Any]:
    """Shares of test images, gates open and passes of the ViT an image, times, and which images
    were answered rightly (1) or not (0)."""
    answers, labels = of.answers, of.answers.labels
    right = answers.predicted == labels
    found = {
        "accuracy": float(right.mean()),
        "task": metrics.task_identification(answers.largest, labels, task_of_label),
        "ms_per_image": 1e3 * answers.seconds / len(labels),
        "right": "".join("01"[int(value)] for value in right),
    }
    if of.learning is not None:
        found["seconds_learning"] = of.learning
    if answers.gates is not None:
        found["open"] = float(answers.gates.sum(1).mean())
    if answers.vit_passes is not None:
        found["passes"] = float(answers.vit_passes.mean())
    if answers.spike_predicted is not None:
        found["spikes"] = float((answers.spike_predicted == labels).mean())
    return found


def table(each: list[Measures]) -> tuple[str, int]:
    """One line a learner and setting, and how many differences p was corrected for."""
    right = {
        (key, name): np.array([[float(c) for c in seed[key][name]["right"]] for seed in each])
        for key in LEARNERS
        for name in each[0][key]
    }
    pairs = {
        (key, name): (right[key, name], right[key if name != GATED else "best", GATED])
        for key, name in right
        if (key, name) != ("best", GATED)
    }
    less, n_tests = differences(pairs)
    rows = []
    for key, name in right:
        of = [seed[key][name] for seed in each]
        cells = [_mean([100 * m["accuracy"] for m in of]), interval(right[key, name])]
        cells += less.get((key, name), [ABSENT, ABSENT])
        cells += [
            _mean([scale * m[measure] for m in of], digits) if measure in of[0] else ABSENT
            for measure, scale, digits in (
                ("task", 100, 1), ("spikes", 100, 1), ("open", 1, 2), ("passes", 1, 2),
                ("seconds_learning", 1, 0), ("ms_per_image", 1, 1),
            )
        ]  # fmt: skip
        rows.append((f"{LEARNERS[key]}: {name}", cells))
    head = ["A_last", "95 %", "less the gated answer", "p (Holm)", "task", "spikes only",
            "open gates", "ViT passes", "seconds learning", "ms an image"]  # fmt: skip
    return "\n".join(markdown(head, rows)), n_tests


def _mean(values: list[float], digits: int = 1) -> str:
    found = spread(values)
    mean = f"{found['mean']:.{digits}f}"
    return mean if found["sd"] is None else f"{mean} ± {found['sd']:.{digits}f}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--controls", action="store_true", help="of what contacts learn, too")
    of = asked(parser, words, "gate_ablations")
    of = replace(of, config=with_same_test_images(of.config))
    each: list[Measures] = []
    for config in of.configs():
        own = replace(config, learners=["artsy_best", "artsy_snn"])
        seed = Seed(own, prepare(own, of.device, Console(quiet=True)), of.device)
        each.append({key: {} for key in LEARNERS})
        for key, name, answered in seed.answers(of.given.controls):
            found = measured(answered, seed.frozen.stream.task_of_label)
            each[-1][key][name] = found
            said = f"seed {own.seed}, {LEARNERS[key]}: {name} {100 * found['accuracy']:.1f}"
            print(said, file=sys.stderr, flush=True)
    of.keep({"measures": each})
    text, n_tests = table(each)
    of.tell(
        text,
        f"{of.config.artsy_best.open} gates open. Percent of test images, mean ± sd over seeds. "
        "Less the gated answer: of the same gates, and of spiking gates less that of the best ANN "
        "gate; intervals and p: t, seeds and test images crossed (docs/statistics.md), p corrected "
        f"for all {n_tests} differences. Seconds include the training of sub-networks.",
    )


if __name__ == "__main__":
    script(main)
