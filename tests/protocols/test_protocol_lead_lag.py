"""Lead and lag: order alone decides which contacts convert, and a rule blind to it is found out."""

import math

import numpy as np
import pytest

from snn_artsy.protocols import lead_lag
from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.lead_lag import (
    DEFAULTS,
    Parameters,
    expected_occupancy,
    pairings,
    spike_times,
)
from snn_artsy.rules import PairSTDP


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return lead_lag.lead_lag(Session(seed=1993), Parameters(n_inputs=40))


def test_every_check_passes(outcome: Outcome) -> None:
    assert [c.name for c in outcome.checks if not c.passed] == []
    assert len(outcome.checks) == 4 * len(DEFAULTS.rules) + 1
    assert not any(c.not_compared for c in outcome.checks)


def test_leading_contacts_convert_and_no_others(outcome: Outcome) -> None:
    for name in DEFAULTS.rules:
        leading, lagging, mixed = (
            outcome.data[f"{name}/{group}"].values for group in lead_lag.GROUPS
        )
        assert leading[0] == 0.0 and leading[-1] == 1.0
        assert not lagging.any() and not mixed.any()


def test_the_groups_differ_in_nothing_but_time() -> None:
    at = spike_times(3).reshape(-1, 3, 200) - 40
    lead, lag, anywhere = at[:, 0], at[:, 1], at[:, 2]
    assert (lead.min(), lead.max(), lag.min(), lag.max()) == (-15, -1, 1, 15)
    assert (anywhere.min(), anywhere.max()) == (-40, 39)
    assert not np.array_equal(spike_times(4), spike_times(3))


@pytest.mark.parametrize(("early", "period", "speed"), [(30, 80, 4.0), (7, 60, 2.0)])
def test_the_expectation_is_a_sum_over_pairs_of_spikes(
    early: int, period: int, speed: float
) -> None:
    """Pair rule, spike by spike: every lag of a group has the same chance in every volley."""
    rule = PairSTDP()
    by_lag = {
        lag: sum(
            rule.a_plus * math.exp(-apart / 20.0)
            if apart > 0
            else -rule.a_minus * math.exp(apart / 20.0) * (apart < 0)
            for k in range(early)
            for j in range(early)
            for apart in [period * (k - j) + lag]
        )
        for lag in range(-15, 16)
    }
    lead = speed * sum(by_lag[lag] for lag in range(1, 16)) / 15
    lag = speed * sum(by_lag[-lag] for lag in range(1, 16)) / 15
    p = Parameters(early_volleys=early, period_ms=float(period), speed=speed)
    assert expected_occupancy(rule, p)[:2] == pytest.approx([lead, lag], rel=1e-9)
    assert lag < 0 < lead


def test_a_rule_blind_to_order_converts_both_groups(outcome: Outcome) -> None:
    wrong = pairings(DEFAULTS.wrong, spike_times(1)[:60])
    assert wrong.converted[-1, :2].tolist() == [1.0, 1.0]
    # with it in the place of a rule the protocol's bound on lagging contacts is missed
    assert wrong.converted[-1, 1] > 0.02
    assert outcome.checks[-1].name.endswith("blind to order")


def test_the_figure_shows_groups_and_rules(outcome: Outcome) -> None:
    assert len(outcome.figure.axes) == len(DEFAULTS.rules) + 2
    for axes in outcome.figure.axes[1:]:
        assert len(axes.lines) == 3
