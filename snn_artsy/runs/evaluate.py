"""A learner's answers for test samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.arrays import check_tensor
from snn_artsy.checks import require_finite
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.evaluation.metrics import within_task
from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Prediction
from snn_artsy.learners.tasks import AnyBatch, take

# Test samples given to a learner at a time; no answer depends on it.
TEST_BATCH = 500

_PREDICTED = {"predicted", "spike_predicted", "oracle_gate_predicted", "shut_predicted"}


def evaluate(
    learner: Learner,
    samples: LabelledBatch,
    task_of_label: NDArray[np.int64],
    oracle: bool,
    class_of_label: NDArray[np.int64] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    keep_scores: bool = False,
) -> StepAnswers:
    """A learner's answers for test samples.

    Args:
        task_of_label: Task of each label, int64 [C].
        oracle: Ask also with the true task's gate.
        class_of_label: Class of each label where several stand for one
            (`TaskStream.class_of_label`): any of them is the right answer then.
        clock: Gives seconds, of which the answers keep how many they took (`Shelf.clock`).
        keep_scores: Keep the score of every sample and class, too.

    Raises:
        NotFinite: A score is not finite.
        TypeError, ValueError: `Learner.predict` gives something else than scores of all classes.
    """
    n_classes = int(samples.labels.max()) + 1
    parts: list[dict[str, NDArray[Any]]] = []
    seconds, at = 0.0, clock()
    for part, prediction in _in_parts(learner, samples):
        if samples.features.is_cuda:
            torch.cuda.synchronize()
        seconds += clock() - at
        # scores go as soon as they are looked at: of a million images they would take gigabytes
        columns = _columns(learner, part, prediction, n_classes)
        arrays = {name: c.cpu().numpy() for name, c in columns.items() if c is not None}
        scores = arrays["scores"] if keep_scores else arrays.pop("scores")
        arrays["within_task"] = within_task(scores, arrays["labels"], task_of_label)
        parts.append(arrays)
        at = clock()
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if oracle and "gates" in arrays:
        task = torch.from_numpy(task_of_label).to(samples.labels.device)[samples.labels]
        told = _in_parts(learner, replace(samples, true_task=task))
        chosen = [prediction.scores.argmax(1) for _, prediction in told]
        arrays["oracle_gate_predicted"] = torch.cat(chosen).cpu().numpy()
    if class_of_label is not None:
        own = np.full((task_of_label.max() + 1, class_of_label.max() + 1), -1)
        own[task_of_label, class_of_label] = np.arange(len(task_of_label))
        tasks = task_of_label[arrays["labels"]]
        arrays["chosen"] = arrays["predicted"]
        for name in arrays.keys() & _PREDICTED:
            of_class = own[tasks, class_of_label[arrays[name]]]
            arrays[name] = np.where(arrays[name] < 0, -1, of_class)
    return StepAnswers(**arrays, seconds=seconds)


def _columns(
    learner: Learner, part: LabelledBatch, prediction: Prediction, n_classes: int
) -> dict[str, Tensor | None]:
    """What is kept of the answers for some samples, and their scores."""
    for name in ("scores", "spike_scores"):
        scored = getattr(prediction, name)
        if scored is not None and scored.shape[1] != n_classes:
            raise ValueError(
                f"{type(learner).__name__}.predict: {scored.shape[1]} {name} for the "
                f"{n_classes} classes seen so far"
            )
    given = {"scores": prediction.scores, "gate_scores": prediction.gate_scores}
    require_finite("answers", {k: v for k, v in given.items() if v is not None})
    return {
        "labels": part.labels,
        "predicted": prediction.scores.argmax(1),
        "scores": prediction.scores,
        "gates": prediction.gates,
        "gate_scores": prediction.gate_scores,
        "spike_predicted": spike_decision(prediction),
        "vit_passes": prediction.vit_passes,
        "operations": prediction.operations,
        "added_norm": prediction.added_norm,
        "shut_predicted": prediction.shut_predicted,
    }


def spike_decision(prediction: Prediction) -> Tensor | None:
    """Class decided from spikes alone, -1 where no neuron fired, [B]; None without spikes.

    Raises:
        NotFinite: A vote is not finite.
    """
    if prediction.spike_scores is None:
        return None
    silent = torch.isneginf(prediction.spike_scores).all(1)
    require_finite("answers", {"spike_scores": prediction.spike_scores[~silent]})
    return prediction.spike_scores.argmax(1).masked_fill(silent, -1)


def predict(learner: Learner, batch: Batch) -> Prediction:
    """`Learner.predict` in parts, so that memory does not grow with the test set.

    Raises:
        TypeError, ValueError: It gives something else than a row of scores for each sample.
    """
    return Prediction.concatenate([answer for _, answer in _in_parts(learner, batch)])


def _in_parts(learner: Learner, batch: AnyBatch) -> Iterator[tuple[AnyBatch, Prediction]]:
    name = f"{type(learner).__name__}.predict"
    for rows in torch.arange(len(batch), device=batch.index.device).split(TEST_BATCH):
        part = take(batch, rows)
        answer: object = learner.predict(part)
        if not isinstance(answer, Prediction):
            raise TypeError(f"{name}: expected a Prediction, given {type(answer).__name__}")
        check_tensor(f"{name}: scores", answer.scores, "B C", {"B": len(rows)}, answer.scores)
        yield part, answer
