"""Work in processes of its own: what comes back, what a kill costs, and that none stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from processes import marked, marked_environment
from rich.console import Console

from snn_artsy.checks import ConfigError
from snn_artsy.runs import on_ray, workers
from snn_artsy.runs.workers import HERE, RETRIES, Resources, WorkOutcome, carry_out

QUIET = Console(quiet=True)
LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")


def until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- what the processes are asked to do -----------------------------------------------------------


def halved(given: Any) -> Any:
    print("what is printed is no answer")
    if given == "wrong":
        raise ConfigError("seed", "cannot be used; use 0 or more", -1)
    if given == "plain":
        raise RuntimeError("a learner failed")
    return {"half": given / 2, "process": os.getpid()}


def dies(given: dict[str, Any]) -> int:
    """Counts its beginnings in a file, and is killed at the first ``times`` of them."""
    file = Path(given["file"])
    with file.open("a") as stream:
        stream.write("x")
    begun = len(file.read_text())
    if begun <= given["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun


def sleeps(given: str) -> None:
    Path(given).touch()
    time.sleep(300)


def visible(given: Any) -> list[str | None]:
    return [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")]


# --- in which they do it --------------------------------------------------------------------------


def test_every_piece_is_done_whatever_becomes_of_others() -> None:
    work = {"a": 1, "text": "x", "plain": "plain", "wrong": "wrong", "b": 4.5}
    found = carry_out(halved, work, [], Resources(workers=2), QUIET)
    assert list(sorted(found)) == sorted(work)
    processes = {found[name].result.pop("process") for name in "ab"}
    assert len(processes) == 2 and os.getpid() not in processes
    assert found["a"] == WorkOutcome({"half": 0.5}) and found["b"] == WorkOutcome({"half": 2.25})
    assert found["plain"] == WorkOutcome(error="a learner failed")
    refused = ["seed", "-1 cannot be used; use 0 or more"]
    assert found["wrong"] == WorkOutcome(error=": ".join(refused), refused=refused)
    assert found["text"].error is not None and found["text"].error.startswith("TypeError: ")


def test_what_a_killed_process_did_is_begun_again(tmp_path: Path) -> None:
    work = {
        name: {"file": str(tmp_path / name), "times": times}
        for name, times in (("never", 0), ("once", 1), ("always", 99))
    }
    found = carry_out(dies, work, [], Resources(workers=3), QUIET)
    assert found["never"].result == 1 and found["once"].result == 2
    assert found["always"].error == f"its process died {RETRIES + 1} times, with code -9"
    assert len((tmp_path / "always").read_text()) == RETRIES + 1


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_stays_behind(number: signal.Signals, tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    program = (
        "from rich.console import Console\n"
        "from snn_artsy.runs.workers import Resources, carry_out\n"
        "from snn_artsy.signals import interruptible\n"
        "from test_workers import sleeps\n"
        "with interruptible():\n"
        f"    work = {{name: name for name in {[str(file) for file in files]}}}\n"
        "    carry_out(sleeps, work, [], Resources(workers=2), Console(quiet=True))\n"
    )
    paths = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    environment = marked_environment(PYTHONPATH=paths)
    # a shell's background job would hand an ignored SIGINT on
    asking = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    until(lambda: all(file.exists() for file in files) or asking.poll() is not None)
    assert len(marked(environment)) == 3
    asking.send_signal(number)
    assert asking.wait(60) != 0
    until(lambda: not marked(environment), 30)


def test_each_process_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)

    def shares(**given: Any) -> list[str]:
        return [slot["CUDA_VISIBLE_DEVICES"] for slot in Resources(**given).slots()]

    assert shares(workers=9, gpus_per_run=1) == ["0", "1", "2", "3"]
    assert shares(workers=3, gpus_per_run=0.5) == ["0", "0", "1"]
    assert shares(workers=9, gpus_per_run=2) == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,6,7")
    assert shares(workers=2, gpus_per_run=1) == ["2", "5"]
    with pytest.raises(ConfigError, match=r"^gpus_per_run: 5 .* 4 GPUs here"):
        shares(workers=1, gpus_per_run=5)
    monkeypatch.setattr(workers, "available_cores", lambda: 7)
    assert len(Resources(cpus_per_run=3).slots()) == 2
    assert len(Resources(cpus_per_run=9).slots()) == 1
    resources = Resources(workers=1, cpus_per_run=3, gpus_per_run=1)
    assert carry_out(visible, {"a": 0}, [], resources, QUIET)["a"].result == ["2", "3"]


def test_code_of_ones_own_is_found_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a virtual environment's folder, beside one, and below /usr, where Debian's is."""
    paths = sysconfig.get_paths()
    inside = [str(Path(sys.prefix, "my code")), str(Path(sys.base_prefix, "share", "my code"))]
    beside = [f"{sys.prefix}-of-mine", f"{paths['stdlib']}-of-mine", str(tmp_path)]
    named = str(Path(paths["purelib"], "named"))
    python = [paths["stdlib"], str(Path(paths["stdlib"], "lib-dynload")), paths["purelib"]]
    python += ["{}/python{}{}.zip".format(Path(paths["stdlib"]).parent, *sys.version_info)]
    monkeypatch.setattr(sys, "path", [*python, *inside, *beside, named, "here"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([named, ""]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: env)
    environment: Any = workers._started(HERE, {})
    _, *found = environment["PYTHONPATH"].split(os.pathsep)
    assert found == [*inside, *beside, named, str(tmp_path / "here")]


@pytest.mark.parametrize(
    ("given", "key"),
    [({"workers": 0}, "workers"), ({"cpus_per_run": 0}, "cpus_per_run"),
     ({"gpus_per_run": -0.5}, "gpus_per_run")],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        Resources(**given)


def test_ray_is_needed_for_a_cluster_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^address: needs Ray.*pip install 'snn-artsy\[sweep\]'"):
        Resources(address="auto")
    program = (
        "import sys, snn_artsy.runs.compare, snn_artsy.runs.sweep; print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert Resources(workers=1) == HERE


# --- on a cluster ---------------------------------------------------------------------------------


def test_a_head_that_is_gone_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself waits without end for what a dead head's workers will never say."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"

        class Ray:
            """The head dies with the first piece of work done, and the rest is never heard of."""

            exceptions = SimpleNamespace(RayError=RuntimeError)
            heard = 0

            def remote(self, **options: Any) -> Any:
                return lambda function: SimpleNamespace(remote=lambda *given: given[-1])

            def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
                self.heard += 1
                if self.heard < 3:  # nothing yet, of a head that lives
                    return [], references
                head.close()
                return (references[:1], references[1:]) if self.heard == 3 else ([], references)

            def get(self, reference: Any) -> Any:
                return reference

        told: dict[str, Any] = {}
        monkeypatch.setitem(sys.modules, "ray", Ray())
        monkeypatch.setattr(on_ray, "PATIENCE", 0.0)
        monkeypatch.setattr(on_ray, "_connect", lambda ray, given: given)
        resources = {"address": address, "cpus_per_run": 1, "gpus_per_run": 0}
        with pytest.raises(ConfigError, match="does not answer any more, 2 of 3 pieces"):
            on_ray.hand_on(halved, (), {"a": 1, "b": 2, "c": 3}, resources, 3, told.__setitem__)
        assert told == {"a": 1}


SMALL = ["--learners", "simplecil,joint", "--data.train_per_class", "8"]


@contextmanager
def ray_head(environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray cluster of this machine, for those who have this environment."""
    with socket.socket() as free:  # others may run these tests, too
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    head = subprocess.Popen(
        [*ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false",
         "--block"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    asks = [*ray, "health-check", "--address", f"127.0.0.1:{port}"]
    try:
        until(lambda: subprocess.run(asks, env=environment, capture_output=True).returncode == 0)
        assert head.poll() is None
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait()
        for process in marked(environment):
            os.kill(process, signal.SIGKILL)


def program(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snn_artsy", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@LINUX
@pytest.mark.slow
def test_a_sweep_and_a_comparison_on_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}
    environment = marked_environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1", **secret)
    swept, there, here = (str(tmp_path / name) for name in ("swept", "there", "here"))
    compared = ["compare", "--seeds", "2", *SMALL, "--out"]
    with ray_head(environment) as found:
        address = ["--address", found]
        done = program(environment, "sweep", "--grid", "seed=1,2", *SMALL, *address, "--out", swept)
        assert done.returncode == 0, done.stderr + done.stdout
        done = program(environment, *compared, there, *address)
        assert done.returncode == 0, done.stderr + done.stdout
        other = environment | {"RAY_AUTH_TOKEN": "0" * 64}
        done = program(other, *compared, str(tmp_path / "stranger"), *address)
        assert done.returncode == 2 and "lets us in" in done.stderr
    done = program(environment, *compared, here)
    assert done.returncode == 0, done.stderr
    assert numbers(Path(there)) == numbers(Path(here))
    runs = json.loads((tmp_path / "swept" / "sweep.json").read_text())["runs"]
    assert [set(run["learners"]) for run in runs] == [{"simplecil", "joint"}] * 2


def numbers(directory: Path) -> Any:
    """What a comparison found, but for times."""
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    learners = {
        name: {k: v for k, v in each.items() if "seconds" not in k and "_ms_per_" not in k}
        for name, each in summary["learners"].items()
    }
    return learners, summary["pairs"]


@LINUX
@pytest.mark.slow
def test_a_cluster_that_asks_for_no_token_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    open_to_all = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    with ray_head(marked_environment(**open_to_all)) as address:
        words = ["--learners", "simplecil", "--address", address, "--out"]
        for token in ({}, {"RAY_AUTH_TOKEN": "1" * 64}):
            for command in (["sweep", "--grid", "seed=1"], ["compare", "--seeds", "1"]):
                out = tmp_path / command[0]
                done = program({**os.environ, **token}, *command, *words, str(out))
                assert done.returncode == 2, done.stderr
                assert "ray get-auth-token --generate" in done.stderr
                assert [*out.glob("runs/*"), *out.glob("cells/*")] == []
