"""How each learner is built from a run's configuration."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from snn_artsy.config import (
    ANNConfig,
    DiscriminantConfig,
    EaseConfig,
    FinetuneConfig,
    GateConfig,
    JointConfig,
    RanPACConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build, build_snn
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.gates import DiscriminantGates, RidgeGates
from snn_artsy.learners.replay import ClassGaussians, Exemplars, NoReplay, build_replay
from snn_artsy.learners.spiking_gates import SpikingGates
from snn_artsy.observer import NullObserver
from snn_artsy.registry import LEARNERS

DIM = 5
CONFIG = RunConfig(
    seed=17,
    ann=ANNConfig(bottleneck=3, scale=0.7),
    gate=GateConfig(pseudo_per_class=4, shrinkage=0.2, exemplars_per_class=6),
    snn=SNNConfig(readout=0.3),
    finetune=FinetuneConfig(lr=0.123),
    joint=JointConfig(l2=[0.5]),
    ease=EaseConfig(alpha=0.4),
    ranpac=RanPACConfig(projection=11),
    artsy_lda=DiscriminantConfig(scale=1.5, shrinkage=0.35),
    artsy_ridge=RidgeGateConfig(scale=1.25, projection=13),
)


def built(name: str, config: RunConfig = CONFIG) -> Any:
    return build(name, Setting(config, DIM, "cpu"))


def drawn(generator: torch.Generator) -> list[float]:
    return torch.rand(3, generator=generator).tolist()


def test_every_learner_of_the_configuration_is_built() -> None:
    for name in LEARNERS:
        assert callable(build(name, Setting(CONFIG, DIM, "cpu")).learn), name
    assert Setting(CONFIG, DIM, "cpu").seed == 17


@pytest.mark.parametrize(
    ("name", "ablation"),
    [
        ("artsy_ann", "none"),
        ("artsy_ann_no_gates", "no_gates"),
        ("artsy_ann_e0", "e0"),
        ("artsy_ann_subnetworks", "subnetworks"),
        ("artsy_ann_gate_alone", "gate_alone"),
    ],
)
def test_artsy_and_its_ablations(name: str, ablation: str) -> None:
    learner = built(name)
    assert learner.ablation == ablation and learner.class_gates is None
    assert learner.config == CONFIG.ann and learner.gate_config == CONFIG.gate
    assert (learner.dim, learner.device) == (DIM, "cpu")
    assert isinstance(learner.replay, ClassGaussians)
    assert (learner.replay.per_class, learner.replay.shrinkage) == (4, 0.2)
    assert learner.replay.seed == 17
    assert learner.build(torch.Generator()).scale == 0.7
    assert drawn(learner.generator) == drawn(torch.Generator().manual_seed(17))


def test_gates_of_class_scores_come_with_their_own_strength() -> None:
    lda, ridge = built("artsy_ann_lda"), built("artsy_ann_ridge")
    assert isinstance(lda.class_gates, DiscriminantGates)
    assert lda.class_gates.shrinkage == 0.35
    assert lda.config.scale == lda.build(torch.Generator()).scale == 1.5
    assert isinstance(ridge.class_gates, RidgeGates)
    assert ridge.config.scale == ridge.build(torch.Generator()).scale == 1.25
    expected = torch.randn(DIM, 13, generator=torch.Generator().manual_seed(17))
    assert torch.equal(ridge.class_gates.ridge.projection, expected)
    for learner in (lda, ridge):
        assert learner.ablation == "none" and learner.gate_config == CONFIG.gate
        assert (learner.dim, learner.device, learner.config.bottleneck) == (DIM, "cpu", 3)
        assert drawn(learner.generator) == drawn(torch.Generator().manual_seed(17))
    # adapters in the blocks keep their own scale
    blocks = replace(CONFIG, ann=replace(CONFIG.ann, placement="blocks"))
    backbone: Any = SimpleNamespace(input_size=(3, 4, 2))
    setting = Setting(blocks, DIM, "cpu", backbone=backbone)
    assert build("artsy_ann_lda", setting).config.scale == 0.7  # type: ignore[attr-defined]


def test_replay_keeps_images_only_for_sub_networks_that_need_them() -> None:
    exemplars = replace(CONFIG, gate=replace(CONFIG.gate, replay="exemplars"))
    backbone: Any = SimpleNamespace(input_size=(3, 4, 2))
    blocks = replace(exemplars, ann=replace(CONFIG.ann, placement="blocks"))
    for config, given, image_bytes in (
        (exemplars, None, 0),
        (exemplars, backbone, 0),
        (blocks, None, 0),
        (blocks, backbone, 24),
    ):
        replay = Setting(config, DIM, "cpu", backbone=given).replay()
        assert isinstance(replay, Exemplars)
        assert (replay.per_class, replay.image_bytes) == (6, image_bytes)
    assert isinstance(build_replay(GateConfig(replay="none"), 0), NoReplay)


def test_baselines_take_their_own_settings() -> None:
    linear, shared = built("finetune_linear"), built("finetune_adapter")
    assert linear.adapter is None and shared.adapter.scale == 0.7
    for learner in (linear, shared):
        assert learner.config == CONFIG.finetune and learner.weight.shape == (0, DIM)
    assert drawn(linear.generator) == drawn(torch.Generator().manual_seed(17))
    joint = built("joint")
    assert joint.config == CONFIG.joint and joint.weight.shape == (0, DIM + 1)
    aper = built("aper_adapter")
    assert aper.config == CONFIG.ann and aper.prototypes.shape == (0, 2 * DIM)
    assert aper.network.scale == 0.7
    ease = built("ease")
    assert ease.config == CONFIG.ease and ease.ann == CONFIG.ann
    assert ease.build(torch.Generator()).scale == 0.7
    ranpac = built("ranpac")
    assert ranpac.config == CONFIG.ranpac and ranpac.ann == CONFIG.ann
    assert ranpac.networks[0].scale == 0.7
    assert ranpac.classifier.projection.shape == (DIM, 11)
    assert built("simplecil").prototypes.base is None
    # the first draw of each is its first adapter
    first = [aper.network, shared.adapter, ranpac.networks[0]]
    start = aper.build if hasattr(aper, "build") else built("ease").build
    expected = start(torch.Generator().manual_seed(17)).down.weight
    for network in first:
        assert torch.equal(network.down.weight, expected)
    assert drawn(built("ease").generator) == drawn(torch.Generator().manual_seed(17))


def test_the_spiking_learner_and_its_controls() -> None:
    observer = NullObserver()
    learner = build_snn(Setting(CONFIG, DIM, "cpu", observer), "shuffled_timing")
    assert learner.control == "shuffled_timing"
    assert learner.config == CONFIG.snn and learner.ann == CONFIG.ann
    assert (learner.dim, learner.device, learner.seed) == (DIM, "cpu", 17)
    assert learner.probe.observer is observer and learner.probe.config == CONFIG.snn
    assert learner.probe.seed == 17
    assert isinstance(learner.replay, ClassGaussians) and learner.replay.per_class == 4
    assert learner.replay.seed == 17 and learner.thresholds.config == CONFIG.gate
    assert drawn(learner.generator) == drawn(torch.Generator().manual_seed(17))
    plain: Any = built("artsy_snn")
    assert plain.control == "none" and isinstance(plain.probe.observer, NullObserver)


def test_spiking_gates_of_adapters_in_the_blocks() -> None:
    blocks = replace(CONFIG, ann=replace(CONFIG.ann, placement="blocks"))
    backbone: Any = SimpleNamespace(input_size=(3, 4, 2))
    snn = SNNConfig(mode="gate", tap="first")
    observer = NullObserver()
    setting = Setting(replace(blocks, snn=snn), DIM, "cpu", observer, backbone)
    learner = build_snn(setting, "shuffled_labels")
    assert isinstance(learner, SpikingGates) and learner.control == "shuffled_labels"
    assert learner.config == snn and learner.gate == CONFIG.gate
    assert (learner.dim, learner.size, learner.device, learner.seed) == (2 * DIM, DIM, "cpu", 17)
    assert learner.probe.observer is observer and learner.replay.seed == 17  # type: ignore[attr-defined]
    opened = learner.subnetworks
    assert (opened.config, opened.ann, opened.seed) == (CONFIG.artsy_best, blocks.ann, 17)
    full = build_snn(Setting(blocks, DIM, "cpu", backbone=backbone))
    assert isinstance(full, ArtsySNN) and full.config.mode == "full"
