"""Minimal stimulation: the share of silent synapses from failure rates at two potentials.

Sources: Liao, Hessler & Malinow 1995 (failures at -70 and +40 mV; with release probability p and n
contacts F = (1 - p)^n, so that ln F(-70) / ln F(+40) is the share of contacts with AMPA receptors);
Vardalaki, Chung & Harnett 2022 (about a quarter of layer-5 synapses is silent).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import between, positive, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.physiology import Receptors
from snn_artsy.plots.style import BLACK, BLUE, GREY, ORANGE, in_rows, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.recording_cell import Rig

HELD_MV = (-70, 40)
Z_999 = 3.29  # two-sided 99.9 % of a normal distribution
SOURCE = "Liao, Hessler & Malinow 1995"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """Contacts, trials and how failures are told from responses.

    Args:
        n_contacts: Contacts that are stimulated.
        p_release: Release probability of each.
        n_trials: At each potential.
        shares: Shares of silent contacts, each in a cell of its own.
        leak: AMPA occupancy of "silent" contacts in the model that must miss.
        detection_sd: A response exceeds so many standard deviations of the baseline noise.
        ampa_ms: Currents at -70 mV are read from here to there after the stimulus (ms).
        nmda_ms: Currents at +40 mV likewise (ms).
        receptors: Of a contact.
        rig: How sweeps are taken.
    """

    n_contacts: int = 4
    p_release: float = 0.3
    n_trials: int = 1000
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    leak: float = 0.3
    detection_sd: float = 5.0
    ampa_ms: tuple[float, float] = (2.0, 6.0)
    nmda_ms: tuple[float, float] = (20.0, 60.0)
    receptors: Receptors = field(default_factory=Receptors)
    rig: Rig = field(default_factory=Rig)

    def __post_init__(self) -> None:
        take_types(self)
        within("n_contacts", self.n_contacts, 2, 10_000)
        within("n_trials", self.n_trials, 10, 1_000_000)
        within("p_release", self.p_release, 1e-6, 0.999)
        failures = self.n_trials * (1.0 - self.p_release) ** self.n_contacts
        remedy = "too few failures to tell: use fewer n_contacts, a lower p_release, more n_trials"
        require(5.0 <= failures <= self.n_trials - 5.0, "p_release", self.p_release, remedy)
        require(len(set(self.shares)) == len(self.shares) > 0, "shares", self.shares,
                "use different shares, one or more")  # fmt: skip
        for share in self.shares:
            n_silent = share * self.n_contacts
            remedy = f"use shares below 1 that are whole numbers of {self.n_contacts} contacts"
            whole = abs(n_silent - round(n_silent)) < 1e-6
            require(0 <= share < 1 and whole, "shares", share, remedy)
        between("leak", self.leak, 0, 1)
        positive("detection_sd", self.detection_sd)
        self.rig.check_window("ampa_ms", self.ampa_ms)
        self.rig.check_window("nmda_ms", self.nmda_ms)

    def window_ms(self, v_mV: int) -> tuple[float, float]:
        return self.ampa_ms if v_mV < 0 else self.nmda_ms


DEFAULTS = Parameters()


@dataclass(frozen=True)
class Estimate:
    """Trials at both potentials, and the share of silent contacts that they suggest."""

    amplitude_pA: dict[int, Values]
    failure: dict[int, Values]  # 0 or 1

    def rate(self, v_mV: int) -> float:
        """Share of failures; half a trial where none, or all, failed."""
        half = 0.5 / len(self.failure[v_mV])
        return min(max(float(self.failure[v_mV].mean()), half), 1.0 - half)

    @property
    def share(self) -> float:
        return 1.0 - math.log(self.rate(-70)) / math.log(self.rate(40))

    @property
    def standard_error(self) -> float:
        """By the delta method; Var(ln F) = (1 - F) / (F n) for binomial failures."""
        f70, f40 = self.rate(-70), self.rate(40)
        n = len(self.failure[-70])
        relative = (1 - f70) / (f70 * n * math.log(f70) ** 2)
        relative += (1 - f40) / (f40 * n * math.log(f40) ** 2)
        return (1.0 - self.share) * math.sqrt(relative)


def minimal_stimulation(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Shares of silent contacts recovered from failures; a model with leaking AMPA misses."""
    generator = torch.Generator().manual_seed(session.seed)
    estimates = {share: estimate(share, generator, p) for share in p.shares}
    half = round(0.5 * p.n_contacts) / p.n_contacts
    leaking = estimate(half, generator, p, leak=p.leak)
    checks = [
        Check(
            f"silent share, configured {share:.2f}", e.share, share, Z_999 * e.standard_error,
            SOURCE,
        )
        for share, e in estimates.items()
    ]  # fmt: skip
    missed = abs(leaking.share - half) / leaking.standard_error
    checks.append(
        Check(
            f"silent contacts with {p.leak:g} of AMPA miss {half:.2f} by", missed, Z_999, 0.0,
            SOURCE, "SE", kind="at_least",
        )
    )  # fmt: skip
    data = {
        "share/configured": Column(np.array(p.shares), "--", "share of contacts without AMPA"),
        "share/estimated": Column(
            np.array([e.share for e in estimates.values()]), "--", "1 - ln F(-70) / ln F(+40)"
        ),
        "share/standard_error": Column(
            np.array([e.standard_error for e in estimates.values()]), "--", "by the delta method"
        ),
    }
    for share, e in estimates.items():
        for v in HELD_MV:
            meaning = f"amplitude of each trial at {v:+d} mV, {share:.0%} silent"
            data[f"share_{share:.2f}/amplitude_{v:+d}mV"] = Column(e.amplitude_pA[v], "pA", meaning)
            meaning = f"1: the trial at {v:+d} mV failed, {share:.0%} silent"
            data[f"share_{share:.2f}/failure_{v:+d}mV"] = Column(e.failure[v], "--", meaning)
    notes = (
        f"{p.n_contacts} contacts, release probability {p.p_release:g}, {p.n_trials} trials at "
        f"each potential; a response exceeds {p.detection_sd:g} SD of the baseline noise. "
        f"Tolerance: {Z_999} standard errors (delta method).",
    )
    figure = draw(estimates, leaking, half)
    return Outcome("minimal_stimulation", tuple(checks), data, figure, notes)


def estimate(
    share: float, generator: torch.Generator, p: Parameters = DEFAULTS, leak: float = 0.0
) -> Estimate:
    """Stimulate contacts, a share of them silent, at both potentials.

    Args:
        leak: AMPA occupancy of silent contacts; above 0 it is a wrong model.
    """
    n_silent = round(share * p.n_contacts)
    ampa = torch.ones(p.n_contacts, dtype=torch.float64)
    ampa[:n_silent] = leak
    rig, amplitude, failure = p.rig, {}, {}
    for v_mV in HELD_MV:
        start, stop = p.window_ms(v_mV)
        single = rig.sweeps(ampa, v_mV, p.p_release, p.n_trials, p.receptors, generator)
        traces = rig.record(single.sum(2), generator)
        # what the same window gives where nothing was stimulated
        quiet = rig.record(torch.zeros_like(traces), generator)
        threshold = p.detection_sd * float(rig.amplitude(quiet, start, stop).std())
        values = rig.amplitude(traces, start, stop)
        amplitude[v_mV] = values.numpy()
        failure[v_mV] = (values.abs() < threshold).double().numpy()
    return Estimate(amplitude, failure)


@styled
def draw(estimates: dict[float, Estimate], leaking: Estimate, half: float) -> Figure:
    """Trials at both potentials with some silent; estimated against configured share."""
    figure, (trials, histogram, shares) = in_rows(3, 2.5, width_ratios=(1.4, 1.0, 1.0))
    some = min(estimates, key=lambda share: abs(share - 0.25))
    shown = estimates[some]
    for v, colour in ((-70, BLUE), (40, ORANGE)):
        values, failed = shown.amplitude_pA[v][:200], shown.failure[v][:200] > 0
        number = np.arange(1, len(values) + 1)
        trials.plot(number[~failed], values[~failed], "o", ms=2, color=colour)
        trials.plot(number[failed], values[failed], "o", ms=2, mfc="none", mec=colour, mew=0.5)
        histogram.hist(
            shown.amplitude_pA[v], bins=60, range=(-26, 12), histtype="step", color=colour,
            label=f"{v:+d} mV",
        )  # fmt: skip
    trials.axhline(0.0, color=GREY, lw=0.5)
    trials.set(
        xlabel="trial", ylabel="amplitude (pA)", title=f"{100 * some:.0f} % silent (open: failures)"
    )
    histogram.set(xlabel="amplitude (pA)", ylabel="trials")
    histogram.set_title(f"{len(shown.failure[-70]):,} trials")
    histogram.legend(loc="upper left")
    shares.plot([0, 0.8], [0, 0.8], color=GREY, lw=0.5)
    shares.errorbar(
        list(estimates),
        [e.share for e in estimates.values()],
        [Z_999 * e.standard_error for e in estimates.values()],
        fmt="o", color=BLACK, capsize=2, lw=0.8, label="model, 99.9 % interval",
    )  # fmt: skip
    shares.errorbar(
        [half], [leaking.share], [Z_999 * leaking.standard_error],
        fmt="x", color=ORANGE, capsize=2, lw=0.8, label="with leaking AMPA",
    )  # fmt: skip
    shares.set(
        ylim=(-0.65, 0.9), xlabel="configured silent share", ylabel="1 - ln F(-70) / ln F(+40)"
    )
    shares.legend(loc="lower right")
    return figure
