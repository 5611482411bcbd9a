"""DER++: dark experience replay, which rehearses labels and earlier answers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import DERConfig, MemoryConfig
from snn_artsy.learners.base import Task
from snn_artsy.learners.memory import WithPassingSamples
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.tasks import take


class DarkExperienceReplay(WithPassingSamples):
    """DER++ on frozen features (Buzzega et al. 2020, arXiv 2004.07211, eq. 6).

    The loss of a batch is its cross-entropy + ``alpha`` times the mean squared difference between
    the logits of one batch drawn from the memory and those kept with it + ``beta`` times the
    cross-entropy of another one. Kept logits are of the classes that there were when a sample last
    passed; later ones take no part (ours, since the head grows with the classes). With several
    epochs a sample passes the memory once, in the first, and its logits are renewed in the others
    (ours).
    """

    keeps_logits = True

    def __init__(
        self, config: MemoryConfig, der: DERConfig, dim: int, device: str, seed: int
    ) -> None:
        super().__init__(config, dim, device, seed)
        self.der = der

    def learn(self, task: Task) -> None:
        trained, train = self.grow(task), task.train
        answered = torch.zeros(0)  # of the current batch, before its step

        def loss(rows: Tensor) -> Tensor:
            nonlocal answered
            part = rows.to(train.index.device)
            answered = self.logits(train.features[part])
            value = F.cross_entropy(answered, train.labels[part])
            return value + self.rehearsed() if len(self.memory) else value

        def passed(epoch: int, rows: Tensor) -> None:
            part = take(train, rows.to(train.index.device))
            (self.memory.renew if epoch else self.memory.add)(part, answered)

        minimise(loss, trained, len(train), self.config, self.generator, after_step=passed)

    def rehearsed(self) -> Tensor:
        """``alpha |z' - h(x')|^2 + beta CE(y'', h(x''))`` of two batches of the memory."""
        memory, n = self.memory, self.config.batch_size
        one, other = memory.draw(n), memory.draw(n)
        now, then = self.logits(memory.features[one]), memory.logits[one]
        known = torch.arange(then.shape[1], device=then.device) < memory.known[one, None]
        answers = F.mse_loss(now[:, : then.shape[1]][known], then[known])
        labels = F.cross_entropy(self.logits(memory.features[other]), memory.labels[other])
        return self.der.alpha * answers + self.der.beta * labels
