"""Virtual experiments: each a function of a `Session` that returns an `Outcome`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from snn_artsy.config_builder import build
from snn_artsy.config_sources import layered
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.parameters import parameters_of, perform
from snn_artsy.registry import PROTOCOLS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from snn_artsy.rules import Rule

register = PROTOCOLS.register

ON_A_RUN = ("lesion", "pharmacology")
"""These work on a trained run (``--run``), and train the digits default without one."""

__all__ = [
    "ON_A_RUN", "PROTOCOLS", "Check", "Column", "Outcome", "Session", "pairing", "register", "run"
]  # fmt: skip


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
    session = _taken(session, options)
    cls = parameters_of(known)
    parameters: Any = build(cls, layered(options, cls=cls))
    return perform(known, session, parameters)


def pairing(
    pre_ms: ArrayLike | Sequence[ArrayLike],
    post_ms: ArrayLike | Sequence[ArrayLike],
    v_mv: ArrayLike | None = None,
    *,
    rule: str | Rule = "pair",
    session: Session | None = None,
    **options: Any,
) -> Outcome:
    """What contacts between neurons with these spike trains would do, under any rule.

    ``sa.protocols.pairing(pre_ms=[10, 60], post_ms=[20, 70], rule="triplet")`` is ``snn-artsy
    protocol pairing`` for times that are in Python. Neurons are not simulated.

    Args:
        pre_ms, post_ms: Spike times (ms) of one neuron, or a list of such lists (rows of an array).
            Each presynaptic train has a contact with each postsynaptic one.
        v_mv: Postsynaptic potential (mV), upstrokes and all, in steps of ``dt_ms`` from 0 ms on,
            [T] or [T, n_post], for rules that follow it; default: at rest, with a peak at spikes.
            With it, postsynaptic trains may be empty.
        rule: Its name, or a rule of `snn_artsy.rules`.
        options: Parameters that ``snn-artsy protocol pairing --help`` lists, and ``seed``.

    Returns:
        ``data`` holds occupancy and state over time, [sample, post, pre], events, and the change by
        the rule, [post, pre]; ``checks`` compare it with a sum over all pairs (triplets) of spikes.

    Raises:
        ConfigError: Times that are negative, not finite or out of order, or an option that cannot
            be used.
    """
    from snn_artsy.protocols import own_trains

    session = _taken(session, options)
    return own_trains.pairing(pre_ms, post_ms, v_mv, rule=rule, session=session, **options)


def _taken(session: Session | None, options: dict[str, Any]) -> Session:
    """The session, with what is taken out of the options for it."""
    own = {f.name: options.pop(f.name) for f in fields(Session) if f.name in options}
    return replace(session or Session(), **own)
