"""What the robustness campaigns share: commands in processes of their own, small runs, what makes
two results the same, and counts as JSON."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DATA = ["--data.train_per_class", "12", "--data.class_range", "[0,6]", "--data.n_tasks", "3"]
QUICK = [*DATA, "--data.test_per_class", "5", "--snn.plasticity.epochs", "2",
         "--record.spike_presentations", "2", "--device", "cpu"]  # fmt: skip
"""A run of a second or two on scikit-learn's digits."""

TIMING = {"seconds", "seconds_learning", "inference_ms_per_image", "feature_seconds"}
"""Measures that differ between any two runs."""

_PRELOADED = ["snn_artsy.runs.run", "snn_artsy.runs.compare", "snn_artsy.plots", "snn_artsy.report",
              "snn_artsy.export", "snn_artsy.cli", "campaign"]  # fmt: skip


@dataclass
class Campaign:
    """Counts of what came out, and details of what should not have."""

    name: str
    commands: list[str]
    n: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def count(self, outcome: str, bad: str | None = None) -> None:
        self.n += 1
        self.outcomes[outcome] += 1
        if bad is not None:
            self.bad.append(bad)

    def write(self, file: Path) -> None:
        found = {
            "campaign": self.name,
            "commands": self.commands,
            "n": self.n,
            "outcomes": dict(sorted(self.outcomes.items())),
            "bad": self.bad,
        }
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def options(
    description: str | None, n: int, names: dict[str, list[str]] | None = None
) -> argparse.Namespace:
    """``--n``, ``--seed``, ``--out``, and one option for each list of ``names`` to choose from."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=n, help=f"How many (default: {n}).")
    parser.add_argument("--seed", type=int, default=0, help="Of what is drawn (default: 0).")
    parser.add_argument("--out", type=Path, required=True, help="Counts, as JSON.")
    for option, known in (names or {}).items():
        parser.add_argument(f"--{option}", nargs="+", choices=known, default=known)
    return parser.parse_args()


def this_command() -> str:
    """As it was called, but for the folder of what it writes."""
    words = [word if k == 0 else Path(word).name if "/" in word else word
             for k, word in enumerate(sys.argv)]  # fmt: skip
    return f"python {' '.join(words)}"


def command(
    arguments: Sequence[str],
    log: Path,
    before: Callable[..., None] | None = None,
    given: Sequence[Any] = (),
    kill_after: float | None = None,
) -> int:
    """Exit code of ``snn-artsy ARGUMENTS`` in a process of its own; what it says goes to ``log``.

    Args:
        before: Called in that process first, with ``given``.
        kill_after: Seconds after which the process is killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=_work, args=(list(arguments), log, before, given))
    process.start()
    process.join(kill_after)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _work(
    arguments: list[str], log: Path, before: Callable[..., None] | None, given: Sequence[Any]
) -> None:
    import snn_artsy.runs.checkpointer
    from snn_artsy import cli

    # after every task and epoch: the same each time
    snn_artsy.runs.checkpointer.CHECKPOINT_SHARE = math.inf
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before(*given)
    cli.main(arguments)


def results(directory: Path) -> dict[str, Any]:
    """All numbers below a directory, by file: of run.h5 and summary.json without wall times, of
    other files (pages, exports, what was learnt) their size or content."""
    found: dict[str, Any] = {}
    for file in sorted(directory.rglob("*")):
        name = str(file.relative_to(directory))
        if file.suffix == ".h5":
            found[name] = _datasets(file)
        elif file.name in ("summary.json", "sweep.json"):
            found[name] = _without_times(json.loads(file.read_text(encoding="utf-8")))
        elif file.suffix == ".html":
            found[name] = (
                "a page" if file.read_text(encoding="utf-8").endswith("</html>\n") else "?"
            )
        elif file.parent.name == "state":
            found[name] = file.read_bytes()
        elif file.is_file() and file.parent.name != "cells":
            found[name] = "there"
    return found


def _datasets(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(file) as opened:
        found["status"] = str(opened.attrs.get("status", ""))
        opened.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def _without_times(value: Any) -> Any:
    """Neither times nor places, nor the commit, which may change while a campaign lasts."""
    if isinstance(value, dict):
        left_out = TIMING | {"out", "directory", "git_commit", "git_commits"}
        return {k: _without_times(v) for k, v in value.items() if k not in left_out}
    if isinstance(value, list):
        return [_without_times(v) for v in value]
    return value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what is not the same."""
    return [name for name in sorted({*found, *expected})
            if not _same(found.get(name), expected.get(name))]  # fmt: skip


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return type(a) is type(b) and bool(a == b)


def one_line(log: Path) -> str:
    """The last line of what a command said."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else ""


def is_clean(log: Path) -> bool:
    """No traceback, and nothing but our own words on failures."""
    return "Traceback" not in log.read_text(encoding="utf-8", errors="replace")
