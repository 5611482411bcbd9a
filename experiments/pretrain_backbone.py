"""Train the bundled backbone: a small vision transformer distilled from DeiT-Tiny.

One command extracts the teacher's features once, trains the student from random weights, and
writes the weights, the log, the training curve, and a model card whose numbers it has measured::

    python experiments/pretrain_backbone.py --data IMAGES --eval_data UNSEEN \
        --teacher_checkpoint deit_tiny_patch16_224.safetensors --out runs/backbone

``--data`` holds one folder of images a class; ``--eval_data`` holds ``train/`` and ``val/`` with
such folders, and classes that also occur in ``--data`` are left out of the evaluation.

The student's CLS feature regresses the teacher's, standardised per dimension, and its patch tokens
the teacher's, pooled to the same grid. The same command continues an interrupted run from its last
checkpoint. The learning rate is constant after a warm-up and falls linearly over the last part of
the run, so a run continued with fewer ``--steps`` before that fall is the run that was started
with that number.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import timm
import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from PIL import Image
from safetensors.torch import save_file
from timm.layers import set_fused_attn
from torch import Tensor, nn

from snn_artsy.bundled import ARCHITECTURE, DATA_CONFIG, STEM_CHANNELS, WEIGHTS, new_vit

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


# ------------------------------------------------------------------------------- data and teacher


@dataclass
class Images:
    """Images in memory with the teacher's features.

    Attributes
    ----------
    pixels : ndarray
        uint8 [N, 64, 64, 3].
    labels : ndarray
        int64 [N], index into `classes`.
    classes : list of str
        Folder names.
    cls : ndarray
        The teacher's CLS features, float16 [N, view, 192].
    tokens : ndarray or None
        The teacher's patch tokens pooled to the student's grid, float16 [N, view, 64, 192].
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: list[str]
    cls: np.ndarray
    tokens: np.ndarray | None = None


def class_folders(root: Path, leave_out: frozenset[str] = frozenset()) -> list[Path]:
    """Return the class folders of `root` in order of name."""
    if not root.is_dir():
        raise SystemExit(f"{root}: no such directory; give one that holds a folder a class")
    found = sorted(p for p in root.iterdir() if p.is_dir() and p.name not in leave_out)
    if not found:
        raise SystemExit(f"{root}: holds no class folders (or none but those left out)")
    return found


def image_files(folders: list[Path]) -> list[tuple[Path, int]]:
    """Return (file, label) of all images, in order of class and file name."""
    return [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]


def read_pixels(files: list[tuple[Path, int]]) -> np.ndarray:
    """Read images as uint8 RGB [N, 64, 64, 3]."""
    return np.stack([
        np.asarray(Image.open(file).convert("RGB").resize((SIZE, SIZE))) for file, _ in files
    ])  # fmt: skip


def prepare(pixels: Tensor) -> Tensor:
    """Turn uint8 images [B, H, W, 3] into normalised float images [B, 3, H, W]."""
    mean = torch.tensor(DATA_CONFIG["mean"]).view(3, 1, 1)
    std = torch.tensor(DATA_CONFIG["std"]).view(3, 1, 1)
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def load_teacher(settings: Settings) -> nn.Module:
    """Load the frozen teacher from its checkpoint."""
    overlay = {"file": str(settings.teacher_checkpoint)}
    teacher = timm.create_model(settings.teacher, pretrained=True, pretrained_cfg_overlay=overlay)
    return teacher.eval().requires_grad_(False)


@torch.inference_mode()
def teacher_features(teacher: nn.Module, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return CLS features [B, 192] and pooled patch tokens [B, 64, 192] of uint8 images."""
    size = teacher.pretrained_cfg["input_size"][-1]
    # Resized before normalising, so that the overshoot of bicubic interpolation can be clipped.
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    mean = torch.tensor(DATA_CONFIG["mean"]).view(3, 1, 1)
    std = torch.tensor(DATA_CONFIG["std"]).view(3, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        out = teacher.forward_features((x - mean) / std).float()
    patches = out[:, teacher.num_prefix_tokens :].transpose(1, 2)
    side = math.isqrt(patches.shape[-1])
    pooled = F.adaptive_avg_pool2d(patches.unflatten(-1, (side, side)), (GRID, GRID))
    return out[:, 0], pooled.flatten(2).transpose(1, 2)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_images(
    settings: Settings,
    name: str,
    root: Path,
    *,
    tokens: bool = False,
    flips: int = 1,
    leave_out: frozenset[str] = frozenset(),
) -> Images:
    """Read a directory of images and the teacher's features of them, through the cache.

    Parameters
    ----------
    settings
        Gives the teacher and the cache directory.
    name
        Prefix of the cache files.
    root
        Directory with a folder a class.
    tokens
        Whether patch tokens are wanted.
    flips
        1 for the images as they are, 2 for their mirror images too.
    leave_out
        Folders not to read.

    Returns
    -------
    Images
        Arrays are mapped from the cache files, not read at once.
    """
    cache = settings.cache or settings.out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    folders = class_folders(root, leave_out)
    files = image_files(folders)
    listing = "\n".join(f"{file.parent.name}/{file.name}" for file, _ in files)
    identity = {
        "images": hashlib.sha256(listing.encode()).hexdigest(),
        "count": len(files),
        "views": flips,
        "tokens": tokens,
        "teacher": settings.teacher,
        "teacher_checkpoint": sha256(settings.teacher_checkpoint),
    }
    paths = {key: cache / f"{name}_{key}.npy" for key in ("images", "labels", "cls", "tok")}
    record = cache / f"{name}.json"
    # The record is written last, so a cache that was interrupted is never taken for a whole one.
    if not record.exists() or json.loads(record.read_text()) != identity:
        print(f"extracting teacher features of {len(files)} images from {root}", flush=True)
        pixels = read_pixels(files)
        np.save(paths["images"], pixels)
        np.save(paths["labels"], np.array([label for _, label in files]))
        shape = (len(files), flips)
        cls = np.zeros((*shape, WIDTH), np.float16)
        tok = None
        if tokens:
            tok = np.lib.format.open_memmap(
                paths["tok"], "w+", np.float16, (*shape, GRID * GRID, WIDTH)
            )
        teacher = load_teacher(settings)
        for start in range(0, len(files), 100):
            part = slice(start, start + 100)
            for flip in range(flips):
                view = pixels[part, :, ::-1].copy() if flip else pixels[part]
                features, patches = teacher_features(teacher, view)
                cls[part, flip] = features.numpy()
                if tok is not None:
                    tok[part, flip] = patches.numpy()
            if start % 5000 == 0:
                print(f"  {start} images", flush=True)
        np.save(paths["cls"], cls)
        if tok is not None:
            tok.flush()
        record.write_text(json.dumps(identity, indent=1) + "\n")
    return Images(
        pixels=np.load(paths["images"], mmap_mode="r"),
        labels=np.load(paths["labels"]),
        classes=[folder.name for folder in folders],
        cls=np.load(paths["cls"], mmap_mode="r"),
        tokens=np.load(paths["tok"], mmap_mode="r") if tokens else None,
    )


@dataclass(frozen=True)
class Split:
    """Indices of the training directory: training, held-out images, held-out classes."""

    train: np.ndarray
    images: np.ndarray
    classes: np.ndarray


def split(labels: np.ndarray, settings: Settings) -> Split:
    """Keep some classes whole, and the last images of every other class, from training."""
    count = int(labels.max()) + 1
    kept = np.arange(0)
    if settings.holdout_classes:
        kept = np.arange(count)[:: count // settings.holdout_classes][: settings.holdout_classes]
    of_kept = np.isin(labels, kept)
    last = np.zeros(len(labels), bool)
    if settings.holdout_images:
        for label in range(count):
            last[np.flatnonzero(labels == label)[-settings.holdout_images :]] = True
    return Split(
        train=np.flatnonzero(~of_kept & ~last),
        images=np.flatnonzero(~of_kept & last),
        classes=np.flatnonzero(of_kept),
    )


# ------------------------------------------------------------------------------------ measurement


@torch.inference_mode()
def features(vit: nn.Module, pixels: np.ndarray) -> Tensor:
    """Return the features of uint8 images [N, 64, 64, 3], in float32 as users compute them."""
    training = vit.training
    vit.eval()
    out = [
        vit(prepare(torch.from_numpy(np.array(pixels[start : start + 250]))))
        for start in range(0, len(pixels), 250)
    ]
    vit.train(training)
    return torch.cat(out)


def ncm_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy of the nearest class mean by cosine; class means are of unnormalised features."""
    classes = train_labels.unique()
    means = torch.stack([train[train_labels == label].mean(0) for label in classes])
    scores = F.normalize(test, dim=1) @ F.normalize(means, dim=1).T
    return (classes[scores.argmax(1)] == test_labels).double().mean().item()


def cls_statistics(cls: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the teacher's CLS features, per dimension."""
    x = torch.from_numpy(np.array(cls, np.float32)).flatten(0, -2)
    return x.mean(0), x.std(0)


def monitor(vit: nn.Module, data: Images, parts: Split, heads: Heads) -> dict[str, float]:
    """Measure on held-out parts of the training directory, the only data settings are chosen on.

    Returns
    -------
    dict
        `r2`: share of the variance of the teacher's standardised CLS features that the student
        predicts; `ncm_images`: nearest class mean, class means of 20 training images a class;
        `ncm_classes`: the same on held-out classes, half of their images for the means.
    """
    out: dict[str, float] = {}
    labels = torch.from_numpy(data.labels)
    if len(parts.images):
        count = len(data.classes)
        # Training images lie in order of class, so a stride draws from all classes alike.
        few = parts.train[:: max(1, len(parts.train) // (20 * count))]
        x = features(vit, data.pixels[parts.images])
        target = torch.from_numpy(data.cls[parts.images, 0].astype(np.float32))
        out["r2"] = 1 - F.mse_loss(x, (target - heads.cls_mean) / heads.cls_std).item()
        means = features(vit, data.pixels[few])
        out["ncm_images"] = ncm_accuracy(means, labels[few], x, labels[parts.images])
    if len(parts.classes):
        x = features(vit, data.pixels[parts.classes[::5]])
        y = labels[parts.classes[::5]]
        out["ncm_classes"] = ncm_accuracy(x[::2], y[::2], x[1::2], y[1::2])
    return out


def digits_accuracy(extract: Callable[[np.ndarray], Tensor]) -> float:
    """Nearest class mean on scikit-learn's digits at 64 px: every other image makes the means."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.from_numpy(digits.images).float()[:, None] / 16
    x = F.interpolate(x, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1) * 255
    pixels = x.round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    y = torch.from_numpy(digits.target)
    f = extract(pixels)
    return ncm_accuracy(f[::2], y[::2], f[1::2], y[1::2])


# --------------------------------------------------------------------------------------- training


class Heads(nn.Module):
    """What turns student outputs into losses; none of it is shipped.

    The CLS feature itself regresses the standardised teacher feature, with no layer between, so
    that distances between shipped features are those that were trained.
    """

    cls_mean: Tensor
    cls_std: Tensor
    token_mean: Tensor
    token_std: Tensor

    def __init__(self, data: Images, parts: Split, teacher: nn.Module | None) -> None:
        super().__init__()
        mean, std = cls_statistics(data.cls[parts.train])
        self.register_buffer("cls_mean", mean)
        self.register_buffer("cls_std", std)
        assert data.tokens is not None
        token_mean, token_std = cls_statistics(data.tokens[parts.train[::50]])
        self.register_buffer("token_mean", token_mean)
        self.register_buffer("token_std", token_std)
        self.tokens = nn.Linear(WIDTH, WIDTH)
        self.labels = nn.Linear(WIDTH, len(data.classes))
        self.classifier = None
        if teacher is not None:
            self.classifier = teacher.get_classifier().requires_grad_(False)

    def standardised_cls(self, cls: Tensor) -> Tensor:
        """Standardise teacher CLS features per dimension."""
        return (cls - self.cls_mean) / self.cls_std

    def losses(self, out: Tensor, batch: Batch, settings: Settings) -> dict[str, Tensor]:
        """Return the weighted losses of student tokens [B, 65, 192]."""
        out = out.float()
        cls, patches = out[:, 0], out[:, 1:]
        target = self.standardised_cls(batch.cls)
        found = {"cls": F.mse_loss(cls, target)}
        if settings.token_weight:
            goal = (batch.tokens - self.token_mean) / self.token_std
            found["token"] = settings.token_weight * F.mse_loss(self.tokens(patches), goal)
        if settings.label_weight:
            found["label"] = settings.label_weight * F.cross_entropy(
                self.labels(cls), batch.labels, label_smoothing=0.1
            )
        if settings.logit_weight and self.classifier is not None:
            with torch.no_grad():
                goal = self.classifier(batch.cls).softmax(-1)
            log_p = self.classifier(cls * self.cls_std + self.cls_mean).log_softmax(-1)
            found["logit"] = settings.logit_weight * F.kl_div(log_p, goal, reduction="batchmean")
        return found


@dataclass
class Batch:
    """Augmented images [B, 3, 64, 64] and the targets that belong to them."""

    images: Tensor
    labels: Tensor
    cls: Tensor
    tokens: Tensor


def make_batch(data: Images, parts: Split, step: int, settings: Settings) -> Batch:
    """Draw and augment the batch of one step.

    Order and augmentation depend on seed and step alone, so a continued run needs no generator
    state. Image and teacher tokens go through the same shift and zoom, and so stay aligned.
    """
    per_epoch = len(parts.train) // settings.batch
    epoch, at = divmod(step, per_epoch)
    order = np.random.default_rng((settings.seed, 0, epoch)).permutation(parts.train)
    index = np.sort(order[at * settings.batch : (at + 1) * settings.batch])
    rng = np.random.default_rng((settings.seed, 1, step))
    n = len(index)
    flip = rng.integers(0, FLIPS, n)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, *shape)).astype(np.float32))

    images = prepare(torch.from_numpy(data.pixels[index]))
    mirrored = torch.from_numpy(flip == 1)
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    tokens = torch.from_numpy(data.tokens[index, flip]).float()

    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 - uniform(-settings.zoom, settings.zoom)
    theta[:, :, 2] = uniform(-1, 1, 2) * (2 * settings.shift / SIZE)
    grid = F.affine_grid(theta, [n, 3, SIZE, SIZE], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    grid = F.affine_grid(theta, [n, WIDTH, GRID, GRID], align_corners=False)
    maps = tokens.transpose(1, 2).unflatten(-1, (GRID, GRID))
    maps = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    tokens = maps.flatten(2).transpose(1, 2)

    s = settings.jitter
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(1 - 2 * s, 1 + s, 1, 1, 1)  # saturation
    images = images * uniform(1 - s, 1 + s, 1, 1, 1) + uniform(-s, s, 1, 1, 1)
    return Batch(
        images=images,
        labels=torch.from_numpy(data.labels[index]),
        cls=torch.from_numpy(data.cls[index, flip]).float(),
        tokens=tokens,
    )


def lr_factor(step: int, settings: Settings) -> float:
    """Share of the peak learning rate: linear warm-up, constant, linear fall to zero."""
    fall = max(1, round(settings.decay * settings.steps))
    return min(1.0, (step + 1) / settings.warmup, (settings.steps - step) / fall)


def optimisers(vit: nn.Module, heads: Heads, settings: Settings) -> list[torch.optim.Optimizer]:
    """AdamW, with Muon for the matrices of the transformer blocks if asked for."""
    hidden, decayed, plain = [], [], []
    for name, p in [*vit.named_parameters(), *heads.named_parameters()]:
        if not p.requires_grad:
            continue
        if settings.muon and name.startswith("blocks.") and p.ndim == 2:
            hidden.append(p)
        elif p.ndim >= 2 and not name.endswith(("pos_embed", "cls_token")):
            decayed.append(p)
        else:
            plain.append(p)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), foreach=True)
    ]
    if hidden:
        found.append(
            torch.optim.Muon(
                hidden,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return found


@torch.no_grad()
def update_average(average: nn.Module, vit: nn.Module, decay: float) -> None:
    """Move the average one step towards the weights; statistics of the stem are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(vit.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), vit.buffers(), strict=True):
        mine.copy_(theirs)


def save_atomically(write: Any, path: Path) -> None:
    """Write a file under a temporary name, then rename it, so that a crash leaves no half file."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def save_weights(vit: nn.Module, path: Path) -> None:
    """Save the student's state as safetensors."""
    state = {name: value.contiguous() for name, value in vit.state_dict().items()}
    save_atomically(lambda part: save_file(state, part), path)
    path.chmod(0o644)  # safetensors creates files that only their owner may read


def comparable(settings: Settings) -> dict[str, Any]:
    """Settings that a continued run must share with its checkpoint."""
    return {key: value for key, value in asdict(settings).items() if key not in FREE}


def train(settings: Settings, data: Images, parts: Split) -> tuple[nn.Module, float]:
    """Train the student, or continue from the last checkpoint.

    Returns
    -------
    vit
        The averaged student.
    seconds
        Wall-clock time of all its steps.
    """
    # On the CPU the backward pass of fused attention took a third of a step for 65 tokens.
    set_fused_attn(False)
    torch.manual_seed(settings.seed)
    vit, average = new_vit(), new_vit().requires_grad_(False)
    average.load_state_dict(vit.state_dict())
    heads = Heads(data, parts, load_teacher(settings) if settings.logit_weight else None)
    optims = optimisers(vit, heads, settings)
    log_path, checkpoint_path = settings.out / "log.jsonl", settings.out / "checkpoint.pt"
    start, before = 0, 0.0
    if checkpoint_path.exists():
        saved = torch.load(checkpoint_path, weights_only=True)
        if saved["settings"] != comparable(settings):
            raise SystemExit(f"{checkpoint_path}: made with other settings; choose another --out")
        start, before = saved["step"], saved["seconds"]
        vit.load_state_dict(saved["vit"])
        average.load_state_dict(saved["average"])
        heads.load_state_dict(saved["heads"])
        for optim, state in zip(optims, saved["optimisers"], strict=True):
            optim.load_state_dict(state)
        lines = [json.loads(line) for line in log_path.read_text().splitlines()]
        kept = [line for line in lines if line["step"] <= start]
        log_path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    else:
        log_path.unlink(missing_ok=True)

    clock = time.perf_counter()
    running: dict[str, float] = {}
    end = min(settings.steps, settings.stop_at or settings.steps)
    for step in range(start + 1, end + 1):
        batch = make_batch(data, parts, step - 1, settings)
        factor = lr_factor(step - 1, settings)
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = settings.lr * factor
        vit.train()
        with torch.autocast("cpu", torch.bfloat16):
            out = vit.forward_features(batch.images)
        losses = heads.losses(out, batch, settings)
        torch.stack(list(losses.values())).sum().backward()
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        # The average must not remember the random start, so its memory grows with the run.
        update_average(average, vit, min(settings.ema, step / (step + 10)))
        for name, value in losses.items():
            running[name] = running.get(name, 0.0) + value.item()

        if step % 50 == 0 or step == end:
            line: dict[str, float] = {
                "step": step,
                "seconds": round(before + time.perf_counter() - clock, 1),
                "lr": settings.lr * factor,
                "planned": settings.steps,
                "threads": settings.threads,
            }
            line |= {f"loss_{k}": round(v / ((step - 1) % 50 + 1), 5) for k, v in running.items()}
            running = {}
            if step % settings.checkpoint_every == 0 or step == end:
                line |= {k: round(v, 4) for k, v in monitor(average, data, parts, heads).items()}
                state = {
                    "settings": comparable(settings),
                    "step": step,
                    "seconds": before + time.perf_counter() - clock,
                    "vit": vit.state_dict(),
                    "average": average.state_dict(),
                    "heads": heads.state_dict(),
                    "optimisers": [optim.state_dict() for optim in optims],
                }
                save_atomically(lambda part, s=state: torch.save(s, part), checkpoint_path)
                save_weights(average, settings.out / "weights.safetensors")
                if settings.publish and settings.provisional:
                    save_weights(average, settings.publish / "snn_artsy" / "bundled" / WEIGHTS)
            with log_path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    return average.eval(), before + time.perf_counter() - clock


# ---------------------------------------------------------------------------------------- results


def evaluate(settings: Settings, data: Images, vit: nn.Module) -> dict[str, Any]:
    """Measure the trained student, an untrained one, and the teacher on classes kept out.

    Nothing measured here has any influence on training.

    Returns
    -------
    dict
        Accuracies of the nearest class mean by cosine, and the sizes of the sets.
    """
    torch.manual_seed(settings.seed)
    untrained = new_vit().eval()
    out: dict[str, Any] = {}
    if settings.eval_data is not None:
        seen = frozenset(data.classes)
        parts = [
            load_images(settings, f"eval_{name}", settings.eval_data / name, leave_out=seen)
            for name in ("train", "val")
        ]
        if parts[0].classes != parts[1].classes:
            raise SystemExit(f"{settings.eval_data}: train/ and val/ hold different classes")
        y = [torch.from_numpy(part.labels) for part in parts]

        def accuracy(x: list[Tensor]) -> float:
            return ncm_accuracy(x[0], y[0], x[1], y[1])

        out["unseen"] = {
            "classes": len(parts[0].classes),
            "train_images": len(y[0]),
            "test_images": len(y[1]),
            "chance": 1 / len(parts[0].classes),
            "bundled": accuracy([features(vit, part.pixels) for part in parts]),
            "random": accuracy([features(untrained, part.pixels) for part in parts]),
            "teacher": accuracy(
                [torch.from_numpy(np.array(part.cls[:, 0], np.float32)) for part in parts]
            ),
        }
    teacher = load_teacher(settings)
    sets = {"bundled": lambda x: features(vit, x), "random": lambda x: features(untrained, x)}
    sets["teacher"] = lambda x: torch.cat(
        [teacher_features(teacher, x[i : i + 100])[0] for i in range(0, len(x), 100)]
    )
    out["digits"] = {name: digits_accuracy(function) for name, function in sets.items()}
    return out


def curve(lines: list[dict[str, float]], batch: int) -> Any:
    """Draw the training curve: losses on the left, held-out measures on the right.

    Parameters
    ----------
    lines
        The records of the log.
    batch
        Images a step.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    names = {"loss_cls": "CLS feature", "loss_token": "patch tokens", "loss_label": "labels",
             "loss_logit": "teacher's class probabilities"}  # fmt: skip
    held = {"r2": "variance of the teacher's\nCLS feature explained",
            "ncm_images": "nearest class mean,\nheld-out images",
            "ncm_classes": "nearest class mean,\nheld-out classes"}  # fmt: skip
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, labels in ((left, names), (right, held)):
        for key, label in labels.items():
            points = [(line["step"] * batch / 1000, line[key]) for line in lines if key in line]
            if points:
                axes.plot(*zip(*points, strict=True), label=label)
        axes.set_xlabel("training images shown (thousands)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    left.set_ylabel("weighted training loss")
    right.set_ylabel("held-out images")
    right.set_ylim(0, 1)
    return figure


def processor() -> str:
    """Name the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commands(settings: Settings, run: list[dict[str, int]]) -> list[str]:
    """Return the commands that give this run, with paths cut to their last component."""
    default = {field.name: field.default for field in fields(Settings)}
    common = []
    for key, value in asdict(settings).items():
        # Where results and caches went is no part of what was computed.
        if key in {"cache", "publish", "provisional", "steps", "stop_at", "threads"}:
            continue
        if isinstance(value, Path):
            value = value.name
        elif value == default[key] and key != "seed":
            continue
        common.append(f"--{key} {str(value).lower() if isinstance(value, bool) else value}")
    found = []
    for at, part in enumerate(run):
        words = [*common, f"--threads {part['threads']}", f"--steps {part['steps']}"]
        if at < len(run) - 1:
            words.append(f"--stop_at {part['last']}")
        found.append(" \\\n    ".join(["python experiments/pretrain_backbone.py", *words]))
    return found


def sessions(lines: list[dict[str, float]]) -> list[dict[str, int]]:
    """Split the log where the run was continued with other `steps` or `threads`.

    Returns
    -------
    list of dict
        `last`: last step of the part; `steps`: the number planned; `threads`.
    """
    found: list[dict[str, int]] = []
    for line in lines:
        setup = {"steps": int(line["planned"]), "threads": int(line["threads"])}
        if found and {key: found[-1][key] for key in setup} == setup:
            found[-1]["last"] = int(line["step"])
        else:
            found.append({"last": int(line["step"]), **setup})
    return found


def measured(
    settings: Settings, data: Images, parts: Split, vit: nn.Module, seconds: float
) -> dict[str, Any]:
    """Collect the numbers of the model card."""
    weights = settings.out / "weights.safetensors"
    lines = [json.loads(line) for line in (settings.out / "log.jsonl").read_text().splitlines()]
    last, parts_run = lines[-1], sessions(lines)
    return {
        "commands": commands(settings, parts_run),
        "sessions": parts_run,
        "settings": {k: v for k, v in asdict(settings).items() if not isinstance(v, Path | None)},
        "parameters": sum(p.numel() for p in vit.parameters()),
        "weights_bytes": weights.stat().st_size,
        "weights_sha256": sha256(weights),
        "teacher_checkpoint_sha256": sha256(settings.teacher_checkpoint),
        "training": {
            "classes": len(data.classes) - settings.holdout_classes,
            "images": len(parts.train),
            "held_out_images": len(parts.images) + len(parts.classes),
            "images_shown": settings.steps * settings.batch,
            "epochs": settings.steps * settings.batch / len(parts.train),
            "seconds": seconds,
        },
        "held_out": {k: last[k] for k in ("r2", "ncm_images", "ncm_classes") if k in last},
        "hardware": processor(),
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
        **evaluate(settings, data, vit),
    }


CARD = """\
# Model card: the bundled backbone

<!-- Written by experiments/pretrain_backbone.py from model_card_numbers.json; edit CARD there. -->

`snn_artsy.bundled.bundled_vit()` loads a small vision transformer that ships with the package, so \
that the default run and the tests need no download. It is meant for small, quick, reproducible \
runs on a CPU and as a stand-in for a real backbone; any timm model replaces it by name.

## Model

timm `VisionTransformer`, input {size} px, {stem} to 8 x 8 patch tokens, width {embed_dim}, depth \
{depth}, {num_heads} heads, CLS feature, no classifier: {parameters:.2f} M parameters, \
{megabytes:.1f} MB as float32 safetensors (SHA-256 `{weights_sha256}`). Images are resized to \
{size} px ({interpolation}) and normalised with the ImageNet mean and standard deviation \
(`snn_artsy.bundled.DATA_CONFIG`).

## Training

- **From random weights.** No parameter is copied from the teacher.
- **Teacher**: DeiT-Tiny (timm `{teacher}`, Apache-2.0; Touvron et al. 2021, arXiv 2012.12877), \
trained on ImageNet-1k with labels; images enlarged to 224 px. Its weights are not part of this \
package; those used here had their LayerNorm values rounded to 1/64 \
(SHA-256 `{teacher_sha256}`).
- **Data**: the first {classes} Tiny-ImageNet classes in wnid order, 500 images a class of 64 px; \
{images} images were trained on, {held_out} kept out for monitoring. **No data set repository that \
we found states a licence; ImageNet images are for research use. The images are not part of this \
package.** The weights are ours, under the licence of the package.
- **Loss**: {loss}
- **Augmentation**: mirroring (with the teacher's features of the mirrored image), shift up to \
{shift:g} px and zoom up to {zoom:.0%}, applied to the teacher's token maps too, and light \
brightness, contrast and saturation jitter.
- **Optimiser**: {optimiser}, peak learning rate {lr:g}, weight decay {weight_decay:g}, batch \
{batch}, {steps} steps ({epochs:.1f} epochs, {shown:.2f} million images shown), {warmup} steps of \
linear warm-up, linear fall to zero over the last {decay:.0%}; bfloat16 autocast; the weights are \
a moving average (decay {ema:g}). Seed {seed}, one run{continued}.
- **Hardware**: {hardware}, CPU only and shared with other work, {run_threads}; {minutes:.0f} \
minutes of wall-clock time, plus the extraction of the teacher's features; {versions}.

![Training curve](figures/pretrain_curve.svg)

Held-out images of the training classes, at the end: {held_text}.

No search over settings was made: they were set before the run. Nothing was chosen on the unseen \
classes below.

## How good it is

Nearest class mean by cosine on frozen features, no further training:

| features | {unseen_classes} classes kept out of training | scikit-learn digits |
|---|---|---|
| **bundled backbone** | **{unseen_bundled:.1%}** | {digits_bundled:.1%} |
| the same network, random weights | {unseen_random:.1%} | {digits_random:.1%} |
| its teacher, DeiT-Tiny | {unseen_teacher:.1%} | {digits_teacher:.1%} |
| chance | {unseen_chance:.1%} | 10.0% |

The classes kept out are Tiny-ImageNet classes 100 to 199 in wnid order: {unseen_train} images \
make the class means, {unseen_test} others are classified. Above chance the student keeps \
{share:.0%} of its teacher's accuracy. Digits are enlarged from 8 to {size} px; every other image \
makes the class means.

## Limits

- **The unseen classes are ImageNet classes, which the teacher has seen**, with labels, in its own \
training. The student has seen none of their images, but what it learned to imitate was shaped by \
them. Call results on them near-domain, not new-domain.
- One seed, one run; the difference that another seed makes was not measured.
- It is a weak backbone. It is no substitute for a ViT pre-trained on ImageNet in claims about \
class-incremental accuracy; use a timm model for those.
- ImageNet's biases, and the teacher's, pass to the student. Not for use on people.

## Reproduce it

```
{commands}
```

`--data` holds a folder a class (the first 100 classes), `--eval_data` holds `train/` and `val/` \
(classes also in `--data` are left out). The teacher's features are extracted first and cached. \
Bit-identical results need the same versions, thread count and kind of processor. All numbers \
here are in `docs/model_card_numbers.json`.
"""


def model_card(numbers: Mapping[str, Any]) -> str:
    """Render the model card from its numbers."""
    s, t = numbers["settings"], numbers["training"]
    held = {
        "r2": "{:.0%} of the variance of the teacher's CLS feature explained",
        "ncm_images": "nearest class mean {:.1%}",
        "ncm_classes": "nearest class mean on held-out classes {:.1%}",
    }
    loss = ["mean squared error of the CLS feature against the teacher's, standardised per "
            "dimension, with no layer between"]  # fmt: skip
    if s["token_weight"]:
        loss.append("the same for the patch tokens, pooled to 8 x 8, through a linear layer that "
                    f"is dropped (weight {s['token_weight']:g})")  # fmt: skip
    if s["label_weight"]:
        loss.append("cross-entropy on the training classes' labels through a linear layer that "
                    f"is dropped (weight {s['label_weight']:g}, label smoothing 0.1)")  # fmt: skip
    if s["logit_weight"]:
        loss.append("Kullback-Leibler divergence of the class probabilities that the teacher's own "
                    "frozen classifier (1000 ImageNet classes) reads from teacher and student "
                    f"(weight {s['logit_weight']:g})")  # fmt: skip
    muon = "Muon for the matrices of the blocks (update matched to AdamW's), AdamW for the rest"
    return CARD.format(
        **{k: ARCHITECTURE[k] for k in ("embed_dim", "depth", "num_heads")},
        **{k: v for k, v in s.items() if f"{{{k}" in CARD},
        size=SIZE,
        stem=f"{len(STEM_CHANNELS)} stride-2 convolutions" if STEM_CHANNELS else "one convolution",
        interpolation=DATA_CONFIG["interpolation"],
        parameters=numbers["parameters"] / 1e6,
        megabytes=numbers["weights_bytes"] / 1e6,
        weights_sha256=numbers["weights_sha256"],
        teacher_sha256=numbers["teacher_checkpoint_sha256"],
        classes=t["classes"],
        images=t["images"],
        held_out=t["held_out_images"],
        epochs=t["epochs"],
        shown=t["images_shown"] / 1e6,
        minutes=t["seconds"] / 60,
        loss="; ".join(loss) + ".",
        optimiser=muon if s["muon"] else "AdamW",
        hardware=numbers["hardware"],
        versions=", ".join(f"{k} {v}" for k, v in numbers["versions"].items()),
        held_text=", ".join(held[k].format(v) for k, v in numbers["held_out"].items()),
        unseen_classes=numbers["unseen"]["classes"],
        unseen_train=numbers["unseen"]["train_images"],
        unseen_test=numbers["unseen"]["test_images"],
        share=(numbers["unseen"]["bundled"] - numbers["unseen"]["chance"])
        / (numbers["unseen"]["teacher"] - numbers["unseen"]["chance"]),
        **{f"unseen_{k}": numbers["unseen"][k] for k in ("bundled", "random", "teacher", "chance")},
        **{f"digits_{k}": v for k, v in numbers["digits"].items()},
        commands="\n".join(numbers["commands"]),
        run_threads=", then ".join(
            f"{part['threads']} thread{'s' * (part['threads'] > 1)}" for part in numbers["sessions"]
        ),
        continued="".join(
            f"; it was stopped at step {before['last']} and continued with --steps "
            f"{after['steps']} instead of {before['steps']}, so its learning rate falls "
            "abruptly there"
            for before, after in pairwise(numbers["sessions"])
            if before["steps"] != after["steps"]
        ),
    )


def write_results(settings: Settings, numbers: dict[str, Any]) -> None:
    """Write numbers, figure and model card to the output directory, and publish them if asked."""
    out = settings.out
    (out / "model_card_numbers.json").write_text(json.dumps(numbers, indent=2) + "\n")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    # A fixed salt and no date, so that the same run gives the same file.
    with matplotlib.rc_context({"svg.hashsalt": "snn-artsy"}):
        figure = curve(lines, settings.batch)
        figure.savefig(out / "pretrain_curve.svg", metadata={"Date": None})
    if "unseen" in numbers:
        (out / "model_card.md").write_text(model_card(numbers))
    if settings.publish is not None:
        targets = {
            "weights.safetensors": Path("snn_artsy") / "bundled" / WEIGHTS,
            "model_card_numbers.json": Path("docs") / "model_card_numbers.json",
            "model_card.md": Path("docs") / "model_card.md",
            "pretrain_curve.svg": Path("docs") / "figures" / "pretrain_curve.svg",
        }
        for source, target in targets.items():
            if (out / source).exists():
                (settings.publish / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(out / source, settings.publish / target)


def main() -> None:
    """Run the command line."""
    settings: Settings = auto_cli(Settings, as_positional=False)
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    data = load_images(settings, "train", settings.data, tokens=True, flips=FLIPS)
    parts = split(data.labels, settings)
    vit, seconds = train(settings, data, parts)
    if settings.stop_at is not None and settings.stop_at < settings.steps:
        return
    numbers = measured(settings, data, parts, vit, seconds)
    write_results(settings, numbers)
    print(json.dumps({key: numbers[key] for key in ("unseen", "digits") if key in numbers}))


if __name__ == "__main__":
    main()
