"""Work in processes of its own: several at a time on this machine, or on a Ray cluster.

A piece of work is a function of this package and what it is given, as JSON. Here each piece has a
process of its own, so that nothing of one reaches the next and one that dies takes no other along;
a cluster has one process, which hands all of it on. Each gets its work as one line on its standard
input, answers with a line for every piece, and ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from rich.console import Console

from snn_artsy.checks import ConfigError, require
from snn_artsy.provenance import available_cores
from snn_artsy.registry import load
from snn_artsy.runs.on_ray import hand_on
from snn_artsy.runs.progress import progress_bar

RETRIES = 3
"""How often a piece of work is begun again after its process died (killed, out of memory, ...)."""

# How long a process may take to end by itself (s).
_ENDING = 10.0


@dataclass(frozen=True)
class Resources:
    """What the pieces of work may use.

    Args:
        address: Of a Ray cluster (``auto``: the one that this machine belongs to); None: this
            machine alone.
        workers: Processes at a time on this machine; None: as many as its cores allow.
        cpus_per_run, gpus_per_run: Of each; several share a GPU at fractions.

    Raises:
        ConfigError: A number is too small, or Ray is asked for and not installed.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_run: int = 1
    gpus_per_run: float = 0.0

    def __post_init__(self) -> None:
        for key, value in (("workers", self.workers), ("cpus_per_run", self.cpus_per_run)):
            require(value is None or value >= 1, key, value, "use 1 or more")
        require(self.gpus_per_run >= 0, "gpus_per_run", self.gpus_per_run, "use 0 or more")
        if self.address is not None and find_spec("ray") is None:
            raise ConfigError(
                "address", "needs Ray, which is not installed; pip install 'snn-artsy[sweep]'"
            )

    def slots(self) -> list[dict[str, str]]:
        """Environment variables of each process that may run here at the same time."""
        if self.address is not None:
            return [{}]
        n = self.workers or max(available_cores() // self.cpus_per_run, 1)
        if self.gpus_per_run == 0:
            return [{}] * n
        import torch

        number, share = torch.cuda.device_count(), self.gpus_per_run
        named = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(number)))
        firsts = [int(k * share) for k in range(min(n, int(number / share)))]
        require(bool(firsts), "gpus_per_run", share, f"torch finds {number} GPUs here, use fewer")
        shares = (named.split(",")[first : first + max(int(share), 1)] for first in firsts)
        return [{"CUDA_VISIBLE_DEVICES": ",".join(each)} for each in shares]


HERE = Resources(workers=1)
"""One worker, which can be this very process."""


class WorkOutcome(NamedTuple):
    """What came of a piece of work: its ``result``, or the ``error`` that it died of; ``refused``:
    key and problem of a `ConfigError`."""

    result: Any = None
    error: str | None = None
    refused: list[str] | None = None


def carry_out(
    function: Callable[[Any], Any],
    work: Mapping[str, Any],
    own: Iterable[str],
    resources: Resources,
    console: Console,
    what: str = "runs",
) -> dict[str, WorkOutcome]:
    """Call ``function`` with each piece of ``work`` in processes; returns outcomes by name.

    One that fails keeps no other from being carried out. All processes end before this returns or
    raises, and when this process dies, however that happens.

    Args:
        function: Of a module; takes and returns what JSON can hold.
        own: What the user added and the work names (``module:Name``).
        what: The pieces of work, for the progress bar.

    Raises:
        ConfigError: There is no cluster that can be used, or too few GPUs.
        RuntimeError: Ray failed.
    """
    call = [f"{function.__module__}:{function.__qualname__}", sorted(set(own))]
    free = deque(resources.slots())
    left = deque([list(work)] if resources.address else [[name] for name in work])
    running: dict[subprocess.Popen[str], tuple[list[str], dict[str, str]]] = {}
    heard: SimpleQueue[tuple[subprocess.Popen[str], str]] = SimpleQueue()
    outcomes: dict[str, WorkOutcome] = {}
    losses: Counter[str] = Counter()
    try:
        with progress_bar(console) as progress:
            bar = progress.add_task(what, total=len(work))
            while left or running:
                while left and free:
                    names, slot = left.popleft(), free.popleft()
                    process = _started(resources, slot)
                    running[process] = names, slot
                    pieces = {name: work[name] for name in names}
                    asked = json.dumps([*call, pieces, asdict(resources)])
                    threading.Thread(
                        target=_talk, args=(process, asked, heard), daemon=True
                    ).start()
                process, line = heard.get()
                if line:
                    name, outcome = json.loads(line)
                    result = WorkOutcome(*outcome)
                    if name is None:  # of the process that hands all of it on
                        if result.refused:
                            raise ConfigError(*result.refused)
                        raise RuntimeError(result.error)
                    outcomes[name] = result
                    progress.advance(bar)
                    continue
                names, slot = running.pop(process)
                free.append(slot)
                if names := [name for name in names if name not in outcomes]:
                    losses.update(names)
                    if losses[names[0]] <= RETRIES:
                        left.append(names)
                        continue
                    error = f"its process died {RETRIES + 1} times, with code {process.wait()}"
                    outcomes |= dict.fromkeys(names, WorkOutcome(error=error))
    finally:
        _end(running)
    return outcomes


def _started(resources: Resources, slot: Mapping[str, str]) -> subprocess.Popen[str]:
    # This very package, installed or not, and where code of the user's own was found.
    package = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([package, *_own_folders()])),
        "PYTHONSAFEPATH": "1",  # the current folder only where it is one of these
        "OMP_NUM_THREADS": str(resources.cpus_per_run),
        "RAY_AUTH_MODE": "token",
        **slot,
    }
    return subprocess.Popen(
        [sys.executable, "-c", "from snn_artsy.runs.workers import main; main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        encoding="utf-8", env=environment, start_new_session=True,
    )  # fmt: skip


def _own_folders() -> list[str]:
    """Where code of the user's own is found: what ``PYTHONPATH`` names, and all but the folders of
    the standard library and of installed packages, which a process finds by itself."""
    paths = sysconfig.get_paths()
    library = [Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    zipped = Path(paths["stdlib"]).with_name("python{}{}.zip".format(*sys.version_info))
    # Debian has packages where sysconfig does not say
    not_own = [*library, zipped, *map(Path, site.getsitepackages())]
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = {os.path.abspath(path) for path in named if path}
    return [
        path
        for path in map(os.path.abspath, sys.path)
        if path in kept or not any(Path(path).is_relative_to(folder) for folder in not_own)
    ]


def _talk(process: subprocess.Popen[str], asked: str, heard: SimpleQueue[Any]) -> None:
    """Send a process its work and queue its answers; an empty line marks its end."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError, ValueError):  # it has died, or is no longer wanted
        process.stdin.write(asked + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.endswith("\n"):  # or it was killed while it answered
                heard.put((process, line))
    heard.put((process, ""))


def _end(processes: Iterable[subprocess.Popen[str]]) -> None:
    """End processes by closing their input; what they started on a cluster ends with them."""
    try:
        for process in processes:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING)
    finally:  # also after one more signal
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    """Do what standard input asks, in a process that `carry_out` has started."""
    # Whatever else is printed goes where it cannot be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    function, own, work, resources = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_other, daemon=True).start()

    def tell(name: str | None, outcome: WorkOutcome) -> None:
        print(json.dumps([name, outcome]), file=answers, flush=True)

    try:
        if resources["address"] is not None:
            hand_on(attempt, (function, own), work, resources, RETRIES, tell)
            return
    except Exception as error:
        tell(None, _failed(error))
        return
    for name, given in work.items():
        tell(name, attempt(function, own, given))


def _end_with_the_other() -> None:
    """Exit with the process that asked: standard input ends with it, however it died."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _failed(error: Exception) -> WorkOutcome:
    if isinstance(error, ConfigError):
        return WorkOutcome(error=str(error), refused=[error.key, error.problem])
    plain = type(error) is RuntimeError
    return WorkOutcome(error=str(error) if plain else f"{type(error).__name__}: {error}")


def attempt(function: str, own: Iterable[str], given: Any) -> WorkOutcome:
    """Carry one piece of work out; whatever it dies of must not stop the others."""
    try:
        for name in own:
            load(name)
        module, _, name = function.partition(":")
        return WorkOutcome(getattr(import_module(module), name)(given))
    except Exception as error:
        return _failed(error)
