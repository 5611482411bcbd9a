"""Carry runs out on Ray: the process that a sweep starts and listens to.

Ray takes its process over: it replaces signal handlers (SIGTERM then ends in SIGABRT), reads its
settings from the environment and prints. So none of it happens in the process that the user
started, which needs no more to end everything here than to go away.

Standard input is one line of JSON, ``{"resources": ..., "runs": {name: configuration}, "own":
[module:Name]}``, and then stays open as long as the sweep lives. Standard output is a line of JSON
for each run that has ended, ``{"run": name, "error": null or text}``, or ``{"refused": text}``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from snn_artsy.checks import ConfigError

# A worker that dies (killed, out of memory, node gone) has its run begun again so many times.
RETRIES = 3
# How long such a run waits for a worker that is lost to Ray, but still writes (s).
PATIENCE = 60.0

START = """start one with a token, and give every node and this command the same one:
export RAY_AUTH_MODE=token; ray get-auth-token --generate; ray start --head"""


def main() -> None:
    """Read what to run, run it, tell what came of it."""
    # Whatever else is printed goes where it cannot be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    try:
        _carry_out(asked["runs"], asked["resources"], asked["own"], answers)
    except ConfigError as error:
        _tell(answers, refused=(error.key, error.problem))


def _end_with_the_sweep() -> None:
    """Standard input ends when the sweep does, however it died. Ray's own processes are tied to
    this one, and workers end when those do."""
    sys.stdin.read()
    os._exit(1)


def _tell(answers: IO[str], **answer: Any) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _carry_out(
    runs: dict[str, dict[str, Any]],
    resources: dict[str, Any],
    own: list[str],
    answers: IO[str],
) -> None:
    import ray

    _connect(ray, resources)
    remote = ray.remote(
        num_cpus=resources["cpus_per_run"],
        num_gpus=resources["gpus_per_run"],
        max_retries=RETRIES,
    )(run_one)
    waiting = {remote.remote(config, own): name for name, config in runs.items()}
    while waiting:
        done, _ = ray.wait(list(waiting), timeout=1.0)
        for reference in done:
            name, error = waiting.pop(reference), None
            try:
                ray.get(reference)
            except Exception as found:  # whatever a run died of must not stop the others
                cause = getattr(found, "cause", None) or found
                told = isinstance(cause, ConfigError) or type(cause) is RuntimeError
                error = str(cause) if told else f"{type(cause).__name__}: {cause}"
            _tell(answers, run=name, error=error)
    ray.shutdown()


STARTS = 4
"""Ray gives itself 30 s to start, too little on a busy machine; so often it may begin anew."""


def _started(ray: Any, **options: Any) -> Any:
    """What ``ray.init`` gives.

    Raises:
        RuntimeError: The machine is too busy for Ray to start.
    """
    for _ in range(STARTS):
        try:
            return ray.init(**options)
        except Exception as error:
            if type(error) is not Exception or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise RuntimeError(
        f"Ray did not start in {STARTS} times 30 s, since the machine is busy; the same command "
        "goes on where it stands"
    )


def _connect(ray: Any, resources: dict[str, Any]) -> None:
    """A cluster's Ray, or one of this machine alone.

    Raises:
        ConfigError: It cannot be reached, or lets everybody in.
    """
    address = resources["address"]
    # What a worker imports must be this very package, installed or not.
    environment = {
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "OMP_NUM_THREADS": str(resources["cpus_per_run"]),
    }
    local: dict[str, Any] = {}
    if address is None:
        local["include_dashboard"] = False
        if resources["workers"] is not None:
            local["num_cpus"] = resources["workers"] * resources["cpus_per_run"]
    try:
        context = _started(
            ray,
            address=address or "local",  # not one that happens to run here
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level="ERROR",
            **local,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address is None:
            raise
        raise ConfigError(
            f"address: no Ray cluster at {address!r} that lets us in ({error}); {START}"
        ) from error
    if address is not None and _lets_everybody_in(context.address_info["gcs_address"]):
        raise ConfigError(
            f"address: the Ray cluster at {address!r} asks for no token, so everybody who reaches "
            f"it can run code on its nodes; {START}"
        )


def _lets_everybody_in(address: str) -> bool:
    """Whether a cluster does not tell a client without a token that it wants one."""
    without = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH_")}
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    environment = {**without, "RAY_AUTH_MODE": "disabled"}
    asked = subprocess.run(command, env=environment, capture_output=True, text=True)
    return asked.returncode == 0 or "token" not in (asked.stdout + asked.stderr).lower()


def run_one(config: dict[str, Any], own: list[str]) -> None:
    """One run, in a worker: begun, or gone on with from what is there.

    Args:
        own: What the user added and the sweep names (``module:Name``).

    Raises:
        RuntimeError: Another process writes there, or a learner failed.
        ConfigError: There is something else.
    """
    from snn_artsy.config import RunConfig
    from snn_artsy.config_builder import build
    from snn_artsy.recording.lock import writer_alive
    from snn_artsy.registry import load
    from snn_artsy.runs.directory import is_finished
    from snn_artsy.runs.run import execute

    for name in own:
        load(name)
    directory = Path(config["out"])
    deadline = time.monotonic() + PATIENCE
    while writer_alive(directory):
        if time.monotonic() > deadline:
            raise RuntimeError(f'another process writes in "{directory}"')
        time.sleep(0.5)
    # a worker can be lost after its last write
    if not is_finished(directory):
        execute(build(RunConfig, config))
