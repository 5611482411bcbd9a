"""Thresholds of the gates."""

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snn_artsy.config import GateConfig
from snn_artsy.learners.thresholds import GateThresholds, balanced_threshold


def balanced_accuracy(good: list[float], bad: list[float], threshold: float) -> float:
    opened = sum(g > threshold for g in good) / len(good)
    shut = sum(b <= threshold for b in bad) / len(bad)
    return (opened + shut) / 2


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        # separable: between the two groups
        ([3.0, 4.0, 5.0], [0.0, 1.0], 2.0),
        # one bad score among the good: above it lies 1/2 + 1, below it 1 + 2/3
        ([3.0, 5.0], [0.0, 1.0, 4.0], 2.0),
        # two equally good thresholds (1.5 and 3.5, balanced accuracy 3/4): the higher one
        ([2.0, 4.0], [1.0, 3.0], 3.5),
        # good below bad: nothing is gained by opening
        ([0.0, 1.0], [2.0, 3.0], 3.0),
    ],
)
def test_balanced_threshold_by_hand(good: list[float], bad: list[float], expected: float) -> None:
    assert balanced_threshold(torch.tensor(good), torch.tensor(bad)) == expected


def test_balanced_threshold_weighs_both_kinds_alike() -> None:
    # 1 good against 99 bad: plain accuracy would keep the gate shut at 98 bad scores below 5
    good, bad = [5.0], [0.0] * 90 + [6.0] * 9
    assert balanced_threshold(torch.tensor(good), torch.tensor(bad)) == 2.5


def test_no_threshold_does_better() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        # on a coarse grid, so that ties occur
        good = (torch.randn(15, generator=generator) * 2 + 1).round() / 2
        bad = (torch.randn(25, generator=generator) * 2).round() / 2
        found = balanced_accuracy(good.tolist(), bad.tolist(), balanced_threshold(good, bad))
        grid = [k / 8 - 10 for k in range(160)]
        best = max(balanced_accuracy(good.tolist(), bad.tolist(), x) for x in grid)
        assert found == pytest.approx(best)


def test_identical_scores_keep_the_gate_shut() -> None:
    thresholds = GateThresholds(GateConfig())
    thresholds.add_task(torch.full((5,), 0.1), torch.full((9,), 0.1))
    thresholds.refresh()
    assert not bool((thresholds.calibrated(torch.full((4, 1), 0.1)) > 0).any())
    assert bool(torch.isfinite(thresholds.calibrated(torch.zeros(1, 1))).all())


@pytest.mark.parametrize("kind", ["balanced", "quantile"])
def test_without_bad_scores_95_percent_of_the_good_open_the_gate(kind: Any) -> None:
    good = torch.arange(101.0)
    thresholds = GateThresholds(GateConfig(threshold=kind))
    thresholds.add_task(good, torch.zeros(0))
    thresholds.refresh()
    assert thresholds.threshold == [pytest.approx(5.0)]
    assert int((thresholds.calibrated(good[:, None]) > 0).sum()) == 95


def test_a_quantile_does_not_look_at_bad_features() -> None:
    thresholds = GateThresholds(GateConfig(threshold="quantile", quantile=0.25))
    thresholds.add_task(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([2.5, 9.0, -7.0]))
    thresholds.refresh()
    assert thresholds.threshold == [2.0]


def test_calibrated_scores_in_units_of_each_gate_s_scatter() -> None:
    thresholds = GateThresholds(GateConfig())
    thresholds.add_task(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]))  # threshold 2
    thresholds.add_task(torch.tensor([30.0, 40.0]), torch.tensor([10.0, 0.0]))  # the same, times 10
    thresholds.refresh()
    assert thresholds.threshold == [2.0, 20.0]
    # scatter of 0, 1, 3, 4 around 2: sqrt((4 + 1 + 1 + 4) / 4)
    sd = math.sqrt(2.5)
    calibrated = thresholds.calibrated(torch.tensor([[5.0, 50.0], [2.0, 10.0]]))
    assert calibrated.flatten().tolist() == pytest.approx([3 / sd, 3 / sd, 0.0, -1 / sd])


def test_later_tasks_move_an_older_gate_s_threshold() -> None:
    thresholds = GateThresholds(GateConfig())
    thresholds.add_task(torch.tensor([3.0, 4.0, 6.0, 7.0]), torch.tensor([0.0]))
    thresholds.refresh()
    assert thresholds.threshold == [1.5]
    thresholds.add_bad(0, torch.tensor([5.0, 5.0, 5.0]))
    thresholds.refresh()
    assert thresholds.threshold == [5.5]


def test_scores_that_are_log_odds_open_above_zero() -> None:
    thresholds = GateThresholds(GateConfig())
    thresholds.fixed(3)
    assert thresholds.threshold == [0.0] * 3 and thresholds.spread == [1.0] * 3
    scores = torch.tensor([[0.5, -0.25, 0.0]])
    assert torch.equal(thresholds.calibrated(scores), scores)


def test_thresholds_of_many_scores_take_memory_as_the_scores_do() -> None:
    """A thousand classes that are replayed bring 20,000 scores a gate; compared each with each
    they would take gigabytes."""
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            each = made if isinstance(made, tuple) else (made,)
            largest = max([largest, *(x.numel() for x in each if isinstance(x, torch.Tensor))])
            return made

    with Largest():
        balanced_threshold(torch.arange(300.0), torch.arange(500.0))
    assert 500 <= largest <= 2000
