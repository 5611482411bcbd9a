"""Sub-networks behind gates of class evidence: which open, and what gates and they answer together.

What decides between tasks, and on which features, is a learner's own: it gives its evidence for
every class, log P(c | x) up to a factor and a constant, and the rest is the same for all of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import ANNConfig, BestGateConfig
from snn_artsy.learners.base import Batch, Prediction, Task
from snn_artsy.learners.gates import DiscriminantGates
from snn_artsy.learners.state import listed, numbered, set_generator
from snn_artsy.learners.subnetworks import (
    Build,
    SubNetwork,
    embed,
    embed_training,
    n_parameters,
    rebuilt,
    states,
    train,
)
from snn_artsy.learners.tasks import take

TEMPERATURES = tuple(2.0 ** (k / 2) for k in range(15))
"""1 to 128: discriminants fitted to few samples are too sure of new ones, never too cautious."""
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of a sub-network's evidence for a class, beside its gate's."""


def negative_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Summed over samples, at each of `TEMPERATURES`: logits [n, C], target [n] -> [K]."""
    costs = [F.cross_entropy(logits / t, target, reduction="sum") for t in TEMPERATURES]
    return torch.stack(costs)


def pooled(own: Tensor, gate: Tensor, target: Tensor) -> tuple[float, float]:
    """Weights (a, b) with which softmax(a own + b gate) tells classes best on validation samples.

    A logarithmic opinion pool (Genest & Zidek 1986): a = w/T and b = (1 - w)/T with w of `SHARES`
    and T of `TEMPERATURES`. Without samples a = 1 and b = 0.

    Args:
        own, gate: Evidence for a task's classes, [n, C_t].
        target: Their places among them, int64 [n].
    """
    costs = [negative_log_likelihood(w * own + (1.0 - w) * gate, target) for w in SHARES]
    share, k = divmod(int(torch.stack(costs).argmin()), len(TEMPERATURES))
    w, t = SHARES[share], TEMPERATURES[k]
    return w / t, (1.0 - w) / t


def combined(gate: Tensor, within: Tensor, opened: Tensor, of_class: Tensor) -> Tensor:
    """Class posteriors log P(c | x) = log P(t_c | x) + log P(c | t_c, x), [B, C].

    Args:
        gate: log P(c | x) by the gates, [B, C].
        within: log P(c | t_c, x) by the sub-networks, [B, C]; read where they are open.
        opened: bool [B, N]; elsewhere the gates' own evidence stands.
        of_class: Task t_c of each class, int64 [C].
    """
    return torch.where(opened[:, of_class], of_tasks(gate, of_class)[:, of_class] + within, gate)


def of_tasks(gate: Tensor, of_class: Tensor) -> Tensor:
    """Task posteriors log P(t | x), summed over classes: log P(c | x) [B, C] -> [B, N]."""
    counts = of_class.bincount().tolist()
    return torch.stack([part.logsumexp(1) for part in gate.split(counts, 1)], dim=1)


class OpenedEvidence:
    """One sub-network a task, each with a discriminant of its own task's classes on h_0 + h_t.

    The likeliest tasks' gates open, and of these the sub-networks are computed. Their evidence is
    pooled with the gates' (`pooled`) and weighed with the task's probability (`combined`).

    Args:
        config: How many gates open, or which control of them is made.
        ann, build: How sub-networks are trained, and made.
        device: Where tensors live.
        seed: Of sub-networks.
    """

    def __init__(
        self, config: BestGateConfig, ann: ANNConfig, build: Build, device: str, seed: int
    ) -> None:
        self.config, self.ann, self.build = config, ann, build
        self.device, self.seed = device, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.networks: list[SubNetwork] = []
        self.own: list[tuple[Tensor, Tensor]] = []  # weights [D, C_t] and offsets [C_t]
        self.pools: list[tuple[float, float]] = []
        self.costs = torch.zeros(len(TEMPERATURES), dtype=torch.float64, device=device)

    def sharing(self) -> OpenedEvidence:
        """Another one for a learner with other gates: what either trains serves both."""
        other = OpenedEvidence(self.config, self.ann, self.build, self.device, self.seed)
        other.networks, other.generator = self.networks, self.generator
        return other

    # --- learning ---------------------------------------------------------------------------------

    def train(self, task: Task) -> None:
        """A new sub-network learns its task, if none has; `calibrate` must follow."""
        if task.number < len(self.networks):
            return
        network = self.build(self.generator)
        train(network, task, self.ann, self.generator)
        self.networks.append(network)

    def calibrate(self, task: Task, evidence: Tensor) -> None:
        """Fit the newest sub-network's discriminant, and find out how far evidence can be trusted.

        Temperatures and pools are tried on validation samples, with evidence that training samples
        alone gave; the discriminant that is kept is then fitted to both.

        Args:
            evidence: Of the gates for the task's validation samples, [n, C].
        """
        by_own, labels = embed_training([self.networks[task.number]], task)
        by_own, n_train = by_own[:, 0], len(task.train)
        held = labels[n_train:]
        self.costs = self.costs + negative_log_likelihood(evidence, held)
        own = _evidence(self._discriminant(by_own[:n_train], labels[:n_train]), by_own[n_train:])
        before = evidence.shape[1] - own.shape[1]  # classes of earlier tasks
        self.pools.append(pooled(own, evidence[:, before:], held - before))
        self.own.append(self._discriminant(by_own, labels))

    def _discriminant(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        own = DiscriminantGates(self.config.shrinkage)
        own.add_task(features, labels)
        return own.discriminant()

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
    ) -> Prediction:
        """The answer of gates and opened sub-networks.

        Args:
            evidence: Of the gates for every class so far, float64 [B, C].
            first: `first`, where the gates have seen it: then it took a pass of each sample.
            driven: Gates that can open by themselves, bool [B, N]; default: all.
        """
        of_class = self._task_of_class()
        gate = (evidence / self.temperature).log_softmax(1)
        tasks = of_tasks(gate, of_class)
        if self.config.gates == "shuffled":
            # a shuffled task keeps what the gates say of its classes among themselves
            among = gate - tasks[:, of_class]
            tasks = tasks.gather(1, self._permutations(batch))
            gate = tasks[:, of_class] + among
        opened = self._opened(tasks, batch.true_task, driven)
        within, added = torch.zeros_like(gate), torch.zeros_like(batch.features)
        for t, (network, own) in enumerate(zip(self.networks, self.own, strict=False)):
            rows = opened[:, t].nonzero()[:, 0]
            if not len(rows):
                continue  # a silent gate's sub-network is not computed
            known = first if t == 0 else None
            h = embed([network], take(batch, rows))[:, 0] if known is None else known[rows]
            added[rows] += h - batch.features[rows]
            mine = (of_class == t).nonzero()[:, 0]
            a, b = self.pools[t]
            pool = a * _evidence(own, h) + b * evidence[rows][:, mine]
            within[rows[:, None], mine] = pool.log_softmax(1)
        scores = combined(gate, within, opened, of_class)
        if self.config.gates == "open":  # nothing is gated: all tasks are equally likely
            scores = within
        if batch.true_task is not None:
            others = of_class != batch.true_task[:, None]
            scores = within.masked_fill(others, torch.finfo(torch.float32).min)
        dtype = batch.features.dtype
        odds = (tasks - torch.log1p(-tasks.exp().clamp_max(1.0 - 1e-15))).to(dtype)
        gated = self.config.gates not in ("open", "shut")
        return Prediction(
            scores.to(dtype),
            odds if gated else None,
            opened if gated else None,
            vit_passes=self._passes(opened, first is not None),
            added_norm=added.norm(dim=1) / batch.features.norm(dim=1).clamp_min(1e-12),
            shut_predicted=gate.argmax(1),
        )

    @property
    def temperature(self) -> float:
        """Of the gates' evidence: likeliest for the validation samples of all tasks, each asked
        when its task came."""
        return TEMPERATURES[int(self.costs.argmin())]

    def _task_of_class(self) -> Tensor:
        counts = torch.tensor([len(offsets) for _, offsets in self.own], device=self.device)
        return torch.arange(len(counts), device=self.device).repeat_interleave(counts)

    def _opened(self, tasks: Tensor, true_task: Tensor | None, driven: Tensor | None) -> Tensor:
        """m_t, bool [B, N]: the likeliest tasks' gates, or as ``gates`` or an oracle says."""
        n = tasks.shape[1]
        if true_task is not None:
            return true_task[:, None] == torch.arange(n, device=tasks.device)
        if self.config.gates in ("open", "shut"):
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

    def _passes(self, opened: Tensor, with_first: bool) -> Tensor:
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
        pools = torch.tensor(self.pools, dtype=torch.float64).reshape(-1, 2)
        return (
            numbered("own.weights.", [weights for weights, _ in self.own])
            | numbered("own.offsets.", [offsets for _, offsets in self.own])
            | {"pools": pools, "temperature.costs": self.costs}
            | states(self.networks)
        )

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.networks = rebuilt(self.build, state)
        weights, offsets = (listed(state, f"own.{name}.") for name in ("weights", "offsets"))
        self.own = list(zip(weights, offsets, strict=True))
        self.pools = [(a, b) for a, b in state["pools"].tolist()]
        self.costs = state["temperature.costs"]

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.load_state_dict(state)
        set_generator(self.generator, state["generator"])


def _evidence(discriminant: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    """Linear discriminants of classes: [B, D] -> float64 [B, C]."""
    weights, offsets = discriminant
    return x.double() @ weights - offsets
