"""The STDP window: change of a contact against the time from a presynaptic to a postsynaptic spike.

Sources: Song, Miller & Abbott 2000 (pair rule and its constants); Pfister & Gerstner 2006
(triplet, 60 pairings at 1 Hz); NMDA gating is our definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import one_of, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, in_rows, label_left, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session, patience
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Rule, Signals, TripletSTDP
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV, nmda_gate

FLOAT_PRECISION = 1e-9

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """Lags, pairings and rules.

    Args:
        largest_lag_ms: Lags of this size and less are measured (ms).
        n_pairs: Pairings under the triplet rule; the others get one.
        period_ms: From one pairing to the next (ms).
        dt_ms: Step (ms), a whole number of them a ms.
        mg_mM: Magnesium (mM) around the gated rule's receptors; with less than 0.2 mM they are
            open at rest, and the window is no longer that of a pair.
        pair: The pair rule, which the gated one has as its base.
        triplet: The triplet rule.
    """

    largest_lag_ms: int = 100
    n_pairs: int = 60
    period_ms: float = 1000.0
    dt_ms: float = 1.0
    mg_mM: float = 1.0
    pair: PairSTDP = field(default_factory=PairSTDP)
    triplet: TripletSTDP = field(default_factory=TripletSTDP)

    def __post_init__(self) -> None:
        take_types(self)
        within("largest_lag_ms", self.largest_lag_ms, 10, 10_000, "ms")
        within("n_pairs", self.n_pairs, 1, 10_000)
        within("period_ms", self.period_ms, 2.0 * (self.largest_lag_ms + 2), 1e6, "ms")
        within("dt_ms", self.dt_ms, 0.01, 1.0, "ms")
        steps = 1.0 / self.dt_ms
        whole = abs(steps - round(steps)) < 1e-6 * steps
        require(whole, "dt_ms", self.dt_ms, "use a step of which a whole number fills a ms")
        steps_a_pair = 2.0 * (self.largest_lag_ms + 1) / self.dt_ms
        patience("n_pairs", self.n_pairs, self.n_pairs * steps_a_pair, 2.0 * self.largest_lag_ms)
        within("mg_mM", self.mg_mM, 0.2, 100.0, "mM")
        one_of("pair.bounds_of", self.pair.bounds_of, ("additive",))
        one_of("triplet.pairing", self.triplet.pairing, ("all_to_all",))


DEFAULTS = Parameters()


@dataclass(frozen=True)
class RuleWindow:
    """Change against lag, of one rule."""

    lag_ms: Values
    change: Values
    closed_form: Values


def stdp_window(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Windows of the pair, triplet and gated rule; nothing in it is random."""
    pair, triplet, n_pairs, period_ms = p.pair, p.triplet, p.n_pairs, p.period_ms
    gated = GatedSTDP(pair, Gating(target=0.0, mg_mM=p.mg_mM))
    lag_ms = np.arange(-p.largest_lag_ms, p.largest_lag_ms + 1, dtype=np.float64)
    opened = float(nmda_gate(torch.tensor(V_PEAK_MV, dtype=torch.float64), gated.gating.mg_mM))
    windows = {
        "pair": RuleWindow(
            lag_ms, measure(pair, lag_ms, 1, dt_ms=p.dt_ms), pair_window(pair, lag_ms)
        ),
        "triplet": RuleWindow(
            lag_ms,
            measure(triplet, lag_ms, n_pairs, period_ms, p.dt_ms),
            triplet_window(triplet, lag_ms, n_pairs, period_ms),
        ),
        "gated": RuleWindow(
            lag_ms, measure(gated, lag_ms, 1, dt_ms=p.dt_ms), pair_window(pair, lag_ms, opened)
        ),
    }
    times = f"{n_pairs} pairings at {1000.0 / period_ms:g} Hz"
    song, ours = "Song, Miller & Abbott 2000", "our definition"
    one, t = windows["pair"], "Pfister & Gerstner 2006"
    checks = (
        *_closed_form("pair", one, song),
        *_closed_form(f"triplet, {times},", windows["triplet"], t),
        *_closed_form("gated", windows["gated"], ours),
        _tau("tau_plus of the pair window", one, 1, pair.tau_plus_ms, song),
        _tau("tau_minus of the pair window", one, -1, pair.tau_minus_ms, song),
        _tau("tau_plus of the gated window", windows["gated"], 1, pair.tau_plus_ms, song),
        _tau("tau_minus of the triplet window", windows["triplet"], -1, triplet.tau_minus_ms, t),
        *(
            Check(f"zero crossing of the {name} window", zero_crossing(w), 0.0, 0.0, song, "ms")
            for name, w in windows.items()
        ),
        Check("change of a coincident pair", float(one.change[lag_ms == 0][0]), 0.0, 0.0, ours),
    )
    data = {"lag_ms": Column(lag_ms, "ms", "postsynaptic minus presynaptic spike time")}
    for name, w in windows.items():
        data[f"{name}/change"] = Column(w.change, "--", "change of the contact, simulated")
        data[f"{name}/closed_form"] = Column(w.closed_form, "--", "the same by its formula")
    notes = (
        f"Pair and gated: one pair of spikes. Triplet: {times}, without clipping.",
        f"Gated: potential at {V_PEAK_MV:g} mV at the spike and {V_REST_MV:g} mV elsewhere, no "
        f"presynaptic target; its potentiation is the pair rule's times {opened:.4f}.",
        "Time constants are slopes of the logarithm, fitted over all lags of one sign.",
    )
    return Outcome("stdp_window", checks, data, draw_windows(windows, times), notes)


def measure(
    rule: Rule, lag_ms: Values, n_pairs: int, period_ms: float = 1000.0, dt_ms: float = 1.0
) -> Values:
    """Change after pairings at each lag, by running the rule in float64; weight frozen at 0.5."""
    n_lags, reach = len(lag_ms), round((np.abs(lag_ms).max() + 1) / dt_ms)
    pre, post = torch.zeros(2, 2 * reach, n_lags, 1, dtype=torch.float64)
    pre[reach] = 1.0
    post[reach + np.round(lag_ms / dt_ms).astype(int), np.arange(n_lags)] = 1.0
    v_mV = torch.where(post > 0, V_PEAK_MV, V_REST_MV).double()
    signals, quiet = (
        Signals(pre, post, v_mV),
        Signals(pre[0] * 0, pre[0] * 0, pre[0] * 0 + V_REST_MV),
    )
    w = torch.full((n_lags, 1, 1), 0.5, dtype=torch.float64)
    traces, total = rule.start(pre[0], post[0], private=True), torch.zeros_like(w)
    for k in range(n_pairs):
        for t in range(len(pre)):
            dw, traces = rule.step(w, traces, signals.at(t), dt_ms)
            total += dw
        if k + 1 < n_pairs:  # traces decay exactly in a step of any length
            dw, traces = rule.step(w, traces, quiet, period_ms - len(pre) * dt_ms)
            total += dw
    return total[:, 0, 0].numpy()


def pair_window(rule: PairSTDP, lag_ms: Values, gate: float = 1.0) -> Values:
    """+a_plus exp(-lag/tau_plus) after, -a_minus exp(lag/tau_minus) before, 0 in between."""
    up = gate * rule.a_plus * np.exp(-np.abs(lag_ms) / rule.tau_plus_ms)
    down = rule.a_minus * np.exp(-np.abs(lag_ms) / rule.tau_minus_ms)
    return np.asarray(np.where(lag_ms > 0, up, -down) * (lag_ms != 0))


def triplet_window(
    rule: TripletSTDP, lag_ms: Values, n_pairs: int, period_ms: float = 1000.0
) -> Values:
    """Sums over all pairs and triplets of periodic pairings, all-to-all."""

    def trace(n: int, first_ms: Values | float, tau_ms: float) -> Values:
        """Trace of n periodic spikes, the last of them ``first_ms`` ago."""
        ago = np.asarray(first_ms)[..., None] + period_ms * np.arange(n)
        return np.asarray(np.exp(-ago / tau_ms).sum(-1))

    change = np.zeros_like(lag_ms)
    for k in range(n_pairs):  # the kth spikes; of the other side, k or k + 1 came before
        since_pre = np.where(lag_ms > 0, lag_ms, lag_ms + period_ms)
        since_post = np.where(lag_ms < 0, -lag_ms, period_ms - lag_ms)
        r1 = np.where(
            lag_ms > 0,
            trace(k + 1, since_pre, rule.tau_plus_ms),
            trace(k, since_pre, rule.tau_plus_ms),
        )
        o1 = np.where(
            lag_ms < 0,
            trace(k + 1, since_post, rule.tau_minus_ms),
            trace(k, since_post, rule.tau_minus_ms),
        )
        change += r1 * (rule.a2_plus + rule.a3_plus * trace(k, period_ms, rule.tau_y_ms))
        change -= o1 * (rule.a2_minus + rule.a3_minus * trace(k, period_ms, rule.tau_x_ms))
    return change


def time_constant(window: RuleWindow, sign: int) -> float:
    """Exponential time constant (ms) of one side of a window, by linear regression of the log."""
    side = np.sign(window.lag_ms) == sign
    slope = np.polyfit(np.abs(window.lag_ms[side]), np.log(np.abs(window.change[side])), 1)[0]
    return float(-1.0 / slope)


def zero_crossing(window: RuleWindow) -> float:
    """Middle of the gap between depression and potentiation (ms); NaN if they do not follow.

    Changes below a millionth of the largest one count as none: they come from earlier pairings.
    """
    none = 1e-6 * np.abs(window.change).max()
    falls, rises = window.lag_ms[window.change < -none], window.lag_ms[window.change > none]
    if not len(falls) or not len(rises) or falls.max() > rises.min():
        return math.nan
    return float(falls.max() + rises.min()) / 2.0


def _closed_form(name: str, window: RuleWindow, source: str) -> tuple[Check, ...]:
    checks = []
    for lag in (10, -10):
        at = window.lag_ms == lag
        measured, published = float(window.change[at][0]), float(window.closed_form[at][0])
        tolerance = FLOAT_PRECISION * abs(published)
        checks.append(
            Check(f"{name} change at {lag:+d} ms", measured, published, tolerance, source)
        )
    return tuple(checks)


def _tau(name: str, window: RuleWindow, sign: int, published: float, source: str) -> Check:
    tolerance = FLOAT_PRECISION * published
    return Check(name, time_constant(window, sign), published, tolerance, source, "ms")


@styled
def draw_windows(windows: dict[str, RuleWindow], times: str) -> Figure:
    """A panel for each rule: simulated change, and the closed form on top."""
    figure, panels = in_rows(len(windows), 2.3, least=2.2)
    titles = {
        "pair": "pair (Song et al. 2000)",
        "triplet": f"triplet (Pfister & Gerstner 2006)\n{times}",
        "gated": "NMDA-gated pair (our definition)",
    }
    colours = (BLUE, ORANGE, GREEN)
    for axes, (name, window), colour in zip(panels, windows.items(), colours, strict=True):
        axes.axhline(0.0, color=GREY, lw=0.5)
        axes.axvline(0.0, color=GREY, lw=0.5)
        axes.plot(
            window.lag_ms[::4], window.change[::4], "o", ms=2.5, color=colour, label="simulated"
        )
        for side in (window.lag_ms < 0, window.lag_ms > 0):
            label = "closed form" if side[0] else None
            axes.plot(
                window.lag_ms[side], window.closed_form[side], color=BLACK, lw=0.8, label=label
            )
        axes.set(title=titles[name], xlabel="post - pre (ms)")
    label_left(panels, "change of occupancy")
    panels[0].legend(loc="upper left")
    return figure
