"""Artsy with spiking silent synapses between the frozen ViT and each task's sub-network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig, GateConfig, SNNConfig
from snn_artsy.learners.base import Batch, LabelledBatch, Prediction, Task, all_training
from snn_artsy.learners.gates import less_the_others
from snn_artsy.learners.prototypes import class_means, means_of_answers
from snn_artsy.learners.replay import build_replay
from snn_artsy.learners.state import modules, under
from snn_artsy.learners.subnetworks import HeadAdapter, SubNetwork, begun, builder
from snn_artsy.learners.subnetworks import train as train_subnetwork
from snn_artsy.learners.thresholds import GateThresholds
from snn_artsy.learners.wake_and_sleep import Control, TaughtSubnetworks
from snn_artsy.observer import SynapseObserver


class ArtsySNN(TaughtSubnetworks):
    """Sub-network t: K postsynaptic neurons for each class of task t, joined to the ON/OFF units of
    h_0 by contacts that are born silent and unsilenced by NMDA-gated STDP during pairing.

    S_t is the largest class-assembly spike count of sub-network t; with the error-driven rule,
    whose assemblies compete across sub-networks, it is that count less the largest of the others,
    and thr_t = 0. In `mode: full` h_t is read out
    from the postsynaptic spikes by Hebbian weights: assembly c recalls the mean feature that it was
    paired with, h_t = readout * sum_c r_c (mean_c - mean), r_c its rate in [0, 1] less the
    sub-network's mean rate, rectified (lateral inhibition). In `mode: gate`
    h_t is an ANN adapter. The decision from spikes alone is the class with the largest count.

    Args:
        config, ann, gate: Parameters.
        dim: D.
        device: Where tensors live.
        seed: Of contacts, order of presentation and noise.
        observer: Receives reports of what happens; default: nobody does.
        control: A control experiment instead of the model.
    """

    def __init__(
        self,
        config: SNNConfig,
        ann: ANNConfig,
        gate: GateConfig,
        dim: int,
        device: str,
        seed: int,
        observer: SynapseObserver | None = None,
        control: Control = "none",
    ) -> None:
        super().__init__(config, build_replay(gate, seed), dim, device, seed, observer, control)
        self.ann, self.gate = ann, gate
        self.adapters: list[SubNetwork] = []
        self.thresholds = GateThresholds(gate)

    # --- learning ---------------------------------------------------------------------------------

    def learn(self, task: Task) -> None:
        t = task.number
        self._teach(task)
        features, labels, index = all_training(task)
        if self.config.mode == "gate":
            # a generator of its own, so that both modes draw the same contacts
            generator = torch.Generator().manual_seed(self.seed + t)
            build = builder(self.ann, self.dim, self.device)
            adapter = begun(build, self.adapters, self.ann, generator)
            train_subnetwork(adapter, task, self.ann, generator)
            self.adapters.append(adapter)
        means = self._mean_gained(features, index, "train", labels, task.classes)
        own = class_means(features, labels, task.classes)
        self.prototypes.add(own, list(means.unbind(1)), self._replayed(t))
        self._answer_anew(t)
        self._calibrate(task)
        self.probe.wait_for_spikes("test")

    def _replayed(self, t: int) -> Tensor | None:
        """Mean h_t of the new sub-network over stand-ins for each older class."""
        if t == 0:
            return None
        old = self.replay.batch(list(range(t)), purpose=4)
        if len(old) == 0:
            return None
        return self._mean_of_old(old, [t])[:, 0]

    def _answer_anew(self, t: int) -> None:
        """Mean answers to older classes, where sub-networks or their code changed since."""
        old = self.replay.batch(list(range(t)), purpose=4)
        if self.config.replay.epochs == 0 or len(old) == 0:
            return
        for u, anew in enumerate(self._mean_of_old(old).unbind(1)):
            means = self.prototypes.gained[u]
            self.prototypes.gained[u] = torch.cat([anew, means[len(anew) :]])

    def _mean_of_old(self, old: LabelledBatch, only: list[int] | None = None) -> Tensor:
        """`_mean_gained` by stand-ins for older classes."""
        number = torch.arange(len(old), device=old.index.device)
        classes = tuple(old.labels.unique().tolist())
        return self._mean_gained(old.features, number, "pseudo", old.labels, classes, only)

    def _mean_gained(
        self,
        features: Tensor,
        index: Tensor,
        split: str,
        labels: Tensor,
        classes: tuple[int, ...],
        only: list[int] | None = None,
    ) -> Tensor:
        """Mean h_t of each class, of every sub-network (or of ``only`` some): [C, N, D]."""

        def gained(rows: slice) -> Tensor:
            answers = self._responses(features[rows], index[rows], split, only)
            return self._gained(features[rows], answers, only)

        return means_of_answers(gained, labels, classes)

    def _calibrate(self, task: Task) -> None:
        """Thresholds of all gates, from this task's validation samples and others' stand-ins."""
        t, validation = task.number, task.validation
        if self.config.plasticity.rule == "error":
            self.thresholds.fixed(t + 1)
            return
        old = list(range(t))
        responses = self._responses(validation.features, validation.index, "validation")
        scores = self._gate_scores(responses)
        pseudo = self.replay.batch(old, purpose=3).features
        number = torch.arange(len(pseudo), device=pseudo.device)
        bad = self._gate_scores(self._responses(pseudo, number, "pseudo", only=[t]))[:, 0]
        self.thresholds.add_task(scores[:, t], bad)
        for u in old:
            self.thresholds.add_bad(u, scores[:, u])
        self.thresholds.refresh()

    # --- prediction -------------------------------------------------------------------------------

    def predict(self, batch: Batch) -> Prediction:
        operations: list[Tensor] = []
        responses = self._responses(
            batch.features, batch.index, batch.split, record=batch, operations=operations
        )
        calibrated = self.thresholds.calibrated(self._gate_scores(responses))
        gates = calibrated > 0
        if batch.true_task is not None:
            gates = batch.true_task[:, None] == torch.arange(len(self.layers), device=gates.device)
        gained = self._gained(batch.features, responses)
        scores = self.prototypes.scores(batch.features, gates, gained)
        norm, shut = self.prototypes.effect(batch.features, gates, gained)
        return Prediction(
            scores,
            calibrated,
            gates,
            self._decision(responses),
            operations=torch.cat(operations),
            added_norm=norm,
            shut_predicted=shut,
            spike_counts=self._spike_counts(responses),
        )

    def _gate_scores(self, responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """S_t of each sub-network: its largest assembly vote; 0 where it did not fire. [B, N].

        With the error-driven rule sub-networks inhibit each other, so that the strongest of the
        others is taken from it.
        """
        best = torch.stack(
            [
                torch.where(counts.sum(1) > 0, votes.max(1).values, 0.0)
                for votes, counts in responses
            ],
            dim=1,
        )
        if self.config.plasticity.rule != "error" or best.shape[1] == 1:
            return best
        return less_the_others(best)

    def _gained(
        self,
        features: Tensor,
        responses: list[tuple[Tensor, Tensor]],
        only: list[int] | None = None,
    ) -> Tensor:
        """h_t of every sub-network (or of ``only`` some), [B, N, D]."""
        chosen = range(len(self.layers)) if only is None else only
        if self.config.mode == "gate":
            with torch.no_grad():
                return torch.stack([self.adapters[t](features) for t in chosen], dim=1)
        k = self.config.neuron.per_class
        most = k * self.config.encoding.steps_shown
        rates = [counts.unflatten(1, (-1, k)).sum(2) / most for _, counts in responses]
        # lateral inhibition between a sub-network's assemblies: what all of them answer recalls
        # nothing
        rates = [(r - r.mean(1, keepdim=True)).clamp_min(0) for r in rates]
        recall = [self.recall[t] for t in chosen]
        return torch.stack(
            [self.config.readout * r @ m for r, m in zip(rates, recall, strict=True)], dim=1
        )

    def variant(self, config: SNNConfig, control: Control = "none") -> ArtsySNN:
        own = (self.ann, self.gate, self.dim, self.device, self.seed)
        return ArtsySNN(config, *own, control=control)

    # --- what is kept and reported ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        state = super().state_dict() | self.thresholds.state_dict()
        for t, adapter in enumerate(self.adapters):
            state |= under(f"adapters.{t}.", adapter.state_dict())
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.adapters = []
        for own in modules(state, "adapters."):
            adapter = HeadAdapter(self.dim, self.ann, torch.Generator()).to(self.device)
            adapter.load_state_dict(own)
            self.adapters.append(adapter.requires_grad_(False))
        self.thresholds.load_state_dict(state)

    def checkpoint(self) -> dict[str, Tensor]:
        return super().checkpoint() | self.thresholds.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        super().restore(state, tasks)
        self.thresholds.restore(state)

    def report(self) -> dict[str, Any]:
        report = super().report()
        trained = [p.numel() for a in self.adapters for p in a.parameters()]
        return report | {"parameters": report["n_contacts"] + sum(trained)}
