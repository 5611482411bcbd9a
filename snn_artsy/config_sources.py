"""From configuration files and the command line to one tree of values: who beats whom.

A later source beats an earlier one key by key: defaults, files in their order, the command line,
wherever ``--config`` stands in it; the values that ``snn.preset`` names lie below them all
(`complete`). A key that stands for others (a preset) takes along what
earlier sources gave for them, since they would otherwise undo it without a word; what stands
beside it in the same source remains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, get_origin

from snn_artsy.checks import ConfigError
from snn_artsy.config import EncodingConfig, RunConfig
from snn_artsy.config.presets import SNN_PRESETS
from snn_artsy.config_builder import build, defaults_of, keys_of, section_of, type_of, unknown_key
from snn_artsy.files import at_home
from snn_artsy.yaml_file import read_yaml, yaml_text

_OF_RULES = ("a_plus", "a_minus", "a_pre", "tau_plus_ms", "tau_minus_ms", "bounds_of", "pairing")

STANDS_FOR: dict[str, tuple[str, ...]] = {
    "snn.encoding.preset": tuple(
        f"snn.encoding.{name}" for name in EncodingConfig.PRESETS["physiological"]
    ),
    "snn.plasticity.published": tuple(
        f"snn.plasticity.{name}"
        for name in (*_OF_RULES, "triplet", "voltage", "calcium", "filopodium_spine")
    ),
    "snn.contacts.circuit": ("snn.contacts.silent_share",),
    "snn.contacts.silent_share": ("snn.contacts.circuit",),
    "snn.teacher.lag_ms": ("snn.teacher.phase_ms", "snn.teacher.phase_spread_ms"),
    "snn.teacher.phase_ms": ("snn.teacher.lag_ms",),
    "data.n_tasks": ("data.increment", "data.base"),
    "data.increment": ("data.n_tasks",),
}
"""Keys that are given in place of others."""


def layered(*sources: Mapping[str, Any], cls: type = RunConfig) -> dict[str, Any]:
    """One nested tree of the values of all sources, the last one first in rank.

    Args:
        sources: Values of ``cls``, nested or under dotted keys.
    """
    tree: dict[str, Any] = {}
    for source in sources:
        given = dict(flat(source, cls=cls))
        for key, others in STANDS_FOR.items():
            if given.get(key) not in (None, "null"):
                for other in others:
                    section, name = place(tree, other)
                    section.pop(name, None)
        for key, value in given.items():
            section, name = place(tree, key)
            section[name] = value
    return tree


def complete(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """All sources `layered`, above the values of the preset that they name: what a configuration is
    built from. Nothing can be layered upon it, since who gave a value is lost."""
    tree = layered(*sources)
    snn = tree.get("snn")
    name = snn.get("preset") if isinstance(snn, Mapping) else None
    return layered(SNN_PRESETS.get(name, {}) if isinstance(name, str) else {}, tree)


def place(tree: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The section of a nested tree that has the dotted ``key``, made if missing, and its name
    there."""
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    return tree, name


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """Dotted keys and values of ``KEY=VALUE``, read as YAML.

    Raises:
        ConfigError: A word is none, a key stands there twice, or a value is no YAML.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise ConfigError("set", f"{word!r} cannot be used; give KEY=VALUE")
        if key in found:
            raise ConfigError(key, "given twice; give it once")
        found[key] = read_yaml(value, key, "its value")
    return found


def flat(
    values: Mapping[str, Any], prefix: str = "", cls: type = RunConfig
) -> Iterator[tuple[str, Any]]:
    """Dotted keys of ``cls`` and their values; a mapping with keys of the user's own is a
    value."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        # an empty section that nobody knows
        if isinstance(value, Mapping) and not value and type_of(cls, key) is None:
            yield key, value
        elif isinstance(value, Mapping) and get_origin(type_of(cls, key)) is not dict:
            yield from flat(value, f"{key}.", cls)
        else:
            yield key, value


def as_file(config: RunConfig, values: Mapping[str, Any]) -> str:
    """YAML to begin a file of one's own with: every key, but null for what the checks of ``config``
    filled in because ``values`` left it out, so that a preset changed in the file counts."""
    given = dict(flat(values))
    filled = asdict(config)
    for key, default in flat(defaults_of(RunConfig)):
        if default is None and key not in given:
            section, name = place(filled, key)
            section[name] = None
    return yaml_text(filled)


def read_config(name: str, also: Collection[str] = (), cls: type = RunConfig) -> dict[str, Any]:
    """Values of a configuration file, whose keys exist.

    Args:
        also: Keys that a command has besides those of a configuration.
        cls: Whose keys they are.

    Raises:
        ConfigError: No such file, no YAML, or an unknown key.
    """
    path = at_home(name)
    if path.is_dir():
        raise ConfigError("config", f'"{name}" is a directory; give a YAML file')
    if not path.is_file():
        raise ConfigError("config", f'no file "{name}" here; give a YAML file')
    content = read_yaml(path, "config", f'"{name}"')
    if not isinstance(content, dict):
        raise ConfigError(
            "config", f'"{name}" holds no keys with values; see what --print_config shows'
        )
    known = [*keys_of(cls), *also]
    own = {key: value for key, value in content.items() if key not in also}
    for key, value in flat(own, cls=cls):
        if key not in known:
            getattr(cls, "check_names", lambda _: None)(content)
            raise unknown_key(key, value, known)
        if value is None and section_of(type_of(cls, key)):
            raise ConfigError(key, f'nothing follows it in "{name}"; give its keys or leave it out')
        if section_of(type_of(cls, key)):
            build(cls, {key: value})
    return content
