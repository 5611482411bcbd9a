"""Wrong configurations made from the schema: one clear line each, exit code 2, nothing started."""

from __future__ import annotations

import random
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from snn_artsy import cli
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import keys_of, section_of, type_of

N = 200
LEAVES = [key for key in keys_of(RunConfig) if section_of(type_of(RunConfig, key)) is None]
SECTIONS = [key for key in keys_of(RunConfig) if section_of(type_of(RunConfig, key)) is not None]


def choices(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)


def wrong_values(annotation: Any) -> list[Any]:
    """Values of none of the types that a key takes, as YAML has them."""
    kinds = {typing.get_origin(c) or c for c in choices(annotation)}
    found: list[Any] = [{"a": 1}]
    if list not in kinds:
        found.append([[1], 2])
    if bool not in kinds and not kinds & {str, Literal}:
        found.append(True)
    if str not in kinds:
        found.append("nonsense")
    if float not in kinds:
        found.append(1.5)
    if float in kinds:
        found += [float("nan"), float("inf")]
    if not kinds & {int, float}:
        found.append(7)
    if type(None) not in kinds:
        found.append(None)
    return found


def misspelt(key: str, rng: random.Random) -> str:
    """Two letters changed places, or one is missing; not a key by accident."""
    while True:
        at = rng.randrange(len(key) - 1)
        wrong = rng.choice(
            [key[:at] + key[at + 1] + key[at] + key[at + 2 :], key[:at] + key[at + 1 :]]
        )
        if wrong not in keys_of(RunConfig) and all(wrong.split(".")):
            return wrong


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def invalid() -> Iterator[tuple[str, str, Any]]:
    """(way in, key, value); ways: yaml, option."""
    rng = random.Random(0)
    for key in LEAVES:
        for value in wrong_values(type_of(RunConfig, key)):
            if key == "learners" and isinstance(value, str):
                continue  # names with commas are a list
            yield "yaml", key, value
            # on the command line everything is text: what stays wrong as text
            if value in ("nonsense", 1.5) and str not in choices(type_of(RunConfig, key)):
                yield "option", key, value
        yield rng.choice(["yaml", "option"]), misspelt(key, rng), 1
    for key in SECTIONS:
        for value in (5, "nonsense", [1], None):
            yield "yaml", key, value
        yield "yaml", f"{key}.nothing_like_it", 1


@pytest.fixture(autouse=True)
def _no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("snn_artsy.runs.run")

    def execute(config: RunConfig, console: object) -> None:
        raise AssertionError("it was accepted")

    module.execute = execute  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snn_artsy.runs.run", module)


def call(way: str, key: str, value: Any) -> int:
    arguments = [f"--{key}", str(value)]
    if way == "yaml":
        Path("wrong.yaml").write_text(yaml.safe_dump(nested(key, value)), encoding="utf-8")
        arguments = ["--config", "wrong.yaml"]
    with pytest.raises(SystemExit) as raised:
        cli.main(["run", *arguments])
    assert isinstance(raised.value.code, int)
    return raised.value.code


def test_every_wrong_configuration_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    everything = list(invalid())
    assert len(everything) > 2 * N
    chosen = random.Random(1).sample(everything, N)
    failures = []
    for way, key, value in chosen:
        code = call(way, key, value)
        said = capsys.readouterr()
        problems = [
            code != 2 and f"exit code {code}",
            said.out != "" and "output",
            said.err.count("\n") != 1 and "not one line",
            not said.err.startswith(f"snn-artsy: {key}") and "the key is not named first",
            "; " not in said.err and "no remedy",
            "Traceback" in said.err and "traceback",
        ]
        if any(problems):
            failures.append((way, key, value, [p for p in problems if p], said.err))
    assert not failures, "\n".join(map(str, failures))
    assert list(Path().iterdir()) in ([], [Path("wrong.yaml")])
