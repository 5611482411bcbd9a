"""Magnesium block against published values, and the gate built on it."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from snn_artsy.synapses.receptors import dendrite_mV, membrane_mV, mg_block, nmda_gate

# Jahr & Stevens 1990, eq. 4a at 1 mM magnesium.
PUBLISHED = {-70.0: 0.0445, -60.0: 0.0796, -40.0: 0.2302, -20.0: 0.5081, 0.0: 0.7812, 40.0: 0.9771}


def block(v_mV: float, mg_mM: float = 1.0) -> float:
    return float(mg_block(torch.tensor(v_mV, dtype=torch.float64), mg_mM))


def check_published_values(unblocked: Callable[[float], float]) -> None:
    for v_mV, value in PUBLISHED.items():
        assert unblocked(v_mV) == pytest.approx(value, abs=5e-5)


def test_mg_block_has_the_published_values() -> None:
    check_published_values(block)


def test_that_check_rejects_the_wrong_sign_of_the_exponent() -> None:
    with pytest.raises(AssertionError):
        check_published_values(lambda v: 1.0 / (1.0 + math.exp(0.062 * v) / 3.57))


def test_half_of_the_receptors_are_blocked_at_minus_20_5_mV() -> None:
    assert block(-20.5) == pytest.approx(0.5, abs=0.002)
    low, high = -70.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if block(middle) < 0.5 else (low, middle)
    assert low == pytest.approx(-20.5, abs=0.05)


def test_silent_contact_s_current_at_plus_40_against_minus_70_mV() -> None:
    # NMDA alone, reversal at 0 mV
    ratio = abs(block(40.0) * 40.0 / (block(-70.0) * -70.0))
    assert ratio == pytest.approx(12.5, abs=0.1)


def test_magnesium_is_what_blocks() -> None:
    assert block(-70.0, 0.0) == 1.0
    assert block(-70.0, 0.5) > block(-70.0, 1.0) > block(-70.0, 2.0)


def test_membrane_scale_rest_threshold_and_spike() -> None:
    v = torch.tensor([[0.0, 2.0, 1.0, 5.0]])
    threshold = torch.tensor([2.0, 2.0, 2.0, 2.0])
    spikes = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert membrane_mV(v, threshold, spikes).tolist() == [[-70.0, -50.0, -60.0, 20.0]]


def test_nmda_gate_opens_at_spikes_only() -> None:
    v_mV = torch.tensor([-110.0, -70.0, -50.0, -40.0, 20.0], dtype=torch.float64)
    gate = nmda_gate(v_mV, 1.0)
    assert gate[:4].tolist() == [0.0, 0.0, 0.0, 0.0]
    at_peak, at_threshold = (1.0 / (1.0 + math.exp(-0.062 * v) / 3.57) for v in (20.0, -40.0))
    assert float(gate[4]) == pytest.approx((at_peak - at_threshold) / (1.0 - at_threshold))


def test_without_magnesium_the_gate_is_open_at_rest() -> None:
    assert nmda_gate(torch.tensor([-70.0, 20.0]), 0.0).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("shut_mV", [-40.0, -70.0])
def test_the_less_magnesium_the_further_the_gate_is_open(shut_mV: float) -> None:
    v_mV = torch.tensor([-70.0, -55.0, 0.0], dtype=torch.float64)
    openings = [nmda_gate(v_mV, mg, shut_mV) for mg in (2.0, 1.0, 0.5, 0.1, 1e-9, 0.0)]
    for more, less in pairwise(openings):
        assert bool((less >= more).all()) and float(less[2]) > float(more[2])
    assert openings[1][0] == 0.0 and 0.05 < float(openings[3][0]) < 0.5
    torch.testing.assert_close(openings[4], openings[5])


def test_a_dendrite_s_gate_opens_by_degrees_from_rest_on() -> None:
    v_mV = torch.arange(-90.0, 41.0, dtype=torch.float64)
    gate = nmda_gate(v_mV, 1.0, -70.0)
    assert not gate[v_mV <= -70.0].any() and bool((gate[v_mV > -70.0].diff() > 0).all())
    at_rest, at_threshold = (1.0 / (1.0 + math.exp(-0.062 * v) / 3.57) for v in (-70.0, -50.0))
    expected = (at_threshold - at_rest) / (1.0 - at_rest)
    assert float(gate[v_mV == -50.0]) == pytest.approx(expected) and 0.05 < expected < 0.2


def test_epsps_take_a_dendrite_to_their_reversal_potential_and_spikes_to_their_peak() -> None:
    v = torch.tensor([[-1.0, 0.0, 1.5], [3.5, 9.0, -1.0]])
    spikes = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert dendrite_mV(v, spikes).tolist() == [[-90.0, -70.0, -40.0], [0.0, 0.0, 20.0]]
