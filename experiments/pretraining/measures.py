"""How good a backbone is: variance explained, nearest class means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretraining.images import Images, load_images, load_teacher, prepare, teacher_features
from pretraining.settings import SIZE, Settings
from snn_artsy.bundled import new_vit


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
