"""The notebooks of the documentation run from top to bottom and are kept without results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from processes import quick_environment

ROOT = Path(__file__).resolve().parents[2]
SAID = {  # what a reader is shown, of numbers that must come out so
    "first_run": "time constant of potentiation: 20.0 ms",  # the default rule's tau_plus
    "pairing": "leads      functional",
    "own_parts": "after task 5:",
    "ann_against_snn": "artsy_snn (spikes) - mean_field:",
}
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))}

nbformat = pytest.importorskip("nbformat")


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def test_all_are_known() -> None:
    assert set(NOTEBOOKS) == set(SAID)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAID)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", quick_environment()["PYTHONPATH"])
    here = {"metadata": {"path": str(tmp_path)}}
    done = nbclient.NotebookClient(
        read(name), timeout=300, kernel_name="python3", resources=here
    ).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert SAID[name] in "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("name", SAID)
def test_it_is_kept_without_results(name: str) -> None:
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.execution_count is None and not cell.outputs for cell in cells)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/getting_started.md"])
def test_they_are_found(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert [name for name in NOTEBOOKS if f"notebooks/{name}" not in text] == []
