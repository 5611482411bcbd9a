"""What a run measured, as rows: CSV for any program, frames for pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError, one_of
from snn_artsy.recording.frames import optional
from snn_artsy.recording.reader import Run

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def as_csv(run: Run, kind: str) -> str:
    """Measures of all learners as CSV, with a line of headings; what does not apply is empty.

    Args:
        run: An opened run.
        kind: One of `KINDS`.

    Raises:
        ConfigError: Another kind, or no learner has recorded it.
    """
    return csv_text(_rows(run, kind))


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV, with a line of headings: every column that one of them has; empty of none.

    A text that spreadsheets would take for a formula gets an apostrophe in front: names come from
    files and folders of others.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: _inert(value) for key, value in row.items()} for row in rows])
    return text.getvalue()


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(tuple("=+-@")) else value


def tables(cells: Sequence[tuple[Row, Mapping[str, Any]]]) -> dict[str, str]:
    """What several runs measured, as CSV by file name.

    Args:
        cells: Of each run and learner, the columns that tell it from the others, and its measures;
            matrices may be nested lists with None.

    Returns:
        ``cells.csv``, a row each with all measures that are numbers (contacts and conversions among
        them), and ``matrix.csv``, ``forgetting.csv`` and ``gates.csv`` (`KINDS`).
    """
    numbers = [
        {**about, **{k: v for k, v in measures.items() if isinstance(v, int | float)}}
        for about, measures in cells
    ]
    found = {"cells.csv": csv_text(numbers)}
    for kind, rows_of in KINDS.items():
        rows = [
            {**about, **row}
            for about, measures in cells
            for row in rows_of({k: _array(v) for k, v in measures.items()})
        ]
        if rows:
            found[f"{kind}.csv"] = csv_text(rows)
    return found


def _array(value: Any) -> Any:
    """Nested lists as an array of floats, None as NaN."""
    nested = isinstance(value, list) and value and isinstance(value[0], list)
    return np.array(value, dtype=np.float64) if nested else value


def as_frame(run: Run, kind: str) -> pd.DataFrame:
    """The same as a table of pandas: ``as_frame(run, "matrix").pivot_table("accuracy", "step",
    "task")`` is the matrix again.

    Raises:
        ConfigError: Another kind, no learner has recorded it, or pandas is not installed.
    """
    return optional("pandas").DataFrame(_rows(run, kind))


def _rows(run: Run, kind: str) -> list[Row]:
    one_of("csv", kind, tuple(KINDS))
    rows = [
        {"learner": name, **row} for name in run.learners for row in KINDS[kind](run.summary(name))
    ]
    if not rows:
        raise ConfigError("csv", f"no learner of this run has recorded its {kind}")
    return rows


def _matrix(measures: Row) -> Iterator[Row]:
    """Accuracy on ``task`` after learning ``step``, with h_0 and from spikes alone."""
    spikes = measures.get("spike_accuracy_matrix")
    for whole in _recorded(measures, "accuracy_matrix"):
        for step, task in zip(*np.tril_indices(len(whole)), strict=True):
            if np.isnan(whole[step, task]):
                continue  # it brought no class
            yield {
                "step": int(step),
                "task": int(task),
                "accuracy": float(whole[step, task]),
                "accuracy_spikes_only": None if spikes is None else float(spikes[step, task]),
            }


def _forgetting(measures: Row) -> Iterator[Row]:
    """Best accuracy on each old task before the last step, the last one, and what was lost."""
    for whole in _recorded(measures, "accuracy_matrix"):
        for task in range(len(whole) - 1):
            best, last = float(whole[task:-1, task].max()), float(whole[-1, task])
            if not np.isnan(last):
                yield {"task": task, "best": best, "last": last, "forgetting": best - last}


def _gates(measures: Row) -> Iterator[Row]:
    """Share of each task's samples for which each gate is open, after the last task."""
    for whole in _recorded(measures, "gate_matrix"):
        for task, gate in np.ndindex(*whole.shape):
            yield {"task": task, "gate": gate, "open_share": float(whole[task, gate])}


def _recorded(measures: Row, name: str) -> list[NDArray[np.float64]]:
    """A matrix, or none, as a list."""
    return [measures[name]] if name in measures else []


KINDS: dict[str, Callable[[Row], Iterator[Row]]] = {
    "matrix": _matrix,
    "forgetting": _forgetting,
    "gates": _gates,
}
"""What can be had: accuracy matrices, forgetting of each old task, gates."""
