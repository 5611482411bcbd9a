"""NMDA-gated spike-timing-dependent plasticity of AMPA occupancy: pure functions.

The rule (our definition, after its parts): with presynaptic glutamate trace x_i, postsynaptic trace
y_j, both exponential and all-to-all (Morrison, Diesmann & Gerstner 2008), spikes s_i and
s_j, and the NMDA gate D_j (receptors.nmda_gate),

    da_ij = a_plus D_j (x_i - c_j <x_i>)  -  a_minus s_i y_j,

where <x_i> is the slow average of x_i. Insertion needs glutamate (x_i) AND depolarisation (D_j);
the target c_j <x_i> makes inputs compete, as the presynaptic target trace of Diehl & Cook 2015
does. A coincident pair sees the traces before their own increment, so that spikes in the
same step do not pair. Updates do not depend on the occupancy; it is clipped to [0, 1] by its owner.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_artsy.config import PlasticityConfig


def trace_before(spikes: Tensor, tau_ms: float, dt_ms: float) -> Tensor:
    """Exponential trace of ``spikes`` [T, ...] just before each step's own spikes, from zero.

    A spike at step t leaves exp(-(u - t) dt / tau) at step u > t and 0 at u <= t.
    """
    decay = math.exp(-dt_ms / tau_ms)
    out = torch.zeros_like(spikes)
    for t in range(1, len(spikes)):
        torch.add(out[t - 1], spikes[t - 1], out=out[t])
        out[t] *= decay
    return out


def gated_stdp(
    pre: Tensor,
    pre_trace: Tensor,
    post: Tensor,
    gate: Tensor,
    target: Tensor,
    target_factor: Tensor,
    params: PlasticityConfig,
    dt_ms: float,
) -> Tensor:
    """Change of occupancy over a batch of presentations, summed over steps and presentations.

    Args:
        pre: Presynaptic spikes [T, B, n_pre]. pre_trace: x, as `trace_before` gives it, same shape.
        post: Postsynaptic spikes [T, B, n_post]. gate: D, same shape.
        target: <x> [n_pre]. target_factor: c [n_post].

    Returns:
        da [n_post, n_pre].
    """
    n_post, n_pre = post.shape[2], pre.shape[2]
    gate = gate.reshape(-1, n_post)
    post_trace = trace_before(post, params.tau_minus_ms, dt_ms).reshape(-1, n_post)
    gain = gate.T @ pre_trace.reshape(-1, n_pre)
    gain -= (target_factor * gate.sum(0))[:, None] * target
    return gain.mul_(params.a_plus).addmm_(
        post_trace.T, pre.reshape(-1, n_pre), alpha=-params.a_minus
    )
