"""Random configurations and values at the edge of every key: done, or refused in one line.

Three of seven cases draw a handful of keys of `RunConfig` with values of their type, four of seven
put one key at an edge (0, -1, 1, huge, tiny, not finite, empty, of another type, beyond ASCII, very
long); every second case of either comes as a YAML file, the others on the command line::

    python experiments/robustness/edges.py --n 700 --seed 0 --out edges.json

Each case runs in a forked child of one process that has imported everything, in an empty directory,
on a few digits. What counts as right: exit code 0 with finite numbers; exit code 2 with one line
and nothing written; exit code 1 where a learner's numbers were not finite and it is named. A case
that is still computing at the time limit is counted and no fault. Everything else is listed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config.used import leaves, unused
from snn_artsy.config_builder import build, choices_of, defaults_of, type_of
from snn_artsy.config_sources import complete, flat, layered
from snn_artsy.registry import LEARNERS
from snn_artsy.yaml_file import yaml_text

LIMIT_S = 60.0
SMALL: dict[str, Any] = {
    "data.train_per_class": 8,
    "data.test_per_class": 4,
    "learners": ["simplecil"],
    "device": "cpu",
}
EDGES: tuple[Any, ...] = (
    0, -1, 1, 10**9, 10**21, 1e30, 1e308, 1e-308, 1e-9, -0.5, float("nan"), float("inf"),
    float("-inf"), "", " ", "null", True, [], [1, 2], ["a", "a"], {"a": 1}, "text", "ü✓漢", "#1",
    "../..", "x" * 300, "x" * 5000, "a\nb", "a\x00b", "[", "-", "9" * 400,
)  # fmt: skip
# Keys that name what lies elsewhere: random values of theirs would only be refused.
ELSEWHERE = (
    "data.name", "data.root", "data.download", "backbone.name", "backbone.checkpoint",
    "backbone.pretrained", "backbone.cache_dir", "backbone.cache", "backbone.precision", "device",
    "out", "snn.plasticity.parameters", "threads",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command line, the YAML file that it names if any, and what it is about."""

    about: str
    words: list[str]
    file: str | None


def random_case(rng: random.Random, as_file: bool) -> Case:
    """A few keys at random values; two of three times only such as are used beside the others."""
    keys = [key for key in leaves() if key not in ELSEWHERE]
    chosen = {key: drawn(rng, key) for key in rng.sample(keys, rng.randint(1, 8))}
    chosen["learners"] = rng.sample(list(LEARNERS), rng.randint(1, 2))
    if rng.random() < 2 / 3:
        try:
            idle = unused(build(RunConfig, complete(SMALL, chosen)), chosen)
            chosen = {k: v for k, v in chosen.items() if k not in dict(idle)}
        except ConfigError:
            pass
    return case(chosen, as_file)


def drawn(rng: random.Random, key: str) -> Any:
    """A value of the key's type, mostly one that can be used."""
    default = dict(flat(defaults_of(RunConfig)))[key]
    choices = [c for c in choices_of(type_of(RunConfig, key)) if c is not type(None)]
    choice = choices[0]
    if get_origin(choice) is Literal:
        return rng.choice(get_args(choice))
    if choice is bool:
        return rng.random() < 0.5
    if choice is int:
        return rng.choice([1, 2, 3, 5, 10, rng.randint(0, 40)])
    if choice is float:
        around = default or 1.0
        return round(around * 10 ** rng.uniform(-1, 1), 6)
    if get_origin(choice) is list:
        items = default or [1, 2]
        return rng.sample(items, rng.randint(1, len(items)))
    return rng.choice(["gated", "pair", "triplet", "voltage", "calcium", "none", "song_2000"])


def edge_case(rng: random.Random, as_file: bool) -> Case:
    """One key at an edge, beside what brings its learners into the run."""
    key = rng.choice(leaves())
    values: dict[str, Any] = {"learners": list(learners_of(key)), key: rng.choice(EDGES)}
    return case(values, as_file)


def learners_of(key: str) -> tuple[str, ...]:
    """Learners that a key may matter to."""
    sections = {"ease": "ease", "ranpac": "ranpac", "joint": "joint", "snn": "artsy_snn"}
    sections |= {"record": "artsy_snn", "artsy_lda": "artsy_ann_lda", "gate": "artsy_ann"}
    sections |= {"artsy_ridge": "artsy_ann_ridge", "finetune": "finetune_linear"}
    sections |= {"ann": "artsy_ann", "artsy_best": "artsy_best", "memory": "er", "derpp": "derpp"}
    return (sections.get(key.partition(".")[0], "simplecil"),)


def case(values: dict[str, Any], as_file: bool) -> Case:
    about = json.dumps(values, default=str)[:300]
    everything = {**SMALL, **values}
    if as_file:
        return Case(about, ["run", "--config", "case.yaml"], yaml_text(layered(everything)))
    words = ["run"]
    for key, value in everything.items():
        text = json.dumps(value) if isinstance(value, (list, dict, bool)) else str(value)
        words += [f"--{key}={text}"]
    return Case(about, words, None)


def run(case: Case, place: Path, limit_s: float) -> tuple[str, str]:
    """Outcome in a word, and what is wrong with it ("" if nothing is)."""
    place.mkdir()
    if case.file is not None:
        (place / "case.yaml").write_text(case.file, encoding="utf-8")
    said = {name: place.with_suffix(f".{name}") for name in ("stdout", "stderr")}
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            os.chdir(place)
            for number, name in ((1, "stdout"), (2, "stderr")):
                opened = os.open(said[name], os.O_WRONLY | os.O_CREAT)
                os.dup2(opened, number)
            from snn_artsy.cli import main

            main(case.words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 71
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = waited(child, limit_s)
    out, err = (said[name].read_text("utf-8", "replace") for name in ("stdout", "stderr"))
    return judged(code, out, err, place)


def waited(child: int, limit_s: float) -> int | None:
    """Exit code (negative: a signal); None: it was stopped at the limit."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def judged(code: int | None, out: str, err: str, place: Path) -> tuple[str, str]:
    written = sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.name != "case.yaml")
    if "Traceback" in err + out:
        return "traceback", err[-2000:]
    if code is None:
        return "still computing", ""
    if code == 2:
        one_line = err.startswith("snn-artsy: ") and err.count("\n") == 1 and len(err) < 1000
        wrong = "" if one_line else f"not one line: {err[:1000]}"
        return "refused", wrong or (f"it wrote {written[:9]}" if written else "")
    summaries = [*place.rglob("summary.json"), *place.parent.glob("summary.json")]
    if code not in (0, 1) or (code == 1 and not re.search("finite", err + out)):
        return f"exit {code}", (err + out)[-1000:]
    if not summaries:
        return ("not finite", "") if code == 1 else ("done", "no summary.json")
    summary = json.loads(summaries[0].read_text("utf-8"))
    bad = [] if numbers_finite(summary["learners"]) else ["numbers that are not finite"]
    if code == 1 and not summary.get("failed"):
        bad.append("exit 1, but the summary names no learner that failed")
    return ("done" if code == 0 else "not finite"), "; ".join(bad)


def numbers_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(numbers_finite, value.values()))
    if isinstance(value, list):
        return all(map(numbers_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def campaign(n: int, seed: int, limit_s: float, scratch: Path) -> dict[str, Any]:
    import snn_artsy.runs.run

    # figures take most of a small run's time, and no key of a configuration changes them
    snn_artsy.runs.run._draw = lambda *_: None
    rng = random.Random(seed)
    n_random = round(n * 3 / 7)
    cases = [random_case(rng, k % 2 == 0) for k in range(n_random)]
    cases += [edge_case(rng, k % 2 == 0) for k in range(n - n_random)]
    # features and compiled code, which the cases share; in a child, so that this process never
    # computes: threads do not survive a fork
    run(case({"learners": ["simplecil", "artsy_snn"]}, False), scratch / "first", 600.0)
    outcomes: Counter[str] = Counter()
    found = []
    for number, each in enumerate(cases):
        place = scratch / f"{number:04d}"
        outcome, wrong = run(each, place, limit_s)
        outcomes[outcome] += 1
        if wrong or outcome.startswith("exit"):
            found.append({"case": each.about, "words": each.words[:2], "outcome": outcome,
                          "wrong": wrong})  # fmt: skip
        shutil.rmtree(place, ignore_errors=True)
    command = f"python experiments/robustness/edges.py --n {n} --seed {seed}"
    return {"campaign": "edges", "commands": [command], "n": n, "outcomes": dict(outcomes),
            "bad": found}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=700, help="cases; three of seven are random ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds of a case")
    parser.add_argument("--out", type=Path, default=Path("edges.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("SNN_ARTSY_CACHE", str(Path(scratch) / "cache"))
        result = campaign(given.n, given.seed, given.limit, Path(scratch))
    given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result["outcomes"]), f"{len(result['bad'])} bad")
    sys.exit(1 if result["bad"] else 0)


if __name__ == "__main__":
    main()
