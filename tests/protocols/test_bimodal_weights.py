"""Additive STDP makes weights bimodal; soft bounds do not.

Runs the protocol over 180 s and 10 s of simulated time (about a quarter of a minute), when the
weights of both rules are where those of its 300 s and 50 s are.
"""

import numpy as np
import pytest

from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.bimodal_weights import (
    ADDITIVE,
    Parameters,
    bimodal_weights,
    share_at_bounds,
    simulate,
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        # What a rule is given in each of 190,000 steps; looking at it every time would take most of
        # the time.
        patch.setattr("snn_artsy.rules.base.check_signals", lambda *_, **__: None)
        patch.setattr("snn_artsy.rules.base.check_traces", lambda *_, **__: None)
        return bimodal_weights(Session(seed=1993), Parameters(duration_s=180, control_s=10))


def test_additive_weights_gather_at_both_bounds(outcome: Outcome) -> None:
    w = outcome.data["additive/w"].values
    assert len(w) == 1000 and share_at_bounds(w) >= 0.7
    assert (w < 0.2).mean() > 0.1 and (w > 0.8).mean() > 0.1
    assert [c.name for c in outcome.checks if not c.passed] == []


def test_the_control_is_unimodal_and_fails_the_criterion(outcome: Outcome) -> None:
    w = outcome.data["control/w"].values
    assert share_at_bounds(w) < 0.1 and outcome.checks[-1].measured == share_at_bounds(w)
    counts, _ = np.histogram(w, bins=10, range=(0, 1))
    peak = int(counts.argmax())
    assert 2 < peak < 7  # falls off to both sides of the middle
    assert (np.diff(counts[: peak + 1]) >= -20).all() and (np.diff(counts[peak:]) <= 20).all()
    # a uniform start fails as well: bimodality is made by the rule
    assert share_at_bounds(np.linspace(0, 1, 1000, dtype=np.float32)) < 0.5


def test_the_neuron_fires_and_the_additive_rule_lowers_its_rate(outcome: Outcome) -> None:
    """Song, Miller & Abbott 2000: depression slightly stronger than potentiation regulates."""
    rate = outcome.data["additive/rate"].values
    assert len(rate) == 180
    assert 5 < rate[-20:].mean() < rate[:3].mean()


def test_the_share_after_100_s_is_that_of_brian2_s_example(outcome: Outcome) -> None:
    share = outcome.data["additive/at_bounds"].values
    assert abs(share[99] - 0.641) < 0.05
    assert abs(share[0] - 0.4) < 0.1  # a uniform start: 40 %
    assert share[-1] > share[99] + 0.05  # so 100 s are not the end
    assert share[-1] == share_at_bounds(outcome.data["additive/w"].values)


def test_the_seed_decides() -> None:
    few = Parameters(n_inputs=100)
    first, again, other = (simulate(ADDITIVE, 1, seed, few).w for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_figure_and_data_are_complete(outcome: Outcome) -> None:
    assert len(outcome.figure.axes) == 3
    assert all(c.unit and c.meaning for c in outcome.data.values())
