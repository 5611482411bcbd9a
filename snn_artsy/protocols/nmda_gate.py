"""An NMDA gate that gates: functional neighbours let silent contacts convert without any spike.

Silent contacts lie on dendrites with more or fewer functional neighbours. An electrode keeps the
somata from firing, so that nothing but the neighbours' EPSPs can relieve the magnesium block.
Contacts that are active together with many neighbours of their dendrite convert; contacts of the
same rate on a dendrite without them, or active at another time, do not. That postsynaptic
depolarisation is what counts, with spikes or without, and that a voltage clamp prevents
potentiation is the finding of Kelso, Ganong & Brown 1986; that inputs which depolarise a dendrite
together need no back-propagating spike is that of Golding, Staff & Spruston 2002. Numbers of
contacts, times and bounds are our definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import snntorch
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.checks import duration, one_of, positive, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.observer import CONSOLIDATED, SILENT
from snn_artsy.plots.style import BLUE, GREEN, GREY, ORANGE, in_rows, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP
from snn_artsy.rules.nmda import V_REST_MV, V_THRESHOLD_MV
from snn_artsy.rules.nmda import nmda_gate as opening
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.receptors import dendrite_mV

GROUPS = ("clustered", "without neighbours", "at another time")
COLOURS = (GREEN, ORANGE, GREY)

CONSTANT = "constant gate"


@dataclass(frozen=True)
class Parameters:
    """Dendrites, their contacts, and when inputs fire.

    Args:
        neighbours: Functional contacts of a dendrite, rising from 0; half of the largest number is
            among them.
        n_replicates: Dendrites for each number.
        n_silent: Silent contacts of a kind (active with the neighbours, or at another time) on
            each.
        n_volleys: Volleys.
        early_volleys: Volleys after which occupancies are compared, before any contact converts.
        period_ms: Length of a volley (ms).
        together_ms: Neighbours and contacts active with them fire from here to there in it (ms).
        apart_ms: The other contacts likewise (ms).
        teacher_ms: The spike in it, where the somata are made to fire (ms).
        dt_ms: Step (ms).
        epsp: Of a functional contact, in thresholds.
        tau_m_ms: Of the dendrite (ms).
        mg_mM: Magnesium (mM), but in the condition without.
        speed: Multiplies every change: minutes of pairing in seconds.
        pair: The rule under the gate.
    """

    neighbours: tuple[int, ...] = (0, 5, 10, 15, 20)
    n_replicates: int = 10
    n_silent: int = 2
    n_volleys: int = 16
    early_volleys: int = 6
    period_ms: float = 120.0
    together_ms: tuple[float, float] = (10.0, 16.0)
    apart_ms: tuple[float, float] = (60.0, 80.0)
    teacher_ms: float = 20.0
    dt_ms: float = 2.0
    epsp: float = 0.1
    tau_m_ms: float = 20.0
    mg_mM: float = 1.0
    speed: float = 50.0
    pair: PairSTDP = field(default_factory=PairSTDP)

    def __post_init__(self) -> None:
        take_types(self)
        rising = self.neighbours == tuple(sorted({0, *self.neighbours}))
        remedy = "use rising numbers from 0 on, with half of the last one"
        whole = rising and self.most > 1 and self.most // 2 in self.neighbours
        require(whole and self.most <= 10_000, "neighbours", self.neighbours, remedy)
        for name in ("n_replicates", "n_silent"):
            within(name, getattr(self, name), 1, 1000)
        within("n_volleys", self.n_volleys, 1, 100_000)
        within("early_volleys", self.early_volleys, 1, self.n_volleys)
        for name in ("dt_ms", "tau_m_ms"):
            duration(name, getattr(self, name))
        within("period_ms", self.period_ms, self.dt_ms, 1e5 * self.dt_ms, "ms")
        for name in ("together_ms", "apart_ms"):
            start, stop = getattr(self, name)
            inside = 0 <= start < stop <= self.period_ms and self.steps(start) < self.steps(stop)
            remedy = f"use two times, a step or more apart, within {self.period_ms:g} ms"
            require(inside, name, (start, stop), remedy)
        within("teacher_ms", self.teacher_ms, 0, self.period_ms - self.dt_ms, "ms")
        within("epsp", self.epsp, 1e-6, 10.0, "thresholds")
        within("mg_mM", self.mg_mM, 1e-6, 100.0, "mM")
        positive("speed", self.speed)
        within("speed", self.speed, 1e-6, 1e6)
        one_of("pair.bounds_of", self.pair.bounds_of, ("additive",))
        one_of("pair.pairing", self.pair.pairing, ("all_to_all",))

    def steps(self, ms: float) -> int:
        return round(ms / self.dt_ms)

    @property
    def period(self) -> int:
        """In steps."""
        return self.steps(self.period_ms)

    @property
    def most(self) -> int:
        """Most neighbours of a dendrite."""
        return self.neighbours[-1]

    @property
    def gating(self) -> Gating:
        return Gating(target=0.0, depolarisation="dendrite", mg_mM=self.mg_mM)

    @property
    def conditions(self) -> dict[str, Gating]:
        return {
            "control": self.gating,
            "spikes": self.gating,
            "no magnesium": replace(self.gating, mg_mM=0.0),
            "clamp -70 mV": replace(self.gating, clamp_mV=-70.0),
            "clamp 0 mV": replace(self.gating, clamp_mV=0.0),
            "clamp +40 mV": replace(self.gating, clamp_mV=40.0),
            "gate of spikes": replace(self.gating, depolarisation="spike"),
        }


DEFAULTS = Parameters()


@dataclass(frozen=True)
class Course:
    """What became of the silent contacts.

    Args:
        converted: Share that is functional after each volley, [n_volleys, 3], by `GROUPS`.
        occupancy: Of each group after the early volleys, [3].
        by_neighbours: The same of contacts active together, for each number of neighbours.
        v_mV: Potential in the first volley, of the dendrites with most neighbours and with none,
            [period, 2]; empty where nothing depends on it.
        opened: Mean opening of the gate over all dendrites and steps; 0 likewise.
    """

    converted: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    by_neighbours: NDArray[np.float64]
    v_mV: NDArray[np.float64]
    opened: float

    @property
    def selectivity(self) -> float:
        """(clustered - others) / (clustered + others), of the mean occupancies."""
        clustered, others = self.occupancy[0], self.occupancy[1:].mean()
        return float((clustered - others) / max(clustered + others, 1e-9))


def nmda_gate(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Silent contacts beside functional ones, with the gate and with a constant in its place."""
    times = spike_times(session.seed, p)
    courses = {
        name: pairings(gating, times, p, spikes=name == "spikes")
        for name, gating in p.conditions.items()
    }
    control = courses["control"]
    # without a block all receptors are open: as few of them as were open in the mean
    flat = replace(p.gating, nmda=control.opened, mg_mM=0.0)
    courses[CONSTANT] = pairings(flat, times, p)
    checks = checks_of(courses, expected_occupancy(times, p), p)
    data = {
        f"{name.replace(' ', '_')}/{group.replace(' ', '_')}": Column(
            course.converted[:, k], "--", f"share functional after each volley, contacts {group}"
        )
        for name, course in courses.items()
        for k, group in enumerate(GROUPS)
    }
    data |= {
        "neighbours/number": Column(
            np.array(p.neighbours), "--", "functional contacts of a dendrite"
        ),
        "neighbours/occupancy": Column(
            control.by_neighbours,
            "--",
            f"of contacts active with them, after {p.early_volleys} volleys",
        ),
        "potential/volley": Column(
            control.v_mV,
            "mV",
            "dendrites with most and without neighbours, first volley, [step, 2]",
        ),
    }
    notes = (
        f"An EPSP is {p.epsp * (V_THRESHOLD_MV - V_REST_MV):g} mV; {p.most} neighbours fire within "
        f"{p.together_ms[1] - p.together_ms[0]:g} ms, contacts at another time {p.apart_ms[0]:g} "
        f"to {p.apart_ms[1]:g} ms after the start of the volley.",
        f"Pair rule without a presynaptic target, sped up {p.speed:g} times; the somata are "
        "silenced by an electrode but in 'spikes', where it makes all of them fire after each "
        "volley.",
        f"The constant is the control's mean opening, {control.opened:.4f}.",
    )
    return Outcome("nmda_gate", tuple(checks), data, draw(courses, p), notes)


def checks_of(courses: dict[str, Course], expected: float, p: Parameters = DEFAULTS) -> list[Check]:
    """What is measured beside what it must be."""
    kelso = "Kelso, Ganong & Brown 1986; the bound is our definition"
    golding = "Golding, Staff & Spruston 2002; the bound is our definition"
    block = "Jahr & Stevens 1990 (block); the bound is our definition"
    ours = "our definition"
    last = {name: course.converted[-1] for name, course in courses.items()}
    control, constant = courses["control"], courses[CONSTANT]
    half = control.by_neighbours[p.neighbours.index(p.most // 2)]
    full = "" if expected < 0.8 else "the sum comes near the occupancy's bound"
    checks = [
        Check("clustered contacts that convert without spikes", last["control"][0], 0.95, 0.0,
              golding, kind="at_least"),
        *(
            Check(f"contacts {group} that convert without spikes", share, 0.02, 0.0, ours,
                  kind="at_most")
            for group, share in zip(GROUPS[1:], last["control"][1:], strict=True)
        ),
        Check(f"occupancy of clustered contacts after {p.early_volleys} volleys",
              control.occupancy[0], expected, 0.01 * expected,
              "sum over pairs (docs/model.md, 10a to 10c)", not_compared=full),
        Check(f"occupancy with {p.most} neighbours over that with half of them",
              float(control.by_neighbours[-1] / half) if half > 0 else math.inf, 2.0, 0.0, block,
              kind="at_least"),
        Check("contacts without neighbours that convert with spikes", last["spikes"][1], 0.95, 0.0,
              "spikes invade the dendrite: our definition", kind="at_least"),
        Check("least share of a group without magnesium", last["no magnesium"].min(), 0.95, 0.0,
              block, kind="at_least"),
        Check("largest share of a group, clamped at -70 mV", last["clamp -70 mV"].max(), 0.0, 0.0,
              kelso, kind="at_most"),
        *(
            Check(f"least share of a group, {name.replace('clamp', 'clamped at')}",
                  last[name].min(), 0.95, 0.0, kelso, kind="at_least")
            for name in ("clamp 0 mV", "clamp +40 mV")
        ),
        Check("largest share of a group, gate opened by spikes alone", last["gate of spikes"].max(),
              0.0, 0.0, "what the default gate lacks: our definition", kind="at_most"),
        Check("selectivity for clustered contacts", control.selectivity, 0.7, 0.0, ours,
              kind="at_least"),
        Check("selectivity, constant gate of equal mean", abs(constant.selectivity), 0.1, 0.0,
              "a wrong model must be told apart: our definition", kind="at_most"),
    ]  # fmt: skip
    return checks


def spike_times(seed: int, p: Parameters = DEFAULTS) -> NDArray[np.int64]:
    """Step of each input's spike in each volley, [n_volleys, n_pre]: the neighbours, then of each
    replicate the contacts that are active with them and those that are not."""
    drawn = np.random.default_rng(seed)
    n_silent = p.n_replicates * p.n_silent
    (first, last), (start, stop) = (
        (p.steps(begin), p.steps(end)) for begin, end in (p.together_ms, p.apart_ms)
    )
    together = drawn.integers(first, last, (p.n_volleys, p.most + n_silent))
    apart = drawn.integers(start, stop, (p.n_volleys, n_silent))
    return np.concatenate([together, apart], axis=1)


def cell(rule: GatedSTDP, p: Parameters = DEFAULTS) -> SilentSynapseLayer:
    """Dendrites, replicate after replicate for each number of neighbours, with their contacts."""
    n_with, n_silent = p.most, p.n_replicates * p.n_silent
    unit = snntorch.Leaky(beta=math.exp(-p.dt_ms / p.tau_m_ms), threshold=1.0)
    layer = SilentSynapseLayer(
        n_with + 2 * n_silent, len(p.neighbours) * p.n_replicates, p.dt_ms, unit, rule,
        update="step", contact_current=p.epsp,
    )  # fmt: skip
    own = torch.eye(p.n_replicates, dtype=torch.bool).repeat_interleave(p.n_silent, 1)
    functional = torch.arange(n_with) < torch.tensor(p.neighbours)[:, None]
    functional = functional.repeat_interleave(p.n_replicates, 0)
    silent = torch.cat([own, own], dim=1).repeat(len(p.neighbours), 1)
    layer.exists.copy_(torch.cat([functional, silent], dim=1))
    layer.born_silent.copy_(torch.cat([functional & False, silent], dim=1))
    layer.ampa[:, :n_with] = functional.float()
    layer.state[:, :n_with] = CONSOLIDATED * functional
    return layer


def pairings(
    gating: Gating, times: NDArray[np.int64], p: Parameters = DEFAULTS, spikes: bool = False
) -> Course:
    """Let the silent contacts learn in every step, the somata silenced or made to fire."""
    layer = cell(GatedSTDP(p.pair, gating).sped_up(p.speed), p)
    current = torch.zeros(p.period, 1, layer.n_post)
    if spikes:
        current[p.steps(p.teacher_ms)] = 1.5
    state, converted, potentials, opened = None, [], [], []
    early = np.zeros(len(GROUPS)), np.zeros(len(p.neighbours))
    for volley, at in enumerate(times):
        pre = torch.zeros(p.period, 1, len(at))
        pre[torch.from_numpy(at), 0, torch.arange(len(at))] = 1.0
        response, state, _ = layer.simulate(pre, current, state)
        converted.append(_groups(_silent(layer.state != SILENT, p)))
        if volley + 1 == p.early_volleys:
            occupancy = _silent(layer.ampa, p)
            early = _groups(occupancy), np.asarray(occupancy[0].numpy())
        if response.dendrite is not None:
            v_mV = dendrite_mV(response.dendrite, response.spikes)[:, 0]
            opened.append(float(opening(v_mV, gating.mg_mM, V_REST_MV).mean()))
            potentials.append(v_mV[:, [-1, 0]].double().numpy())
    first = potentials[0] if potentials else np.zeros((0, 2))
    return Course(np.stack(converted), *early, first, float(np.mean(opened or 0.0)))


def _silent(values: Tensor, p: Parameters) -> Tensor:
    """Means over contacts born silent, by kind (together, apart) and number of neighbours, [2,
    n]."""
    own = torch.eye(p.n_replicates, dtype=torch.bool).repeat_interleave(p.n_silent, 1)
    each = values[:, p.most :].double().unflatten(1, (2, -1))
    each = each.unflatten(0, (len(p.neighbours), p.n_replicates)) * own[:, None]
    return each.sum((1, 3)).T / own.sum()


def _groups(of_kinds: Tensor) -> NDArray[np.float64]:
    together, apart = of_kinds
    return np.array([float(together[-1]), float(together[0]), float(apart[-1])])


def expected_occupancy(times: NDArray[np.int64], p: Parameters = DEFAULTS) -> float:
    """Mean occupancy of clustered contacts after the early volleys, a sum over steps in floats."""
    n_with = p.most
    fired = np.zeros((p.early_volleys * p.period, n_with + p.n_replicates * p.n_silent))
    for volley in range(p.early_volleys):
        at = volley * p.period + times[volley, : fired.shape[1]]
        fired[at, np.arange(fired.shape[1])] = 1.0
    u, x, total = 0.0, np.zeros(fired.shape[1] - n_with), 0.0
    lasting_ms = min(p.dt_ms, 10.0)
    at_rest = 1 / (1 + math.exp(-0.062 * V_REST_MV) / 3.57)
    for now in fired:
        u = u * math.exp(-p.dt_ms / p.tau_m_ms) + p.epsp * now[:n_with].sum()
        v_mV = min(V_REST_MV + (V_THRESHOLD_MV - V_REST_MV) * u, 0.0)
        unblocked = 1 / (1 + p.mg_mM * math.exp(-0.062 * v_mV) / 3.57)
        opened = (unblocked - at_rest) / (1 - at_rest)
        total += p.speed * p.pair.a_plus * max(opened, 0.0) * lasting_ms / 10.0 * x.mean()
        x = (x + now[n_with:]) * math.exp(-p.dt_ms / p.pair.tau_plus_ms)
    return total


@styled
def draw(courses: dict[str, Course], p: Parameters) -> Figure:
    """Potentials in a volley, conversion without spikes, by neighbours, and by condition."""
    figure, (volley, course, dose, bars) = in_rows(4, 2.6, width_ratios=(1, 1, 1, 1.6))
    control = courses["control"]
    for k, (name, colour) in enumerate(((f"{p.most} neighbours", GREEN), ("none", ORANGE))):
        volley.plot(p.dt_ms * np.arange(p.period), control.v_mV[:, k], color=colour, label=name)
    volley.set(xlabel="time in volley (ms)", ylabel="dendrite (mV)", title="potential, no spikes")
    volley.set_ylim(top=-20)
    volley.legend(loc="upper right")
    for k, (group, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        course.plot(100 * control.converted[:, k], color=colour, label=group)
    course.set(xlabel="volleys", ylabel="functional (%)", title="control", ylim=(-4, 104))
    for name, colour in (("control", BLUE), (CONSTANT, GREY)):
        dose.plot(p.neighbours, courses[name].by_neighbours, "o-", color=colour, label=name)
    dose.set(xlabel="functional neighbours", ylabel=f"occupancy, {p.early_volleys} volleys")
    dose.set(title="gate, no spikes", ylim=(-0.02, 1.5 * control.by_neighbours.max()))
    dose.legend(loc="upper left")
    where = np.arange(len(courses))
    for k, (group, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        shares = [100 * each.converted[-1, k] for each in courses.values()]
        bars.barh(where + 0.27 * (k - 1), shares, 0.25, color=colour, label=group)
    bars.set(yticks=where, yticklabels=list(courses), xlabel="functional (%)", xlim=(0, 100))
    bars.set_title(f"after {len(control.converted)} volleys")
    bars.invert_yaxis()
    bars.legend(loc="lower right")
    return figure
