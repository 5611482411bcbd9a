"""Commands that compute: ``run``, ``resume``, ``compare``, ``sweep``, ``study``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from snn_artsy.api import COMPARED, STUDIED, Comparison, StudyResult
from snn_artsy.checks import ConfigError, within
from snn_artsy.commands.arguments import resources_of, show_result, typed_of, values_of
from snn_artsy.config import MOST_SEEDS, RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build
from snn_artsy.config_sources import as_file, complete, layered, read_config
from snn_artsy.files import at_home
from snn_artsy.printing import make_console, say, show
from snn_artsy.provenance import follows
from snn_artsy.runs.directory import check_out, claim, give_back
from snn_artsy.yaml_file import yaml_text


def run(arguments: Namespace) -> int:
    """Run learners over a task stream."""
    values = complete(values_of(arguments))
    config = build(RunConfig, values)
    check_used(config, typed_of(arguments))
    if arguments.print_config:
        print(as_file(config, values), end="")
        return 0
    # Checked before torch is loaded and features are extracted: a taken directory costs no wait.
    if not follows():
        check_out(config.out)

    from snn_artsy.runs.run import execute

    if follows():
        return 1 if execute(config).summary.get("failed") else 0
    console = make_console()
    return show_result(execute(config, console), console)


def resume(arguments: Namespace) -> int:
    """Go on with an interrupted run."""
    directory = at_home(arguments.run)
    if not directory.is_dir():
        raise ConfigError("run", f'no directory "{arguments.run}"; give that of an interrupted run')

    from snn_artsy.runs.run import resume

    console = make_console()
    return show_result(resume(directory, console), console)


def compare(arguments: Namespace) -> int:
    """Run learners over several class orders, and compare them."""
    values = complete(values_of(arguments, COMPARED))
    config = build(RunConfig, values)
    check_used(config, typed_of(arguments))
    if arguments.print_config:
        print(as_file(config, values), end="")
        return 0
    within("seeds", arguments.seeds, 1, MOST_SEEDS)
    resources = resources_of(arguments)

    from snn_artsy.runs.compare import compare

    console = make_console()
    comparison = Comparison(*compare(config, arguments.seeds, console, resources))
    show(console, comparison)
    say(console, f"summary.json, cells: {comparison.directory}")
    return 1 if comparison.summary.get("failed") else 0


def sweep(arguments: Namespace) -> int:
    """Run every combination of some values."""
    from snn_artsy.runs.sweep import grid_cells, read_grid, sweep
    from snn_artsy.runs.tables import groups_table

    given = vars(arguments)
    base = values_of(arguments)
    grid = base.pop("grid", None)
    grid = grid if given["grid"] is None else given["grid"]
    if grid is None:
        raise ConfigError("grid", "not given; for example --grid 'seed=1993,1994;learners=[ease]'")
    resources = resources_of(arguments)
    values, typed = read_grid(grid), typed_of(arguments)
    if arguments.print_config:
        grid_cells(base, values, Path("runs"), typed)
        config = build(RunConfig, complete(base))
        print(as_file(config, base), yaml_text({"grid": values}), sep="", end="")
        return 0
    made: list[Path] = []
    if base.get("out") is None:  # all is checked before a directory is made
        grid_cells(base, values, Path("runs"), typed)
        out, made = claim(None, "sweep")
    else:
        out = at_home(base["out"])
    out = out.resolve()
    cells = grid_cells(base, values, out, typed)
    console = make_console()
    try:
        summary = sweep(cells, out, resources, console)
    except KeyboardInterrupt as error:
        error.args = ("; the same command goes on from there",)
        raise
    except Exception:
        give_back(made)
        raise
    show(console, groups_table(summary))
    failed = [run for run in summary["runs"] if "error" in run]
    for run in failed:
        say(console, f"failed: {run['name']}: {run['error']}")
    say(console, f"sweep.json, sweep.csv, runs: {out}")
    return 1 if failed else 0


def study(arguments: Namespace) -> int:
    """Vary what a question is about, seed by seed."""
    from snn_artsy.runs.study import KEYS, carry_out, planned
    from snn_artsy.runs.sweep import read_grid

    given = vars(arguments)
    names = [arguments.file] if arguments.file is not None else []
    files = [read_config(name, KEYS) for name in (*names, *arguments.config)]
    about = {key: file.pop(key) for file in files for key in KEYS if key in file}
    base = layered(STUDIED, *files, typed_of(arguments))
    about |= {key: given[key] for key in ("measure", "seeds") if given[key] is not None}
    if given["vary"] is not None:
        about["vary"] = read_grid(given["vary"], "vary")
    where, typed = base.pop("out", None), set(typed_of(arguments)) - {"out"}
    study = planned(base, about, Path("runs"), typed)  # all is checked before a directory is made
    if arguments.print_config:
        config = build(RunConfig, complete(base))
        print(as_file(config, base), yaml_text(about), sep="", end="")
        return 0
    resources = resources_of(arguments)
    out, made = claim(where, "study")
    console = make_console()
    try:
        study = planned(base, about, out, typed)
        result = StudyResult(out, carry_out(study, out, console, resources))
    except Exception:
        give_back(made)
        raise
    show(console, result)
    say(console, f"study.json, study.csv, study.md, study.pdf, cells: {out}")
    return 1 if result.found["failed"] else 0
