"""The code in README and docs runs, and the commands in them are commands."""

from __future__ import annotations

import re
import shlex
import sys
import types
from pathlib import Path

import pytest

from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.run import execute

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "experiments" / "RESULTS.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in one namespace, in an empty directory with a finished run."""
    monkeypatch.chdir(tmp_path)
    data = DataConfig(train_per_class=10)
    for name in ("default", "X"):
        execute(RunConfig(data=data, out=f"runs/{name}"))
    module = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look themselves up
    for number, block in enumerate(blocks(page, "python")):
        code = compile(block, f"{page.name}, block {number + 1}", "exec")
        exec(code, module.__dict__)


def commands() -> list[tuple[str, str]]:
    """Every snn-artsy command in a bash block: (page, command line)."""
    found = []
    for page in PAGES:
        for block in blocks(page, "bash") + blocks(page, ""):
            joined = re.sub(r"\\\n\s*", " ", block)
            for line in joined.splitlines():
                for part in re.split(r"&&|;\s", line.split(" #")[0]):
                    words = part.strip()
                    if words.startswith("snn-artsy "):
                        found.append((page.name, words))
    return found


def test_commands_are_found() -> None:
    names = {shlex.split(command)[1] for _, command in commands()}
    assert {"run", "compare", "sweep", "export", "protocol"} <= names


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_are_accepted(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed as the command line would; what it does is replaced by nothing."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.split(" > ")[0])[1:]
    words = [re.sub(r"\$\w+", "10", word) for word in words]
    if "my.yaml" in words or "sweep.yaml" in words or "--print_config" in words:
        words = [
            w for w in words if w not in ("--config", "my.yaml", "sweep.yaml", "--print_config")
        ]
    if "--help" in words:
        return
    first = words[0]
    monkeypatch.setattr(cli, f"_{first}", lambda arguments: 0)
    try:
        assert cli._dispatch(words) == 0
    except ConfigError as error:
        pytest.fail(f"{page}: `{command}`: {error}")
