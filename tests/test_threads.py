"""How many threads a run computes with: the rule, what is set, what is recorded and taken over."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numba
import pytest
import torch
from processes import artsy, quick_environment
from rich.console import Console
from threadpoolctl import threadpool_info

from snn_artsy.checks import ConfigError
from snn_artsy.config import ANNConfig, DataConfig, RunConfig
from snn_artsy.learners.artsy_ann import ArtsyANN
from snn_artsy.protocols.base import Session
from snn_artsy.protocols.run_all import run_protocols
from snn_artsy.recording import open_run
from snn_artsy.runs.compare import compare
from snn_artsy.runs.run import execute, resume
from snn_artsy.threads import computing_with, cores, threads_of

SMALL = RunConfig(data=DataConfig(train_per_class=8, n_tasks=2), learners=["simplecil"])


def in_use() -> set[int]:
    """Thread counts of every library that has some."""
    return {torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())}


def each() -> list[int]:
    """The same, library by library, with Numba's first, whose pool starts when it is asked."""
    of_numba = numba.get_num_threads()
    libraries = [library["num_threads"] for library in threadpool_info()]
    return [of_numba, torch.get_num_threads(), *libraries]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_library_gets_the_same_number_and_its_own_back(n: int) -> None:
    before = each()
    with pytest.raises(KeyboardInterrupt), computing_with(n):
        assert in_use() == {n}
        assert numba.get_num_threads() == min(n, numba.config.NUMBA_NUM_THREADS)
        raise KeyboardInterrupt
    assert each() == before


def test_the_users_own_process_keeps_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run, a comparison and a protocol, as their results come, and as they fail."""
    quiet = Console(quiet=True)
    execute(replace(SMALL, out=str(tmp_path / "first")))  # loads the libraries that a run needs
    with computing_with(4):
        before = each()
        execute(replace(SMALL, out=str(tmp_path / "run")))
        assert each()[: len(before)] == before  # libraries may have been loaded since
        compare(replace(SMALL, out=str(tmp_path / "compared")), 1, quiet)
        assert each()[: len(before)] == before
        run_protocols(["mg-block"], Session(0), tmp_path / "protocol", quiet, go_on=False)
        assert each()[: len(before)] == before
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("snn_artsy.runs.run._draw", interrupt)
            execute(replace(SMALL, out=str(tmp_path / "cut")))
        assert each()[: len(before)] == before


def test_learners_on_features_take_one_and_in_the_blocks_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_blocks = RunConfig(ann=ANNConfig(placement="blocks"))
    monkeypatch.setattr("snn_artsy.threads.available_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of(RunConfig()) == 1
    assert threads_of(in_blocks) == 6
    assert threads_of(replace(in_blocks, threads=4)) == threads_of(RunConfig(threads=4)) == 4
    for limit, expected in (("2", 2), ("64", 6), ("0", 6), ("4,2", 6), ("", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        assert cores() == expected


@pytest.mark.parametrize("wrong", [0, -1, 2**40])
def test_impossible_numbers_are_refused(wrong: int) -> None:
    with pytest.raises(ConfigError, match=f"threads: {wrong} "):
        RunConfig(threads=wrong)


def recorded(directory: Path) -> tuple[int, int]:
    """What run.h5 and summary.json say."""
    with open_run(directory) as run:
        in_file = int(run.attributes["threads"])
    return in_file, json.loads((directory / "summary.json").read_text())["threads"]


@pytest.mark.parametrize(("given", "expected"), [(None, 1), (2, 2)])
def test_a_run_records_what_it_computed_with(
    given: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    monkeypatch.setattr("snn_artsy.runs.run._draw", lambda *_: seen.append(in_use()))
    with computing_with(3):  # of no effect
        directory = execute(replace(SMALL, threads=given, out=str(tmp_path / "run"))).directory
    assert recorded(directory) == (expected, expected)
    assert seen == [{expected}]


def test_a_resumed_run_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "run"
    config = replace(SMALL, threads=2, learners=["simplecil", "artsy_ann"], out=str(directory))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ArtsyANN, "learn", interrupt)
        execute(config)
    seen: list[int] = []
    monkeypatch.setattr("snn_artsy.runs.run._draw", lambda *_: seen.append(torch.get_num_threads()))
    resume(directory)
    assert seen == [2] and recorded(directory) == (2, 2)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


SETS_IT = """
import json, sys
import torch
from snn_artsy.cli import main
set_number = torch.set_num_threads
def told(n):
    print(f"threads {n} in {words[0]}", file=sys.stderr)
    set_number(n)
torch.set_num_threads = told
for words in json.loads(sys.argv[1]):
    set_number(2)
    try:
        main(words)
    except SystemExit as done:
        print(f"{words[0]} ends with {done.code}", file=sys.stderr)
"""


def test_the_command_line_sets_it(tmp_path: Path) -> None:
    """In a process of its own, whose libraries would take two threads by themselves."""
    small = ["--learners", "simplecil", "--data.train_per_class", "8"]
    commands = [["run", *small], ["compare", *small, "--seeds", "2"], ["protocol", "mg-block"]]
    for words in commands:
        words += ["--out", str(tmp_path / words[0]), "--threads", "3"]
    done = subprocess.run(
        [sys.executable, "-c", SETS_IT, json.dumps(commands)], capture_output=True, text=True,
        env=quick_environment(OMP_NUM_THREADS="2"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in commands:
        said = done.stderr.splitlines()
        assert f"threads 3 in {words[0]}" in said and f"{words[0]} ends with 0" in said, done.stderr
        refused = artsy(tmp_path, *words[:-1], "0")
        assert refused.returncode == 2 and "threads: 0 " in refused.stderr
