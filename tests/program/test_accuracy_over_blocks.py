"""analysis/accuracy_over_blocks.py: tables by hand, and that finished cells are not run again."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import snn_artsy.runs.compare
from snn_artsy.checks import ConfigError
from snn_artsy.runs.cells import Cell


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    return importlib.import_module("accuracy_over_blocks")


def a_cell(right: str, seconds: float, parameters: float = 9.0) -> Cell:
    correct = np.array([c == "1" for c in right])
    measures = {
        "a_last": float(correct.mean()), "seconds_learning": seconds, "parameters": parameters,
        "vit_passes_per_image": 1.5,
    }  # fmt: skip
    return Cell(measures, "abc", np.arange(len(right)), correct, None, {"a_t": [1.0, 0.5]})


def invented() -> dict[tuple[int, str], list[Cell]]:
    return {
        (2, "artsy_best"): [a_cell("1111", 1.0), a_cell("1110", 3.0)],
        (6, "artsy_best"): [a_cell("1111", 4.0), a_cell("1110", 6.0)],
        (2, "simplecil"): [a_cell("0011", 0.1, 0.0), a_cell("0011", 0.1, 0.0)],
        (6, "simplecil"): [a_cell("1111", 0.2, 0.0), a_cell("1110", 0.1, 0.0)],
    }


def test_the_tables_by_hand(script: Any) -> None:
    """Shares of a seed's time are .25 and .5: their mean .375, sd .177, and the interval of two
    values is 12.706 standard errors wide on each side."""
    text, n_tests = script.tables(invented())
    lines = text.split("\n")
    assert (
        lines[2].startswith("| Artsy (best gate), 2 | 87.5 ± 17.7 |") or "87.5 ± 17.7" in lines[2]
    )
    assert "| 2.0 ± 1.4 | 0.38 (-1.21 to 1.96) | 1.50 |" in lines[2]
    assert "| 1.00 (1.00 to 1.00) |" in lines[3]
    assert "| 0.1 ± 0.0 | – |" in lines[4]  # nothing is trained
    # the first learner less the other, at each k; where they answer alike nothing is tested
    assert n_tests == 1
    assert "+37.5 (" in lines[-2] and lines[-1].endswith("| the same answers | – |")


def test_the_figure_shows_what_the_table_says(script: Any) -> None:
    accuracy, seconds, passes = script.draw(invented()).axes
    bars = accuracy.containers[0]
    assert bars.lines[0].get_xydata().tolist() == [[2, 87.5], [6, 87.5]]
    assert seconds.containers[0].lines[0].get_ydata().tolist() == [2.0, 5.0]
    assert passes.containers[0].lines[0].get_ydata().tolist() == [1.5, 1.5]


def test_it_goes_on_and_writes(
    script: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_ARTSY_CACHE", str(tmp_path / "cache"))
    made: list[str] = []
    run = snn_artsy.runs.compare._run

    def counted(name: str, config: Any, *others: Any) -> Cell:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(f"{name} {config.ann.blocks} {config.seed}")
        return run(name, config, *others)

    monkeypatch.setattr(snn_artsy.runs.compare, "_run", counted)
    out, figure = tmp_path / "blocks.json", tmp_path / "made" / "blocks.pdf"
    words = ["--seeds", "1", "--out", str(out), "--figure", str(figure), "--blocks", "1, 2",
             "--learners", "ease,simplecil", "--set", "ann.placement=blocks", "--set",
             "ann.epochs=1", "--set", "data.class_range=[0,2]", "--set", "data.n_tasks=2",
             "--set", "data.train_per_class=6"]  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        script.main(words)
    assert not out.exists()
    first = list(made)
    made[:] = []
    script.main(words)
    assert first == ["ease 1 1993", "simplecil 1 1993", "ease 2 1993"]
    assert made == ["simplecil 2 1993"]
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert [(c["blocks"], c["learner"]) for c in kept["cells"]] == [
        (1, "ease"), (1, "simplecil"), (2, "ease"), (2, "simplecil"),
    ]  # fmt: skip
    # each of two sub-networks computes one block or two of the six
    passes = [c["vit_passes_per_image"] for c in kept["cells"]]
    assert passes == pytest.approx([5 / 6 + 2 / 6, 1, 4 / 6 + 4 / 6, 1])
    assert figure.read_bytes().startswith(b"%PDF")
    assert "2 tasks; adapters in the last k blocks" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="give another name"):
        script.main(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--blocks", "1,99"], "99"),
        (["--blocks", "0,1"], "numbers of blocks"),
        (["--learners", "easy"], "easy"),
        (["--figure", "made.table"], "suffix"),
        (["--out", "made"], "a name in .json"),
    ],
)
def test_slips_are_refused_before_anything_is_run(
    script: Any, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "carried_out", None)
    base = ["--out", "made.json", "--blocks", "1", "--set", "ann.placement=blocks"]
    with pytest.raises(ConfigError, match=said):
        script.main([*base, *words])
    with pytest.raises(ConfigError, match="use blocks"):
        script.main(["--out", "made.json"])
    assert list(tmp_path.iterdir()) == []
