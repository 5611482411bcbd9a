"""Contacts that change in every step: the compiled loop against torch, and what it covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from engines import in_torch
from torch import Tensor

from snn_artsy.config import ContactConfig, NeuronConfig, PlasticityConfig
from snn_artsy.rules import (
    CalciumRule,
    GatedSTDP,
    Gating,
    PairSTDP,
    ProductRule,
    Rule,
    TripletSTDP,
    VoltageSTDP,
)
from snn_artsy.rules.base import WeightDependence
from snn_artsy.synapses import SilentSynapseLayer

N_PRE, N_POST, DT = 30, 7, 1.0
FAST_PAIR = PairSTDP(a_plus=0.08, a_minus=0.05)
# fast enough for all states to occur in a few hundred steps
LIVELY = ContactConfig(consolidate_ms=150.0)

RULES: dict[str, Rule] = {
    "gated": GatedSTDP(FAST_PAIR, Gating(target=0.6, tau_target_ms=100.0)),
    "pair": FAST_PAIR,
    "soft": PairSTDP(a_plus=0.2, a_minus=0.05, bounds_of="soft"),
    "van_rossum": PairSTDP(a_plus=0.05, a_minus=0.1, bounds_of="van_rossum"),
    "power_law": PairSTDP(a_plus=0.1, a_minus=0.05, bounds_of="power_law"),
    "nearest": PairSTDP(a_plus=0.1, a_minus=0.05, pairing="nearest"),
    "triplet": TripletSTDP(a3_plus=0.1, a2_minus=0.02),
    "voltage": VoltageSTDP(a_ltd=0.002, a_ltp=0.002, spike_ms=2.0),
    "gated triplet": GatedSTDP(TripletSTDP(a3_plus=0.1), Gating(target=0.4)),
    "gated soft": GatedSTDP(PairSTDP(a_plus=0.2, a_minus=0.05, bounds_of="soft"), Gating()),
}


def layer_of(
    rule: Rule | None, contacts: ContactConfig = LIVELY, **options: Any
) -> SilentSynapseLayer:
    return SilentSynapseLayer(
        N_PRE, N_POST, DT, NeuronConfig(), rule, contacts, update="step",
        generator=torch.Generator().manual_seed(3), **options,
    )  # fmt: skip


def shown(seed: int, n_steps: int = 300, n_batch: int = 1) -> tuple[Tensor, Tensor]:
    """Input spikes, and a teacher that makes neurons fire now and then."""
    generator = torch.Generator().manual_seed(seed)
    pre = (torch.rand(n_steps, n_batch, N_PRE, generator=generator) < 0.05).float()
    current = 1.5 * (torch.rand(n_steps, n_batch, N_POST, generator=generator) < 0.06)
    return pre, current


def learnt(layer: SilentSynapseLayer, n_batch: int, batches: int = 3) -> list[Any]:
    """Responses and changes of some batches, one after the other."""
    return [layer.pair(*shown(k, n_batch=n_batch)) for k in range(batches)]


def assert_alike(
    ours: SilentSynapseLayer, plain: SilentSynapseLayer, theta: Tensor, most_near: float = 0.02
) -> None:
    """Equal but for rounding; a state may differ where rounding decides it."""
    torch.testing.assert_close(ours.ampa, plain.ampa, atol=2e-5, rtol=0)
    near = (plain.ampa[..., None] - theta).abs().amin(-1) < 1e-4
    assert near.float().mean() < most_near
    assert torch.equal(ours.state[~near], plain.state[~near])
    torch.testing.assert_close(
        ours.functional_ms[~near], plain.functional_ms[~near], atol=1e-2, rtol=1e-5
    )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n_batch", [1, 4])
def test_it_computes_what_torch_does(
    name: str, n_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, plain = layer_of(RULES[name]), layer_of(RULES[name])
    assert ours.takes_reference() is None
    found = learnt(ours, n_batch)
    in_torch(monkeypatch)
    expected = learnt(plain, n_batch)
    assert_alike(ours, plain, torch.tensor([LIVELY.theta_up, LIVELY.theta_down]))
    assert ours.ampa.max() > 0.05  # something was learnt
    for (response, change), (wanted, wanted_change) in zip(found, expected, strict=True):
        assert torch.equal(response.spikes, wanted.spikes)
        assert abs(len(change.pre) - len(wanted_change.pre)) <= 4
    torch.testing.assert_close(ours.slow_sum, plain.slow_sum)
    torch.testing.assert_close(ours.slow_weight, plain.slow_weight)


@dataclass
class Variant:
    contacts: ContactConfig = LIVELY
    options: Any = None


VARIANTS = {
    "sparse": Variant(ContactConfig(probability=0.5, consolidate_ms=150.0)),
    "half mature": Variant(
        ContactConfig(silent_share=0.5, mature_plasticity=0.3, consolidation=False)
    ),
    "never consolidated": Variant(ContactConfig(consolidation=False)),
    "decaying": Variant(ContactConfig(decay_ms=400.0, consolidate_ms=150.0)),
    "decaying, mature": Variant(
        ContactConfig(decay_ms=400.0, silent_share=0.5, mature_plasticity=0.3, consolidate_ms=60.0)
    ),
    "graded": Variant(ContactConfig(transmission="graded", consolidate_ms=60.0)),
    "averaged": Variant(options={"batch_reduction": "mean"}),
    "own targets": Variant(options={"target_factor": torch.linspace(0.2, 1.4, N_POST)}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_option(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = VARIANTS[name]
    made = [layer_of(RULES["gated"], variant.contacts, **(variant.options or {})) for _ in range(2)]
    learnt(made[0], n_batch=3)
    in_torch(monkeypatch)
    learnt(made[1], n_batch=3)
    assert_alike(made[0], made[1], torch.tensor([LIVELY.theta_up, LIVELY.theta_down]))


def test_all_states_occur_in_these_tests() -> None:
    layer = layer_of(RULES["gated"])
    learnt(layer, n_batch=1)
    assert (layer.counts() > 3).all()
    changes = [
        c for _, c in learnt(layer_of(RULES["pair"], ContactConfig(consolidation=False)), 1, 6)
    ]
    assert any((change.new == 0).any() for change in changes)  # functional -> silent


def test_threads_do_not_matter() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            layer = layer_of(RULES["gated"])
            learnt(layer, n_batch=2)
            found.append(layer.ampa.clone())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])


class Squared:
    def of(self, w: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 1.0 - w * w, w


class OwnBounds(PairSTDP):
    def dependence(self) -> Squared:  # type: ignore[override]
        return Squared()


@pytest.mark.parametrize(
    ("rule", "contacts", "covered"),
    [
        (FAST_PAIR, ContactConfig(), True),
        (OwnBounds(), ContactConfig(), False),
        (CalciumRule(), ContactConfig(), False),
        (GatedSTDP(CalciumRule()), ContactConfig(), False),
        (GatedSTDP(FAST_PAIR, Gating(insertion="bernoulli")), ContactConfig(), False),
        (FAST_PAIR, ContactConfig(decay_ms=100.0), True),
        (PlasticityConfig().build(), ContactConfig(), True),
    ],
)
def test_what_is_covered(rule: Rule, contacts: ContactConfig, covered: bool) -> None:
    assert (layer_of(rule, contacts).takes_reference() is None) == covered
    assert layer_of(rule, contacts).double().takes_reference() is not None


def test_a_rule_of_ones_own_with_plain_bounds_is_covered() -> None:
    class Mine(PairSTDP):
        pass

    assert isinstance(Mine(), ProductRule)
    assert layer_of(Mine()).takes_reference() is None


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize(
    "rule",
    [
        CalciumRule(tau_ms=2000.0),
        GatedSTDP(CalciumRule(tau_ms=2000.0)),
        GatedSTDP(FAST_PAIR, Gating(insertion="bernoulli", probability=0.02)),
        OwnBounds(a_plus=0.1),
    ],
    ids=["calcium", "gated calcium", "bernoulli", "own bounds"],
)
def test_other_rules_learn_in_torch_beside_compiled_neurons(
    rule: Rule, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    contacts = ContactConfig(
        silent_share=0.3, mature_plasticity=0.5, consolidate_ms=60.0, decay_ms=1300.0
    )
    made = [layer_of(rule, contacts, batch_reduction="sum") for _ in range(2)]
    pre, current = spontaneous(5, 2), shown(1, 200, 2)[1]
    found, _ = made[0].pair(pre, current if taught else None)
    in_torch(monkeypatch)
    expected, wanted = made[1].pair(pre, current if taught else None)
    assert torch.equal(found.spikes, expected.spikes) and expected.spikes.sum() > 20
    # what bernoulli filled in one step decays together
    theta = torch.tensor([contacts.theta_up, contacts.theta_down])
    assert_alike(made[0], made[1], theta, most_near=0.05)
    assert len(wanted.pre) > 0


def spontaneous(seed: int, n_batch: int) -> Tensor:
    """Input that makes neurons fire through their contacts."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(200, n_batch, N_PRE, generator=generator) < 0.15).float()


@pytest.mark.parametrize("n_batch", [1, 4])
@pytest.mark.parametrize("transmission", ["binary", "graded"])
@pytest.mark.parametrize("name", ["gated", "soft", "gated triplet"])
def test_without_a_teacher_neurons_run_in_the_same_call(
    name: str, transmission: Any, n_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spikes depend on the contacts then, and one that goes the other way by a rounding would
    change all that follows: with graded transmission the first steps are compared."""
    contacts = ContactConfig(
        silent_share=0.3, transmission=transmission, consolidate_ms=60.0, decay_ms=1000.0
    )
    made = [layer_of(RULES[name], contacts) for _ in range(2)]
    pre = spontaneous(5, n_batch)[: 200 if transmission == "binary" else 40]
    found, change = made[0].pair(pre, None)
    in_torch(monkeypatch)
    expected, wanted = made[1].pair(pre, None)
    assert torch.equal(found.spikes, expected.spikes) and expected.spikes.sum() > 20
    assert_alike(made[0], made[1], torch.tensor([contacts.theta_up, contacts.theta_down]))
    assert abs(len(change.pre) - len(wanted.pre)) <= 4 and len(wanted.pre) > 0
    assert (made[0].ampa - layer_of(RULES[name], contacts).ampa).abs().max() > 0.05
    torch.testing.assert_close(made[0].slow_sum, made[1].slow_sum)


class Wider(WeightDependence):
    """Data, and yet a function of its own."""

    def of(self, w: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return 0.0, 0.0


class WiderPair(PairSTDP):
    def dependence(self) -> WeightDependence:
        return Wider()


class NoisyPair(PairSTDP):
    @property
    def noisy(self) -> bool:
        return True


class OwnGate(GatedSTDP):
    def step(self, *given: Any) -> Any:
        dw, traces = super().step(*given)
        return 0.0 * dw, traces


class OwnStart(PairSTDP):
    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Any:
        return (pre * 0.0 + 0.5, post * 0.0 + 0.5)


@pytest.mark.parametrize("rule", [WiderPair(a_plus=0.3), NoisyPair(), OwnGate(FAST_PAIR)])
def test_what_a_subclass_does_by_itself_is_not_bypassed(rule: Rule) -> None:
    layer = layer_of(rule)
    assert layer.takes_reference() is not None
    layer.pair(*shown(1))
    if not isinstance(rule, NoisyPair):
        assert float(layer.ampa.sum()) == 0.0


def test_traces_that_start_in_a_way_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [layer_of(OwnStart(a_plus=0.08, a_minus=0.05)) for _ in range(2)]
    learnt(made[0], n_batch=1, batches=1)
    in_torch(monkeypatch)
    learnt(made[1], n_batch=1, batches=1)
    assert torch.equal(made[0].ampa, made[1].ampa)
    other = layer_of(PairSTDP(a_plus=0.08, a_minus=0.05))
    learnt(other, n_batch=1, batches=1)
    assert not torch.equal(made[0].ampa, other.ampa)
