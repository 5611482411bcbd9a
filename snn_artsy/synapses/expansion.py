"""A sparse expansion layer: many units with few fixed random inputs, thinned out by inhibition.

As granule cells of the cerebellum and Kenyon cells of the mushroom body do, it makes a code of more
dimensions than its input has (Litwin-Kumar, Harris, Axel, Sompolinsky & Abbott 2017), in which
one-bit contacts tell apart what they could not before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_range, check_tensor
from snn_artsy.checks import require
from snn_artsy.config import ExpansionConfig

_STRIDE = 1_000_003  # keeps the draws apart from what else a run's seed makes


class Expansion:
    """Drive of expansion units from that of their inputs (our definition; docs/model.md, eq. 4b).

    Each unit sums ``fan_in`` inputs, drawn without replacement, each with the sign +1 or -1.
    Inhibition, driven by all units, is as strong as the strongest that has to stay silent, so that
    a share ``active`` of the units is driven, and divides what is left by the largest.

    A pure function of its arguments: connections are made again from the seed and never stored.

    Args:
        config: Units, fan-in and the share that stays active.
        n_inputs: Inputs that units draw from.
        seed: Of the connections.

    Raises:
        ConfigError: A unit cannot have so many inputs.
    """

    def __init__(self, config: ExpansionConfig, n_inputs: int, seed: int) -> None:
        require(
            config.fan_in <= n_inputs,
            "snn.expansion.fan_in",
            config.fan_in,
            f"there are {n_inputs} inputs; use at most so many",
        )
        generator = torch.Generator().manual_seed(seed * _STRIDE + 1)
        size = (config.units, n_inputs)
        chosen = torch.rand(size, generator=generator).argsort(1)[:, : config.fan_in]
        sign = 2.0 * torch.randint(2, chosen.shape, generator=generator).double() - 1.0
        # Inputs come on a grid of 2**-16 (`SpikeEncoder.drive`), so that float64 sums are exact.
        self.weights = torch.zeros(size, dtype=torch.float64).scatter_(1, chosen, sign)
        self.n_active = min(max(round(config.active * config.units), 1), config.units - 1)

    def __call__(self, drive: Tensor) -> Tensor:
        """Drive of the inputs [B, n_inputs] -> of the units, float64 [B, units] in [0, 1].

        Raises:
            TypeError, ValueError: Another shape or device, or values outside [0, 1].
        """
        sizes: Sizes = {"n_inputs": self.weights.shape[1]}
        check_tensor("drive", drive, "B n_inputs", sizes, drive)
        check_range("drive", drive, 0.0, 1.0)
        self.weights = self.weights.to(drive.device)
        summed = drive.double() @ self.weights.T
        strongest = summed.topk(self.n_active + 1, dim=1).values
        left = (summed - strongest[:, -1:]).clamp_min(0.0)
        # where all units are driven alike, inhibition silences all
        largest = (strongest[:, :1] - strongest[:, -1:]).clamp_min(2.0**-16)
        return left / largest


def build_expansion(config: ExpansionConfig, n_inputs: int, seed: int) -> Expansion | None:
    """The layer that ``config`` describes; None: there is none."""
    return Expansion(config, n_inputs, seed) if config.units else None
