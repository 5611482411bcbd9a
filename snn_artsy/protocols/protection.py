"""Protection: an old memory and a new pairing, with and without silent synapses.

Silent synapses were proposed to let adults learn without overwriting what mature synapses hold
(Vardalaki, Chung & Harnett 2022). Inputs of an old memory A have functional contacts; a new pattern
B is paired, its inputs 5 ms before each teaching spike, while those of A come 5 ms after it, which
depresses them; others, C, are quiet. A is kept where its contacts are consolidated, or change less
than silent ones; B is learnt where its contacts were silent before, so that it can be told from C.
The pairing and all bounds are our definition; when contacts change state follows from the rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import between
from snn_artsy.config import ContactConfig, PlasticityConfig
from snn_artsy.config_builder import take_types
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.plots.style import BLUE, GREEN, GREY, in_rows, label_left, styled
from snn_artsy.protocols.base import MOST_CHANGES, Check, Column, Outcome, Session, sizes
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP
from snn_artsy.rules.nmda import V_PEAK_MV
from snn_artsy.synapses import SilentSynapseLayer

Values = NDArray[np.float64]

FIELD = "Vardalaki et al. 2022 (proposed); the bound is our definition"
DERIVED = "sum over pairs (docs/model.md, 12)"
OURS = "a wrong model must be told apart: our definition"


@dataclass(frozen=True)
class Parameters:
    """Of the experiment.

    Args:
        n_inputs: Of each group A, B and C, onto one neuron.
        n_pairings: At 1 Hz.
        lag_ms: B comes so long before each teaching spike, and A after it (ms).
        a_plus: Of the pair rule, under the NMDA gate.
        a_minus: Likewise.
        metaplastic: Share of a change that mature contacts take in the condition of that name.
    """

    n_inputs: int = 50
    n_pairings: int = 300
    lag_ms: float = 5.0
    a_plus: float = PlasticityConfig.a_plus
    a_minus: float = PlasticityConfig.a_minus
    metaplastic: float = 0.1

    def __post_init__(self) -> None:
        take_types(self)
        sizes(self, MOST_CHANGES, n_inputs=1, n_pairings=1)
        between("lag_ms", self.lag_ms, 1, 100)
        for name in ("a_plus", "a_minus", "metaplastic"):
            between(name, getattr(self, name), 1e-4, 1)

    @property
    def kept(self) -> float:
        """Of a trace, from one spike of a pair to the other."""
        return math.exp(-self.lag_ms / PlasticityConfig.tau_plus_ms)


@dataclass(frozen=True)
class Condition:
    """Whether contacts of B and C are silent at first, and what protects those of A."""

    silent: bool
    consolidated: bool
    mature_plasticity: float = 1.0


def conditions(p: Parameters) -> dict[str, Condition]:
    """By name; the first two protect, the others are what must be told apart."""
    return {
        "silent, consolidated": Condition(True, True),
        "silent, metaplastic": Condition(True, False, p.metaplastic),
        "silent, unprotected": Condition(True, False),
        "none silent, consolidated": Condition(False, True),
        "none silent, unprotected": Condition(False, False),
    }


@dataclass(frozen=True)
class Course:
    """Functional share of A, B and C after each pairing, [n_pairings, 3], and the mean occupancy of
    A in the end."""

    functional: Values
    occupancy: float

    @property
    def old_kept(self) -> float:
        return float(self.functional[-1, 0])

    @property
    def new_learnt(self) -> float:
        """Of B beyond C, from which it must be told."""
        return float(self.functional[-1, 1] - self.functional[-1, 2])

    def first(self, group: int, functional: bool) -> int:
        """Pairing after which half of a group is functional, or is not; 0: none."""
        there = self.functional[:, group] >= 0.5
        return int(np.argmax(there == functional)) + 1 if (there == functional).any() else 0


DEFAULTS = Parameters()


def protection(session: Session, p: Parameters = Parameters()) -> Outcome:
    """Pairing of B beside A in five conditions, two of which protect A and let B be learnt."""
    courses = {name: pair(p, condition) for name, condition in conditions(p).items()}
    data = {
        f"{name.replace(',', '').replace(' ', '_')}/functional": Column(
            course.functional, "--", "functional share of A, B and C after each pairing"
        )
        for name, course in courses.items()
    }
    notes = (
        f"{p.n_inputs} inputs a group; {p.n_pairings} pairings at 1 Hz, {p.lag_ms:g} ms apart.",
        "Nothing here is random: there is one outcome, whatever the seed.",
    )
    return Outcome("protection", checks_of(p, courses), data, draw(courses), notes)


def checks_of(p: Parameters, courses: dict[str, Course]) -> tuple[Check, ...]:
    """What is measured beside what it must be."""
    silent, metaplastic, unprotected, none, lost = courses.values()
    loss = p.a_minus * p.kept
    falls, rises = math.ceil(0.75 / loss), math.ceil(0.5 / (p.a_plus * p.kept * gate_at_spike()))
    left = 1.0 - p.metaplastic * loss * p.n_pairings
    checks = []
    for name, course in (("consolidated", silent), ("metaplastic", metaplastic)):
        checks += [
            Check(f"old memory kept, silent and {name}", course.old_kept, 1.0, 0.0, FIELD),
            Check(f"new memory learnt, silent and {name}", course.new_learnt, 1.0, 0.0, FIELD),
        ]
    return (
        *checks,
        Check("pairings until contacts of B convert", silent.first(1, True), rises, 0.0, DERIVED),
        Check("occupancy of A, metaplastic", metaplastic.occupancy, left, 1e-4, DERIVED),
        Check("pairings until unprotected contacts of A are silent", unprotected.first(0, False),
              falls, 0.0, DERIVED),
        Check("old memory kept without protection", unprotected.old_kept, 0.0, 0.0, OURS,
              kind="at_most"),
        Check("new memory learnt without silent contacts", none.new_learnt, 0.0, 0.0, OURS,
              kind="at_most"),
        Check("old memory kept without silent contacts or protection", lost.old_kept, 0.0, 0.0,
              OURS, kind="at_most"),
    )  # fmt: skip


def gate_at_spike() -> float:
    """The NMDA gate at a spike's peak by its formula (Jahr & Stevens 1990; shut at -40 mV)."""
    block, shut = (1.0 / (1.0 + math.exp(-0.062 * v) / 3.57) for v in (V_PEAK_MV, -40.0))
    return (block - shut) / (1.0 - shut)


def pair(p: Parameters, condition: Condition) -> Course:
    """A's contacts are mature; B's and C's are silent or mature. Pair B, with A after it."""
    n, lag = p.n_inputs, round(p.lag_ms)
    contacts = ContactConfig(
        consolidation=condition.consolidated, mature_plasticity=condition.mature_plasticity
    )
    rule = GatedSTDP(PairSTDP(p.a_plus, p.a_minus), Gating(target=0.0))
    layer = SilentSynapseLayer(3 * n, 1, 1.0, rule=rule, contacts=contacts, update="step")
    mature = layer.born_silent.new_ones(1, 3 * n)
    mature[:, n:] = not condition.silent
    layer.ampa.copy_(mature)
    layer.born_silent.copy_(~mature)
    layer.state.copy_(mature * (CONSOLIDATED if condition.consolidated else FUNCTIONAL))
    pre, taught = torch.zeros(2 * lag + 1, 1, 3 * n), torch.zeros(2 * lag + 1, 1, 1)
    pre[0, :, n : 2 * n], taught[lag], pre[2 * lag, :, :n] = 1.0, 1.5, 1.0
    functional = []
    for _ in range(p.n_pairings):
        layer.pair(pre, taught, presentation_ms=1000.0)
        there = (layer.state[0] != SILENT).double()
        functional.append(there.unflatten(0, (3, n)).mean(1).numpy())
    return Course(np.array(functional), float(layer.ampa[0, :n].double().mean()))


@styled
def draw(courses: dict[str, Course]) -> Figure:
    """Functional shares of the groups against pairings, by condition."""
    figure, panels = in_rows(len(courses), 2.2, least=1.3, sharey=True)
    for axes, (name, course) in zip(panels, courses.items(), strict=True):
        for group, colour, values in zip(
            "ABC", (GREEN, BLUE, GREY), course.functional.T, strict=True
        ):
            axes.plot(100 * values, color=colour, label=group)
        axes.set(title=name.replace(", ", ",\n"), xlabel="pairings", ylim=(-4, 104))
    label_left(panels, "functional contacts (%)")
    panels[0].legend(loc="center right")
    return figure
