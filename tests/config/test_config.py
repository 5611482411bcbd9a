"""Typed configuration: what is built, and what every kind of mistake says."""

import pickle
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from snn_artsy.config import (
    ConfigError,
    DataConfig,
    EncodingConfig,
    JointConfig,
    PlasticityConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.config_builder import build, defaults_of, keys_of, type_of, unknown_key, wanted
from snn_artsy.config_sources import complete
from snn_artsy.registry import LEARNERS
from snn_artsy.rules import TripletSTDP

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@dataclass(frozen=True)
class Inner:
    tau: float = 20.0
    steps: int = 1

    def __post_init__(self) -> None:
        if self.tau <= 0:
            raise ConfigError("inner.tau", "cannot be used; use more than 0 ms", self.tau)


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    fast: Inner = field(default_factory=lambda: Inner(tau=2.0))
    extra: Inner | None = None
    mode: Literal["gate", "full"] = "full"
    names: list[str] = field(default_factory=list)
    pair: tuple[float, float] = (0.0, 1.0)
    name: str | None = None
    on: bool = False


def test_nothing_given_is_the_default() -> None:
    assert build(Outer, {}) == Outer()
    assert build(RunConfig, {}) == RunConfig()


def test_nested_values_are_built_and_converted() -> None:
    config = build(
        Outer,
        {"inner": {"tau": 3}, "extra": {}, "mode": "gate", "names": ["a"], "pair": [1, 2]},
    )
    assert config == Outer(
        inner=Inner(3.0), extra=Inner(), mode="gate", names=["a"], pair=(1.0, 2.0)
    )
    assert isinstance(config.inner.tau, float)
    assert isinstance(config.pair, tuple)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("inner.tau", "1e-3", 0.001),  # a text to YAML 1.1
        ("inner.tau", "-5e-1", ConfigError),
        ("inner.tau", "nan", ConfigError),
        ("inner.tau", "1e400", ConfigError),
        ("inner.steps", "+3", 3),
        ("inner.steps", "1e3", ConfigError),
        ("inner.steps", "٣", ConfigError),  # a digit, but nobody's configuration
        ("inner.steps", "9" * 5000, ConfigError),
        ("mode", "gate", "gate"),
        ("names", "a, b", ["a", "b"]),
        ("names", "[a, b]", ["a", "b"]),
        ("pair", "1e-1,2", (0.1, 2.0)),
        ("pair", "[[[1", ConfigError),
        ("name", "#1", "#1"),
        ("name", "1e-3", "1e-3"),
        ("name", "null", None),
        ("name", " ", ConfigError),
        ("name", "a\x00b", ConfigError),
        ("name", "a" * 5000, ConfigError),
        ("on", "True", True),
        ("on", "maybe", ConfigError),
    ],
)
def test_text_is_read_by_the_type_of_its_key(key: str, text: str, value: Any) -> None:
    section, _, last = key.rpartition(".")

    def tree(given: Any) -> dict[str, Any]:
        return {section: {last: given}} if section else {last: given}

    if value is ConfigError:
        with pytest.raises(ConfigError, match=key) as raised:
            build(Outer, tree(text))
        assert len(str(raised.value)) < 300
        return
    config = build(Outer, tree(text))
    assert config == build(Outer, tree(value))
    found = getattr(config.inner, last) if section else getattr(config, last)
    assert (found, type(found)) == (value, type(value))


def test_python_values_become_plain() -> None:
    """What a scientist naturally passes can be written to config.yaml."""
    config = RunConfig(
        seed=np.int64(7),  # type: ignore[arg-type]
        learners=("simplecil", np.str_("ease")),  # type: ignore[arg-type]
        out=Path("runs/x"),  # type: ignore[arg-type]
        controls=np.bool_(False),  # type: ignore[arg-type]
        data=DataConfig(class_order=np.arange(10)[::-1], train_share=np.float32(0.5)),  # type: ignore[arg-type]
        joint=JointConfig(l2=np.array([0.5, 1])),  # type: ignore[arg-type]
        snn=SNNConfig(
            plasticity=PlasticityConfig(
                rule="triplet",
                triplet=TripletSTDP(tau_x_ms=np.float64(50)),
                batch_size=np.int32(4),  # type: ignore[arg-type]
            )
        ),
    )
    assert config.learners == ["simplecil", "ease"] and config.out == "runs/x"
    assert config.data.class_order == list(range(9, -1, -1)) and config.joint.l2 == [0.5, 1.0]
    again = yaml.safe_load(yaml.safe_dump(asdict(config)))  # safe_dump takes plain values only
    assert build(RunConfig, again) == config


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: RunConfig(seed=1.5), "seed"),  # type: ignore[arg-type]
        (lambda: RunConfig(learners=[1]), "learners"),  # type: ignore[list-item]
        (lambda: RunConfig(snn=3), "snn"),  # type: ignore[arg-type]
        (lambda: DataConfig(train_share=float("nan")), "data.train_share"),
        (lambda: EncodingConfig(n_steps=np.float64(2.5)), "snn.encoding.n_steps"),  # type: ignore[arg-type]
        (lambda: EncodingConfig(dt_ms="fast"), "snn.encoding.dt_ms"),  # type: ignore[arg-type]
        (lambda: PlasticityConfig(triplet=object()), "snn.plasticity.triplet"),  # type: ignore[arg-type]
        (lambda: PlasticityConfig(nmda=2.0), "snn.plasticity.nmda"),
        (lambda: PlasticityConfig(rule="gated", a_minus=-1.0), "snn.plasticity.a_minus"),
    ],
)
def test_other_python_values_are_refused_when_the_object_is_built(
    make: Callable[[], Any], key: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        make()
    assert str(raised.value).startswith(f"{key}: ")


def test_errors_name_keys_that_exist() -> None:
    for tree, key in (
        ({"receptors": {"g_ampa_nS": -1}}, "snn.receptors.g_ampa_nS"),
        ({"plasticity": {"triplet": {"tau_x_ms": -1}}}, "snn.plasticity.triplet.tau_x_ms"),
        ({"plasticity": {"voltage": {"spike_ms": -1}}}, "snn.plasticity.voltage.spike_ms"),
        ({"plasticity": {"voltage": {"spike_ms": None}}}, "snn.plasticity.voltage.spike_ms"),
        ({"plasticity": {"calcium": {"tau_ms": -1}}}, "snn.plasticity.calcium.tau_ms"),
        ({"plasticity": {"nmda": 2}}, "snn.plasticity.nmda"),
        ({"plasticity": {"clamp_mV": 1e3}}, "snn.plasticity.clamp_mV"),
        ({"plasticity": {"depolarisation": "soma"}}, "snn.plasticity.depolarisation"),
        ({"plasticity": {"probability": 2}}, "snn.plasticity.probability"),
        (
            {"plasticity": {"insertion": "bernoulli", "base": "calcium"}},
            "snn.plasticity.insertion",
        ),
        ({"fidelity": "conductance", "neuron": {"model": "synaptic"}}, "snn.neuron.model"),
    ):
        with pytest.raises(ConfigError) as raised:
            build(RunConfig, {"snn": tree})
        assert str(raised.value).startswith(f"{key}: ") and key in keys_of(RunConfig)


def test_nested_checks_run() -> None:
    with pytest.raises(ConfigError, match=r"inner\.tau: -1\.0 cannot be used"):
        build(Outer, {"inner": {"tau": -1}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"tua": 1}}, "inner.tua: unknown key (value 1); did you mean inner.tau?"),
        ({"inner": 3}, "inner: 3 cannot be used; give a section with some of tau, steps"),
        ({"inner": None}, "inner: None cannot be used; give a section with some of tau, steps"),
        ({"inner": {"tau": "x"}}, "inner.tau: 'x' cannot be used; give a number"),
        ({"inner": {"steps": 1.5}}, "inner.steps: 1.5 cannot be used; give an integer"),
        ({"inner": {"steps": True}}, "inner.steps: True cannot be used; give an integer"),
        ({"mode": "both"}, "mode: 'both' cannot be used; give one of gate, full"),
        ({"names": 5}, "names: 5 cannot be used; give a list of names, such as [a, b]"),
        ({"names": [1]}, "names: 1 cannot be used; give a text"),
        ({"pair": [1]}, "pair: [1] cannot be used; give 2 values"),
        ({"name": 5}, "name: 5 cannot be used; give a text or null"),
        ({"on": 1}, "on: 1 cannot be used; give true or false"),
    ],
)
def test_mistakes_name_key_value_and_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(Outer, values)
    assert str(raised.value) == message


def test_defaults_are_the_declared_ones() -> None:
    values = defaults_of(Outer)
    assert values["inner"] == {"tau": 20.0, "steps": 1}
    assert values["fast"] == {"tau": 2.0, "steps": 1}
    assert build(Outer, values) == Outer()
    # An instance fills in n_tasks; as a default it would clash with a given data.increment.
    assert defaults_of(RunConfig)["data"]["n_tasks"] is None
    assert RunConfig().data.n_tasks == 5


def test_keys_and_types() -> None:
    assert {"inner", "inner.tau", "extra.steps", "mode"} <= set(keys_of(Outer))
    assert wanted(type_of(Outer, "extra.steps")) == "an integer"
    assert type_of(Outer, "inner.nope") is None
    assert type_of(Outer, "mode.nope") is None


def test_suggestions() -> None:
    keys = ["seed", "data.increment", "backbone.name"]
    assert unknown_key("sead", 1, keys).reason.endswith("did you mean seed?")
    assert unknown_key("increment", 1, keys).reason.endswith("did you mean data.increment?")
    assert str(unknown_key("zzz", 1, keys)) == "zzz: unknown key (value 1); see --help"


def test_a_configuration_survives_yaml() -> None:
    config = build(RunConfig, {"seed": 7, "learners": ["simplecil"], "data": {"increment": 2}})
    assert build(RunConfig, yaml.safe_load(yaml.safe_dump(asdict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed: -1 cannot be used"),
        ({"learners": []}, f"choose from {', '.join(LEARNERS)}"),
        ({"learners": ["ewc"]}, "learners: 'ewc' cannot be used"),
        ({"learners": ["simplecil", "simplecil"]}, "name each learner once"),
        ({"data": {"n_tasks": 2, "increment": 5}}, "data.n_tasks: 2 cannot be used"),
        ({"data": {"validation_share": 1.5}}, "data.validation_share: 1.5 cannot be used"),
        ({"backbone": {"batch_size": 0}}, "backbone.batch_size: 0 cannot be used"),
        (
            {"learners": ["artsy_best"], "artsy_best": {"grid": 4}},
            "artsy_best.grid: 4 cannot be used; its means over parts of the image are made with "
            "ann.placement blocks",
        ),
    ],
)
def test_checks_of_a_run(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(RunConfig, values)
    assert message in str(raised.value)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_experiments_are_valid(path: Path) -> None:
    config = build(RunConfig, complete(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert config.seed == 1993
    sources = config.data.sources or [config.data]
    assert {source.name for source in sources} <= {"imagefolder", "digits"}


def test_published_parameter_sets_are_chosen_by_name() -> None:
    from snn_artsy.rules import CalciumRule, GatedSTDP, PairSTDP, VoltageSTDP

    assert PlasticityConfig(rule="pair", published="song_2000").build() == PairSTDP()
    gated = PlasticityConfig(base="pair", published="morrison_2007").build()
    assert isinstance(gated, GatedSTDP)
    assert gated.base == PairSTDP(**PairSTDP.PUBLISHED["morrison_2007"])  # type: ignore[arg-type]
    calcium = PlasticityConfig(rule="calcium", published="DPD").build()
    assert isinstance(calcium, CalciumRule) and calcium.gamma_d == 250.0
    voltage = PlasticityConfig(rule="voltage", published="visual_cortex").build()
    assert isinstance(voltage, VoltageSTDP)
    assert (voltage.delay_ms, voltage.spike_ms) == (4.0, 2.0)  # no neuron here has an upstroke
    with pytest.raises(ConfigError, match=r"published: 'song_2001'.*song_2000, morrison_2007"):
        PlasticityConfig(rule="pair", published="song_2001")
    with pytest.raises(ConfigError, match="batch_reduction"):
        PlasticityConfig(insertion="bernoulli", batch_reduction="mean")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rule": "calcium"}, "for 5 s, and the calcium rule changes them within 0.287 s"),
        ({"rule": "gated", "base": "calcium", "speed": 0.1}, "for 5 s, .* within 2.87 s"),
        ({"rule": "calcium", "speed": 0.001}, None),
        ({"rule": "calcium", "update": "step"}, None),
        ({"rule": "gated"}, None),
    ],
)
def test_a_coarse_update_is_said(values: dict[str, Any], said: str | None) -> None:
    found = build(RunConfig, {"snn": {"plasticity": values}}).snn.coarse_update()
    assert (found is None) == (said is None)
    assert found is None or re.search(said or "", found)


@pytest.mark.parametrize("rule", ["voltage", "calcium"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_delay_that_steps_would_lose_is_refused(rule: str, gated: bool) -> None:
    """Before features are extracted; half a step of the default's 5 ms is lost, more is not."""
    chosen: dict[str, Any] = {"rule": "gated", "base": rule} if gated else {"rule": rule}

    def late(delay_ms: float) -> RunConfig:
        values = {**chosen, rule: {"delay_ms": delay_ms}}
        return build(RunConfig, {"snn": {"plasticity": values}})

    with pytest.raises(ConfigError) as caught:
        late(2.4)
    assert str(caught.value) == (
        f"snn.plasticity.{rule}.delay_ms: 2.4 cannot be used; it would be lost in steps of 5 ms: "
        "use a shorter dt_ms, or no delay (0)"
    )
    late(2.6)
    late(0.0)
    build(RunConfig, {"snn": {"plasticity": {rule: {"delay_ms": 2.4}}}})  # another rule runs


@pytest.mark.parametrize(
    ("values", "key", "value", "text"),
    [
        ({"seed": -1}, "seed", -1, "seed: -1 cannot be used; use 0 to 2147483647"),
        ({"snn": {"plasticity": {"tau_plus_ms": -2.0}}}, "snn.plasticity.tau_plus_ms", -2.0, None),
        ({"snn": {"contacts": {"theta_up": "a"}}}, "snn.contacts.theta_up", "a", None),
        ({"learners": ["nobody"]}, "learners", ..., None),
    ],
)
def test_an_error_is_a_record(
    values: dict[str, Any], key: str, value: object, text: str | None
) -> None:
    """Key, value and reason are data; the text is made of them, in another process too."""
    with pytest.raises(ConfigError) as caught:
        build(RunConfig, values)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.key, error.value) == (key, value)
    assert error.reason and str(error) == str(caught.value)
    assert str(error).startswith(f"{key}: ") and str(error).endswith(error.reason)
    if text is not None:
        assert str(error) == text


def test_replay_needs_something_to_replay() -> None:
    error = {"plasticity": {"rule": "error"}, "replay": {"epochs": 1}}
    for replay in ("gaussian", "exemplars"):
        build(RunConfig, {"snn": error, "gate": {"replay": replay}})
    with pytest.raises(ConfigError, match=r"^snn\.replay\.epochs: 1 .* gate\.replay is none"):
        build(RunConfig, {"snn": error, "gate": {"replay": "none"}})
