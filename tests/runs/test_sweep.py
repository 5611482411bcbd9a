"""Grids of runs: what they are made of, what is refused, and runs on a local Ray cluster."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import (
    artsy,
    command_line,
    listening,
    marked,
    marked_environment,
    quick_environment,
)
from rich.console import Console

from snn_artsy.checks import ConfigError
from snn_artsy.cli import main
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.learners.artsy_ann import ArtsyANN
from snn_artsy.recording.lock import WriterLock
from snn_artsy.runs import sweep
from snn_artsy.runs.directory import check_out
from snn_artsy.runs.run import execute
from snn_artsy.runs.sweep import (
    GridCell,
    check,
    finished,
    grid_cells,
    read_grid,
    summarise,
)
from snn_artsy.runs.tables import groups_table

BASE: dict[str, Any] = {"data": {"train_per_class": 8}, "learners": ["simplecil"]}
GRID = {"seed": [1, 2], "snn.plasticity.rule": ["gated", "pair", "none"]}


def test_every_combination_once(tmp_path: Path) -> None:
    base = BASE | {"learners": ["artsy_snn"]}
    cells = grid_cells(base, GRID, tmp_path)
    found = [(c.config.seed, c.config.snn.plasticity.rule) for c in cells]
    assert found == [(s, r) for s in (1, 2) for r in ("gated", "pair", "none")]
    assert all(c.config.data.train_per_class == 8 for c in cells)
    assert len({c.config.out for c in cells}) == 6
    # a larger grid keeps the names of those that were there
    larger = grid_cells(base, GRID | {"seed": [1, 2, 3]}, tmp_path)
    assert {c.name for c in cells} < {c.name for c in larger}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "nothing to sweep over"),
        ({"sed": [1]}, "sed"),
        ({"snn": [1]}, "single keys"),
        ({"out": ["a"]}, "cannot be swept"),
        ({"seed": 3}, "no list of values"),
        ({"seed": [1, -1]}, r"seed: -1 .* \(in the combination"),
        ({"seed": [1, 1]}, "stands twice"),
        (
            {"seed": [*range(2000)], "ann.epochs": [*range(1, 2001)]},
            "grid: 4000000 cannot be used; use at most 10,000",
        ),
    ],
)
def test_what_is_refused_before_anything_runs(
    grid: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_cells(BASE, grid, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_grid_in_a_file_has_dotted_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = {"seed": [1, 2], "snn.plasticity.rule": ["gated", "pair"]}
    nested = {"seed": [1, 2], "snn": {"plasticity": {"rule": ["gated", "pair"]}}}
    assert read_grid(grid) == read_grid(nested) == grid
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"learners": ["artsy_snn"], "grid": grid}))
    for _ in range(2):  # what it prints is such a file again, and nothing is run
        with pytest.raises(SystemExit) as done:
            main(["sweep", "--config", str(file), "--print_config"])
        assert done.value.code == 0 and list(tmp_path.iterdir()) == [file]
        file.write_text(printed := capsys.readouterr().out)
        assert yaml.safe_load(printed)["grid"] == grid
        assert yaml.safe_load(printed)["learners"] == ["artsy_snn"]


def test_grids_as_text() -> None:
    text = "seed=1,2; snn.plasticity.rule=gated, none;learners=[simplecil, ease],[ranpac]"
    assert read_grid(text) == {
        "seed": [1, 2],
        "snn.plasticity.rule": ["gated", "none"],
        "learners": [["simplecil", "ease"], ["ranpac"]],
    }
    numbers = read_grid("ann.lr=1e-3,.5")
    cells = grid_cells(BASE | {"learners": ["artsy_ann"]}, numbers, Path("sweep"))
    assert [cell.config.ann.lr for cell in cells] == [1e-3, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "not key=value"),
        ("seed=", "not key=value"),
        ("=1", "not key=value"),
        ("seed=1,2;seed=3", "seed stands there twice"),
        ("seed=1; seed =2", "seed stands there twice"),
        ("seed=[1,2", "grid: 'seed=\\[1,2'"),
        ("seed=1]", "grid: 'seed=1\\]'"),
        ("seed={a: 1", "grid: "),
    ],
)
def test_grids_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        grid_cells(BASE, read_grid(text), tmp_path)
    assert "\n" not in str(found.value)
    done = artsy(tmp_path, "sweep", "--out", str(tmp_path), "--grid", text)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def pretend(cell: GridCell, a_last: float) -> None:
    directory = Path(str(cell.config.out))
    directory.mkdir(parents=True)
    summary = {"config": asdict(cell.config), "learners": {"simplecil": {"a_last": a_last}}}
    (directory / "summary.json").write_text(json.dumps(summary))


def test_summary_is_over_seeds(tmp_path: Path) -> None:
    base = BASE | {"learners": ["artsy_ann"]}
    cells = grid_cells(base, {"seed": [1, 2], "ann.epochs": [1, 2]}, tmp_path)
    for cell, value in zip(cells, (0.1, 0.5, 0.3), strict=False):
        pretend(cell, value)
    assert [finished(c) for c in cells] == [True, True, True, False]
    found = summarise(cells, {})
    assert found["runs"][3]["error"] == "did not finish"
    one, two = found["groups"]
    assert one["values"] == {"ann.epochs": 1} and one["n"] == 2
    assert one["measures"]["a_last"]["mean"] == pytest.approx(0.2)
    assert one["measures"]["a_last"]["sd"] == pytest.approx(0.2 / 2**0.5)
    assert two["n"] == 1 and two["measures"]["a_last"]["sd"] is None
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(groups_table(found))
    assert "20.0 ± 14.1" in console.export_text()


def test_a_run_of_another_configuration_is_not_finished(tmp_path: Path) -> None:
    cell = grid_cells(BASE, {"seed": [1]}, tmp_path)[0]
    pretend(cell, 0.5)
    other = grid_cells(BASE | {"data": {"train_per_class": 9}}, {"seed": [1]}, tmp_path)[0]
    assert other.name == cell.name and finished(cell) and not finished(other)


def test_a_run_without_its_checkpoint_is_finished_for_everybody(tmp_path: Path) -> None:
    """A kill can come between the removal of the checkpoint's main file and that of its folder."""
    cell = grid_cells(BASE, {"seed": [1]}, tmp_path)[0]
    pretend(cell, 0.5)
    folder = Path(str(cell.config.out)) / "checkpoint"
    (folder / "answers").mkdir(parents=True)
    (folder.parent / "config.yaml").touch()
    assert finished(cell)
    with pytest.raises(ConfigError, match="holds a finished run"):
        check_out(cell.config.out)
    (folder / "run.safetensors").touch()
    assert not finished(cell)
    check_out(cell.config.out)  # it can go on there


# --- what is in a run's directory already ---------------------------------------------------------


@pytest.fixture
def run_there(tmp_path: Path) -> GridCell:
    """A finished run of a sweep, with the user's notes in its directory."""
    (cell,) = grid_cells(BASE, {"seed": [1]}, tmp_path)
    execute(cell.config)
    (Path(str(cell.config.out)) / "notes.txt").write_text("mine")
    return cell


def changed(cell: GridCell, values: dict[str, Any]) -> GridCell:
    """The same run in the same place, with other values."""
    tree = BASE | values | {"data": BASE["data"] | values.get("data", {})}
    place = Path(str(cell.config.out)).parent.parent
    return grid_cells(tree, {"seed": [1]}, place)[0]


def tree(directory: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("begun", ["finished", "interrupted", "hardly begun"])
def test_a_run_made_otherwise_is_refused_and_left_alone(
    begun: str, run_there: GridCell, tmp_path: Path
) -> None:
    directory = Path(str(run_there.config.out))
    if begun != "finished":
        (directory / "summary.json").unlink()
    if begun == "hardly begun":
        (directory / "run.h5").unlink()
    before = tree(tmp_path)
    for values, message in (
        ({"data": {"train_per_class": 9}}, "data.train_per_class was 8 and is 9"),
        ({"ann": {"lr": 0.5}}, "ann.lr was .* and is 0.5"),
        ({"learners": ["ease"]}, "learners was"),
    ):
        other = changed(run_there, values)
        assert not finished(other)
        with pytest.raises(ConfigError, match=message):
            check([other])
    assert tree(tmp_path) == before


def test_other_images_and_weights_are_a_difference(
    run_there: GridCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_artsy.runs import features as frozen

    images, sha, precision = frozen.fingerprints(run_there.config, "cpu")
    check([run_there])
    other = images | {"test": "0" * 64}
    monkeypatch.setattr(frozen, "fingerprints", lambda *_: (other, sha, precision))
    with pytest.raises(ConfigError, match="the test images changed"):
        check([run_there])
    monkeypatch.setattr(frozen, "fingerprints", lambda *_: (images, "0" * 64, precision))
    with pytest.raises(ConfigError, match="the backbone's weights changed"):
        check([run_there])


def test_what_cannot_change_a_number_is_no_difference(run_there: GridCell, tmp_path: Path) -> None:
    for values in (
        {"backbone": {"workers": 1}},
        {"backbone": {"cache_dir": str(tmp_path / "cache")}},
        {"backbone": {"cache": False}},
        {"threads": 2},
    ):
        same = changed(run_there, values)
        check([same])
        assert finished(same)


def test_other_files_are_refused(run_there: GridCell, tmp_path: Path) -> None:
    directory = Path(str(run_there.config.out))
    for name in ("run.h5", "config.yaml", "summary.json"):
        (directory / name).unlink()
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="already holds other files"):
        check([run_there])
    assert tree(tmp_path) == before


def test_a_directory_that_is_written_is_left_alone(
    run_there: GridCell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(str(run_there.config.out))
    (directory / "summary.json").unlink()
    monkeypatch.setattr(sweep, "PATIENCE", 0.2)
    with WriterLock(directory):
        before = tree(tmp_path)
        with pytest.raises(ConfigError, match="is being written by another process"):
            check([run_there])
        # a worker that Ray started anew, while the one that it lost still writes
        with pytest.raises(RuntimeError, match="another process writes"):
            sweep.run_one(plain(run_there))
        assert tree(tmp_path) == before


def plain(cell: GridCell) -> dict[str, Any]:
    """As it reaches a worker."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(cell.config)))
    return found


def test_a_worker_goes_on_where_another_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = BASE | {"learners": ["simplecil", "artsy_ann"]}
    (cell,) = grid_cells(base, {"seed": [1]}, tmp_path / "a")
    (whole,) = grid_cells(base, {"seed": [1]}, tmp_path / "b")
    expected = execute(whole.config).summary["learners"]
    directory = Path(str(cell.config.out))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ArtsyANN, "learn", interrupt)
        sweep.run_one(plain(cell))
    begun = tree(directory)
    # a passing error is no damage: nothing is removed, and the next attempt goes on
    with monkeypatch.context() as patched, pytest.raises(ConfigError, match="too little"):
        patched.setattr("snn_artsy.runs.run.check_disk", too_little)
        sweep.run_one(plain(cell))
    for name in ("run.h5", "config.yaml"):
        assert tree(directory)[str(directory / name)] == begun[str(directory / name)]
    check([cell])
    sweep.run_one(plain(cell))
    assert finished(cell)
    found = json.loads((directory / "summary.json").read_text())["learners"]
    for name, measures in expected.items():
        assert found[name]["a_last"] == measures["a_last"]
    # and once more, for a worker that was lost after its last write
    before = tree(directory)
    sweep.run_one(plain(cell))
    assert tree(directory) == before


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def too_little(*_: object) -> None:
    raise ConfigError("out", "too little disk space")


# --- in processes of their own --------------------------------------------------------------------


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "snn_artsy", "sweep", "--out", str(out), "--workers", "2",
            "--data.train_per_class", "8", "--data.class_range", "[0, 4]", "--data.n_tasks", "2",
            *more]  # fmt: skip


def by_hand(directory: Path, seed: int, **values: Any) -> dict[str, Any]:
    data = DataConfig(train_per_class=8, class_range=[0, 4], n_tasks=2)
    config = RunConfig(data=data, learners=["simplecil", "artsy_snn"])
    config = replace(config, seed=seed, out=str(directory), **values)
    return execute(config).summary["learners"]


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    out = tmp_path / "sweep"
    grid = ["--grid", "seed=1,2", "--learners", "simplecil,artsy_snn"]
    # a cluster that is not asked for is not joined
    environment = quick_environment(RAY_ADDRESS="127.0.0.1:1")
    done = subprocess.run(
        command(out, *grid), capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "sweep.json, sweep.csv, runs:" in done.stdout
    return out


def test_a_sweep_gives_the_numbers_of_runs_by_hand(swept: Path, tmp_path: Path) -> None:
    summary = json.loads((swept / "sweep.json").read_text())
    assert len(summary["runs"]) == 2 and not any("error" in run for run in summary["runs"])
    for run in summary["runs"]:
        expected = by_hand(tmp_path / f"hand{run['values']['seed']}", run["values"]["seed"])
        for learner, measures in run["learners"].items():
            for key in ("a_last", "a_avg", "task_identification"):
                assert measures[key] == expected[learner][key]
    with (swept / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["seed"], r["learner"]) for r in rows] == [
        (s, name) for s in ("1", "2") for name in ("simplecil", "artsy_snn")
    ]
    with (swept / "matrix.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["seed"], r["learner"]) for r in rows} == {
        (s, name) for s in ("1", "2") for name in ("simplecil", "artsy_snn")
    }
    assert (swept / "forgetting.csv").is_file() and (swept / "gates.csv").is_file()
    # what is there is not run again; what is missing is
    times = {p: p.stat().st_mtime_ns for p in swept.glob("runs/*/run.h5")}
    done = artsy(swept.parent, *command(swept, "--grid", "seed=1,2,-3")[3:])
    assert done.returncode == 2 and "seed: -3" in done.stderr
    grid = ["--grid", "seed=1,2,3", "--learners", "simplecil,artsy_snn"]
    done = subprocess.run(
        command(swept, *grid), capture_output=True, text=True, timeout=300, env=quick_environment()
    )
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert len(list(swept.glob("runs/*/run.h5"))) == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_24_runs_with_a_worker_killed_on_the_way(tmp_path: Path) -> None:
    out, environment = tmp_path / "sweep", marked_environment()
    seeds = ",".join(str(s) for s in range(24))
    grid = ["--grid", f"seed={seeds}", "--learners", "simplecil,artsy_snn"]
    sweep = subprocess.Popen(
        command(out, *grid), stdout=subprocess.PIPE, text=True, env=environment
    )
    until(lambda: len(list(out.glob("runs/*/summary.json"))) >= 4)
    killed, *_ = (p for p in marked(environment) if "workers import main" in command_line(p))
    os.kill(killed, signal.SIGKILL)
    text, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 0, text
    summary = json.loads((out / "sweep.json").read_text())
    assert sorted(run["values"]["seed"] for run in summary["runs"]) == list(range(24))
    assert not any("error" in run for run in summary["runs"])
    for run in summary["runs"][::6]:
        expected = by_hand(tmp_path / f"hand{run['values']['seed']}", run["values"]["seed"])
        assert run["learners"]["artsy_snn"]["a_last"] == expected["artsy_snn"]["a_last"]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_nobody_can_reach_it_and_nothing_stays_behind(tmp_path: Path) -> None:
    environment = marked_environment()
    grid = ["--grid", "seed=1", "--learners", "artsy_snn", "--snn.plasticity.epochs", "5000"]
    sweep = subprocess.Popen(
        command(tmp_path, *grid), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    try:
        until(lambda: any(tmp_path.glob("runs/*/run.h5")) or sweep.poll() is not None)
        assert sweep.poll() is None
        processes = marked(environment)
        assert len(processes) == 2 and listening(processes) == set()
    finally:
        sweep.send_signal(signal.SIGTERM)
        sweep.communicate(timeout=60)
    assert sweep.returncode == 143
    until(lambda: not marked(environment))


def until(happened: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)
