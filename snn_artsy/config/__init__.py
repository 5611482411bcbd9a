"""Typed configuration of a run: plain frozen dataclasses, checked when they are built.

Every check raises :class:`ConfigError`, whose text names the key, the value and the remedy.
Times are in ms, rates in Hz.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from snn_artsy.checks import ConfigError, require
from snn_artsy.config.contacts import ContactConfig
from snn_artsy.config.data import BackboneConfig, DataConfig
from snn_artsy.config.inhibition import InhibitionConfig
from snn_artsy.config.learners import (
    ANNConfig,
    BestGateConfig,
    BinaryMeanConfig,
    DERConfig,
    DiscriminantConfig,
    EaseConfig,
    FinetuneConfig,
    GateConfig,
    JointConfig,
    MemoryConfig,
    NestedMeanConfig,
    RanPACConfig,
    RidgeGateConfig,
)
from snn_artsy.config.plasticity import PlasticityConfig
from snn_artsy.config.record import POPULATIONS, RECORDED_SPLITS, TRACE_VARIABLES, RecordConfig
from snn_artsy.config.spiking import (
    EncodingConfig,
    ExpansionConfig,
    NeuronConfig,
    ReplayConfig,
    SNNConfig,
    TeacherConfig,
)
from snn_artsy.config_builder import convert, take_types
from snn_artsy.registry import LEARNERS

__all__ = [
    "DEFAULT_LEARNERS",
    "POPULATIONS",
    "RECORDED_SPLITS",
    "TRACE_VARIABLES",
    "ANNConfig",
    "BackboneConfig",
    "BestGateConfig",
    "BinaryMeanConfig",
    "ConfigError",
    "ContactConfig",
    "DERConfig",
    "DataConfig",
    "DiscriminantConfig",
    "EaseConfig",
    "EncodingConfig",
    "ExpansionConfig",
    "FinetuneConfig",
    "GateConfig",
    "InhibitionConfig",
    "JointConfig",
    "MemoryConfig",
    "NestedMeanConfig",
    "NeuronConfig",
    "PlasticityConfig",
    "RanPACConfig",
    "RecordConfig",
    "ReplayConfig",
    "RidgeGateConfig",
    "RunConfig",
    "SNNConfig",
    "TeacherConfig",
]

Device = Literal["auto", "cpu", "cuda"]
DEVICES = get_args(Device)
MAX_THREADS = 1024
"""More are a slip, and systems refuse to start them."""

MOST_SEEDS = 10_000
"""More are a slip; every one of them trains all learners of a comparison."""

DEFAULT_LEARNERS = ("simplecil", "artsy_ann", "artsy_snn")
"""Those of a run that names none."""


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads (:class:`ConfigError`) that no machine is asked for."""
    possible = threads is None or 1 <= threads <= MAX_THREADS
    require(possible, "threads", threads, f"use 1 to {MAX_THREADS}")


@dataclass(frozen=True)
class RunConfig:
    """One run: which images, which backbone, which learners, where to.

    A learner that was added with a class of options (`snn_artsy.registry`) has a section of its
    own, called as the learner, in the configuration of every run that it takes part in.

    Args:
        data: Images and tasks.
        backbone: The frozen vision transformer.
        ann: Artsy (ANN).
        snn: Artsy (SNN).
        gate: Thresholds and replay of the gates, shared by both.
        artsy_lda: Artsy (ANN) with discriminant gates.
        artsy_ridge: Artsy (ANN) with gates from a ridge regression.
        artsy_best: Artsy (ANN) with gates by class evidence, which the answer uses.
        finetune: Sequential fine-tuning of a linear head, or of one shared adapter.
        joint: Linear probe trained on all data seen so far.
        memory: Samples kept by experience replay, DER++ and iCaRL, and what rehearses them.
        derpp: DER++.
        binary_mean: Binarised class means of the spiking learner's code.
        nested_mean: The same at several shares.
        ease: EASE.
        ranpac: RanPAC.
        record: What goes into ``run.h5``.
        seed: Seed of everything random in the run, class order included.
        device: Where tensors live; ``auto`` takes a GPU when there is one.
        threads: Threads that the run computes with. Default: one, since learners on features work
            on small matrices; all cores for the extraction of features, and for learners that run
            the transformer themselves (``ann.placement: blocks``). A resumed run keeps its number.
        learners: Methods to compare, separated by commas, of ``simplecil``, ``finetune_linear``,
            ``finetune_adapter``, ``joint``, ``er``, ``derpp``, ``icarl``, ``aper_adapter``,
            ``ease``, ``ranpac``, ``artsy_ann``, ``artsy_ann_lda``, ``artsy_ann_ridge``,
            ``artsy_ann_no_gates``, ``artsy_ann_e0``, ``artsy_ann_subnetworks``,
            ``artsy_ann_gate_alone``, ``artsy_best``, ``whitened_ncm``, ``binary_mean``,
            ``nested_mean``, ``mean_field`` and ``artsy_snn``; or of your own, as ``module:Class``,
            which must be named on the command line (here or by ``--own``), registered, or
            installed.
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
    artsy_best: BestGateConfig = field(default_factory=BestGateConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    joint: JointConfig = field(default_factory=JointConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    derpp: DERConfig = field(default_factory=DERConfig)
    binary_mean: BinaryMeanConfig = field(default_factory=BinaryMeanConfig)
    nested_mean: NestedMeanConfig = field(default_factory=NestedMeanConfig)
    ease: EaseConfig = field(default_factory=EaseConfig)
    ranpac: RanPACConfig = field(default_factory=RanPACConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    seed: int = 1993
    device: Device = "auto"
    threads: int | None = None
    learners: list[str] = field(default_factory=lambda: list(DEFAULT_LEARNERS))
    controls: bool = False
    out: str | None = None

    def __new__(cls, *_: Any, **given: Any) -> RunConfig:
        """Make room for the sections of learners that take part or whose options are given."""
        names = [*convert(list[str], given.get("learners", []), "learners"), *given]
        added = {name: LEARNERS.options(name) for name in map(LEARNERS.name_of, names) if name}
        declared = {each.name: each.type for each in fields(cls) if each.name not in _DECLARED}
        return object.__new__(_with_sections(declared | {n: c for n, c in added.items() if c}))

    @classmethod
    def whole(cls) -> type[RunConfig]:
        """This class with the sections of all learners that were added or are installed."""
        return _with_sections(LEARNERS.all_options())

    @staticmethod
    def check_names(values: Mapping[str, Any]) -> None:
        """Refuse learners that are not known; their options are no keys then.

        Raises:
            ConfigError: One of them is neither part of the package, added, nor installed.
        """
        for name in convert(list[str], values.get("learners", []), "learners"):
            LEARNERS.require("learners", name)

    def __post_init__(self) -> None:
        take_types(self)
        pooled = self.gate.replay == "gaussian" and self.gate.covariance == "pooled"
        require(
            self.snn.encoding.statistics == "first" or pooled,
            "snn.encoding.statistics",
            self.snn.encoding.statistics,
            "they follow the Gaussians' shared covariance: use gate.replay gaussian and "
            "gate.covariance pooled",
        )
        require(
            self.snn.replay.epochs == 0 or self.gate.replay != "none",
            "snn.replay.epochs",
            self.snn.replay.epochs,
            "gate.replay is none, so that nothing is replayed: use gaussian or exemplars",
        )
        require(0 <= self.seed < 2**31, "seed", self.seed, "use 0 to 2147483647")
        check_threads(self.threads)
        require(
            bool(self.learners), "learners", self.learners, f"choose from {', '.join(LEARNERS)}"
        )
        names = [LEARNERS.require("learners", name) for name in self.learners]
        require(
            len(set(names)) == len(names),
            "learners",
            ",".join(self.learners),
            "name each learner once",
        )
        object.__setattr__(self, "learners", names)
        require(
            not self.artsy_best.grid or "artsy_best" not in names or self.ann.placement == "blocks",
            "artsy_best.grid",
            self.artsy_best.grid,
            "its means over parts of the image are made with ann.placement blocks alone: use that, "
            "or 0",
        )
        if self.out is not None:
            longest = max(len(os.fsencode(part)) for part in self.out.split(os.sep))
            require(longest <= 255, "out", self.out, "no part of a path may exceed 255 bytes")


def _with_sections(sections: Mapping[str, Any]) -> type[RunConfig]:
    """`RunConfig` with a section for each of these learners: the same class for the same ones."""
    return _extended(tuple(sorted(sections.items()))) if sections else RunConfig


@lru_cache(maxsize=64)
def _extended(sections: tuple[tuple[str, type], ...]) -> type[RunConfig]:
    more = [(name, options, field(default_factory=options)) for name, options in sections]
    return make_dataclass("RunConfig", more, bases=(RunConfig,), frozen=True)


_DECLARED = frozenset(each.name for each in fields(RunConfig))
LEARNERS.reserve([*_DECLARED, "grid"])
