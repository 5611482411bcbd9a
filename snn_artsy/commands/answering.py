"""Commands for trained learners: ``predict`` and ``pack``."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace

from snn_artsy.checks import ConfigError, one_of
from snn_artsy.config import DEVICES
from snn_artsy.files import at_home
from snn_artsy.printing import make_console, say, show


def predict(arguments: Namespace) -> int:
    """Answer images of one's own by what a run has learnt."""
    from snn_artsy.data.given import GivenImages
    from snn_artsy.output import check_free, write_outputs
    from snn_artsy.runs.kept import require_kept

    # Looked at before torch is loaded: a mistake costs no wait.
    directory = at_home(arguments.run)
    if not directory.exists():
        raise ConfigError("run", f'nothing at "{arguments.run}"; give a run directory or a pack')
    if arguments.device is not None:
        one_of("device", arguments.device, DEVICES)
    if arguments.learner is not None:
        require_kept(directory, arguments.learner)
    out = None if arguments.out is None else at_home(arguments.out)
    if out is not None:
        check_free(out, arguments.overwrite)
    given = arguments.images
    if "-" in given:
        listed = sys.stdin.buffer.read().splitlines()
        given = [name for name in given if name != "-"] + [os.fsdecode(p) for p in listed if p]
    images = GivenImages(given)
    images.check()
    # Also with --overwrite, what is read is not replaced by what is made of it.
    if out is not None and out.exists():
        inside = out.resolve().is_relative_to(directory.resolve())
        if inside or any(out.samefile(file) for file in images.files):
            raise ConfigError("out", f'"{out}" is part of what is read; give another place')

    from snn_artsy.runs.trained import load_trained

    run = load_trained(directory, arguments.device, arguments.weights)
    name = arguments.learner or next(reversed([*run]), "learner")
    answers = run[name].predict(images, make_console(stderr=True))
    objects = ",\n".join(json.dumps(record, allow_nan=False) for record in answers.records())
    text = f"[\n{objects}\n]"
    if out is not None:
        write_outputs({out: f"{text}\n".encode()}, arguments.overwrite)
    if arguments.json:
        print(text)
    else:
        show(make_console(), answers)
    return 0


def pack(arguments: Namespace) -> int:
    """Put what a run has learnt into one file."""
    directory = at_home(arguments.run)
    if not directory.is_dir():
        raise ConfigError("run", f'no directory "{arguments.run}"; give that of a finished run')

    from snn_artsy.runs.pack import pack

    weights = vars(arguments)["with-weights"]
    path = pack(directory, arguments.out, weights, arguments.overwrite)
    say(make_console(), f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
