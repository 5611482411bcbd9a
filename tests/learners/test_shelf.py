"""What learners of a run train and compute once: the same numbers, and each learner's own time."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_vit import BLOCKS, in_blocks, stream
from torch import Tensor

from snn_artsy.config import ANNConfig
from snn_artsy.learners import build
from snn_artsy.learners import subnetworks as module
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.shelf import Shelf
from snn_artsy.learners.tasks import PartOf

LEARNERS = ("ease", "artsy_ann", "artsy_best", "aper_adapter", "ranpac")


def named(batch: LabelledBatch, before: int, known: dict[int, Tensor]) -> LabelledBatch:
    """The batch with images that are known by their numbers, as those of a run."""
    numbers = batch.index.numpy() + before
    known.update(zip(numbers.tolist(), batch.tokens, strict=True))

    def load(_: str, index: np.ndarray) -> Tensor:
        return torch.stack([known[i] for i in index.tolist()])

    index = torch.from_numpy(numbers)
    return replace(batch, index=index, load_tokens=PartOf(load, batch.split, numbers))


def run_stream() -> tuple[list[Task], LabelledBatch]:
    (tasks, test), known = stream(), {}
    own = []
    for t, task in enumerate(tasks):
        train = named(task.train, 100 * t, known)
        validation = named(task.validation, 100 * t + 50, known)
        own.append(replace(task, train=train, validation=validation))
    return own, named(test, 0, {})


def answers(
    name: str, shelf: Shelf | None, ann: ANNConfig = BLOCKS
) -> tuple[dict[str, Tensor], Tensor]:
    tasks, test = run_stream()
    setting = in_blocks(ann=ann)
    learner = build(name, replace(setting, shelf=shelf))
    for task in tasks:
        learner.learn(task)
        scores = learner.predict(test).scores
    return learner.checkpoint(), scores


def test_learners_with_a_shelf_give_the_numbers_that_each_gives_alone() -> None:
    shelf = Shelf()
    for name in LEARNERS:
        alone, scores = answers(name, None)
        shared, found = answers(name, shelf)
        torch.testing.assert_close(shared, alone, rtol=0, atol=0)
        torch.testing.assert_close(found, scores, rtol=0, atol=0)


def test_equal_sub_networks_are_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    minimise = module.minimise
    monkeypatch.setattr(module, "minimise", lambda *a, **k: (trained.append(1), minimise(*a, **k)))
    shelf = Shelf()
    answers("ease", shelf)
    assert len(trained) == 3
    for name in LEARNERS:
        answers(name, shelf)
    dealt = replace(BLOCKS, earlier="dealt")  # which is not about training
    found = answers("ease", shelf, dealt)
    assert len(trained) == 3
    alone = answers("ease", None, dealt)
    torch.testing.assert_close(found, alone, rtol=0, atol=0)
    assert not torch.equal(found[1], answers("ease", shelf)[1])
    del trained[3:]
    answers("ease", None)
    assert len(trained) == 6


@pytest.mark.parametrize("what", ["seed", "epochs", "labels", "images"])
def test_whatever_differs_is_trained_on_its_own(what: str) -> None:
    shelf, setting = Shelf(), in_blocks()
    tasks, _ = run_stream()
    build("aper_adapter", replace(setting, shelf=shelf)).learn(tasks[0])
    other, task = setting, tasks[0]
    config = setting.config
    if what == "seed":
        other = replace(setting, config=replace(config, seed=6))
    elif what == "epochs":
        other = replace(setting, config=replace(config, ann=replace(config.ann, epochs=2)))
    elif what == "labels":
        task = replace(task, train=replace(task.train, labels=1 - task.train.labels))
    else:
        rows = torch.arange(len(task.train)).flip(0)
        task = replace(task, train=module.take(task.train, rows))
    alone = build("aper_adapter", other)
    alone.learn(task)
    shared = build("aper_adapter", replace(other, shelf=shelf))
    shared.learn(task)
    torch.testing.assert_close(shared.checkpoint(), alone.checkpoint(), rtol=0, atol=0)


def test_time_counts_as_if_all_had_been_computed() -> None:
    shelf = Shelf()

    def outer() -> tuple[Tensor, ...]:
        time.sleep(0.02)
        return (*shelf.get("inner", inner), torch.zeros(1))

    def inner() -> tuple[Tensor, ...]:
        time.sleep(0.03)
        return (torch.ones(1),)

    for _ in range(3):  # the second and third time nothing is computed
        begun = shelf.clock()
        shelf.get("inner", inner)
        assert shelf.clock() - begun >= 0.03
        begun = shelf.clock()
        shelf.get("outer", outer)
        assert shelf.clock() - begun >= 0.05


def test_what_is_kept_is_bounded() -> None:
    shelf, asked = Shelf(room=10), []
    for _ in range(2):
        for key, size in (("small", 2), ("large", 3)):
            shelf.get(key, lambda size=size: (asked.append(size), (torch.zeros(size),))[1])
    assert asked == [2, 3, 3]
