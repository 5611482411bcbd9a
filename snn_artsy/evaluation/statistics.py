"""Uncertainty of accuracies over seeds and test images; NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_CHUNK = 500


def crossed_bootstrap(
    correct: Mapping[str, NDArray[np.bool_]], n_replicates: int = 10_000, seed: int = 0
) -> dict[str, Values]:
    """Bootstrap replicates of mean accuracy, seeds and test images resampled together.

    Every seed is tested on the same images, so both are crossed: a replicate draws seeds with
    replacement and, independently, images with replacement (Owen 2007, "pigeonhole bootstrap").
    All entries share the draws, so that differences of replicates are paired.

    Args:
        correct: For each entry, whether each image was answered rightly, [n_seeds, n_images].

    Returns:
        For each entry, [n_replicates].

    Raises:
        ValueError: Entries of different shapes.
    """
    shapes = {values.shape for values in correct.values()}
    if len(shapes) != 1:
        raise ValueError(f"entries must share seeds and images, got shapes {sorted(shapes)}")
    n_seeds, n_images = shapes.pop()
    generator = np.random.default_rng(seed)
    parts: dict[str, list[Values]] = {name: [] for name in correct}
    for start in range(0, n_replicates, _CHUNK):
        n = min(_CHUNK, n_replicates - start)
        seeds = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), n) / n_seeds
        images = generator.multinomial(n_images, np.full(n_images, 1 / n_images), n) / n_images
        for name, values in correct.items():
            parts[name].append(((seeds @ values.astype(np.float64)) * images).sum(1))
    return {name: np.concatenate(found) for name, found in parts.items()}


def interval(replicates: Values, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: Values) -> float:
    """Two-sided bootstrap p of "no difference": how often replicates fall on either side of 0.

    (r + 1) / (n + 1) instead of r / n, so that it is never 0 (Davison & Hinkley 1997).
    """
    n = len(differences)
    below, above = ((sign * differences <= 0).sum() for sign in (1, -1))
    return float(min(1.0, 2.0 * (min(below, above) + 1) / (n + 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p values, for their number, by the step-down method of Holm 1979."""
    order = np.argsort(p, kind="stable")
    corrected, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = largest
    return corrected
