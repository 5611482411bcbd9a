"""Where a result comes from: package versions, the checkout's commit, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from snn_artsy import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "snntorch",
    "numpy",
    "numba",
    "scipy",
    "pillow",
    "h5py",
    "scikit-learn",
    "safetensors",
)
"""Distributions whose version can change a result or its file."""


def provenance(threads: int | None = None) -> dict[str, Any]:
    """Everything about the program and the machine that a result may depend on.

    Args:
        threads: Threads that the computation uses (``torch.get_num_threads()``).

    Returns:
        ``versions`` (package -> version), ``git_commit`` (of the checkout, or what the installed
        package was built from; None if neither is known), ``git_dirty``,
        ``platform``, ``cpus`` available to the process, ``threads``.
    """
    package = Path(__file__).resolve().parent
    commit, dirty = git_state(package.parent)
    if commit is None:
        commit, dirty = built_from(package)
    return {
        "versions": versions(),
        "git_commit": commit,
        "git_dirty": dirty,
        "platform": platform.platform(),
        "cpus": available_cores(),
        "threads": threads,
    }


def versions() -> dict[str, str]:
    """Versions of Python, SNN-Artsy and `PACKAGES`, without importing them."""
    by_name = {"python": platform.python_version(), "snn-artsy": __version__}
    for name in PACKAGES:
        try:
            by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            by_name[name] = "not installed"
    return by_name


def git_state(root: Path) -> tuple[str | None, bool]:
    """Commit of the source checkout at ``root``, and whether files differ from it.

    (None, False) when there is no checkout, no commit yet or no git.
    """
    # An installed package may lie inside somebody else's checkout, so both marks are asked for.
    if not ((root / ".git").exists() and (root / "setup.py").is_file()):
        return None, False
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None, False
    return commit, bool(_git(root, "status", "--porcelain"))


def built_from(package: Path) -> tuple[str | None, bool]:
    """As `git_state`, of the checkout that an installed package was built from (``setup.py``)."""
    try:
        text = (package / "commit.txt").read_text(encoding="utf-8").strip()
    except OSError:
        return None, False
    commit = text.removesuffix("-dirty")
    return commit or None, text.endswith("-dirty")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def started_together() -> bool:
    """Whether torchrun has started this process, with others or alone."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def follows() -> bool:
    """Whether another of torchrun's processes says and keeps what comes out."""
    return started_together() and os.environ.get("RANK") != "0"


def available_cores() -> int:
    """Cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
