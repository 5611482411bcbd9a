"""The command ``protocol``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from snn_artsy.checks import ConfigError
from snn_artsy.commands.arguments import chosen_of, formats_of, look_of
from snn_artsy.config import check_threads
from snn_artsy.config_builder import build, keys_of
from snn_artsy.config_sources import layered, read_config
from snn_artsy.files import at_home
from snn_artsy.printing import make_console, say, show
from snn_artsy.protocols import ON_A_RUN
from snn_artsy.protocols.parameters import NoParameters, parameters_of
from snn_artsy.registry import PROTOCOLS
from snn_artsy.yaml_file import yaml_text


def protocol(arguments: Namespace) -> int:
    """Carry out protocols, and compare them with published values."""
    name, names = arguments.name, list(PROTOCOLS)
    if name is None:
        raise ConfigError("protocol", f"none given; choose from {', '.join(names)}, all")
    if name != "all":
        name = chosen_of(PROTOCOLS, "protocol", name, "all")
    cls = parameters_class(name)
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
    formats = formats_of(arguments)
    with look_of(arguments):
        rows = run_protocols(
            chosen, session, out, console, name == "all", arguments.overwrite, given, formats
        )
    show(console, protocols_table(rows))
    for figure in dict.fromkeys(row["figure"] for row in rows if row["figure"]):
        say(console, f"Figure: {out / figure}")
    say(console, f"Data, figures, protocols.json: {out}")
    return 3 if any(row["pass"] is False for row in rows) else 0


def named_protocol(words: Sequence[str]) -> str:
    """The protocol of this command line, which is asked for before its options are looked at,
    since they are its parameters; empty if there is none."""
    flags = ("--overwrite", "--print_config", "--help", "-h")
    for before, word in zip(["", *words], words, strict=False):
        is_value = before.startswith("--") and "=" not in before and before not in flags
        if not (word.startswith("-") or is_value or word.lower() in ("true", "false")):
            return word if word == "all" else chosen_of(PROTOCOLS, "protocol", word, "all")
    return ""


def parameters_class(protocol: str) -> type:
    """Of a protocol's parameters."""
    return NoParameters if protocol == "all" else parameters_of(protocol)
