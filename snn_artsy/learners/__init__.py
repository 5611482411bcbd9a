"""Continual learners: one short file each, one contract (base.py), built here by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from snn_artsy.config import RunConfig
from snn_artsy.learners.adapter import HeadAdapter
from snn_artsy.learners.aper import APERAdapter
from snn_artsy.learners.artsy_ann import Ablation, ArtsyANN
from snn_artsy.learners.artsy_snn import ArtsySNN, Control
from snn_artsy.learners.base import Learner
from snn_artsy.learners.ease import EASE
from snn_artsy.learners.finetune import Finetune
from snn_artsy.learners.gating import DiscriminantGates
from snn_artsy.learners.joint import JointProbe
from snn_artsy.learners.ranpac import RanPAC
from snn_artsy.learners.simplecil import SimpleCIL
from snn_artsy.learners.subspaces import Build
from snn_artsy.observer import SynapseObserver

Builder = Callable[[RunConfig, int, str, SynapseObserver | None], Learner]


def build_snn(
    config: RunConfig,
    dim: int,
    device: str,
    observer: SynapseObserver | None,
    control: Control = "none",
) -> ArtsySNN:
    """Artsy (SNN), or one of its controls."""
    return ArtsySNN(
        config.snn, config.ann, config.gate, dim, device, config.seed, observer, control
    )


def subnetworks_of(config: RunConfig, dim: int, device: str) -> Build:
    """Makes sub-networks as ``config.ann`` says, for every learner that adapts features."""
    return lambda generator: HeadAdapter(dim, config.ann, generator).to(device)


def artsy_ann(ablation: Ablation) -> Builder:
    """Artsy (ANN), or what is left of it without one of its parts."""
    return lambda config, dim, device, observer: ArtsyANN(
        config.ann, config.gate, dim, device, config.seed, ablation
    )


def artsy_ann_lda(
    config: RunConfig, dim: int, device: str, observer: SynapseObserver | None
) -> ArtsyANN:
    """Artsy (ANN) with discriminant gates."""
    ann = replace(config.ann, scale=config.artsy_lda.scale)
    gates = DiscriminantGates(config.artsy_lda.shrinkage)
    return ArtsyANN(ann, config.gate, dim, device, config.seed, discriminant=gates)


LEARNER_BUILDERS: dict[str, Builder] = {
    "simplecil": lambda config, dim, device, observer: SimpleCIL(),
    "finetune_linear": lambda config, dim, device, observer: Finetune(
        config.finetune, dim, device, config.seed
    ),
    "finetune_adapter": lambda config, dim, device, observer: Finetune(
        config.finetune, dim, device, config.seed, subnetworks_of(config, dim, device)
    ),
    "joint": lambda config, dim, device, observer: JointProbe(config.joint, dim, device),
    "aper_adapter": lambda config, dim, device, observer: APERAdapter(
        config.ann, subnetworks_of(config, dim, device), dim, device, config.seed
    ),
    "ease": lambda config, dim, device, observer: EASE(
        config.ease, config.ann, subnetworks_of(config, dim, device), config.seed
    ),
    "ranpac": lambda config, dim, device, observer: RanPAC(
        config.ranpac, config.ann, subnetworks_of(config, dim, device), dim, device, config.seed
    ),
    "artsy_ann": artsy_ann("none"),
    "artsy_ann_lda": artsy_ann_lda,
    "artsy_ann_no_gates": artsy_ann("no_gates"),
    "artsy_ann_e0": artsy_ann("e0"),
    "artsy_ann_subnetworks": artsy_ann("subnetworks"),
    "artsy_snn": build_snn,
}
"""How each learner is made: (configuration, D, device, observer) -> learner."""

__all__ = [
    "EASE",
    "LEARNER_BUILDERS",
    "APERAdapter",
    "ArtsyANN",
    "ArtsySNN",
    "Finetune",
    "JointProbe",
    "Learner",
    "RanPAC",
    "SimpleCIL",
    "build_snn",
]
