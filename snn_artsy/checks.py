"""Checks of values that a user gives; every failure names the key, the value and the remedy.

And of numbers that come out of them: what is computed must be finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np


class ConfigError(ValueError):
    """A configuration value that cannot be used: ``key: what is wrong; what to do``."""


class NotFinite(RuntimeError):
    """A number that was computed is NaN or infinite: ``where: what, how many of how many``."""


def require_finite(where: str, values: Mapping[str, Any]) -> None:
    """Raise :class:`NotFinite` unless every number in these arrays or tensors is finite.

    Args:
        where: Begins the message, for example the learner and the task.
        values: Arrays or tensors, on any device, by what they are called in the message.
    """
    for name, value in values.items():
        finite = value.isfinite() if hasattr(value, "isfinite") else np.isfinite(value)
        if not finite.all():
            total = int(np.prod(finite.shape))
            raise NotFinite(
                f"{where}: {total - int(finite.sum())} of {total} numbers in {name} are NaN or "
                "infinite"
            )


def require(condition: bool, key: str, value: object, remedy: str) -> None:
    """Raise :class:`ConfigError` for ``key`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{key}: {in_short(value)} cannot be used; {remedy}")


def in_short(value: object) -> str:
    """``repr`` of a value, cut where it would be longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"


@contextmanager
def named(prefix: str, instead: str) -> Iterator[None]:
    """Errors whose key begins with ``prefix`` get ``instead`` in its place: a rule knows its own
    name only, a user the key in the configuration."""
    try:
        yield
    except ConfigError as error:
        if prefix == instead or not str(error).startswith(prefix):
            raise
        raise ConfigError(instead + str(error).removeprefix(prefix)) from error


def finite(key: str, value: object) -> None:
    """A number; NaN, infinity and text are none."""
    require(_is_number(value), key, value, "use a finite number")


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def positive(key: str, value: float) -> None:
    finite(key, value)
    require(value > 0, key, value, "use a value above 0")


def within(key: str, value: float | None, low: float, high: float, unit: str = "") -> None:
    """Refuse a number outside [low, high]; None passes."""
    inside = value is None or (_is_number(value) and low <= value <= high)
    require(inside, key, value, f"use {_shown(low)} to {_shown(high)}{unit and ' '}{unit}")


def _shown(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def between(key: str, value: float, low: float, high: float) -> None:
    """`within` for a number that must be given."""
    finite(key, value)
    within(key, value, low, high)


def duration(key: str, value: float) -> None:
    """A time in ms that neither vanishes beside another one nor makes it vanish."""
    finite(key, value)
    require(1e-6 <= value <= 1e15, key, value, "use 1e-06 to 1e+15 ms")


def amplitude(key: str, value: float) -> None:
    """A number that sums over spikes are multiplied with: float32 must hold them."""
    finite(key, value)
    require(0 <= value <= 1e6, key, value, "use 0 to 1e+06")


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    require(value in choices, key, value, f"choose from {', '.join(choices)}")
