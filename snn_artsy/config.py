"""Typed configuration of a run: plain frozen dataclasses, checked when they are built.

Every check raises :class:`ConfigError`, whose text names the key, the value and the remedy.
Times are in ms, rates in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Literal

from snn_artsy.checks import ConfigError as ConfigError  # what building a configuration raises
from snn_artsy.checks import one_of, positive, require
from snn_artsy.physiology import Receptors
from snn_artsy.rules import (
    CalciumRule,
    GatedSTDP,
    Gating,
    PairSTDP,
    Rule,
    TripletSTDP,
    VoltageSTDP,
)


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how their classes arrive as tasks.

    Args:
        name: ``digits`` (scikit-learn's, no download), ``imagefolder`` (any directory with train/
            and test/ or val/, one folder a class), ``tiny_imagenet``, ``cub200``, ``imagenet_a``,
            ``imagenet_r`` (in their published layouts), or a torchvision data set: ``cifar10``,
            ``cifar100``, ``fashion_mnist``, ``kmnist``, ``mnist``, ``svhn``.
        root: Directory of the images (imagefolder) or of torchvision's files.
        download: Let torchvision download what is missing in ``root``.
        class_range: ``[start, stop]``: only these classes, counted in name order.
        class_order: Class indices (within the chosen classes) in order of arrival; default: a
            permutation drawn from ``order_seed``.
        order_seed: Seed of the class order; default: the run's seed.
        n_tasks: Number of tasks of equal size; leave out when ``increment`` is given.
        increment: Classes in each task after the first ("Inc").
        base: Classes in the first task ("B"); 0 means ``increment`` (the B0 protocol).
        validation_share: Share of each class's training images set aside for thresholds.
        train_share: Share of each class's training images that is used, drawn by the seed.
        train_per_class: At most so many training images a class (validation included).
        test_per_class: At most so many test images a class.
    """

    name: str = "digits"
    root: str | None = None
    download: bool = False
    class_range: list[int] | None = None
    class_order: list[int] | None = None
    order_seed: int | None = None
    n_tasks: int | None = None
    increment: int | None = None
    base: int = 0
    validation_share: float = 0.1
    train_share: float = 1.0
    train_per_class: int | None = None
    test_per_class: int | None = None

    def __post_init__(self) -> None:
        if self.n_tasks is None and self.increment is None:
            object.__setattr__(self, "n_tasks", 5)
        require(
            self.n_tasks is None or self.increment is None,
            "data.n_tasks",
            self.n_tasks,
            "give either data.n_tasks or data.increment, not both",
        )
        require(
            self.n_tasks is None or self.n_tasks >= 1, "data.n_tasks", self.n_tasks, "use 1 or more"
        )
        require(
            self.increment is None or self.increment >= 1,
            "data.increment",
            self.increment,
            "use 1 or more",
        )
        require(
            self.base >= 0, "data.base", self.base, "use 0 (B0) or the first task's class count"
        )
        require(
            self.base == 0 or self.increment is not None,
            "data.base",
            self.base,
            "data.base goes with data.increment",
        )
        require(
            0.0 < self.validation_share < 1.0,
            "data.validation_share",
            self.validation_share,
            "use a share between 0 and 1, for example 0.1",
        )
        require(
            self.class_range is None
            or (len(self.class_range) == 2 and 0 <= self.class_range[0] < self.class_range[1]),
            "data.class_range",
            self.class_range,
            "give [start, stop] with 0 <= start < stop",
        )
        require(0 < self.train_share <= 1, "data.train_share", self.train_share, "use (0, 1]")
        require(
            self.train_per_class is None or self.train_per_class >= 2,
            "data.train_per_class",
            self.train_per_class,
            "use 2 or more: one of them is for validation",
        )
        require(
            self.test_per_class is None or self.test_per_class >= 1,
            "data.test_per_class",
            self.test_per_class,
            "use 1 or more",
        )


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen vision transformer E_0.

    Args:
        name: ``bundled`` (the small ViT shipped with the package) or any timm model name.
        pretrained: Load timm's published weights (downloaded by timm; of no effect for ``bundled``
            and with ``checkpoint``). False without a checkpoint: random weights from a fixed seed.
        checkpoint: Local weights for a timm model: .safetensors, or .pth read with weights_only.
        preprocessing: ``timm``: the model's own resizing, crop, mean and standard deviation;
            ``pilot``: as the toolbox LAMDA-PILOT, shorter side to 256/224 of the input size,
            centre crop, pixels in [0, 1] without normalisation.
        precision: Arithmetic of the forward pass; features are kept as float32 in either case.
            ``bfloat16`` is about 3 times faster on many CPUs, and not exact.
        batch_size: Images per forward pass during feature extraction.
        workers: Threads that load images while the transformer runs.
        cache_dir: Where features are kept; default: ``$SNN_ARTSY_CACHE`` or the user's cache
            folder.
        cache: Keep features on disk and reuse them.
    """

    name: str = "bundled"
    pretrained: bool = True
    checkpoint: str | None = None
    preprocessing: Literal["timm", "pilot"] = "timm"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = 64
    workers: int = 2
    cache_dir: str | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        one_of("backbone.preprocessing", self.preprocessing, ("timm", "pilot"))
        require(self.batch_size >= 1, "backbone.batch_size", self.batch_size, "use 1 or more")
        require(self.workers >= 1, "backbone.workers", self.workers, "use 1 or more")
        require(
            self.precision in ("float32", "bfloat16"),
            "backbone.precision",
            self.precision,
            "use float32 or bfloat16",
        )
        require(
            self.checkpoint is None or self.name != "bundled",
            "backbone.checkpoint",
            self.checkpoint,
            "it goes with a timm model: set backbone.name to the model these weights belong to",
        )


@dataclass(frozen=True)
class EncodingConfig:
    """From h_0 to presynaptic spikes, and the time course of a presentation.

    A presentation has ``n_steps`` steps of ``dt_ms``. The stimulus comes in periodic volleys: on
    for ``volley_ms`` at the start of each ``period_ms``. Values left out come from the preset:
    ``physiological`` (20 steps of 5 ms, 15 ms volleys every 25 ms, 200 Hz at most) or ``fast`` (8
    steps of 1 ms, 2 ms volleys every 4 ms, 1000 Hz: rates beyond physiology).

    Args:
        preset: Where values that are left out come from.
        code: ``poisson`` (Bernoulli in each step), ``current`` (perfect integrator, deterministic)
            or ``latency`` (one spike a volley, earlier for stronger features).
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
        shrinkage: Shrinkage of that covariance towards the identity.
        isi_ms: Gap between presentations (ms), during which membranes and traces are reset.
    """

    preset: Literal["physiological", "fast"] = "physiological"
    code: Literal["poisson", "current", "latency"] = "poisson"
    n_steps: int | None = None
    test_steps: int | None = None
    dt_ms: float | None = None
    max_rate_hz: float | None = None
    volley_ms: float | None = None
    period_ms: float | None = None
    saturation_sd: float = 2.0
    decorrelation: Literal["whiten", "standardise"] = "whiten"
    shrinkage: float = 0.3
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
        one_of("snn.encoding.preset", self.preset, tuple(self.PRESETS))
        one_of("snn.encoding.code", self.code, ("poisson", "current", "latency"))
        one_of("snn.encoding.decorrelation", self.decorrelation, ("whiten", "standardise"))
        for name, value in self.PRESETS[self.preset].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        require(self.steps >= 1, "snn.encoding.n_steps", self.n_steps, "use 1 or more")
        require(
            self.test_steps is None or self.test_steps >= 1,
            "snn.encoding.test_steps",
            self.test_steps,
            "use 1 or more",
        )
        for name in ("dt_ms", "max_rate_hz", "volley_ms", "period_ms", "saturation_sd"):
            positive(f"snn.encoding.{name}", getattr(self, name))
        require(self.isi_ms >= 0, "snn.encoding.isi_ms", self.isi_ms, "use 0 or more")
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
        require(0.0 < self.shrinkage <= 1.0, "snn.encoding.shrinkage", self.shrinkage, "use (0, 1]")

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
class NeuronConfig:
    """Postsynaptic neurons of a sub-network, in dimensionless membrane units.

    Args:
        model: ``leaky`` (snnTorch's Leaky: instantaneous current) or ``synaptic`` (snnTorch's
            Synaptic: AMPA current decaying with tau_ampa_ms).
        per_class: Neurons K in each class assembly.
        tau_mem_ms: Membrane time constant (ms).
        tau_ampa_ms: Decay of the AMPA current (ms), ``synaptic`` only.
        threshold: Firing threshold in standard deviations of the neuron's net input to one
            unspecific volley; it follows the neuron's number of functional contacts, so that
            assemblies with many and with few contacts compete on equal terms.
        floor: Lowest membrane value, in thresholds (the inhibitory reversal potential).
    """

    model: Literal["leaky", "synaptic"] = "leaky"
    per_class: int = 8
    tau_mem_ms: float = 20.0
    tau_ampa_ms: float = 2.0
    threshold: float = 0.3
    floor: float = -2.0

    def __post_init__(self) -> None:
        one_of("snn.neuron.model", self.model, ("leaky", "synaptic"))
        require(self.per_class >= 1, "snn.neuron.per_class", self.per_class, "use 1 or more")
        for name in ("tau_mem_ms", "tau_ampa_ms", "threshold"):
            positive(f"snn.neuron.{name}", getattr(self, name))
        require(self.floor < 0, "snn.neuron.floor", self.floor, "use a value below 0")


@dataclass(frozen=True)
class PlasticityConfig:
    """Plasticity of AMPA occupancy (`snn_artsy.rules`).

    Args:
        rule: ``gated`` (NMDA-gated unsilencing, on top of ``base``), ``pair``, ``triplet``,
            ``voltage``, ``calcium``, or ``none`` (every AMPA conversion blocked); or a rule of your
            own as ``module:Class``, of a module that Python can import (PYTHONPATH).
        base: Rule under the gate: ``pair``, ``triplet``, ``voltage``, ``calcium``, or your own.
        parameters: Of a rule of your own: what its class is called with.
        bounds_of, pairing: Of the pair rule, whose amplitudes and time constants are the four keys
            below.
        triplet, voltage, calcium: Parameters of these rules.
        published: Name of a published parameter set of the rule (of the base, for ``gated``), such
            as ``song_2000``; it takes the place of the parameters given here.
        speed: Multiplies every change of the rule (compressed time).
        nmda: Share of NMDA receptors not blocked by a drug (APV: 0); for ``gated``.
        insertion, probability, window_ms: ``bernoulli`` insertion of the gated rule.
        a_plus: Occupancy gained per unit of NMDA-gated coincidence.
        a_minus: Occupancy lost per presynaptic spike after a postsynaptic one.
        tau_plus_ms: Presynaptic (glutamate) trace (ms).
        tau_minus_ms: Postsynaptic trace (ms).
        target: Presynaptic target, in multiples of the presynaptic trace's own slow average;
            contacts whose trace stays below it at postsynaptic spikes lose occupancy.
        target_spread: The K neurons of an assembly have targets spread evenly over
            target * (1 -+ spread), so that together they hold a graded memory.
        tau_target_ms: Time constant of the slow average (ms).
        mg_mM: Extracellular magnesium (mM), in the NMDA receptor's block.
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
    published: str | None = None
    speed: float = 1.0
    nmda: float = 1.0
    insertion: Literal["graded", "bernoulli"] = "graded"
    probability: float = 0.1
    window_ms: float = 20.0
    a_plus: float = 0.02
    a_minus: float = 0.004
    tau_plus_ms: float = 20.0
    tau_minus_ms: float = 20.0
    target: float = 1.2
    target_spread: float = 0.4
    tau_target_ms: float = 20000.0
    mg_mM: float = 1.0
    update: Literal["presentation", "step"] = "presentation"
    batch_size: int = 50
    batch_reduction: Literal["sum", "mean"] = "sum"
    epochs: int = 1

    def __post_init__(self) -> None:
        one_of("snn.plasticity.batch_reduction", self.batch_reduction, ("sum", "mean"))
        require(
            self.batch_reduction == "sum" or self.insertion == "graded",
            "snn.plasticity.batch_reduction",
            self.batch_reduction,
            "stochastic insertion fills a contact or not: use sum",
        )
        one_of("snn.plasticity.update", self.update, ("presentation", "step"))
        known = ("pair", "triplet", "voltage", "calcium")
        for name, choices in (("rule", ("gated", *known, "none")), ("base", known)):
            value = getattr(self, name)
            require(
                value in choices or ":" in value,
                f"snn.plasticity.{name}",
                value,
                f"choose from {', '.join(choices)}, or give a rule of your own as module:Class",
            )
        own = self.base if self.rule == "gated" else self.rule
        require(
            not self.parameters or ":" in own,
            "snn.plasticity.parameters",
            self.parameters,
            "they are for a rule of your own (snn.plasticity.rule: module:Class)",
        )
        for name in ("speed", "a_plus", "tau_plus_ms", "tau_minus_ms", "tau_target_ms", "target"):
            positive(f"snn.plasticity.{name}", getattr(self, name))
        for name in ("a_minus", "mg_mM"):
            value = getattr(self, name)
            require(value >= 0, f"snn.plasticity.{name}", value, "use 0 or more")
        require(
            0 <= self.target_spread < 1,
            "snn.plasticity.target_spread",
            self.target_spread,
            "use [0, 1)",
        )
        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            require(value >= 1, f"snn.plasticity.{name}", value, "use 1 or more")
        self.build()

    def build(self) -> Rule | None:
        """The chosen rule; None for ``none``."""
        if self.rule == "none":
            return None
        pair = PairSTDP(
            a_plus=self.a_plus,
            a_minus=self.a_minus,
            tau_plus_ms=self.tau_plus_ms,
            tau_minus_ms=self.tau_minus_ms,
            bounds_of=self.bounds_of,
            pairing=self.pairing,
        )
        chosen: dict[str, Rule] = {
            "pair": pair,
            "triplet": self.triplet,
            "voltage": self.voltage,
            "calcium": self.calcium,
        }
        name = self.base if self.rule == "gated" else self.rule
        if self.published is not None:
            chosen[name] = _published(name, self.published)
        elif name not in chosen:
            chosen[name] = _own_rule(name, self.parameters)
        if self.rule != "gated":
            return chosen[name].sped_up(self.speed)
        gating = Gating(
            nmda=self.nmda,
            mg_mM=self.mg_mM,
            target=self.target,
            tau_target_ms=self.tau_target_ms,
            insertion=self.insertion,
            probability=self.probability,
            window_ms=self.window_ms,
        )
        return GatedSTDP(chosen[name], gating).sped_up(self.speed)


def _own_rule(name: str, parameters: dict[str, float]) -> Rule:
    """A rule that the user wrote, from ``module:Class``."""
    module, _, kind = name.partition(":")
    try:
        found = getattr(import_module(module), kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"snn.plasticity.rule: {name!r} cannot be imported ({error}); the module must be one "
            "that Python finds, for example by PYTHONPATH=."
        ) from error
    try:
        rule: Rule = found(**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"snn.plasticity.parameters: {parameters!r} do not fit {name} ({error}); give its own"
        ) from error
    missing = [part for part in _PARTS_OF_A_RULE if not hasattr(rule, part)]
    require(
        not missing,
        "snn.plasticity.rule",
        name,
        f"it has no {', '.join(missing)}; see snn_artsy.rules.base.Rule",
    )
    return rule


_PARTS_OF_A_RULE = ("noisy", "start", "rest", "step", "presentation", "sped_up")


def _published(rule: str, name: str) -> Rule:
    """A rule with a published parameter set."""
    kinds: dict[str, Any] = {
        "pair": PairSTDP,
        "triplet": TripletSTDP,
        "voltage": VoltageSTDP,
        "calcium": CalciumRule,
    }
    require(rule in kinds, "snn.plasticity.published", name, f"{rule} is a rule of your own")
    kind = kinds[rule]
    require(
        name in kind.PUBLISHED,
        "snn.plasticity.published",
        name,
        f"the {rule} rule has {', '.join(kind.PUBLISHED)}",
    )
    built: Rule = kind(**kind.PUBLISHED[name])
    return built


@dataclass(frozen=True)
class ContactConfig:
    """Contacts and their states.

    Args:
        probability: Probability that a pair of neurons has a contact (1: all-to-all).
        transmission: ``binary`` (a functional contact passes a full AMPA current; one bit) or
            ``graded`` (a current proportional to its occupancy).
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
            consolidated (functional without ``consolidation``). 0.25 in adult layer-5 neurons
            (Vardalaki, Chung & Harnett 2022).
        mature_plasticity: Changes of functional and consolidated contacts are multiplied by this
            (metaplasticity: below 1, mature contacts need more to change).
        decay_ms: Occupancy of contacts that are not consolidated decays with this time constant
            (simulated ms); default: not at all.
    """

    probability: float = 1.0
    transmission: Literal["binary", "graded"] = "binary"
    theta_up: float = 0.5
    theta_down: float = 0.25
    consolidate_ms: float = 60000.0
    capture: bool = True
    tag_ms: float | None = None
    consolidation: bool = True
    filopodia: int | None = None
    silent_share: float = 1.0
    mature_plasticity: float = 1.0
    decay_ms: float | None = None

    def __post_init__(self) -> None:
        one_of("snn.contacts.transmission", self.transmission, ("binary", "graded"))
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
        positive("snn.contacts.consolidate_ms", self.consolidate_ms)
        for name in ("silent_share", "mature_plasticity"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"snn.contacts.{name}", value, "use a share in [0, 1]")
        for name in ("decay_ms", "tag_ms"):
            if getattr(self, name) is not None:
                positive(f"snn.contacts.{name}", getattr(self, name))
        require(
            self.filopodia is None or self.filopodia >= 1,
            "snn.contacts.filopodia",
            self.filopodia,
            "use 1 or more",
        )


@dataclass(frozen=True)
class TeacherConfig:
    """The teaching current of the pairing protocol.

    Args:
        lag_ms: The taught assembly fires so long after each volley's last step.
        reliability: Probability that a neuron of it fires at each of these times.
        current: Strength, in thresholds; from rest, more than about 1 + exp(dt / tau_mem) causes a
            second spike.
    """

    lag_ms: float | None = None
    reliability: float = 0.9
    current: float = 1.5

    def __post_init__(self) -> None:
        if self.lag_ms is not None:
            positive("snn.teacher.lag_ms", self.lag_ms)
        require(
            0 < self.reliability <= 1, "snn.teacher.reliability", self.reliability, "use (0, 1]"
        )
        require(self.current > 1, "snn.teacher.current", self.current, "use more than 1 threshold")


@dataclass(frozen=True)
class GateConfig:
    """The artificial synapse's threshold and what stands in for other tasks' data.

    Args:
        replay: ``gaussian``: features of tasks that are gone are drawn from per-class Gaussians;
            ``exemplars``: a few training samples of each class are kept, chosen by herding
            (Rebuffi et al. 2017); ``none``: only the current task's data is used.
        pseudo_per_class: Gaussian samples for each class that is gone.
        exemplars_per_class: Samples kept of each class (20: Rebuffi et al. 2017, for 100 classes).
        shrinkage: Shrinkage of the stored covariance towards a multiple of the identity.
        threshold: thr_t: ``balanced``: largest balanced accuracy on good against bad features;
            ``quantile``: all but the share ``quantile`` of good features open the gate.
        quantile: That share.
        features: What an MLP gate is trained on: ``good`` features (its own task's), ``bad`` ones
            (other tasks'), ``both`` or ``none``.
    """

    replay: Literal["gaussian", "exemplars", "none"] = "gaussian"
    pseudo_per_class: int = 20
    exemplars_per_class: int = 20
    shrinkage: float = 0.3
    threshold: Literal["balanced", "quantile"] = "balanced"
    quantile: float = 0.05
    features: Literal["both", "good", "bad", "none"] = "both"

    def __post_init__(self) -> None:
        one_of("gate.replay", self.replay, ("gaussian", "exemplars", "none"))
        one_of("gate.threshold", self.threshold, ("balanced", "quantile"))
        one_of("gate.features", self.features, ("both", "good", "bad", "none"))
        for name in ("pseudo_per_class", "exemplars_per_class"):
            require(getattr(self, name) >= 1, f"gate.{name}", getattr(self, name), "use >= 1")
        require(0 <= self.quantile < 1, "gate.quantile", self.quantile, "use a share in [0, 1)")
        require(0 < self.shrinkage <= 1, "gate.shrinkage", self.shrinkage, "use (0, 1]")


@dataclass(frozen=True)
class SNNConfig:
    """Artsy (SNN): spiking silent synapses between the frozen ViT and each task's sub-network.

    Args:
        mode: ``full``: h_t is read out from postsynaptic spikes; ``gate``: the spikes only gate
            an ANN adapter.
        readout: Strength of the recall (``full``): h_t = readout * (mean feature of the class, less
            that of task 1) if one assembly alone fires in every step.
        plastic_old: Sub-networks of earlier tasks stay plastic and learn from their own spikes
            while later tasks are taught.
        fidelity: ``current``: dimensionless synaptic currents; ``conductance``: AMPA, NMDA with
            its magnesium block and inhibition in nS, membranes in mV. Teaching is the same in both.
        receptors: Of each contact; used in ``conductance`` fidelity.
    """

    mode: Literal["full", "gate"] = "full"
    fidelity: Literal["current", "conductance"] = "current"
    receptors: Receptors = field(default_factory=Receptors)
    readout: float = 0.05
    plastic_old: bool = False
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    neuron: NeuronConfig = field(default_factory=NeuronConfig)
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    contacts: ContactConfig = field(default_factory=ContactConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    def __post_init__(self) -> None:
        one_of("snn.mode", self.mode, ("full", "gate"))
        one_of("snn.fidelity", self.fidelity, ("current", "conductance"))
        if self.fidelity == "conductance":
            one_of(
                "snn.neuron.model (with snn.fidelity conductance)", self.neuron.model, ("leaky",)
            )
            require(
                self.receptors.mg_mM == self.plasticity.mg_mM,
                "snn.receptors.mg_mM",
                self.receptors.mg_mM,
                f"snn.plasticity.mg_mM is {self.plasticity.mg_mM:g}: give both the same value",
            )
        positive("snn.readout", self.readout)


@dataclass(frozen=True)
class ANNConfig:
    """Artsy (ANN): one sub-network for each task, and an MLP as its gate.

    Args:
        placement: ``head``: a bottleneck adapter on h_0, which is extracted once; ``blocks``: one
            beside the MLP of every transformer block (EASE's geometry), which takes a pass of the
            ViT in training and for each functional sub-network.
        bottleneck: Hidden units r of the adapter.
        scale: s in h_t = s * W_up ReLU(W_down h_0).
        epochs, lr, batch_size, weight_decay: SGD with momentum 0.9 and a cosine schedule.
        gate_hidden, gate_epochs, gate_lr: The gate MLP (2 epochs in the paper).
    """

    placement: Literal["head", "blocks"] = "head"
    bottleneck: int = 64
    scale: float = 0.1
    epochs: int = 20
    lr: float = 0.05
    batch_size: int = 48
    weight_decay: float = 5e-4
    gate_hidden: int = 64
    gate_epochs: int = 2
    gate_lr: float = 1e-3

    def __post_init__(self) -> None:
        one_of("ann.placement", self.placement, ("head", "blocks"))
        for name in ("bottleneck", "epochs", "batch_size", "gate_hidden", "gate_epochs"):
            value = getattr(self, name)
            require(value >= 1, f"ann.{name}", value, "use 1 or more")
        for name in ("scale", "lr", "gate_lr"):
            positive(f"ann.{name}", getattr(self, name))
        require(self.weight_decay >= 0, "ann.weight_decay", self.weight_decay, "use 0 or more")


@dataclass(frozen=True)
class DiscriminantConfig:
    """Artsy (ANN) with discriminant gates (learner ``artsy_ann_lda``; our definition).

    Args:
        scale: s in h_t in place of ``ann.scale`` where sub-networks sit on h_0: gates that err less
            can afford larger answers. Picked on Tiny-ImageNet classes 0-99, which are not the
            benchmark's.
        shrinkage: Of the covariance that all classes share, towards a multiple of the identity.
    """

    scale: float = 2.0
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        positive("artsy_lda.scale", self.scale)
        require(0 < self.shrinkage <= 1, "artsy_lda.shrinkage", self.shrinkage, "use (0, 1]")


@dataclass(frozen=True)
class RidgeGateConfig:
    """Artsy (ANN) with gates from a ridge regression (learner ``artsy_ann_ridge``; our use).

    Args:
        scale: s in h_t, as in ``artsy_lda``.
        projection: Random features M, as in ``ranpac``.
    """

    scale: float = 2.0
    projection: int = 2000

    def __post_init__(self) -> None:
        positive("artsy_ridge.scale", self.scale)
        require(self.projection >= 1, "artsy_ridge.projection", self.projection, "use 1 or more")


@dataclass(frozen=True)
class FinetuneConfig:
    """Sequential fine-tuning, of a linear head or of one shared adapter.

    The values are those with which LAMDA-PILOT trains an adapter on CIFAR-100 (its
    ``exps/adam_adapter.json``).

    Args:
        epochs, lr, batch_size, weight_decay: SGD with momentum 0.9 and a cosine schedule, in each
            task anew.
    """

    epochs: int = 20
    lr: float = 0.01
    batch_size: int = 48
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, f"finetune.{name}", value, "use 1 or more")
        positive("finetune.lr", self.lr)
        require(self.weight_decay >= 0, "finetune.weight_decay", self.weight_decay, "use 0 or more")


@dataclass(frozen=True)
class JointConfig:
    """Joint linear probe on h_0: logistic regression on all data seen so far.

    Args:
        l2: Penalties to choose from, on validation samples: mean cross-entropy + l2/2 W^2, W^2
            the sum of squared weights (our choice of grid).
        max_iterations: Of L-BFGS for each penalty; 1000 in Radford et al. 2021, ours is smaller
            since each fit starts from the last one.
    """

    l2: list[float] = field(default_factory=lambda: [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
    max_iterations: int = 200

    def __post_init__(self) -> None:
        require(bool(self.l2) and min(self.l2) > 0, "joint.l2", self.l2, "give values above 0")
        require(self.max_iterations >= 1, "joint.max_iterations", self.max_iterations, "use >= 1")


@dataclass(frozen=True)
class EaseConfig:
    """EASE; its adapters are those of ``ann``.

    Args:
        alpha: Weight of the subspaces other than a class's own (0.1: Zhou et al. 2024).
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "ease.alpha", self.alpha, "use 0 or more")


@dataclass(frozen=True)
class RanPACConfig:
    """RanPAC; the adapter of its first task is that of ``ann``.

    Args:
        projection: Random features M (10000 in McDonnell et al. 2023; fewer here, since a solution
            takes M^3 operations in each task and 8 M^2 bytes are kept).
        adapt_first: Train an adapter on the first task before the features are frozen (the paper's
            first phase); false: h_0 alone.
    """

    projection: int = 2000
    adapt_first: bool = True

    def __post_init__(self) -> None:
        require(self.projection >= 1, "ranpac.projection", self.projection, "use 1 or more")


POPULATIONS = ("retina", "tasks")
RECORDED_SPLITS = ("train", "test")
TRACE_VARIABLES = ("ampa", "state", "pre_trace", "post_trace", "membrane_mV", "nmda_open")
"""What a recording plan can choose from."""


@dataclass(frozen=True)
class RecordConfig:
    """What of the simulation goes into ``run.h5`` (accuracies and predictions always do).

    Args:
        populations: Whose spikes: ``retina`` (the input), ``tasks`` (postsynaptic neurons).
        neurons: At most so many neurons of each population, drawn by the seed; default: all.
        spike_presentations: Presentations whose spikes are recorded: so many of each task's
            training and so many of the test that follows it.
        spike_every: Every so many-th presentation, until there are ``spike_presentations``.
        splits: Presentations of which splits: ``train``, ``test``.
        traced_synapses: Contacts of each sub-network whose variables are recorded over time.
        trace_variables: Which: ``ampa`` (occupancy), ``state``, ``pre_trace`` (glutamate),
            ``post_trace``, ``membrane_mV`` (of the postsynaptic neuron), ``nmda_open`` (glutamate
            times the unblocked fraction); occupancy and state after a batch, the others its mean.
        trace_every: After every so many-th batch of training.
        pairings: Record the lags of the traced contacts' spike pairs in each batch, and how their
            occupancy changed: what the plasticity window of the run is measured from.
        conversions: Record every change of a contact's state.
        snapshots: Record occupancy and state of all contacts at task ends.
        scores: Record each test sample's class scores as well as its predicted class.
    """

    populations: list[str] = field(default_factory=lambda: list(POPULATIONS))
    neurons: int | None = None
    spike_presentations: int = 8
    spike_every: int = 1
    splits: list[str] = field(default_factory=lambda: list(RECORDED_SPLITS))
    traced_synapses: int = 32
    trace_variables: list[str] = field(default_factory=lambda: list(TRACE_VARIABLES))
    trace_every: int = 1
    pairings: bool = True
    conversions: bool = True
    snapshots: bool = True
    scores: bool = False

    def __post_init__(self) -> None:
        for name in ("spike_presentations", "traced_synapses"):
            value = getattr(self, name)
            require(value >= 0, f"record.{name}", value, "use 0 (nothing) or more")
        for name in ("neurons", "spike_every", "trace_every"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"record.{name}", value, "use 1 or more")
        for name, known in (
            ("populations", POPULATIONS),
            ("splits", RECORDED_SPLITS),
            ("trace_variables", TRACE_VARIABLES),
        ):
            for item in getattr(self, name):
                one_of(f"record.{name}", item, known)


LEARNERS = (
    "simplecil",
    "finetune_linear",
    "finetune_adapter",
    "joint",
    "aper_adapter",
    "ease",
    "ranpac",
    "artsy_ann",
    "artsy_ann_lda",
    "artsy_ann_ridge",
    "artsy_ann_no_gates",
    "artsy_ann_e0",
    "artsy_ann_subnetworks",
    "artsy_snn",
)
"""Names that ``learners`` accepts."""

DEFAULT_LEARNERS = ("simplecil", "artsy_ann", "artsy_snn")
"""Those of a run that names none."""


@dataclass(frozen=True)
class RunConfig:
    """One run: which images, which backbone, which learners, where to.

    Args:
        data: Images and tasks.
        backbone: The frozen vision transformer.
        ann: Artsy (ANN).
        snn: Artsy (SNN).
        gate: Thresholds and replay of the gates, shared by both.
        artsy_lda: Artsy (ANN) with discriminant gates.
        artsy_ridge: Artsy (ANN) with gates from a ridge regression.
        finetune: Sequential fine-tuning of a linear head, or of one shared adapter.
        joint: Linear probe trained on all data seen so far.
        ease: EASE.
        ranpac: RanPAC.
        record: What goes into ``run.h5``.
        seed: Seed of everything random in the run, class order included.
        device: Where tensors live; ``auto`` takes a GPU when there is one.
        learners: Methods to compare, by name, separated by commas.
        controls: Also run the controls of the spiking learner (permuted contacts, random contacts,
            shuffled teacher labels, shuffled spike times, no plasticity).
        out: Directory of the run; default: ``runs/<time>-<data set>``.
    """

    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    ann: ANNConfig = field(default_factory=ANNConfig)
    snn: SNNConfig = field(default_factory=SNNConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    artsy_lda: DiscriminantConfig = field(default_factory=DiscriminantConfig)
    artsy_ridge: RidgeGateConfig = field(default_factory=RidgeGateConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    ease: EaseConfig = field(default_factory=EaseConfig)
    ranpac: RanPACConfig = field(default_factory=RanPACConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    seed: int = 1993
    device: Literal["auto", "cpu", "cuda"] = "auto"
    learners: list[str] = field(default_factory=lambda: list(DEFAULT_LEARNERS))
    controls: bool = False
    out: str | None = None

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", self.seed, "use 0 to 2147483647")
        require(
            bool(self.learners), "learners", self.learners, f"choose from {', '.join(LEARNERS)}"
        )
        for name in self.learners:
            require(name in LEARNERS, "learners", name, f"choose from {', '.join(LEARNERS)}")
        require(
            len(set(self.learners)) == len(self.learners),
            "learners",
            ",".join(self.learners),
            "name each learner once",
        )
