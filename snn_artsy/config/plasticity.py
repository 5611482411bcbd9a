"""Plasticity rules and their parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from snn_artsy.checks import ConfigError, named, one_of, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.physiology import Membrane
from snn_artsy.registry import RULES
from snn_artsy.rules import (
    CalciumRule,
    ErrorDriven,
    FilopodiumSpine,
    GatedSTDP,
    Gating,
    PairSTDP,
    Rule,
    TripletSTDP,
    VoltageSTDP,
)
from snn_artsy.rules.base import require_rule

DEFAULT_MEMBRANE = Membrane()


@dataclass(frozen=True)
class PlasticityConfig:
    """Plasticity of AMPA occupancy (`snn_artsy.rules`).

    Args:
        rule: ``gated`` (NMDA-gated unsilencing, on top of ``base``), ``error`` (error-driven),
            ``pair``, ``triplet``, ``voltage``, ``calcium``, ``filopodium_spine``, or ``none``
            (every AMPA conversion blocked); or a rule of your own, which must be known: registered
            (`snn_artsy.rules.register`), of an installed package, or named as ``module:Class`` on
            the command line (here or by ``--own``).
        base: Rule under the gate: ``pair``, ``triplet``, ``voltage``, ``calcium``,
            ``filopodium_spine``, or your own.
        parameters: Of a rule of your own: what its class is called with.
        bounds_of, pairing: Of the pair rule, whose amplitudes and time constants are the five keys
            below.
        triplet, voltage, calcium, filopodium_spine: Parameters of these rules.
        published: Name of a published parameter set of the rule (of the base, for ``gated``), such
            as ``song_2000``; it takes the place of the parameters given here.
        speed: Multiplies every change of the rule (compressed time).
        nmda: Share of NMDA receptors not blocked by a drug (APV: 0); for ``gated``.
        insertion, probability, window_ms: ``bernoulli`` insertion of the gated rule.
        a_plus: Occupancy gained per unit of NMDA-gated coincidence.
        a_minus: Occupancy lost per presynaptic spike after a postsynaptic one.
        a_pre: Occupancy lost per presynaptic spike, whatever the postsynaptic neuron does.
        tau_plus_ms: Presynaptic (glutamate) trace (ms).
        tau_minus_ms: Postsynaptic trace (ms).
        target: Presynaptic target, in multiples of the presynaptic trace's own slow average;
            contacts whose trace stays below it at postsynaptic spikes lose occupancy.
        target_spread: The K neurons of an assembly have targets spread evenly over
            target * (1 -+ spread), so that together they hold a graded memory.
        tau_target_ms: Time constant of the slow average (ms).
        target_over: What the slow average has seen when a task begins: nothing (``task``), or all
            presentations so far (``seen``; it is carried over from the last sub-network).
        mg_mM: Extracellular magnesium (mM), in the NMDA receptor's block.
        depolarisation: What relieves the block, for ``gated``: a postsynaptic ``spike`` alone, or
            the ``dendrite``'s potential, which functional contacts depolarise and spikes invade.
        clamp_mV: Potential (mV) at which a voltage clamp holds the contacts while they learn, for
            ``gated``; null: none.
        update: ``presentation``: one update a batch, the contacts frozen while it is shown;
            ``step``: contacts change in every step. Changes are summed over the batch either way.
        batch_size: Presentations in a batch.
        batch_reduction: Changes of a batch are summed, or averaged (``mean``).
        epochs: Passes over a task's training samples.
    """

    rule: str = "gated"
    base: str = "pair"
    parameters: dict[str, float] = field(default_factory=dict)
    bounds_of: Literal["additive", "soft", "van_rossum", "power_law"] = "additive"
    pairing: Literal["all_to_all", "nearest"] = "all_to_all"
    triplet: TripletSTDP = field(default_factory=TripletSTDP)
    # an integrate-and-fire neuron has no upstroke: a spike counts as 2 ms at its peak
    voltage: VoltageSTDP = field(default_factory=lambda: VoltageSTDP(spike_ms=2.0))
    calcium: CalciumRule = field(default_factory=CalciumRule)
    filopodium_spine: FilopodiumSpine = field(default_factory=FilopodiumSpine)
    published: str | None = None
    speed: float = 1.0
    nmda: float = 1.0
    insertion: Literal["graded", "bernoulli"] = "graded"
    probability: float = 0.1
    window_ms: float = 20.0
    a_plus: float = 0.02
    a_minus: float = 0.004
    a_pre: float = 0.0
    tau_plus_ms: float = 20.0
    tau_minus_ms: float = 20.0
    target: float = 1.2
    target_spread: float = 0.4
    tau_target_ms: float = 20000.0
    target_over: Literal["task", "seen"] = "task"
    mg_mM: float = 1.0
    depolarisation: Literal["spike", "dendrite"] = "spike"
    clamp_mV: float | None = None
    update: Literal["presentation", "step"] = "presentation"
    batch_size: int = 50
    batch_reduction: Literal["sum", "mean"] = "sum"
    epochs: int = 1

    def __post_init__(self) -> None:
        take_types(self, "snn.plasticity.")
        one_of("snn.plasticity.batch_reduction", self.batch_reduction, ("sum", "mean"))
        require(
            self.batch_reduction == "sum" or self.insertion == "graded",
            "snn.plasticity.batch_reduction",
            self.batch_reduction,
            "stochastic insertion fills a contact or not: use sum",
        )
        require(
            self.voltage.spike_ms is not None,
            "snn.plasticity.voltage.spike_ms",
            None,
            "neurons of a layer have no upstroke that the rule could see: give its length in ms",
        )
        one_of("snn.plasticity.target_over", self.target_over, ("task", "seen"))
        one_of("snn.plasticity.update", self.update, ("presentation", "step"))
        if self.rule != "none":
            RULES.require("snn.plasticity.rule", self.rule, "none")
        RULES.require("snn.plasticity.base", self.base)
        under = self.base not in ("gated", "error")
        require(under, "snn.plasticity.base", self.base, "give a rule that can lie under the gate")
        own = self.base if self.rule == "gated" else self.rule
        require(
            not self.parameters or bool(RULES.origin(own)),
            "snn.plasticity.parameters",
            self.parameters,
            "they are for a rule of your own (snn.plasticity.rule)",
        )
        for name in ("speed", "a_plus", "target"):
            within(f"snn.plasticity.{name}", getattr(self, name), 1e-9, 1e6)
        for name in ("tau_plus_ms", "tau_minus_ms", "tau_target_ms"):
            within(f"snn.plasticity.{name}", getattr(self, name), 0.01, 1e12, "ms")
        within("snn.plasticity.window_ms", self.window_ms, 0.01, 1e6, "ms")
        for name in ("a_minus", "a_pre"):
            within(f"snn.plasticity.{name}", getattr(self, name), 0, 1e6)
        within("snn.plasticity.mg_mM", self.mg_mM, 0, 1e6, "mM")
        require(
            0 <= self.target_spread < 1,
            "snn.plasticity.target_spread",
            self.target_spread,
            "use [0, 1)",
        )
        for name in ("batch_size", "epochs"):
            within(f"snn.plasticity.{name}", getattr(self, name), 1, 1_000_000)
        self.build()

    def build(self, membrane: Membrane = DEFAULT_MEMBRANE) -> Rule | None:
        """The chosen rule; None for ``none``.

        Args:
            membrane: Of the neurons: its rest and threshold say where the NMDA gate begins to open,
                and where the voltage rule's filters start, unless it has a rest of its own.
        """
        if self.rule == "none":
            return None
        with named("pair.", "snn.plasticity."):
            pair = PairSTDP(
                a_plus=self.a_plus,
                a_minus=self.a_minus,
                tau_plus_ms=self.tau_plus_ms,
                tau_minus_ms=self.tau_minus_ms,
                bounds_of=self.bounds_of,
                pairing=self.pairing,
                a_pre=self.a_pre,
            )
        chosen: dict[str, Rule] = {
            "pair": pair,
            "triplet": self.triplet,
            "voltage": self.voltage,
            "calcium": self.calcium,
            "filopodium_spine": self.filopodium_spine,
        }
        if self.voltage.v_rest_mV == VoltageSTDP.v_rest_mV:
            chosen["voltage"] = replace(self.voltage, v_rest_mV=membrane.v_rest_mV)
        if self.rule == "error":
            with named("error.", "snn.plasticity."):
                chosen["error"] = ErrorDriven(
                    self.a_plus, self.tau_plus_ms, self.target, self.tau_target_ms
                )
        name = self.base if self.rule == "gated" else self.rule
        if self.published is not None:
            chosen[name] = _published(name, self.published)
        elif name not in chosen:
            chosen[name] = own_rule(name, self.parameters, "snn.plasticity.parameters")
        base = sped_up(chosen[name], self.speed, "snn.plasticity.speed")
        if self.rule != "gated":
            return base
        with named("gating.", "snn.plasticity."):
            gating = Gating(
                nmda=self.nmda,
                mg_mM=self.mg_mM,
                target=self.target,
                tau_target_ms=self.tau_target_ms,
                insertion=self.insertion,
                probability=self.probability,
                window_ms=self.window_ms,
                depolarisation=self.depolarisation,
                clamp_mV=self.clamp_mV,
                v_rest_mV=membrane.v_rest_mV,
                v_th_mV=membrane.v_th_mV,
            )
            return GatedSTDP(chosen[name], gating).sped_up(self.speed)


def sped_up(rule: Rule, speed: float, key: str) -> Rule:
    """The rule with every change ``speed`` times as large.

    Raises:
        ConfigError: Under ``key``: the changes are then too large, or a rule that was added gives
            no rule.
    """
    try:
        faster: object = rule.sped_up(speed)
        require_rule("sped_up", faster)
    except Exception as error:  # whatever a function of somebody else's does
        reason = f"does not fit {type(rule).__name__} ({error}); use another speed or rule"
        raise ConfigError(key, reason, speed) from error
    return cast(Rule, faster)


def own_rule(name: str, parameters: dict[str, float], key: str) -> Rule:
    """A rule that was added, with its parameters.

    Raises:
        ConfigError: Under ``key``: they do not fit.
    """
    try:
        rule: Rule = RULES[name](**parameters)
    except Exception as error:  # whatever a class of somebody else's does
        reason = f"{parameters!r} do not fit {name} ({error}); give its own"
        raise ConfigError(key, reason) from error
    return rule


def _published(rule: str, name: str) -> Rule:
    """A rule with a published parameter set."""
    kinds: dict[str, Any] = {
        "pair": PairSTDP,
        "triplet": TripletSTDP,
        "voltage": VoltageSTDP,
        "calcium": CalciumRule,
        "filopodium_spine": FilopodiumSpine,
    }
    require(
        rule in kinds,
        "snn.plasticity.published",
        name,
        f"{rule} has no published set, {', '.join(kinds)} have; leave it out",
    )
    kind = kinds[rule]
    require(
        name in kind.PUBLISHED,
        "snn.plasticity.published",
        name,
        f"the {rule} rule has {', '.join(kind.PUBLISHED)}",
    )
    values = dict(kind.PUBLISHED[name])
    if kind is VoltageSTDP:
        # how long a spike lasts is no parameter of the rule but of neurons without an upstroke
        values["spike_ms"] = VoltageSTDP().spike_ms
    built: Rule = kind(**values)
    return built
