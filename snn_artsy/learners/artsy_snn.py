"""Artsy with spiking silent synapses between the frozen ViT and each task's sub-network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import ANNConfig, GateConfig, SNNConfig
from snn_artsy.learners.base import (
    Batch,
    LabelledBatch,
    Learner,
    Prediction,
    Task,
    all_training,
    stored_bytes,
)
from snn_artsy.learners.probe import Probe
from snn_artsy.learners.prototypes import GatedPrototypes, class_means
from snn_artsy.learners.replay import ClassGaussians, Replay, build_replay
from snn_artsy.learners.sleep import changing_asleep, foreseen, passes
from snn_artsy.learners.state import (
    below,
    listed,
    modules,
    number,
    numbered,
    set_generator,
    under,
)
from snn_artsy.learners.subnetworks import HeadAdapter
from snn_artsy.learners.subnetworks import train as train_subnetwork
from snn_artsy.learners.tasks import join
from snn_artsy.learners.thresholds import GateThresholds
from snn_artsy.learners.windows import Shown
from snn_artsy.observer import NullObserver, SynapseObserver, told_every
from snn_artsy.synapses.circuit import Response
from snn_artsy.synapses.encoding import (
    FeatureScaling,
    SpikeEncoder,
    fit_scaling,
    whiten_classes,
)
from snn_artsy.synapses.layer import SilentSynapseLayer, respond_together
from snn_artsy.synapses.noise import uniform
from snn_artsy.synapses.pairing import (
    each_taught,
    make_schedule,
    reading_schedule,
    shuffle_in_time,
    teaching_spikes,
)

Control = Literal[
    "none", "permuted_contacts", "shuffled_labels", "random_contacts", "shuffled_timing"
]

# Streams of the counter-based noise: what the numbers are for, plus this stride for each epoch.
_STREAM = {
    "train": 0, "validation": 0, "test": 1, "pseudo": 2, "teacher": 3, "shuffle": 4, "replay": 5,
    "competition": 6,
}  # fmt: skip
_EPOCH_STRIDE = 8
# Largest weight of the membrane, in spikes: below 1/2, so that it breaks ties and never outvotes
# one.
_TIE = 0.4
# Samples shown at a time, and values [T, B, n] that they may make: beyond what a cache holds, time
# grows faster than their number.
_BATCH, _VALUES = 256, 2**22
# Plain numbers that a learner goes on from.
_COUNTERS = ("epoch", "_batches", "_spikes_shown", "_images_shown")
# Where purposes of replayed stand-ins begin (`Replay.batch`); passes of all tasks follow.
SLEEP = 16


class ArtsySNN(Learner):
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
        observer: Is told what happens; default: nobody.
        control: A control experiment instead of the model: contacts permuted within each neuron, or
            placed at random at equal density, after learning; teacher labels shuffled; presynaptic
            spikes shuffled in time inside each training presentation.
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
        self.config, self.ann, self.gate = config, ann, gate
        self.dim, self.device, self.seed = dim, device, seed
        self.probe = Probe(NullObserver() if observer is None else observer, config, seed)
        self.control = control
        self.schedule = make_schedule(config.encoding, config.teacher, config.neuron.per_class)
        self.encoder = SpikeEncoder(config.encoding, self.schedule)
        self.reader = SpikeEncoder(config.encoding, reading_schedule(config.encoding))
        self.generator = torch.Generator().manual_seed(seed)
        self.scaling: FeatureScaling | None = None
        self.layers: list[SilentSynapseLayer] = []
        self.adapters: list[HeadAdapter] = []
        self.recall: list[Tensor] = []  # (mean_c - mean) of each task's classes, [n, D]
        self.replay = build_replay(gate, seed)
        self.thresholds = GateThresholds(gate)
        self.prototypes = GatedPrototypes()
        self.epoch = 0  # of the task that is being learnt, finished ones
        self._batches = 0
        self._spikes_shown = 0.0
        self._images_shown = 0

    # --- learning ---------------------------------------------------------------------------------

    def learn(self, task: Task) -> None:
        t, train = task.number, training_of(task, self.config)
        if self.epoch == 0:  # else it was restored in the middle of this task
            if self.scaling is None:
                self.probe.observer.population("retina", np.repeat([0, 1], self.dim))
            self.scaling = next_scaling(self.scaling, train, self.replay, self.config)
            self._add_subnetwork(len(task.classes))
            k = self.config.neuron.per_class
            self.probe.observer.population(f"task{t}", np.repeat(np.array(task.classes), k))
            self.probe.wait_for_spikes("train")
            self._batches = 0
        self._pair(task, train)
        self.epoch = 0
        self.replay.add_task(train)
        self._sleep(t)
        if self.config.contacts.capture and self.config.plasticity.rule != "none":
            for u in changing_asleep(len(self.layers), self.config.replay):
                self.probe.change(u, self.layers[u], self.layers[u].capture())
        self._apply_contact_control()
        assert self.scaling is not None
        features, labels, index = all_training(task)
        self.recall.append(
            class_means(train.features, train.labels, task.classes) - self.scaling.mean.float()
        )
        if self.config.mode == "gate":
            # its own generator, so that both modes learn the same contacts
            generator = torch.Generator().manual_seed(self.seed + t)
            adapter = HeadAdapter(self.dim, self.ann, generator).to(self.device)
            train_subnetwork(adapter, task, self.ann, generator)
            self.adapters.append(adapter)
        gained = self._gained(features, self._responses(features, index, "train"))
        means = [class_means(gained[:, u], labels, task.classes) for u in range(t + 1)]
        self.prototypes.add(class_means(features, labels, task.classes), means, self._replayed(t))
        self._answer_anew(t)
        self._calibrate(task)
        self.probe.wait_for_spikes("test")

    def _add_subnetwork(self, n_classes: int) -> None:
        layer = spiking_subnetwork(self.config, self.dim, n_classes, self.layers, self.generator)
        self.layers.append(layer.to(self.device))

    def _pair(self, task: Task, train: LabelledBatch) -> None:
        """The pairing protocol: each training sample is shown, its class's assembly is taught."""
        t, layer = task.number, self.layers[-1]
        teacher, duration = self.config.teacher, self.config.encoding.duration_ms(teaching=True)
        labels = train.labels
        if self.control == "shuffled_labels":
            labels = labels[torch.randperm(len(labels), generator=self.generator).to(self.device)]
        assembly = torch.arange(layer.n_post, device=self.device) // self.config.neuron.per_class
        traced = self.probe.choose_traced(layer)
        n_batches = -(-len(labels) // self.config.plasticity.batch_size)
        pairs_every = told_every(n_batches * self.config.plasticity.epochs)
        for epoch in range(self.epoch, self.config.plasticity.epochs):
            windows = self.probe.windows(layer, n_batches, epoch)
            offset = _EPOCH_STRIDE * epoch
            order = torch.randperm(len(labels), generator=self.generator).to(self.device)
            for rows in order.split(self.config.plasticity.batch_size):
                index = train.index[rows]
                pre = self._encode(self.encoder, train.features[rows], index, "train", offset)
                if self.control == "shuffled_timing":
                    pre = shuffle_in_time(pre, self.seed, _STREAM["shuffle"] + offset, index)
                taught = assembly == (labels[rows] - task.classes[0])[:, None]
                fires = teaching_spikes(
                    self.schedule, teacher, taught, self.seed, _STREAM["teacher"] + offset, index
                )
                start = self.probe.clock_ms + duration * np.arange(len(rows))
                before = layer.ampa[traced[:, 0], traced[:, 1]]
                predicted = None
                if self.config.plasticity.rule == "error" and epoch > 0:
                    # in the first pass there is nothing yet that could foresee: Hebbian learning
                    predicted = self._foreseen(pre, index, offset)[-1]
                current = fires * teacher.current
                was = {name: x.clone() for name, x in layer.named_buffers()} if windows else {}
                response, change = layer.pair(pre, current, duration, predicted)
                self.probe.clock_ms += duration * len(rows)
                self.probe.presentations(train, rows, start, t, teaching=True)
                chosen = self.probe.recorded_of(len(rows))
                if len(chosen):
                    told = {t: response.spikes[:, chosen]}
                    self.probe.spikes(pre[:, chosen], told, start[chosen.numpy()])
                self.probe.change(t, layer, change, start)
                if windows is not None:
                    shown = Shown(was, pre, current, predicted, float(start[0]))
                    self.probe.trace_steps(t, layer, traced, windows, shown, change)
                elif self._batches % self.probe.observer.plan.trace_every == 0:
                    self.probe.trace(t, layer, traced, pre, response)
                if self._batches % pairs_every == 0:
                    self.probe.pairings(t, layer, traced, before, pre, response)
                self._batches += 1
                if self.config.plastic_old:
                    for u, old in enumerate(self.layers[:-1]):
                        self.probe.change(u, old, old.pair(pre, None, duration)[1], start)
            self.epoch = epoch + 1
            if self.after_epoch is not None:
                self.after_epoch()

    def _first_class(self, u: int) -> int:
        """Label of sub-network u's first class: tasks' labels are contiguous."""
        return sum(layer.n_post for layer in self.layers[:u]) // self.config.neuron.per_class

    def _sleep(self, t: int) -> None:
        """Replay: all sub-networks compete, and contacts change by the error of their answer."""
        replay, teacher = self.config.replay, self.config.teacher
        if replay.epochs == 0 or self.config.plasticity.rule == "none":
            return
        changing = changing_asleep(len(self.layers), self.config.replay)
        for u in changing[:-1]:
            self.probe.change(u, self.layers[u], self.layers[u].labilise())
        k = self.config.neuron.per_class
        assembly = torch.cat(
            [
                torch.arange(layer.n_post) // k + self._first_class(u)
                for u, layer in enumerate(self.layers)
            ]
        ).to(self.device)
        sizes = [layer.n_post for layer in self.layers]
        duration = self.config.encoding.duration_ms(teaching=True)
        for nth in passes([self.layers[u] for u in changing], replay, t):
            shown = self.replay.batch(list(range(t + 1)), purpose=SLEEP + nth)
            number, labels = torch.arange(len(shown), device=self.device), shown.labels
            if self.control == "shuffled_labels":
                mixed = torch.randperm(len(labels), generator=self.generator)
                labels = labels[mixed.to(self.device)]
            offset = _EPOCH_STRIDE * (nth + 1)
            order = torch.randperm(len(shown), generator=self.generator).to(self.device)
            for rows in order.split(replay.batch_size):
                index = number[rows]
                pre = self._encode(self.encoder, shown.features[rows], index, "replay", offset)
                if self.control == "shuffled_timing":
                    pre = shuffle_in_time(pre, self.seed, _STREAM["shuffle"] + offset, index)
                taught = assembly == labels[rows][:, None]
                fires = teaching_spikes(
                    self.schedule, teacher, taught, self.seed, _STREAM["teacher"] + offset, index
                ).split(sizes, 2)
                predicted = self._foreseen(pre, index, offset)
                start = self.probe.clock_ms + duration * np.arange(len(rows))
                self.probe.clock_ms += duration * len(rows)
                self.probe.presentations(shown, rows, start, t, teaching=True, split="replay")
                for u in changing:
                    current = fires[u] * teacher.current
                    _, change = self.layers[u].pair(pre, current, duration, predicted[u])
                    self.probe.change(u, self.layers[u], change, start)

    def _foreseen(self, pre: Tensor, index: Tensor, offset: int) -> list[Tensor]:
        """Dendritic spikes of every sub-network at the times of teaching."""
        steps = torch.nonzero(self.schedule.teach.any(1))[:, 0].to(self.device)
        stream = _STREAM["competition"] + offset
        u = uniform(self.seed, stream, index, pre.shape[0], 1, only=steps)[..., 0]
        neuron = self.config.neuron
        spikes = foreseen(self.layers, pre, steps, neuron.per_class, neuron.temperature, u)
        # a neuron's dendrite is read when the neuron may be taught
        return [
            fired * each_taught(self.schedule, fired.shape[2]).to(fired)[:, None]
            for fired in spikes
        ]

    def _apply_contact_control(self) -> None:
        if self.control in ("permuted_contacts", "random_contacts"):
            for u in changing_asleep(
                len(self.layers), self.config.replay
            ):  # replay taught all of them anew
                self._move_contacts(u)

    def _move_contacts(self, u: int) -> None:
        layer = self.layers[u]
        # its own generator: training must go on exactly as without the control
        generator = torch.Generator().manual_seed(self.seed + u + 1)
        shape = layer.state.shape
        if self.control == "permuted_contacts":
            order = torch.rand(shape, generator=generator).argsort(1)
            order += layer.n_pre * torch.arange(layer.n_post)[:, None]
        else:
            order = torch.randperm(layer.state.numel(), generator=generator)
        order = order.flatten().to(self.device)
        for values in (
            layer.state,
            layer.ampa,
            layer.functional_ms,
            layer.exists,
            layer.born_silent,
        ):
            values.copy_(values.flatten()[order].reshape(shape))

    def _replayed(self, t: int) -> Tensor | None:
        """Mean h_t of the new sub-network over stand-ins for each older class."""
        if t == 0:
            return None
        old = self.replay.batch(list(range(t)), purpose=4)
        if len(old) == 0:
            return None
        number = torch.arange(len(old), device=old.index.device)
        answers = self._responses(old.features, number, "pseudo", only=[t])
        gained = self._gained(old.features, answers, only=[t])[:, 0]
        return class_means(gained, old.labels, tuple(old.labels.unique().tolist()))

    def _answer_anew(self, t: int) -> None:
        """Mean answers to older classes, where sub-networks or their code changed since."""
        old = self.replay.batch(list(range(t)), purpose=4)
        if self.config.replay.epochs == 0 or len(old) == 0:
            return
        number = torch.arange(len(old), device=old.index.device)
        gained = self._gained(old.features, self._responses(old.features, number, "pseudo"))
        for u, means in enumerate(self.prototypes.gained):
            anew = class_means(gained[:, u], old.labels, tuple(old.labels.unique().tolist()))
            self.prototypes.gained[u] = torch.cat([anew, means[len(anew) :]])

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
        shown: list[Tensor] = []
        responses = self._responses(
            batch.features, batch.index, batch.split, record=batch, shown=shown
        )
        calibrated = self.thresholds.calibrated(self._gate_scores(responses))
        gates = calibrated > 0
        if batch.true_task is not None:
            gates = batch.true_task[:, None] == torch.arange(len(self.layers), device=gates.device)
        scores = self.prototypes.scores(
            batch.features, gates, self._gained(batch.features, responses)
        )
        votes = torch.cat([v for v, _ in responses], dim=1)
        silent = torch.stack([counts.sum(1) for _, counts in responses]).sum(0) == 0
        # a network that did not fire at all has decided nothing
        votes[silent] = -torch.inf
        fan_out = torch.stack([(layer.transmitted() != 0).sum(0) for layer in self.layers]).sum(0)
        operations = torch.cat(shown) @ fan_out.float()
        return Prediction(scores, calibrated, gates, votes, operations=operations)

    def input_spikes(self, batch: Batch) -> Tensor:
        """What the sub-networks see of a batch when it is answered: spikes [T, B, 2 D]."""
        return self._encode(self.reader, batch.features, batch.index, batch.split)

    def _encode(
        self, encoder: SpikeEncoder, features: Tensor, index: Tensor, split: str, offset: int = 0
    ) -> Tensor:
        assert self.scaling is not None
        return encoder(self.scaling(features), self.seed, _STREAM[split] + offset, index)

    def _responses(
        self,
        features: Tensor,
        index: Tensor,
        split: str,
        only: list[int] | None = None,
        record: Batch | None = None,
        shown: list[Tensor] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Votes and spike counts without a teacher, of each sub-network (or of ``only`` some).

        Args:
            shown: Is given the spikes of each input unit, in parts [b, 2 D].

        Returns:
            For each: (class votes [B, n], spike counts of all neurons [B, n_post]).
        """
        chosen = self.layers if only is None else [self.layers[t] for t in only]
        parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in chosen]
        widest = max(sum(layer.n_post for layer in chosen), 2 * self.dim)
        at_once = max(16, min(_BATCH, _VALUES // (len(self.reader.schedule.volley) * widest)))
        for rows in torch.arange(len(features), device=features.device).split(at_once):
            pre = self._encode(self.reader, features[rows], index[rows], split)
            if shown is not None:
                shown.append(pre.sum(0))
            answers = respond_together(chosen, pre)
            for part, answer in zip(parts, answers, strict=True):
                part.append((self._votes(answer), answer.counts))
            if record is not None and record.split == "test" and record.true_task is None:
                self._spikes_shown += float(sum(a.counts.sum() for a in answers))
                self._images_shown += len(rows)
                self.probe.test(record, rows, pre, answers)
        return [(torch.cat([v for v, _ in p]), torch.cat([c for _, c in p])) for p in parts]

    def _votes(self, response: Response) -> Tensor:
        """Spikes of each class assembly, ties broken by its mean membrane, [B, n]."""
        k = self.config.neuron.per_class
        counts = response.counts.unflatten(1, (-1, k)).sum(2)
        # far above threshold a membrane is worth many spikes: softsign keeps the term below _TIE
        return counts + _TIE * F.softsign(response.final.unflatten(1, (-1, k)).mean(2))

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
        first, second = best.topk(2, dim=1).values.T
        return best - torch.where(best == first[:, None], second[:, None], first[:, None])

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

    def snapshot(self, moment: str) -> None:
        """Tell the observer the occupancy and state of every contact."""
        self.probe.snapshot(self.layers, moment)

    def controls(self) -> dict[str, Learner]:
        from snn_artsy.learners.shuffled import EQUAL_DENSITY, ShuffledAtEqualDensity

        blocked = replace(self.config, plasticity=replace(self.config.plasticity, rule="none"))
        own = (self.ann, self.gate, self.dim, self.device, self.seed)
        names = [name for name in get_args(Control) if name != "none"]
        found: dict[str, Learner] = {n: ArtsySNN(self.config, *own, control=n) for n in names}
        found["no_plasticity"] = ArtsySNN(blocked, *own)
        if self.config.plasticity.rule != "none":
            found[EQUAL_DENSITY] = ShuffledAtEqualDensity(self.config, *own)
        return found

    # --- what is kept and reported ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        state = self.prototypes.state_dict() | self.thresholds.state_dict()
        if self.scaling is not None:
            state |= {"scaling.mean": self.scaling.mean, "scaling.matrix": self.scaling.matrix}
        for t, layer in enumerate(self.layers):
            state |= under(f"layers.{t}.", layer.state_dict())
        for t, adapter in enumerate(self.adapters):
            state |= under(f"adapters.{t}.", adapter.state_dict())
        return state | numbered("recall.", self.recall)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what a learner of the same configuration has learnt, to predict with it.

        Learning goes on from a `checkpoint` only, which has what stands in for old data.

        Raises:
            KeyError, RuntimeError: The state is not that of such a learner.
        """
        state = {name: value.to(self.device) for name, value in state.items()}
        self.scaling = FeatureScaling(state["scaling.mean"], state["scaling.matrix"])
        self.layers, self.adapters, self.recall = [], [], listed(state, "recall.")
        for own in modules(state, "layers."):
            n_post = len(own["ampa"])
            self._add_subnetwork(n_post // self.config.neuron.per_class)
            self.layers[-1].load_state_dict(own)
        for own in modules(state, "adapters."):
            adapter = HeadAdapter(self.dim, self.ann, torch.Generator()).to(self.device)
            adapter.load_state_dict(own)
            self.adapters.append(adapter.requires_grad_(False))
        self.prototypes.load_state_dict(state)
        self.thresholds.load_state_dict(state)

    def checkpoint(self) -> dict[str, Tensor]:
        """Also between the epochs of a task, from `after_epoch`."""
        numbers = {name: number(getattr(self, name)) for name in _COUNTERS}
        numbers |= {name: number(getattr(self.probe, name)) for name in Probe.COUNTERS}
        return (
            self.state_dict()
            | self.thresholds.checkpoint()
            | self.replay.checkpoint()
            | under("counters.", numbers)
            | {"generator": self.generator.get_state()}
        )

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        self.thresholds.restore(state)
        self.replay.restore(state, [training_of(task, self.config) for task in tasks])
        for name, value in below(state, "counters.").items():
            plain = name.removeprefix("_")  # as checkpoints before 0.1 have the probe's
            if plain in Probe.COUNTERS:
                setattr(self.probe, plain, value.item())
            else:
                setattr(self, name, value.item())
        # last: making the layers drew from it
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        counts = torch.stack([layer.counts() for layer in self.layers]).sum(0)
        n_contacts = int(counts.sum())
        share = float(counts[1:].sum()) / max(n_contacts, 1)
        n_silent_born = sum(int(layer.born_silent.sum()) for layer in self.layers)
        of_task = [int((layer.born_silent & (layer.state > 0)).sum()) for layer in self.layers]
        trained = [p.numel() for a in self.adapters for p in a.parameters()]
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
            "parameters": n_contacts + sum(trained),
            "stored_parameters": sum(v.numel() for v in self.state_dict().values())
            + self.replay.stored_parameters(),
            "stored_bytes": stored_bytes(self.state_dict()) + self.replay.stored_bytes(),
            "dt_ms": self.config.encoding.dt,
            "n_steps": self.config.encoding.steps,
            "test_steps": self.config.encoding.steps_shown,
            "max_rate_hz": self.config.encoding.rate_hz,
            "simulated_ms": self.probe.clock_ms,
        }


def training_of(task: Task, config: SNNConfig) -> LabelledBatch:
    """What contacts learn from: validation samples, too, where no threshold needs them."""
    rule = config.plasticity.rule
    return join([task.train, task.validation]) if rule == "error" else task.train


def next_scaling(
    now: FeatureScaling | None, train: LabelledBatch, replay: Replay, config: SNNConfig
) -> FeatureScaling:
    """Statistics of the code from a task on whose samples are at hand and not yet in ``replay``;
    ``now``: those before it."""
    if now is None:
        return fit_scaling(train.features, train.labels, config.encoding)
    if config.encoding.statistics == "first":
        return now
    assert isinstance(replay, ClassGaussians)
    means, within = replay.joined_by(train)
    mean_square = train.features.double().square().mean()
    return whiten_classes(means, within, config.encoding.shrinkage, mean_square)


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
        earlier: Sub-networks of earlier tasks, whose slow average is gone on with where
            ``target_over`` is ``seen``.
        generator: Draws which contacts exist.
    """
    k, rule = config.neuron.per_class, config.plasticity
    spread = torch.linspace(-1.0, 1.0, k) if k > 1 else torch.zeros(1)
    layer = SilentSynapseLayer(
        2 * dim,
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
    )
    if rule.target_over == "seen" and earlier:
        layer.slow_sum.copy_(earlier[-1].slow_sum)
        layer.slow_weight.copy_(earlier[-1].slow_weight)
    return layer
