"""Baselines against closed forms, hand-computed miniatures and other people's solvers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression, Ridge
from synthetic_features import (
    CHANCE,
    DIM,
    N_CLASSES,
    N_TASKS,
    PER_TASK,
    accuracy,
    gaussian_stream,
    pick,
    predict_in_parts,
    unlabelled,
)
from torch import Tensor

from snn_artsy import config_builder
from snn_artsy.config import (
    ANNConfig,
    ConfigError,
    EaseConfig,
    FinetuneConfig,
    JointConfig,
    MemoryConfig,
    RanPACConfig,
    RunConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.ease import completed_table, reweighted_scores
from snn_artsy.learners.finetune import Finetune
from snn_artsy.learners.joint import TOLERANCE, JointProbe, MultinomialRegression, best_place
from snn_artsy.learners.ranpac import RanPAC
from snn_artsy.learners.ridge import RIDGES, RandomRidge, Sums, ridge_by_samples, ridge_by_sums
from snn_artsy.registry import LEARNERS

STREAM = gaussian_stream()
TEST = STREAM.test
CONFIG = RunConfig(
    ann=ANNConfig(epochs=5, bottleneck=8),
    joint=JointConfig(l2=[1e-2, 1e-3]),
    memory=MemoryConfig(epochs=5, hidden=8),
    ranpac=RanPACConfig(projection=100),
)
BASELINES = (
    "finetune_linear", "finetune_adapter", "joint", "er", "derpp", "icarl", "aper_adapter", "ease",
    "ranpac",
)  # fmt: skip


def make(name: str, config: RunConfig = CONFIG) -> Any:
    return build(name, Setting(config, DIM, "cpu"))


def learn_all(learner: Any, tasks: list[Task] = STREAM.tasks) -> Any:
    for task in tasks:
        learner.learn(task)
    return learner


@cache
def learnt(name: str) -> Any:
    """A learner after all tasks; shared, so it must only be asked."""
    return learn_all(make(name))


def all_data() -> tuple[Tensor, Tensor]:
    """h_0 and labels of all tasks' training and validation samples."""
    parts = [part for task in STREAM.tasks for part in (task.train, task.validation)]
    return torch.cat([p.features for p in parts]), torch.cat([p.labels for p in parts])


def one_task(number: int, features: Tensor, labels: Tensor) -> Task:
    """A task whose validation samples are its training samples."""
    batch = LabelledBatch(features, torch.arange(len(labels)), "train", labels=labels)
    return Task(number, tuple(labels.unique().tolist()), batch, batch)


# --- every baseline -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_three_tasks_are_learnt(name: str) -> None:
    scores = learnt(name).predict(TEST).scores
    assert scores.shape == (len(TEST), N_CLASSES)
    newest = pick(TEST, (TEST.labels >= N_CLASSES - PER_TASK).nonzero()[:, 0])
    assert accuracy(learnt(name).predict(newest).scores, newest) > 4 * CHANCE
    if not name.startswith("finetune"):
        assert accuracy(scores, TEST) > 4 * CHANCE


@pytest.mark.parametrize("name", BASELINES)
def test_answers_depend_on_the_sample_alone(name: str) -> None:
    whole = learnt(name).predict(unlabelled(TEST))
    parts = predict_in_parts(learnt(name), TEST, [7] * (len(TEST) // 7) + [len(TEST) % 7])
    torch.testing.assert_close(parts.scores, whole.scores, rtol=0, atol=1e-4)
    assert whole.gates is None
    assert whole.gate_scores is None


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    again = learn_all(make(name)).state_dict()
    assert again.keys() == learnt(name).state_dict().keys()
    for key, value in learnt(name).state_dict().items():
        assert torch.equal(again[key], value), key


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_is_answered_before_the_first_task(name: str) -> None:
    with pytest.raises(RuntimeError, match="learn a task first"):
        make(name).predict(TEST)


def rehearsed(learnt: int, kept: int) -> tuple[int, int]:
    """Stored numbers and bytes, with a label for each of 120 samples."""
    return learnt + kept, 4 * (learnt + kept) + 8 * 120


def test_sizes() -> None:
    r = CONFIG.ann.bottleneck
    adapter = DIM * r + r + r * DIM + DIM
    head = N_CLASSES * (DIM + 1)
    m = CONFIG.ranpac.projection
    n = sum(len(t.train) + len(t.validation) for t in STREAM.tasks)
    expected = {  # parameters found by gradient, all kept numbers, bytes
        "simplecil": (0, N_CLASSES * DIM, 4 * N_CLASSES * DIM),
        "finetune_linear": (head, head, 4 * head),
        "finetune_adapter": (head + adapter, head + adapter, 4 * (head + adapter)),
        "joint": (head, head, 8 * head + n * (4 * DIM + 8)),  # float64; features and labels kept
        # 20 samples of each class with a label; DER++ with the logits of 6 classes
        "er": (head + adapter, *rehearsed(head + adapter, 120 * DIM)),
        "derpp": (head + adapter, *rehearsed(head + adapter, 120 * (DIM + N_CLASSES))),
        "icarl": (
            head + adapter,
            head + adapter + (N_CLASSES + 120) * DIM,
            4 * (head + adapter + (N_CLASSES + 120) * DIM),
        ),
        "aper_adapter": (
            adapter,
            adapter + N_CLASSES * 2 * DIM,
            4 * (adapter + N_CLASSES * 2 * DIM),
        ),
        # measured prototypes: 2 classes in 1, 2 and 3 subspaces
        "ease": (3 * adapter, 3 * adapter + 12 * DIM, 4 * (3 * adapter + 12 * DIM)),
        "ranpac": (
            adapter,
            adapter + DIM * m + m * m + m * N_CLASSES + 1,  # the ridge parameter
            4 * (adapter + DIM * m) + 8 * (m * m + m * N_CLASSES + 1),
        ),
    }
    for name, numbers in expected.items():
        report = learnt(name).report()
        found = (report["parameters"], report["stored_parameters"], report["stored_bytes"])
        assert found == numbers, name


# --- fine-tuning and joint ------------------------------------------------------------------------


def test_fine_tuning_forgets_and_joint_training_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])
    tasks = []
    for t in range(2):
        labels = torch.tensor([2 * t, 2 * t + 1]).repeat(60)
        noise = 0.1 * torch.randn(120, 3, generator=generator)
        tasks.append(one_task(t, means[labels] + noise, labels))
    forgetful = learn_all(Finetune(FinetuneConfig(lr=0.1), 3, "cpu", 0), tasks)
    joint = learn_all(JointProbe(JointConfig(), 3, "cpu"), tasks)
    old, new = tasks[0].train, tasks[1].train
    assert accuracy(forgetful.predict(new).scores, new) == 1.0
    assert accuracy(forgetful.predict(old).scores, old) < 0.1
    assert accuracy(joint.predict(new).scores, new) == 1.0
    assert accuracy(joint.predict(old).scores, old) == 1.0


def test_fine_tuning_starts_from_what_the_last_task_left() -> None:
    """One step of one batch from zero, by hand: W = lr (onehot - 1/C)' x / n, then the second."""
    config = FinetuneConfig(epochs=1, lr=0.5, batch_size=100, weight_decay=0.0)
    x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    learner = Finetune(config, 2, "cpu", 0)
    learner.learn(one_task(0, x, y))
    first = 0.5 * (torch.tensor([[0.5, -0.5], [-0.5, 0.5]]) @ x) / 2
    torch.testing.assert_close(learner.state_dict()["weight"], first)
    torch.testing.assert_close(learner.state_dict()["bias"], torch.zeros(2))
    learner.learn(one_task(1, torch.tensor([[3.0, 0.0]]), torch.tensor([2])))
    # logits of (3, 0) under the first weights, and 0 for the new class
    logits = [3 * 0.5 * 0.5 / 2, -3 * 0.5 * 0.5 / 2, 0.0]
    p = np.exp(logits) / np.exp(logits).sum()
    second = first.clone()
    second[:, 0] -= torch.tensor(0.5 * 3 * p[:2], dtype=torch.float32)
    torch.testing.assert_close(learner.state_dict()["weight"][:2], second)
    assert float(learner.state_dict()["weight"][2, 0]) == pytest.approx(0.5 * 3 * (1 - p[2]))


def test_joint_is_scikit_learn_s_logistic_regression_on_all_data() -> None:
    x, y = all_data()
    learner = learnt("joint")
    l2 = learner.report()["joint_l2"]
    assert l2 in CONFIG.joint.l2
    # scikit-learn: sum of cross-entropies + |W|^2 / (2 C)
    theirs = LogisticRegression(C=1 / (len(x) * l2), tol=1e-8, max_iter=10_000).fit(
        x.double().numpy(), y.numpy()
    )
    expected = theirs.predict_proba(TEST.features.numpy())
    ours = learner.predict(TEST).scores.softmax(1).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-2)
    assert learner.report()["joint_gradient"] < TOLERANCE
    exact, _ = MultinomialRegression(x.double(), y).fit(learner.weight, l2, 1000, 1e-8)
    scores = TEST.features.double() @ exact[:, :-1].T + exact[:, -1]
    np.testing.assert_allclose(scores.softmax(1).numpy(), expected, atol=2e-4)


def test_joint_has_no_penalty_before_it_has_learnt() -> None:
    learner = make("joint")
    assert math.isnan(learner.report()["joint_l2"])
    again = make("joint")
    again.restore(learner.checkpoint(), [])
    assert math.isnan(again.report()["joint_l2"])
    assert again.report()["stored_bytes"] == 0


def test_joint_chooses_the_penalty_on_validation_samples() -> None:
    x = torch.cat([t.train.features for t in STREAM.tasks]).double()
    y = torch.cat([t.train.labels for t in STREAM.tasks])
    held = torch.cat([t.validation.features for t in STREAM.tasks])
    held_y = torch.cat([t.validation.labels for t in STREAM.tasks]).numpy()
    grid = [10.0, 1e-1, 1e-4]
    right = []
    for l2 in grid:
        fit = LogisticRegression(C=1 / (len(x) * l2), tol=1e-8, max_iter=10_000)
        fit.fit(x.numpy(), y.numpy())
        right.append(int((fit.predict(held.numpy()) == held_y).sum()))
    learner = learn_all(JointProbe(JointConfig(l2=grid, max_iterations=1000), DIM, "cpu"))
    assert len(set(right)) > 1  # or the choice would be no choice
    assert learner.report()["joint_l2"] == grid[right.index(max(right))]


def test_where_logistic_regression_starts_does_not_matter() -> None:
    x, y = all_data()
    start = torch.zeros(N_CLASSES, DIM + 1, dtype=torch.float64)
    regression = MultinomialRegression(x.double(), y)
    one, _ = regression.fit(start, 1e-2, 1000, 1e-8)
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0)).double()
    two, _ = regression.fit(noise, 1e-2, 1000, 1e-8)
    # adding the same number to every bias changes nothing
    torch.testing.assert_close(one[:, :-1], two[:, :-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("l2", [1e-6, 1e-2, 10.0])
def test_the_gradient_is_zero_where_logistic_regression_ends(l2: float) -> None:
    """By hand, in the features' own coordinates, whose scales are far apart."""
    x, y = all_data()
    x = x.double() * torch.logspace(-2, 2, DIM).double() + 3.0
    start = torch.zeros(N_CLASSES, DIM + 1, dtype=torch.float64)
    # how many iterations that takes depends on a processor's rounding: over 3,000 on some
    found, left = MultinomialRegression(x, y).fit(start, l2, 20_000, 1e-7)
    assert left < 1e-7
    p = (x @ found[:, :-1].T + found[:, -1]).softmax(1)
    rest = (p - torch.nn.functional.one_hot(y, N_CLASSES)) / len(x)
    gradient = rest.T @ x + l2 * found[:, :-1]
    # features have standard deviations up to 100
    assert float(gradient.abs().max()) < 1e-5 < float((rest.T @ x).abs().max()) + (l2 < 1e-3)
    assert float(rest.sum(0).abs().max()) < 1e-7
    _, after_two = MultinomialRegression(x, y).fit(start, l2, 2)
    assert after_two > TOLERANCE  # one that has not converged says so


@pytest.mark.parametrize(
    ("counts", "start", "place", "tried"),
    [
        ([3, 5, 5, 4, 9], None, 4, {0, 1, 2, 3, 4}),  # nothing is known yet: all of them
        ([3, 5, 5, 4, 9], 2, 1, {0, 1, 2}),  # the strongest penalty of equal ones
        ([3, 4, 5, 6, 6], 1, 3, {0, 1, 2, 3, 4}),
        ([7, 4, 5, 5, 9], 2, 2, {1, 2, 3}),  # a walk sees its neighbourhood alone
        ([5, 5, 5], 2, 0, {0, 1, 2}),
        ([1], 0, 0, {0}),
    ],
)
def test_later_tasks_walk_from_the_last_penalty(
    counts: list[int], start: int | None, place: int, tried: set[int]
) -> None:
    asked = set()

    def right(k: int) -> int:
        asked.add(k)
        return counts[k]

    assert best_place(right, len(counts), start) == place
    assert asked == tried


# --- APER -----------------------------------------------------------------------------------------


def test_aper_compares_concatenations_of_both_embeddings() -> None:
    learner = learnt("aper_adapter")
    x, y = all_data()
    state = {k: v.numpy().astype(np.float64) for k, v in learner.state_dict().items()}
    down, bias, up, out = (
        state[f"subnetworks.0.{k}"] for k in ("down.weight", "down.bias", "up.weight", "up.bias")
    )

    def both(h: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        adapted = h + 0.1 * (np.maximum(h @ down.T + bias, 0) @ up.T + out)
        return np.concatenate([h, adapted], axis=1)

    train, test = both(x.double().numpy()), both(TEST.features.double().numpy())
    means = np.stack([train[y.numpy() == c].mean(0) for c in range(N_CLASSES)])
    assert state["prototypes"].shape == (N_CLASSES, 2 * DIM)
    np.testing.assert_allclose(state["prototypes"], means, atol=1e-5)
    norms = np.linalg.norm(test, axis=1)[:, None] * np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(learner.predict(TEST).scores, test @ means.T / norms, atol=1e-5)


def test_aper_adapts_to_the_first_task_alone() -> None:
    learner = make("aper_adapter")
    learner.learn(STREAM.tasks[0])
    first = {k: v.clone() for k, v in learner.state_dict().items()}
    assert float(first["subnetworks.0.up.weight"].abs().max()) > 0
    learn_all(learner, STREAM.tasks[1:])
    for key, value in learner.state_dict().items():
        if key.startswith("subnetworks"):
            assert torch.equal(value, first[key])


# --- EASE -----------------------------------------------------------------------------------------

# two tasks of two classes in two dimensions, prototypes chosen by hand
FIRST = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # task 0's classes in subspace 0
SECOND = torch.tensor(  # task 1's classes in subspaces 0 and 1
    [[[1.0, 0.0], [2.0, 0.0]], [[3.0, 4.0], [0.0, 5.0]]]
)


def test_ease_completes_the_table_as_computed_by_hand() -> None:
    table = completed_table([FIRST, SECOND])
    # class 0 to the new classes in subspace 0: cosines 1 and 3/5; class 1: 0 and 4/5
    a = math.exp(1.0) / (math.exp(1.0) + math.exp(0.6))
    b = 1.0 / (1.0 + math.exp(0.8))
    assert a == pytest.approx(0.598687660)
    assert b == pytest.approx(0.310025519)
    expected = [
        [[1.0, 0.0], [2 * a, 5 * (1 - a)]],
        [[0.0, 1.0], [2 * b, 5 * (1 - b)]],
        [[1.0, 0.0], [2.0, 0.0]],
        [[3.0, 4.0], [0.0, 5.0]],
    ]
    torch.testing.assert_close(table, torch.tensor(expected))


def test_ease_weighs_the_own_subspace_first() -> None:
    table = completed_table([FIRST, SECOND])
    embedded = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])  # one sample in both subspaces
    scores = reweighted_scores(embedded, table, torch.tensor([0, 0, 1, 1]), alpha=0.1)
    expected = [
        # classes 0 and 1: subspace 0 is their own; in the other one they are completed, at
        # (1.1973753, 2.0065617) and (0.6200510, 3.4498724)
        0.6 + 0.1 * 2.0065617 / 2.3366637,
        0.8 + 0.1 * 3.4498724 / 3.5051510,
        0.0 + 0.1 * 0.6,  # classes 2 and 3: subspace 1 is their own
        1.0 + 0.1 * 1.0,
    ]
    np.testing.assert_allclose(scores[0].numpy(), expected, atol=1e-6)


def test_ease_averages_over_the_other_subspaces() -> None:
    """Three subspaces: alpha is shared by the two that are not the class's own."""
    embedded = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    table = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])  # cosines 1, 3/5, 0
    for own, expected in ((0, 1 + 0.25 * 0.6), (1, 0.6 + 0.25 * 1.0), (2, 0.25 * 1.6)):
        scores = reweighted_scores(embedded, table, torch.tensor([own]), alpha=0.5)
        assert float(scores) == pytest.approx(expected)
    alone = reweighted_scores(embedded[:, :1], table[:, :1], torch.tensor([0]), alpha=0.5)
    assert float(alone) == 1.0


def test_ease_takes_all_later_classes_into_account() -> None:
    """With a third task, classes of tasks 1 and 2 say what task 0's classes are in subspace 1."""
    generator = torch.Generator().manual_seed(3)
    measured = [torch.randn(2, t + 1, 5, generator=generator) for t in range(3)]
    table = completed_table(measured)
    for u, s in ((0, 1), (0, 2), (1, 2)):
        for i in range(2):
            own = measured[u][i, u].numpy()
            later = [m[j] for m in measured[s:] for j in range(2)]
            cosines = [
                own @ p[u].numpy() / np.linalg.norm(own) / np.linalg.norm(p[u].numpy())
                for p in later
            ]
            weights = np.exp(cosines) / np.exp(cosines).sum()
            expected = sum(w * p[s].numpy() for w, p in zip(weights, later, strict=True))
            np.testing.assert_allclose(table[2 * u + i, s], expected, atol=1e-6)


def test_ease_measures_prototypes_in_all_subspaces_so_far() -> None:
    learner = learnt("ease")
    assert [tuple(m.shape) for m in learner.measured] == [(2, t + 1, DIM) for t in range(N_TASKS)]
    task = STREAM.tasks[2]
    x = torch.cat([task.train.features, task.validation.features])
    y = torch.cat([task.train.labels, task.validation.labels])
    for s, network in enumerate(learner.networks):
        batch = LabelledBatch(x, torch.arange(len(x)), "train", labels=y)
        with torch.no_grad():
            h = x + network.answer(batch)
        mean = h[y == task.classes[1]].mean(0)
        torch.testing.assert_close(learner.table[task.classes[1], s], mean)
        torch.testing.assert_close(learner.measured[2][1, s], mean)


def test_ease_without_other_subspaces_ignores_them() -> None:
    alone = learn_all(make("ease", RunConfig(ann=CONFIG.ann, ease=EaseConfig(alpha=0.0))))
    scores = alone.predict(TEST).scores
    for t, network in enumerate(alone.networks):
        with torch.no_grad():
            z = TEST.features + network.answer(TEST)
        means = alone.measured[t][:, t]
        cosines = torch.nn.functional.cosine_similarity(z[:, None], means[None], dim=2)
        columns = scores[:, PER_TASK * t : PER_TASK * (t + 1)]
        torch.testing.assert_close(columns, cosines, rtol=0, atol=1e-5)


# --- RanPAC ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapt_first", [True, False])
def test_ranpac_is_the_ridge_solution_for_all_data(adapt_first: bool) -> None:
    """After 3 tasks: scikit-learn's ridge on the random features of all samples at once."""
    settings = RanPACConfig(projection=100, adapt_first=adapt_first)
    learner = learn_all(make("ranpac", RunConfig(ann=CONFIG.ann, ranpac=settings)))
    x, y = all_data()

    def features(h: Tensor) -> np.ndarray[Any, Any]:
        if adapt_first:
            batch = LabelledBatch(h, torch.arange(len(h)), "test", labels=h[:, 0].long())
            with torch.no_grad():
                h = h + learner.networks[0].answer(batch)
        assert learner.classifier.projection.shape == (DIM, 100)
        random = np.maximum((h @ learner.classifier.projection).numpy(), 0)
        return random.astype(np.float64)

    ridge = learner.report()["ridge"]
    assert ridge in RIDGES
    targets = np.eye(N_CLASSES)[y.numpy()]
    theirs = Ridge(alpha=ridge, fit_intercept=False, solver="svd").fit(features(x), targets)
    expected = theirs.predict(features(TEST.features))
    np.testing.assert_allclose(learner.predict(TEST).scores, expected, atol=1e-5)


def test_ranpac_does_not_depend_on_the_order_of_tasks_but_for_the_ridge() -> None:
    forward = make("ranpac", RunConfig(ranpac=RanPACConfig(projection=50, adapt_first=False)))
    backward = make("ranpac", RunConfig(ranpac=RanPACConfig(projection=50, adapt_first=False)))
    learn_all(forward)
    learn_all(backward, STREAM.tasks[::-1])
    torch.testing.assert_close(forward.classifier.gram, backward.classifier.gram)
    swapped = torch.cat([backward.classifier.sums[:, 2 * k : 2 * k + 2] for k in (2, 1, 0)], dim=1)
    torch.testing.assert_close(forward.classifier.sums, swapped)


def sums_of(x: Tensor, y: Tensor) -> Sums:
    sums = Sums(torch.zeros(x.shape[1], x.shape[1]).double(), torch.zeros(x.shape[1], 2).double())
    sums.add(x, y)
    return sums


def test_sums_tell_a_solution_s_error() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(9, n, generator=generator).double() for n in (4, 2))
    w = torch.randn(4, 2, generator=generator).double()
    assert sums_of(x, y).error(w) == pytest.approx(float((x @ w - y).square().sum()))


def test_the_ridge_is_chosen_by_the_error_on_the_last_fifth() -> None:
    generator = torch.Generator().manual_seed(1)
    for n, m in ((50, 10), (30, 60)):  # more samples than features, and fewer
        x = torch.randn(n, m, generator=generator).double()
        y = (x[:, :2] + 2 * torch.randn(n, 2, generator=generator)).double()
        k = int(0.8 * n)
        errors = []
        for ridge in RIDGES:
            w = np.linalg.solve(
                x[:k].T.numpy() @ x[:k].numpy() + ridge * np.eye(m),
                x[:k].T.numpy() @ y[:k].numpy(),
            )
            errors.append(float(np.mean((x[k:].numpy() @ w - y[k:].numpy()) ** 2)))
        best = RIDGES[int(np.argmin(errors))]
        assert 0 < RIDGES.index(best) < len(RIDGES) - 1
        assert ridge_by_samples(x, y, k) == best
        fitted, held = (sums_of(x[rows], y[rows]) for rows in (slice(k), slice(k, None)))
        assert ridge_by_sums(fitted, held) == best
    assert RIDGES[0] == 1e-8
    assert RIDGES[-1] == 1e8


@pytest.mark.parametrize("n", [40, 9000])
def test_the_ridge_s_solution_is_that_of_one_pass_over_all_samples(n: int) -> None:
    """Fewer samples than features, and more than are taken at a time."""
    generator = torch.Generator().manual_seed(0)
    x, member = torch.randn(n, 5, generator=generator), torch.arange(n) % 3
    ridge = RandomRidge(5, 50, torch.Generator().manual_seed(1), "cpu")
    ridge.add(x, member, 3)
    ridge.add(x + 1.0, member, 3)  # the same sums are added to
    f = [(z @ ridge.projection).clamp_min(0).double() for z in (x, x + 1.0)]
    y = torch.nn.functional.one_hot(member, 3).double()
    gram = f[0].T @ f[0] + f[1].T @ f[1]
    torch.testing.assert_close(ridge.gram, gram)
    right = torch.cat([f[0].T @ y, f[1].T @ y], dim=1)
    least = torch.finfo(torch.float64).eps * float(gram.trace())
    matrix = gram + max(ridge.ridge, least) * torch.eye(50).double()
    torch.testing.assert_close(matrix @ ridge.weight, right)


def test_random_features_help_where_a_line_cannot() -> None:
    """XOR: no linear classifier is better than chance, random ReLU features solve it."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    which = torch.arange(4).repeat(50)
    x = corner[which] + 0.1 * torch.randn(200, 2, generator=generator)
    task = one_task(0, x, (which >= 2).long())
    config = RanPACConfig(projection=200, adapt_first=False)
    nothing: Callable[..., Any] = lambda generator: None  # noqa: E731
    learner = RanPAC(config, ANNConfig(), nothing, 2, "cpu", 0)
    learner.learn(task)
    assert accuracy(learner.predict(task.train).scores, task.train) == 1.0


# --- configuration --------------------------------------------------------------------------------


def test_the_configuration_with_sources_states_the_defaults() -> None:
    file = Path(__file__).parents[2] / "experiments" / "configs" / "learners.yaml"
    config = config_builder.build(RunConfig, yaml.safe_load(file.read_text(encoding="utf-8")))
    assert config == RunConfig(learners=list(LEARNERS))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: FinetuneConfig(epochs=0), "finetune.epochs: 0 cannot be used"),
        (lambda: FinetuneConfig(lr=0.0), "finetune.lr: 0.0 cannot be used"),
        (lambda: FinetuneConfig(weight_decay=-1.0), "finetune.weight_decay: -1.0"),
        (lambda: JointConfig(l2=[]), "joint.l2: [] cannot be used"),
        (lambda: JointConfig(l2=[0.0]), "joint.l2: [0.0] cannot be used"),
        (lambda: JointConfig(max_iterations=0), "joint.max_iterations: 0 cannot be used"),
        (lambda: EaseConfig(alpha=-0.1), "ease.alpha: -0.1 cannot be used"),
        (lambda: RanPACConfig(projection=0), "ranpac.projection: 0 cannot be used"),
    ],
)
def test_values_that_cannot_be_used(make_it: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_it()
    assert message in str(raised.value)
