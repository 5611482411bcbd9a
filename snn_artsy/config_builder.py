"""Typed configuration from plain mappings: strict about keys and types, errors name the dotted key.

Works for any nested frozen dataclass, so that a new field needs no code here::

    config = build(RunConfig, read_mapping(Path("my.yaml"), 'config: "my.yaml"'))
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union

from snn_artsy.checks import ConfigError, require

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build ``cls`` from ``values``; what is left out takes its default.

    Every nested dataclass is constructed, so that its own checks run.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or a failed check.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    annotations = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise ConfigError(unknown_key(f"{prefix}{key}", values[key], keys_of(cls, prefix)))
    return cls(
        **{
            name: _convert(annotations[name], values[name], f"{prefix}{name}")
            for name in fields
            if name in values
        }
    )


def unknown_key(key: str, value: object, known: Iterable[str]) -> str:
    """Say that ``key`` does not exist, and which known key was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if not near:
        # A right name in the wrong section, such as `increment` for `data.increment`.
        last = key.rsplit(".", 1)[-1]
        near = [name for name in names if name.rsplit(".", 1)[-1] == last][:1]
    remedy = f"did you mean {near[0]}?" if near else "see --help"
    shown = "" if value in (None, "") else f" (value {value!r})"
    return f"{key}: unknown key{shown}; {remedy}"


def keys_of(cls: type, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration class, sections included."""
    annotations = typing.get_type_hints(cls)
    keys: list[str] = []
    for field in dataclasses.fields(cls):
        key = f"{prefix}{field.name}"
        keys.append(key)
        section = section_of(annotations[field.name])
        if section is not None:
            keys += keys_of(section, f"{key}.")
    return keys


def type_of(cls: type, key: str) -> Any:
    """Annotation of the dotted ``key`` in ``cls``; None when there is no such key."""
    head, _, rest = key.partition(".")
    annotation = typing.get_type_hints(cls).get(head)
    if annotation is None or not rest:
        return annotation
    section = section_of(annotation)
    return type_of(section, rest) if section is not None else None


def section_of(annotation: Any) -> type | None:
    """The dataclass that ``annotation`` stands for (``X`` or ``X | None``), or None."""
    for choice in _choices(annotation):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return choice
    return None


def defaults_of(cls: type) -> dict[str, Any]:
    """Declared defaults as a nested dict.

    Not those of an instance, whose checks may have filled in values that depend on what else is
    given (such as ``data.n_tasks`` when there is no ``data.increment``).
    """
    annotations = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        section = section_of(annotations[field.name])
        factory: Any = field.default_factory
        if section is not None and factory is section:
            values[field.name] = defaults_of(section)
        elif factory is not dataclasses.MISSING:
            value = factory()
            is_section = dataclasses.is_dataclass(value) and not isinstance(value, type)
            values[field.name] = dataclasses.asdict(value) if is_section else value
        elif field.default is not dataclasses.MISSING:
            values[field.name] = field.default
    return values


def wanted(annotation: Any) -> str:
    """Describe in words what a value of this type looks like, as the remedy of an error."""
    return " or ".join(_describe(choice) for choice in _choices(annotation))


def _describe(choice: Any) -> str:
    plain = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
    }
    if choice in plain:
        return plain[choice]
    origin, arguments = typing.get_origin(choice), typing.get_args(choice)
    if origin is Literal:
        return "one of " + ", ".join(str(argument) for argument in arguments)
    if origin in (list, tuple):
        item = {int: "integers", float: "numbers", str: "names"}.get(arguments[0], "values")
        return f"a list of {item}, such as {'[a, b]' if item == 'names' else '[1, 2]'}"
    if dataclasses.is_dataclass(choice):
        names = ", ".join(field.name for field in dataclasses.fields(choice))
        return f"a section with some of {names}"
    return str(getattr(choice, "__name__", choice))


def _choices(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _convert(annotation: Any, value: Any, key: str) -> Any:
    if annotation is Any:
        return value
    for choice in _choices(annotation):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            if isinstance(value, choice):
                return value
            if isinstance(value, Mapping):
                return build(choice, value, f"{key}.")
        elif choice is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            require(math.isfinite(value), key, value, "give a finite number")
            return float(value)
        elif typing.get_origin(choice) in (list, tuple) and isinstance(value, (list, tuple)):
            return _convert_sequence(choice, value, key)
        elif _is_plain(choice, value):
            return value
    require(False, key, value, f"give {wanted(annotation)}")
    raise AssertionError("unreachable")


def _convert_sequence(annotation: Any, value: Iterable[Any], key: str) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    items = list(value)
    if origin is list:
        return [_convert(arguments[0], item, key) for item in items]
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, key) for item in items)
    require(len(items) == len(arguments), key, items, f"give {len(arguments)} values")
    return tuple(_convert(kind, item, key) for kind, item in zip(arguments, items, strict=True))


def _is_plain(choice: Any, value: Any) -> bool:
    if typing.get_origin(choice) is Literal:
        return value in typing.get_args(choice)
    if typing.get_origin(choice) is dict:
        return isinstance(value, dict)
    if choice is int:  # true and false are integers to Python, not to a user
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(choice, type) and isinstance(value, choice)
