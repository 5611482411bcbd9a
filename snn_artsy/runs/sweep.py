"""A grid of runs (``snn-artsy sweep``): seeds, learners, rules, any configuration key."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from snn_artsy.checks import ConfigError, require
from snn_artsy.config import RunConfig
from snn_artsy.config.used import nothing, unused
from snn_artsy.config_builder import build, convert, keys_of, section_of, type_of, unknown_key
from snn_artsy.config_sources import complete, flat
from snn_artsy.evaluation.statistics import spread
from snn_artsy.export.measures import tables
from snn_artsy.files import CONFIG_FILE, SUMMARY_FILE, sha256
from snn_artsy.recording.guard import read_attributes
from snn_artsy.recording.lock import writer_alive
from snn_artsy.recording.schema import RecordingError
from snn_artsy.recording.storage import write_text
from snn_artsy.runs.directory import is_empty, is_finished
from snn_artsy.runs.facts import Facts, added, config_differences, differences, plain
from snn_artsy.runs.workers import Resources, carry_out
from snn_artsy.yaml_file import read_mapping, read_yaml

# How long a run waits for a worker that is lost to Ray, but still writes (s).
PATIENCE = 60.0

MOST_RUNS = 10_000
"""More are a slip; each is checked before the first one runs."""


@dataclass(frozen=True)
class GridCell:
    """One run of a grid.

    Args:
        name: Of its directory; made from its values, so that it stays when the grid grows.
        values: What it has instead of the base configuration's, by dotted key.
        config: The whole configuration.
    """

    name: str
    values: dict[str, Any]
    config: RunConfig


def grid_cells(
    base: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    out: Path,
    typed: Collection[str] = (),
) -> list[GridCell]:
    """Every combination of the grid's values, all checked before anything runs.

    Args:
        base: Values of a configuration, nested.
        grid: Dotted key -> its values.
        out: Directory of the sweep; each run has its own below ``runs/``.
        typed: Keys of ``base`` that stand on the command line.

    Raises:
        ConfigError: An unknown key, no values, a combination that is no valid configuration, or a
            value that is used in none of them (of the grid's: not in all).
    """
    known = keys_of(RunConfig)
    if not grid:
        raise ConfigError("grid", "nothing to sweep over; give at least one key with its values")
    for key, values in grid.items():
        if key not in known:
            raise unknown_key(key, values, known)
        if key == "out" or section_of(type_of(RunConfig, key)) is not None:
            raise ConfigError("grid", f"{key} cannot be swept over; name single keys")
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError("grid", f"{key} has no list of values ({values!r}); give [a, b, ...]")
    count = math.prod(len(values) for values in grid.values())
    most = f"use at most {MOST_RUNS:,} combinations of values"
    require(count <= MOST_RUNS, "grid", count, most)
    cells = []
    for combination in itertools.product(*grid.values()):
        chosen = {
            key: convert(type_of(RunConfig, key), value, key)
            for key, value in zip(grid, combination, strict=True)
        }
        name = _name(chosen)
        tree = complete(base, chosen, {"out": str(out / "runs" / name)})
        try:
            config = build(RunConfig, tree)
        except ConfigError as error:
            raise _in_combination(error, chosen) from error
        cells.append(GridCell(name, chosen, config))
    _check_used(cells, grid, typed)
    if len({cell.name for cell in cells}) < len(cells):
        raise ConfigError("grid", "a value stands twice in its list; name each once")
    return cells


def _in_combination(error: ConfigError, values: Mapping[str, Any]) -> ConfigError:
    return ConfigError(error.key, f"{error.reason} (in the combination {values})", error.value)


def _check_used(
    cells: Sequence[GridCell], grid: Mapping[str, Sequence[Any]], typed: Collection[str]
) -> None:
    """Refuse a base value that no run uses, and a value of the grid that some run does not."""
    idle = [dict(unused(cell.config, [*typed, *grid])) for cell in cells]
    for key in idle[0]:
        if all(key in found for found in idle):
            raise nothing(cells[0].config, key, idle[0][key])
    for cell, found in zip(cells, idle, strict=True):
        for key in grid:
            if key in found:
                raise _in_combination(nothing(cell.config, key, found[key]), cell.values)


def sweep(
    cells: Sequence[GridCell], out: Path, resources: Resources, console: Console
) -> dict[str, Any]:
    """Run what is not there yet; returns and writes ``sweep.json``, and CSV files.

    A run that failed is named with its error and keeps no other from running; the same call again
    takes up what is missing. A run whose process dies is gone on with by another one.

    Raises:
        ConfigError: There is no cluster that can be used, or a run's directory holds something else
            (`check`).
    """
    check(cells, on_cluster=resources.address is not None)
    out.mkdir(parents=True, exist_ok=True)
    errors: dict[str, str] = {}
    if missing := [cell for cell in cells if not finished(cell)]:
        _extract(missing, resources, console)
        work = {cell.name: asdict(cell.config) for cell in missing}
        own = [r.origin(name) for cell in missing for r, name in added(cell.config)]
        outcomes = carry_out(run_one, work, own, resources, console)
        errors = {name: each.error for name, each in outcomes.items() if each.error is not None}
    summary = summarise(cells, errors)
    write_text(out / "sweep.json", json.dumps(summary, indent=2) + "\n")
    _write_tables(summary, out)
    return summary


def check(cells: Sequence[GridCell], on_cluster: bool = False) -> None:
    """Find out, before anything runs, whether what is in the runs' directories is theirs.

    What cannot change a number (`snn_artsy.runs.facts.NO_DIFFERENCE`) is no difference. Nothing
    there is changed.

    Args:
        on_cluster: The device is that of other machines, and not compared.

    Raises:
        ConfigError: A directory holds something else, a run made otherwise, with what differs, or
            one that another process writes.
    """
    from snn_artsy.runs.features import choose_device, fingerprints  # imports torch

    made: dict[str, tuple[dict[str, str], str, str]] = {}
    facts: Facts | None = None
    for cell in cells:
        directory, config = Path(str(cell.config.out)), cell.config
        if not directory.is_dir() or is_empty(directory):
            continue
        if writer_alive(directory):
            raise ConfigError(
                "out", f'"{directory}" is being written by another process; wait until it has ended'
            )
        begun = _begun(directory)
        if begun is None:
            raise ConfigError(
                "out",
                f'"{directory}" already holds other files, which were left as they are; give '
                "another directory",
            )
        if isinstance(begun, Facts):
            device = choose_device(config.device)
            key = repr((config.data, config.backbone, device))
            made[key] = made.get(key) or fingerprints(config, device)
            images, sha, precision = made[key]
            facts = facts or Facts.gather(config, images, sha, device, begun.threads)
            now = replace(
                facts.of_config(config),
                images=images,
                backbone_sha256=sha,
                device=begun.device if on_cluster else device,
                precision=begun.precision if on_cluster else precision,
            )
            changed = differences(begun, now)
        else:
            changed = config_differences(begun, plain(config))
        if changed:
            raise ConfigError(
                "out",
                f'"{directory}" holds a run that was made otherwise: {"; ".join(changed)}; '
                "give another directory, or these values",
            )


def _begun(directory: Path) -> Facts | dict[str, Any] | None:
    """What a run began with, from its files; only the configuration before anything is recorded;
    None: no run."""
    if (directory / "run.h5").is_file():
        name = f'"{directory / "run.h5"}"'
        try:
            return Facts.of_attributes(read_attributes(directory / "run.h5"), "out", name)
        except RecordingError as error:
            raise ConfigError("out", f"{error}") from error
    if (directory / CONFIG_FILE).is_file():
        return read_mapping(directory / CONFIG_FILE, "out", f'"{directory / CONFIG_FILE}"')
    return None


def finished(cell: GridCell) -> bool:
    """Whether the run is complete, with this very configuration."""
    try:
        directory = Path(str(cell.config.out))
        config = json.loads((directory / SUMMARY_FILE).read_text(encoding="utf-8"))["config"]
        return is_finished(directory) and not config_differences(config, plain(cell.config))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def summarise(cells: Sequence[GridCell], errors: Mapping[str, str]) -> dict[str, Any]:
    """Each run's values and scalar measures; mean and sd over seeds of what else is equal."""
    runs = []
    for cell in cells:
        entry: dict[str, Any] = {"name": cell.name, "values": cell.values}
        if cell.name in errors or not finished(cell):
            entry["error"] = errors.get(cell.name, "did not finish")
        else:
            directory = Path(str(cell.config.out))
            summary = json.loads((directory / SUMMARY_FILE).read_text(encoding="utf-8"))
            entry["directory"] = str(directory)
            if "failed" in summary:  # learners whose numbers were not finite; the others count
                entry["error"] = "; ".join(summary["failed"].values())
            entry["learners"] = {
                name: {k: v for k, v in measures.items() if isinstance(v, int | float)}
                for name, measures in summary["learners"].items()
            }
        runs.append(entry)
    groups: dict[str, dict[str, Any]] = {}
    for entry in runs:
        others = {k: v for k, v in entry["values"].items() if k != "seed"}
        for learner, measures in entry.get("learners", {}).items():
            key = json.dumps([others, learner], sort_keys=True)
            group = groups.setdefault(key, {"values": others, "learner": learner, "runs": []})
            group["runs"].append(measures)
    rows = []
    for group in groups.values():
        shared = set.intersection(*(set(m) for m in group["runs"]))
        rows.append(
            {
                "values": group["values"],
                "learner": group["learner"],
                "n": len(group["runs"]),
                "measures": {k: spread([m[k] for m in group["runs"]]) for k in sorted(shared)},
            }
        )
    return {"runs": runs, "groups": rows}


def _name(values: Mapping[str, Any]) -> str:
    """Readable name of a run, different for different values."""
    words = "-".join(f"{key.rpartition('.')[2]}_{value}" for key, value in values.items())
    digest = sha256([json.dumps(values, sort_keys=True).encode()])[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', words)[:80]}-{digest}"


def _extract(cells: Sequence[GridCell], resources: Resources, console: Console) -> None:
    """Extract features into the cache, once for each data set and backbone, before workers do; on a
    cluster its workers extract shards of them."""
    from snn_artsy.runs.features import choose_device, prepare
    from snn_artsy.runs.shards import extract_in_shards

    extracted = set()
    for cell in cells:
        config = cell.config
        key = repr((config.data, config.backbone))
        if config.backbone.cache and key not in extracted:
            extracted.add(key)
            if resources.address is not None:
                extract_in_shards(config, resources, console)
            prepare(config, choose_device(config.device), console)


def run_one(given: Mapping[str, Any]) -> None:
    """One run, in a process of its own: begun, or gone on with from what is there.

    Args:
        given: Its configuration.

    Raises:
        RuntimeError: Another process writes there, or a learner failed.
        ConfigError: Its directory holds something else.
    """
    from snn_artsy.runs.run import execute

    directory = Path(given["out"])
    deadline = time.monotonic() + PATIENCE
    while writer_alive(directory):
        if time.monotonic() > deadline:
            raise RuntimeError(f'another process writes in "{directory}"')
        time.sleep(0.5)
    # a worker can be lost after its last write
    if not is_finished(directory):
        execute(build(RunConfig, given))


def _write_tables(summary: Mapping[str, Any], out: Path) -> None:
    """Write ``sweep.csv``, a row for each run and learner, and their matrices and forgetting."""
    measured = []
    for run in summary["runs"]:
        if "learners" not in run:
            continue
        file = Path(run["directory"]) / SUMMARY_FILE
        learners = json.loads(file.read_text(encoding="utf-8"))["learners"]
        about = {"name": run["name"], **run["values"]}
        measured += [({**about, "learner": name}, each) for name, each in learners.items()]
    for name, text in tables(measured).items():
        write_text(out / ("sweep.csv" if name == "cells.csv" else name), text)


def read_grid(text: str | Mapping[str, Any], name: str = "grid") -> dict[str, list[Any]]:
    """``key=v1,v2;key=v3``, read as YAML, or a mapping, nested or with dotted keys -> dotted keys
    with lists of values."""
    if isinstance(text, Mapping):
        return dict(flat(text))
    grid: dict[str, list[Any]] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        key, equals, values = (word.strip() for word in part.partition("="))
        if key in grid:
            raise ConfigError(name, f"{key} stands there twice; give all its values in one list")
        if not key or not equals or not values:
            raise ConfigError(name, f"{part!r} is not key=value,value; for example seed=1993,1994")
        grid[key] = read_yaml(f"[{values}]", name, repr(part))
    return grid
