"""A learner that has `learn` and `predict` only gets everything else from the base class."""

from __future__ import annotations

import random

import pytest
import torch
from synthetic_features import DIM, gaussian_stream
from torch import Tensor, nn

from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Batch, Learner, Prediction, Task
from snn_artsy.learners.shuffled import ShuffledAtEqualDensity
from snn_artsy.learners.simplecil import SimpleCIL

STREAM = gaussian_stream(n_train=8, n_validation=4, n_test=4)


class Mine(Learner):
    """Class means through one random layer a task: two tensors and a module for each task."""

    def __init__(self, draw: object = torch) -> None:
        self.draw, self.sizes, self.means = draw, [0.5], {}
        self.heads: list[nn.Linear] = []

    def learn(self, task: Task) -> None:
        head = nn.Linear(DIM, 2)
        if self.draw is random:
            nn.init.constant_(head.weight, random.random())
        self.heads.append(head)
        self.means[f"task{task.number}"] = task.train.features.mean(0)

    def predict(self, batch: Batch) -> Prediction:
        return Prediction(torch.cat([head(batch.features) for head in self.heads], 1).detach())


def taught(learner: Learner, n_tasks: int) -> Learner:
    torch.manual_seed(3)
    for task in STREAM.tasks[:n_tasks]:
        learner.learn(task)
    return learner


def test_what_it_has_learnt_is_found_among_its_attributes() -> None:
    learner = taught(Mine(), 2)
    state = learner.state_dict()
    assert set(state) == {
        "means.task0", "means.task1",
        "heads.0.weight", "heads.0.bias", "heads.1.weight", "heads.1.bias",
    }  # fmt: skip
    assert torch.equal(state["means.task1"], STREAM.tasks[1].train.features.mean(0))
    assert torch.equal(state["heads.1.bias"], learner.heads[1].bias)
    assert not any(tensor.requires_grad for tensor in state.values())


def test_how_large_it_is() -> None:
    trained, means = 2 * (2 * DIM + 2), 2 * DIM
    assert taught(Mine(), 2).report() == {
        "parameters": trained,
        "stored_parameters": trained + means,
        "stored_bytes": 4 * (trained + means),
    }


def test_it_goes_on_from_where_it_was() -> None:
    whole, first, again = taught(Mine(), 3), taught(Mine(), 2), Mine()
    kept = {name: tensor.clone() for name, tensor in first.checkpoint().items()}
    torch.manual_seed(3)  # as a run does before it builds a learner
    again.restore(kept, STREAM.tasks[:2])
    again.learn(STREAM.tasks[2])
    assert same(again.state_dict(), whole.state_dict())


def test_one_that_never_learns_the_same_twice_is_named() -> None:
    kept = taught(Mine(random), 2).checkpoint()
    torch.manual_seed(3)
    with pytest.raises(RuntimeError, match=r"another 'heads\.0\.weight': draw .* override"):
        Mine(random).restore(kept, STREAM.tasks[:2])


def test_both_parts_are_needed_and_the_others_do_nothing() -> None:
    class Half(Learner):
        def learn(self, task: Task) -> None: ...

    with pytest.raises(TypeError, match="predict"):
        Half()  # type: ignore[abstract]
    learner = SimpleCIL()
    learner.snapshot("after_task_0")
    assert learner.controls() == {} and learner.after_epoch is None


def test_controls_differ_in_one_thing() -> None:
    from snn_artsy.config import RunConfig

    c = RunConfig()
    found = ArtsySNN(c.snn, c.ann, c.gate, DIM, "cpu", 7).controls()
    assert list(found) == [
        "permuted_contacts", "shuffled_labels", "random_contacts", "shuffled_timing",
        "no_plasticity", "shuffled_timing_equal_density",
    ]  # fmt: skip
    matched = found.pop("shuffled_timing_equal_density")
    assert isinstance(matched, ShuffledAtEqualDensity) and isinstance(matched.model, ArtsySNN)
    assert (matched.model.seed, matched.model.control, matched.model.config) == (7, "none", c.snn)
    for name, learner in found.items():
        assert isinstance(learner, ArtsySNN) and learner.seed == 7
        blocked = name == "no_plasticity"
        assert learner.control == ("none" if blocked else name)
        assert (learner.config.plasticity.rule == "none") == blocked
        assert (learner.config == c.snn) == (not blocked)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
