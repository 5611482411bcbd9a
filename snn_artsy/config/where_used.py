"""Where each key of the configuration is used, in words and as a condition.

`WHERE_USED` has those that are not always used, `ALWAYS` names the others. A key in neither fails a
test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from snn_artsy.config import EncodingConfig, RunConfig
from snn_artsy.config.data import SEQUENCE
from snn_artsy.config.presets import SNN_PRESETS
from snn_artsy.registry import RULES, TORCHVISION

MLP_GATED = frozenset(("artsy_ann", "artsy_ann_subnetworks", "artsy_ann_gate_alone"))
GATED = MLP_GATED | {"artsy_snn"}
ADAPTED = MLP_GATED | {"artsy_ann_lda", "artsy_ann_ridge", "artsy_ann_no_gates"}
REPLAYING = ADAPTED | {"artsy_snn", "mean_field"}
TRAINING = ADAPTED | {"aper_adapter", "artsy_best", "ease"}
"""Learners that train adapters by ``ann``; RanPAC and the spiking learner may."""
REHEARSING = ("derpp", "er", "icarl")
CLASS_SCALED = frozenset(("artsy_ann_lda", "artsy_ann_ridge"))


@dataclass(frozen=True)
class Use:
    """Where some keys are used.

    Args:
        keys: Dotted; a section stands for all that is in it.
        where: In words, after "it is used".
        holds: Whether a configuration is such a place.
        of_learners: It is where certain learners take part. One file or object may hold the values
            of learners that do not: several runs share it, and no result is mistaken for theirs.
    """

    keys: tuple[str, ...]
    where: str
    holds: Callable[[RunConfig], bool]
    of_learners: bool = False


def _in_sequence(c: RunConfig) -> bool:
    return c.data.name == SEQUENCE


def _online(c: RunConfig) -> bool:
    return c.data.stream == "online"


def _takes_part(*names: str) -> Callable[[RunConfig], bool]:
    return lambda c: bool(set(names) & set(c.learners))


def _spiking(c: RunConfig) -> bool:
    return "artsy_snn" in c.learners or c.controls


def _spiking_gates(c: RunConfig) -> bool:
    """Silent synapses open adapters in the blocks."""
    return _spiking(c) and c.snn.mode == "gate" and c.ann.placement == "blocks"


def _calibrates(c: RunConfig) -> bool:
    """A learner's gates have thresholds."""
    return _takes_part(*MLP_GATED)(c) or ("artsy_snn" in c.learners and not _spiking_gates(c))


def _opens_likeliest(c: RunConfig) -> bool:
    return "artsy_best" in c.learners or _spiking_gates(c)


def _pairs(c: RunConfig) -> bool:
    return _spiking(c) or "mean_field" in c.learners


def _encodes(c: RunConfig) -> bool:
    return _pairs(c) or bool({"whitened_ncm", "binary_mean", "nested_mean"} & set(c.learners))


def _expands(c: RunConfig) -> bool:
    return _pairs(c) or bool({"binary_mean", "nested_mean"} & set(c.learners))


def with_adapters(c: RunConfig) -> bool:
    """Whether a learner of this package trains adapters by ``ann``."""
    return _trained(c) or "finetune_adapter" in c.learners


def _trained(c: RunConfig) -> bool:
    ranpac = "ranpac" in c.learners and c.ranpac.adapt_first
    gate_mode = _spiking(c) and c.snn.mode == "gate"
    return bool(TRAINING & set(c.learners)) or ranpac or gate_mode


def _scaled(c: RunConfig) -> bool:
    others = [name for name in c.learners if name not in CLASS_SCALED]
    return with_adapters(replace(c, learners=others or ["simplecil"])) or (
        c.ann.placement == "blocks" and with_adapters(c)
    )


def _rule(c: RunConfig) -> str:
    """The rule whose parameters count: the base of a gated one."""
    p = c.snn.plasticity
    return p.base if p.rule == "gated" else p.rule


def _own_values_of(rule: str) -> Callable[[RunConfig], bool]:
    return lambda c: _rule(c) == rule and c.snn.plasticity.published is None


def _gated(c: RunConfig) -> bool:
    return c.snn.plasticity.rule == "gated"


def _in_mV(c: RunConfig) -> bool:
    seen = _gated(c) or _rule(c) == "voltage" or c.snn.fidelity == "conductance"
    return seen or c.record.traced_synapses > 0


def _corrects(c: RunConfig) -> bool:
    return c.snn.plasticity.rule == "error"


def _with_target(c: RunConfig) -> bool:
    product = _rule(c) not in ("calcium", "filopodium_spine")
    graded = c.snn.plasticity.insertion == "graded" and product
    return _corrects(c) or (_gated(c) and graded)


def _pair_values(c: RunConfig) -> bool:
    return _rule(c) == "pair" and c.snn.plasticity.published is None


def _in_steps(c: RunConfig) -> bool:
    return c.snn.plasticity.update == "step" and c.snn.plasticity.rule != "none"


def _replays(c: RunConfig) -> bool:
    return _corrects(c) and c.snn.replay.epochs > 0


def _listed(names: Collection[str]) -> str:
    return f"by {', '.join(sorted(names))} (learners)"


def used_by(names: Sequence[str] | frozenset[str], keys: Sequence[str]) -> Use:
    """Keys that these learners use, and no other."""
    return Use(tuple(keys), _listed(names), _takes_part(*names), of_learners=True)


def _in(section: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for name in names)


OF_SPIKING: tuple[Use, ...] = (
    Use(
        ("snn",),
        "by artsy_snn (learners), its controls and its baselines without spikes (mean_field, "
        "whitened_ncm, binary_mean, nested_mean)",
        _encodes,
        of_learners=True,
    ),
    Use(
        (
            *_in("snn", "preset", "plastic_old", "neuron", "plasticity", "contacts", "teacher"),
            *_in("snn.encoding", "preset", "code", "n_steps", "test_steps", "dt_ms", "volley_ms"),
            *_in("snn.encoding", "max_rate_hz", "period_ms", "isi_ms", "statistics"),
            *("snn.replay", "snn.inhibition"),
        ),
        "by artsy_snn (learners), its controls and mean_field",
        _pairs,
        of_learners=True,
    ),
    Use(
        ("snn.expansion",),
        "by artsy_snn (learners), its controls, mean_field, binary_mean and nested_mean",
        _expands,
        of_learners=True,
    ),
    Use(
        (
            *_in("snn", "mode", "tap", "readout", "fidelity", "receptors"),
            *("snn.neuron.floor", "snn.teacher.current", "snn.teacher.source"),
        ),
        "by artsy_snn (learners) and its controls",
        _spiking,
        of_learners=True,
    ),
)
"""Which learners use keys of ``snn`` at all; the others' conditions come on top."""

_OF_EACH_SOURCE = "where data.name is not sequence, whose data.sources have one each"

WHERE_USED: tuple[Use, ...] = (
    Use(("data.root",), "where data.name is not digits", lambda c: c.data.name != "digits"),
    Use(
        ("data.download",),
        "with data sets of torchvision (data.name)",
        lambda c: bool({c.data.name, *(s.name for s in c.data.sources or [])} & set(TORCHVISION)),
    ),
    Use(_in("data", "sources", "task_order", "scenario"), "with data.name sequence", _in_sequence),
    Use(
        _in("data", "class_range", "class_order", "increment", "base"),
        _OF_EACH_SOURCE,
        lambda c: not _in_sequence(c),
    ),
    Use(
        ("data.n_tasks",),
        _OF_EACH_SOURCE,
        lambda c: not _in_sequence(c) or c.data.n_tasks is None,
    ),
    Use(
        ("data.test_seed",),
        "with test_per_class (of data, or of one of data.sources)",
        lambda c: c.data.draws_test_images,
    ),
    Use(
        ("data.order_seed",),
        "without data.class_order, or with data.stream online",
        lambda c: c.data.class_order is None or _online(c),
    ),
    Use(
        _in("data", "disjoint_share", "blurry_share", "evaluations"),
        "with data.stream online",
        _online,
    ),
    Use(
        ("data.blurry_share",),
        "with data.disjoint_share below 1",
        lambda c: c.data.disjoint_share < 1,
    ),
    Use(
        ("memory.epochs", "finetune.epochs", "finetune.alignment_epochs", "controls"),
        "with data.stream tasks",
        lambda c: not _online(c),
    ),
    Use(
        ("backbone.pretrained",),
        "with a timm model (backbone.name) without backbone.checkpoint",
        lambda c: c.backbone.name != "bundled" and c.backbone.checkpoint is None,
    ),
    Use(("backbone.cache_dir",), "with backbone.cache true", lambda c: c.backbone.cache),
    Use(
        ("ann.blocks", "ann.patch_dropout", "ann.augmentation", "backbone.cache_gb"),
        "with ann.placement blocks",
        lambda c: c.ann.placement == "blocks",
    ),
    # --- learners on features
    Use(
        _in("ann", "placement", "blocks", "bottleneck"),
        _listed(TRAINING | {"finetune_adapter", "ranpac", "artsy_snn in snn.mode gate"}),
        with_adapters,
        of_learners=True,
    ),
    Use(
        ("ann.scale",),
        _listed(
            TRAINING - CLASS_SCALED | {"finetune_adapter", "ranpac", "artsy_snn in snn.mode gate"}
        )
        + ", or with ann.placement blocks",
        _scaled,
        of_learners=True,
    ),
    Use(
        _in(
            "ann",
            "dropout",
            "augmentation",
            "optimiser",
            "epochs",
            "lr",
            "batch_size",
            "weight_decay",
        ),
        _listed(TRAINING | {"ranpac", "artsy_snn in snn.mode gate"}),
        _trained,
        of_learners=True,
    ),
    Use(
        ("ann.continue_from_last",),
        _listed(TRAINING - {"aper_adapter"} | {"artsy_snn in snn.mode gate"})
        + ", which train an adapter for each task",
        lambda c: (
            _takes_part(*(TRAINING - {"aper_adapter"}))(c) or (_spiking(c) and c.snn.mode == "gate")
        ),
        of_learners=True,
    ),
    Use(
        ("ann.earlier",),
        "with ann.placement blocks by "
        + _listed(TRAINING - {"aper_adapter"} | {"artsy_snn in snn.mode gate"}),
        lambda c: (
            c.ann.placement == "blocks"
            and (_takes_part(*(TRAINING - {"aper_adapter"}))(c) or _spiking_gates(c))
        ),
        of_learners=True,
    ),
    used_by(MLP_GATED, (*_in("ann", "gate_hidden", "gate_epochs", "gate_lr"), "gate.features")),
    Use(
        ("gate.replay",),
        f"{_listed(REPLAYING)}, and for exemplars by artsy_best",
        lambda c: (
            _takes_part(*REPLAYING)(c)
            or ("artsy_best" in c.learners and c.gate.replay == "exemplars")
        ),
        of_learners=True,
    ),
    used_by(REPLAYING, _in("gate", "pseudo_per_class", "shrinkage", "covariance")),
    used_by(REPLAYING | {"artsy_best"}, ("gate.exemplars_per_class",)),
    Use(
        _in("gate", "pseudo_per_class", "shrinkage", "covariance"),
        "with gate.replay gaussian",
        lambda c: c.gate.replay == "gaussian",
    ),
    Use(
        ("gate.exemplars_per_class",),
        "with gate.replay exemplars",
        lambda c: c.gate.replay == "exemplars",
    ),
    # the quantile also opens gates that have nothing yet to be balanced against
    Use(
        _in("gate", "threshold", "quantile"),
        f"{_listed(GATED)}, which has none in snn.mode gate with ann.placement blocks",
        _calibrates,
        of_learners=True,
    ),
    used_by(("artsy_ann_lda",), ("artsy_lda",)),
    used_by(("artsy_ann_ridge",), ("artsy_ridge",)),
    Use(
        ("artsy_best",),
        "by artsy_best, and artsy_snn in snn.mode gate with ann.placement blocks (learners)",
        _opens_likeliest,
        of_learners=True,
    ),
    used_by(("artsy_best",), ("artsy_best.grid",)),
    Use(
        ("artsy_best.open",),
        "with artsy_best.gates likeliest or shuffled",
        lambda c: c.artsy_best.gates in ("likeliest", "shuffled"),
    ),
    Use(
        ("artsy_lda.scale", "artsy_ridge.scale"),
        "with ann.placement head",
        lambda c: c.ann.placement == "head",
    ),
    used_by(("finetune_linear", "finetune_adapter"), ("finetune",)),
    used_by(("joint",), ("joint",)),
    used_by(REHEARSING, ("memory",)),
    used_by(("derpp",), ("derpp",)),
    used_by(("binary_mean",), ("binary_mean",)),
    used_by(("nested_mean",), ("nested_mean",)),
    used_by(("ease",), ("ease",)),
    used_by(("ranpac",), ("ranpac",)),
    # --- the spiking learner
    *OF_SPIKING,
    Use(
        ("snn.preset",),
        "where it fills in a value: all that it stands for is given, as in a run's own file",
        lambda c: (
            c.snn.preset == "default"
            or any(attrgetter(key)(c) == value for key, value in SNN_PRESETS[c.snn.preset].items())
        ),
    ),
    Use(("snn.readout",), "with snn.mode full", lambda c: c.snn.mode == "full"),
    Use(
        ("snn.tap", "snn.teacher.source"),
        "with snn.mode gate and ann.placement blocks",
        _spiking_gates,
    ),
    Use(
        ("snn.receptors",),
        "with snn.fidelity conductance",
        lambda c: c.snn.fidelity == "conductance",
    ),
    Use(
        ("snn.encoding.preset",),
        "where it fills in a value: n_steps, dt_ms, max_rate_hz, volley_ms and period_ms of "
        "snn.encoding are all given",
        lambda c: any(
            getattr(c.snn.encoding, name) == value
            for name, value in EncodingConfig.PRESETS[c.snn.encoding.preset].items()
        ),
    ),
    Use(
        ("snn.encoding.shrinkage",),
        "with snn.encoding.decorrelation whiten",
        lambda c: c.snn.encoding.decorrelation == "whiten",
    ),
    Use(
        ("snn.encoding.max_rate_hz",),
        "with snn.encoding.code poisson, regular or current",
        lambda c: c.snn.encoding.code != "latency",
    ),
    Use(
        _in("snn.expansion", "fan_in", "active"),
        "with snn.expansion.units above 0",
        lambda c: c.snn.expansion.units > 0,
    ),
    Use(
        ("snn.neuron.tau_ampa_ms",),
        "with snn.neuron.model synaptic",
        lambda c: c.snn.neuron.model != "leaky",
    ),
    Use(
        (
            *_in("snn.plasticity", "base", "bounds_of", "pairing", "triplet", "voltage", "calcium"),
            "snn.plasticity.filopodium_spine",
            *_in("snn.plasticity", "published", "speed", "a_plus", "a_minus", "tau_plus_ms"),
            *_in("snn.plasticity", "a_pre", "tau_minus_ms", "update", "batch_reduction"),
            *_in("snn.contacts", "theta_up", "theta_down", "consolidate_ms", "capture", "tag_ms"),
            *_in("snn.contacts", "mature_plasticity", "decay_ms"),
        ),
        "with a plasticity rule (snn.plasticity.rule is none)",
        lambda c: c.snn.plasticity.rule != "none",
    ),
    Use(
        _in("snn.plasticity", "base", "nmda", "insertion", "probability", "window_ms")
        + _in("snn.plasticity", "depolarisation", "clamp_mV"),
        "with snn.plasticity.rule gated",
        _gated,
    ),
    Use(
        _in("snn.neuron", "v_rest_mV", "v_th_mV", "v_peak_mV"),
        "with snn.plasticity.rule gated or voltage, snn.fidelity conductance, or "
        "record.traced_synapses above 0",
        _in_mV,
    ),
    Use(
        ("snn.plasticity.mg_mM",),
        "with snn.plasticity.rule gated or snn.fidelity conductance",
        lambda c: _gated(c) or c.snn.fidelity == "conductance",
    ),
    Use(
        _in("snn.plasticity", "probability", "window_ms"),
        "with snn.plasticity.insertion bernoulli",
        lambda c: c.snn.plasticity.insertion == "bernoulli",
    ),
    Use(
        _in("snn.plasticity", "target", "target_spread", "tau_target_ms", "target_over"),
        "with snn.plasticity.rule error, or gated with insertion graded over a base other than "
        "calcium and filopodium_spine",
        _with_target,
    ),
    Use(
        ("snn.plasticity.target_spread",),
        "with several neurons a class (snn.neuron.per_class)",
        lambda c: c.snn.neuron.per_class > 1,
    ),
    Use(
        _in("snn.plasticity", "bounds_of", "pairing", "a_minus", "a_pre", "tau_minus_ms"),
        "by the pair rule (snn.plasticity.rule, or base of gated) without a published set",
        _pair_values,
    ),
    Use(
        _in("snn.plasticity", "a_plus", "tau_plus_ms"),
        "by the error-driven rule, and the pair rule (snn.plasticity.rule, or base of gated) "
        "without a published set",
        lambda c: _corrects(c) or _pair_values(c),
    ),
    Use(
        ("snn.neuron.temperature", "snn.replay"),
        "with snn.plasticity.rule error",
        _corrects,
    ),
    Use(
        _in("snn.replay", "pairing_epochs", "old", "batch_size", "speed"),
        "with snn.replay.epochs above 0",
        _replays,
    ),
    *(
        Use(
            (f"snn.plasticity.{rule}",),
            f"by the {rule} rule (snn.plasticity.rule, or base of gated) without a published set",
            _own_values_of(rule),
        )
        for rule in ("triplet", "voltage", "calcium", "filopodium_spine")
    ),
    Use(
        ("snn.plasticity.parameters",),
        "by a rule of your own (snn.plasticity.rule)",
        lambda c: bool(RULES.origin(_rule(c))),
    ),
    Use(
        ("snn.contacts.probability",),
        "without snn.contacts.filopodia",
        lambda c: c.snn.contacts.filopodia is None,
    ),
    Use(
        _in("snn.inhibition", "neurons", "inputs", "feedback", "between"),
        "with snn.inhibition.source fixed or plastic",
        lambda c: c.snn.inhibition.source != "balance",
    ),
    Use(
        _in("snn.inhibition", "target_hz", "tau_ms", "rate", "epochs"),
        "with snn.inhibition.source plastic",
        lambda c: c.snn.inhibition.source == "plastic",
    ),
    Use(
        ("snn.contacts.tau_facil_ms",),
        "with snn.contacts.release_probability below 1",
        lambda c: c.snn.contacts.release_probability < 1,
    ),
    Use(
        _in("snn.contacts", "consolidate_ms", "capture", "tag_ms"),
        "with snn.contacts.consolidation true",
        lambda c: c.snn.contacts.consolidation,
    ),
    Use(
        ("snn.contacts.tag_ms",),
        "with snn.contacts.capture true",
        lambda c: c.snn.contacts.capture,
    ),
    Use(
        ("snn.teacher.phase_spread_ms",),
        "with snn.teacher.phase_ms and several neurons a class (snn.neuron.per_class)",
        lambda c: c.snn.teacher.phase_ms is not None and c.snn.neuron.per_class > 1,
    ),
    # --- run.h5
    used_by(
        ("artsy_snn",),
        _in("record", "populations", "neurons", "spike_presentations", "spike_every", "splits")
        + _in("record", "traced_synapses", "trace_variables", "trace_every", "trace_windows")
        + _in("record", "pairings", "conversions", "snapshots"),
    ),
    Use(
        _in("record", "spike_every", "splits"),
        "with record.spike_presentations above 0 and record.populations",
        lambda c: bool(c.record.spike_presentations and c.record.populations),
    ),
    Use(
        _in("record", "trace_variables", "trace_every", "trace_windows", "pairings"),
        "with record.traced_synapses above 0",
        lambda c: c.record.traced_synapses > 0,
    ),
    Use(
        _in("record", "trace_every", "trace_windows"),
        "with record.trace_variables",
        lambda c: bool(c.record.trace_variables),
    ),
    Use(
        ("record.trace_every",),
        "with snn.plasticity.update presentation",
        lambda c: not _in_steps(c),
    ),
    Use(("record.trace_windows",), "with snn.plasticity.update step and a rule", _in_steps),
)

ALWAYS: tuple[str, ...] = (
    *_in("data", "name", "stream", "validation_share", "train_share"),
    *_in("data", "train_per_class", "test_per_class"),
    *_in("backbone", "name", "checkpoint", "preprocessing", "precision", "batch_size"),
    *_in("backbone", "engine", "resizing", "workers", "cache"),
    *_in("snn", "mode", "fidelity", "plastic_old"),
    "snn.inhibition.source",
    *_in("snn.encoding", "code", "n_steps", "test_steps", "dt_ms", "volley_ms", "period_ms"),
    *_in("snn.encoding", "saturation_sd", "decorrelation", "isi_ms", "statistics"),
    "snn.expansion.units",
    *_in("snn.neuron", "model", "per_class", "tau_mem_ms", "threshold", "floor"),
    *_in("snn.plasticity", "rule", "batch_size", "epochs"),
    *_in("snn.contacts", "transmission", "consolidation", "filopodia", "silent_share"),
    *_in("snn.contacts", "circuit", "per_connection", "release_probability", "tau_rec_ms"),
    *_in("snn.teacher", "lag_ms", "phase_ms", "reliability", "current"),
    *_in("record", "scores", "tensorboard"),
    *("seed", "device", "threads", "learners", "out"),
)
"""Keys without a condition of their own; those of ``snn`` wherever the spiking learner is."""
