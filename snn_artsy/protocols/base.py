"""What a virtual experiment returns: numbers beside their references, data, a figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import between
from snn_artsy.config import check_threads

if TYPE_CHECKING:  # `snn_artsy.plots` imports it first, see there
    from matplotlib.figure import Figure


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
    """

    name: str
    measured: float
    published: float
    tolerance: float
    source: str
    unit: str = "--"
    kind: Literal["within", "at_most", "at_least"] = "within"
    independent: bool = False

    @property
    def passed(self) -> bool:
        if self.kind == "at_most":
            return self.measured <= self.published
        if self.kind == "at_least":
            return self.measured >= self.published
        return abs(self.measured - self.published) <= self.tolerance


@dataclass(frozen=True)
class Column:
    """One array of a protocol's data file, with its unit and one line of meaning."""

    values: NDArray[np.generic]
    unit: str
    meaning: str


@dataclass(frozen=True)
class Outcome:
    """What a protocol found. ``data`` names may contain one "/" for a group."""

    protocol: str
    checks: tuple[Check, ...]
    data: dict[str, Column]
    figure: Figure
    # what a reader must know beside the numbers (what was fitted, what is our definition)
    notes: tuple[str, ...] = field(default=())


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
        between("seed", self.seed, 0, 2**31 - 1)
        check_threads(self.threads)
