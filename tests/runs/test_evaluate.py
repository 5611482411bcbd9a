"""What a learner is asked in an evaluation, and what becomes of its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from snn_artsy.learners.base import Batch, LabelledBatch, Prediction
from snn_artsy.runs import evaluate as module

N = 7
TASK_OF_LABEL = np.array([0, 0, 1, 1])
LABELS = torch.tensor([3, 0, 1, 2, 2, 0, 3])


def seen_samples() -> LabelledBatch:
    """Sample b has the feature b; its number says where it came from."""
    features = torch.arange(N, dtype=torch.float32)[:, None]
    return LabelledBatch(features, 100 + torch.arange(N), "test", labels=LABELS)


@dataclass
class Scripted:
    """Answers class b mod 4 to sample b, and to one that tells its task that task's last class."""

    gated: bool = True
    spiking: bool = True
    asked: list[Any] = field(default_factory=list)

    def predict(self, batch: Batch) -> Prediction:
        told = batch.true_task
        self.asked.append(None if told is None else told.tolist())
        number = batch.features[:, 0].long()
        answer = number % 4 if told is None else 2 * told + 1
        scores = torch.nn.functional.one_hot(answer, 4).float()
        spikes = torch.nn.functional.one_hot((number + 1) % 4, 4).float()
        spikes[number == 5] = -torch.inf
        gates = torch.stack([number % 2 == 0, number > 3], dim=1)
        return Prediction(
            scores,
            gate_scores=torch.stack([number / 10, -number / 10], dim=1) if self.gated else None,
            gates=gates if self.gated else None,
            spike_scores=spikes if self.spiking else None,
            vit_passes=1 + number,
            operations=2.0 * number,
        )


def evaluated(learner: Scripted, oracle: bool) -> module.StepAnswers:
    return module.evaluate(learner, seen_samples(), TASK_OF_LABEL, oracle=oracle)  # type: ignore[arg-type]


def test_an_honest_evaluation_tells_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEST_BATCH", 3)
    learner = Scripted()
    answers = evaluated(learner, oracle=False)
    assert learner.asked == [None] * 3  # parts of 3, 3 and 1
    assert answers.predicted.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert answers.oracle_gate_predicted is None


def test_the_oracle_is_asked_apart_and_told_the_true_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEST_BATCH", 4)
    learner = Scripted()
    answers = evaluated(learner, oracle=True)
    assert learner.asked == [None, None, [1, 0, 0, 1], [1, 0, 1]]
    assert answers.predicted.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert answers.oracle_gate_predicted is not None
    # the last class of each sample's own task, which is another answer than the honest one
    assert answers.oracle_gate_predicted.tolist() == [3, 1, 1, 3, 3, 1, 3]


def test_without_gates_there_is_no_oracle() -> None:
    learner = Scripted(gated=False, spiking=False)
    answers = evaluated(learner, oracle=True)
    assert learner.asked == [None]
    assert answers.oracle_gate_predicted is None
    assert answers.gates is None and answers.gate_scores is None
    assert answers.spike_predicted is None


def test_every_answer_is_handed_on() -> None:
    answers = module.evaluate(
        Scripted(),
        seen_samples(),
        TASK_OF_LABEL,
        False,
        keep_scores=True,  # type: ignore[arg-type]
    )
    assert answers.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(answers.scores, np.eye(4)[[0, 1, 2, 3, 0, 1, 2]])
    # of samples with the labels 3 0 1 2 2 0 3 the classes of another task score 0, like a wrong
    # one of the own task; the first of equal ones is taken
    assert answers.within_task.tolist() == [2, 1, 0, 3, 2, 1, 2]
    # nothing fired for sample 5
    assert answers.spike_predicted is not None
    assert answers.spike_predicted.tolist() == [1, 2, 3, 0, 1, -1, 3]
    assert answers.gates is not None and answers.gate_scores is not None
    assert answers.gates.T.tolist() == [[b % 2 == 0 for b in range(N)], [b > 3 for b in range(N)]]
    np.testing.assert_allclose(answers.gate_scores[:, 1], [-b / 10 for b in range(N)], rtol=1e-6)
    assert answers.vit_passes is not None and answers.operations is not None
    assert answers.vit_passes.tolist() == [1 + b for b in range(N)]
    assert answers.operations.tolist() == [2.0 * b for b in range(N)]
    assert 0 <= answers.seconds < 60


def test_scores_are_kept_only_where_they_are_asked_for() -> None:
    """Of a million images, a thousand classes and twenty steps they would take gigabytes."""
    assert evaluated(Scripted(), oracle=False).scores is None


def test_any_label_of_the_right_class_is_the_right_answer() -> None:
    """Labels 0 and 3 stand for class 0, labels 1 and 2 for class 1; tasks are [0, 1] and [2, 3]."""
    classes = np.array([0, 1, 1, 0])
    answers = module.evaluate(Scripted(), seen_samples(), TASK_OF_LABEL, True, classes)  # type: ignore[arg-type]
    # samples 0 to 6 have the labels 3 0 1 2 2 0 3, and answer 0 1 2 3 0 1 2
    assert answers.labels.tolist() == LABELS.tolist()
    assert answers.largest.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert answers.predicted.tolist() == [3, 1, 1, 3, 3, 1, 2]
    # spikes answer 1 2 3 0 1 nothing 3
    assert answers.spike_predicted is not None and answers.oracle_gate_predicted is not None
    assert answers.spike_predicted.tolist() == [2, 1, 0, 3, 2, -1, 3]
    # told its task, a sample is answered by that task's last class, which is its own task's
    assert answers.oracle_gate_predicted.tolist() == [3, 1, 1, 3, 3, 1, 3]
    alone = evaluated(Scripted(), oracle=False)
    assert alone.chosen is None and alone.largest is alone.predicted


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "Odd.predict: expected a Prediction, given NoneType"),
        (torch.zeros(N, 4), "Odd.predict: expected a Prediction, given Tensor"),
        (Prediction(None), "Odd.predict: scores: expected a torch tensor"),  # type: ignore[arg-type]
        (Prediction(torch.zeros(N)), r"Odd.predict: scores: expected shape .*\[7\]"),
        (Prediction(torch.zeros(N - 1, 4)), "Odd.predict: scores: expected shape"),
        # of the newest task's classes alone: every one of them would be a class of another task
        (Prediction(torch.zeros(N, 2)), "Odd.predict: 2 scores for the 4 classes seen so far"),
        (
            Prediction(torch.zeros(N, 4), spike_scores=torch.zeros(N, 3)),
            "Odd.predict: 3 spike_scores for the 4 classes",
        ),
    ],
)
def test_an_answer_is_a_score_for_each_sample_and_class(answer: Any, message: str) -> None:
    class Odd(Scripted):
        def predict(self, batch: Batch) -> Prediction:
            result: Prediction = answer
            return result

    with pytest.raises((TypeError, ValueError), match=message):
        evaluated(Odd(), oracle=False)
