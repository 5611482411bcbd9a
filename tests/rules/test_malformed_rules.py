"""Rules of one's own that are not what a rule is: said by name, and nothing computes with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import snntorch
import torch
from engines import OwnFactors, in_torch
from processes import artsy
from torch import Tensor

from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import PlasticityConfig, RunConfig
from snn_artsy.rules import GatedSTDP, PairSTDP, Signals, Traces, WeightDependence, register
from snn_artsy.rules.base import SpikeTerms, Trace
from snn_artsy.synapses import SilentSynapseLayer

N_PRE, N_POST, T, B = 6, 4, 12, 3
GENERATOR = torch.Generator().manual_seed(0)
PRE = (torch.rand(T, B, N_PRE, generator=GENERATOR) < 0.4).float()
CURRENT = 1.5 * (torch.rand(T, B, N_POST, generator=GENERATOR) < 0.3)
TERMS: dict[str, Any] = {
    "pre": (Trace(20.0),), "post": (Trace(20.0),), "gain_pre": (0.0, 1.0), "gain_post": (0.1,),
    "loss_pre": (1.0,), "loss_post": (0.0, 0.1),
}  # fmt: skip


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gain_post": (math.nan,)}, "terms.gain_post: nan cannot be used"),
        ({"loss_post": (0.0, math.inf)}, "terms.loss_post: inf cannot be used"),
        ({"gain_pre": (0.0, 1e30)}, "terms.gain_pre: 1e[+]30 cannot be used"),
        ({"gain_pre": 1.0}, "terms.gain_pre: 1.0 cannot be used; give a tuple"),
        ({"gain_pre": ("1",)}, "terms.gain_pre: '1' cannot be used"),
        ({"gain_pre": ()}, "terms.gain_pre: .. cannot be used; use at most 2"),
        ({"pre": (20.0,)}, "terms.pre: .* cannot be used; give a tuple of Trace"),
        ({"post": Trace(20.0)}, "terms.post: .* give a tuple of Trace"),
    ],
)
def test_terms_are_finite_numbers(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpikeTerms(**TERMS | given)


@pytest.mark.parametrize("tau_ms", [0.0, -1.0, math.nan, math.inf, "20"])
def test_a_trace_decays(tau_ms: Any) -> None:
    with pytest.raises(ConfigError, match=r"trace.tau_ms: .* cannot be used"):
        Trace(tau_ms)


@pytest.mark.parametrize(
    "given",
    [{"up": math.nan}, {"down": math.inf}, {"power": math.nan}, {"power": 1.0, "mu": -0.5}],
)
def test_a_dependence_is_finite_at_every_weight(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"dependence.[a-z]+: .* cannot be used"):
        WeightDependence(**given)
    WeightDependence(power=1.0, mu=-0.5, floor=0.1)


def test_whole_numbers_are_coefficients_too() -> None:
    """An integer 0 was a number where a tensor is expected."""

    class Whole(PairSTDP):
        def terms(self) -> SpikeTerms:
            return SpikeTerms(**TERMS | {"loss_pre": (0,), "loss_post": (0,), "gain_pre": (0, 1)})

    changes = []
    for update in ("presentation", "step"):
        # in double precision nothing is compiled, which would take half a minute
        layer = SilentSynapseLayer(N_PRE, N_POST, rule=Whole(), update=update).double()  # type: ignore[arg-type]
        layer.pair(PRE.double(), CURRENT.double())
        changes.append(layer.ampa)
    assert changes[0].max() > 0.05 and (changes[0] - changes[1]).abs().max() < 1e-5


# --- functions ------------------------------------------------------------------------------------


class Wrong(OwnFactors):
    """Factors of which one is changed."""

    changed: Any = None

    def factors(self, traces: Traces, seen: Signals, dt_ms: float) -> Any:
        f, traces = super().factors(traces, seen, dt_ms)
        made = self.changed(f)
        return (made, traces) if isinstance(made, type(f)) else made


def wrong(changed: Any) -> PairSTDP:
    return type("Wrong", (Wrong,), {"changed": staticmethod(changed)})()


FACTORS: dict[str, tuple[Any, str]] = {
    "one neuron": (lambda f: f._replace(gain_post=f.gain_post[:, :1]), "gain_post: expected shape"),
    "one image": (lambda f: f._replace(loss_post=f.loss_post[:1]), "loss_post: expected shape"),
    "one input": (lambda f: f._replace(gain_pre=f.gain_pre[:, :1]), "gain_pre: expected shape"),
    "no batch": (lambda f: f._replace(loss_pre=f.loss_pre[0]), "loss_pre: expected shape"),
    "more inputs": (lambda f: f._replace(gain_pre=f.gain_pre.repeat(1, 2)), "gain_pre: expected"),
    "a number": (lambda f: f._replace(gain_post=0.5), "gain_post: expected a torch tensor"),
    "float64": (lambda f: f._replace(gain_post=f.gain_post.double()), "gain_post: expected float"),
    "NaN": (lambda f: f._replace(gain_post=f.gain_post * math.nan), "expected numbers .* NaN"),
    "a tuple": (lambda f: (tuple(f), ()), "expected Factors and the traces"),
    "nothing": (lambda f: None, "expected Factors and the traces"),
}  # fmt: skip


@pytest.mark.parametrize("where", ["compiled", "neuron of ones own", "torch", "presentation"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", FACTORS)
def test_factors_of_another_shape_reach_no_loop(
    name: str, gated: bool, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, message = FACTORS[name]
    rule = GatedSTDP(wrong(changed)) if gated else wrong(changed)
    if where == "torch":
        in_torch(monkeypatch)
    own: Any = snntorch.Leaky(beta=0.9) if where == "neuron of ones own" else None
    update: Any = "presentation" if where == "presentation" else "step"
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=rule, update=update, neuron=own)
    before = layer.ampa.clone()
    with pytest.raises((TypeError, ValueError, NotFinite), match=message):
        layer.pair(PRE, CURRENT)
    assert torch.equal(layer.ampa, before)


class Slow(PairSTDP):
    names: Any = ("own",)
    first: Any = staticmethod(lambda pre: pre[0] * 0.0)

    @property
    def slow(self) -> Any:
        return self.names

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Any:
        return (self.first(pre), pre * 0.0, post * 0.0)

    def factors(self, traces: Traces, seen: Signals, dt_ms: float) -> Any:
        own, *fast = traces
        f, after = PairSTDP().factors(tuple(fast), seen, dt_ms)
        return f, (self.next(own), *after)

    @staticmethod
    def next(own: Tensor) -> Tensor:
        return own


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": "own"}, "Own.slow: expected a tuple of names, given 'own'"),
        ({"names": ("a.b",)}, "Own.slow: expected a tuple of names"),
        ({"names": (1,)}, "Own.slow: expected a tuple of names"),
        ({"names": tuple("abcd")}, "Own.slow: 4 names of 3 traces"),
        # a trace of this name is kept already, as one number
        ({"names": ("weight",)}, r"slow trace 'weight' of Own: expected shape \[\]"),
        ({"start": lambda *_: None}, "Own.start: expected a tuple of tensors, given None"),
        ({"start": lambda *_: (0.0,)}, "Own.start: expected a tuple of tensors"),
    ],
)
def test_slow_state_is_looked_at_when_a_layer_is_made(
    changed: dict[str, Any], message: str
) -> None:
    own = type("Own", (Slow,), changed)()
    with pytest.raises((TypeError, ValueError), match=message):
        SilentSynapseLayer(N_PRE, N_POST, rule=own)


@pytest.mark.parametrize("update", ["presentation", "step"])
@pytest.mark.parametrize(
    ("after", "message"),
    [
        (lambda own: own * math.nan, "slow trace 'own' of Own: expected numbers .* NaN"),
        (lambda own: own[:1], r"slow trace 'own' of Own: .* given shape \[1\]"),
    ],
)
def test_slow_state_stays_what_it_is(after: Any, message: str, update: Any) -> None:
    own = type("Own", (Slow,), {"next": staticmethod(after)})()
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=own, update=update)
    with pytest.raises((ValueError, NotFinite), match=message):
        layer.pair(PRE, CURRENT)
    assert torch.equal(layer.slow_own, torch.zeros(N_PRE))  # type: ignore[arg-type]


# --- in a configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
def test_a_rule_that_speeds_up_to_nothing_is_no_plasticity(gated: bool) -> None:
    """None is what a layer without plasticity has for a rule."""

    @register("hasty")
    @dataclass(frozen=True)
    class Hasty(PairSTDP):
        def sped_up(self, factor: float) -> Any:
            return None

    given = {"rule": "gated", "base": "hasty"} if gated else {"rule": "hasty"}
    with pytest.raises(ConfigError, match=r"snn.plasticity.speed: 1.0 does not fit Hasty .*None"):
        PlasticityConfig(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["pair", "gated", "triplet", "voltage", "calcium", "error"])
def test_a_speed_is_refused_by_its_own_name(rule: str) -> None:
    large: dict[str, Any] = {"a_plus": 1e3} if rule in ("pair", "gated", "error") else {}
    speed = 1e6 if rule != "calcium" else 1e-300
    if rule in ("triplet", "voltage"):
        from snn_artsy.rules import TripletSTDP, VoltageSTDP

        large = {"triplet": TripletSTDP(a2_plus=1e3)} if rule == "triplet" else {
            "voltage": VoltageSTDP(a_ltd=1e3)
        }  # fmt: skip
    with pytest.raises(ConfigError, match=r"^snn.plasticity.speed: "):
        PlasticityConfig(rule=rule, speed=speed, **large)


def test_a_speed_of_replay_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"^snn.replay.speed: 1000000.0 does not fit ErrorDriven"):
        RunConfig(snn={"plasticity": {"rule": "error", "a_plus": 1e3},
                       "replay": {"epochs": 1, "speed": 1e6}})  # type: ignore[arg-type]  # fmt: skip


MODULE = """
from dataclasses import dataclass
from snn_artsy.rules import PairSTDP

@dataclass(frozen=True)
class Breaks(PairSTDP):
    a_plus: float = 0.01
    def __post_init__(self):
        {}["nothing"]

@dataclass(frozen=True)
class Misfits(PairSTDP):
    def factors(self, traces, seen, dt_ms):
        f, traces = PairSTDP().factors(traces, seen, dt_ms)
        return f._replace(gain_post=f.gain_post[:, :1]), traces
    def start(self, pre, post, private=False):
        return pre * 0.0, post * 0.0
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Breaks", "snn-artsy: snn.plasticity.parameters: {} do not fit my_rules:Breaks ("),
        ("Misfits", "snn-artsy: snn.plasticity.rule: 'my_rules:Misfits' cannot be used ("),
    ],
)
def test_a_run_says_so_in_one_line_before_it_begins(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(MODULE)
    done = artsy(
        tmp_path, "run", "--learners", "artsy_snn", "--snn.plasticity.rule", f"my_rules:{name}",
        "--data.train_per_class", "6", "--out", "r",
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(said)
    assert not (tmp_path / "r").exists()
