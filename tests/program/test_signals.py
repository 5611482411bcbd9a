"""Ctrl-C and SIGTERM at any moment: 130 and 143, results kept, no child left, the same numbers
when the command is given again.

SNN_ARTSY_TEST_SIGNALS=50 sends 50 signals instead of 2.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from drawing import QUICK
from processes import artsy, marked, marked_environment

from snn_artsy.signals import Terminated, exit_code, interruptible

N_SIGNALS = int(os.environ.get("SNN_ARTSY_TEST_SIGNALS", "2"))
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(autouse=True)
def _not_ignored() -> Any:
    """A shell's background job inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@BOTH
def test_a_signal_is_raised_where_it_meets_the_program(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as found, interruptible():
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert isinstance(found.value, Terminated) == (number == signal.SIGTERM)
    assert exit_code(found.value) == CODES[number]
    assert signal.getsignal(number) == before


class Signalled:
    """A signal arrives while its finalizer runs, where Python drops exceptions."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        for _ in range(1000):
            pass


@BOTH
def test_a_signal_that_python_drops_comes_again(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    hook = sys.unraisablehook
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as found, interruptible():
        thing = Signalled(number)
        del thing
        time.sleep(10)
    assert exit_code(found.value) == CODES[number]
    assert time.monotonic() - started < 5
    assert sys.unraisablehook is hook and "ignored" not in capfd.readouterr().err


@BOTH
def test_a_signal_that_a_library_drops_comes_at_the_end(number: signal.Signals) -> None:
    went_on = False
    with pytest.raises(KeyboardInterrupt) as found, interruptible():
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except:  # noqa: E722 - what is tried
            pass
        went_on = True
    assert went_on and exit_code(found.value) == CODES[number]


def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


# --- whole commands -------------------------------------------------------------------------------

LEARNERS = ["--learners", "simplecil,artsy_ann,artsy_snn", "--data.train_per_class", "8"]
LEARNERS += ["--data.class_range", "[0, 4]", "--data.n_tasks", "2"]
# The command, without the figures that would take most of its time.
PROGRAM = f"""
from snn_artsy.cli import main
from snn_artsy.registry import FIGURES
FIGURES.entries = {{name: FIGURES.entries[name] for name in {QUICK}}}
main()
"""


def command(name: str, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, name, *LEARNERS, "--out", str(out), *more]


def numbers(file: Path) -> dict[str, Any]:
    """A finished run's measures, but for times."""
    learners = json.loads(file.read_text())["learners"]
    return {
        learner: {k: v for k, v in measures.items() if "seconds" not in k and "_ms_per_" not in k}
        for learner, measures in learners.items()
    }


def as_a_shell_has_it(code: int) -> int:
    """A process that the signal ended before Python could."""
    return code if code >= 0 else 128 - code


def signalled(
    words: list[str], environment: dict[str, str], numbers: list[signal.Signals], after: float
) -> subprocess.CompletedProcess[str]:
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    time.sleep(after)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """Numbers of a run, and how long it takes (s)."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.monotonic()
    subprocess.run(command("run", out), check=True, capture_output=True)
    return numbers(out / "summary.json"), time.monotonic() - started


@pytest.mark.parametrize("k", range(N_SIGNALS))
def test_a_run_ends_and_goes_on(
    k: int, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    rng = random.Random(k)
    number = list(CODES)[k % 2]
    twice = [number] * rng.choice([1, 2])
    # the first second is Python's, before it knows of any handler
    after = rng.uniform(1.0, max(seconds, 2.0))
    out, environment = tmp_path / "run", marked_environment()
    done = signalled(command("run", out), environment, twice, after)
    assert as_a_shell_has_it(done.returncode) in (0, CODES[number]), done.stderr
    assert not marked(environment)
    if done.returncode == 0:  # it was quicker
        assert (out / "summary.json").is_file()
    else:
        again = artsy(tmp_path, *command("run", out)[3:])
        # the signal may have come when all was written
        assert again.returncode == 0 or "holds a finished run" in again.stderr, again.stderr
    assert numbers(out / "summary.json") == expected


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("k", range(N_SIGNALS))
def test_a_sweep_ends_with_all_its_processes_and_goes_on(
    k: int, undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    rng = random.Random(k)
    number = list(CODES)[k % 2]
    out, environment = tmp_path / "sweep", marked_environment()
    words = command("sweep", out, "--grid", "seed=1993", "--workers", "1")
    # features, a process's start and the run take longer than the run alone
    done = signalled(words, environment, [number], rng.uniform(1.0, 3 * seconds))
    assert as_a_shell_has_it(done.returncode) in (0, CODES[number]), done.stderr
    deadline = time.monotonic() + 20
    while marked(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not marked(environment)
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    (found,) = out.glob("runs/*/summary.json")
    assert numbers(found) == expected
