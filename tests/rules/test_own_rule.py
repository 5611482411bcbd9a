"""A rule that a user wrote: known by module:Class, and imported only where the user names it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import h5py
import pytest
from processes import artsy, quick_environment

from snn_artsy.checks import ConfigError
from snn_artsy.config import PlasticityConfig
from snn_artsy.registry import RULES
from snn_artsy.rules import GatedSTDP, PairSTDP, register
from snn_artsy.yaml_file import read_mapping, yaml_text

PAIR = "snn_artsy.rules.pair:PairSTDP"


def test_it_is_called_with_its_parameters() -> None:
    assert register("mine")(PairSTDP) is PairSTDP
    for name in (PAIR, "mine"):
        built = PlasticityConfig(rule=name, parameters={"a_plus": 0.25}, speed=2.0).build()
        assert built == PairSTDP(a_plus=0.25).sped_up(2.0)
    gated = PlasticityConfig(rule="gated", base=PAIR, parameters={"a_plus": 0.25}).build()
    assert isinstance(gated, GatedSTDP) and gated.base == PairSTDP(a_plus=0.25)


@pytest.mark.parametrize("given", [{"rule": PAIR}, {"base": PAIR}])
def test_a_configuration_imports_nothing(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"'{PAIR}' is not loaded.*--own {PAIR}"):
        PlasticityConfig(**given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'this:s' is not loaded"):
        PlasticityConfig(rule="this:s")
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "par"}, "snn.plasticity.rule: 'par' .*choose from gated, pair.*module:Name"),
        ({"rule": PAIR, "parameters": {"a_pluss": 1.0}}, "parameters: .*a_pluss.*do not fit"),
        ({"parameters": {"a_plus": 1.0}}, "parameters: .*rule of your own"),
        (
            {"rule": PAIR, "published": "song_2000"},
            "published: .*PairSTDP has no published set.* leave it out",
        ),
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, object], message: str) -> None:
    register("mine")(PairSTDP)
    with pytest.raises(ConfigError, match=message):
        PlasticityConfig(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Rule", r"'no_such_module:Rule' cannot be imported .*PYTHONPATH"),
        ("math:Rule", "'math:Rule' cannot be imported"),
        (":Rule", "give module:Name"),
        ("math:", "give module:Name"),
        ("math", "give module:Name"),
        (".pair:PairSTDP", "cannot be imported"),
        ("os:system", "'os:system' is no class"),
        ("fractions:Fraction", "is no rule, it has no noisy, start, step"),
    ],
)
def test_only_a_rules_class_is_loaded(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RULES.load(name)
    assert RULES.origin(name) == "" and name not in RULES


def test_what_is_registered_is_checked() -> None:
    with pytest.raises(ConfigError, match="is no rule"):
        register("mine")(int)
    with pytest.raises(ConfigError, match="is no class"):
        register("mine")(PairSTDP())


def test_an_installed_package_needs_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str) -> list[metadata.EntryPoint]:
        assert group == "snn_artsy.rules"
        return [metadata.EntryPoint("theirs", PAIR, group)]

    monkeypatch.setattr(RULES, "_points", None)
    monkeypatch.setattr("snn_artsy.registry.entry_points", installed)
    assert "theirs" in list(RULES)
    assert PlasticityConfig(rule=PAIR).build() == PairSTDP()
    assert PlasticityConfig(rule="theirs").build() == PairSTDP()
    assert list(RULES).count("theirs") == 1
    with pytest.raises(ConfigError, match="not loaded"):
        PlasticityConfig(rule="snn_artsy.rules.triplet:TripletSTDP")


MODULE = """
import os
from dataclasses import dataclass
from snn_artsy.rules import PairSTDP

open("was_imported", "w").close()

@dataclass(frozen=True)
class Mine(PairSTDP):
    a_minus: float = 0.0
"""


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user gives it, `processes.artsy` without the short cut."""
    return subprocess.run(
        [sys.executable, "-m", "snn_artsy", *arguments], cwd=folder,
        env=quick_environment(folder, HOME=str(folder)), capture_output=True, text=True,
    )  # fmt: skip


def imported(folder: Path) -> bool:
    """Whether the module was imported since the last question."""
    mark = folder / "was_imported"
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


def test_from_the_command_line_and_a_file(tmp_path: Path) -> None:
    """The same numbers as the built-in rule that it equals."""
    from snn_artsy.recording import open_run

    (tmp_path / "my_rules.py").write_text(MODULE)
    (tmp_path / "my.yaml").write_text(
        "learners: [artsy_snn]\ndata: {train_per_class: 10, class_range: [0, 4], n_tasks: 2}\n"
        "snn:\n  plasticity:\n"
        "    rule: my_rules:Mine\n    parameters: {a_plus: 0.03}\n"
    )
    small = ["--learners", "artsy_snn", "--data.train_per_class", "10"]
    small += ["--data.class_range", "[0, 4]", "--data.n_tasks", "2"]
    same = [*small, "--snn.plasticity.rule", "pair", "--snn.plasticity.a_plus", "0.03"]
    same += ["--snn.plasticity.a_minus", "0"]
    typed = ["--snn.plasticity.rule", "my_rules:Mine", *small]
    typed += ["--snn.plasticity.parameters", '{"a_plus": 0.03}']
    file = ["--config", "my.yaml"]
    found = []
    for k, arguments in enumerate(([*file, "--own", "my_rules:Mine"], typed, same)):
        start = artsy if k else call
        done = start(tmp_path, "run", *arguments, "--out", f"run{k}")
        assert done.returncode == 0, done.stderr
        assert imported(tmp_path) == (k < 2)
        with open_run(tmp_path / f"run{k}") as run:
            found.append(run.summary("artsy_snn")["a_last_spikes_only"])
    assert found[0] == found[1] == found[2]

    for command in ("run", "compare"):
        done = artsy(tmp_path, command, *file, "--out", command)
        assert done.returncode == 2 and "--own my_rules:Mine" in done.stderr
        assert not imported(tmp_path) and not (tmp_path / command).exists()
    done = artsy(tmp_path, "run", "--snn.plasticity.rule", "my_rules:Other")
    assert done.returncode == 2 and "'my_rules:Other' cannot be imported" in done.stderr
    imported(tmp_path)

    _hand_on(tmp_path / "run0", "my_rules:Mine", {"a_plus": 0.03})
    for command in (["resume", "run0"], ["protocol", "lesion", "--run", "run0", "--out", "p"]):
        done = artsy(tmp_path, *command)
        assert done.returncode == 2 and "--own my_rules:Mine" in done.stderr, done.stderr
        assert not imported(tmp_path)
    for command in ("info", "report", "plot"):
        done = artsy(tmp_path, command, "run0")
        assert done.returncode == 0, done.stderr
        assert not imported(tmp_path)
    done = artsy(tmp_path, "resume", "run0", "--own_rules", "my_rules:Mine")
    assert "is not loaded" not in done.stderr and imported(tmp_path)


def _hand_on(run: Path, rule: str, parameters: dict[str, object]) -> None:
    """What somebody else might send: an interrupted run that names a rule."""
    config = read_mapping(run / "config.yaml", "config", "")
    config["snn"]["plasticity"] |= {"rule": rule, "parameters": parameters}
    text = yaml_text(config)
    (run / "config.yaml").write_text(text)
    with h5py.File(run / "run.h5", "r+") as file:
        file.attrs["status"], file.attrs["config"] = "interrupted", text
    (run / "run.h5.sha256").unlink()


@pytest.mark.slow
def test_workers_of_a_sweep_get_the_names(tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(MODULE)
    done = call(
        tmp_path, "sweep", "--learners", "artsy_snn", "--data.train_per_class", "6", "--workers",
        "1", "--grid", "snn.plasticity.rule=my_rules:Mine,pair", "--out", "swept",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(list((tmp_path / "swept" / "runs").iterdir())) == 2
