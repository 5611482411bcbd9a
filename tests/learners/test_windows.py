"""Which batches are traced, by hand."""

from __future__ import annotations

import torch

from snn_artsy.learners.windows import Shown, Windows


def traced(n_batches: int, parts: int, conversions: set[int], seed: int = 0) -> list[int]:
    """Numbers of the batches that are traced, in the order in which they are told."""
    windows = Windows(n_batches, parts, seed)
    found = []
    for number in range(n_batches):
        shown = Shown({}, torch.zeros(0), None, None, float(number))
        found += [s.start_ms for s in windows.chosen(shown, number in conversions)]
    return [int(x) for x in found]


def test_a_window_is_a_batch_with_two_on_each_side() -> None:
    windows = Windows(40, 2, 0)
    windows.drawn = {3}
    told = []
    for number in range(40):
        shown = Shown({}, torch.zeros(0), None, None, float(number))
        # 21 lies in the window of 19; 30 is not the first of its half
        told += [s.start_ms for s in windows.chosen(shown, number in (19, 21, 30))]
    assert told == [1, 2, 3, 4, 5, 17, 18, 19, 20, 21, 22, 23]


def test_each_part_has_its_first_conversion_and_one_at_random() -> None:
    every = set(range(100))
    found = traced(100, 4, every)
    assert found == sorted(set(found)) and {0, 25, 50, 75} <= set(found)
    assert len(found) <= 2 * 5 * 4
    drawn = traced(100, 4, set())
    assert len(drawn) <= 20 and [
        sum(25 * k <= x < 25 * k + 25 for x in drawn) > 0 for k in range(4)
    ]
    assert drawn == traced(100, 4, set()) != traced(100, 4, set(), seed=1)


def test_fewer_batches_than_parts() -> None:
    assert traced(3, 9, {0}) == [0, 1, 2]
    assert traced(1, 4, set()) == [0]
