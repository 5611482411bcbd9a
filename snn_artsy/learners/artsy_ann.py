"""Artsy with ANN sub-networks and ANN gates (arXiv 2410.05899)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig, GateConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training, sizes
from snn_artsy.learners.gates import ClassGates, MLPGate, train_gate
from snn_artsy.learners.prototypes import GatedPrototypes, class_means, cosine_scores
from snn_artsy.learners.replay import Replay
from snn_artsy.learners.state import modules, set_generator, under
from snn_artsy.learners.subnetworks import (
    Build,
    HeadAdapter,
    SubNetwork,
    begun,
    drawn_from,
    mean_answers,
    n_parameters,
    n_products,
    rebuilt,
    shown,
    states,
    train,
)
from snn_artsy.learners.tasks import take
from snn_artsy.learners.thresholds import GateThresholds

Ablation = Literal["none", "no_gates", "e0", "subnetworks", "gate_alone"]
"""``no_gates``: every m_t = 1; ``e0``: every m_t = 0, so z = h_0; ``subnetworks``: z without h_0;
``gate_alone``: the task with the largest S_t - thr_t, and z = h_0 among its classes alone. They
differ in the answer alone, not in what is learnt."""


class ArtsyANN(Learner):
    """z = h_0 + sum_t m_t h_t with h_t a sub-network and m_t = 1[S_t > thr_t], S_t an MLP.

    Gate t learns *good* features (task t's) against *bad* ones (other tasks'): real for the current
    task, replayed for tasks that are gone. When a task arrives, older gates are refreshed against
    it the same way (our definition). Only sub-networks whose gate is open are computed, sample by
    sample.

    Args:
        config, gate: Parameters.
        build: Makes sub-networks.
        replay: Stand-ins for the data of tasks that are gone.
        class_gates: S_t in place of the MLPs.
    """

    def __init__(
        self,
        config: ANNConfig,
        gate: GateConfig,
        build: Build,
        replay: Replay,
        dim: int,
        device: str,
        seed: int,
        ablation: Ablation = "none",
        class_gates: ClassGates | None = None,
    ) -> None:
        self.ablation, self.class_gates = ablation, class_gates
        self.config, self.gate_config, self.dim, self.device = config, gate, dim, device
        self.build, self.replay = build, replay
        self.generator = torch.Generator().manual_seed(seed)
        self.of_networks = drawn_from(config, seed, self.generator)
        self.networks: list[SubNetwork] = []
        self.gates: list[MLPGate] = []
        self.thresholds = GateThresholds(gate)
        self.prototypes = GatedPrototypes()
        self.classes_per_task: list[int] = []

    def learn(self, task: Task) -> None:
        network = begun(self.build, self.networks, self.config, self.of_networks)
        train(network, task, self.config, self.of_networks)
        self.networks.append(network)
        replayed = self._replayed(task.number)
        self.replay.add_task(task.train)
        self._learn_gates(task)
        features, labels, _ = all_training(task)
        self.classes_per_task.append(len(task.classes))
        means = []
        for t, network in enumerate(self.networks):
            rows = shown(task, t, task.number, self.config)
            means.append(mean_answers(network, task, features, labels, rows))
        self.prototypes.add(class_means(features, labels, task.classes), means, replayed)
        self._calibrate(task)

    def predict(self, batch: Batch) -> Prediction:
        with torch.no_grad():
            calibrated = self.thresholds.calibrated(self._gate_scores(batch.features))
            gates = calibrated > 0
            if batch.true_task is not None:
                tasks = torch.arange(len(self.networks), device=gates.device)
                gates = batch.true_task[:, None] == tasks
            if self.ablation == "gate_alone":
                return self._from_the_gate_alone(batch, calibrated)
            if self.ablation in ("no_gates", "e0"):
                gates = torch.full_like(gates, self.ablation == "no_gates")
            gained = batch.features.new_zeros(len(batch), len(self.networks), self.dim)
            for t, network in enumerate(self.networks):
                # the sub-network of a gate that is shut is not computed
                if gates[:, t].any():
                    gained[gates[:, t], t] = network.answer(take(batch, gates[:, t]))
            with_h0 = self.ablation != "subnetworks"
            classes = self.prototypes.scores(batch.features, gates, gained, with_h0)
            norm, shut = self.prototypes.effect(batch.features, gates, gained)
        own = torch.tensor([n.vit_passes for n in self.networks], device=gates.device)
        passes = 1 + (gates * own).sum(1)  # one for h_0, which the gates see
        operations = self._operations(gates)
        if self.ablation in ("no_gates", "e0"):  # nothing is gated
            return Prediction(classes, None, None, None, passes, operations, norm, shut)
        return Prediction(classes, calibrated, gates, None, passes, operations, norm, shut)

    def _from_the_gate_alone(self, batch: Batch, calibrated: Tensor) -> Prediction:
        """Answer within the task of the best gate: all other classes rank behind its own."""
        assert self.prototypes.base is not None
        cosines = cosine_scores(batch.features, self.prototypes.base)
        task = calibrated.argmax(1) if batch.true_task is None else batch.true_task
        tasks = torch.arange(len(self.networks), device=task.device)
        only = tasks == task[:, None]
        # cosines differ by 2 at most
        own = only.repeat_interleave(task.new_tensor(self.classes_per_task), 1)
        operations = self._operations(torch.zeros_like(only))
        return Prediction(cosines + 3.0 * own, calibrated, only, operations=operations)

    def state_dict(self) -> dict[str, Tensor]:
        state = self.prototypes.state_dict() | self.thresholds.state_dict() | states(self.networks)
        for t, gate in enumerate(self.gates):
            state |= under(f"gates.{t}.", gate.state_dict())
        if self.ablation == "gate_alone":  # which answers within a task
            state["classes"] = torch.tensor(self.classes_per_task, dtype=torch.int64)
        return state | ({} if self.class_gates is None else self.class_gates.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.networks = rebuilt(self.build, state)
        self.gates = []
        for own in modules(state, "gates."):
            gate = MLPGate(self.dim, self.config, torch.Generator()).to(self.device)
            gate.load_state_dict(own)
            self.gates.append(gate)
        if self.class_gates is not None:
            self.class_gates.load_state_dict(state)
        self.thresholds.load_state_dict(state)
        self.prototypes.load_state_dict(state)
        if self.ablation == "gate_alone":
            self.classes_per_task = state["classes"].tolist()

    def checkpoint(self) -> dict[str, Tensor]:
        state = self.state_dict() | self.thresholds.checkpoint() | self.replay.checkpoint()
        if self.class_gates is not None:
            state |= self.class_gates.checkpoint()
        generators = {"generator": self.generator, "of_networks": self.of_networks}
        return state | {name: each.get_state() for name, each in generators.items()}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        if self.class_gates is not None:
            self.class_gates.restore(state)
        self.thresholds.restore(state)
        self.replay.restore(state, (task.train for task in tasks))
        self.classes_per_task = [len(task.classes) for task in tasks]
        set_generator(self.generator, state["generator"])
        set_generator(self.of_networks, state["of_networks"])

    def report(self) -> dict[str, Any]:
        trained = sum(p.numel() for gate in self.gates for p in gate.parameters())
        report = sizes(trained + n_parameters(self.networks), self.state_dict())
        report["stored_parameters"] += self.replay.stored_parameters()
        report["stored_bytes"] += self.replay.stored_bytes()
        return report

    def _replayed(self, t: int) -> Tensor | None:
        """Mean h_t of the new sub-network over stand-ins for each older class; None without any
        that it can answer (features without images, for adapters in the blocks)."""
        if t == 0:
            return None
        old = self.replay.batch(list(range(t)), purpose=4)
        network = self.networks[t]
        if len(old) == 0 or (network.vit_passes and old.load_tokens is None):
            return None
        classes = tuple(old.labels.unique().tolist())
        if isinstance(network, HeadAdapter):
            return network.mean_answers(old.features, old.labels, classes)
        with torch.no_grad():
            return class_means(network.answer(old), old.labels, classes)

    def _gate_scores(self, features: Tensor) -> Tensor:
        if self.class_gates is not None:
            return self.class_gates.scores(features)
        with torch.no_grad():
            return torch.stack([gate(features) for gate in self.gates], dim=1)

    def _operations(self, gates: Tensor) -> Tensor | None:
        """Multiply-accumulates of the MLP gates and of the sub-networks behind open ones, [B]; not
        counted for other gates, and in the blocks, where passes of the ViT cost more."""
        if self.class_gates is not None or any(n.vit_passes for n in self.networks):
            return None
        of_gates = (
            0
            if self.ablation in ("no_gates", "e0")
            else sum(n_products(gate) for gate in self.gates)
        )
        behind = torch.tensor([n_products(net) for net in self.networks], device=gates.device)
        return of_gates + (gates * behind).sum(1).float()

    def _learn_gates(self, task: Task) -> None:
        t, real = task.number, task.train.features
        if self.class_gates is not None:
            features, labels, _ = all_training(task)  # nothing is chosen on validation samples
            self.class_gates.add_task(features, labels)
            return
        gate = MLPGate(self.dim, self.config, self.generator).to(self.device)
        self.gates.append(gate)
        self._train_gate(gate, real, self.replay.batch(list(range(t)), purpose=1).features)
        for u in range(t):
            good = self.replay.batch([u], purpose=2).features
            self._train_gate(self.gates[u], good, real)

    def _train_gate(self, gate: MLPGate, good: Tensor, bad: Tensor) -> None:
        """Train a gate on the kinds of features that ``gate.features`` names."""
        wanted = self.gate_config.features
        if wanted == "both" and (len(good) == 0 or len(bad) == 0):
            return  # one kind alone would only teach it to be open, or shut
        good = good if wanted in ("both", "good") else good[:0]
        bad = bad if wanted in ("both", "bad") else bad[:0]
        train_gate(gate, good, bad, self.config, self.generator)

    def _calibrate(self, task: Task) -> None:
        """Gates change with every task, so all thresholds are found anew: real validation features
        of the current task, stand-ins for the others."""
        t = task.number
        self.thresholds = GateThresholds(self.gate_config)
        if self.class_gates is not None:
            self.thresholds.fixed(t + 1)
            return
        own = {
            u: self._gate_scores(self.replay.batch([u], purpose=3).features) for u in range(t)
        } | {t: self._gate_scores(task.validation.features)}
        for gate in range(t + 1):
            others = [scores[:, gate] for u, scores in own.items() if u != gate]
            bad = torch.cat([own[t].new_zeros(0), *others])
            good = own[gate][:, gate]
            # without replay nothing is known of an old task: its gate keeps the newest data as bad
            self.thresholds.add_task(good if len(good) else own[t][:, gate], bad)
        self.thresholds.refresh()
