"""Losses, batches and the training loop of the student."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers import set_fused_attn
from torch import Tensor, nn

from pretraining.images import Images, Split, load_teacher, prepare
from pretraining.measures import cls_statistics, features, ncm_accuracy
from pretraining.settings import FLIPS, FREE, GRID, SIZE, WIDTH, Settings
from snn_artsy.bundled import WEIGHTS, new_vit
from snn_artsy.files import whole


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


def save_weights(vit: nn.Module, path: Path) -> None:
    """Save the student's state as safetensors."""
    state = {name: value.contiguous() for name, value in vit.state_dict().items()}
    with whole(path) as part:
        save_file(state, part)
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
                with whole(checkpoint_path) as part:
                    torch.save(state, part)
                save_weights(average, settings.out / "weights.safetensors")
                if settings.publish and settings.provisional:
                    save_weights(average, settings.publish / "snn_artsy" / "bundled" / WEIGHTS)
            with log_path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    return average.eval(), before + time.perf_counter() - clock
