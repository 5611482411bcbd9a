"""Runs that are well-formed and wrong: every command ends well, or in one line that names the file.

A run file has about a hundred attributes, groups and datasets. Each is replaced by what it is not,
and each value of summary.json; a sample of all that is tried whenever the tests run, all of it with
``-m slow``.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from synthetic_run import CLASSES, N_TASKS, evaluate, simulate

from snn_artsy import plots
from snn_artsy.checks import ConfigError
from snn_artsy.cli import main
from snn_artsy.config import RecordConfig
from snn_artsy.recording import RecordingError, RunRecorder, guard
from snn_artsy.runs.run import resume

Change = tuple[str, Callable[[h5py.File], None]]
CONFIG = "seed: 7\nlearners: [simplecil]\ndata:\n  name: invented\n"
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("info",),
    ("info", "--json"),
    ("plot", "--overwrite"),
    ("report", "--overwrite"),
    ("export", "--to", "nwb", "--overwrite"),
    ("export", "--to", "sonata", "--overwrite"),
)
OTHER_VALUES: tuple[Any, ...] = (
    3, -1, 2**62, 1.5, float("nan"), "text", "", b"\xff", np.arange(4), np.array([b"a", b"b"]),
    h5py.Empty("f8"), np.zeros((2, 0)),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    attributes = {"seed": 7, "device": "cpu", "threads": 2}
    with RunRecorder(directory, CONFIG, attributes, RecordConfig()) as recorder:
        simulate(recorder)
        evaluate(recorder)
    (directory / "run.h5.sha256").unlink()
    (directory / "summary.json").write_text(json.dumps(summary()))
    return directory


def summary() -> dict[str, Any]:
    """As a run writes it, in small."""
    measures = {"a_last": 0.5, "a_last_spikes_only": 0.4, "a_t": [0.5], "gates": None}
    return {
        "learners": {"artsy_snn": measures, "simplecil": {"a_last": 0.5}},
        "chance": 1 / (N_TASKS * CLASSES),
        "config": {"seed": 7, "data": {"name": "invented"}, "backbone": {"name": "none"}},
        "versions": {"python": "3"},
        "controls": {"random": {"a_last_spikes_only": 0.2, "timing_index": 0.1}},
        "seeds": [1, 2],
    }


def changes(file: h5py.File) -> Iterator[Change]:
    """Everything that can be something else, in words, and what makes it so."""
    named = {"/": file}
    file.visititems(lambda name, item: named.update({f"/{name}": item}))
    for name, item in named.items():
        for attribute in item.attrs:
            yield f"{name}@{attribute} deleted", _without(name, attribute)
            for value in OTHER_VALUES:
                yield f"{name}@{attribute} = {value!r}", _attribute(name, attribute, value)
        if name == "/":
            continue
        yield f"{name} deleted", _replaced(name, None)
        yield f"{name} a group", _replaced(name, "group")
        shape = item.shape if isinstance(item, h5py.Dataset) else (2,)
        others: dict[str, Any] = {
            "a number": 1.5,
            "texts": np.array([b"a"] * 3),
            "of shape (1, 0, 1)": np.zeros((1, 0, 1)),
        }
        if isinstance(item, h5py.Dataset):
            values, kind = item[()], item.dtype
            others |= {"empty": np.zeros((0, *shape[1:]), kind), "long": np.repeat(values, 2, 0)}
            if np.ndim(values) > 1:
                others |= {"narrow": values[..., :-1], "wide": np.repeat(values, 2, -1)}
            if kind.kind == "f":
                others |= {f"all {x}": np.full(shape, x, kind) for x in (np.nan, np.inf, -1e300)}
            elif kind.kind in "iu":
                least, most = np.iinfo(kind).min, np.iinfo(kind).max
                others |= {f"all {x}": np.full(shape, x, kind) for x in (least, 9, most)}
        for words, value in others.items():
            yield f"{name} {words}", _replaced(name, value)
    yield "group of the user's", lambda file: file.create_group("mine/of/my/own")


def _without(name: str, attribute: str) -> Callable[[h5py.File], None]:
    return lambda file: file[name].attrs.__delitem__(attribute)


def _attribute(name: str, attribute: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[name].attrs.create(attribute, value)


def _replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        old = file[name]
        kind = old.dtype if isinstance(old, h5py.Dataset) else None
        del file[name]
        if isinstance(value, str):
            file.create_group(name)
        elif value is not None:
            same = kind is not None and getattr(value, "dtype", None) == kind.base
            file.create_dataset(name, data=value, dtype=kind if same else None)

    return change


def endings(
    run: Path, capsys: pytest.CaptureFixture[str], commands: Sequence[tuple[str, ...]] = COMMANDS
) -> Iterator[tuple[str, int | str | None, list[str]]]:
    """How each command ends on a run: its name, exit code and lines of errors."""
    for command, *options in commands:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([command, str(run), *options])
        lines = capsys.readouterr().err.splitlines()
        yield " ".join([command, *options]), ended.value.code, lines


def bad_endings(
    run: Path, capsys: pytest.CaptureFixture[str], commands: Sequence[tuple[str, ...]]
) -> list[str]:
    """Endings that are neither well nor one line that names a file of the run."""
    found = []
    for command, code, lines in endings(run, capsys, commands):
        refused = code == 2 and len(lines) == 1 and (str(run) in lines[0] or "record" in lines[0])
        if not refused and code != 0:
            found.append(f"{command}: {code} {lines}")
    return found


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not drawn, which takes a second each."""
    monkeypatch.setattr(plots, "rendered", lambda *_, **__: b"drawn")
    monkeypatch.setattr("snn_artsy.report.rendered", lambda *_, **__: b"drawn")


def _try_all(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    share: float,
    n_commands: int = len(COMMANDS),
) -> tuple[int, list[str]]:
    """A share of all changes, each tried by so many of the commands, in turn."""
    with h5py.File(whole / "run.h5") as file:
        every = list(changes(file))
    drawn = random.Random(7).sample(every, max(1, round(share * len(every))))
    bad = []
    for number, (words, change) in enumerate(drawn):
        run = tmp_path / str(number)
        run.mkdir()
        shutil.copy(whole / "run.h5", run)
        with h5py.File(run / "run.h5", "r+") as file:
            change(file)
        commands = [COMMANDS[(number + k) % len(COMMANDS)] for k in range(n_commands)]
        bad += [f"{words}: {ending}" for ending in bad_endings(run, capsys, commands)]
        shutil.rmtree(run)
    return len(every), bad


@pytest.mark.filterwarnings("ignore")
def test_a_sample_of_changes_ends_well(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n, bad = _try_all(whole, tmp_path, capsys, 0.002, n_commands=1)
    assert n > 1000 and not bad, "\n".join(bad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_change_ends_well(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, bad = _try_all(whole, tmp_path, capsys, 1.0)
    assert not bad, "\n".join(bad)


@pytest.mark.filterwarnings("ignore")
def test_the_run_itself_is_no_trouble(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, code, lines in endings(whole, capsys):
        assert code == 0, (command, lines)


# --- other files of a run -------------------------------------------------------------------------


def _each_value(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _each_value(inner, (*path, key))


PATHS = list(_each_value(summary()))


@pytest.mark.parametrize("other", [None, 1.5, True, "text", [], [1], {}, {"a": 1}, 10**400, "gone"])
def test_values_of_the_summary_are_what_they_should_be_or_named(
    other: Any,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(whole / "run.h5", tmp_path)
    # its own process is for run.h5, which stays what it is
    monkeypatch.setattr(guard, "first_look", lambda _: None)
    for path in PATHS:
        changed = summary()
        *above, last = path
        place = changed
        for key in above:
            place = place[key]
        if other == "gone":
            del place[last]
        else:
            place[last] = other
        (tmp_path / "summary.json").write_text(json.dumps(changed))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["info", str(tmp_path)])
        lines = capsys.readouterr().err.splitlines()
        refused = ended.value.code == 2 and len(lines) == 1 and "summary.json" in lines[0]
        assert refused or ended.value.code == 0, (path, lines)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, "\0", "NaN", '{"learners": 1}', " " * (2**24 + 1)]
)
def test_a_broken_summary_is_named(
    text: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(whole / "run.h5", tmp_path)
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["info", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and "summary.json" in line and "move it away" in line


@pytest.mark.parametrize("broken", ["config.yaml", "summary.json"])
def test_a_protocol_names_the_broken_file_of_its_run(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    (tmp_path / "state" / "artsy_snn.safetensors").write_bytes(b"")
    (tmp_path / "summary.json").write_text(json.dumps(summary()))
    (tmp_path / broken).write_text("{: [")
    out = str(tmp_path / "out")
    with pytest.raises(SystemExit) as ended:
        main(["protocol", "lesion", "--run", str(tmp_path), "--out", out])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and str(tmp_path / broken) in line


# --- files that cost too much ---------------------------------------------------------------------


def _hostile(kind: str, file: h5py.File) -> None:
    if kind == "aliases":
        layers = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9))
        file.attrs["config"] = "a0: &a0 [x]\n" + layers
    elif kind == "many attributes":
        file.attrs.update({f"x{k}": k for k in range(2000)})
    elif kind == "large attribute":
        file.attrs["device"] = "x" * 2**23
    elif kind == "deep groups":
        file.create_group("/".join("x" * 300))
    elif kind == "cycle":
        file["synapses/task0/loop"] = file["synapses"]
    elif kind == "chunk":
        del file["stimulus/start_ms"]
        file.create_dataset(
            "stimulus/start_ms", (132,), "f8", maxshape=(None,), chunks=(2**28,), fillvalue=0.0
        )
    elif kind == "many objects":
        for k in range(60_000):
            h5py.h5g.create(file.id, f"g{k}".encode())


@pytest.mark.parametrize(
    "kind",
    [
        "aliases", "many attributes", "large attribute", "deep groups", "cycle",
        "chunk", "many objects",
    ],
)  # fmt: skip
def test_no_file_costs_more_than_a_run_file(
    kind: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import resource
    import time

    shutil.copy(whole / "run.h5", tmp_path)
    options = {"libver": "latest"} if "attribute" in kind else {}
    with h5py.File(tmp_path / "run.h5", "r+", **options) as file:
        _hostile(kind, file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    at, below = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with pytest.raises(SystemExit) as ended:
        main(["info", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and str(tmp_path) in line
    computed = time.process_time() - at
    computed += resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - below
    assert computed < 8  # s, of a slow machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250_000  # kB


def test_resume_looks_first_too(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, whose end is not the end of this one."""

    def loop(_: object) -> None:
        while True:
            pass

    shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(guard, "_SECONDS", 1)
    monkeypatch.setattr(guard, "check_tree", loop)
    with pytest.raises(ConfigError, match="more time or memory"):
        resume(tmp_path / "run")


def test_what_loops_or_takes_all_memory_is_ended(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 does so on some damaged headers, and nothing in its own process ends it."""

    def loop(_: object) -> None:
        while True:
            pass

    def take_all(_: object) -> None:
        held = []
        while True:
            held.append(bytes(2**24))

    monkeypatch.setattr(guard, "_SECONDS", 1)
    monkeypatch.setattr(guard, "check_tree", loop)
    with pytest.raises(RecordingError, match="more time or memory"):
        guard.first_look([whole / "run.h5"])
    monkeypatch.setattr(guard, "_SECONDS", 20)
    monkeypatch.setattr(guard, "check_tree", take_all)
    with pytest.raises(RecordingError, match="damaged"):
        guard.first_look([whole / "run.h5"])


@pytest.mark.parametrize("command", ["report", "export --to nwb"])
def test_a_run_is_not_replaced_by_what_is_made_of_it(
    command: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    file = tmp_path / "run" / "run.h5"
    before = file.read_bytes()
    name, *options = command.split()
    with pytest.raises(SystemExit) as ended:
        main([name, str(file.parent), *options, "--out", str(file), "--overwrite"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and "is the run that is read" in line
    assert file.read_bytes() == before
