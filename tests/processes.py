"""Commands in processes of their own; what processes are and where they listen, from Linux's
/proc."""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snn_artsy import cli
from snn_artsy.registry import FIGURES

PRELOADED = [
    "snn_artsy.runs.run", "snn_artsy.plots", "matplotlib.figure", "snntorch", "timm",
]  # fmt: skip
FEW_FIGURES = Path(__file__).parent / "few_figures"


def forked(target: Callable[..., None], *given: Any) -> Any:
    """A process that will call ``target``, not yet started.

    It is forked from a server that has imported the libraries once, which takes longer than most
    commands that tests give, and that was started as a new program: threads of the tests' own
    process, which a fork loses, do not matter.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context.Process(target=target, args=given)


def artsy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``snn-artsy ARGUMENTS`` in ``folder``, which is the user's home and holds their modules."""
    with tempfile.TemporaryDirectory() as kept:
        logs = [Path(kept, name) for name in ("out", "err")]
        process = forked(_command, list(arguments), folder, *logs)
        process.start()
        process.join()
        out, err = (log.read_text(encoding="utf-8") for log in logs)
    return subprocess.CompletedProcess(["snn-artsy", *arguments], process.exitcode, out, err)


def _command(arguments: list[str], folder: Path, out: Path, err: Path) -> None:
    from drawing import QUICK, draw_few

    draw_few()
    FIGURES.entries = {name: FIGURES.entries[name] for name in QUICK}
    for number, name, log in ((1, "stdout", out), (2, "stderr", err)):
        with log.open("wb") as file:
            os.dup2(file.fileno(), number)
        setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    os.chdir(folder)
    os.environ["HOME"] = str(folder)
    sys.path.insert(0, str(folder))
    cli.main(arguments)


def quick_environment(*more: Path | str, **variables: str) -> dict[str, str]:
    """An environment for ``python -m snn_artsy`` whose runs draw two figures, those of workers,
    too; ``more`` are further folders of modules."""
    path = os.pathsep.join(map(str, (FEW_FIGURES, FEW_FIGURES.parents[1], *more)))
    return {**os.environ, "PYTHONPATH": path, **variables}


# --- what is running ------------------------------------------------------------------------------

MARK = "SNN_ARTSY_TEST_MARK"


def marked_environment(**more: str) -> dict[str, str]:
    """An environment that children hand on to theirs, by which `marked` finds them all."""
    return {**os.environ, MARK: uuid.uuid4().hex, **more}


def marked(environment: dict[str, str]) -> dict[int, bytes]:
    """Living processes with that mark: id -> their environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            content = (folder / "environ").read_bytes()
        except OSError:  # another user's, or just ended
            continue
        if f"{MARK}={environment[MARK]}".encode() in content.split(b"\0"):
            found[int(folder.name)] = content
    return found


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def listening(processes: dict[int, bytes]) -> set[tuple[str, int]]:
    """TCP addresses and ports at which these processes wait for others."""
    sockets = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[len("socket:[") : -1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                address, port = words[1].split(":")
                found.add((_readable(address), int(port, 16)))
    return found


def _readable(address: str) -> str:
    """Four bytes a word, each word in the machine's order."""
    words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    if len(packed) == 16 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
        packed = packed[12:]  # an IPv4 address
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed)
