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
from dataclasses import dataclass, replace

import numpy as np
import snntorch
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.observer import CONSOLIDATED, SILENT
from snn_artsy.plots.style import BLUE, GREEN, GREY, ORANGE, PAGE_INCHES, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP
from snn_artsy.rules.nmda import V_REST_MV, V_THRESHOLD_MV
from snn_artsy.rules.nmda import nmda_gate as opening
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.receptors import dendrite_mV

DT_MS, PERIOD, N_VOLLEYS, EARLY = 2.0, 60, 16, 6  # steps of a volley; early: before any converts
TOGETHER, APART, TEACHER = (5, 8), (30, 40), 10  # when inputs and a teacher fire in it
NEIGHBOURS = (0, 5, 10, 15, 20)  # functional contacts of a dendrite
REPLICATES, OF_A_KIND = 10, 2  # dendrites for each number, silent contacts of a kind on each
EPSP, TAU_M_MS = 0.1, 20.0  # of a contact, in thresholds; of the dendrite
SPEED = 50.0  # compressed time: minutes of pairing in seconds
GROUPS = ("clustered", "without neighbours", "at another time")
COLOURS = (GREEN, ORANGE, GREY)

GATING = Gating(target=0.0, depolarisation="dendrite")
CONDITIONS: dict[str, Gating] = {
    "control": GATING,
    "spikes": GATING,
    "no magnesium": replace(GATING, mg_mM=0.0),
    "clamp -70 mV": replace(GATING, clamp_mV=-70.0),
    "clamp 0 mV": replace(GATING, clamp_mV=0.0),
    "clamp +40 mV": replace(GATING, clamp_mV=40.0),
    "gate of spikes": replace(GATING, depolarisation="spike"),
}
CONSTANT = "constant gate"


@dataclass(frozen=True)
class Course:
    """What became of the silent contacts.

    Args:
        converted: Share that is functional after each volley, [N_VOLLEYS, 3], by `GROUPS`.
        occupancy: Of each group after `EARLY` volleys, [3].
        by_neighbours: The same of contacts active together, for each of `NEIGHBOURS`.
        v_mV: Potential in the first volley, of the dendrites with most neighbours and with none,
            [PERIOD, 2]; empty where nothing depends on it.
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


def nmda_gate(session: Session) -> Outcome:
    """Silent contacts beside functional ones, with the gate and with a constant in its place."""
    times = spike_times(session.seed)
    courses = {
        name: pairings(gating, times, spikes=name == "spikes")
        for name, gating in CONDITIONS.items()
    }
    control = courses["control"]
    # without a block all receptors are open: as few of them as were open in the mean
    flat = replace(GATING, nmda=control.opened, mg_mM=0.0)
    courses[CONSTANT] = pairings(flat, times)
    checks = checks_of(courses, expected_occupancy(times))
    data = {
        f"{name.replace(' ', '_')}/{group.replace(' ', '_')}": Column(
            course.converted[:, k], "--", f"share functional after each volley, contacts {group}"
        )
        for name, course in courses.items()
        for k, group in enumerate(GROUPS)
    }
    data |= {
        "neighbours/number": Column(
            np.array(NEIGHBOURS), "--", "functional contacts of a dendrite"
        ),
        "neighbours/occupancy": Column(
            control.by_neighbours, "--", f"of contacts active with them, after {EARLY} volleys"
        ),
        "potential/volley": Column(
            control.v_mV,
            "mV",
            "dendrites with most and without neighbours, first volley, [step, 2]",
        ),
    }
    notes = (
        f"An EPSP is {EPSP * (V_THRESHOLD_MV - V_REST_MV):g} mV; {NEIGHBOURS[-1]} neighbours fire "
        f"within {DT_MS * (TOGETHER[1] - TOGETHER[0]):g} ms, contacts at another time some 60 ms "
        "later.",
        f"Default pair rule without a presynaptic target, sped up {SPEED:g} times; the somata are "
        "silenced by an electrode but in 'spikes', where it makes all of them fire after each "
        "volley.",
        f"The constant is the control's mean opening, {control.opened:.4f}.",
    )
    return Outcome("nmda_gate", tuple(checks), data, draw(courses), notes)


def checks_of(courses: dict[str, Course], expected: float) -> list[Check]:
    """What is measured beside what it must be."""
    kelso = "Kelso, Ganong & Brown 1986; the bound is our definition"
    golding = "Golding, Staff & Spruston 2002; the bound is our definition"
    block = "Jahr & Stevens 1990 (block); the bound is our definition"
    ours = "our definition"
    last = {name: course.converted[-1] for name, course in courses.items()}
    control, constant = courses["control"], courses[CONSTANT]
    half = control.by_neighbours[NEIGHBOURS.index(NEIGHBOURS[-1] // 2)]
    checks = [
        Check("clustered contacts that convert without spikes", last["control"][0], 0.95, 0.0,
              golding, kind="at_least"),
        *(
            Check(f"contacts {group} that convert without spikes", share, 0.02, 0.0, ours,
                  kind="at_most")
            for group, share in zip(GROUPS[1:], last["control"][1:], strict=True)
        ),
        Check(f"occupancy of clustered contacts after {EARLY} volleys", control.occupancy[0],
              expected, 0.01 * expected, "sum over pairs (docs/model.md, 10a to 10c)"),
        Check(f"occupancy with {NEIGHBOURS[-1]} neighbours over that with half of them",
              control.by_neighbours[-1] / half, 2.0, 0.0, block, kind="at_least"),
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


def spike_times(seed: int) -> NDArray[np.int64]:
    """Step of each input's spike in each volley, [N_VOLLEYS, n_pre]: the neighbours, then of each
    replicate the contacts that are active with them and those that are not."""
    drawn = np.random.default_rng(seed)
    n_with, n_silent = NEIGHBOURS[-1], REPLICATES * OF_A_KIND
    together = drawn.integers(*TOGETHER, (N_VOLLEYS, n_with + n_silent))
    apart = drawn.integers(*APART, (N_VOLLEYS, n_silent))
    return np.concatenate([together, apart], axis=1)


def cell(rule: GatedSTDP) -> SilentSynapseLayer:
    """Dendrites, replicate after replicate for each number of neighbours, with their contacts."""
    n_with, n_silent = NEIGHBOURS[-1], REPLICATES * OF_A_KIND
    unit = snntorch.Leaky(beta=math.exp(-DT_MS / TAU_M_MS), threshold=1.0)
    layer = SilentSynapseLayer(
        n_with + 2 * n_silent, len(NEIGHBOURS) * REPLICATES, DT_MS, unit, rule,
        update="step", contact_current=EPSP,
    )  # fmt: skip
    own = torch.eye(REPLICATES, dtype=torch.bool).repeat_interleave(OF_A_KIND, 1)
    functional = torch.arange(n_with) < torch.tensor(NEIGHBOURS)[:, None]
    functional = functional.repeat_interleave(REPLICATES, 0)
    silent = torch.cat([own, own], dim=1).repeat(len(NEIGHBOURS), 1)
    layer.exists.copy_(torch.cat([functional, silent], dim=1))
    layer.born_silent.copy_(torch.cat([functional & False, silent], dim=1))
    layer.ampa[:, :n_with] = functional.float()
    layer.state[:, :n_with] = CONSOLIDATED * functional
    return layer


def pairings(gating: Gating, times: NDArray[np.int64], spikes: bool = False) -> Course:
    """Let the silent contacts learn in every step, the somata silenced or made to fire."""
    layer = cell(GatedSTDP(PairSTDP(), gating).sped_up(SPEED))
    current = torch.zeros(PERIOD, 1, layer.n_post)
    if spikes:
        current[TEACHER] = 1.5
    state, converted, potentials, opened = None, [], [], []
    early = np.zeros(len(GROUPS)), np.zeros(len(NEIGHBOURS))
    for volley, at in enumerate(times):
        pre = torch.zeros(PERIOD, 1, len(at))
        pre[torch.from_numpy(at), 0, torch.arange(len(at))] = 1.0
        response, state, _ = layer.simulate(pre, current, state)
        converted.append(_groups(_silent(layer.state != SILENT)))
        if volley + 1 == EARLY:
            occupancy = _silent(layer.ampa)
            early = _groups(occupancy), np.asarray(occupancy[0].numpy())
        if response.dendrite is not None:
            v_mV = dendrite_mV(response.dendrite, response.spikes)[:, 0]
            opened.append(float(opening(v_mV, gating.mg_mM, V_REST_MV).mean()))
            potentials.append(v_mV[:, [-1, 0]].double().numpy())
    first = potentials[0] if potentials else np.zeros((0, 2))
    return Course(np.stack(converted), *early, first, float(np.mean(opened or 0.0)))


def _silent(values: Tensor) -> Tensor:
    """Means over contacts born silent, by kind (together, apart) and number of neighbours, [2,
    n]."""
    own = torch.eye(REPLICATES, dtype=torch.bool).repeat_interleave(OF_A_KIND, 1)
    each = values[:, NEIGHBOURS[-1] :].double().unflatten(1, (2, -1))
    each = each.unflatten(0, (len(NEIGHBOURS), REPLICATES)) * own[:, None]
    return each.sum((1, 3)).T / own.sum()


def _groups(of_kinds: Tensor) -> NDArray[np.float64]:
    together, apart = of_kinds
    return np.array([float(together[-1]), float(together[0]), float(apart[-1])])


def expected_occupancy(times: NDArray[np.int64]) -> float:
    """Mean occupancy of clustered contacts after `EARLY` volleys, as a sum over steps in floats."""
    n_with = NEIGHBOURS[-1]
    fired = np.zeros((EARLY * PERIOD, n_with + REPLICATES * OF_A_KIND))
    for volley in range(EARLY):
        at = volley * PERIOD + times[volley, : fired.shape[1]]
        fired[at, np.arange(fired.shape[1])] = 1.0
    u, x, total = 0.0, np.zeros(fired.shape[1] - n_with), 0.0
    at_rest = 1 / (1 + math.exp(-0.062 * V_REST_MV) / 3.57)
    for now in fired:
        u = u * math.exp(-DT_MS / TAU_M_MS) + EPSP * now[:n_with].sum()
        v_mV = min(V_REST_MV + (V_THRESHOLD_MV - V_REST_MV) * u, 0.0)
        opened = (1 / (1 + math.exp(-0.062 * v_mV) / 3.57) - at_rest) / (1 - at_rest)
        total += SPEED * PairSTDP.a_plus * max(opened, 0.0) * DT_MS / 10.0 * x.mean()
        x = (x + now[n_with:]) * math.exp(-DT_MS / PairSTDP.tau_plus_ms)
    return total


@styled
def draw(courses: dict[str, Course]) -> Figure:
    """Potentials in a volley, conversion without spikes, by neighbours, and by condition."""
    figure = new_figure(PAGE_INCHES, 2.6)
    volley, course, dose, bars = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.6))
    control = courses["control"]
    for k, (name, colour) in enumerate(((f"{NEIGHBOURS[-1]} neighbours", GREEN), ("none", ORANGE))):
        volley.plot(DT_MS * np.arange(PERIOD), control.v_mV[:, k], color=colour, label=name)
    volley.set(xlabel="time in volley (ms)", ylabel="dendrite (mV)", title="potential, no spikes")
    volley.set_ylim(top=-20)
    volley.legend(loc="upper right")
    for k, (group, colour) in enumerate(zip(GROUPS, COLOURS, strict=True)):
        course.plot(100 * control.converted[:, k], color=colour, label=group)
    course.set(xlabel="volleys", ylabel="functional (%)", title="control", ylim=(-4, 104))
    for name, colour in (("control", BLUE), (CONSTANT, GREY)):
        dose.plot(NEIGHBOURS, courses[name].by_neighbours, "o-", color=colour, label=name)
    dose.set(xlabel="functional neighbours", ylabel=f"occupancy, {EARLY} volleys")
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
