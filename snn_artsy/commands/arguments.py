"""What several commands make of their arguments."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_artsy.checks import ConfigError, one_of, require
from snn_artsy.commands import PROG
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import keys_of
from snn_artsy.config_sources import layered, read_config
from snn_artsy.files import at_home
from snn_artsy.printing import say, show
from snn_artsy.registry import Registry

if TYPE_CHECKING:
    from rich.console import Console

    from snn_artsy.recording import Run
    from snn_artsy.runs.run import RunResult
    from snn_artsy.runs.workers import Resources


def resources_of(arguments: Namespace) -> Resources:
    """What a command may use of machines."""
    from snn_artsy.runs.workers import Resources

    return Resources(**{field.name: getattr(arguments, field.name) for field in fields(Resources)})


def values_of(arguments: Namespace, *below: dict[str, Any]) -> dict[str, Any]:
    """Values of a run's configuration from files and command line, nested.

    Args:
        below: Defaults of the command's own, which files and options beat.
    """
    also = ["grid"] if "grid" in arguments else []
    files = [read_config(name, also) for name in arguments.config]
    return layered(*below, *files, typed_of(arguments))


def typed_of(arguments: Namespace) -> dict[str, str]:
    """Keys of a run's configuration on the command line, and what stands there."""
    return {key: value for key, value in vars(arguments).items() if key in keys_of(RunConfig)}


def chosen_of(registry: Registry, key: str, typed: str, *also: str) -> str:
    """What is named by an argument of this command line; ``module:Name`` is imported."""
    return registry.load(typed) if ":" in typed else registry.require(key, typed, *also)


def show_result(result: RunResult, console: Console) -> int:
    """What came out of a run, and where it lies; the exit code: 1 if a learner failed."""
    show(console, result)
    say(console, f"Run directory: {result.directory}")
    return 1 if result.summary.get("failed") else 0


def formats_of(arguments: Namespace) -> tuple[str, ...]:
    """Of figures' files, each once."""
    formats = tuple(dict.fromkeys(arguments.format))
    require(bool(formats), "format", "", "give png, pdf, svg, or several of them")
    for kind in formats:
        one_of("format", kind, ("png", "pdf", "svg"))
    return formats


def look_of(arguments: Namespace) -> AbstractContextManager[None]:
    """Within it, figures are drawn as was asked for."""
    from snn_artsy.plots import look

    # a name of matplotlib's own, or a file
    sheets = [at_home(s) if at_home(s).is_file() else s for s in arguments.style]
    return look(*sheets, width=arguments.width)


def check_is_no_run(out: Path, runs: Sequence[Run]) -> None:
    """Also with --overwrite, what is read is not replaced by what is made of it."""
    for run in runs:
        if out.exists() and out.samefile(run.path):
            raise ConfigError("out", f'"{out}" is the run that is read; give another place')


@contextmanager
def opened_run(path: str) -> Iterator[Run]:
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
