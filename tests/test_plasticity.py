"""NMDA-gated STDP against closed forms and a loop over all pairs of spikes."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.config import PlasticityConfig
from snn_artsy.synapses.plasticity import gated_stdp, trace_before

# Unequal amplitudes and time constants, so that no two of them can be mixed up.
RULE = PlasticityConfig(a_plus=0.03, a_minus=0.011, tau_plus_ms=17.0, tau_minus_ms=34.0)
DT = 0.5
GATE = 0.7


def change(
    pre: Tensor,
    post: Tensor,
    gate: Tensor | None = None,
    target: Tensor | None = None,
    factor: Tensor | None = None,
    rule: PlasticityConfig = RULE,
) -> Tensor:
    """The rule, float64; by default D = GATE at postsynaptic spikes and no target."""
    pre, post = pre.double(), post.double()
    return gated_stdp(
        pre,
        trace_before(pre, rule.tau_plus_ms, DT),
        post,
        GATE * post if gate is None else gate.double(),
        torch.zeros(pre.shape[2], dtype=torch.float64) if target is None else target,
        torch.zeros(post.shape[2], dtype=torch.float64) if factor is None else factor,
        rule,
        DT,
    )


def all_pairs(
    pre: Tensor, post: Tensor, gate: Tensor, target: Tensor, factor: Tensor
) -> list[list[float]]:
    """The same change summed over pairs of spikes, in Python floats."""
    n_steps, n_samples, n_pre = pre.shape
    n_post = post.shape[2]
    out = [[0.0] * n_pre for _ in range(n_post)]
    for j in range(n_post):
        for i in range(n_pre):
            for b in range(n_samples):
                for t in range(n_steps):
                    d = float(gate[t, b, j])
                    x = sum(
                        math.exp(-(t - u) * DT / RULE.tau_plus_ms) for u in range(t) if pre[u, b, i]
                    )
                    out[j][i] += RULE.a_plus * d * (x - float(factor[j]) * float(target[i]))
                    if pre[t, b, i]:
                        for u in range(t):
                            if post[u, b, j]:
                                lag = (t - u) * DT
                                out[j][i] -= RULE.a_minus * math.exp(-lag / RULE.tau_minus_ms)
    return out


def one_spike(at: int, n_steps: int = 200) -> Tensor:
    spikes = torch.zeros(n_steps, 1, 1)
    spikes[at] = 1.0
    return spikes


def random_trains(seed: int, n_samples: int, n_steps: int = 14) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    pre = (torch.rand(n_steps, n_samples, 3, generator=generator) < 0.4).double()
    post = (torch.rand(n_steps, n_samples, 2, generator=generator) < 0.4).double()
    gate = torch.rand(n_steps, n_samples, 2, generator=generator).double()
    target = torch.rand(3, generator=generator).double()
    factor = 1.0 + torch.rand(2, generator=generator).double()
    return pre, post, gate, target, factor


@pytest.mark.parametrize("lag", [1, 2, 5, 20, 61, 140])
def test_isolated_pair(lag: int) -> None:
    first, second = one_spike(30), one_spike(30 + lag)
    causal = RULE.a_plus * GATE * math.exp(-lag * DT / 17.0)
    assert float(change(first, second)) == pytest.approx(causal, rel=1e-12)
    acausal = -RULE.a_minus * math.exp(-lag * DT / 34.0)
    assert float(change(second, first)) == pytest.approx(acausal, rel=1e-12)


def test_coincident_pair_changes_nothing() -> None:
    assert float(change(one_spike(30), one_spike(30))) == 0.0


@pytest.mark.parametrize("lag", [3, 20])
def test_periodic_pairing_in_the_steady_state(lag: int) -> None:
    period, n = 80, 60  # 40 ms, long enough for both traces to settle

    def train(offset: int, n_spikes: int) -> Tensor:
        spikes = torch.zeros(n * period, 1, 1)
        spikes[torch.arange(n_spikes) * period + offset] = 1.0
        return spikes

    last = change(train(0, n), train(lag, n)) - change(train(0, n - 1), train(lag, n - 1))
    p, d = period * DT, lag * DT
    potentiation = RULE.a_plus * GATE * math.exp(-d / 17.0) / (1 - math.exp(-p / 17.0))
    depression = RULE.a_minus * math.exp(-(p - d) / 34.0) / (1 - math.exp(-p / 34.0))
    assert float(last) == pytest.approx(potentiation - depression, rel=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_rule_equals_the_sum_over_all_pairs(seed: int) -> None:
    pre, post, gate, target, factor = random_trains(seed, n_samples=2)
    expected = torch.tensor(all_pairs(pre, post, gate, target, factor), dtype=torch.float64)
    result = change(pre, post, gate, target, factor)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-13)


def test_float32_is_close_to_float64() -> None:
    pre, post, gate, target, factor = (x.float() for x in random_trains(1, n_samples=50))
    trace = trace_before(pre, 17.0, DT)
    single = gated_stdp(pre, trace, post, gate, target, factor, RULE, DT)
    double = change(pre, post, gate, target.double(), factor.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_a_batch_is_the_sum_of_its_presentations() -> None:
    pre, post, gate, target, factor = random_trains(2, n_samples=8)
    singles = [
        change(pre[:, b : b + 1], post[:, b : b + 1], gate[:, b : b + 1], target, factor)
        for b in range(8)
    ]
    batch = change(pre, post, gate, target, factor)
    torch.testing.assert_close(batch, torch.stack(singles).sum(0), rtol=1e-12, atol=1e-14)


def test_potentiation_needs_pre_and_post() -> None:
    pre, post, _, _, _ = random_trains(3, n_samples=4)
    no_depression = replace(RULE, a_minus=0.0)
    assert bool((change(pre, post, rule=no_depression) > 0).all())
    assert float(change(torch.zeros_like(pre), post, rule=no_depression).abs().max()) == 0.0
    assert float(change(pre, torch.zeros_like(post), rule=no_depression).abs().max()) == 0.0


def test_a_shut_nmda_gate_blocks_potentiation_as_apv_does() -> None:
    pre, post, _, _, _ = random_trains(3, n_samples=4)
    blocked = change(pre, post, gate=torch.zeros_like(post))
    assert bool((blocked < 0).all())
    # only the depression is left
    only_depression = change(pre, post) - change(pre, post, rule=replace(RULE, a_minus=0.0))
    torch.testing.assert_close(blocked, only_depression)


def test_inputs_below_the_target_lose_and_above_it_gain() -> None:
    # unit 0 fires 1 step before the postsynaptic spike, unit 1 long before it
    pre = torch.zeros(100, 1, 2)
    pre[69, 0, 0] = pre[2, 0, 1] = 1.0
    target = torch.full((2,), 0.5, dtype=torch.float64)
    result = change(pre, one_spike(70, 100), target=target, factor=torch.ones(1).double())
    near, far = (math.exp(-lag * DT / 17.0) for lag in (1, 68))
    expected = [[RULE.a_plus * GATE * (near - 0.5), RULE.a_plus * GATE * (far - 0.5)]]
    assert result[0].tolist() == pytest.approx(expected[0])
    assert float(result[0, 0]) > 0 > float(result[0, 1])


def test_traces_start_from_zero_in_every_presentation() -> None:
    spikes = torch.ones(3, 2, 1, dtype=torch.float64)
    trace = trace_before(spikes, 20.0, 5.0)
    d = math.exp(-0.25)
    assert trace[:, 0, 0].tolist() == pytest.approx([0.0, d, d + d * d])
    assert torch.equal(spikes, torch.ones_like(spikes))
