"""The plasticity window of a run, measured from its spike pairs and changes; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A lag with fewer pairs than this is not estimated.
_FEWEST_PAIRS = 20


@dataclass(frozen=True)
class Window:
    """Change of occupancy per spike pair against its lag, with a 95 % interval.

    Args:
        lag_ms: Post less pre, [lags].
        change, low, high: Per pair, [lags]; NaN where there were too few pairs.
        per_post: Change per postsynaptic spike whatever the input did, with its interval, [3].
        per_competition: The same per unit of the presynaptic target (gated rule), [3]; NaN without
            one.
        n_contacts, n_updates: What it was estimated from.
    """

    lag_ms: NDArray[np.float64]
    change: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    per_post: NDArray[np.float64]
    per_competition: NDArray[np.float64]
    n_contacts: int
    n_updates: int


def measured_window(
    lag_ms: NDArray[np.float64],
    pairs: NDArray[np.int64],
    post_spikes: NDArray[np.int64],
    competition: NDArray[np.float32],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    contact: NDArray[np.int64],
    replicates: int = 500,
    seed: int = 0,
) -> Window:
    """Least-squares fit of the change per pair at each lag (our definition).

        after - before = sum_lag change(lag) pairs(lag)
                         + (per_post + per_competition competition) post_spikes

    over updates that ended within the bounds, 0 < after < 1; one that ended at a bound would have
    gone further. For a rule that is additive over spike pairs the fit is exact; the intervals come
    from a bootstrap over contacts.

    Args:
        lag_ms: [lags]. pairs: [n, lags]. post_spikes, competition, before, after: [n].
        contact: Which contact each update belongs to, [n].

    Raises:
        ValueError: Fewer updates within the bounds than lags.
    """
    free = (after > 0) & (after < 1)
    estimated = pairs[free].sum(0) >= _FEWEST_PAIRS
    # in double precision, since occupancies near 1 differ in their last digits only
    change = after[free].astype(np.float64) - before[free]
    fired = post_spikes[free].astype(np.float64)
    columns = [pairs[free][:, estimated], fired]
    competes = bool((competition != 0).any())
    if competes:
        columns.append(fired * competition[free])
    design = np.column_stack(columns).astype(np.float64)
    n_lags = int(estimated.sum())
    owners, owner = np.unique(contact[free], return_inverse=True)
    if len(change) <= design.shape[1] or not estimated.any():
        raise ValueError(f"{len(change)} updates within the bounds do not determine {n_lags} lags")
    # sums of squares and products of each contact: a replicate adds those of the contacts it drew
    rows = [np.flatnonzero(owner == k) for k in range(len(owners))]
    normal = np.array([design[r].T @ design[r] for r in rows])
    target = np.array([design[r].T @ change[r] for r in rows])
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(owners), np.full(len(owners), 1 / len(owners)), size=replicates)
    fitted = _solve(normal.sum(0), target.sum(0))
    drawn = np.array(
        [_solve(np.tensordot(k, normal, 1), k @ target) for k in times.astype(np.float64)]
    )
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)

    def on_lags(values: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full(len(lag_ms), np.nan)
        whole[estimated] = values[:n_lags]
        return whole

    return Window(
        lag_ms=np.asarray(lag_ms, dtype=np.float64),
        change=on_lags(fitted),
        low=on_lags(low),
        high=on_lags(high),
        per_post=np.array([fitted[n_lags], low[n_lags], high[n_lags]]),
        per_competition=np.array([fitted[-1], low[-1], high[-1]])
        if competes
        else np.full(3, np.nan),
        n_contacts=len(owners),
        n_updates=len(change),
    )


def _solve(normal: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares, of smallest norm where the pairs do not determine it."""
    solution: NDArray[np.float64] = np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ target
    return solution
