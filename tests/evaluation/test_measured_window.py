"""The plasticity window that a run records, against brute force and against the rule itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from snn_artsy.config import DataConfig, PlasticityConfig, RunConfig, SNNConfig
from snn_artsy.evaluation.window import Window, measured_window
from snn_artsy.observer import lag_bins
from snn_artsy.recording import open_run
from snn_artsy.rules.nmda import nmda_gate
from snn_artsy.runs.run import execute
from snn_artsy.synapses.traces import binned, pair_counts


def test_pair_counts_by_brute_force() -> None:
    generator = torch.Generator().manual_seed(1)
    pre, post = ((torch.rand(9, 4, 3, generator=generator) < 0.3).float() for _ in range(2))
    expected = np.zeros((3, 17), dtype=int)
    for n in range(3):
        for b in range(4):
            for i in np.flatnonzero(pre[:, b, n]):
                for j in np.flatnonzero(post[:, b, n]):
                    expected[n, j - i + 8] += 1
    np.testing.assert_array_equal(pair_counts(pre, post), expected)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_bins_are_centred_on_coincidence(width: int) -> None:
    counts = torch.arange(1, 16)[None]  # lags -7 .. 7
    found = binned(counts, width, each_side=2)[0]
    for k, centre in enumerate(width * np.arange(-2, 3)):
        first = centre - width // 2
        inside = [first <= lag < first + width for lag in range(-7, 8)]
        assert found[k] == counts[0][inside].sum()


def test_bins_follow_the_step() -> None:
    assert lag_bins(20, 5.0) == (1, 19)
    assert lag_bins(1000, 0.1) == (50, 20)  # 5 ms each, to 100 ms
    assert lag_bins(4, 25.0) == (1, 3)


def invented(n: int = 400, noise: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Updates made of a known window, and that window."""
    rng = np.random.default_rng(3)
    lag = np.arange(-20.0, 21.0, 5.0)
    window = np.where(lag > 0, 0.01, -0.004) * np.exp(-np.abs(lag) / 20)
    pairs, spikes = rng.poisson(1.0, (n, len(lag))), rng.poisson(3.0, n)
    competition = rng.uniform(0, 1, n)
    before = np.full(n, 0.5)
    change = pairs @ window - 0.002 * spikes - 0.003 * spikes * competition
    after = before + change + rng.normal(0, noise, n)
    columns = {"lag_ms": lag, "pairs": pairs, "post_spikes": spikes, "before": before}
    columns |= {"after": after, "competition": competition, "contact": np.arange(n) % 40}
    return columns, window


def test_a_known_window_is_found() -> None:
    columns, window = invented()
    found = measured_window(**columns)
    np.testing.assert_allclose(found.change, window, atol=1e-9)
    np.testing.assert_allclose(found.per_post, -0.002, atol=1e-9)
    np.testing.assert_allclose(found.per_competition, -0.003, atol=1e-9)
    assert (found.n_contacts, found.n_updates) == (40, 400)


def test_intervals_cover_the_window_at_their_rate() -> None:
    inside = []
    for k in range(40):
        columns, window = invented(noise=0.01)
        columns["after"] = columns["after"] + np.random.default_rng(k).normal(0, 0.02, 400)
        found = measured_window(**columns, replicates=200, seed=k)
        inside.append((found.low <= window) & (window <= found.high))
    # 9 lags x 40 draws; the shared noise lets neighbouring draws miss together
    assert 0.85 < np.mean(inside) < 1.0


def test_updates_at_a_bound_are_left_out() -> None:
    columns, window = invented()
    columns["after"][:100] = 1.0
    found = measured_window(**columns)
    np.testing.assert_allclose(found.change, window, atol=1e-9)
    assert found.n_updates == 300
    columns["after"][:] = 0.0
    with pytest.raises(ValueError, match="0 updates within the bounds"):
        measured_window(**columns)


def test_lags_without_pairs_are_not_estimated() -> None:
    columns, window = invented()
    columns["pairs"][:, 2] = 0
    columns["after"] = columns["before"] + columns["pairs"] @ window
    found = measured_window(**columns)
    assert np.isnan(found.change[2]) and np.isfinite(np.delete(found.change, 2)).all()


@pytest.mark.parametrize("competes", [True, False])
def test_intervals_are_those_of_a_bootstrap_over_contacts(competes: bool) -> None:
    """Every replicate worked out by itself: all updates of each drawn contact, as often as it was
    drawn, in one least-squares fit."""
    columns, _ = invented(n=160, noise=0.02)
    columns["contact"] = np.arange(160) % 11 + 3
    columns["after"][::9] = 1.0  # at a bound: not used
    columns["after"][1::31] = 0.0
    columns["pairs"][:, 1] = 0
    columns["pairs"][:20, 1] = 1  # 17 of them are used: too few
    if not competes:
        columns["competition"][:] = 0.0
    found = measured_window(**columns, replicates=40, seed=6)
    used = (columns["after"] > 0) & (columns["after"] < 1)
    shown = np.array([lag for lag in range(9) if columns["pairs"][used, lag].sum() >= 20])
    assert 1 not in shown and len(shown) == 8
    rows = [columns["pairs"][:, shown], columns["post_spikes"][:, None]]
    if competes:
        rows.append((columns["post_spikes"] * columns["competition"])[:, None])
    design = np.hstack(rows)
    change = columns["after"] - columns["before"]
    contacts = sorted(set(columns["contact"][used]))
    draws = np.random.default_rng(6).multinomial(11, np.full(11, 1 / 11), size=40)
    fits = []
    for times in [np.ones(11, dtype=int), *draws]:
        drawn = [
            row
            for contact, n in zip(contacts, times, strict=True)
            for row in np.flatnonzero(used & (columns["contact"] == contact)).tolist() * n
        ]
        fits.append(np.linalg.lstsq(design[drawn], change[drawn], rcond=None)[0])
    fitted, replicates = fits[0], np.array(fits[1:])
    low, high = (np.percentile(replicates, q, axis=0) for q in (2.5, 97.5))
    for values, expected in ((found.change, fitted), (found.low, low), (found.high, high)):
        np.testing.assert_allclose(values[shown], expected[:8], atol=1e-9)
        assert np.isnan(np.delete(values, shown)).all()
    np.testing.assert_allclose(found.per_post, [fitted[8], low[8], high[8]], atol=1e-9)
    if competes:
        np.testing.assert_allclose(found.per_competition, [fitted[9], low[9], high[9]], atol=1e-9)
    else:
        assert found.per_competition.shape == (3,) and np.isnan(found.per_competition).all()
    np.testing.assert_array_equal(found.lag_ms, columns["lag_ms"])
    assert (found.n_contacts, found.n_updates) == (11, int(used.sum()))


def test_as_many_updates_as_lags_determine_nothing() -> None:
    columns, _ = invented(n=11)
    columns["pairs"][:] = 5
    # nine lags, spikes, competition: 11 numbers from 11 updates
    with pytest.raises(ValueError, match="11 updates within the bounds do not determine 9 lags"):
        measured_window(**columns)
    columns, _ = invented(n=12)
    columns["pairs"] += 5
    assert measured_window(**columns, replicates=3).n_updates == 12
    columns["pairs"][:] = 1  # 12 pairs of each lag are too few
    with pytest.raises(ValueError, match="determine 0 lags"):
        measured_window(**columns)


def of_run(directory: Path, plasticity: PlasticityConfig) -> Window:
    from snn_artsy.plots.window import window_of

    config = RunConfig(
        data=DataConfig(train_per_class=60), snn=SNNConfig(plasticity=plasticity),
        learners=["artsy_snn"], out=str(directory),
    )  # fmt: skip
    execute(config)
    with open_run(directory) as run:
        return window_of(run)


def test_a_run_shows_the_window_of_its_pair_rule(tmp_path: Path) -> None:
    """A+ exp(-lag / tau+) for pre before post, -A- exp(lag / tau-) for post before pre, nothing
    per postsynaptic spike (Song, Miller & Abbott 2000)."""
    rule = PlasticityConfig(rule="pair", a_plus=0.012, a_minus=0.005, tau_minus_ms=30.0)
    found = of_run(tmp_path / "run", rule)
    shown = np.isfinite(found.change)
    lag = found.lag_ms[shown]
    expected = np.where(lag > 0, 0.012 * np.exp(-lag / 20), -0.005 * np.exp(lag / 30))
    assert (lag > 0).sum() >= 5 and (lag < 0).sum() >= 5
    np.testing.assert_allclose(found.change[shown], expected, atol=2e-6)
    np.testing.assert_allclose(found.per_post, 0.0, atol=1e-6)


def test_a_run_shows_the_window_of_the_gated_rule(tmp_path: Path) -> None:
    """The same window times the receptor's opening at a spike, less the presynaptic target."""
    found = of_run(tmp_path / "run", PlasticityConfig(rule="gated"))
    shown = np.isfinite(found.change) & (found.lag_ms > 0)
    gate = found.change[shown] / (0.02 * np.exp(-found.lag_ms[shown] / 20))
    np.testing.assert_allclose(gate, float(nmda_gate(torch.tensor(20.0), 1.0)), atol=1e-3)
    np.testing.assert_allclose(found.per_competition, -0.02 * gate.mean(), atol=1e-5)
