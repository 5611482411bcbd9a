"""What synapses and rules are given is looked at before anything computes with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import snntorch
import torch
from engines import in_torch
from torch import Tensor

from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.rules import CalciumRule, GatedSTDP, Gating, PairSTDP, Rule, Signals, TripletSTDP
from snn_artsy.rules.voltage import VoltageSTDP
from snn_artsy.synapses import Ongoing, SilentSynapseLayer
from snn_artsy.synapses.together import respond_together

T, B, N_PRE, N_POST = 12, 3, 6, 4
RULE = PairSTDP(a_plus=0.3, a_minus=0.1)


def shown() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pre = (torch.rand(T, B, N_PRE, generator=generator) < 0.4).float()
    return pre, 1.5 * (torch.rand(T, B, N_POST, generator=generator) < 0.3)


def layer_of(**options: Any) -> SilentSynapseLayer:
    return SilentSynapseLayer(N_PRE, N_POST, **({"rule": RULE} | options)).train()


def at(values: Tensor, value: float) -> Tensor:
    values = values.clone()
    values[3, 1, 2] = value
    return values


PRE, CURRENT = shown()
WRONG: dict[str, tuple[Any, Any, str]] = {
    "more inputs": (
        PRE.repeat(1, 1, 2),
        CURRENT,
        r"pre: .*= \[T, B, 6\], given shape \[12, 3, 12\]",
    ),
    "fewer inputs": (PRE[..., :2], CURRENT, "pre: expected"),
    "no batch axis": (PRE[:, 0], CURRENT, "pre: expected"),
    "more images taught": (PRE, CURRENT.repeat(1, 2, 1), r"current: .*\[12, 3, 4\], given"),
    "one image taught": (PRE, CURRENT[:, :1], "current: expected"),
    "more steps taught": (PRE, CURRENT.repeat(2, 1, 1), "current: expected"),
    "fewer neurons taught": (PRE, CURRENT[..., :1], "current: expected"),
    "no step": (PRE[:0], CURRENT[:0], "pre: expected at least one time step"),
    "no image": (PRE[:, :0], CURRENT[:, :0], "pre: expected at least one presentation"),
    "half a spike": (at(PRE, 0.5), CURRENT, r"pre: .*0 or 1, given 0.5 at \[3, 1, 2\]"),
    "two spikes": (at(PRE, 2.0), CURRENT, "pre: expected spikes"),
    "whole numbers": (at(PRE, 2.0).long(), CURRENT, "pre: expected spikes"),
    "a negative spike": (at(PRE, -1.0), CURRENT, "pre: expected spikes"),
    "NaN spike": (at(PRE, math.nan), CURRENT, "pre: expected spikes"),
    "infinite spike": (at(PRE, math.inf), CURRENT, "pre: expected spikes"),
    "NaN current": (PRE, at(CURRENT, math.nan), "current: expected numbers .*given NaN"),
    "infinite current": (PRE, at(CURRENT, math.inf), "current: expected numbers"),
    "vast current": (PRE, at(CURRENT, 1e30), "current: expected numbers"),
    "too large for float32": (PRE, at(CURRENT.double(), 1e300), "current: expected numbers"),
    "NumPy": (PRE.numpy(), CURRENT, "pre: expected a torch tensor, given ndarray"),
    "a list": (PRE, CURRENT.tolist(), "current: expected a torch tensor, given list"),
    "complex": (PRE.to(torch.complex64), CURRENT, "pre: expected a dense tensor of real numbers"),
    "sparse": (PRE.to_sparse(), CURRENT, "pre: expected a dense tensor"),
    "on another device": (PRE.to("meta"), CURRENT, "pre: expected a tensor on cpu, given one on"),
}


@pytest.mark.parametrize("engine", ["compiled", "torch", "presentation"])
@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_and_nothing_is_learnt(
    name: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pre, current, message = WRONG[name]
    if engine == "torch":
        in_torch(monkeypatch)
    layer = layer_of(update="presentation" if engine == "presentation" else "step")
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises((TypeError, ValueError), match=message.replace("current:", "teacher:")):
        layer(pre, teacher=current)
    if "at least one presentation" not in message:
        with pytest.raises((TypeError, ValueError), match=message):
            layer.respond(pre, current)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("update", ["presentation", "step"])
@pytest.mark.parametrize(
    "kind", [torch.float64, torch.float16, torch.float8_e5m2, torch.bool, torch.int64, torch.uint16]
)
def test_any_real_type_is_taken_in_the_contacts_own(kind: torch.dtype, update: str) -> None:
    found = []
    for pre, current in ((PRE, CURRENT), (PRE.to(kind), CURRENT.to(torch.float64))):
        layer = layer_of(update=update)
        response, _ = layer.pair(pre, current)
        assert response.membrane.dtype == torch.float32
        found.append(layer.ampa)
    assert torch.equal(*found) and found[0].max() > 0


def test_an_empty_batch_has_an_empty_answer() -> None:
    for options in ({}, {"neuron": snntorch.Leaky(beta=0.9)}, {"receptors": None}):
        answer = layer_of(**options).respond(PRE[:, :0])
        assert answer.spikes.shape == (T, 0, N_POST) and answer.final.shape == (0, N_POST)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "n_pre": ({"n_pre": 0}, "n_pre: 0"),
    "n_post": ({"n_post": -1}, "n_post: -1"),
    "a size in part": ({"n_post": 2.5}, "n_post: 2.5"),
    "update": ({"update": "steps"}, "update: 'steps' .*choose from presentation, step"),
    "reduction": ({"batch_reduction": "avg"}, "batch_reduction: 'avg' .*choose from sum, mean"),
    "filled by the mean": (
        {
            "rule": GatedSTDP(gating=Gating(insertion="bernoulli")),
            "batch_reduction": "mean",
        },
        "batch_reduction: 'mean'",
    ),
    "rule as text": ({"rule": "pair"}, "rule: expected a rule .*given 'pair'"),
    "rule as class": ({"rule": PairSTDP}, "rule: expected a rule .*given PairSTDP"),
    "contacts": ({"contacts": None}, "contacts: expected a ContactConfig"),
    "receptors": ({"receptors": True}, "receptors: expected a Receptors"),
    "generator": ({"generator": 3}, "generator: expected a Generator"),
    "current without a unit": ({"contact_current": 0.2}, "contact_current: 0.2"),
    "too few targets": ({"target_factor": torch.ones(3)}, "target_factor: expected shape"),
    "NaN target": ({"target_factor": torch.full((4,), math.nan)}, "target_factor: .*given NaN"),
    "targets as a list": ({"target_factor": [1.0] * 4}, "target_factor: expected a torch tensor"),
    **{
        f"dt {dt}": ({"dt_ms": dt}, "dt_ms: ")
        for dt in (0.0, -1.0, math.nan, math.inf, 1e-308, 1e308, "1")
    },
    **{
        f"contact current {value}": (
            {"neuron": snntorch.Leaky(beta=0.9), "contact_current": value},
            "contact_current: ",
        )
        for value in (0.0, -0.1, math.nan, math.inf, 1e30)
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_cannot_be_used_are_named(name: str) -> None:
    options, message = OPTIONS[name]
    with pytest.raises((ConfigError, TypeError, ValueError), match=f"^{message}"):
        SilentSynapseLayer(**({"n_pre": N_PRE, "n_post": N_POST, "rule": RULE} | options))


UNITS: dict[str, tuple[Callable[[], Any], str]] = {
    "hidden state": (lambda: snntorch.Leaky(beta=0.9, init_hidden=True), "init_hidden"),
    "quantised": (lambda: snntorch.Leaky(beta=0.9, state_quant=lambda v: v), "state_quant"),
    "graded": (lambda: snntorch.Leaky(beta=0.9, graded_spikes_factor=0.5), "graded_spikes_factor"),
    "learnt grade": (
        lambda: snntorch.Leaky(beta=0.9, learn_graded_spikes_factor=True),
        "graded_spikes_factor",
    ),
    "beta for others": (lambda: snntorch.Leaky(beta=torch.full((3,), 0.9)), r"\.beta: "),
    "NaN beta": (lambda: snntorch.Leaky(beta=math.nan), r"\.beta: .*NaN"),
    "growing": (lambda: snntorch.Leaky(beta=1.5), r"\.beta: "),
    "NaN alpha": (lambda: snntorch.Synaptic(alpha=math.nan, beta=0.9), r"\.alpha: "),
    "no threshold": (lambda: snntorch.Leaky(beta=0.9, threshold=0.0), r"\.threshold: "),
    "below rest": (lambda: snntorch.Lapicque(beta=0.9, threshold=-1.0), r"\.threshold: "),
    "another neuron": (lambda: snntorch.RLeaky(beta=0.9, all_to_all=False), "RLeaky cannot be"),
    "its class": (lambda: snntorch.Leaky, "cannot be used"),
    "text": (lambda: "leaky", "cannot be used"),
}


@pytest.mark.parametrize("name", UNITS)
def test_neurons_whose_options_would_be_ignored_are_refused(name: str) -> None:
    make, message = UNITS[name]
    with pytest.raises((TypeError, ValueError), match=rf"neuron.*{message}"):
        layer_of(neuron=make())


def test_options_of_a_neuron_that_are_taken_do_what_they_say() -> None:
    pre = PRE[:, :, :1].expand(-1, -1, N_PRE)
    counts = {}
    for name, options in {
        "plain": {},
        "wins alone": {"inhibition": True},
        "zero": {"reset_mechanism": "zero"},
        "none": {"reset_mechanism": "none"},
        "given state": {"output": True},
        "at once": {"reset_delay": False},
        "learns": {"learn_beta": True, "learn_threshold": True},
    }.items():
        layer = layer_of(neuron=snntorch.Leaky(beta=0.9, **options), contact_current=0.3)
        layer.state.fill_(1)
        counts[name] = float(layer(pre).detach().sum())
    assert counts["plain"] == counts["given state"] == counts["learns"] > 0
    assert counts["wins alone"] * N_POST == counts["plain"]
    assert counts["none"] > counts["plain"] and counts["zero"] < counts["plain"]
    layer = layer_of(neuron=snntorch.Leaky(beta=0.9, learn_beta=True), contact_current=0.3)
    layer.state.fill_(1)
    layer(pre).sum().backward()
    assert layer.unit is not None and layer.unit.beta.grad.abs() > 0


def test_precisions_that_do_not_fit_are_refused() -> None:
    for layer in (layer_of().half(), layer_of(neuron=snntorch.Leaky(torch.ones(4).double() * 0.9))):
        with pytest.raises(TypeError, match=r"layer: expected .* convert the whole layer"):
            layer(PRE, CURRENT)


@dataclass(frozen=True)
class Broken(CalciumRule):
    """A rule of one's own that goes wrong."""

    value: float = math.nan

    def step(self, w: Tensor, *rest: Any) -> Any:
        return torch.full_like(w, self.value), ()

    presentation = step


class BrokenFactors(PairSTDP):
    def factors(self, traces: Any, seen: Signals, dt_ms: float) -> Any:
        f, traces = super().factors(traces, seen, dt_ms)
        return f._replace(gain_pre=f.gain_pre / 0.0 - f.gain_pre / 0.0), traces


@pytest.mark.parametrize("update", ["presentation", "step"])
@pytest.mark.parametrize("rule", [Broken(), Broken(value=math.inf), BrokenFactors()])
def test_a_rule_that_goes_wrong_leaves_no_nan_behind(rule: Rule, update: str) -> None:
    layer = layer_of(rule=rule, update=update)
    with pytest.raises(NotFinite, match=r"^rule: .*(Broken|BrokenFactors): expected"):
        layer(PRE, CURRENT)
    assert bool(layer.ampa.isfinite().all())


ENTRIES: dict[str, Callable[[], object]] = {
    "forward": lambda: layer_of()(PRE, CURRENT),
    "eval": lambda: layer_of().eval()(PRE),
    "step": lambda: layer_of(update="step")(PRE, CURRENT),
    "respond": lambda: layer_of().respond(PRE),
    "clamp": lambda: layer_of().clamp(CURRENT),
    "together": lambda: respond_together([layer_of(), layer_of()], PRE),
    "rule": lambda: RULE.presentation(
        torch.zeros(N_POST, N_PRE),
        RULE.start(PRE[0], CURRENT[0]),
        Signals(PRE, (CURRENT > 0).float(), torch.zeros_like(CURRENT)),
        1.0,
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_autocast_is_refused_by_name_and_can_be_left(name: str) -> None:
    """bfloat16 has 8 bits: 0.3 + 0.001 would be 0.3."""
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(TypeError, match=r"torch\.autocast.*bfloat16.*enabled=False"):
            ENTRIES[name]()
        with torch.autocast("cpu", enabled=False):
            ENTRIES[name]()


STORED: dict[str, tuple[str, Any]] = {
    "NaN": ("ampa", torch.full((N_POST, N_PRE), math.nan)),
    "above one": ("ampa", torch.full((N_POST, N_PRE), 1.5)),
    "no such state": ("state", torch.full((N_POST, N_PRE), 3, dtype=torch.uint8)),
    "negative time": ("functional_ms", torch.full((N_POST, N_PRE), -1.0)),
    "infinite average": ("slow_sum", torch.full((N_PRE,), math.inf)),
    "negative weight": ("slow_weight", torch.tensor(-1.0)),
    "another shape": ("ampa", torch.zeros(N_PRE, N_POST)),
    "no tensor": ("ampa", 0.5),
}


@pytest.mark.parametrize("name", STORED)
def test_what_no_layer_can_have_been_is_not_loaded(name: str) -> None:
    key, value = STORED[name]
    layer, net = layer_of(), torch.nn.Sequential(layer_of())
    taught = layer_of()
    taught(PRE, CURRENT)
    assert float(taught.ampa.sum()) > 0
    wrong = taught.state_dict() | {key: value}
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match=f"{key}: expected"):
        layer.load_state_dict(wrong)
    with pytest.raises(RuntimeError, match=rf"0\.{key}: expected"):
        net.load_state_dict({f"0.{k}": v for k, v in wrong.items()})
    for k, v in layer.state_dict().items():
        assert torch.equal(v, before[k]), "nothing is overwritten by half"
    layer.load_state_dict(taught.state_dict())
    assert torch.equal(layer.ampa, taught.ampa)


@pytest.mark.parametrize("update", ["presentation", "step"])
def test_a_compiled_model_runs_the_layer_as_it_is(update: str) -> None:
    plain, inner = layer_of(update=update), layer_of(update=update)
    model = torch.compile(inner, backend="eager")
    for _ in range(2):
        assert torch.equal(model(PRE, CURRENT), plain(PRE, CURRENT))
    assert torch.equal(inner.ampa, plain.ampa) and plain.ampa.max() > 0


def test_vmap_and_tensors_without_values_are_refused_by_name() -> None:
    layer = layer_of()
    with pytest.raises(TypeError, match=r"pre: .*torch\.vmap.* give the batch as axis B"):
        torch.vmap(lambda pre: layer.respond(pre).spikes)(PRE.expand(2, -1, -1, -1))
    with pytest.raises(TypeError, match=r"pre: .*meta device"):
        layer_of().to("meta").respond(PRE.to("meta"))


def test_layers_that_answer_together_check_what_they_are_given() -> None:
    layers = [layer_of(), layer_of()]
    for pre, message in ((PRE[..., :2], "pre: expected shape"), (at(PRE, 0.5), "pre: expected sp")):
        with pytest.raises(ValueError, match=message):
            respond_together(layers, pre)
    with pytest.raises(TypeError, match="layers: expected a SilentSynapseLayer"):
        respond_together([torch.nn.Linear(2, 2)], PRE)  # type: ignore[list-item]


def test_competition_knows_its_contacts() -> None:
    layer, ok = layer_of(), torch.tensor([0, 1])
    for pre, post, message in (
        (torch.tensor([0, N_PRE]), ok, "pre: expected numbers from 0 to 5"),
        (ok, torch.tensor([0, -1]), "post: expected numbers from 0 to 3"),
        (ok, torch.tensor([0]), "post: expected shape"),
        (ok.float(), ok, "pre: expected int64"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            layer.competition(pre, post)


# --- continuous simulation ----------------------------------------------------------------------

PLAIN = ContactConfig(transmission="plain", silent_share=0.5)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", WRONG)
def test_simulate_refuses_the_same_in_both_precisions(name: str, kind: torch.dtype) -> None:
    pre, current, message = WRONG[name]
    if name == "too large for float32" and kind == torch.float64:
        message = "current: expected numbers"
    layer = layer_of(contacts=PLAIN, generator=torch.Generator().manual_seed(0)).to(kind)
    before = layer.ampa.clone()
    with pytest.raises((TypeError, ValueError), match=message):
        layer.simulate(pre, current)
    assert torch.equal(layer.ampa, before)


def test_a_state_of_another_simulation_is_refused() -> None:
    layer = layer_of()
    _, state, _ = layer.simulate(PRE, CURRENT)
    for wrong, message in (
        ("rest", "state: expected a Ongoing"),
        (layer_of().double().simulate(PRE, CURRENT)[1], "state: expected float32"),
        (layer.simulate(PRE[:, :1], CURRENT[:, :1])[1], "state: expected shape"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            layer.simulate(PRE, CURRENT, state=wrong)  # type: ignore[arg-type]
    assert isinstance(state, Ongoing) and state.step == T


def test_a_rule_of_ones_own_learns_by_its_own_dependence() -> None:
    """The compiled loop knows the published forms only."""

    class Nothing:
        def of(self, w: Tensor) -> tuple[Tensor | float, Tensor | float]:
            return 0.0, 0.0

    class Mine(PairSTDP):
        def dependence(self) -> Nothing:  # type: ignore[override]
            return Nothing()

    layer = layer_of(rule=Mine(a_plus=0.3), contacts=PLAIN)
    before = layer.ampa.clone()
    layer.simulate(PRE, CURRENT)
    assert torch.equal(layer.ampa, before)
    with pytest.raises(TypeError, match=r"Old\.bounds: .*dependence"):
        type("Old", (PairSTDP,), {"bounds": lambda self, w: (0.0, 0.0)})


def test_weights_that_do_not_lie_in_order_change_in_place() -> None:
    for kind in (torch.float32, torch.float64):
        layer, other = (layer_of(contacts=PLAIN).to(kind) for _ in range(2))
        stored = torch.full((N_PRE, N_POST), 0.5, dtype=kind)  # [n_pre, n_post]
        layer._buffers["ampa"] = stored.T
        other.ampa.fill_(0.5)
        for each in (layer, other):
            each.simulate(PRE, CURRENT)
        assert torch.equal(stored.T, other.ampa) and not bool((stored == 0.5).all())


def test_a_trace_that_never_decays_and_one_that_does_at_once() -> None:
    for tau in (1e15, 1e-6):
        rule = replace(RULE, tau_plus_ms=tau, tau_minus_ms=tau)
        found = []
        for kind in (torch.float32, torch.float64):
            layer = layer_of(rule=rule, contacts=PLAIN).to(kind)
            layer.ampa.fill_(0.5)
            layer.simulate(PRE, CURRENT)
            found.append(layer.ampa.double())
        torch.testing.assert_close(*found, atol=1e-5, rtol=0)


# --- rules --------------------------------------------------------------------------------------

RULES: list[Rule] = [
    PairSTDP(),
    TripletSTDP(),
    VoltageSTDP(),
    CalciumRule(),
    GatedSTDP(),
    GatedSTDP(CalciumRule()),
]


def signals() -> Signals:
    post = (CURRENT > 0).float()
    return Signals(PRE, post, post * 90.0 - 70.0)


SEEN: dict[str, tuple[Callable[[Signals], Signals], str]] = {
    "half a spike": (lambda s: s._replace(pre=s.pre / 2), "signals.pre: expected spikes"),
    "half a spike after": (lambda s: s._replace(post=s.post * 2), "signals.post: expected spikes"),
    "NaN potential": (lambda s: s._replace(v_mV=s.v_mV * math.nan), "signals.v_mV: .*NaN"),
    "float64": (lambda s: s._replace(pre=s.pre.double()), "signals.pre: expected float32"),
    "other neurons": (lambda s: s._replace(post=s.post[..., :2]), "signals.post: expected shape"),
    "other images": (lambda s: s._replace(v_mV=s.v_mV[..., :1, :]), "signals.v_mV: expected shape"),
    "a gate above one": (
        lambda s: s._replace(gate=s.v_mV * 0 + 2),
        "signals.gate: expected numbers",
    ),
    "other targets": (lambda s: s._replace(target=torch.ones(2)), "signals.target: expected shape"),
}


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rules_look_at_what_they_see(rule: Rule, name: str) -> None:
    change, message = SEEN[name]
    seen, w = signals(), torch.full((N_POST, N_PRE), 0.5)
    traces = rule.start(seen.pre[0], seen.post[0])
    with pytest.raises((TypeError, ValueError), match=message):
        rule.presentation(w, traces, change(seen), 1.0)
    with pytest.raises((TypeError, ValueError), match=message):
        rule.step(w, traces, change(seen.at(0)), 1.0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rules_look_at_weights_traces_time_and_noise(rule: Rule) -> None:
    seen, w = signals(), torch.full((N_POST, N_PRE), 0.5)
    start = rule.start(seen.pre[0], seen.post[0])
    single = rule.start(seen.pre[0, :1], seen.post[0, :1])
    for given, message in (
        ((w[:2], start, seen.at(0), 1.0), "signals.post: expected shape"),
        ((w * math.nan, start, seen.at(0), 1.0), "w: .*NaN"),
        ((w, single, seen.at(0), 1.0), "traces: expected shapes"),
        ((w, start, seen.at(0), 0.0), "dt_ms: 0.0"),
        ((w, start, seen.at(0), math.nan), "dt_ms: nan"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            rule.step(*given)
    with pytest.raises(ValueError, match=r"signals.pre: .*\[T, B, n_pre\]"):
        rule.presentation(w, start, seen.at(0), 1.0)
    with pytest.raises(ValueError, match="w: expected shape"):
        rule.presentation(w.expand(B, -1, -1), start, seen, 1.0)
    if rule.noisy:
        with pytest.raises(ValueError, match="noise: expected shape"):
            rule.step(w, start, seen.at(0), 1.0, torch.zeros(2, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, "0.1", None])
@pytest.mark.parametrize("kind", [PairSTDP, TripletSTDP, VoltageSTDP, CalciumRule, Gating])
def test_every_number_of_a_rule_is_a_finite_one(kind: Any, value: Any) -> None:
    for name, default in vars(kind()).items():
        if isinstance(default, float) and (kind, name, value) != (VoltageSTDP, "spike_ms", None):
            with pytest.raises(ConfigError, match=rf"\.{name}: "):
                kind(**{name: value})


def test_a_gate_needs_a_rule() -> None:
    for base in ("pair", PairSTDP, None):
        with pytest.raises(TypeError, match="base: expected a rule"):
            GatedSTDP(base)  # type: ignore[arg-type]


def test_a_gate_in_an_instant_is_finite() -> None:
    rule = GatedSTDP(RULE, Gating(tau_target_ms=1e15))
    seen, w = signals(), torch.full((N_POST, N_PRE), 0.5)
    traces = rule.start(seen.pre[0], seen.post[0])
    change, traces = rule.step(w, traces, seen.at(0), 1e-6)
    assert float(traces[1]) == 0.0 and bool(change.isfinite().all())


def test_contacts_that_a_rule_makes_are_bytes() -> None:
    for contacts in (ContactConfig(), ContactConfig(silent_share=0.5, consolidation=False)):
        layer = SilentSynapseLayer(N_PRE, N_POST, 1.0, NeuronConfig(), RULE, contacts)
        assert layer.state.dtype == torch.uint8
