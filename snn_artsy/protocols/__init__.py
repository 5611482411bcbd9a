"""Virtual experiments: each a function of a `Session` that returns an `Outcome`."""

from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.registry import PROTOCOLS

register = PROTOCOLS.register

ON_A_RUN = ("lesion", "pharmacology")
"""These work on a trained run (``--run``), and train the digits default without one."""

__all__ = ["ON_A_RUN", "PROTOCOLS", "Check", "Column", "Outcome", "Session", "register", "run"]


def run(name: str, session: Session | None = None) -> Outcome:
    """Run one protocol: what it measured beside reference values, its data and its figure.

    Raises:
        ConfigError: There is no such protocol.
    """
    outcome: Outcome = PROTOCOLS[PROTOCOLS.require("protocol", name)](session or Session())
    return outcome
