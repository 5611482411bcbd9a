"""Naive float64 references for learners: loops over samples and classes, no code of the package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def floats(values: Tensor) -> Floats:
    return values.detach().cpu().numpy().astype(np.float64)


def class_mean(batches: Sequence[Any], label: int) -> Floats:
    """Mean feature of one class over some labelled batches, [D]."""
    rows = [
        feature
        for batch in batches
        for feature, own in zip(floats(batch.features), batch.labels.tolist(), strict=True)
        if own == label
    ]
    total = np.zeros_like(rows[0])
    for row in rows:
        total = total + row
    return total / len(rows)


def cosine(a: Floats, b: Floats) -> float:
    lengths = float(np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()))
    return float((a * b).sum()) / lengths if lengths > 0 else 0.0


def gated_scores(h0: Floats, gained: Floats, gates: Any, base: Floats, tables: Floats) -> Floats:
    """Cosines of h_0 + sum_t m_t h_t with P0 + sum_t m_t P_t, sample by sample: [B, C].

    Args:
        h0: [B, D]. gained: h_t, [B, N, D]. gates: m, bool [B, N].
        base: P0, [C, D]. tables: P_t, [N, C, D].
    """
    scores = np.zeros((len(h0), len(base)))
    for b in range(len(h0)):
        opened = [t for t in range(len(tables)) if gates[b][t]]
        z = h0[b] + sum((gained[b, t] for t in opened), np.zeros(h0.shape[1]))
        for c in range(len(base)):
            prototype = base[c] + sum((tables[t, c] for t in opened), np.zeros(h0.shape[1]))
            scores[b, c] = cosine(z, prototype)
    return scores


def balanced_threshold(good: Floats, bad: Floats) -> float:
    """The highest of the thresholds with the largest balanced accuracy: every midpoint between
    neighbouring scores, and the largest score."""
    values = sorted({*good.tolist(), *bad.tolist()})
    candidates = [(a + b) / 2 for a, b in pairwise(values)] + [values[-1]]
    best, found = -1.0, 0.0
    for candidate in candidates:  # ascending, so that of equal ones the last is kept
        opened = sum(g > candidate for g in good) / len(good)
        shut = sum(b <= candidate for b in bad) / len(bad)
        if opened + shut >= best - 1e-12:
            best, found = max(best, opened + shut), candidate
    return found


def calibrated(scores: Floats, good: Sequence[Floats], bad: Sequence[Floats]) -> Floats:
    """(S_t - thr_t) / spread_t, [B, N], from the scores that each gate is calibrated on."""
    columns = []
    for t in range(len(good)):
        both = np.concatenate([good[t], bad[t]])
        spread = float(np.sqrt(((both - both.mean()) ** 2).mean()))
        columns.append((scores[:, t] - balanced_threshold(good[t], bad[t])) / spread)
    return np.stack(columns, axis=1)
