"""The ``snn-artsy`` command.

Exit codes: 0 done, 1 failed while running, 2 bad input or configuration, 3 a protocol missed its
published value, 130 and 143 interrupted (SIGINT, SIGTERM). Every failure is one line on standard
error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from snn_artsy import __version__
from snn_artsy.checks import ConfigError, one_of, require
from snn_artsy.cli_messages import PROG, check_config_file, config_files, explain, flat
from snn_artsy.config import DEFAULT_LEARNERS, LEARNERS, RunConfig, check_threads
from snn_artsy.config_builder import (
    build,
    defaults_of,
)
from snn_artsy.protocols import ON_A_RUN, PROTOCOLS
from snn_artsy.rundir import run_directory

if TYPE_CHECKING:
    from rich.console import Console

    from snn_artsy.recording import Run
    from snn_artsy.run import RunResult

# torch, matplotlib and h5py are imported by the commands that need them, so that --help is quick.

_NOT_CONFIGURATION = {
    "config", "print_config", "help", "seeds",
    "grid", "address", "workers", "cpus_per_run", "gpus_per_run",
}  # fmt: skip
# Seeds of a comparison draw their own training images, or SimpleCIL would not vary at all.
_COMPARED_TRAIN_SHARE = 0.9


class Terminated(KeyboardInterrupt):
    """SIGTERM, delivered as an interrupt so that a run closes its files either way."""


class _ParserError(Exception):
    """What jsonargparse found wrong, before it is put in our words."""


class _Parser(ArgumentParser):
    """Raises instead of printing usage and exiting: `main` says it in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise _ParserError(message) from ex


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Accepted before and after the command's name; it is no part of a run's configuration.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _terminable():
            code = _dispatch(arguments)
    except ConfigError as error:
        code = _fail(str(error), 2, debug)
    except Terminated as error:
        code = _fail(f"terminated{error}", 143, debug)
    except KeyboardInterrupt as error:
        code = _fail(f"interrupted{error}", 130, debug)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        code = _fail(text if debug else f"{text} (--debug shows the traceback)", 1, debug)
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    first = next((word for word in arguments if not word.startswith("-")), None)
    parser, parsers = _build_parsers(first)
    for name in config_files(arguments):
        check_config_file(name, ["grid"] if first == "sweep" else [])
    try:
        parsed = parser.parse_args(arguments)
    except _ParserError as error:
        command = next((word for word in arguments if word in parsers), None)
        raise ConfigError(explain(str(error), command, arguments, parsers)) from error
    commands: dict[str, Callable[[Namespace], int]] = {"run": _run, "plot": _plot, "info": _info}
    commands |= {"protocol": _protocol, "compare": _compare, "resume": _resume}
    commands |= {"export": _export, "report": _report, "sweep": _sweep}
    return commands[parsed.subcommand](parsed[parsed.subcommand])


@lru_cache(maxsize=8)  # a tenth of a second each, for programs that call `main` often
def _build_parsers(command: str | None) -> tuple[_Parser, dict[str, _Parser]]:
    """All commands; a run's keys for the ``command`` that takes them, since jsonargparse loads
    torch for them."""
    parser = _Parser(
        prog=PROG,
        version=__version__,
        description="Continual learning with silent synapses between a frozen ViT and its "
        "sub-networks. --debug, anywhere, shows the traceback of a failure.",
    )
    run = _Parser(
        description="Learn the tasks, evaluate after each, record. Without any argument: the "
        "bundled backbone and scikit-learn's digits, in under two minutes."
    )
    compare = _Parser(
        description="Learners x seeds on one protocol, compared pair by pair. Takes every key of "
        f"`{PROG} run`; --seed is the first of the seeds, --out the directory, which keeps "
        f"finished cells. data.train_share is {_COMPARED_TRAIN_SHARE:g} here unless given."
    )
    sweep = _Parser(
        description="Every combination of a grid's values as a run of its own, on Ray. Takes every "
        f"key of `{PROG} run`; --out is the directory of all. The same command takes up what is "
        "missing."
    )
    if command == "run":
        _add_configuration(run)
    if command == "sweep":
        _add_configuration(sweep)
        _add_sweep(sweep)
    if command == "compare":
        _add_configuration(compare)
        compare.set_defaults({"data.train_share": _COMPARED_TRAIN_SHARE})
        compare.add_argument("--seeds", type=int, default=5, help="How many seeds.")

    plot = _Parser(description="Draw figures of a recorded run.")
    plot.add_argument("run", type=str, metavar="RUN", help="Run directory or its run.h5.")
    plot.add_argument("names", type=str, nargs="*", metavar="NAME", help="Figures (default: all).")
    plot.add_argument("--format", type=str, default="png", metavar="png|pdf|svg", help="Of files.")
    plot.add_argument(
        "--list",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        metavar="true|false",
        help="Only list the names of the figures.",
    )
    plot.add_argument(
        "--out", type=str, help="Directory of the figures (default: figures/ in the run directory)."
    )
    resume = _Parser(
        description="Go on with an interrupted run after the last task that a learner finished (in "
        "the spiking learner, after the last epoch), with the configuration it began with. On the "
        "CPU its numbers are those of a run that was never interrupted."
    )
    resume.add_argument("run", type=str, metavar="RUN", help="Run directory.")
    info = _Parser(description="Say what was run, how it ended, and what the file holds.")
    info.add_argument("run", type=str, metavar="RUN", help="Run directory or its run.h5.")
    info.add_argument(
        "--json", type=bool, nargs="?", const=True, default=False, metavar="true|false",
        help="As JSON.",
    )  # fmt: skip

    report = _Parser(
        description="Write one HTML page that needs no network: configuration, table, figures, how "
        "to reproduce; with several runs, their comparison."
    )
    report.add_argument("runs", type=str, nargs="+", metavar="RUN", help="Run directories.")
    report.add_argument(
        "--out", type=str, help="The page (default: report.html in the first run's directory)."
    )

    export = _Parser(description="Write a run in a format that other tools open.")
    export.add_argument("run", type=str, metavar="RUN", help="Run directory or its run.h5.")
    export.add_argument("--to", type=str, required=True, metavar="nwb|sonata", help="Format.")
    export.add_argument(
        "--out", type=str, help="File (nwb) or directory (sonata) to make; default: beside run.h5."
    )

    protocol = _Parser(
        description="Run virtual experiments beside their published values: "
        + "; ".join(f"{name}: {text}" for name, text in PROTOCOLS.items())
        + "; all: every one of them."
    )
    protocol.add_argument("name", type=str, metavar="NAME", help="A protocol, or all.")
    protocol.add_argument(
        "--out", type=str, default="protocols", help="Directory of data, figures, protocols.json."
    )
    protocol.add_argument(
        "--run", type=str, help=f"Trained run directory, for {' and '.join(ON_A_RUN)}."
    )
    protocol.add_argument("--seed", type=int, default=1993, help="Of everything random.")
    protocol.add_argument("--threads", type=int, help="Threads to compute with (default: one).")

    parsers = {"run": run, "plot": plot, "info": info, "protocol": protocol, "compare": compare}
    parsers |= {"resume": resume, "export": export, "report": report, "sweep": sweep}
    helps = {
        "run": "learn, evaluate, record",
        "plot": "draw figures",
        "info": "what is in a run",
        "protocol": "virtual experiments",
        "compare": "learners x seeds, with statistics",
        "resume": "go on with an interrupted run",
        "export": "as NWB or SONATA",
        "report": "one HTML page",
        "sweep": "a grid of runs on Ray",
    }
    subcommands = parser.add_subcommands()
    for name, subparser in parsers.items():
        subcommands.add_subcommand(name, subparser, help=helps[name])
    return parser, parsers


def _add_configuration(parser: _Parser) -> None:
    """Every key of a run's configuration."""
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below.")
    parser.add_class_arguments(RunConfig, None, skip={"learners", "controls"})
    parser.add_argument(
        "--learners",
        type=_learner_names,
        metavar="A,B",
        help=f"Methods to compare, separated by commas: {', '.join(LEARNERS)} "
        f"(default: {','.join(DEFAULT_LEARNERS)}).",
    )
    parser.add_argument(
        "--controls",
        type=bool,
        nargs="?",
        const=True,
        metavar="true|false",
        help="Also run the spiking learner's controls: permuted contacts, shuffled teacher "
        "labels, random contacts.",
    )
    parser.set_defaults(flat(defaults_of(RunConfig)))


def _add_sweep(parser: _Parser) -> None:
    parser.add_argument(
        "--grid",
        type=_grid,
        metavar="KEY=A,B;KEY=C,D",
        help="Keys and their values; in a configuration file, `grid:` with a list for each key.",
    )
    parser.add_argument(
        "--address", type=str, help="Of a Ray cluster, or auto; default: this machine alone."
    )
    parser.add_argument("--workers", type=int, help="Runs at a time here (default: by its cores).")
    parser.add_argument("--cpus_per_run", type=int, default=1, help="Cores of each run.")
    parser.add_argument(
        "--gpus_per_run", type=float, default=0.0, help="GPUs of each run; fractions share one."
    )


def _grid(value: str | dict[str, Any]) -> str | dict[str, Any]:
    """Text or YAML; read by the sweep, which says what is wrong in it."""
    return value


def _learner_names(value: str | list[str]) -> list[str]:
    """Names from the command line (commas) or from YAML (a list)."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


# --- commands -------------------------------------------------------------------------------------


def _run(arguments: Namespace) -> int:
    given = arguments.as_dict()
    values = {key: value for key, value in given.items() if key not in _NOT_CONFIGURATION}
    config = build(RunConfig, values)
    # Checked before torch is loaded and features are extracted: a taken directory costs no wait.
    directory = run_directory(config.out, config.data.name)

    from rich.console import Console

    from snn_artsy.run import execute

    console = Console()
    with _can_go_on(directory):
        result = execute(replace(config, out=str(directory)), console)
    return _show(result, console)


def _resume(arguments: Namespace) -> int:
    directory = Path(arguments.run).expanduser()
    if not directory.is_dir():
        raise ConfigError(f'run: no directory "{arguments.run}"; give that of an interrupted run')

    from rich.console import Console

    from snn_artsy.run import resume

    console = Console()
    with _can_go_on(directory):
        result = resume(directory, console)
    return _show(result, console)


def _sweep(arguments: Namespace) -> int:
    given = arguments.as_dict()
    base = {key: value for key, value in given.items() if key not in _NOT_CONFIGURATION}
    if given["grid"] is None:
        raise ConfigError("grid: not given; for example --grid 'seed=1993,1994;learners=[ease]'")
    for key in ("workers", "cpus_per_run"):
        require(given[key] is None or given[key] >= 1, key, given[key], "use 1 or more")
    require(given["gpus_per_run"] >= 0, "gpus_per_run", given["gpus_per_run"], "use 0 or more")
    out = Path(base["out"] or run_directory(None, "sweep")).expanduser().resolve()

    from rich.console import Console

    from snn_artsy.sweep import Resources, grid_cells, groups_table, read_grid, sweep

    cells = grid_cells(base, read_grid(given["grid"]), out)
    console = Console()
    names = ("address", "workers", "cpus_per_run", "gpus_per_run")
    summary = sweep(cells, out, Resources(**{n: given[n] for n in names}), console)
    console.print(groups_table(summary))
    failed = [run for run in summary["runs"] if "error" in run]
    for run in failed:
        console.print(f"failed: {run['name']}: {run['error']}", highlight=False, soft_wrap=True)
    console.print(f"sweep.json, sweep.csv, runs: {out}", highlight=False, soft_wrap=True)
    return 1 if failed else 0


@contextmanager
def _can_go_on(directory: Path) -> Iterator[None]:
    """Say how an interrupted run goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        if (directory / "run.h5").is_file():
            error.args = (f"; `{PROG} resume {directory}` goes on from there",)
        raise


def _show(result: RunResult, console: Console) -> int:
    """What came out of a run, and where it lies; the exit code: 1 if a learner failed."""
    from snn_artsy.table import controls_table, summary_table

    console.print(summary_table(result.summary))
    if result.summary.get("controls"):
        console.print(controls_table(result.summary))
    console.print(f"Run directory: {result.directory}", soft_wrap=True, highlight=False)
    return 1 if result.summary.get("failed") else 0


def _compare(arguments: Namespace) -> int:
    given = arguments.as_dict()
    values = {key: value for key, value in given.items() if key not in _NOT_CONFIGURATION}
    config = build(RunConfig, values)
    require(given["seeds"] >= 1, "seeds", given["seeds"], "use 1 or more")

    from rich.console import Console

    from snn_artsy.compare import compare
    from snn_artsy.table import comparison_table, pairs_table

    console = Console()
    directory, summary = compare(config, given["seeds"], console)
    console.print(comparison_table(summary))
    if summary["pairs"]:
        console.print(pairs_table(summary))
    console.print(f"summary.json, cells: {directory}", soft_wrap=True, highlight=False)
    return 0


def _plot(arguments: Namespace) -> int:
    with _opened(arguments.run) as run:
        from snn_artsy.plots import FIGURES, NothingRecorded, save_figures

        if arguments.list:
            print("\n".join(FIGURES))
            return 0
        for name in arguments.names:
            require(name in FIGURES, "name", name, f"choose from {', '.join(FIGURES)}")
        one_of("format", arguments.format, ("png", "pdf", "svg"))
        figures = Path(arguments.out) if arguments.out else run.path.parent / "figures"
        skipped: dict[str, str] = {}
        wanted = arguments.names or None
        for path in save_figures(run, figures, (arguments.format,), wanted, skipped):
            print(path)
        for name, reason in skipped.items():
            print(f"{name} left out: {reason}", file=sys.stderr)
    if arguments.names and len(skipped) == len(arguments.names):
        raise NothingRecorded(f"none of {', '.join(arguments.names)} could be drawn")
    return 0


def _report(arguments: Namespace) -> int:
    from contextlib import ExitStack

    with ExitStack() as opened:
        runs = [opened.enter_context(_opened(path)) for path in arguments.runs]
        from snn_artsy.report import write_report

        first = runs[0].path.parent
        out = Path(arguments.out).expanduser() if arguments.out else first / "report.html"
        out.parent.mkdir(parents=True, exist_ok=True)
        print(write_report(runs, out))
    return 0


def _export(arguments: Namespace) -> int:
    with _opened(arguments.run) as run:
        from snn_artsy.export import export

        print(export(run, arguments.to, arguments.out))
    return 0


def _protocol(arguments: Namespace) -> int:
    name, names = arguments.name, list(PROTOCOLS)
    if name != "all" and name not in PROTOCOLS:
        raise ConfigError(f"protocol: {name!r} is unknown; choose from {', '.join(names)}, all")
    if arguments.run is not None:
        if name not in ON_A_RUN:
            raise ConfigError(f"run: {name!r} works on no run; leave --run out")
        if not Path(arguments.run).is_dir():
            raise ConfigError(f'run: no directory "{arguments.run}"; give that of a finished run')
    threads = arguments.threads
    check_threads(threads)
    out = Path(arguments.out).expanduser()

    from rich.console import Console

    from snn_artsy.protocols.base import Setting
    from snn_artsy.protocols.run_all import run_protocols
    from snn_artsy.table import protocols_table

    console = Console()
    run = None if arguments.run is None else Path(arguments.run)
    chosen = names if name == "all" else [name]
    # one protocol fails like any command; of many, the others still run
    setting = Setting(arguments.seed, run, threads=threads)
    rows = run_protocols(chosen, setting, out, console, name == "all")
    console.print(protocols_table(rows))
    for figure in dict.fromkeys(row["figure"] for row in rows if row["figure"]):
        console.print(f"Figure: {out / figure}", soft_wrap=True, highlight=False)
    console.print(f"Data, figures, protocols.json: {out}", soft_wrap=True, highlight=False)
    return 0 if all(row["pass"] for row in rows) else 3


def _info(arguments: Namespace) -> int:
    from rich.console import Console

    from snn_artsy.recording.about import run_facts, run_integrity, run_sizes
    from snn_artsy.table import controls_table, info_table, summary_table

    console = Console()
    with _opened(arguments.run) as run:
        facts = run_facts(run) | {"integrity": run_integrity(run)}
        sizes = run_sizes(run)
        if arguments.json:
            shapes = {path: list(shape) for path, shape in run.datasets().items()}
            about = {"file": str(run.path), **facts, "recorded": sizes, "datasets": shapes}
            print(json.dumps(about, indent=2))
            return 0
        console.print(info_table(str(run.path), facts, sizes))
        summary_file = run.path.parent / "summary.json"
    if summary_file.is_file():
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        console.print(summary_table(summary))
        if summary.get("controls"):
            console.print(controls_table(summary))
    return 0


@contextmanager
def _opened(path: str) -> Iterator[Run]:
    """A recorded run; what is wrong with its file is wrong input."""
    from snn_artsy.recording import RecordingError, open_run

    given = Path(path).expanduser()
    if not (given / "run.h5" if given.is_dir() else given).is_file():
        raise ConfigError(
            f'run: no recorded run at "{path}"; give a run directory or its run.h5 '
            f"(`{PROG} run` makes them under runs/)"
        )
    try:
        with open_run(given) as run:
            yield run
    except RecordingError as error:
        raise ConfigError(f"run: {error}") from error


# --- failures -------------------------------------------------------------------------------------


def _fail(text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"{PROG}: {' '.join(text.split())}", file=sys.stderr)
    return code


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into `Terminated` while a command runs."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
