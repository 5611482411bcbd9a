"""The error-driven rule against a loop over spikes, and against the gradient that it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.rules import ErrorDriven, Signals

DT = 0.5
RULE = ErrorDriven(a_plus=0.03, tau_plus_ms=17.0, target=1.3, tau_target_ms=40.0)


def trains(n_steps: int, n_batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes of 5 inputs, of 3 taught neurons and of their dendrites, float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_steps, n_batch)
    return tuple(  # type: ignore[return-value]
        (torch.rand(*shape, n, generator=generator) < 0.3).double() for n in (5, 3, 3)
    )


def by_hand(pre: Tensor, post: Tensor, predicted: Tensor | None, target: list[float]) -> Tensor:
    """Change of each contact, one spike at a time: [n_post, n_pre]."""
    n_steps, n_batch, n_pre = pre.shape
    dw = torch.zeros(post.shape[2], n_pre, dtype=torch.float64)
    keep = math.exp(-DT * n_batch / RULE.tau_target_ms)

    def trace(b: int, i: int, t: int) -> float:
        spikes = [s for s in range(t) if pre[s, b, i] == 1]
        return sum(math.exp(-(t - s) * DT / RULE.tau_plus_ms) for s in spikes)

    for i in range(n_pre):
        # an average with weights that fall by `keep` a step, divided by their sum
        means = [sum(trace(b, i, t) for b in range(n_batch)) / n_batch for t in range(n_steps)]
        for t in range(n_steps):
            weights = [keep ** (t - s) for s in range(t + 1)]
            average = sum(w * m for w, m in zip(weights, means, strict=False)) / sum(weights)
            for b in range(n_batch):
                for j in range(post.shape[2]):
                    if predicted is None:
                        error, c = float(post[t, b, j]), target[j]
                    else:
                        error, c = float(post[t, b, j] - predicted[t, b, j]), 1.0
                    dw[j, i] += RULE.a_plus * error * (trace(b, i, t) - c * average)
    return dw


@pytest.mark.parametrize("foresees", [True, False])
@pytest.mark.parametrize("n_batch", [1, 3])
def test_steps_and_presentations_are_the_sum_over_spikes(foresees: bool, n_batch: int) -> None:
    pre, post, dendritic = trains(12, n_batch, seed=n_batch)
    predicted = dendritic if foresees else None
    factor = torch.tensor([0.5, 1.0, 1.7], dtype=torch.float64)
    seen = Signals(pre, post, post * 0.0, target=factor, predicted=predicted)
    expected = by_hand(pre, post, predicted, factor.tolist())
    w = torch.full((3, 5), 0.4, dtype=torch.float64)
    total, traces = torch.zeros_like(w), RULE.start(pre[0], post[0])
    for t in range(len(pre)):
        dw, traces = RULE.step(w, traces, seen.at(t), DT)
        total += dw
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-15)
    whole, after = RULE.presentation(w, RULE.start(pre[0], post[0]), seen, DT)
    torch.testing.assert_close(whole, expected, rtol=1e-12, atol=1e-15)
    for one, other in zip(traces, after, strict=True):
        torch.testing.assert_close(one, other)


def test_private_contacts_see_their_own_presentation_only() -> None:
    pre, post, predicted = trains(9, 2, seed=4)
    w = torch.full((2, 3, 5), 0.4, dtype=torch.float64)
    total, traces = torch.zeros_like(w), RULE.start(pre[0], post[0], private=True)
    for t in range(len(pre)):
        seen = Signals(pre[t], post[t], post[t] * 0.0, predicted=predicted[t])
        dw, traces = RULE.step(w, traces, seen, DT)
        total += dw
    for b in range(2):
        alone = by_hand(pre[:, [b]], post[:, [b]], predicted[:, [b]], [1.0] * 3)
        torch.testing.assert_close(total[b], alone, rtol=1e-12, atol=1e-15)


def test_what_was_foreseen_changes_nothing() -> None:
    pre, post, _ = trains(12, 2, seed=1)
    seen = Signals(pre, post, post * 0.0, predicted=post)
    dw, _ = RULE.presentation(torch.zeros(3, 5).double(), RULE.start(pre[0], post[0]), seen, DT)
    assert dw.abs().max() == 0


def test_the_slow_average_outlasts_presentations_and_the_trace_does_not() -> None:
    pre, post, _ = trains(12, 2, seed=2)
    seen = Signals(pre, post, post * 0.0)
    w = torch.zeros(3, 5).double()
    start = RULE.start(pre[0], post[0])
    first, (total, weight, x) = RULE.presentation(w, start, seen, DT)
    assert RULE.slow == ("sum", "weight")
    assert total.min() > 0 and weight > 0 and x.max() > 0
    second, _ = RULE.presentation(w, (total, weight, x), seen, DT)
    assert torch.equal(second, RULE.presentation(w, (total, weight, x * 0.0), seen, DT)[0])
    assert not torch.equal(second, first)


def test_twice_as_fast_changes_twice_as_much() -> None:
    assert RULE.sped_up(2.0) == ErrorDriven(0.06, 17.0, 1.3, 40.0)


@pytest.mark.parametrize("name", ["a_plus", "target", "tau_plus_ms", "tau_target_ms"])
def test_parameters_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"error\.{name}"):
        ErrorDriven(**{name: -1.0})
