"""Class means of the spiking learner's input: against NumPy, loops and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from synthetic_features import DIM, N_CLASSES, gaussian_stream

from snn_artsy.checks import ConfigError
from snn_artsy.config import (
    BinaryMeanConfig,
    EncodingConfig,
    ExpansionConfig,
    NestedMeanConfig,
    RunConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import all_training

STREAM = gaussian_stream()
CONFIG = RunConfig(binary_mean=BinaryMeanConfig(share=0.25), nested_mean=NestedMeanConfig(levels=3))
CONFIG = replace(
    CONFIG, snn=replace(CONFIG.snn, encoding=EncodingConfig(shrinkage=0.2, saturation_sd=1.5))
)


def learnt(name: str, config: RunConfig = CONFIG) -> Any:
    learner = build(name, Setting(config, DIM, "cpu"))
    for task in STREAM.tasks:
        learner.learn(task)
    return learner


def scaled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training features, labels and test features, whitened in NumPy by task 1's training images
    as eq. 2 and 3 have it."""
    first = STREAM.tasks[0].train
    x, y = first.features.double().numpy(), first.labels.numpy()
    rest = np.concatenate([x[y == c] - x[y == c].mean(0) for c in (0, 1)])
    covariance = rest.T @ rest / (len(x) - 2)
    covariance = 0.8 * covariance + 0.2 * np.trace(covariance) / DIM * np.eye(DIM)
    values, vectors = np.linalg.eigh(covariance)
    matrix = vectors @ np.diag(values**-0.5) @ vectors.T
    matrix /= np.sqrt(((x - x.mean(0)) @ matrix).var(0, ddof=1).mean())
    parts = [all_training(task) for task in STREAM.tasks]
    features, labels = (np.concatenate([p[k].numpy() for p in parts]) for k in (0, 1))
    test = STREAM.test.features.double().numpy()
    return (features - x.mean(0)) @ matrix, labels, (test - x.mean(0)) @ matrix


def test_the_nearest_class_mean_is_that_of_scikit_learn() -> None:
    features, labels, test = scaled()
    expected = NearestCentroid().fit(features, labels).predict(test)
    assert np.array_equal(learnt("whitened_ncm").predict(STREAM.test).scores.argmax(1), expected)


@pytest.mark.parametrize(("name", "counts"), [("binary_mean", [8]), ("nested_mean", [8, 16, 24])])
def test_binary_means_by_a_loop(name: str, counts: list[int]) -> None:
    """A quarter of 32 units; a quarter, a half and three quarters of them."""
    features, labels, test = scaled()

    def code(z: np.ndarray) -> np.ndarray:
        p = np.minimum(np.concatenate([np.maximum(z, 0), np.maximum(-z, 0)], 1) / 1.5, 1)
        return np.round(p * 2**16) / 2**16

    scores = learnt(name).predict(STREAM.test).scores.numpy()
    assert scores.shape == (len(test), N_CLASSES)
    for c in range(N_CLASSES):
        mean = code(features[labels == c]).mean(0)
        order = sorted(range(2 * DIM), key=lambda i: -mean[i])
        expected = [sum(p[i] for n in counts for i in order[:n]) for p in code(test)]
        np.testing.assert_allclose(scores[:, c], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: BinaryMeanConfig(share=0.0), "binary_mean.share: 0.0 cannot be used"),
        (lambda: BinaryMeanConfig(share=1.0), "binary_mean.share: 1.0 cannot be used"),
        (lambda: NestedMeanConfig(levels=0), "nested_mean.levels: 0"),
    ],
)
def test_options_that_cannot_be_used(make_it: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        make_it()


@pytest.mark.parametrize("units", [0, 50])
def test_it_sees_what_the_spiking_learner_sees(units: int) -> None:
    expansion = ExpansionConfig(units=units, fan_in=3)
    config = replace(CONFIG, snn=replace(CONFIG.snn, expansion=expansion))
    snn, means = learnt("artsy_snn", config), learnt("binary_mean", config)
    assert torch.equal(snn.scaling.matrix, means.scaling.matrix)
    x = STREAM.test.features
    assert torch.equal(snn.reader.drive(snn.scaling(x)), means._code(x))
