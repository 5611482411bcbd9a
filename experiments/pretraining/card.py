"""Results: the training curve, the numbers, and the model card made of them."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import timm
import torch
from torch import nn

from pretraining.images import Images, Split
from pretraining.measures import evaluate
from pretraining.settings import SIZE, Settings
from snn_artsy.bundled import ARCHITECTURE, DATA_CONFIG, STEM_CHANNELS, WEIGHTS
from snn_artsy.files import file_sha256


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
        "weights_sha256": file_sha256(weights),
        "teacher_checkpoint_sha256": file_sha256(settings.teacher_checkpoint),
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
