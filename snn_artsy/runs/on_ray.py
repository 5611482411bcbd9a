"""Hand work on to a Ray cluster, in a process of its own (`snn_artsy.runs.workers`): Ray takes its
process over, replaces signal handlers (SIGTERM then ends in SIGABRT) and prints."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from snn_artsy.checks import ConfigError

START = """start one with a token, and give every node and this command the same one:
export RAY_AUTH_MODE=token RAY_worker_niceness=0; ray get-auth-token --generate; ray start --head"""

PATIENCE = 30.0
"""How long a cluster's head may be out of reach (s): Ray itself waits for it without end."""


def hand_on(
    function: Callable[..., Any],
    call: tuple[Any, ...],
    work: Mapping[str, Any],
    resources: Mapping[str, Any],
    retries: int,
    tell: Callable[[str, Any], None],
) -> None:
    """Have workers of the cluster call ``function`` with ``call`` and each piece of ``work``, and
    ``tell`` the name of each and what was returned. A piece whose worker is lost is given to
    another one, at most ``retries`` times; nothing is told of it then.

    Raises:
        ConfigError: The cluster cannot be reached, now or later, or lets everybody in.
    """
    import ray

    head = _connect(ray, resources["address"])
    remote = ray.remote(
        num_cpus=resources["cpus_per_run"],
        num_gpus=resources["gpus_per_run"],
        max_retries=retries,
    )(function)
    waiting = {remote.remote(*call, given): name for name, given in work.items()}
    heard = time.monotonic()
    while waiting:
        done, _ = ray.wait(list(waiting), timeout=1.0)
        if done or _reached(head):
            heard = time.monotonic()
        elif time.monotonic() - heard > PATIENCE:
            raise ConfigError(
                "address",
                f"the head of the Ray cluster at {head} does not answer any more, "
                f"{len(waiting)} of {len(work)} pieces of work are not done; start the cluster "
                "again and give the same command, which goes on",
            )
        for reference in done:
            name = waiting.pop(reference)
            with suppress(ray.exceptions.RayError):
                tell(name, ray.get(reference))
    ray.shutdown()


def _reached(address: str) -> bool:
    """Whether anybody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def _connect(ray: Any, address: str) -> str:
    """Where the head of the cluster listens, HOST:PORT."""
    # What a worker imports must be this very package, installed or not.
    environment = {name: os.environ[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    try:
        context = ray.init(
            address=address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level="ERROR",
        )
    # without any token Ray raises one of its own errors
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            "address", f"no Ray cluster at {address!r} that lets us in ({error}); {START}"
        ) from error
    head = str(context.address_info["gcs_address"])
    if _lets_everybody_in(head):
        raise ConfigError(
            "address",
            f"the Ray cluster at {address!r} asks for no token, so everybody who reaches "
            f"it can run code on its nodes; {START}",
        )
    return head


def _lets_everybody_in(address: str) -> bool:
    """Whether a cluster does not tell a client without a token that it wants one."""
    without = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH_")}
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    environment = {**without, "RAY_AUTH_MODE": "disabled"}
    asked = subprocess.run(command, env=environment, capture_output=True, text=True)
    return asked.returncode == 0 or "token" not in (asked.stdout + asked.stderr).lower()
