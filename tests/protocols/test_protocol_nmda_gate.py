"""The NMDA gate's protocol: what converts, and that a constant in its place is found out."""

from dataclasses import replace

import numpy as np
import pytest

from snn_artsy.protocols import nmda_gate
from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.nmda_gate import DEFAULTS, GROUPS, Parameters, cell
from snn_artsy.rules import GatedSTDP


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    fewer = Parameters(n_replicates=3, speed=100.0, n_volleys=8, early_volleys=3)
    return nmda_gate.nmda_gate(Session(seed=1993), fewer)


def last(outcome: Outcome, condition: str) -> list[float]:
    """Shares that are functional in the end, by group."""
    return [
        float(outcome.data[f"{condition}/{group.replace(' ', '_')}"].values[-1]) for group in GROUPS
    ]


def test_every_check_passes(outcome: Outcome) -> None:
    assert [c.name for c in outcome.checks if not c.passed] == []
    assert len(outcome.checks) == 13 and not any(c.not_compared for c in outcome.checks)


@pytest.mark.parametrize(
    ("condition", "shares"),
    [
        ("control", [1.0, 0.0, 0.0]),
        ("spikes", [1.0, 1.0, 0.0]),
        ("no_magnesium", [1.0, 1.0, 1.0]),
        ("clamp_-70_mV", [0.0, 0.0, 0.0]),
        ("clamp_0_mV", [1.0, 1.0, 1.0]),
        ("clamp_+40_mV", [1.0, 1.0, 1.0]),
        ("gate_of_spikes", [0.0, 0.0, 0.0]),
    ],
)
def test_what_converts(outcome: Outcome, condition: str, shares: list[float]) -> None:
    assert last(outcome, condition) == shares


def test_a_constant_gate_of_equal_mean_cannot_tell_the_groups_apart() -> None:
    times = nmda_gate.spike_times(3)[:6]
    control = nmda_gate.pairings(DEFAULTS.gating, times)
    flat = replace(DEFAULTS.gating, nmda=control.opened, mg_mM=0.0)
    constant = nmda_gate.pairings(flat, times)
    assert control.occupancy[0] > 5 * control.occupancy[1:].max()
    assert np.ptp(constant.occupancy) < 0.02 * constant.occupancy.mean()
    # with it in the place of the gate the protocol's own checks are missed
    courses = dict.fromkeys([*DEFAULTS.conditions, nmda_gate.CONSTANT], constant)
    missed = [c.name for c in nmda_gate.checks_of(courses, 0.3) if not c.passed]
    for name in ("clustered contacts that convert", "occupancy with 20", "selectivity for"):
        assert any(each.startswith(name) for each in missed), name


def test_dendrites_differ_in_functional_neighbours_and_in_nothing_else() -> None:
    layer = cell(GatedSTDP(gating=DEFAULTS.gating))
    n = DEFAULTS.most
    functional = layer.transmitted()[:, :n].sum(1).view(len(DEFAULTS.neighbours), -1)
    assert functional[:, 0].tolist() == list(DEFAULTS.neighbours)
    assert bool((functional == functional[:, :1]).all())
    silent = layer.born_silent[:, n:]
    assert bool((silent.sum(1) == 2 * DEFAULTS.n_silent).all())
    assert not bool((layer.transmitted()[:, n:] > 0).any())
    assert layer.exists[:, n:].equal(silent)


def test_the_data_say_how_far_the_neighbours_depolarise(outcome: Outcome) -> None:
    v_mV = outcome.data["potential/volley"].values
    assert v_mV[0].tolist() == [-70.0, -70.0] and (v_mV[:, 1] == -70.0).all()
    # 20 EPSPs of 2 mV within 6 ms, with a time constant of 20 ms
    assert -36.0 < v_mV[:, 0].max() < -30.0
    by_number = outcome.data["neighbours/occupancy"].values
    assert by_number[0] == 0.0 and bool((np.diff(by_number) > 0).all())


def test_the_figure_shows_potentials_groups_and_conditions(outcome: Outcome) -> None:
    volley, course, dose, bars = outcome.figure.axes
    assert (len(volley.lines), len(course.lines), len(dose.lines)) == (2, len(GROUPS), 2)
    assert len(bars.patches) == len(GROUPS) * (len(DEFAULTS.conditions) + 1)
