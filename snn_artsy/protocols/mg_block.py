"""The magnesium block of NMDA receptors, and what it makes of a silent contact's currents.

Source: Jahr & Stevens 1990, the block at 1 mM magnesium; kinetics are our definition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import amplitude, duration, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.physiology import Receptors
from snn_artsy.plots.style import BLACK, BLUE, GREY, ORANGE, SKY, in_rows, label_left, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session, unlike_published
from snn_artsy.rules.nmda import mg_block as unblocked
from snn_artsy.synapses.conductance import clamp_current

JAHR_STEVENS = "Jahr & Stevens 1990"
# Unblocked share at 1 mM, the printed formula to four decimals.
PUBLISHED = {-70: 0.0445, -60: 0.0796, -40: 0.2302, -20: 0.5081, 0: 0.7812, 40: 0.9771}
HALF_BLOCK_MV = -20.5
RATIO = 12.5  # of the currents at +40 and -70 mV that this block makes

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """Potentials, magnesium and receptors.

    Args:
        mg_mM: Magnesium (mM) at which the block is drawn, one to three values.
        lowest_mV: Lowest potential (mV); the others follow by 1 mV.
        highest_mV: Highest potential (mV).
        early_ms: So long after release (ms) AMPA dominates.
        late_ms: So long after release (ms) NMDA is left.
        dt_ms: Step (ms).
        receptors: Of a contact, in the current-voltage curves; a silent one opens no AMPA.
    """

    mg_mM: tuple[float, ...] = (0.1, 1.0, 2.0)
    lowest_mV: int = -100
    highest_mV: int = 60
    early_ms: float = 1.0
    late_ms: float = 50.0
    dt_ms: float = 0.1
    receptors: Receptors = field(default_factory=Receptors)

    def __post_init__(self) -> None:
        take_types(self)
        different = 1 <= len(set(self.mg_mM)) == len(self.mg_mM) <= 3
        require(different, "mg_mM", self.mg_mM, "use one to three different values")
        for mg in self.mg_mM:
            amplitude("mg_mM", mg)
        # -70 and +40 mV are among them: there currents are compared
        within("lowest_mV", self.lowest_mV, -200, -70, "mV")
        within("highest_mV", self.highest_mV, 40, 200, "mV")
        duration("dt_ms", self.dt_ms)
        within("late_ms", self.late_ms, self.dt_ms, 1e5 * self.dt_ms, "ms")
        within("early_ms", self.early_ms, self.dt_ms, self.late_ms, "ms")


DEFAULTS = Parameters()


def mg_block(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Block against potential, and I-V curves of a silent and a mature contact."""
    v_mV: Values = np.arange(float(p.lowest_mV), p.highest_mV + 1.0, dtype=np.float64)
    held = torch.from_numpy(v_mV)
    share = {mg: unblocked(held, mg).numpy() for mg in p.mg_mM}
    at_1_mM = unblocked(held, 1.0).numpy()
    silent, mature = (current_voltage(v_mV, ampa, p) for ampa in (0.0, 1.0))
    checks = [
        Check(
            f"unblocked share at {v:+d} mV, 1 mM", _at(v_mV, at_1_mM, v), value, 5e-5,
            JAHR_STEVENS,
        )
        for v, value in PUBLISHED.items()
    ]  # fmt: skip
    half = float(np.interp(0.5, at_1_mM, v_mV))
    ratio = abs(_at(v_mV, silent["late"], 40) / _at(v_mV, silent["late"], -70))
    checks += [
        Check("half block", half, HALF_BLOCK_MV, 0.05, JAHR_STEVENS, "mV"),
        Check("silent contact, |I(+40 mV) / I(-70 mV)|", ratio, RATIO, 0.1, JAHR_STEVENS,
              not_compared=unlike_published(p.receptors, "mg_mM", "e_rev_mV")),
    ]  # fmt: skip
    data = {"v_mV": Column(v_mV, "mV", "membrane potential")}
    for mg, values in share.items():
        meaning = f"unblocked share of NMDA receptors at {mg:g} mM magnesium"
        data[f"block/mg_{mg:g}_mM"] = Column(values, "--", meaning)
    for name, curves in (("silent", silent), ("mature", mature)):
        for when, ms in (("early", p.early_ms), ("late", p.late_ms)):
            meaning = f"current of a {name} contact {ms:g} ms after release"
            data[f"{name}/{when}"] = Column(curves[when], "pA", meaning)
    notes = ("Peak conductances and time courses of the I-V curves are our definition.",)
    figure = draw(v_mV, share, silent, mature, p)
    return Outcome("mg_block", tuple(checks), data, figure, notes)


def current_voltage(v_mV: Values, ampa: float, p: Parameters = DEFAULTS) -> dict[str, Values]:
    """Clamped current (pA) early and late after one release, at each potential."""
    release = torch.zeros(round(p.late_ms / p.dt_ms) + 1, len(v_mV), dtype=torch.float64)
    release[0] = 1.0
    held = torch.from_numpy(v_mV)
    current = clamp_current(ampa * release, release, held, p.receptors, p.dt_ms)
    return {
        "early": current[round(p.early_ms / p.dt_ms)].numpy(),
        "late": current[round(p.late_ms / p.dt_ms)].numpy(),
    }


def _at(v_mV: Values, values: Values, v: float) -> float:
    return float(values[v_mV == v][0])


@styled
def draw(
    v_mV: Values,
    share: dict[float, Values],
    silent: dict[str, Values],
    mature: dict[str, Values],
    p: Parameters,
) -> Figure:
    """The block with the published points; I-V curves, early and late."""
    figure, (block, early, late) = in_rows(3, 2.4)
    for (mg, values), colour in zip(share.items(), (SKY, BLUE, BLACK), strict=False):
        block.plot(v_mV, values, color=colour, label=f"{mg:g} mM")
    block.plot(
        list(PUBLISHED), list(PUBLISHED.values()), "o", color=ORANGE, label="published, 1 mM"
    )
    block.set(xlabel="potential (mV)", ylabel="unblocked share", title="magnesium block")
    block.set_ylim(-0.03, 1.45)
    block.legend(loc="upper left", ncols=2)
    for axes, when, ms in ((early, "early", p.early_ms), (late, "late", p.late_ms)):
        axes.axhline(0.0, color=GREY, lw=0.5)
        axes.axvline(0.0, color=GREY, lw=0.5)
        axes.plot(v_mV, mature[when], color=BLUE, label="mature")
        axes.plot(v_mV, silent[when], color=ORANGE, ls="--", label="silent")
        axes.set(xlabel="potential (mV)", title=f"{ms:g} ms after release")
    early.set_ylabel("current (pA)")
    label_left([late], "current (pA)")
    early.legend(loc="upper left")
    return figure
