"""The learner of docs/add_your_own.md, outside of the package, takes part like any other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cut_runs import assert_same_run
from processes import artsy, quick_environment

import snn_artsy as sa
from snn_artsy.checks import ConfigError
from snn_artsy.plots import accuracy_per_step
from snn_artsy.registry import LEARNERS
from snn_artsy.report import write_report
from snn_artsy.yaml_file import read_mapping

ROOT = Path(__file__).resolve().parents[2]
DATA = {"train_per_class": 8, "test_per_class": 5}
SMALL = ["--data.train_per_class", "8", "--data.test_per_class", "5"]
PAGE = (ROOT / "docs" / "add_your_own.md").read_text("utf-8")
(SOURCE,) = (b for b in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S) if "Mine(" in b)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, imported, in a folder of its own that is the current one."""
    (tmp_path / "my_learner.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_learner", raising=False)
    import my_learner

    return my_learner


def call(*arguments: str, more: str = "") -> subprocess.CompletedProcess[str]:
    """The command as a user gives it, `processes.artsy` without the short cut."""
    return subprocess.run(
        [sys.executable, "-m", "snn_artsy", *arguments], capture_output=True, text=True,
        env=quick_environment(*filter(None, [more])),
    )  # fmt: skip


def test_it_is_short() -> None:
    assert len(SOURCE.splitlines()) <= 45
    assert len([line for line in SOURCE.splitlines() if line.strip()]) <= 40


def test_in_a_run_its_figures_and_its_report(mine: Any) -> None:
    names = ["simplecil", "mine"]
    result = sa.run(learners=names, mine={"shrinkage": 0.0}, data=DATA, out="run")
    both = result.summary["learners"]
    scalars = {k for k, v in both["simplecil"].items() if isinstance(v, int | float)}
    assert scalars <= set(both["mine"]) and both["mine"]["stored_bytes"] == 4 * 10 * 192
    # without shrinkage it differs from SimpleCIL in the validation samples alone
    assert abs(both["mine"]["a_last"] - both["simplecil"]["a_last"]) < 0.1
    assert read_mapping(Path("run/config.yaml"), "", "")["mine"] == {
        "shrinkage": 0.0, "metric": "cosine"
    }  # fmt: skip
    versions = result.summary["versions"]
    assert versions["learner mine"] == LEARNERS.source_sha256("mine") != "unknown"
    with result.open() as run:
        assert sorted(run.learners) == ["mine", "simplecil"]
        _, labels = accuracy_per_step(run).axes[0].get_legend_handles_labels()
        assert sorted(labels) == ["Mine", "SimpleCIL"]
        page = write_report([run], Path("page.html")).read_text("utf-8")
    assert ">mine<" in page


def test_it_goes_on_after_an_interruption(mine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"learners": ["mine", "simplecil"], "mine": {"metric": "euclidean"}, "data": DATA}
    sa.run(given, out="whole")
    learn, done = mine.Mine.learn, []

    def stopped(self: Any, task: Any) -> None:
        done.append(task.number)
        if task.number == 3:
            raise KeyboardInterrupt
        learn(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(mine.Mine, "learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            sa.run(given, out="cut")
    assert done == [0, 1, 2, 3]
    file = Path("my_learner.py")
    file.write_text(SOURCE + "\n")
    with pytest.raises(ConfigError, match="learner mine was"):  # another version of it
        sa.resume("cut")
    file.write_text(SOURCE)
    sa.resume("cut")
    assert_same_run(Path("cut"), Path("whole"))


def test_it_joins_a_comparison(mine: Any) -> None:
    given: dict[str, Any] = {"data": {"train_per_class": 8}, "out": "compared"}
    sa.compare(given, seeds=2, learners=["simplecil"])
    found = sa.compare(given, seeds=2, learners=["simplecil", "mine"], mine={"shrinkage": 0.3})
    assert list(found.summary["learners"]) == ["simplecil", "mine"]
    assert len(found.summary["learners"]["mine"]["a_last"]["values"]) == 2
    with pytest.raises(ConfigError, match=r"mine.shrinkage was 0.3 and is 0.2"):
        sa.compare(given, seeds=2, learners=["simplecil", "mine"], mine={"shrinkage": 0.2})
    given["mine"] = {"shrinkage": 0.2}  # does not take part below
    sa.compare(given, seeds=2, learners=["simplecil"])


def test_from_the_command_line_and_a_file(mine: Any) -> None:
    """Typed, it is imported; named by a file, only if it is typed, too."""
    here = Path.cwd()
    Path("my.yaml").write_text("learners: [my_learner:Mine]\nmine: {shrinkage: 0.25}\n")
    for k, words in enumerate(
        (
            ["--learners", "my_learner:Mine", "--mine.shrinkage", "0.25"],
            ["--config", "my.yaml", "--own=my_learner:Mine"],
        )
    ):
        said = ["run", *words, *SMALL, "--out", f"run{k}"]
        done = artsy(here, *said) if k else call(*said, more=".")
        assert done.returncode == 0 and re.search(r"^ *mine +\d", done.stdout, re.M), done.stderr
    assert_same_run(Path("run0"), Path("run1"))
    assert json.loads(Path("run0/summary.json").read_text())["config"]["mine"]["shrinkage"] == 0.25

    for words, said in (
        (["run", "--config", "my.yaml"], "'my_learner:Mine' is not loaded"),
        (["run", "--config", "run0/config.yaml"], "learners: 'mine' cannot be used; choose from"),
        (["resume", "run0", "--own", "my_learner:Mine"], "is complete"),
        (["run", "--learners", "my_learner:Mine", "--mine.shrinkage", "2"], "use a share in [0"),
        (["run", "--learners", "my_learner:Mine", "--mine.metric", "x"], "one of cosine, euclid"),
    ):
        done = artsy(here, *words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
    (here / "elsewhere").mkdir()
    done = artsy(here / "elsewhere", "report", str(here / "run0"))  # where there is no my_learner
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a package with the learner was installed by pip."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "my_package").mkdir()
    (source / "my_package" / "__init__.py").write_text("")
    (source / "my_package" / "learner.py").write_text(SOURCE)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "my-package"\nversion = "1"\n'
        '[project.entry-points."snn_artsy.learners"]\nmine = "my_package.learner:Mine"\n'
        '[tool.setuptools]\npackages = ["my_package"]\n'
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps",
         "--no-index", "--target", str(target), str(source)],
        check=True,
    )  # fmt: skip
    return target


def test_a_package_that_is_installed_needs_no_option(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "--learners", "mine", "--mine.metric", "euclidean", *SMALL, "--out", "run"]
    done = call(*words, more=str(installed))
    assert done.returncode == 0, done.stderr
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["config"]["mine"] == {"shrinkage": 0.1, "metric": "euclidean"}
    assert len(summary["versions"]["learner mine"]) == 64
    done = artsy(installed, "run", "--help", "all")
    assert "--mine.shrinkage" in done.stdout and "Nearest class mean, shrunk." in done.stdout
    assert artsy(tmp_path, *words).returncode == 2  # not installed here


@pytest.mark.slow
def test_in_a_sweep(mine: Any) -> None:
    done = call(
        "sweep", "--own", "my_learner:Mine", *SMALL, "--learners", "mine", "--workers", "1",
        "--grid", "mine.shrinkage=0.0,0.5", "--out", "swept", more=".",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    summary = json.loads(Path("swept/sweep.json").read_text())
    assert [group["learner"] for group in summary["groups"]] == ["mine", "mine"]
    assert [run["values"]["mine.shrinkage"] for run in summary["runs"]] == [0.0, 0.5]
