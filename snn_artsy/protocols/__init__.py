"""Virtual experiments: each a function of a `Setting` that returns an `Outcome`."""

from snn_artsy.protocols.base import Check, Column, Outcome, Setting
from snn_artsy.registry import PROTOCOLS

register = PROTOCOLS.register

ON_A_RUN = ("lesion", "pharmacology")
"""These work on a trained run (``--run``), and train the digits default without one."""

__all__ = ["ON_A_RUN", "PROTOCOLS", "Check", "Column", "Outcome", "Setting", "register", "run"]


def run(name: str, setting: Setting | None = None) -> Outcome:
    """Run one protocol: what it measured beside the published values, its data and its figure.

    Raises:
        ConfigError: There is no such protocol.
    """
    found: Outcome = PROTOCOLS[PROTOCOLS.require("protocol", name)](setting or Setting())
    return found
