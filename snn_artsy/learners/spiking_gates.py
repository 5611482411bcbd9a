"""Artsy (SNN) with sub-networks in the ViT's blocks, which spiking silent synapses open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import GateConfig, SNNConfig
from snn_artsy.learners.base import Batch, LabelledBatch, Prediction, Task, all_training
from snn_artsy.learners.opened_evidence import OpenedEvidence
from snn_artsy.learners.prototypes import class_means, cosine_scores
from snn_artsy.learners.replay import build_replay
from snn_artsy.learners.state import below, under
from snn_artsy.learners.wake_and_sleep import Control, TaughtSubnetworks
from snn_artsy.observer import SynapseObserver


class SpikingGates(TaughtSubnetworks):
    """Silent synapses between the ViT's units and class assemblies, whose spikes open sub-networks.

    Contacts are taught as `ArtsySNN`'s are. The votes of all assemblies are the class evidence of
    the gates; the likeliest tasks' gates open if their own neurons fired, and what gates and opened
    sub-networks say is combined as in `ArtsyBest`. Where no neuron fires all gates are shut, and
    the nearest class mean of h_0 answers. The decision from spikes alone is the class with the most
    votes (our definition).

    Args:
        config: Of silent synapses; ``tap`` says what drives them.
        gate: Of what stands in for earlier tasks.
        subnetworks: Trained and asked.
        dim: D.
        device: Where tensors live.
        seed: Of contacts, order of presentation and noise.
        observer: Receives reports of what happens; default: nobody does.
        control: A control experiment instead of the model.
    """

    def __init__(
        self,
        config: SNNConfig,
        gate: GateConfig,
        subnetworks: OpenedEvidence,
        dim: int,
        device: str,
        seed: int,
        observer: SynapseObserver | None = None,
        control: Control = "none",
    ) -> None:
        replay, driving = build_replay(gate, seed), config.tapped(dim)
        super().__init__(config, replay, driving, device, seed, observer, control)
        self.gate, self.subnetworks, self.size = gate, subnetworks, dim

    def learn(self, task: Task) -> None:
        self.subnetworks.train(task)
        self._teach(task)
        features, labels, _ = all_training(task)
        self.prototypes.add(class_means(features, labels, task.classes), [])
        held = task.validation
        responses = self._responses(self.driven_by(held), held.index, held.split)
        self.subnetworks.calibrate(task, self._evidence(held, responses))
        self.probe.wait_for_spikes("test")

    def _training(self, task: Task) -> LabelledBatch:
        """Training samples alone: the evidence of the others must be that of new ones."""
        return replace(task.train, features=self.driven_by(task.train))

    def driven_by(self, batch: Batch) -> Tensor:
        """What drives the silent synapses: h_0 [B, D], or [h_0, h_0 + h_1], [B, 2D]."""
        if self.config.tap == "h0":
            return batch.features
        return torch.cat([batch.features, self.subnetworks.first(batch)], dim=1)

    def predict(self, batch: Batch) -> Prediction:
        shown: list[Tensor] = []
        seen = self.driven_by(batch)
        responses = self._responses(seen, batch.index, batch.split, record=batch, shown=shown)
        first = None if self.config.tap == "h0" else seen[:, self.size :]
        answer = self.subnetworks.answer(
            batch, self._evidence(batch, responses), first, self._fired(responses)
        )
        votes, operations = self._decision(responses), self._operations(shown)
        return replace(answer, spike_scores=votes, operations=operations)

    def _evidence(self, batch: Batch, responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Votes for every class so far, and of a silent network cosines of h_0 with class means,
        float64 [B, C]."""
        votes = torch.cat([votes for votes, _ in responses], dim=1).double()
        assert self.prototypes.base is not None
        without = cosine_scores(batch.features, self.prototypes.base).double()
        if self.subnetworks.config.gates == "shut":
            return without
        return torch.where(self._fired(responses).any(1)[:, None], votes, without)

    @staticmethod
    def _fired(responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Sub-networks whose neurons fired, bool [B, N]."""
        return torch.stack([counts.sum(1) > 0 for _, counts in responses], dim=1)

    def variant(self, config: SNNConfig, control: Control = "none") -> SpikingGates:
        """Sub-networks do not depend on what opens them, so that each is trained once for all."""
        shared, own = self.subnetworks.sharing(), (self.size, self.device, self.seed)
        return SpikingGates(config, self.gate, shared, *own, control=control)

    # --- what is kept and reported ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | under("opened.", self.subnetworks.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.subnetworks.load_state_dict(below(state, "opened."))

    def checkpoint(self) -> dict[str, Tensor]:
        return super().checkpoint() | under("opened.", self.subnetworks.checkpoint())

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        super().restore(state, tasks)
        self.subnetworks.restore(below(state, "opened."))

    def report(self) -> dict[str, Any]:
        report, opened = super().report(), self.subnetworks
        parameters = report["n_contacts"] + opened.n_parameters
        return report | {"parameters": parameters, "temperature": opened.temperature}
