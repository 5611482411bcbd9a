"""``import snn_artsy as sa``: what it offers, when it is imported, and what it gives back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import snn_artsy as sa
from snn_artsy.api import configured
from snn_artsy.checks import ConfigError
from snn_artsy.registry import KINDS

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"learners": ["simplecil"], "data": {"train_per_class": 8, "test_per_class": 5}}


def loaded(code: str) -> set[str]:
    """Large packages that are imported after ``code``."""
    show = "import sys; print(*{'torch', 'matplotlib', 'snntorch', 'timm'} & {*sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{show}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_nothing_is_imported_before_it_is_used() -> None:
    assert loaded("import snn_artsy") == set()
    names = "sa.open_run, sa.RunConfig, sa.run, sa.resume, sa.compare, sa.metrics, sa.rules"
    listed = "dir(sa), [sa.available(k) for k in ('learners', 'data', 'figures')]"
    assert loaded(f"import snn_artsy as sa\n{names}, sa.protocols, {listed}") == set()
    assert loaded("import snn_artsy as sa\nsa.plots.conversion_counts") == {"matplotlib"}
    assert "torch" in loaded("import snn_artsy as sa\nsa.SilentSynapseLayer, sa.SpikeEncoder")


def test_all_names_are_there_for_editors_and_type_checkers() -> None:
    names = {n for n in sa.__all__ if n != "__version__"}
    assert names <= set(dir(sa))
    for name in names:
        assert getattr(sa, name) is not None
    source = (ROOT / "snn_artsy" / "__init__.py").read_text("utf-8")
    assert set(re.findall(r"^    from \S+ import \w+ as (\w+)$", source, re.M)) == names
    with pytest.raises(AttributeError, match="'snn_artsy' has no attribute 'runn'"):
        sa.runn  # noqa: B018


def test_what_is_available() -> None:
    assert sa.available("learners")[0] == "simplecil" and "digits" in sa.available("data")
    for kind in KINDS:
        assert sa.available(kind)
    with pytest.raises(ConfigError, match=r"kind: 'learner' .*choose from learners, data, rules"):
        sa.available("learner")


def test_a_run_and_what_it_gives(tmp_path: Path) -> None:
    result = sa.run(SMALL, seed=7, out=str(tmp_path / "run"))
    assert result.directory == tmp_path / "run" and result.summary["config"]["seed"] == 7
    with result.open() as run, sa.open_run(tmp_path / "run") as same:
        assert run.learners == same.learners == ("simplecil",)
    shown = result._repr_mimebundle_([], [])["text/plain"]
    assert "simplecil" in shown and "A_last" in shown
    assert len(repr(result)) < 300
    with pytest.raises(ConfigError, match="is complete"):
        sa.resume(tmp_path / "run")
    with pytest.raises(ConfigError, match="no trained artsy_snn"):
        sa.load_trained(tmp_path / "run")["artsy_snn"]
    with pytest.raises(ConfigError, match="run: no directory"):
        sa.resume(tmp_path / "no")


def test_a_comparison_and_what_it_gives(tmp_path: Path) -> None:
    found = sa.compare(
        learners=["simplecil", "ease"], ann={"epochs": 1}, data={"train_per_class": 8}, seeds=2,
        out=str(tmp_path / "compared"),
    )  # fmt: skip
    assert found.summary["seeds"] == [1993, 1994] and found.directory == tmp_path / "compared"
    shown = found._repr_mimebundle_([], [])["text/plain"]
    assert "simplecil - ease" in shown and "A_last" in shown
    assert found.summary["config"]["data"]["train_share"] == 0.9
    for seeds in (0, -1, 2**40, 2.5, "many", None, True):
        with pytest.raises(ConfigError, match=r"^seeds: "):
            sa.compare(seeds=seeds)  # type: ignore[arg-type]


def test_options_beat_what_is_given(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("seed: 5\ndata: {n_tasks: 2}\n")
    given = configured(file, {"data": {"base": 4, "increment": 2}, "ann.lr": 0.5})
    assert (given.seed, given.data.n_tasks, given.data.increment, given.ann.lr) == (5, None, 2, 0.5)
    assert configured(sa.RunConfig(seed=9), {"threads": 1}) == sa.RunConfig(seed=9, threads=1)
    assert configured() == sa.RunConfig()
    below = {"data.train_share": 0.9}
    assert configured({"data": {"train_share": 0.8}}, None, **below).data.train_share == 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lerners": ["ease"]}, r"lerners: unknown key .*did you mean learners\?"),
        ({"learners": ["eas"]}, "learners: 'eas' cannot be used; choose from simplecil"),
        ({"data": {"n_tasks": "x"}}, "data.n_tasks: 'x' cannot be used; give an integer"),
        ({"learners": ["joint"], "ease": {"alpha": 0.1}}, "ease.alpha: 0.1 does nothing here"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sa.run(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, "config: 3 cannot be used; give a RunConfig, a mapping"),
        ({"dta": {}}, "dta: unknown key .* did you mean data"),
        ({"data": {"n_task": {}}}, "data.n_task: unknown key"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sa.run(config)


def test_a_shown_result_names_what_failed(tmp_path: Path) -> None:
    """A notebook has no lines above the table."""
    result = sa.run(SMALL, out=str(tmp_path / "run"))
    result.summary["failed"] = {"ease": "ease, task 1: 3 of 4 numbers in w are NaN"}
    assert "failed: ease, task 1: 3 of 4" in result._repr_mimebundle_([], [])["text/plain"]
