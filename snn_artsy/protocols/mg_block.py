"""The magnesium block of NMDA receptors, and what it makes of a silent contact's currents.

Source: Jahr & Stevens 1990, the block at 1 mM magnesium; kinetics are our definition.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.physiology import Receptors
from snn_artsy.plots.style import BLACK, BLUE, GREY, ORANGE, PAGE_INCHES, SKY, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.rules.nmda import mg_block as unblocked
from snn_artsy.synapses.conductance import clamp_current

JAHR_STEVENS = "Jahr & Stevens 1990"
# Unblocked share at 1 mM, the printed formula to four decimals.
PUBLISHED = {-70: 0.0445, -60: 0.0796, -40: 0.2302, -20: 0.5081, 0: 0.7812, 40: 0.9771}
HALF_BLOCK_MV = -20.5
DT_MS = 0.1
EARLY_MS, LATE_MS = 1.0, 50.0  # AMPA and NMDA dominate

Values = NDArray[np.float64]


def mg_block(session: Session) -> Outcome:
    """Block against potential, and I-V curves of a silent and a mature contact."""
    v_mV: Values = np.arange(-100.0, 61.0, dtype=np.float64)
    held = torch.from_numpy(v_mV)
    share = {mg: unblocked(held, mg).numpy() for mg in (0.1, 1.0, 2.0)}
    silent, mature = (current_voltage(v_mV, ampa) for ampa in (0.0, 1.0))
    checks = [
        Check(
            f"unblocked share at {v:+d} mV, 1 mM", _at(v_mV, share[1.0], v), value, 5e-5,
            JAHR_STEVENS,
        )
        for v, value in PUBLISHED.items()
    ]  # fmt: skip
    half = float(np.interp(0.5, share[1.0], v_mV))
    ratio = abs(_at(v_mV, silent["late"], 40) / _at(v_mV, silent["late"], -70))
    checks += [
        Check("half block", half, HALF_BLOCK_MV, 0.05, JAHR_STEVENS, "mV"),
        Check("silent contact, |I(+40 mV) / I(-70 mV)|", ratio, 12.5, 0.1, JAHR_STEVENS),
    ]
    data = {"v_mV": Column(v_mV, "mV", "membrane potential")}
    for mg, values in share.items():
        meaning = f"unblocked share of NMDA receptors at {mg:g} mM magnesium"
        data[f"block/mg_{mg:g}_mM"] = Column(values, "--", meaning)
    for name, curves in (("silent", silent), ("mature", mature)):
        for when, ms in (("early", EARLY_MS), ("late", LATE_MS)):
            meaning = f"current of a {name} contact {ms:g} ms after release"
            data[f"{name}/{when}"] = Column(curves[when], "pA", meaning)
    notes = ("Peak conductances and time courses of the I-V curves are our definition.",)
    figure = draw(v_mV, share, silent, mature)
    return Outcome("mg_block", tuple(checks), data, figure, notes)


def current_voltage(
    v_mV: Values, ampa: float, receptors: Receptors | None = None
) -> dict[str, Values]:
    """Clamped current (pA) early and late after one release, at each potential."""
    receptors = Receptors() if receptors is None else receptors
    release = torch.zeros(round(LATE_MS / DT_MS) + 1, len(v_mV), dtype=torch.float64)
    release[0] = 1.0
    current = clamp_current(ampa * release, release, torch.from_numpy(v_mV), receptors, DT_MS)
    return {
        "early": current[round(EARLY_MS / DT_MS)].numpy(),
        "late": current[round(LATE_MS / DT_MS)].numpy(),
    }


def _at(v_mV: Values, values: Values, v: float) -> float:
    return float(values[v_mV == v][0])


@styled
def draw(
    v_mV: Values, share: dict[float, Values], silent: dict[str, Values], mature: dict[str, Values]
) -> Figure:
    """The block with the published points; I-V curves, early and late."""
    figure = new_figure(PAGE_INCHES, 2.4)
    block, early, late = figure.subplots(1, 3)
    for (mg, values), colour in zip(share.items(), (SKY, BLUE, BLACK), strict=True):
        block.plot(v_mV, values, color=colour, label=f"{mg:g} mM")
    block.plot(
        list(PUBLISHED), list(PUBLISHED.values()), "o", color=ORANGE, label="published, 1 mM"
    )
    block.set(xlabel="potential (mV)", ylabel="unblocked share", title="magnesium block")
    block.set_ylim(-0.03, 1.45)
    block.legend(loc="upper left", ncols=2)
    for axes, when, ms in ((early, "early", EARLY_MS), (late, "late", LATE_MS)):
        axes.axhline(0.0, color=GREY, lw=0.5)
        axes.axvline(0.0, color=GREY, lw=0.5)
        axes.plot(v_mV, mature[when], color=BLUE, label="mature")
        axes.plot(v_mV, silent[when], color=ORANGE, ls="--", label="silent")
        axes.set(xlabel="potential (mV)", title=f"{ms:g} ms after release")
    early.set_ylabel("current (pA)")
    early.legend(loc="upper left")
    return figure
