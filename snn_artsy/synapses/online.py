"""Learning with a weight update in every step: leaky neurons under pair-based STDP.

`learn_online` is the hot loop for trains of spikes through graded weights. On the CPU it runs
compiled loops (`kernels`) in float32; on other devices and in other precisions
`learn_step_by_step`, plain torch, which is also the reference of the compiled loops. Which of them
runs depends on the device type and precision of the weights only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.checks import require
from snn_artsy.rules import PairSTDP, Signals


@dataclass(frozen=True)
class LeakyUnits:
    """Leaky integrate-and-fire neurons in units of their threshold, reset by subtraction.

    v <- beta v + gain sum_i w_ji s_i + current;   spike where v > 1;   v <- max(v - spike, floor)

    ======== ==== ======= ================================================
    symbol   unit default meaning
    ======== ==== ======= ================================================
    beta     --   0.95    decay of the membrane in a step, exp(-dt/tau_m)
    gain     1    0.1     input of one spike through a weight of 1
    floor    1    -2      lowest membrane
    ======== ==== ======= ================================================
    """

    beta: float = 0.95
    gain: float = 0.1
    floor: float = -2.0

    def __post_init__(self) -> None:
        require(0 <= self.beta < 1, "units.beta", self.beta, "use [0, 1)")
        require(self.floor < 0, "units.floor", self.floor, "use a value below 0")


@dataclass(frozen=True)
class Trains:
    """What the postsynaptic neurons did; membranes in thresholds.

    Args:
        spikes: [T, B, n_post], 0 or 1. membrane: Just before the reset, [T, B, n_post].
        final: After the last step, [B, n_post].
    """

    spikes: Tensor
    membrane: Tensor
    final: Tensor


def learn_online(
    w: Tensor,
    pre: Tensor,
    current: Tensor,
    rule: PairSTDP,
    dt_ms: float,
    units: LeakyUnits = LeakyUnits(),
) -> Trains:
    """Show a batch for T steps, from rest; ``w`` learns in every step and is changed in place.

    Args:
        w: Weights in [0, 1]: [n_post, n_pre] shared by the batch, whose changes are summed in each
            step, or [B, n_post, n_pre], each presentation with its own.
        pre: Presynaptic spikes, 0 or 1, [T, B, n_pre]. current: In thresholds, [T, B, n_post].

    Raises:
        ValueError: Shapes do not fit together.
    """
    _check(w, pre, current)
    if w.device.type == "cpu" and w.dtype == torch.float32:
        return _learn_compiled(w, pre, current, rule, dt_ms, units)
    return learn_step_by_step(w, pre, current, rule, dt_ms, units)


@torch.no_grad()
def learn_step_by_step(
    w: Tensor,
    pre: Tensor,
    current: Tensor,
    rule: PairSTDP,
    dt_ms: float,
    units: LeakyUnits = LeakyUnits(),
) -> Trains:
    """`learn_online` in plain torch, on any device and in the precision of ``w``."""
    _check(w, pre, current)
    pre, current = pre.to(w), current.to(w)
    private = w.ndim == 3
    v = current.new_zeros(current.shape[1:])
    traces = rule.start(pre[0], v, private)
    spikes, membrane = torch.empty_like(current), torch.empty_like(current)
    for t in range(len(pre)):
        drive = (w @ pre[t].unsqueeze(2)).squeeze(2) if private else pre[t] @ w.T
        peak = units.beta * v + units.gain * drive + current[t]
        fired = (peak > 1.0).to(w.dtype)
        v = (peak - fired).clamp_min(units.floor)
        change, traces = rule.step(w, traces, Signals(pre[t], fired, peak), dt_ms)
        w.add_(change).clamp_(0.0, 1.0)
        spikes[t], membrane[t] = fired, peak
    return Trains(spikes, membrane, v)


@torch.no_grad()
def _learn_compiled(
    w: Tensor, pre: Tensor, current: Tensor, rule: PairSTDP, dt_ms: float, units: LeakyUnits
) -> Trains:
    from snn_artsy.synapses import kernels  # Numba takes a while to import

    kernels.set_threads(torch.get_num_threads())
    constants = kernels.constants(rule, dt_ms, units.beta, units.gain, units.floor)
    single = pre.shape[1] == 1  # its weights are its own, even if they were to be shared
    if w.ndim == 3 or single:
        learn = kernels.learn_private
        own = w.unsqueeze(0) if w.ndim == 2 else w
    else:
        learn, own = kernels.learn_shared, w
    own = own.contiguous()
    found = learn(own.numpy(), _array(pre), _array(current), constants)
    if own.data_ptr() != w.data_ptr():
        w.copy_(own.view_as(w))
    return Trains(*(torch.from_numpy(part) for part in found))


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.to(torch.float32).contiguous().numpy()


def _check(w: Tensor, pre: Tensor, current: Tensor) -> None:
    if pre.ndim != 3 or current.ndim != 3 or pre.shape[:2] != current.shape[:2] or not len(pre):
        raise ValueError(
            f"pre: shape {tuple(pre.shape)}, current: shape {tuple(current.shape)}; give "
            "[T, B, n_pre] and [T, B, n_post] with the same T and B, T at least 1"
        )
    shared = (current.shape[2], pre.shape[2])
    if w.shape not in (shared, (pre.shape[1], *shared)):
        raise ValueError(
            f"w: shape {tuple(w.shape)}, expected [n_post, n_pre] = {list(shared)} or [B, n_post, "
            f"n_pre] = {[pre.shape[1], *shared]}"
        )
