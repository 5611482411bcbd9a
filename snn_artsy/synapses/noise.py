"""Counter-based uniform noise: a number depends on its key alone, never on the batch around it.

Sequential generators would make a sample's spikes depend on which samples were drawn before it.
Here each number is a hash of (seed, stream, sample, step, unit), so that it is the same in any
batch, order and on any device (integer arithmetic is exact on both). The hash is SplitMix64's
output function (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
generators") applied to a Weyl sequence over the units, with a start that is itself hashed from
the key.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snn_artsy.arrays import check_same_kind
from snn_artsy.checks import between


def _signed(constant: int) -> int:
    """An unsigned 64-bit constant as torch's signed int64 holds it."""
    return constant - (1 << 64) if constant >= 1 << 63 else constant


WORTH_COMPILED = 2**16
"""So many numbers at a time take a compiled loop on the CPU, a thirtieth of the time."""

_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's ``>>`` on int64 copies the sign bit."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mix64(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 (arithmetic wraps modulo 2**64)."""
    x = x.clone()  # then in place: the numbers of a batch fill tens of megabytes
    for bits, factor in ((30, _MIX_1), (27, _MIX_2)):
        x.bitwise_xor_(_shift_right(x, bits)).mul_(factor)
    return x.bitwise_xor_(_shift_right(x, 31))


def uniform(
    seed: int,
    stream: int,
    sample: Tensor,
    n_steps: int,
    n_units: int,
    only: Tensor | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1), float32 [n_steps, B, n_units].

    Args:
        seed: The run's seed.
        stream: Separates uses that must not share numbers (splits, epochs, purposes).
        sample: Sample numbers, int64 [B].
        n_steps: Time steps.
        n_units: Numbers for each sample and step.
        only: Make those of these steps alone, int64 [steps].

    Raises:
        ConfigError: A seed that is no int64, or a negative size.
        TypeError, ValueError: ``sample`` or ``only`` is no int64 [n].
    """
    for name, number in (("seed", seed), ("stream", stream)):
        between(name, number, -(2**63), 2**63 - 1)
    for name, size in (("n_steps", n_steps), ("n_units", n_units)):
        between(name, size, 0, 2**31)
    whole = torch.zeros((), dtype=torch.int64, device=getattr(sample, "device", None))
    check_same_kind("sample", sample, "B", {}, whole)
    if only is not None:
        check_same_kind("only", only, "steps", {}, whole)
    device = sample.device
    step = torch.arange(n_steps, device=device) if only is None else only
    start = starts(seed, stream, sample, step)
    if device.type == "cpu" and start.numel() * n_units >= WORTH_COMPILED:
        return _compiled(start, n_units)
    return numbers(start[:, :, None], torch.arange(n_units, device=device))


def _compiled(start: Tensor, n_units: int) -> Tensor:
    """`numbers` of units 0, 1, ... under keys [n, B], bit for bit, on the CPU."""
    from snn_artsy.synapses.loops import draws  # Numba takes a while to import

    drawn = torch.empty(*start.shape, n_units)
    keys = start.contiguous().numpy().view(np.uint64)
    draws.fill(keys.reshape(-1), drawn.numpy().reshape(-1, n_units))
    return drawn


def starts(seed: int, stream: int, sample: Tensor, step: Tensor) -> Tensor:
    """Keys of `numbers` for sample numbers [B] in some steps [n]: int64 [n, B]."""
    key = mix64(torch.tensor(seed, device=sample.device) * _GOLDEN + stream)
    per_sample = mix64(key + sample * _GOLDEN)
    return mix64(per_sample[None, :] + (step[:, None] + 1) * _GOLDEN)


def numbers(start: Tensor, unit: Tensor) -> Tensor:
    """`uniform`'s numbers of units (int64) under keys of `starts`; shapes broadcast."""
    bits = mix64(start + (unit + 1) * _GOLDEN)
    # 24 bits fill a float32's mantissa, so that every value below is exact and below 1
    return _shift_right(bits, 40).to(torch.float32).mul_(2.0**-24)
