"""Scaling of features and the three spike codes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import oas
from torch import Tensor

from snn_artsy.config import EncodingConfig, TeacherConfig
from snn_artsy.synapses.encoding import (
    FeatureScaling,
    Presentation,
    SpikeEncoder,
    fit_scaling,
    on_off,
    oracle_shrinkage,
    poisson,
    whiten_classes,
    within_class_covariance,
)
from snn_artsy.synapses.pairing import make_schedule

CODES = ["poisson", "regular", "current", "latency"]


def make_encoder(code: str, **values: Any) -> SpikeEncoder:
    """20 steps of 5 ms, volleys of 3 steps in every 5, saturation at 1.5."""
    times = {"n_steps": 20, "dt_ms": 5.0, "volley_ms": 15.0, "period_ms": 25.0}
    drive = {"saturation_sd": 1.5, "max_rate_hz": 200.0}
    config = EncodingConfig(code=code, **(times | drive | values))  # type: ignore[arg-type]
    return SpikeEncoder(config, make_schedule(config, TeacherConfig()))


def correlated_features(n_per_class: int = 200) -> tuple[Tensor, Tensor]:
    """Three classes with one anisotropic, correlated covariance."""
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(5, 5, generator=generator) + torch.diag(torch.arange(1.0, 6.0))
    labels = torch.arange(3).repeat_interleave(n_per_class)
    means = 4.0 * torch.randn(3, 5, generator=generator)
    noise = torch.randn(len(labels), 5, generator=generator) @ mixing
    return means[labels] + noise, labels


@pytest.mark.parametrize("pairs", [True, False])
def test_only_an_on_and_off_pair_shares_its_noise(pairs: bool) -> None:
    """Of units that are driven together, each needs its own."""
    schedule = make_encoder("poisson").schedule
    drive = torch.full((2, 8), 0.5)
    shown = Presentation(drive, schedule, 1.0, 3, 0, torch.arange(2), on_off=pairs)
    spikes = poisson(shown)
    assert torch.equal(spikes[:, :, :4], spikes[:, :, 4:]) == pairs


# --- scaling ------------------------------------------------------------------------------------


def test_whitening_gives_an_isotropic_within_class_covariance() -> None:
    features, labels = correlated_features()
    z = fit_scaling(features, labels, EncodingConfig(decorrelation="whiten", shrinkage=1e-9))(
        features
    )
    residual = torch.cat([z[labels == c] - z[labels == c].mean(0) for c in range(3)])
    covariance = residual.T @ residual / (len(z) - 3)
    scale = covariance.diagonal().mean()
    torch.testing.assert_close(covariance / scale, torch.eye(5).double(), rtol=0, atol=1e-6)
    # what it had to undo: the raw features are far from isotropic
    raw = within_class_covariance(features.double(), labels, 0.0)
    assert float((raw / raw.diagonal().mean() - torch.eye(5)).abs().max()) > 0.2
    # scaled to unit variance averaged over dimensions
    assert float(z.var(0).mean()) == pytest.approx(1.0)
    assert z.mean(0).abs().max() < 1e-6


@pytest.mark.parametrize("n", [20, 100, 1000, 20000])
def test_the_oracle_s_shrinkage_is_that_of_scikit_learn_and_nearly_the_best(n: int) -> None:
    d = 60
    rng = np.random.default_rng(n)
    true = np.diag(np.exp(rng.normal(0.0, 1.0, d)))
    covariance = np.cov(rng.normal(size=(n + 1, d)) @ np.sqrt(true), rowvar=False)
    s = oracle_shrinkage(torch.from_numpy(covariance), n)
    # scikit-learn leaves out the two terms in 2 / d
    rows = np.linalg.cholesky(covariance + 1e-12 * np.eye(d)).T * np.sqrt(d)
    alone = covariance.trace() / d * np.eye(d)
    if n > d:
        assert oas(rows, assume_centered=True)[1] * (d + 1) / (n + 1) == pytest.approx(s, rel=0.05)

    def loss(share: float) -> float:
        return float(np.square((1 - share) * covariance + share * alone - true).sum())

    assert loss(s) <= 1.05 * min(loss(each) for each in np.linspace(0, 1, 201))
    if n <= 1000:  # with more there is hardly anything to gain
        assert loss(s) < loss(0.0)


def test_the_oracle_s_shrinkage_of_a_sphere_is_one() -> None:
    assert oracle_shrinkage(3.0 * torch.eye(4, dtype=torch.float64), 10) == 1.0
    assert oracle_shrinkage(torch.zeros(4, 4, dtype=torch.float64), 10) == 1.0
    assert oracle_shrinkage(torch.eye(4, dtype=torch.float64), math.inf) == 1.0


def test_a_covariance_of_endless_samples_is_not_shrunk() -> None:
    assert oracle_shrinkage(torch.diag(torch.arange(1.0, 5.0).double()), math.inf) == 0.0


def test_within_class_covariance_without_a_given_shrinkage() -> None:
    features, labels = correlated_features(4)
    raw = within_class_covariance(features.double(), labels, 0.0)
    s = oracle_shrinkage(raw, len(labels) - 3)
    assert 0.0 < s < 1.0
    torch.testing.assert_close(
        within_class_covariance(features.double(), labels, None),
        within_class_covariance(features.double(), labels, s),
    )


def test_within_class_covariance_against_a_loop() -> None:
    features, labels = correlated_features(4)
    x = features.double()
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for c in range(3):
        rows = [x[i] for i in range(len(x)) if labels[i] == c]
        mean = sum(rows) / len(rows)  # type: ignore[arg-type]
        for row in rows:
            expected += torch.outer(row - mean, row - mean)
    expected /= len(x) - 3
    torch.testing.assert_close(within_class_covariance(x, labels, 0.0), expected)
    shrunk = within_class_covariance(x, labels, 0.4)
    assert float(shrunk[0, 1]) == pytest.approx(0.6 * float(expected[0, 1]))
    mean_variance = float(expected.diagonal().mean())
    assert float(shrunk[0, 0]) == pytest.approx(0.6 * float(expected[0, 0]) + 0.4 * mean_variance)


def test_standardising_gives_unit_variance_and_leaves_a_constant_feature_at_zero() -> None:
    features, labels = correlated_features()
    features[:, 2] = 7.0
    config = EncodingConfig(decorrelation="standardise")
    scaling = fit_scaling(features, labels, config)
    z = scaling(features)
    assert bool(torch.isfinite(z).all())
    assert torch.equal(z[:, 2], torch.zeros(len(z), dtype=torch.float64))
    # the other four share the unit average: 5/4 each
    for j in (0, 1, 3, 4):
        assert float(z[:, j].var()) == pytest.approx(1.25)
    # a later task in which it does vary still gets no signal from it
    assert float(scaling(features + torch.eye(5)[2])[:, 2].abs().max()) == 0.0


def test_whitening_survives_a_constant_feature() -> None:
    features, labels = correlated_features()
    features[:, 2] = 7.0
    z = fit_scaling(features, labels, EncodingConfig(decorrelation="whiten"))(features)
    assert bool(torch.isfinite(z).all())
    assert float(z[:, 2].abs().max()) < 1e-6


# --- ON and OFF ---------------------------------------------------------------------------------


def test_on_off_parts() -> None:
    z = torch.tensor([[1.5, -2.0, 0.0]])
    assert on_off(z).tolist() == [[1.5, 0.0, 0.0, 0.0, 2.0, 0.0]]


@pytest.mark.parametrize("code", CODES)
def test_a_feature_drives_its_on_or_its_off_unit_never_both(code: str) -> None:
    z = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    spikes = make_encoder(code)(z, 0, 0, torch.arange(20))
    on, off = spikes.sum(0).split(6, dim=1)
    assert float(on[z < 0].sum()) == 0.0
    assert float(off[z > 0].sum()) == 0.0
    assert float(on.sum()) > 0 and float(off.sum()) > 0


@pytest.mark.parametrize("code", CODES)
def test_spikes_come_in_volleys_only(code: str) -> None:
    encoder = make_encoder(code)
    spikes = encoder(3.0 * torch.ones(4, 5), 0, 0, torch.arange(4))
    outside = [t for t in range(20) if t % 5 >= 3]  # 15 ms of each 25 ms at 5 ms a step
    assert float(spikes[outside].sum()) == 0.0
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert spikes.shape == (20, 4, 10)


@pytest.mark.parametrize("code", CODES)
def test_no_drive_no_spikes(code: str) -> None:
    assert float(make_encoder(code)(torch.zeros(3, 4), 0, 0, torch.arange(3)).sum()) == 0.0


# --- codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("z", "rate_hz"), [(0.3, 200.0), (1.2, 200.0), (0.75, 80.0)])
def test_poisson_rate(z: float, rate_hz: float) -> None:
    encoder = make_encoder("poisson", max_rate_hz=rate_hz)
    n = 400
    spikes = encoder(torch.full((n, 10), z), 5, 0, torch.arange(n))
    p = z / 1.5 * rate_hz * 5e-3
    draws = n * 10 * 12  # 12 of the 20 steps lie in a volley
    assert abs(float(spikes.sum()) - p * draws) < 4.5 * math.sqrt(p * (1 - p) * draws)


def test_poisson_at_saturation_fires_in_every_volley_step() -> None:
    spikes = make_encoder("poisson")(torch.full((2, 3), 9.0), 0, 0, torch.arange(2))
    assert spikes[:, :, :3].sum(0).tolist() == [[12.0] * 3] * 2


def test_poisson_spikes_of_different_steps_are_independent() -> None:
    n = 4000
    spikes = make_encoder("poisson")(torch.full((n, 1), 0.75), 5, 0, torch.arange(n))[:, :, 0]
    # Var[count] = n p (1 - p) = 3 for 12 independent draws at p = 1/2
    assert float(spikes.sum(0).var()) == pytest.approx(3.0, abs=4 * 3.0 * math.sqrt(2 / n))


@pytest.mark.parametrize(("z", "rate_hz"), [(0.3, 200.0), (1.2, 200.0), (0.75, 90.0)])
def test_regular_units_fire_as_often_as_poisson_ones_in_each_step_and_overall_evenly(
    z: float, rate_hz: float
) -> None:
    n = 4000
    encoder = make_encoder("regular", max_rate_hz=rate_hz)
    spikes = encoder(torch.full((n, 1), z), 5, 0, torch.arange(n))[:, :, 0]
    p = z / 1.5 * rate_hz * 5e-3
    counts = spikes.sum(0)
    assert set(counts.tolist()) <= {math.floor(12 * p), math.ceil(12 * p)}
    assert float(counts.mean()) == pytest.approx(12 * p, abs=0.02)
    steps = [t for t in range(20) if t % 5 < 3]
    assert float((spikes[steps].mean(1) - p).abs().max()) < 4.5 * math.sqrt(p * (1 - p) / n)


def test_regular_units_start_at_a_part_of_a_spike_of_their_own() -> None:
    """In the same presentation units of the same drive fire at different times."""
    spikes = make_encoder("regular")(torch.full((1, 60), 0.75), 5, 0, torch.arange(1))[:, 0, :60]
    assert 10 < float(spikes[0].sum()) < 50
    other = make_encoder("regular")(torch.full((1, 60), 0.75), 5, 1, torch.arange(1))[:, 0, :60]
    assert not torch.equal(spikes, other)


@pytest.mark.parametrize("rate_hz", [200.0, 110.0])
def test_current_code_counts(rate_hz: float) -> None:
    encoder = make_encoder("current", max_rate_hz=rate_hz)
    z = torch.linspace(0.013, 2.1, 40)[None]
    spikes = encoder(z, 0, 0, torch.zeros(1, dtype=torch.int64))[:, 0, :40]
    volley_steps = [t for t in range(20) if t % 5 < 3]
    for j in range(40):
        p = round(min(float(z[0, j]) / 1.5, 1.0) * 65536) / 65536 * rate_hz * 5e-3
        for k, t in enumerate(volley_steps, start=1):
            # the integral so far, counted from half a spike
            assert int(spikes[: t + 1, j].sum()) == math.floor(k * p + 0.5)


def test_current_code_ignores_the_noise_key() -> None:
    encoder, z = make_encoder("current"), torch.randn(3, 4)
    assert torch.equal(encoder(z, 0, 0, torch.arange(3)), encoder(z, 9, 1, torch.arange(3) + 50))


def test_latency_code_one_spike_a_volley_earlier_for_stronger() -> None:
    # volleys of 8 steps, so that latencies can differ
    encoder = make_encoder("latency", dt_ms=1.0, volley_ms=8.0, period_ms=10.0)
    z = torch.tensor([[1.5, 1.2, 0.9, 0.5, 0.05]])
    spikes = encoder(z, 0, 0, torch.zeros(1, dtype=torch.int64))[:, 0, :5]
    for volley in (spikes[:10], spikes[10:]):
        assert volley.sum(0).tolist() == [1.0] * 5
        # 7 steps from the earliest to the latest, linear in the drive z / 1.5
        drives = [1.0, 0.8, 0.6, 1 / 3, 1 / 30]
        assert volley.argmax(0).tolist() == [round((1 - d) * 7) for d in drives]


# --- a sample's spikes are its own ----------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_spikes_do_not_depend_on_batch_or_order(code: str) -> None:
    features, labels = correlated_features(30)
    scaling = fit_scaling(features, labels, EncodingConfig())
    encoder = make_encoder(code)
    index = torch.arange(len(features)) * 3 + 1
    whole = encoder(scaling(features), 1993, 1, index)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    assert torch.equal(encoder(scaling(features[order]), 1993, 1, index[order]), whole[:, order])
    for size in (1, 7):
        parts = [
            encoder(scaling(features[rows]), 1993, 1, index[rows])
            for rows in torch.arange(len(features)).split(size)
        ]
        assert torch.equal(torch.cat(parts, dim=1), whole)


def test_poisson_spikes_depend_on_seed_stream_and_sample() -> None:
    encoder, z = make_encoder("poisson"), torch.full((1, 50), 0.75)
    zero = torch.zeros(1, dtype=torch.int64)
    base = encoder(z, 0, 0, zero)
    assert torch.equal(base, encoder(z, 0, 0, zero))
    for other in (encoder(z, 1, 0, zero), encoder(z, 0, 1, zero), encoder(z, 0, 0, zero + 1)):
        assert not torch.equal(base, other)


def test_drive_absorbs_the_last_bits_of_the_features() -> None:
    encoder = make_encoder("poisson")
    z = torch.randn(200, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    nudged = z * (1 + 1e-13)
    assert torch.equal(encoder.drive(z), encoder.drive(nudged))
    assert float(encoder.drive(z).max()) == 1.0


def test_frozen_scaling_applies_to_new_data_as_it_was_fitted() -> None:
    scaling = FeatureScaling(
        torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([2.0, 0.5])).double()
    )
    assert scaling(torch.tensor([[2.0, 6.0]])).tolist() == [[2.0, 2.0]]


def test_whitening_from_means_and_a_covariance_is_that_from_samples() -> None:
    """Classes of equal size: the statistics that are kept of classes say what their samples say."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(50)
    mixing, centres = (torch.randn(n, 6, generator=generator).double() for n in (6, 4))
    x = torch.randn(200, 6, generator=generator).double() @ mixing + 3.0 * centres[labels]
    samples = fit_scaling(x, labels, EncodingConfig(shrinkage=0.2))
    means = torch.stack([x[labels == c].mean(0) for c in range(4)])
    within = torch.zeros(6, 6).double()
    for c in range(4):
        residual = x[labels == c] - means[c]
        within += residual.T @ residual / 196
    kept = whiten_classes(means, within, 0.2, x.square().mean())
    torch.testing.assert_close(kept.mean, samples.mean)
    # the variance of z is over 200 samples there, over 196 degrees of freedom within classes here
    torch.testing.assert_close(kept.matrix, samples.matrix, rtol=0.02, atol=0.0)
    z = kept(x)
    spread = z.var(0, correction=0).mean()
    assert float(spread) == pytest.approx(1.0, abs=0.03)
