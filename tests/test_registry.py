"""What can be chosen by name, how something is added, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import record

from snn_artsy import cli, protocols, registry
from snn_artsy.checks import ConfigError
from snn_artsy.commands.own import load_own
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build, keys_of
from snn_artsy.files import file_sha256
from snn_artsy.learners import Batch, Learner, Prediction, Setting, Task, register
from snn_artsy.learners import build as build_learner
from snn_artsy.plots.style import learner_name
from snn_artsy.registry import (
    DATA,
    ENCODERS,
    FIGURES,
    KINDS,
    LEARNERS,
    NEURONS,
    PROTOCOLS,
    RULES,
    Registry,
)
from snn_artsy.rules import PairSTDP
from snn_artsy.runs.facts import Facts, added, config_differences


@dataclass(frozen=True)
class Options:
    """Mine.

    Args:
        lr: A rate.
    """

    lr: float = 0.5

    def __post_init__(self) -> None:
        if self.lr > 1:
            raise ValueError("lr: use 1 or less")


class Mine(Learner):
    def learn(self, task: Task) -> None: ...

    def predict(self, batch: Batch) -> Prediction:
        return Prediction(batch.features)


def add(name: str = "mine", options: type | None = Options) -> None:
    register(name, config=options, label="My own")(Mine)


@pytest.mark.parametrize(("registry", "name"), [(r, n) for r in KINDS.values() for n in r])
def test_all_that_the_package_brings_is_there(registry: Registry, name: str) -> None:
    assert callable(registry[name])
    assert registry.origin(name) == "" and registry.name_of(name) == name


def test_names_of_each_kind() -> None:
    assert list(KINDS) == [
        "learners", "data", "rules", "encoders", "neurons", "protocols", "figures"
    ]  # fmt: skip
    assert [len(r) for r in KINDS.values()] == [23, 13, 7, 4, 2, 19, 22]
    rules = ["gated", "pair", "triplet", "voltage", "calcium", "error", "filopodium_spine"]
    assert list(RULES) == rules
    assert "stdp-window" in PROTOCOLS and "stdp_window" in FIGURES and "cifar100" in DATA
    with pytest.raises(KeyError):
        LEARNERS["mine"]


# --- what is added --------------------------------------------------------------------------------


def test_a_learner_is_built_with_its_own_options() -> None:
    add()
    config = build(RunConfig, {"learners": ["mine"], "mine": {"lr": "0.25"}})
    learner = build_learner("mine", Setting(config, 5, "cpu"))
    assert isinstance(learner, Mine) and learner.setting.dim == 5
    assert learner.setting.options == Options(0.25)
    assert learner_name("mine") == "My own" and learner_name("yours_too") == "yours too"


def test_its_options_are_keys_of_the_runs_that_it_takes_part_in() -> None:
    before = RunConfig()
    add()
    assert "mine.lr" in keys_of(RunConfig)
    assert "mine" not in vars(RunConfig()) and RunConfig() == before
    assert RunConfig(learners=["mine"]) == RunConfig(learners=["mine"], mine=Options())  # type: ignore[call-arg]
    assert vars(RunConfig(learners=["ease", "mine"]))["mine"] == Options()
    with pytest.raises(ConfigError, match=r"mine.lr: 'x' cannot be used; give a number"):
        build(RunConfig, {"mine": {"lr": "x"}})
    with pytest.raises(ConfigError, match=r"mine.lrr: unknown key .*did you mean mine.lr\?"):
        build(RunConfig, {"mine": {"lrr": 1.0}})
    with pytest.raises(ConfigError, match=r"^mine.lr: use 1 or less$"):
        build(RunConfig, {"mine": {"lr": 2.0}})


def test_options_that_do_nothing_are_refused_when_typed() -> None:
    add()
    config = build(RunConfig, {"learners": ["ease"], "mine": {"lr": 0.25}})
    check_used(config)  # a file may hold options of learners that do not take part
    with pytest.raises(ConfigError, match=r"mine.lr: 0.25 does nothing here, .* by mine"):
        check_used(config, ["mine.lr"])
    check_used(build(RunConfig, {"learners": ["mine"], "mine": {"lr": 0.25}}), ["mine.lr"])


def test_options_of_a_learner_that_takes_no_part_are_no_difference() -> None:
    add()
    one, two = {"learners": ["ease"]}, {"learners": ["ease"], "mine": {"lr": 0.25}}
    assert config_differences(one, two) == []
    (found,) = config_differences(
        {"learners": ["mine"], "mine": {"lr": 0.5}}, {"learners": ["mine"], "mine": {"lr": 0.25}}
    )
    assert found == "mine.lr was 0.5 and is 0.25"


def test_a_cell_of_a_notebook_may_run_again_and_other_names_are_taken() -> None:
    add()
    add()
    with pytest.raises(ConfigError, match=r"'simplecil' is taken \(part of snn_artsy\)"):
        add("simplecil")
    with pytest.raises(ConfigError, match=r"'mine' is taken \(.*test_registry:Mine\)"):
        register("mine")(type("Other", (Mine,), {}))
    assert sum(name == "mine" for name in LEARNERS) == 1


@pytest.mark.parametrize("name", ["data", "seed", "snn", "grid", "a b", "", "a:b", "../x", "1a"])
def test_names_that_cannot_be_used(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be registered"):
        add(name)


def test_options_need_defaults() -> None:
    @dataclass
    class Needs:
        lr: float

    with pytest.raises(ConfigError, match=r"mine: Needs .*give every one of them a default"):
        add(options=Needs)
    with pytest.raises(ConfigError, match="no dataclass"):
        add(options=int)


@pytest.mark.parametrize("wrong", [print, Options, "mine"])
def test_only_a_learner_is_one(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"is no class|is no learner, it has no learn, predict"):
        register("mine")(wrong)
    with pytest.raises(ConfigError, match="cannot be called"):
        FIGURES.register("mine")(3)
    with pytest.raises(ConfigError, match="register takes a name"):
        register(Mine)  # type: ignore[arg-type]
    half = type("Half", (Learner,), {"learn": Mine.learn})
    with pytest.raises(ConfigError, match="is no learner, it has no predict;"):
        register("mine")(half)
    for reserved, name in ((RULES, "none"), (PROTOCOLS, "all")):
        with pytest.raises(ConfigError, match="cannot be registered"):
            reserved.register(name)(print)
    assert "mine" not in LEARNERS and "mine" not in FIGURES


def test_a_code_and_a_neuron_of_ones_own_are_used() -> None:
    """A code of one spike in the first step, and a neuron that is never driven over threshold."""
    import snntorch
    import torch

    from snn_artsy.config import EncodingConfig, NeuronConfig, TeacherConfig
    from snn_artsy.synapses import SilentSynapseLayer, SpikeEncoder, make_schedule

    @ENCODERS.register("first")
    def first(shown: Any) -> torch.Tensor:
        spikes = torch.zeros(len(shown.on), *shown.drive.shape)
        spikes[0] = (shown.drive > 0).float()
        return spikes

    @NEURONS.register("deaf")
    def deaf(neuron: NeuronConfig, dt_ms: float, threshold: torch.Tensor) -> Any:
        return snntorch.Leaky(beta=0.5, threshold=1e3 + threshold, reset_mechanism="none")

    config = EncodingConfig(code="first")
    encoder = SpikeEncoder(config, make_schedule(config, TeacherConfig()))
    spikes = encoder(torch.ones(2, 3), 7, 0, torch.arange(2))
    assert spikes[0].tolist() == 2 * [[1, 1, 1, 0, 0, 0]] and spikes[1:].sum() == 0
    pre, current = torch.zeros(9, 1, 4), torch.full((9, 1, 2), 1.5)
    for model, fires in (("leaky", True), ("deaf", False)):
        layer = SilentSynapseLayer(4, 2, 1.0, neuron=NeuronConfig(model=model))
        assert bool(layer(pre, teacher=current).any()) == fires
    with pytest.raises(ConfigError, match=r"code: 'x' cannot be used; choose from .*, first"):
        EncodingConfig(code="x")


# --- module:Name ----------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that Python finds, with one learner that it registers and one that it does not."""
    (tmp_path / "a_learner_of_mine.py").write_text(
        "import snn_artsy as sa\n\n"
        "class Plain(sa.learners.Learner):\n"
        "    def learn(self, task): ...\n"
        "    def predict(self, batch): ...\n\n"
        "@sa.learners.register('called')\n"
        "class Named(Plain): ...\n\n"
        "@sa.plots.register('drawn')\n"
        "def figure(run):\n"
        "    'Drawn by hand.'\n"
        "    from matplotlib.figure import Figure\n"
        "    return Figure(figsize=(1, 1))\n\n"
        "@sa.protocols.register('measured', label='what I measure')\n"
        "def protocol(setting):\n"
        "    check = sa.protocols.Check('one', 1.0, 1.0, 0.0, 'here')\n"
        "    return sa.protocols.Outcome('measured', (check,), {}, figure(None))\n\n"
        "def other(run): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_learner_of_mine", raising=False)
    return "a_learner_of_mine"


def test_a_name_in_a_configuration_imports_nothing(module: str) -> None:
    text = f"'{module}:Named' is not loaded, because .*--own {module}:Named"
    with pytest.raises(ConfigError, match=f"learners: {text}"):
        RunConfig(learners=[f"{module}:Named"])
    with pytest.raises(ConfigError, match=f"learners: {text}"):  # rather than its options
        build(RunConfig, {"learners": f"{module}:Named", "called": {"lr": 1}})
    with pytest.raises(ConfigError, match=r"data.name: 'this:s' is not loaded"):
        from snn_artsy.data import load_source

        load_source(DataConfig(name="this:s"))
    assert module not in sys.modules and "this" not in sys.modules
    with pytest.raises(ConfigError, match="learners: 'called' cannot be used; choose from simple"):
        RunConfig(learners=["called"])


def test_what_is_named_is_known_by_the_name_that_it_registers(module: str) -> None:
    assert LEARNERS.load(f"{module}:Named") == "called"
    assert RunConfig(learners=[f"{module}:Named", "ease"]).learners == ["called", "ease"]
    assert LEARNERS.load(f"{module}:Plain") == f"{module}:Plain"
    assert RunConfig(learners=[f"{module}:Plain"]).learners == [f"{module}:Plain"]
    with pytest.raises(ConfigError, match="once"):
        RunConfig(learners=[f"{module}:Named", "called"])
    assert LEARNERS.origin("called") == f"{module}:Named" and LEARNERS.origin("ease") == ""


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--learners", "ease,no_such:x"], "learners"),
        (["--learners=no_such:x"], "learners"),
        (["--data.name", "no_such:x"], "data"),
        (["--snn.plasticity.rule", "no_such:x"], "rules"),
        (["--snn.plasticity.base", "no_such:x"], "rules"),
        (["--snn.encoding.code", "no_such:x"], "encoders"),
        (["--snn.neuron.model", "no_such:x"], "neurons"),
        (["--grid", "seed=1,2;learners=[ease],[no_such:x]"], "learners"),
        (["--own", "no_such:x"], "own"),
        (["--own_rules", "no_such:x"], "own"),
    ],
)
def test_what_is_typed_is_imported(words: list[str], kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^{kind}: 'no_such:x' cannot be imported"):
        load_own(words)


def test_nothing_else_that_is_typed_is_imported() -> None:
    words = ["--data.root", "this:s", "--out", "this:s", "this:s", "--backbone.name", "this:s"]
    assert load_own(words) == words and "this" not in sys.modules
    assert load_own(["--own_rules=", "--own_rules", ""]) == ["--own=", "--own", ""]


def test_a_run_depends_on_the_files_of_all_that_was_added() -> None:
    add()
    for each in (DATA, ENCODERS, NEURONS):
        each.register("mine")(add)
    RULES.register("mine")(PairSTDP)
    snn = {
        "encoding": {"code": "mine"},
        "neuron": {"model": "mine"},
        "plasticity": {"rule": "mine"},
    }
    values = {"learners": ["ease", "mine"], "data": {"name": "mine"}, "snn": snn}
    assert added(RunConfig()) == []
    assert sorted(r.kind for r, name in added(build(RunConfig, values)) if name == "mine") == [
        "data", "encoders", "learners", "neurons", "rules"
    ]  # fmt: skip
    facts = Facts.gather(build(RunConfig, values), {}, "", "cpu", 1)
    own = {k: v for k, v in facts.versions.items() if k.endswith(" mine")}
    assert set(own) == {"learner mine", "data source mine", "code mine", "neuron mine", "rule mine"}
    assert own["learner mine"] == own["code mine"] == file_sha256(Path(__file__))
    assert not [k for k in facts.of_config(RunConfig()).versions if k.endswith(" mine")]


def test_of_whatever_kind(module: str) -> None:
    registry.load(f"{module}:figure")
    assert "drawn" in FIGURES
    registry.load(f"{module}:Plain")
    assert f"{module}:Plain" in LEARNERS
    with pytest.raises(ConfigError, match=f"own: '{module}:other' is no learner and no rule"):
        registry.load(f"{module}:other")
    with pytest.raises(ConfigError, match="own: 'no_such:x' cannot be imported"):
        registry.load("no_such:x")


def test_a_figure_and_a_protocol_take_part(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def code(*arguments: str) -> int | str | None:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return ended.value.code

    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    record(tmp_path / "run")
    assert code("plot", "run", "drawn") == 2
    assert code("plot", "run", f"{module}:figure", "--out", "drawn") == 0
    assert [path.name for path in Path("drawn").iterdir()] == ["drawn.png"]
    assert code("report", "run", "--own", f"{module}:figure", "--out", "page.html") == 0
    assert "Drawn by hand." in Path("page.html").read_text("utf-8")
    assert code("protocol", f"{module}:protocol", "--out", "measured") == 0
    assert {"measured.h5", "measured.png"} <= {path.name for path in Path("measured").iterdir()}
    assert protocols.run("measured").checks[0].passed
    with pytest.raises(ConfigError, match="protocol: 'other' cannot be used; choose from stdp-win"):
        protocols.run("other")


def test_an_installed_package_is_imported_when_it_is_asked_for(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(group: str) -> list[metadata.EntryPoint]:
        of = {"snn_artsy.learners": [("theirs", f"{module}:Plain"), ("broken", "no_such:x")]}
        return [metadata.EntryPoint(*each, group) for each in of.get(group, [])]

    monkeypatch.setattr(registry, "entry_points", installed)
    for each in KINDS.values():
        monkeypatch.setattr(each, "_points", None)
    assert list(LEARNERS)[-2:] == ["theirs", "broken"]
    RunConfig(learners=["ease"])
    assert module not in sys.modules
    assert RunConfig(learners=["theirs"]).learners == ["theirs"] and module in sys.modules
    assert "ease" in keys_of(RunConfig)  # the broken one is in nobody's way
    with pytest.raises(ConfigError, match="'no_such:x' cannot be imported"):
        RunConfig(learners=["broken"])


def test_what_is_added_gives_what_its_kind_does(tmp_path: Path) -> None:
    """Functions of somebody else's that give nothing, or labels without a class."""
    import numpy as np
    from rich.console import Console

    from snn_artsy.config import DataConfig
    from snn_artsy.data import ArraySplit, ImageSource, load_source
    from snn_artsy.plots import save_figures
    from snn_artsy.protocols import Session
    from snn_artsy.protocols.run_all import run_protocols

    @DATA.register("mine")
    def mine(config: DataConfig) -> Any:
        return sources.pop()

    split = ArraySplit(np.zeros((4, 8, 8), np.uint8), np.arange(4))
    names = tuple("abcd")
    negative = ArraySplit(np.zeros((4, 8, 8), np.uint8), np.arange(-1, 3))
    sources: list[Any] = [None, ImageSource("mine", names[:3], split, split)]
    sources += [
        ImageSource("mine", names, split, negative),
        ImageSource("mine", names, split, split),
    ]
    assert load_source(DataConfig(name="mine")).class_names == names
    for message in ("labels from -1 to 2 for 4", "labels from 0 to 3 for 3 class", "a NoneType;"):
        with pytest.raises(ConfigError, match=f"^data.name: 'mine' .*{message}"):
            load_source(DataConfig(name="mine"))
    FIGURES.register("mine")(lambda run: None)
    failed: dict[str, str] = {}
    assert save_figures(None, tmp_path, names=["mine"], failed=failed) == []  # type: ignore[arg-type]
    assert failed == {"mine": "TypeError: expected a matplotlib Figure, given NoneType"}
    PROTOCOLS.register("mine")(lambda session: None)
    with pytest.raises(TypeError, match="protocol mine: expected an Outcome, given NoneType"):
        run_protocols(["mine"], Session(), tmp_path, Console(quiet=True), go_on=False)
    assert list(tmp_path.iterdir()) == []
