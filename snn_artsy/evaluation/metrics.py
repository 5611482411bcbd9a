"""Measures of class-incremental learning: pure functions of predictions or of their matrix.

Labels are positions in the class order, int [n]. ``task_of_label`` is int [C]: the task that each
label came with, counted from 0. An accuracy matrix is ``acc`` [N, N] with ``acc[i, j]`` = accuracy
on task j's test samples after step i, among all classes seen by then, NaN for j > i; ``counts`` [N]
is the number of test samples of each task. A task of an online stream that brings no new class has
none, its column is NaN, and it takes no part in means over tasks. Measures are fractions from 0 to
1 (differences from -1 to 1). No function changes its input.

The means over all seen test samples weight every sample equally, as the class-incremental
toolboxes do (iCaRL, Rebuffi et al. 2017; PyCIL; PILOT); with tasks of unequal size this differs
from the mean of ``acc`` over tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples whose predicted label is right: mean(predicted == labels)."""
    predicted, labels = _same_length(predicted, labels)
    return float(np.mean(predicted == labels))


def samples_per_task(
    labels: ArrayLike, task_of_label: ArrayLike, n_tasks: int = 0
) -> NDArray[np.int64]:
    """Number of samples of each task: labels [n] -> counts [N]; N at least ``n_tasks``."""
    task_of_label = np.asarray(task_of_label)
    least = max(int(task_of_label.max()) + 1, n_tasks)
    counts = np.bincount(task_of_label[np.asarray(labels)], minlength=least)
    return counts.astype(np.int64)


def accuracy_matrix(
    predicted: Sequence[ArrayLike], labels: Sequence[ArrayLike], task_of_label: ArrayLike
) -> Floats:
    """Accuracy matrix acc [N, N] from the predictions after each step.

    Args:
        predicted: ``predicted[i]``: labels predicted after step i for the test samples of tasks
            0..i, in any order.
        labels: ``labels[i]``: their true labels.
        task_of_label: Task of each label, [C].
    """
    task_of_label = np.asarray(task_of_label)
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} steps, {len(labels)} label sets")
    acc = np.full((len(predicted), len(predicted)), np.nan)
    for step, (step_predicted, step_labels) in enumerate(zip(predicted, labels, strict=True)):
        right, true = _same_length(step_predicted, step_labels)
        tasks = task_of_label[true]
        if len(tasks) and tasks.max() > step:
            raise ValueError(f"step {step} has test samples of task {tasks.max()}, not yet seen")
        for task in range(step + 1):
            mine = tasks == task
            if mine.any():
                acc[step, task] = np.mean(right[mine] == true[mine])
            elif task in task_of_label:
                raise ValueError(f"step {step} has no test samples of task {task}")
    return acc


def accuracy_per_step(acc: ArrayLike, counts: ArrayLike) -> Floats:
    """A_t [N]: accuracy over all test samples of the tasks seen after step t.

    A_t = sum_{j <= t} counts[j] acc[t, j] / sum_{j <= t} counts[j].
    """
    acc, counts = _matrix(acc, counts)
    return np.array([_weighted(acc[t, : t + 1], counts[: t + 1]) for t in range(len(acc))])


def a_last(acc: ArrayLike, counts: ArrayLike) -> float:
    """A_last = A_N: accuracy over all test samples after the last step."""
    return float(accuracy_per_step(acc, counts)[-1])


def a_avg(acc: ArrayLike, counts: ArrayLike) -> float:
    """A_avg = mean over steps of A_t, the "average incremental accuracy" of iCaRL.

    (Rebuffi et al. 2017, arXiv 1611.07725.)
    """
    return float(np.mean(accuracy_per_step(acc, counts)))


def a_auc(a_t: ArrayLike, n_train: ArrayLike) -> float:
    """A_AUC: area under the accuracy over the samples of an online stream (Koh et al. 2022).

    sum_t n_t A_t / sum_t n_t, with A_t asked after n_t samples more; a_t, n_train [N].
    """
    return float(np.average(np.asarray(a_t), weights=np.asarray(n_train)))


def new_accuracy(acc: ArrayLike) -> Floats:
    """Accuracy on the task just learned, [N]: acc[t, t]."""
    return np.array(np.diagonal(_matrix(acc)[0]), dtype=np.float64)


def old_accuracy(acc: ArrayLike, counts: ArrayLike) -> Floats:
    """Accuracy over all test samples of earlier tasks, [N]: A_t without task t; NaN at step 0."""
    acc, counts = _matrix(acc, counts)
    old = np.full(len(acc), np.nan)
    for t in range(1, len(acc)):
        old[t] = _weighted(acc[t, :t], counts[:t])
    return old


def forgetting_max_last(acc: ArrayLike) -> float:
    """Mean over old tasks of best past accuracy minus last accuracy.

    F = 1/(N-1) sum_{j < N-1} (max_{j <= i < N-1} acc[i, j] - acc[N-1, j])
    (Chaudhry et al. 2018, arXiv 1801.10112). The last step is not among the past ones, so a task
    that ends at its best counts negatively; PyCIL and PILOT take the maximum over the last step
    too, which cuts such a task off at 0. Every task weighs the same. 0 for a single task.
    """
    acc, _ = _matrix(acc)
    old = _old_tasks(acc)
    if not len(old):
        return 0.0
    return float(np.mean(np.nanmax(acc[:-1, old], axis=0) - acc[-1, old]))


def forgetting_first_last(acc: ArrayLike) -> float:
    """Mean over old tasks of accuracy just after learning minus last accuracy.

    1/(N-1) sum_{j < N-1} (acc[j, j] - acc[N-1, j]): the other convention under the same name,
    exactly -:func:`backward_transfer`. 0 for a single task.
    """
    acc, _ = _matrix(acc)
    old = _old_tasks(acc)
    return float(np.mean(np.diagonal(acc)[old] - acc[-1, old])) if len(old) else 0.0


def backward_transfer(acc: ArrayLike) -> float:
    """BWT = 1/(N-1) sum_{j < N-1} (acc[N-1, j] - acc[j, j]); 0 for a single task.

    (Lopez-Paz & Ranzato 2017, arXiv 1706.08840; negative where old tasks got worse.)
    """
    return 0.0 - forgetting_first_last(acc)


def task_identification(predicted: ArrayLike, labels: ArrayLike, task_of_label: ArrayLike) -> float:
    """Share of samples whose predicted class belongs to the right task."""
    predicted, labels = _same_length(predicted, labels)
    task_of_label = np.asarray(task_of_label)
    return float(np.mean(task_of_label[predicted] == task_of_label[labels]))


def oracle_task_accuracy(scores: ArrayLike, labels: ArrayLike, task_of_label: ArrayLike) -> float:
    """Accuracy when the prediction is restricted to the classes of the sample's true task.

    Args:
        scores: [n, C'] over the C' <= C classes seen; the arg max is the prediction.
        labels: True labels [n].
        task_of_label: Task of each label, [C].
    """
    return accuracy(within_task(scores, labels, task_of_label), labels)


def within_task(
    scores: ArrayLike, labels: ArrayLike, task_of_label: ArrayLike
) -> NDArray[np.int64]:
    """Prediction restricted to the classes of the sample's true task, [n]; arguments as of
    `oracle_task_accuracy`."""
    scores, labels = _same_length(scores, labels)
    task_of_label = np.asarray(task_of_label)
    if labels.max() >= scores.shape[1]:
        raise ValueError(f"label {labels.max()} has no column in scores {scores.shape}")
    possible = task_of_label[None, : scores.shape[1]] == task_of_label[labels][:, None]
    return np.where(possible, scores, -np.inf).argmax(axis=1).astype(np.int64)


def gate_identification(gate_scores: ArrayLike, true_task: ArrayLike) -> float:
    """Share of samples whose largest calibrated S_t is that of the right task.

    gate_scores [n, N], true_task [n]. Of equal scores the first task's counts.
    """
    gate_scores, true_task = _same_length(gate_scores, true_task)
    return accuracy(gate_scores.argmax(axis=1), true_task)


def gate_matrix(gates: ArrayLike, true_task: ArrayLike) -> Floats:
    """[N, N]: entry [i, j] = share of task i's samples whose gate j is open.

    gates bool [n, N], true_task [n]. The diagonal is the recall of each gate. A row without samples
    is NaN.
    """
    gates, true_task = _gates(gates, true_task)
    n_tasks = gates.shape[1]
    matrix = np.full((n_tasks, n_tasks), np.nan)
    for task in range(n_tasks):
        mine = gates[true_task == task]
        if len(mine):
            matrix[task] = mine.mean(axis=0)
    return matrix


def gate_precision(gates: ArrayLike, true_task: ArrayLike) -> float:
    """Of all open gates of all samples, the share that is the sample's own; NaN if none is open."""
    gates, true_task = _gates(gates, true_task)
    n_open = int(gates.sum())
    own = int(gates[np.arange(len(gates)), true_task].sum())
    return own / n_open if n_open else math.nan


LEAST_INFORMEDNESS = 0.1
"""Gates that are open for their own task's samples more often by less than this tell too little."""


def gate_recall(gates: ArrayLike, true_task: ArrayLike) -> float:
    """Share of samples whose own gate is open."""
    gates, true_task = _gates(gates, true_task)
    return float(gates[np.arange(len(gates)), true_task].mean())


def open_share(gates: ArrayLike) -> Floats:
    """How often m_t = 1, for each gate: gates bool [n, N] -> [N]; m_t = 0 in the rest."""
    return np.asarray(_gates(gates)[0].mean(axis=0), dtype=np.float64)


def mean_open_gates(gates: ArrayLike) -> float:
    """Mean over samples of the number of open gates (sub-networks evaluated), 0 to N."""
    return float(_gates(gates)[0].sum(axis=1).mean())


def all_silent_share(gates: ArrayLike) -> float:
    """Share of samples for which every gate is silent, so that z = h_0."""
    return float((~_gates(gates)[0].any(axis=1)).mean())


def gate_informedness(gates: ArrayLike, true_task: ArrayLike) -> float:
    """How much more often a gate is open for its own task's samples than for others', -1 to 1
    (Youden 1950): 0 for gates that tell nothing, however many are open; NaN with one gate."""
    gates, true_task = _gates(gates, true_task)
    n, n_gates = gates.shape
    own = float(gates[np.arange(n), true_task].sum())
    others = float(gates.sum()) - own
    return own / n - others / (n * (n_gates - 1)) if n_gates > 1 else math.nan


def gates_uninformative(gates: ArrayLike, true_task: ArrayLike) -> bool:
    """Whether `gate_informedness` is below `LEAST_INFORMEDNESS`."""
    return gate_informedness(gates, true_task) < LEAST_INFORMEDNESS


def standard_error(share: float, n: int) -> float:
    """Standard error of a share of n samples: sqrt(share (1 - share) / n)."""
    if n < 1 or not 0.0 <= share <= 1.0:
        raise ValueError(f"a share from 0 to 1 of 1 or more samples is needed, not {share} of {n}")
    return math.sqrt(share * (1.0 - share) / n)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval of a binomial share (Wilson 1927).

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes / n and z the
    standard normal quantile of (1 + confidence)/2. Unlike p -+ z SE it stays in [0, 1] and does not
    shrink to a point at p = 0 or 1.
    """
    if n < 1 or not 0 <= successes <= n or not 0.0 < confidence < 1.0:
        raise ValueError(f"no interval for {successes} of {n} at confidence {confidence}")
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1.0 - p) / n + z * z / (4 * n * n))
    scale = 1.0 + z * z / n
    # The bounds at p = 0 and 1 are exact, but for rounding.
    low = (centre - half) / scale if successes > 0 else 0.0
    high = (centre + half) / scale if successes < n else 1.0
    return low, high


def _same_length(
    values: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    values = np.asarray(values)
    labels = np.asarray(labels, dtype=np.int64)
    if labels.ndim != 1 or len(labels) == 0 or len(values) != len(labels):
        raise ValueError(f"{len(values)} predictions for labels of shape {labels.shape}")
    return values, labels


def _weighted(acc: Floats, counts: Floats) -> float:
    """Mean over tasks that have samples, weighted by how many."""
    some = counts > 0
    return float(np.average(acc[some], weights=counts[some]))


def _old_tasks(acc: Floats) -> NDArray[np.int64]:
    """Tasks before the last step that brought classes."""
    return np.flatnonzero(~np.isnan(np.diagonal(acc)[:-1]))


def _matrix(acc: ArrayLike, counts: ArrayLike | None = None) -> tuple[Floats, Floats]:
    acc = np.asarray(acc, dtype=np.float64)
    if acc.ndim != 2 or acc.shape[0] != acc.shape[1] or len(acc) == 0:
        raise ValueError(f"an accuracy matrix is square, not {acc.shape}")
    if counts is None:
        return acc, np.empty(0)
    counts = np.asarray(counts, dtype=np.float64)
    if counts.shape != (len(acc),):
        raise ValueError(f"counts {counts.shape} for an accuracy matrix {acc.shape}")
    return acc, counts


def _gates(
    gates: ArrayLike, true_task: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    gates = np.asarray(gates)
    if gates.ndim != 2 or gates.dtype != np.bool_ or gates.size == 0:
        raise ValueError(f"gates are bool [n, N], not {gates.dtype} {gates.shape}")
    if true_task is None:
        return gates, np.empty(0, dtype=np.int64)
    true_task = np.asarray(true_task, dtype=np.int64)
    if true_task.shape != (len(gates),):
        raise ValueError(f"{true_task.shape} tasks for {len(gates)} samples")
    return gates, true_task
