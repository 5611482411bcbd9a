"""What drives the silent synapses that open sub-networks, and what teaches them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_vit import (
    BLOCKS,
    DATA_CONFIG,
    DIM,
    N_TASKS,
    PER_TASK,
    QUICK_SNN,
    in_blocks,
    small_vit,
)
from test_kept_learners import assert_same, kept
from test_spiking_gates import OF_CLASS, TASKS, TEST, share_right
from test_subnetworks import randomised
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.checks import ConfigError
from snn_artsy.config import (
    BestGateConfig,
    NeuronConfig,
    PlasticityConfig,
    SNNConfig,
    TeacherConfig,
)
from snn_artsy.learners import build
from snn_artsy.learners.spiking_gates import SpikingGates, taught_by_units
from snn_artsy.learners.subnetworks import BlockAdapters

BY_UNITS = replace(QUICK_SNN, teacher=TeacherConfig(source="adapter"))


def untaught(snn: SNNConfig, **values: Any) -> SpikingGates:
    learner = build("artsy_snn", in_blocks(snn, **values))
    assert isinstance(learner, SpikingGates)
    return learner


@cache
def learnt(tap: str = "h0", source: str = "classes", gates: str = "likeliest") -> SpikingGates:
    teacher = TeacherConfig(source=source)  # type: ignore[arg-type]
    best = BestGateConfig(open=2, gates=gates)  # type: ignore[arg-type]
    learner = untaught(replace(QUICK_SNN, tap=tap, teacher=teacher), artsy_best=best)
    for task in TASKS:
        learner.learn(task)
    return learner


# --- taps -----------------------------------------------------------------------------------------


def class_tokens(images: Tensor) -> list[Tensor]:
    """After each block of the whole ViT, by its own blocks."""
    vit: Any = small_vit().vit
    with torch.no_grad():
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        tokens = []
        for block in vit.blocks:
            x = block(x)
            tokens.append(x[:, 0])
    return tokens


def test_the_class_token_after_each_block() -> None:
    expected, vit = class_tokens(TEST.images), small_vit()
    for first in range(3):
        tokens = vit.trunk(TEST.images, first)
        for n in range(first + 1, 4):
            found = vit.class_token(tokens, first, n)
            torch.testing.assert_close(found, expected[n - 1], atol=1e-5, rtol=1e-5)
    # after the last block the norm is left to make h_0 of it
    whole: Any = vit.vit
    torch.testing.assert_close(whole.norm(found), vit(TEST.images), atol=1e-5, rtol=1e-5)


def test_a_block_s_class_token_drives_the_silent_synapses() -> None:
    learner = learnt("block_2")
    token = class_tokens(TEST.images)[1]
    torch.testing.assert_close(learner.driven_by(TEST), token, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(token, TEST.features, atol=0.1)
    answer = learner.predict(TEST)
    votes = answer.spike_scores
    assert votes is not None and share_right(votes) > 0.4 and share_right(answer.scores) > 0.6
    # what stands in for old classes, and their recall, are of the token; prototypes of h_0
    assert learner.layers[0].n_pre == 2 * DIM
    train = TASKS[1].train
    every = torch.cat([class_tokens(p.images)[1] for p in (train, TASKS[1].validation)])
    labels = torch.cat([train.labels, TASKS[1].validation.labels])
    mean = learner.replay.means[1][0]  # type: ignore[attr-defined]
    torch.testing.assert_close(mean, every[labels == PER_TASK].mean(0), atol=1e-4, rtol=1e-4)
    # h_0's own pass goes through the block: none more but for gates that open
    assert answer.gates is not None and answer.vit_passes is not None
    computed = answer.gates.clone()
    computed[:, 0] |= computed.any(1)
    torch.testing.assert_close(answer.vit_passes, 1.0 + computed.sum(1))


def test_parts_of_the_image_drive_the_silent_synapses() -> None:
    learner = learnt("grid_2")
    tokens = TEST.tokens[:, 1, 1:]  # 2 x 2 patches, each a part
    torch.testing.assert_close(learner.driven_by(TEST), tokens.flatten(1), atol=1e-5, rtol=1e-5)
    assert learner.layers[0].n_pre == 2 * 4 * DIM
    votes = learner.predict(TEST).spike_scores
    assert votes is not None and share_right(votes) > 0.4
    with_h0 = learnt("h0+grid_2")
    h0, parts = with_h0.driven_by(TEST).split([DIM, 4 * DIM], 1)
    torch.testing.assert_close(h0, TEST.features)
    torch.testing.assert_close(parts, with_h0.beta * tokens.flatten(1), atol=1e-4, rtol=1e-4)
    # both vary as much within the first task's classes
    train = TASKS[0].train
    both = (train.features, with_h0.driven_by(train)[:, DIM:])
    within = [torch.cat([x[train.labels == c] - x[train.labels == c].mean(0) for c in (0, 1)])
              .square().mean() for x in both]  # fmt: skip
    torch.testing.assert_close(within[0], within[1], atol=0, rtol=1e-3)


def test_taps_that_are_not_there_are_refused() -> None:
    for tap in ("block_0", "block_", "h1", "block_01", "block_-1", "grid_0", "grid_17", "h0+"):
        with pytest.raises(ConfigError, match=r"snn\.tap: .* use h0, first, the class token"):
            SNNConfig(tap=tap)
    with pytest.raises(ConfigError, match=r"snn\.tap: .*'small' has 3 blocks; use at most block_3"):
        untaught(replace(QUICK_SNN, tap="block_4"))
    with pytest.raises(ConfigError, match=r"snn\.tap: .*2 x 2 patches; use fewer parts"):
        untaught(replace(QUICK_SNN, tap="grid_3"))
    with pytest.raises(ConfigError, match=r"snn\.tap: .*use at least 2 blocks"):
        untaught(replace(QUICK_SNN, tap="grid_1"), ann=replace(BLOCKS, blocks=1))
    last_two = replace(BLOCKS, blocks=2)
    untaught(replace(QUICK_SNN, tap="block_2"), ann=last_two)
    with pytest.raises(
        ConfigError, match=r"passed 2 blocks of 3 \(ann\.blocks 2\); use block_2 to"
    ):
        untaught(replace(QUICK_SNN, tap="block_1"), ann=last_two)


def test_a_vit_without_class_token_has_no_such_tap() -> None:
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=DIM, depth=1, num_heads=2, num_classes=0,
        class_token=False, global_pool="avg",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"snn\.tap: .*no class token; use h0 or first"):
        FrozenBackbone(vit, DATA_CONFIG, "averaged").require_class_token(0, 1)


def test_gates_that_are_shut_compute_no_sub_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they were shut from the start or are shut afterwards, with a tap of h_1, too."""
    from_start, afterwards = learnt("first", gates="shut"), learnt("first")
    assert float(from_start.beta) == 1.0
    given = afterwards.subnetworks.config
    asked: list[int] = []

    def counted(self: BlockAdapters, batch: Any) -> Tensor:
        asked.append(len(batch))
        return torch.ones_like(batch.features)

    monkeypatch.setattr(BlockAdapters, "answer", counted)
    try:
        afterwards.subnetworks.config = BestGateConfig(gates="shut")
        for learner in (from_start, afterwards):
            answer = learner.predict(TEST)
            assert answer.vit_passes is not None and bool((answer.vit_passes == 1).all())
            driving = learner.driven_by(TEST)
            assert torch.equal(driving[:, :DIM], TEST.features)
            assert not bool(driving[:, DIM:].any())
            assert answer.spike_scores is not None
    finally:
        afterwards.subnetworks.config = given
    assert not any(asked)
    assert from_start.scaling is not None and bool(from_start.scaling.matrix.isfinite().all())


# --- teachers -------------------------------------------------------------------------------------


def test_bottleneck_units_at_the_class_token_by_hand() -> None:
    network = randomised(BlockAdapters(small_vit(), BLOCKS, torch.Generator()))
    down: Any = network.adapters[-1].down
    vit: Any = small_vit().vit
    tokens = TEST.tokens
    with torch.no_grad():
        x, out = tokens.unbind(1)
        for number, adapter in enumerate(network.adapters):
            if number:
                block = vit.blocks[number]
                x = out + block.ls1(block.attn(block.norm1(out)))
                out = x + block.ls2(block.mlp(block.norm2(x)))
            out = out + adapter(x)
        expected = torch.relu(x[:, 0] @ down.weight.T + down.bias)
    found = network.bottleneck(TEST)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.shape == (len(TEST), 4) and bool(found.any())
    assert not down._forward_hooks


def test_units_that_teach_by_loops() -> None:
    generator = torch.Generator().manual_seed(3)
    active = torch.rand(20, 5, generator=generator)
    labels = torch.randint(4, 6, (20,), generator=generator)
    found = taught_by_units(active, labels, (4, 5), 2)
    assert found.shape == (20, 4)
    x, y = active.numpy().astype(np.float64), labels.numpy()
    for place, c in enumerate((4, 5)):
        told, middle = [], []
        for u in range(5):
            own, rest = x[y == c, u], x[y != c, u]
            squares = ((own - own.mean()) ** 2).sum() + ((rest - rest.mean()) ** 2).sum()
            told.append((own.mean() - rest.mean()) / np.sqrt(squares / 20))
            middle.append((own.mean() + rest.mean()) / 2)
        for k, u in enumerate(np.argsort(-np.array(told))[:2]):
            assert found[:, 2 * place + k].tolist() == (x[:, u] > middle[u]).tolist()
    # a unit that is never active teaches nobody, and one class alone is told from silence
    assert not taught_by_units(torch.zeros(6, 2), torch.tensor([0, 1] * 3), (0, 1), 2).any()
    alone = taught_by_units(torch.tensor([[0.0, 3.0], [0.0, 1.0]]), torch.zeros(2), (0,), 1)
    assert alone.flatten().tolist() == [True, False]


def test_sub_networks_units_teach_the_neurons_that_open_them() -> None:
    learner = learnt(source="adapter")
    network = learner.subnetworks.networks[2]
    assert isinstance(network, BlockAdapters)
    train = learner._training(TASKS[2])
    taught = learner._taught(TASKS[2], train)
    by_class = super(SpikingGates, learner)._taught(TASKS[2], train)
    assert taught.shape == by_class.shape == (len(train), 2 * PER_TASK)
    # of the class's own samples more than of the other one's, but not label by label
    assert not torch.equal(taught, by_class)
    own, other = (float(taught[by_class == side].double().mean()) for side in (True, False))
    assert own > 1.3 * other > 0
    answer = learner.predict(TEST)
    assert answer.spike_scores is not None and answer.gates is not None
    assert share_right(answer.spike_scores) > 1 / 6 and share_right(answer.scores) > 0.3
    # it answers in the usual way, and goes on from its checkpoint
    oracle = learner.predict(replace(TEST, true_task=OF_CLASS[TEST.labels])).scores.argmax(1)
    assert torch.equal(OF_CLASS[oracle], OF_CLASS[TEST.labels])
    states: list[dict[str, Tensor]] = []
    first, resumed = untaught(BY_UNITS), untaught(BY_UNITS)
    first.learn(TASKS[0])
    first.after_epoch = lambda: states.append(kept(first))
    first.learn(TASKS[1])
    resumed.restore(states[0], TASKS[:1])
    resumed.learn(TASKS[1])
    assert_same(resumed.checkpoint(), first.checkpoint())


def test_shuffled_labels_mix_who_is_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Tensor] = []
    whole = SpikingGates._taught

    def seen(self: SpikingGates, *args: Any) -> Tensor:
        told.append(whole(self, *args))
        return told[-1]

    monkeypatch.setattr(SpikingGates, "_taught", seen)
    control = untaught(BY_UNITS).controls()["shuffled_labels"]
    control.learn(TASKS[0])
    # the unit's own rows are what is mixed: as many samples teach each neuron
    plain = untaught(BY_UNITS)
    plain.learn(TASKS[0])
    assert torch.equal(told[0], told[2])
    state, other = control.state_dict(), plain.state_dict()
    assert not torch.equal(state["layers.0.ampa"], other["layers.0.ampa"])


def test_teachers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"snn\.teacher\.source: .*error-driven rule"):
        SNNConfig(teacher=BY_UNITS.teacher, plasticity=PlasticityConfig(rule="error"))
    with pytest.raises(ConfigError, match=r"snn\.neuron\.per_class: 5 .* 4 units \(ann\.bott"):
        untaught(replace(BY_UNITS, neuron=NeuronConfig(per_class=5)))
    with pytest.raises(ConfigError, match=r"snn\.teacher\.source"):
        TeacherConfig(source="adapters")  # type: ignore[arg-type]
    assert len(TASKS) == N_TASKS
