"""What commands make of a run: whole files, in nobody's place, whatever matplotlib is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import matplotlib
import pytest
from drawing import know_few
from synthetic_run import CONFIG, evaluate, record

from snn_artsy import plots
from snn_artsy.checks import ConfigError
from snn_artsy.cli import main
from snn_artsy.config import RecordConfig
from snn_artsy.export import export
from snn_artsy.output import write_outputs
from snn_artsy.plots.style import new_figure, styled
from snn_artsy.protocols.base import Check, Outcome, Session
from snn_artsy.protocols.run_all import run_protocols
from snn_artsy.recording import RunRecorder, open_run
from snn_artsy.registry import Registry
from snn_artsy.report import write_report


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    know_few(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run of learners that do not spike."""
    with RunRecorder(tmp_path / "run", CONFIG, {"seed": 7}, RecordConfig()) as recorder:
        evaluate(recorder)
    return tmp_path / "run"


def code_of(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    files = {tmp_path / "new" / "a": b"1", tmp_path / "b": b"2"}
    with pytest.raises(ConfigError, match=r'out: .*b" exists .*give another place, or --overwrite'):
        write_outputs(files)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["b"]
    assert (tmp_path / "b").read_text() == "mine"
    write_outputs(files, overwrite=True)
    assert (tmp_path / "b").read_bytes() == b"2"
    write_outputs(files)  # the same is no conflict


def test_a_link_to_nowhere_is_something(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists"):
        write_outputs({tmp_path / "a": b"1"})


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r'out: ".*x" cannot be written .*give another place'):
        write_outputs({tmp_path / "file" / "x": b"1"})

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_outputs({tmp_path / "y": b"1"})
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("few_figures")
def test_commands_replace_nothing_unless_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        "plot": folder / "figures" / "gate_matrix.svg",
        "report": folder / "report.html",
        "export": folder / "run.nwb",
    }
    options = {"plot": ["--format", "svg"], "export": ["--to", "nwb"]}
    for command, made in commands.items():
        line = [command, folder, *options.get(command, [])]
        assert code_of(*line) == 0, capsys.readouterr().err
        assert made.is_file()
        if command != "export":  # its file has a date
            assert code_of(*line) == 0
        made.write_text("mine")
        capsys.readouterr()
        assert code_of(*line) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert str(made) in said and "--overwrite" in said
        assert made.read_text() == "mine"
        assert code_of(*line, "--overwrite") == 0
        assert made.stat().st_size > 1000
    assert not list(folder.rglob("*.part")) and not list(folder.glob(".part*"))


def test_an_exported_directory_keeps_what_else_is_in_it(tmp_path: Path) -> None:
    record(tmp_path / "run")
    with open_run(tmp_path / "run") as run:
        made = export(run, "sonata")
        (made / "notes.txt").write_text("mine")
        (made / "spikes.h5").write_text("")
        with pytest.raises(ConfigError, match="exists"):
            export(run, "sonata")
        assert export(run, "sonata", overwrite=True) == made
    assert (made / "spikes.h5").stat().st_size > 1000
    assert (made / "notes.txt").read_text() == "mine"


def _protocol(name: str) -> Outcome:
    figure = new_figure()
    figure.subplots().plot([1, 2])
    return Outcome(name, (Check("one", 1.0, 1.0, 0.0, "here"),), {}, figure)


def test_protocols_in_one_directory_keep_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    console = Console(quiet=True)
    names = ("mg-block", "stdp-window", "lesion")
    fakes = {
        name: partial(lambda name, _: _protocol(name), name.replace("-", "_")) for name in names
    }
    known = Registry("protocols", "protocol", {})
    for name in names:
        known.register(name)(fakes[name])
    monkeypatch.setattr("snn_artsy.protocols.parameters.PROTOCOLS", known)

    def run(name: str, **options: bool) -> None:
        run_protocols([name], Session(), tmp_path, console, go_on=False, **options)

    run("mg-block")
    run("stdp-window")
    with pytest.raises(ConfigError, match=r"mg_block.h5.* exists"):
        run("mg-block")
    run("mg-block", overwrite=True)
    listed = [row["name"] for row in json.loads((tmp_path / "protocols.json").read_text())]
    assert sorted(listed) == ["mg-block", "stdp-window"]
    (tmp_path / "protocols.json").write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="not a list of protocols"):
        run("lesion")


# --- whatever matplotlib is told ------------------------------------------------------------------


@styled
def _labelled(run: object) -> matplotlib.figure.Figure:
    figure = new_figure()
    figure.subplots().set(title="a_b % $x$", xlabel="100 %")
    return figure


def test_the_users_settings_do_not_reach_our_figures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "FIGURES", {"labelled": _labelled})
    with open_run(folder) as run:
        (ours,) = plots.save_figures(run, tmp_path / "a")
        with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30}):
            (theirs,) = plots.save_figures(run, tmp_path / "b")
            assert matplotlib.rcParams["text.usetex"] and matplotlib.rcParams["font.size"] == 30
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("setting", ["backend", "rc file"])
def test_a_broken_setting_of_matplotlib_is_no_matter(setting: str, tmp_path: Path) -> None:
    """What a notebook's ``!`` command hands down, where the notebook's packages are not here."""
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe: \xff")
    broken = {
        "backend": {"MPLBACKEND": "no-such-backend"},
        "rc file": {"MATPLOTLIBRC": str(tmp_path)},
    }[setting]
    code = (
        "import os\n"
        "def found(): return {k: v for k, v in os.environ.items() if not k.startswith('TORCH')}\n"
        "before = found()\n"
        "import snn_artsy.report, snn_artsy.protocols.run_all, snn_artsy.protocols.retention\n"
        "from snn_artsy.plots.style import new_figure, rendered\n"
        "assert rendered(new_figure(), 'png', 50) and found() == before"
    )
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root, **broken},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("few_figures")
def test_a_figure_that_cannot_be_drawn_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(run: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setitem(plots.FIGURES, "gate_matrix", broken)
    assert code_of("plot", folder) == 1
    said = capsys.readouterr()
    assert said.err == "gate_matrix left out: ValueError: two lines\n"
    assert (folder / "figures" / "accuracy_per_step.png").is_file()
    with open_run(folder) as run:
        text = write_report([run], folder / "r.html").read_text()
    assert "gate matrix: not drawn, ValueError: two" in text


@pytest.mark.parametrize("what", ["figure", "all", "import", "disk"])
@pytest.mark.usefixtures("few_figures")
def test_no_figure_decides_how_a_run_ends(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from rich.console import Console

    from snn_artsy.runs.run import _draw

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if what == "figure":
        monkeypatch.setitem(plots.FIGURES, "gate_matrix", broken)
    elif what == "all":
        monkeypatch.setattr(plots, "save_figures", broken)
    elif what == "import":
        monkeypatch.setitem(sys.modules, "snn_artsy.plots", None)
    else:
        monkeypatch.setattr(Path, "write_bytes", broken)
    said = io.StringIO()
    _draw(folder, Console(file=said, width=1000))
    (line,) = said.getvalue().splitlines()
    assert line.startswith("figure gate_matrix left" if what == "figure" else "figures left out: ")


@pytest.mark.usefixtures("few_figures")
def test_figures_of_what_was_not_recorded_are_no_news_at_the_end_of_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from rich.console import Console

    from snn_artsy.runs.run import _draw

    def nothing(*_: object, **__: object) -> None:
        raise plots.NothingRecorded("no sleep")

    monkeypatch.setitem(plots.FIGURES, "gate_matrix", nothing)
    said = io.StringIO()
    _draw(folder, Console(file=said, width=1000))
    assert said.getvalue() == ""
