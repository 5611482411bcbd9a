"""Bimodal weights: additive STDP drives the weights of one neuron to both bounds.

Setup of Brian2's example "Spike-timing dependent plasticity" after Song, Miller & Abbott 2000 and
Song & Abbott 2001: 1,000 Poisson inputs at 15 Hz, one integrate-and-fire neuron. The example runs
100 s, when 64 % of its weights lie below .2 or above .8 g_max; the share settles near 77 % by
300 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.plots.style import BLUE, ORANGE, PAGE_INCHES, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.rules import PairSTDP, Signals

N_INPUTS, RATE_HZ, DT_MS = 1000, 15.0, 1.0
DURATION_S, CONTROL_S = 300.0, 50.0
# The neuron: conductances in units of the leak, potentials in mV, times in ms.
TAU_M_MS, TAU_E_MS, G_MAX = 10.0, 5.0, 0.01
E_E_MV, V_THRESHOLD_MV, V_RESET_MV, E_L_MV = 0.0, -54.0, -60.0, -74.0
# A+ = .01 and A- = 1.05 A+, in units of g_max
ADDITIVE = PairSTDP(a_plus=0.01, a_minus=0.0105, tau_plus_ms=20.0, tau_minus_ms=20.0)
LEAST_AT_BOUNDS = 0.7
# The example itself in Brian2 2.9 (cython, steps of .1 ms, seed 1) after 100 s.
BRIAN2_S, BRIAN2_SHARE, BRIAN2_TOLERANCE = 100, 0.641, 0.05


@dataclass(frozen=True)
class Simulated:
    """Final weights in units of g_max [n_inputs]; for each second, output spikes and the share of
    weights at the bounds at its end [n_seconds]."""

    w: NDArray[np.float32]
    rate_hz: NDArray[np.int64]
    at_bounds: NDArray[np.float64]


def bimodal_weights(session: Session) -> Outcome:
    """Weights after 300 s of the additive rule, and after 50 s of a control with soft bounds."""
    additive = simulate(ADDITIVE, DURATION_S, session.seed)
    control = simulate(replace(ADDITIVE, bounds_of="soft"), CONTROL_S, session.seed)
    song = "Song, Miller & Abbott 2000 (bimodal); the bound of 70 % is our definition"
    rubin = "Rubin, Lee & Sompolinsky 2001 (unimodal); the bound of 70 % is our definition"
    share, control_share = share_at_bounds(additive.w), share_at_bounds(control.w)
    low, high = (float(np.mean(part)) for part in (additive.w < 0.2, additive.w > 0.8))
    checks = (
        Check("weights below .2 or above .8 g_max", share, LEAST_AT_BOUNDS, 0.0, song,
              kind="at_least"),
        Check("the same share after 100 s", float(additive.at_bounds[BRIAN2_S - 1]), BRIAN2_SHARE,
              BRIAN2_TOLERANCE, "the same example run in Brian2 2.9 (one seed)",
              independent=True),
        Check("the smaller of the two groups", min(low, high), 0.1, 0.0,
              "two groups, not one: our definition", kind="at_least"),
        Check("the same share, control with soft bounds", control_share, LEAST_AT_BOUNDS, 0.0,
              rubin, kind="at_most"),
    )  # fmt: skip
    data = {
        "additive/w": Column(additive.w, "g_max", "weights after 300 s, additive"),
        "additive/rate": Column(additive.rate_hz, "Hz", "output spikes in each second"),
        "additive/at_bounds": Column(additive.at_bounds, "--", "share of weights at the bounds"),
        "control/w": Column(control.w, "g_max", "weights after 50 s, soft bounds"),
        "control/rate": Column(control.rate_hz, "Hz", "output spikes in each second"),
        "control/at_bounds": Column(control.at_bounds, "--", "share of weights at the bounds"),
    }
    notes = (
        f"{N_INPUTS} inputs at {RATE_HZ:g} Hz, weights start uniform in [0, g_max]; steps of "
        f"{DT_MS:g} ms (the example: .1 ms), exponential Euler.",
        "An input reaches the potential one step later; spikes of one step do not pair.",
        "The example stops at 100 s, on the way: its share is compared with Brian2's there, and "
        f"the bound is asked for after {DURATION_S:g} s, when the share has settled.",
        f"The control runs {CONTROL_S:g} s, in which its weights settle.",
    )
    figure = draw_weights(additive, control)
    return Outcome("bimodal_weights", checks, data, figure, notes)


def share_at_bounds(w: NDArray[np.float32]) -> float:
    """Share of weights below .2 or above .8 of the largest possible one."""
    return float(np.mean((w < 0.2) | (w > 0.8)))


def simulate(rule: PairSTDP, seconds: float, seed: int, n_inputs: int = N_INPUTS) -> Simulated:
    """Run neuron, inputs and rule; weights are clipped to [0, 1] g_max after every step."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(1, n_inputs, generator=generator)
    steps_a_second = round(1000.0 / DT_MS)
    keep_g = math.exp(-DT_MS / TAU_E_MS)
    spike, none = torch.ones(1, 1), torch.zeros(1, 1)
    traces = rule.start(w, none)
    v, g, rates, shares = E_L_MV, 0.0, [], []
    for _ in range(round(seconds)):
        noise = torch.rand(steps_a_second, 1, n_inputs, generator=generator)
        inputs, n_spikes = (noise < RATE_HZ * DT_MS * 1e-3).float(), 0
        for pre in inputs:
            # the conductance holds for a step: exact relaxation to its reversal potential
            target = (E_L_MV + g * E_E_MV) / (1.0 + g)
            v = target + (v - target) * math.exp(-DT_MS * (1.0 + g) / TAU_M_MS)
            fired = v > V_THRESHOLD_MV
            if fired:
                v, n_spikes = V_RESET_MV, n_spikes + 1
            g = g * keep_g + G_MAX * float(torch.dot(w[0], pre[0]))
            post = spike if fired else none
            dw, traces = rule.step(w, traces, Signals(pre, post, post), DT_MS)
            w = (w + dw).clamp_(0.0, 1.0)
        rates.append(n_spikes)
        shares.append(share_at_bounds(w[0].numpy()))
    return Simulated(w[0].numpy(), np.array(rates, dtype=np.int64), np.array(shares))


@styled
def draw_weights(additive: Simulated, control: Simulated) -> Figure:
    """Histograms of final weights with the limits of the criterion, and the share over time."""
    figure = new_figure(PAGE_INCHES, 2.3)
    panels = figure.subplots(1, 3)
    named = (("additive", additive, BLUE), ("soft bounds (control)", control, ORANGE))
    for axes, (name, run, colour) in zip(panels[:2], named, strict=True):
        axes.hist(run.w, bins=np.linspace(0, 1, 21), color=colour)
        for limit in (0.2, 0.8):
            axes.axvline(limit, color="black", lw=0.7, ls=":")
        title = f"{name}: {100 * share_at_bounds(run.w):.0f} % at the bounds"
        axes.set(title=title, xlabel="weight (g_max)", xlim=(0, 1))
    panels[0].set_ylabel("inputs")
    for name, run, colour in named:
        seconds = np.arange(len(run.at_bounds)) + 1
        panels[2].plot(seconds, 100 * run.at_bounds, color=colour, label=name)
    panels[2].plot(BRIAN2_S, 100 * BRIAN2_SHARE, "o", color="black", label="Brian2's example")
    panels[2].axhline(100 * LEAST_AT_BOUNDS, color="black", lw=0.7, ls=":")
    panels[2].set(xlabel="time (s)", ylabel="weights at the bounds (%)", ylim=(0, 100))
    panels[2].legend()
    return figure
