"""Contacts that change in every step, compiled for the CPU (Numba): occupancy, state and clock.

While a teacher clamps the postsynaptic neurons, their spikes do not depend on the contacts. Then
the factors of a product rule are known for all steps beforehand, and no contact depends on another:
one neuron's contacts run through all steps while they lie in the cache. Only those that a spike
reaches are touched. `SilentSynapseLayer._pair_online` in torch is the reference that it is tested
against.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.synapses.kernels import ADDITIVE, FAST, SOFT, VAN_ROSSUM, Floats, Integers

_SILENT, _FUNCTIONAL, _CONSOLIDATED = np.uint8(SILENT), np.uint8(FUNCTIONAL), np.uint8(CONSOLIDATED)


class Dynamics(NamedTuple):
    """Numbers of a contact's dynamics, float32 but for ``bounds`` and ``consolidates``.

    Args:
        bounds: One of `kernels.BOUNDS`. power, mu, w_floor: Of power_law.
        scale: Of every change: 1, or 1/B where changes of a batch are averaged.
        mature: Share of the change that functional and consolidated contacts take.
        theta_up, theta_down: Of the states. elapsed_ms: Of a step.
        consolidate_ms: How long a contact must stay functional. consolidates: Whether it then
            is consolidated.
    """

    bounds: int
    power: np.float32
    mu: np.float32
    w_floor: np.float32
    scale: np.float32
    mature: np.float32
    theta_up: np.float32
    theta_down: np.float32
    elapsed_ms: np.float32
    consolidate_ms: np.float32
    consolidates: bool


@njit(cache=True, inline="always", fastmath=FAST)
def _changed(a: np.float32, gain: np.float32, loss: np.float32, d: Dynamics) -> np.float32:
    """Change of an occupancy before clipping: up(a) gain - down(a) loss."""
    if d.bounds == ADDITIVE:
        return gain - loss
    if d.bounds == SOFT:
        return (np.float32(1.0) - a) * gain - a * loss
    if d.bounds == VAN_ROSSUM:
        return gain - a * loss
    return d.power * max(a, d.w_floor) ** d.mu * gain - a * loss


@njit(cache=True, inline="always")
def _clock(
    state: NDArray[np.uint8], clock: Floats, seen: Integers, i: int, t: int, d: Dynamics
) -> None:
    """Bring a functional contact's clock from step ``seen`` up to the start of step t."""
    if state[i] == _FUNCTIONAL:
        clock[i] += np.float32(t - seen[i]) * d.elapsed_ms
        if d.consolidates and clock[i] >= d.consolidate_ms:
            state[i] = _CONSOLIDATED
            clock[i] = np.float32(0.0)
    seen[i] = t


@njit(cache=True, inline="always")
def _convert(
    ampa: Floats, state: NDArray[np.uint8], clock: Floats, seen: Integers, i: int, t: int,
    d: Dynamics,
) -> None:  # fmt: skip
    """State of contact i after step t. Its clock waits until somebody has to know it: whether it is
    consolidated matters only when it would fall silent."""
    if state[i] == _SILENT:
        if ampa[i] >= d.theta_up:
            state[i] = _FUNCTIONAL
            clock[i] = np.float32(0.0)
            seen[i] = t + 1  # its clock starts with the next step
    elif state[i] == _FUNCTIONAL and ampa[i] <= d.theta_down:
        _clock(state, clock, seen, i, t, d)
        if state[i] == _FUNCTIONAL:
            state[i] = _SILENT
            clock[i] = np.float32(0.0)


@njit(cache=True, inline="always", fastmath=FAST)
def _all_contacts(
    ampa: Floats, state: NDArray[np.uint8], gain: Floats, loss: Floats, exists: Floats, d: Dynamics
) -> None:  # fmt: skip
    """New occupancies of a neuron's contacts: plain loops, which become vector instructions."""
    zero, one = np.float32(0.0), np.float32(1.0)
    if d.mature == one:
        for i in range(len(ampa)):
            a = ampa[i] + d.scale * _changed(ampa[i], gain[i], loss[i], d)
            ampa[i] = min(max(a, zero), one) * exists[i]
    else:
        for i in range(len(ampa)):
            share = one if state[i] == _SILENT else d.mature
            a = ampa[i] + share * d.scale * _changed(ampa[i], gain[i], loss[i], d)
            ampa[i] = min(max(a, zero), one) * exists[i]


@njit(cache=True, inline="always", fastmath=FAST)
def _add(sums: Floats, factor: np.float32, values: Floats) -> None:
    for i in range(len(sums)):
        sums[i] += factor * values[i]


@njit(cache=True, parallel=True)
def learn_contacts(
    ampa: Floats,
    state: NDArray[np.uint8],
    clock: Floats,
    exists: NDArray[np.bool_],
    gain_post: Floats,
    gain_pre: Floats,
    loss_post: Floats,
    loss_pre: Floats,
    start: Integers,
    inputs: NDArray[np.int32],
    batch: NDArray[np.int32],
    reference: Floats,
    target: Floats,
    d: Dynamics,
) -> None:
    """Contacts ampa, state, clock (ms) [n_post, n_pre] through all steps, in place.

    The change of step t, before bounds, is sum_b gain_post_j (gain_pre_i - target_j reference_i)
    - sum_b loss_post_j loss_pre_i.

    Args:
        gain_post, loss_post: [T, B, n_post]. gain_pre, loss_pre: [T, B, n_pre].
        start, inputs, batch: Where ``loss_pre`` is not 0 (`kernels.spikes_by_input`).
        reference: [T, n_pre]. target: [n_post].
    """
    n_post, n_pre = ampa.shape
    n_steps, n_batch = gain_post.shape[:2]
    zero, one = np.float32(0.0), np.float32(1.0)
    for j in prange(n_post):
        gain, loss = np.zeros(n_pre, np.float32), np.zeros(n_pre, np.float32)
        own = exists[j].astype(np.float32)
        seen = np.zeros(n_pre, np.int64)  # step up to which a contact's clock is right
        for t in range(n_steps):
            total = zero
            for b in range(n_batch):
                g = gain_post[t, b, j]
                if g != zero:
                    total += g
                    _add(gain, g, gain_pre[t, b])
            for k in range(start[t], start[t + 1]):
                i, b = inputs[k], batch[k]
                loss[i] += loss_post[t, b, j] * loss_pre[t, b, i]
            if total != zero or t == 0:
                _add(gain, -total * target[j], reference[t])
                _all_contacts(ampa[j], state[j], gain, loss, own, d)
                gain[:] = zero
                loss[:] = zero
                for i in range(n_pre):
                    _convert(ampa[j], state[j], clock[j], seen, i, t, d)
                continue
            last = -1
            for k in range(start[t], start[t + 1]):  # in the order of inputs
                i = inputs[k]
                if i != last:
                    share = one if state[j, i] == _SILENT else d.mature
                    a = ampa[j, i] + share * d.scale * _changed(ampa[j, i], zero, loss[i], d)
                    ampa[j, i] = min(max(a, zero), one) * own[i]
                    _convert(ampa[j], state[j], clock[j], seen, i, t, d)
                    loss[i] = zero
                    last = i
        for i in range(n_pre):
            _clock(state[j], clock[j], seen, i, n_steps, d)
