"""A value that is given is used, or it is refused (`snn_artsy.config.where_used`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import Any, cast

from snn_artsy.checks import ConfigError
from snn_artsy.config import EncodingConfig, RunConfig, SNNConfig
from snn_artsy.config.presets import SNN_PRESETS
from snn_artsy.config.where_used import WHERE_USED, Use, used_by
from snn_artsy.config_builder import keys_of, section_of, type_of
from snn_artsy.registry import LEARNERS


def check_used(config: RunConfig, typed: Collection[str] = ()) -> None:
    """Refuse a value that does nothing beside the others.

    A value that is not the default was given by somebody. One that is may come from a file in which
    a run wrote every key, and is refused only if it was ``typed``; so are values of learners that
    do not take part.

    Raises:
        ConfigError: Naming the key and the setting that would use it.
    """
    for key, where in unused(config, typed):
        raise nothing(config, key, where)


def nothing(config: RunConfig, key: str, where: str) -> ConfigError:
    """The error that says that a value does nothing, and where it would be used."""
    reason = f"does nothing here, it is used {where}; set that, or leave {key} out"
    return ConfigError(key, reason, value_at(config, key))


def unused(config: RunConfig, typed: Collection[str] = ()) -> list[tuple[str, str]]:
    """Keys that were given and are not used, each with where it would be."""
    encoding = EncodingConfig(preset=config.snn.encoding.preset)
    usual = replace(type(config)(), snn=SNNConfig(encoding=encoding))
    preset = SNN_PRESETS[config.snn.preset]
    pairs = []
    for key in leaves():
        if not hasattr(config, key.partition(".")[0]):
            continue  # options of a learner that was added and takes no part
        default = value_at(usual, key)
        if key in typed or value_at(config, key) not in (default, preset.get(key, default)):
            idle = [use for use in uses_of(key) if not use.holds(config)]
            if key in typed or not any(use.of_learners for use in idle):
                pairs += [(key, use.where) for use in idle[:1]]
    return pairs


def leaves() -> tuple[str, ...]:
    """All keys that hold a value."""
    return _leaves(cast(Any, RunConfig.whole()))


@lru_cache(maxsize=8)
def _leaves(cls: Any) -> tuple[str, ...]:
    return tuple(k for k in keys_of(cls) if section_of(type_of(cls, k)) is None)


def uses_of(key: str) -> list[Use]:
    """What the table says of a key, its sections included; nothing of one that is always used.
    Options of a learner that was added are used by it."""
    parts = key.split(".")
    if LEARNERS.options(parts[0]):
        return [used_by(parts[:1], parts[:1])]
    names = {".".join(parts[: n + 1]) for n in range(len(parts))}
    return [use for use in WHERE_USED if names & set(use.keys)]


def value_at(config: RunConfig, key: str) -> Any:
    """The value under a dotted key."""
    return attrgetter(key)(config)
