"""Streams of arrays, and learners that are taken through them step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import snn_artsy as sa
from snn_artsy.checks import ConfigError
from snn_artsy.data import ArraySplit, FeatureSplit, load_source
from snn_artsy.observer import Conversions, NullObserver

SMALL = {
    "data": {"n_tasks": 2, "class_range": [0, 4], "train_per_class": 10, "test_per_class": 6},
    "ann": {"epochs": 2, "gate_epochs": 2},
    "snn": {"neuron": {"per_class": 2}, "plasticity": {"speed": 5.0}},
    "threads": 1,
}
NAMES = ["simplecil", "artsy_ann", "artsy_snn"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_ARTSY_CACHE", str(tmp_path_factory.getbasetemp() / "features"))


def clusters(n: int = 12, classes: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features around one corner of a cube for each class."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(classes), n)
    return 3.0 * np.eye(classes, 10)[labels] + rng.normal(0, 0.3, (len(labels), 10)), labels


def test_step_by_step_is_a_run(tmp_path: Any) -> None:
    run = sa.run(SMALL, learners=NAMES, out=str(tmp_path / "run"))
    stream = sa.stream(None, SMALL)
    for name in NAMES:
        learner, accuracy = stream.learner(name), []
        for task in stream:
            learner.learn(task)
            answers = learner.predict(task.seen)
            accuracy.append(np.mean(answers.predicted == task.seen.labels.numpy()))
        np.testing.assert_allclose(accuracy, run.summary["learners"][name]["a_t"], err_msg=name)
    # the test images themselves, by their pixels, are known again
    test = load_source(stream.config.data).test
    images = test.images[task.seen.index.numpy()]  # type: ignore[attr-defined]
    again = learner.predict(images)
    np.testing.assert_array_equal(again.predicted, answers.predicted)
    np.testing.assert_array_equal(again.spike_counts, answers.spike_counts)


def test_three_lines_with_features() -> None:
    features, labels = clusters()
    source = sa.data.from_arrays(features, labels)
    stream = sa.stream(source, data={"n_tasks": 2})
    assert len(stream) == 2 and len(list(stream)) == 2 and stream.backbone is None
    for name in NAMES:
        learner = stream.learner(name)
        for task in stream:
            learner.learn(task)
            answers = learner.predict(task.seen)
            assert np.mean(answers.predicted == task.seen.labels.numpy()) > 0.9, name
    # a quarter of each class was kept for testing
    assert np.bincount(task.seen.labels.numpy()).tolist() == [3] * 4
    assert [int(each) for each in learner.predict(features[:8]).classes] == labels[:8].tolist()
    with pytest.raises(ConfigError, match="image: this learner has seen features only"):
        learner.predict(np.zeros((8, 8), np.uint8))


def test_images_and_texts_for_labels() -> None:
    rng = np.random.default_rng(1)
    names = np.array(["dog", "cat", "ant", "bee"])[np.arange(40) % 4]
    shade = {"ant": 0, "bee": 70, "cat": 140, "dog": 200}
    images = np.stack([rng.integers(shade[n], shade[n] + 50, (8, 8, 3)) for n in names])
    images = images.astype(np.uint8)
    source = sa.data.from_arrays(images[:28], names[:28], images[28:], names[28:])
    assert source.class_names == ("ant", "bee", "cat", "dog")
    assert isinstance(source.train, ArraySplit) and len(source.test) == 12
    stream = sa.stream(source, data={"n_tasks": 2})
    learner = stream.learner("simplecil")
    for task in stream:
        learner.learn(task)
    assert learner.predict(images[28:]).classes == names[28:].tolist()


def test_an_observer_is_told() -> None:
    class Counter(NullObserver):
        plan = sa.RunConfig().record
        converted = 0

        def conversions(self, events: Conversions) -> None:
            self.converted += len(events.time_ms)

    stream = sa.stream(sa.data.from_arrays(*clusters()), data={"n_tasks": 2})
    counter = Counter()
    learner = stream.learner("artsy_snn", observer=counter, snn={"plasticity": {"speed": 20.0}})
    for task in stream:
        learner.learn(task)
    assert counter.converted > 0


def test_options_of_a_learner_and_of_its_stream() -> None:
    stream = sa.stream(sa.data.from_arrays(*clusters()), data={"n_tasks": 2}, seed=5)
    assert (
        stream.learner("artsy_snn", snn={"preset": "error"}).config.snn.plasticity.rule == "error"
    )
    assert stream.learner("ease").config.seed == 5
    for options, key in (
        ({"data": {"n_tasks": 4}}, "data: its stream has another"),
        ({"ease": {"alpha": 0.2}}, r"ease\.alpha: 0\.2 does nothing"),
        ({"lerners": []}, "lerners: unknown key"),
    ):
        with pytest.raises(ConfigError, match=key):
            stream.learner("simplecil", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="learners: 'eas' cannot be used"):
        stream.learner("eas")
    with pytest.raises(ConfigError, match=r"ann\.placement: .* need images"):
        sa.stream(sa.data.from_arrays(*clusters()), ann={"placement": "blocks"})
    with pytest.raises(ConfigError, match=r"ann\.placement: .* need images"):
        stream.learner("artsy_ann", ann={"placement": "blocks"})
    with pytest.raises(ConfigError, match=r"artsy_best\.grid: 4 .* ann\.placement blocks"):
        stream.learner("artsy_best", artsy_best={"grid": 4})


@pytest.mark.parametrize("name", NAMES)
def test_tasks_are_learnt_in_order_and_before_anything_is_asked(name: str) -> None:
    stream = sa.stream(sa.data.from_arrays(*clusters()), data={"n_tasks": 2}, ann={"epochs": 1})
    first, second = stream
    learner = stream.learner(name)
    with pytest.raises(ConfigError, match=f"task: {name} has learnt none yet"):
        learner.predict(first.seen)
    with pytest.raises(ConfigError, match="task: number 1 is given where number 0 is next"):
        learner.learn(second)
    learner.learn(first)
    with pytest.raises(ConfigError, match="task: number 0 is given where number 1 is next"):
        learner.learn(first)
    with pytest.raises(ConfigError, match="image: features of 7 numbers; those that it learnt"):
        learner.predict(np.zeros((3, 7)))
    learner.learn(second)
    assert learner.learnt == 2 and len(learner.predict(second.seen)) == len(second.seen)


X, Y = clusters()
IMAGES = np.zeros((len(Y), 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((X, Y[:-1]), "labels: int64 .* for 48 samples"),
        ((X, Y.astype(float)), "labels: float64"),
        ((X.astype(int), Y), "samples: int64 .* neither images"),
        ((IMAGES.astype(float), Y), "samples: float64 .* neither images"),
        ((X * np.nan, Y), "samples: numbers that are NaN"),
        ((X[:0], Y[:0]), "labels: int64 .* for 0 samples"),
        ((X, Y, X[:, :5], Y), "test_samples: .* beside"),
        ((X, Y, IMAGES, Y), "test_samples: .* beside"),
        ((X, Y, X), "test_labels: "),
        ((X, Y, X[Y > 0], Y[Y > 0]), "test_labels: class 0 is not in both"),
        ((X[:5], Y[:5]), "labels: class '1' has one sample"),
        ((np.full(X.shape, 1e200), Y), "samples: numbers that are NaN or infinite in float32"),
        ((X[:, :0], Y), "samples: float"),
        ((IMAGES[:, :0], Y), "samples: uint8"),
        ((IMAGES[..., None], Y), "samples: uint8"),
        (([[1.0, 2.0], [1.0]], [0, 1]), "samples: no array can be made"),
        ((X, Y, None, Y), "test_labels: given without test_samples"),
    ],
)
def test_arrays_that_are_no_data_set(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        sa.data.from_arrays(*given)


def test_names_of_classes() -> None:
    source = sa.data.from_arrays(X, Y, class_names=["a", "b", "c", "d"])
    assert source.class_names == ("a", "b", "c", "d")
    with pytest.raises(ConfigError, match="class_names: 1 names for 4 classes"):
        sa.data.from_arrays(X, Y, class_names=["a"])
    assert isinstance(source.train, FeatureSplit) and source.train.features.dtype == np.float32
    drawn = [sa.data.from_arrays(X, Y, seed=s).test.fingerprint() for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(ConfigError, match="these are features"):
        source.train.load(0)
    assert torch.from_numpy(source.train.features).isfinite().all()
