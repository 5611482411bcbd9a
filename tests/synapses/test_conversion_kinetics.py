"""How fast silent contacts convert: by the threshold, by chance, and under Poisson trains."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.config import ContactConfig
from snn_artsy.observer import FUNCTIONAL, SILENT
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Rule, Signals
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV
from snn_artsy.synapses.states import update_states


def signals(pre: Tensor, post: Tensor) -> Signals:
    return Signals(pre, post, torch.where(post > 0, V_PEAK_MV, V_REST_MV).to(post.dtype))


# ---- threshold: graded occupancy ----


def pairings_to_conversion(
    rule: Rule, lag_steps: int, theta_up: float, limit: int = 400
) -> int | None:
    """Pairings of one contact, each a presentation of 1 ms steps, until it is functional."""
    pre, post = torch.zeros(2, 100, 1, 1, dtype=torch.float64)
    pre[40] = post[40 + lag_steps] = 1.0
    params = ContactConfig(theta_up=theta_up, theta_down=theta_up / 2)
    ampa, since = torch.zeros(2, 1, 1, dtype=torch.float64)
    state = torch.full((1, 1), SILENT, dtype=torch.uint8)
    traces = rule.start(pre[0], post[0])
    for n in range(1, limit + 1):
        dw, traces = rule.presentation(ampa, traces, signals(pre, post), 1.0)
        ampa = (ampa + dw).clamp(0.0, 1.0)
        state, since = update_states(state, ampa, since, 100.0, params)
        if int(state) == FUNCTIONAL:
            return n
        assert int(state) == SILENT
    return None


@pytest.mark.parametrize("theta_up", [0.05, 0.37, 0.5, 0.9])
@pytest.mark.parametrize("a_plus, lag", [(0.005, 5), (0.013, 10), (0.03, 1), (0.6, 3)])
def test_a_contact_converts_after_exactly_the_pairings_it_needs(
    theta_up: float, a_plus: float, lag: int
) -> None:
    rule = PairSTDP(a_plus=a_plus)
    da = a_plus * math.exp(-lag / 20.0)
    needed = math.ceil(theta_up / da)
    assert abs(needed * da - theta_up) > 1e-9  # no tie that rounding would decide
    assert pairings_to_conversion(rule, lag, theta_up) == needed
    # the gate's opening at a spike's peak scales the step
    block, at_threshold = (1 / (1 + math.exp(-0.062 * v) / 3.57) for v in (20.0, -40.0))
    opened = (block - at_threshold) / (1 - at_threshold)
    gated = GatedSTDP(rule, Gating(target=0.0))
    assert pairings_to_conversion(gated, lag, theta_up) == math.ceil(theta_up / (opened * da))


def test_post_before_pre_apv_or_presynaptic_silence_never_convert() -> None:
    rule = PairSTDP(a_plus=0.05)
    blocked = GatedSTDP(rule, Gating(nmda=0.0, target=0.0))
    assert pairings_to_conversion(rule, 5, 0.5) == 13
    assert pairings_to_conversion(rule, -5, 0.5, limit=100) is None
    assert pairings_to_conversion(blocked, 5, 0.5, limit=100) is None


# ---- chance: one-bit insertion ----


def rule_of_chance(p: float, window_ms: float) -> GatedSTDP:
    return GatedSTDP(
        PairSTDP(a_minus=0.0), Gating(insertion="bernoulli", probability=p, window_ms=window_ms)
    )


def silent_share(rule: GatedSTDP, pre: Tensor, post: Tensor, dt_ms: float, seed: int) -> float:
    """Share of contacts, one a train [T, N, 1], never filled."""
    n = pre.shape[1]
    generator = torch.Generator().manual_seed(seed)
    w = torch.zeros(n, 1, 1)
    traces = rule.start(pre[0], post[0], private=True)
    seen = signals(pre, post)
    for t in range(len(pre)):
        noise = torch.randn(n, 1, 1, generator=generator)
        dw, traces = rule.step(w, traces, seen.at(t), dt_ms, noise)
        w = (w + dw).clamp_(0.0, 1.0)
    assert set(w.unique().tolist()) <= {0.0, 1.0}
    return float((w == 0).double().mean())


def within(share: float, p: float, n: int) -> bool:
    """Within 4.5 standard deviations of a binomial share."""
    return abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("n_pairings", [1, 5, 12])
def test_silent_share_after_n_coincidences(n_pairings: int) -> None:
    n = 20000
    pre, post = torch.zeros(2, 50 * n_pairings, n, 1)
    pre[5::50] = post[15::50] = 1.0
    share = silent_share(rule_of_chance(0.1, 20.5), pre, post, 1.0, seed=n_pairings)
    assert within(share, 0.9**n_pairings, n)
    assert not within(share, 0.9 ** (n_pairings + 1), n)
    if n_pairings > 1:  # neither linear nor exponential in p n
        assert not within(share, max(1 - 0.1 * n_pairings, 1e-9), n)
    if n_pairings == 12:
        assert not within(share, math.exp(-0.1 * n_pairings), n)


def poisson(n_steps: int, n: int, per_step: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(n_steps, n, 1, generator=generator) < per_step).float()


def test_poisson_trains_convert_exponentially_where_coincidences_are_rare() -> None:
    """Silent share exp(-p r_pre r_post W t): p r_post W = .014 and r_pre W = .02, both small."""
    p, r_pre, r_post, window_s, t_s, dt_ms, n = 0.07, 1.0, 10.0, 0.02, 30.0, 4.0, 4000
    assert p * r_post * window_s < 0.02 and r_pre * window_s <= 0.02
    generator = torch.Generator().manual_seed(1)
    n_steps = round(1000 * t_s / dt_ms)
    pre = poisson(n_steps, n, r_pre * dt_ms * 1e-3, generator)
    post = poisson(n_steps, n, r_post * dt_ms * 1e-3, generator)
    # on the grid, lags of 4, 8, .. 20 ms lie within 21 ms: a window of 5 steps, 20 ms
    share = silent_share(rule_of_chance(p, 21.0), pre, post, dt_ms, seed=2)
    expected = math.exp(-p * r_pre * r_post * window_s * t_s)
    assert within(share, expected, n)
    for wrong in (0.75, 1.33):  # a window, rate or chance wrong by a third
        assert not within(share, expected**wrong, n)


def monte_carlo(
    p: float, r_pre: float, r_post: float, window_s: float, t_s: float, n: int
) -> float:
    """Share never filled: spike times in continuous time, one contact after the other."""
    rng = np.random.default_rng(3)
    silent = 0
    for _ in range(n):
        pre = np.sort(rng.uniform(0, t_s, rng.poisson(r_pre * t_s)))
        post = rng.uniform(0, t_s, rng.poisson(r_post * t_s))
        last = np.searchsorted(pre, post) - 1
        pre = np.append(pre, np.inf)  # never the last before a spike; keeps the index valid
        age = np.where(last >= 0, post - pre[last], np.inf)
        silent += bool((rng.random(int((age < window_s).sum())) >= p).all())
    return silent / n


def test_poisson_trains_at_high_rates_follow_the_monte_carlo_and_not_the_exponential() -> None:
    p, r_pre, r_post, window_s, t_s, dt_ms, n = 0.1, 25.0, 20.0, 0.02, 1.5, 1.0, 8000
    generator = torch.Generator().manual_seed(4)
    pre = poisson(1500, n, r_pre * dt_ms * 1e-3, generator)
    post = poisson(1500, n, r_post * dt_ms * 1e-3, generator)
    share = silent_share(rule_of_chance(p, 20.5), pre, post, dt_ms, seed=5)
    reference = monte_carlo(p, r_pre, r_post, window_s, t_s, n)
    assert abs(share - reference) < 4.5 * math.sqrt(2 * reference * (1 - reference) / n)
    assert not within(share, math.exp(-p * r_pre * r_post * window_s * t_s), n)


def test_the_window_decides_and_a_coincidence_needs_the_presynaptic_spike_first() -> None:
    n = 50
    rule = rule_of_chance(1.0, 20.5)
    shares = []
    for lag in (-10, 0, 1, 20, 21):
        pre, post = torch.zeros(2, 80, n, 1)
        pre[30] = post[30 + lag] = 1.0
        shares.append(silent_share(rule, pre, post, 1.0, seed=1))
    assert shares == [1.0, 1.0, 0.0, 0.0, 1.0]
    assert all(a != b for a, b in pairwise(shares[1:3]))
