"""Kill commands at random moments; the same command again must give the same numbers.

    python experiments/robustness/kills.py --out FILE.json [--n 100] [--seed 0]
        [--subjects run resume compare sweep report sonata nwb]

A moment is a system call (a file opened for writing, synced, renamed or removed, a directory made
or removed; counted by an audit hook in the process itself, which then dies of SIGKILL, or gets
SIGTERM or SIGINT), a file that is cut short at its sync, as by a full stop of the machine, or a
random time. Commands: run, resume, compare, sweep, report and export (SONATA, NWB).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign import (
    DATA,
    QUICK,
    Campaign,
    command,
    differences,
    is_clean,
    one_line,
    options,
    results,
    this_command,
)

SHARES = {"run": 30, "resume": 22, "compare": 22, "sweep": 8, "report": 8, "sonata": 6, "nwb": 4}
"""Of 100 kills."""

_CALLS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


class Hook:
    """Counts the system calls below ``directory``, and strikes at one of them.

    Args:
        strike: Number of the call, from 1; None: only counted.
        how: ``kill``, ``term``, ``int``, or ``cut``: the next synced file loses its end, then kill.
        counts: Where the number of calls is kept.
    """

    def __init__(self, directory: Path, strike: int | None, how: str, counts: Path) -> None:
        self.directory, self.strike, self.how, self.counts = str(directory), strike, how, counts
        self.n, self.cutting = 0, False

    def install(self) -> None:
        real = os.fsync

        def fsync(descriptor: Any) -> None:
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            if self.cutting and os.path.isfile(place) and place.startswith(self.directory):
                os.truncate(place, os.path.getsize(place) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            self.called(place)
            real(descriptor)

        os.fsync = fsync
        sys.addaudithook(self.audit)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if (writes or event in _CALLS) and isinstance(arguments[0], str | os.PathLike):
            self.called(os.path.abspath(os.fspath(arguments[0])))

    def called(self, place: str) -> None:
        if not place.startswith(self.directory) or place == str(self.counts):
            return
        self.n += 1
        if self.strike is None:
            self.counts.write_text(str(self.n))
        elif self.n == self.strike:
            if self.how == "cut":
                self.cutting = True
                return
            number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
            os.kill(os.getpid(), number[self.how])


def install(directory: Path, strike: int | None, how: str, counts: Path) -> None:
    """In the process that runs the command."""
    Hook(directory, strike, how, counts).install()


@dataclass(frozen=True)
class Subject:
    """A command.

    Args:
        prepare: Puts what it needs into an empty directory.
        arguments: Of the command, for a directory that was prepared.
        done: Words of its refusal where everything was done already.
    """

    prepare: Callable[[Path], None]
    arguments: Callable[[Path], list[str]]
    done: str


def subjects(scratch: Path) -> dict[str, Subject]:
    """What is killed; templates are made in ``scratch``."""
    two = ["--learners", "simplecil,artsy_snn", *QUICK]
    whole, cut = scratch / "whole", scratch / "cut"
    log = scratch / "log"
    assert command(["run", "--out", str(whole), *two], log) == 0, log.read_text()
    # killed between two tasks of the second learner
    counts = scratch / "counts"
    command(["run", "--out", str(cut), *two], log, install, (cut, None, "", counts))
    shutil.rmtree(cut)
    middle = int(counts.read_text()) * 2 // 3
    command(["run", "--out", str(cut), *two], log, install, (cut, middle, "kill", counts))

    def nothing(place: Path) -> None:
        place.mkdir()

    def template(source: Path) -> Callable[[Path], None]:
        def prepare(place: Path) -> None:
            place.mkdir()
            shutil.copytree(source, place / "run")

        return prepare

    cells = [*DATA, "--device", "cpu", "--snn.plasticity.epochs", "1"]
    compared = ["compare", "--seeds", "2", "--learners", "simplecil,artsy_snn", *cells]
    swept = [
        "sweep",
        "--grid",
        "seed=1993,1994",
        "--learners",
        "simplecil",
        "--workers",
        "2",
        *DATA,
    ]
    return {
        "run": Subject(nothing, lambda p: ["run", "--out", str(p / "run"), *two], "finished run"),
        "resume": Subject(template(cut), lambda p: ["resume", str(p / "run")], "is complete"),
        "compare": Subject(nothing, lambda p: [*compared, "--out", str(p / "out")], "-"),
        "sweep": Subject(
            nothing, lambda p: [*swept, "--device", "cpu", "--out", str(p / "out")], "-"
        ),
        "report": Subject(template(whole), lambda p: ["report", str(p / "run")], "exists"),
        **{
            to: Subject(
                template(whole),
                lambda p, to=to: ["export", str(p / "run"), "--to", to],  # type: ignore[misc]
                "exists",
            )
            for to in ("sonata", "nwb")
        },
    }


def kill_once(
    campaign: Campaign, name: str, subject: Subject, reference: dict[str, Any], calls: int,
    seconds: float, scratch: Path, rng: random.Random,
) -> None:  # fmt: skip
    """One kill and what came of it."""
    place, log = scratch / "killed", scratch / "log"
    shutil.rmtree(place, ignore_errors=True)
    subject.prepare(place)
    how = rng.choice(["kill", "kill", "cut", "cut", "term", "int", "time"])
    arguments = subject.arguments(place)
    if how == "time":
        at: Any = round(rng.uniform(0, seconds), 3)
        code = command(arguments, log, kill_after=at)
    else:
        at = rng.randint(1, calls)
        code = command(arguments, log, install, (place, at, how, scratch / "counts"))
    detail = f"{name}, {how} at {at} of {seconds if how == 'time' else calls}"
    expected = {"term": (143, 0), "int": (130, 0)}.get(how, (-signal.SIGKILL, 0))
    if code not in expected or not is_clean(log):
        campaign.count("ended otherwise", f"{detail}: exit {code}: {one_line(log)}")
        return
    code = command(arguments, log)
    said = one_line(log)
    if not is_clean(log) or code not in (0, 2) or (code == 2 and subject.done not in said):
        campaign.count("refused or failed", f"{detail}: exit {code}: {said}")
        return
    changed = differences(results(place), reference)
    if changed:
        campaign.count("other results", f"{detail}: {', '.join(changed)}")
    else:
        kind = "was done already" if code == 2 else "same results after the same command"
        campaign.count(f"{name}: {kind}")


def main() -> None:
    chosen = options(__doc__, 100, {"subjects": list(SHARES)})
    rng = random.Random(chosen.seed)
    campaign = Campaign("kills", [this_command()])
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        scratch = Path(folder)
        os.environ["SNN_ARTSY_CACHE"] = str(scratch / "cache")
        names = [name for name in chosen.subjects for _ in range(SHARES[name])]
        drawn = [names[i * len(names) // chosen.n % len(names)] for i in range(chosen.n)]
        known = subjects(scratch)
        for name in dict.fromkeys(drawn):
            subject, place = known[name], scratch / "reference"
            shutil.rmtree(place, ignore_errors=True)
            subject.prepare(place)
            counts = scratch / "counts"
            begun = time.monotonic()
            code = command(subject.arguments(place), scratch / "log", install,
                           (place, None, "", counts))  # fmt: skip
            seconds = time.monotonic() - begun
            if code != 0:
                raise SystemExit(f"{name}: exit {code}: {one_line(scratch / 'log')}")
            reference, calls = results(place), int(counts.read_text())
            for _ in range(drawn.count(name)):
                kill_once(campaign, name, subject, reference, calls, seconds, scratch, rng)
            campaign.write(chosen.out)
            print(name, json.dumps(dict(campaign.outcomes)), flush=True)
    for line in campaign.bad:
        print(line)
    sys.exit(1 if campaign.bad else 0)


if __name__ == "__main__":
    main()
