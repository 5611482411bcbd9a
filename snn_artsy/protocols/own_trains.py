"""Pairing with spike trains of one's own: what contacts between recorded neurons would do.

Times come from files (``snn-artsy protocol pairing --pre a.csv --post b.csv``) or from Python
(`snn_artsy.protocols.pairing`), and with them the membrane potential if it was recorded. Neurons
are not simulated: the postsynaptic spikes are those that are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from snn_artsy.checks import ConfigError, between, duration, require, within
from snn_artsy.config import ContactConfig
from snn_artsy.config.plasticity import own_rule, sped_up
from snn_artsy.config_builder import build, take_types
from snn_artsy.config_sources import layered
from snn_artsy.observer import FUNCTIONAL, SILENT
from snn_artsy.plots.style import BLUE, GREEN, GREY, ORANGE, PAGE_INCHES, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session, patience
from snn_artsy.protocols.times_file import Trains, read_trace, read_trains, trace_of, trains_of
from snn_artsy.registry import RULES
from snn_artsy.rules import (
    CalciumRule,
    GatedSTDP,
    Gating,
    PairSTDP,
    ProductRule,
    Rule,
    Signals,
    TripletSTDP,
    VoltageSTDP,
)
from snn_artsy.rules.base import delay_steps
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV
from snn_artsy.synapses.engine_torch import express
from snn_artsy.synapses.layer import SilentSynapseLayer

MOST_CHECKS = 20  # contacts that have a row of their own
MOST_SAMPLES = 50_000_000  # numbers

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """Spike trains, and a contact from each presynaptic to each postsynaptic one.

    Args:
        pre: CSV file of presynaptic spike times (ms), in order: one train a column, or a single
            column; the first row may hold names, and shorter columns end in empty cells. Without
            files: 60 pairings at 20 Hz, the presynaptic spike 10 ms before the other.
        post: The same of postsynaptic spikes.
        v_mv: CSV file of postsynaptic potentials (mV), upstrokes and all: one column a train, one
            row a step of dt_ms, the first at 0 ms. Default: rest, and a peak at each spike.
        rule: ``pair``, ``triplet``, ``voltage``, ``calcium`` or ``gated`` (NMDA-gated, on the pair
            rule); or one of your own that is registered.
        parameters: Of a rule of your own: what its class is called with.
        dt_ms: Step (ms) of rules that follow a potential, calcium or receptors. Pair and triplet
            rule go from spike to spike, at the times that are given.
        after_ms: Simulated after the last spike (ms).
        sample_ms: From one sample of the occupancy to the next (ms), where there are steps; else
            there is one at each spike.
        occupancy: Of every contact at the start, in [0, 1].
        theta_up: A silent contact becomes functional when its occupancy reaches this.
        theta_down: A functional contact becomes silent when its occupancy falls to this.
        consolidate_ms: A contact that stayed functional for this long is consolidated (ms).
        speed: Multiplies every change.
        pair: The pair rule.
        triplet: The triplet rule.
        voltage: The voltage rule; with a potential of your own, spike_ms does not count.
        calcium: The calcium rule.
        gating: Of the gated rule.
    """

    pre: str | None = None
    post: str | None = None
    v_mv: str | None = None
    rule: str = "pair"
    parameters: dict[str, float] = field(default_factory=dict)
    dt_ms: float = 1.0
    after_ms: float = 200.0
    sample_ms: float = 1.0
    occupancy: float = 0.0
    theta_up: float = ContactConfig.theta_up
    theta_down: float = ContactConfig.theta_down
    consolidate_ms: float = ContactConfig.consolidate_ms
    speed: float = 1.0
    pair: PairSTDP = field(default_factory=PairSTDP)
    triplet: TripletSTDP = field(default_factory=TripletSTDP)
    voltage: VoltageSTDP = field(default_factory=VoltageSTDP)
    calcium: CalciumRule = field(default_factory=CalciumRule)
    gating: Gating = field(default_factory=Gating)

    def __post_init__(self) -> None:
        take_types(self)
        RULES.require("rule", self.rule)
        require(self.rule != "error", "rule", self.rule, "no train holds what was foreseen")
        own = bool(RULES.origin(self.rule))
        require(own or not self.parameters, "parameters", self.parameters,
                "they are for a rule of your own")  # fmt: skip
        require((self.pre is None) == (self.post is None), "pre" if self.pre is None else "post",
                None, "give both files, --pre and --post, or none")  # fmt: skip
        duration("dt_ms", self.dt_ms)
        within("after_ms", self.after_ms, 0, 1e9, "ms")
        within("sample_ms", self.sample_ms, 1e-6, 1e9, "ms")
        between("occupancy", self.occupancy, 0, 1)
        within("theta_up", self.theta_up, 1e-6, 1)
        below = 0 <= self.theta_down < self.theta_up
        require(below, "theta_down", self.theta_down, f"use 0 to less than {self.theta_up:g}")
        within("consolidate_ms", self.consolidate_ms, 0.01, 1e12, "ms")
        within("speed", self.speed, 1e-9, 1e6)
        if self.rule in ("voltage", "calcium"):
            delay_steps(f"{self.rule}.delay_ms", getattr(self, self.rule).delay_ms, self.dt_ms)
        built = self.built(False)
        blind = self.v_mv is not None and from_spike_to_spike(built)
        require(not blind, "v_mv", self.v_mv, f"the {self.rule} rule knows spike times alone")

    def built(self, recorded: bool) -> Rule:
        """The rule; ``recorded``: for a potential that was recorded, upstrokes and all."""
        voltage = replace(self.voltage, spike_ms=None) if recorded else self.voltage
        known: dict[str, Rule] = {
            "pair": self.pair,
            "triplet": self.triplet,
            "voltage": voltage,
            "calcium": self.calcium,
            "gated": GatedSTDP(self.pair, self.gating),
        }
        rule = known.get(self.rule) or own_rule(self.rule, self.parameters, "parameters")
        return sped_up(rule, self.speed, "speed")


DEFAULTS = Parameters()


@dataclass(frozen=True)
class Course:
    """What became of the contacts, [.., n_post, n_pre].

    Args:
        time_ms: Of the samples, [n].
        occupancy: At these times, [n, n_post, n_pre].
        state: 0 silent, 1 functional, 2 consolidated, likewise.
        events: Changes of state: time (ms), post, pre, old, new, [n_events, 5].
        change: Sum of what the rule changed, before occupancies were kept in [0, 1].
    """

    time_ms: Values
    occupancy: Values
    state: NDArray[np.uint8]
    events: Values
    change: Values


def own_trains(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Contacts under trains from files; without files, under 60 pairings at 20 Hz."""
    if p.pre is None or p.post is None:
        first = 50.0 * np.arange(60)
        return paired(session, p, trains_of("pre", first), trains_of("post", first + 10.0), None)
    # a recorded potential may stay below the spikes' threshold
    pre, post = read_trains("pre", p.pre), read_trains("post", p.post, silent=p.v_mv is not None)
    v_mV = None if p.v_mv is None else read_trace("v_mv", p.v_mv)
    return paired(session, p, pre, post, v_mV)


def pairing(
    pre_ms: ArrayLike | Sequence[ArrayLike],
    post_ms: ArrayLike | Sequence[ArrayLike],
    v_mv: ArrayLike | None = None,
    *,
    rule: str | Rule,
    session: Session,
    **options: Any,
) -> Outcome:
    """`snn_artsy.protocols.pairing`, which explains its arguments."""
    given = {**options, **_named_rule(rule)}
    for key in ("pre", "post"):
        require(key not in given, key, given.get(key), f"give the times, as {key}_ms")
    p = build(Parameters, layered(given, cls=Parameters))
    blind = v_mv is not None and from_spike_to_spike(p.built(True))
    require(not blind, "v_mv", "a potential", f"the {p.rule} rule knows spike times alone")
    trace = None if v_mv is None else trace_of("v_mv", v_mv)
    # a neuron whose potential is known need not fire: its rule sees subthreshold depolarisation
    post = trains_of("post_ms", post_ms, silent=trace is not None)
    outcome = paired(session, p, trains_of("pre_ms", pre_ms), post, trace)
    return replace(outcome, parameters=p)


def _named_rule(rule: object) -> dict[str, object]:
    """A rule as parameters."""
    if isinstance(rule, str):
        return {"rule": rule}
    if isinstance(rule, GatedSTDP) and isinstance(rule.base, PairSTDP):
        return {"rule": "gated", "pair": rule.base, "gating": rule.gating}
    kinds = {PairSTDP: "pair", TripletSTDP: "triplet", VoltageSTDP: "voltage"}
    name = {**kinds, CalciumRule: "calcium"}.get(type(rule))
    if name is None:
        raise ConfigError(
            "rule",
            f"{rule!r} cannot be used; register its class (sa.rules.register), give its name, and "
            "parameters={...}",
        )
    return {"rule": name, name: rule}


def paired(
    session: Session, p: Parameters, pre: Trains, post: Trains, v_mV: Values | None
) -> Outcome:
    """Occupancy, states and events of the contacts between trains."""
    rule = p.built(v_mV is not None)
    course = simulate(rule, p, pre, post, v_mV, torch.Generator().manual_seed(session.seed))
    expected = expected_change(rule, pre, post)
    checks = []
    for j, i in list(np.ndindex(*course.change.shape))[:MOST_CHECKS]:
        name = f"change by the rule, {pre.names[i]} to {post.names[j]}"
        change = float(course.change[j, i])
        if expected is None:
            why = f"no sum over spikes is known of the {p.rule} rule"
            checks.append(Check(name, change, math.nan, 0.0, "measured", not_compared=why))
        else:
            reference = float(expected[j, i])
            checks.append(
                Check(name, change, reference, 1e-9 * (1.0 + abs(reference)),
                      "sum over all pairs (triplets) of spikes")
            )  # fmt: skip
    of = "[sample, post, pre]"
    time, post_of, pre_of, old, new = course.events.T
    data = {
        "time_ms": Column(course.time_ms, "ms", "of the samples"),
        "occupancy": Column(course.occupancy, "--", f"AMPA occupancy, {of}"),
        "state": Column(course.state, "--", f"0 silent, 1 functional, 2 consolidated, {of}"),
        "change": Column(course.change, "--", "sum of changes before bounds, [post, pre]"),
        "events/time_ms": Column(time, "ms", "when contacts changed state"),
        "events/post": Column(post_of.astype(np.int64), "--", "postsynaptic train, from 0"),
        "events/pre": Column(pre_of.astype(np.int64), "--", "presynaptic train, from 0"),
        "events/old": Column(old.astype(np.uint8), "--", "state before"),
        "events/new": Column(new.astype(np.uint8), "--", "state after"),
    }
    for side, trains in (("pre", pre), ("post", post)):
        for k, (name, times) in enumerate(zip(trains.names, trains.times_ms, strict=True)):
            data[f"{side}/{k}"] = Column(times, "ms", f"spike times of {name}")
    if v_mV is not None:
        data["v_mv"] = Column(v_mV, "mV", "postsynaptic potential, [step, post]")
    exact = from_spike_to_spike(rule)
    notes = (
        f"Rule {p.rule}, sped up {p.speed:g} times, "
        + ("at the spikes' own times" if exact else f"in steps of {p.dt_ms:g} ms")
        + f"; {sum(map(len, pre.times_ms))} presynaptic and {sum(map(len, post.times_ms))} "
        "postsynaptic spikes; neurons are not simulated.",
        "The change by the rule is summed before occupancies are kept in [0, 1].",
    )
    return Outcome("pairing", tuple(checks), data, draw(p, course, pre, post, v_mV), notes)


# --- simulation -----------------------------------------------------------------------------------


def from_spike_to_spike(rule: Rule) -> bool:
    """Whether nothing happens between spikes but the exact decay of traces."""
    return isinstance(rule, ProductRule) and rule.is_data


def simulate(
    rule: Rule,
    p: Parameters,
    pre: Trains,
    post: Trains,
    v_mV: Values | None,
    generator: torch.Generator,
) -> Course:
    """Let the contacts learn, in float64.

    Raises:
        ConfigError: A train has two spikes in a step; the potential is shorter than the trains, or
            of other neurons; there would be too many samples.
    """
    exact = from_spike_to_spike(rule)
    start_ms, length_ms = _steps(p, pre, post, v_mV, exact)
    fired = [_at_steps(trains, start_ms, None if exact else p.dt_ms) for trains in (pre, post)]
    contacts = ContactConfig(
        theta_up=p.theta_up, theta_down=p.theta_down, consolidate_ms=p.consolidate_ms
    )
    n_post, n_pre = len(post.times_ms), len(pre.times_ms)
    layer = SilentSynapseLayer(n_pre, n_post, p.dt_ms, rule=rule, contacts=contacts).double()
    layer.ampa.fill_(p.occupancy)
    layer.state.fill_(FUNCTIONAL if p.occupancy >= p.theta_up else SILENT)
    every = _every(p, exact)
    rest = torch.full((1, n_post), V_REST_MV, dtype=torch.float64)
    silence = torch.zeros(1, n_pre, dtype=torch.float64), torch.zeros(1, n_post).double()
    traces, total = rule.start(*silence), torch.zeros_like(layer.ampa)
    samples, states, times, events = [], [], [], []
    for t, (start, length) in enumerate(zip(start_ms.tolist(), length_ms.tolist(), strict=True)):
        given, taken = (
            quiet.index_fill(1, at[t], 1.0) if t in at else quiet
            for quiet, at in zip(silence, fired, strict=True)
        )
        if v_mV is None:
            v = torch.where(taken > 0, V_PEAK_MV, rest)
        else:
            v = torch.from_numpy(v_mV[t : t + 1])
        noise = None
        if rule.noisy:
            noise = torch.randn(total.shape, generator=generator, dtype=torch.float64)
        change, traces = rule.step(layer.ampa, traces, Signals(given, taken, v), length, noise)
        total += change
        # a long step begins with its spikes; what its time does comes at its end
        parts = [(change, length, start)]
        if exact:
            parts = [(change, 0.0, start), (change * 0.0, length, start + length)]
        for part, elapsed_ms, now_ms in parts:
            before = layer.state.clone()
            express(layer.circuit(), part, 1, elapsed_ms)
            for j, i in torch.nonzero(before != layer.state).tolist():
                events.append((now_ms, j, i, int(before[j, i]), int(layer.state[j, i])))
            last = t + 1 == len(start_ms)
            # at each spike and at the end, or at the end of every so many steps
            if (elapsed_ms == 0.0 or last) if exact else ((t + 1) % every == 0 or last):
                times.append(now_ms if exact else start + length)
                samples.append(layer.ampa.numpy().copy())
                states.append(layer.state.numpy().copy())
    return Course(
        np.array(times),
        np.stack(samples),
        np.stack(states),
        np.array(events, dtype=np.float64).reshape(-1, 5),
        total.numpy(),
    )


def _every(p: Parameters, exact: bool) -> int:
    """Steps from one sample to the next."""
    return 1 if exact else max(round(p.sample_ms / p.dt_ms), 1)


def _steps(
    p: Parameters, pre: Trains, post: Trains, v_mV: Values | None, exact: bool
) -> tuple[Values, Values]:
    """Start and length (ms) of each step: from spike to spike, or on a grid."""
    last_ms = max(pre.last_ms, post.last_ms)
    n_contacts = len(pre.times_ms) * len(post.times_ms)
    if exact:
        start_ms: Values = np.unique(np.concatenate([*pre.times_ms, *post.times_ms]))
        if len(start_ms) * n_contacts > MOST_SAMPLES:
            what = f"{len(start_ms):,} spikes of {n_contacts:,} contacts"
            raise ConfigError("pre", f"{what} are too many samples; give shorter or fewer trains")
        patience("pre", f"{len(start_ms):,} spikes", len(start_ms), n_contacts)
        # a last step of no length would not be one
        return start_ms, np.diff(start_ms, append=last_ms + max(p.after_ms, p.dt_ms))
    n_steps = math.floor(last_ms / p.dt_ms + 0.5) + 1
    if v_mV is None:
        n_steps += round(p.after_ms / p.dt_ms)
    else:
        n_post, recorded = len(post.times_ms), f"{len(v_mV)} steps of {v_mV.shape[1]} neurons"
        fits = len(v_mV) >= n_steps and v_mV.shape[1] == n_post
        remedy = f"give {n_steps} steps of {p.dt_ms:g} ms or more, of {n_post} neurons"
        require(fits, "v_mv", recorded, remedy)
        n_steps = len(v_mV)
    patience("dt_ms", p.dt_ms, n_steps, n_contacts)
    too_many = n_steps // _every(p, exact) * n_contacts > MOST_SAMPLES
    require(not too_many, "sample_ms", p.sample_ms, "too many samples: use a longer time")
    return p.dt_ms * np.arange(n_steps, dtype=np.float64), np.full(n_steps, p.dt_ms)


def _at_steps(trains: Trains, start_ms: Values, dt_ms: float | None) -> dict[int, torch.Tensor]:
    """Trains that fire in a step, by step."""
    found: dict[int, list[int]] = {}
    for k, times in enumerate(trains.times_ms):
        if dt_ms is None:
            at = np.searchsorted(start_ms, times)
        else:
            at = np.floor(times / dt_ms + 0.5).astype(np.int64)
            same = np.flatnonzero(np.diff(at) == 0)
            if len(same):
                raise ConfigError(
                    "dt_ms",
                    f"{trains.names[k]} has spikes at {times[same[0]]:g} and "
                    f"{times[same[0] + 1]:g} ms, which is one step of {dt_ms:g} ms; use a shorter "
                    "one",
                )
        for step in at.tolist():
            found.setdefault(step, []).append(k)
    return {step: torch.tensor(which) for step, which in found.items()}


def expected_change(rule: Rule, pre: Trains, post: Trains) -> Values | None:
    """Change of each contact as a sum over all pairs of spikes (pair rule) and triplets (triplet
    rule), [n_post, n_pre]; None where the sum is another or takes too long."""
    if type(rule) not in (PairSTDP, TripletSTDP):  # a subclass may have terms of its own
        return None
    assert isinstance(rule, PairSTDP | TripletSTDP)
    bounded = isinstance(rule, PairSTDP) and rule.bounds_of != "additive"
    if bounded or rule.pairing != "all_to_all":
        return None
    numbers = [len(times) for times in (*pre.times_ms, *post.times_ms)]
    n_contacts = len(pre.times_ms) * len(post.times_ms)
    if max(max(numbers) * sum(numbers), 1000 * n_contacts) > 100_000_000:
        return None
    return np.array([[_sum(rule, a, b) for a in pre.times_ms] for b in post.times_ms])


def _sum(rule: PairSTDP | TripletSTDP, pre: Values, post: Values) -> float:
    def before(train: Values, now: float, tau_ms: float) -> float:
        """Sum over earlier spikes."""
        return float(np.exp((train[train < now] - now) / tau_ms).sum())

    change = 0.0
    for now in post.tolist():
        gain = rule.a_plus if isinstance(rule, PairSTDP) else rule.a2_plus
        if isinstance(rule, TripletSTDP):
            gain += rule.a3_plus * before(post, now, rule.tau_y_ms)
        change += gain * before(pre, now, rule.tau_plus_ms)
    for now in pre.tolist():
        loss = rule.a_minus if isinstance(rule, PairSTDP) else rule.a2_minus
        if isinstance(rule, TripletSTDP):
            loss += rule.a3_minus * before(pre, now, rule.tau_x_ms)
        change -= loss * before(post, now, rule.tau_minus_ms)
    return change


@styled
def draw(p: Parameters, course: Course, pre: Trains, post: Trains, v_mV: Values | None) -> Figure:
    """Spikes, the potential if it was recorded, and the occupancy of (at most ten) contacts."""
    figure = new_figure(PAGE_INCHES, 3.2 + 0.8 * (v_mV is not None))
    heights = [1.0, *([1.0] if v_mV is not None else []), 2.0]
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    spikes, occupancy = panels[0], panels[-1]
    rows = [*post.times_ms[::-1], *pre.times_ms[::-1]]
    colours = [ORANGE] * len(post.times_ms) + [BLUE] * len(pre.times_ms)
    spikes.eventplot(rows, colors=colours, linewidths=0.6, linelengths=0.8)
    labels = [*post.names[::-1], *pre.names[::-1]]
    spikes.set_yticks(range(len(rows)), labels if len(rows) <= 12 else [""] * len(rows))
    if v_mV is not None:
        panels[1].plot(np.arange(len(v_mV)) * p.dt_ms, v_mV, color=GREY, lw=0.5)
        panels[1].set_ylabel("potential (mV)")
    steps = "steps-post" if from_spike_to_spike(p.built(False)) else "default"
    for j, i in list(np.ndindex(*course.change.shape))[:10]:
        values = course.occupancy[:, j, i]
        occupancy.plot(course.time_ms, values, color=GREEN, lw=1.0, drawstyle=steps)
        occupancy.annotate(
            f"{pre.names[i]} to {post.names[j]}", (course.time_ms[-1], values[-1]), fontsize=6
        )
    for theta in (p.theta_up, p.theta_down):
        occupancy.axhline(theta, color=GREY, lw=0.6, ls=":")
    for time_ms, *_ in course.events:
        occupancy.axvline(time_ms, color=GREY, lw=0.4)
    occupancy.set(xlabel="time (ms)", ylabel="AMPA occupancy")
    return figure
