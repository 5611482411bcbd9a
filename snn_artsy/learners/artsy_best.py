"""Artsy whose answer uses what its gates know: class evidence of gate and sub-networks combined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import ANNConfig, BestGateConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, sizes
from snn_artsy.learners.gates import PooledDiscriminants
from snn_artsy.learners.opened_evidence import OpenedEvidence
from snn_artsy.learners.replay import Exemplars
from snn_artsy.learners.subnetworks import Build, parts_of_images


class ArtsyBest(Learner):
    """Gates by class evidence on [h_0, h_0 + h_1], and the evidence of the opened sub-networks.

    The gates' discriminant (`DiscriminantGates`) sees h_0 and the first task's sub-network, the
    only one that was there when any class was; with ``grid`` another one sees what is where in the
    image, and their evidence is pooled (`PooledDiscriminants`). What they say of every class
    opens the likeliest tasks' sub-networks and is combined with theirs (`OpenedEvidence`). Kept are
    class means, scatters, discriminants and temperatures (our definition).

    Args:
        backbone: The frozen ViT, for ``grid``.

    Raises:
        ConfigError: The parts of ``grid`` cannot be had from what is kept of an image.
    """

    def __init__(
        self,
        config: BestGateConfig,
        ann: ANNConfig,
        build: Build,
        device: str,
        seed: int,
        exemplars: Exemplars | None = None,
        backbone: FrozenBackbone | None = None,
    ) -> None:
        self.config, self.backbone = config, backbone
        if config.grid:
            assert backbone is not None  # the configuration refuses sub-networks on h_0 with it
            backbone.require_grid(
                backbone.first_adapted(ann.blocks), config.grid, "artsy_best.grid"
            )
        self.gates = PooledDiscriminants(config.shrinkage, bool(config.grid), device)
        self.subnetworks = OpenedEvidence(config, ann, build, device, seed, exemplars)

    def learn(self, task: Task) -> None:
        self.subnetworks.train(task)
        train, held = self._seen(task.train), self._seen(task.validation)
        told = self.gates.add_task(train, task.train.labels, held, task.validation.labels)
        self.subnetworks.calibrate(task, told[0], beside=told[1])

    def predict(self, batch: Batch) -> Prediction:
        seen = self._seen(batch)
        # the first sub-network has been computed for the gates
        first = None if self._shut else seen[0].chunk(2, 1)[1]
        evidence, beside = self.gates.evidence(seen)
        return self.subnetworks.answer(batch, evidence, first, beside=beside)

    def _seen(self, batch: Batch) -> list[Tensor]:
        """What each of the gates' discriminants sees: [h_0, h_0 + h_1], [B, 2D], or h_0 where no
        sub-network may answer; and the image's parts, [B, grid^2 D]."""
        seen = [batch.features]
        if not self._shut:
            seen = [torch.cat([batch.features, self.subnetworks.first(batch)], dim=1)]
        if self.config.grid:
            assert self.backbone is not None
            seen.append(parts_of_images(batch, self.backbone, self.config.grid))
        return seen

    @property
    def _shut(self) -> bool:
        return self.subnetworks.config.gates == "shut"

    def state_dict(self) -> dict[str, Tensor]:
        return self.gates.state_dict() | self.subnetworks.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.gates.load_state_dict(state)
        self.subnetworks.load_state_dict(state)

    def checkpoint(self) -> dict[str, Tensor]:
        return self.gates.checkpoint() | self.subnetworks.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.gates.restore(state)
        self.subnetworks.restore(state, tasks)

    def report(self) -> dict[str, Any]:
        counted = sizes(self.subnetworks.n_parameters, self.state_dict())
        counted["temperature"] = self.subnetworks.temperature
        return self.subnetworks.with_exemplars(counted)
