"""How many figures a run draws at its end: all of them take most of a small run's time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from snn_artsy import plots
from snn_artsy.runs import run

QUICK = ("accuracy_per_step", "gate_matrix")  # drawn fast
_draw = run._draw


def _draw_few(directory: Path, console: Console) -> None:
    with pytest.MonkeyPatch.context() as patch:
        few = {name: plots.FIGURES[name] for name in QUICK}
        patch.setattr(plots, "FIGURES", few)
        _draw(directory, console)


def draw_few() -> None:
    """From now on runs of this process draw `QUICK` alone, in the way that they draw all."""
    run._draw = _draw_few


def know_few(patch: pytest.MonkeyPatch, names: Iterable[str] = QUICK) -> None:
    """`plot`, `report` and `save_figures` know these figures alone."""
    chosen = {name: plots.FIGURES[name] for name in names}
    patch.setattr(plots, "FIGURES", chosen)
    patch.setattr("snn_artsy.report.FIGURES", chosen)


@contextmanager
def all_figures() -> Iterator[None]:
    """For what a test says about the figures of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_draw", _draw)
        yield
