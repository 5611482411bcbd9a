"""Virtual experiments: each a function of a `Session` that returns an `Outcome`."""

from dataclasses import fields, replace
from typing import Any

from snn_artsy.config_builder import build
from snn_artsy.config_sources import layered
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.parameters import parameters_of, perform
from snn_artsy.registry import PROTOCOLS

register = PROTOCOLS.register

ON_A_RUN = ("lesion", "pharmacology")
"""These work on a trained run (``--run``), and train the digits default without one."""

__all__ = ["ON_A_RUN", "PROTOCOLS", "Check", "Column", "Outcome", "Session", "register", "run"]


def run(name: str, session: Session | None = None, **options: Any) -> Outcome:
    """Run one protocol: what it measured beside reference values, its data and its figure.

    ``sa.protocols.run("lead-lag", n_inputs=100, seed=1)`` sets a parameter and the seed; parameters
    are those that ``snn-artsy protocol lead-lag --help`` lists.

    Args:
        options: Fields of the session (``seed``, ``run``, ``threads``), which beat those of
            ``session``, and parameters of the protocol, nested (``pair={"a_plus": 0.01}``) or
            dotted.

    Raises:
        ConfigError: There is no such protocol or parameter, or a value cannot be used.
    """
    known = PROTOCOLS.require("protocol", name)
    of_session = {f.name: options.pop(f.name) for f in fields(Session) if f.name in options}
    cls = parameters_of(known)
    parameters = build(cls, layered(options, cls=cls))
    return perform(known, replace(session or Session(), **of_session), parameters)
