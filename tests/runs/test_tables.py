"""One list of measures for every table: a console's, a report's and a page's."""

from __future__ import annotations

import importlib
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from snn_artsy.api import Comparison
from snn_artsy.evaluation.statistics import spread
from snn_artsy.printing import show
from snn_artsy.runs import tables
from snn_artsy.runs.tables import COLUMNS, groups_table, learner_cells, markdown, summary_table

LEARNERS = {
    "ann": {"a_last": 0.5, "mean_open_gates": 1.25, "seconds": 3, "other": 7.0},
    "linear": {"a_last": math.nan, "mean_open_gates": None},
}


@pytest.mark.parametrize(
    "key, found, text",
    [
        ("a_last", 0.12345, "12.3"),
        ("a_last", spread([0.5, 0.7]), "60.0 ± 14.1"),  # sqrt(0.02) = 0.1414
        ("a_last", spread([0.5, 0.5]), "50.0 ± 0.0"),
        ("a_last", spread([0.5]), "50.0"),
        ("mean_open_gates", 1.26, "1.3"),
        ("stored_bytes", 1_500_000, "1.5"),
        ("parameters", 30_720, "30.7"),
        ("inference_ms_per_image", 0.0015, "1.5"),
        ("a_last", None, "–"),
        ("a_last", math.nan, "–"),
        ("a_last", "much", "–"),
    ],
)
def test_cells(key: str, found: object, text: str) -> None:
    assert COLUMNS[key].cell(found) == text


def test_a_mean_without_its_spread() -> None:
    assert COLUMNS["seconds"].cell(spread([1.0, 3.0]), sd=False) == "2.0"


def test_the_same_cells_on_a_console_and_on_a_page() -> None:
    rows = [("ann", ["50.0", "1.2", "3.0"]), ("linear", ["–", "–", "–"])]
    assert learner_cells(LEARNERS) == (["A_last", "gates", "s"], rows)
    keys = ("a_last", "mean_open_gates", "seconds")
    assert learner_cells(LEARNERS, keys, page=True) == (["A_last", "open gates", "seconds"], rows)
    assert markdown(["A_last", "s"], [("ann", ["50.0", "3.0"])]) == [
        "| | A_last | s |",
        "|---|---:|---:|",
        "| ann | 50.0 | 3.0 |",
    ]
    table = summary_table({"learners": LEARNERS})
    assert [column.header for column in table.columns] == ["learner", "A_last", "gates", "s"]
    assert [list(column.cells) for column in table.columns][1] == ["50.0", "–"]


def test_what_has_forgetting_has_that_of_the_spikes_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """h_0 hides what synapses lose: -10 points with it, 41 without."""
    measures = {"forgetting_max_last": -0.1, "forgetting_spikes_only": 0.41}
    measures |= {"a_last_old_spikes_only": 0.2, "a_last_new_spikes_only": 0.95}
    shown = ["forgetting", "forgetting, spikes only"]
    shown += ["A_last of old tasks, spikes only", "A_last of the new task, spikes only"]
    found = (shown, [("snn", ["-10.0", "41.0", "20.0", "95.0"])])
    assert learner_cells({"snn": measures}, page=True) == found
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    results_table = importlib.import_module("results_table")
    assert learner_cells({"snn": measures}, results_table.KEYS, page=True) == found


def test_the_groups_of_a_sweep() -> None:
    group = {"values": {"snn.readout": 0.5}, "learner": "artsy_snn", "n": 2}
    measures = {"a_last": spread([0.5, 0.7])}
    console = Console(width=80, file=None)
    with console.capture() as printed:
        console.print(groups_table({"groups": [group | {"measures": measures}]}))
    row = next(line for line in printed.get().splitlines() if "artsy_snn" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "readout 0.5", "artsy_snn", "2", "60.0 ± 14.1", "–", "–",
    ]  # fmt: skip


WIDE = "a_learner_of_a_name_that_is_longer_than_a_narrow_terminal"
SUMMARY = {
    "seeds": [1, 2],
    "learners": {
        WIDE: {
            "a_last": spread([0.5, 0.7]) | {"interval_95": [0.1234, 0.9876]},
            "a_avg": spread([0.123, 0.789]),
            "parameters": spread([1234500.0, 1234500.0]),
            "seconds": spread([6543.25, 6543.25]),
        }
    },
    "controls": {WIDE: {"a_last_spikes_only": 0.4321}},
    "groups": [{"values": {}, "learner": WIDE, "n": 2, "measures": {}}],
    "pairs": [
        {"a": WIDE, "b": "joint", "difference": 0.1, "interval_95": [0.1, 0.2], "cohens_h": 0.25,
         "p_holm": 0.0123}
    ],
    "alike": [],
    "warnings": [],
}  # fmt: skip
CHECK = {"name": "stdp-window", "check": "tau_plus_of_the_window", "pass": True, "source": "x",
         "measured": 17.25, "published": 16.75, "tolerance": 0.125}  # fmt: skip


def test_references_of_others_have_a_star() -> None:
    """Rows of earlier versions say nothing of it."""
    paper, bound = CHECK | {"independent": True}, CHECK | {"kind": "at_most", "independent": True}
    table = tables.protocols_table([CHECK, paper, bound, CHECK | {"independent": False}])
    assert [str(column.header) for column in table.columns][:3] == [
        "protocol, check", "measured", "reference"
    ]  # fmt: skip
    references = [str(cell) for cell in table.columns[2].cells][1:]  # after the protocol's name
    assert references == ["16.75", "16.75 *", "<= 16.75 *", "16.75"]
    assert "(2 of 4)" in str(table.caption)


@pytest.mark.parametrize("width", [20, 80])
@pytest.mark.parametrize(
    ("table", "texts"),
    [
        (tables.comparison_table(SUMMARY), [WIDE, "60.0 ± 14.1", "12.3-98.8", "1234.5", "6543.2"]),
        (tables.pairs_table(SUMMARY), [f"{WIDE} - joint", "+10.00", "+0.25", "0.0123"]),
        (summary_table(SUMMARY), [WIDE, "6543.2"]),
        (tables.controls_table(SUMMARY), [WIDE, "43.2"]),
        (groups_table(SUMMARY), ["setting", "spikes"]),
        (tables.info_table("run.h5", {WIDE: "run"}, {}), [WIDE]),
        (tables.protocols_table([CHECK]), ["17.25", "16.75", "0.125"]),
        (Comparison(Path(), SUMMARY), [WIDE, "12.3-98.8", f"{WIDE} - joint", "0.0123"]),
    ],
)  # fmt: skip
def test_a_table_is_never_cut(table: Any, texts: list[str], width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    show(console, table)
    text = console.export_text()
    assert "…" not in text
    for each in texts:
        assert each in text
