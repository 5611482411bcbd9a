"""Prototypes under patterns of open gates."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.learners.prototypes import GatedPrototypes, class_means, complete, cosine_scores


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def filled(seed: int = 0, dim: int = 5) -> GatedPrototypes:
    """Three tasks of two classes, the missing answers completed."""
    generator = torch.Generator().manual_seed(seed)
    table = GatedPrototypes()
    for t in range(3):
        base = torch.randn(2, dim, generator=generator)
        table.add(base, [torch.randn(2, dim, generator=generator) for _ in range(t + 1)])
    return table


def test_class_means_in_the_order_of_the_classes() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [10.0, 10.0]])
    means = class_means(features, torch.tensor([5, 5, 2]), (2, 5))
    assert means.tolist() == [[10.0, 10.0], [2.0, 2.0]]


def test_cosine_scores_by_hand() -> None:
    features = torch.tensor([[3.0, 4.0]])
    scores = cosine_scores(features, torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, -4.0]]))
    assert scores[0].tolist() == pytest.approx([0.6, 0.8, -1.0])


def test_completion_of_a_miniature_by_hand() -> None:
    # One old class along the first new class and orthogonal to the second: cosines 1 and 0, so the
    # weights are e / (e + 1) and 1 / (e + 1). The lengths do not matter.
    old, new = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    gained = torch.tensor([[10.0, 0.0], [0.0, 20.0]])
    w = math.e / (math.e + 1)
    completed = complete(old, new, gained)
    assert completed[0].tolist() == pytest.approx([10.0 * w, 20.0 * (1 - w)])


def test_adding_a_task_completes_or_replays_the_older_classes() -> None:
    base_old, base_new = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    answers = [torch.tensor([[7.0, 7.0], [8.0, 8.0]]), torch.tensor([[10.0, 0.0], [0.0, 20.0]])]
    w = math.e / (math.e + 1)
    for replayed, expected in [
        (None, [10.0 * w, 20.0 * (1 - w)]),
        (torch.tensor([[-1.0, -2.0]]), [-1.0, -2.0]),
    ]:
        table = GatedPrototypes()
        table.add(base_old, [torch.tensor([[1.0, 1.0]])])
        table.add(base_new, answers, replayed)
        assert table.n_classes == 3
        assert table.gained[0].tolist() == [[1.0, 1.0], [7.0, 7.0], [8.0, 8.0]]
        assert table.gained[1][0].tolist() == pytest.approx(expected)
        assert table.gained[1][1:].tolist() == [[10.0, 0.0], [0.0, 20.0]]


def test_with_all_gates_shut_it_is_the_nearest_class_mean() -> None:
    table = filled()
    assert table.base is not None
    h0 = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    shut = torch.zeros(30, 3, dtype=torch.bool)
    # what shut sub-networks would have said is not looked at
    gained = 100.0 * torch.randn(30, 3, 5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(table.scores(h0, shut, gained), cosine_scores(h0, table.base))


def test_scores_follow_each_sample_s_own_pattern() -> None:
    table = filled()
    assert table.base is not None
    generator = torch.Generator().manual_seed(3)
    h0 = torch.randn(40, 5, generator=generator)
    gates = torch.rand(40, 3, generator=generator) < 0.5
    assert len(gates.unique(dim=0)) == 8
    gained = torch.randn(40, 3, 5, generator=generator)
    scores = table.scores(h0, gates, gained)
    base = table.base.double().numpy()
    tables = [p.double().numpy() for p in table.gained]
    for b in range(40):
        opened = [t for t in range(3) if gates[b, t]]
        z = h0[b].double().numpy() + sum(gained[b, t].double().numpy() for t in opened)
        for c in range(6):
            prototype = base[c] + sum(tables[t][c] for t in opened)
            assert float(scores[b, c]) == pytest.approx(cosine(z, prototype), abs=1e-5)


@pytest.mark.parametrize("with_h0", [True, False])
def test_of_many_patterns_each_sample_gets_what_it_gets_alone(with_h0: bool) -> None:
    """Samples with as many patterns as there are get their scores another way than one pattern."""
    table = filled()
    gates = torch.tensor([[k & 1, k & 2, k & 4] for k in range(8)]).bool()
    generator = torch.Generator().manual_seed(4)
    h0 = torch.randn(8, 5, generator=generator)
    gained = torch.randn(8, 3, 5, generator=generator)
    together = table.scores(h0, gates, gained, with_h0)
    alone = [table.scores(h0[b, None], gates[b, None], gained[b, None], with_h0) for b in range(8)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert bool((together[0] == 0).all()) is not with_h0


def test_of_many_patterns_new_prototypes_take_effect_at_once() -> None:
    """What is kept of the prototypes is theirs, also where those of a sub-network are replaced."""
    table, other = filled(), filled(seed=5)
    gates = torch.tensor([[k & 1, k & 2, k & 4] for k in range(8)]).bool()
    generator = torch.Generator().manual_seed(4)
    h0 = torch.randn(8, 5, generator=generator)
    gained = torch.randn(8, 3, 5, generator=generator)
    before = table.scores(h0, gates, gained)
    table.gained[1] = other.gained[1]
    fresh = GatedPrototypes()
    fresh.base, fresh.gained = table.base, table.gained
    after = table.scores(h0, gates, gained)
    assert torch.equal(after, fresh.scores(h0, gates, gained))
    assert not torch.equal(after, before)


def test_no_prototypes_no_scores() -> None:
    nothing: Tensor = torch.zeros(1, 0, 5)
    with pytest.raises(RuntimeError, match="learn a task first"):
        GatedPrototypes().scores(torch.ones(1, 5), torch.zeros(1, 0, dtype=torch.bool), nothing)


def test_without_subnetworks_it_is_the_nearest_class_mean() -> None:
    table = GatedPrototypes()
    table.add(torch.eye(3)[:2], [])
    table.add(torch.eye(3)[2:], [])
    scores = table.scores(
        torch.tensor([[0.0, 0.0, 2.0]]), torch.zeros(1, 0).bool(), torch.zeros(1, 0, 3)
    )
    assert scores.tolist() == [[0.0, 0.0, 1.0]]


def test_what_open_gates_do() -> None:
    """|h_t| / |h_0| over open gates alone, and the answer without them, by hand."""
    prototypes = GatedPrototypes()
    prototypes.add(torch.eye(2), [torch.zeros(2, 2)])
    h0 = torch.tensor([[3.0, 4.0], [2.0, 0.0]])
    gained = torch.tensor([[[6.0, 8.0]], [[0.0, 9.0]]])
    share, shut = prototypes.effect(h0, torch.tensor([[True], [False]]), gained)
    assert share.tolist() == [2.0, 0.0] and shut.tolist() == [1, 0]
