"""The spiking learner: encoding, neurons, contacts, teacher."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from snn_artsy.checks import named, one_of, require, within
from snn_artsy.config.contacts import ContactConfig
from snn_artsy.config.inhibition import InhibitionConfig
from snn_artsy.config.learners import MOST_PARTS
from snn_artsy.config.plasticity import PlasticityConfig, sped_up
from snn_artsy.config.presets import SNN_PRESETS
from snn_artsy.config_builder import take_types
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.registry import ENCODERS, NEURONS
from snn_artsy.rules import CalciumRule, GatedSTDP, Rule, VoltageSTDP
from snn_artsy.rules.base import delay_steps


@dataclass(frozen=True)
class EncodingConfig:
    """From h_0 to presynaptic spikes, and the time course of a presentation.

    A presentation has ``n_steps`` steps of ``dt_ms``. The stimulus comes in periodic volleys: on
    for ``volley_ms`` at the start of each ``period_ms``. Values left out come from the preset:
    ``physiological`` (20 steps of 5 ms, 15 ms volleys every 25 ms, 200 Hz at most) or ``fast`` (8
    steps of 1 ms, 2 ms volleys every 4 ms, 1000 Hz: rates beyond physiology).

    Args:
        preset: Where values that are left out come from.
        code: ``poisson`` (Bernoulli in each step), ``regular`` (perfect integrator from a random
            start), ``current`` (from a fixed one, deterministic) or ``latency`` (one spike a
            volley, earlier for stronger features); or your own.
        n_steps: Steps T of a presentation.
        test_steps: Steps of a presentation without a teacher (test images, and all that the answer
            to them is calibrated on); default: ``n_steps``.
        dt_ms: Step (ms).
        max_rate_hz: Rate at saturation during a volley (Hz); dt * rate may not exceed one spike.
        volley_ms: Length of a volley (ms).
        period_ms: From one volley's start to the next one's (ms).
        saturation_sd: Feature value, in standard deviations, that drives a unit at its maximum
            rate.
        decorrelation: ``whiten`` (ZCA by task 1's within-class covariance) or ``standardise``.
        shrinkage: Shrinkage of that covariance towards the identity; null: what its samples ask
            for (oracle approximating shrinkage; Chen et al. 2010).
        statistics: Mean and whitening are those of the ``first`` task's features and stay, or they
            follow all classes ``seen`` so far, from the means and the shared covariance that are
            kept of them (``gate.covariance: pooled``); replay then teaches earlier sub-networks the
            new code.
        isi_ms: Gap between presentations (ms), during which membranes and traces are reset.
    """

    preset: Literal["physiological", "fast"] = "physiological"
    code: str = "poisson"
    n_steps: int | None = None
    test_steps: int | None = None
    dt_ms: float | None = None
    max_rate_hz: float | None = None
    volley_ms: float | None = None
    period_ms: float | None = None
    saturation_sd: float = 2.0
    decorrelation: Literal["whiten", "standardise"] = "whiten"
    shrinkage: float | None = 0.3
    statistics: Literal["first", "seen"] = "first"
    isi_ms: float = 0.0

    PRESETS: ClassVar[dict[str, dict[str, float]]] = {
        "physiological": {
            "n_steps": 20, "dt_ms": 5.0, "max_rate_hz": 200.0, "volley_ms": 15.0, "period_ms": 25.0
        },
        "fast": {
            "n_steps": 8, "dt_ms": 1.0, "max_rate_hz": 1000.0, "volley_ms": 2.0, "period_ms": 4.0
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        take_types(self, "snn.encoding.")
        one_of("snn.encoding.preset", self.preset, tuple(self.PRESETS))
        one_of("snn.encoding.statistics", self.statistics, ("first", "seen"))
        require(
            self.statistics == "first" or self.decorrelation == "whiten",
            "snn.encoding.statistics",
            self.statistics,
            "with snn.encoding.decorrelation standardise use first",
        )
        ENCODERS.require("snn.encoding.code", self.code)
        one_of("snn.encoding.decorrelation", self.decorrelation, ("whiten", "standardise"))
        for other, values in self.PRESETS.items():
            # a run's own file with another preset written into it, which would do nothing
            require(
                other == self.preset or any(getattr(self, k) != v for k, v in values.items()),
                "snn.encoding.preset",
                self.preset,
                f"{', '.join(values)} are all given, with the values of {other}; leave them out",
            )
        for name, value in self.PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("n_steps", "test_steps"):  # of 0.1 ms, a presentation of a second
            within(f"snn.encoding.{name}", getattr(self, name), 1, 10_000, "steps")
        within("snn.encoding.dt_ms", self.dt, 0.01, 1000.0, "ms")
        for name in ("volley_ms", "period_ms"):
            within(f"snn.encoding.{name}", getattr(self, name), 0.01, 1e6, "ms")
        within("snn.encoding.max_rate_hz", self.rate_hz, 0.001, 1e5, "Hz")
        within("snn.encoding.saturation_sd", self.saturation_sd, 1e-3, 1e3, "standard deviations")
        within("snn.encoding.isi_ms", self.isi_ms, 0, 1e6, "ms")
        require(
            self.dt * self.rate_hz <= 1000.0 + 1e-9,
            "snn.encoding.max_rate_hz",
            self.max_rate_hz,
            f"one spike a step at most: use at most {1000.0 / self.dt:g} Hz at dt {self.dt:g} ms",
        )
        require(
            self.volley <= self.period,
            "snn.encoding.volley_ms",
            self.volley_ms,
            f"a volley must fit into its period of {self.period:g} ms",
        )
        for name, value in (("volley_ms", self.volley), ("period_ms", self.period)):
            require(
                value >= self.dt,
                f"snn.encoding.{name}",
                value,
                f"use at least one step ({self.dt:g} ms)",
            )
        if self.shrinkage is not None:
            key = "snn.encoding.shrinkage"
            require(0.0 < self.shrinkage <= 1.0, key, self.shrinkage, "use (0, 1]")

    # The same values, known to be set, for code that uses them.
    @property
    def steps(self) -> int:
        return int(self.n_steps or 0)

    @property
    def dt(self) -> float:
        return float(self.dt_ms or 0.0)

    @property
    def rate_hz(self) -> float:
        return float(self.max_rate_hz or 0.0)

    @property
    def volley(self) -> float:
        return float(self.volley_ms or 0.0)

    @property
    def period(self) -> float:
        return float(self.period_ms or 0.0)

    @property
    def steps_shown(self) -> int:
        """Steps of a presentation without a teacher."""
        return self.steps if self.test_steps is None else self.test_steps

    def duration_ms(self, teaching: bool) -> float:
        """From the start of one presentation to the start of the next."""
        return (self.steps if teaching else self.steps_shown) * self.dt + self.isi_ms


@dataclass(frozen=True)
class ExpansionConfig:
    """A sparse expansion layer between the ON/OFF units and the plastic contacts.

    Args:
        units: Units with fixed random inputs, which take the ON/OFF units' place in what contacts
            see; 0: no such layer.
        fan_in: ON/OFF units that each unit draws its inputs from, each with the sign +1 or -1.
        active: Share of the units that inhibition leaves active.
    """

    units: int = 0
    fan_in: int = 6
    active: float = 0.25

    def __post_init__(self) -> None:
        take_types(self, "snn.expansion.")
        within("snn.expansion.units", self.units, 0, 1_000_000, "units")
        require(self.units != 1, "snn.expansion.units", self.units, "units compete: use 2 or more")
        within("snn.expansion.fan_in", self.fan_in, 1, 1_000_000, "inputs")
        require(0 < self.active < 1, "snn.expansion.active", self.active, "use a share in (0, 1)")

    @property
    def operations(self) -> int:
        """Accumulates that it takes to drive all units once."""
        return self.units * self.fan_in


@dataclass(frozen=True)
class NeuronConfig:
    """Postsynaptic neurons of a sub-network, in dimensionless membrane units.

    Args:
        model: ``leaky`` (snnTorch's Leaky: instantaneous current) or ``synaptic`` (snnTorch's
            Synaptic: AMPA current decaying with tau_ampa_ms); or your own.
        per_class: Neurons K in each class assembly.
        tau_mem_ms: Membrane time constant (ms).
        tau_ampa_ms: Decay of the AMPA current (ms), ``synaptic`` only.
        threshold: Firing threshold in standard deviations of the neuron's net input to one
            unspecific volley; it follows the neuron's number of functional contacts, so that
            assemblies with many and with few contacts compete on equal terms.
        floor: Lowest membrane value, in thresholds (the inhibitory reversal potential).
        temperature: Of the competition between assemblies: difference of their dendritic potentials
            (thresholds) that makes one e times as likely to fire as another; error-driven rule
            only.
        v_rest_mV: Rest (mV): potential behind a membrane of 0. Rules that see potentials, receptors
            and recorded potentials are in mV. (A leak conductance is none of the parameters: a
            contact is scaled to the threshold, so that only capacitance over leak, tau_mem_ms,
            counts.)
        v_th_mV: Threshold (mV): potential behind a membrane at its threshold.
        v_peak_mV: Of a spike (mV).
    """

    model: str = "leaky"
    per_class: int = 8
    tau_mem_ms: float = 20.0
    tau_ampa_ms: float = 2.0
    threshold: float = 0.3
    floor: float = -2.0
    temperature: float = 0.6
    v_rest_mV: float = Membrane.v_rest_mV
    v_th_mV: float = Membrane.v_th_mV
    v_peak_mV: float = Membrane.v_peak_mV

    def __post_init__(self) -> None:
        take_types(self, "snn.neuron.")
        NEURONS.require("snn.neuron.model", self.model)
        within("snn.neuron.per_class", self.per_class, 1, 10_000, "neurons")
        for name in ("tau_mem_ms", "tau_ampa_ms"):
            within(f"snn.neuron.{name}", getattr(self, name), 0.01, 1e6, "ms")
        within("snn.neuron.threshold", self.threshold, 1e-3, 1e3, "standard deviations")
        within("snn.neuron.temperature", self.temperature, 1e-3, 1e6, "thresholds")
        within("snn.neuron.floor", self.floor, -1e6, -1e-6, "thresholds")
        for name in ("v_rest_mV", "v_th_mV", "v_peak_mV"):
            within(f"snn.neuron.{name}", getattr(self, name), -200, 200, "mV")
        with named("membrane.", "snn.neuron."):
            _ = self.membrane

    @property
    def membrane(self) -> Membrane:
        """In mV and ms."""
        return Membrane(
            tau_m_ms=self.tau_mem_ms,
            v_rest_mV=self.v_rest_mV,
            v_th_mV=self.v_th_mV,
            v_reset_mV=self.v_rest_mV,
            v_peak_mV=self.v_peak_mV,
        )


@dataclass(frozen=True)
class TeacherConfig:
    """The teaching current of the pairing protocol.

    Args:
        lag_ms: The taught assembly fires so long after each volley's last step; default: one step,
            unless there is a phase.
        phase_ms: The taught assembly fires so long after each volley's start, which may lie inside
            the volley.
        phase_spread_ms: The K neurons of an assembly are taught at times spread evenly over
            phase -+ spread, so that each draws its own line between early and late inputs.
        reliability: Probability that a neuron of it fires at each of these times.
        current: Strength, in thresholds; whatever it is, each pulse causes one spike.
        source: What teaches the silent synapses that gate adapters in the blocks: ``classes``, each
            image its class's assembly, or ``adapter``: each neuron stands for a unit of the
            sub-network's bottleneck and fires with it.
    """

    lag_ms: float | None = None
    phase_ms: float | None = None
    phase_spread_ms: float = 0.0
    reliability: float = 0.9
    current: float = 1.5
    source: Literal["classes", "adapter"] = "classes"

    def __post_init__(self) -> None:
        take_types(self, "snn.teacher.")
        one_of("snn.teacher.source", self.source, ("classes", "adapter"))
        within("snn.teacher.lag_ms", self.lag_ms, 0.01, 1e6, "ms")
        within("snn.teacher.phase_ms", self.phase_ms, 0, 1e6, "ms")
        within("snn.teacher.phase_spread_ms", self.phase_spread_ms, 0, 1e6, "ms")
        require(
            self.lag_ms is None or self.phase_ms is None,
            "snn.teacher.phase_ms",
            self.phase_ms,
            "snn.teacher.lag_ms is given too; give one of them",
        )
        require(
            0 < self.reliability <= 1, "snn.teacher.reliability", self.reliability, "use (0, 1]"
        )
        require(self.current > 1, "snn.teacher.current", self.current, "use more than 1 threshold")
        within("snn.teacher.current", self.current, 1, 1e3, "thresholds")


@dataclass(frozen=True)
class ReplayConfig:
    """Replay as spikes after a task's pairing, before its contacts are captured ("sleep").

    Stand-ins for the features of all classes so far (``gate.replay``) are shown; assemblies of old
    and new sub-networks compete, and contacts that answer wrongly change by the error-driven rule
    (``snn.plasticity.rule: error``).

    Args:
        epochs: Passes over the stand-ins in which wrong answers change contacts; 0: no replay.
        pairing_epochs: Passes before them that only pair, as the first pass over a task does: each
            stand-in's spikes with its class's teaching spikes, at the rule's own speed.
        old: Sub-networks of earlier tasks change as well: what was captured becomes functional, and
            is captured anew (reconsolidation: Nader, Schafe & LeDoux 2000).
        batch_size: Presentations in a batch.
        speed: Multiplies every change of the rule in replay.
    """

    epochs: int = 0
    pairing_epochs: int = 0
    old: bool = True
    batch_size: int = 50
    speed: float = 1.0

    def __post_init__(self) -> None:
        take_types(self, "snn.replay.")
        within("snn.replay.epochs", self.epochs, 0, 1_000_000)
        within("snn.replay.pairing_epochs", self.pairing_epochs, 0, 1_000_000)
        within("snn.replay.batch_size", self.batch_size, 1, 1_000_000)
        within("snn.replay.speed", self.speed, 1e-9, 1e6)


@dataclass(frozen=True)
class SNNConfig:
    """Artsy (SNN): spiking silent synapses between the frozen ViT and each task's sub-network.

    Args:
        preset: Where values that are left out come from: ``default``; ``error`` (contacts that
            answer wrongly change in replay); ``timing`` (latency code, plain pair STDP without a
            presynaptic target); or another of `snn_artsy.config.presets`.
        mode: ``full``: h_t is read out from postsynaptic spikes; ``gate``: the spikes only gate
            an ANN adapter.
        tap: What drives the silent synapses that gate adapters in the ViT's blocks: ``h0``;
            ``first``: [h_0, beta h_1] with h_1 of the first task's sub-network, twice the units;
            ``block_K``: the class token after the frozen ViT's first K blocks; ``grid_G``: means
            of the trunk's patch tokens over G x G parts of the image, G^2 times the units; or
            ``h0+grid_G``: both, the parts as strong as h_0.
        readout: Strength of the recall (``full``): h_t = readout * (mean feature of the class, less
            that of task 1) if one assembly alone fires in every step.
        plastic_old: Sub-networks of earlier tasks stay plastic and learn from their own spikes
            while later tasks are taught.
        fidelity: ``current``: dimensionless synaptic currents; ``conductance``: AMPA, NMDA with
            its magnesium block and inhibition in nS, membranes in mV. Teaching is the same in both.
        receptors: Of each contact; used in ``conductance`` fidelity.
    """

    preset: str = "default"
    mode: Literal["full", "gate"] = "full"
    tap: str = "h0"
    fidelity: Literal["current", "conductance"] = "current"
    receptors: Receptors = field(default_factory=Receptors)
    readout: float = 0.05
    plastic_old: bool = False
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    expansion: ExpansionConfig = field(default_factory=ExpansionConfig)
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    contacts: ContactConfig = field(default_factory=ContactConfig)
    inhibition: InhibitionConfig = field(default_factory=InhibitionConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)

    def __post_init__(self) -> None:
        take_types(self, "snn.")
        one_of("snn.preset", self.preset, tuple(SNN_PRESETS))
        one_of("snn.mode", self.mode, ("full", "gate"))
        require(
            self.tap in ("h0", "first") or bool(self.tapped_block or self.tapped_grid),
            "snn.tap",
            self.tap,
            "use h0, first, the class token after a block (block_1, block_2, ...), or parts of the "
            f"image, alone or with h_0 (grid_1 to grid_{MOST_PARTS}, h0+grid_1, ...)",
        )
        one_of("snn.fidelity", self.fidelity, ("current", "conductance"))
        require(
            self.neuron.v_th_mV < self.receptors.e_rev_mV,
            "snn.neuron.v_th_mV",
            self.neuron.v_th_mV,
            "the threshold must lie below the reversal potential of AMPA and NMDA "
            f"(snn.receptors.e_rev_mV, {self.receptors.e_rev_mV:g} mV)",
        )
        if self.fidelity == "conductance":
            middle = 0.5 * (self.neuron.v_rest_mV + self.neuron.v_th_mV)
            require(
                self.receptors.e_gaba_mV < middle,
                "snn.receptors.e_gaba_mV",
                self.receptors.e_gaba_mV,
                f"inhibition balances excitation halfway between rest and threshold ({middle:g} "
                "mV): use less",
            )
            require(
                self.neuron.model == "leaky",
                "snn.neuron.model",
                self.neuron.model,
                "with snn.fidelity conductance use leaky",
            )
            require(
                self.receptors.mg_mM == self.plasticity.mg_mM,
                "snn.receptors.mg_mM",
                self.receptors.mg_mM,
                f"snn.plasticity.mg_mM is {self.plasticity.mg_mM:g}: give both the same value",
            )
        if self.inhibition.source != "balance":
            key, given = "snn.inhibition.source", self.inhibition.source
            alone = "with snn.fidelity conductance use balance"
            require(self.fidelity == "current", key, given, alone)
            alone = "old sub-networks that learn by themselves (snn.plastic_old) need balance"
            require(not self.plastic_old, key, given, alone)
        within("snn.readout", self.readout, 1e-9, 1e9)
        require(
            self.teacher.source == "classes" or self.plasticity.rule != "error",
            "snn.teacher.source",
            self.teacher.source,
            "the error-driven rule compares what assemblies foresee with the class that is taught: "
            "use classes, or another snn.plasticity.rule",
        )
        require(
            self.replay.epochs == 0 or self.plasticity.rule in ("error", "none"),
            "snn.replay.epochs",
            self.replay.epochs,
            "contacts change by the error in replay: use snn.plasticity.rule error",
        )
        if self.replay.epochs and (rule := self.rule()) is not None:
            sped_up(rule, self.replay.speed, "snn.replay.speed")
        base = self._base()
        for name, kind in (("voltage", VoltageSTDP), ("calcium", CalciumRule)):
            if isinstance(base, kind):
                key = f"snn.plasticity.{name}.delay_ms"
                delay_steps(key, base.delay_ms, self.encoding.dt)

    def rule(self) -> Rule | None:
        """The plasticity rule, which knows the neurons' potentials; None: nothing learns."""
        return self.plasticity.build(self.neuron.membrane)

    def _base(self) -> Rule | None:
        rule = self.rule()
        return rule.base if isinstance(rule, GatedSTDP) else rule

    def coarse_update(self) -> str | None:
        """What a run says where a batch's update is a coarse integration of its rule."""
        base = self._base()
        if not isinstance(base, CalciumRule) or self.plasticity.update == "step":
            return None
        batch_ms = self.plasticity.batch_size * self.encoding.duration_ms(teaching=True)
        if batch_ms <= 0.1 * base.contact_ms:
            return None
        return (
            f"a batch freezes contacts for {batch_ms / 1000:.3g} s, and the calcium rule changes "
            f"them within {base.contact_ms / 1000:.3g} s, so that changes come out too large "
            "(docs/model.md, Plasticity rule); snn.plasticity.update step integrates them"
        )

    @property
    def tapped_block(self) -> int | None:
        """K of ``tap: block_K``; None: another tap."""
        found = re.fullmatch(r"block_([1-9][0-9]{0,3})", self.tap)
        return int(found[1]) if found else None

    @property
    def tapped_grid(self) -> int | None:
        """G of ``tap: grid_G`` or ``h0+grid_G``; None: another tap."""
        found = re.fullmatch(r"(?:h0\+)?grid_([1-9][0-9]?)", self.tap)
        return int(found[1]) if found and int(found[1]) <= MOST_PARTS else None

    def tapped(self, dim: int) -> int:
        """Size of what drives the silent synapses, for an h_0 of size ``dim``."""
        beside = self.tap == "first" or self.tap.startswith("h0+")
        return dim * ((self.tapped_grid or 1) ** 2 + beside)

    def n_inputs(self, dim: int) -> int:
        """Presynaptic units of every sub-network that features of size ``dim`` drive."""
        return self.expansion.units or 2 * dim
