"""Mutation testing of the learners, measures, comparisons and task streams, by mutmut.

    pip install -e ".[test,mutation]"
    python experiments/mutation/run.py --sample 80

mutmut changes the code in one place at a time (settings: ``[tool.mutmut]`` in pyproject.toml) and
runs the fast tests that reach the place. Of each module a seeded random sample of changes is tried,
or all of them without ``--sample``. What is tried is kept in ``mutants/``, so that an interrupted
run goes on; ``--survivors`` tries those again that no test refused, after tests were added. The
result goes to docs/mutation.md, each survivor with its reason from reasons.yaml.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from snn_artsy.evaluation.metrics import wilson_interval

ROOT = Path(__file__).resolve().parents[2]
REASONS = Path(__file__).with_name("reasons.yaml")
REPORT = ROOT / "docs" / "mutation.md"
# small, and tried whole: the first call makes all mutants and finds out which tests reach what;
# later ones make those anew whose code has changed
FIRST = "snn_artsy.evaluation.efficiency.*"
# exit codes of mutmut: a failed test; the time limit, by its own signal or the system's
KILLED, TIMEOUT, SURVIVED, NO_TESTS = {1, 3, -11, -9}, {36, -24, 24, 152, 255}, {0}, {5, 33}


@dataclass(frozen=True)
class Mutant:
    """One change, with what became of it (None: not tried)."""

    name: str
    module: str
    exit_code: int | None

    @property
    def tried(self) -> bool:
        return self.exit_code is not None and self.exit_code not in {2, 34}

    @property
    def killed(self) -> bool:
        return self.exit_code in KILLED | TIMEOUT


def mutants() -> list[Mutant]:
    """All changes that mutmut made, in a fixed order."""
    found = []
    for file in sorted((ROOT / "mutants").rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(file.read_text("utf-8"))["exit_code_by_key"]
        module = file.relative_to(ROOT / "mutants").as_posix().removesuffix(".meta")
        found += [Mutant(name, module, code) for name, code in codes.items()]
    return found


def sampled(population: Iterable[Mutant], n: int | None, seed: int) -> list[Mutant]:
    """At most n of each module; a larger n keeps what a smaller one has drawn."""
    modules: dict[str, list[Mutant]] = {}
    for mutant in population:
        modules.setdefault(mutant.module, []).append(mutant)
    chosen = []
    for module, own in modules.items():
        order = list(own)
        random.Random(f"{seed} {module}").shuffle(order)
        chosen += order[:n]
    return chosen


def try_out(names: list[str], children: int) -> None:
    """Let mutmut try some changes; what it says goes to the terminal."""
    command = ["mutmut", "run", "--max-children", str(children), *names]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        sys.exit("mutmut failed, see above")


def change_of(mutant: Mutant) -> str:
    """``what stood there -> what stands there now``, on one line."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(mutant.name, path=mutant.module).splitlines()[2:]
    sides = ["".join(line[1:] for line in lines if line.startswith(sign)) for sign in "-+"]
    old, new = (re.sub(r"\s+", " ", side).strip() for side in sides)
    return f"{old} -> {new}"


def reason_for(module: str, change: str, reasons: list[dict[str, Any]]) -> str:
    """Of the first entry whose ``module`` and ``change`` fit; "" if there is none."""
    for entry in reasons:
        fits = fnmatch(module, entry.get("module", "*"))
        if fits and any(re.search(pattern, change) for pattern in entry["change"]):
            return str(entry["reason"])
    return ""


def row(name: str, made: int, tried: list[Mutant]) -> str:
    killed = sum(m.killed for m in tried)
    late = sum(m.exit_code in TIMEOUT for m in tried)
    interval = ""
    if len(tried) < made:
        low, high = wilson_interval(killed, len(tried))
        interval = f"{100 * low:.0f} to {100 * high:.0f}"
    share = f"{100 * killed / len(tried):.1f}"
    return f"| {name} | {made} | {len(tried)} | {killed} | {late} | {share} | {interval} |"


def weighted_share(modules: dict[str, tuple[int, list[Mutant]]]) -> tuple[float, float]:
    """Share killed of all mutants and half its 95 % interval, from (made, tried) of each module.

    Stratified sampling: each module's share counts by the module's size; what was not tried adds
    variance. A share of 0 or 1 of few is not certain, so variances are those of (k + 1) / (n + 2).
    """
    whole = sum(made for made, _ in modules.values())
    share = variance = 0.0
    for made, tried in modules.values():
        n, killed = len(tried), sum(m.killed for m in tried)
        share += made / whole * killed / n
        p = (killed + 1) / (n + 2)
        variance += (made / whole) ** 2 * p * (1 - p) / n * (1 - n / made)
    return share, 1.96 * variance**0.5


def report(chosen: list[Mutant], everything: list[Mutant], command: str) -> str:
    """docs/mutation.md."""
    reasons = yaml.safe_load(REASONS.read_text("utf-8"))
    made = {m.module: sum(x.module == m.module for x in everything) for m in everything}
    tried = {name: [m for m in chosen if m.module == name and m.tried] for name in made}
    done = {name: own for name, own in tried.items() if own}
    whole = sum(made[name] for name in done)
    share, half = weighted_share({n: (made[n], own) for n, own in done.items()})
    lines = [
        "# Mutation testing",
        "",
        "Written by `experiments/mutation/run.py`, not by hand. A mutant is the code with one",
        "change; it is killed if a test fails on it (or does not end). Reasons why others survive",
        "are in `experiments/mutation/reasons.yaml`.",
        "",
        f"Command: `{command}`",
        "",
        f"Killed, each module weighted by its size: **{100 * share:.1f} %** of {whole} mutants "
        f"({sum(map(len, done.values()))} tried; 95 % interval +- {100 * half:.1f} points).",
        "",
        "| module | mutants | tried | killed | of these by time | killed (%) | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(row(f"`{name}`", made[name], own) for name, own in done.items()),
        "",
        "## Survivors",
        "",
    ]
    groups: dict[str, list[str]] = {}
    for mutant in (m for own in done.values() for m in own if not m.killed):
        change = change_of(mutant)
        why = reason_for(mutant.module, change, reasons) or "Not looked into"
        if mutant.exit_code in NO_TESTS:
            why = "No fast test reaches it (slower tests outside this selection may)"
        shown = change.replace("`", "'")
        shown = shown if len(shown) < 300 else shown[:297] + "..."
        groups.setdefault(why, []).append(f"- `{mutant.module}`: `{shown}`")
    for why, changes in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines += [f"### {why} ({len(changes)})", "", *sorted(changes), ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sample", type=int, help="so many of each module (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--module", default="*", help="only modules like this: '*/gates.py'")
    parser.add_argument("--children", type=int, default=2, help="processes")
    parser.add_argument("--survivors", action="store_true", help="try survivors again")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    given = parser.parse_args()
    if not mutants():
        try_out([FIRST], given.children)
    chosen = sampled(mutants(), given.sample, given.seed)
    left = [
        m for m in chosen
        if fnmatch(m.module, given.module)
        and (not m.tried or (given.survivors and m.exit_code in SURVIVED | NO_TESTS))
    ]  # fmt: skip
    if left and not given.report:
        try_out([m.name for m in left], given.children)
    everything = mutants()
    chosen = sampled(everything, given.sample, given.seed)
    sample = f" --sample {given.sample} --seed {given.seed}" if given.sample else ""
    command = f"python experiments/mutation/run.py{sample}"
    text = report(chosen, everything, command)
    REPORT.write_text(text, encoding="utf-8")
    print(text.split("## Survivors")[0])


if __name__ == "__main__":
    main()
