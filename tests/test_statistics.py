"""The crossed bootstrap against closed forms; Holm's method by hand."""

import math

import numpy as np
import pytest

from snn_artsy.evaluation.statistics import crossed_bootstrap, holm, interval, p_value


def test_one_seed_gives_the_binomial_error() -> None:
    correct = np.arange(2000)[None] < 1400
    replicates = crossed_bootstrap({"a": correct}, 4000)["a"]
    assert replicates.mean() == pytest.approx(0.7, abs=0.001)
    assert replicates.std() == pytest.approx(math.sqrt(0.7 * 0.3 / 2000), rel=0.05)


def test_seeds_that_differ_add_their_variance() -> None:
    share = np.array([0.2, 0.4, 0.6, 0.8])  # whole images: no variance but between seeds and images
    n = 5000
    images = np.random.default_rng(1).random((4, n)) < share[:, None]
    replicates = crossed_bootstrap({"a": images}, 4000)["a"]
    between = share.var() / 4
    assert replicates.std() == pytest.approx(math.sqrt(between), rel=0.05)
    low, high = interval(replicates)
    assert low < 0.35 and high > 0.65


def test_pairs_share_their_draws() -> None:
    draws = np.random.default_rng(2)
    a = draws.random((3, 1000)) < 0.6
    b = a.copy()
    b[:, :20] = False  # a is right where b is, and on some more
    both = crossed_bootstrap({"a": a, "b": b, "same": a}, 2000)
    gain = a[:, :20].mean() * 20 / 1000
    assert (both["a"] - both["same"] == 0).all() and p_value(both["a"] - both["same"]) == 1.0
    paired = both["a"] - both["b"]
    assert paired.mean() == pytest.approx(gain, rel=0.05)
    assert interval(paired)[0] > 0 and p_value(paired) < 0.01
    # without pairing the difference would drown
    assert both["a"].std() > 3 * paired.std()
    with pytest.raises(ValueError, match="share seeds and images"):
        crossed_bootstrap({"a": a, "b": b[:, 1:]})


def test_the_p_value_is_uniform_without_a_difference() -> None:
    draws = np.random.default_rng(3)
    p = []
    for k in range(200):
        a, b = draws.random((2, 1, 300)) < 0.5
        found = crossed_bootstrap({"a": a, "b": b}, 400, seed=k)
        p.append(p_value(found["a"] - found["b"]))
    assert abs(np.mean(np.array(p) < 0.1) - 0.1) < 4 * math.sqrt(0.09 / 200)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
