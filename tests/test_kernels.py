"""Compiled online learning against plain torch in float64, and against numbers by hand."""

import math
from dataclasses import replace
from typing import Any

import numba
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.rules import PairSTDP
from snn_artsy.synapses import kernels, online
from snn_artsy.synapses.online import (
    LeakyUnits,
    Trains,
    learn_by_products,
    learn_online,
    learn_step_by_step,
)

# changes so large that many weights reach both bounds
RULE = PairSTDP(a_plus=0.06, a_minus=0.05, tau_plus_ms=12.0, tau_minus_ms=25.0)
N_PRE, N_POST = 37, 70  # the last tile and the last columns are not full
SHAPES = {"single": (1, False), "shared": (5, False), "private": (3, True)}


def trains(n_batch: int, n_steps: int = 150, rate: float = 0.08, seed: int = 0) -> Any:
    g = torch.Generator().manual_seed(seed)
    pre = (torch.rand(n_steps, n_batch, N_PRE, generator=g) < rate).float()
    current = 1.5 * (torch.rand(n_steps, n_batch, N_POST, generator=g) < rate)
    return torch.rand(n_batch, N_POST, N_PRE, generator=g), pre, current


def both(w: Tensor, *arguments: Any) -> tuple[Tensor, Trains, Tensor, Trains]:
    """Compiled in float32, and torch in float64 from the same start."""
    fast, exact = w.clone(), w.double()
    found, expected = learn_online(fast, *arguments), learn_step_by_step(exact, *arguments)
    return fast, found, exact, expected


@pytest.mark.parametrize("bounds_of", ["additive", "soft", "van_rossum", "power_law"])
@pytest.mark.parametrize("pairing", ["all_to_all", "nearest"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_torch_path(shape: str, pairing: Any, bounds_of: Any) -> None:
    n_batch, private = SHAPES[shape]
    # no membrane comes within a rounding of the threshold with this seed
    w, pre, current = trains(n_batch, seed=1)
    w = w if private else w[0]
    rule = replace(RULE, bounds_of=bounds_of, pairing=pairing)
    fast, found, exact, expected = both(w, pre, current, rule, 1.0, LeakyUnits(gain=0.05))
    assert torch.equal(found.spikes.double(), expected.spikes)
    assert 0.05 < expected.spikes.mean() < 0.5
    # at least as exact as float32 torch: hundreds of roundings of numbers up to 1
    assert (fast - exact).abs().max() < 1e-5
    assert (found.membrane - expected.membrane).abs().max() < 1e-5
    assert (found.final - expected.final).abs().max() < 1e-5
    assert (exact - w).abs().mean() > 0.02
    if bounds_of == "additive":
        assert ((exact == 0) | (exact == 1)).float().mean() > 0.01


def test_a_wrong_rule_is_found_out() -> None:
    w, pre, current = trains(2)
    fast, other = w[0].clone(), w[0].clone()
    learn_online(fast, pre, current, RULE, 1.0)
    learn_online(other, pre, current, replace(RULE, pairing="nearest"), 1.0)
    assert (fast - other).abs().max() > 0.01


@pytest.mark.parametrize("n_batch", [1, 2])  # lazy and eager kernel
def test_one_pair_by_hand(n_batch: int) -> None:
    pre, current = torch.zeros(40, n_batch, 2), torch.zeros(40, n_batch, 1)
    pre[5, 0, 0] = 1.0  # 7 ms before the postsynaptic spike
    pre[16, 0, 1] = 1.0  # 4 ms after it
    current[12, 0, 0] = 2.0
    w = torch.full((1, 2), 0.5)
    found = learn_online(w, pre, current, RULE, 1.0, LeakyUnits(gain=0.0))
    assert found.spikes.nonzero().tolist() == [[12, 0, 0]]
    assert w[0, 0].item() == pytest.approx(0.5 + 0.06 * math.exp(-7 / 12), abs=1e-6)
    assert w[0, 1].item() == pytest.approx(0.5 - 0.05 * math.exp(-4 / 25), abs=1e-6)


@pytest.mark.parametrize("n_batch", [1, 2])
def test_spikes_of_one_step_do_not_pair(n_batch: int) -> None:
    pre, current = torch.zeros(8, n_batch, 1), torch.zeros(8, n_batch, 1)
    pre[3, 0, 0] = current[3, 0, 0] = 2.0
    w = torch.full((1, 1), 0.5)
    learn_online(w, pre / 2, current, RULE, 1.0, LeakyUnits(gain=0.0))
    assert w.item() == 0.5


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    n_batch=st.integers(1, 3),
    private=st.booleans(),
    nearest=st.booleans(),
    bounds_of=st.sampled_from(["additive", "van_rossum", "soft"]),
    tau=st.sampled_from([0.5, 3.0, 400.0]),
)
def test_any_trains(data: Any, n_batch: int, private: bool, **kind: Any) -> None:
    n_steps = data.draw(st.integers(1, 30))
    bits = st.lists(
        st.booleans(), min_size=n_steps * n_batch * 5, max_size=n_steps * n_batch * 5
    )  # 3 inputs and 2 neurons a presentation
    drawn = torch.tensor(data.draw(bits)).float().reshape(n_steps, n_batch, 5)
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    w = torch.rand(n_batch, 2, 3, generator=g)
    rule = PairSTDP(
        a_plus=0.3, a_minus=0.25, tau_plus_ms=kind["tau"], bounds_of=kind["bounds_of"],
        pairing="nearest" if kind["nearest"] else "all_to_all",
    )  # fmt: skip
    start = w if private else w[0]
    fast, found, exact, expected = both(start, drawn[..., :3], 1.5 * drawn[..., 3:], rule, 1.0)
    assume((expected.membrane - 1.0).abs().min() > 1e-4)  # else a rounding decides about a spike
    assert torch.equal(found.spikes.double(), expected.spikes)
    # sums of up to 30 steps (a_plus x up to 9) round before they are clipped
    assert (fast - exact).abs().max() < 2e-5


def test_presentations_with_own_weights_are_single_runs() -> None:
    w, pre, current = trains(4)
    together = w.clone()
    learn_online(together, pre, current, RULE, 1.0)
    for b in range(4):
        alone = w[b].clone()
        learn_online(alone, pre[:, b : b + 1], current[:, b : b + 1], RULE, 1.0)
        assert torch.equal(alone, together[b])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="Numba has one thread here")
@pytest.mark.parametrize("shape", SHAPES)
def test_threads_change_nothing(shape: str) -> None:
    n_batch, private = SHAPES[shape]
    w, pre, current = trains(n_batch)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            learned = (w if private else w[0]).clone()
            learn_online(learned, pre, current, RULE, 1.0)
            results.append(learned)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


def test_weights_that_are_a_view_change_in_place() -> None:
    w, pre, current = trains(1)
    stored = w[0].T.contiguous()  # [n_pre, n_post]
    learn_online(stored.T, pre, current, RULE, 1.0)
    expected = w[0].clone()
    learn_online(expected, pre, current, RULE, 1.0)
    assert torch.equal(stored.T, expected)


@pytest.mark.parametrize("pairing", ["all_to_all", "nearest"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_over_concatenated_factors_equal_the_rule(shape: str, pairing: Any) -> None:
    n_batch, private = SHAPES[shape]
    w, pre, current = trains(n_batch, seed=1)
    rule, units = replace(RULE, pairing=pairing), LeakyUnits(gain=0.05)
    found_w, expected_w = ((w if private else w[0]).double() for _ in range(2))
    found = learn_by_products(found_w, pre, current, rule, 1.0, units)
    expected = learn_step_by_step(expected_w, pre, current, rule, 1.0, units)
    assert torch.equal(found.spikes, expected.spikes)
    torch.testing.assert_close(found_w, expected_w, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.membrane, expected.membrane, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.final, expected.final, atol=1e-12, rtol=0)
    assert ((found_w == 0) | (found_w == 1)).double().mean() > 0.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("bounds_of", ["additive", "soft"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cuda_gives_the_cpu_s_weights(shape: str, bounds_of: Any) -> None:
    n_batch, private = SHAPES[shape]
    w, pre, current = trains(n_batch, seed=1)
    start, rule = w if private else w[0], replace(RULE, bounds_of=bounds_of)
    here, there = start.clone(), start.cuda()
    expected = learn_online(here, pre, current, rule, 1.0, LeakyUnits(gain=0.05))
    found = learn_online(there, pre.cuda(), current.cuda(), rule, 1.0, LeakyUnits(gain=0.05))
    assert torch.equal(found.spikes.cpu(), expected.spikes)
    assert (there.cpu() - here).abs().max() < 2e-5


def test_rule_and_precision_decide_about_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for module, name in (
        (kernels, "learn_private"),
        (kernels, "learn_shared"),
        (online, "learn_by_products"),
        (online, "learn_step_by_step"),
    ):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=own, n=name: (called.append(n), f(*a))[1])
    w, pre, current = trains(2, n_steps=3)
    learn_online(w.clone(), pre, current, RULE, 1.0)
    learn_online(w[0].clone(), pre, current, RULE, 1.0)
    learn_online(w[0].double(), pre, current, RULE, 1.0)
    learn_online(w[0].double(), pre, current, replace(RULE, bounds_of="soft"), 1.0)
    assert called == ["learn_private", "learn_shared", "learn_by_products", "learn_step_by_step"]


def test_shapes_that_do_not_fit() -> None:
    w, pre, current = trains(2, n_steps=3)
    with pytest.raises(ValueError, match=r"w: expected .* = \[2, 70, 37\], given .*36"):
        online.learn_online(w[..., 1:], pre, current, RULE, 1.0)
    with pytest.raises(ValueError, match=r"current: expected .*\[2, 2, n_post\]"):
        online.learn_online(w, pre[1:], current, RULE, 1.0)
    with pytest.raises(ValueError, match="at least one time step"):
        online.learn_online(w, pre[:0], current[:0], RULE, 1.0)


def test_more_inputs_than_are_gathered_at_a_time() -> None:
    n_pre = kernels.GAIN_BLOCK + 13
    g = torch.Generator().manual_seed(2)
    pre = (torch.rand(40, 3, n_pre, generator=g) < 0.05).float()
    current = 1.5 * (torch.rand(40, 3, 5, generator=g) < 0.1)
    w = torch.rand(5, n_pre, generator=g)
    fast, found, exact, expected = both(w, pre, current, RULE, 1.0, LeakyUnits(gain=0.0))
    assert torch.equal(found.spikes.double(), expected.spikes) and found.spikes.sum() > 20
    assert (fast - exact).abs().max() < 1e-5
    assert (exact - w).abs().mean() > 0.02
