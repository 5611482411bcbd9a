"""Scripts outside the package import what is there: neither mypy nor a test runs all of them."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from snn_artsy.checks import ConfigError

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


# --- wrong paths ----------------------------------------------------------------------------------

NOWHERE: dict[str, list[str]] = {
    "analysis/accuracy_over_blocks.py": ["--config", "nowhere.yaml", "--out", "made.json"],
    "analysis/accuracy_vs_steps.py": ["nowhere", "--out", "made.png"],
    "analysis/ann_vs_snn.py": ["nowhere"],
    "analysis/comparison_table.py": ["nowhere"],
    "analysis/conversion_dynamics.py": ["nowhere"],
    "analysis/efficiency.py": ["nowhere"],
    "analysis/encoder_ceiling.py": ["--config", "nowhere.yaml", "--out", "made.json"],
    "analysis/figure3.py": ["nowhere", "--out", "made.png"],
    "analysis/figure4.py": ["X=nowhere", "--out", "made.png"],
    "analysis/figures.py": ["--default", "nowhere", "--out", "made"],
    "analysis/gate_ablations.py": ["--config", "nowhere.yaml", "--out", "made.json"],
    "analysis/growth.py": ["5=nowhere", "--out", "made.png"],
    "analysis/keep.py": ["nowhere"],
    "analysis/lesion.py": ["nowhere"],
    "analysis/planned_pairs.py": ["a:b", "X=nowhere"],
    "analysis/results_table.py": ["nowhere"],
    "analysis/runs_beside.py": ["X=nowhere"],
    "analysis/spike_timing.py": ["--config", "nowhere.yaml", "--out", "made"],
    "experiments/study.py": ["nowhere.yaml", "--out", "made"],
}
WRONG: list[tuple[str, list[str], str]] = [
    *((script, words, "nowhere") for script, words in NOWHERE.items()),
    ("analysis/encoder_ceiling.py", ["--out", "there"], "there"),
    ("analysis/encoder_ceiling.py", ["--out", "made", "--seeds", "0"], "seeds: 0"),
    ("analysis/encoder_ceiling.py", ["--out", "made", "--set", "seed"], "set: 'seed'"),
    ("analysis/encoder_ceiling.py", ["--out", "made", "--set", "sed=1"], "sed: unknown key"),
    ("analysis/encoder_ceiling.py", ["--out", "made", "--set", "seed=[1"], "seed: its value"),
    ("analysis/encoder_ceiling.py", ["--out", "made", "--into", "there"], "into: no <!--"),
    ("analysis/spike_timing.py", ["--out", "there"], "snn.plasticity.rule: "),
    ("analysis/spike_timing.py", ["--out", "there", "--set", "snn.preset=timing"], "out: "),
    ("analysis/growth.py", ["five=there", "--out", "made.png"], "comparisons: 'five'"),
    ("analysis/growth.py", ["nowhere", "--out", "made.png"], "give NAME=DIR"),
    ("analysis/planned_pairs.py", ["ab", "X=there"], "no comparison in"),
    ("experiments/study.py", ["there", "--out", "made"], "study: "),
]


@pytest.mark.parametrize(("script", "words", "said"), WRONG, ids=str)
def test_wrong_arguments_are_one_line(
    script: str,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("[]")
    monkeypatch.setattr(sys, "argv", [script, *words])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.count("\n") == 1, message
    assert message.startswith(f"{Path(script).name}: ") and said in message
    assert {path.name for path in tmp_path.iterdir()} == {"there"}
    assert Path("there").read_text() == "[]"


def test_every_analysis_is_tried() -> None:
    scripts = {f"analysis/{path.name}" for path in (ROOT / "analysis").glob("*.py")}
    without_paths = {"expected_change", "over_seeds", "readme_tables", "schematic"}
    without_paths = {f"analysis/{name}.py" for name in without_paths}
    assert scripts - without_paths == {*NOWHERE} - {"experiments/study.py"}


def test_planned_pairs_are_of_any_measure_and_of_equal_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "analysis")
    script = runpy.run_path(str(ROOT / "analysis" / "planned_pairs.py"))
    values = {"x": [0.5, 0.6, 0.7], "y": [0.4, 0.6, 0.65], "z": [0.5, 0.6, 0.7]}
    summary = {
        "learners": {name: {"a_avg": {"values": v}} for name, v in values.items()},
        "alike": [["x", "z"]],
        "pairs": [{"a": "y", "b": "x", "difference": -0.1, "interval_95": [-0.2, 0.0], "p": 0.04}],
    }
    assert script["found"](summary, "z", "y") == (10.0, (0.0, 20.0), 0.04)
    assert script["found"](summary, "z", "x") == (0.0, (0.0, 0.0), 1.0)
    mean, (low, high), p = script["over_seeds"](summary, "x", "y", "a_avg")
    # 10, 0 and 5 points: sd 5, t_2(.975) = 4.3027
    assert mean == pytest.approx(5.0) and p == pytest.approx(0.2254, abs=1e-4)
    assert (low, high) == pytest.approx((5 - 12.42, 5 + 12.42), abs=0.01)
    with pytest.raises(ConfigError, match="w has no a_avg there"):
        script["over_seeds"](summary, "w", "y", "a_avg")
