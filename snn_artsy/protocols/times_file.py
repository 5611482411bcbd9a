"""Spike trains and potentials that somebody recorded: as CSV files or arrays, and looked at."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError, require
from snn_artsy.files import at_home

MOST_BYTES = 200_000_000

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Trains:
    """Spike times (ms) of neurons, each in order, with what the neurons are called."""

    names: tuple[str, ...]
    times_ms: tuple[Values, ...]

    @property
    def last_ms(self) -> float:
        """The last spike; 0 without any."""
        return max((float(times[-1]) for times in self.times_ms if len(times)), default=0.0)


def read_trains(key: str, file: str, silent: bool = False) -> Trains:
    """One train a column; the first row may hold names, and shorter columns end in empty cells.

    Args:
        key: What the file was given as, for errors.
        silent: There may be no spike at all.

    Raises:
        ConfigError: No such file, a cell that is no number, or times that are no train.
    """
    names, columns = _columns(key, file)
    return _trains(key, names, columns, silent)


def trains_of(key: str, given: Any, silent: bool = False) -> Trains:
    """Trains out of times: of one neuron, or one sequence for each neuron.

    Args:
        silent: There may be no spike at all.

    Raises:
        ConfigError: These are no trains.
    """
    side = key.removesuffix("_ms")
    with _refused(key, "give spike times (ms) of one neuron, or a list of such lists"):
        several = len(given) > 0 and all(np.ndim(each) == 1 for each in given)
        columns = [np.asarray(each, np.float64) for each in (given if several else [given])]
        require(all(each.ndim == 1 for each in columns), key, given, "give lists of times (ms)")
    names = [f"{side} {k + 1}" for k in range(len(columns))]
    return _trains(key, names, columns, silent)


def read_trace(key: str, file: str) -> Values:
    """Potentials (mV), one column a neuron and one row a step, [T, n_post].

    Raises:
        ConfigError: No such file, a cell that is no number, or columns of different length.
    """
    _, columns = _columns(key, file)
    lengths = sorted({len(column) for column in columns})
    require(len(lengths) == 1, key, f"columns of {lengths[0]} to {lengths[-1]} rows",
            "give a row for each step, without empty cells")  # fmt: skip
    return trace_of(key, np.stack(columns, axis=1))


def trace_of(key: str, given: Any) -> Values:
    """Potentials (mV) as [T, n_post]; of one neuron also [T].

    Raises:
        ConfigError: They are none.
    """
    with _refused(key, "give potentials (mV), [T] or [T, neurons]"):
        v_mV = np.array(given, dtype=np.float64)
    v_mV = v_mV[:, None] if v_mV.ndim == 1 else v_mV
    usable = v_mV.ndim == 2 and v_mV.size > 0
    require(usable, key, f"shape {list(v_mV.shape)}", "give potentials (mV), [T] or [T, neurons]")
    wrong = ~(np.abs(v_mV) <= 1000.0)  # true for NaN, too
    if wrong.any():
        t, j = np.argwhere(wrong)[0]
        require(False, key, float(v_mV[t, j]), f"in row {t + 1}: use -1000 to 1000 mV")
    return v_mV


@contextmanager
def _refused(key: str, remedy: str) -> Iterator[None]:
    """What NumPy makes no array of."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(key, f"no such numbers ({error}); {remedy}") from error


def _trains(key: str, names: list[str], columns: list[Values], silent: bool = False) -> Trains:
    for name, times in zip(names, columns, strict=True):
        wrong = np.flatnonzero(~((times >= 0.0) & (times <= 1e12)))  # NaN is neither
        if len(wrong):
            reason = f"in {name}: use finite times from 0 ms on"
            require(False, key, float(times[wrong[0]]), reason)
        back = np.flatnonzero(np.diff(times) <= 0.0)
        if len(back):
            pair = f"{times[back[0] + 1]:g} after {times[back[0]]:g} ms"
            raise ConfigError(key, f"{pair} in {name}; give times in order, each once")
    if not silent and not any(len(times) for times in columns):
        raise ConfigError(key, "there is no spike in it; give at least one time (ms)")
    return Trains(tuple(names), tuple(columns))


def _columns(key: str, file: str) -> tuple[list[str], list[Values]]:
    """What each column is called, and its numbers."""
    path = at_home(file)
    if not path.is_file():
        raise ConfigError(key, f'no file "{file}" here; give a CSV file')
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(
                key, f'"{file}" has more than {MOST_BYTES:,} bytes; give a part of it'
            )
        rows = [row for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"))) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(key, f'"{file}" cannot be read ({error}); give a CSV file') from error
    names: list[str] = []
    if rows and not any(_is_number(cell) for cell in rows[0]):
        names = [cell.strip() for cell in rows.pop(0)]
    n_columns = max([len(names), *map(len, rows)], default=0)
    columns: list[list[float]] = [[] for _ in range(n_columns)]
    for number, row in enumerate(rows, start=1 + bool(names)):
        for k, cell in enumerate(row):
            if not cell.strip():
                continue
            where = f'"{file}", row {number}, column {k + 1}'
            if not _is_number(cell):
                raise ConfigError(key, f"{where}: {cell[:40]!r} is no number; give numbers alone")
            if len(columns[k]) < number - 1 - bool(names):
                raise ConfigError(key, f"{where}: the cell above is empty; leave no gaps")
            columns[k].append(float(cell))
    if not columns:
        raise ConfigError(key, f'"{file}" is empty; give a column of numbers')
    names += [""] * (n_columns - len(names))
    named = [name or f"{key} {k + 1}" for k, name in enumerate(names)]
    return named, [np.array(column, dtype=np.float64) for column in columns]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
