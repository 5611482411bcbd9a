"""experiments/benchmarks/gpu.sh: what it starts, with which options, and where it ends; an
interpreter that only notes what it is asked takes the place of Python."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "gpu.sh"
FOLDER = SCRIPT.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")

STAND_IN = """#!/bin/bash
echo "$*" >>"$NOTES"
while (($#)); do
    case $1 in
        --json|--junitxml) echo '{}' >"$2" ;;
        --tests|--stdp) [[ -s $2 ]] || exit 3 ;; # of the parts before it
    esac
    [[ $1 != pytest ]] || failed=1
    shift
done
exit ${failed:-0}
"""


def started(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script's end, and command lines that it gave to Python; its tests fail."""
    stand_in, notes = folder / "python", folder / "notes"
    stand_in.write_text(STAND_IN, encoding="utf-8")
    stand_in.chmod(0o755)
    notes.touch()
    environment = {**os.environ, "PYTHON": str(stand_in), "NOTES": str(notes)}
    done = subprocess.run(
        ["bash", str(SCRIPT), *options], capture_output=True, text=True, env=environment
    )
    return done, notes.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("options", "device", "quick"),
    [([], "cuda", False), (["--device", "cpu"], "cpu", True)],
    ids=["gpu", "cpu"],  # the script chooses tests by name
)
def test_three_parts_make_one_file_though_tests_fail(
    options: list[str], device: str, quick: bool, tmp_path: Path
) -> None:
    out = tmp_path / "gpu.json"
    done, asked = started(tmp_path, *options, str(out))
    assert done.returncode == 0, done.stderr
    assert out.is_file()
    tests, stdp, measures = asked
    assert tests.startswith("-m pytest -q -k cuda") and "tests/rules/test_rules.py" in tests
    for part in (stdp, measures):
        assert f"--device {device} " in part
    assert ("--quick" in stdp) is quick and ("--make-envs" in stdp) is not quick
    assert ("--models test_vit" in measures) is quick
    assert measures.endswith(f"--json {out}")


def test_a_dry_run_asks_for_help_alone(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done, asked = started(tmp_path, "--dry-run", "--device", "cpu", str(out))
    assert len(asked) == 1 and asked[0].endswith("--help")  # a part that does not parse ends it
    assert done.returncode == 1 and not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "tpu"], "use cuda or cpu"),
        (["--gpu"], "--gpu: unknown"),
        (["--device"], "cuda"),
    ],
    ids=["other", "unknown", "none"],
)
def test_other_options_are_refused(options: list[str], said: str, tmp_path: Path) -> None:
    done, asked = started(tmp_path, *options)
    assert done.returncode != 0 and said in done.stderr and asked == []


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location(f"{name}_script", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_failed_tests_are_told_with_what_they_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, out = tmp_path / "test_it.py", tmp_path / "tests.xml"
    test.write_text("def test_a():\n    assert 1 == 2, 'no'\ndef test_b():\n    pass\n")
    pytest.main(["-q", "-c", os.devnull, f"--rootdir={tmp_path}", f"--junitxml={out}", str(test)])
    found = script("gpu_measures", monkeypatch).tests(out)
    assert (found["tests"], found["failures"], found["skipped"]) == (2, 1, 0)
    ((name, said),) = found["failed"].items()
    assert name == "test_it::test_a" and "no" in said


def test_the_least_of_three_limits_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    stdp = script("stdp_throughput", monkeypatch)
    # 6 operations and 8 bytes an update; 100 GFLOP/s, 10 GB/s, a step in .1 ms
    limits = {
        batch: stdp.limits(stdp.Case(100, 50, batch, 10), 100.0, 10.0, 1e-4, "cuda")
        for batch in (1, 1000)
    }
    assert limits[1] == pytest.approx(
        {"computing": 1e5 / 6, "moving weights": 1250.0, "starting kernels": 50.0}
    )
    assert min(limits[1000], key=limits[1000].get) == "computing"
    assert [*stdp.limits(stdp.Case(100, 50, 1, 10), 100.0, 10.0, 1e-4, "cpu")] == ["computing"]


@pytest.mark.parametrize("taught", [True, False])
def test_operations_of_a_step_do_not_depend_on_sizes(
    taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdp = script("stdp_throughput", monkeypatch)
    small, large = (
        stdp.operations_a_step(
            stdp.make_task(stdp.Case(n, n, 1, 20), 0.1, 1, "cpu", 0)._replace(taught=taught)
        )
        for n in (30, 100)
    )
    assert small == pytest.approx(large, rel=0.1) and small > 10
