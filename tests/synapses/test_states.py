"""States of contacts: hysteresis, consolidation, capture."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.config import ContactConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.synapses.states import capture, count_states, update_states

CONTACTS = ContactConfig(theta_up=0.5, theta_down=0.25, consolidate_ms=300.0)


def follow(occupancies: list[float], elapsed_ms: float = 100.0, start: int = SILENT) -> list[int]:
    """State of one contact after each occupancy."""
    state, clock = torch.tensor([start], dtype=torch.uint8), torch.zeros(1)
    seen = []
    for ampa in occupancies:
        state, clock = update_states(state, torch.tensor([ampa]), clock, elapsed_ms, CONTACTS)
        seen.append(int(state))
    return seen


def test_thresholds_are_inclusive_and_differ_by_direction() -> None:
    assert follow([0.49, 0.5]) == [SILENT, FUNCTIONAL]
    assert follow([0.5, 0.26, 0.25]) == [FUNCTIONAL, FUNCTIONAL, SILENT]
    # between the thresholds the past decides
    assert follow([0.4]) == [SILENT]
    assert follow([0.6, 0.4]) == [FUNCTIONAL, FUNCTIONAL]
    assert follow([0.6, 0.1, 0.4]) == [FUNCTIONAL, SILENT, SILENT]


def test_consolidated_after_exactly_consolidate_ms_as_functional() -> None:
    # converted at the end of batch 1; the clock runs from there: 100, 200, 300 ms
    expected = [FUNCTIONAL, FUNCTIONAL, FUNCTIONAL, CONSOLIDATED]
    assert follow([0.6] * 4) == expected
    assert follow([0.6, 0.3, 0.3, 0.3]) == expected
    assert follow([0.6] * 3, elapsed_ms=150.0) == [FUNCTIONAL, FUNCTIONAL, CONSOLIDATED]


def test_falling_silent_resets_the_clock() -> None:
    after = follow([0.6, 0.6, 0.6, 0.2, 0.6, 0.6, 0.6, 0.6])
    assert after == [1, 1, 1, 0, 1, 1, 1, 2]


def test_falling_silent_in_the_last_moment_wins_over_consolidation() -> None:
    assert follow([0.6, 0.6, 0.6, 0.2]) == [1, 1, 1, 0]


def test_consolidated_never_reverts() -> None:
    assert follow([0.0, 0.0, 1.0, 0.0], start=CONSOLIDATED) == [CONSOLIDATED] * 4


def test_arguments_are_left_as_they_are() -> None:
    state = torch.tensor([SILENT, FUNCTIONAL], dtype=torch.uint8)
    ampa, clock = torch.tensor([0.9, 0.1]), torch.tensor([0.0, 50.0])
    new, _ = update_states(state, ampa, clock, 100.0, CONTACTS)
    assert new.tolist() == [FUNCTIONAL, SILENT]
    assert state.tolist() == [SILENT, FUNCTIONAL]
    assert clock.tolist() == [0.0, 50.0]


def test_capture_consolidates_the_functional_ones_only() -> None:
    state = torch.tensor([SILENT, FUNCTIONAL, CONSOLIDATED], dtype=torch.uint8)
    assert capture(state, torch.zeros(3)).tolist() == [SILENT, CONSOLIDATED, CONSOLIDATED]
    assert state.tolist() == [SILENT, FUNCTIONAL, CONSOLIDATED]


def test_counts_leave_out_pairs_without_a_contact() -> None:
    state = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 0]], dtype=torch.uint8)
    exists = torch.tensor([[True, True, True, True], [True, False, True, True]])
    assert count_states(state, exists).tolist() == [3, 2, 2]
    silent_only = torch.zeros(2, 3, dtype=torch.uint8)
    assert count_states(silent_only, torch.ones(2, 3, dtype=torch.bool)).tolist() == [6, 0, 0]


def naive_step(state: int, clock: float, ampa: float, elapsed: float) -> tuple[int, float]:
    """One contact, as the text of the model has it."""
    if state == SILENT:
        return (FUNCTIONAL, 0.0) if ampa >= 0.5 else (SILENT, 0.0)
    if state == FUNCTIONAL:
        if ampa <= 0.25:
            return SILENT, 0.0
        clock += elapsed
        return (CONSOLIDATED, 0.0) if clock >= 300.0 else (FUNCTIONAL, clock)
    return CONSOLIDATED, 0.0


def random_occupancies(seed: int, n_batches: int, n: int) -> Tensor:
    """A bounded random walk for each contact, so that some stay functional for long."""
    steps = 0.4 * torch.randn(n_batches, n, generator=torch.Generator().manual_seed(seed))
    walk, out = torch.zeros(n), torch.empty(n_batches, n)
    for b in range(n_batches):
        walk = (walk + steps[b]).clamp(0.0, 1.0)
        out[b] = walk
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([50.0, 100.0, 400.0]))
def test_invariants_on_random_histories(seed: int, elapsed_ms: float) -> None:
    n = 40
    state, clock = torch.zeros(n, dtype=torch.uint8), torch.zeros(n)
    naive = [(SILENT, 0.0)] * n
    exists = torch.ones(n, dtype=torch.bool)
    for ampa in random_occupancies(seed, 12, n):
        before = state
        state, clock = update_states(state, ampa, clock, elapsed_ms, CONTACTS)
        naive = [naive_step(*c, float(a), elapsed_ms) for c, a in zip(naive, ampa, strict=True)]
        assert state.tolist() == [s for s, _ in naive]
        assert clock.tolist() == [c for _, c in naive]
        assert int(count_states(state, exists).sum()) == n
        assert bool((state[before == CONSOLIDATED] == CONSOLIDATED).all())
        # nothing skips a state
        assert not bool(((before == SILENT) & (state == CONSOLIDATED)).any())


def test_a_tag_that_has_decayed_is_not_captured() -> None:
    state = torch.tensor([SILENT, FUNCTIONAL, FUNCTIONAL, CONSOLIDATED], dtype=torch.uint8)
    functional_ms = torch.tensor([0.0, 100.0, 101.0, 0.0])
    expected = [SILENT, CONSOLIDATED, FUNCTIONAL, CONSOLIDATED]
    assert capture(state, functional_ms, tag_ms=100.0).tolist() == expected
    everything = [SILENT, CONSOLIDATED, CONSOLIDATED, CONSOLIDATED]
    assert capture(state, functional_ms).tolist() == everything
