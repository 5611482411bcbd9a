"""experiments/benchmarks/gpu.sh: what it starts, with which options, and where it ends; an
interpreter that only notes what it is asked takes the place of Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "gpu.sh"
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
