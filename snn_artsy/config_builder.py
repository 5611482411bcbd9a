"""Typed configuration from plain mappings: strict about keys and types, errors name the dotted key.

Works for any nested frozen dataclass, so that a new field needs no code here::

    config = build(RunConfig, read_mapping(Path("my.yaml"), "config", '"my.yaml"'))

A text is read by the type of its key, wherever it comes from: ``1e-3`` on the command line, in a
grid, in YAML and in Python are one number.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from snn_artsy.checks import ConfigError, in_short, named, require
from snn_artsy.yaml_file import read_yaml

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build ``cls`` from ``values``; what is left out takes its default.

    Every nested dataclass is constructed, so that its own checks run.

    Raises:
        ConfigError: For an unknown key, a value of the wrong type, or a failed check.
    """
    annotations = hints(cls)
    declared = {field.name: field for field in dataclasses.fields(_whole(cls))}
    for key in values:
        if key not in annotations:
            # an option of a learner that is not known: say that, rather than something of its key
            getattr(cls, "check_names", lambda _: None)(values)
            raise unknown_key(f"{prefix}{key}", values[key], keys_of(cls, prefix))
    given = {
        name: convert(annotation, _upon(declared[name], values[name]), f"{prefix}{name}")
        for name, annotation in annotations.items()
        if name in values
    }
    for field in declared.values():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in given:
            remedy = wanted(annotations[field.name])
            raise ConfigError(f"{prefix}{field.name}", f"no value given; give {remedy}")
    # a class that is also used by itself names its fields by its own section alone
    section = prefix.rstrip(".").rpartition(".")[2]
    with named(f"{section}.", prefix):
        try:
            return cls(**given)
        except ConfigError:
            raise
        except ValueError as error:  # of a class of options that somebody else wrote
            name, _, reason = str(error).partition(": ")
            if name not in annotations:
                raise ConfigError(section, str(error)) from error
            raise ConfigError(f"{prefix}{name}", reason) from error


def _upon(field: dataclasses.Field[Any], value: Any) -> Any:
    """Values of a section, with what they leave out where its default is not its class's own."""
    factory: Any = field.default_factory
    if factory is dataclasses.MISSING or not isinstance(value, Mapping):
        return value
    default = None if isinstance(factory, type) else factory()
    if not dataclasses.is_dataclass(default):
        return value
    return {f.name: getattr(default, f.name) for f in dataclasses.fields(default)} | dict(value)


def take_types(instance: Any, prefix: str = "") -> None:
    """Give every field of a frozen dataclass its declared type: NumPy's scalars and arrays, paths
    and tuples become plain numbers, texts and lists. Comes first in ``__post_init__``.

    Raises:
        ConfigError: A value of another type.
    """
    for name, annotation in _hints(typing.cast(Any, type(instance))).items():
        value = convert(annotation, getattr(instance, name), f"{prefix}{name}")
        object.__setattr__(instance, name, value)


def hints(cls: type) -> dict[str, Any]:
    """Fields that a dataclass can have, with their annotations."""
    return _hints(typing.cast(Any, _whole(cls)))


def _whole(cls: type) -> type:
    """The class with what was added to it, where it can grow (`snn_artsy.config.RunConfig`)."""
    whole: type = cls.whole() if hasattr(cls, "whole") else cls
    return whole


@lru_cache(maxsize=64)
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def unknown_key(key: str, value: object, known: Iterable[str]) -> ConfigError:
    """The error that says that ``key`` does not exist, and which key was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if not near:
        # A right name in the wrong section, such as `increment` for `data.increment`.
        last = key.rsplit(".", 1)[-1]
        near = [name for name in names if name.rsplit(".", 1)[-1] == last][:1]
    remedy = f"did you mean {near[0]}?" if near else "see --help"
    shown = "" if value in (None, "") else f" (value {in_short(value)})"
    return ConfigError(key, f"unknown key{shown}; {remedy}")


def keys_of(cls: type, prefix: str = "") -> list[str]:
    """All dotted keys of a configuration class, sections included."""
    keys: list[str] = []
    for name, annotation in hints(cls).items():
        key = f"{prefix}{name}"
        keys.append(key)
        section = section_of(annotation)
        if section is not None:
            keys += keys_of(section, f"{key}.")
    return keys


def type_of(cls: type, key: str) -> Any:
    """Annotation of the dotted ``key`` in ``cls``; None when there is no such key."""
    head, _, rest = key.partition(".")
    annotation = hints(cls).get(head)
    if annotation is None or not rest:
        return annotation
    section = section_of(annotation)
    return type_of(section, rest) if section is not None else None


def section_of(annotation: Any) -> type | None:
    """The dataclass that ``annotation`` stands for (``X`` or ``X | None``), or None."""
    for choice in choices_of(annotation):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return choice
    return None


def defaults_of(cls: type) -> dict[str, Any]:
    """Declared defaults as a nested dict.

    Not those of an instance, whose checks may have filled in values that depend on what else is
    given (such as ``data.n_tasks`` when there is no ``data.increment``).
    """
    annotations = hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(_whole(cls)):
        section = section_of(annotations[field.name])
        factory: Any = field.default_factory
        if section is not None and factory is section:
            values[field.name] = defaults_of(section)
            continue
        value = field.default if factory is dataclasses.MISSING else factory()
        is_section = dataclasses.is_dataclass(value) and not isinstance(value, type)
        if value is not dataclasses.MISSING:
            values[field.name] = dataclasses.asdict(value) if is_section else value
    return values


def wanted(annotation: Any) -> str:
    """Describe in words what a value of this type looks like, as the remedy of an error."""
    return " or ".join(_describe(choice) for choice in choices_of(annotation))


def _describe(choice: Any) -> str:
    plain = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        Path: "a path",
        type(None): "null",
    }
    if choice in plain:
        return plain[choice]
    origin, arguments = typing.get_origin(choice), typing.get_args(choice)
    if origin is Literal:
        return "one of " + ", ".join(str(argument) for argument in arguments)
    if origin in (list, tuple):
        if dataclasses.is_dataclass(arguments[0]):
            return f"a list, each of it {_describe(arguments[0])}"
        item = {int: "integers", float: "numbers", str: "names"}.get(arguments[0], "values")
        return f"a list of {item}, such as {'[a, b]' if item == 'names' else '[1, 2]'}"
    if dataclasses.is_dataclass(choice):
        names = ", ".join(field.name for field in dataclasses.fields(choice))
        return f"a section with some of {names}"
    return str(getattr(choice, "__name__", choice))


def choices_of(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def convert(annotation: Any, value: Any, key: str) -> Any:
    """``value`` as ``annotation`` wants it.

    Raises:
        ConfigError: It can't be; the error names ``key``.
    """
    if annotation is Any:
        return value
    value = _plain(value)
    choices = choices_of(annotation)
    if type(None) in choices and (value is None or value == "null"):
        return None
    for choice in choices:
        if choice is not type(None) and _fits(choice, value := _read(choice, value)):
            return _converted(choice, value, key)
    require(False, key, value, f"give {wanted(annotation)}")
    raise AssertionError("unreachable")


def _plain(value: Any) -> Any:
    """What Python has for a NumPy scalar or array, and for a path; other values as they are."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _read(choice: Any, value: Any) -> Any:
    """A text as what it says, where another type than text is wanted; else the value itself."""
    if not isinstance(value, str) or choice is str or typing.get_origin(choice) is Literal:
        return value
    text = value.strip()
    if choice is bool:
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), value)
    if choice is int:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,400}", text) else value
    if choice is float:
        try:
            return float(text)
        except ValueError:
            return value
    if typing.get_origin(choice) in (list, tuple, dict) and text[:1] in ("[", "{"):
        try:
            return read_yaml(text, key="", name="the value")
        except ConfigError:
            return value
    if typing.get_origin(choice) in (list, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return value


def _fits(choice: Any, value: Any) -> bool:
    origin = typing.get_origin(choice)
    if origin is Literal:
        return isinstance(value, str) and value in typing.get_args(choice)
    if dataclasses.is_dataclass(choice) and isinstance(value, Mapping):
        return True
    if choice in (int, float):  # true and false are integers to Python, not to a user
        kinds = int if choice is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if choice is Path:
        return isinstance(value, str)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple))
    return isinstance(value, origin or choice)


def _converted(choice: Any, value: Any, key: str) -> Any:
    """A value that fits, with what lies in it."""
    origin, arguments = typing.get_origin(choice), typing.get_args(choice)
    if dataclasses.is_dataclass(choice):
        if isinstance(value, Mapping):
            return build(typing.cast(type, choice), value, f"{key}.")
        take_types(value, f"{key}.")
    elif choice is int:
        require(abs(value) < 2**63, key, value, "give a whole number of at most 64 bits")
    elif choice is float:
        finite = abs(value) <= sys.float_info.max  # false for NaN, too
        require(finite, key, value, "give a finite number")
        usable = value == 0 or _SMALLEST <= abs(value) <= _LARGEST
        remedy = f"learners compute in single precision: use 0, or {_SMALLEST:g} to {_LARGEST:g}"
        require(usable, key, value, remedy)
        return float(value)
    elif choice in (str, Path):
        require(bool(value.strip()), key, value, "give a text that is not empty")
        plain = not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value)
        require(plain, key, value, "leave out line breaks and control characters")
        require(len(value) <= _LONGEST, key, value, f"give at most {_LONGEST:,} characters")
        return choice(value)
    elif origin is dict:
        return {
            convert(arguments[0], name, key): convert(arguments[1], item, f"{key}.{name}")
            for name, item in value.items()
        }
    elif origin is list or arguments[1:] == (Ellipsis,):
        # sections in a list are told apart by their place in it
        keys = (f"{key}.{i}" if dataclasses.is_dataclass(arguments[0]) else key for i in count())
        return origin(convert(arguments[0], item, k) for k, item in zip(keys, value, strict=False))
    elif origin is tuple:
        require(len(value) == len(arguments), key, list(value), f"give {len(arguments)} values")
        return tuple(convert(kind, item, key) for kind, item in zip(arguments, value, strict=True))
    return value


_SMALLEST, _LARGEST, _LONGEST = 1e-38, 1e38, 4096
