"""Augmented training images of sub-networks in the blocks: torchvision's crops, drawn by seed."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from small_vit import BLOCKS, DIM, small_vit, stream
from test_subnetworks import block_adapters, by_hand, randomised
from test_trunk import INDEX, Counting, Make, files
from test_trunk import backbone as backbone
from test_trunk import make as make
from test_trunk import split as split
from torch import Tensor
from torchvision import transforms

from snn_artsy.backbone import Augmentation
from snn_artsy.config import ANNConfig, DataConfig, RunConfig
from snn_artsy.learners import build
from snn_artsy.learners.subnetworks import HeadAdapter, train
from snn_artsy.learners.tasks import join, take
from snn_artsy.runs.features import prepare


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("flips", [False, True])
def test_it_is_torchvision_s_own_crop(flips: bool) -> None:
    """After the same seed, and the generator of everything else is left as it was."""
    steps: list[Any] = [
        transforms.RandomResizedCrop(
            (16, 16), (0.05, 1.0), (0.75, 4 / 3), transforms.InterpolationMode.BICUBIC
        ),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ]
    if flips:
        steps.insert(1, transforms.RandomHorizontalFlip(0.5))
    plain, ours = transforms.Compose(steps), Augmentation(small_vit(), flips)
    before = torch.random.get_rng_state()
    found = [ours(picture(), draw) for draw in range(12)]
    assert torch.equal(torch.random.get_rng_state(), before)
    for draw, image in enumerate(found):
        torch.manual_seed(draw)
        torch.testing.assert_close(image, plain(picture()), atol=1e-6, rtol=0)
    assert not torch.equal(found[0], found[1])
    assert torch.equal(ours(picture(), 3), found[3])
    torch.random.set_rng_state(before)


def test_crops_alone_never_mirror_and_flips_do_by_half() -> None:
    """Of a picture that gets brighter to the right."""
    slope = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[None, :, None], 30, 0).repeat(3, 2)
    image = Image.fromarray(slope)
    shares = []
    for flips in (False, True):
        ours = Augmentation(small_vit(), flips)
        seen = [ours(image, draw)[0].mean(0) for draw in range(60)]
        shares.append(float(np.mean([bool(row[-1] < row[0]) for row in seen])))
    assert shares[0] == 0.0 and 0.3 < shares[1] < 0.7


def test_the_trunk_is_computed_of_augmented_images_and_nothing_of_it_is_kept(
    make: Make,
    split: Counting,
    backbone: Any,
    tmp_path: Path,
) -> None:
    trunk, crop = make(), Augmentation(backbone, False)
    trunk.features()
    kept, written = trunk.tokens(INDEX), [p.read_bytes() for p in files(tmp_path, ".npy")]
    found = trunk.augmented(INDEX, crop, 7)
    images = torch.stack([crop(split.load(int(i)), 7 + int(i)) for i in INDEX])
    torch.testing.assert_close(found, backbone.rounded(images, 1), atol=1e-2, rtol=1e-3)
    # whatever the others of a batch
    assert torch.equal(trunk.augmented(INDEX[[2, 5]], crop, 7), found[[2, 5]])
    assert not torch.equal(trunk.augmented(INDEX, crop, 8), found)
    assert torch.equal(trunk.tokens(INDEX), kept)
    assert [p.read_bytes() for p in files(tmp_path, ".npy")] == written


def test_training_goes_down_the_gradient_on_augmented_images() -> None:
    """One epoch of one batch by hand; classes' means are those of the images as they are."""
    lr, drawn, task = 0.1, [], stream()[0][1]
    images = task.train.images.flip(3)

    def augmented(draw: int) -> Tensor:
        drawn.append(draw)
        return small_vit().trunk(images, 0)

    data = replace(task.train, load_augmented=augmented)
    config = replace(BLOCKS, epochs=1, batch_size=99, lr=lr, weight_decay=0.0, augmentation="crop")
    network, expected = randomised(block_adapters()), randomised(block_adapters())
    means = torch.stack([data.features[data.labels == c].mean(0) for c in task.classes])
    cosines = F.normalize(by_hand(expected, images), dim=1) @ F.normalize(means, dim=1).T
    F.cross_entropy(10.0 * cosines, data.labels - task.classes[0]).backward()
    train(network, replace(task, train=data), config, torch.Generator().manual_seed(0))
    for after, before in zip(network.parameters(), expected.parameters(), strict=True):
        step = before.detach() - lr * before.grad
        torch.testing.assert_close(after, step, atol=1e-6, rtol=1e-4)
    assert len(drawn) == 1
    # anew in each step, and the same after the same seed
    more = replace(config, epochs=3, batch_size=16)
    for _ in range(2):
        train(block_adapters(), replace(task, train=data), more, torch.Generator().manual_seed(4))
    assert drawn[1:7] == drawn[7:] and len(set(drawn[1:7])) == 6


def test_adapters_on_h0_see_no_images() -> None:
    config = ANNConfig(epochs=1, augmentation="crop")  # refused in a run
    network = HeadAdapter(DIM, config, torch.Generator())
    train(network, stream()[0][0], config, torch.Generator())


def test_parts_of_a_batch_are_augmented_like_the_whole() -> None:
    tokens = torch.arange(4.0)[:, None]
    batch = replace(
        stream()[1],
        **{k: getattr(stream()[1], k)[:4] for k in ("features", "index", "labels")},
        load_augmented=lambda draw: tokens + draw,
    )
    part = take(batch, torch.tensor([2, 0]))
    assert part.augmented(10).flatten().tolist() == [12.0, 10.0]
    assert join([part, part]).augmented(1).flatten().tolist() == [3.0, 1.0, 3.0, 1.0]
    with pytest.raises(ValueError, match="cannot be augmented"):
        stream()[1].augmented(0)


def test_a_run_augments_the_same_after_a_resume(tmp_path: Path) -> None:
    said = io.StringIO()
    config = RunConfig(
        data=DataConfig(train_per_class=3, test_per_class=1, class_range=[0, 4], n_tasks=2),
        backbone=replace(RunConfig().backbone, cache_dir=str(tmp_path)),
        ann=ANNConfig(placement="blocks", blocks=1, bottleneck=2, epochs=2, augmentation="crop"),
        learners=["ease"],
    )
    features = prepare(config, "cpu", Console(file=said, width=500))
    assert "the trunk of 16 images more (2 epochs of 8)" in said.getvalue()
    setting, (first, second) = features.setting(config, "cpu"), [t for t, _ in features.tasks]
    # images that nothing is trained on are as they are
    assert first.validation.load_augmented is None
    assert features.tasks[0][1].load_augmented is None
    plain, resumed = build("ease", setting), build("ease", setting)
    plain.learn(first)
    resumed.restore({k: v.clone() for k, v in plain.checkpoint().items()}, [first])
    for learner in (plain, resumed):
        learner.learn(second)
    for key, value in plain.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    unchanged = replace(config, ann=replace(config.ann, augmentation="none"))
    other = build("ease", features.setting(unchanged, "cpu"))
    other.learn(first)
    assert not torch.equal(other.state_dict()["subnetworks.0.adapters.0.up.weight"],
                           plain.state_dict()["subnetworks.0.adapters.0.up.weight"])  # fmt: skip
