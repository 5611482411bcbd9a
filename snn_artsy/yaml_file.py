"""The one way in which YAML comes into the package, and out of it.

A file may come from somebody else, so that its cost is bounded before it is built: its size, how
deep it nests, how many values it holds. Only what a configuration needs can be written in it:
mappings with text as keys, lists, texts, numbers, true, false and null, read as YAML 1.2 reads
them (``1e-3`` is a number, ``010`` is ten, ``yes`` and ``2024-01-01`` are texts). Aliases, tags
for other types and keys that stand twice are refused.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml

from snn_artsy.checks import ConfigError

MOST_BYTES = 200_000
"""Of a text; a run's whole configuration takes about 4,000."""
MOST_DEEP = 20
"""Mappings and lists within each other; a run's configuration has four."""
MOST_VALUES = 20_000
"""Keys and values of a text, those of nested mappings and lists included."""
MOST_DIGITS = 100
"""Of an integer: the time to read one grows with their square."""


def read_yaml(source: Path | str, key: str, name: str) -> Any:
    """Read one YAML document; None for an empty one.

    Args:
        source: A file (`Path`), or the text itself.
        key: What the text was given as, for errors, such as ``config``.
        name: What it is called in them, such as ``"my.yaml"``.

    Raises:
        ConfigError: The file cannot be read, or its text is not YAML, too large, too deeply nested
            or holds what a configuration has no use for; with the line.
    """
    loader = None
    try:
        text = _text(source, key, name)
        _bounded(len(text.encode("utf-8", "surrogatepass")), key, name)
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(
            key, f"{name} is not valid YAML{line}: {problem}; correct it there"
        ) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        reason = getattr(error, "reason", "unreadable")
        raise ConfigError(key, f"{name} is not valid YAML: {reason}; correct it there") from error
    except UnicodeDecodeError as error:
        raise ConfigError(key, f"{name} is no text in UTF-8; give a YAML file") from error
    except RecursionError as error:
        raise ConfigError(key, f"{name} nests too deeply; use fewer levels") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(key, f"{name} cannot be read ({reason}); give a YAML file") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_mapping(source: Path | str, key: str, name: str) -> dict[str, Any]:
    """As `read_yaml`, of a document that is a mapping of keys to values.

    Raises:
        ConfigError: As `read_yaml`, or the document is something else.
    """
    values = read_yaml(source, key, name)
    if not isinstance(values, dict):
        raise ConfigError(key, f"{name} holds no keys with values; give `key: value` lines")
    return values


def yaml_text(value: Any) -> str:
    """Write plain data as YAML that this and other readers read alike.

    Texts that YAML 1.1 or 1.2 would take for something else (``1e3``, ``yes``) get quotes.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def _text(source: Path | str, key: str, name: str) -> str:
    if isinstance(source, str):
        return source
    with open(source, "rb", opener=_open_regular) as file:
        content = file.read(MOST_BYTES + 1)
    _bounded(len(content), key, name)
    return content.decode("utf-8-sig")


def _open_regular(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe; refuse what is no regular file."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return descriptor


def _bounded(size: int, key: str, name: str) -> None:
    if size > MOST_BYTES:
        raise ConfigError(key, f"{name} has more than {MOST_BYTES:,} bytes; give a shorter one")


class _Loader(yaml.SafeLoader):
    """PyYAML's reader, with the types below alone; counts while it reads, so that nothing large
    is ever built."""

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            _refuse("aliases (*name) are not read, write the value out", mark)
        self.values += 1
        if self.values > MOST_VALUES:
            _refuse(f"more than {MOST_VALUES:,} keys and values", mark)
        self.depth += 1
        if self.depth > MOST_DEEP and self.check_event(yaml.CollectionStartEvent):
            _refuse(f"nested more than {MOST_DEEP} levels deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _null(loader: _Loader, node: yaml.ScalarNode) -> None:
    return None


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    text = loader.construct_scalar(node).lower()
    if text not in ("true", "false"):
        _refuse(f"{text[:40]!r} is neither true nor false", node.start_mark)
    return text == "true"


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if len(text) > MOST_DIGITS:
        _refuse(f"an integer of more than {MOST_DIGITS} digits", node.start_mark)
    try:
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
    except ValueError:
        _refuse(f"{text!r} is no integer", node.start_mark)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    try:
        return float(re.sub(r"^([-+]?)\.(?=[a-zA-Z])", r"\1", text))  # .inf is inf to Python
    except ValueError:
        _refuse(f"{text[:40]!r} is no number", node.start_mark)


def _str(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _list(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _dict(loader: _Loader, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        _refuse("keys with values expected", node.start_mark)
    mapping: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        at = key_node.start_mark
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            _refuse("a key must be a text, in quotes if it looks like something else", at)
        if key in mapping:
            _refuse(f"the key {key[:40]!r} stands in line {lines[key]} already, keep one", at)
        lines[key] = at.line + 1
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _other(loader: _Loader, node: yaml.Node) -> None:
    _refuse(f"the type {node.tag[:40]!r} is not read", node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 (PyYAML's own table) or 1.2 would not read as a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
# The core schema of YAML 1.2.2 (section 10.3.2): type, what its texts look like, how they may
# begin. The first that fits counts, so that an integer is not a float.
_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)
_Loader.yaml_implicit_resolvers, _Loader.yaml_constructors = {}, {}
for _type, _pattern, _first in _CORE:
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_TAG + _type, re.compile(f"(?:{_pattern})$"), _first)
_BUILD: dict[str, Any] = {"null": _null, "bool": _bool, "int": _int, "float": _float}
_BUILD |= {"str": _str, "seq": _list, "map": _dict}
for _type, _make in _BUILD.items():
    _Loader.add_constructor(_TAG + _type, _make)
_Loader.add_constructor(None, _other)


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise yaml.MarkedYAMLError(None, None, problem, mark)
