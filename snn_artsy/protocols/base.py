"""What a virtual experiment returns: numbers beside their references, data, a figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError, between, require, within
from snn_artsy.config import check_threads
from snn_artsy.config_builder import take_types

if TYPE_CHECKING:  # `snn_artsy.plots` imports it first, see there
    from matplotlib.figure import Figure

MOST_CONTACTS = 10_000_000
"""Of a protocol: some hundred MB."""
MOST_CHANGES = 1_000_000_000
"""Contacts times presentations: about an hour."""


MOST_HOURS = 1.0
"""Of a simulation in steps."""


def patience(key: str, value: object, n_steps: float, n_contacts: float = 1) -> None:
    """Refuse a simulation in Python, step by step, that would take hours, before it begins.

    A step takes some 0.7 ms, and 20 ns more for each contact.

    Args:
        key, value: What it can be made shorter by, and its value.

    Raises:
        ConfigError: Names the key, and how long it would take.
    """
    hours = n_steps * (7e-4 + 2e-8 * n_contacts) / 3600.0
    remedy = f"{n_steps:,.0f} steps would take about {hours:,.0f} hours; simulate less at a time"
    require(hours <= MOST_HOURS, key, value, remedy)


def sizes(parameters: object, most: int, **least: int) -> None:
    """Refuse sizes below their least, and a product of them that memory or patience can't hold.

    Args:
        parameters: Has the sizes.
        most: Of the product.
        least: Names of the sizes, and the least of each.

    Raises:
        ConfigError: Names the size, or the first of a product that is too large.
    """
    product = 1
    for name, smallest in least.items():
        value = getattr(parameters, name)
        within(name, value, smallest, MOST_CONTACTS)
        product *= value
    if product > most:
        names = " times ".join(least)
        raise ConfigError(
            next(iter(least)), f"{names} is {product:,}; make one smaller, for {most:,} at most"
        )


@dataclass(frozen=True)
class Check:
    """A measured value against a reference.

    Args:
        name: What was measured.
        measured, published: In ``unit``; the second is the reference, published or not.
        tolerance: Largest accepted difference (``within``); 0 for the others.
        source: Where the reference, or the claim that it stands for, is from.
        kind: ``within``: abs(measured - published) <= tolerance; ``at_most``, ``at_least``: the
            reference is a bound.
        independent: The reference's number is that of a paper or of another simulator. Others
            follow from equations or definitions that the measured value is made of, too, or are
            bounds of ours.
        not_compared: Why the reference does not hold for what was measured, such as ``n_inputs
            differs from the published``; empty: it does, and both are compared.
    """

    name: str
    measured: float
    published: float
    tolerance: float
    source: str
    unit: str = "--"
    kind: Literal["within", "at_most", "at_least"] = "within"
    independent: bool = False
    not_compared: str = ""

    @property
    def passed(self) -> bool:
        """Whether the reference is met; True, too, where there is nothing to compare."""
        if self.not_compared:
            return True
        if self.kind == "at_most":
            return self.measured <= self.published
        if self.kind == "at_least":
            return self.measured >= self.published
        return abs(self.measured - self.published) <= self.tolerance


def unlike_published(parameters: Any, *names: str) -> str:
    """Why a published value is not compared: which of these parameters are not those of the
    publication, their defaults. Empty if all are."""
    published = type(parameters)()
    other = [n for n in names if getattr(parameters, n) != getattr(published, n)]
    verb = "differs" if len(other) == 1 else "differ"
    return f"{', '.join(other)} {verb} from the published" if other else ""


@dataclass(frozen=True)
class Column:
    """One array of a protocol's data file, with its unit and one line of meaning."""

    values: NDArray[np.generic]
    unit: str
    meaning: str


@dataclass(frozen=True)
class Outcome:
    """What a protocol found, and with which parameters (which whoever runs it fills in). ``data``
    names may contain one "/" for a group."""

    protocol: str
    checks: tuple[Check, ...]
    data: dict[str, Column]
    figure: Figure
    # what a reader must know beside the numbers (what was fitted, what is our definition)
    notes: tuple[str, ...] = field(default=())
    parameters: Any = None


@dataclass(frozen=True)
class Session:
    """What a protocol is given.

    Args:
        seed: Of everything random in it.
        run: Trained run directory, for protocols that work on one; None: train the default.
        scratch: Directory for what the protocol has to train.
        threads: To compute with; None: one.
    """

    seed: int = 1993
    run: Path | None = None
    scratch: Path | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        take_types(self)
        between("seed", self.seed, 0, 2**31 - 1)
        check_threads(self.threads)
