"""Baselines of the spiking learner: class means of its input, without spikes or plasticity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snn_artsy.config import EncodingConfig, SNNConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training
from snn_artsy.learners.prototypes import class_means
from snn_artsy.learners.state import listed
from snn_artsy.synapses.encoding import FeatureScaling, SpikeEncoder, fit_scaling
from snn_artsy.synapses.expansion import build_expansion
from snn_artsy.synapses.pairing import reading_schedule


class WhitenedNCM(Learner):
    """Nearest class mean of zeta, the features as the spiking learner scales them (eq. 2), with
    the statistics of task 1 throughout.

    The score ``zeta . m_c - |m_c|^2 / 2`` orders classes as the distance ``|zeta - m_c|`` does.

    Args:
        encoding: Encoding of the spiking learner.
    """

    def __init__(self, encoding: EncodingConfig) -> None:
        self.encoding = encoding
        self.scaling: FeatureScaling | None = None
        self.means: list[Tensor] = []  # of each task's classes

    def learn(self, task: Task) -> None:
        if self.scaling is None:
            self.scaling = fit_scaling(task.train.features, task.train.labels, self.encoding)
        features, labels, _ = all_training(task)
        self.means.append(class_means(self._code(features), labels, task.classes))

    def predict(self, batch: Batch) -> Prediction:
        means = torch.cat(self.means)
        return Prediction(self._code(batch.features) @ means.T - 0.5 * means.square().sum(1))

    def _code(self, features: Tensor) -> Tensor:
        """The code that is averaged: [n, D] -> [n, n_units]."""
        assert self.scaling is not None
        return self.scaling(features)

    def state_dict(self) -> dict[str, Tensor]:
        if self.scaling is None:
            return {}
        state = {"scaling.mean": self.scaling.mean, "scaling.matrix": self.scaling.matrix}
        return state | super().state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scaling = FeatureScaling(state["scaling.mean"], state["scaling.matrix"])
        self.means = listed(state, "means.")

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)


class BinaryMean(WhitenedNCM):
    """Class means of the code p (eq. 4, or 4c), the units with the largest ones set to 1, the
    others to 0; the score is the dot product with p.

    With several shares the binary means are nested, and their scores are added: each unit has one
    of a few weights.

    Args:
        config: Of the spiking learner.
        dim: D.
        seed: Of the spiking learner, whose expansion layer it shares.
        shares: Of the units that are set to 1.
    """

    def __init__(self, config: SNNConfig, dim: int, seed: int, shares: Sequence[float]) -> None:
        super().__init__(config.encoding)
        expansion = build_expansion(config.expansion, 2 * dim, seed)
        schedule = reading_schedule(config.encoding)
        self.encoder = SpikeEncoder(config.encoding, schedule, expansion)
        self.shares = shares

    def predict(self, batch: Batch) -> Prediction:
        means = torch.cat(self.means)
        rank = means.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        count = [round(share * means.shape[1]) for share in self.shares]
        weights = torch.stack([(rank < n).to(means) for n in count]).sum(0)
        return Prediction(self._code(batch.features) @ weights.T)

    def _code(self, features: Tensor) -> Tensor:
        return self.encoder.drive(super()._code(features))
