"""Filopodium-spine STDP against a loop over the spikes of one contact at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig, PlasticityConfig
from snn_artsy.rules import FilopodiumSpine, GatedSTDP, Gating, PairSTDP, Signals, Traces
from snn_artsy.synapses import SilentSynapseLayer

DT = 0.5
# Fast exponents and large changes, so that all that they do is seen in a second; no two values
# alike, so that none can stand for another.
RULE = FilopodiumSpine(
    a_plus=0.04, alpha=1.2, tau_plus_ms=17.0, tau_minus_ms=31.0, tau_mu_ms=90.0,
    mu_filopodium=0.02, mu_spine=0.7, w_spine=0.45,
)  # fmt: skip


def trains(n_steps: int, n_batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Spikes of 6 inputs and 2 neurons, float64."""
    generator = torch.Generator().manual_seed(seed)
    pre, post = (
        (torch.rand(n_steps, n_batch, n, generator=generator) < 0.06).double() for n in (6, 2)
    )
    return pre, post


def by_hand(pre: list[float], post: list[float], w: float) -> tuple[list[float], list[float]]:
    """Weight and exponent of one contact after each step, from spike times alone: the exponent is
    brought up to date at spikes, from the time of the last one."""
    mu, at, weights, exponents = 0.0, -DT, [], []

    def rest(w: float) -> float:
        return 0.02 + (0.7 - 0.02) * w / ((0.45 + 1) / 2)

    def now(t: float) -> float:
        return rest(w) + (mu - rest(w)) * math.exp(-(t - at) / 90.0)

    for k in range(len(pre)):
        t = k * DT
        exponents.append(now(t))
        if pre[k] or post[k]:
            mu, at = now(t), t
            y = sum(math.exp(-(t - i * DT) / 31.0) for i in range(k) if post[i])
            x = sum(math.exp(-(t - i * DT) / 17.0) for i in range(k) if pre[i])
            dw = (
                post[k] * 0.04 * abs(1 - w) ** mu * x
                - pre[k] * 1.2 * 0.04 * abs(w - 0.45) ** mu * y
            )
            w = min(max(w + dw, 0.0), 1.0)
        weights.append(w)
    return weights, exponents


def in_steps(rule: FilopodiumSpine, w: Tensor, seen: Signals) -> tuple[Tensor, Tensor, Traces]:
    """Weights, clipped after each step, and exponents, both [T, ...]; the last traces."""
    traces = rule.start(seen.pre[0], seen.post[0], private=w.ndim == 3)
    weights, exponents = [], []
    for t in range(len(seen.pre)):
        dw, traces = rule.step(w, traces, seen.at(t), DT)
        w = (w + dw).clamp(0.0, 1.0)
        weights.append(w)
        exponents.append(traces[0])
    return torch.stack(weights), torch.stack(exponents), traces


def test_weights_and_exponents_are_those_of_a_loop_over_spikes() -> None:
    pre, post = trains(2000)
    start = torch.linspace(0.0, 1.0, 12, dtype=torch.float64).reshape(2, 6)
    weights, exponents, _ = in_steps(RULE, start, Signals(pre, post, post))
    assert float(exponents.max() - exponents.min()) > 0.3  # so that exponents mattered
    for j in range(2):
        for i in range(6):
            w, mu = by_hand(pre[:, 0, i].tolist(), post[:, 0, j].tolist(), float(start[j, i]))
            assert weights[:, j, i].tolist() == pytest.approx(w, abs=1e-12)
            assert exponents[:, j, i].tolist() == pytest.approx(mu, abs=1e-12)


def test_private_contacts_are_those_of_presentations_of_their_own() -> None:
    pre, post = trains(300, n_batch=3, seed=1)
    private = torch.full((3, 2, 6), 0.4, dtype=torch.float64)
    weights, exponents, _ = in_steps(RULE, private, Signals(pre, post, post))
    for b in range(3):
        one = slice(b, b + 1)
        alone = Signals(pre[:, one], post[:, one], post[:, one])
        w, mu, _ = in_steps(RULE, private[b], alone)
        torch.testing.assert_close(weights[:, b], w, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(exponents[:, b], mu, rtol=1e-12, atol=1e-14)


def test_the_published_line_of_exponents() -> None:
    """With a = 1/12 and q = 25/3: (0 + a)/q = .01 and (.75 + a)/q = .1."""
    w = torch.tensor([0.0, 0.75, 1.0], dtype=torch.float64)
    expected = [(x + 1 / 12) / (25 / 3) for x in (0.0, 0.75, 1.0)]
    assert FilopodiumSpine().mu_rest(w).tolist() == pytest.approx(expected)
    assert expected[:2] == pytest.approx([0.01, 0.1])


def test_without_exponents_it_is_the_additive_rule() -> None:
    flat = replace(RULE, mu_filopodium=0.0, mu_spine=0.0)
    pair = PairSTDP(0.04, 1.2 * 0.04, 17.0, 31.0)
    pre, post = trains(200, n_batch=2, seed=2)
    seen = Signals(pre, post, post)
    w = torch.full((2, 6), 0.3, dtype=torch.float64)
    ours, theirs = flat.start(pre[0], post[0]), pair.start(pre[0], post[0])
    for t in range(len(pre)):
        a, ours = flat.step(w, ours, seen.at(t), DT)
        b, theirs = pair.step(w, theirs, seen.at(t), DT)
        torch.testing.assert_close(a, b)
    a, _ = flat.presentation(w, flat.start(pre[0], post[0]), seen, DT)
    b, _ = pair.presentation(w, pair.start(pre[0], post[0]), seen, DT)
    torch.testing.assert_close(a, b)


def test_a_presentation_freezes_weight_and_exponent_and_then_moves_the_exponent() -> None:
    pre, post = trains(80, n_batch=3, seed=3)
    seen, w = Signals(pre, post, post), torch.full((2, 6), 0.8, dtype=torch.float64)
    mu = torch.full((2, 6), 0.3, dtype=torch.float64)
    start = (mu, *RULE.start(pre[0], post[0])[1:])
    dw, after = RULE.presentation(w, start, seen, DT)
    frozen, expected = replace(RULE, tau_mu_ms=1e12), torch.zeros_like(w)
    traces = start
    for t in range(len(pre)):
        change, traces = frozen.step(w, traces, seen.at(t), DT)
        expected += change
    torch.testing.assert_close(dw, expected, rtol=1e-9, atol=1e-12)
    rest = 0.02 + 0.68 * 0.8 / 0.725
    moved = rest + (0.3 - rest) * math.exp(-80 * 3 * DT / 90.0)
    torch.testing.assert_close(after[0], torch.full_like(mu, moved))


def test_twice_as_fast_is_the_same_course_in_half_the_time() -> None:
    assert RULE.sped_up(2.0) == replace(RULE, a_plus=0.08, tau_mu_ms=45.0)


def layer(rule: FilopodiumSpine | GatedSTDP) -> SilentSynapseLayer:
    contacts = ContactConfig(transmission="plain")
    made = SilentSynapseLayer(6, 2, DT, rule=rule, contacts=contacts, update="step")
    made.ampa.fill_(0.5)
    return made


def test_a_layer_keeps_exponents_and_goes_on_with_them() -> None:
    pre, post = trains(400, seed=4)
    pre, current = pre.float(), 1.5 * post.float()
    whole, parts = layer(RULE), layer(RULE)
    whole.simulate(pre, current)
    assert whole.takes_reference() == "FilopodiumSpine computes its change by functions of its own"
    _, state, _ = parts.simulate(pre[:250], current[:250])
    saved = {name: values.clone() for name, values in parts.state_dict().items()}
    assert saved["slow_exponent"].shape == (2, 6) and float(saved["slow_exponent"].max()) > 0.1
    again = layer(RULE)
    again.load_state_dict(saved)
    again.simulate(pre[250:], current[250:], state)
    assert torch.equal(again.ampa, whole.ampa)
    assert torch.equal(again.get_buffer("slow_exponent"), whole.get_buffer("slow_exponent"))
    # exponents outlast a presentation, traces do not
    again.pair(pre[:1], current[:1])
    rest = RULE.mu_rest(whole.ampa)
    kept = rest + (whole.get_buffer("slow_exponent") - rest) * math.exp(-DT / 90.0)
    torch.testing.assert_close(again.get_buffer("slow_exponent"), kept)


def test_it_can_lie_under_the_nmda_gate() -> None:
    pre, post = trains(400, seed=5)
    pre, current = pre.float(), 1.5 * post.float()
    open_, shut = (layer(GatedSTDP(RULE, Gating(nmda=share))) for share in (1.0, 0.0))
    for each in (open_, shut):
        each.simulate(pre, current)
    assert (shut.ampa <= 0.5).all() and (open_.ampa > shut.ampa).any()
    assert float(open_.get_buffer("slow_exponent").min()) > 0
    with pytest.raises(ConfigError, match="cannot be used with FilopodiumSpine"):
        GatedSTDP(RULE, Gating(insertion="bernoulli"))


def test_configured_by_name() -> None:
    given = FilopodiumSpine(mu_spine=0.2)
    rule = PlasticityConfig(rule="filopodium_spine", filopodium_spine=given).build()
    assert rule == given
    published = PlasticityConfig(rule="filopodium_spine", published="no_overwriting").build()
    assert published == FilopodiumSpine(mu_spine=0.3)
    gated = PlasticityConfig(base="filopodium_spine", speed=2.0).build()
    assert isinstance(gated, GatedSTDP) and gated.base == FilopodiumSpine().sped_up(2.0)


@pytest.mark.parametrize(
    "name", ["a_plus", "alpha", "tau_plus_ms", "tau_minus_ms", "tau_mu_ms", "mu_filopodium"]
)
def test_values_that_no_rule_has_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"filopodium_spine.{name}"):
        FilopodiumSpine(**{name: -1.0})


def test_spines_have_the_larger_exponent() -> None:
    with pytest.raises(ConfigError, match=r"filopodium_spine.mu_spine: 0.005"):
        FilopodiumSpine(mu_spine=0.005)
