"""The calcium rule's window: change of strength after 60 pairings at 1 Hz against their lag.

Source: Graupner & Brunel 2012 (PNAS 109:3991), parameter set DP, with the noise term of the paper's
correction (doi 10.1073/pnas.1220044110).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import duration, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.plots.style import BLACK, BLUE, GREY, ORANGE, VERMILLION, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session, unlike_published
from snn_artsy.rules.base import Signals
from snn_artsy.rules.calcium import CalciumRule, expected_change

PUBLISHED = {-100: 1.0, -20: 0.765, 5: 1.241, 100: 1.0}
TOLERANCE = 0.01
Z_99 = 2.576

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """Pairings, contacts and rule.

    Args:
        n_pairs: Pairings.
        rate_hz: Of pairings (Hz).
        largest_lag_ms: The prediction is drawn for lags of this size and less (ms).
        lags_ms: Postsynaptic less presynaptic spike times (ms) that are simulated.
        contacts: Simulated from each well.
        longest_step_ms: Longest step (ms) while calcium is above a threshold.
        strength_ratio: Of the upper well to the lower one, b.
        lower_share: Of contacts that start in the lower well, beta.
        calcium: The rule.
    """

    n_pairs: int = 60
    rate_hz: float = 1.0
    largest_lag_ms: int = 100
    lags_ms: tuple[int, ...] = (
        -100, -60, -40, -30, -20, -10, -5, 0, 5, 10, 15, 20, 30, 40, 60, 100
    )  # fmt: skip
    contacts: int = 10_000
    longest_step_ms: float = 2.0
    strength_ratio: float = 5.0
    lower_share: float = 0.5
    calcium: CalciumRule = field(default_factory=CalciumRule)

    def __post_init__(self) -> None:
        take_types(self)
        within("n_pairs", self.n_pairs, 1, 100_000)
        within("largest_lag_ms", self.largest_lag_ms, 1, 10_000, "ms")
        different = 1 <= len(set(self.lags_ms)) == len(self.lags_ms)
        require(different, "lags_ms", self.lags_ms, "use different lags, one or more")
        within("contacts", self.contacts, 1, 10_000_000)
        duration("longest_step_ms", self.longest_step_ms)
        within("strength_ratio", self.strength_ratio, 1e-6, 1e6)
        within("lower_share", self.lower_share, 0, 1)
        # calcium of one pair is gone when the next one comes
        largest = max(self.largest_lag_ms, *(abs(lag) for lag in self.lags_ms))
        period_ms = largest + self.calcium.delay_ms + 10.0 * self.calcium.tau_ca_ms
        within("rate_hz", self.rate_hz, 1e-6, 1000.0 / period_ms, "Hz")


DEFAULTS = Parameters()


@dataclass(frozen=True)
class CalciumWindow:
    """Change against lag, predicted on one grid and simulated on another."""

    lag_ms: Values
    expected: Values
    unaveraged: Values
    simulated_lag_ms: Values
    simulated: Values
    standard_error: Values


def calcium_window(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """The authors' prediction, and a Monte Carlo of the rule's own steps."""
    window = measure(session.seed, p)
    source = "Graupner & Brunel 2012, set DP"
    other = unlike_published(p, "n_pairs", "rate_hz", "strength_ratio", "lower_share", "calcium")
    checks = []
    for lag, published in PUBLISHED.items():
        name, at = f"change of strength at {lag:+d} ms", window.simulated_lag_ms == lag
        predicted = predicted_change(p, lag)
        checks.append(
            Check(f"{name}, predicted", predicted, published, TOLERANCE, source, not_compared=other)
        )
        if at.any():
            checks.append(
                Check(
                    f"{name}, simulated",
                    float(window.simulated[at][0]),
                    unaveraged_change(p, lag),
                    Z_99 * float(window.standard_error[at][0]),
                    "the same process without averaging over a period (our definition)",
                )
            )
    meaning = "strength after / before"
    data = {
        "lag_ms": Column(window.lag_ms, "ms", "postsynaptic minus presynaptic spike time"),
        "expected": Column(window.expected, "--", f"{meaning}, Ornstein-Uhlenbeck prediction"),
        "unaveraged": Column(
            window.unaveraged, "--", f"{meaning}, without averaging over a period"
        ),
        "simulated/lag_ms": Column(window.simulated_lag_ms, "ms", "lags of the simulation"),
        "simulated/change": Column(window.simulated, "--", f"{meaning}, Monte Carlo"),
        "simulated/standard_error": Column(window.standard_error, "--", "of the Monte Carlo"),
    }
    notes = (
        f"{p.n_pairs} pairs at {p.rate_hz:g} Hz; {p.contacts} contacts from each well; strength "
        f"{p.strength_ratio:g} in the upper well, 1 in the lower one; a contact is up if its "
        "occupancy ends above rho_star.",
        "The authors' prediction averages both drives over a period. Each period ends in "
        "depression, so that the process itself comes out about 0.01 lower; simulated values must "
        "be within their 99 % interval of the process without averaging. The curves leave out the "
        "cubic term, the simulation does not.",
        "Simulated with steps from event to event; the delay is part of the spike times.",
    )
    return Outcome("calcium_window", tuple(checks), data, draw_calcium_window(window), notes)


def measure(seed: int, p: Parameters = DEFAULTS) -> CalciumWindow:
    """Predicted and simulated windows of a rule."""
    lag_ms = np.arange(-p.largest_lag_ms, p.largest_lag_ms + 1, dtype=np.float64)
    expected = [predicted_change(p, lag) for lag in lag_ms]
    unaveraged = [unaveraged_change(p, lag) for lag in lag_ms]
    source = torch.Generator().manual_seed(seed)
    runs = [simulate(p, lag, source) for lag in p.lags_ms]
    change, error = np.array(runs, dtype=np.float64).T
    return CalciumWindow(
        lag_ms,
        np.array(expected),
        np.array(unaveraged),
        np.array(p.lags_ms, dtype=np.float64),
        change,
        error,
    )


def predicted_change(p: Parameters, lag_ms: float) -> float:
    """The authors' prediction of the strength after pairings over the strength before."""
    return expected_change(lag_ms, p.n_pairs, p.rate_hz, p.calcium, p.strength_ratio, p.lower_share)


def simulate(p: Parameters, lag_ms: float, source: torch.Generator) -> tuple[float, float]:
    """Strength after pairings over strength before, and its standard error, by Monte Carlo.

    Every contact has noise of its own. Shares above the thresholds are exact in steps of any
    length, so steps go from event to event, no longer than ``longest_step_ms`` while a threshold is
    exceeded, since the occupancy takes Euler steps.
    """
    steps = schedule(p, lag_ms - p.calcium.delay_ms)
    rule, b, beta = replace(p.calcium, delay_ms=0.0), p.strength_ratio, p.lower_share
    w = torch.cat([torch.zeros(p.contacts), torch.ones(p.contacts)]).view(-1, 1, 1)
    off, on = torch.zeros(len(w), 1), torch.ones(len(w), 1)
    traces = rule.start(off, off, private=True)
    for _ in range(p.n_pairs):
        for dt_ms, pre, post in steps:
            signals = Signals(on if pre else off, on if post else off, off)
            noise = torch.randn(w.shape, generator=source)
            dw, traces = rule.step(w, traces, signals, dt_ms, noise)
            w = w + dw
    upper = (w > rule.rho_star).view(2, p.contacts).double()
    share = beta * upper[0].mean() + (1.0 - beta) * upper[1].mean()
    guess = (upper.sum(1) + 1.0) / (p.contacts + 2.0)  # never 0 or 1, so that the error is not 0
    variance = guess * (1.0 - guess) / p.contacts
    error = (beta**2 * variance[0] + (1.0 - beta) ** 2 * variance[1]).sqrt()
    before = beta + (1.0 - beta) * b
    return float((1.0 + (b - 1.0) * share) / before), float(abs(b - 1.0) * error / before)


def unaveraged_change(p: Parameters, lag_ms: float) -> float:
    """`expected_change` without averaging over a period (our definition): mean and variance of the
    Ornstein-Uhlenbeck process, exactly, from threshold crossing to threshold crossing."""
    rule, b, beta = p.calcium, p.strength_ratio, p.lower_share
    calcium, pieces = 0.0, []  # time (ms), potentiation on, depression on
    for dt_ms, pre, post in schedule(p, lag_ms - rule.delay_ms):
        calcium += rule.c_pre * pre + rule.c_post * post
        above_p, above_d = (
            min(rule.tau_ca_ms * math.log(max(calcium / theta, 1.0)), dt_ms)
            for theta in (rule.theta_p, rule.theta_d)
        )
        both = min(above_p, above_d)
        pieces += [(both, 1, 1), (above_p - both, 1, 0), (above_d - both, 0, 1)]
        calcium *= math.exp(-dt_ms / rule.tau_ca_ms)
    upper = 0.0
    for start, weight in ((0.0, beta), (1.0, 1.0 - beta)):
        mean, variance = start, 0.0
        for ms, up, down in pieces * p.n_pairs:
            if ms > 0.0:
                rate = rule.gamma_p * up + rule.gamma_d * down
                keep = math.exp(-rate * ms / rule.tau_ms)
                mean = keep * mean + (1.0 - keep) * rule.gamma_p * up / rate
                spread = rule.sigma**2 * (up + down) / (2.0 * rate)
                variance = keep**2 * variance + (1.0 - keep**2) * spread
        off = mean - rule.rho_star
        z = off / math.sqrt(2.0 * variance) if variance > 0.0 else math.copysign(math.inf, off)
        upper += weight * 0.5 * (1.0 + math.erf(z))
    return (1.0 + (b - 1.0) * upper) / (beta + (1.0 - beta) * b)


def schedule(p: Parameters, lag_ms: float) -> list[tuple[float, bool, bool]]:
    """Steps of one period that starts at the first transient: length (ms), and whether a pre- and
    a postsynaptic transient come at its start."""
    rule, period = p.calcium, 1000.0 / p.rate_hz
    lowest = min(rule.theta_d, rule.theta_p)
    if lag_ms == 0.0:
        events = [(period, True, True)]
    else:
        first, gap = lag_ms > 0.0, abs(lag_ms)
        events = [(gap, first, not first), (period - gap, not first, first)]
    steps, calcium = [], 0.0
    for until_next, pre, post in events:
        calcium += rule.c_pre * pre + rule.c_post * post
        above = rule.tau_ca_ms * math.log(max(calcium / lowest, 1.0))
        # what earlier periods left is below e^(-10) of a transient, by default below e^(-40)
        above = min(above, until_next)
        n = max(math.ceil(above / p.longest_step_ms), 1)
        lengths = [above / n] * n if above > 0.0 else []
        if until_next > above:
            lengths.append(until_next - above)
        steps += [(dt, pre and k == 0, post and k == 0) for k, dt in enumerate(lengths)]
        calcium *= math.exp(-until_next / rule.tau_ca_ms)
    return steps


@styled
def draw_calcium_window(window: CalciumWindow) -> Figure:
    """Prediction, simulation with 99 % intervals, and the published points."""
    figure = new_figure()
    axes = figure.subplots()
    axes.axhline(1.0, color=GREY, lw=0.5)
    axes.axvline(0.0, color=GREY, lw=0.5)
    axes.plot(window.lag_ms, window.expected, color=BLACK, label="predicted")
    axes.plot(window.lag_ms, window.unaveraged, color=ORANGE, lw=0.8, label="without averaging")
    axes.errorbar(
        window.simulated_lag_ms,
        window.simulated,
        Z_99 * window.standard_error,
        fmt="o",
        ms=3,
        lw=0.8,
        color=BLUE,
        label="simulated, 99 %",
    )
    axes.plot(
        list(PUBLISHED),
        list(PUBLISHED.values()),
        "x",
        ms=6,
        color=VERMILLION,
        label="published",
        zorder=3,
    )
    axes.set(xlabel="post - pre (ms)", ylabel="strength after / before")
    axes.legend(loc="lower right")
    return figure
