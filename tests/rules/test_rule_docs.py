"""Every rule's documentation: an entry in the API page, and a table that says its defaults."""

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from snn_artsy import rules
from snn_artsy.physiology import Membrane, Receptors

PAGE = Path(__file__).parents[2] / "docs" / "api" / "rules.rst"
INTERFACE = {"ProductRule", "Rule"}  # what rules are made of, no rules themselves


def public_rules() -> dict[str, type[Any]]:
    public: dict[str, type[Any]] = {name: getattr(rules, name) for name in rules.__all__}
    return {
        name: item
        for name, item in public.items()
        if is_dataclass(item) and hasattr(item, "sped_up") and name not in INTERFACE
    }


def table(docstring: str) -> dict[str, tuple[str, str, str]]:
    """Symbol -> unit, default, meaning of a simple reStructuredText table."""
    lines = [line.strip() for line in docstring.splitlines()]
    borders = [k for k, line in enumerate(lines) if re.fullmatch(r"=+( +=+){3}", line)]
    assert len(borders) == 3, "one table with a heading"
    heading = lines[borders[0] + 1].split()
    assert heading == ["symbol", "unit", "default", "meaning"]
    rows = [line.split(None, 3) for line in lines[borders[1] + 1 : borders[2]]]
    # a row that goes on has no unit and default, so its words are no default
    starts = [row for row in rows if len(row) == 4 and _is_number(row[2])]
    return {symbol: (unit, default, meaning) for symbol, unit, default, meaning in starts}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def wrong(of: type[Any], docstring: str) -> list[str]:
    """What the table of a dataclass gets wrong; choices and parts are explained under Args."""
    found = table(docstring)
    explained = docstring.partition("Args:")[2]
    numbers = {f.name: f.default for f in fields(of) if _is_parameter(f)}
    mistakes = [f"{name}: no parameter" for name in found if name not in numbers]
    for name, default in numbers.items():
        if name not in found:
            mistakes.append(f"{name}: not in the table")
        elif float(found[name][1]) != default:
            mistakes.append(f"{name}: {found[name][1]} instead of {default}")
    others = [f.name for f in fields(of) if isinstance(f.default, str)]
    return mistakes + [f"{name}: not explained" for name in others if f"{name}:" not in explained]


def _is_parameter(field: Field[Any]) -> bool:
    return field.default is not MISSING and isinstance(field.default, float)


def documented() -> dict[str, type[Any]]:
    """Classes with parameters: the rules, and what is a part of one."""
    found = public_rules()
    parts = [f.default for rule in found.values() for f in fields(rule) if is_dataclass(f.default)]
    found |= {type(part).__name__: type(part) for part in parts}
    return {name: item for name, item in found.items() if any(map(_is_parameter, fields(item)))}


def test_there_are_the_rules_of_the_design() -> None:
    known = {"PairSTDP", "TripletSTDP", "VoltageSTDP", "CalciumRule", "GatedSTDP"}
    assert known <= set(public_rules())
    # gated has a rule and a Gating, but no number of its own
    assert set(documented()) >= (known - {"GatedSTDP"}) | {"Gating"}


@pytest.mark.parametrize("name", sorted({*public_rules(), *documented()}))
def test_a_rule_has_an_entry(name: str) -> None:
    entries = re.findall(r"^\.\. autoclass:: ([\w.]+)$", PAGE.read_text(encoding="utf-8"), re.M)
    item = getattr(rules, name)
    assert f"{item.__module__}.{name}" in entries


@pytest.mark.parametrize("name", sorted(documented()))
def test_the_table_says_the_defaults(name: str) -> None:
    item = documented()[name]
    assert item.__doc__ is not None
    assert wrong(item, item.__doc__) == []


@pytest.mark.parametrize("item", [Receptors, Membrane])
def test_physiology_s_tables_say_the_defaults(item: type[Any]) -> None:
    assert wrong(item, item.__doc__ or "") == []


@pytest.mark.parametrize("name", sorted(public_rules()))
def test_a_rule_names_its_source(name: str) -> None:
    text = public_rules()[name].__doc__ or ""
    assert re.search(r"\b(19|20)\d\d\b", text)
    assert " = " in text  # its equation


def test_a_wrong_table_is_found() -> None:
    text = rules.PairSTDP.__doc__ or ""
    assert wrong(rules.PairSTDP, text.replace("0.00525", "0.00526")) == [
        "a_minus: 0.00526 instead of 0.00525"
    ]
    assert wrong(rules.PairSTDP, text.replace("tau_plus_ms ", "tau_pluss_ms")) == [
        "tau_pluss_ms: no parameter",
        "tau_plus_ms: not in the table",
    ]
    assert wrong(rules.PairSTDP, text.replace("pairing:", "pairs")) == ["pairing: not explained"]
