"""Runs on disks that are too small: what they leave, and whether `resume` goes on from there.

Each run writes to a file system of its own (tmpfs, which takes root to mount), of sizes from too
small for anything to large enough. A run that the size estimate refuses is run again with the
estimate switched off, so that it meets the full disk. Then the file system grows and the run goes
on; its numbers must be those of a run that was never disturbed.

    sudo env PATH="$PATH" python experiments/robustness/disks.py --out FILE.json [--n 20] [--seed 0]
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from campaign import Campaign, differences, options, results, this_command

OPTIONS = (
    "--data.train_per_class", "12", "--data.test_per_class", "10",
    "--learners", "simplecil,artsy_ann,artsy_snn",
)  # fmt: skip
SMALLEST, LARGEST = 50_000, 30_000_000  # bytes; the whole run takes about a third of the larger
ENOUGH = 60_000_000
NO_ESTIMATE = (
    "import sys; import snn_artsy.recording.estimate as e; e.needed_bytes = lambda *_: 0;"
    "from snn_artsy.cli import main; main(sys.argv[1:])"
)


def main() -> None:
    given = options(__doc__, 20)
    if os.geteuid() != 0:
        sys.exit("disks.py: needs root, to mount file systems of its own")
    campaign = Campaign("disks", [this_command()])
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        done = command("run", *OPTIONS, "--out", str(place / "undisturbed"))
        if done.returncode:
            sys.exit(f"disks.py: the undisturbed run failed: {done.stderr}")
        expected = results(place / "undisturbed")
        for size in sizes(given.n, given.seed):
            outcome, faults = one_size(size, place / "disk", expected)
            campaign.count(outcome, f"{size} bytes: {'; '.join(faults)}" if faults else None)
            print(f"{size:>10,} bytes: {outcome}{'; '.join(['', *faults])}", flush=True)
            campaign.write(given.out)
    sys.exit(1 if campaign.bad else 0)


def sizes(n: int, seed: int) -> list[int]:
    """Bytes, evenly spread over the orders of magnitude, each drawn within its part."""
    draw = random.Random(seed)
    ratio = LARGEST / SMALLEST
    return [round(SMALLEST * ratio ** ((k + draw.random()) / n)) for k in range(n)]


def one_size(size: int, disk: Path, expected: Any) -> tuple[str, list[str]]:
    """What became of a run on a disk of ``size`` bytes, and what is wrong with that."""
    faults: list[str] = []
    with mounted(disk, size):
        run = ["run", *OPTIONS, "--out", str(disk / "run")]
        done = command(*run)
        outcome = "enough"
        if done.returncode == 2:
            outcome = "refused by the estimate, then "
            faults += check_line(done)
            if (disk / "run").exists():
                faults.append("refused, but left a directory")
            done = command(*run, estimate=False)
            outcome += "enough" if done.returncode == 0 else "full"
        elif done.returncode:
            outcome = "full in spite of the estimate"
            faults.append("the estimate let it begin")
        if done.returncode:
            if done.returncode != 1:
                faults.append(f"exit code {done.returncode}")
            faults += check_line(done)
            subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", str(disk)], check=True)
            begun = (disk / "run" / "run.h5").exists()
            done = command("resume", str(disk / "run")) if begun else command(*run)
            outcome += ", resumed" if begun else ", begun anew"
            if done.returncode:
                faults.append(f"did not go on: {done.returncode} {done.stderr.strip()}")
        if not done.returncode and (changed := differences(results(disk / "run"), expected)):
            faults.append(f"other results: {', '.join(changed)}")
    return outcome, faults


def check_line(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = done.stderr.splitlines()
    return [] if len(lines) == 1 else [f"{len(lines)} lines of errors: {lines[:2]}"]


def command(*arguments: str, estimate: bool = True) -> subprocess.CompletedProcess[str]:
    program = ["-m", "snn_artsy"] if estimate else ["-c", NO_ESTIMATE]
    return subprocess.run([sys.executable, *program, *arguments], capture_output=True, text=True)


@contextmanager
def mounted(disk: Path, size: int) -> Iterator[None]:
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


if __name__ == "__main__":
    main()
