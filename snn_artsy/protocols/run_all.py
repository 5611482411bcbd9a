"""Run protocols one after the other, keeping what each has found."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from snn_artsy.protocols import load
from snn_artsy.protocols.base import Setting
from snn_artsy.protocols.store import failed, rows, save
from snn_artsy.threads import set_threads


def run_protocols(
    names: list[str], setting: Setting, out: Path, console: Console, go_on: bool
) -> list[dict[str, Any]]:
    """Entries of ``protocols.json``, which is written anew after each protocol.

    Args:
        go_on: A protocol that breaks off is an entry that fails, and the next one runs.
    """
    found: list[dict[str, Any]] = []
    set_threads(setting.threads)
    for k, name in enumerate(names):
        started = time.perf_counter()
        try:
            with console.status(f"{name} ({k + 1} of {len(names)})"):
                outcome = load(name)(setting)
                save(outcome, out, setting.seed)
            found += rows(outcome, time.perf_counter() - started)
        except Exception as error:
            if not go_on:
                raise
            found.append(failed(name, error, time.perf_counter() - started))
        out.mkdir(parents=True, exist_ok=True)
        part = out / "protocols.json.part"
        part.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        os.replace(part, out / "protocols.json")
    return found
