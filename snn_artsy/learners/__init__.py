"""Continual learners: one short file each, one contract (base.py), built here by name."""

from __future__ import annotations

from collections.abc import Callable

from snn_artsy.config import RunConfig
from snn_artsy.learners.artsy_ann import ArtsyANN
from snn_artsy.learners.artsy_snn import ArtsySNN, Control
from snn_artsy.learners.base import Learner
from snn_artsy.learners.simplecil import SimpleCIL
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


LEARNER_BUILDERS: dict[str, Builder] = {
    "simplecil": lambda config, dim, device, observer: SimpleCIL(),
    "artsy_ann": lambda config, dim, device, observer: ArtsyANN(
        config.ann, config.gate, dim, device, config.seed
    ),
    "artsy_snn": build_snn,
}
"""How each learner is made: (configuration, D, device, observer) -> learner."""

__all__ = ["LEARNER_BUILDERS", "ArtsyANN", "ArtsySNN", "Learner", "SimpleCIL", "build_snn"]
