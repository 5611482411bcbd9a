"""What is wrong with a command line or a configuration file, in our words: key: value; remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import keys_of, section_of, type_of, unknown_key, wanted
from snn_artsy.protocols import PROTOCOLS
from snn_artsy.yaml_file import read_yaml

PROG = "snn-artsy"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def explain(
    message: str, command: str | None, arguments: list[str], parsers: Collection[str]
) -> str:
    """Put a message of jsonargparse into ``key: value; remedy``.

    Messages differ between its releases; one that is not known is passed on, on one line.
    """
    if command is None:
        names = ", ".join(parsers)
        first = next((word for word in arguments if not word.startswith("-")), None)
        if first is not None:
            return f"{first}: unknown command; choose from {names}"
        if arguments:
            return f"{arguments[0]}: unknown option; see `{PROG} --help`"
        return f"command: none given; choose from {names}, for example `{PROG} run`"

    keys = [*keys_of(RunConfig), "config"]
    options = {
        "run": keys,
        "compare": [*keys, "seeds"],
        "sweep": [*keys, "grid", "workers"],
        "protocol": ["out", "run", "seed"],
    }
    known = options.get(command, ["out"])
    if found := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL | re.IGNORECASE):
        word, _, rest = found[1].partition(" ")
        if not word.startswith("-"):
            return f"{command}: unexpected argument {word!r}; options are written --key value"
        key, equals, value = word.lstrip("-").partition("=")
        return unknown_key(key, value if equals else rest.split(" --")[0], known)
    if found := re.search(r"does not accept option '([^']+)'", message):
        return unknown_key(found[1], None, known)
    if found := re.match(r"argument ([^:]+): expected (one|at least one) argument", message):
        key = found[1].split("/")[-1].lstrip("-").split(", ")[0]
        return f"{key}: no value given; {_remedy(key)}"
    if found := re.match(r'(?:Parser key|Key) "([^"]+)":?(.*)', message, re.DOTALL):
        key = found[1].removeprefix(f"{command}.")
        quoted = re.search(
            r"(?:Given value|Got value): (.*)|Unable to load config ['\"](.*?)['\"]", found[2]
        )
        value = quoted[1] or quoted[2] if quoted else _given(key, arguments)
        shown = repr(value.strip()) if value else "the value"
        return f"{key}: {shown} cannot be used; {_remedy(key)}"
    if "required" in message and command == "protocol":
        return f"protocol: none given; choose from {', '.join(PROTOCOLS)}, all"
    if "required" in message and command in ("plot", "info", "resume"):
        return f"run: none given; give a run directory, for example `{PROG} {command} runs/NAME`"
    return f"{command}: {' '.join(message.split())}; see `{PROG} {command} --help`"


def _remedy(key: str) -> str:
    if key == "config":
        return "give a YAML file"
    annotation = type_of(RunConfig, key)
    return f"give {wanted(annotation)}" if annotation is not None else "see --help"


def _given(key: str, arguments: list[str]) -> str | None:
    """Value of ``key`` on the command line."""
    for word, following in pairwise([*arguments, ""]):
        if word == f"--{key}":
            return following
        if word.startswith(f"--{key}="):
            return word.partition("=")[2]
    return None


def config_files(arguments: list[str]) -> list[str]:
    files = [word.split("=", 1)[1] for word in arguments if word.startswith("--config=")]
    return files + [value for option, value in pairwise(arguments) if option == "--config"]


def check_config_file(name: str, also: Sequence[str]) -> None:
    """Check file, syntax and keys of a configuration file, before jsonargparse in its own words."""
    path = Path(name).expanduser()
    if path.is_dir():
        raise ConfigError(f'config: "{name}" is a directory; give a YAML file')
    if not path.is_file():
        raise ConfigError(f'config: no file "{name}" here; give a YAML file')
    content = read_yaml(path, f'config: "{name}"')
    if not isinstance(content, dict):
        raise ConfigError(
            f'config: "{name}" holds no keys with values; see `{PROG} run --print_config`'
        )
    known = keys_of(RunConfig)
    content = {key: value for key, value in content.items() if key not in also}
    for key, value in flat(content).items():
        if get_origin(type_of(RunConfig, key.rpartition(".")[0])) is dict:
            continue  # a mapping with keys of the user's own
        if key not in known:
            raise ConfigError(unknown_key(key, value, known))
        if value is None and section_of(type_of(RunConfig, key)):
            raise ConfigError(
                f'{key}: nothing follows it in "{name}"; give its keys or leave it out'
            )
