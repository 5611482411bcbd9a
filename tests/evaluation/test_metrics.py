"""Measures against values worked out by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest

from snn_artsy.evaluation import metrics as m

NAN = math.nan

# Three tasks of 10, 30 and 60 test samples.
ACC = np.array(
    [
        [0.9, NAN, NAN],
        [0.7, 0.8, NAN],
        [0.8, 0.5, 0.6],
    ]
)
COUNTS = np.array([10, 30, 60])
# Two labels a task, but three in the last: tasks of unequal size.
TASK_OF_LABEL = np.array([0, 0, 1, 1, 2, 2, 2])


def test_accuracy_per_step_weights_samples_not_tasks() -> None:
    # A_0 = .9; A_1 = (10 * .7 + 30 * .8) / 40 = 31/40 = .775;
    # A_2 = (10 * .8 + 30 * .5 + 60 * .6) / 100 = (8 + 15 + 36) / 100 = .59 (tasks alike: .6333).
    assert m.accuracy_per_step(ACC, COUNTS) == pytest.approx([0.9, 0.775, 0.59])
    assert m.a_last(ACC, COUNTS) == pytest.approx(0.59)
    # (.9 + .775 + .59) / 3 = 2.265 / 3
    assert m.a_avg(ACC, COUNTS) == pytest.approx(0.755)


def test_new_and_old_accuracy() -> None:
    assert m.new_accuracy(ACC) == pytest.approx([0.9, 0.8, 0.6])
    # Step 1: task 0 alone, .7; step 2: (8 + 15) / 40 = .575.
    assert m.old_accuracy(ACC, COUNTS) == pytest.approx([NAN, 0.7, 0.575], nan_ok=True)


def test_forgetting_in_both_conventions() -> None:
    # max-last: task 0: max(.9, .7) - .8 = .1; task 1: .8 - .5 = .3; mean .2.
    assert m.forgetting_max_last(ACC) == pytest.approx(0.2)
    # first-last: task 0: .9 - .8 = .1; task 1: .8 - .5 = .3; mean .2.
    assert m.forgetting_first_last(ACC) == pytest.approx(0.2)
    assert m.backward_transfer(ACC) == pytest.approx(-0.2)

    # Task 0 is now best after step 1: max-last .95 - .8 = .15, first-last still .1.
    peaked = ACC.copy()
    peaked[1, 0] = 0.95
    assert m.forgetting_max_last(peaked) == pytest.approx((0.15 + 0.3) / 2)
    assert m.forgetting_first_last(peaked) == pytest.approx(0.2)

    # The last step is no past step: a task that ends at its best counts negatively, .9 - 1 = -.1.
    gained = ACC.copy()
    gained[2, 0] = 1.0
    assert m.forgetting_max_last(gained) == pytest.approx((-0.1 + 0.3) / 2)


def test_a_single_task_has_nothing_to_forget() -> None:
    for measure in (m.forgetting_max_last, m.forgetting_first_last, m.backward_transfer):
        assert measure([[0.7]]) == 0.0
    assert m.a_avg([[0.7]], [5]) == pytest.approx(0.7)


def test_accuracy_matrix_from_predictions() -> None:
    predicted = [[0, 1, 1], [2, 0, 3, 1], [6, 4, 2, 0, 5]]
    labels = [[0, 1, 0], [0, 0, 3, 2], [6, 5, 2, 0, 5]]
    # Step 0: 2 of 3. Step 1: task 0: predicted 2, 0 for 0, 0: 1/2; task 1: 3, 1 for 3, 2: 1/2.
    # Step 2: task 2: 6, 4, 5 for 6, 5, 5: 2/3; task 1: 2 for 2: 1; task 0: 0 for 0: 1.
    acc = m.accuracy_matrix(predicted, labels, TASK_OF_LABEL)
    expected = np.array([[2 / 3, NAN, NAN], [0.5, 0.5, NAN], [1.0, 1.0, 2 / 3]])
    np.testing.assert_allclose(acc, expected)
    counts = m.samples_per_task(labels[-1], TASK_OF_LABEL)
    assert counts.tolist() == [1, 1, 3]
    assert m.a_last(acc, counts) == pytest.approx(m.accuracy(predicted[-1], labels[-1]))
    assert m.accuracy(predicted[-1], labels[-1]) == pytest.approx(4 / 5)


def test_accuracy_matrix_of_an_unfinished_run_has_the_steps_done() -> None:
    assert m.accuracy_matrix([[0]], [[0]], TASK_OF_LABEL).tolist() == [[1.0]]


def test_steps_that_bring_no_class_take_no_part() -> None:
    """By hand: classes 0 and 1 come in step 0, class 2 in step 2, none in steps 1 and 3."""
    predicted = [[0, 0], [0, 1], [0, 2, 2, 0], [1, 1, 2, 2]]
    labels = [[0, 1], [0, 1], [0, 1, 2, 2], [0, 1, 2, 2]]
    acc = m.accuracy_matrix(predicted, labels, [0, 0, 2])
    expected = [[0.5, NAN, NAN, NAN], [1, NAN, NAN, NAN], [0.5, NAN, 0.5, NAN], [0.5, NAN, 1, NAN]]
    np.testing.assert_array_equal(acc, expected)
    counts = m.samples_per_task(labels[-1], [0, 0, 2], len(labels))
    assert counts.tolist() == [2, 0, 2, 0]
    assert m.accuracy_per_step(acc, counts).tolist() == [0.5, 1.0, 0.5, 0.75]
    np.testing.assert_array_equal(m.new_accuracy(acc), [0.5, NAN, 0.5, NAN])
    np.testing.assert_array_equal(m.old_accuracy(acc, counts), [NAN, 1.0, 0.5, 0.75])
    assert m.forgetting_max_last(acc) == ((1 - 0.5) + (0.5 - 1)) / 2
    assert m.forgetting_first_last(acc) == ((0.5 - 0.5) + (0.5 - 1)) / 2
    assert m.forgetting_max_last([[0.5, NAN], [0.4, 0.6]]) == pytest.approx(0.1)
    # one image, one image, six images: most of the curve is the last point's
    assert m.a_auc([0.5, 1.0, 0.25], [1, 1, 6]) == pytest.approx((0.5 + 1 + 6 * 0.25) / 8)


def test_accuracy_matrix_refuses_impossible_input() -> None:
    with pytest.raises(ValueError, match="not yet seen"):
        m.accuracy_matrix([[0, 0]], [[0, 2]], TASK_OF_LABEL)
    with pytest.raises(ValueError, match="no test samples of task 0"):
        m.accuracy_matrix([[0], [2]], [[0], [2]], TASK_OF_LABEL)
    with pytest.raises(ValueError, match="square"):
        m.forgetting_max_last([[0.1, 0.2]])
    with pytest.raises(ValueError, match="3 predictions"):
        m.accuracy([0, 1, 2], [0, 1])


def test_task_identification_counts_the_right_task_with_the_wrong_class() -> None:
    # Tasks of predictions 1, 2, 6, 4 are 0, 1, 2, 2; of labels 0, 0, 4, 4 they are 0, 0, 2, 2.
    assert m.task_identification([1, 2, 6, 4], [0, 0, 4, 4], TASK_OF_LABEL) == pytest.approx(3 / 4)


def test_oracle_task_accuracy_restricts_the_classes() -> None:
    scores = np.array(
        [
            [0.1, 0.3, 0.9, 0.0],  # label 1: best of task 0 is 1, right (2 wins over all classes)
            [0.8, 0.2, 0.1, 0.4],  # label 2: best of task 1 is 3, wrong
            [-5.0, -2.0, -4.0, -3.0],  # label 3: best of task 1 is 3, right (negative scores)
        ]
    )
    assert m.oracle_task_accuracy(scores, [1, 2, 3], TASK_OF_LABEL) == pytest.approx(2 / 3)
    assert m.accuracy(scores.argmax(axis=1), [1, 2, 3]) == 0.0
    with pytest.raises(ValueError, match="no column"):
        m.oracle_task_accuracy(scores, [1, 2, 4], TASK_OF_LABEL)


# Four samples of tasks 0, 0, 1, 2 and three gates.
GATES = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=bool)
TRUE_TASK = np.array([0, 0, 1, 2])


def test_gate_measures() -> None:
    # Task 0, samples 0 and 1: gate 0 open in one, gate 1 in one. Task 1: gate 1. Task 2: 0 and 1.
    np.testing.assert_allclose(
        m.gate_matrix(GATES, TRUE_TASK), [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    )
    # 5 gates are open; sample 0's and sample 2's own are among them.
    assert m.gate_precision(GATES, TRUE_TASK) == pytest.approx(2 / 5)
    assert m.gate_recall(GATES, TRUE_TASK) == pytest.approx(2 / 4)
    assert m.mean_open_gates(GATES) == pytest.approx(5 / 4)
    assert m.open_share(GATES) == pytest.approx([2 / 4, 3 / 4, 0.0])
    assert m.all_silent_share(GATES) == pytest.approx(1 / 4)
    # Own gates are open in 2 of 4 cases, others' in 3 of 8.
    assert m.gate_informedness(GATES, TRUE_TASK) == pytest.approx(2 / 4 - 3 / 8)
    assert not m.gates_uninformative(GATES, TRUE_TASK)


def test_gates_are_judged_by_whom_they_open_for_and_not_by_how_many() -> None:
    tasks, likeliest = np.arange(5), np.eye(5, dtype=bool)
    # three of five open, the own one always among them: 1 - 2/4
    three = likeliest | np.roll(likeliest, 1, axis=1) | np.roll(likeliest, 2, axis=1)
    assert m.gate_informedness(three, tasks) == pytest.approx(0.5)
    assert not m.gates_uninformative(three, tasks)
    # one open, whichever the task: right for a fifth of samples, as by chance
    one = np.zeros((5, 5), dtype=bool)
    one[:, 0] = True
    for gates in (one, np.ones((5, 5), dtype=bool), np.zeros((5, 5), dtype=bool)):
        assert m.gate_informedness(gates, tasks) == 0.0
        assert m.gates_uninformative(gates, tasks)
    assert m.gate_informedness(~likeliest, tasks) == -1.0
    # with one task there is nothing to tell
    assert math.isnan(m.gate_informedness(np.ones((2, 1), dtype=bool), [0, 0]))
    assert not m.gates_uninformative(np.ones((2, 1), dtype=bool), [0, 0])


def test_gate_measures_without_open_gates_or_samples() -> None:
    shut = np.zeros((2, 3), dtype=bool)
    assert math.isnan(m.gate_precision(shut, [0, 1]))
    assert m.gate_recall(shut, [0, 1]) == 0.0
    assert m.all_silent_share(shut) == 1.0
    assert np.isnan(m.gate_matrix(shut, [0, 1])[2]).all()
    with pytest.raises(ValueError, match="bool"):
        m.mean_open_gates(shut.astype(float))


def test_gate_identification() -> None:
    gate_scores = [[0.2, 0.9, 0.1], [0.5, 0.4, 0.3], [0.1, 0.2, 0.0]]
    # arg max 1, 0, 1 for tasks 1, 0, 2.
    assert m.gate_identification(gate_scores, [1, 0, 2]) == pytest.approx(2 / 3)


def test_intervals() -> None:
    # sqrt(.658 * .342 / 2000) = sqrt(.225036 / 2000) = .010607: prior-art.md's 1.06 points.
    assert m.standard_error(0.658, 2000) == pytest.approx(0.010607, abs=1e-6)
    # 5 of 10, z = 1.959964, z^2 = 3.841459: centre (.5 + .1920729) / 1.3841459 = .5;
    # half = 1.959964 sqrt(.025 + .00960365) / 1.3841459 = .364595 / 1.3841459 = .263408.
    assert m.wilson_interval(5, 10) == pytest.approx((0.236592, 0.763408), abs=1e-5)
    # 0 of 10: (0, z^2 / (10 + z^2)) = 3.841459 / 13.841459.
    low, high = m.wilson_interval(0, 10)
    assert low == 0.0
    assert high == pytest.approx(0.277533, abs=1e-6)
    assert m.wilson_interval(10, 10)[1] == 1.0
    with pytest.raises(ValueError, match="11 of 10"):
        m.wilson_interval(11, 10)


def test_inputs_are_not_changed() -> None:
    acc, counts, gates = ACC.copy(), COUNTS.copy(), GATES.copy()
    scores = np.random.default_rng(0).normal(size=(4, 7))
    before = scores.copy()
    m.accuracy_per_step(acc, counts)
    m.new_accuracy(acc)[0] = 5.0
    m.old_accuracy(acc, counts)
    m.forgetting_max_last(acc)
    m.backward_transfer(acc)
    m.gate_matrix(gates, TRUE_TASK)
    m.oracle_task_accuracy(scores, [0, 1, 2, 3], TASK_OF_LABEL)
    np.testing.assert_array_equal(acc, ACC)
    np.testing.assert_array_equal(counts, COUNTS)
    np.testing.assert_array_equal(gates, GATES)
    np.testing.assert_array_equal(scores, before)


def test_evaluation_does_not_import_torch() -> None:
    code = "import sys, snn_artsy.evaluation.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_at_the_ends_of_the_scale() -> None:
    assert m.standard_error(0.0, 1) == m.standard_error(1.0, 1) == 0.0
    assert m.standard_error(0.5, 1) == 0.5
    for share, n in ((-0.1, 5), (1.1, 5), (0.5, 0)):
        with pytest.raises(ValueError, match="a share from 0 to 1"):
            m.standard_error(share, n)
    # 1 of 1: p = 1, centre (1 + z^2/2) / (1 + z^2), half z (z / 2) / (1 + z^2)
    z2 = 1.959964**2
    assert m.wilson_interval(1, 1) == pytest.approx((1 / (1 + z2), 1.0), abs=1e-6)
    assert m.wilson_interval(0, 1) == pytest.approx((0.0, z2 / (1 + z2)), abs=1e-6)
    # z of 90 % is 1.644854
    half = 1.644854 * math.sqrt(0.25 / 4 + 1.644854**2 / 64) / (1 + 1.644854**2 / 4)
    assert m.wilson_interval(2, 4, 0.9) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    for successes, n, confidence in (
        (-1, 5, 0.9),
        (6, 5, 0.9),
        (0, 0, 0.9),
        (1, 5, 0.0),
        (1, 5, 1.0),
    ):
        with pytest.raises(ValueError, match=f"{successes} of {n}"):
            m.wilson_interval(successes, n, confidence)


def test_shapes_that_do_not_fit_are_refused() -> None:
    for predicted, labels in (([], []), ([0], [[0]]), ([0, 1], [0])):
        with pytest.raises(ValueError, match="predictions for labels"):
            m.accuracy(predicted, labels)
    for acc in ([], [0.5], [[0.5, 0.5]], [[[0.5]]]):
        with pytest.raises(ValueError, match="square"):
            m.new_accuracy(acc)
    for counts in ([1], [1, 2, 3], [[1, 2]]):
        with pytest.raises(ValueError, match="counts"):
            m.a_last([[0.5, NAN], [0.5, 0.5]], counts)
    shut = np.zeros((2, 3), dtype=bool)
    for gates in (shut[0], shut[:0], shut[:, :0], shut.astype(int)):
        with pytest.raises(ValueError, match="gates are bool"):
            m.open_share(gates)
    for tasks in ([0], [0, 1, 2], [[0, 1]]):
        with pytest.raises(ValueError, match="tasks for 2 samples"):
            m.gate_recall(shut, tasks)
    with pytest.raises(ValueError, match="2 steps, 1 label sets"):
        m.accuracy_matrix([[0], [0]], [[0]], TASK_OF_LABEL)
    with pytest.raises(ValueError, match="no test samples of task 1"):
        m.accuracy_matrix([[0]] * 3, [[0]] * 3, [0, 1])
    # one score column too few for the label, and just enough
    with pytest.raises(ValueError, match="label 2 has no column"):
        m.oracle_task_accuracy([[0.1, 0.2]], [2], TASK_OF_LABEL)
    assert m.oracle_task_accuracy([[0.1, 0.2]], [1], TASK_OF_LABEL) == 1.0
    # labels of later tasks are counted as none so far
    assert m.samples_per_task([0, 1, 1], TASK_OF_LABEL).tolist() == [3, 0, 0]
    assert m.samples_per_task([0], TASK_OF_LABEL).dtype == np.int64
