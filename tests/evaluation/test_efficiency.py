"""Costs of hand-made nets, counted by hand and by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn_artsy.evaluation.efficiency import (
    Operations,
    activation_sparsity,
    connection_sparsity,
    footprint_bytes,
    synaptic_operations,
)

WEIGHTS = np.array([[0.5, 0.0, -1.0], [0.0, 0.0, 2.0]])  # fan-out of the inputs: 1, 0, 2


def test_multiply_accumulates_by_hand() -> None:
    # sample 1: inputs 0 and 2 are active: 1 + 2 products; sample 2: input 1 alone: none
    found = synaptic_operations(WEIGHTS, [[0.3, 0.0, -0.1], [0.0, 4.0, 0.0]])
    assert found == Operations(dense=6.0, multiply=1.5, accumulate=0.0)


def test_spikes_accumulate() -> None:
    # two steps of one sample: input 2, then inputs 0 and 1
    found = synaptic_operations(WEIGHTS, [[[0, 0, 1]], [[1, 1, 0]]])
    assert found == Operations(dense=12.0, multiply=0.0, accumulate=3.0)


def test_operations_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.4)
    a = (rng.random((4, 3, 7)) < 0.3).astype(float)
    count = sum(
        w[j, i] != 0 and a[t, b, i] != 0
        for t in range(4) for b in range(3) for j in range(5) for i in range(7)
    )  # fmt: skip
    assert synaptic_operations(w, a).accumulate == pytest.approx(count / 3)
    assert synaptic_operations(w, 0.5 * a).multiply == pytest.approx(count / 3)


def test_sparsities_and_footprint() -> None:
    assert connection_sparsity([WEIGHTS, np.ones((1, 2))]) == pytest.approx(1 - 5 / 8)
    assert activation_sparsity([[0, 0, 1], [[1, 2], [0, 0]]]) == pytest.approx(1 - 3 / 7)
    assert footprint_bytes([np.zeros((2, 3), np.float32), np.zeros(5, np.uint8)]) == 24 + 5


def test_layers_add_up() -> None:
    assert Operations(1, 2, 3) + Operations(10, 20, 30) == Operations(11, 22, 33)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) do not take activations \(1, 2\)"):
        synaptic_operations(WEIGHTS, [[1, 1]])
    for weights, activations in (
        (WEIGHTS[0], [[1, 1, 1]]),
        (WEIGHTS[None], [[1, 1, 1]]),
        (WEIGHTS, [1, 1, 1]),
        (WEIGHTS, [[[[1, 1, 1]]]]),
        (np.ones(3), np.ones(3)),
    ):
        with pytest.raises(ValueError, match="do not take activations"):
            synaptic_operations(weights, activations)
    other: Any = (1, 2, 3)
    with pytest.raises(TypeError):
        _ = Operations(1, 2, 3) + other
    with pytest.raises(ValueError, match="no samples"):
        synaptic_operations(WEIGHTS, np.zeros((0, 3)))
    with pytest.raises(ValueError, match="no weights"):
        connection_sparsity([])
    with pytest.raises(ValueError, match="no activations"):
        activation_sparsity([])
