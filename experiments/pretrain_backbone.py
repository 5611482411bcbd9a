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

import json
import sys

import torch

from pretraining.card import measured, write_results
from pretraining.images import load_images, split
from pretraining.settings import FLIPS, Settings
from pretraining.student import train
from snn_artsy.checks import ConfigError
from snn_artsy.config_builder import build
from snn_artsy.options import Parser


def main() -> None:
    """Run the command line."""
    parser = Parser(prog="pretrain_backbone.py", description=__doc__, configuration=Settings)
    try:
        settings = build(Settings, vars(parser.read(sys.argv[1:])))
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
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
