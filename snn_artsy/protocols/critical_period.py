"""A critical period: how many contacts pairing can still unsilence at an age.

Thalamocortical inputs to barrel cortex can be potentiated while some of them are silent, at P2-5,
and no longer when none is, at P8-9 (Isaac et al. 1997); in mouse visual cortex the share falls from
about 50 % at eye opening to at most 5 % in adults, and is about 50 % again without PSD-95 (Huang et
al. 2015). Each age is a circuit of `snn.contacts.circuit` here, and pairing with the default rule
unsilences what is silent: a response of share s silent contacts grows to 1/(1 - s). That the rest
is mature and at its bound, and the number of pairings, is our definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import between, one_of, require
from snn_artsy.config import ContactConfig, PlasticityConfig
from snn_artsy.config.circuits import CIRCUITS
from snn_artsy.config_builder import take_types
from snn_artsy.observer import SILENT
from snn_artsy.plots.style import BLUE, GREY, ORANGE, in_rows, styled
from snn_artsy.protocols.base import (
    MOST_CHANGES,
    MOST_CONTACTS,
    Check,
    Column,
    Outcome,
    Session,
    sizes,
)
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP
from snn_artsy.synapses import SilentSynapseLayer

Values = NDArray[np.float64]

ISAAC = "Isaac et al. 1997 (abstract); the bound is our definition"
HUANG = "Huang et al. 2015 (share at second hand); 1/(1 - share)"
OURS = "a wrong model must be told apart: our definition"


@dataclass(frozen=True)
class Parameters:
    """Of the experiment.

    Args:
        circuits: Names of `CIRCUITS`, in the order in which they are shown.
        n_contacts: Onto each neuron.
        n_neurons: Of each circuit.
        n_pairings: At 1 Hz.
        lead_ms: From the presynaptic spikes to the postsynaptic one (ms).
    """

    circuits: tuple[str, ...] = (
        "barrel_p2_5", "barrel_p8_9", "v1_eye_opening", "v1_adult", "v1_adult_no_psd95", "l5_adult",
    )  # fmt: skip
    n_contacts: int = 1000
    n_neurons: int = 10
    n_pairings: int = 60
    lead_ms: float = 5.0

    def __post_init__(self) -> None:
        take_types(self)
        for name in self.circuits:
            one_of("circuits", name, tuple(CIRCUITS))
        different = 1 <= len(set(self.circuits)) == len(self.circuits)
        require(different, "circuits", self.circuits, "name different circuits, one or more")
        sizes(self, MOST_CONTACTS, n_contacts=1, n_neurons=1)
        sizes(self, MOST_CHANGES, n_contacts=1, n_neurons=1, n_pairings=1)
        between("lead_ms", self.lead_ms, 1, 500)


@dataclass(frozen=True)
class Paired:
    """Share of silent contacts before and after, and the response after over that before."""

    before: float
    after: float
    growth: float

    @property
    def unsilenced(self) -> float:
        """Share of all contacts that pairing has converted."""
        return self.before - self.after


DEFAULTS = Parameters()


def critical_period(session: Session, p: Parameters = Parameters()) -> Outcome:
    """Pairing at each age, in APV, and with a model that is as plastic at every age."""
    rule = default_rule()
    paired = {name: pair(name, p, rule, session.seed) for name in p.circuits}
    apv = GatedSTDP(rule.base, Gating(nmda=0.0, target=0.0))
    blocked = {name: pair(name, p, apv, session.seed) for name in p.circuits}
    # a wrong model: graded weights that start halfway at every age, of which none is silent
    ageless = {name: pair(name, p, rule, session.seed, silent=False) for name in p.circuits}
    checks = []
    # of contacts that are there or not the share is binomial
    n = p.n_contacts * p.n_neurons
    for name, each in paired.items():
        share = CIRCUITS[name].share
        spread = 4.0 * (share * (1.0 - share) / n) ** 0.5
        source = f"{CIRCUITS[name].source}: `snn.contacts.circuit` {name}"
        checks += [
            Check(f"silent share before pairing, {name}", each.before, share, spread, source),
            Check(f"response after pairing over that before, {name}", each.growth,
                  1.0 / (1.0 - share), spread / (1.0 - share) ** 2 + 1e-9,
                  HUANG if name.startswith("v1") else "1/(1 - share)"),
        ]  # fmt: skip
    checks += [
        Check("largest growth of a response in APV", max(x.growth for x in blocked.values()),
              1.0, 0.0, "Isaac et al. 1995; the bound is our definition", kind="at_most"),
    ]  # fmt: skip
    if {"barrel_p2_5", "barrel_p8_9"} <= {*p.circuits}:
        young, old = paired["barrel_p2_5"], paired["barrel_p8_9"]
        checks += [
            Check("growth that pairing causes, P8-9", old.growth - 1.0, 0.0, 0.0, ISAAC,
                  kind="at_most"),
            Check("growth that pairing causes, P2-5", young.growth - 1.0, 0.1, 0.0, ISAAC,
                  kind="at_least"),
            Check("growth at P8-9 over that at P2-5, a model without silent contacts",
                  (ageless["barrel_p8_9"].growth - 1.0) / (ageless["barrel_p2_5"].growth - 1.0),
                  0.9, 0.0, OURS, kind="at_least"),
        ]  # fmt: skip
    data = {
        "circuits/silent_share": Column(
            np.array([CIRCUITS[name].share for name in p.circuits]), "--", "of each circuit"
        ),
        "circuits/unsilenced": Column(
            np.array([x.unsilenced for x in paired.values()]), "--", "share that pairing converts"
        ),
        "circuits/growth": Column(
            np.array([x.growth for x in paired.values()]), "--", "response after over before"
        ),
        "circuits/growth_apv": Column(
            np.array([x.growth for x in blocked.values()]), "--", "the same in APV"
        ),
    }
    notes = (
        "Circuits, in the order of the data: " + ", ".join(p.circuits) + ".",
        *(f"{name}: {CIRCUITS[name].not_shown}." for name in p.circuits),
    )
    return Outcome("critical_period", tuple(checks), data, draw(paired, blocked), notes)


def default_rule() -> GatedSTDP:
    """That of default runs, without the target: all inputs are paired, so that none competes."""
    config = PlasticityConfig()
    base = PairSTDP(config.a_plus, config.a_minus, config.tau_plus_ms, config.tau_minus_ms)
    return GatedSTDP(base, Gating(target=0.0))


def pair(circuit: str, p: Parameters, rule: GatedSTDP, seed: int, silent: bool = True) -> Paired:
    """Pair all contacts of a circuit.

    Args:
        silent: False: the wrong model, of graded contacts that are never silent.
    """
    contacts = ContactConfig(circuit=circuit)
    if not silent:
        contacts = ContactConfig(transmission="plain")
    layer = SilentSynapseLayer(
        p.n_contacts, p.n_neurons, 1.0, rule=rule, contacts=contacts,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    if not silent:
        layer.ampa.fill_(0.5)
    lead = round(p.lead_ms)
    pre = torch.zeros(lead + 1, 1, p.n_contacts)
    pre[0] = 1.0
    taught = torch.zeros(lead + 1, 1, p.n_neurons)
    taught[-1] = 1.5
    before, weight = _silent_share(layer), float(layer.transmitted().sum())
    for _ in range(p.n_pairings):
        layer.pair(pre, taught, presentation_ms=1000.0)
    growth = float(layer.transmitted().sum()) / max(weight, 1e-9)
    return Paired(before, _silent_share(layer), growth)


def _silent_share(layer: SilentSynapseLayer) -> float:
    return float((layer.state == SILENT).double().mean())


@styled
def draw(paired: dict[str, Paired], blocked: dict[str, Paired]) -> Figure:
    """Silent shares before and after pairing, and growth of the response with and without APV."""
    figure, (shares, growth) = in_rows(2, 2.6, least=2.2, sharey=True)
    where = np.arange(len(paired))
    shares.barh(where - 0.2, [100 * x.before for x in paired.values()], 0.38, color=GREY)
    shares.barh(where + 0.2, [100 * x.unsilenced for x in paired.values()], 0.38, color=BLUE)
    shares.set(yticks=where, yticklabels=[name.replace("_", " ") for name in paired])
    shares.set(xlabel="silent (grey),\nunsilenced by pairing (blue), %")
    shares.invert_yaxis()
    growth.plot([x.growth for x in paired.values()], where, "o", color=BLUE, label="pairing")
    growth.plot([x.growth for x in blocked.values()], where, "x", color=ORANGE, label="in APV")
    growth.axvline(1.0, color=GREY, lw=0.5)
    growth.set(xlabel="response after pairing / before")
    growth.legend()
    return figure
