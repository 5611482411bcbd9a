"""Virtual experiments: each a function of a `Setting` that returns an `Outcome`."""

from snn_artsy.protocols.base import Check, Column, Outcome, Setting
from snn_artsy.registry import PROTOCOLS

register = PROTOCOLS.register

ON_A_RUN = ("lesion", "pharmacology")
"""These work on a trained run (``--run``), and train the digits default without one."""

__all__ = ["ON_A_RUN", "PROTOCOLS", "Check", "Column", "Outcome", "Setting", "register"]
