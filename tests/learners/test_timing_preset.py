"""The preset in which the order of spikes decides: why, and that it does."""

import math
from typing import Any

import pytest
import torch
from synthetic_features import CHANCE, DIM, gaussian_stream

from snn_artsy.config import RunConfig, SNNConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Learner
from snn_artsy.learners.shuffled import ShuffledAtEqualDensity
from snn_artsy.observer import SILENT
from snn_artsy.synapses.pairing import make_schedule


def timing(**over: Any) -> SNNConfig:
    values = {key.replace("__", "."): value for key, value in over.items()}
    return build(RunConfig, complete({"snn.preset": "timing", **values})).snn


def factors_of_shuffled_spikes(snn: SNNConfig) -> list[float]:
    """B_j of equation 19c for the K neurons of an assembly, spike by spike."""
    schedule = make_schedule(snn.encoding, snn.teacher, snn.neuron.per_class)
    p, found = snn.plasticity, []
    for column in schedule.teach.T:
        total = 0.0
        for v in column.nonzero()[:, 0].tolist():
            for u in range(len(column)):
                lag = (v - u) * snn.encoding.dt
                total += (lag > 0) * p.a_plus * math.exp(-abs(lag) / p.tau_plus_ms)
                total -= (lag < 0) * p.a_minus * math.exp(-abs(lag) / p.tau_minus_ms)
        found.append(total / len(column))
    return found


def test_spikes_at_any_time_depress_every_neuron() -> None:
    factors = factors_of_shuffled_spikes(timing())
    assert len(factors) == 8 and max(factors) < 0
    # the blank after the volley is what makes it so
    short = timing(snn__encoding__n_steps=20, snn__encoding__period_ms=20.0)
    assert max(factors_of_shuffled_spikes(short)) > 0


@pytest.fixture(scope="module")
def stream() -> Any:
    return gaussian_stream(n_train=80, distance=1.2)


def learnt(learner: Learner, stream: Any) -> float:
    for task in stream.tasks:
        learner.learn(task)
    spikes = learner.predict(stream.test).spike_scores
    assert spikes is not None
    right = (spikes.argmax(1) == stream.test.labels) & ~spikes.isneginf().all(1)
    return float(right.float().mean())


def test_order_is_learnt_and_its_loss_is_not_one_of_density(stream: Any) -> None:
    own = (RunConfig().ann, RunConfig().gate, DIM, "cpu", 0)
    model = ArtsySNN(timing(), *own)
    accuracy = learnt(model, stream)
    shuffled = ArtsySNN(timing(), *own, control="shuffled_timing")
    assert accuracy > 4 * CHANCE
    assert learnt(shuffled, stream) < accuracy - 2 * CHANCE
    assert shuffled.report()["functional_share"] < 0.3 * model.report()["functional_share"]
    matched = ShuffledAtEqualDensity(ArtsySNN(timing(), *own))
    learnt(matched, stream)
    report = matched.report()
    assert matched.shuffled is not None
    assert report["functional_share"] == model.report()["functional_share"]
    opened = [[layer.state != SILENT for layer in x.layers] for x in (model, matched.shuffled)]
    for a, b in zip(*opened, strict=True):
        assert torch.equal(a.sum(1), b.sum(1))
    differ = sum(float((a != b).sum()) for a, b in zip(*opened, strict=True))
    total = sum(a.numel() for a in opened[0])
    assert report["contacts_changed"] == pytest.approx(differ / total) and differ > 0.05 * total
    # the model beside it has learnt what the model has
    assert all(
        torch.equal(a.state, b.state)
        for a, b in zip(model.layers, matched.model.layers, strict=True)
    )


def test_old_contacts_that_go_on_changing_are_matched_again(stream: Any) -> None:
    own = (RunConfig().ann, RunConfig().gate, DIM, "cpu", 0)
    config = timing(snn__plastic_old=True, snn__contacts__consolidation=False)
    matched = ShuffledAtEqualDensity(ArtsySNN(config, *own))
    with pytest.raises(RuntimeError, match="learn a task first"):
        matched.state_dict()
    for task in stream.tasks[:2]:
        matched.learn(task)
    assert matched.shuffled is not None
    for layer, model in zip(matched.shuffled.layers, matched.model.layers, strict=True):
        assert torch.equal((layer.state != SILENT).sum(1), (model.state != SILENT).sum(1))
