"""Scripts outside the package import what is there: neither mypy nor a test runs all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    path for name in ("analysis", "experiments") for path in (ROOT / name).rglob("*.py")
)


@cache
def names(file: Path) -> frozenset[str] | None:
    """Names at the top level of a module; None if it makes some when they are asked for."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return None if "__getattr__" in found else frozenset(found)


def home(module: str) -> Path | None:
    """The file of a module of the package, or of a script beside the others."""
    places = [ROOT, ROOT / "analysis", *{script.parent for script in SCRIPTS}]
    for place in places:
        stem = place.joinpath(*module.split("."))
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None


def missing(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            yield from (m for m in modules if m.startswith("snn_artsy") and home(m) is None)
        elif isinstance(node, ast.ImportFrom) and node.module:
            file = home(node.module)
            known = names(file) if file else None
            if file is None and node.module.startswith("snn_artsy"):
                yield node.module
            if known is not None:
                for alias in node.names:
                    if alias.name not in known and home(f"{node.module}.{alias.name}") is None:
                        yield f"{node.module}.{alias.name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_is_there(script: Path) -> None:
    assert list(missing(script.read_text(encoding="utf-8"))) == []


def test_what_is_not_there_is_found() -> None:
    source = (
        "import snn_artsy.run\nfrom study import nested\nfrom snn_artsy.runs.run import execute, x"
    )
    assert list(missing(source)) == ["snn_artsy.run", "study.nested", "snn_artsy.runs.run.x"]
