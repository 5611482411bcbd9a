"""Which presynaptic spikes release transmitter at which contacts.

Release is quantal and all or none at each contact (Del Castillo & Katz 1954): with n contacts and
probability p the number that release is binomial. Here each contact of each pair of neurons is
drawn by itself, also where two neurons have contacts with the same unit. Numbers are counter-based
(`noise`), so that a sample's releases depend on seed, stream, sample and step alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_same_kind, check_spikes, check_tensor
from snn_artsy.checks import duration
from snn_artsy.config import ContactConfig
from snn_artsy.synapses.noise import numbers, starts

_AT_ONCE = 2**21  # numbers that are drawn together; they stay in memory of tens of megabytes


@dataclass(frozen=True)
class Draws:
    """What releases are drawn from.

    Args:
        seed: The run's. stream: Separates uses that must not share numbers (`noise`).
        sample: Sample numbers, int64 [B].
    """

    seed: int
    stream: int
    sample: Tensor


def release_chances(pre: Tensor, contacts: ContactConfig, dt_ms: float) -> Tensor:
    """Probability that a spike in each step would release transmitter, [T, B, n] like ``pre``.

    Without time constants it is U = ``release_probability``. With them it is u R of Tsodyks &
    Markram (1997) in the form of Markram, Wang & Tsodyks (1998) and Tsodyks, Pawelzik & Markram
    (1998), from rest (R = 1, u = 0): at a spike

        u <- u + U (1 - u),   releases with probability u R,   R <- R - u R,

    and between spikes R recovers to 1 with ``tau_rec_ms`` and u decays to 0 with ``tau_facil_ms``
    (without one: R stays 1, or u is U at every spike). R and u are means over trials: the spike
    after a release is as likely to release as the spike after a failure.

    Raises:
        TypeError, ValueError: ``pre`` is no [T, B, n] of 0 and 1.
    """
    duration("dt_ms", dt_ms)
    check_tensor("pre", pre, "T B n", {}, pre)
    check_spikes("pre", pre)
    at_rest = contacts.release_probability
    if contacts.tau_rec_ms is None and contacts.tau_facil_ms is None:
        return torch.full_like(pre, at_rest)
    recovers = 0.0 if contacts.tau_rec_ms is None else math.exp(-dt_ms / contacts.tau_rec_ms)
    keeps = 0.0 if contacts.tau_facil_ms is None else math.exp(-dt_ms / contacts.tau_facil_ms)
    # in double precision, so that rounding to the grid is the same in any batch
    used = torch.zeros(pre.shape[1:], dtype=torch.float64, device=pre.device)
    left, chances = torch.ones_like(used), []
    for spikes in pre.double():
        raised = used + at_rest * (1.0 - used)
        chances.append(raised * left)
        used = keeps * torch.where(spikes > 0, raised, used)
        left = 1.0 - recovers * (1.0 - left * (1.0 - raised * spikes))
    # sums of chances on a grid are exact: what a neuron gets does not depend on the batch
    return torch.stack(chances).mul_(65536.0).round_().div_(65536.0).to(pre.dtype)


class Released:
    """Releases of a batch at all contacts of a layer.

    Args:
        pre: Spikes at each contact, [T, B, n_sites]. chances: `release_chances` of them.
        draws: Of the releases; ``sample`` [B].
        first_neuron: Number of the layer's first neuron, so that two layers draw other numbers.

    Raises:
        TypeError, ValueError: ``draws.sample`` is no int64 [B].
    """

    def __init__(self, pre: Tensor, chances: Tensor, draws: Draws, first_neuron: int = 0) -> None:
        sizes: Sizes = {"B": pre.shape[1]}
        whole = torch.zeros((), dtype=torch.int64, device=pre.device)
        check_same_kind("draws.sample", draws.sample, "B", sizes, whole)
        self.pre, self.chances, self.first_neuron = pre, chances, first_neuron
        step = torch.arange(len(pre), device=pre.device)
        self.start = starts(draws.seed, draws.stream, draws.sample, step)
        self.at = torch.nonzero(pre)

    def _happen(self, spikes: Tensor, neuron: Tensor) -> Tensor:
        """Whether spikes (t, b, site) release at the contacts with some neurons, bool [spikes,
        neurons]."""
        t, b, site = spikes.T
        unit = (self.first_neuron + neuron) * self.pre.shape[2] + site[:, None]
        return numbers(self.start[t, b, None], unit) < self.chances[t, b, site, None]

    def drive(self, weights: Tensor) -> Tensor:
        """Weights [n_post, n_sites] of what releases, summed up: [T, B, n_post]."""
        n_steps, n_batch, _ = self.pre.shape
        n_post = len(weights)
        total = weights.new_zeros(n_steps * n_batch, n_post)
        if weights.device.type == "cpu" and weights.dtype == torch.float32:
            self._add_compiled(weights, total)
            return total.view(n_steps, n_batch, n_post)
        neuron, of_site = torch.arange(n_post, device=weights.device), weights.T.contiguous()
        for spikes in self.at.split(max(1, _AT_ONCE // n_post)):
            t, b, site = spikes.T
            passed = self._happen(spikes, neuron) * of_site[site]
            total.index_add_(0, t * n_batch + b, passed)
        return total.view(n_steps, n_batch, n_post)

    def _add_compiled(self, weights: Tensor, total: Tensor) -> None:
        """The same numbers, ten times as fast."""
        from snn_artsy.synapses.loops import release, steps  # Numba takes a while to import
        from snn_artsy.synapses.loops.records import InputSpikes

        dense = self.pre.flatten(0, 1).contiguous().numpy()
        spikes = InputSpikes(*steps.spike_list(dense), dense)
        chances, of_site = (x.contiguous().numpy() for x in (self.chances.flatten(0, 1), weights.T))
        start = self.start.flatten().contiguous().numpy().view(np.uint64)
        release.drive(spikes, chances, start, of_site, self.first_neuron, total.numpy())

    def train(self, neuron: int) -> Tensor:
        """Spikes that release at the contacts with one neuron, [T, B, n_sites]."""
        happen = self._happen(self.at, torch.tensor([neuron], device=self.at.device))[:, 0]
        released = torch.zeros_like(self.pre)
        released[tuple(self.at[happen].T)] = 1.0
        return released

    def at_contacts(self, post: Tensor, site: Tensor) -> Tensor:
        """Spikes that release at contacts (post[k], site[k]), [T, B, n]."""
        u = numbers(self.start[:, :, None], (self.first_neuron + post) * self.pre.shape[2] + site)
        return self.pre[:, :, site] * (u < self.chances[:, :, site])
