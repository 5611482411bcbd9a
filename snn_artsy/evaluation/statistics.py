"""Uncertainty of accuracies over seeds and test images; NumPy and SciPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to import

FEW_SEEDS = 5
"""With fewer seeds than this, their spread is hardly known (docs/statistics.md)."""


@dataclass(frozen=True)
class CrossedMean:
    """A mean over seeds and test images with its standard error (`crossed_mean`).

    Args:
        mean: Over all seeds and images.
        standard_error: Of ``mean``, over draws of seeds and of images.
        degrees_of_freedom: Of that standard error; infinite where it is 0.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval of the mean; of no width where every value was the same."""
        half = float(stdtrit(self.degrees_of_freedom, (1 + level) / 2)) * self.standard_error
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Two-sided p of a mean of 0; 1 or 0 where every value was the same."""
        if self.standard_error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stdtr(self.degrees_of_freedom, -abs(self.mean) / self.standard_error))


def crossed_mean(values: NDArray[np.float64]) -> CrossedMean:
    """Mean of ``values`` [n_seeds, n_images] and its standard error over both.

    Every seed is tested on the same images, so that seeds and images are crossed random effects,
    y_si = m + a_s + b_i + e_si, of which the two-way analysis of variance gives the mean squares
    MS_S, MS_I and MS_E (Searle, Casella & McCulloch 1992, ch. 4). With S seeds and I images

        Var(mean) = (max(MS_S - MS_E, 0) + MS_I) / (S I),

    whose degrees of freedom are Satterthwaite's (1946) for MS_S + MS_I - MS_E. A negative estimate
    of the seeds' variance counts as 0. One seed has no spread: then the standard error is that of
    the images alone, and nothing is said about other seeds.

    Args:
        values: Right (1) or wrong (0), or the difference of two learners' (-1, 0, 1).

    Raises:
        ValueError: Not two axes, fewer than two images, or no seed.
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 2 or len(y) < 1 or y.shape[1] < 2:
        raise ValueError(f"values: shape {y.shape}, expected [n_seeds, n_images], 2 images or more")
    n_seeds, n_images = y.shape
    mean = float(y.mean())
    of_seed, of_image = y.mean(1) - mean, y.mean(0) - mean
    ms_image = n_seeds * float(of_image @ of_image) / (n_images - 1)
    if n_seeds == 1:
        variance, freedom = ms_image / n_images, float(n_images - 1)
    else:
        ms_seed = n_images * float(of_seed @ of_seed) / (n_seeds - 1)
        rest = y - mean - of_seed[:, None] - of_image
        ms_rest = float((rest**2).sum()) / ((n_seeds - 1) * (n_images - 1))
        total = max(ms_seed - ms_rest, 0.0) + ms_image
        spread = (
            ms_seed**2 / (n_seeds - 1)
            + ms_image**2 / (n_images - 1)
            + ms_rest**2 / ((n_seeds - 1) * (n_images - 1))
        )
        variance = total / (n_seeds * n_images)
        freedom = total**2 / spread if spread > 0 else math.inf
    if variance == 0:
        freedom = math.inf
    return CrossedMean(mean, math.sqrt(variance), freedom)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """``mean``, ``sd`` (n - 1; None of one number) and the ``values`` themselves."""
    sd = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values), "sd": sd, "values": list(values)}


def seeds_mean(values: Sequence[float]) -> CrossedMean:
    """Mean over seeds alone, of a measure that is no mean over images; with the differences of two
    settings at each seed, its p is that of the paired t test.

    Raises:
        ValueError: Fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"values: {len(values)} given, an interval takes two or more")
    error = stdev(values) / math.sqrt(len(values))
    return CrossedMean(mean(values), error, len(values) - 1 if error > 0 else math.inf)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of ``values`` and the ends of its 95 % interval by Student's t.

    Raises:
        ValueError: Fewer than two values.
    """
    found = seeds_mean(values)
    return found.mean, *found.interval()


def cohens_h(a: float, b: float) -> float:
    """Difference of two proportions, 2 arcsin sqrt(a) - 2 arcsin sqrt(b) (Cohen 1988, eq. 6.2.1).

    0.2 is small, 0.5 medium, 0.8 large (Cohen's words). Unlike a mean over the seeds' standard
    deviation, it does not grow when seeds share their images.
    """
    return 2 * math.asin(math.sqrt(a)) - 2 * math.asin(math.sqrt(b))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for their number by the step-down method of Holm 1979."""
    order = np.argsort(p, kind="stable")
    corrected, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = largest
    return corrected
