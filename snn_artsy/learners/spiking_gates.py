"""Artsy (SNN) with sub-networks in the ViT's blocks, which spiking silent synapses open."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import require
from snn_artsy.config import GateConfig, SNNConfig
from snn_artsy.learners.base import Batch, LabelledBatch, Prediction, Task, all_training
from snn_artsy.learners.opened_evidence import OpenedEvidence
from snn_artsy.learners.probe import Probe
from snn_artsy.learners.prototypes import class_means, cosine_scores
from snn_artsy.learners.replay import Exemplars, build_replay
from snn_artsy.learners.state import below, under
from snn_artsy.learners.subnetworks import adapters_of, in_parts, parts_of_images
from snn_artsy.learners.tasks import take, whole
from snn_artsy.learners.wake_and_sleep import Control, TaughtSubnetworks
from snn_artsy.observer import NullObserver, SynapseObserver
from snn_artsy.synapses.encoding import NEGLIGIBLE, within_class_scatter


class SpikingGates(TaughtSubnetworks):
    """Silent synapses between the ViT's units and class assemblies, whose spikes open sub-networks.

    Contacts are taught as `ArtsySNN`'s are. The votes of all assemblies are the class evidence of
    the gates; the likeliest tasks' gates open if their own neurons fired, and what gates and opened
    sub-networks say is combined as in `ArtsyBest`. Where no neuron fires all gates are shut, and
    the nearest class mean of h_0 answers. The decision from spikes alone is the class with the most
    votes (our definition).

    Args:
        config: Of silent synapses; ``tap`` says what drives them, ``teacher.source`` what teaches
            them.
        gate: Of what stands in for earlier tasks.
        subnetworks: Trained and asked.
        backbone: The frozen ViT, in whose blocks they are.
        dim: D.
        device: Where tensors live.
        seed: Of contacts, order of presentation and noise.
        observer: Receives reports of what happens; default: nobody does.
        control: A control experiment instead of the model.

    Raises:
        ConfigError: The tap is of a block that is not there, or an assembly has more neurons than
            the bottleneck that teaches them has units.
    """

    def __init__(
        self,
        config: SNNConfig,
        gate: GateConfig,
        subnetworks: OpenedEvidence,
        backbone: FrozenBackbone,
        dim: int,
        device: str,
        seed: int,
        observer: SynapseObserver | None = None,
        control: Control = "none",
    ) -> None:
        replay, driving = build_replay(gate, seed), config.tapped(dim)
        super().__init__(config, replay, driving, device, seed, observer, control)
        self.gate, self.subnetworks, self.size = gate, subnetworks, dim
        self.backbone, units = backbone, subnetworks.ann.bottleneck
        if config.tapped_block is not None:
            first = backbone.first_adapted(subnetworks.ann.blocks)
            backbone.require_class_token(first, config.tapped_block)
        if config.tapped_grid is not None:
            first = backbone.first_adapted(subnetworks.ann.blocks)
            backbone.require_grid(first, config.tapped_grid, "snn.tap")
        require(
            config.teacher.source == "classes" or config.neuron.per_class <= units,
            "snn.neuron.per_class",
            config.neuron.per_class,
            f"with snn.teacher.source adapter each neuron of an assembly stands for another of the "
            f"bottleneck's {units} units (ann.bottleneck): use at most so many",
        )
        self.beta = torch.ones((), device=device)
        self.tried: Tensor | None = None  # `_of_new_samples`, while their task is learnt

    def learn(self, task: Task) -> None:
        self.subnetworks.train(task)
        if task.number == 0 and (beside := self._beside(task.train)) is not None:
            self.beta = _ratio(task.train.features, beside, task.train.labels)
        features, labels, _ = all_training(task)
        means = class_means(features, labels, task.classes)
        if self.tried is None:  # else it was restored in the middle of this task
            self.tried = self._of_new_samples(task, means)
        self._teach(task)
        self.prototypes.add(means, [])
        # one choice of exemplars: by what drives the synapses
        kept = isinstance(self.replay, Exemplars)
        chosen = self.replay.batch([task.number], purpose=0).index if kept else None
        self.subnetworks.calibrate(task, self.tried, chosen)
        self.tried = None
        self.probe.wait_for_spikes("test")

    def _training(self, task: Task) -> LabelledBatch:
        """All of a task's samples: those for validation have been asked before."""
        every = whole(task)
        return replace(every, features=self.driven_by(every))

    def _of_new_samples(self, task: Task, means: Tensor) -> Tensor:
        """Evidence for the task's validation samples, float64 [n, C], by contacts that training
        samples alone have taught: a copy of the network is tried, of which nobody is told."""
        tried = copy(self)
        for name in ("layers", "replay", "recall", "prototypes", "inhibition"):
            setattr(tried, name, deepcopy(getattr(self, name)))
        tried.generator = torch.Generator().set_state(self.generator.get_state())
        tried.probe = Probe(NullObserver(), self.config, self.seed)
        tried.after_epoch = tried.after_teaching = None
        held = task.validation
        tried.prototypes.add(means, [])
        tried._teach(replace(task, validation=take(held, held.index[:0])))
        responses = tried._responses(self.driven_by(held), held.index, held.split)
        return tried._evidence(held, responses)

    def _taught(self, task: Task, train: LabelledBatch) -> Tensor:
        if self.config.teacher.source == "classes":
            return super()._taught(task, train)
        adapters = adapters_of(self.subnetworks.networks[task.number])
        assert adapters is not None
        active = adapters.bottleneck(train)
        return taught_by_units(active, train.labels, task.classes, self.config.neuron.per_class)

    def driven_by(self, batch: Batch) -> Tensor:
        """What drives the silent synapses: h_0, a block's class token, or parts of the image, alone
        or beside h_0, [B, n]."""
        if (n := self.config.tapped_block) is not None:
            return in_parts(batch, lambda part: self._class_token(part.tokens, n))
        if self.config.tapped_grid is not None and not self.config.tap.startswith("h0+"):
            return parts_of_images(batch, self.backbone, self.config.tapped_grid)
        return self._with(batch, self._beside(batch))

    def _beside(self, batch: Batch) -> Tensor | None:
        """What drives synapses beside h_0: h_1, or parts of the image; None: nothing does."""
        if self.config.tap == "first":
            return self._first(batch) - batch.features
        if self.config.tapped_grid is not None and self.config.tap.startswith("h0+"):
            return parts_of_images(batch, self.backbone, self.config.tapped_grid)
        return None

    def _class_token(self, tokens: Tensor, n: int) -> Tensor:
        first = self.backbone.first_adapted(self.subnetworks.ann.blocks)
        return self.backbone.class_token(tokens.to(self.backbone.device).float(), first, n)

    def _first(self, batch: Batch) -> Tensor:
        """h_0 + h_1, [B, D]; h_0 where no sub-network may answer."""
        return batch.features if self._shut else self.subnetworks.first(batch)

    @property
    def _shut(self) -> bool:
        return self.subnetworks.config.gates == "shut"

    def _with(self, batch: Batch, beside: Tensor | None) -> Tensor:
        if beside is None:
            return batch.features
        return torch.cat([batch.features, self.beta * beside], dim=1)

    def predict(self, batch: Batch) -> Prediction:
        operations: list[Tensor] = []
        first = self._first(batch) if self.config.tap == "first" else None
        # the first sub-network is computed once
        seen = self.driven_by(batch) if first is None else self._with(batch, first - batch.features)
        responses = self._responses(
            seen, batch.index, batch.split, record=batch, operations=operations
        )
        answer = self.subnetworks.answer(
            batch,
            self._evidence(batch, responses),
            None if self._shut else first,
            self._fired(responses),
        )
        return replace(
            answer,
            spike_scores=self._decision(responses),
            operations=torch.cat(operations),
            spike_counts=self._spike_counts(responses),
        )

    def _evidence(self, batch: Batch, responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Votes for every class so far, and of a silent network cosines of h_0 with class means,
        float64 [B, C]."""
        votes = torch.cat([votes for votes, _ in responses], dim=1).double()
        assert self.prototypes.base is not None
        without = cosine_scores(batch.features, self.prototypes.base).double()
        if self._shut:
            return without
        return torch.where(self._fired(responses).any(1)[:, None], votes, without)

    @staticmethod
    def _fired(responses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Sub-networks whose neurons fired, bool [B, N]."""
        return torch.stack([counts.sum(1) > 0 for _, counts in responses], dim=1)

    def variant(self, config: SNNConfig, control: Control = "none") -> SpikingGates:
        """Sub-networks do not depend on what opens them, so that each is trained once for all."""
        shared, own = self.subnetworks.sharing(), (self.size, self.device, self.seed)
        return SpikingGates(config, self.gate, shared, self.backbone, *own, control=control)

    # --- what is kept and reported ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        opened = under("opened.", self.subnetworks.state_dict())
        return super().state_dict() | opened | {"tap.beta": self.beta}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.beta = state["tap.beta"]
        self.subnetworks.load_state_dict(below(state, "opened."))

    def checkpoint(self) -> dict[str, Tensor]:
        tried = {} if self.tried is None else {"tried": self.tried}
        return super().checkpoint() | under("opened.", self.subnetworks.checkpoint()) | tried

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        super().restore(state, tasks)
        self.subnetworks.restore(below(state, "opened."), tasks)
        self.tried = state.get("tried")

    def report(self) -> dict[str, Any]:
        report, opened = super().report(), self.subnetworks
        parameters = report["n_contacts"] + opened.n_parameters
        report |= {"parameters": parameters, "temperature": opened.temperature}
        return opened.with_exemplars(report)


def taught_by_units(
    active: Tensor, labels: Tensor, classes: Sequence[int], per_class: int
) -> Tensor:
    """Whom each sample teaches where bottleneck units are the teachers, bool [n, K C].

    The K neurons of a class's assembly stand for the K units that tell the class best from the
    task's others, by the difference of the unit's means in standard deviations within. A neuron is
    taught by each sample, of whatever class, in which its unit is active beyond the middle of the
    two means (our definition).

    Args:
        active: Activity of the units, [n, r].
        labels: int64 [n].
        classes: The task's.
        per_class: K, at most r.
    """
    taught = []
    for c in classes:
        own, rest = active[labels == c], active[labels != c]
        mean, other = own.mean(0), rest.mean(0) if len(rest) else torch.zeros_like(own[0])
        within = (own - mean).square().sum(0) + (rest - other).square().sum(0)
        told = (mean - other) / (within / len(active)).sqrt().clamp_min(1e-12)
        units = told.argsort(descending=True, stable=True)[:per_class]
        taught.append(active[:, units] > 0.5 * (mean + other)[units])
    return torch.cat(taught, dim=1)


def _ratio(h0: Tensor, added: Tensor, labels: Tensor) -> Tensor:
    """Of the standard deviations of h_0 and h_1 within classes, [n, D] each; 1 where either is 0,
    as with one sample a class or a sub-network that says nothing."""
    of_h0, of_h1 = (
        within_class_scatter(x.double(), labels).diagonal().mean().sqrt() for x in (h0, added)
    )
    least = NEGLIGIBLE * h0.double().square().mean().sqrt()
    usable = (of_h0 > least) & (of_h1 > least)
    return torch.where(usable, of_h0 / of_h1, torch.ones_like(of_h0)).float()
