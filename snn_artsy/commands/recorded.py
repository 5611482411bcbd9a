"""Commands about what was recorded: ``plot``, ``report``, ``export``, ``info``."""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from snn_artsy.checks import ConfigError, one_of
from snn_artsy.commands.arguments import check_is_no_run, chosen_of, formats_of, look_of, opened_run
from snn_artsy.files import at_home
from snn_artsy.printing import complain, make_console, names_of, say, show
from snn_artsy.registry import FIGURES


def plot(arguments: Namespace) -> int:
    """Draw figures of a run."""
    with opened_run(arguments.run) as run, ExitStack() as stack:
        from snn_artsy.plots import NothingRecorded, save_figures

        if arguments.list:
            print("\n".join(FIGURES))
            return 0
        names = [chosen_of(FIGURES, "name", name) for name in arguments.names]
        formats = formats_of(arguments)
        beside = [stack.enter_context(opened_run(path)) for path in arguments.beside]
        stack.enter_context(look_of(arguments))
        console = make_console()
        figures = at_home(arguments.out) if arguments.out else run.path.parent / "figures"
        if not arguments.out and figures.is_symlink():
            raise ConfigError("out", f'"{figures}" is a link; give the place itself with --out')
        skipped: dict[str, str] = {}
        failed: dict[str, str] = {}
        wanted = names or None
        for path in save_figures(
            run, figures, formats, wanted, skipped, failed, arguments.overwrite, beside
        ):
            say(console, str(path))
        for name, reason in (skipped | failed).items():
            complain(f"{name} left out: {reason}")
    if names and len(skipped) == len(names):
        raise NothingRecorded(f"none of {', '.join(names)} could be drawn")
    return 1 if failed else 0


def report(arguments: Namespace) -> int:
    """Write a page about runs, comparisons or a sweep."""
    with ExitStack() as opened:
        given = [at_home(path) for path in arguments.runs]
        compared: list[tuple[Path, dict[str, Any]]] = []
        made_by_sweeps: list[Path] = []
        paths: list[Path] = []
        for path in given:
            found = None if (path / "run.h5").is_file() else _of_many(path)
            if found is not None and "pairs" in found:
                compared.append((path, found))
            elif found is not None:
                made_by_sweeps += sorted(p.parent for p in path.glob("runs/*/run.h5"))
            else:
                paths.append(path)
        many = [*paths, *made_by_sweeps]
        runs = [opened.enter_context(opened_run(str(path))) for path in many]
        from snn_artsy.report import write_report

        names = names_of([path for path, _ in compared])
        comparisons = {name: found for name, (_, found) in zip(names, compared, strict=True)}
        first = given[0] if given[0].is_dir() else given[0].parent
        out = at_home(arguments.out) if arguments.out else first / "report.html"
        check_is_no_run(out, runs)
        opened.enter_context(look_of(arguments))
        alone = not made_by_sweeps  # the figures of a sweep's runs would be hundreds
        page = write_report(runs, out, arguments.overwrite, comparisons, alone)
        say(make_console(), str(page))
    return 0


def _of_many(directory: Path) -> dict[str, Any] | None:
    """``summary.json`` of a comparison, or ``sweep.json``; None where there is neither."""
    from snn_artsy.recording.about import read_summary

    if (directory / "sweep.json").is_file():
        return {"sweep": True}
    found = read_summary(directory)
    return found if found is not None and "pairs" in found else None


def export(arguments: Namespace) -> int:
    """Write a run, or a protocol's data, for another program."""
    given = at_home(arguments.run)
    if given.is_file() and (made := _exported_protocol(given, arguments)) is not None:
        say(make_console(), str(made))
        return 0
    with opened_run(arguments.run) as run:
        from snn_artsy.export import FORMATS, export, written

        if arguments.out is not None:
            check_is_no_run(at_home(arguments.out), [run])
        one_of("to", arguments.to, (*FORMATS, "nir"))
        if arguments.to == "nir":  # the only format that needs torch
            from snn_artsy.runs.to_nir import write_nir

            made = written(run, write_nir, "run.nir", arguments.out, arguments.overwrite)
        else:
            made = export(run, arguments.to, arguments.out, arguments.overwrite)
        say(make_console(), str(made))
    return 0


def _exported_protocol(file: Path, arguments: Namespace) -> Path | None:
    """What was made of a protocol's file; None: it is none."""
    from snn_artsy.protocols.store import export_nwb, is_outcome
    from snn_artsy.recording import RecordingError

    try:
        if not is_outcome(file):
            return None
    except RecordingError as error:
        raise ConfigError("run", f"{error}") from error
    if arguments.to != "nwb":
        raise ConfigError("to", f"{arguments.to!r} is for runs; give nwb for a protocol's data")
    out = None if arguments.out is None else at_home(arguments.out)
    if out is not None and out.exists() and out.samefile(file):
        raise ConfigError("out", f'"{out}" is the file that is read; give another place')
    return export_nwb(file, out, arguments.overwrite)


def info(arguments: Namespace) -> int:
    """Say what a run holds."""
    from snn_artsy.recording.about import read_summary, run_facts, run_integrity, run_sizes
    from snn_artsy.runs.tables import controls_table, domains_table, info_table, summary_table

    console = make_console()
    with opened_run(arguments.run) as run:
        if arguments.csv is not None:
            from snn_artsy.export.measures import as_csv

            print(as_csv(run, arguments.csv), end="")
            return 0
        facts = run_facts(run) | {"integrity": run_integrity(run)}
        sizes = run_sizes(run)
        summary = read_summary(run.path.parent)
        if arguments.json:
            shapes = {path: list(shape) for path, shape in run.datasets().items()}
            about = {"file": str(run.path), **facts, "recorded": sizes, "datasets": shapes}
            print(json.dumps(about, indent=2))
            return 0
        show(console, info_table(str(run.path), facts, sizes))
    if summary is not None:
        show(console, summary_table(summary))
        for table in domains_table(summary):
            show(console, table)
        if summary.get("controls"):
            show(console, controls_table(summary))
    return 0
