"""SimpleCIL: the pre-trained model alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training
from snn_artsy.learners.prototypes import GatedPrototypes, class_means, cosine_scores


class SimpleCIL(Learner):
    """Nearest class mean by cosine on frozen features (Zhou et al. 2024, arXiv 2303.07338)."""

    revisits = True

    def __init__(self) -> None:
        self.prototypes = GatedPrototypes()
        self.counts = torch.zeros(0)  # samples of each class, [C]

    def learn(self, task: Task) -> None:
        features, labels, _ = all_training(task)
        self._revisit(features, labels)
        if task.classes:
            self.prototypes.add(class_means(features, labels, task.classes), [])
            came = torch.stack([(labels == c).sum() for c in task.classes])
            self.counts = torch.cat([self.counts.to(came.device), came])

    def _revisit(self, features: Tensor, labels: Tensor) -> None:
        """Move the means of classes that came before by their new samples."""
        base = self.prototypes.base
        for c in labels.unique().tolist() if base is not None else ():
            if base is not None and c < len(base):
                mine = features[labels == c]
                self.counts[c] += len(mine)
                base[c] += (mine - base[c]).sum(0) / self.counts[c]

    def predict(self, batch: Batch) -> Prediction:
        if self.prototypes.base is None:
            raise RuntimeError("no prototypes yet: learn a task first")
        return Prediction(cosine_scores(batch.features, self.prototypes.base))

    def state_dict(self) -> dict[str, Tensor]:
        return self.prototypes.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.prototypes.load_state_dict(state)

    def checkpoint(self) -> dict[str, Tensor]:
        return self.state_dict() | {"counts": self.counts}

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
        self.counts = state["counts"]
