"""Grids of runs: what they are made of, what is refused, and runs on a local Ray cluster."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.run import execute
from snn_artsy.sweep import Cell, finished, grid_cells, groups_table, read_grid, summarise

BASE: dict[str, Any] = {"data": {"train_per_class": 8}, "learners": ["simplecil"]}
GRID = {"seed": [1, 2], "snn.plasticity.rule": ["gated", "pair", "none"]}


def test_every_combination_once(tmp_path: Path) -> None:
    cells = grid_cells(BASE, GRID, tmp_path)
    found = [(c.config.seed, c.config.snn.plasticity.rule) for c in cells]
    assert found == [(s, r) for s in (1, 2) for r in ("gated", "pair", "none")]
    assert all(c.config.data.train_per_class == 8 for c in cells)
    assert len({c.config.out for c in cells}) == 6
    # a larger grid keeps the names of those that were there
    larger = grid_cells(BASE, GRID | {"seed": [1, 2, 3]}, tmp_path)
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
    ],
)
def test_what_is_refused_before_anything_runs(
    grid: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_cells(BASE, grid, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_grids_as_text() -> None:
    text = "seed=1,2; snn.plasticity.rule=gated, none;learners=[simplecil, ease],[ranpac]"
    assert read_grid(text) == {
        "seed": [1, 2],
        "snn.plasticity.rule": ["gated", "none"],
        "learners": [["simplecil", "ease"], ["ranpac"]],
    }
    with pytest.raises(ConfigError, match="not key=value"):
        read_grid("seed")


def pretend(cell: Cell, a_last: float) -> None:
    from dataclasses import asdict

    directory = Path(str(cell.config.out))
    directory.mkdir(parents=True)
    summary = {"config": asdict(cell.config), "learners": {"simplecil": {"a_last": a_last}}}
    (directory / "summary.json").write_text(json.dumps(summary))


def test_summary_is_over_seeds(tmp_path: Path) -> None:
    cells = grid_cells(BASE, {"seed": [1, 2], "ann.epochs": [1, 2]}, tmp_path)
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
    assert groups_table(found).row_count == 2


def test_a_run_of_another_configuration_is_not_finished(tmp_path: Path) -> None:
    cell = grid_cells(BASE, {"seed": [1]}, tmp_path)[0]
    pretend(cell, 0.5)
    other = grid_cells(BASE | {"data": {"train_per_class": 9}}, {"seed": [1]}, tmp_path)[0]
    assert other.name == cell.name and finished(cell) and not finished(other)


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "snn_artsy", "sweep", "--out", str(out), "--workers", "2",
            "--data.train_per_class", "8", *more]  # fmt: skip


def by_hand(directory: Path, seed: int, **values: Any) -> dict[str, Any]:
    config = RunConfig(data=DataConfig(train_per_class=8), learners=["simplecil", "artsy_snn"])
    config = replace(config, seed=seed, out=str(directory), **values)
    return execute(config).summary["learners"]


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    pytest.importorskip("ray")
    out = tmp_path / "sweep"
    grid = ["--grid", "seed=1,2", "--learners", "simplecil,artsy_snn"]
    # a cluster that is not asked for is not joined
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
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
    # what is there is not run again; what is missing is
    times = {p: p.stat().st_mtime_ns for p in swept.glob("runs/*/run.h5")}
    done = subprocess.run(
        command(swept, "--grid", "seed=1,2,-3"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and "seed: -3" in done.stderr
    grid = ["--grid", "seed=1,2,3", "--learners", "simplecil,artsy_snn"]
    done = subprocess.run(command(swept, *grid), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert len(list(swept.glob("runs/*/run.h5"))) == 3


@pytest.mark.slow
def test_24_runs_with_a_worker_killed_on_the_way(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "sweep"
    seeds = ",".join(str(s) for s in range(24))
    grid = ["--grid", f"seed={seeds}", "--learners", "simplecil,artsy_snn"]
    sweep = subprocess.Popen(command(out, *grid), stdout=subprocess.PIPE, text=True)
    killed = None
    deadline = time.monotonic() + 300
    while killed is None and time.monotonic() < deadline:
        time.sleep(0.5)
        if len(list(out.glob("runs/*/summary.json"))) < 4:
            continue
        listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
        workers = [line.split()[0] for line in listed.splitlines() if "ray::run_cell" in line]
        if workers:
            killed = int(workers[0])
            os.kill(killed, signal.SIGKILL)
    text, _ = sweep.communicate(timeout=600)
    assert killed is not None and sweep.returncode == 0, text
    summary = json.loads((out / "sweep.json").read_text())
    assert sorted(run["values"]["seed"] for run in summary["runs"]) == list(range(24))
    assert not any("error" in run for run in summary["runs"])
    for run in summary["runs"][::6]:
        expected = by_hand(tmp_path / f"hand{run['values']['seed']}", run["values"]["seed"])
        assert run["learners"]["artsy_snn"]["a_last"] == expected["artsy_snn"]["a_last"]
