"""Images, and what the teacher sees in them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pretraining.settings import GRID, IMAGE_SUFFIXES, SIZE, WIDTH, Settings
from snn_artsy.bundled import DATA_CONFIG
from snn_artsy.files import file_sha256, sha256


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
        "images": sha256([listing.encode()]),
        "count": len(files),
        "views": flips,
        "tokens": tokens,
        "teacher": settings.teacher,
        "teacher_checkpoint": file_sha256(settings.teacher_checkpoint),
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
