"""Means over seeds and test images against closed forms, hand-made tables and a simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from snn_artsy.evaluation.statistics import cohens_h, crossed_mean, holm, mean_interval


def test_one_seed_gives_the_error_of_the_images() -> None:
    found = crossed_mean(np.arange(2000)[None] < 1400)
    assert found.mean == 0.7 and found.degrees_of_freedom == 1999
    assert found.standard_error == pytest.approx(math.sqrt(0.7 * 0.3 / 1999))
    low, high = found.interval()
    half = 1.9612 * found.standard_error  # t of 1999 degrees of freedom
    assert (low, high) == pytest.approx((0.7 - half, 0.7 + half), abs=1e-5)


def test_images_alike_give_the_t_interval_of_the_seeds() -> None:
    of_seed = np.array([0.2, 0.4, 0.6, 0.8])
    found = crossed_mean(np.repeat(of_seed[:, None], 50, axis=1))
    # unbiased: divided by 3, not by 4
    assert found.standard_error == pytest.approx(of_seed.std(ddof=1) / 2)
    assert found.degrees_of_freedom == pytest.approx(3)
    expected = stats.t.interval(0.95, 3, loc=0.5, scale=stats.sem(of_seed))
    assert found.interval() == pytest.approx(expected)
    assert found.p_value() == pytest.approx(stats.ttest_1samp(of_seed, 0.0).pvalue)


def test_mean_squares_by_hand() -> None:
    # rows 5, 3 less 4; columns 1, 3, 8 less 4; the rest is 1, -1, 0 and the reverse
    y = np.array([[3.0, 3.0, 9.0], [-1.0, 3.0, 7.0]])
    # MS_S = 3 (1 + 1) / 1 = 6, MS_I = 2 (9 + 1 + 16) / 2 = 26, MS_E = 4 / 2 = 2
    found = crossed_mean(y)
    assert found.mean == 4
    assert found.standard_error == pytest.approx(math.sqrt((6 - 2 + 26) / 6))
    assert found.degrees_of_freedom == pytest.approx(30**2 / (6**2 / 1 + 26**2 / 2 + 2**2 / 2))


def test_a_negative_variance_of_seeds_counts_as_none() -> None:
    y = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    # every seed has the mean 1/2; images 1/3, 2/3, 1/3, 2/3
    found = crossed_mean(y)
    ms_image = 3 * 4 * (1 / 6) ** 2 / 3
    assert found.standard_error == pytest.approx(math.sqrt(ms_image / 12))


def test_the_same_everywhere() -> None:
    nothing = crossed_mean(np.zeros((3, 10)))
    assert nothing.interval() == (0.0, 0.0) and nothing.p_value() == 1.0
    all_right = crossed_mean(np.ones((3, 10)))
    assert all_right.interval() == (1.0, 1.0) and all_right.p_value() == 0.0


@pytest.mark.parametrize("shape", [(5,), (0, 4), (3, 1), (2, 3, 4)])
def test_what_has_no_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="n_seeds, n_images"):
        crossed_mean(np.zeros(shape))


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_intervals_hold_what_they_promise(spread: float) -> None:
    """5 seeds of 300 images; docs/statistics.md has the large simulation."""
    draws = np.random.default_rng(round(1000 * spread))
    n, held, rejected = 600, 0, 0
    for _ in range(n):
        image = draws.normal(size=300)
        a, b = (
            draws.normal(size=(5, 1)) * spread / 0.25 + image + draws.normal(size=(5, 300)) > 0
            for _ in range(2)
        )
        low, high = crossed_mean(a).interval()
        held += low <= 0.5 <= high
        rejected += crossed_mean(a.astype(float) - b).p_value() < 0.05
    error = 3 * math.sqrt(0.05 * 0.95 / n)
    assert held / n == pytest.approx(0.95, abs=error)
    assert rejected / n < 0.05 + error


def test_cohens_h() -> None:
    # table 6.2.2 of Cohen 1988: phi(.50) = 1.571, phi(.65) = 1.875, phi(.05) = .451, phi(1) = 3.142
    assert cohens_h(0.65, 0.5) == pytest.approx(1.875 - 1.571, abs=1e-3)
    assert cohens_h(0.05, 1.0) == pytest.approx(0.451 - 3.142, abs=1e-3)
    assert cohens_h(0.3, 0.3) == 0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_interval_of_a_mean_is_student_s() -> None:
    # Two values 0 and 2: mean 1, sd sqrt(2), t(.975; 1) = 12.7062
    assert mean_interval([0.0, 2.0]) == pytest.approx((1.0, 1.0 - 12.7062, 1.0 + 12.7062), abs=1e-4)
    assert mean_interval([3.0] * 5) == (3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="two or more"):
        mean_interval([1.0])
