"""Sub-networks behind gates of class evidence: which open, and what gates and they answer together.

What decides between tasks, and on which features, is a learner's own: it gives its evidence for
every class, log P(c | x) up to a factor and a constant, and the rest is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import ANNConfig, BestGateConfig
from snn_artsy.learners.base import Batch, Prediction, Task, all_training
from snn_artsy.learners.class_evidence import (
    SHARES,
    TEMPERATURES,
    Beside,
    chained,
    negative_log_likelihood,
    of_tasks,
    pool_costs,
    pooled,
    shuffled_tasks,
)
from snn_artsy.learners.gates import DiscriminantGates
from snn_artsy.learners.replay import Exemplars
from snn_artsy.learners.state import modules, set_generator, under
from snn_artsy.learners.subnetworks import (
    Build,
    SubNetwork,
    begun,
    embed,
    embed_training,
    n_parameters,
    rebuilt,
    shown,
    states,
    train,
)
from snn_artsy.learners.tasks import take, whole


class OpenedEvidence:
    """One sub-network a task, each with a discriminant of its task's classes and all later ones.

    A discriminant sees [h_0, h_0 + h_1, h_0 + h_t]. Samples of later tasks pass the sub-networks
    that are there already, whereas those of earlier tasks are gone when a sub-network comes. The
    likeliest tasks' gates open, and of these the sub-networks are computed: a second look. Each
    tells its task from later ones and its classes from each other, by its evidence and the gates'
    together (`pool_costs`); where a sub-network is silent the gates' own stands. All is `chained`.

    With exemplars every sub-network has seen all classes, the earlier ones by what is kept of them,
    and tells each from all others; what the opened ones say is `pooled`.

    Args:
        config: How many gates open, or which control of them is made.
        ann, build: How sub-networks are trained, and made.
        device: Where tensors live.
        seed: Of sub-networks.
        exemplars: Keeps samples of each task, for sub-networks that come later; None: nothing is
            kept.
    """

    def __init__(
        self,
        config: BestGateConfig,
        ann: ANNConfig,
        build: Build,
        device: str,
        seed: int,
        exemplars: Exemplars | None = None,
    ) -> None:
        self.config, self.ann, self.build = config, ann, build
        self.device, self.seed, self.exemplars = device, seed, exemplars
        self.generator = torch.Generator().manual_seed(seed)
        self.networks: list[SubNetwork] = []
        self.own: list[DiscriminantGates] = []
        n = len(TEMPERATURES)
        self.costs = torch.zeros(n, dtype=torch.float64, device=device)
        self.pools = torch.zeros(len(SHARES), n, dtype=torch.float64, device=device)

    def sharing(self) -> OpenedEvidence:
        """Another one for a learner with other gates: what either trains serves both."""
        kept = self.exemplars
        own = None if kept is None else Exemplars(kept.per_class, kept.image_bytes)
        other = OpenedEvidence(self.config, self.ann, self.build, self.device, self.seed, own)
        other.networks, other.generator = self.networks, self.generator
        return other

    # --- learning ---------------------------------------------------------------------------------

    def train(self, task: Task) -> None:
        """A new sub-network learns its task, if none has; `calibrate` must follow."""
        if task.number < len(self.networks):
            return
        network = begun(self.build, self.networks, self.ann, self.generator)
        train(network, task, self.ann, self.generator)
        self.networks.append(network)

    def calibrate(
        self,
        task: Task,
        evidence: Tensor,
        chosen: Tensor | None = None,
        beside: Beside | None = None,
    ) -> None:
        """All sub-networks see the task, and find out how far they and the gates can be trusted.

        Temperatures and pools are tried on validation samples, with evidence that training samples
        alone gave; the discriminants that are kept are then fitted to both.

        Args:
            evidence: Of the gates for the task's validation samples, [n, C].
            chosen: Numbers of the samples to keep as exemplars; default: by herding on h_0.
            beside: What of that evidence stays beside a sub-network's; default: none of it.
        """
        networks = self.networks[: task.number + 1]
        features, labels, _ = all_training(task)
        n_train = len(task.train)
        held = labels[n_train:]
        self.costs = self.costs + negative_log_likelihood(evidence, held)
        self.own.append(self._begun(task.number))
        first = embed_training(networks[0], task)
        for t, discriminant in enumerate(self.own):
            # the first one is shown everything, as the gates are
            some = shown(task, t - 1, task.number - 1, self.ann) if t else None
            rows = torch.arange(len(labels), device=labels.device) if some is None else some
            h1 = first[rows]
            told = embed_training(networks[t], task, some) if t else h1
            seen = _seen(features[rows], h1, told)
            fits = rows < n_train
            asked = rows[~fits] - n_train
            tried = deepcopy(discriminant)
            tried.add_task(seen[fits], labels[rows[fits]])
            own = tried.class_scores(seen[~fits])
            before = evidence.shape[1] - own.shape[1]  # classes of earlier tasks
            if beside is not None:
                own = beside.joined_by(own, asked, slice(before, None))
            costs = pool_costs(own, evidence[asked, before:], held[asked] - before)
            self.pools = self.pools + costs
            discriminant.add_task(seen, labels[rows])
        if self.exemplars is not None:
            every = whole(task)
            self.exemplars.add_task(
                every if chosen is None else take(every, torch.isin(every.index, chosen))
            )

    def _begun(self, t: int) -> DiscriminantGates:
        """The discriminant of a new sub-network, which exemplars of earlier tasks pass first."""
        discriminant = DiscriminantGates(self.config.shrinkage)
        if self.exemplars is None:
            return discriminant
        for u in range(t):
            kept = self.exemplars.batch([u], purpose=0)
            told = embed([self.networks[0], self.networks[t]], kept)
            discriminant.add_task(_seen(kept.features, told[:, 0], told[:, 1]), kept.labels)
        return discriminant

    # --- prediction -------------------------------------------------------------------------------

    def first(self, batch: Batch) -> Tensor:
        """h_0 + h_1, [B, D]: of the only sub-network that was there when any class was."""
        if not self.networks:
            raise RuntimeError("no gates yet: learn a task first")
        return embed(self.networks[:1], batch)[:, 0]

    def answer(
        self,
        batch: Batch,
        evidence: Tensor,
        first: Tensor | None = None,
        driven: Tensor | None = None,
        beside: Beside | None = None,
    ) -> Prediction:
        """The answer of gates and opened sub-networks.

        Args:
            evidence: Of the gates for every class so far, float64 [B, C].
            first: `first`, where the gates have seen it; else it is computed if any gate opens.
            driven: Gates that can open by themselves, bool [B, N]; default: all.
            beside: What of the gates' evidence stays beside a sub-network's; default: none of it.
        """
        of_class, counts = self._task_of_class(), self._counts()
        gate = (evidence / self.temperature).log_softmax(1)
        tasks = of_tasks(gate, of_class)
        if self.config.gates == "shuffled":
            order = self._permutations(batch)
            gate = shuffled_tasks(gate, of_class, order)
            tasks = tasks.gather(1, order)
            if beside is not None:
                stays = (beside.evidence / self.temperature).log_softmax(1)
                stays = self.temperature * shuffled_tasks(stays, of_class, order)
                beside = replace(beside, evidence=stays)
        opened = self._opened(tasks, batch.true_task, driven)
        looked = opened.any(1) if first is None else torch.ones_like(opened[:, 0])
        if first is None:
            first, rows = batch.features.clone(), looked.nonzero()[:, 0]
            first[rows] = self.first(take(batch, rows))
        (w, temperature), added, splits = self._pool(), torch.zeros_like(batch.features), []
        for t, discriminant in enumerate(self.own):
            told = slice(self._first_told(t), None)
            # a silent gate's sub-network is not computed: the gates' own evidence stands
            split = gate[:, told].log_softmax(1)
            rows = opened[:, t].nonzero()[:, 0]
            if len(rows):
                h, h1 = batch.features[rows], first[rows]
                own = embed([self.networks[t]], take(batch, rows))[:, 0] if t else h1
                added[rows] += own - h
                # gates as shuffled as they are, in units of their evidence
                by_gate = self.temperature * gate[rows, told]
                told_by_own = discriminant.class_scores(_seen(h, h1, own))
                if beside is not None:
                    told_by_own = beside.joined_by(told_by_own, rows, told)
                pool = w * told_by_own + (1.0 - w) * by_gate
                split[rows] = (pool / temperature).log_softmax(1)
            splits.append(split)
        every = self.exemplars is not None  # each has seen every class
        scores = pooled(splits, opened, gate) if every else chained(splits, counts)
        within = []
        for t, (split, n) in enumerate(zip(splits, counts, strict=True)):
            begin = sum(counts[:t]) - self._first_told(t)
            within.append(split[:, begin : begin + n].log_softmax(1))
        if self.config.gates == "open":  # nothing is gated: all tasks are equally likely
            scores = torch.cat(within, dim=1)
        if batch.true_task is not None:
            others = of_class != batch.true_task[:, None]
            scores = torch.cat(within, 1).masked_fill(others, torch.finfo(torch.float32).min)
        dtype = batch.features.dtype
        odds = (tasks - torch.log1p(-tasks.exp().clamp_max(1.0 - 1e-15))).to(dtype)
        gated = self.config.gates in ("likeliest", "shuffled")
        return Prediction(
            scores.to(dtype),
            odds if gated else None,
            opened if gated else None,
            vit_passes=self._passes(opened, looked),
            added_norm=added.norm(dim=1) / batch.features.norm(dim=1).clamp_min(1e-12),
            shut_predicted=gate.argmax(1),
        )

    @property
    def temperature(self) -> float:
        """Of the gates' evidence: likeliest for the validation samples of all tasks, each asked
        when its task came."""
        return TEMPERATURES[int(self.costs.argmin())]

    def _pool(self) -> tuple[float, float]:
        """Share w of sub-networks' evidence beside the gates', and temperature of both: one pair
        for all sub-networks, since validation samples are few."""
        share, k = divmod(int(self.pools.argmin()), len(TEMPERATURES))
        return SHARES[share], TEMPERATURES[k]

    def _counts(self) -> list[int]:
        """Classes of each task: the first sub-network has seen all of them."""
        return [len(means) for means in self.own[0].means]

    def _first_told(self, t: int) -> int:
        """Label of the first class that sub-network t tells from the others."""
        return 0 if self.exemplars is not None else sum(self._counts()[:t])

    def _task_of_class(self) -> Tensor:
        counts = torch.tensor(self._counts(), device=self.device)
        return torch.arange(len(counts), device=self.device).repeat_interleave(counts)

    def _opened(self, tasks: Tensor, true_task: Tensor | None, driven: Tensor | None) -> Tensor:
        """m_t, bool [B, N]: the likeliest tasks' gates, or as ``gates`` or an oracle says."""
        n = tasks.shape[1]
        if true_task is not None:
            return true_task[:, None] == torch.arange(n, device=tasks.device)
        if self.config.gates in ("open", "first", "shut"):
            return torch.full_like(tasks, self.config.gates == "open", dtype=torch.bool)
        best = tasks.topk(min(self.config.open, n), dim=1).indices
        likeliest = torch.zeros_like(tasks, dtype=torch.bool).scatter(1, best, True)
        return likeliest if driven is None else likeliest & driven

    def _permutations(self, batch: Batch) -> Tensor:
        """An order of tasks for each sample, drawn with its number alone: int64 [B, N]."""
        generator, n = torch.Generator(), len(self.own)
        orders = [
            torch.randperm(n, generator=generator.manual_seed(self.seed * 1_000_003 + index))
            for index in batch.index.tolist()
        ]
        return torch.stack(orders).to(self.device) if orders else batch.index.new_zeros(0, n)

    def _passes(self, opened: Tensor, with_first: Tensor) -> Tensor:
        """One for h_0, and a share for each sub-network that was computed."""
        networks = self.networks[: len(self.own)]
        own = torch.tensor([n.vit_passes for n in networks], device=opened.device)
        computed = opened.clone()
        computed[:, 0] |= with_first
        return 1 + (computed * own).sum(1)

    # --- what is kept and reported ----------------------------------------------------------------

    @property
    def n_parameters(self) -> int:
        return n_parameters(self.networks)

    def state_dict(self) -> dict[str, Tensor]:
        own = {
            name: tensor
            for t, discriminant in enumerate(self.own)
            for name, tensor in under(f"own.{t}.", discriminant.state_dict()).items()
        }
        return own | {"pools": self.pools, "temperature.costs": self.costs} | states(self.networks)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.networks = rebuilt(self.build, state)
        self.own = []
        for own in modules(state, "own."):
            self.own.append(DiscriminantGates(self.config.shrinkage))
            self.own[-1].load_state_dict(own)
        self.pools, self.costs = state["pools"], state["temperature.costs"]

    def checkpoint(self) -> dict[str, Tensor]:
        kept = {} if self.exemplars is None else self.exemplars.checkpoint()
        return self.state_dict() | kept | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        if self.exemplars is not None:
            self.exemplars.restore(state, [whole(task) for task in tasks])
        set_generator(self.generator, state["generator"])

    def with_exemplars(self, report: dict[str, Any]) -> dict[str, Any]:
        """A report whose stored sizes count what is kept of samples, too."""
        if self.exemplars is None:
            return report
        return report | {
            "stored_parameters": report["stored_parameters"] + self.exemplars.stored_parameters(),
            "stored_bytes": report["stored_bytes"] + self.exemplars.stored_bytes(),
        }


def _seen(h: Tensor, first: Tensor, own: Tensor) -> Tensor:
    """What a sub-network's discriminant is fitted to: [h_0, h_0 + h_1, h_0 + h_t], [B, 3D]; of the
    first sub-network without the repetition, [B, 2D]."""
    return torch.cat([h, first] if own is first else [h, first, own], dim=1)
