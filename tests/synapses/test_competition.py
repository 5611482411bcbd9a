"""Dendritic potentials against a loop over steps, and winners against their softmax."""

from __future__ import annotations

import math

import pytest
import torch
from engines import in_torch

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.rules import ErrorDriven, Signals
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.competition import leaky_sum, winners

STEPS = torch.tensor([2, 5, 7])


def layer_with_contacts(transmission: str, probability: float = 0.7) -> SilentSynapseLayer:
    generator = torch.Generator().manual_seed(5)
    layer = SilentSynapseLayer(
        6, 4, 2.0, NeuronConfig(tau_mem_ms=11.0, threshold=0.8), None,
        ContactConfig(transmission=transmission, probability=probability),  # type: ignore[arg-type]
        generator=generator,
    ).double()  # fmt: skip
    layer.ampa.copy_(torch.rand(4, 6, generator=generator) * layer.exists)
    layer.state.copy_((layer.ampa > 0.4) * layer.exists)
    return layer


@pytest.mark.parametrize("transmission", ["binary", "graded"])
@pytest.mark.parametrize("probability", [1.0, 0.7])
def test_a_dendrite_is_a_leaky_integrator_that_never_fires(
    transmission: str, probability: float
) -> None:
    layer = layer_with_contacts(transmission, probability)
    pre = (torch.rand(9, 3, 6, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    found = layer.foresee(pre, STEPS)
    keep = math.exp(-2.0 / 11.0)
    for j in range(4):
        open_ = [bool(layer.state[j, i] > 0) for i in range(6)]
        w = [
            (1.0 if transmission == "binary" else float(layer.ampa[j, i])) * open_[i]
            for i in range(6)
        ]
        exists = [float(layer.exists[j, i]) for i in range(6)]
        alpha = sum(w) / sum(exists)
        net = [wi - alpha * e for wi, e in zip(w, exists, strict=True)]
        threshold = 0.8 * max(1.0, math.sqrt(sum(n * n for n in net)))
        for b in range(3):
            v = 0.0
            for t in range(9):
                v = v * keep + sum(n * float(pre[t, b, i]) for i, n in enumerate(net))
                if t in STEPS.tolist():
                    where = STEPS.tolist().index(t)
                    assert float(found[where, b, j]) == pytest.approx(v / threshold, abs=1e-12)


def test_sums_of_no_steps() -> None:
    assert leaky_sum(torch.zeros(0, 2, 3), 1.0, 5.0).shape == (0, 2, 3)


def test_an_assembly_wins_as_often_as_a_softmax_says() -> None:
    potentials = torch.tensor([0.3, -0.4, 1.1, 0.0]).double().expand(1, 40000, 4)
    uniform = torch.rand(1, 40000, generator=torch.Generator().manual_seed(0)).double()
    share = torch.bincount(winners(potentials, 0.5, uniform).flatten(), minlength=4) / 40000
    expected = [math.exp(u / 0.5) for u in (0.3, -0.4, 1.1, 0.0)]
    for got, e in zip(share.tolist(), expected, strict=True):
        p = e / sum(expected)
        assert got == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 40000))


def test_the_last_noise_below_one_still_names_an_assembly() -> None:
    uniform = torch.full((1, 1), 1.0 - 2.0**-24)
    assert winners(torch.zeros(1, 1, 7), 1.0, uniform).item() in range(7)


@pytest.mark.parametrize(
    ("potentials", "temperature", "uniform", "message"),
    [
        (torch.zeros(2, 3), 1.0, torch.zeros(2, 3), "potentials"),
        (torch.full((1, 1, 2), math.nan), 1.0, torch.zeros(1, 1), "potentials"),
        (torch.zeros(1, 1, 2), 0.0, torch.zeros(1, 1), "temperature"),
        (torch.zeros(1, 1, 2), 1.0, torch.zeros(2, 1), "uniform"),
    ],
)
def test_what_cannot_be_used_is_named(
    potentials: torch.Tensor, temperature: float, uniform: torch.Tensor, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        winners(potentials, temperature, uniform)


def test_expected_change_is_the_gradient_of_a_softmax_classifier() -> None:
    """Mean change over many draws of winner, against -dL/dw of the cross-entropy of softmax(u / T)
    in contacts that pass their occupancy, up to the scale of the rule."""
    generator = torch.Generator().manual_seed(3)
    pre = (torch.rand(6, 1, 5, generator=generator) < 0.5).double()
    w = torch.rand(3, 5, generator=generator).double().requires_grad_()
    keep, temperature = math.exp(-1.0 / 20.0), 0.7
    rule = ErrorDriven(a_plus=1.0, tau_plus_ms=20.0, tau_target_ms=1e9)
    x = sum(keep ** (5 - s) * pre[s, 0] for s in range(5))  # just before the last step
    u = w @ x
    loss = torch.nn.functional.cross_entropy((u / temperature)[None], torch.tensor([1]))
    (gradient,) = torch.autograd.grad(loss, w)
    n = 20000
    uniform = torch.rand(1, n, generator=generator).double()
    won = winners(u.detach().expand(1, n, 3), temperature, uniform)
    share = torch.bincount(won.flatten(), minlength=3).double() / n
    taught = torch.tensor([0.0, 1.0, 0.0]).double()
    # <x> taken out: the rule's change is error * (x - <x>), the gradient's error * x
    average = (
        sum(
            sum(keep ** (t - s) * pre[s, 0] for s in range(t)) if t else pre[0, 0] * 0
            for t in range(6)
        )
        / 6.0
    )
    expected = -temperature * gradient / x.clamp_min(1e-12) * (x - average)
    post, predicted = torch.zeros(6, 1, 3).double(), torch.zeros(6, 1, 3).double()
    post[5, 0] = taught
    changes = torch.zeros(3, 5).double()
    for c in range(3):
        predicted[5, 0] = torch.nn.functional.one_hot(torch.tensor(c), 3).double()
        seen = Signals(pre, post, post * 0.0, predicted=predicted.clone())
        dw, _ = rule.presentation(w.detach(), rule.start(pre[0], post[0]), seen, 1.0)
        changes += share[c] * dw
    torch.testing.assert_close(changes, expected, atol=0.05, rtol=0.0)
    assert changes.abs().max() > 0.3


def test_only_what_learning_consolidated_becomes_labile() -> None:
    layer = SilentSynapseLayer(30, 5, contacts=ContactConfig(silent_share=0.5))
    born = layer.state.clone()
    layer.state[layer.born_silent] = 1
    layer.capture()
    assert (layer.state == 2).all()
    change = layer.labilise()
    assert torch.equal(layer.state, torch.where(layer.born_silent, 1, born).to(torch.uint8))
    assert len(change.pre) == int(layer.born_silent.sum())
    assert set(zip(change.old.tolist(), change.new.tolist(), strict=True)) == {(2, 1)}


@pytest.mark.parametrize("engine", ["as chosen", "reference"])
@pytest.mark.parametrize("taught", [True, False])
def test_what_was_foreseen_counts_in_every_step(
    engine: str, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`update: step` against the rule's own steps, with contacts that pass their occupancy."""
    generator = torch.Generator().manual_seed(6)
    rule = ErrorDriven(a_plus=0.05, target=1.2, tau_target_ms=300.0)
    layer = SilentSynapseLayer(
        7, 4, 1.0, NeuronConfig(threshold=0.8), rule,
        ContactConfig(transmission="plain"), update="step",
    )  # fmt: skip
    layer.ampa.copy_(0.3 + 0.4 * torch.rand(4, 7, generator=generator))
    pre = (torch.rand(9, 2, 7, generator=generator) < 0.4).float()
    predicted = (torch.rand(9, 2, 4, generator=generator) < 0.3).float()
    current = 1.5 * (torch.rand(9, 2, 4, generator=generator) < 0.3).float() if taught else None
    w, traces = layer.ampa.clone(), rule.start(pre[0], predicted[0])
    if engine == "reference":
        in_torch(monkeypatch)
    response, _ = layer.pair(pre, current, predicted=predicted)
    for t in range(9):
        signals = Signals(
            pre[t], response.spikes[t], predicted[t] * 0.0, None, layer.target_factor, predicted[t]
        )
        dw, traces = rule.step(w, traces, signals, 1.0)
        w = (w + dw).clamp(0.0, 1.0)
    torch.testing.assert_close(layer.ampa, w, rtol=1e-5, atol=1e-6)
    assert (predicted != response.spikes).any()
