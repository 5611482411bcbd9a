"""Exponential spike traces of whole presentations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, axes_like, check_range, check_spikes, check_tensor
from snn_artsy.checks import duration


def trace_before(
    spikes: Tensor,
    tau_ms: float,
    dt_ms: float,
    nearest: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    """Exponential trace of ``spikes`` [T, ...] just before each step's own spikes.

    A spike at step t leaves exp(-(u - t) dt / tau) at step u > t and 0 at u <= t.

    Args:
        nearest: Each spike sets the trace to 1 instead of adding 1.
        start: The trace before the first step, [...]; None: zero.

    Raises:
        TypeError, ValueError: ``spikes`` is no tensor with a time axis, or not finite.
    """
    duration("tau_ms", tau_ms)
    duration("dt_ms", dt_ms)
    check_tensor("spikes", spikes, axes_like(spikes, "T"), {}, spikes)
    check_range("spikes", spikes)
    decay = math.exp(-dt_ms / tau_ms)
    out = torch.zeros_like(spikes)
    if start is not None:
        out[:1] = start
    for t in range(1, len(spikes)):
        torch.add(out[t - 1], spikes[t - 1], out=out[t])
        if nearest:
            out[t] -= out[t - 1] * spikes[t - 1]
        out[t] *= decay
    return out


def pair_counts(pre: Tensor, post: Tensor) -> Tensor:
    """How many spike pairs there are at each lag, post less pre in steps, all pairs counted.

    Args:
        pre, post: Spikes (0 or 1) of paired trains, [T, B, n].

    Returns:
        int64 [n, 2 T - 1], for lags -(T - 1) .. T - 1; summed over B.

    Raises:
        TypeError, ValueError: Shapes do not fit together, or a spike is neither 0 nor 1.
    """
    sizes: Sizes = {}
    for name, spikes in (("pre", pre), ("post", post)):
        check_tensor(name, spikes, "T B n", sizes, pre)
        check_spikes(name, spikes)
    steps = len(pre)
    # counts are whole numbers: float64 transforms are exact after rounding
    spectra = [torch.fft.rfft(x.double(), n=2 * steps, dim=0) for x in (pre, post)]
    product = (spectra[0].conj() * spectra[1]).sum(1)
    circular = torch.fft.irfft(product, n=2 * steps, dim=0).round().long()
    return torch.cat([circular[steps + 1 :], circular[:steps]]).T


def binned(counts: Tensor, width: int, each_side: int) -> Tensor:
    """`pair_counts` [n, 2 T - 1] in bins of ``width`` steps, [n, 2 each_side + 1]; the middle one
    is centred on lag 0, lags beyond the last are left out."""
    half = counts.shape[1] // 2
    lag = torch.arange(-half, half + 1, device=counts.device)
    number = torch.div(lag + width // 2, width, rounding_mode="floor") + each_side
    inside = (number >= 0) & (number <= 2 * each_side)
    bins = counts.new_zeros(len(counts), 2 * each_side + 1)
    return bins.index_add_(1, number[inside], counts[:, inside])
