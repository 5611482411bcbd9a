"""The task stream: order, sizes, splits, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_artsy.config import ConfigError, DataConfig
from snn_artsy.data import ArraySplit, ImageSource, TaskStream, build_stream
from snn_artsy.learners.tasks import feature_task_stream, take


def make_source(n_classes: int = 12, train: int = 10, test: int = 4) -> ImageSource:
    """Interleaved labels, so that numbers in the split and classes do not run in parallel."""

    def split(n: int) -> ArraySplit:
        labels = np.tile(np.arange(n_classes), n)
        return ArraySplit(np.zeros((len(labels), 2, 2), dtype=np.uint8), labels)

    names = tuple(f"class{c:02d}" for c in range(n_classes))
    return ImageSource("fake", names, split(train), split(test))


def sizes(stream: TaskStream) -> list[int]:
    return [len(task.classes) for task in stream.tasks]


def test_class_order_is_that_of_the_cil_toolboxes() -> None:
    # What PyCIL and PILOT do with seed 1993, in the global legacy generator.
    np.random.seed(1993)
    expected = np.random.permutation(100).tolist()
    stream = build_stream(DataConfig(n_tasks=10), make_source(100, train=2, test=1), seed=1993)
    assert stream.class_order.tolist() == expected
    # The widely copied CIFAR-100 order of iCaRL's successors starts like this.
    assert expected[:5] == [68, 56, 78, 8, 23]


def test_order_seed_and_given_order() -> None:
    source = make_source(4)
    by_seed = build_stream(DataConfig(n_tasks=2), source, seed=5)
    by_order_seed = build_stream(DataConfig(n_tasks=2, order_seed=5), source, seed=77)
    np.testing.assert_array_equal(by_seed.class_order, by_order_seed.class_order)
    stream = build_stream(DataConfig(n_tasks=2, class_order=[3, 1, 0, 2]), source, seed=0)
    assert stream.class_names == ("class03", "class01", "class00", "class02")
    # Label 0 is class 3 now.
    first = stream.tasks[0].train
    np.testing.assert_array_equal(source.train.labels[first.index[first.labels == 0]], 3)


def test_class_range_keeps_only_these_classes() -> None:
    source = make_source(12)
    stream = build_stream(
        DataConfig(class_range=[4, 8], class_order=[0, 1, 2, 3], n_tasks=2), source, seed=0
    )
    assert stream.class_order.tolist() == [4, 5, 6, 7]
    assert set(source.train.labels[stream.train_index]) == {4, 5, 6, 7}
    assert set(source.test.labels[stream.test_index]) == {4, 5, 6, 7}


def test_a_class_range_may_reach_to_the_last_class() -> None:
    source = make_source(12)
    stream = build_stream(DataConfig(class_range=[9, 12], n_tasks=3), source, seed=0)
    assert sorted(stream.class_order.tolist()) == [9, 10, 11]
    with pytest.raises(ConfigError, match=r"data\.class_range.*12"):
        build_stream(DataConfig(class_range=[9, 13], n_tasks=2), source, seed=0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DataConfig(n_tasks=4), [3, 3, 3, 3]),
        (DataConfig(increment=4), [4, 4, 4]),  # B0-Inc4
        (DataConfig(base=6, increment=2), [6, 2, 2, 2]),  # B-half
        (DataConfig(base=12, increment=1), [12]),
        (DataConfig(increment=5), [5, 5, 2]),  # an uneven last task
        (DataConfig(base=5, increment=3), [5, 3, 3, 1]),
    ],
)
def test_task_sizes(config: DataConfig, expected: list[int]) -> None:
    stream = build_stream(config, make_source(12), seed=0)
    assert sizes(stream) == expected
    assert [task.number for task in stream.tasks] == list(range(len(expected)))
    assert sum((task.classes for task in stream.tasks), ()) == tuple(range(12))
    assert np.bincount(stream.task_of_label).tolist() == expected


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DataConfig(n_tasks=5), ["data.n_tasks", "5", "1, 2, 3, 4, 6 or 12"]),
        (DataConfig(increment=13), ["data.increment", "13", "12 classes; use at most"]),
        (
            DataConfig(base=5, increment=8),
            ["data.increment", "8", "7 classes after the first 5", "use at most"],
        ),
        (DataConfig(base=13, increment=1), ["data.base", "13", "12 classes"]),
        (DataConfig(class_range=[4, 20], n_tasks=2), ["data.class_range", "[4, 20]", "12"]),
        (
            DataConfig(class_order=[0, 0, 1], n_tasks=2),
            ["data.class_order", "3 entries", "[2, 3, 4, 5, 6]", "0 to 11"],
        ),
    ],
)
def test_refusals_name_key_value_and_remedy(config: DataConfig, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        build_stream(config, make_source(12), seed=0)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "bad",
    [{"class_range": [3]}, {"class_range": [5, 5]}, {"train_per_class": 1}, {"test_per_class": 0}],
)
def test_config_refuses(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"data.{next(iter(bad))}"):
        DataConfig(**bad)  # type: ignore[arg-type]


def test_too_few_images() -> None:
    for n, images in ((0, "0 training images"), (1, "1 training image;")):
        with pytest.raises(ConfigError, match=rf"^data\.name: class 'class0\d' has {images}"):
            build_stream(DataConfig(n_tasks=2), make_source(4, train=n), seed=0)
    with pytest.raises(ConfigError, match=r"^data\.root: class 'class0\d' has 1 training image;"):
        build_stream(DataConfig(n_tasks=2, root="x"), make_source(4, train=1), seed=0)
    with pytest.raises(ConfigError, match=r"data\.validation_share: 0\.9 of the 3 training"):
        build_stream(DataConfig(validation_share=0.9), make_source(5, train=3), seed=0)
    source = make_source(4)
    no_test = dataclasses.replace(
        source, test=ArraySplit(np.zeros((1, 2, 2), dtype=np.uint8), np.array([0]))
    )
    with pytest.raises(ConfigError, match="no test images"):
        build_stream(DataConfig(n_tasks=2), no_test, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    train=st.integers(2, 30),
    share=st.floats(0.01, 0.6),
    seed=st.integers(0, 2**31 - 1),
    train_per_class=st.none() | st.integers(2, 20),
    test_per_class=st.none() | st.integers(1, 6),
)
def test_splits_are_disjoint_stratified_and_complete(
    train: int,
    share: float,
    seed: int,
    train_per_class: int | None,
    test_per_class: int | None,
) -> None:
    source = make_source(6, train=train, test=4)
    config = DataConfig(
        n_tasks=3,
        validation_share=share,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
    )
    stream = build_stream(config, source, seed)
    used = min(train, train_per_class or train)
    validation = max(1, round(share * used))
    for task in stream.tasks:
        assert not set(task.train.index) & set(task.validation.index)
        for samples, split, expected in (
            (task.train, source.train, used - validation),
            (task.validation, source.train, validation),
            (task.test, source.test, min(4, test_per_class or 4)),
        ):
            assert samples.index.dtype == samples.labels.dtype == np.int64
            np.testing.assert_array_equal(
                stream.class_order[samples.labels], split.labels[samples.index]
            )
            for label in task.classes:
                assert (samples.labels == label).sum() == expected
            assert set(samples.labels) == set(task.classes)
    assert len(np.unique(stream.train_index)) == 6 * used


def test_same_seed_same_split_and_other_seed_another() -> None:
    source = make_source(4, train=50)
    config = DataConfig(n_tasks=2, order_seed=0, train_per_class=20)
    first, again, other = (build_stream(config, source, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.tasks[1].validation.index, again.tasks[1].validation.index)
    assert first.train_index.tolist() == again.train_index.tolist()
    assert first.train_index.tolist() != other.train_index.tolist()


def test_a_class_keeps_its_images_whatever_the_order_and_range() -> None:
    source = make_source(6, train=50)

    def images_of_class_3(**config: object) -> tuple[list[int], list[int]]:
        stream = build_stream(
            DataConfig(train_per_class=20, **config),  # type: ignore[arg-type]
            source,
            seed=4,
        )
        label = stream.class_order.tolist().index(3)
        task = stream.tasks[stream.task_of_label[label]]
        return tuple(s.index[s.labels == label].tolist() for s in (task.train, task.validation))  # type: ignore[return-value]

    expected = images_of_class_3(n_tasks=3)
    assert images_of_class_3(n_tasks=2, order_seed=9) == expected
    assert images_of_class_3(n_tasks=1, class_range=[2, 5]) == expected


def test_learners_get_the_features_of_their_samples() -> None:
    source = make_source(6)
    stream = build_stream(DataConfig(n_tasks=3, class_range=[0, 3]), source, seed=1)
    # Feature 0 is the sample's number, so rows can be checked against it.
    train, test = (
        np.stack([index, -index], axis=1).astype(np.float32)
        for index in (stream.train_index, stream.test_index)
    )
    asked: list[tuple[str, list[int]]] = []

    def load_features(split: str, index: np.ndarray) -> torch.Tensor:
        known, features = (
            (stream.test_index, test) if split == "test" else (stream.train_index, train)
        )
        return torch.from_numpy(features[np.searchsorted(known, index)])

    def load_images(split: str, index: np.ndarray) -> torch.Tensor:
        asked.append((split, index.tolist()))
        return torch.zeros(len(index), 3, 2, 2)

    tasks = feature_task_stream(stream, load_features, "cpu", load_images)
    for split, (task, test_batch) in zip(stream.tasks, tasks, strict=True):
        assert (task.number, task.classes) == (split.number, split.classes)
        for batch, samples, name in (
            (task.train, split.train, "train"),
            (task.validation, split.validation, "validation"),
            (test_batch, split.test, "test"),
        ):
            assert batch.split == name
            assert batch.features.dtype == torch.float32
            assert batch.index.tolist() == samples.index.tolist() == batch.features[:, 0].tolist()
            assert batch.labels.tolist() == samples.labels.tolist()
    assert not asked
    part = take(test_batch, torch.tensor([2, 0]))
    assert part.features[:, 0].tolist() == part.index.tolist() == test_batch.index[[2, 0]].tolist()
    assert part.images.shape == (2, 3, 2, 2)
    assert asked == [("test", part.index.tolist())]
    assert len(take(test_batch, test_batch.labels < 0)) == 0
    # made anew whenever they are asked for, so that no task stays in memory
    assert tasks[-1][1].features is not tasks[2][1].features
    assert [task.number for task, _ in tasks[1:]] == [1, 2] and len(tasks[1:]) == 2
