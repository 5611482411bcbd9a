"""What an answer costs, by the conventions of NeuroBench (Yik et al. 2025, Nature Communications
16:1545): footprint, connection sparsity, activation sparsity, synaptic operations. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Operations(NamedTuple):
    """Synaptic operations of one layer, per sample.

    Args:
        dense: All products, zero or not.
        multiply: Effective multiply-accumulates: activation and weight both non-zero.
        accumulate: Effective accumulates: the same for spikes, where nothing has to be multiplied.
    """

    dense: float
    multiply: float
    accumulate: float

    def __add__(self, other: object) -> Operations:
        if not isinstance(other, Operations):
            return NotImplemented
        return Operations(*(a + b for a, b in zip(tuple(self), tuple(other), strict=True)))


def footprint_bytes(arrays: Iterable[ArrayLike]) -> int:
    """Bytes of everything a model keeps to answer: weights, states, buffers; zeros count."""
    return sum(np.asarray(array).nbytes for array in arrays)


def connection_sparsity(weights: Iterable[ArrayLike]) -> float:
    """Share of zero weights over all layers."""
    arrays = [np.asarray(w) for w in weights]
    total = sum(w.size for w in arrays)
    if total == 0:
        raise ValueError("no weights")
    return 1.0 - sum(int(np.count_nonzero(w)) for w in arrays) / total


def activation_sparsity(activations: Iterable[ArrayLike]) -> float:
    """Share of zero activations over all layers, steps and samples."""
    arrays = [np.asarray(a) for a in activations]
    total = sum(a.size for a in arrays)
    if total == 0:
        raise ValueError("no activations")
    return 1.0 - sum(int(np.count_nonzero(a)) for a in arrays) / total


def synaptic_operations(weights: ArrayLike, activations: ArrayLike) -> Operations:
    """Operations of one layer.

    Args:
        weights: [n_out, n_in].
        activations: What enters, [samples, n_in] or, step by step, [T, samples, n_in]. If all are 0
            or 1 they are spikes, and effective operations are accumulates.

    Returns:
        Mean per sample, summed over steps.
    """
    w, a = np.asarray(weights), np.asarray(activations)
    if w.ndim != 2 or a.ndim not in (2, 3) or a.shape[-1] != w.shape[1]:
        raise ValueError(f"weights {w.shape} do not take activations {a.shape}")
    samples = a.shape[-2]
    if samples == 0:
        raise ValueError("no samples")
    steps = a.shape[0] if a.ndim == 3 else 1
    fan_out: NDArray[np.int64] = np.count_nonzero(w, axis=0)
    effective = float((np.count_nonzero(a.reshape(-1, a.shape[-1]), axis=0) * fan_out).sum())
    spikes = bool(np.isin(a, (0, 1)).all())
    dense = float(steps * w.size)
    per_sample = effective / samples
    return Operations(dense, 0.0 if spikes else per_sample, per_sample if spikes else 0.0)
