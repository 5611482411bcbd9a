"""Adapters on h_0 and in the blocks, on a small ViT with random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from small_vit import BLOCKS, DATA_CONFIG, DIM, N_TASKS, PER_TASK, in_blocks, small_vit, stream
from torch import Tensor, nn

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import (
    ANNConfig,
    BestGateConfig,
    ConfigError,
    EncodingConfig,
    GateConfig,
    NeuronConfig,
    RanPACConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.base import Prediction, Task
from snn_artsy.learners.subnetworks import (
    ANSWER_BATCH,
    BlockAdapters,
    HeadAdapter,
    builder,
    shown,
    train,
)
from snn_artsy.learners.tasks import join, take


def randomised(network: nn.Module, seed: int = 0) -> Any:
    """W_up is zero at start: give it something to say."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def block_adapters(last: int | None = None) -> BlockAdapters:
    config = replace(BLOCKS, blocks=last)
    return BlockAdapters(small_vit(), config, torch.Generator().manual_seed(0))


# --- geometry -------------------------------------------------------------------------------------


def test_a_new_subnetwork_answers_nothing() -> None:
    _, test = stream()
    with torch.no_grad():
        for network in (block_adapters(), HeadAdapter(DIM, ANNConfig(), torch.Generator())):
            torch.testing.assert_close(
                network.answer(test), torch.zeros(len(test), DIM), atol=1e-5, rtol=0
            )


def by_hand(network: BlockAdapters, images: Tensor) -> Tensor:
    """The equation of EASE written out, block by block, on the whole ViT."""
    vit: Any = small_vit().vit
    x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
    n_frozen = len(vit.blocks) - len(network.adapters)
    for block in vit.blocks[:n_frozen]:
        x = block(x)
    for block, adapter in zip(vit.blocks[n_frozen:], network.adapters, strict=True):
        down, up = adapter.down, adapter.up  # type: ignore[union-attr]
        x = x + block.ls1(block.attn(block.norm1(x)))
        own = F.relu(x @ down.weight.T + down.bias) @ up.weight.T + up.bias  # type: ignore
        x = x + block.ls2(block.mlp(block.norm2(x))) + 0.1 * own
    return vit.forward_head(vit.norm(x), pre_logits=True)  # type: ignore[no-any-return]


def test_adapters_stand_beside_the_mlp_of_each_block() -> None:
    images = stream()[1].images
    for last in (None, 3, 2, 1):
        network = randomised(block_adapters(last))
        with torch.no_grad():
            found = network(small_vit().trunk(images, network.first))
            torch.testing.assert_close(found, by_hand(network, images), atol=1e-5, rtol=1e-5)
        assert len(network.adapters) == (last or 3) and network.vit_passes == (last or 3) / 3
        assert float((found - small_vit()(images)).abs().max()) > 0.01


def test_trunk_and_tail_are_the_whole_vit() -> None:
    """In float32 to its rounding; rounded to float16 as far as its 11 bits go."""
    images, vit = stream()[1].images, small_vit()
    for first in range(3):
        tokens = vit.trunk(images, first)
        torch.testing.assert_close(vit.tail(tokens, first), vit(images), atol=1e-5, rtol=1e-5)
        h0, rounded = vit.split(images, first)
        assert rounded.dtype == torch.float16 and torch.equal(rounded, tokens.half())
        torch.testing.assert_close(h0, vit(images), atol=5e-3, rtol=5e-3)
        assert float((h0 - vit(images)).abs().max()) > 1e-4


@pytest.mark.parametrize("last", [1, 2, 3])
def test_gradients_from_kept_tokens_are_those_of_the_whole_vit(last: int) -> None:
    """Of tokens rounded to float16 within a hundredth of the gradient's norm."""
    images, goal = stream()[1].images, torch.arange(DIM).float()
    whole, kept, rounded = (randomised(block_adapters(last)) for _ in range(3))
    (by_hand(whole, images) @ goal).square().mean().backward()
    (kept(small_vit().trunk(images, kept.first)) @ goal).square().mean().backward()
    (rounded(small_vit().split(images, kept.first)[1]) @ goal).square().mean().backward()
    for a, b, c in zip(*(n.parameters() for n in (whole, kept, rounded)), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
        assert float((a.grad - c.grad).norm()) < 0.01 * float(a.grad.norm())
        assert float(a.grad.norm()) > 1e-3


def test_the_shared_vit_is_as_before() -> None:
    backbone, images = small_vit(), stream()[1].images
    before, weights = backbone(images), backbone.weights_sha256()
    network = randomised(block_adapters())
    network(small_vit().trunk(images, 0))
    assert torch.equal(backbone(images), before)
    train(network, stream()[0][0], BLOCKS, torch.Generator().manual_seed(0))
    assert backbone.weights_sha256() == weights
    assert not any(p.requires_grad or p.grad is not None for p in backbone.parameters())


def test_parameters_are_those_of_ease() -> None:
    network = block_adapters()
    r, depth = BLOCKS.bottleneck, 3
    assert sum(p.numel() for p in network.parameters()) == depth * (2 * DIM * r + r + DIM)
    assert not any("vit" in key for key in network.state_dict())
    # r = 64, 12 blocks, D = 768: 1,189,632 a task, as in EASE's own logs
    assert 12 * (2 * 768 * 64 + 64 + 768) == 1_189_632


def test_answers_come_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network, (_, test) = randomised(block_adapters()), stream()
    with torch.no_grad():
        whole = network.answer(test)
        monkeypatch.setitem(ANSWER_BATCH, "cpu", 7)
        torch.testing.assert_close(network.answer(test), whole, atol=1e-5, rtol=0)
        assert network.answer(take(test, test.index[:0])).shape == (0, DIM)


def test_training_goes_down_the_gradient_of_the_cosine_classifier_s_loss() -> None:
    """One epoch of one batch: p - lr (gradient + weight decay p), by hand."""
    task, lr, decay = stream()[0][1], 0.1, 0.01
    config = ANNConfig(placement="blocks", bottleneck=4, epochs=1, lr=lr, batch_size=99,
                       weight_decay=decay)  # fmt: skip
    network, expected = randomised(block_adapters()), randomised(block_adapters())
    data = task.train
    means = torch.stack([data.features[data.labels == c].mean(0) for c in task.classes])
    cosines = F.normalize(by_hand(expected, data.images), dim=1) @ F.normalize(means, dim=1).T
    F.cross_entropy(10.0 * cosines, data.labels - task.classes[0]).backward()
    train(network, task, config, torch.Generator().manual_seed(0))
    assert not any(p.requires_grad for p in network.parameters())
    for found, before in zip(network.parameters(), expected.parameters(), strict=True):
        assert before.grad is not None
        step = before.grad + decay * before.detach()
        torch.testing.assert_close(found, before.detach() - lr * step, atol=1e-6, rtol=1e-4)
        assert float(before.grad.abs().max()) > 1e-4


def test_adamw_takes_its_first_step_by_the_gradient_s_sign() -> None:
    """One epoch of one batch: p (1 - lr decay) - lr g / (|g| + eps), by hand."""
    task, lr, decay = stream()[0][1], 0.01, 0.1
    config = ANNConfig(epochs=1, lr=lr, batch_size=99, weight_decay=decay, optimiser="adamw")
    generator = torch.Generator().manual_seed(0)
    network, expected = (randomised(HeadAdapter(DIM, config, generator)) for _ in range(2))
    data = task.train
    means = torch.stack([data.features[data.labels == c].mean(0) for c in task.classes])
    z = data.features + expected(data.features)
    cosines = F.normalize(z, dim=1) @ F.normalize(means, dim=1).T
    F.cross_entropy(10.0 * cosines, data.labels - task.classes[0]).backward()
    train(network, task, config, generator)
    for found, before in zip(network.parameters(), expected.parameters(), strict=True):
        g = before.grad
        step = g / (g.abs() + 1e-8)
        hand = before.detach() * (1 - lr * decay) - lr * step
        torch.testing.assert_close(found, hand, atol=1e-4, rtol=1e-3)


def test_hidden_units_drop_out_in_training_alone() -> None:
    config = ANNConfig(bottleneck=500, dropout=0.4, scale=1.0)
    network = randomised(HeadAdapter(DIM, config, torch.Generator()))
    network.up.weight.data = torch.eye(DIM, 500)  # answers are hidden units
    network.up.bias.data.zero_()
    x = torch.randn(400, DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = network(x)
        network.noise = torch.Generator().manual_seed(2)
        dropped = network(x)
    on = whole > 0
    shut = dropped[on] == 0
    assert float(shut.float().mean()) == pytest.approx(0.4, abs=0.03)
    torch.testing.assert_close(dropped[on][~shut], whole[on][~shut] / 0.6)
    task = stream()[0][0]
    states = []
    for share in (0.4, 0.4, 0.0):
        learnt_one = HeadAdapter(DIM, replace(config, dropout=share), torch.Generator())
        train(learnt_one, task, replace(config, epochs=2), torch.Generator().manual_seed(0))
        assert learnt_one.noise is None
        states.append(learnt_one.up.weight)
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_patches_drop_out_in_training_alone() -> None:
    """A training step sees the class token and half of the patches, others in each step."""
    config = replace(BLOCKS, patch_dropout=0.5, scale=1.0)
    network = builder(config, DIM, "cpu", small_vit())(torch.Generator().manual_seed(3))
    assert isinstance(network, BlockAdapters)
    for adapter in network.adapters:
        randomised(adapter)
    tokens = stream()[1].tokens
    assert tokens.shape[2] == 5  # a class token and four patches
    with torch.no_grad():
        whole = network(tokens)
        halves = {
            (a, b): network(tokens[:, :, [0, a, b]]) for a in range(1, 5) for b in range(a + 1, 5)
        }
        network.noise = torch.Generator().manual_seed(2)
        drawn = set()
        for _ in range(12):
            seen = network(tokens)
            alike = [k for k, half in halves.items() if torch.allclose(seen, half, atol=1e-5)]
            assert len(alike) == 1 and not torch.allclose(seen, whole, atol=1e-3)
            drawn.update(alike)
    assert len(drawn) > 3
    train(network, stream()[0][0], config, torch.Generator().manual_seed(0))
    assert network.noise is None


def test_a_backbone_without_blocks_is_refused() -> None:
    vit = nn.Sequential(nn.Flatten(), nn.Linear(768, DIM))
    vit.num_features = DIM  # type: ignore[assignment]
    odd = FrozenBackbone(vit, DATA_CONFIG, "odd")
    with pytest.raises(ConfigError, match=r"ann\.placement: 'odd' has no transformer blocks"):
        builder(BLOCKS, DIM, "cpu", odd)(torch.Generator())
    with pytest.raises(ConfigError, match=r"ann\.blocks: 'small' has 3 blocks and not 4;"):
        block_adapters(4)


def test_blocks_that_take_more_than_tokens_are_refused() -> None:
    """EVA's rotary positions enter every block, so tokens alone do not tell what it computes."""
    eva = timm.create_model("eva02_tiny_patch14_224", img_size=28, depth=1, num_classes=0)
    with pytest.raises(ConfigError, match=r"ann\.placement: 'eva' has no transformer blocks"):
        FrozenBackbone(eva, DATA_CONFIG, "eva").first_adapted(None)


# --- learners -------------------------------------------------------------------------------------

EXPECTED_PASSES = {
    "simplecil": 1, "finetune_adapter": 1, "aper_adapter": 2, "ranpac": 1, "ease": N_TASKS,
    "artsy_ann_no_gates": 1 + N_TASKS, "artsy_ann_e0": 1, "artsy_snn": 1,
}  # fmt: skip
IN_BLOCKS = [*EXPECTED_PASSES, "artsy_ann", "artsy_ann_lda", "artsy_ann_subnetworks", "artsy_best"]


def setting(gate: GateConfig | None = None) -> Setting:
    config = RunConfig(ann=BLOCKS, ranpac=RanPACConfig(projection=50), gate=gate or GateConfig())
    return Setting(config, DIM, "cpu", backbone=small_vit())


@cache
def learnt(name: str) -> Any:
    learner = build(name, setting())
    for task in stream()[0]:
        learner.learn(task)
    return learner


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_learners_learn_three_tasks_with_adapters_in_the_blocks(name: str) -> None:
    _, test = stream()
    prediction: Prediction = learnt(name).predict(test)
    newest = take(test, test.labels >= PER_TASK * (N_TASKS - 1))
    predicted = learnt(name).predict(newest).scores.argmax(1)
    assert float((predicted == newest.labels).float().mean()) > 1 / 3  # chance is 1/6
    passes = prediction.vit_passes
    found = 1.0 if passes is None else float(passes.float().mean())
    if name in EXPECTED_PASSES:
        assert found == EXPECTED_PASSES[name]
    else:
        assert prediction.gates is not None
        computed = prediction.gates.clone()
        computed[:, 0] |= name == "artsy_best"  # whose gates see the first sub-network
        assert found == pytest.approx(1 + float(computed.sum(1).float().mean()))


def test_silent_sub_networks_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, (_, test) = learnt("artsy_ann_lda"), stream()
    seen: list[int] = []
    whole = BlockAdapters.answer

    def counted(self: BlockAdapters, batch: Any) -> Tensor:
        seen.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(BlockAdapters, "answer", counted)
    prediction = learner.predict(test)
    assert sum(seen) == int(prediction.gates.sum()) == len(test)  # one gate open for each sample


def test_answers_do_not_depend_on_the_other_samples_of_a_batch() -> None:
    learner, (_, test) = learnt("artsy_ann"), stream()
    whole = learner.predict(test)
    parts = [learner.predict(take(test, r)) for r in torch.arange(len(test)).split(4)]
    joined = Prediction.concatenate(parts)
    torch.testing.assert_close(joined.scores, whole.scores, atol=1e-4, rtol=0)
    assert torch.equal(joined.gates, whole.gates)
    assert torch.equal(joined.vit_passes, whole.vit_passes)
    # nothing is added to h_0 where all gates are shut
    shut = ~whole.gates.any(1)
    assert torch.equal(whole.added_norm == 0, shut)
    assert torch.equal(whole.scores.argmax(1)[shut], whole.shut_predicted[shut])


def test_gaussians_complete_and_exemplars_measure_old_prototypes() -> None:
    """Features without images tell nothing of a new sub-network in the blocks; exemplars do."""
    tasks, _ = stream()
    # all twelve training samples of a class are kept
    learner: Any = build(
        "artsy_ann", setting(GateConfig(replay="exemplars", exemplars_per_class=12))
    )
    for task in tasks[:2]:
        learner.learn(task)
    old = tasks[0].train
    with torch.no_grad():
        answers = learner.networks[1].answer(old)
    for c in tasks[0].classes:
        torch.testing.assert_close(
            learner.prototypes.gained[1][c],
            answers[old.labels == c].mean(0), atol=1e-5, rtol=0,
        )  # fmt: skip
    assert learner.replay.stored_bytes() == 4 * 12 * (4 * DIM + 3 * 16 * 16)


def test_joined_batches_keep_their_images() -> None:
    _, test = stream()
    whole = join([take(test, test.index[:3]), take(test, test.index[3:])])
    assert torch.equal(whole.images, test.images)
    assert torch.equal(whole.tokens, test.tokens)
    assert torch.equal(whole.labels, test.labels)


# --- continuing from the last sub-network ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "snn"),
    [("ease", "full"), ("artsy_ann", "full"), ("artsy_best", "full"), ("artsy_snn", "gate")],
)
def test_a_sub_network_starts_where_the_last_one_ended(
    name: str, snn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each learner with one for each task; without the option all start alike, W_up = 0."""
    began: list[dict[str, Tensor]] = []

    def seen(network: nn.Module, *_: Any) -> None:
        began.append({key: value.clone() for key, value in network.state_dict().items()})
        randomised(network, seed=len(began)).requires_grad_(False)

    for module in ("ease", "artsy_ann", "opened_evidence"):
        monkeypatch.setattr(f"snn_artsy.learners.{module}.train", seen)
    monkeypatch.setattr("snn_artsy.learners.artsy_snn.train_subnetwork", seen)
    for continued in (False, True):
        began.clear()
        ann = ANNConfig(bottleneck=3, continue_from_last=continued)
        small = SNNConfig(
            mode=snn, encoding=EncodingConfig(preset="fast"), neuron=NeuronConfig(per_class=1)
        )
        learner = build(name, Setting(RunConfig(ann=ann, snn=small), DIM, "cpu"))
        for task in stream()[0]:
            learner.learn(task)
        ended = [randomised(HeadAdapter(DIM, ann, torch.Generator()), n + 1) for n in range(3)]
        for t in (1, 2):
            for key, value in ended[t - 1].state_dict().items():
                assert torch.equal(began[t][key], value) == continued, key
        assert not bool(began[0]["up.weight"].any())
        assert bool(began[2]["up.weight"].any()) == continued
        # what came before is as it was left
        kept: Any = getattr(learner, "networks", None) or getattr(learner, "adapters", None)
        kept = kept or learner.subnetworks.networks  # type: ignore[attr-defined]
        for network, left in zip(kept, ended, strict=True):
            assert torch.equal(network.up.weight, left.up.weight)


def test_a_task_s_images_are_dealt_out_among_earlier_sub_networks() -> None:
    task = stream()[0][2]
    n, n_train = len(task.train) + len(task.validation), len(task.train)
    labels = torch.cat([task.train.labels, task.validation.labels])
    dealt = ANNConfig(placement="blocks", earlier="dealt")
    assert shown(task, 0, 3, ANNConfig()) is None
    assert shown(task, 3, 3, dealt) is None  # its own
    rows = [shown(task, number, 3, dealt) for number in range(3)]
    # each image once, and every sub-network sees as many of each class
    assert sorted(torch.cat(rows).tolist()) == list(range(n))  # type: ignore[arg-type]
    for own in rows:
        assert own is not None
        assert labels[own[own < n_train]].bincount().tolist()[-PER_TASK:] == [4] * PER_TASK
    # more sub-networks than images: each class is seen by all of them
    few = replace(task, train=take(task.train, torch.arange(3)), validation=task.validation)
    for number in range(9):
        own = shown(few, number, 9, dealt)
        assert own is not None
        assert set(few.train.labels[own[own < 3]].tolist()) == set(task.classes)


@pytest.mark.parametrize("name", ["ease", "artsy_ann", "artsy_best", "artsy_snn"])
def test_dealt_passes_grow_with_the_tasks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    whole = BlockAdapters.forward

    def counted(self: BlockAdapters, tokens: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            seen[-1] += len(tokens)
        return whole(self, tokens)

    monkeypatch.setattr(BlockAdapters, "forward", counted)
    tasks, test = stream()
    passes = {}
    for earlier in ("all", "dealt"):
        seen.clear()
        learner = build(name, in_blocks(ann=replace(BLOCKS, earlier=earlier)))  # type: ignore[arg-type]
        for number in range(5):  # the same pictures again, as other classes
            task = tasks[number % N_TASKS]
            classes = tuple(range(PER_TASK * number, PER_TASK * (number + 1)))
            parts = (
                replace(part, labels=part.labels - task.classes[0] + classes[0])
                for part in (task.train, task.validation)
            )
            seen.append(0)
            learner.learn(Task(number, classes, *parts))
        passes[earlier] = seen.copy()
        assert learner.predict(test).scores.isfinite().all()
    n = len(tasks[0].train) + len(tasks[0].validation)
    more = torch.tensor(passes["all"]).diff().tolist()
    assert more[1:] == [n] * 3  # all: a task later means one pass more
    assert len(set(passes["dealt"][2:])) == 1  # dealt: as many in each task


def test_what_is_where_stays_beside_a_sub_network_s_evidence() -> None:
    """The answer by loops, with gates that see parts of the image."""
    tasks, test = stream()
    setting = in_blocks(artsy_best=BestGateConfig(open=2, grid=2))
    learner = build("artsy_best", setting)
    assert isinstance(learner, ArtsyBest)
    for task in tasks:
        learner.learn(task)
    seen = learner._seen(test)
    torch.testing.assert_close(seen[1], test.tokens[:, 1, 1:].flatten(1))
    # both are trusted by halves, and so are sub-networks and gates
    opened = learner.subnetworks
    learner.gates.pools[2] -= 1e6
    opened.pools[2, 3] -= 1e6
    gate, beside = learner.gates.evidence(seen)
    answer = learner.predict(test)
    assert beside is not None and beside.share == 0.5
    (w, heat), trust = opened._pool(), opened.temperature
    with torch.no_grad():
        told = [n.answer(test) + test.features for n in opened.networks]
    assert answer.gates is not None
    for row in range(0, len(test), 3):
        reached, expected = 0.0, []
        for t in range(N_TASKS):
            later = slice(PER_TASK * t, None)
            by_gate = (gate[row] / trust).log_softmax(0)[later]
            split = by_gate.log_softmax(0)
            if answer.gates[row, t]:
                x = seen[0][row] if t == 0 else torch.cat([seen[0][row], told[t][row]])
                weights, offsets = opened.own[t].discriminant()
                own = beside.share * (x.double() @ weights - offsets) + beside.evidence[row, later]
                split = ((w * own + (1 - w) * trust * by_gate) / heat).log_softmax(0)
            expected += [reached + float(value) for value in split[:PER_TASK]]
            reached += float(split[PER_TASK:].logsumexp(0)) if t < N_TASKS - 1 else 0.0
        torch.testing.assert_close(answer.scores[row], torch.tensor(expected), rtol=1e-3, atol=1e-3)
    assert (answer.scores.argmax(1) == test.labels).float().mean() > 0.9
    again = build("artsy_best", setting)
    again.load_state_dict(learner.state_dict())
    torch.testing.assert_close(again.predict(test).scores, answer.scores, rtol=0, atol=0)


def test_parts_that_are_not_there_are_refused_beforehand() -> None:
    with pytest.raises(ConfigError, match=r"artsy_best\.grid: .*2 x 2 patches"):
        build("artsy_best", in_blocks(artsy_best=BestGateConfig(grid=3)))
