"""Protocols of silencing, of what silent contacts protect, and of what they hold: each passes at a
small size, and each check that must tell a wrong model apart can fail."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_artsy.checks import ConfigError
from snn_artsy.config.circuits import CIRCUITS
from snn_artsy.observer import FUNCTIONAL, SILENT
from snn_artsy.protocols import capacity, critical_period, probe_silencing, protection, re_silencing
from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.rules import Maturation, Signals
from snn_artsy.synapses import SilentSynapseLayer

SESSION = Session(seed=7)


def missed(outcome: Outcome) -> list[str]:
    return [check.name for check in outcome.checks if not check.passed]


def complete(outcome: Outcome) -> bool:
    return bool(outcome.figure.axes) and all(c.unit and c.meaning for c in outcome.data.values())


# --- test stimulation -----------------------------------------------------------------------------

PROBE = probe_silencing.Parameters(n_contacts=400)


@pytest.fixture(scope="module")
def probed() -> Outcome:
    return probe_silencing.probe_silencing(SESSION, replace(PROBE, frequencies_hz=(0.05, 1.0)))


def test_test_stimulation_silences_as_published(probed: Outcome) -> None:
    assert missed(probed) == [] and complete(probed)
    # 1/(1 + a n p)^2 for exponential release probabilities, nearly: few are cut off at 1
    p = PROBE
    released = probe_silencing.release_probabilities(replace(p, n_contacts=4000), 1)
    closed = (1 + p.a_pre * 900 * p.p_release) ** -2
    assert probe_silencing.expected(p, released, 900) == pytest.approx(closed, abs=0.01)


def test_silencing_is_the_share_that_each_release_takes() -> None:
    """Contacts that release at every stimulus: (1 - a_pre)^n of the naive response are left."""
    p = replace(PROBE, n_contacts=10, n_pairings=1)
    course = probe_silencing.stimulate(p, np.ones(10), 0.2, 1)
    assert course.after(100) == pytest.approx((1 - p.a_pre) ** 100, abs=1e-4)
    assert course.after(2700) == 0.0  # below theta_down a contact is silent


def test_another_share_misses_the_published_numbers() -> None:
    p = replace(PROBE, a_pre=0.008, n_pairings=1)
    released = probe_silencing.release_probabilities(p, 1)
    assert probe_silencing.stimulate(p, released, 0.2, 1).after(900) < 0.25


# --- re-silencing ---------------------------------------------------------------------------------


def test_a_cue_silences_what_matured() -> None:
    outcome = re_silencing.re_silencing(SESSION)
    assert missed(outcome) == [] and complete(outcome)
    slow = re_silencing.re_silencing(SESSION, re_silencing.Parameters(tau_hours=20.0))
    assert missed(slow) == ["silent share 6 h after the cue less that before it"]


def test_silence_takes_what_was_born_silent_and_leaves_the_others() -> None:
    layer = SilentSynapseLayer(4, 1)
    layer.born_silent.copy_(torch.tensor([[True, True, False, False]]))
    layer.state.copy_(torch.tensor([[FUNCTIONAL, SILENT, FUNCTIONAL, SILENT]]))
    layer.ampa.copy_(torch.tensor([[0.8, 0.3, 0.7, 0.2]]))
    layer.functional_ms.fill_(5.0)
    change = layer.silence()
    assert layer.state.tolist() == [[SILENT, SILENT, FUNCTIONAL, SILENT]]
    assert layer.ampa[0].tolist() == pytest.approx([0.0, 0.3, 0.7, 0.2])
    assert layer.functional_ms.tolist() == [[0.0, 5.0, 5.0, 5.0]]
    assert (change.pre.tolist(), change.post.tolist()) == ([0], [0])
    assert (change.old.tolist(), change.new.tolist()) == ([FUNCTIONAL], [SILENT])


@pytest.mark.parametrize("dt_ms", [0.5, 40.0])
def test_contacts_mature_at_a_constant_rate_whatever_the_step(dt_ms: float) -> None:
    rule, n = Maturation(tau_ms=100.0), 20_000
    generator = torch.Generator().manual_seed(1)
    w, quiet = torch.zeros(1, n), torch.zeros(1, n)
    seen = Signals(quiet, quiet[:, :1], quiet[:, :1])
    for _ in range(round(80.0 / dt_ms)):
        noise = torch.randn(1, n, generator=generator)
        w = w + rule.step(w, (), seen, dt_ms, noise)[0]
    assert set(w.unique().tolist()) == {0.0, 1.0}  # all of a contact or nothing
    assert float((w == 0).float().mean()) == pytest.approx(math.exp(-0.8), abs=0.015)
    assert rule.sped_up(2.0) == Maturation(50.0)
    with pytest.raises(ValueError, match="noise"):
        rule.step(w, (), seen, dt_ms)


def test_a_presentation_lasts_as_long_as_its_steps() -> None:
    rule, n = Maturation(tau_ms=100.0), 20_000
    quiet = torch.zeros(10, 2, n)
    seen = Signals(quiet, quiet[..., :1], quiet[..., :1])
    noise = torch.randn(1, n, generator=torch.Generator().manual_seed(2))
    dw, _ = rule.presentation(torch.zeros(1, n), (), seen, 4.0, noise)
    assert float((dw == 0).float().mean()) == pytest.approx(math.exp(-0.8), abs=0.015)


# --- critical period ------------------------------------------------------------------------------


def test_pairing_unsilences_what_is_silent_at_an_age() -> None:
    outcome = critical_period.critical_period(
        SESSION, critical_period.Parameters(n_contacts=500, n_neurons=4)
    )
    assert missed(outcome) == [] and complete(outcome)
    few = critical_period.Parameters(n_contacts=100, n_pairings=5)
    paired = critical_period.pair("v1_eye_opening", few, critical_period.default_rule(), 1)
    assert paired.unsilenced == 0.0 and paired.growth == 1.0


# --- protection -----------------------------------------------------------------------------------


def test_silent_contacts_let_learn_without_overwriting() -> None:
    outcome = protection.protection(SESSION, protection.Parameters(n_inputs=5))
    assert missed(outcome) == [] and complete(outcome)


def test_memories_are_lost_where_metaplasticity_is_weak() -> None:
    weak = protection.Parameters(n_inputs=5, metaplastic=0.9)
    course = protection.pair(weak, protection.conditions(weak)["silent, metaplastic"])
    assert course.old_kept == 0.0 and course.new_learnt == 1.0


# --- capacity -------------------------------------------------------------------------------------

CAPACITY = capacity.Parameters(n_inputs=2000, n_neurons=10, n_patterns=60)


def test_signals_are_those_of_the_chain() -> None:
    outcome = capacity.capacity(SESSION, CAPACITY)
    assert missed(outcome) == [] and complete(outcome)


def test_the_chain_of_two_states_in_closed_form() -> None:
    """Amit & Fusi 1994: the signal q (1 - p) falls by 1 - f_before q - f_after a pattern."""
    p = capacity.Parameters()
    chain = capacity.Chain.of(p)
    share = p.before * p.q / (p.before * p.q + p.after)
    assert chain.functional == pytest.approx(share)
    rate = 1 - p.before * p.q - p.after
    expected = [p.q * (1 - share) * rate**age for age in range(p.n_patterns)]
    assert capacity.expected_signal(p).tolist() == pytest.approx(expected)
    quarter = replace(p, silent_share=0.25)
    assert capacity.expected_signal(quarter).tolist() == pytest.approx([x / 4 for x in expected])
    # half of the signal over half of the noise: fewer patterns by ln 2 / -ln(rate)
    lost = capacity.stored(p, capacity.expected_signal(p)) - capacity.stored(
        quarter, capacity.expected_signal(quarter)
    )
    assert lost == pytest.approx(math.log(2) / -math.log(rate), abs=1.0)


def test_three_states_and_replay_against_a_loop_over_contacts() -> None:
    """Many independent contacts, each changed by the dice; no matrix."""
    p = replace(CAPACITY, levels=3, replay_every=7)
    drawn = np.random.default_rng(0)
    n = 60_000
    level = np.full(n, 3)
    for k in range(400 + p.n_patterns):
        before, after = drawn.random(n) < p.before, drawn.random(n)
        if k == 400:  # the pattern that is followed: contacts of half of them come before
            before[: n // 2] = True
        if k > 400 and (k - 400) % p.replay_every == 0:
            fills = drawn.random(n // 2) < p.q
            level[: n // 2][fills] = 0
        filled = before & (drawn.random(n) < p.q)
        weaker = ~before & (after < p.after / (1 - p.before))
        level = np.where(filled, 0, np.where(weaker, np.minimum(level + 1, 3), level))
    signal = (level[: n // 2] < 3).mean() - (level[n // 2 :] < 3).mean()
    assert signal == pytest.approx(capacity.expected_with_replay(p), abs=0.02)
    assert (level[n // 2 :] < 3).mean() == pytest.approx(capacity.Chain.of(p).functional, abs=0.02)


def test_another_q_misses_theory() -> None:
    """The layer fills contacts with another probability than the chain is told."""
    found = capacity.learn(replace(CAPACITY, q=0.6), 1)
    checks = capacity.checks_of("x", CAPACITY, found, capacity.expected_signal(CAPACITY))
    assert not checks[0].passed


# --- circuits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CIRCUITS)
def test_a_circuit_says_where_its_share_is_from(name: str) -> None:
    circuit = CIRCUITS[name]
    assert 0 <= circuit.share <= 1 and circuit.doi.startswith("10.")
    words = (circuit.where, circuit.species, circuit.age, circuit.method, circuit.not_shown)
    assert all(words) and circuit.source[-4:].isdigit()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: probe_silencing.Parameters(n_stimuli=100),
        lambda: re_silencing.Parameters(cocaine_1=0.01),
        lambda: critical_period.Parameters(circuits=("moon",)),
        lambda: protection.Parameters(a_plus=2.0),
        lambda: capacity.Parameters(before=0.9, after=0.2),
    ],
)
def test_values_that_cannot_be_used_are_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        wrong()  # type: ignore[operator]
