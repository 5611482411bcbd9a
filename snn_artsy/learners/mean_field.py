"""Artsy (SNN) without a spike: expected occupancy, the control of every claim for spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import GateConfig, SNNConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task, sizes
from snn_artsy.learners.replay import NoReplay, build_replay
from snn_artsy.learners.sleep import SLEEP, changing_asleep, passes
from snn_artsy.learners.spiking_subnetworks import (
    next_scaling,
    spiking_subnetwork,
    state_of,
    training_of,
)
from snn_artsy.learners.state import modules, set_generator
from snn_artsy.rules import TripletSTDP
from snn_artsy.synapses.encoding import FeatureScaling, SpikeEncoder
from snn_artsy.synapses.expansion import build_expansion
from snn_artsy.synapses.expectation import chances, pair_in_the_mean, require_linear
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import each_taught, make_schedule, reading_schedule

_AT_ONCE = 256  # samples that are answered together


class MeanField(Learner):
    """The spiking learner with every spike train replaced by its mean.

    Configuration, images, order, batches, replay, states and thresholds are those of `ArtsySNN`;
    contacts take the expected change of each batch (docs/model.md, eq. 18 and 19b), with the
    error-driven rule that of expected traces and of a softmax in place of its drawn winners (19d to
    19f). The answer is the assemblies' mean dendritic potential (19e) under the mean input: one-bit
    contacts, balanced and normalised as in (7) and (8). Nothing is drawn but the contacts that
    exist, the order of images and the stand-ins that are replayed.

    Args:
        config, gate: Of the spiking learner.
        dim: D.
        device: Where tensors live.
        seed: Of contacts, order and stand-ins.

    Raises:
        ConfigError: A rule, code or option whose mean is not known.
    """

    def __init__(
        self, config: SNNConfig, gate: GateConfig, dim: int, device: str, seed: int
    ) -> None:
        _require_known(config)
        self.config, self.dim, self.device = config, dim, device
        self.schedule = make_schedule(config.encoding, config.teacher, config.neuron.per_class)
        expansion = build_expansion(config.expansion, 2 * dim, seed)
        self.encoder = SpikeEncoder(config.encoding, self.schedule, expansion)
        self.reading = reading_schedule(config.encoding)
        self.generator = torch.Generator().manual_seed(seed)
        replays = config.replay.epochs or config.encoding.statistics == "seen"
        self.replay = build_replay(gate, seed) if replays else NoReplay()
        self.scaling: FeatureScaling | None = None
        self.layers: list[SilentSynapseLayer] = []

    def learn(self, task: Task) -> None:
        train, plasticity = training_of(task, self.config), self.config.plasticity
        self.scaling = next_scaling(self.scaling, train, self.replay, self.config)
        self._add_subnetwork(len(task.classes))
        newest = [len(self.layers) - 1]
        for epoch in range(plasticity.epochs):
            order = torch.randperm(len(train), generator=self.generator).to(self.device)
            for rows in order.split(plasticity.batch_size):
                corrected = plasticity.rule == "error" and epoch > 0
                self._show(train.features[rows], train.labels[rows], newest, corrected)
        self.replay.add_task(train)
        self._sleep(task.number)
        if self.config.contacts.capture and plasticity.rule != "none":
            for u in changing_asleep(len(self.layers), self.config.replay):
                self.layers[u].capture()

    def _add_subnetwork(self, n_classes: int) -> None:
        layer = spiking_subnetwork(self.config, self.dim, n_classes, self.layers, self.generator)
        self.layers.append(layer.to(self.device))

    def _sleep(self, t: int) -> None:
        """Replay as `ArtsySNN` does it, with mean trains."""
        replay = self.config.replay
        if replay.epochs == 0 or self.layers[t].rule is None:
            return
        changing = changing_asleep(len(self.layers), self.config.replay)
        for u in changing[:-1]:
            self.layers[u].labilise()
        for nth, corrected in passes([self.layers[u] for u in changing], replay, t):
            shown = self.replay.batch(list(range(t + 1)), purpose=SLEEP + nth, mirrored=True)
            order = torch.randperm(len(shown), generator=self.generator).to(self.device)
            for rows in order.split(replay.batch_size):
                self._show(shown.features[rows], shown.labels[rows], changing, corrected)

    def _show(self, features: Tensor, labels: Tensor, changing: list[int], corrected: bool) -> None:
        """Teach some sub-networks; ``corrected`` subtracts what all of them predict."""
        pre = self._arriving(chances(self.config.encoding, self.schedule, self._drive(features)))
        foreseen = self._foreseen(pre) if corrected else None
        k = self.config.neuron.per_class
        for u in changing:
            n = self.layers[u].n_post
            first = sum(layer.n_post for layer in self.layers[:u])
            taught = (first + torch.arange(n, device=self.device)) // k == labels[:, None]
            may_fire = each_taught(self.schedule, n).to(pre)[:, None]
            post = self.config.teacher.reliability * may_fire * taught
            predicted = None if foreseen is None else foreseen[u] * may_fire
            duration = self.config.encoding.duration_ms(teaching=True)
            pair_in_the_mean(self.layers[u], pre, post, duration, predicted)

    def _foreseen(self, pre: Tensor) -> list[Tensor]:
        """Probability of each neuron's dendritic spikes, [T, B, n_post] of every sub-network."""
        neuron, steps = self.config.neuron, self.schedule.teach.any(1).to(self.device)
        potential = self._potentials(self.layers[0].dendritic(pre)[steps])
        share = torch.softmax(potential / neuron.temperature, -1)
        spikes = pre.new_zeros(*pre.shape[:2], share.shape[2] * neuron.per_class)
        spikes[steps] = share.repeat_interleave(neuron.per_class, 2)
        return list(spikes.split([layer.n_post for layer in self.layers], 2))

    def _potentials(self, sums: Tensor) -> Tensor:
        """U_c of every assembly, [n, B, C]."""
        k = self.config.neuron.per_class
        each = [layer.potential(sums).unflatten(2, (-1, k)).mean(3) for layer in self.layers]
        return torch.cat(each, 2)

    def _arriving(self, pre: Tensor) -> Tensor:
        """Probability that a spike comes and releases, at each contact: [T, B, n_sites]."""
        return self.layers[0].per_contact(pre * self.config.contacts.release_probability)

    def _drive(self, features: Tensor) -> Tensor:
        assert self.scaling is not None
        return self.encoder.drive(self.scaling(features))

    def predict(self, batch: Batch) -> Prediction:
        scores = []
        for features in batch.features.split(_AT_ONCE):
            pre = chances(self.config.encoding, self.reading, self._drive(features))
            pre = self._arriving(pre)
            mean = self.layers[0].dendritic(pre).mean(0, keepdim=True)
            scores.append(self._potentials(mean)[0])
        opened = sum(int((layer.transmitted() != 0).sum()) for layer in self.layers)
        opened += self.config.expansion.operations
        operations = torch.full((len(batch),), float(opened))
        return Prediction(torch.cat(scores), operations=operations)

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self.scaling, self.layers)

    def checkpoint(self) -> dict[str, Tensor]:
        generator = {"generator": self.generator.get_state()}
        return self.state_dict() | self.replay.checkpoint() | generator

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scaling = FeatureScaling(state["scaling.mean"], state["scaling.matrix"])
        self.layers = []
        for own in modules(state, "layers."):
            self._add_subnetwork(len(own["ampa"]) // self.config.neuron.per_class)
            self.layers[-1].load_state_dict(own)

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        self.replay.restore(state, [training_of(task, self.config) for task in tasks])
        # last: making the layers drew from it
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        counts = torch.stack([layer.counts() for layer in self.layers]).sum(0)
        n_contacts = int(counts.sum())
        report = sizes(n_contacts, self.state_dict())
        report["stored_parameters"] += self.replay.stored_parameters()
        report["stored_bytes"] += self.replay.stored_bytes()
        share = float(counts[1:].sum()) / max(n_contacts, 1)
        return report | {"n_contacts": n_contacts, "functional_share": share}


def _require_known(config: SNNConfig) -> None:
    rule, leave = config.rule(), "leave mean_field out of learners"
    try:
        if rule is not None and config.plasticity.rule != "error":
            require_linear("mean_field", rule)
    except TypeError as error:
        raise ConfigError("snn.plasticity.rule", f"{error}, or {leave}") from None
    if config.encoding.code not in ("poisson", "regular", "current", "latency"):
        raise ConfigError("snn.encoding.code", f"mean_field knows no mean of it; {leave}")
    if config.encoding.code == "regular" and isinstance(getattr(rule, "base", rule), TripletSTDP):
        raise ConfigError(
            "snn.encoding.code",
            "mean_field knows no mean of regular spikes under the triplet rule, which multiplies "
            f"spikes of one unit with each other; use poisson, or {leave}",
        )
    if config.contacts.tau_rec_ms is not None or config.contacts.tau_facil_ms is not None:
        raise ConfigError(
            "snn.contacts.tau_rec_ms",
            "mean_field knows no mean of short-term plasticity, which multiplies spikes with each "
            f"other; leave it and tau_facil_ms out, or {leave}",
        )
    if config.inhibition.source != "balance":
        raise ConfigError(
            "snn.inhibition.source",
            f"mean_field knows no mean of inhibitory neurons; use balance, or {leave}",
        )
    if config.plastic_old:
        raise ConfigError(
            "snn.plastic_old", f"old neurons fire by themselves, which has no mean; {leave}"
        )
