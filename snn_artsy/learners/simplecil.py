"""SimpleCIL: the pre-trained model alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from snn_artsy.learners.base import Batch, Learner, Prediction, Task, all_training
from snn_artsy.learners.prototypes import GatedPrototypes, class_means, cosine_scores


class SimpleCIL(Learner):
    """Nearest class mean by cosine on frozen features (Zhou et al. 2024, arXiv 2303.07338)."""

    def __init__(self) -> None:
        self.prototypes = GatedPrototypes()

    def learn(self, task: Task) -> None:
        features, labels, _ = all_training(task)
        self.prototypes.add(class_means(features, labels, task.classes), [])

    def predict(self, batch: Batch) -> Prediction:
        if self.prototypes.base is None:
            raise RuntimeError("no prototypes yet: learn a task first")
        return Prediction(cosine_scores(batch.features, self.prototypes.base))

    def state_dict(self) -> dict[str, Tensor]:
        return self.prototypes.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.prototypes.load_state_dict(state)

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        self.load_state_dict(state)
