"""How the learners of this package are built: a function for each name of the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, TypeVar

import torch

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import ConfigError
from snn_artsy.config import ANNConfig, FinetuneConfig, MemoryConfig, RunConfig
from snn_artsy.learners.aper import APERAdapter
from snn_artsy.learners.artsy_ann import Ablation, ArtsyANN
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Learner
from snn_artsy.learners.code_means import BinaryMean, WhitenedNCM
from snn_artsy.learners.derpp import DarkExperienceReplay
from snn_artsy.learners.ease import EASE
from snn_artsy.learners.er import ExperienceReplay
from snn_artsy.learners.finetune import Finetune
from snn_artsy.learners.gates import ClassGates, DiscriminantGates, RidgeGates
from snn_artsy.learners.icarl import ICaRL
from snn_artsy.learners.joint import JointProbe
from snn_artsy.learners.mean_field import MeanField
from snn_artsy.learners.opened_evidence import OpenedEvidence
from snn_artsy.learners.ranpac import RanPAC
from snn_artsy.learners.replay import Exemplars, Replay, build_replay
from snn_artsy.learners.shelf import Shelf
from snn_artsy.learners.simplecil import SimpleCIL
from snn_artsy.learners.spiking_gates import SpikingGates
from snn_artsy.learners.subnetworks import Build, builder
from snn_artsy.learners.wake_and_sleep import Control, TaughtSubnetworks
from snn_artsy.observer import SynapseObserver
from snn_artsy.registry import LEARNERS

Trained = TypeVar("Trained", FinetuneConfig, MemoryConfig)


@dataclass(frozen=True)
class Setting:
    """What every learner is built from.

    Args:
        config: The run's configuration.
        dim: D, the size of h_0.
        device: Where tensors live.
        observer: Receives reports of what happens in the synapses.
        backbone: E_0 itself, for adapters in its blocks (``ann.placement: blocks``).
        shelf: Shared by learners on the same images, so that they train equal adapters once.
        options: Options of a learner that was added with a class of them (`snn_artsy.registry`).
    """

    config: RunConfig
    dim: int
    device: str
    observer: SynapseObserver | None = None
    backbone: FrozenBackbone | None = None
    options: Any = None
    shelf: Shelf | None = None

    @property
    def seed(self) -> int:
        return self.config.seed

    def subnetworks(self, ann: ANNConfig | None = None) -> Build:
        return builder(ann or self.config.ann, self.dim, self.device, self.backbone, self.shelf)

    def replay(self) -> Replay:
        needs_images = self.config.ann.placement == "blocks" and self.backbone is not None
        image_bytes = prod(self.backbone.input_size) if needs_images else 0  # type: ignore[union-attr]
        return build_replay(self.config.gate, self.seed, image_bytes)

    def exemplars(self) -> Exemplars | None:
        """What keeps samples of old tasks, with ``gate.replay: exemplars``."""
        replay = self.replay()
        return replay if isinstance(replay, Exemplars) else None


def build(name: str, setting: Setting) -> Learner:
    """The learner that is chosen by ``name``, with its own options."""
    options = getattr(setting.config, name, None)
    learner: Learner = LEARNERS[name](replace(setting, options=options))
    check_stream(name, learner, setting.config)
    return learner


REVISITING = ("simplecil", "finetune_linear", "finetune_adapter", "joint", "er", "derpp")
"""Learners of this package that may take part in an online stream."""


def check_stream(name: str, learner: Learner | type[Learner], config: RunConfig) -> None:
    """Refuse a learner that cannot take part in an online stream (:class:`ConfigError`)."""
    if config.data.stream == "online" and not learner.revisits:
        raise ConfigError(
            "learners",
            f"takes a task's classes to be new, but with data.stream online images of earlier ones "
            f"come back; choose from {', '.join(REVISITING)}",
            name,
        )


def once(s: Setting, trained: Trained) -> Trained:
    """What is learnt by gradient descent, with one epoch where each image comes once."""
    return replace(trained, epochs=1) if s.config.data.stream == "online" else trained


def simplecil(s: Setting) -> SimpleCIL:
    return SimpleCIL()


def finetune_linear(s: Setting) -> Finetune:
    return Finetune(once(s, s.config.finetune), s.dim, s.device, s.seed)


def joint(s: Setting) -> JointProbe:
    return JointProbe(s.config.joint, s.dim, s.device)


def er(s: Setting) -> ExperienceReplay:
    return ExperienceReplay(once(s, s.config.memory), s.dim, s.device, s.seed)


def derpp(s: Setting) -> DarkExperienceReplay:
    memory = once(s, s.config.memory)
    return DarkExperienceReplay(memory, s.config.derpp, s.dim, s.device, s.seed)


def icarl(s: Setting) -> ICaRL:
    return ICaRL(s.config.memory, s.dim, s.device, s.seed)


def build_snn(s: Setting, control: Control = "none") -> TaughtSubnetworks:
    """Artsy (SNN), with spiking gates of adapters in the blocks where it is asked for, or one of
    its controls."""
    c = s.config
    if c.snn.mode == "gate" and c.ann.placement == "blocks":
        networks, kept = s.subnetworks(), s.exemplars()
        opened = OpenedEvidence(c.artsy_best, c.ann, networks, s.device, s.seed, kept)
        assert s.backbone is not None  # or else there would be no sub-networks
        own = (s.backbone, s.dim, s.device, s.seed, s.observer, control)
        return SpikingGates(c.snn, c.gate, opened, *own)
    return ArtsySNN(c.snn, c.ann, c.gate, s.dim, s.device, s.seed, s.observer, control)


def artsy_ann(s: Setting, ablation: Ablation = "none") -> ArtsyANN:
    """Artsy (ANN), or an ablation of it."""
    c = s.config
    networks, replay = s.subnetworks(), s.replay()
    return ArtsyANN(c.ann, c.gate, networks, replay, s.dim, s.device, s.seed, ablation)


artsy_ann_no_gates = partial(artsy_ann, ablation="no_gates")
artsy_ann_e0 = partial(artsy_ann, ablation="e0")
artsy_ann_subnetworks = partial(artsy_ann, ablation="subnetworks")
artsy_ann_gate_alone = partial(artsy_ann, ablation="gate_alone")


def _with_class_gates(s: Setting, gates: ClassGates, scale: float) -> ArtsyANN:
    c = s.config
    # Adapters in the blocks keep the scale that they were configured with, whatever the gates.
    ann = replace(c.ann, scale=scale) if c.ann.placement == "head" else c.ann
    networks, replay = s.subnetworks(ann), s.replay()
    return ArtsyANN(ann, c.gate, networks, replay, s.dim, s.device, s.seed, class_gates=gates)


def artsy_ann_lda(s: Setting) -> ArtsyANN:
    """Artsy (ANN) with discriminant gates."""
    gates = DiscriminantGates(s.config.artsy_lda.shrinkage)
    return _with_class_gates(s, gates, s.config.artsy_lda.scale)


def artsy_ann_ridge(s: Setting) -> ArtsyANN:
    """Artsy (ANN) with gates from a ridge regression on random features."""
    generator = torch.Generator().manual_seed(s.seed)
    gates = RidgeGates(s.dim, s.config.artsy_ridge.projection, generator, s.device)
    return _with_class_gates(s, gates, s.config.artsy_ridge.scale)


def artsy_best(s: Setting) -> ArtsyBest:
    """Artsy (ANN) with gates by class evidence, which the answer uses."""
    c, networks = s.config, s.subnetworks()
    own = (s.device, s.seed, s.exemplars(), s.backbone)
    return ArtsyBest(c.artsy_best, c.ann, networks, *own)


def whitened_ncm(s: Setting) -> WhitenedNCM:
    return WhitenedNCM(s.config.snn.encoding)


def binary_mean(s: Setting) -> BinaryMean:
    return BinaryMean(s.config.snn, s.dim, s.seed, [s.config.binary_mean.share])


def nested_mean(s: Setting) -> BinaryMean:
    """Nested binary means, whose shares are spread evenly between 0 and 1."""
    n = s.config.nested_mean.levels
    return BinaryMean(s.config.snn, s.dim, s.seed, [(k + 1) / (n + 1) for k in range(n)])


def mean_field(s: Setting) -> MeanField:
    return MeanField(s.config.snn, s.config.gate, s.dim, s.device, s.seed)


def finetune_adapter(s: Setting) -> Finetune:
    """Sequential fine-tuning of one adapter that all tasks share."""
    return Finetune(once(s, s.config.finetune), s.dim, s.device, s.seed, s.subnetworks())


def aper_adapter(s: Setting) -> APERAdapter:
    return APERAdapter(s.config.ann, s.subnetworks(), s.dim, s.device, s.seed)


def ease(s: Setting) -> EASE:
    return EASE(s.config.ease, s.config.ann, s.subnetworks(), s.seed)


def ranpac(s: Setting) -> RanPAC:
    c = s.config
    return RanPAC(c.ranpac, c.ann, s.subnetworks(), s.dim, s.device, s.seed)
