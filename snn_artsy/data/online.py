"""In which task each sample of an online stream arrives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def si_blurry(
    labels: NDArray[np.int64],
    n_tasks: int,
    disjoint_share: float,
    blurry_share: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Stochastic, blurred task boundaries (Si-Blurry; Moon et al. 2023, after i-Blurry, Koh et al.
    2022).

    The first of the classes are disjoint: all samples of one arrive in one task. The others are
    blurry: a share of all their samples, drawn without regard to classes, changes places among
    themselves. Disjoint and blurry classes are each divided among the tasks at random places, so
    that a task has any number of them, or none.

    Args:
        labels: Of each sample, [n]; classes count from 0 in the order in which they are divided.
        disjoint_share: N, share of the classes that are disjoint.
        blurry_share: M, share of the blurry classes' samples that change places.

    Returns:
        The task of each sample, int64 [n]. Some may have none.
    """
    n_classes = int(labels.max()) + 1
    n_disjoint = round(disjoint_share * n_classes)
    task_of_class = np.concatenate(
        [_divided(n, n_tasks, rng) for n in (n_disjoint, n_classes - n_disjoint)]
    )
    arrives = task_of_class[labels]
    blurry = rng.permutation(np.flatnonzero(labels >= n_disjoint))
    moved = blurry[: round(blurry_share * len(blurry))]
    arrives[moved] = arrives[rng.permutation(moved)]
    return arrives


def _divided(n_classes: int, n_tasks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The task of each of some classes, which are cut at random places."""
    cuts = np.sort(rng.integers(0, n_classes + 1, n_tasks - 1))
    return np.searchsorted(cuts, np.arange(n_classes), side="right").astype(np.int64)
