"""Classifier alignment of fine-tuned heads: samples of Gaussians of all classes so far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_features import DIM, N_TASKS, PER_TASK, accuracy, gaussian_stream

from snn_artsy.checks import ConfigError
from snn_artsy.config import FinetuneConfig
from snn_artsy.learners.finetune import ALIGNED_PER_CLASS, Finetune
from snn_artsy.learners.tasks import whole

STREAM = gaussian_stream()


def learnt(n_tasks: int, **values: Any) -> Finetune:
    learner = Finetune(FinetuneConfig(epochs=5, lr=0.05, **values), DIM, "cpu", seed=2)
    for task in STREAM.tasks[:n_tasks]:
        learner.learn(task)
    return learner


def test_alignment_brings_old_classes_back() -> None:
    plain, aligned = learnt(3), learnt(3, alignment_epochs=5)
    before, after = (accuracy(x.predict(STREAM.test).scores, STREAM.test) for x in (plain, aligned))
    assert after > before + 0.15


def test_one_step_of_the_head_by_hand() -> None:
    """Logits over a tenth of the mean of the tasks' norms; gradient by finite differences."""
    learner = learnt(2)
    learner.config = replace(learner.config, alignment_epochs=1, batch_size=10**6, weight_decay=0.0)
    for task in STREAM.tasks[:2]:
        learner.gaussians.add_task(whole(task))
    drawn = learner.gaussians.batch([0, 1], purpose=1)
    x, y = drawn.features.double().numpy(), drawn.labels.numpy()
    assert np.bincount(y).tolist() == [ALIGNED_PER_CLASS] * 2 * PER_TASK

    def cost(weight: Any, bias: Any) -> float:
        total = 0.0
        for row, label in zip(x, y, strict=True):
            logits = weight @ row + bias
            norm = (np.linalg.norm(logits[:2]) + np.linalg.norm(logits[2:])) / 2
            logits = logits / (0.1 * norm)
            total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
        return float(total / len(x))

    weight, bias = (p.detach().double().numpy().copy() for p in (learner.weight, learner.bias))
    learner._align(1)
    lr, step = learner.config.lr, 1e-5
    for c, d in ((0, 0), (1, 5), (3, 15)):
        up, down = weight.copy(), weight.copy()
        up[c, d] += step
        down[c, d] -= step
        slope = (cost(up, bias) - cost(down, bias)) / (2 * step)
        moved = float(learner.weight.detach()[c, d]) - weight[c, d]
        assert moved == pytest.approx(-lr * slope, rel=1e-2, abs=1e-6)
    up, down = bias.copy(), bias.copy()
    up[2] += step
    down[2] -= step
    slope = (cost(weight, up) - cost(weight, down)) / (2 * step)
    moved = float(learner.bias.detach()[2]) - bias[2]
    assert moved == pytest.approx(-lr * slope, rel=1e-2, abs=1e-6) and abs(moved) > 1e-5


def test_the_first_task_is_not_aligned_and_gaussians_are_of_all_its_samples() -> None:
    plain, aligned = learnt(1), learnt(1, alignment_epochs=3)
    assert torch.equal(plain.weight, aligned.weight) and torch.equal(plain.bias, aligned.bias)
    every = whole(STREAM.tasks[0])
    torch.testing.assert_close(
        aligned.gaussians.means[0][1], every.features[every.labels == 1].mean(0)
    )
    assert not plain.gaussians.means


def test_what_is_kept_of_classes_is_counted() -> None:
    plain, aligned = learnt(N_TASKS).report(), learnt(N_TASKS, alignment_epochs=1).report()
    of_classes = N_TASKS * (PER_TASK * DIM + DIM * DIM)
    assert aligned["stored_parameters"] - plain["stored_parameters"] == of_classes
    assert aligned["stored_bytes"] - plain["stored_bytes"] == 4 * of_classes
    assert aligned["parameters"] == plain["parameters"]


def test_negative_epochs_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"finetune\.alignment_epochs"):
        FinetuneConfig(alignment_epochs=-1)
