"""YAML from files: read as YAML 1.2, bounded, and never more than a line of error."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.yaml_file import (
    MOST_BYTES,
    MOST_DEEP,
    MOST_VALUES,
    read_mapping,
    read_yaml,
    yaml_text,
)

WHERE = ("config", '"my.yaml"')


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("TRUE", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("'1e3'", "1e3"),
        ("[1, a, [x]]", [1, "a", ["x"]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_yaml(f"key: {text}", *WHERE)["key"]
    assert found == value and type(found) is type(value)


def test_not_a_number_is_read_as_one() -> None:
    assert math.isnan(read_yaml("key: .nan", *WHERE)["key"])


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}, *a{k - 1}]\n" for k in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: the key 'a' stands in line 1 already"),
        ("a:\n  b: 1\n  b: 2\n", r"line 3: the key 'b' stands in line 2 already"),
        ("a: 1\n'a': 2\n", r"line 2: the key 'a' stands in line 1"),
        (BOMB, r"line 2: aliases \(\*name\) are not read"),
        ("a: &a [*a]", r"line 1: aliases"),
        (
            "[" * (MOST_DEEP + 1) + "]" * (MOST_DEEP + 1),
            rf"line 1: nested more than {MOST_DEEP} levels",
        ),
        ("{a: " * 50_000, rf"nested more than {MOST_DEEP} levels"),
        ("- " * 50_000, rf"nested more than {MOST_DEEP} levels"),
        ("[" + "1," * MOST_VALUES + "]", r"more than 20,000 keys and values"),
        ("x" * (MOST_BYTES + 1), r"more than 200,000 bytes"),
        ("é" * (MOST_BYTES // 2 + 1), r"more than 200,000 bytes"),
        ("a: !!python/object/apply:os.system [id]", r"line 1: the type .*python.* is not read"),
        ("a: !!binary aGk=", "is not read"),
        ("a: !!set {b}", "is not read"),
        ("a: !own b", "is not read"),
        ("a: !!int b", "'b' is no integer"),
        ("a: !!float b", "'b' is no number"),
        ("a: !!bool b", "'b' is neither true nor false"),
        ("a: !!map [1]", "keys with values expected"),
        ("a: !!seq b", "expected a sequence"),
        ("a: " + "9" * 5000, "an integer of more than 100 digits"),
        ("1: a", "a key must be a text"),
        ("true: a", "a key must be a text"),
        ("? [a, b]\n: c", "a key must be a text"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("a: [1,\n  2", "line 2: expected"),
        ("a: \x1b[31m", "special characters are not allowed"),
        ("a: 'b\n", "not valid YAML, line 2"),
        ("%YAML 9.9\n---\na: 1", "not valid YAML, line 1"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, message: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=message) as raised:
        read_yaml(text, *WHERE)
    assert str(raised.value).startswith(": ".join(WHERE)) and "\n" not in str(raised.value)
    assert time.perf_counter() - started < 20  # a second where nothing else runs


def test_the_deepest_and_the_largest_are_read() -> None:
    deep = read_yaml("[" * MOST_DEEP + "]" * MOST_DEEP, *WHERE)
    for _ in range(MOST_DEEP - 1):
        (deep,) = deep
    assert deep == []
    many = read_yaml("[" + "1," * (MOST_VALUES - 1) + "]", *WHERE)
    assert many == [1] * (MOST_VALUES - 1)
    assert read_yaml("x" * MOST_BYTES, *WHERE) == "x" * MOST_BYTES


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        read_yaml(file, *WHERE)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path, *WHERE)
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")  # with a byte order mark, as some editors write it
    assert read_mapping(file, *WHERE) == {"a": 1}
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        read_yaml(file, *WHERE)
    file.write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 200,000 bytes"):
        read_yaml(file, *WHERE)
    for text in ("[1, 2]", "", "word"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="holds no keys with values"):
            read_mapping(file, *WHERE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_yaml(tmp_path / "pipe.yaml", *WHERE)


def test_a_configuration_comes_back() -> None:
    config = RunConfig(out="1e3", learners=["ease"])
    text = yaml_text(asdict(config))
    assert build(RunConfig, read_mapping(text, *WHERE)) == config
    assert yaml.safe_load(text) == read_mapping(text, *WHERE)  # and other readers agree


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.from_regex(r"[-+0-9.eEoxX_:~]{1,6}|(yes|no|on|off|null|true)", fullmatch=True),
)
TREES = st.dictionaries(
    st.text(max_size=6), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=5
)


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_what_is_written_is_read(tree: dict[str, Any]) -> None:
    assert read_mapping(yaml_text(tree), *WHERE) == tree


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-?[]{},&*!|>'\"%@`#~. \n\t01\\", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_yaml(text, *WHERE)
    except ConfigError as error:
        assert "\n" not in str(error)
