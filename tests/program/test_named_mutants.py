"""The wrong versions that are kept as data can still be made."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def named() -> Any:
    file = ROOT / "experiments" / "mutation" / "named.py"
    spec = importlib.util.spec_from_file_location("named_mutants", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMED = named()


@pytest.mark.parametrize("mutant", NAMED.MUTANTS, ids=lambda m: m.name)
def test_a_wrong_version_can_be_made(mutant: Any, tmp_path: Path) -> None:
    file = tmp_path / mutant.file
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "snn_artsy" / mutant.file, file)
    NAMED.apply(mutant, tmp_path)
    compile(file.read_text(encoding="utf-8"), mutant.file, "exec")
    with pytest.raises(ValueError, match="has 0 times"):
        NAMED.apply(mutant, tmp_path)
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file()


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in NAMED.MUTANTS]
    assert len(set(names)) == len(names)
