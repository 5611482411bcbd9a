"""Learning with a weight update in every step: leaky neurons under pair-based STDP.

`learn_online` is the hot loop for trains of spikes through graded weights. On the CPU it runs
compiled loops (`kernels`) in float32. On other devices and in other precisions an additive rule
takes `learn_by_products`, one matrix product a step for both halves of the rule, and every other
one `learn_step_by_step`, plain torch, which is also the reference that the two are tested against.
Which of them runs depends on the rule and on the weights' device type and precision only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.arrays import Sizes, check_range, check_spikes, check_tensor
from snn_artsy.checks import between, duration, require
from snn_artsy.rules import PairSTDP, Signals
from snn_artsy.rules.base import decay


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
        between("units.beta", self.beta, 0, 1)
        require(self.beta < 1, "units.beta", self.beta, "use [0, 1)")
        between("units.gain", self.gain, -1e6, 1e6)
        between("units.floor", self.floor, -1e6, 0)
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
        TypeError: The rule is not `PairSTDP`, or an array is no tensor of its kind.
        ValueError: Shapes or devices do not fit together; a weight is outside [0, 1], a spike
            neither 0 nor 1, or a current not finite; there is no step or no presentation.
    """
    _check(w, pre, current, rule, dt_ms)
    if w.device.type == "cpu" and w.dtype == torch.float32 and type(rule) is PairSTDP:
        return _learn_compiled(w, pre, current, rule, dt_ms, units)
    if type(rule) is PairSTDP and rule.bounds_of == "additive":
        return learn_by_products(w, pre, current, rule, dt_ms, units)
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
    _check(w, pre, current, rule, dt_ms)
    w = w.detach()  # changed in place, without a gradient
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
def learn_by_products(
    w: Tensor,
    pre: Tensor,
    current: Tensor,
    rule: PairSTDP,
    dt_ms: float,
    units: LeakyUnits = LeakyUnits(),
) -> Trains:
    """`learn_step_by_step` for an additive rule: w <- clip(w + [a+ post, -a- y]^T [x, pre]) is one
    product over concatenated factors, in place, and nothing of the size of ``w`` is ever made."""
    _check(w, pre, current, rule, dt_ms)
    w = w.detach()
    pre, current = pre.to(w), current.to(w)
    private, nearest = w.ndim == 3, rule.pairing == "nearest"
    # [2, B, n]: a step's potentiation, then its depression; traces live in them
    left, right = current.new_zeros(2, *current.shape[1:]), pre.new_zeros(2, *pre.shape[1:])
    gain_post, loss_post, x, loss_pre = *left, *right
    if private:  # [B, n_post, 2] and [B, 2, n_pre]
        factors = left.permute(1, 2, 0), right.transpose(0, 1)
    else:  # [n_post, 2 B] and [2 B, n_pre]
        factors = left.flatten(0, 1).T, right.flatten(0, 1)
    change = w.baddbmm_ if private else w.addmm_
    keep_x, keep_y = decay(dt_ms, rule.tau_plus_ms), decay(dt_ms, rule.tau_minus_ms)
    v = current.new_zeros(current.shape[1:])
    spikes, membrane = torch.empty_like(current), torch.empty_like(current)
    for t in range(len(pre)):
        drive = (w @ pre[t].unsqueeze(2)).squeeze(2) if private else pre[t] @ w.T
        peak = torch.add(current[t], v, alpha=units.beta, out=membrane[t])
        peak.add_(drive, alpha=units.gain)
        fired = torch.gt(peak, 1.0, out=spikes[t])
        torch.sub(peak, fired, out=v).clamp_min_(units.floor)
        torch.mul(fired, rule.a_plus, out=gain_post)
        loss_pre.copy_(pre[t])
        change(*factors).clamp_(0.0, 1.0)
        if nearest:
            x.addcmul_(pre[t], 1.0 - x)
            loss_post.addcmul_(fired, -rule.a_minus - loss_post)
        else:
            x.add_(pre[t])
            loss_post.sub_(fired, alpha=rule.a_minus)
        x.mul_(keep_x)
        loss_post.mul_(keep_y)
    return Trains(spikes, membrane, v)


@torch.no_grad()
def _learn_compiled(
    w: Tensor, pre: Tensor, current: Tensor, rule: PairSTDP, dt_ms: float, units: LeakyUnits
) -> Trains:
    from snn_artsy.synapses import kernels  # Numba takes a while to import

    w = w.detach()  # changed in place, without a gradient
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
    return values.detach().to(torch.float32).contiguous().numpy()


def _check(w: Tensor, pre: Tensor, current: Tensor, rule: object, dt_ms: float) -> None:
    if not isinstance(rule, PairSTDP):
        raise TypeError(f"rule: expected a PairSTDP, given {rule!r}")
    duration("dt_ms", dt_ms)
    sizes: Sizes = {}
    check_tensor("pre", pre, "T B n_pre", sizes, w)
    check_tensor("current", current, "T B n_post", sizes, w)
    check_tensor("w", w, "n_post n_pre" if w.ndim == 2 else "B n_post n_pre", sizes, w)
    if w.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"w: expected float32 or float64, given {w.dtype}")
    if 0 in sizes.values() or 0 in w.stride():
        raise ValueError(
            "w: expected weights in memory of their own, and at least one presentation and neuron "
            f"on each side, given {sizes}, strides {w.stride()}"
        )
    check_spikes("pre", pre)
    check_range("current", current.to(w.dtype))
    check_range("w", w, 0.0, 1.0)
