"""The calcium rule against bisected threshold crossings, closed forms and its own batches."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.rules import GatedSTDP, Gating, Signals
from snn_artsy.rules.base import Rule
from snn_artsy.rules.calcium import CalciumRule, expected_change, shares_above

DT = 0.5
# Fast, so that changes are large; unequal values, so that no two can be mixed up.
RULE = CalciumRule(
    tau_ca_ms=9.0, c_pre=0.7, c_post=1.1, theta_d=0.8, theta_p=1.4, gamma_d=21.0, gamma_p=34.0,
    sigma=1.3, tau_ms=2000.0, rho_star=0.4, delay_ms=2.0,
)  # fmt: skip


def trains(seed: int, n_steps: int, n_batch: int, n_pre: int, n_post: int, rate: float) -> Signals:
    source = torch.Generator().manual_seed(seed)
    pre = (torch.rand(n_steps, n_batch, n_pre, generator=source) < rate).double()
    post = (torch.rand(n_steps, n_batch, n_post, generator=source) < rate).double()
    post[:, torch.rand(n_batch, n_post, generator=source) < 0.4] = 0.0  # some stay silent
    return Signals(pre, post, post * 0.0)


def occupancy(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gates(seen: Signals, seed: int = 5) -> Signals:
    values = occupancy(seed, *seen.post.shape)
    return seen._replace(gate=values * (values > 0.5))


def run(rule: Rule, w: Tensor, seen: Signals, dt_ms: float = DT, frozen: bool = False) -> Tensor:
    """Total change over single steps."""
    start, private = w.clone(), w.ndim == 3
    traces = rule.start(seen.pre[0], seen.post[0], private)
    total = torch.zeros_like(w)
    for t in range(len(seen.pre)):
        dw, traces = rule.step(start if frozen else w, traces, seen.at(t), dt_ms)
        w, total = w + dw, total + dw
    return total


# ---- the reference: Python floats, one contact, calcium summed anew over all spikes ----


def calcium_at(t_ms: float, arrivals: list[float], spikes: list[float], rule: CalciumRule) -> float:
    """Calcium just after the transients at ``t_ms``."""
    total = 0.0
    for amplitude, times in ((rule.c_pre, arrivals), (rule.c_post, spikes)):
        for s in times:
            if s <= t_ms + 1e-9:
                total += amplitude * math.exp((s - t_ms) / rule.tau_ca_ms)
    return total


def time_above(
    theta: float, start_ms: float, end_ms: float, arrivals: list[float], spikes: list[float],
    rule: CalciumRule,
) -> float:  # fmt: skip
    """Time above a threshold between two transients, its end found by bisection."""
    factor = calcium_at(start_ms, arrivals, spikes, rule)

    def above(t_ms: float) -> bool:
        return factor * math.exp((start_ms - t_ms) / rule.tau_ca_ms) > theta

    if not above(start_ms):
        return 0.0
    low, high = start_ms, end_ms
    if above(high):
        return end_ms - start_ms
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if above(middle) else (low, middle)
    return low - start_ms


def reference(
    rule: CalciumRule, w: float, pre: list[int], post: list[int], gate: list[float] | None = None
) -> float:
    """Occupancy after spikes in the given steps, one Euler step per time step."""
    delay = round(rule.delay_ms / DT) * DT
    arrivals = [t * DT + delay for t, spike in enumerate(pre) if spike]
    spikes = [t * DT for t, spike in enumerate(post) if spike]
    for t in range(len(pre)):
        interval = (t * DT, (t + 1) * DT)
        up = time_above(rule.theta_p, *interval, arrivals, spikes, rule)
        down = time_above(rule.theta_d, *interval, arrivals, spikes, rule)
        if gate is not None:
            up *= max(
                g * math.exp(-(t - u) * DT / rule.tau_ca_ms) for u, g in enumerate(gate[: t + 1])
            )
        cubic = w * (1.0 - w) * (rule.rho_star - w) * DT
        w += (rule.gamma_p * (1.0 - w) * up - rule.gamma_d * w * down - cubic) / rule.tau_ms
    return w


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([0.03, 0.15, 0.5]),
    delay_ms=st.sampled_from([0.0, 0.6, 2.0]),
    gated=st.booleans(),
)
def test_steps_equal_the_reference(seed: int, rate: float, delay_ms: float, gated: bool) -> None:
    rule = replace(RULE, delay_ms=delay_ms)
    seen = trains(seed, 60, 2, 2, 2, rate)
    seen = gates(seen, seed) if gated else seen
    w = occupancy(seed, 2, 2, 2)
    after = w + run(rule, w, seen)
    for b in range(2):
        for j in range(2):
            gate = None if seen.gate is None else seen.gate[:, b, j].tolist()
            for i in range(2):
                pre, post = seen.pre[:, b, i].int().tolist(), seen.post[:, b, j].int().tolist()
                expected = reference(rule, float(w[b, j, i]), pre, post, gate)
                assert float(after[b, j, i]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [{"delay_ms": 0.0}, {"c_post": 0.55}, {"theta_p": 0.8}, {"rho_star": 0.6}, {"tau_ca_ms": 10.0}],
    ids=lambda change: next(iter(change)),
)
def test_the_reference_tells_wrong_rules(wrong: dict[str, float]) -> None:
    seen, w = trains(3, 60, 1, 4, 4, 0.15), occupancy(3, 1, 4, 4)
    change = run(replace(RULE, **wrong), w, seen) - run(RULE, w, seen)
    assert float(change.abs().max()) > 1e-6


@pytest.mark.parametrize("gated", [False, True])
def test_a_presentation_is_the_sum_of_its_steps(gated: bool) -> None:
    seen, w = trains(11, 40, 6, 9, 7, 0.1), occupancy(11, 7, 9)
    seen = gates(seen) if gated else seen
    change, traces = RULE.presentation(w, RULE.start(seen.pre[0], seen.post[0]), seen, DT)
    private = run(RULE, w.expand(6, 7, 9), seen, frozen=True).sum(0)
    torch.testing.assert_close(change, run(RULE, w, seen, frozen=True), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(change, private, rtol=1e-9, atol=1e-12)
    stepped = RULE.start(seen.pre[0], seen.post[0])
    for t in range(40):
        _, stepped = RULE.step(w, stepped, seen.at(t), DT)
    assert len(traces) == len(stepped) == 3 + 4  # of delay
    for one, other in zip(traces, stepped, strict=True):
        torch.testing.assert_close(one, other)


def test_presentations_start_at_rest() -> None:
    seen, w = trains(12, 20, 3, 5, 4, 0.3), occupancy(12, 4, 5)
    fresh = RULE.start(seen.pre[0], seen.post[0])
    first, traces = RULE.presentation(w, fresh, seen, DT)
    assert torch.equal(first, RULE.presentation(w, traces, seen, DT)[0])
    quiet = Signals(seen.pre[0] * 0, seen.post[0] * 0, seen.post[0] * 0)
    carried, rested = (RULE.step(w, at, quiet, DT)[0] for at in (traces, fresh))
    assert not torch.equal(carried, rested)  # something was left to forget


def test_a_batch_is_single_runs() -> None:
    seen, w = gates(trains(21, 50, 32, 6, 5, 0.12)), occupancy(21, 32, 5, 6)
    together = run(RULE, w, seen)
    assert seen.gate is not None
    for b in range(32):
        one = slice(b, b + 1)
        alone = Signals(seen.pre[:, one], seen.post[:, one], seen.v_mV[:, one], seen.gate[:, one])
        torch.testing.assert_close(run(RULE, w[one], alone), together[one], rtol=0, atol=1e-14)


@pytest.mark.parametrize("dt_ms", [0.1, 0.5, 1.0, 2.5, 5.0])
def test_time_above_threshold_of_an_isolated_pair_is_exact_at_any_dt(dt_ms: float) -> None:
    lag_ms, delay_ms = 15.0, 5.0
    rule = CalciumRule(delay_ms=delay_ms, gamma_d=0.0)  # potentiation alone counts the time
    n_steps = round(100.0 / dt_ms)
    pre, post = torch.zeros(2, n_steps, 1, 1, dtype=torch.float64)
    pre[0] = 1.0
    post[round(lag_ms / dt_ms)] = 1.0
    w = torch.zeros(1, 1, dtype=torch.float64)
    seen = Signals(pre, post, post)
    change, _ = rule.presentation(w, rule.start(pre[0], post[0]), seen, dt_ms)
    peak = rule.c_post + rule.c_pre * math.exp(-(lag_ms - delay_ms) / rule.tau_ca_ms)
    above_ms = rule.tau_ca_ms * math.log(peak / rule.theta_p)  # the first peak, 1, is below 1.3
    assert float(change) == pytest.approx(rule.gamma_p * above_ms / rule.tau_ms, rel=1e-12)
    assert 1000.0 * shares_above(rule, lag_ms, 1.0)[1] == pytest.approx(above_ms, rel=1e-12)


def test_coincident_spikes_act_together() -> None:
    rule, one = replace(RULE, delay_ms=0.0), torch.ones(1, 1, dtype=torch.float64)
    w = one * 0.0
    change, _ = rule.step(w, rule.start(one, one), Signals(one, one, one), 20.0)
    above_ms = rule.tau_ca_ms * math.log((rule.c_pre + rule.c_post) / rule.theta_p)
    assert float(change) == pytest.approx(rule.gamma_p * above_ms / rule.tau_ms, rel=1e-12)


def test_a_quiet_step_may_have_another_length() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    quiet, both = Signals(one * 0, one * 0, one), Signals(one, one, one)
    rule, w = replace(RULE, sigma=0.0), one * 0.5
    _, fine = rule.step(w, rule.start(one, one), both, DT)
    for _ in range(4):
        _, fine = rule.step(w, fine, quiet, DT)
    _, coarse = rule.step(w, fine, quiet, 10.0)
    for _ in range(20):
        _, fine = rule.step(w, fine, quiet, DT)
    torch.testing.assert_close(coarse[:2], fine[:2])


@pytest.mark.parametrize("delay_ms", [0.1, 0.24])
def test_a_delay_that_steps_would_lose_is_refused(delay_ms: float) -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    rule, late = replace(RULE, delay_ms=delay_ms), replace(RULE, delay_ms=0.26)
    seen = Signals(one, one, one)
    shown = Signals(*(x[None] for x in seen[:3]))
    for refused in (
        lambda r: r.step(one * 0.5, r.start(one, one), seen, DT),
        lambda r: r.presentation(one * 0.5, r.start(one, one), shown, DT),
    ):
        with pytest.raises(ConfigError, match=r"calcium\.delay_ms: .*lost in steps of 0.5 ms"):
            refused(rule)
        refused(late)
    rule.step(one * 0.5, rule.start(one, one), Signals(one * 0, one, one), DT)  # nothing to delay


def test_a_closed_gate_blocks_potentiation() -> None:
    seen, w = trains(31, 60, 3, 5, 4, 0.4), occupancy(31, 4, 5)
    closed, opened = (seen._replace(gate=seen.post * 0 + value) for value in (0.0, 1.0))
    traces = RULE.start(seen.pre[0], seen.post[0])
    published = RULE.presentation(w, traces, seen, DT)[0]
    torch.testing.assert_close(RULE.presentation(w, traces, opened, DT)[0], published)
    no_potentiation = RULE.presentation(w, traces, closed, DT)[0]
    only_depression = replace(RULE, gamma_p=0.0).presentation(w, traces, seen, DT)[0]
    torch.testing.assert_close(no_potentiation, only_depression)
    assert (published > no_potentiation + 1e-3).any()


def test_under_the_gated_rule_a_blocked_receptor_never_potentiates() -> None:
    seen, w = trains(32, 60, 3, 5, 4, 0.4), occupancy(32, 4, 5)
    seen = seen._replace(v_mV=seen.post * 90.0 - 70.0)

    def change(nmda: float) -> Tensor:
        rule = GatedSTDP(replace(RULE, rho_star=0.999), Gating(nmda=nmda))
        return rule.presentation(w, rule.start(seen.pre[0], seen.post[0]), seen, DT)[0]

    assert (change(0.0) <= 0.0).all() and (change(1.0) > change(0.0)).any()


def test_noise_has_the_published_variance() -> None:
    n = 40_000
    rule, one = replace(RULE, delay_ms=0.0, tau_ms=1e6), torch.ones(n, 1, dtype=torch.float64)
    source = torch.Generator().manual_seed(1)
    noise = torch.randn(n, 1, 1, generator=source, dtype=torch.float64)
    w, seen = torch.full((n, 1, 1), 0.5, dtype=torch.float64), Signals(one, one, one)
    quiet, _ = rule.step(w, rule.start(one, one, True), seen, 20.0)
    loud, _ = rule.step(w, rule.start(one, one, True), seen, 20.0, noise)
    peak = rule.c_pre + rule.c_post
    above_ms = sum(rule.tau_ca_ms * math.log(peak / theta) for theta in (0.8, 1.4))
    expected = rule.sigma**2 * above_ms / rule.tau_ms
    assert float((loud - quiet).var()) == pytest.approx(expected, rel=0.03)
    assert rule.noisy and not replace(rule, sigma=0.0).noisy


def test_shared_noise_is_that_of_the_sum() -> None:
    seen, w = trains(41, 30, 4, 5, 3, 0.3), occupancy(41, 3, 5)
    traces, noise = RULE.start(seen.pre[0], seen.post[0]), torch.ones_like(w)
    shift = RULE.presentation(w, traces, seen, DT, noise)[0]
    shift = shift - RULE.presentation(w, traces, seen, DT)[0]
    start, steps, variance = traces, torch.zeros_like(w), torch.zeros_like(w)
    for t in range(30):
        steps, _ = RULE.step(w, start, seen.at(t), DT, noise)
        quiet, start = RULE.step(w, start, seen.at(t), DT)
        variance += (steps - quiet) ** 2
    torch.testing.assert_close(shift, variance.sqrt())


def test_high_calcium_leads_to_the_published_steady_state() -> None:
    rule = CalciumRule(sigma=0.0).sped_up(100.0)
    on = torch.ones(1, 1, dtype=torch.float64)
    for start in (0.0, 1.0):
        w, traces = on * start, rule.start(on, on)
        for _ in range(200):
            dw, traces = rule.step(w, traces, Signals(on, on, on), 1.0)
            w = w + dw
        assert float(w) == pytest.approx(rule.gamma_p / (rule.gamma_p + rule.gamma_d), abs=2e-3)


def test_without_calcium_there_are_two_wells() -> None:
    rule = CalciumRule().sped_up(1000.0)
    off = torch.zeros(1, 1, dtype=torch.float64)
    for start, well in ((0.3, 0.0), (0.45, 0.0), (0.55, 1.0), (0.8, 1.0)):
        w, traces = off + start, rule.start(off, off)
        for _ in range(4000):
            dw, traces = rule.step(w, traces, Signals(off, off, off), 1.0)
            w = w + dw
        assert float(w) == pytest.approx(well, abs=1e-3)


def test_sped_up_multiplies_changes() -> None:
    seen, w = trains(51, 30, 2, 5, 4, 0.3), occupancy(51, 4, 5)
    traces = RULE.start(seen.pre[0], seen.post[0])
    change = RULE.presentation(w, traces, seen, DT)[0]
    faster = RULE.sped_up(7.0).presentation(w, traces, seen, DT)[0]
    torch.testing.assert_close(faster, 7.0 * change)


def test_a_step_leaves_its_inputs_alone() -> None:
    seen, w = gates(trains(61, 10, 2, 5, 4, 0.3)), occupancy(61, 4, 5)
    copies = [tensor.clone() for tensor in (w, seen.pre, seen.post)]
    buffer, traces = seen.pre[0].clone(), RULE.start(seen.pre[0], seen.post[0])
    _, traces = RULE.step(w, traces, seen.at(0)._replace(pre=buffer), DT)
    buffer.zero_()  # a caller that uses its buffer again
    assert torch.equal(traces[-1], seen.pre[0])
    RULE.presentation(w, traces, seen, DT)
    for before, after in zip(copies, (w, seen.pre, seen.post), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("lag_ms", "change", "tolerance"),
    [(-100, 1.0, 0.01), (-20, 0.765, 0.002), (5, 1.241, 0.002), (100, 1.0, 0.01)],
)
def test_published_changes(lag_ms: float, change: float, tolerance: float) -> None:
    assert expected_change(lag_ms) == pytest.approx(change, abs=tolerance)


@pytest.mark.parametrize(
    "wrong", [{"delay_ms": 0.0}, {"c_post": 1.0}, {"gamma_p": 200.0}], ids=lambda w: next(iter(w))
)
def test_wrong_rules_miss_the_published_changes(wrong: dict[str, float]) -> None:
    rule = replace(CalciumRule(), **wrong)
    errors = [
        abs(expected_change(lag, rule=rule) - change) for lag, change in ((-20, 0.765), (5, 1.241))
    ]
    assert max(errors) > 0.05


def test_expected_change_at_its_limits() -> None:
    silent = replace(CalciumRule(), c_pre=0.1, c_post=0.1)
    assert shares_above(silent, 5.0, 1.0) == (0.0, 0.0) and expected_change(5.0, rule=silent) == 1.0
    # at a high rate calcium never falls below either threshold, whatever the lag
    assert shares_above(CalciumRule(), 3.0, 200.0) == (1.0, 1.0)
    # without noise a contact that crosses does so surely: all are up after long potentiation
    sure = replace(CalciumRule(), sigma=0.0)
    assert expected_change(5.0, n_pairs=1000, rule=sure) == pytest.approx(5.0 / 3.0)
    assert expected_change(5.0, n_pairs=1, rule=sure) == 1.0


@pytest.mark.parametrize("name", CalciumRule.PUBLISHED)
def test_published_sets_can_be_made(name: str) -> None:
    rule = CalciumRule(**CalciumRule.PUBLISHED[name])
    readout = CalciumRule.READOUT.get(name, {})
    b, beta = readout.get("b", 5.0), readout.get("beta", 0.5)
    assert 0.2 < expected_change(10.0, rule=rule, b=b, beta=beta) < 5.0


def test_the_sets_have_the_windows_they_are_named_after() -> None:
    """Signs of the changes over lags, as the sets' names say."""
    lags = [lag / 2.0 for lag in range(-120, 121)]

    def signs(name: str) -> str:
        rule = CalciumRule(**CalciumRule.PUBLISHED[name])
        changes = [expected_change(lag, rule=rule) - 1.0 for lag in lags]
        letters = ["P" if c > 0 else "D" for c in changes if abs(c) > 0.01]
        return "".join(a for a, b in zip(letters, [*letters[1:], ""], strict=True) if a != b)

    names = {"DP": "DP", "DPD": "DPD", "DPD_prime": "DPD", "P": "P", "D": "D", "D_prime": "D"}
    assert {name: signs(name) for name in names} == names


@pytest.mark.parametrize(
    "wrong", [{"tau_ca_ms": 0.0}, {"theta_p": 0.0}, {"delay_ms": -1.0}, {"rho_star": 1.0}]
)
def test_impossible_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"calcium.{next(iter(wrong))}"):
        CalciumRule(**wrong)


@pytest.mark.parametrize(
    ("speed", "n_batch", "excess"), [(0.1, 1, 0.01), (1.0, 1, 0.12), (0.1, 50, 0.67)]
)
def test_a_frozen_batch_exceeds_single_steps_by_what_the_docs_say(
    speed: float, n_batch: int, excess: float
) -> None:
    """The class pairing protocol in steps of 5 ms, occupancies from 0 to 1."""
    source = torch.Generator().manual_seed(2)
    pre, post = torch.zeros(20, n_batch, 20).double(), torch.zeros(20, n_batch, 4).double()
    for start in range(0, 20, 5):
        pre[start : start + 3] = (torch.rand(3, n_batch, 20, generator=source) < 0.3).double()
        post[start + 3] = (torch.rand(n_batch, 4, generator=source) < 0.9).double()
    rule = replace(CalciumRule(), sigma=0.0).sped_up(speed)
    assert 100.0 * n_batch / rule.contact_ms == pytest.approx(0.348 * speed * n_batch, rel=0.01)
    for w in (torch.zeros(4, 20).double(), torch.ones(4, 20).double()):
        frozen, _ = rule.presentation(w, rule.start(pre[0], post[0]), Signals(pre, post, post), 5.0)
        moving = w.clone()
        for b in range(n_batch):
            one = [x[:, b : b + 1] for x in (pre, post, post)]
            traces = rule.start(one[0][0], one[1][0])
            for t in range(20):
                dw, traces = rule.step(moving, traces, Signals(*one).at(t), 5.0)
                moving += dw
        assert float((frozen / (moving - w)).mean()) - 1.0 == pytest.approx(excess, rel=0.35)
