"""Measures of a run from invented answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from snn_artsy.evaluation.measures import StepAnswers, measure, measure_domains
from snn_artsy.evaluation.metrics import within_task

TASK_OF_LABEL = np.array([0, 0, 1, 1])


def answers(labels: list[int], scores: list[list[float]]) -> StepAnswers:
    table = np.array(scores, dtype=np.float32)
    return StepAnswers(np.array(labels), table.argmax(1), within_task(table, labels, TASK_OF_LABEL))


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
    second.within_task[3] = 2
    found = measure([first, second], TASK_OF_LABEL)
    assert found["til_a_t"].tolist() == [0.75, 0.5]
    assert found["til_a_avg"] == 0.625
    assert found["til_a_last"] == 0.5


def test_every_measure_by_hand() -> None:
    """Two steps of a gated spiking learner; four test samples in the first, eight in the second."""
    first = StepAnswers(
        labels=np.array([0, 0, 1, 1]),
        predicted=np.array([0, 0, 1, 0]),  # 3 of 4
        within_task=np.array([0, 0, 1, 0]),
        spike_predicted=np.array([0, 1, 1, -1]),  # 2 of 4
    )
    scores = np.array(
        [
            [9, 1, 2, 3],  # 0: right
            [1, 2, 3, 4],  # 0: another task's, and wrong within its own
            [1, 2, 9, 3],  # 1: another task's, right within its own
            [1, 9, 2, 3],  # 1: right
            [1, 2, 9, 3],  # 2: right
            [1, 2, 9, 3],  # 2: right
            [1, 2, 9, 3],  # 3: wrong class of the right task
            [9, 2, 1, 3],  # 3: another task's, right within its own
        ],
        dtype=np.float32,
    )
    gates = np.array([[1, 0], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0], [1, 0]], dtype=bool)
    last = StepAnswers(
        labels=np.array([0, 0, 1, 1, 2, 2, 3, 3]),
        predicted=scores.argmax(1),
        within_task=within_task(scores, [0, 0, 1, 1, 2, 2, 3, 3], TASK_OF_LABEL),
        gates=gates,
        gate_scores=np.where(gates, 1.0, [[-1.0, -2.0]]).astype(np.float32),
        spike_predicted=np.array([0, 0, 1, -1, -1, -1, 3, 0]),
        oracle_gate_predicted=np.array([0, 1, 1, 1, 2, 2, 3, 0]),
        vit_passes=np.array([1, 2, 1, 1, 2, 2, 1, 2]),
        operations=np.array([10, 20, 30, 40, 10, 20, 30, 50], dtype=np.float32),
        added_norm=np.array([0, 1, 0, 0, 0.5, 0, 0, 0.5], dtype=np.float32),
        shut_predicted=scores.argmax(1) + np.array([1, 0, 0, 0, 0, -1, 0, 0]),
        seconds=0.4,
    )
    found = measure([first, last], TASK_OF_LABEL)
    np.testing.assert_allclose(found.pop("accuracy_matrix"), [[0.75, np.nan], [0.5, 0.5]])
    np.testing.assert_allclose(found.pop("a_t"), [0.75, 0.5])
    np.testing.assert_allclose(found.pop("new_accuracy"), [0.75, 0.5])
    np.testing.assert_allclose(found.pop("old_accuracy"), [np.nan, 0.5])
    # in its own task: 3 of 4 after the first step, 6 of 8 after the second
    np.testing.assert_allclose(found.pop("til_a_t"), [0.75, 0.75])
    # of samples of task 0 gate 0 is open in 3 of 4, of task 1 in 2 of 4; gate 1 in 1 and 2 of 4
    np.testing.assert_allclose(found.pop("gate_matrix"), [[0.75, 0.25], [0.5, 0.5]])
    np.testing.assert_allclose(found.pop("gate_open_share"), [5 / 8, 3 / 8])
    np.testing.assert_allclose(found.pop("spike_accuracy_matrix"), [[0.5, np.nan], [0.75, 0.25]])
    np.testing.assert_allclose(found.pop("a_t_spikes_only"), [0.5, 0.5])
    np.testing.assert_allclose(found.pop("new_accuracy_spikes_only"), [0.5, 0.25])
    np.testing.assert_allclose(found.pop("old_accuracy_spikes_only"), [np.nan, 0.75])
    # 4 of 8: Wilson's interval is (p + z^2/2n -+ z sqrt(p q / n + z^2/4n^2)) / (1 + z^2/n)
    z, n = 1.959964, 8
    half = z * np.sqrt(0.25 / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    np.testing.assert_allclose(found.pop("a_last_interval_95"), (0.5 - half, 0.5 + half), rtol=1e-5)
    assert found == {
        "a_last": 0.5,
        "a_avg": 0.625,
        "task_identification": 5 / 8,
        "oracle_task_accuracy": 0.75,
        "til_a_last": 0.75,
        "til_a_avg": 0.75,
        "forgetting_max_last": 0.25,
        "forgetting_first_last": 0.25,
        "backward_transfer": -0.25,
        "vit_passes_per_image": 1.5,
        "inference_ms_per_image": 50.0,
        "synaptic_operations_per_image": 26.25,
        "subnetwork_norm_share": 0.25,
        "answers_changed_share": 0.25,
        # the largest score is the own gate's: first of equal ones, -1 beats -2
        "gate_identification": 5 / 8,
        "gate_precision": 5 / 8,
        "gate_recall": 5 / 8,
        "mean_open_gates": 1.0,
        "all_silent_share": 0.25,
        "gate_informedness": 5 / 8 - 3 / 8,  # 8 gates are open, 5 of them the own ones
        "gates_uninformative": False,
        "oracle_gate_accuracy": 6 / 8,
        "a_last_spikes_only": 0.5,
        "a_avg_spikes_only": 0.5,
        "a_last_old_spikes_only": 0.75,
        "a_last_new_spikes_only": 0.25,
        "forgetting_spikes_only": -0.25,  # h_0 loses a quarter where the synapses gain one
        "no_decision_share": 3 / 8,
    }


def test_measures_that_do_not_apply_are_left_out() -> None:
    found = measure([answers([0, 1], [[1.0, 0.0], [0.0, 1.0]])], np.array([0, 0]))
    assert found["vit_passes_per_image"] == 1.0
    assert np.isnan(found["inference_ms_per_image"])
    assert not any("gate" in name or "spike" in name or "operations" in name for name in found)
    assert "no_decision_share" not in found and "all_silent_share" not in found


def test_measures_of_domains_by_hand() -> None:
    """Three tasks of one class each, the first and the last of them signs; six samples."""
    gates = np.array(
        [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], dtype=np.bool_
    )
    gate_scores = np.array(
        [[3, 1, 2], [1, 2, 3], [1, 3, 2], [1, 2, 3], [3, 1, 2], [2, 3, 1]], dtype=np.float32
    )
    last = StepAnswers(
        labels=np.array([0, 0, 0, 1, 1, 2]),
        predicted=np.array([0, 2, 1, 1, 2, 0]),
        within_task=np.array([0, 0, 0, 1, 1, 2]),
    )
    found = measure_domains(last, np.arange(3), ["signs", "hands", "signs"])
    assert found == {
        "a_last:signs": 1 / 4,  # the first sample of four
        "a_last:hands": 1 / 2,
        "domain_predicted": 4 / 6,  # the second and the last are another class of the right domain
        "domain_predicted:signs": 3 / 4,
        "domain_predicted:hands": 1 / 2,
    }
    # domain-incremental: what is predicted is of the own domain, what was chosen need not be
    shared = replace(last, predicted=np.array([0, 0, 0, 1, 1, 2]), chosen=last.predicted)
    assert measure_domains(shared, np.arange(3), ["signs", "hands", "signs"]) == found | {
        "a_last:signs": 1.0,
        "a_last:hands": 1.0,
    }
    gated = replace(last, gates=gates, gate_scores=gate_scores)
    more = measure_domains(gated, np.arange(3), ["signs", "hands", "signs"])
    assert {key: more[key] for key in more if key not in found} == {
        "domain_identified": 2 / 6,  # the first two
        "domain_identified:signs": 2 / 4,
        "domain_identified:hands": 0.0,
        "domain_opened": 4 / 6,  # beside others, too: the fourth and the last
        "domain_opened:signs": 3 / 4,
        "domain_opened:hands": 1 / 2,
    }
