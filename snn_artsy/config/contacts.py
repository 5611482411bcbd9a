"""Contacts of the spiking learner, their states and what they release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from snn_artsy.checks import one_of, require, within
from snn_artsy.config.circuits import CIRCUITS
from snn_artsy.config_builder import take_types


@dataclass(frozen=True)
class ContactConfig:
    """Contacts and their states.

    Args:
        probability: Probability that a contact exists (1: all-to-all).
        per_connection: Contacts between a presynaptic unit and a neuron, each with a state of its
            own.
        release_probability: Chance that a presynaptic spike releases transmitter at a contact, each
            contact of each pair of neurons by itself; with short-term plasticity that of the first
            spike.
        tau_rec_ms: Depression: what released recovers with this time constant (ms); default: at
            once.
        tau_facil_ms: Facilitation: a spike raises the chance at the next ones, for this time (ms);
            default: not at all.
        transmission: ``binary`` (a functional contact passes a full AMPA current; one bit),
            ``graded`` (a current proportional to its occupancy) or ``plain`` (the same without
            states: an ordinary plastic synapse, never silent, as in other simulators).
        theta_up: A silent contact becomes functional when its occupancy reaches this.
        theta_down: A functional contact becomes silent when its occupancy falls to this.
        consolidate_ms: A contact that stayed functional for this long (simulated ms) is
            consolidated; hours in the animal, so time is compressed.
        capture: Contacts functional at the end of their task are consolidated then (synaptic
            tagging and capture).
        tag_ms: A contact's tag lasts so long (simulated ms) from its conversion; capture finds only
            contacts that still have it; default: until the task's end.
        consolidation: False: nothing is ever consolidated, by time or by capture.
        filopodia: So many contacts a postsynaptic neuron, at random units; default: by
            ``probability``.
        silent_share: Share of contacts born silent; the others are born mature: full occupancy,
            consolidated (functional without ``consolidation``).
        circuit: Where ``silent_share`` comes from instead: a circuit in which it was measured
            (`CIRCUITS`), such as ``l5_adult``.
        mature_plasticity: Changes of functional and consolidated contacts are multiplied by this
            (metaplasticity: below 1, mature contacts need more to change). Consolidated contacts do
            not change at all with ``graded`` transmission, which would let depression silence them.
        decay_ms: Occupancy of contacts that are not consolidated decays with this time constant
            (simulated ms); default: not at all.
    """

    probability: float = 1.0
    per_connection: int = 1
    release_probability: float = 1.0
    tau_rec_ms: float | None = None
    tau_facil_ms: float | None = None
    transmission: Literal["binary", "graded", "plain"] = "binary"
    theta_up: float = 0.5
    theta_down: float = 0.25
    consolidate_ms: float = 60000.0
    capture: bool = True
    tag_ms: float | None = None
    consolidation: bool = True
    filopodia: int | None = None
    silent_share: float = 1.0
    circuit: str | None = None
    mature_plasticity: float = 1.0
    decay_ms: float | None = None

    def __post_init__(self) -> None:
        take_types(self, "snn.contacts.")
        one_of("snn.contacts.transmission", self.transmission, ("binary", "graded", "plain"))
        if self.circuit is not None:
            one_of("snn.contacts.circuit", self.circuit, tuple(CIRCUITS))
            measured = CIRCUITS[self.circuit].share
            # a run's own file has both
            require(
                self.silent_share in (1.0, measured),
                "snn.contacts.silent_share",
                self.silent_share,
                f"snn.contacts.circuit {self.circuit} has {measured:g}: leave one of them out",
            )
            object.__setattr__(self, "silent_share", measured)
        require(
            self.transmission != "plain"
            or (self.mature_plasticity == 1.0 and self.decay_ms is None),
            "snn.contacts.transmission",
            self.transmission,
            "mature_plasticity and decay_ms are of contacts with states: leave them out",
        )
        require(
            0 < self.probability <= 1, "snn.contacts.probability", self.probability, "use (0, 1]"
        )
        require(
            0 < self.theta_up <= 1,
            "snn.contacts.theta_up",
            self.theta_up,
            "occupancy lies in [0, 1]: use a threshold in (0, 1]",
        )
        require(
            0 <= self.theta_down < self.theta_up,
            "snn.contacts.theta_down",
            self.theta_down,
            f"hysteresis needs 0 <= theta_down < theta_up ({self.theta_up:g})",
        )
        within("snn.contacts.per_connection", self.per_connection, 1, 1000, "contacts")
        key = "snn.contacts.release_probability"
        require(0 < self.release_probability <= 1, key, self.release_probability, "use (0, 1]")
        within("snn.contacts.consolidate_ms", self.consolidate_ms, 0.01, 1e12, "ms")
        for name in ("tau_rec_ms", "tau_facil_ms"):
            within(f"snn.contacts.{name}", getattr(self, name), 0.01, 1e6, "ms")
        for name in ("silent_share", "mature_plasticity"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"snn.contacts.{name}", value, "use a share in [0, 1]")
        for name in ("decay_ms", "tag_ms"):
            within(f"snn.contacts.{name}", getattr(self, name), 0.01, 1e12, "ms")
        within("snn.contacts.filopodia", self.filopodia, 1, 1_000_000, "contacts")

    @property
    def fails(self) -> bool:
        """Whether a spike can reach a contact and release nothing."""
        return self.release_probability < 1.0 or self.tau_rec_ms is not None

    @property
    def consolidated_plasticity(self) -> float:
        """Share of a change that a consolidated contact takes: none where it transmits its
        occupancy, or depression would silence a contact that is called consolidated."""
        return 0.0 if self.transmission == "graded" else self.mature_plasticity
