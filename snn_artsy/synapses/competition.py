"""Which assembly answers: dendritic potentials, and inhibition that lets one assembly through.

A neuron foresees its teacher by the potential that its own contacts cause in its dendrite, which
the teacher does not replace (Urbanczik & Senn 2014). Inhibitory neurons that all assemblies drive,
and that inhibit all of them, let one assembly fire a dendritic spike at a time: the circuit of
Nessler, Pfeiffer, Buesing & Maass (2013), in which neurons fire at a rate exp(u_c - I) and the
inhibition I = log sum_c exp(u_c) keeps their common rate constant, so that assembly c is the one
that fires with probability softmax_c(u). Expected dendritic spikes are then
what a softmax classifier foresees, and teacher less dendritic spikes is its error.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_range, check_same_kind, check_tensor
from snn_artsy.checks import positive


def leaky_sum(spikes: Tensor, dt_ms: float, tau_ms: float) -> Tensor:
    """Exponentially decaying sums of spikes, those of the step itself included: [T, B, n] alike."""
    keep, total, sums = math.exp(-dt_ms / tau_ms), torch.zeros_like(spikes[:1]), []
    for t in range(len(spikes)):
        total = total * keep + spikes[t : t + 1]
        sums.append(total)
    return torch.cat(sums) if sums else spikes


def winners(potentials: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """The assembly that lateral inhibition lets fire: int64 [n, B], drawn from a softmax.

    Args:
        potentials: Dendritic potential u of each assembly, in thresholds, [n, B, C].
        temperature: Potential difference (thresholds) that makes an assembly e times as likely.
        uniform: Noise in [0, 1), [n, B].

    Raises:
        TypeError, ValueError: Shapes do not fit, or numbers are not finite.
    """
    sizes: Sizes = {}
    check_tensor("potentials", potentials, "n B C", sizes, potentials)
    check_range("potentials", potentials)
    check_same_kind("uniform", uniform, "n B", sizes, potentials)
    positive("temperature", temperature)
    share = torch.softmax(potentials / temperature, dim=-1).cumsum(-1)
    # rounding can leave the last sum below 1
    return (share <= uniform[..., None]).sum(-1).clamp_max(potentials.shape[-1] - 1)
