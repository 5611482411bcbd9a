"""Artsy with ANN sub-networks and ANN gates (arXiv 2410.05899), placement ``head``."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from snn_artsy.config import ANNConfig, GateConfig
from snn_artsy.learners.adapter import HeadAdapter, MLPGate, train_adapter, train_gate
from snn_artsy.learners.base import Batch, Prediction, Task, all_training, sizes
from snn_artsy.learners.gating import ClassGaussians, DiscriminantGates, GateThresholds
from snn_artsy.learners.prototypes import GatedPrototypes, class_means

Ablation = Literal["none", "no_gates", "e0", "subnetworks"]
"""``no_gates``: every m_t = 1; ``e0``: every m_t = 0, so z = h_0; ``subnetworks``: z without h_0.
They differ in the answer alone, not in what is learnt."""


class ArtsyANN:
    """z = h_0 + sum_t m_t h_t with h_t an adapter on h_0 and m_t = 1[S_t > thr_t], S_t an MLP.

    Gate t learns *good* features (task t's) against *bad* ones (other tasks'): real for the current
    task, Gaussian pseudo-features for tasks that are gone. When a task arrives, older gates are
    refreshed against it the same way (our definition).

    Args:
        discriminant: S_t in place of the MLPs.
    """

    def __init__(
        self,
        config: ANNConfig,
        gate: GateConfig,
        dim: int,
        device: str,
        seed: int,
        ablation: Ablation = "none",
        discriminant: DiscriminantGates | None = None,
    ) -> None:
        self.ablation, self.discriminant = ablation, discriminant
        self.config, self.dim, self.device = config, dim, device
        self.generator = torch.Generator().manual_seed(seed)
        self.adapters: list[HeadAdapter] = []
        self.gates: list[MLPGate] = []
        self.gaussians = ClassGaussians(gate, seed)
        self.thresholds = GateThresholds()
        self.prototypes = GatedPrototypes()

    def learn(self, task: Task) -> None:
        config, generator = self.config, self.generator
        t, train = task.number, task.train
        adapter = HeadAdapter(self.dim, config, generator).to(self.device)
        train_adapter(adapter, train.features, train.labels, task.classes, config, generator)
        self.adapters.append(adapter)
        replayed = self._replayed(t)
        self._learn_gates(task)
        features, labels, _ = all_training(task)
        with torch.no_grad():
            gained = [class_means(a(features), labels, task.classes) for a in self.adapters]
        self.prototypes.add(class_means(features, labels, task.classes), gained, replayed)
        self._calibrate(task)

    def predict(self, batch: Batch) -> Prediction:
        with torch.no_grad():
            scores = self._gate_scores(batch.features)
            calibrated = self.thresholds.calibrated(scores)
            gates = calibrated > 0
            if batch.true_task is not None:
                tasks = torch.arange(len(self.adapters), device=gates.device)
                gates = batch.true_task[:, None] == tasks
            if self.ablation in ("no_gates", "e0"):
                gates = torch.full_like(gates, self.ablation == "no_gates")
            gained = batch.features.new_zeros(len(batch), len(self.adapters), self.dim)
            for t, adapter in enumerate(self.adapters):
                # a silent gate's sub-network is not computed
                gained[gates[:, t], t] = adapter(batch.features[gates[:, t]])
            with_h0 = self.ablation != "subnetworks"
            classes = self.prototypes.scores(batch.features, gates, gained, with_h0)
        if self.ablation in ("no_gates", "e0"):
            return Prediction(classes)  # nothing is gated
        return Prediction(classes, calibrated, gates)

    def state_dict(self) -> dict[str, Tensor]:
        state = self.prototypes.state_dict() | self.thresholds.state_dict()
        for name, modules in (("adapters", self.adapters), ("gates", self.gates)):
            for t, module in enumerate(modules):
                state |= {f"{name}.{t}.{k}": v for k, v in module.state_dict().items()}
        return state | ({} if self.discriminant is None else self.discriminant.state_dict())

    def report(self) -> dict[str, Any]:
        modules: tuple[nn.Module, ...] = (*self.adapters, *self.gates)
        report = sizes(sum(p.numel() for m in modules for p in m.parameters()), self.state_dict())
        report["stored_parameters"] += self.gaussians.stored_parameters()
        report["stored_bytes"] += self.gaussians.stored_bytes()
        return report

    def _replayed(self, t: int) -> Tensor | None:
        """Mean h_t of the new adapter over pseudo-features of each older class."""
        if not self.gaussians.replays:
            return None
        pseudo = self.gaussians.sample(list(range(t)), purpose=4)
        with torch.no_grad():
            return self.gaussians.class_means_of(self.adapters[t](pseudo))

    def _gate_scores(self, features: Tensor) -> Tensor:
        if self.discriminant is not None:
            return self.discriminant.scores(features)
        with torch.no_grad():
            return torch.stack([gate(features) for gate in self.gates], dim=1)

    def _learn_gates(self, task: Task) -> None:
        t, real = task.number, task.train.features
        old = list(range(t))
        self.gaussians.add_task(real, task.train.labels)
        if self.discriminant is not None:
            features, labels, _ = all_training(task)  # nothing is chosen on validation samples
            self.discriminant.add_task(features, labels)
            return
        gate = MLPGate(self.dim, self.config, self.generator).to(self.device)
        self.gates.append(gate)
        train_gate(gate, real, self.gaussians.sample(old, purpose=1), self.config, self.generator)
        for u in old:
            good = self.gaussians.sample([u], purpose=2)
            train_gate(self.gates[u], good, real, self.config, self.generator)

    def _calibrate(self, task: Task) -> None:
        """Gates change with every task, so all thresholds are found anew: real validation features
        of the current task, pseudo-features of the others."""
        t = task.number
        self.thresholds = GateThresholds()
        if self.discriminant is not None:
            self.thresholds.fixed(t + 1)
            return
        pseudo = {u: self._gate_scores(self.gaussians.sample([u], purpose=3)) for u in range(t)}
        real = self._gate_scores(task.validation.features)
        own = pseudo | {t: real}
        for gate in range(t + 1):
            others = [scores[:, gate] for u, scores in own.items() if u != gate]
            bad = torch.cat([real.new_zeros(0), *others])
            good = own[gate][:, gate]
            # without replay nothing is known of an old task: its gate keeps the newest data as bad
            self.thresholds.add_task(good if len(good) else real[:, gate], bad)
        self.thresholds.refresh()
