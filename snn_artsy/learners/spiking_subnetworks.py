"""Spiking sub-networks on one frozen ViT: what they see of a sample, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import SNNConfig
from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Task
from snn_artsy.learners.probe import Probe
from snn_artsy.learners.replay import ClassGaussians, Replay
from snn_artsy.learners.state import modules, under
from snn_artsy.learners.tasks import whole
from snn_artsy.learners.trial import try_added
from snn_artsy.observer import NullObserver, SynapseObserver
from snn_artsy.synapses.circuit import Response
from snn_artsy.synapses.encoding import (
    FeatureScaling,
    SpikeEncoder,
    fit_scaling,
    whiten_classes,
)
from snn_artsy.synapses.expansion import build_expansion
from snn_artsy.synapses.inhibition import InhibitoryNeurons
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import make_schedule, reading_schedule
from snn_artsy.synapses.release import Draws, release_chances
from snn_artsy.synapses.together import Joined

# Streams of the counter-based noise, one for each purpose; every epoch adds the stride to them.
# Teaching and competition are numbered alike in pairing and in replay, where a stand-in's number is
# its place in the pass: the teacher's noise of the two is then the same, their images are not.
STREAMS = {
    "train": 0, "validation": 0, "test": 1, "pseudo": 2, "teacher": 3, "shuffle": 4, "replay": 5,
    "competition": 6, "inhibition": 7,
}  # fmt: skip
EPOCH_STRIDE = 8
# Largest weight of the membrane, in spikes: below 1/2, so that it breaks ties and never outvotes
# one.
_TIE = 0.4
# Most samples shown at a time, and most values [T, B, n] that they make: beyond the processor's
# cache the time per sample grows.
_BATCH, _VALUES = 256, 2**22


class SpikingSubnetworks(Learner):
    """Sub-networks of silent synapses, one for each task, with the same input spikes.

    Args:
        config: Parameters.
        dim: D.
        device: Where tensors live.
        seed: Of contacts and noise.
        observer: Receives reports of what happens; default: nobody does.

    Raises:
        ConfigError: A code, neuron or rule that was added cannot be used.
    """

    def __init__(
        self,
        config: SNNConfig,
        dim: int,
        device: str,
        seed: int,
        observer: SynapseObserver | None = None,
    ) -> None:
        self.config, self.dim, self.device, self.seed = config, dim, device, seed
        self.probe = Probe(NullObserver() if observer is None else observer, config, seed)
        self.schedule = make_schedule(config.encoding, config.teacher, config.neuron.per_class)
        expansion = build_expansion(config.expansion, 2 * dim, seed)
        self.encoder = SpikeEncoder(config.encoding, self.schedule, expansion)
        self.reader = SpikeEncoder(config.encoding, reading_schedule(config.encoding), expansion)
        try_added(config, dim, self.encoder)
        self.generator = torch.Generator().manual_seed(seed)
        self.inhibition: InhibitoryNeurons | None = None
        if config.inhibition.source != "balance":
            dt = config.encoding.dt
            self.inhibition = InhibitoryNeurons(config.inhibition, config.neuron, dt, seed)
        self.scaling: FeatureScaling | None = None
        self.layers: list[SilentSynapseLayer] = []
        self._joined: Joined | None = None  # all layers, as they were when last asked
        self._spikes_shown = 0.0
        self._images_shown = 0

    def driven_by(self, batch: Batch) -> Tensor:
        """What drives the silent synapses: h_0, [B, D]."""
        return batch.features

    def _add_subnetwork(self, n_classes: int) -> None:
        layer = spiking_subnetwork(self.config, self.dim, n_classes, self.layers, self.generator)
        self.layers.append(layer.to(self.device))

    def _first_class(self, u: int) -> int:
        """Label of sub-network u's first class: tasks' labels are contiguous."""
        return sum(layer.n_post for layer in self.layers[:u]) // self.config.neuron.per_class

    def input_spikes(self, batch: Batch) -> Tensor:
        """What the sub-networks see of a batch when it is answered: spikes [T, B, n_inputs]."""
        return self._encode(self.reader, self.driven_by(batch), batch.index, batch.split)

    def _encode(
        self, encoder: SpikeEncoder, features: Tensor, index: Tensor, split: str, offset: int = 0
    ) -> Tensor:
        assert self.scaling is not None
        return encoder(self.scaling(features), self.seed, STREAMS[split] + offset, index)

    def _draws(self, index: Tensor, split: str, offset: int = 0) -> Draws:
        """Of releases, where contacts fail: streams below 0, which no code draws from."""
        return Draws(self.seed, -1 - STREAMS[split] - offset, index)

    def _responses(
        self,
        features: Tensor,
        index: Tensor,
        split: str,
        only: list[int] | None = None,
        record: Batch | None = None,
        operations: list[Tensor] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Votes and spike counts without a teacher, of each sub-network (or of ``only`` some).

        Args:
            operations: Receives the synaptic operations of each sample, in parts [b].

        Returns:
            For each: (class votes [B, n], spike counts of all neurons [B, n_post]).
        """
        chosen = self.layers if only is None else [self.layers[t] for t in only]
        together = self._together(only)
        parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in chosen]
        widest = max(sum(layer.n_post for layer in chosen), self.config.n_inputs(self.dim))
        at_once = max(16, min(_BATCH, _VALUES // (len(self.reader.schedule.volley) * widest)))
        for rows in torch.arange(len(features), device=features.device).split(at_once):
            pre = self._encode(self.reader, features[rows], index[rows], split)
            draws = self._draws(index[rows], split)
            if self.inhibition is None:
                answers, fired = together.respond(pre, draws), None
            else:  # of all sub-networks, whose neurons may inhibit each other
                answers, fired = self.inhibition.respond(self.layers, pre, draws)
                answers = answers if only is None else [answers[t] for t in only]
            if operations is not None:
                operations.append(self._operations(pre, fired, together.fan_out))
            for part, answer in zip(parts, answers, strict=True):
                part.append((self._votes(answer), answer.counts))
            if record is not None and record.split == "test" and record.true_task is None:
                self._spikes_shown += float(sum(a.counts.sum() for a in answers))
                self._images_shown += len(rows)
                self.probe.test(record, rows, pre, answers)
        return [(torch.cat([v for v, _ in p]), torch.cat([c for _, c in p])) for p in parts]

    def _together(self, only: list[int] | None) -> Joined:
        """Every sub-network, or ``only`` some, to be asked many times."""
        if only is not None:
            return Joined([self.layers[t] for t in only])
        if self._joined is None or not self._joined.holds(self.layers):
            self._joined = None  # before the next one takes as much memory
            self._joined = Joined(self.layers)
        return self._joined

    def _votes(self, response: Response) -> Tensor:
        """Spikes of each class assembly, ties broken by its mean membrane, [B, n]."""
        k = self.config.neuron.per_class
        counts = response.counts.unflatten(1, (-1, k)).sum(2)
        # far above threshold a membrane is worth many spikes: softsign keeps the term below _TIE
        return counts + _TIE * F.softsign(response.final.unflatten(1, (-1, k)).mean(2))

    def _decision(self, responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Votes for every class so far, [B, C]; -inf where no neuron fired at all, and a network
        that did not has decided nothing."""
        silent = torch.stack([counts.sum(1) for _, counts in responses]).sum(0) == 0
        return torch.cat([votes for votes, _ in responses], dim=1).masked_fill(
            silent[:, None], -torch.inf
        )

    def _spike_counts(self, responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Spikes of each class's assembly, [B, C]."""
        k = self.config.neuron.per_class
        return torch.cat([counts.unflatten(1, (-1, k)).sum(2) for _, counts in responses], dim=1)

    def _operations(self, pre: Tensor, inhibiting: Tensor | None, fan_out: Tensor) -> Tensor:
        """Synaptic operations of each sample, [B]: by the spikes [T, B, n] of its input units, as
        far as they release on average, and of inhibitory neurons, if there are any; ``fan_out``: of
        all sub-networks' sites."""
        contacts, released = self.config.contacts, pre
        if contacts.fails:
            released = pre * release_chances(pre, contacts, self.config.encoding.dt)
        fan_out = fan_out.unflatten(0, (-1, contacts.per_connection)).sum(1)
        operations = released.sum(0) @ fan_out + self.config.expansion.operations
        if self.inhibition is None or inhibiting is None:
            return operations
        return operations + self.inhibition.operations(pre.sum(0), inhibiting.sum(0))

    def snapshot(self, moment: str) -> None:
        """Tell the observer the occupancy and state of every contact."""
        self.probe.snapshot(self.layers, moment)

    def state_dict(self) -> dict[str, Tensor]:
        own = {} if self.inhibition is None else self.inhibition.state_dict()
        return state_of(self.scaling, self.layers) | own

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scaling = FeatureScaling(state["scaling.mean"], state["scaling.matrix"])
        self.layers = []
        for own in modules(state, "layers."):
            self._add_subnetwork(len(own["ampa"]) // self.config.neuron.per_class)
            self.layers[-1].load_state_dict(own)
        if self.inhibition is not None:
            self.inhibition.load_state_dict(state, self.layers)

    def report(self) -> dict[str, Any]:
        counts = torch.stack([layer.counts() for layer in self.layers]).sum(0)
        n_contacts = int(counts.sum())
        share = float(counts[1:].sum()) / max(n_contacts, 1)
        n_silent_born = sum(int(layer.born_silent.sum()) for layer in self.layers)
        of_task = [int((layer.born_silent & (layer.state > 0)).sum()) for layer in self.layers]
        reason = self.layers[0].takes_reference() if self.layers else None
        by_step = self.config.plasticity.update == "step" and self.config.plasticity.rule != "none"
        return {
            **({"reference_engine": reason} if by_step and reason else {}),
            "n_contacts": n_contacts,
            "n_silent": int(counts[0]),
            "n_functional": int(counts[1]),
            "n_consolidated": int(counts[2]),
            "functional_share": share,
            "n_born_silent": n_silent_born,
            "converted_share": sum(of_task) / max(n_silent_born, 1),
            "unconverted_tasks": [t for t, n in enumerate(of_task) if n == 0],
            "spikes_per_image": self._spikes_shown / max(self._images_shown, 1),
            "dt_ms": self.config.encoding.dt,
            "n_steps": self.config.encoding.steps,
            "test_steps": self.config.encoding.steps_shown,
            "max_rate_hz": self.config.encoding.rate_hz,
            "simulated_ms": self.probe.clock_ms,
        }


def state_of(
    scaling: FeatureScaling | None, layers: Sequence[SilentSynapseLayer]
) -> dict[str, Tensor]:
    """Tensors of the code and of all contacts."""
    state = {}
    if scaling is not None:
        state = {"scaling.mean": scaling.mean, "scaling.matrix": scaling.matrix}
    for t, layer in enumerate(layers):
        state |= under(f"layers.{t}.", layer.state_dict())
    return state


def training_of(task: Task, config: SNNConfig) -> LabelledBatch:
    """What contacts learn from: validation samples, too, where no threshold needs them."""
    rule = config.plasticity.rule
    return whole(task) if rule == "error" else task.train


def next_scaling(
    now: FeatureScaling | None, train: LabelledBatch, replay: Replay, config: SNNConfig
) -> FeatureScaling:
    """Statistics of the code as a task begins.

    Args:
        now: Those before the task; None for the first one.
        train: The task's samples, which are not in ``replay`` yet.
    """
    if now is None:
        return fit_scaling(train.features, train.labels, config.encoding)
    if config.encoding.statistics == "first":
        return now
    assert isinstance(replay, ClassGaussians)
    means, within, freedom = replay.joined_by(train)
    mean_square = train.features.double().square().mean()
    return whiten_classes(means, within, config.encoding.shrinkage, mean_square, freedom)


def spiking_subnetwork(
    config: SNNConfig,
    dim: int,
    n_classes: int,
    earlier: Sequence[SilentSynapseLayer],
    generator: torch.Generator,
) -> SilentSynapseLayer:
    """A sub-network for a task's classes, on the CPU.

    Args:
        dim: D.
        earlier: Sub-networks of earlier tasks; the new one continues the last one's slow average
            where ``target_over`` is ``seen``.
        generator: Draws which contacts exist.
    """
    k, rule = config.neuron.per_class, config.plasticity
    spread = torch.linspace(-1.0, 1.0, k) if k > 1 else torch.zeros(1)
    layer = SilentSynapseLayer(
        config.n_inputs(dim),
        k * n_classes,
        config.encoding.dt,
        config.neuron,
        rule,
        config.contacts,
        update=rule.update,
        batch_reduction=rule.batch_reduction,
        receptors=config.receptors if config.fidelity == "conductance" else None,
        target_factor=rule.target * (1.0 + rule.target_spread * spread).repeat(n_classes),
        generator=generator,
        first_neuron=sum(layer.n_post for layer in earlier),
    )
    if rule.target_over == "seen" and earlier:
        layer.slow_sum.copy_(earlier[-1].slow_sum)
        layer.slow_weight.copy_(earlier[-1].slow_weight)
    return layer
