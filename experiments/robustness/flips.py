"""Flip single bits in every file that `resume`, or a `compare` that goes on, reads.

    python experiments/robustness/flips.py --out FILE.json [--n 300] [--seed 0]

Each flip must be harmless, since the numbers are the same, or be named with its file. Half of them
are drawn from the first 2 kB of a file, where its structure is. The files: run.h5, segments,
checkpoints, answers, config.yaml, all checksums, cached features; cells of a comparison.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from campaign import (
    DATA,
    QUICK,
    Campaign,
    command,
    differences,
    is_clean,
    options,
    results,
    this_command,
)
from kills import install

NOT_READ = {"state", "figures", "summary.json", "log"}
COMPARED = 5
"""One in so many flips is in a comparison."""


def without_figures() -> None:
    """They read what is checked already, and take time."""
    import snn_artsy.runs.run

    snn_artsy.runs.run._draw = lambda *_: None


def templates(scratch: Path) -> tuple[Path, Path]:
    """A run that was killed, with its cache, and a finished comparison."""
    log, counts = scratch / "log", scratch / "counts"
    run, compared = scratch / "run", scratch / "compared"
    os.environ["SNN_ARTSY_CACHE"] = str(run / "cache")
    arguments = ["run", "--learners", "simplecil,artsy_snn", *QUICK, "--out", str(run / "cut")]
    assert command(arguments, log, install, (run, None, "", counts)) == 0, log.read_text()
    middle = int(counts.read_text()) // 2
    shutil.rmtree(run / "cut")
    command(arguments, log, install, (run, middle, "kill", counts))
    os.environ["SNN_ARTSY_CACHE"] = str(compared / "cache")
    arguments = [*comparison(compared), "--seeds", "2"]
    assert command(arguments, log) == 0, log.read_text()
    return run, compared


def comparison(place: Path) -> list[str]:
    return ["compare", "--learners", "simplecil", *DATA, "--device", "cpu",
            "--out", str(place / "cut")]  # fmt: skip


def flip(file: Path, rng: random.Random) -> int:
    """Change one bit; its number."""
    data = bytearray(file.read_bytes())
    last = min(len(data), 2048) if rng.random() < 0.5 else len(data)
    bit = rng.randrange(8 * last)
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
    return bit


def judge(code: int, said: str, changed: list[str], file: Path, clean: bool) -> tuple[str, bool]:
    """What became of a flip, and whether that is right."""
    # a checksum and its file stand for each other; cached features for theirs
    names = {file.name, file.name.removesuffix(".sha256"), file.with_suffix(".npy").name}
    named = any(name in "".join(said.split()) for name in names)
    if not clean:
        return "a traceback", False
    if code == 0 and changed:
        return "other numbers", False
    if code == 0:
        return "named and computed again" if named else "harmless: the same numbers", True
    if code == 2 and named:
        return "named and refused", True
    return "refused without its name" if code == 2 else "failed while running", False


def main() -> None:
    chosen = options(__doc__, 300)
    rng = random.Random(chosen.seed)
    campaign = Campaign("flips", [this_command()])
    with tempfile.TemporaryDirectory(prefix="flips-") as folder:
        scratch = Path(folder)
        log, place = scratch / "log", scratch / "flipped"
        made = templates(scratch)
        references: dict[Path, dict[str, Any]] = {}
        for i in range(-2, chosen.n):  # the first two flip nothing
            template = made[i % COMPARED == 0] if i >= 0 else made[i]
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(template, place)
            os.environ["SNN_ARTSY_CACHE"] = str(place / "cache")
            files = sorted(
                file for file in place.rglob("*")
                if file.is_file() and file.stat().st_size and not NOT_READ & {*file.parts}
            )  # fmt: skip
            file = rng.choice(files)
            bit = flip(file, rng) if i >= 0 else -1
            arguments = ["resume", str(place / "cut")]
            if template == made[1]:
                arguments = [*comparison(place), "--seeds", "2"]
            code = command(arguments, log, without_figures)
            # what was refused may hold the damage still, and not be readable
            found = results(place / "cut") if code == 0 else {}
            if i < 0:
                assert code == 0, log.read_text()
                references[template] = found
                continue
            changed = differences(found, references[template]) if code == 0 else []
            said = log.read_text(encoding="utf-8", errors="replace")
            outcome, right = judge(code, said, changed, file, is_clean(log))
            where = f"{file.relative_to(place)}, bit {bit}"
            detail = f"{where}: {outcome} ({', '.join(changed)}): {' '.join(said[-300:].split())}"
            campaign.count(outcome, None if right else detail)
            campaign.write(chosen.out)
        print(json.dumps(dict(campaign.outcomes)))
    for line in campaign.bad:
        print(line)
    sys.exit(1 if campaign.bad else 0)


if __name__ == "__main__":
    main()
