"""Minimal stimulation: the share of silent synapses from failure rates at two potentials.

Sources: Liao, Hessler & Malinow 1995 (failures at -70 and +40 mV; with release probability p and n
contacts F = (1 - p)^n, so that ln F(-70) / ln F(+40) is the share of contacts with AMPA receptors);
Vardalaki, Chung & Harnett 2022 (about a quarter of layer-5 synapses is silent).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.physiology import Receptors
from snn_artsy.plots.style import BLACK, BLUE, GREY, ORANGE, PAGE_INCHES, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.recording_cell import Rig

N_CONTACTS, P_RELEASE, N_TRIALS = 4, 0.3, 1000
SHARES = (0.0, 0.25, 0.5, 0.75)
# AMPA currents are read early at -70 mV, NMDA currents late at +40 mV.
WINDOWS_MS = {-70: (2.0, 6.0), 40: (20.0, 60.0)}
DETECTION_SD = 5.0
Z_999 = 3.29  # two-sided 99.9 % of a normal distribution
LEAK = 0.3  # AMPA occupancy of "silent" contacts in the model that must miss
SOURCE = "Liao, Hessler & Malinow 1995"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Trials at both potentials, and the share of silent contacts that they suggest."""

    amplitude_pA: dict[int, Values]
    failure: dict[int, Values]  # 0 or 1

    def rate(self, v_mV: int) -> float:
        return float(self.failure[v_mV].mean())

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


def minimal_stimulation(session: Session) -> Outcome:
    """Shares of silent contacts recovered from failures; a model with leaking AMPA misses."""
    generator = torch.Generator().manual_seed(session.seed)
    estimates = {share: estimate(share, generator) for share in SHARES}
    leaking = estimate(0.5, generator, leak=LEAK)
    checks = [
        Check(
            f"silent share, configured {share:.2f}", e.share, share, Z_999 * e.standard_error,
            SOURCE,
        )
        for share, e in estimates.items()
    ]  # fmt: skip
    missed = abs(leaking.share - 0.5) / leaking.standard_error
    checks.append(
        Check(
            f"silent contacts with {LEAK:g} of AMPA miss 0.50 by", missed, Z_999, 0.0, SOURCE, "SE",
            kind="at_least",
        )
    )  # fmt: skip
    data = {
        "share/configured": Column(np.array(SHARES), "--", "share of contacts without AMPA"),
        "share/estimated": Column(
            np.array([e.share for e in estimates.values()]), "--", "1 - ln F(-70) / ln F(+40)"
        ),
        "share/standard_error": Column(
            np.array([e.standard_error for e in estimates.values()]), "--", "by the delta method"
        ),
    }
    for share, e in estimates.items():
        for v in WINDOWS_MS:
            meaning = f"amplitude of each trial at {v:+d} mV, {share:.0%} silent"
            data[f"share_{share:.2f}/amplitude_{v:+d}mV"] = Column(e.amplitude_pA[v], "pA", meaning)
            meaning = f"1: the trial at {v:+d} mV failed, {share:.0%} silent"
            data[f"share_{share:.2f}/failure_{v:+d}mV"] = Column(e.failure[v], "--", meaning)
    notes = (
        f"{N_CONTACTS} contacts, release probability {P_RELEASE:g}, {N_TRIALS} trials at each "
        f"potential; a response exceeds {DETECTION_SD:g} SD of the baseline noise. Tolerance: "
        f"{Z_999} standard errors (delta method).",
    )
    figure = draw(estimates, leaking)
    return Outcome("minimal_stimulation", tuple(checks), data, figure, notes)


def estimate(share: float, generator: torch.Generator, leak: float = 0.0) -> Estimate:
    """Stimulate ``N_CONTACTS``, a share of them silent, at both potentials.

    Args:
        leak: AMPA occupancy of silent contacts; above 0 it is a wrong model.
    """
    n_silent = round(share * N_CONTACTS)
    ampa = torch.ones(N_CONTACTS, dtype=torch.float64)
    ampa[:n_silent] = leak
    rig, amplitude, failure = Rig(), {}, {}
    for v_mV, (start, stop) in WINDOWS_MS.items():
        single = rig.sweeps(ampa, v_mV, P_RELEASE, N_TRIALS, Receptors(), generator)
        traces = rig.record(single.sum(2), generator)
        # what the same window gives where nothing was stimulated
        quiet = rig.record(torch.zeros_like(traces), generator)
        threshold = DETECTION_SD * float(rig.amplitude(quiet, start, stop).std())
        values = rig.amplitude(traces, start, stop)
        amplitude[v_mV] = values.numpy()
        failure[v_mV] = (values.abs() < threshold).double().numpy()
    return Estimate(amplitude, failure)


@styled
def draw(estimates: dict[float, Estimate], leaking: Estimate) -> Figure:
    """Trials at both potentials for a quarter silent; estimated against configured share."""
    figure = new_figure(PAGE_INCHES, 2.5)
    trials, histogram, shares = figure.subplots(1, 3, width_ratios=(1.4, 1.0, 1.0))
    shown = estimates[0.25]
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
    trials.set(xlabel="trial", ylabel="amplitude (pA)", title="25 % silent (open: failures)")
    histogram.set(xlabel="amplitude (pA)", ylabel="trials", title="1,000 trials")
    histogram.legend(loc="upper left")
    shares.plot([0, 0.8], [0, 0.8], color=GREY, lw=0.5)
    shares.errorbar(
        list(estimates),
        [e.share for e in estimates.values()],
        [Z_999 * e.standard_error for e in estimates.values()],
        fmt="o", color=BLACK, capsize=2, lw=0.8, label="model, 99.9 % interval",
    )  # fmt: skip
    shares.errorbar(
        [0.5], [leaking.share], [Z_999 * leaking.standard_error],
        fmt="x", color=ORANGE, capsize=2, lw=0.8, label="with leaking AMPA",
    )  # fmt: skip
    shares.set(
        ylim=(-0.65, 0.9), xlabel="configured silent share", ylabel="1 - ln F(-70) / ln F(+40)"
    )
    shares.legend(loc="lower right")
    return figure
