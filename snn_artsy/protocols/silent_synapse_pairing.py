"""Unsilencing by pairing: EPSCs at -70 and +40 mV before and after, and its controls.

Sources: Isaac, Nicoll & Malenka 1995; Liao, Hessler & Malinow 1995 (no EPSC at -70 mV but one at
+40 mV; pairing makes one appear at -70 mV, not in APV); Kerchner & Nicoll 2008 (review). Numbers of
pairings, release probability and noise are our definition; the rule is that of default runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.checks import between, duration, one_of, require, within
from snn_artsy.config import ContactConfig, PlasticityConfig
from snn_artsy.config_builder import take_types
from snn_artsy.observer import CONSOLIDATED, SILENT
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PAGE_INCHES,
    inches,
    legend_below,
    new_figure,
    styled,
)
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.recording_cell import Rig
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Signals
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.conductance import integrate, released
from snn_artsy.synapses.engine_torch import express

SPIKE_AT_MS = 20.0  # of the presynaptic spike in its window
TO_THRESHOLD_MS = 1.6  # that long the electrode's pulse takes to make the default membrane fire
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
    releases: bool = True


CONDITIONS = (
    Condition("pairing"),
    Condition("pre_only", post=False),
    Condition("post_only", pre=False),
    Condition("apv", apv=True),
    Condition("no_release", releases=False),
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


def _default_rule() -> GatedSTDP:
    rule = PlasticityConfig().build()
    assert isinstance(rule, GatedSTDP)
    return rule


def _default_pair() -> PairSTDP:
    base = _default_rule().base
    assert isinstance(base, PairSTDP)
    return base


@dataclass(frozen=True)
class Parameters:
    """Pairing and test sweeps; rule and contacts are those of default runs.

    Args:
        n_pairings: Pairings of a presynaptic spike with one that the electrode evokes.
        period_ms: From one pairing to the next (ms).
        window_ms: Simulated of each (ms); between them all is at rest.
        pre_leads_ms: The presynaptic spike comes so long before the evoked one (ms).
        pulse_pA: Current of the electrode (pA).
        pulse_ms: Its length (ms), for one spike.
        dt_ms: Step of the pairing (ms).
        n_sweeps: Test sweeps at each potential, before and after.
        p_release: Release probability.
        ampa_ms: EPSCs at -70 mV are read from here to there after the stimulus (ms).
        nmda_ms: EPSCs at +40 mV likewise (ms).
        pair: The rule under the gate.
        gating: Of the rule.
        transmission: Of contacts that convert, ``binary`` or ``graded``.
        theta_up: Occupancy at which a silent contact becomes functional.
        theta_down: Occupancy at which a functional one becomes silent.
        receptors: Of a contact.
        membrane: Of the cell.
        rig: How sweeps are taken.
    """

    n_pairings: int = 120
    period_ms: float = 1000.0
    window_ms: float = 100.0
    pre_leads_ms: float = 5.0
    pulse_pA: float = 2500.0
    pulse_ms: float = 2.0
    dt_ms: float = 0.2
    n_sweeps: int = 1000
    p_release: float = 0.5
    ampa_ms: tuple[float, float] = (2.0, 6.0)
    nmda_ms: tuple[float, float] = (49.0, 51.0)
    pair: PairSTDP = field(default_factory=_default_pair)
    gating: Gating = field(default_factory=lambda: _default_rule().gating)
    transmission: Literal["binary", "graded"] = "binary"
    theta_up: float = ContactConfig.theta_up
    theta_down: float = ContactConfig.theta_down
    receptors: Receptors = field(default_factory=Receptors)
    membrane: Membrane = field(default_factory=Membrane)
    rig: Rig = field(default_factory=Rig)

    def __post_init__(self) -> None:
        take_types(self)
        within("n_pairings", self.n_pairings, 1, 100_000)
        within("n_sweeps", self.n_sweeps, 2, 1_000_000)
        between("p_release", self.p_release, 1e-6, 1)
        duration("dt_ms", self.dt_ms)
        within("window_ms", self.window_ms, 2.0 * SPIKE_AT_MS, 1e5 * self.dt_ms, "ms")
        within("period_ms", self.period_ms, self.window_ms + self.dt_ms, 1e9, "ms")
        earliest, latest = TO_THRESHOLD_MS - SPIKE_AT_MS, self.window_ms - SPIKE_AT_MS - 10.0
        within("pre_leads_ms", self.pre_leads_ms, earliest, latest, "ms")
        within("pulse_ms", self.pulse_ms, self.dt_ms, 10.0, "ms")
        between("pulse_pA", self.pulse_pA, 0, 1e6)
        self.rig.check_window("ampa_ms", self.ampa_ms)
        self.rig.check_window("nmda_ms", self.nmda_ms)
        one_of("gating.insertion", self.gating.insertion, ("graded",))
        one_of("gating.depolarisation", self.gating.depolarisation, ("spike",))
        require(
            self.gating.mg_mM == self.receptors.mg_mM, "receptors.mg_mM", self.receptors.mg_mM,
            f"gating.mg_mM is {self.gating.mg_mM:g}: give both the same value",
        )  # fmt: skip
        within("theta_up", self.theta_up, 1e-6, 1)
        within("theta_down", self.theta_down, 0, self.theta_up)
        require(self.theta_down < self.theta_up, "theta_down", self.theta_down,
                f"use less than theta_up ({self.theta_up:g})")  # fmt: skip

    @property
    def contacts(self) -> ContactConfig:
        return ContactConfig(
            transmission=self.transmission, theta_up=self.theta_up, theta_down=self.theta_down
        )

    def release(self, condition: Condition) -> float:
        return self.p_release if condition.releases else 0.0


DEFAULTS = Parameters()


class Paired(NamedTuple):
    """Contacts after each pairing, [n_pairings, n_conditions]: AMPA occupancy, state code, and what
    they transmit."""

    occupancy: Tensor
    state: Tensor
    transmitted: Tensor


@dataclass(frozen=True)
class Sweeps:
    """Recorded currents (pA) of one condition at one time, [T, n_sweeps]."""

    at_70: Tensor
    at_40: Tensor


def silent_synapse_pairing(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Sweeps before and after pairing, for a silent contact, its controls and a mature contact."""
    generator = torch.Generator().manual_seed(session.seed)
    paired = pair(CONDITIONS, generator, p)
    before = {c.name: sweeps(p, c, c.ampa, generator) for c in CONDITIONS}
    after = {
        c.name: sweeps(p, c, float(paired.transmitted[-1, i]), generator)
        for i, c in enumerate(CONDITIONS)
    }
    in_apv = sweeps(p, CONDITIONS[0], 0.0, generator, replace(p.receptors, g_nmda_nS=0.0))
    data = {
        "occupancy": Column(paired.occupancy.numpy(), "--", "AMPA occupancy [pairing, condition]"),
        "state": Column(
            paired.state.numpy(),
            "--",
            "0 silent, 1 functional, 2 consolidated [pairing, condition]",
        ),
        "conditions": Column(np.array([c.name for c in CONDITIONS], "S"), "--", "condition names"),
        "time_ms": Column(_time_ms(p.rig), "ms", "from the stimulus"),
    }
    for when, recorded in (("before", before), ("after", after)):
        for name, s in recorded.items():
            for v, traces in ((-70, s.at_70), (40, s.at_40)):
                data[f"{when}/{name}_{v:+d}mV"] = Column(
                    traces.mean(1).numpy(), "pA", f"mean of {p.n_sweeps} sweeps at {v:+d} mV"
                )
    n_silent = int((paired.state[:, 0] == SILENT).sum())
    converts = f"converts at pairing {1 + n_silent}" if n_silent < p.n_pairings else "stays silent"
    notes = (
        f"{p.n_pairings} pairings at {1000.0 / p.period_ms:g} Hz with rule, states and "
        f"transmission of a default run unless parameters say otherwise; the silent contact "
        f"{converts}. Presynaptic spike {p.pre_leads_ms:g} ms before one that the electrode "
        f"evokes; {p.n_sweeps} sweeps at each potential, release probability {p.p_release:g}, "
        f"noise {p.rig.noise_pA:g} pA. APV is washed out before the test sweeps.",
        f"Amplitudes: mean of {p.ampa_ms[0]:g}-{p.ampa_ms[1]:g} ms at -70 mV, "
        f"{p.nmda_ms[0]:g}-{p.nmda_ms[1]:g} ms at +40 mV.",
    )
    checks = judge(p, before, after, in_apv)
    return Outcome(
        "silent_synapse_pairing", checks, data, draw(p, before, after, paired.occupancy), notes
    )


def pair(
    conditions: tuple[Condition, ...], generator: torch.Generator, p: Parameters = DEFAULTS
) -> Paired:
    """Contacts after each pairing.

    Each condition is a contact and a cell of its own. Pairings come so far apart that fast traces
    are at rest when one starts; the presynaptic target's average goes on between them.
    """
    n, dt_ms, membrane = len(conditions), p.dt_ms, p.membrane
    gating = replace(p.gating, v_rest_mV=membrane.v_rest_mV, v_th_mV=membrane.v_th_mV)
    rule = GatedSTDP(p.pair, gating)
    layer = SilentSynapseLayer(n, n, dt_ms, rule=rule, contacts=p.contacts).double()
    layer.exists.copy_(torch.eye(n))
    layer.ampa.copy_(torch.diag(torch.tensor([c.ampa for c in conditions])))
    layer.state.copy_(torch.where(layer.ampa > 0.0, CONSOLIDATED, SILENT))

    steps, spike = round(p.window_ms / dt_ms), round(SPIKE_AT_MS / dt_ms)
    pre = torch.zeros(steps, p.n_pairings, n, dtype=torch.float64)
    pulse = torch.zeros_like(pre)
    pre[spike] = torch.tensor([float(c.pre) for c in conditions])
    start = spike + round((p.pre_leads_ms - TO_THRESHOLD_MS) / dt_ms)
    electrode = torch.tensor([p.pulse_pA * c.post for c in conditions], dtype=torch.float64)
    pulse[start : start + round(p.pulse_ms / dt_ms)] = electrode
    transmitter = released(pre, torch.tensor([p.release(c) for c in conditions]), generator)
    open_nmda = torch.tensor([0.0 if c.apv else 1.0 for c in conditions], dtype=torch.float64)
    nothing = pre[:1, :1] * 0.0
    silence = Signals(nothing, nothing, nothing + p.membrane.v_rest_mV)
    traces = rule.start(nothing[0], nothing[0])
    after: list[list[Tensor]] = []
    while len(after) < p.n_pairings:
        open_ampa = layer.transmitted().diagonal().clone()
        glutamate = transmitter[:, len(after) :]
        # all pairings to come at once; they are integrated anew when a contact has converted
        cells = integrate(
            glutamate * open_ampa, glutamate * open_nmda, None, pulse[:, len(after) :], p.membrane,
            p.receptors, dt_ms,
        )  # fmt: skip
        v_mV = torch.where(cells.spikes > 0, membrane.v_peak_mV, cells.v_mV)
        for k in range(glutamate.shape[1]):
            shown = Signals(*(x[:, k : k + 1] for x in (glutamate, cells.spikes, v_mV)))
            signals = rule.gated(shown)
            assert signals.gate is not None
            signals = signals._replace(gate=signals.gate * open_nmda)
            change, traces = rule.summed(layer.ampa, traces, signals, dt_ms)
            _, traces = rule.presentation(layer.ampa, traces, silence, p.period_ms - p.window_ms)
            express(layer.circuit(), change, 1, p.period_ms)
            contacts = (layer.ampa, layer.state, layer.transmitted())
            after.append([values.diagonal().clone() for values in contacts])
            if not torch.equal(after[-1][2], open_ampa):
                break
    return Paired(*(torch.stack(values) for values in zip(*after, strict=True)))


def sweeps(
    p: Parameters,
    condition: Condition,
    ampa: float,
    generator: torch.Generator,
    receptors: Receptors | None = None,
) -> Sweeps:
    """Test sweeps of a contact that passes so much of a full AMPA current, at both potentials."""
    receptors = p.receptors if receptors is None else receptors
    contact, chance = torch.tensor([ampa], dtype=torch.float64), p.release(condition)
    recorded = []
    for v_mV in (-70.0, 40.0):
        current = p.rig.sweeps(contact, v_mV, chance, p.n_sweeps, receptors, generator)
        recorded.append(p.rig.record(current[:, :, 0], generator))
    return Sweeps(*recorded)


def judge(
    p: Parameters, before: dict[str, Sweeps], after: dict[str, Sweeps], in_apv: Sweeps
) -> tuple[Check, ...]:
    """The claims of the pairing experiments as checks."""

    def early(s: Sweeps) -> float:
        return float(p.rig.amplitude(s.at_70, *p.ampa_ms).mean())

    def late_z(s: Sweeps) -> float:
        values = p.rig.amplitude(s.at_40, *p.nmda_ms)
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
    p: Parameters, before: dict[str, Sweeps], after: dict[str, Sweeps], occupancy: Tensor
) -> Figure:
    """Averages (heavy) over 15 single sweeps (faint), before and after; occupancy by pairing."""
    rig, theta_up = p.rig, p.theta_up
    figure = new_figure(PAGE_INCHES, 5.2)
    narrow = inches(figure) < 4.4  # the two panels of the summary stand below each other
    figure.set_figheight(7.8 if narrow else 5.2)
    heights = (3.4, 3.9) if narrow else (3.4, 1.3)
    sweeps_part, summary = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
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
    curve, bars = summary.subplots(2, 1) if narrow else summary.subplots(1, 2)
    number = np.arange(1, p.n_pairings + 1)
    for i, condition in enumerate(CONDITIONS):
        name = condition.name
        curve.plot(
            number, occupancy[:, i].numpy(), color=colours[name], ls=styles.get(name, "-"),
            label=TITLES[name],
        )  # fmt: skip
    curve.axhline(theta_up, color=GREY, lw=0.6, ls=":")
    curve.text(1, theta_up + 0.02, "becomes functional", fontsize=6, color=GREY)
    curve.set(xlabel="pairing", ylabel="AMPA occupancy", ylim=(-0.05, 1.1))
    for i, condition in enumerate(CONDITIONS):
        for shift, recorded, colour in ((-0.18, before, GREY), (0.18, after, BLUE)):
            values = -rig.amplitude(recorded[condition.name].at_70, *p.ampa_ms)
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
    legend_below(summary, curve.get_legend_handles_labels(), 6)
    return figure


def _scale_bars(axes: Axes, x: float, y: float, ms: float, pA: float) -> None:
    axes.plot([x, x + ms], [y, y], color=BLACK, lw=1.0)
    axes.plot([x, x], [y, y + pA], color=BLACK, lw=1.0)
    axes.text(x + ms / 2, y - 1.5, f"{ms:g} ms", ha="center", va="top", fontsize=6)
    axes.text(x - 1.5, y + pA / 2, f"{pA:g} pA", ha="right", va="center", fontsize=6)
