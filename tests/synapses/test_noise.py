"""Counter-based noise: keyed by the sample, uniform, and the published hash."""

import math

import pytest
import torch

from snn_artsy.synapses.noise import WORTH_COMPILED, mix64, uniform

MASK = (1 << 64) - 1


def splitmix_finaliser(z: int) -> int:
    """Steele, Lea & Flood 2014, Fig. 15 (as in Vigna's splitmix64.c), on Python integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def as_signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x


def test_mix64_is_splitmix64() -> None:
    inputs = [0, 1, 2, 1993, 1 << 31, (1 << 63) - 1, 1 << 63, MASK, 0x0123456789ABCDEF]
    mixed = mix64(torch.tensor([as_signed(x) for x in inputs])).tolist()
    assert mixed == [as_signed(splitmix_finaliser(x)) for x in inputs]


def test_mix64_gives_the_generator_s_published_first_output() -> None:
    # The first number of java.util.SplittableRandom and of splitmix64.c from state 0.
    golden = torch.tensor(as_signed(0x9E3779B97F4A7C15))
    assert int(mix64(golden)) == as_signed(0xE220A8397B1DCDAF)


def test_uniform_equals_its_key_schedule_in_python_integers() -> None:
    golden, seed, stream, samples = 0x9E3779B97F4A7C15, 1993, 3, [0, 7, 123456]
    u = uniform(seed, stream, torch.tensor(samples), 3, 4)
    key = splitmix_finaliser((seed * golden + stream) & MASK)
    for b, sample in enumerate(samples):
        per_sample = splitmix_finaliser((key + sample * golden) & MASK)
        for step in range(3):
            start = splitmix_finaliser((per_sample + (step + 1) * golden) & MASK)
            for unit in range(4):
                bits = splitmix_finaliser((start + (unit + 1) * golden) & MASK)
                assert float(u[step, b, unit]) == (bits >> 40) / 2**24


def test_a_number_does_not_depend_on_the_batch_around_it() -> None:
    samples = torch.tensor([5, 0, 99, 12, 7])
    whole = uniform(1, 2, samples, 6, 9)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(uniform(1, 2, samples[order], 6, 9), whole[:, order])
    for b in range(len(samples)):
        assert torch.equal(uniform(1, 2, samples[b : b + 1], 6, 9)[:, 0], whole[:, b])
    # more steps or units leave the earlier ones as they are
    assert torch.equal(uniform(1, 2, samples, 8, 12)[:6, :, :9], whole)
    assert torch.equal(uniform(1, 2, samples, 6, 9, only=torch.tensor([1, 4])), whole[[1, 4]])


@pytest.mark.parametrize(("seed", "stream", "first"), [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_another_key_gives_other_numbers(seed: int, stream: int, first: int) -> None:
    base = uniform(1, 0, torch.tensor([0]), 10, 50)
    other = uniform(seed, stream, torch.tensor([first]), 10, 50)
    # 500 numbers of 24 bits: a collision at one place has probability 3e-5
    assert int((base == other).sum()) <= 1


def test_steps_and_units_do_not_repeat_each_other() -> None:
    u = uniform(0, 0, torch.arange(4), 20, 30)
    assert len(u.unique()) >= u.numel() - 3


def test_uniform_on_the_unit_interval() -> None:
    u = uniform(42, 0, torch.arange(50), 20, 100).flatten()
    n, bins = u.numel(), 100
    assert float(u.min()) >= 0.0
    assert float(u.max()) < 1.0
    counts = torch.bincount((u * bins).long(), minlength=bins).double()
    chi2 = float(((counts - n / bins) ** 2 / (n / bins)).sum())
    # chi2 with 99 degrees of freedom: 5 standard deviations (sqrt(2 * 99)) to either side
    assert abs(chi2 - 99) < 5 * math.sqrt(2 * 99)
    # Kolmogorov-Smirnov: sqrt(n) * D exceeds 1.95 with probability 0.001
    ordered = u.double().sort().values
    grid = torch.arange(1, n + 1, dtype=torch.float64) / n
    distance = max(float((grid - ordered).max()), float((ordered - grid + 1 / n).max()))
    assert math.sqrt(n) * distance < 1.95


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbours_are_uncorrelated(axis: int) -> None:
    u = uniform(7, 1, torch.arange(40), 40, 40).double() - 0.5
    first, second = u.narrow(axis, 0, 39), u.narrow(axis, 1, 39)
    n = first.numel()
    r = float((first * second).mean()) * 12
    assert abs(r) < 5 / math.sqrt(n)


def test_streams_are_uncorrelated() -> None:
    samples = torch.arange(40)
    a, b = (uniform(7, stream, samples, 40, 40).double() - 0.5 for stream in (0, 1))
    assert abs(float((a * b).mean()) * 12) < 5 / math.sqrt(a.numel())


def test_many_numbers_are_those_of_few() -> None:
    """Many at a time are made by a compiled loop."""
    sample, only = torch.tensor([7, 2**40, 0]), torch.tensor([0, 5, 11])
    n = WORTH_COMPILED // 9 + 1
    many = uniform(-3, -8, sample, 12, n, only=only)
    for t, step in enumerate(only):
        for b, number in enumerate(sample):
            few = uniform(-3, -8, number[None], 12, n, only=step[None])
            assert few.numel() < WORTH_COMPILED
            assert torch.equal(many[t, b], few[0, 0])
