"""Online streams: each sample once, and task boundaries as Si-Blurry blurs them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_stream import make_source

import snn_artsy as sa
from snn_artsy.api import configured
from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig
from snn_artsy.data import TaskStream, build_stream, from_arrays
from snn_artsy.data.online import si_blurry
from snn_artsy.learners import Setting, build
from snn_artsy.learners.builders import REVISITING
from snn_artsy.registry import LEARNERS

LABELS = np.repeat(np.arange(10), 30)


def arrivals(disjoint: float, blurry: float, seed: int = 0) -> list[set[int]]:
    """The tasks that each class arrives in."""
    tasks = si_blurry(LABELS, 4, disjoint, blurry, np.random.default_rng(seed))
    assert tasks.shape == LABELS.shape and tasks.min() >= 0 and tasks.max() < 4
    return [set(tasks[c == LABELS].tolist()) for c in range(10)]


def test_disjoint_classes_arrive_in_one_task_and_blurry_ones_in_several() -> None:
    for seed in range(5):
        of_class = arrivals(0.4, 0.5, seed)
        assert all(len(tasks) == 1 for tasks in of_class[:4])
        assert max(len(tasks) for tasks in of_class[4:]) > 1
    for disjoint, blurry in ((1.0, 0.5), (0.0, 0.0)):
        assert all(len(tasks) == 1 for tasks in arrivals(disjoint, blurry))
    assert arrivals(0.4, 0.5, 1) == arrivals(0.4, 0.5, 1) != arrivals(0.4, 0.5, 2)


def test_as_many_samples_as_asked_change_places_among_themselves() -> None:
    """Tasks keep their sizes; a class's own task is where the others of its samples are."""
    whole = si_blurry(LABELS, 4, 0.4, 0.0, np.random.default_rng(3))
    mixed = si_blurry(LABELS, 4, 0.4, 0.25, np.random.default_rng(3))
    np.testing.assert_array_equal(np.bincount(whole), np.bincount(mixed))
    moved = whole != mixed
    assert not moved[LABELS < 4].any()
    # 45 of the 180 blurry samples are drawn; some of them draw a place in their own task
    assert 45 / 4 < moved.sum() <= 45
    every = si_blurry(LABELS, 4, 0.0, 1.0, np.random.default_rng(3))
    assert len({tuple(np.bincount(every[c == LABELS], minlength=4)) for c in range(10)}) > 5


def test_how_many_classes_a_task_has_is_left_to_chance() -> None:
    found = set()
    for seed in range(20):
        tasks = si_blurry(np.arange(10), 4, 1.0, 0.0, np.random.default_rng(seed))
        assert (np.diff(tasks) >= 0).all()
        found.add(tuple(np.bincount(tasks, minlength=4)))
    assert len(found) > 15 and any(0 in sizes for sizes in found)


def online(**values: object) -> TaskStream:
    config = DataConfig(stream="online", n_tasks=3, **values)  # type: ignore[arg-type]
    return build_stream(config, make_source(6, train=20), seed=5)


def test_each_sample_comes_once_and_labels_count_classes_as_they_come() -> None:
    source, stream = make_source(6, train=20), online(evaluations=8, blurry_share=0.3)
    usual = build_stream(DataConfig(n_tasks=3), source, seed=5)
    np.testing.assert_array_equal(stream.train_index, usual.train_index)
    np.testing.assert_array_equal(stream.test_index, usual.test_index)
    for name in ("train", "validation"):
        assert sorted(np.concatenate([getattr(t, name).index for t in stream.tasks])) == sorted(
            np.concatenate([getattr(t, name).index for t in usual.tasks])
        )
    assert [len(t.train) + len(t.validation) for t in stream.tasks] == [15] * 8
    known: set[int] = set()
    for number, task in enumerate(stream.tasks):
        assert task.number == number
        came = {*task.train.labels.tolist(), *task.validation.labels.tolist()}
        assert set(task.classes) == came - known
        assert task.classes == tuple(range(len(known), len(known) + len(task.classes)))
        assert set(task.test.labels.tolist()) == set(task.classes)
        known |= came
        for part, split in ((task.train, source.train), (task.test, source.test)):
            own = stream.class_order[part.labels]
            np.testing.assert_array_equal(split.labels[part.index], own)
    assert known == set(range(6)) and sorted(stream.class_order) == list(range(6))
    assert [source.class_names[c] for c in stream.class_order] == list(stream.class_names)
    assert any(not task.classes for task in stream.tasks)


def test_the_same_seed_gives_the_same_stream() -> None:
    def index(seed: int) -> list[int]:
        return [i for task in online(order_seed=seed).tasks for i in task.train.index.tolist()]

    assert index(1) == index(1) != index(2)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 30)
    return (4 * np.eye(8)[labels] + rng.normal(size=(180, 8))).astype(np.float32), labels


OPTIONS = {
    "data": {"stream": "online", "n_tasks": 3, "evaluations": 9, "blurry_share": 0.3},
    "memory": {"total": 40, "batch_size": 5},
    "finetune": {"batch_size": 5},
    "joint": {"l2": [0.1, 0.01]},
    "device": "cpu",
}


@pytest.mark.parametrize("name", REVISITING)
def test_learners_take_classes_that_come_back(name: str) -> None:
    stream = sa.stream(from_arrays(*arrays()), OPTIONS)
    learner, again = stream.learner(name), None
    for step in stream:
        learner.learn(step)
        scores = learner.learner.predict(step.seen).scores
        assert scores.shape == (len(step.seen), int(step.seen.labels.max()) + 1)
        if step.number == 4:  # as from a checkpoint
            again = stream.learner(name)
            kept = {key: value.clone() for key, value in learner.learner.checkpoint().items()}
            again.learner.restore(kept, [*stream][:5])
            again.learnt = learner.learnt
        elif again is not None:
            again.learn(step)
    assert again is not None
    assert torch.equal(again.learner.predict(step.seen).scores, scores)
    right = float((scores.argmax(1) == step.seen.labels).float().mean())
    assert right > (0.4 if name.startswith("finetune") else 0.8)


def test_class_means_of_a_stream_are_those_of_all_its_samples() -> None:
    stream = sa.stream(from_arrays(*arrays()), OPTIONS)
    learner = stream.learner("simplecil")
    every = []
    for step in stream:
        learner.learn(step)
        every += [(b.features, b.labels) for b in (step.train, step.validation)]
    x, y = (torch.cat(parts) for parts in zip(*every, strict=True))
    means = torch.stack([x[y == c].mean(0) for c in range(6)])
    torch.testing.assert_close(learner.learner.prototypes.base, means)  # type: ignore[attr-defined]


def test_learners_that_need_new_classes_say_so() -> None:
    config = configured(OPTIONS, {"learners": list(LEARNERS)})
    able = []
    for name in LEARNERS:
        try:
            build(name, Setting(config, 8, "cpu"))
            able.append(name)
        except ConfigError as error:
            assert f"learners: '{name}' takes a task's classes to be new" in str(error)
            assert "choose from simplecil" in str(error)
    assert able == [name for name in LEARNERS if name in REVISITING]


def test_what_an_online_stream_cannot_have_is_refused() -> None:
    for values, words in (
        ({"increment": 2}, "data.increment: 2"),
        ({"name": "sequence", "sources": [{"name": "digits"}]}, "data.stream: 'online'"),
        ({"disjoint_share": 1.5}, "data.disjoint_share: 1.5"),
        ({"evaluations": 0}, "data.evaluations: 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            configured({"data": {"stream": "online", **values}})
    with pytest.raises(ConfigError, match=r"data\.evaluations: 121 .* 120 images"):
        online(evaluations=121)
    for values in ({"memory": {"epochs": 3}}, {"finetune": {"epochs": 3}}, {"controls": True}):
        with pytest.raises(ConfigError, match=r"with data\.stream tasks"):
            configured(
                {"data": {"stream": "online"}, "learners": ["er", "finetune_linear"]}, values
            )
    with pytest.raises(ConfigError, match=r"data\.blurry_share: .*with data\.stream online"):
        configured({}, {"data": {"blurry_share": 0.2}})
