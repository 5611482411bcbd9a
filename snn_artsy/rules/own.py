"""Rules of one's own: known by ``module:Class``, and never imported because a file says so.

A configuration names a rule that is not of this package as ``module:Class``. It is found among the
classes that were registered in Python (`register`), those that the user named on the command line
(`load`), and those of installed packages that declare an entry point::

    [project.entry-points."snn_artsy.rules"]
    saturating = "my_rules:Saturating"
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snn_artsy.checks import ConfigError

if TYPE_CHECKING:
    from snn_artsy.rules.base import Rule

GROUP = "snn_artsy.rules"
"""Entry points of installed packages."""

_PARTS = ("noisy", "start", "rest", "step", "presentation", "sped_up")
_KNOWN: dict[str, type[Any]] = {}

SomeClass = TypeVar("SomeClass", bound=type)


def register(cls: SomeClass) -> SomeClass:
    """Let configurations name a rule class as ``module:Class``; also a decorator.

    Raises:
        ConfigError: It is no class, or lacks a part of `snn_artsy.rules.base.Rule`.
    """
    name = f"{getattr(cls, '__module__', '')}:{getattr(cls, '__qualname__', cls)}"
    _KNOWN[name] = _checked(name, cls)
    return cls


def load(names: Iterable[str]) -> None:
    """Import and register rules that the user named, each as ``module:Class``.

    Importing a module runs it: never pass names that stand in a file.

    Raises:
        ConfigError: There is no such module or class, or it is no rule.
    """
    for name in names:
        module, colon, kind = name.partition(":")
        if not (module and colon and kind):
            raise ConfigError(f"own_rules: {name!r} cannot be used; give module:Class")
        try:
            found = getattr(import_module(module), kind)
        except Exception as error:  # whatever the module does when it is run
            raise ConfigError(
                f"own_rules: {name!r} cannot be imported ({type(error).__name__}: {error}); the "
                "module must be one that Python finds, for example by PYTHONPATH=."
            ) from error
        _KNOWN[name] = _checked(name, found)


def loaded(*names: str) -> list[str]:
    """Those of ``names`` that were registered or named in this process."""
    return [name for name in names if name in _KNOWN]


def own_rule(name: str, parameters: dict[str, float]) -> Rule:
    """The rule of one's own that a configuration names, with its parameters.

    Raises:
        ConfigError: It is not loaded, with how to load it; or the parameters are not its own.
    """
    kind = _KNOWN.get(name) or _installed(name)
    if kind is None:
        raise ConfigError(
            f"snn.plasticity.rule: {name!r} is not loaded, because loading it runs its module; if "
            f"you trust that, name it on the command line (--own_rules {name}) or in Python "
            "(snn_artsy.rules.register)"
        )
    try:
        rule: Rule = kind(**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"snn.plasticity.parameters: {parameters!r} do not fit {name} ({error}); give its own"
        ) from error
    return rule


def source_sha256(name: str) -> str:
    """SHA-256 of the file that defines a rule of one's own; ``unknown`` without one, as for a class
    that was typed into a notebook. What that file imports is not part of it."""
    try:
        kind = _KNOWN.get(name) or _installed(name)
        return hashlib.sha256(Path(inspect.getsourcefile(kind) or "").read_bytes()).hexdigest()  # type: ignore[arg-type]
    except (TypeError, OSError):
        return "unknown"


def _installed(name: str) -> type[Any] | None:
    for entry in entry_points(group=GROUP):
        if entry.value.replace(" ", "") == name:
            load([name])
            return _KNOWN[name]
    return None


def _checked(name: str, found: Any) -> type[Any]:
    """What is called later must be a rule's class, not just anything that can be called."""
    if not isinstance(found, type):
        raise ConfigError(f"own_rules: {name!r} is no class; give that of a rule")
    missing = [part for part in _PARTS if not hasattr(found, part)]
    if missing:
        raise ConfigError(
            f"own_rules: {name!r} is no rule, it has no {', '.join(missing)}; see "
            "snn_artsy.rules.base.Rule"
        )
    return found
