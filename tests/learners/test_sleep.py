"""Replay before capture: who changes, what it does to the answer, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_features import DIM, gaussian_stream

from snn_artsy.checks import ConfigError
from snn_artsy.config import (
    ContactConfig,
    EncodingConfig,
    NeuronConfig,
    PlasticityConfig,
    ReplayConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import LabelledBatch
from snn_artsy.learners.mean_field import MeanField
from snn_artsy.learners.replay import ClassGaussians
from snn_artsy.learners.sleep import SLEEP
from snn_artsy.learners.spiking_subnetworks import EPOCH_STRIDE, STREAMS
from snn_artsy.learners.wake_and_sleep import Control
from snn_artsy.observer import NullObserver, Presentations
from snn_artsy.synapses.encoding import SpikeEncoder

STREAM = gaussian_stream()
CONFIG = SNNConfig(
    encoding=EncodingConfig(decorrelation="standardise"),
    neuron=NeuronConfig(threshold=1.0, temperature=0.2),
    plasticity=PlasticityConfig(rule="error", target_over="seen", tau_target_ms=1e6),
    contacts=ContactConfig(consolidate_ms=1e12),
    replay=ReplayConfig(epochs=3, speed=0.15),
)


class Listener(NullObserver):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Presentations] = []

    def presentations(self, shown: Presentations) -> None:
        self.shown.append(shown)


def learner(config: SNNConfig, observer: NullObserver | None = None) -> ArtsySNN:
    run = RunConfig(snn=config)
    return ArtsySNN(config, run.ann, run.gate, DIM, "cpu", seed=2, observer=observer)


def taught(config: SNNConfig, n_tasks: int = 3, observer: NullObserver | None = None) -> ArtsySNN:
    chosen = learner(config, observer)
    for task in STREAM.tasks[:n_tasks]:
        chosen.learn(task)
    return chosen


def accuracy(chosen: ArtsySNN) -> float:
    scores = chosen.predict(STREAM.test).spike_scores
    assert scores is not None
    return float((scores.argmax(1) == STREAM.test.labels).float().mean())


@pytest.mark.parametrize("old", [True, False])
def test_old_subnetworks_change_in_replay_if_they_may(old: bool) -> None:
    chosen = taught(replace(CONFIG, replay=replace(CONFIG.replay, old=old)), 1)
    before = chosen.layers[0].state.clone()
    occupancy = chosen.layers[0].ampa.clone()
    chosen.learn(STREAM.tasks[1])
    assert torch.equal(chosen.layers[0].state, before) != old
    assert torch.equal(chosen.layers[0].ampa, occupancy) != old
    # whoever changed is captured again
    for layer in chosen.layers:
        assert not (layer.state == 1).any()


def test_without_replay_nothing_is_shown_twice() -> None:
    told = Listener()
    taught(replace(CONFIG, replay=ReplayConfig()), 2, told)
    assert {shown.split for shown in told.shown} == {"train"}


def test_replay_is_told_as_such_and_takes_simulated_time() -> None:
    told = Listener()
    chosen = taught(CONFIG, 2, told)
    asleep = [shown for shown in told.shown if shown.split == "replay"]
    per_class, epochs = RunConfig().gate.pseudo_per_class, 3
    classes = [len(task.classes) for task in STREAM.tasks[:2]]
    expected = epochs * per_class * (classes[0] + sum(classes))
    assert sum(len(shown.label) for shown in asleep) == expected
    starts = np.concatenate([shown.start_ms for shown in told.shown])
    assert (np.diff(starts) > 0).all()
    assert chosen.probe.clock_ms > starts.max()
    labels = np.concatenate([shown.label for shown in asleep if shown.task == 1])
    assert set(labels.tolist()) == set(range(sum(classes)))


@pytest.mark.parametrize("name", ["artsy_snn", "mean_field"])
def test_each_replay_draws_its_own_stand_ins_and_spikes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every pass of every task: else later tasks would be taught the same few samples again."""
    features: list[torch.Tensor] = []
    fired: list[torch.Tensor] = []
    draw, encode = ClassGaussians.batch, SpikeEncoder.__call__

    def drawn(
        self: ClassGaussians, tasks: list[int], purpose: int, mirrored: bool = False
    ) -> LabelledBatch:
        batch = draw(self, tasks, purpose, mirrored)
        if purpose >= SLEEP:
            assert mirrored
            features.append(batch.features[:4])
        return batch

    def encoded(
        self: SpikeEncoder, z: torch.Tensor, seed: int, stream: int, sample: torch.Tensor
    ) -> torch.Tensor:
        if stream % EPOCH_STRIDE == STREAMS["replay"]:
            fired.append(encode(self, torch.ones_like(z), seed, stream, sample * 0)[:, 0])
        return encode(self, z, seed, stream, sample)

    monkeypatch.setattr(ClassGaussians, "batch", drawn)
    monkeypatch.setattr(SpikeEncoder, "__call__", encoded)
    run = RunConfig(snn=replace(CONFIG, replay=replace(CONFIG.replay, batch_size=1000)))
    chosen = build(name, Setting(replace(run, seed=2), DIM, "cpu"))
    for task in STREAM.tasks:
        chosen.learn(task)
    passes = len(STREAM.tasks) * CONFIG.replay.epochs
    for told in [features, fired] if name == "artsy_snn" else [features]:
        assert len(told) == passes
        assert len({tuple(values.flatten().tolist()) for values in told}) == passes


def test_the_wrong_sign_of_the_error_destroys_what_was_learnt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = accuracy(taught(CONFIG))
    own = ArtsySNN._foreseen

    def turned(self: ArtsySNN, *shown: Any) -> object:
        """The assembly that is taught is taken for the one that was foreseen, and the reverse."""
        return [1.0 - spikes for spikes in own(self, *shown)]

    monkeypatch.setattr(ArtsySNN, "_foreseen", turned)
    wrong = accuracy(taught(CONFIG))
    assert right > 0.6
    assert wrong < right - 0.2


@pytest.mark.parametrize("name", ["artsy_snn", "mean_field"])
def test_passes_of_pairing_come_first_at_full_speed_and_foresee_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = ReplayConfig(epochs=2, pairing_epochs=2, speed=0.5, batch_size=1000)
    run = RunConfig(snn=replace(CONFIG, replay=replay))
    chosen = build(name, Setting(replace(run, seed=2), DIM, "cpu"))
    assert isinstance(chosen, ArtsySNN | MeanField)
    awake, told = CONFIG.plasticity.build(), list[object]()
    draw, foresee = ClassGaussians.batch, type(chosen)._foreseen
    assert awake is not None

    def drawn(self: ClassGaussians, *args: Any, **options: Any) -> LabelledBatch:
        if options.get("purpose", 0) >= SLEEP:
            told.append(chosen.layers[-1].rule)
        return draw(self, *args, **options)

    def foreseen(*args: Any) -> Any:
        told.append("foreseen")
        return foresee(*args)

    monkeypatch.setattr(ClassGaussians, "batch", drawn)
    monkeypatch.setattr(type(chosen), "_foreseen", foreseen)
    chosen.learn(STREAM.tasks[0])
    corrected = [awake.sped_up(0.5), "foreseen", awake.sped_up(0.25), "foreseen"]
    assert told == [awake, awake, *corrected]


def test_the_rule_is_the_waking_one_again_after_replay() -> None:
    chosen = taught(CONFIG, 2)
    assert all(layer.rule == CONFIG.plasticity.build() for layer in chosen.layers)


def test_a_new_subnetwork_knows_the_average_of_what_was_seen() -> None:
    chosen = taught(CONFIG, 1)
    before = chosen.layers[0].slow_weight.clone()
    chosen._add_subnetwork(2)
    assert torch.equal(chosen.layers[1].slow_weight, before) and float(before) > 0
    alone = taught(replace(CONFIG, plasticity=replace(CONFIG.plasticity, target_over="task")), 1)
    alone._add_subnetwork(2)
    assert float(alone.layers[1].slow_weight) == 0.0


def test_replay_needs_the_error_driven_rule() -> None:
    with pytest.raises(ConfigError, match=r"snn\.replay\.epochs.*rule error"):
        SNNConfig(replay=ReplayConfig(epochs=2))


@pytest.mark.parametrize("control", ["permuted_contacts", "random_contacts", "shuffled_labels"])
def test_replay_does_not_undo_a_control(control: Control) -> None:
    """Replay teaches earlier sub-networks anew: what is controlled for must be controlled there."""
    run = RunConfig(snn=CONFIG)
    chosen = ArtsySNN(CONFIG, run.ann, run.gate, DIM, "cpu", seed=2, control=control)
    for task in STREAM.tasks:
        chosen.learn(task)
    n_classes = sum(len(task.classes) for task in STREAM.tasks)
    # labels are shuffled within a task, and what tells tasks apart is still learnt
    most = 1.0 / len(STREAM.tasks[0].classes) if control == "shuffled_labels" else 2.0 / n_classes
    assert accuracy(chosen) < most < accuracy(taught(CONFIG)) - 0.1
