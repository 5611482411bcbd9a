"""Unsilencing by pairing: EPSCs at -70 and +40 mV before and after, and its controls.

Sources: Isaac, Nicoll & Malenka 1995; Liao, Hessler & Malinow 1995 (no EPSC at -70 mV but one at
+40 mV; pairing makes one appear at -70 mV, not in APV); Kerchner & Nicoll 2008 (review). Numbers of
pairings, release probability and noise are our definition; the rule is that of default runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.config import ContactConfig, PlasticityConfig
from snn_artsy.observer import CONSOLIDATED, SILENT
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PAGE_INCHES, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.recording_cell import Rig
from snn_artsy.rules import GatedSTDP, Signals
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.conductance import integrate, released
from snn_artsy.synapses.engine_torch import express

N_PAIRINGS, PERIOD_MS, PRE_LEADS_MS, WINDOW_MS = 120, 1000.0, 5.0, 100.0
N_SWEEPS, P_RELEASE = 1000, 0.5
PULSE_PA, PULSE_MS = 2500.0, 2.0  # the electrode's, one spike each
EARLY_MS, LATE_MS = (2.0, 6.0), (49.0, 51.0)  # AMPA at -70 mV, NMDA at +40 mV
ISAAC = "Isaac et al. 1995, Liao et al. 1995"
KERCHNER = "Kerchner & Nicoll 2008"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """What a contact is, and what is done to it during pairing."""

    name: str
    ampa: float = 0.0
    pre: bool = True
    post: bool = True
    apv: bool = False
    p_release: float = P_RELEASE


CONDITIONS = (
    Condition("pairing"),
    Condition("pre_only", post=False),
    Condition("post_only", pre=False),
    Condition("apv", apv=True),
    Condition("no_release", p_release=0.0),
    Condition("mature", ampa=1.0),
)
TITLES = {
    "pairing": "silent, paired",
    "pre_only": "presynaptic only",
    "post_only": "postsynaptic only",
    "apv": "paired in APV",
    "no_release": "presynaptically silent",
    "mature": "mature, paired",
}


class Paired(NamedTuple):
    """Contacts after each pairing, [N_PAIRINGS, n_conditions]: AMPA occupancy, state code, and what
    they transmit."""

    occupancy: Tensor
    state: Tensor
    transmitted: Tensor


@dataclass(frozen=True)
class Sweeps:
    """Recorded currents (pA) of one condition at one time, [T, N_SWEEPS]."""

    at_70: Tensor
    at_40: Tensor


def silent_synapse_pairing(session: Session) -> Outcome:
    """Sweeps before and after pairing, for a silent contact, its controls and a mature contact."""
    generator = torch.Generator().manual_seed(session.seed)
    rig = Rig()
    paired = pair(CONDITIONS, generator)
    before = {c.name: sweeps(rig, c, c.ampa, generator) for c in CONDITIONS}
    after = {
        c.name: sweeps(rig, c, float(paired.transmitted[-1, i]), generator)
        for i, c in enumerate(CONDITIONS)
    }
    in_apv = sweeps(rig, CONDITIONS[0], 0.0, generator, replace(Receptors(), g_nmda_nS=0.0))
    data = {
        "occupancy": Column(paired.occupancy.numpy(), "--", "AMPA occupancy [pairing, condition]"),
        "state": Column(
            paired.state.numpy(),
            "--",
            "0 silent, 1 functional, 2 consolidated [pairing, condition]",
        ),
        "conditions": Column(np.array([c.name for c in CONDITIONS], "S"), "--", "condition names"),
        "time_ms": Column(_time_ms(rig), "ms", "from the stimulus"),
    }
    for when, recorded in (("before", before), ("after", after)):
        for name, s in recorded.items():
            for v, traces in ((-70, s.at_70), (40, s.at_40)):
                data[f"{when}/{name}_{v:+d}mV"] = Column(
                    traces.mean(1).numpy(), "pA", f"mean of {N_SWEEPS} sweeps at {v:+d} mV"
                )
    notes = (
        f"{N_PAIRINGS} pairings at 1 Hz with rule, states and transmission of a default run; the "
        f"silent contact converts at pairing {1 + int((paired.state[:, 0] == SILENT).sum())}. "
        f"Presynaptic spike {PRE_LEADS_MS:g} ms before one that the "
        f"electrode evokes; {N_SWEEPS} sweeps at each potential, release probability "
        f"{P_RELEASE:g}, noise {rig.noise_pA:g} pA. APV is washed out before the test sweeps.",
        f"Amplitudes: mean of {EARLY_MS[0]:g}-{EARLY_MS[1]:g} ms at -70 mV, "
        f"{LATE_MS[0]:g}-{LATE_MS[1]:g} ms at +40 mV.",
    )
    checks = judge(rig, before, after, in_apv)
    return Outcome(
        "silent_synapse_pairing", checks, data, draw(rig, before, after, paired.occupancy), notes
    )


def pair(conditions: tuple[Condition, ...], generator: torch.Generator) -> Paired:
    """Contacts after each pairing.

    Each condition is a contact and a cell of its own. Rule, states and transmission are those of a
    run with the default configuration. Pairings come at 1 Hz, so that fast traces are at rest when
    one starts; the presynaptic target's average goes on between them.
    """
    rig, n = Rig(), len(conditions)
    layer = SilentSynapseLayer(
        n, n, rig.dt_ms, rule=PlasticityConfig().build(), contacts=ContactConfig()
    ).double()
    rule = layer.rule
    assert isinstance(rule, GatedSTDP)
    layer.exists.copy_(torch.eye(n))
    layer.ampa.copy_(torch.diag(torch.tensor([c.ampa for c in conditions])))
    layer.state.copy_(torch.where(layer.ampa > 0.0, CONSOLIDATED, SILENT))

    steps, spike = round(WINDOW_MS / rig.dt_ms), round(20.0 / rig.dt_ms)
    pre = torch.zeros(steps, N_PAIRINGS, n, dtype=torch.float64)
    pulse = torch.zeros_like(pre)
    pre[spike] = torch.tensor([float(c.pre) for c in conditions])
    # the pulse takes 1.6 ms to reach threshold
    start = spike + round((PRE_LEADS_MS - 1.6) / rig.dt_ms)
    electrode = torch.tensor([PULSE_PA * c.post for c in conditions], dtype=torch.float64)
    pulse[start : start + round(PULSE_MS / rig.dt_ms)] = electrode
    transmitter = released(pre, torch.tensor([c.p_release for c in conditions]), generator)
    open_nmda = torch.tensor([0.0 if c.apv else 1.0 for c in conditions], dtype=torch.float64)
    nothing = pre[:1, :1] * 0.0
    silence = Signals(nothing, nothing, nothing + V_REST_MV)
    traces = rule.start(nothing[0], nothing[0])
    after: list[list[Tensor]] = []
    while len(after) < N_PAIRINGS:
        open_ampa = layer.transmitted().diagonal().clone()
        glutamate = transmitter[:, len(after) :]
        # all pairings to come at once; they are integrated anew when a contact has converted
        cells = integrate(
            glutamate * open_ampa, glutamate * open_nmda, None, pulse[:, len(after) :], Membrane(),
            Receptors(), rig.dt_ms,
        )  # fmt: skip
        v_mV = torch.where(cells.spikes > 0, V_PEAK_MV, cells.v_mV)
        for k in range(glutamate.shape[1]):
            shown = Signals(*(x[:, k : k + 1] for x in (glutamate, cells.spikes, v_mV)))
            signals = rule.gated(shown)
            assert signals.gate is not None
            signals = signals._replace(gate=signals.gate * open_nmda)
            change, traces = rule.summed(layer.ampa, traces, signals, rig.dt_ms)
            _, traces = rule.presentation(layer.ampa, traces, silence, PERIOD_MS - WINDOW_MS)
            express(layer.circuit(), change, 1, PERIOD_MS)
            contacts = (layer.ampa, layer.state, layer.transmitted())
            after.append([values.diagonal().clone() for values in contacts])
            if not torch.equal(after[-1][2], open_ampa):
                break
    return Paired(*(torch.stack(values) for values in zip(*after, strict=True)))


def sweeps(
    rig: Rig,
    condition: Condition,
    ampa: float,
    generator: torch.Generator,
    receptors: Receptors | None = None,
) -> Sweeps:
    """Test sweeps of a contact that passes so much of a full AMPA current, at both potentials."""
    receptors = Receptors() if receptors is None else receptors
    contact = torch.tensor([ampa], dtype=torch.float64)
    recorded = []
    for v_mV in (-70.0, 40.0):
        current = rig.sweeps(contact, v_mV, condition.p_release, N_SWEEPS, receptors, generator)
        recorded.append(rig.record(current[:, :, 0], generator))
    return Sweeps(*recorded)


def judge(
    rig: Rig, before: dict[str, Sweeps], after: dict[str, Sweeps], in_apv: Sweeps
) -> tuple[Check, ...]:
    """The claims of the pairing experiments as checks."""

    def early(s: Sweeps) -> float:
        return float(rig.amplitude(s.at_70, *EARLY_MS).mean())

    def late_z(s: Sweeps) -> float:
        values = rig.amplitude(s.at_40, *LATE_MS)
        return float(values.mean() / (values.std() / len(values) ** 0.5))

    mature = early(before["mature"])

    def bound(name: str, measured: float, limit: float, source: str) -> Check:
        return Check(name, measured, limit, 0.0, source, kind="at_most")

    present = Check(
        "silent, before: EPSC at +40 mV", late_z(before["pairing"]), 3.0, 0.0, ISAAC, "SE",
        kind="at_least",
    )  # fmt: skip
    controls = [
        bound(f"{TITLES[name]}, after: EPSC at -70 mV / mature", early(after[name]) / mature, 0.05,
              source)
        for name, source in (
            ("pre_only", ISAAC), ("post_only", ISAAC), ("apv", ISAAC), ("no_release", KERCHNER),
        )
    ]  # fmt: skip
    return (
        bound(
            "silent, before: EPSC at -70 mV / mature", early(before["pairing"]) / mature, 0.05,
            KERCHNER,
        ),
        present,
        Check("silent, in APV: EPSC at +40 mV", late_z(in_apv), 0.0, 3.29, ISAAC, "SE"),
        Check(
            "silent, after pairing: EPSC at -70 mV / mature", early(after["pairing"]) / mature,
            1.0, 0.15, ISAAC,
        ),
        *controls,
        Check(
            "presynaptically silent: EPSC at +40 mV", late_z(before["no_release"]), 0.0, 3.29,
            KERCHNER, "SE",
        ),
        Check(
            "mature: EPSC at -70 mV after / before", early(after["mature"]) / mature, 1.0, 0.15,
            ISAAC,
        ),
    )  # fmt: skip


def _time_ms(rig: Rig) -> Values:
    n = rig.sample(rig.sweep_ms)
    return np.asarray(np.arange(n) * rig.dt_ms - rig.baseline_ms, dtype=np.float64)


@styled
def draw(
    rig: Rig, before: dict[str, Sweeps], after: dict[str, Sweeps], occupancy: Tensor
) -> Figure:
    """Averages (heavy) over 15 single sweeps (faint), before and after; occupancy by pairing."""
    figure = new_figure(PAGE_INCHES, 5.2)
    sweeps_part, summary = figure.subfigures(2, 1, height_ratios=(3.4, 1.3), squeeze=False)[:, 0]
    shown, t = ("pairing", "apv", "mature"), _time_ms(rig)
    panels = sweeps_part.subplots(4, 3, sharex=True)
    for row, recorded in ((0, before), (2, after)):
        for column, name in enumerate(shown):
            held = ((recorded[name].at_40, ORANGE), (recorded[name].at_70, BLUE))
            for axes, (traces, colour) in zip(panels[row : row + 2, column], held, strict=True):
                axes.plot(t, traces[:, :15].numpy(), color=colour, lw=0.25, alpha=0.3)
                axes.plot(t, traces.mean(1).numpy(), color=colour, lw=1.2)
                axes.set_xlim(-rig.baseline_ms, rig.sweep_ms)
                axes.axis("off")
            panels[row, column].set_ylim(-4, 24)
            panels[row + 1, column].set_ylim(-40, 5)
    for column, name in enumerate(shown):
        panels[0, column].set_title(TITLES[name])
    for row, when in ((0, "before"), (2, "after")):
        for axes, potential in ((panels[row, 0], "+40 mV"), (panels[row + 1, 0], "-70 mV")):
            axes.text(
                -0.01,
                0.5,
                f"{when}\n{potential}",
                transform=axes.transAxes,
                va="center",
                ha="right",
            )
    _scale_bars(panels[2, 1], 45.0, 12.0, 20.0, 10.0)
    _scale_bars(panels[3, 1], 45.0, -34.0, 20.0, 20.0)
    colours = dict(
        pairing=BLUE, pre_only=GREY, post_only=GREY, apv=GREEN, no_release=GREY, mature=BLACK
    )
    styles = dict(pre_only="--", post_only=":", no_release="-.")
    curve, bars = summary.subplots(1, 2)
    number = np.arange(1, N_PAIRINGS + 1)
    for i, condition in enumerate(CONDITIONS):
        name = condition.name
        curve.plot(
            number, occupancy[:, i].numpy(), color=colours[name], ls=styles.get(name, "-"),
            label=TITLES[name],
        )  # fmt: skip
    curve.axhline(ContactConfig().theta_up, color=GREY, lw=0.6, ls=":")
    curve.text(1, ContactConfig().theta_up + 0.02, "becomes functional", fontsize=6, color=GREY)
    curve.set(xlabel="pairing", ylabel="AMPA occupancy", ylim=(-0.05, 1.1))
    for i, condition in enumerate(CONDITIONS):
        for shift, recorded, colour in ((-0.18, before, GREY), (0.18, after, BLUE)):
            values = -rig.amplitude(recorded[condition.name].at_70, *EARLY_MS)
            error = float(values.std()) / len(values) ** 0.5
            label = ("before" if shift < 0 else "after") if i == 0 else None
            bars.barh(
                i + shift, float(values.mean()), 0.34, xerr=1.96 * error, color=colour, label=label,
                error_kw={"lw": 0.7},
            )  # fmt: skip
    bars.set_yticks(range(len(CONDITIONS)), [TITLES[c.name] for c in CONDITIONS])
    bars.invert_yaxis()
    bars.set_xlabel("EPSC at -70 mV (pA, 95 % interval)")
    bars.legend(loc="center right")
    curve.legend(loc="center right", fontsize=6)
    return figure


def _scale_bars(axes: Axes, x: float, y: float, ms: float, pA: float) -> None:
    axes.plot([x, x + ms], [y, y], color=BLACK, lw=1.0)
    axes.plot([x, x], [y, y + pA], color=BLACK, lw=1.0)
    axes.text(x + ms / 2, y - 1.5, f"{ms:g} ms", ha="center", va="top", fontsize=6)
    axes.text(x - 1.5, y + pA / 2, f"{pA:g} pA", ha="right", va="center", fontsize=6)
