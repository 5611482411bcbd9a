"""What learners that rehearse share: samples kept as they passed, and a classifier that grows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_artsy.config import ANNConfig, MemoryConfig
from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Prediction, Task, sizes
from snn_artsy.learners.state import set_generator
from snn_artsy.learners.subnetworks import Bottleneck

_KEPT = ("labels", "index", "slots", "known", "logits")


class PassingSamples:
    """Samples of a stream that were kept while they passed: a reservoir or a ring buffer.

    With ``total`` each sample that has passed is among the ones kept with the same probability
    (reservoir sampling; Vitter 1985, algorithm R); with ``per_class`` the last ones of each class
    are kept (ring buffer; Chaudhry et al. 2019, Lopez-Paz & Ranzato 2017).

    Args:
        config: ``total`` or ``per_class``.
        dim: D.
        device: Where they are kept.
        generator: Draws what is kept, and what is rehearsed.

    Attributes:
        features: h_0, [M, D].
        labels, index: int64 [M].
        logits: What the classifier answered when they passed, [M, C]; 0 for later classes.
        known: How many classes there were then, int64 [M].
    """

    def __init__(
        self, config: MemoryConfig, dim: int, device: str, generator: torch.Generator
    ) -> None:
        self.config, self.generator = config, generator
        self.features = torch.zeros(0, dim, device=device)
        self.labels = torch.zeros(0, dtype=torch.int64, device=device)
        self.index = self.slots = self.known = self.labels
        self.logits = torch.zeros(0, 0, device=device)
        self.seen = torch.zeros(0, dtype=torch.int64)  # of each class

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, batch: LabelledBatch, logits: Tensor) -> None:
        """Let samples pass, one after the other.

        Args:
            logits: [B, C].
        """
        taken: dict[int, int] = {}
        for row, label in enumerate(batch.labels.tolist()):
            if (slot := self._slot(label)) is not None:
                taken[slot] = row  # a later sample takes the place of an earlier one
        keep = ~torch.isin(self.slots, torch.tensor([*taken]).to(self.slots))
        rows = torch.tensor([*taken.values()], dtype=torch.int64, device=self.labels.device)
        slots = torch.tensor([*taken], dtype=torch.int64, device=self.labels.device)
        wider = F.pad(self.logits, (0, logits.shape[1] - self.logits.shape[1]))
        self.features = torch.cat([self.features[keep], batch.features[rows]])
        self.labels = torch.cat([self.labels[keep], batch.labels[rows]])
        self.index = torch.cat([self.index[keep], batch.index[rows]])
        self.logits = torch.cat([wider[keep], logits.detach()[rows]])
        self.known = torch.cat([self.known[keep], torch.full_like(slots, logits.shape[1])])
        self.slots = torch.cat([self.slots[keep], slots])

    def _slot(self, label: int) -> int | None:
        """The place of the next sample of a class; None: it is not kept."""
        self.seen = F.pad(self.seen, (0, max(label + 1 - len(self.seen), 0)))
        self.seen[label] += 1
        if self.config.per_class is not None:
            passed = int(self.seen[label]) - 1
            return label * self.config.per_class + passed % self.config.per_class
        assert self.config.total is not None  # MemoryConfig sees to it that one of the two is given
        n = int(self.seen.sum())
        if n <= self.config.total:
            return n - 1
        place = int(torch.randint(n, (), generator=self.generator))
        return place if place < self.config.total else None

    def renew(self, batch: Batch, logits: Tensor) -> None:
        """Replace the logits of samples that are kept and pass again."""
        of_kept, of_batch = torch.nonzero(self.index[:, None] == batch.index, as_tuple=True)
        self.logits[of_kept] = logits.detach()[of_batch]
        self.known[of_kept] = logits.shape[1]

    def draw(self, n: int) -> Tensor:
        """Row numbers of at most ``n`` of the kept samples, each as likely as the others."""
        order = torch.randperm(len(self), generator=self.generator)
        return order[:n].to(self.labels.device)

    def stored_parameters(self, with_logits: bool) -> int:
        return self.features.numel() + with_logits * self.logits.numel()

    def checkpoint(self) -> dict[str, Tensor]:
        """Numbers, labels and logits; features are read from the data again."""
        return {f"memory.{name}": getattr(self, name) for name in (*_KEPT, "seen")}

    def restore(self, state: dict[str, Tensor], training: Iterable[LabelledBatch]) -> None:
        """Take over `checkpoint`; ``training``: the samples of the tasks that were learnt."""
        for name in _KEPT:
            setattr(self, name, state[f"memory.{name}"])
        self.seen = state["memory.seen"].cpu()
        self.features = self.features.new_zeros(len(self.index), self.features.shape[1])
        for train in training:
            of_kept, of_train = torch.nonzero(self.index[:, None] == train.index, as_tuple=True)
            self.features[of_kept] = train.features[of_train]


class Rehearsing(Learner):
    """A linear classifier on phi = h_0, or on phi = h_0 + a small MLP's answer to h_0 (``hidden``),
    whose rows for new classes start at zero. Subclasses say how it learns.

    Args:
        config: Of the memory and of gradient descent.
        dim: D.
        device: Where tensors live.
        seed: Of the MLP's start, the order of samples and what is drawn from the memory.
    """

    def __init__(self, config: MemoryConfig, dim: int, device: str, seed: int) -> None:
        self.config = config
        self.generator = torch.Generator().manual_seed(seed)
        self.mlp: Bottleneck | None = None
        if config.hidden:
            shape = ANNConfig(bottleneck=config.hidden, scale=1.0)
            self.mlp = Bottleneck(dim, shape, self.generator).to(device)
        self.weight = torch.zeros(0, dim, device=device)
        self.bias = torch.zeros(0, device=device)

    def embedded(self, features: Tensor) -> Tensor:
        """phi, [B, D]."""
        return features if self.mlp is None else features + self.mlp(features)

    def logits(self, features: Tensor) -> Tensor:
        """[B, C]."""
        return F.linear(self.embedded(features), self.weight, self.bias)

    def predict(self, batch: Batch) -> Prediction:
        if not len(self.weight):
            raise RuntimeError("no classifier yet: learn a task first")
        with torch.no_grad():
            return Prediction(self.logits(batch.features))

    def grow(self, task: Task) -> list[Tensor]:
        """Make room for a task's classes: what is trained then."""
        new = len(task.classes)
        self.weight = nn.Parameter(F.pad(self.weight.detach(), (0, 0, 0, new)))
        self.bias = nn.Parameter(F.pad(self.bias.detach(), (0, new)))
        return [self.weight, self.bias, *([] if self.mlp is None else self.mlp.parameters())]

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict({name: state[name] for name in self.state_dict()})
        set_generator(self.generator, state["generator"])


class WithPassingSamples(Rehearsing):
    """A classifier that rehearses samples of a reservoir or a ring buffer.

    Attributes:
        keeps_logits: It rehearses its own earlier answers, too.
    """

    revisits = True
    keeps_logits = False

    def __init__(self, config: MemoryConfig, dim: int, device: str, seed: int) -> None:
        super().__init__(config, dim, device, seed)
        self.memory = PassingSamples(config, dim, device, self.generator)

    def checkpoint(self) -> dict[str, Tensor]:
        return super().checkpoint() | self.memory.checkpoint()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        super().restore(state, tasks)
        self.memory.restore(state, (task.train for task in tasks))

    def report(self) -> dict[str, Any]:
        state = self.state_dict()
        report = sizes(sum(v.numel() for v in state.values()), state)
        kept = self.memory.stored_parameters(self.keeps_logits)
        report["stored_parameters"] += kept
        report["stored_bytes"] += 4 * kept + 8 * len(self.memory)  # and a label each
        return report | {"kept_samples": len(self.memory)}
