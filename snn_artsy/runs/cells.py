"""Cells of a comparison on the disk: one learner with one seed, with all that it depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.runs.checkpoint import read_tensors, write_tensors
from snn_artsy.runs.facts import Facts

MATRICES = ("accuracy_matrix", "spike_accuracy_matrix", "gate_matrix")
FORMAT = "snn-artsy-cell"
FOLDER = "cells"


@dataclass(frozen=True)
class Cell:
    """One learner with one seed, after the last task.

    Args:
        measures: Its scalar measures.
        commit: Git commit of the program that made it.
        image: Test images in ascending order, [n].
        correct: Whether each was answered rightly, [n]; from spikes alone, or None.
        curves: Measures of each step; None where one does not apply.
        matrices: `MATRICES` of it; None where an entry does not apply.
    """

    measures: dict[str, float]
    commit: str
    image: NDArray[np.int64]
    correct: NDArray[np.bool_]
    spikes_correct: NDArray[np.bool_] | None
    curves: dict[str, list[float | None]]
    matrices: dict[str, list[list[float | None]]] = field(default_factory=dict)


def cell_file(directory: Path, learner: str, seed: int) -> Path:
    """File of a cell in a comparison's directory."""
    return directory / FOLDER / f"{learner}-{seed}.safetensors"


def write_cell(file: Path, cell: Cell, facts: Facts) -> None:
    """Write a cell's file, whole or not at all.

    Raises:
        RecordingError: It can't be written.
    """
    columns = {
        "image": cell.image,
        "correct": cell.correct,
        "spikes_correct": cell.spikes_correct,
    }
    about = {"measures": cell.measures, "curves": cell.curves, "facts": facts.plain()}
    about |= {"matrices": cell.matrices}
    write_tensors(
        file,
        {name: torch.from_numpy(c) for name, c in columns.items() if c is not None},
        {"format": FORMAT, "cell": json.dumps(about)},
    )


def read_cell(file: Path) -> tuple[Cell, Facts]:
    """Read a cell, and the facts that it was made with.

    Raises:
        DamageError: The file is not what was written.
        ConfigError: It is no cell.
        RecordingError: It cannot be read for now.
    """
    tensors, header = read_tensors(file)
    columns = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        about: Any = json.loads(header["cell"])
        facts = Facts.read(about["facts"], "out", f'"{file}"')
        cell = Cell(
            about["measures"],
            facts.git_commit,
            columns["image"],
            columns["correct"],
            columns.get("spikes_correct"),
            about["curves"],
            about.get("matrices", {}),  # older cells have none
        )
        shapes = {column.shape for column in columns.values()}
        sound = (
            header["format"] == FORMAT
            and len(shapes) == 1
            and cell.image.ndim == 1
            and cell.correct.dtype == bool
            and all(isinstance(value, float) for value in cell.measures.values())
            and all(isinstance(values, list) for values in cell.curves.values())
            and all(isinstance(values, list) for values in cell.matrices.values())
        )
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError("out", f'"{file}" is no cell of a comparison ({error}); remove it') from (
            error
        )
    if not sound:
        raise ConfigError("out", f'"{file}" is no cell of a comparison; remove it')
    return cell, facts
