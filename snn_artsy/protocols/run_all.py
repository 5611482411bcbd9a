"""Run protocols one after the other, keeping what each has found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from snn_artsy.protocols.base import Session
from snn_artsy.protocols.parameters import perform
from snn_artsy.protocols.store import FORMATS, check_free, failed, other_rows, rows, save, save_list
from snn_artsy.threads import computing_with


def run_protocols(
    names: list[str],
    session: Session,
    out: Path,
    console: Console,
    go_on: bool,
    overwrite: bool = False,
    parameters: Any = None,
    formats: Sequence[str] = FORMATS,
) -> list[dict[str, Any]]:
    """Entries for ``protocols.json``, which is written anew after each protocol and keeps what it
    says of others.

    Args:
        go_on: A protocol that breaks off is an entry that fails, and the next one runs.
        overwrite: Replace what the same protocols left in ``out`` before.
        parameters: Of the only protocol; default, and of several: what each has by itself.
        formats: Of figures' files; the first is named in ``protocols.json``.

    Raises:
        ConfigError: They did and it is not to be replaced, or ``out`` can't be written.
    """
    check_free(names, out, overwrite, formats)
    other_rows(names, out)  # a list that cannot be read is found out before anything runs
    entries: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        started = time.perf_counter()
        try:
            with (
                console.status(f"{name} ({k + 1} of {len(names)})", spinner="line"),
                computing_with(session.threads or 1),
            ):
                outcome = perform(name, session, parameters)
                save(outcome, out, session.seed, formats)
            entries += rows(outcome, time.perf_counter() - started, formats[0])
        except Exception as error:
            if not go_on:
                raise
            entries.append(failed(name, error, time.perf_counter() - started))
        save_list(other_rows(names, out) + entries, out)
    return entries
