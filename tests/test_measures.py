"""Measures of a run from invented answers."""

from __future__ import annotations

import numpy as np

from snn_artsy.evaluation.measures import StepAnswers, measure

TASK_OF_LABEL = np.array([0, 0, 1, 1])


def answers(labels: list[int], scores: list[list[float]]) -> StepAnswers:
    table = np.array(scores, dtype=np.float32)
    return StepAnswers(np.array(labels), table.argmax(1), table)


def test_task_incremental_accuracy_after_each_step() -> None:
    """Given the task, only its own classes compete."""
    first = answers([0, 1, 1, 0], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    second = answers(
        [0, 1, 2, 3],
        [
            [0.3, 0.2, 0.9, 0.0],  # wrong task, right within its own
            [0.4, 0.3, 0.0, 0.0],  # wrong in both
            [0.0, 0.9, 0.5, 0.1],  # wrong task, right within its own
            [0.0, 0.1, 0.2, 0.8],  # right in both
        ],
    )
    found = measure([first, second], TASK_OF_LABEL)
    assert found["til_a_t"].tolist() == [0.75, 0.75]
    assert found["til_a_last"] == found["oracle_task_accuracy"] == 0.75
    assert found["til_a_avg"] == 0.75
    assert found["a_t"].tolist() == [0.75, 0.25]
    assert found["a_last"] == 0.25
    # with one more sample wrong within its task, the mean over steps differs from the last
    second.scores[3] = [0.0, 0.1, 0.8, 0.2]
    found = measure([first, second], TASK_OF_LABEL)
    assert found["til_a_t"].tolist() == [0.75, 0.5]
    assert found["til_a_avg"] == 0.625
    assert found["til_a_last"] == 0.5
