"""Checks of values that a user gives; every failure names the key, the value and the remedy."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration value that cannot be used: ``key: what is wrong; what to do``."""


def require(condition: bool, key: str, value: object, remedy: str) -> None:
    """Raise :class:`ConfigError` for ``key`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{key}: {value!r} cannot be used; {remedy}")


def positive(key: str, value: float) -> None:
    require(value > 0, key, value, "use a value above 0")


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    require(value in choices, key, value, f"choose from {', '.join(choices)}")
