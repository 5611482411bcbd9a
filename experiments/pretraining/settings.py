"""What a pre-training run is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snn_artsy.bundled import ARCHITECTURE, DATA_CONFIG

SIZE = DATA_CONFIG["input_size"][-1]
GRID = 8  # the student's patch tokens lie on an 8 x 8 grid; the teacher's are pooled to it
WIDTH = ARCHITECTURE["embed_dim"]
FLIPS = 2  # teacher views of an image: as it is, mirrored
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Settings that may change when a run is continued: they do not alter a step that is already done.
FREE = {"steps", "threads", "out", "cache", "data", "eval_data", "teacher_checkpoint",
        "publish", "provisional", "checkpoint_every", "stop_at"}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Settings of the pre-training run.

    Parameters
    ----------
    data
        Directory of training images, one folder a class.
    teacher_checkpoint
        Weights of the teacher, a file that timm loads.
    out
        Directory for checkpoints, log, figure, weights and model card.
    eval_data
        Directory with train/ and val/, one folder a class; classes in data are left out.
    teacher
        Name of the teacher in timm.
    cache
        Directory of images and teacher features, reused when it fits; default: out/cache.
    publish
        Root of a source tree that is given the weights, the model card and its figure.
    provisional
        Publish the weights at each checkpoint, too, so that others can begin to use them.
    seed
        Seed of weights, order and augmentation.
    threads
        CPU threads.
    steps
        Optimiser steps in all.
    batch
        Images a step.
    lr
        Peak learning rate, of Muon (scaled to AdamW's update size) and AdamW alike.
    warmup
        Steps of linear warm-up.
    decay
        Share of the steps, at the end, over which the learning rate falls linearly to zero.
    weight_decay
        Decoupled weight decay of matrices.
    muon
        Update the matrices of the transformer blocks with Muon instead of AdamW.
    ema
        Decay of the weights' moving average, which is what is evaluated and shipped.
    token_weight
        Weight of the patch-token loss.
    label_weight
        Weight of the cross-entropy on class labels, through a linear layer that is dropped.
    logit_weight
        Weight of the divergence between the teacher's class probabilities and those that its own
        classifier reads from the student's feature.
    shift
        Largest translation of the augmentation, in pixels.
    zoom
        Largest relative change of scale of the augmentation.
    jitter
        Strength of the brightness, contrast and saturation jitter.
    holdout_images
        Images of each class that are kept from training for monitoring.
    holdout_classes
        Classes that are kept from training for monitoring (every n-th), to compare settings.
    checkpoint_every
        Steps between evaluations and checkpoints.
    stop_at
        Stop after the checkpoint of this step; the same command without it continues.
    """

    data: Path
    teacher_checkpoint: Path
    out: Path
    eval_data: Path | None = None
    teacher: str = "deit_tiny_patch16_224"
    cache: Path | None = None
    publish: Path | None = None
    provisional: bool = False
    seed: int = 0
    threads: int = 2
    steps: int = 6000
    batch: int = 128
    lr: float = 2e-3
    warmup: int = 200
    decay: float = 0.4
    weight_decay: float = 0.05
    muon: bool = True
    ema: float = 0.995
    token_weight: float = 1.0
    label_weight: float = 0.0
    logit_weight: float = 0.0
    shift: float = 6.0
    zoom: float = 0.15
    jitter: float = 0.2
    holdout_images: int = 10
    holdout_classes: int = 0
    checkpoint_every: int = 250
    stop_at: int | None = None
