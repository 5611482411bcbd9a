"""Experience replay: each batch is learnt together with one from a small memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.learners.base import Task
from snn_artsy.learners.memory import WithPassingSamples
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.tasks import take


class ExperienceReplay(WithPassingSamples):
    """Experience replay on frozen features (Chaudhry et al. 2019, arXiv 1902.10486, algorithm 1).

    Cross-entropy of the current batch and of one as large drawn from the memory, taken together;
    then the current batch passes the memory. With several epochs a sample passes it once, in the
    first (ours; the paper has one).
    """

    def learn(self, task: Task) -> None:
        trained, train = self.grow(task), task.train

        def loss(rows: Tensor) -> Tensor:
            new, old = rows.to(train.index.device), self.memory.draw(self.config.batch_size)
            features = torch.cat([train.features[new], self.memory.features[old]])
            labels = torch.cat([train.labels[new], self.memory.labels[old]])
            return F.cross_entropy(self.logits(features), labels)

        def passed(epoch: int, rows: Tensor) -> None:
            if not epoch:
                part = take(train, rows.to(train.index.device))
                self.memory.add(part, part.features[:, :0])

        minimise(loss, trained, len(train), self.config, self.generator, after_step=passed)
