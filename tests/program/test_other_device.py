"""Everything that may run on a GPU, on a stand-in for one: the CPU's numbers, bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from engines import in_torch
from standin_device import NAME, register, standin_device
from synthetic_features import DIM, gaussian_stream, unlabelled
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import (
    ANNConfig,
    BackboneConfig,
    ContactConfig,
    EncodingConfig,
    GateConfig,
    MemoryConfig,
    NeuronConfig,
    PlasticityConfig,
    RecordConfig,
    ReplayConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.observer import NullObserver
from snn_artsy.synapses import SilentSynapseLayer

register()  # before any test: the first backward pass of a process counts torch's devices
STREAM = gaussian_stream(n_train=20, n_validation=6, n_test=5)


def test_the_stand_in_is_strict() -> None:
    with standin_device() as device:
        there = torch.ones(3, device=device)
        assert there.device.type == NAME and float(there.sum()) == 3.0
        with pytest.raises(RuntimeError, match="another device"):
            there + torch.ones(3)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        there.add_(1.0)
        assert (there + 1.0).cpu().tolist() == [3.0, 3.0, 3.0]
        assert torch.nn.Linear(3, 2).to(device)(there).device.type == NAME


def moved(task: Any, device: str) -> Any:
    """A task or batch with its tensors on the device."""

    def there(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        return moved(value, device) if is_dataclass(value) else value

    return replace(task, **{f.name: there(getattr(task, f.name)) for f in fields(task)})


LEARNERS: dict[str, RunConfig] = {
    "simplecil": RunConfig(),
    "finetune_linear": RunConfig(ann=ANNConfig(epochs=2)),
    "aper_adapter": RunConfig(ann=ANNConfig(epochs=2)),
    "ease": RunConfig(ann=ANNConfig(epochs=2)),
    "ranpac": RunConfig(),
    "joint": RunConfig(),
    "er": RunConfig(memory=MemoryConfig(epochs=2)),
    "derpp": RunConfig(memory=MemoryConfig(epochs=2)),
    "icarl": RunConfig(memory=MemoryConfig(epochs=2)),
    "artsy_ann": RunConfig(ann=ANNConfig(epochs=2)),
    "artsy_ann_lda": RunConfig(ann=ANNConfig(epochs=2)),
    "artsy_ann_ridge": RunConfig(ann=ANNConfig(epochs=2)),
    "artsy_best": RunConfig(ann=ANNConfig(epochs=2)),
    "whitened_ncm": RunConfig(),
    "nested_mean": RunConfig(),
    "mean_field": RunConfig(),
    "mean_field, error": RunConfig(
        snn=SNNConfig(plasticity=PlasticityConfig(rule="error"), replay=ReplayConfig(epochs=2))
    ),
    "artsy_snn": RunConfig(),
    "artsy_snn, exemplars": RunConfig(gate=GateConfig(replay="exemplars")),
    "artsy_snn, gate": RunConfig(snn=SNNConfig(mode="gate"), ann=ANNConfig(epochs=2)),
    "artsy_snn, current": RunConfig(snn=SNNConfig(encoding=EncodingConfig(code="current"))),
    "artsy_snn, latency": RunConfig(snn=SNNConfig(encoding=EncodingConfig(code="latency"))),
    "artsy_snn, conductance": RunConfig(snn=SNNConfig(fidelity="conductance")),
    "artsy_snn, plastic old": RunConfig(snn=SNNConfig(plastic_old=True)),
    "artsy_snn, calcium": RunConfig(snn=SNNConfig(plasticity=PlasticityConfig(rule="calcium"))),
    "artsy_snn, bernoulli": RunConfig(
        snn=SNNConfig(plasticity=PlasticityConfig(insertion="bernoulli"))
    ),
    "artsy_snn, sparse": RunConfig(snn=SNNConfig(contacts=ContactConfig(probability=0.5))),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_learners(name: str) -> None:
    def answers(device: str) -> list[Tensor]:
        learner = build(name.split(",")[0], Setting(LEARNERS[name], DIM, device))
        tasks = [moved(task, device) for task in STREAM.tasks[:2]]
        for task in tasks:
            learner.learn(task)
        found = learner.predict(moved(unlabelled(STREAM.test), device))
        again = build(name.split(",")[0], Setting(LEARNERS[name], DIM, device))
        again.restore({k: v.cpu().to(device) for k, v in learner.checkpoint().items()}, tasks)
        same = again.predict(moved(unlabelled(STREAM.test), device))
        assert torch.equal(same.scores.cpu(), found.scores.cpu())
        learner.report()
        parts = (found.scores, found.gate_scores, found.gates, found.spike_scores)
        return [part.cpu() for part in parts if part is not None]

    expected = answers("cpu")
    with standin_device() as device:
        found = answers(device)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


def test_the_backbone() -> None:
    backbone = FrozenBackbone.build(BackboneConfig(), "cpu")
    images = torch.rand(3, *backbone.input_size, generator=torch.Generator().manual_seed(0))
    expected = backbone(images)
    with standin_device() as device:
        found = FrozenBackbone.build(BackboneConfig(), device)(images.to(device))
        assert found.device.type == NAME
        torch.testing.assert_close(found.cpu(), expected)  # fused attention sums otherwise


class Listener(NullObserver):
    """Wants everything, and counts what it is told."""

    plan = RecordConfig(spike_presentations=20, splits=("train", "test"), traced_synapses=9)

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name in OBSERVED:
            self.told[name] += 1
        return found


OBSERVED = {"presentations", "spikes", "conversions", "counts", "snapshot", "trace", "pairings"}


def test_what_is_recorded() -> None:
    with standin_device() as device:
        observer = Listener()
        setting = Setting(RunConfig(), DIM, device, observer)
        learner: Any = build("artsy_snn", setting)
        learner.learn(moved(STREAM.tasks[0], device))
        learner.predict(moved(STREAM.test, device))
        learner.snapshot("task_end")
    assert set(observer.told) == OBSERVED


RULES = {
    f"{c.rule} {c.update}": c
    for c in (
        PlasticityConfig(rule=rule, update=update, speed=3.0)
        for rule in ("gated", "pair", "triplet", "voltage", "calcium")
        for update in ("step", "presentation")
    )
}


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("name", RULES)
def test_layers(name: str, taught: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    in_torch(monkeypatch)  # what runs compiled runs on the CPU only

    def learnt(device: str) -> list[Tensor]:
        generator = torch.Generator().manual_seed(4)
        layer = SilentSynapseLayer(
            30, 5, 1.0, NeuronConfig(), RULES[name], ContactConfig(silent_share=0.4),
            update=RULES[name].update, generator=generator,
        ).to(device)  # fmt: skip
        pre = (torch.rand(40, 3, 30, generator=generator) < 0.15).float().to(device)
        current = 1.5 * (torch.rand(40, 3, 5, generator=generator) < 0.1).to(device)
        response, _ = layer.pair(pre, current if taught else None)
        layer.capture()
        assert response.spikes.sum() > 10
        return [x.cpu() for x in (response.spikes, layer.ampa, layer.state, layer.counts())]

    expected = learnt("cpu")
    with standin_device() as device:
        for a, b in zip(learnt(device), expected, strict=True):
            assert torch.equal(a, b)
