"""`snn-artsy protocol`: exit codes, files, what one failure does to the others."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from snn_artsy import cli, protocols
from snn_artsy.protocols import run_all, store
from snn_artsy.protocols.base import Check, Column, Outcome, Setting


def fake(name: str, measured: float) -> Callable[[Setting], Outcome]:
    def run(setting: Setting) -> Outcome:
        check = Check("value", measured, 1.0, 0.1, "a paper", "mV")
        data = {"x": Column(np.arange(3.0), "ms", "time"), "g/y": Column(np.eye(2), "--", "eye")}
        return Outcome(name, (check,), data, Figure(), (f"seed {setting.seed}",))

    return run


def broken(setting: Setting) -> Outcome:
    raise RuntimeError("no current")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"good": fake("good", 1.05), "bad": fake("bad", 1.5), "broken": broken}
    names = {"broken": "breaks", "good": "passes", "bad": "misses"}
    monkeypatch.setattr(cli, "PROTOCOLS", names)
    monkeypatch.setattr(run_all, "load", known.__getitem__)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        cli.main(["protocol", *arguments])
    assert isinstance(exit.value.code, int)
    return exit.value.code


@pytest.mark.usefixtures("fakes")
def test_pass_and_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("good", "--out", str(tmp_path), "--seed", "7") == 0
    assert "pass" in capsys.readouterr().out
    assert run("bad", "--out", str(tmp_path)) == 3
    assert "FAIL" in capsys.readouterr().out
    for suffix in ("h5", "png", "pdf"):
        assert (tmp_path / f"good.{suffix}").stat().st_size > 0
    columns, checks = store.read(tmp_path / "good.h5")
    assert checks == (Check("value", 1.05, 1.0, 0.1, "a paper", "mV"),)
    assert columns["x"].unit == "ms" and columns["g/y"].values.tolist() == [[1, 0], [0, 1]]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.usefixtures("fakes")
def test_all_goes_on_after_a_failure(tmp_path: Path) -> None:
    assert run("all", "--out", str(tmp_path)) == 3
    rows = json.loads((tmp_path / "protocols.json").read_text())
    assert [(r["name"], r["pass"]) for r in rows] == [
        ("broken", False), ("good", True), ("bad", False)
    ]  # fmt: skip
    assert "no current" in rows[0]["source"]
    assert {"measured", "published", "tolerance", "figure"} <= set(rows[1])


@pytest.mark.usefixtures("fakes")
def test_one_that_breaks_off_is_a_failure(tmp_path: Path) -> None:
    assert run("broken", "--out", str(tmp_path)) == 1


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["stdp"], "stdp-window"),
        ([], "stdp-window"),
        (["retention", "--run", str(tmp_path)], "leave --run out"),
        (["lesion", "--run", str(tmp_path / "no")], "no directory"),
        (["lesion", "--run", str(tmp_path)], "no trained artsy_snn"),
    ):
        assert run(*arguments) == 2
        assert text in capsys.readouterr().err


def test_every_protocol_can_be_loaded() -> None:
    for name in protocols.PROTOCOLS:
        assert callable(protocols.load(name))


def test_another_file_is_refused(tmp_path: Path) -> None:
    import h5py

    h5py.File(tmp_path / "x.h5", "w").close()
    with pytest.raises(ValueError, match="expected"):
        store.read(tmp_path / "x.h5")
