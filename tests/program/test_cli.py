"""The command line: exit codes, one line a failure, configuration from both sources."""

import json
import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from snn_artsy import __version__, cli, options
from snn_artsy.commands import build_parsers
from snn_artsy.config import (
    ConfigError,
    DataConfig,
    EncodingConfig,
    PlasticityConfig,
    RecordConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.config_builder import build, keys_of
from snn_artsy.protocols.parameters import parameters_of
from snn_artsy.recording import RunRecorder
from snn_artsy.registry import PROTOCOLS
from snn_artsy.runs.directory import claim
from snn_artsy.runs.run import RunResult
from snn_artsy.runs.sweep import grid_cells, read_grid
from snn_artsy.signals import Terminated

SUMMARY: dict[str, Any] = {
    "learners": {
        "simplecil": {"a_last": 0.5, "a_avg": 0.625, "seconds": 1.0},
        "artsy_snn": {
            "a_last": 0.55,
            "a_avg": 0.66,
            "a_last_spikes_only": 0.512,
            "functional_share": 0.4,
            "mean_open_gates": 1.25,
            "seconds": 12.0,
        },
    },
    "controls": {"permuted": {"a_last_spikes_only": 0.2, "timing_index": 0.034}},
    "chance": 0.1,
}


def loss() -> None:
    """A default that is a function."""


@dataclass(frozen=True)
class WithFunction:
    """Configuration of a learner of one's own.

    Args:
        by: What it is trained by.
    """

    by: Callable[[], None] = loss


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Stand in for the run itself; gives the configurations it was called with."""
    configs: list[RunConfig] = []

    def execute(config: RunConfig, console: object) -> RunResult:
        configs.append(config)
        return RunResult(Path(str(config.out)), SUMMARY)

    _replace_run(monkeypatch, execute)
    return configs


def _replace_run(monkeypatch: pytest.MonkeyPatch, execute: Any) -> None:
    module = types.ModuleType("snn_artsy.runs.run")
    module.execute = execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snn_artsy.runs.run", module)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert isinstance(raised.value.code, int)
    return raised.value.code


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


# --- bad input: one line that names the key, the value and the remedy, exit code 2 ----------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--data.incremnt", "5"], ["data.incremnt", "'5'", "did you mean data.increment?"]),
        (["--data.incremnt=5"], ["data.incremnt", "'5'", "did you mean data.increment?"]),
        (["--increment", "5"], ["increment", "'5'", "did you mean data.increment?"]),
        (["--data.increment", "x"], ["data.increment", "'x'", "give an integer or null"]),
        (["--data.class_range", "7"], ["data.class_range", "[7]", "give [start, stop]"]),
        (["--data.class_range", "a,b"], ["data.class_range", "'a'", "give an integer"]),
        (["--data.n_task", "2"], ["data.n_task", "'2'", "did you mean data.n_tasks?"]),
        (["--data.n_tasks", "--seed", "2"], ["data.n_tasks", "no value given", "an integer"]),
        (["--seed", "1", "--seed", "2"], ["seed", "given twice", "'1'", "'2'"]),
        (["--snn.encoding.dt_ms", "1e-308"], ["snn.encoding.dt_ms", "1e-38"]),
        (["--snn.encoding.dt_ms", "1e-9"], ["snn.encoding.dt_ms", "use 0.01 to 1000 ms"]),
        (["--snn.encoding.n_steps", "1" + 21 * "0"], ["snn.encoding.n_steps", "64 bits"]),
        (["--snn.encoding.n_steps", "1000000000"], ["snn.encoding.n_steps", "use 1 to 10,000"]),
        (["--ann.lr", "1e308"], ["ann.lr", "1e+38"]),
        (["--data.order_seed", "-1"], ["data.order_seed", "-1", "use 0 to 4,294,967,295"]),
        (["--learners", "ease,ease"], ["learners", "once"]),
        (["--record.splits", "test,test"], ["record.splits", "once"]),
        (["--out", "a" * 5000], ["out", "5,002 characters", "at most 4,096"]),
        (["--out", "a" * 300], ["out", "255 bytes"]),
        (["--out", "a\nb"], ["out", "line breaks"]),
        (["-x"], ["x", "unknown key", "--help"]),
        (["--data", "5"], ["data", "'5'", "give a section with some of name, root"]),
        (["--seed", "1.5"], ["seed", "'1.5'", "give an integer"]),
        (["--seed", "-1"], ["seed", "-1", "use 0 to 2147483647"]),
        (["--seed", "99999999999"], ["seed", "99999999999", "use 0 to 2147483647"]),
        (["--seed"], ["seed", "no value given", "give an integer"]),
        (["--device", "tpu"], ["device", "'tpu'", "one of auto, cpu, cuda"]),
        (["--learners", "simplecil,ewc"], ["learners", "'ewc'", "choose from simplecil"]),
        (["--learners", ""], ["learners", "[]", "choose from simplecil"]),
        (["--controls", "maybe"], ["controls", "'maybe'", "give true or false"]),
        (["--backbone.batch_size", "0"], ["backbone.batch_size", "0", "use 1 to 100,000"]),
        (["--data.n_tasks", "2", "--data.increment", "5"], ["data.n_tasks", "2", "not both"]),
        (["--config", "nope.yaml"], ["config", "nope.yaml", "give a YAML file"]),
        (["--config=nope.yaml"], ["config", "nope.yaml", "give a YAML file"]),
        (["--config", "."], ["config", '"."', "give a YAML file"]),
        (["--config"], ["config", "no value given", "give a YAML file"]),
        (["digits"], ["run", "'digits'", "--key value"]),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", *arguments) == 2
    _one_line(capsys, parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: {incremnt: 5}\n", ["data.incremnt", "5", "did you mean data.increment?"]),
        ("sed: 5\n", ["sed", "5", "did you mean seed?"]),
        ("data: {increment: x}\n", ["data.increment", "'x'", "give an integer"]),
        ("data: 5\n", ["data", "5", "give a section with some of name"]),
        ("data:\n", ["data", "nothing follows", "leave it out"]),
        ("learners: 5\n", ["learners", "5", "give a list of names"]),
        ("learners: [ewc]\n", ["learners", "'ewc'", "choose from simplecil"]),
        ("data: {validation_share: 2}\n", ["data.validation_share", "2.0", "between 0 and 1"]),
        ("data: [\n", ["config", "bad.yaml", "not valid YAML, line 2"]),
        ("[1, 2]\n", ["config", "bad.yaml", "--print_config"]),
        ("", ["config", "bad.yaml", "--print_config"]),
    ],
)
def test_mistakes_in_yaml(text: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--config", write("bad.yaml", text)) == 2
    _one_line(capsys, parts)


def test_a_file_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert call("run", "--config", "bad.yaml") == 2
    _one_line(capsys, ["config", "bad.yaml", "give a YAML file"])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["command", "none given", "snn-artsy run"]),
        (["rum"], ["rum", "choose from run, plot, info"]),
        (["--nope"], ["--nope", "snn-artsy --help"]),
        (["plot"], ["run", "none given", "snn-artsy plot runs/NAME"]),
        (["report"], ["run", "none given", "snn-artsy report runs/NAME"]),
        (["protocol"], ["protocol", "none given", "stdp-window"]),
        (["plot", "x", "--list", "--list"], ["list", "given twice"]),
        (["info", "x", "y"], ["info", "unexpected argument", "'y'"]),
        (["plot", "nowhere"], ["run", '"nowhere"', "give a run directory"]),
        (["info", "nowhere"], ["run", '"nowhere"', "give a run directory"]),
        (["plot", "runs/x", "--outt", "y"], ["outt", "'y'", "did you mean out?"]),
    ],
)
def test_mistakes_in_commands(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 2
    _one_line(capsys, parts)


def test_what_the_run_finds_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(config: RunConfig, console: object) -> None:
        raise ConfigError("data.n_tasks", "cannot be used; 10 classes don't divide", 3)

    _replace_run(monkeypatch, execute)
    assert call("run", "--data.n_tasks", "3") == 2
    _one_line(capsys, ["data.n_tasks: 3 cannot be used"])


def _one_line(capsys: pytest.CaptureFixture[str], parts: list[str]) -> None:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"snn-artsy: {parts[0]}")
    for part in parts:
        assert part in captured.err
    assert "Traceback" not in captured.err


# --- the run directory ----------------------------------------------------------------------------


def test_a_taken_directory_is_refused_and_kept(
    executed: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old").mkdir()
    Path("old/notes.txt").write_bytes(b"precious")
    assert call("run", "--out", "old") == 2
    _one_line(capsys, ["out", '"old"', "give another directory"])
    assert Path("old/notes.txt").read_bytes() == b"precious"
    assert executed == []


def test_out_is_taken(executed: list[RunConfig]) -> None:
    Path("empty").mkdir()
    assert call("run", "--out", "empty") == 0
    assert call("run", "--out", "new/deep") == 0
    assert [config.out for config in executed] == ["empty", "new/deep"]


def test_out_below_a_file(executed: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    write("file", "")
    assert call("run", "--out", "file/run") == 2
    _one_line(capsys, ["out", '"file" is a file', "give a directory"])


def test_default_directories_differ() -> None:
    first, made = claim(None, "digits")
    assert made and first.parent == Path("runs")
    assert first.name.endswith("-digits")
    assert claim(None, "digits")[0] != first


# --- good input -----------------------------------------------------------------------------------


def test_no_configuration_is_the_default(executed: list[RunConfig]) -> None:
    assert call("run") == 0
    assert executed == [RunConfig()]


def test_command_line_over_yaml_over_defaults(executed: list[RunConfig]) -> None:
    path = write("run.yaml", "seed: 1\ndata: {increment: 2, base: 4}\nlearners: [simplecil]\n")
    assert call("run", "--config", path, "--seed", "2", "--data.base", "6") == 0
    (config,) = executed
    assert (config.seed, config.learners) == (2, ["simplecil"])
    assert (config.data.increment, config.data.base, config.data.n_tasks) == (2, 6, None)


@pytest.mark.parametrize("order", [1, -1])
def test_the_command_line_wins_wherever_it_stands(executed: list[RunConfig], order: int) -> None:
    """A configuration file is beaten by what is typed before it, too; a later file beats it."""
    files = [("--config", write("a.yaml", "seed: 1\ndevice: cpu\ncontrols: true\n"))]
    files += [("--config", write("b.yaml", "seed: 2\ncontrols: false\n"))]
    pairs = [("--seed", "5"), *files] if order == 1 else [*files, ("--seed", "5")]
    assert call("run", *(word for pair in pairs for word in pair)) == 0
    (config,) = executed
    assert (config.seed, config.device, config.controls) == (5, "cpu", False)


def test_numbers_and_texts_are_read_alike_everywhere(executed: list[RunConfig]) -> None:
    path = write("run.yaml", "ann: {lr: 1e-3}\nsnn: {neuron: {floor: -5e-1}}\n")
    assert call("run", "--ann.lr", "1e-3", "--snn.neuron.floor", "-5e-1", "--out", "#1") == 0
    assert call("run", "--config", path, "--out=#2") == 0
    grid = read_grid("ann.lr=1e-3,1e-2;snn.neuron.floor=-5e-1")
    cells = grid_cells({}, grid, Path("s"))
    assert [cell.values["ann.lr"] for cell in cells] == [0.001, 0.01]
    for config in (*executed, cells[0].config):
        assert (config.ann.lr, config.snn.neuron.floor) == (0.001, -0.5)
    assert [config.out for config in executed] == ["#1", "#2"]


def written(config: RunConfig, name: str) -> str:
    """As a run leaves it."""
    return write(name, yaml.safe_dump(asdict(config), sort_keys=False))


def test_a_preset_counts_beside_a_runs_own_file(executed: list[RunConfig]) -> None:
    fast = EncodingConfig(preset="fast")
    path = written(RunConfig(), "config.yaml")
    assert call("run", "--config", path, "--snn.encoding.preset", "fast") == 0
    assert call("run", "--snn.encoding.n_steps", "9", "--config", path,
                "--snn.encoding.preset", "fast") == 0  # fmt: skip
    assert call("run", "--config", path, "--snn.encoding.dt_ms", "2.5") == 0
    both = write("both.yaml", "snn: {encoding: {preset: fast, n_steps: 9}}\n")
    assert call("run", "--config", path, "--config", both) == 0
    first, second, third, fourth = (config.snn.encoding for config in executed)
    assert first == fast
    assert second == fourth == replace(fast, n_steps=9)
    assert third == replace(EncodingConfig(), dt_ms=2.5)
    cells = grid_cells(
        yaml.safe_load(Path(path).read_text()),
        {"snn.encoding.preset": ["fast", "physiological"]},
        Path("s"),
    )
    assert [cell.config.snn.encoding for cell in cells] == [fast, EncodingConfig()]
    # a file that names one preset and holds the values of another was edited by hand
    text = Path(path).read_text().replace("preset: physiological", "preset: fast")
    assert call("run", "--config", write("edited.yaml", text)) == 2


def test_keys_given_in_place_of_others(executed: list[RunConfig]) -> None:
    increment = written(RunConfig(data=DataConfig(increment=2, base=4)), "increment.yaml")
    tasks = written(RunConfig(), "tasks.yaml")
    assert call("run", "--config", increment, "--data.n_tasks", "2") == 0
    assert call("run", "--config", tasks, "--data.increment", "2") == 0
    own = PlasticityConfig(rule="pair", a_plus=0.03)
    path = written(RunConfig(snn=SNNConfig(plasticity=own)), "own.yaml")
    assert call("run", "--config", path, "--snn.plasticity.published", "morrison_2007") == 0
    assert executed[0].data == DataConfig(n_tasks=2)
    assert executed[1].data == DataConfig(increment=2)
    assert executed[2].snn.plasticity == PlasticityConfig(rule="pair", published="morrison_2007")


def test_the_written_file_reproduces_the_run(executed: list[RunConfig]) -> None:
    given = ["--snn.encoding.preset", "fast", "--data.increment", "2"]
    assert call("run", *given, "--snn.plasticity.rule", "triplet", "--ann.lr", "1e-2") == 0
    assert call("run", "--config", written(executed[0], "config.yaml"), "--out", "again") == 0
    assert replace(executed[1], out=executed[0].out) == executed[0]


def test_options_in_any_order(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--out", "d", str(recorded), "no_such_figure"],
        [str(recorded), "--out", "d", "no_such_figure"],
        [str(recorded), "no_such_figure", "--out=d"],
    ):
        assert call("plot", *words) == 2
        _one_line(capsys, ["name", "'no_such_figure'", "choose from"])
    assert call("plot", "--list", str(recorded)) == 0
    assert call("plot", str(recorded), "--list", "true") == 0


def test_what_does_nothing_is_refused(
    executed: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("receptors.yaml", "snn: {receptors: {g_ampa_nS: 1}}\n")
    for arguments in (
        ["--snn.receptors.g_ampa_nS", "1"],
        ["--snn.receptors.g_ampa_nS", "0.5"],  # the default, but typed
        ["--config", path],
    ):
        assert call("run", *arguments) == 2
        _one_line(capsys, ["snn.receptors.g_ampa_nS", "snn.fidelity conductance"])
    assert call("run", "--config", path, "--snn.fidelity", "conductance") == 0
    assert call("run", "--config", written(executed[0], "config.yaml"), "--out", "b") == 0


@pytest.mark.parametrize(
    ("arguments", "controls"),
    [(["--controls"], True), (["--controls", "true"], True), ([], False)],
)
def test_controls_is_a_flag(
    arguments: list[str], controls: bool, executed: list[RunConfig]
) -> None:
    assert call("run", *arguments, "--learners", "artsy_snn, simplecil") == 0
    assert executed[0].controls is controls
    assert executed[0].learners == ["artsy_snn", "simplecil"]


def test_controls_and_learners_from_yaml(executed: list[RunConfig]) -> None:
    path = write("run.yaml", "controls: true\nlearners: artsy_ann,simplecil\n")
    assert call("run", "--config", path) == 0
    assert executed[0].controls
    assert executed[0].learners == ["artsy_ann", "simplecil"]


def test_print_config_loads_back(
    executed: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data.increment", "2", "--seed", "7", "--controls", "--out", "here"]
    assert call("run", *given, "--print_config") == 0
    printed = capsys.readouterr().out
    assert set(yaml.safe_load(printed)) == set(RunConfig.__dataclass_fields__)
    assert call("run", "--config", write("printed.yaml", printed)) == 0
    assert executed == [
        build(RunConfig, {"data": {"increment": 2}, "seed": 7, "controls": True, "out": "here"})
    ]


def test_the_tables(executed: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--out", "here") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    # a table that is too wide stands in several, one below the other
    simplecil, snn, permuted = (
        [cell for row in rows if name in row for cell in row]
        for name in ("simplecil", "artsy_snn", "permuted")
    )
    assert {"50.0", "62.5", "1.0", "–"} <= set(simplecil)  # no spikes: a dash
    assert {"55.0", "66.0", "51.2", "40.0", "1.2", "12.0"} <= set(snn)
    assert {"20.0", "2.0", "3.4"} <= set(permuted), permuted
    assert lines[-1] == "Run directory: here"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"snn-artsy {__version__}\n"
    for command in ("run", "compare", "sweep", "study"):
        assert call(command, "--help") == 0
        short = capsys.readouterr().out
        assert call(command, "--help", "all") == 0
        whole = capsys.readouterr().out
        every = set(keys_of(RunConfig))
        keys = {key for key in every if not any(k.startswith(f"{key}.") for k in every)}
        named = {key for key in keys if f"--{key} " in short}
        assert len(named) <= 20 and "data.increment" in named and len(short.splitlines()) < 120
        assert {key for key in keys if f"--{key} " in whole} == keys
        assert f"`snn-artsy {command} --help all`" in short
    assert call("run", "--help", "most") == 2
    assert "use --help or --help all" in capsys.readouterr().err


def test_help_holds_no_address_of_a_function() -> None:
    """Of a default that is a function, help says its name."""
    text = options.Parser(prog="x", configuration=WithFunction).format_help()
    assert "(default: loss)" in text
    parsers = build_parsers("run", RunConfig.whole())[1]
    texts = [text, *(parser.format_all() for parser in parsers.values())]
    for name in PROTOCOLS:
        parsers = build_parsers("protocol", parameters_of(name), name)[1]
        texts.append(parsers["protocol"].format_help())
    assert not [found for text in texts for found in re.findall(r".* at 0x.*", text)]


# --- recorded runs --------------------------------------------------------------------------------


@pytest.fixture
def recorded() -> Path:
    """A small recorded run."""
    config = yaml.safe_dump(asdict(RunConfig()))
    attributes = {"seed": 1993, "device": "cpu", "git_commit": "unknown"}
    with RunRecorder("runs/small", config, attributes, RecordConfig()) as recorder:
        recorder.spikes("task0", np.array([1.0, 2.0, 2.5]), np.array([0, 3, 1]))
    return Path("runs/small")


def test_info(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recorded / "summary.json").write_text(json.dumps(SUMMARY))
    for given in (recorded, recorded / "run.h5"):
        assert call("info", str(given)) == 0
        rows = [line.strip("│ ").split() for line in capsys.readouterr().out.splitlines()]
        assert ["status", "│", "complete"] in rows
        assert ["data", "│", "digits"] in rows
        assert ["recorded", "spikes", "│", "3"] in rows
        assert any("simplecil" in row and "50.0" in row for row in rows)


def test_info_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", write("run.h5", "not HDF5")) == 2
    _one_line(capsys, ["run: run.h5", "not a readable HDF5 file"])


def test_plot(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("snn_artsy.plots")
    module.FIGURES = {"one": None}  # type: ignore[attr-defined]
    module.NothingRecorded = LookupError  # type: ignore[attr-defined]
    module.save_figures = lambda run, directory, *_: [directory / run.status]  # type: ignore[attr-defined]
    module.look = lambda *_, **__: nullcontext()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snn_artsy.plots", module)
    assert call("plot", str(recorded)) == 0
    assert call("plot", str(recorded), "--out", "elsewhere") == 0
    assert capsys.readouterr().out.split() == ["runs/small/figures/complete", "elsewhere/complete"]


# --- failures and interruptions while running -----------------------------------------------------


def test_a_failure_is_one_line_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(config: RunConfig, console: object) -> None:
        raise RuntimeError("out of memory\nin two lines")

    _replace_run(monkeypatch, execute)
    assert call("run") == 1
    _one_line(capsys, ["RuntimeError: out of memory in two lines", "--debug"])
    for arguments in (["--debug", "run"], ["run", "--debug"]):
        assert call(*arguments) == 1
        assert "Traceback" in capsys.readouterr().err


def test_interruptions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    closed: list[type[BaseException]] = []
    # a shell's background job inherits an ignored SIGINT, and the test would wait for ever
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)

    def execute(config: RunConfig, console: object) -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except KeyboardInterrupt as interruption:
            closed.append(type(interruption))
            raise

    _replace_run(monkeypatch, execute)
    number = signal.SIGINT
    try:
        assert call("run") == 130
    finally:
        signal.signal(signal.SIGINT, inherited)
    _one_line(capsys, ["interrupted"])
    number = signal.SIGTERM
    assert call("run") == 143
    _one_line(capsys, ["terminated"])
    # A run needs to catch KeyboardInterrupt only.
    assert closed == [KeyboardInterrupt, Terminated]
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupted_run_says_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("snn_artsy.runs.run.prepare", interrupt)
    for arguments in (["run", "--out", "my run"], ["run", "--out", "my run"], ["resume", "my run"]):
        assert call(*arguments) == 130
        _one_line(capsys, ["interrupted; `snn-artsy resume 'my run'` goes on"])


def test_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snn_artsy", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)},
    )
    assert (done.returncode, done.stdout) == (0, f"snn-artsy {__version__}\n")
