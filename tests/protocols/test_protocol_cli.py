"""`snn-artsy protocol`: exit codes, files, what one failure does to the others."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from snn_artsy import cli, protocols, registry
from snn_artsy.commands import protocol as protocol_command
from snn_artsy.plots.style import new_figure, styled
from snn_artsy.protocols import parameters, run_all, store
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.registry import Registry


@styled
def drawn() -> Figure:
    figure = new_figure(5.0, 2.0)
    figure.add_subplot().plot([0, 1])
    return figure


def fake(name: str, measured: float) -> Callable[[Session], Outcome]:
    def run(session: Session) -> Outcome:
        check = Check("value", measured, 1.0, 0.1, "a paper", "mV")
        data = {"x": Column(np.arange(3.0), "ms", "time"), "g/y": Column(np.eye(2), "--", "eye")}
        return Outcome(name, (check,), data, drawn(), (f"seed {session.seed}",))

    return run


def broken(session: Session) -> Outcome:
    raise RuntimeError("no current")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"good": fake("good", 1.05), "bad": fake("bad", 1.5), "broken": broken}
    names = {"broken": "breaks", "good": "passes", "bad": "misses"}
    protocols = Registry("protocols", "protocol", {})
    for name, label in names.items():
        protocols.register(name, label=label)(known[name])
    monkeypatch.setattr(protocol_command, "PROTOCOLS", protocols)
    monkeypatch.setattr(parameters, "PROTOCOLS", protocols)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        cli.main(["protocol", *arguments])
    assert isinstance(exit.value.code, int)
    return exit.value.code


@pytest.mark.usefixtures("fakes")
def test_pass_and_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("good", "--out", str(tmp_path), "--seed", "7") == 0
    printed = capsys.readouterr().out.replace("\n", "")
    assert "pass" in printed and f"Figure: {tmp_path / 'good.png'}" in printed
    assert run("bad", "--out", str(tmp_path)) == 3
    assert "FAIL" in capsys.readouterr().out
    for suffix in ("h5", "png", "pdf"):
        assert (tmp_path / f"good.{suffix}").stat().st_size > 0
    columns, checks = store.read(tmp_path / "good.h5")
    assert checks == (Check("value", 1.05, 1.0, 0.1, "a paper", "mV"),)
    assert columns["x"].unit == "ms" and columns["g/y"].values.tolist() == [[1, 0], [0, 1]]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.usefixtures("fakes")
def test_figures_for_a_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("axes.prop_cycle: cycler('color', ['123456'])\n")
    words = ["--width", "85mm", "--style", str(sheet), "--format", "svg,pdf", "--out"]
    assert run("good", *words, str(tmp_path / "out")) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "good.h5", "good.svg", "good.pdf", "protocols.json"
    }  # fmt: skip
    text = (tmp_path / "out" / "good.svg").read_text("utf-8")
    assert 'width="240.9' in text and "#123456" in text  # 85 mm in points
    assert json.loads((tmp_path / "out" / "protocols.json").read_text())[0]["figure"] == "good.svg"
    for option, value in (("--width", "wide"), ("--style", "none"), ("--format", "bmp")):
        assert run("broken", option, value, "--out", str(tmp_path / "other")) == 2  # unlike 1
        assert capsys.readouterr().err.startswith(f"snn-artsy: {option[2:]}: ")


@pytest.mark.usefixtures("fakes")
def test_all_goes_on_after_a_failure(tmp_path: Path) -> None:
    assert run("all", "--out", str(tmp_path)) == 3
    rows = json.loads((tmp_path / "protocols.json").read_text())
    assert [(r["name"], r["pass"]) for r in rows] == [
        ("broken", False), ("good", True), ("bad", False)
    ]  # fmt: skip
    assert "no current" in rows[0]["source"]
    keys = ["name", "check", "measured", "published", "tolerance", "kind", "unit", "pass",
            "source", "figure", "data", "seconds", "reference", "independent",
            "not_compared"]  # fmt: skip
    assert all(list(row) == keys for row in rows)
    assert [r["reference"] for r in rows] == [r["published"] for r in rows] == [None, 1.0, 1.0]
    assert not any(r["independent"] for r in rows)
    assert (rows[1]["figure"], rows[1]["data"], rows[1]["unit"]) == ("good.png", "good.h5", "mV")


@pytest.mark.usefixtures("fakes")
def test_one_that_breaks_off_is_a_failure(tmp_path: Path) -> None:
    assert run("broken", "--out", str(tmp_path)) == 1


@pytest.mark.usefixtures("fakes")
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_all, "perform", lambda *_: pytest.fail("it was computed"))
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "taken" / "good.h5").mkdir(parents=True)
    for out, more in (
        (file, ()), (file / "below", ()), (file, ("--overwrite",)),
        (tmp_path / "taken", ("--overwrite",)), (tmp_path / ("long" * 100), ()),
    ):  # fmt: skip
        assert run("good", "--out", str(out), *more) == 2
        said = capsys.readouterr().err
        assert said.startswith("snn-artsy: out: ") and said.count("\n") == 1, said
    assert file.read_text() == "mine" and {p.name for p in tmp_path.iterdir()} == {"file", "taken"}


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["stdp"], "stdp-window"),
        ([], "stdp-window"),
        (["retention", "--run", str(tmp_path)], "leave --run out"),
        (["lesion", "--run", str(tmp_path / "no")], "no directory"),
        (["lesion", "--run", str(tmp_path)], "no finished run"),
        (["mg-block", "--seed", "-1"], "seed: -1 cannot be used; use 0 to 2,147,483,647"),
        (["all", "--seed", "9" * 12], "seed: "),
        (["mg-block", "--threads", "0"], "threads: 0"),
    ):
        assert run(*arguments) == 2
        assert text in capsys.readouterr().err


def test_every_protocol_can_be_loaded() -> None:
    for name in protocols.PROTOCOLS:
        assert callable(protocols.PROTOCOLS[name])


def test_a_missing_module_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match="no-such-thing"):
        protocols.PROTOCOLS["no-such-thing"]

    def needs_more(name: str) -> None:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(registry, "import_module", needs_more)
    with pytest.raises(ModuleNotFoundError, match="'x'"):
        protocols.PROTOCOLS["lesion"]


def test_help_and_files_need_no_torch() -> None:
    code = (
        "import sys\n"
        "import snn_artsy.protocols.store\n"
        "from snn_artsy import cli\n"
        "try:\n    cli.main(['protocol', '--help'])\n"
        "except SystemExit as exit:\n    sys.exit(exit.code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "calcium-window" in done.stdout


def test_another_file_is_refused(tmp_path: Path) -> None:
    import h5py

    h5py.File(tmp_path / "x.h5", "w").close()
    with pytest.raises(ValueError, match="expected"):
        store.read(tmp_path / "x.h5")
