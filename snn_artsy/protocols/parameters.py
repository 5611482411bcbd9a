"""Parameters of protocols, and a protocol run with them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from snn_artsy.checks import ConfigError
from snn_artsy.config_builder import hints
from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.registry import PROTOCOLS

OF_ALL = (
    *(field.name for field in fields(Session)), "config", "name", "out", "overwrite", "own",
    "print_config",
)  # fmt: skip
"""Options of every protocol, which no parameter can be called."""


@dataclass(frozen=True)
class NoParameters:
    """Nothing in it can be set."""


def parameters_of(name: str) -> type:
    """The class of a protocol's parameters.

    Raises:
        ConfigError: One of them is called like an option of every protocol.
    """
    cls = PROTOCOLS.options(name) or NoParameters
    for key in hints(cls):
        if key in OF_ALL:
            raise ConfigError(
                name, f"its parameter {key!r} is called like an option of every protocol; rename it"
            )
    return cls


def perform(name: str, session: Session, parameters: Any = None) -> Outcome:
    """What a protocol finds with these parameters, an instance of their class (default: its own).

    Raises:
        TypeError: It gives something else than an `Outcome`.
    """
    cls = parameters_of(name)
    parameters = cls() if parameters is None else parameters
    protocol = PROTOCOLS[name]
    found: object = protocol(session) if cls is NoParameters else protocol(session, parameters)
    if not isinstance(found, Outcome):
        raise TypeError(f"protocol {name}: expected an Outcome, given {type(found).__name__}")
    return replace(found, parameters=parameters)
