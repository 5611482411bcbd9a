"""The spiking learner without spikes: against the spiking learner, and against loops."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_features import CHANCE, DIM, N_TASKS, PER_TASK, accuracy, gaussian_stream

import snn_artsy.runs.features
from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.config import (
    ContactConfig,
    EncodingConfig,
    InhibitionConfig,
    PlasticityConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.config_builder import build as build_config
from snn_artsy.config_sources import complete
from snn_artsy.learners import Setting, build

STREAM = gaussian_stream(n_train=80)
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "timing": {"snn.preset": "timing"},
    "triplet": {"snn.plasticity.base": "triplet", "snn.plasticity.triplet.a2_minus": 0.001},
    "in every step": {"snn.plasticity.update": "step", "snn.plasticity.batch_size": 10},
    "sparse": {"snn.contacts.probability": 0.5, "snn.plasticity.epochs": 2},
    "failing": {
        "snn.contacts.per_connection": 2,
        "snn.contacts.release_probability": 0.7,
        "snn.neuron.per_class": 2,
    },
    "error": {"snn.preset": "error", "snn.replay.epochs": 4, "snn.plasticity.epochs": 2},
    "only new ones": {"snn.preset": "error", "snn.replay.epochs": 2, "snn.replay.old": False},
}


@cache
def learnt(name: str, values: str) -> Any:
    learner = build(name, Setting(build_config(RunConfig, complete(CONFIGS[values])), DIM, "cpu"))
    for task in STREAM.tasks:
        learner.learn(task)
    return learner


@pytest.mark.parametrize("values", CONFIGS)
def test_it_learns_the_spiking_learners_contacts(values: str) -> None:
    """And has drawn as often: the same order of the same images, and the same contacts."""
    spiking, mean = learnt("artsy_snn", values), learnt("mean_field", values)
    assert torch.equal(spiking.generator.get_state(), mean.generator.get_state())
    for a, b in zip(spiking.layers, mean.layers, strict=True):
        assert torch.equal(a.exists, b.exists)
        assert torch.equal(a.target_factor, b.target_factor)
        one, other = a.transmitted()[a.exists], b.transmitted()[a.exists]
        assert 0.05 < float(other.mean()) < 0.95
        assert float((one == other).double().mean()) > 0.9
    assert {s for layer in mean.layers for s in layer.state.unique().tolist()} <= {0, 2}
    assert accuracy(mean.predict(STREAM.test).scores, STREAM.test) > 2.5 * CHANCE


@pytest.mark.parametrize("values", ["default", "timing", "sparse"])
def test_the_answer_by_a_loop(values: str) -> None:
    """Eq. 7, 8 and 19e for each neuron of three samples."""
    learner = learnt("mean_field", values)
    snn = learner.config
    batch = replace(
        STREAM.test, **{k: getattr(STREAM.test, k)[:3] for k in ("features", "index", "labels")}
    )
    answer = learner.predict(batch)
    drive = learner.encoder.drive(learner.scaling(batch.features)).double().numpy()
    keep, t_all, k = math.exp(-snn.encoding.dt / 20.0), snn.encoding.steps_shown, 8
    volley, period = (
        round(snn.encoding.volley / snn.encoding.dt),
        round(snn.encoding.period / snn.encoding.dt),
    )
    for row, p in enumerate(drive):
        mean = np.zeros(2 * DIM)
        trace = np.zeros(2 * DIM)
        for u in range(t_all):
            if snn.encoding.code == "poisson":
                q = p * (u % period < volley)
            else:
                q = (
                    (np.round((1 - p) * (volley - 1)) == u % period)
                    * (p > 0)
                    * (u % period < volley)
                )
            trace = trace * keep + q
            mean += trace / t_all
        scores = []
        for layer in learner.layers:
            for j in range(layer.n_post):
                exists, open_ = layer.exists[j].double().numpy(), layer.state[j].numpy() > 0
                net = open_ - open_.sum() / exists.sum() * exists
                theta = snn.neuron.threshold * max(1.0, math.sqrt((net**2).sum()))
                scores.append((net @ mean) / theta)
        expected = np.array(scores).reshape(-1, k).mean(1)
        np.testing.assert_allclose(answer.scores[row].numpy(), expected, atol=1e-4)
    n_open = sum(int((layer.state > 0).sum()) for layer in learner.layers)
    assert answer.operations is not None and answer.operations.tolist() == [n_open] * 3
    assert learner.report()["functional_share"] == pytest.approx(
        n_open / sum(int(layer.exists.sum()) for layer in learner.layers)
    )


def test_what_is_foreseen_by_a_loop() -> None:
    """Eq. 19e and 19f at the steps of teaching, nothing at others."""
    learner = learnt("mean_field", "error")
    x = learner._drive(STREAM.test.features[:2])
    pre = learner.schedule.volley.float()[:, None, None] * x
    foreseen = torch.cat(learner._foreseen(pre), 2).unflatten(2, (-1, 8))
    taught = learner.schedule.teach[:, 0]
    assert bool((foreseen[~taught] == 0).all())
    keep, trace = math.exp(-learner.config.encoding.dt / 20.0), torch.zeros_like(x)
    for u in range(len(pre)):
        trace = trace * keep + pre[u]
        if taught[u]:
            potential = torch.cat(learner._potentials(trace[None]).split(1, 2), 2)[0]
            e = np.exp(potential.double().numpy() / learner.config.neuron.temperature)
            expected = e / e.sum(1, keepdims=True)
            for neuron in range(8):
                np.testing.assert_allclose(foreseen[u, :, :, neuron], expected, atol=1e-4)
    assert foreseen.shape[2] == N_TASKS * PER_TASK


@pytest.mark.parametrize(
    ("snn", "message"),
    [
        (SNNConfig(plasticity=PlasticityConfig(rule="calcium")), "snn.plasticity.rule: "),
        (SNNConfig(plasticity=PlasticityConfig(insertion="bernoulli")), "snn.plasticity.rule: "),
        (SNNConfig(plasticity=PlasticityConfig(depolarisation="dendrite")), "snn.plasticity.rule"),
        (SNNConfig(plastic_old=True), "snn.plastic_old: "),
        (SNNConfig(inhibition=InhibitionConfig(source="fixed")), "snn.inhibition.source: "),
        (SNNConfig(contacts=ContactConfig(tau_rec_ms=100.0)), "snn.contacts.tau_rec_ms: "),
        (
            SNNConfig(
                encoding=EncodingConfig(code="regular"),
                plasticity=PlasticityConfig(rule="triplet"),
            ),
            "snn.encoding.code: ",
        ),
    ],
)
def test_what_has_no_known_mean_is_refused_in_a_line(snn: SNNConfig, message: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^{message}.*leave mean_field out of learners$"
    ) as error:
        build("mean_field", Setting(RunConfig(snn=snn), DIM, "cpu"))
    assert "\n" not in str(error.value)


def test_without_plasticity_nothing_is_learnt() -> None:
    config = RunConfig(snn=SNNConfig(plasticity=PlasticityConfig(rule="none")))
    learner = build("mean_field", Setting(config, DIM, "cpu"))
    learner.learn(STREAM.tasks[0])
    assert learner.report()["functional_share"] == 0.0
    assert bool((learner.predict(STREAM.test).scores == 0).all())


def test_a_run_refuses_it_before_any_image_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after the learners before it have learnt."""
    monkeypatch.setattr(snn_artsy.runs.features, "extract_features", None)
    words = ["run", "--learners", "simplecil,mean_field", "--snn.plasticity.rule", "calcium"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--data.train_per_class", "12", "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "leave mean_field out of learners" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
