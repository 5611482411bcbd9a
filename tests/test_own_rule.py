"""A rule that a user wrote, named as module:Class."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snn_artsy.checks import ConfigError
from snn_artsy.config import PlasticityConfig
from snn_artsy.rules import GatedSTDP, PairSTDP

# A module that is importable everywhere and whose class is a rule.
PAIR = "snn_artsy.rules.pair:PairSTDP"


def test_it_is_called_with_its_parameters() -> None:
    built = PlasticityConfig(rule=PAIR, parameters={"a_plus": 0.25}, speed=2.0).build()
    assert built == PairSTDP(a_plus=0.25).sped_up(2.0)
    gated = PlasticityConfig(rule="gated", base=PAIR, parameters={"a_plus": 0.25}).build()
    assert isinstance(gated, GatedSTDP) and gated.base == PairSTDP(a_plus=0.25)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "par"}, "snn.plasticity.rule: 'par' .*choose from gated, pair.*module:Class"),
        ({"base": "no_such_module:Rule"}, "no_such_module:Rule' cannot be imported .*PYTHONPATH"),
        ({"rule": "math:Rule"}, "'math:Rule' cannot be imported"),
        ({"rule": ":Rule"}, "':Rule' cannot be imported"),
        ({"rule": PAIR, "parameters": {"a_pluss": 1.0}}, "parameters: .*a_pluss.*do not fit"),
        ({"rule": "fractions:Fraction"}, "it has no noisy, start, rest, step"),
        ({"parameters": {"a_plus": 1.0}}, "parameters: .*rule of your own"),
        ({"rule": PAIR, "published": "song_2000"}, "published: .*rule of your own"),
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlasticityConfig(**given)  # type: ignore[arg-type]


MODULE = """
from dataclasses import dataclass
from snn_artsy.rules import PairSTDP

@dataclass(frozen=True)
class Mine(PairSTDP):
    a_minus: float = 0.0
"""


def test_from_the_command_line_and_a_file(tmp_path: Path) -> None:
    """The same numbers as the built-in rule that it equals."""
    (tmp_path / "my_rules.py").write_text(MODULE)
    (tmp_path / "my.yaml").write_text(
        "learners: [artsy_snn]\ndata: {train_per_class: 10}\nsnn:\n  plasticity:\n"
        "    rule: my_rules:Mine\n    parameters: {a_plus: 0.03}\n"
    )
    command = [sys.executable, "-m", "snn_artsy", "run"]
    root = str(Path(__file__).resolve().parents[1])
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{root}:{tmp_path}",
    }
    same = ["--learners", "artsy_snn", "--data.train_per_class", "10", "--snn.plasticity.rule",
            "pair", "--snn.plasticity.a_plus", "0.03", "--snn.plasticity.a_minus", "0"]  # fmt: skip
    own = ["--snn.plasticity.rule", "my_rules:Mine", *same[:4]]
    own += ["--snn.plasticity.parameters", '{"a_plus": 0.03}']
    found = []
    for k, arguments in enumerate((["--config", "my.yaml"], own, same)):
        done = subprocess.run(
            [*command, *arguments, "--out", f"run{k}"], cwd=tmp_path, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        from snn_artsy.recording import open_run

        with open_run(tmp_path / f"run{k}") as run:
            found.append(run.summary("artsy_snn")["a_last_spikes_only"])
    assert found[0] == found[1] == found[2]
    done = subprocess.run(
        [*command, "--snn.plasticity.rule", "my_rules:Other"], cwd=tmp_path, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "'my_rules:Other' cannot be imported" in done.stderr
