"""The ``snn-artsy`` command.

Exit codes: 0 done, 1 failed while running, 2 bad input or configuration, 3 a protocol missed its
reference value, 130 and 143 interrupted (SIGINT, SIGTERM). Every failure is one line on standard
error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from snn_artsy.api import COMPARED, STUDIED, Comparison, StudyResult
from snn_artsy.checks import ConfigError, one_of, require, within
from snn_artsy.commands import PROG, build_parsers
from snn_artsy.config import DEVICES, MOST_SEEDS, RunConfig, check_threads
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build, convert, keys_of
from snn_artsy.config_sources import as_file, complete, layered, read_config
from snn_artsy.files import at_home
from snn_artsy.printing import complain, make_console, safe_streams, say, show
from snn_artsy.protocols import ON_A_RUN
from snn_artsy.protocols.parameters import NoParameters, parameters_of
from snn_artsy.provenance import follows, started_together
from snn_artsy.registry import (
    DATA,
    ENCODERS,
    FIGURES,
    LEARNERS,
    NEURONS,
    PROTOCOLS,
    RULES,
    Registry,
    load,
)
from snn_artsy.runs.directory import check_out, claim, give_back
from snn_artsy.signals import Terminated, exit_code, interruptible
from snn_artsy.yaml_file import yaml_text

if TYPE_CHECKING:
    from rich.console import Console

    from snn_artsy.recording import Run
    from snn_artsy.runs.run import RunResult
    from snn_artsy.runs.workers import Resources

# torch, matplotlib and h5py are imported by the commands that need them, so that --help is quick.

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE}
# What makes nothing but what it prints.
_PRINTS = {"info", "predict", "--list", "--help", "-h", "--version", "--print_config"}
# Options under which module:Name may be typed.
_NAMING = {
    "learners": LEARNERS,
    "data.name": DATA,
    "snn.plasticity.rule": RULES,
    "snn.plasticity.base": RULES,
    "snn.encoding.code": ENCODERS,
    "snn.neuron.model": NEURONS,
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    _carry_out(_dispatch, PROG, list(sys.argv[1:] if argv is None else argv))


def script(work: Callable[[list[str]], None]) -> NoReturn:
    """Carry out a script beside the package, which is given its arguments, as commands are: what
    goes wrong is one line, with their exit codes."""

    def done(arguments: list[str]) -> int:
        from snn_artsy.recording.schema import RecordingError

        try:
            work(arguments)
        except RecordingError as error:  # of a run that it was given
            raise ConfigError("run", str(error)) from error
        return 0

    _carry_out(done, Path(sys.argv[0]).name, sys.argv[1:])


def _carry_out(work: Callable[[list[str]], int], prog: str, arguments: list[str]) -> NoReturn:
    """Do what the arguments ask for, and exit."""
    # Accepted before and after the command's name; it is no part of a run's configuration.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with safe_streams() as out:
        try:
            code, failure = _outcome(lambda: work(arguments), debug)
            if failure is not None:
                complain(f"{prog}: {failure}")
        except KeyboardInterrupt as error:  # one more, while the first was being said
            code = exit_code(error)
        out.flush()
        if out.lost is not None and not isinstance(out.lost, BrokenPipeError):
            complain(f"{prog}: standard output was lost ({out.lost})")
            if not _PRINTS.isdisjoint(arguments):
                code = code or 1
    sys.exit(code)


def _outcome(work: Callable[[], int], debug: bool) -> tuple[int, str | None]:
    """Exit code of some work, and what went wrong."""
    try:
        with interruptible():
            return work(), None
    except SystemExit as error:  # --help and its like
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), None
    except KeyboardInterrupt as error:
        _traceback(debug)
        how = "terminated" if isinstance(error, Terminated) else "interrupted"
        return exit_code(error), f"{how}{error}"
    except Exception as error:
        _traceback(debug)
        return _said(error, debug)


def _said(error: Exception, debug: bool) -> tuple[int, str]:
    """Exit code of a failure, and the failure in words."""
    if isinstance(error, ConfigError):
        return 2, str(error)
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, MemoryError):
        why = f" ({error})" if str(error) else ""
        return 1, f"memory: not enough{why}; close other programs, or use less data"
    from snn_artsy.recording.schema import RecordingError

    if isinstance(error, RecordingError):
        return 1, str(error)
    text = f"{type(error).__name__}: {error}"
    return 1, text if debug else f"{text} (--debug shows the traceback)"


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, Callable[[Namespace], int]] = {"run": _run, "plot": _plot}
    commands |= {"info": _info, "protocol": _protocol, "compare": _compare, "resume": _resume}
    commands |= {"export": _export, "report": _report, "sweep": _sweep}
    commands |= {"predict": _predict, "pack": _pack, "study": _study}
    if not arguments:
        names = ", ".join(commands)
        raise ConfigError("command", f"none given; choose from {names}, for example `{PROG} run`")
    command, *words = arguments
    if command in ("--help", "-h", "--version"):
        build_parsers(command)[0].parse_args([command])
    if command.startswith("-"):
        raise ConfigError(command, f"unknown option; see `{PROG} --help`")
    if command not in commands:
        raise ConfigError(command, f"unknown command; choose from {', '.join(commands)}")
    if command != "run" and started_together():
        raise ConfigError(command, f"is for one process; torchrun starts `{PROG} run`")
    words = _load_own(words)
    keys: type | None = None
    of_protocol = ""
    if command in ("run", "compare", "sweep", "study"):
        keys = RunConfig.whole()
    elif command == "protocol" and (of_protocol := _named_protocol(words)):
        keys = _parameters(of_protocol)
    _, parsers = build_parsers(command, keys, of_protocol)
    return commands[command](parsers[command].read(words))


# --- commands -------------------------------------------------------------------------------------


def _run(arguments: Namespace) -> int:
    values = complete(_values(arguments))
    config = build(RunConfig, values)
    check_used(config, _typed(arguments))
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
    return _show(execute(config, console), console)


def _resume(arguments: Namespace) -> int:
    directory = at_home(arguments.run)
    if not directory.is_dir():
        raise ConfigError("run", f'no directory "{arguments.run}"; give that of an interrupted run')

    from snn_artsy.runs.run import resume

    console = make_console()
    return _show(resume(directory, console), console)


def _sweep(arguments: Namespace) -> int:
    from snn_artsy.runs.sweep import grid_cells, read_grid, sweep
    from snn_artsy.runs.tables import groups_table

    given = vars(arguments)
    base = _values(arguments)
    grid = base.pop("grid", None)
    grid = grid if given["grid"] is None else given["grid"]
    if grid is None:
        raise ConfigError("grid", "not given; for example --grid 'seed=1993,1994;learners=[ease]'")
    resources = _resources(arguments)
    values, typed = read_grid(grid), _typed(arguments)
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


def _study(arguments: Namespace) -> int:
    from snn_artsy.runs.study import KEYS, carry_out, planned
    from snn_artsy.runs.sweep import read_grid

    given = vars(arguments)
    names = [arguments.file] if arguments.file is not None else []
    files = [read_config(name, KEYS) for name in (*names, *arguments.config)]
    about = {key: file.pop(key) for file in files for key in KEYS if key in file}
    base = layered(STUDIED, *files, _typed(arguments))
    about |= {key: given[key] for key in ("measure", "seeds") if given[key] is not None}
    if given["vary"] is not None:
        about["vary"] = read_grid(given["vary"], "vary")
    where, typed = base.pop("out", None), set(_typed(arguments)) - {"out"}
    study = planned(base, about, Path("runs"), typed)  # all is checked before a directory is made
    if arguments.print_config:
        config = build(RunConfig, complete(base))
        print(as_file(config, base), yaml_text(about), sep="", end="")
        return 0
    resources = _resources(arguments)
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


def _resources(arguments: Namespace) -> Resources:
    from snn_artsy.runs.workers import Resources

    return Resources(**{field.name: getattr(arguments, field.name) for field in fields(Resources)})


def _values(arguments: Namespace, *below: dict[str, Any]) -> dict[str, Any]:
    """Values of a run's configuration from files and command line, nested.

    Args:
        below: Defaults of the command's own, which files and options beat.
    """
    also = ["grid"] if "grid" in arguments else []
    files = [read_config(name, also) for name in arguments.config]
    return layered(*below, *files, _typed(arguments))


def _typed(arguments: Namespace) -> dict[str, str]:
    """Keys of a run's configuration on the command line, and what stands there."""
    return {key: value for key, value in vars(arguments).items() if key in keys_of(RunConfig)}


def _chosen(registry: Registry, key: str, typed: str, *also: str) -> str:
    """What is named by an argument of this command line; ``module:Name`` is imported."""
    return registry.load(typed) if ":" in typed else registry.require(key, typed, *also)


def _load_own(words: Sequence[str]) -> list[str]:
    """Import what is named as module:Name on this command line, before its options are looked at,
    which may be those of a learner; names in files are left alone.

    Returns:
        The words, with ``--own_rules``, as the option was called once, as ``--own``.
    """
    words = [re.sub(r"^--own_rules(?=$|=)", "--own", word) for word in words]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        option, equals, value = word.partition("=")
        given: dict[str, Any] = {option.removeprefix("--"): value if equals else following}
        if option in ("--grid", "--vary"):
            from snn_artsy.runs.sweep import read_grid

            key = option.removeprefix("--")
            given = read_grid(given[key], key)
        for key, values in given.items():
            if option.startswith("--") and key in (*_NAMING, "own"):
                texts = values if isinstance(values, list) else [values]
                for name in (n for each in texts for n in convert(list[str], each, key)):
                    if ":" in name:
                        _NAMING[key].load(name) if key in _NAMING else load(name)
    return words


def _show(result: RunResult, console: Console) -> int:
    """What came out of a run, and where it lies; the exit code: 1 if a learner failed."""
    show(console, result)
    say(console, f"Run directory: {result.directory}")
    return 1 if result.summary.get("failed") else 0


def _compare(arguments: Namespace) -> int:
    values = complete(_values(arguments, COMPARED))
    config = build(RunConfig, values)
    check_used(config, _typed(arguments))
    if arguments.print_config:
        print(as_file(config, values), end="")
        return 0
    within("seeds", arguments.seeds, 1, MOST_SEEDS)
    resources = _resources(arguments)

    from snn_artsy.runs.compare import compare

    console = make_console()
    comparison = Comparison(*compare(config, arguments.seeds, console, resources))
    show(console, comparison)
    say(console, f"summary.json, cells: {comparison.directory}")
    return 1 if comparison.summary.get("failed") else 0


def _plot(arguments: Namespace) -> int:
    from contextlib import ExitStack

    with _opened(arguments.run) as run, ExitStack() as stack:
        from snn_artsy.plots import NothingRecorded, save_figures

        if arguments.list:
            print("\n".join(FIGURES))
            return 0
        names = [_chosen(FIGURES, "name", name) for name in arguments.names]
        formats = _formats(arguments)
        beside = [stack.enter_context(_opened(path)) for path in arguments.beside]
        stack.enter_context(_look(arguments))
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


def _formats(arguments: Namespace) -> tuple[str, ...]:
    """Of figures' files, each once."""
    formats = tuple(dict.fromkeys(arguments.format))
    require(bool(formats), "format", "", "give png, pdf, svg, or several of them")
    for kind in formats:
        one_of("format", kind, ("png", "pdf", "svg"))
    return formats


def _look(arguments: Namespace) -> AbstractContextManager[None]:
    """Within it, figures are drawn as was asked for."""
    from snn_artsy.plots import look

    # a name of matplotlib's own, or a file
    sheets = [at_home(s) if at_home(s).is_file() else s for s in arguments.style]
    return look(*sheets, width=arguments.width)


def _report(arguments: Namespace) -> int:
    from contextlib import ExitStack

    with ExitStack() as opened:
        given = [at_home(path) for path in arguments.runs]
        comparisons, made_by_sweeps = {}, []
        paths: list[Path] = []
        for path in given:
            found = None if (path / "run.h5").is_file() else _of_many(path)
            if found is not None and "pairs" in found:
                comparisons[path.name] = found
            elif found is not None:
                made_by_sweeps += sorted(p.parent for p in path.glob("runs/*/run.h5"))
            else:
                paths.append(path)
        many = [*paths, *made_by_sweeps]
        runs = [opened.enter_context(_opened(str(path))) for path in many]
        from snn_artsy.report import write_report

        first = given[0] if given[0].is_dir() else given[0].parent
        out = at_home(arguments.out) if arguments.out else first / "report.html"
        _check_is_no_run(out, runs)
        opened.enter_context(_look(arguments))
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


def _export(arguments: Namespace) -> int:
    given = at_home(arguments.run)
    if given.is_file() and (made := _exported_protocol(given, arguments)) is not None:
        say(make_console(), str(made))
        return 0
    with _opened(arguments.run) as run:
        from snn_artsy.export import FORMATS, export, written

        if arguments.out is not None:
            _check_is_no_run(at_home(arguments.out), [run])
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


def _check_is_no_run(out: Path, runs: Sequence[Run]) -> None:
    """Also with --overwrite, what is read is not replaced by what is made of it."""
    for run in runs:
        if out.exists() and out.samefile(run.path):
            raise ConfigError("out", f'"{out}" is the run that is read; give another place')


def _named_protocol(words: Sequence[str]) -> str:
    """The protocol of this command line, which is asked for before its options are looked at,
    since they are its parameters; empty if there is none."""
    flags = ("--overwrite", "--print_config", "--help", "-h")
    for before, word in zip(["", *words], words, strict=False):
        is_value = before.startswith("--") and "=" not in before and before not in flags
        if not (word.startswith("-") or is_value or word.lower() in ("true", "false")):
            return word if word == "all" else _chosen(PROTOCOLS, "protocol", word, "all")
    return ""


def _parameters(protocol: str) -> type:
    return NoParameters if protocol == "all" else parameters_of(protocol)


def _protocol(arguments: Namespace) -> int:
    name, names = arguments.name, list(PROTOCOLS)
    if name is None:
        raise ConfigError("protocol", f"none given; choose from {', '.join(names)}, all")
    if name != "all":
        name = _chosen(PROTOCOLS, "protocol", name, "all")
    cls = _parameters(name)
    files = [read_config(file, cls=cls) for file in arguments.config]
    typed = {key: value for key, value in vars(arguments).items() if key in keys_of(cls)}
    parameters: Any = build(cls, layered(*files, typed, cls=cls))
    if arguments.print_config:
        print(yaml_text(asdict(parameters)), end="")
        return 0
    if arguments.run is not None:
        if name not in ON_A_RUN:
            raise ConfigError("run", f"{name!r} works on no run; leave --run out")
        if not at_home(arguments.run).is_dir():
            raise ConfigError("run", f'no directory "{arguments.run}"; give that of a finished run')
    threads = arguments.threads
    check_threads(threads)
    out = at_home(arguments.out)

    from snn_artsy.protocols.base import Session
    from snn_artsy.protocols.run_all import run_protocols
    from snn_artsy.runs.tables import protocols_table

    console = make_console()
    run = None if arguments.run is None else at_home(arguments.run)
    chosen = names if name == "all" else [name]
    # one protocol fails like any command; of many, the others still run
    session = Session(arguments.seed, run, threads=threads)
    given = None if name == "all" else parameters
    formats = _formats(arguments)
    with _look(arguments):
        rows = run_protocols(
            chosen, session, out, console, name == "all", arguments.overwrite, given, formats
        )
    show(console, protocols_table(rows))
    for figure in dict.fromkeys(row["figure"] for row in rows if row["figure"]):
        say(console, f"Figure: {out / figure}")
    say(console, f"Data, figures, protocols.json: {out}")
    return 3 if any(row["pass"] is False for row in rows) else 0


def _info(arguments: Namespace) -> int:
    from snn_artsy.recording.about import read_summary, run_facts, run_integrity, run_sizes
    from snn_artsy.runs.tables import controls_table, domains_table, info_table, summary_table

    console = make_console()
    with _opened(arguments.run) as run:
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


def _predict(arguments: Namespace) -> int:
    from snn_artsy.data.given import GivenImages
    from snn_artsy.output import check_free, write_outputs
    from snn_artsy.runs.kept import require_kept

    # Looked at before torch is loaded: a mistake costs no wait.
    directory = at_home(arguments.run)
    if not directory.exists():
        raise ConfigError("run", f'nothing at "{arguments.run}"; give a run directory or a pack')
    if arguments.device is not None:
        one_of("device", arguments.device, DEVICES)
    if arguments.learner is not None:
        require_kept(directory, arguments.learner)
    out = None if arguments.out is None else at_home(arguments.out)
    if out is not None:
        check_free(out, arguments.overwrite)
    given = arguments.images
    if "-" in given:
        listed = sys.stdin.buffer.read().splitlines()
        given = [name for name in given if name != "-"] + [os.fsdecode(p) for p in listed if p]
    images = GivenImages(given)
    images.check()
    # Also with --overwrite, what is read is not replaced by what is made of it.
    if out is not None and out.exists():
        inside = out.resolve().is_relative_to(directory.resolve())
        if inside or any(out.samefile(file) for file in images.files):
            raise ConfigError("out", f'"{out}" is part of what is read; give another place')

    from snn_artsy.runs.trained import load_trained

    run = load_trained(directory, arguments.device, arguments.weights)
    name = arguments.learner or next(reversed([*run]), "learner")
    answers = run[name].predict(images, make_console(stderr=True))
    objects = ",\n".join(json.dumps(record, allow_nan=False) for record in answers.records())
    text = f"[\n{objects}\n]"
    if out is not None:
        write_outputs({out: f"{text}\n".encode()}, arguments.overwrite)
    if arguments.json:
        print(text)
    else:
        show(make_console(), answers)
    return 0


def _pack(arguments: Namespace) -> int:
    directory = at_home(arguments.run)
    if not directory.is_dir():
        raise ConfigError("run", f'no directory "{arguments.run}"; give that of a finished run')

    from snn_artsy.runs.pack import pack

    weights = vars(arguments)["with-weights"]
    path = pack(directory, arguments.out, weights, arguments.overwrite)
    say(make_console(), f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


@contextmanager
def _opened(path: str) -> Iterator[Run]:
    """A recorded run; what is wrong with its file is wrong input."""
    from snn_artsy.recording import RecordingError, open_run
    from snn_artsy.recording.guard import first_look

    given = at_home(path)
    if not (given / "run.h5" if given.is_dir() else given).is_file():
        raise ConfigError(
            "run",
            f'no recorded run at "{path}"; give a run directory or its run.h5 '
            f"(`{PROG} run` makes them under runs/)",
        )
    file = given / "run.h5" if given.is_dir() else given
    try:
        first_look([file, *sorted((file.parent / "segments").glob("*.h5"))])
        with open_run(given) as run:
            yield run
    except RecordingError as error:
        raise ConfigError("run", f"{error}") from error


# --- failures -------------------------------------------------------------------------------------


def _of_system(error: OSError) -> tuple[int, str]:
    """The system's error in words, and 2 as exit code if a place is the cause, not its disk."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return 1, f"system: {reason} (--debug shows where)"
    place = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    if error.errno in _DISK:
        return 1, f'"{place}": {reason}; make room there, or use another disk'
    return 2, f'"{place}": {reason}; give another place, or mend this one'


def _traceback(debug: bool) -> None:
    if debug:
        import traceback

        for line in traceback.format_exc().splitlines():
            complain(line, indent=True)


if __name__ == "__main__":
    main()
