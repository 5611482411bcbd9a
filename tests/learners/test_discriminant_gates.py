"""Discriminant gates against scikit-learn's LDA, by hand, and in any order of tasks."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import DiscriminantConfig
from snn_artsy.learners.class_evidence import SHARES, TEMPERATURES
from snn_artsy.learners.gates import DiscriminantGates, PooledDiscriminants

DIM, PER_TASK = 6, 3


def samples(seed: int, n_tasks: int = 3, n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(n_tasks * PER_TASK, DIM, generator=torch.Generator().manual_seed(99))
    mixing = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(98))
    labels = torch.arange(n_tasks * PER_TASK).repeat_interleave(n)
    noise = torch.randn(len(labels), DIM, generator=generator)
    return means[labels] + noise @ mixing * 0.5, labels


def fitted(order: list[int], shrinkage: float = 0.1) -> DiscriminantGates:
    gates, (x, y) = DiscriminantGates(shrinkage), samples(1)
    for t in order:
        rows = y // PER_TASK == t
        gates.add_task(x[rows], y[rows])
    return gates


def test_the_open_gate_is_the_task_of_scikit_learn_s_class() -> None:
    (x, y), (test, _) = samples(1), samples(2)
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(9, 1 / 9)).fit(x, y)
    # all but no shrinkage; scikit-learn divides the scatter by n, which changes no decision
    scores = fitted([0, 1, 2], shrinkage=1e-9).scores(test)
    expected = lda.predict(test.numpy()) // PER_TASK
    assert (scores.argmax(1).numpy() == expected).mean() > 0.995
    assert ((scores > 0).sum(1) == 1).all()


def test_scores_are_the_discriminants_by_hand() -> None:
    gates = DiscriminantGates(0.25)
    gates.add_task(
        torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 2.0], [4.0, 4.0]]), torch.tensor([0, 0, 1, 1])
    )
    gates.add_task(torch.tensor([[-4.0, 0.0], [-2.0, 2.0]]), torch.tensor([2, 2]))
    # scatter: (2, 0) + (0, 2) + (2, 2; off-diagonal 2) over 6 - 3 degrees of freedom
    pooled = torch.tensor([[4.0, 2.0], [2.0, 4.0]], dtype=torch.float64) / 3
    sigma = 0.75 * pooled + 0.25 * (4 / 3) * torch.eye(2, dtype=torch.float64)
    x = torch.tensor([1.5, -0.5], dtype=torch.float64)
    g = []
    for mean in ([1.0, 0.0], [4.0, 3.0], [-3.0, 1.0]):
        mu = torch.tensor(mean, dtype=torch.float64)
        inverse = torch.linalg.inv(sigma)
        g.append(float(x @ inverse @ mu - 0.5 * mu @ inverse @ mu))
    odds = max(g[0], g[1]) - g[2]
    found = gates.scores(x[None].float())[0]
    np.testing.assert_allclose(found.numpy(), [odds, -odds], rtol=1e-5)


def test_order_of_tasks_does_not_matter() -> None:
    test, _ = samples(3)
    forward, backward = fitted([0, 1, 2]).scores(test), fitted([2, 0, 1]).scores(test)
    torch.testing.assert_close(forward, backward[:, [1, 2, 0]])


def test_one_task_is_always_open_and_none_is_an_error() -> None:
    gates = DiscriminantGates(0.1)
    with pytest.raises(RuntimeError, match="add a task first"):
        gates.scores(torch.zeros(1, DIM))
    x, y = samples(1, n_tasks=1)
    gates.add_task(x, y)
    assert (gates.scores(x) > 0).all()
    kept = {"discriminant.scatter", "discriminant.means.0", "discriminant.freedom"}
    assert set(gates.state_dict()) == kept


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"artsy_lda\.scale"):
        DiscriminantConfig(scale=0.0)
    with pytest.raises(ConfigError, match=r"artsy_lda\.shrinkage"):
        DiscriminantConfig(shrinkage=0.0)


def test_a_pool_trusts_whoever_tells_classes_of_new_samples() -> None:
    generator = torch.Generator().manual_seed(2)

    def drawn(n: int, classes: range) -> tuple[list[Tensor], Tensor]:
        labels = torch.tensor(list(classes)).repeat_interleave(n)
        means = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
        clear = 2.0 * means[labels] + torch.randn(len(labels), 4, generator=generator)
        vague = torch.randn(len(labels), 3, generator=generator)  # tells nothing
        return [vague, clear], labels

    def cost(scores: Tensor, labels: Tensor, temperature: float) -> float:
        each = zip(scores, labels.tolist(), strict=True)
        return -sum(float((own / temperature).log_softmax(0)[label]) for own, label in each)

    pooled, alone = PooledDiscriminants(None, True, "cpu"), [DiscriminantGates(None) for _ in "12"]
    costs, of_pools = np.zeros((2, len(TEMPERATURES))), np.zeros((len(SHARES), len(TEMPERATURES)))
    for classes in (range(2), range(2, 4), range(4, 6)):
        train, labels = drawn(12, classes)
        held, held_labels = drawn(5, classes)
        of_held = []
        for i, one in enumerate(alone):
            tried = deepcopy(one)
            tried.add_task(train[i], labels)
            of_held.append(tried.class_scores(held[i]))
            costs[i] += [cost(of_held[i], held_labels, t) for t in TEMPERATURES]
            one.add_task(torch.cat([train[i], held[i]]), torch.cat([labels, held_labels]))
        first, beside = (TEMPERATURES[k] for k in costs.argmin(1))
        pools = [(1 - w) * of_held[0] + w * of_held[1] * first / beside for w in SHARES]
        of_pools += [[cost(pool, held_labels, t) for t in TEMPERATURES] for pool in pools]
        chosen = int(of_pools.min(1).argmin())
        evidence, stays = pooled.add_task(train, labels, held, held_labels)
        assert stays is not None and stays.share == 1.0 - SHARES[chosen]
        torch.testing.assert_close(evidence, pools[chosen])
    assert SHARES[chosen] > 0.5  # of what is clear
    seen, _ = drawn(4, range(6))
    w, (vague, clear) = (
        SHARES[chosen],
        (one.class_scores(x) for one, x in zip(alone, seen, strict=True)),
    )
    expected = (1 - w) * vague + w * clear * first / beside
    found, stays = pooled.evidence(seen)
    torch.testing.assert_close(found, expected)
    assert stays is not None
    torch.testing.assert_close(stays.evidence, expected - (1 - w) * vague)
    again = PooledDiscriminants(None, True, "cpu")
    again.load_state_dict(pooled.state_dict())
    torch.testing.assert_close(again.evidence(seen)[0], expected)
