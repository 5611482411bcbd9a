"""The STDP window protocol: its checks pass, and wrong rules are found out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.stdp_window import (
    RuleWindow,
    measure,
    pair_window,
    stdp_window,
    time_constant,
    triplet_window,
    zero_crossing,
)
from snn_artsy.rules import PairSTDP, TripletSTDP

LAGS = np.arange(-100.0, 101.0)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return stdp_window(Session())


def test_every_check_passes(outcome: Outcome) -> None:
    assert len(outcome.checks) >= 13
    assert [c.name for c in outcome.checks if not c.passed] == []


def test_pair_window_has_song_s_numbers(outcome: Outcome) -> None:
    change = dict(zip(LAGS, outcome.data["pair/change"].values.tolist(), strict=True))
    assert change[10.0] == pytest.approx(0.005 * math.exp(-0.5), rel=1e-12)
    assert change[-10.0] == pytest.approx(-0.00525 * math.exp(-0.5), rel=1e-12)
    assert change[0.0] == 0.0


def test_every_lag_follows_the_closed_form(outcome: Outcome) -> None:
    for name in ("pair", "triplet", "gated"):
        simulated, formula = (
            outcome.data[f"{name}/{kind}"].values for kind in ("change", "closed_form")
        )
        np.testing.assert_allclose(simulated, formula, rtol=1e-9, atol=1e-18)
    # the gate takes a part of the potentiation and nothing of the depression
    ratio = outcome.data["gated/change"].values / np.where(
        LAGS == 0, np.nan, outcome.data["pair/change"].values
    )
    assert np.ptp(ratio[LAGS > 0]) < 1e-12 and 0.5 < ratio[150] < 1.0
    np.testing.assert_allclose(ratio[LAGS < 0], 1.0)


def test_data_and_figure_are_complete(outcome: Outcome) -> None:
    assert all(len(c.values) == 201 and c.unit and c.meaning for c in outcome.data.values())
    assert len(outcome.figure.axes) == 3
    for axes in outcome.figure.axes:
        assert {"simulated", "closed form"} <= {line.get_label() for line in axes.lines}


def test_wrong_rules_are_found_out() -> None:
    song = pair_window(PairSTDP(), LAGS)
    for wrong in (PairSTDP(a_plus=0.00501), PairSTDP(tau_minus_ms=20.1)):
        assert not np.allclose(measure(wrong, LAGS, 1), song, rtol=1e-6)
    longer = measure(PairSTDP(tau_plus_ms=25.0), LAGS, 1)
    window = RuleWindow(LAGS, longer, song)
    assert time_constant(window, 1) == pytest.approx(25.0, rel=1e-9)
    assert time_constant(window, -1) == pytest.approx(20.0, rel=1e-9)
    shifted = RuleWindow(LAGS + 3.0, song, song)
    assert zero_crossing(shifted) == 3.0
    assert math.isnan(zero_crossing(RuleWindow(LAGS, -song, song)))
    triplet = TripletSTDP(a2_plus=0.003, a3_minus=0.002)
    reference = triplet_window(triplet, LAGS, 5, 300.0)
    np.testing.assert_allclose(measure(triplet, LAGS, 5, 300.0), reference, rtol=1e-9, atol=1e-15)
    for name in ("a2_plus", "a3_plus", "a2_minus", "a3_minus"):
        assert not np.allclose(
            measure(replace(triplet, **{name: 0.0}), LAGS, 5, 300.0), reference, rtol=1e-3
        )
