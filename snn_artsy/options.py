"""Options of the command line, made of a configuration class and its docstrings.

argparse declares and explains them; how a value is read is the matter of
`snn_artsy.config_builder`, so that a key means the same wherever it is given.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from docstring_parser import parse as parse_docstring

from snn_artsy.checks import ConfigError, require
from snn_artsy.config_builder import (
    choices_of,
    convert,
    defaults_of,
    hints,
    keys_of,
    section_of,
    type_of,
    unknown_key,
    wanted,
)

_BOOLEANS = ("true", "false", "yes", "no")


class Parser(argparse.ArgumentParser):
    """A command's options, given in full and once each; a mistake is a `ConfigError`.

    Args:
        configuration: The class whose keys are options, too; each is kept as it is written, under
            its dotted key, and left out of the result if it is not given.
        title: What its help calls the keys of no section.
        short: Keys that ``--help`` explains; ``--help all`` explains the others, too. Default: all.
    """

    def __init__(
        self,
        *,
        configuration: type | None = None,
        title: str = "run",
        short: Collection[str] = (),
        **given: Any,
    ) -> None:
        if configuration is not None:  # of two hundred options, usage would fill a page
            given.setdefault("usage", f"{given['prog']} [--KEY VALUE ...]")
        super().__init__(allow_abbrev=False, add_help=not short, **given)
        self.short = short
        if short:
            self.add_argument(
                "-h", "--help", action=_Help, nargs="?", const="", metavar="all",
                help="Explain these options, or all of them, and stop.",
            )  # fmt: skip
        self.configuration = configuration
        self.annotations: dict[str, Any] = {}
        if configuration is not None:
            self._add_section(configuration, "", title, defaults_of(configuration))

    def format_help(self) -> str:
        if not self.short:
            return super().format_help()
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        keys = self.configuration and keys_of(self.configuration)
        shown = [a for a in self._actions if not keys or a.dest not in keys or a.dest in self.short]
        formatter.start_section("options")
        formatter.add_arguments(shown)
        formatter.end_section()
        more = len(self._actions) - len(shown)
        formatter.add_text(f"{more} more: `{self.prog} --help all`, or --print_config as YAML.")
        return formatter.format_help()

    def format_all(self) -> str:
        """The help with every key."""
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise ConfigError(self.prog.split()[-1], f"{message}; see `{self.prog} --help`")

    def option(
        self, name: str, annotation: Any, default: Any, help: str, metavar: str | None = None
    ) -> None:
        """An option of the command's own, read by its type like the keys of a configuration."""
        self.annotations[name] = annotation
        self._add(self, name, annotation, default, help, metavar)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Values of the arguments by name; keys of the configuration as text.

        Raises:
            ConfigError: An unknown option, one without a value, or one that is given twice.
        """
        parsed, more = self.parse_known_intermixed_args(self._joined(words))
        if more:
            reason = f"unexpected argument {' '.join(more)!r}; leave it out"
            raise ConfigError(self.prog.split()[-1], reason)
        for name, annotation in self.annotations.items():
            setattr(parsed, name, convert(annotation, getattr(parsed, name), name))
        return parsed

    def _add_section(self, cls: type, prefix: str, title: str, defaults: dict[str, Any]) -> None:
        docs = descriptions(cls)
        own = {n: a for n, a in hints(cls).items() if section_of(a) is None}
        group = self.add_argument_group(title, docs[""])
        for name, annotation in own.items():
            default = defaults.get(name, dataclasses.MISSING)
            shown = (
                "" if default in (None, dataclasses.MISSING) else f" (default: {_text(default)})"
            )
            text = docs.get(name, wanted(annotation)) + shown
            self._add(group, f"{prefix}{name}", annotation, argparse.SUPPRESS, text)
        for name, annotation in hints(cls).items():
            section = section_of(annotation)
            if section is not None:
                key, known = f"{prefix}{name}", defaults.get(name) or defaults_of(section)
                self._add_section(section, f"{key}.", key, known)

    @staticmethod
    def _add(
        where: argparse._ActionsContainer,
        name: str,
        annotation: Any,
        default: Any,
        help: str,
        metavar: str | None = None,
    ) -> None:
        where.add_argument(
            f"--{name}",
            dest=name,
            nargs="?" if annotation is bool else None,
            const="true" if annotation is bool else None,
            default=default,
            metavar=metavar or _metavar(annotation),
            help=help.replace("%", "%%"),
        )

    def _joined(self, words: Sequence[str]) -> list[str]:
        """``--key value`` as ``--key=value``: a value may then begin with a dash, and what stands
        behind it is no matter of order."""
        known = self._option_string_actions
        places = [action for action in self._actions if not action.option_strings]
        joined: list[str] = []
        given: dict[str, str] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            option, equals, value = word.partition("=")
            if not option.startswith("-") or option == "-":
                if not places:
                    raise ConfigError(
                        self.prog.split()[-1],
                        f"unexpected argument {word!r}; options are written --key value",
                    )
                joined.append(word)
                continue
            key, following = option.lstrip("-"), rest[0] if rest else None
            if option not in known:
                self._refuse(key, value if equals else following)
            action = known[option]
            if action.nargs == 0:
                joined.append(option)
                continue
            if not equals and action.nargs == "?":
                own = ("all",) if isinstance(action, _Help) else _BOOLEANS
                takes = following is not None and (
                    following.lower() in own or not (places or following.startswith("-"))
                )
                value = rest.pop(0) if takes else str(action.const)
            elif not equals:
                if following is None or following.startswith("--"):
                    raise ConfigError(key, f"no value given; {self._remedy(key)}")
                value = rest.pop(0)
            if option in given and not isinstance(action, argparse._AppendAction):
                raise ConfigError(
                    key, f"given twice, as {given[option]!r} and {value!r}; give it once"
                )
            given[option] = value
            joined.append(f"{option}={value}")
        needed = [action for action in places if action.nargs in (None, "+")]
        if needed and all(word.startswith("--") for word in joined) and "--help" not in joined:
            reason = f"none given; give a run directory, for example `{self.prog} runs/NAME`"
            raise ConfigError("run", reason)
        return joined

    def _refuse(self, key: str, value: str | None) -> NoReturn:
        section = self.configuration and section_of(type_of(self.configuration, key))
        if section:
            require(False, key, value, f"give {wanted(section)}, as --{key}.NAME VALUE")
        known = [option.lstrip("-") for option in self._option_string_actions]
        raise unknown_key(key, value, known)

    def _remedy(self, key: str) -> str:
        if key == "config":
            return "give a YAML file"
        annotation = self.annotations.get(key)
        if annotation is None and self.configuration is not None:
            annotation = type_of(self.configuration, key)
        return f"give {wanted(annotation)}" if annotation else f"see `{self.prog} --help`"


class _Help(argparse.Action):
    """``--help``, and ``--help all``."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        require(given[1] in ("", "all"), "help", given[1], "use --help or --help all")
        assert isinstance(parser, Parser)
        print(parser.format_all() if given[1] else parser.format_help(), end="")
        parser.exit()


def descriptions(cls: type) -> dict[str, str]:
    """What a class's docstring says of each field, and its summary line under ""."""
    parsed = parse_docstring(cls.__doc__ or "")
    by_name = {"": parsed.short_description or ""}
    for entry in parsed.params:
        for name in entry.arg_name.split(", "):
            by_name[name] = " ".join((entry.description or "").replace("``", "").split())
    return by_name


def _metavar(annotation: Any) -> str:
    plain = {bool: "true|false", int: "N", float: "X", str: "TEXT"}
    for choice in choices_of(annotation):
        if choice in plain:
            return plain[choice]
        arguments = getattr(choice, "__args__", ())
        if arguments and arguments[0].__class__ is str:
            return "|".join(arguments)
        if arguments and dataclasses.is_dataclass(arguments[0]):
            return "YAML"
    return "A,B"


def _text(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if callable(default):
        return str(getattr(default, "__name__", type(default).__name__))
    return ",".join(map(str, default)) if isinstance(default, (list, tuple)) else f"{default}"
