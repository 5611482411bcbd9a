"""A grid of runs on Ray (``snn-artsy sweep``): seeds, learners, rules, any configuration key."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config.used import nothing, unused
from snn_artsy.config_builder import build, convert, keys_of, section_of, type_of, unknown_key
from snn_artsy.config_sources import layered
from snn_artsy.recording.storage import whole
from snn_artsy.rules.own import load, loaded
from snn_artsy.yaml_file import read_yaml

# A worker that dies (killed, out of memory, node gone) has its run begun again so many times.
RETRIES = 3


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Args:
        name: Of its directory; made from its values, so that it stays when the grid grows.
        values: What it has instead of the base configuration's, by dotted key.
        config: The whole configuration.
    """

    name: str
    values: dict[str, Any]
    config: RunConfig


@dataclass(frozen=True)
class Resources:
    """What the runs may use.

    Args:
        address: Of a Ray cluster (``auto``: the one that this machine belongs to); None: this
            machine alone.
        workers: Runs at a time on this machine; None: as many as its cores allow.
        cpus_per_run, gpus_per_run: Of each run; several runs share a GPU at fractions.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_run: int = 1
    gpus_per_run: float = 0.0


def grid_cells(
    base: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    out: Path,
    typed: Collection[str] = (),
) -> list[Cell]:
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
        raise ConfigError("grid: nothing to sweep over; give at least one key with its values")
    for key, values in grid.items():
        if key not in known:
            raise ConfigError(unknown_key(key, values, known))
        if key == "out" or section_of(type_of(RunConfig, key)) is not None:
            raise ConfigError(f"grid: {key} cannot be swept over; name single keys")
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError(f"grid: {key} has no list of values ({values!r}); give [a, b, ...]")
    cells = []
    for combination in itertools.product(*grid.values()):
        chosen = {
            key: convert(type_of(RunConfig, key), value, key)
            for key, value in zip(grid, combination, strict=True)
        }
        name = _name(chosen)
        tree = layered(base, chosen, {"out": str(out / "runs" / name)})
        try:
            config = build(RunConfig, tree)
        except ConfigError as error:
            raise ConfigError(f"{error} (in the combination {chosen})") from error
        cells.append(Cell(name, chosen, config))
    _check_used(cells, grid, typed)
    if len({cell.name for cell in cells}) < len(cells):
        raise ConfigError("grid: a value stands twice in its list; name each once")
    return cells


def _check_used(
    cells: Sequence[Cell], grid: Mapping[str, Sequence[Any]], typed: Collection[str]
) -> None:
    """Refuse a base value that no run uses, and a value of the grid that some run does not."""
    idle = [dict(unused(cell.config, [*typed, *grid])) for cell in cells]
    for key in idle[0]:
        if all(key in found for found in idle):
            raise ConfigError(nothing(cells[0].config, key, idle[0][key]))
    for cell, found in zip(cells, idle, strict=True):
        for key in grid:
            if key in found:
                text = nothing(cell.config, key, found[key])
                raise ConfigError(f"{text} (in the combination {cell.values})")


def sweep(
    cells: Sequence[Cell], out: Path, resources: Resources, console: Console
) -> dict[str, Any]:
    """Run what is not there yet; returns and writes ``sweep.json`` and ``sweep.csv``.

    A run that failed is named with its error and keeps no other from running; the same call again
    takes up what is missing. Where a worker is lost, Ray gives its run to another one.

    Raises:
        ConfigError: Ray is not installed or cannot be reached; the directory is another sweep's.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "sweep: needs Ray, which is not installed; pip install 'snn-artsy[sweep]'"
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    status = {cell.name: "done" if finished(cell) else "waiting" for cell in cells}
    errors: dict[str, str] = {}
    missing = [cell for cell in cells if status[cell.name] == "waiting"]
    if missing:
        _extract(missing, console)
        with _ray(ray, resources):
            _work(ray, missing, resources, status, errors, console)
    summary = summarise(cells, errors)
    with whole(out / "sweep.json") as part:
        part.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _write_csv(summary, out / "sweep.csv")
    return summary


def finished(cell: Cell) -> bool:
    """Whether the run is complete, with this very configuration."""
    try:
        text = (Path(str(cell.config.out)) / "summary.json").read_text(encoding="utf-8")
        found = json.loads(text)["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = json.loads(json.dumps(asdict(cell.config)))
    return bool(found | {"out": None} == wanted | {"out": None})


def run_cell(config: dict[str, Any], own_rules: Sequence[str] = ()) -> None:
    """One run, in a worker: begun anew, or gone on with where it has a checkpoint.

    Args:
        own_rules: Rules of the user's own that the sweep was given (``module:Class``).
    """
    from snn_artsy.run import execute, resume

    load(own_rules)
    directory = Path(config["out"])
    if (directory / "checkpoint").is_dir():
        try:
            resume(directory)
            return
        except ConfigError:
            pass  # a checkpoint of something else, or a damaged one
    if directory.exists():
        shutil.rmtree(directory)
    execute(build(RunConfig, config))


def summarise(cells: Sequence[Cell], errors: Mapping[str, str]) -> dict[str, Any]:
    """Each run's values and scalar measures; mean and sd over seeds of what else is equal."""
    runs = []
    for cell in cells:
        entry: dict[str, Any] = {"name": cell.name, "values": cell.values}
        if cell.name in errors or not finished(cell):
            entry["error"] = errors.get(cell.name, "did not finish")
        else:
            directory = Path(str(cell.config.out))
            found = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
            entry["directory"] = str(directory)
            if "failed" in found:  # learners whose numbers were not finite; the others count
                entry["error"] = "; ".join(found["failed"].values())
            entry["learners"] = {
                name: {k: v for k, v in measures.items() if isinstance(v, int | float)}
                for name, measures in found["learners"].items()
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
                "measures": {k: _spread([m[k] for m in group["runs"]]) for k in sorted(shared)},
            }
        )
    return {"runs": runs, "groups": rows}


def groups_table(summary: Mapping[str, Any]) -> Table:
    """One row a combination and learner, mean and sd over seeds in percent."""
    table = Table(title="Over seeds, percent", title_justify="left")
    for heading in ("setting", "learner", "n", "A_last", "A_avg", "spikes"):
        table.add_column(heading, justify="left" if heading in ("setting", "learner") else "right")
    for group in summary["groups"]:
        setting = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in group["values"].items())
        cells = [
            _percent(group["measures"].get(k)) for k in ("a_last", "a_avg", "a_last_spikes_only")
        ]
        table.add_row(setting or "all", group["learner"], str(group["n"]), *cells)
    return table


def _name(values: Mapping[str, Any]) -> str:
    """Readable, and different for different values."""
    words = "-".join(f"{key.rpartition('.')[2]}_{value}" for key, value in values.items())
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', words)[:80]}-{digest}"


def _extract(cells: Sequence[Cell], console: Console) -> None:
    """Features into the cache, once for each data set and backbone, before workers ask for them."""
    from snn_artsy.frozen import choose_device, prepare

    seen = set()
    for cell in cells:
        config = cell.config
        key = repr((config.data, config.backbone))
        if config.backbone.cache and key not in seen:
            seen.add(key)
            prepare(config, choose_device(config.device), console)


class _ray:
    """A Ray session: a cluster's, or one of this machine's own, which ends with the block."""

    def __init__(self, ray: Any, resources: Resources) -> None:
        self.ray, self.resources = ray, resources

    def __enter__(self) -> None:
        ours = self.resources
        # what a worker imports must be this very package, installed or not
        package = str(Path(__file__).resolve().parent.parent)
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": str(ours.cpus_per_run),
        }
        local: dict[str, Any] = {}
        if ours.address is None:
            local = {"include_dashboard": False, "_temp_dir": None}
            if ours.workers is not None:
                local["num_cpus"] = ours.workers * ours.cpus_per_run
        try:
            self.ray.init(
                address=ours.address or "local",  # not one that happens to run here
                runtime_env={"env_vars": environment},
                log_to_driver=False,
                logging_level="ERROR",
                **local,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"address: no Ray cluster at {ours.address!r} ({error}); start one with `ray start "
                "--head`, with the token it wants (docs/sweep.md), or leave --address out"
            ) from error

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()


def _work(
    ray: Any,
    cells: Sequence[Cell],
    resources: Resources,
    status: dict[str, str],
    errors: dict[str, str],
    console: Console,
) -> None:
    remote = ray.remote(
        num_cpus=resources.cpus_per_run, num_gpus=resources.gpus_per_run, max_retries=RETRIES
    )(run_cell)
    waiting = {}
    for cell in cells:
        rules = cell.config.snn.plasticity
        reference = remote.remote(asdict(cell.config), loaded(rules.rule, rules.base))
        waiting[reference] = cell
    with Live(_progress(status), console=console, refresh_per_second=2) as live:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=1.0)
            for reference in done:
                cell = waiting.pop(reference)
                try:
                    ray.get(reference)
                    status[cell.name] = "done"
                except Exception as error:  # whatever a run died of must not stop the others
                    cause = getattr(error, "cause", None) or error
                    errors[cell.name] = f"{type(cause).__name__}: {cause}"
                    status[cell.name] = "failed"
            live.update(_progress(status))
    if not console.is_terminal:  # there the last line stays open
        console.print()


def _progress(status: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    counted = [f"{kind}: {list(status.values()).count(kind)}" for kind in
               ("done", "failed", "waiting")]  # fmt: skip
    table.add_row(f"{len(status)} runs", *counted)
    return table


def _write_csv(summary: Mapping[str, Any], file: Path) -> None:
    """One row a run and learner."""
    rows = [
        {"name": run["name"], **run["values"], "learner": learner, **measures}
        for run in summary["runs"]
        for learner, measures in run.get("learners", {}).items()
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        whole(file) as part,
        part.open("w", newline="", encoding="utf-8") as target,
    ):
        writer = csv.DictWriter(target, columns)
        writer.writeheader()
        writer.writerows(rows)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    sd = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values), "sd": sd, "values": list(values)}


def _percent(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    sd = "" if found["sd"] is None else f" ± {100 * found['sd']:.1f}"
    return f"{100 * found['mean']:.1f}{sd}"


def read_grid(text: str | Mapping[str, Any]) -> dict[str, list[Any]]:
    """``key=v1,v2;key=v3`` or a mapping -> dotted keys with lists of values, read as YAML."""
    if isinstance(text, Mapping):
        return dict(text)
    grid: dict[str, list[Any]] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        key, equals, values = part.partition("=")
        if not equals or not values.strip():
            raise ConfigError(f"grid: {part!r} is not key=value,value; for example seed=1993,1994")
        grid[key.strip()] = read_yaml(f"[{values}]", f"grid: {part!r}")
    return grid
