"""The notebook runs from top to bottom, without torch, and is kept with its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.runs.run import execute

NOTEBOOK = Path(__file__).resolve().parents[2] / "analysis" / "walkthrough.ipynb"

nbformat = pytest.importorskip("nbformat")


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.filterwarnings("ignore")
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    execute(RunConfig(data=DataConfig(train_per_class=40), out=str(tmp_path / "run")))
    monkeypatch.setenv("SNN_ARTSY_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    done = nbclient.NotebookClient(read(), timeout=120, kernel_name="python3").execute()
    images = [
        output
        for cell in done.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(images) >= 10
    text = "".join(o.get("text", "") for c in done.cells for o in c.get("outputs", []))
    assert "time constant of potentiation: 20.0 ms" in text  # the default rule's tau_plus


def test_it_is_kept_executed_and_small() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(o.output_type == "error" for cell in cells for o in cell.outputs)
    assert NOTEBOOK.stat().st_size < 1.5e6
