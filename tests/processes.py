"""What the processes that a test has started are and where they listen, from Linux's /proc."""

from __future__ import annotations

import os
import socket
import struct
import uuid
from pathlib import Path

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
