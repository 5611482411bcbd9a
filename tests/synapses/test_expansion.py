"""The sparse expansion layer: against loops, alone and in a learner, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from synthetic_features import DIM, gaussian_stream

from snn_artsy.checks import ConfigError
from snn_artsy.config import EncodingConfig, ExpansionConfig, RunConfig, TeacherConfig
from snn_artsy.config_builder import build as build_config
from snn_artsy.config_sources import complete
from snn_artsy.learners import Setting, build
from snn_artsy.observer import NullObserver
from snn_artsy.synapses.encoding import SpikeEncoder, on_off
from snn_artsy.synapses.expansion import Expansion, build_expansion
from snn_artsy.synapses.pairing import make_schedule

CONFIG = ExpansionConfig(units=40, fan_in=5, active=0.25)


def features(n: int, dim: int = 9) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(weights: NDArray[np.float64], p: NDArray[np.float64]) -> list[float]:
    """Eq. 4b and 4c for one sample, unit by unit: a quarter of 40 units is ten."""
    u = [sum(w * x for w, x in zip(row, p, strict=True)) for row in weights]
    order = sorted(u, reverse=True)
    inhibition, span = order[10], order[0] - order[10]
    return [round(max(x - inhibition, 0.0) / span * 2**16) / 2**16 if span else 0.0 for x in u]


def test_each_unit_has_so_many_inputs_of_both_signs_and_the_seed_says_which() -> None:
    weights = Expansion(CONFIG, 18, seed=3).weights
    assert weights.shape == (40, 18)
    assert set(weights.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert (weights != 0).sum(1).tolist() == [5] * 40
    assert 60 < int((weights == 1.0).sum()) < 140  # of 200, half of each
    assert int((weights != 0).any(0).sum()) == 18  # no input is left out
    assert torch.equal(Expansion(CONFIG, 18, seed=3).weights, weights)
    assert not torch.equal(Expansion(CONFIG, 18, seed=4).weights, weights)


def test_drive_by_a_loop() -> None:
    config = EncodingConfig(saturation_sd=1.5)
    expansion = Expansion(CONFIG, 18, seed=3)
    encoder = SpikeEncoder(config, make_schedule(config, TeacherConfig()), expansion)
    z = features(6)
    z[5] = 0.0  # nothing is driven, and nothing fires
    drive = encoder.drive(z)
    p = np.round(np.minimum(on_off(z).numpy() / 1.5, 1.0) * 2**16) / 2**16
    for row in range(6):
        np.testing.assert_array_equal(drive[row], by_hand(expansion.weights.numpy(), p[row]))
    # inhibition leaves a quarter; fewer where units tie at its strength
    n_driven = (drive[:5] > 0).sum(1)
    assert int(n_driven.min()) >= 5 and int(n_driven.max()) == 10
    assert (drive[:5].max(1).values == 1.0).all() and not drive[5].any()


@pytest.mark.parametrize("code", ["poisson", "regular", "current", "latency"])
def test_its_units_fire_by_the_code(code: str) -> None:
    config = EncodingConfig(code=code, n_steps=500, max_rate_hz=100.0)
    expansion = Expansion(CONFIG, 18, seed=3)
    schedule = make_schedule(config, TeacherConfig())
    encoder, z = SpikeEncoder(config, schedule, expansion), features(4)
    spikes = encoder(z, 0, 0, torch.arange(4))
    assert spikes.shape == (500, 4, 40)
    drive = encoder.drive(z)
    assert torch.equal(spikes.any(0), drive > 0)
    volleys = float(schedule.volley.sum())
    if code == "latency":  # the strongest unit first, one spike in each of 100 volleys
        assert spikes.sum(0)[drive > 0].unique().tolist() == [100.0]
        first = spikes.argmax(0)
        assert all(int(first[b, drive[b].argmax()]) == 0 for b in range(4))
    else:
        expected = drive * volleys * 0.5
        assert float((spikes.sum(0) - expected).abs().max()) < (40 if code == "poisson" else 1.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"units": 1}, r"snn\.expansion\.units: 1 cannot be used"),
        ({"units": -3}, r"snn\.expansion\.units"),
        ({"units": 9, "active": 1.0}, r"snn\.expansion\.active: 1\.0"),
        ({"units": 9, "fan_in": 0}, r"snn\.expansion\.fan_in"),
        ({"units": 9, "fan_in": 19}, r"snn\.expansion\.fan_in: 19.*18 inputs"),
    ],
)
def test_what_cannot_be_used(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        build_expansion(ExpansionConfig(**values), 18, seed=0)


def test_there_is_none_by_default() -> None:
    assert build_expansion(ExpansionConfig(), 18, seed=0) is None


# --- in learners ----------------------------------------------------------------------------------

STREAM = gaussian_stream()
VALUES: dict[str, dict[str, Any]] = {
    "error": {"snn.preset": "error", "snn.replay.epochs": 2},
    "timing": {"snn.preset": "timing"},
}
LAYER = {"snn.expansion.units": 101, "snn.expansion.fan_in": 4, "snn.expansion.active": 0.4}


class Listener(NullObserver):
    plan = replace(NullObserver.plan, spike_presentations=2)

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.fired: dict[str, int] = {}

    def population(self, name: str, group: NDArray[np.int64]) -> None:
        self.sizes[name] = len(group)

    def spikes(
        self, population: str, time_ms: NDArray[np.float64], node: NDArray[np.int64]
    ) -> None:
        self.fired[population] = max(self.fired.get(population, 0), int(node.max(initial=0)))


def built(name: str, values: dict[str, Any], observer: NullObserver | None = None) -> Any:
    config = build_config(RunConfig, complete(values | LAYER))
    return build(name, Setting(config, DIM, "cpu", observer))


@pytest.mark.parametrize("values", VALUES)
def test_contacts_come_from_its_units(values: str) -> None:
    """In the learner, in its mean field, and after loading; and the seed is all that is stored."""
    told = Listener()
    learner = built("artsy_snn", VALUES[values], told)
    mean = built("mean_field", VALUES[values])
    for task in STREAM.tasks:
        learner.learn(task)
        mean.learn(task)
    answer = learner.predict(STREAM.test)
    for chosen in (learner, mean):
        assert {layer.n_pre for layer in chosen.layers} == {101}
        scores = chosen.predict(STREAM.test)
        scores = scores.scores if scores.spike_scores is None else scores.spike_scores
        assert float((scores.argmax(1) == STREAM.test.labels).double().mean()) > 0.5
        assert not any("expansion" in name for name in chosen.checkpoint())
    x, same = (chosen.scaling(STREAM.test.features) for chosen in (learner, mean))
    assert torch.equal(learner.encoder.drive(x), mean.encoder.drive(same))
    # operations: each spike's open contacts, and four inputs of each unit
    n = 5
    shown = learner.reader(x[:n], learner.seed, 1, STREAM.test.index[:n]).sum(0).double()
    fan_out = sum((layer.transmitted() != 0).sum(0) for layer in learner.layers).double()
    expected = shown @ fan_out + 101 * 4
    torch.testing.assert_close(answer.operations[:n].double(), expected)
    # recorded as a population of its own, in the ON/OFF units' place
    assert told.sizes["expansion"] == 101 and "retina" not in told.sizes
    assert 40 < told.fired["expansion"] < 101 and "retina" not in told.fired
    again = built("artsy_snn", VALUES[values])
    again.load_state_dict(learner.state_dict())
    assert torch.equal(again.predict(STREAM.test).scores, answer.scores)
