"""The ``snn-artsy`` command.

Exit codes: 0 done, 1 failed while running, 2 bad input or configuration, 3 a protocol missed its
reference value, 130 and 143 interrupted (SIGINT, SIGTERM). Every failure is one line on standard
error; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from snn_artsy.checks import ConfigError
from snn_artsy.commands import PROG, answering, build_parsers, protocol, recorded, running
from snn_artsy.commands.own import load_own
from snn_artsy.commands.protocol import named_protocol, parameters_class
from snn_artsy.config import RunConfig
from snn_artsy.printing import complain, safe_streams
from snn_artsy.provenance import started_together
from snn_artsy.signals import Terminated, exit_code, interruptible

COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "run": running.run,
    "plot": recorded.plot,
    "info": recorded.info,
    "protocol": protocol.protocol,
    "compare": running.compare,
    "resume": running.resume,
    "export": recorded.export,
    "report": recorded.report,
    "sweep": running.sweep,
    "predict": answering.predict,
    "pack": answering.pack,
    "study": running.study,
}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE}
# What makes nothing but what it prints.
_PRINTS = {"info", "predict", "--list", "--help", "-h", "--version", "--print_config"}


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
    if not arguments:
        names = ", ".join(COMMANDS)
        raise ConfigError("command", f"none given; choose from {names}, for example `{PROG} run`")
    command, *words = arguments
    if command in ("--help", "-h", "--version"):
        build_parsers(command)[0].parse_args([command])
    if command.startswith("-"):
        raise ConfigError(command, f"unknown option; see `{PROG} --help`")
    if command not in COMMANDS:
        raise ConfigError(command, f"unknown command; choose from {', '.join(COMMANDS)}")
    if command != "run" and started_together():
        raise ConfigError(command, f"is for one process; torchrun starts `{PROG} run`")
    words = load_own(words)
    keys: type | None = None
    of_protocol = ""
    if command in ("run", "compare", "sweep", "study"):
        keys = RunConfig.whole()
    elif command == "protocol" and (of_protocol := named_protocol(words)):
        keys = parameters_class(of_protocol)
    _, parsers = build_parsers(command, keys, of_protocol)
    return COMMANDS[command](parsers[command].read(words))


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
