"""Contacts that change in every step, compiled for the CPU (Numba): occupancy, state and clock.

While a teacher clamps the postsynaptic neurons, their spikes do not depend on the contacts. Then
the factors of a product rule are known for all steps beforehand, and no contact depends on another:
one neuron's contacts run through all steps while they lie in the cache, and only those that a spike
reaches are touched. Without a teacher the loop is called for one step at a time.
`SilentSynapseLayer._pair_online` in torch is the reference that it is tested against.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from snn_artsy.arrays import Sizes, check_array
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.synapses.kernels import FAST, Floats, Integers, spikes_by_input

_SILENT, _FUNCTIONAL, _CONSOLIDATED = np.uint8(SILENT), np.uint8(FUNCTIONAL), np.uint8(CONSOLIDATED)

NEVER = np.finfo(np.float32).max  # infinity is out: the loops are compiled without it


class Dynamics(NamedTuple):
    """Numbers of a contact's dynamics, float32 but for ``power_law``.

    Args:
        up, down_0, down: A change is (1 + up a) gain - (down_0 + down a) loss.
        power_law: Whether the gain is multiplied by power max(a, w_floor)^mu.
        scale: Of every change: 1, or 1/B where changes of a batch are averaged.
        mature: Share of the change that functional and consolidated contacts take.
        kept: Share of its occupancy that a contact which is not consolidated keeps in a step.
        theta_up, theta_down: Of the states. elapsed_ms: Of a step.
        consolidate_ms: How long a contact must stay functional to be consolidated; `NEVER`.
    """

    up: np.float32
    down_0: np.float32
    down: np.float32
    power_law: bool
    power: np.float32
    mu: np.float32
    w_floor: np.float32
    scale: np.float32
    mature: np.float32
    kept: np.float32
    theta_up: np.float32
    theta_down: np.float32
    elapsed_ms: np.float32
    consolidate_ms: np.float32


@njit(cache=True, inline="always", fastmath=FAST)
def _changed(a: np.float32, gain: np.float32, loss: np.float32, d: Dynamics) -> np.float32:
    """Change of an occupancy before clipping, but for a power law."""
    return (np.float32(1.0) + d.up * a) * gain - (d.down_0 + d.down * a) * loss


@njit(cache=True, inline="always")
def _clock(
    state: NDArray[np.uint8], clock: Floats, seen: NDArray[np.int32], i: int, t: int, d: Dynamics
) -> None:
    """Bring a functional contact's clock from step ``seen`` up to the start of step t."""
    if state[i] == _FUNCTIONAL:
        clock[i] += np.float32(t - seen[i]) * d.elapsed_ms
        if clock[i] >= d.consolidate_ms:
            state[i] = _CONSOLIDATED
            clock[i] = np.float32(0.0)
    seen[i] = t


@njit(cache=True, inline="always")
def _convert(
    ampa: Floats, state: NDArray[np.uint8], clock: Floats, seen: NDArray[np.int32], i: int, t: int,
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
    ampa: Floats, state: NDArray[np.uint8], clock: Floats, seen: NDArray[np.int32], gain: Floats,
    loss: Floats, exists: Floats, t: int, d: Dynamics,
) -> None:  # fmt: skip
    """Step t of all of a neuron's contacts: occupancies, states and clocks.

    What a contact is stands in factors of 0 and 1: they become vector instructions, ten times as
    fast as branches.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    for i in range(len(ampa)):
        code = np.int32(state[i])
        silent = one if code == SILENT else zero
        functional = one if code == FUNCTIONAL else zero
        before = clock[i] + np.float32(np.int32(t) - seen[i]) * d.elapsed_ms
        due = functional if before >= d.consolidate_ms else zero  # since an earlier step
        fixed = max(one if code == CONSOLIDATED else zero, due)
        share = (silent + (one - silent) * d.mature) * d.scale
        a = ampa[i] + share * _changed(ampa[i], gain[i], loss[i], d)
        a = min(max(a, zero), one) * exists[i] * (fixed + (one - fixed) * d.kept)
        ampa[i] = a
        after = before + d.elapsed_ms
        lasts = zero if a <= d.theta_down else functional
        fixed = max(fixed, lasts if after >= d.consolidate_ms else zero)
        lasts *= one - fixed
        rises = silent if a >= d.theta_up else zero
        state[i] = np.uint8(np.int32((rises + lasts) * _FUNCTIONAL + fixed * _CONSOLIDATED))
        clock[i] = after * lasts
        seen[i] = np.int32(t + 1)


@njit(cache=True, inline="always", fastmath=FAST)
def _settle(
    state: NDArray[np.uint8], clock: Floats, seen: NDArray[np.int32], t: int, d: Dynamics
) -> None:
    """`_clock` for all of a neuron's contacts."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for i in range(len(clock)):
        code = np.int32(state[i])
        functional = one if code == FUNCTIONAL else zero
        now = clock[i] + np.float32(np.int32(t) - seen[i]) * d.elapsed_ms
        due = functional if now >= d.consolidate_ms else zero
        fixed = max(one if code == CONSOLIDATED else zero, due)
        functional -= due
        state[i] = np.uint8(np.int32(functional * _FUNCTIONAL + fixed * _CONSOLIDATED))
        clock[i] = now * functional


@njit(cache=True, inline="always", fastmath=FAST)
def _add(sums: Floats, factor: np.float32, values: Floats) -> None:
    for i in range(len(sums)):
        sums[i] += factor * values[i]


def express_change(
    ampa: Floats,
    state: NDArray[np.uint8],
    clock: Floats,
    exists: NDArray[np.bool_],
    change: Floats,
    d: Dynamics,
) -> None:
    """One step of all contacts, in place, for a change [n_post, n_pre] that is known already; the
    weight dependence of ``d`` is not used (`compiled.AS_GIVEN`).

    Raises:
        TypeError, ValueError: As for `learn_contacts`.
    """
    sizes = _check_contacts(ampa, state, clock, exists)
    check_array("change", change, "float32", "n_post n_pre", sizes)
    _express_change(ampa, state, clock, exists, change, d)


def learn_contacts(
    ampa: Floats,
    state: NDArray[np.uint8],
    clock: Floats,
    exists: NDArray[np.bool_],
    gain_post: Floats,
    gain_pre: Floats,
    loss_post: Floats,
    loss_pre: Floats,
    reference: Floats,
    target: Floats,
    d: Dynamics,
) -> None:
    """Contacts ampa, state, clock (ms) [n_post, n_pre] through all steps, in place.

    The change of step t, before bounds, is sum_b gain_post_j (gain_pre_i - target_j reference_i)
    - sum_b loss_post_j loss_pre_i.

    Args:
        gain_post, loss_post: [T, B, n_post]. gain_pre, loss_pre: [T, B, n_pre].
        reference: [T, n_pre]. target: [n_post].

    Raises:
        TypeError: An array is not C-contiguous, or not of its type.
        ValueError: Shapes do not fit together.
    """
    sizes = _check_contacts(ampa, state, clock, exists)
    for name, values, axes in (
        ("gain_post", gain_post, "T B n_post"),
        ("gain_pre", gain_pre, "T B n_pre"),
        ("loss_post", loss_post, "T B n_post"),
        ("loss_pre", loss_pre, "T B n_pre"),
        ("reference", reference, "T n_pre"),
        ("target", target, "n_post"),
    ):
        check_array(name, values, "float32", axes, sizes)
    _learn_contacts(
        ampa, state, clock, exists, gain_post, gain_pre, loss_post, loss_pre,
        *spikes_by_input(loss_pre), reference, target, d,
    )  # fmt: skip


def _check_contacts(
    ampa: Floats, state: NDArray[np.uint8], clock: Floats, exists: NDArray[np.bool_]
) -> Sizes:
    """Their sizes, which the loops trust."""
    sizes: Sizes = {}
    for name, values, dtype in (
        ("ampa", ampa, "float32"),
        ("state", state, "uint8"),
        ("clock", clock, "float32"),
        ("exists", exists, "bool"),
    ):
        check_array(name, values, dtype, "n_post n_pre", sizes)
    return sizes


@njit(cache=True, parallel=True, fastmath=FAST)
def _express_change(
    ampa: Floats,
    state: NDArray[np.uint8],
    clock: Floats,
    exists: NDArray[np.bool_],
    change: Floats,
    d: Dynamics,
) -> None:
    n_post, n_pre = ampa.shape
    for j in prange(n_post):
        none, seen = np.zeros(n_pre, np.float32), np.zeros(n_pre, np.int32)
        own = exists[j].astype(np.float32)
        _all_contacts(ampa[j], state[j], clock[j], seen, change[j], none, own, 0, d)


@njit(cache=True, parallel=True, fastmath=FAST)
def _learn_contacts(
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
    """`learn_contacts`; start, inputs, batch: where ``loss_pre`` is not 0 (`spikes_by_input`)."""
    n_post, n_pre = ampa.shape
    n_steps, n_batch = gain_post.shape[:2]
    zero, one = np.float32(0.0), np.float32(1.0)
    loss_at = np.empty(len(inputs), np.float32)  # loss_pre where it is not 0
    for t in range(n_steps):
        for k in range(start[t], start[t + 1]):
            loss_at[k] = loss_pre[t, batch[k], inputs[k]]
    for j in prange(n_post):
        own_loss = np.empty(n_batch, np.float32)
        gain, loss = np.zeros(n_pre, np.float32), np.zeros(n_pre, np.float32)
        own = exists[j].astype(np.float32)
        seen = np.zeros(n_pre, np.int32)  # step up to which a contact's clock is right
        for t in range(n_steps):
            total = zero
            for b in range(n_batch):
                g = gain_post[t, b, j]
                if g != zero:
                    total += g
                    _add(gain, g, gain_pre[t, b])
            for b in range(n_batch):
                own_loss[b] = loss_post[t, b, j]
            for k in range(start[t], start[t + 1]):
                loss[inputs[k]] += own_loss[batch[k]] * loss_at[k]
            if total != zero or t == 0 or d.kept != one:
                _add(gain, -total * target[j], reference[t])
                if d.power_law:
                    for i in range(n_pre):
                        gain[i] *= d.power * max(ampa[j, i], d.w_floor) ** d.mu
                _all_contacts(ampa[j], state[j], clock[j], seen, gain, loss, own, t, d)
                gain[:] = zero
                loss[:] = zero
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
        _settle(state[j], clock[j], seen, n_steps, d)
