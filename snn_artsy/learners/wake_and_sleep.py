"""How spiking sub-networks are taught: pairing while a task is there, and replay after it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from snn_artsy.config import SNNConfig
from snn_artsy.learners.base import LabelledBatch, Learner, Task, stored_bytes
from snn_artsy.learners.probe import Probe
from snn_artsy.learners.prototypes import GatedPrototypes, class_means
from snn_artsy.learners.replay import Replay
from snn_artsy.learners.sleep import SLEEP, changing_asleep, foreseen, passes
from snn_artsy.learners.spiking_subnetworks import (
    EPOCH_STRIDE,
    STREAMS,
    SpikingSubnetworks,
    next_scaling,
    training_of,
)
from snn_artsy.learners.state import below, listed, number, numbered, set_generator, under
from snn_artsy.learners.windows import Shown
from snn_artsy.observer import SynapseObserver, told_every
from snn_artsy.synapses.inhibition import InhibitoryNeurons
from snn_artsy.synapses.noise import uniform
from snn_artsy.synapses.pairing import each_taught, shuffle_in_time, teaching_spikes
from snn_artsy.synapses.release import Draws

Control = Literal[
    "none", "permuted_contacts", "shuffled_labels", "random_contacts", "shuffled_timing"
]
# Plain numbers that a checkpoint holds, so that a resumed learner continues from them.
_COUNTERS = ("epoch", "_batches", "_spikes_shown", "_images_shown")


class TaughtSubnetworks(SpikingSubnetworks):
    """Sub-networks whose contacts learn by pairing, and by replay before they are captured.

    Args:
        config, dim, device, seed, observer: Of `SpikingSubnetworks`; the order of presentations is
            drawn from the seed, too.
        replay: What stands in for earlier tasks' samples.
        control: A control experiment instead of the model: contacts permuted within each neuron, or
            placed at random at equal density, after learning; teacher labels shuffled; presynaptic
            spikes shuffled in time inside each training presentation.

    Attributes:
        recall: Mean of what drove the synapses for each class, less the code's mean, [n, D] for
            each task.
        prototypes: Of h_0.
    """

    after_teaching: Callable[[], None] | None = None
    """Called when a task's contacts have been taught and captured, before they are measured."""

    def __init__(
        self,
        config: SNNConfig,
        replay: Replay,
        dim: int,
        device: str,
        seed: int,
        observer: SynapseObserver | None = None,
        control: Control = "none",
    ) -> None:
        super().__init__(config, dim, device, seed, observer)
        self.replay, self.control = replay, control
        self.recall: list[Tensor] = []
        self.prototypes = GatedPrototypes()
        self.epoch = 0  # finished epochs of the task that is being learnt
        self._batches = 0

    def _training(self, task: Task) -> LabelledBatch:
        """What contacts learn a task from, with what drives them as features."""
        train = training_of(task, self.config)
        return replace(train, features=self.driven_by(train))

    def _teach(self, task: Task) -> None:
        """A new sub-network learns its task; its contacts, and others that replay changed, are
        captured."""
        train = self._training(task)
        if self.epoch == 0:  # else it was restored in the middle of this task
            if self.scaling is None:
                self.probe.input_population(self.dim)
            self.scaling = next_scaling(self.scaling, train, self.replay, self.config)
            self._add_subnetwork(len(task.classes))
            classes = np.repeat(np.array(task.classes), self.config.neuron.per_class)
            self.probe.observer.population(f"task{task.number}", classes)
            self.probe.wait_for_spikes("train")
            self._batches = 0
        self._pair(task, train)
        self.epoch = 0
        self.replay.add_task(train)
        self._sleep(task.number)
        if self.config.contacts.capture and self.config.plasticity.rule != "none":
            for u in changing_asleep(len(self.layers), self.config.replay):
                self.probe.change(u, self.layers[u], self.layers[u].capture())
        self._apply_contact_control()
        if self.inhibition is not None:
            self._settle(train, self.inhibition)
        if self.after_teaching is not None:
            self.after_teaching()
        assert self.scaling is not None
        means = class_means(train.features, train.labels, task.classes)
        self.recall.append(means - self.scaling.mean.float())

    def _pair(self, task: Task, train: LabelledBatch) -> None:
        """The pairing protocol: each training sample is shown, its class's assembly is taught."""
        t, layer = task.number, self.layers[-1]
        teacher, duration = self.config.teacher, self.config.encoding.duration_ms(teaching=True)
        taught = self._taught(task, train)
        if self.control == "shuffled_labels":
            mixed = torch.randperm(len(train), generator=self.generator)
            taught = taught[mixed.to(self.device)]
        traced = self.probe.choose_traced(layer)
        n_batches = -(-len(train) // self.config.plasticity.batch_size)
        pairs_every = told_every(n_batches * self.config.plasticity.epochs)
        for epoch in range(self.epoch, self.config.plasticity.epochs):
            windows = self.probe.windows(layer, n_batches, epoch)
            offset = EPOCH_STRIDE * epoch
            order = torch.randperm(len(train), generator=self.generator).to(self.device)
            for rows in order.split(self.config.plasticity.batch_size):
                index = train.index[rows]
                pre = self._encode(self.encoder, train.features[rows], index, "train", offset)
                if self.control == "shuffled_timing":
                    pre = shuffle_in_time(pre, self.seed, STREAMS["shuffle"] + offset, index)
                fires = teaching_spikes(
                    self.schedule,
                    teacher,
                    taught[rows],
                    self.seed,
                    STREAMS["teacher"] + offset,
                    index,
                )
                draws = self._draws(index, "train", offset)
                start = self.probe.clock_ms + duration * np.arange(len(rows))
                before = layer.ampa[traced[:, 0], traced[:, 1]]
                predicted = None
                if self.config.plasticity.rule == "error" and epoch > 0:
                    # in the first epoch no contact predicts anything yet: learning is Hebbian
                    predicted = self._foreseen(pre, index, offset, draws)[-1]
                current = fires * teacher.current
                was = {name: x.clone() for name, x in layer.named_buffers()} if windows else {}
                response, change = layer.pair(pre, current, duration, predicted, draws)
                self.probe.clock_ms += duration * len(rows)
                self.probe.presentations(train, rows, start, t, teaching=True)
                chosen = self.probe.recorded_of(len(rows))
                if len(chosen):
                    told = {t: response.spikes[:, chosen]}
                    self.probe.spikes(pre[:, chosen], told, start[chosen.numpy()])
                self.probe.change(t, layer, change, start)
                if windows is not None:
                    shown = Shown(was, pre, current, predicted, float(start[0]), draws)
                    self.probe.trace_steps(t, layer, traced, windows, shown, change)
                elif self._batches % self.probe.observer.plan.trace_every == 0:
                    self.probe.trace(t, layer, traced, pre, response, draws)
                if self._batches % pairs_every == 0:
                    self.probe.pairings(t, layer, traced, before, pre, response, draws)
                self._batches += 1
                if self.config.plastic_old:
                    for u, old in enumerate(self.layers[:-1]):
                        _, change = old.pair(pre, None, duration, draws=draws)
                        self.probe.change(u, old, change, start)
            self.epoch = epoch + 1
            if self.after_epoch is not None:
                self.after_epoch()

    def _taught(self, task: Task, train: LabelledBatch) -> Tensor:
        """Whom each sample teaches, bool [n, n_post]: its class's assembly."""
        assembly = torch.arange(self.layers[-1].n_post, device=self.device)
        assembly //= self.config.neuron.per_class
        return assembly == (train.labels - task.classes[0])[:, None]

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
        for nth, corrected in passes([self.layers[u] for u in changing], replay, t):
            shown = self.replay.batch(list(range(t + 1)), purpose=SLEEP + nth, mirrored=True)
            number, labels = torch.arange(len(shown), device=self.device), shown.labels
            if self.control == "shuffled_labels":
                mixed = torch.randperm(len(labels), generator=self.generator)
                labels = labels[mixed.to(self.device)]
            offset = EPOCH_STRIDE * (nth + 1)
            order = torch.randperm(len(shown), generator=self.generator).to(self.device)
            for rows in order.split(replay.batch_size):
                index = number[rows]
                pre = self._encode(self.encoder, shown.features[rows], index, "replay", offset)
                if self.control == "shuffled_timing":
                    pre = shuffle_in_time(pre, self.seed, STREAMS["shuffle"] + offset, index)
                taught = assembly == labels[rows][:, None]
                fires = teaching_spikes(
                    self.schedule, teacher, taught, self.seed, STREAMS["teacher"] + offset, index
                ).split(sizes, 2)
                draws = self._draws(index, "replay", offset)
                predicted: Sequence[Tensor | None] = [None] * len(self.layers)
                if corrected:
                    predicted = self._foreseen(pre, index, offset, draws)
                start = self.probe.clock_ms + duration * np.arange(len(rows))
                self.probe.clock_ms += duration * len(rows)
                self.probe.presentations(shown, rows, start, t, teaching=True, split="replay")
                for u in changing:
                    current = fires[u] * teacher.current
                    _, change = self.layers[u].pair(pre, current, duration, predicted[u], draws)
                    self.probe.change(u, self.layers[u], change, start)

    def _settle(self, train: LabelledBatch, inhibition: InhibitoryNeurons) -> None:
        """Inhibitory neurons of the newest sub-network, and their plasticity while the network
        answers this task's images, and stand-ins for earlier ones, without a teacher."""
        t, size = len(self.layers) - 1, self.config.plasticity.batch_size
        rows = torch.arange(len(train), device=self.device)

        def spikes(features: Tensor, index: Tensor, epoch: int) -> Tensor:
            offset = EPOCH_STRIDE * epoch
            return self._encode(self.reader, features, index, "inhibition", offset)

        batches = [spikes(train.features[b], train.index[b], 0) for b in rows.split(size)]
        inhibition.add(self.layers[t], batches)
        inhibition.balance(self.layers)
        if inhibition.config.source == "fixed":
            return
        old = self.replay.batch(list(range(t)), purpose=5)
        features = torch.cat([train.features, old.features])
        # numbers of their own, since stand-ins have none
        index = torch.arange(len(features), device=self.device)
        generator = torch.Generator().manual_seed(self.seed + t)
        for epoch in range(1, inhibition.config.epochs + 1):
            order = torch.randperm(len(features), generator=generator).to(self.device)
            for chosen in order.split(size):
                pre = spikes(features[chosen], index[chosen], epoch)
                draws = self._draws(index[chosen], "inhibition", EPOCH_STRIDE * epoch)
                inhibition.learn(self.layers, pre, draws)

    def _foreseen(self, pre: Tensor, index: Tensor, offset: int, draws: Draws) -> list[Tensor]:
        """Dendritic spikes of every sub-network at the times of teaching."""
        steps = torch.nonzero(self.schedule.teach.any(1))[:, 0].to(self.device)
        stream = STREAMS["competition"] + offset
        u = uniform(self.seed, stream, index, pre.shape[0], 1, only=steps)[..., 0]
        neuron = self.config.neuron
        spikes = foreseen(self.layers, pre, steps, neuron.per_class, neuron.temperature, u, draws)
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
        # a generator of its own, so that training draws the same numbers as without control
        generator = torch.Generator().manual_seed(self.seed + u + 1)
        shape = layer.state.shape
        if self.control == "permuted_contacts":
            order = torch.rand(shape, generator=generator).argsort(1)
            order += layer.n_sites * torch.arange(layer.n_post)[:, None]
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

    # --- controls ---------------------------------------------------------------------------------

    @abstractmethod
    def variant(self, config: SNNConfig, control: Control = "none") -> TaughtSubnetworks:
        """An untaught learner that differs from this one in ``config`` or by a control."""

    def controls(self) -> dict[str, Learner]:
        from snn_artsy.learners.shuffled import EQUAL_DENSITY, ShuffledAtEqualDensity

        blocked = replace(self.config, plasticity=replace(self.config.plasticity, rule="none"))
        names = [name for name in get_args(Control) if name != "none"]
        learners: dict[str, Learner] = {n: self.variant(self.config, n) for n in names}
        learners["no_plasticity"] = self.variant(blocked)
        if self.config.plasticity.rule != "none":
            learners[EQUAL_DENSITY] = ShuffledAtEqualDensity(self)
        return learners

    # --- what is kept and reported ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        return (
            super().state_dict() | numbered("recall.", self.recall) | self.prototypes.state_dict()
        )

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.recall = listed(state, "recall.")
        self.prototypes.load_state_dict(state)

    def checkpoint(self) -> dict[str, Tensor]:
        """Also between the epochs of a task, from `after_epoch`."""
        numbers = {name: number(getattr(self, name)) for name in _COUNTERS}
        numbers |= {name: number(getattr(self.probe, name)) for name in Probe.COUNTERS}
        return (
            self.state_dict()
            | self.replay.checkpoint()
            | under("counters.", numbers)
            | {"generator": self.generator.get_state()}
        )

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        self.replay.restore(state, (self._training(task) for task in tasks))
        for name, value in below(state, "counters.").items():
            plain = name.removeprefix("_")  # as checkpoints before 0.1 have the probe's
            if plain in Probe.COUNTERS:
                setattr(self.probe, plain, value.item())
            else:
                setattr(self, name, value.item())
        # last: making the layers drew from it
        set_generator(self.generator, state["generator"])

    def report(self) -> dict[str, Any]:
        state, report = self.state_dict(), super().report()
        stored = sum(v.numel() for v in state.values()) + self.replay.stored_parameters()
        return report | {
            "parameters": report["n_contacts"],
            "stored_parameters": stored,
            "stored_bytes": stored_bytes(state) + self.replay.stored_bytes(),
        }
