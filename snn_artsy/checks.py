"""Checks of values that a user gives; every failure names the key, the value and the remedy.

And of numbers that come out of them: what is computed must be finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from operator import index
from typing import Any

import numpy as np


class ConfigError(ValueError):
    """A configuration value that cannot be used, shown as ``key: what is wrong; what to do``.

    Args:
        key: What the value was given as: a dotted key, an argument, a command.
        reason: What is wrong; what to do.
        value: What was given, where it is shown before the reason.
    """

    def __init__(self, key: str, reason: str, value: object = ...) -> None:
        super().__init__(key, reason, value)
        self.key, self.reason, self.value = key, reason, value

    @property
    def problem(self) -> str:
        """The value and the reason, as they are shown."""
        return self.reason if self.value is ... else f"{in_short(self.value)} {self.reason}"

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


class NotFinite(RuntimeError):
    """A number that was computed is NaN or infinite: ``where: what, how many of how many``."""


def require_finite(where: str, values: Mapping[str, Any]) -> None:
    """Raise :class:`NotFinite` unless every number in these arrays or tensors is finite.

    Args:
        where: Begins the message, for example the learner and the task.
        values: Arrays or tensors, on any device, by what they are called in the message.
    """
    for name, value in values.items():
        # a sum is not finite if one of its numbers is not, and takes less memory to find out
        if hasattr(value, "isfinite") and value.sum().isfinite():
            continue
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
        raise ConfigError(key, f"cannot be used; {remedy}", value)


def in_short(value: object) -> str:
    """``repr`` of a value, cut where it would be longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"


@contextmanager
def named(prefix: str, instead: str) -> Iterator[None]:
    """Put ``instead`` for the ``prefix`` of an error's key: a rule knows its own name only, a user
    the key in the configuration."""
    try:
        yield
    except ConfigError as error:
        if prefix == instead or not error.key.startswith(prefix):
            raise
        key = instead + error.key.removeprefix(prefix)
        raise ConfigError(key, error.reason, error.value) from error


def finite(key: str, value: object) -> None:
    """Refuse what is no finite number; NaN, infinity and text are none."""
    require(_is_number(value), key, value, "use a finite number")


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def whole_number(key: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``, of any type that can count."""
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    require(whole and index(value) >= least, key, value, f"use a whole number of {least} or more")
    return index(value)


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
    """Refuse a time in ms that vanishes beside another one, or makes it vanish."""
    finite(key, value)
    require(1e-6 <= value <= 1e15, key, value, "use 1e-06 to 1e+15 ms")


def amplitude(key: str, value: float) -> None:
    """Refuse a factor of sums over spikes whose products float32 cannot hold."""
    finite(key, value)
    require(0 <= value <= 1e6, key, value, "use 0 to 1e+06")


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    require(value in choices, key, value, f"choose from {', '.join(choices)}")
