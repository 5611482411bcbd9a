"""The virtual experiment on the calcium rule: published points, and rules that must miss them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.calcium_window import (
    DEFAULTS,
    PUBLISHED,
    Parameters,
    calcium_window,
    schedule,
    simulate,
    unaveraged_change,
)
from snn_artsy.rules.base import Signals
from snn_artsy.rules.calcium import CalciumRule, expected_change, shares_above


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return calcium_window(Session())


def test_every_check_passes(outcome: Outcome) -> None:
    assert len(outcome.checks) == 2 * len(PUBLISHED)
    assert [check.name for check in outcome.checks if not check.passed] == []


def test_simulation_follows_the_prediction_at_every_lag(outcome: Outcome) -> None:
    lags = outcome.data["simulated/lag_ms"].values
    simulated = outcome.data["simulated/change"].values
    unaveraged = np.array([unaveraged_change(DEFAULTS, float(lag)) for lag in lags])
    z = (simulated - unaveraged) / outcome.data["simulated/standard_error"].values
    assert np.abs(z).max() < 3.5
    assert abs(z.mean()) * len(z) ** 0.5 < 3.0
    averaged = np.array([expected_change(float(lag)) for lag in lags])
    assert np.abs(simulated - averaged).max() < 0.03
    assert -0.012 < (unaveraged - averaged).mean() < -0.004  # as `expected_change` says


def test_figure_shows_the_published_points(outcome: Outcome) -> None:
    axes = outcome.figure.axes[0]
    marked = {
        tuple(point) for line in axes.lines for point in np.asarray(line.get_xydata()).tolist()
    }
    assert {(float(lag), change) for lag, change in PUBLISHED.items()} <= marked


def test_same_seed_same_outcome(outcome: Outcome) -> None:
    lags = outcome.data["simulated/lag_ms"].values
    runs = [
        simulate(DEFAULTS, float(lags[0]), torch.Generator().manual_seed(Session().seed))[0]
        for _ in range(2)
    ]
    assert runs[0] == runs[1] == outcome.data["simulated/change"].values[0]


@pytest.mark.parametrize("wrong", [{"delay_ms": 0.0}, {"c_post": 1.0}], ids=["no_delay", "c_post"])
def test_simulated_wrong_rules_miss_the_published_changes(wrong: dict[str, float]) -> None:
    p = Parameters(calcium=replace(CalciumRule(), **wrong), contacts=1000)
    source = torch.Generator().manual_seed(2)
    errors = [abs(simulate(p, lag, source)[0] - PUBLISHED[lag]) for lag in (-20, 5)]
    assert max(errors) > 0.06


@pytest.mark.parametrize("lag_ms", [-30.0, -2.0, 0.0, 4.0, 80.0])
def test_the_schedule_covers_a_period_and_keeps_the_time_above_threshold(lag_ms: float) -> None:
    rule = CalciumRule(delay_ms=0.0)
    steps = schedule(Parameters(calcium=rule), lag_ms)
    assert sum(dt for dt, _, _ in steps) == pytest.approx(1000.0)
    assert sum(pre for _, pre, _ in steps) == sum(post for _, _, post in steps) == 1
    one, w = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    above = {}
    for name, only in {
        "p": replace(rule, gamma_d=0.0, gamma_p=1.0),
        "d": replace(rule, theta_p=rule.theta_d, gamma_d=0.0, gamma_p=1.0),
    }.items():
        traces, total = only.start(one, one), 0.0
        for dt_ms, pre, post in steps:
            dw, traces = only.step(w, traces, Signals(one * pre, one * post, one), dt_ms)
            total += float(dw) * only.tau_ms
        above[name] = total / 1000.0
    assert (above["d"], above["p"]) == pytest.approx(shares_above(rule, lag_ms, 1.0), rel=1e-9)


def test_a_delay_on_the_grid_equals_later_spikes() -> None:
    """The rule's own delay against `simulate`'s, which is part of the spike times."""
    dt_ms, n_steps, lag = 0.1, 1200, 50
    rule = CalciumRule(sigma=0.0).sped_up(20.0)
    pre, post = torch.zeros(2, n_steps, 1, 1, dtype=torch.float64)
    pre[100] = post[100 + lag] = 1.0
    later = torch.roll(pre, 137, 0)
    w = torch.full((1, 1), 0.3, dtype=torch.float64)
    delayed, _ = rule.presentation(w, rule.start(pre[0], post[0]), Signals(pre, post, post), dt_ms)
    none = replace(rule, delay_ms=0.0)
    shifted, _ = none.presentation(
        w, none.start(pre[0], post[0]), Signals(later, post, post), dt_ms
    )
    torch.testing.assert_close(delayed, shifted)
    assert float(delayed.abs()) > 1e-3
