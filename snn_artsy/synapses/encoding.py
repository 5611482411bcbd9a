"""Features -> presynaptic spikes: standardise or whiten, split into ON and OFF, encode in time.

The statistics come from the first task and stay frozen: a later task must not change how an earlier
one was encoded (our definition). ON units carry the positive part of a feature and OFF units the
negative part, as retinal ganglion cells do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_range, check_same_kind, check_spikes, check_tensor
from snn_artsy.chunks import chunks
from snn_artsy.config import EncodingConfig
from snn_artsy.registry import ENCODERS
from snn_artsy.synapses.expansion import Expansion
from snn_artsy.synapses.noise import uniform
from snn_artsy.synapses.pairing import Schedule

# Features may have any scale whose squares float64 can hold.
MOST = 1e100
NEGLIGIBLE = 1e-6
"""Standard deviations below this share of the features' root mean square are rounding errors of
float32: the features don't vary."""

LEAST_VARIANCE = 1e-6
"""Least mean variance in a covariance, as a share of the features' mean square. It counts where a
task has one sample a class, or the same picture many times."""

LEAST_SHRINKAGE = 1e-9
"""Below it, the covariance of few samples cannot be inverted in float64."""


@dataclass(frozen=True)
class FeatureScaling:
    """z = (h - mean) @ matrix, with unit variance on average; fitted once, in float64.

    Args:
        mean: [D].
        matrix: [D, D], symmetric.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Features [B, D] -> z [B, D], float64.

        Raises:
            TypeError, ValueError: Another shape or device, or numbers that are not finite.
        """
        check_tensor("features", features, "B D", {"D": len(self.mean)}, self.mean)
        check_range("features", features, -MOST, MOST)
        return (features.double() - self.mean) @ self.matrix


def fit_scaling(features: Tensor, labels: Tensor, config: EncodingConfig) -> FeatureScaling:
    """Fit the scaling on one task's training data: features [n, D], labels [n].

    ``standardise`` divides each feature by its standard deviation. ``whiten`` multiplies by the
    inverse square root (ZCA: Bell & Sejnowski 1997) of the pooled within-class covariance,
    shrunk towards a multiple of the identity: (1 - s) C + s tr(C)/D I (the form of Ledoit & Wolf
    2004, with s given or `oracle_shrinkage`). Both are then scaled so that z has unit variance
    averaged over dimensions. Features that don't vary at all, as with one sample, say nothing about
    a scale: then their root mean square is the unit.

    Raises:
        TypeError, ValueError: Shapes do not fit, numbers are not finite, or there is no sample.
    """
    sizes: Sizes = {}
    check_tensor("features", features, "n D", sizes, features)
    check_tensor("labels", labels, "n", sizes, features)
    check_range("features", features, -MOST, MOST)
    if len(features) == 0:
        raise ValueError("features: expected at least one sample, given none")
    x = features.double()
    mean = x.mean(0)
    sd = x.std(0) if len(x) > 1 else torch.zeros_like(mean)
    rms = x.square().mean().sqrt()
    if sd.square().mean().sqrt() <= NEGLIGIBLE * rms:
        return FeatureScaling(mean, torch.eye(len(mean)).to(x) / (rms if rms > 0 else 1.0))
    if config.decorrelation == "standardise":
        # a feature that never varies carries nothing: leave it at zero instead of dividing by zero
        varies = sd > NEGLIGIBLE * rms
        matrix = torch.diag(torch.where(varies, 1.0 / sd, torch.zeros_like(sd)))
    else:
        matrix = inverse_square_root(within_class_covariance(x, labels, config.shrinkage))
    spread = ((x - mean) @ matrix).std(0).square().mean().sqrt()
    return FeatureScaling(mean, matrix / spread.clamp_min(1e-12))


def whiten_classes(
    means: Tensor,
    within: Tensor,
    shrinkage: float | None,
    mean_square: Tensor,
    freedom: float = math.inf,
) -> FeatureScaling:
    """`fit_scaling` by ``whiten`` from what is known of classes of equal weight.

    Args:
        means: Of each class, [C, D].
        within: Covariance around them, [D, D].
        shrinkage, freedom: Of that covariance, as for `shrunk`.
        mean_square: Of the features.
    """
    means, within = means.double(), within.double()
    mean = means.mean(0)
    matrix = inverse_square_root(shrunk(within, shrinkage, mean_square, freedom))
    between = (means - mean).T @ (means - mean) / len(means)
    variance = (matrix @ (within + between) @ matrix).diagonal().mean()
    return FeatureScaling(mean, matrix / variance.sqrt().clamp_min(1e-12))


def within_class_covariance(x: Tensor, labels: Tensor, shrinkage: float | None) -> Tensor:
    """Pooled covariance around the class means, `shrunk`. x [n, D] -> [D, D]."""
    freedom = max(len(x) - len(labels.unique()), 1)
    covariance = within_class_scatter(x, labels) / freedom
    return shrunk(covariance, shrinkage, x.square().mean(), freedom)


def within_class_scatter(x: Tensor, labels: Tensor) -> Tensor:
    """Sum of squares and products around class means: x [n, D], labels [n] -> float64 [D, D]."""
    classes, inverse = labels.unique(return_inverse=True)
    means = torch.zeros(len(classes), x.shape[1], dtype=torch.float64, device=x.device)
    for rows in chunks(len(x)):
        means.index_add_(0, inverse[rows], x[rows].double())
    means /= inverse.bincount()[:, None]
    scatter = means.new_zeros(x.shape[1], x.shape[1])
    for rows in chunks(len(x)):
        residual = x[rows].double() - means[inverse[rows]]
        scatter += residual.T @ residual
    return scatter


def oracle_shrinkage(covariance: Tensor, freedom: float) -> float:
    """Shrinkage with the least expected squared error for Gaussian data (OAS; Chen, Wiesel, Eldar &
    Hero 2010, eq. 23): much where samples are few for the number of dimensions, else little.

    Args:
        covariance: Of samples, [D, D].
        freedom: Degrees of freedom it was estimated from.
    """
    d = len(covariance)
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    away = squares - trace**2 / d
    samples = freedom + 1.0 - 2.0 / d
    if away <= 0.0 or samples <= 0.0:  # a multiple of the identity, or nothing to go by
        return 1.0
    return min(1.0, ((1.0 - 2.0 / d) * squares + trace**2) / (samples * away))


def shrunk(
    covariance: Tensor, shrinkage: float | None, mean_square: Tensor, freedom: float = math.inf
) -> Tensor:
    """(1 - s) C + s tr(C)/D I, positive definite whatever C comes from.

    Where tr(C)/D is below `LEAST_VARIANCE` of the features' mean square, what is missing is added
    to C's diagonal; s is at least `LEAST_SHRINKAGE`. Neither changes an ordinary covariance.

    Args:
        covariance: C, float64 [D, D].
        shrinkage: s in [0, 1]; None: `oracle_shrinkage`.
        mean_square: Of the features.
        freedom: Degrees of freedom that C was estimated from.
    """
    if shrinkage is None:
        shrinkage = oracle_shrinkage(covariance, freedom)
    identity = torch.eye(len(covariance)).to(covariance)
    # features that are zero throughout have a scale of 1
    least = LEAST_VARIANCE * (mean_square if mean_square > 0 else 1.0)
    missing = (least - covariance.diagonal().mean()).clamp_min(0.0)
    covariance = covariance + missing * identity
    s = max(shrinkage, LEAST_SHRINKAGE)
    return (1.0 - s) * covariance + s * (identity * covariance.diagonal().mean())


def inverse_square_root(covariance: Tensor) -> Tensor:
    """Symmetric C^(-1/2) of a positive definite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    # rounding can leave the smallest eigenvalue of an ill-conditioned matrix below zero
    return (vectors * values.clamp_min(1e-12 * values[-1]).rsqrt()) @ vectors.T


def on_off(z: Tensor) -> Tensor:
    """Z [B, D] -> non-negative [B, 2D]: ON units first, then OFF units."""
    return torch.cat([z.clamp_min(0), (-z).clamp_min(0)], dim=1)


@dataclass(frozen=True)
class Presentation:
    """What a code turns into spikes.

    Args:
        drive: Of each unit, [B, n] in [0, 1]: of ON units first, then of OFF units (n = 2D), or of
            the units of an expansion layer.
        schedule: When the stimulus is on.
        rate: Spikes a step at a drive of 1, at most 1.
        seed, stream, sample: Key the noise; ``sample`` int64 [B].
        on_off: Units are pairs of an ON and an OFF unit, of which one is never driven.
    """

    drive: Tensor
    schedule: Schedule
    rate: float
    seed: int
    stream: int
    sample: Tensor
    on_off: bool = True

    @property
    def on(self) -> Tensor:
        """Steps of volleys, bool [T]."""
        return self.schedule.volley.to(self.drive.device)


def poisson(shown: Presentation) -> Tensor:
    """In each volley step a unit fires with probability rate * dt (Bernoulli)."""
    steps = torch.nonzero(shown.on)[:, 0]
    n, drive = len(shown.on), shown.drive
    # a feature drives its ON or its OFF unit, never both: one number serves the pair
    n_numbers = drive.shape[1] // 2 if shown.on_off else drive.shape[1]
    u = uniform(shown.seed, shown.stream, shown.sample, n, n_numbers, only=steps)
    chances = (drive * shown.rate).unflatten(1, (-1, n_numbers))
    spikes = drive.new_zeros(n, *drive.shape)
    spikes[steps] = (u[:, :, None] < chances).flatten(2).float()
    return spikes


def current(shown: Presentation) -> Tensor:
    """A perfect integrator of the rate from half a spike, one spike at each crossing."""
    return _crossings(shown, torch.tensor(0.5))


def regular(shown: Presentation) -> Tensor:
    """A perfect integrator of the rate from a random part of a spike: as many spikes as with
    `poisson` on average, at regular intervals, so that their number varies by one at most."""
    n = shown.drive.shape[1] // 2 if shown.on_off else shown.drive.shape[1]
    start = uniform(shown.seed, shown.stream, shown.sample, 1, n)
    return _crossings(shown, torch.cat([start, start], dim=2) if shown.on_off else start)


def _crossings(shown: Presentation, start: Tensor) -> Tensor:
    """A spike in each step in which ``start`` and the rate's running sum pass an integer."""
    steps_on = torch.cumsum(shown.on, 0).float()[:, None, None]
    level = torch.floor(steps_on * (shown.drive * shown.rate) + start.to(shown.drive))
    return (torch.diff(level, dim=0, prepend=torch.zeros_like(level[:1])) > 0).float()


def latency(shown: Presentation) -> Tensor:
    """One spike a volley, at a step that falls linearly with the drive; none without."""
    drive, on = shown.drive, shown.on[:, None, None]
    delay = torch.round((1.0 - drive) * (shown.schedule.volley_steps - 1))
    step = torch.arange(len(shown.on), device=drive.device) % shown.schedule.period_steps
    return ((step.float()[:, None, None] == delay) & (drive > 0) & on).float()


class SpikeEncoder:
    """Spikes of a presentation: T steps of dt, the stimulus on in periodic volleys.

    ``snn.encoding.code`` says which function makes them: `poisson`, `regular`, `current`,
    `latency`, or one that was added (`snn_artsy.registry.ENCODERS`).

    Args:
        config: Parameters.
        schedule: When the stimulus is on.
        expansion: Its units fire in place of the ON/OFF units, which drive them; None: n = 2D.
    """

    def __init__(
        self, config: EncodingConfig, schedule: Schedule, expansion: Expansion | None = None
    ) -> None:
        self.config = config
        self.schedule = schedule
        self.expansion = expansion

    def drive(self, z: Tensor) -> Tensor:
        """Drive of each unit that fires, [B, n] in [0, 1]; of an ON or OFF unit it is 1 at and
        above saturation.

        Rounded to a grid of 2**-16: sums of different batch sizes or devices differ in their last
        bits, and a spike must not depend on those.
        """
        drive = _on_grid((on_off(z) / self.config.saturation_sd).clamp_max(1.0))
        return drive if self.expansion is None else _on_grid(self.expansion(drive))

    def __call__(self, z: Tensor, seed: int, stream: int, sample: Tensor) -> Tensor:
        """Spikes, float32 of 0 and 1, [T, B, n].

        Args:
            z: Scaled features [B, D].
            seed: The run's seed.
            stream: Separates splits and epochs.
            sample: Sample numbers, int64 [B]; with ``poisson`` they key the noise.

        Raises:
            TypeError, ValueError: Shapes or devices do not fit, ``z`` is not finite, ``sample`` no
                int64, or a code that was added makes no spikes of such a presentation.
        """
        sizes: Sizes = {}
        check_tensor("z", z, "B D", sizes, z)
        check_range("z", z, -MOST, MOST)
        check_same_kind("sample", sample, "B", sizes, z.new_zeros((), dtype=torch.int64))
        rate = self.config.rate_hz * self.config.dt * 1e-3
        on_off = self.expansion is None
        shown = Presentation(self.drive(z), self.schedule, rate, seed, stream, sample, on_off)
        spikes: Tensor = ENCODERS[self.config.code](shown)
        if ENCODERS.origin(self.config.code):
            sizes |= {"T": len(self.schedule.volley), "n": shown.drive.shape[1]}
            name = f"code {self.config.code!r}: its spikes"
            check_same_kind(name, spikes, "T B n", sizes, shown.drive)
            check_spikes(name, spikes)
        return spikes


def _on_grid(drive: Tensor) -> Tensor:
    return (torch.round(drive * 65536.0) / 65536.0).float()
