"""The compiled loop of the filopodia's protocol is the rules' own step; its experiment runs."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numba
import numpy as np
import pytest
import torch

from snn_artsy.checks import ConfigError
from snn_artsy.protocols import correlated_inputs
from snn_artsy.protocols.base import Session
from snn_artsy.protocols.correlated_inputs import Cell, Floats, change_of, simulate
from snn_artsy.protocols.filopodium_spine import (
    Parameters,
    filopodium_spine,
    pattern,
    remember,
    rules,
)
from snn_artsy.rules import FilopodiumSpine, PairSTDP, Signals

# Large changes and quick exponents, and inputs so strong that the neuron fires.
RULES = {
    "filopodium-spine": FilopodiumSpine(0.05, 1.2, 17.0, 31.0, tau_mu_ms=90.0, mu_spine=0.7),
    "additive": PairSTDP(0.05, 0.06, 17.0, 31.0),
    "multiplicative": PairSTDP(0.05, 0.06, 17.0, 31.0, bounds_of="van_rossum"),
}
SMALL = Parameters(n_inputs=40, a_s=20.0, b_s=20.0)


@pytest.mark.parametrize("name", RULES)
def test_weights_are_those_of_the_rule_s_own_steps(name: str) -> None:
    """One step a call, so that the trains can be told from traces and conductances; the same
    trains in float64 through `step`."""
    rule, n, dt = RULES[name], 6, 0.5
    w, state = np.full(n, 0.5), np.zeros((4, n))
    state[3] = -dt
    cell = np.array([0.04, 0.0, dt / 20, dt / 5, -70.0, -54.0, 0.0, -70.0, 0.0])
    membrane, clock = np.array([-70.0, 0, 0, 0, 0]), np.zeros(3)
    ours = torch.full((1, n), 0.5, dtype=torch.float64)
    zero = torch.zeros(1, n, dtype=torch.float64)
    traces, n_spikes, spread = rule.start(zero, zero[:, :1]), 0, 0.0
    correlated_inputs._seed(3)
    for step in range(500):
        before = state[1].copy()
        fired = correlated_inputs._run(
            1, dt, 0.05, np.full(n, 0.5), change_of(rule), cell, membrane, clock, w, state, False
        )
        pre = torch.from_numpy((state[1] != before) | (step == 0) & (state[0] > 0)).double()[None]
        post = torch.full((1, 1), float(fired), dtype=torch.float64)
        n_spikes, spread = n_spikes + fired, max(spread, float(np.ptp(w)))
        dw, traces = rule.step(ours, traces, Signals(pre, post, post), dt)
        ours = (ours + dw).clamp(0.0, 1.0)
        assert w == pytest.approx(ours[0].numpy(), abs=1e-12)
    assert n_spikes >= 10 and spread > 0.05  # so that something was compared


def test_spikes_of_a_step_pair_in_the_order_of_the_authors_code() -> None:
    """Their equations as a loop over scalars, a presynaptic spike before a postsynaptic one."""
    rule, n, dt = RULES["filopodium-spine"], 6, 0.5
    assert isinstance(rule, FilopodiumSpine)
    w, state = np.full(n, 0.5), np.zeros((4, n))
    state[3] = -dt
    cell = np.array([0.04, 0.0, dt / 20, dt / 5, -70.0, -54.0, 0.0, -70.0, 0.0])
    membrane, clock = np.array([-70.0, 0, 0, 0, 0]), np.zeros(3)
    theirs, mu, z_plus, z_minus, together = [0.5] * n, [0.0] * n, [0.0] * n, 0.0, 0
    slope = (rule.mu_spine - rule.mu_filopodium) / 0.75  # mu(0) and mu(.75) on a line
    correlated_inputs._seed(3)
    for step in range(500):
        before = state[1].copy()
        fired = correlated_inputs._run(
            1, dt, 0.05, np.full(n, 0.5), change_of(rule), cell, membrane, clock, w, state, True
        )
        pre = (state[1] != before) | (step == 0) & (state[0] > 0)
        together += int(pre.sum()) * fired
        for i in range(n):
            rest = rule.mu_filopodium + slope * theirs[i]
            mu[i] = rest + (mu[i] - rest) * math.exp(-dt / rule.tau_mu_ms)
            z_plus[i] *= math.exp(-dt / rule.tau_plus_ms)
        z_minus *= math.exp(-dt / rule.tau_minus_ms)
        for i in np.flatnonzero(pre):
            z_plus[i] += 1.0
            down = abs(theirs[i] - 0.5) ** mu[i] * rule.alpha * rule.a_plus * z_minus
            theirs[i] = min(max(theirs[i] - down, 0.0), 1.0)
        for i in range(n if fired else 0):
            up = abs(1.0 - theirs[i]) ** mu[i] * rule.a_plus * z_plus[i]
            theirs[i] = min(theirs[i] + up, 1.0)
        z_minus += fired
        assert w == pytest.approx(theirs, abs=1e-12)
    assert together >= 5  # so that the order was seen


def test_inputs_have_the_rate_and_correlation_that_were_asked_for() -> None:
    """Rates and pairwise correlations of the authors' inputs: P(spike) = r dt whatever the
    correlation with the reference train, and Corr(i, j) = sqrt(c_i c_j)."""
    n, dt, chance = 4, 0.5, 0.05
    c = np.array([0.0, 0.25, 0.5, 0.9])
    w, state, clock = np.zeros(n), np.zeros((4, n)), np.zeros(3)
    cell, membrane = np.array([0, 0, 0.1, 0.1, -70.0, -54.0, 0, 0, 0]), np.zeros(5) - 70.0
    change = change_of(PairSTDP(0.0, 0.0))
    correlated_inputs._seed(1)
    spikes, last = [], np.zeros(n)
    for k in range(30_000):
        correlated_inputs._run(
            1, dt, chance, np.sqrt(c), change, cell, membrane, clock, w, state, False
        )
        spikes.append(state[1] != last if k else state[0] > 0)
        last = state[1].copy()
    trains = np.array(spikes, dtype=float)
    assert trains.mean(0) == pytest.approx(chance, abs=0.006)
    expected = np.sqrt(np.outer(c, c))
    np.fill_diagonal(expected, 1.0)
    assert np.corrcoef(trains.T) == pytest.approx(expected, abs=0.03)


def test_a_neuron_without_input_stays_at_rest_and_one_with_inhibition_fires_less() -> None:
    quiet = [(1.0, np.zeros(40))]
    rule = PairSTDP(0.0, 0.0)

    def rate(cell: Cell) -> float:
        return float(simulate(rule, quiet, rate_hz=30.0, seed=1, cell=cell).rate_hz[0])

    assert rate(Cell(g_exc_nS=0.0)) == 0.0
    assert 0.0 < rate(Cell(g_inh_nS=2.0)) < rate(Cell())


def test_the_seed_decides() -> None:
    def w(seed: int) -> Floats:
        return simulate(RULES["additive"], [(1.0, np.full(20, 0.3))], seed=seed).w

    assert np.array_equal(w(1), w(1)) and not np.array_equal(w(1), w(2))


@pytest.mark.parametrize(
    "second", [np.zeros(19), np.zeros(21), np.full(20, 1.1), np.full(20, np.nan)]
)
def test_patterns_that_the_loop_cannot_take_are_refused(second: Floats) -> None:
    with pytest.raises(ValueError, match=r"correlations\[1\]"):
        simulate(RULES["additive"], [(1.0, np.zeros(20)), (1.0, second)])


@pytest.mark.parametrize("rate_hz", [0.0, 2000.0])
def test_rates_without_a_chance_between_0_and_1_are_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="rate_hz"):
        simulate(RULES["additive"], [(1.0, np.zeros(20))], rate_hz=rate_hz)


@pytest.mark.skipif(
    not numba.config.BOUNDSCHECK, reason="an address-checked run: NUMBA_BOUNDSCHECK=1"
)
def test_an_address_checked_run_catches_an_array_that_ends_too_early() -> None:
    cell = np.array([0.04, 0.0, 0.025, 0.1, -70.0, -54.0, 0.0, -70.0, 0.0])
    membrane, change = np.array([-70.0, 0, 0, 0, 0]), change_of(RULES["filopodium-spine"])
    correlated_inputs._seed(0)
    with pytest.raises((IndexError, SystemError)):
        correlated_inputs._run(
            500, 0.5, 0.05, np.full(5, 0.5), change, cell, membrane, np.zeros(3), np.full(6, 0.5),
            np.zeros((4, 6)), False,
        )  # fmt: skip


def test_patterns_have_the_mean_and_lie_on_opposite_sides() -> None:
    p = Parameters()
    a, b = pattern(p, -1), pattern(p, 1)
    assert a.mean() == pytest.approx(0.06) and int(a.argmax()) in (249, 250)
    assert b == pytest.approx(a[::-1])
    assert a[:250] == pytest.approx(a[499:249:-1], abs=5e-3)  # 1,000 do not lie quite evenly


def test_the_experiment_small() -> None:
    """Twenty seconds of forty inputs say nothing of protection; all else is there."""
    outcome = filopodium_spine(Session(seed=1), SMALL)
    assert len(outcome.checks) == 11 and len(outcome.figure.axes) == 10
    assert all(check.not_compared.startswith("n_inputs, a_s, b_s") for check in outcome.checks)
    assert all(math.isfinite(check.measured) for check in outcome.checks)
    assert all(column.unit and column.meaning for column in outcome.data.values())
    shapes = {c.values.shape for n, c in outcome.data.items() if "w_a" in n}
    assert shapes == {(40,)}


def test_all_rules_have_the_same_amplitudes() -> None:
    for a, b in pairwise(change_of(rule) for rule in rules(Parameters()).values()):
        assert (a.a_plus, a.a_minus) == pytest.approx((b.a_plus, b.a_minus))
    with pytest.raises(ValueError, match="soft"):
        change_of(PairSTDP(bounds_of="soft"))


def test_a_memory_is_compared_with_itself_and_with_the_other() -> None:
    memory = remember(RULES["additive"], SMALL, 1)
    assert memory.w_a.shape == (40,) and 0 <= memory.overlap_a <= 1 and 0 <= memory.overlap_b <= 1
    still = replace(memory, w_ab=memory.w_a)
    assert still.overlap_a == pytest.approx(1.0)


def test_sizes_that_cannot_be_used_are_refused() -> None:
    for wrong in ({"n_inputs": 1}, {"a_s": 5.0}, {"dt_ms": 5.0}, {"overlap": 2.0}):
        with pytest.raises(ConfigError):
            Parameters(**wrong)
