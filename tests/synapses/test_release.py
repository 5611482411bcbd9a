"""Contacts that fail: what is released against the binomial distribution, published formulas and
loops over single contacts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.config import ContactConfig, PlasticityConfig
from snn_artsy.physiology import Receptors
from snn_artsy.rules import PairSTDP
from snn_artsy.synapses.circuit import StateEvents
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.noise import uniform
from snn_artsy.synapses.release import Draws, Released, release_chances
from snn_artsy.synapses.together import respond_together
from snn_artsy.synapses.tracing import trace_contacts

DT, N, P = 5.0, 3, 0.4
RULE = PlasticityConfig(rule="pair", a_plus=0.3, a_minus=0.1)


def make_layer(n_pre: int = 6, n_post: int = 4, **values: Any) -> SilentSynapseLayer:
    contacts = ContactConfig(per_connection=N, release_probability=P, silent_share=0.5)
    given: dict[str, Any] = {"rule": RULE, "contacts": contacts} | values
    generator = torch.Generator().manual_seed(2)
    return SilentSynapseLayer(n_pre, n_post, DT, generator=generator, **given)


def spikes(n_steps: int, n_samples: int, n: int, p: float = 0.5, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n_steps, n_samples, n, generator=generator) < p).float()


def draws(n_samples: int, seed: int = 7) -> Draws:
    return Draws(seed, -1, torch.arange(n_samples))


def test_releases_are_binomial_and_independent_for_each_pair() -> None:
    """Of n contacts: mean n p, variance n p (1 - p); none tells of another one's, nor of the same
    unit's contacts with another neuron."""
    n_samples = 20_000
    pre = torch.ones(1, n_samples, N)  # one unit's contacts
    chances = torch.full_like(pre, P)
    released = Released(pre, chances, draws(n_samples))
    counts = released.drive(torch.ones(2, N))[0]  # of two neurons
    variance = N * P * (1 - P)
    error = (variance / n_samples) ** 0.5
    np.testing.assert_allclose(counts.mean(0), N * P, atol=4 * error)
    np.testing.assert_allclose(counts.var(0), variance, rtol=0.05)
    each = torch.stack([released.train(j)[0, :, k] for j in (0, 1) for k in range(N)])
    correlations = torch.corrcoef(each) - torch.eye(2 * N)
    assert float(correlations.abs().max()) < 4 / n_samples**0.5
    failures = float((counts[:, 0] == 0).float().mean())  # (1 - p)^n
    assert abs(failures - (1 - P) ** N) < 4 * ((1 - P) ** N / n_samples) ** 0.5


def test_releases_are_those_of_a_loop_over_contacts() -> None:
    layer = make_layer(first_neuron=5)
    pre, key = spikes(7, 3, layer.n_pre), draws(3)
    u = uniform(key.seed, key.stream, key.sample, 7, 9 * layer.n_sites)
    wanted = torch.zeros(7, 3, layer.n_post)
    released = Released(layer.per_contact(pre), torch.full((7, 3, layer.n_sites), P), key, 5)
    weights = layer.transmitted()
    for t, b, i in torch.nonzero(pre).tolist():
        for j in range(layer.n_post):
            for k in range(N):
                site = N * i + k
                happens = float(u[t, b, (5 + j) * layer.n_sites + site]) < P
                assert bool(released.train(j)[t, b, site]) == happens
                wanted[t, b, j] += float(happens) * float(weights[j, site])
    assert torch.equal(released.drive(weights), wanted)
    assert torch.equal(released.drive(weights.double()), wanted.double())  # in torch
    contacts = torch.tensor([[0, 4], [3, 4], [2, 17]])
    at = torch.stack([released.train(int(j))[:, :, int(c)] for j, c in contacts], 2)
    assert torch.equal(layer.arrivals(pre, contacts, key), at)


@pytest.mark.parametrize("tau_rec, tau_facil", [(800.0, None), (None, 500.0), (130.0, 530.0)])
def test_short_term_plasticity_is_the_published_iteration(
    tau_rec: float | None, tau_facil: float | None
) -> None:
    """u_n and R_n of the n-th spike as Maass & Markram 2002 write them, for spikes at any times,
    and where they settle with regular ones."""
    use, gaps = 0.3, [1, 3, 2, 9, 1, 1] + [4] * 400
    at = np.concatenate([[0], np.cumsum(gaps)])
    pre = torch.zeros(int(at[-1]) + 1, 1, 1, dtype=torch.float64)
    pre[torch.from_numpy(at)] = 1.0
    contacts = ContactConfig(release_probability=use, tau_rec_ms=tau_rec, tau_facil_ms=tau_facil)
    chances = release_chances(pre, contacts, DT)[torch.from_numpy(at), 0, 0].numpy()
    d = [0.0 if tau_rec is None else math.exp(-g * DT / tau_rec) for g in gaps]
    f = [0.0 if tau_facil is None else math.exp(-g * DT / tau_facil) for g in gaps]
    u, left, wanted = use, 1.0, [use]
    for depressed, facilitated in zip(d, f, strict=True):
        left = 1.0 + (left - u * left - 1.0) * depressed
        u = use + u * (1.0 - use) * facilitated
        wanted.append(u * left)
    np.testing.assert_allclose(chances, wanted, atol=2**-16)
    settled = use / (1.0 - (1.0 - use) * f[-1])
    recovered = (1.0 - d[-1]) / (1.0 - (1.0 - settled) * d[-1])
    np.testing.assert_allclose(chances[-1], settled * recovered, atol=2**-16)


def test_a_sample_s_releases_depend_on_no_other_sample() -> None:
    layer = make_layer()
    pre, key = spikes(20, 5, layer.n_pre), draws(5)
    whole = layer.respond(pre, draws=key)
    for b in (0, 3):
        alone = layer.respond(pre[:, b : b + 1], draws=Draws(7, -1, torch.tensor([b])))
        assert torch.equal(alone.membrane[:, 0], whole.membrane[:, b])
    other = make_layer(first_neuron=4)
    first, second = respond_together([layer, other], pre, key)
    assert torch.equal(first.membrane, whole.membrane)
    assert not torch.equal(second.membrane, first.membrane)  # the same contacts, other releases


def test_neurons_integrate_what_is_released_less_the_mean_that_inhibition_balances() -> None:
    """I_j = sum of what is released - alpha_j p sum of spikes; the threshold follows the mean."""
    layer = make_layer()
    pre, key = spikes(12, 3, layer.n_pre), draws(3)
    response = layer.respond(pre, draws=key)
    weights, beta = layer.transmitted().double(), math.exp(-DT / layer.neuron.tau_mem_ms)
    for j in range(layer.n_post):
        alpha = float(weights[j].mean())
        net = [float((weights[j, N * i : N * i + N] - alpha).sum()) for i in range(layer.n_pre)]
        threshold = 0.3 * P * max(1.0, math.sqrt(sum(x * x for x in net)))
        trains = layer._shown(layer.per_contact(pre), key).released
        assert trains is not None
        arriving = trains.train(j).double()
        for b in range(3):
            v = 0.0
            for t in range(12):
                v = beta * v + float(arriving[t, b] @ weights[j])
                v -= alpha * P * N * float(pre[t, b].sum())
                assert v / threshold == pytest.approx(float(response.membrane[t, b, j]), abs=1e-3)
                v = max(v - threshold * float(response.spikes[t, b, j]), -2.0 * threshold)


@pytest.mark.parametrize("update", ["presentation", "step"])
def test_every_contact_learns_from_its_own_releases(update: str) -> None:
    """Pair STDP in float loops over contacts and pairs of spikes."""
    config = ContactConfig(
        per_connection=N, release_probability=P, theta_up=1.0, theta_down=0.0, consolidation=False
    )
    layer = make_layer(contacts=config, update=update)
    layer.ampa.fill_(0.5)
    pre, key = spikes(10, 2, layer.n_pre), draws(2)
    taught = spikes(10, 2, layer.n_post, 0.2, seed=9)
    trains = layer._shown(layer.per_contact(pre), key).released
    assert trains is not None
    small = 0.01  # so that nothing is clipped on the way
    layer.rule = PairSTDP(a_plus=0.3 * small, a_minus=0.1 * small)
    layer.pair(pre, 1.5 * taught, draws=key)
    for j in range(layer.n_post):
        train = trains.train(j)
        for site in range(layer.n_sites):
            change = 0.0
            for b in range(2):
                for t in torch.nonzero(train[:, b, site])[:, 0].tolist():
                    for s in torch.nonzero(taught[:, b, j])[:, 0].tolist():
                        if s > t:
                            change += 0.3 * small * math.exp((t - s) * DT / 20.0)
                        if s < t:
                            change -= 0.1 * small * math.exp((s - t) * DT / 20.0)
            assert float(layer.ampa[j, site]) == pytest.approx(0.5 + change, abs=1e-6)


@pytest.mark.parametrize("rule", ["gated", "pair", "error", "filopodium_spine"])
def test_engines_agree_on_contacts_that_fail(rule: str) -> None:
    """Compiled in float32 and torch in float64; what is traced step by step is what `pair` does."""
    plasticity = PlasticityConfig(rule=rule, a_plus=0.3)
    fast, exact = (make_layer(n_post=2, rule=plasticity, update="step") for _ in range(2))
    exact.double()
    pre, key = spikes(12, 2, fast.n_pre), draws(2)
    current = 1.5 * spikes(12, 2, fast.n_post, 0.2, seed=4)
    contacts = torch.tensor([[1, 2], [0, 11]])
    series = trace_contacts(fast, contacts, pre, current, draws=key)
    _, changes = fast.pair(pre, current, draws=key)
    exact.pair(pre, current, draws=key)
    np.testing.assert_allclose(fast.ampa, exact.ampa, atol=1e-5)
    assert torch.equal(fast.state, exact.state)
    assert torch.equal(series["ampa"][-1], fast.ampa[contacts[:, 0], contacts[:, 1]])
    assert isinstance(changes, StateEvents)
    assert (changes.step.diff() >= 0).all()


def test_nmda_receptors_of_silent_contacts_see_what_is_released() -> None:
    """In the conductance fidelity, with no magnesium: a silent contact depolarises when it
    releases, and nothing of it comes through AMPA receptors."""
    contacts = ContactConfig(per_connection=N, release_probability=P)
    own = {"n_pre": 1, "n_post": 1, "rule": None, "contacts": contacts}
    pre = torch.ones(1, 200, 1)  # one spike
    key = draws(200)
    free = make_layer(receptors=Receptors(mg_mM=0.0), **own)
    released = free._shown(free.per_contact(pre), key).released
    assert released is not None
    any_released = released.train(0)[0].sum(1) > 0
    net = free.respond(pre, draws=key).membrane[0, :, 0]
    assert torch.equal(net != 0, any_released)
    without = make_layer(receptors=Receptors(mg_mM=0.0, g_nmda_nS=0.0), **own)
    assert float(without.respond(pre, draws=key).membrane.abs().max()) == 0.0


def test_a_potential_is_foreseen_without_bias() -> None:
    """Over many draws it is that of contacts that never fail: the threshold follows the mean."""
    layer = make_layer()
    sure = make_layer(contacts=ContactConfig(per_connection=N, silent_share=0.5))
    pre, steps = spikes(8, 1, layer.n_pre), torch.tensor([3, 7])
    many = pre.expand(8, 4000, layer.n_pre).contiguous()
    drawn = layer.foresee(many, steps, draws(4000))
    error = drawn.std(1) / 4000**0.5
    assert bool(((drawn.mean(1) - sure.foresee(pre, steps)[:, 0]).abs() < 4.5 * error).all())


def test_what_cannot_fail_says_so() -> None:
    layer = make_layer()
    with pytest.raises(ValueError, match="contacts fail in presentations only"):
        layer.simulate(spikes(3, 1, layer.n_pre))


def test_layers_of_one_contact_that_never_fails_have_the_same_numbers() -> None:
    """A chance of 1 written out, whatever the draws, is the layer without them, bit for bit."""
    usual = make_layer(contacts=ContactConfig())
    written = make_layer(contacts=ContactConfig(per_connection=1, release_probability=1.0))
    pre = spikes(20, 3, usual.n_pre)
    current = 1.5 * spikes(20, 3, usual.n_post, 0.2, seed=4)
    usual.pair(pre, current)
    written.pair(pre, current, draws=draws(3))
    assert torch.equal(usual.ampa, written.ampa)
    assert torch.equal(usual.respond(pre).membrane, written.respond(pre, draws=draws(3)).membrane)


def test_contacts_that_are_alike_and_never_fail_are_one_of_twice_the_size() -> None:
    """Two contacts a connection, both sure: the same membranes in thresholds, bit for bit."""
    one = make_layer(40, contacts=ContactConfig(), rule=RULE)
    two = make_layer(40, contacts=ContactConfig(per_connection=2), rule=RULE)
    pre, current = spikes(20, 3, 40), 1.5 * spikes(20, 3, one.n_post, 0.2, seed=4)
    for layer in (one, two):
        layer.pair(pre, current)
    assert torch.equal(two.ampa, one.ampa.repeat_interleave(2, 1))
    assert bool((one.counts()[1:] > 0).any())
    assert torch.equal(two.respond(pre).membrane, one.respond(pre).membrane)
