"""A small ViT with random weights, and a task stream of noisy pictures for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import (
    ANNConfig,
    BestGateConfig,
    EncodingConfig,
    NeuronConfig,
    PlasticityConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting
from snn_artsy.learners.base import LabelledBatch, Task

DIM, N_TASKS, PER_TASK = 16, 3, 2
BLOCKS = ANNConfig(placement="blocks", bottleneck=4, epochs=3, lr=0.1, batch_size=16)
DATA_CONFIG = {"input_size": (3, 16, 16), "interpolation": "bicubic", "mean": (0.5,) * 3,
               "std": (0.5,) * 3, "crop_pct": 1.0}  # fmt: skip


@cache
def small_vit() -> FrozenBackbone:
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=DIM, depth=3, num_heads=2, num_classes=0,
        init_values=0.5,
    )  # fmt: skip
    return FrozenBackbone(vit, DATA_CONFIG, "small")


@cache
def stream() -> tuple[list[Task], LabelledBatch]:
    """Noisy pictures of six patterns; h_0 is the small ViT's."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(N_TASKS * PER_TASK, 3, 16, 16, generator=generator)

    def batch(classes: range, per_class: int, split: Any) -> LabelledBatch:
        labels = torch.tensor(list(classes)).repeat(per_class)
        images = patterns[labels] + 0.5 * torch.randn(len(labels), 3, 16, 16, generator=generator)
        index = torch.arange(len(labels))
        return LabelledBatch(
            small_vit()(images), index, split, labels=labels,
            load_images=lambda: images, load_tokens=lambda: small_vit().trunk(images, 0),
        )  # fmt: skip

    tasks = []
    for t in range(N_TASKS):
        classes = range(PER_TASK * t, PER_TASK * (t + 1))
        parts = batch(classes, 12, "train"), batch(classes, 4, "validation")
        tasks.append(Task(t, tuple(classes), *parts))
    return tasks, batch(range(N_TASKS * PER_TASK), 5, "test")


QUICK_SNN = SNNConfig(
    mode="gate",
    encoding=EncodingConfig(preset="fast"),
    neuron=NeuronConfig(per_class=2),
    plasticity=PlasticityConfig(batch_size=8, epochs=2, a_plus=0.1),
)


def in_blocks(snn: SNNConfig = QUICK_SNN, observer: Any = None, **values: Any) -> Setting:
    """What learners are built from, with adapters in the blocks and two of three gates open."""
    two = {"artsy_best": BestGateConfig(open=2)}
    config = RunConfig(**{"ann": BLOCKS, "snn": snn, "seed": 5} | two | values)
    return Setting(config, DIM, "cpu", observer, small_vit())
