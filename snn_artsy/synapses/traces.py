"""Exponential spike traces of whole presentations."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
