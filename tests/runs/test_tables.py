"""One list of measures for every table: a console's, a report's and a page's."""

from __future__ import annotations

import importlib
import io
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from snn_artsy.api import Comparison
from snn_artsy.checks import ConfigError
from snn_artsy.evaluation.statistics import spread
from snn_artsy.printing import show
from snn_artsy.registry import LEARNERS as LEARNERS_OF_THE_PACKAGE
from snn_artsy.runs import tables
from snn_artsy.runs.tables import (
    COLUMNS,
    DOMAIN_COLUMNS,
    groups_table,
    learner_cells,
    markdown,
    summary_table,
)

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
    lines = printed(summary_table({"learners": LEARNERS}), 80)
    assert lines[1].split() == ["learner", "A_last", "gates", "s"]
    assert lines[3].split() == ["ann", "50.0", "1.2", "3.0"]
    assert lines[4].split() == ["linear", "–", "–", "–"]


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
    lines = printed(groups_table({"groups": [group | {"measures": measures}]}), 80)
    assert lines[1].split() == ["setting", "learner", "n", "A_last"]
    assert lines[3].split() == ["readout", "0.5", "artsy_snn", "2", "60.0", "±", "14.1"]


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
        (tables.pairs_table(SUMMARY), [WIDE, "- joint", "+10.00", "+0.25", "0.0123"]),
        (summary_table(SUMMARY), [WIDE, "6543.2"]),
        (tables.controls_table(SUMMARY), [WIDE, "43.2"]),
        (groups_table(SUMMARY), ["setting", WIDE]),
        (tables.info_table("run.h5", {WIDE: "run"}, {}), [WIDE]),
        (tables.protocols_table([CHECK]), ["17.25", "16.75", "0.125"]),
        (Comparison(Path(), SUMMARY), [WIDE, "12.3-98.8", "- joint", "0.0123"]),
    ],
)  # fmt: skip
def test_a_table_is_never_cut(table: Any, texts: list[str], width: int) -> None:
    text = "\n".join(printed(table, width))
    assert "…" not in text
    for each in texts:
        assert each in text


def printed(table: Any, width: int) -> list[str]:
    """Lines of a table on a console so wide, without those that are empty."""
    console = Console(width=width, file=io.StringIO(), record=True)
    show(console, table)
    return [line.rstrip() for line in console.export_text().splitlines() if line.strip()]


NAMES = [*sorted(LEARNERS_OF_THE_PACKAGE, key=len)[-7:], "artsy_snn"]
SPREAD = spread([0.5, 0.7]) | {"interval_95": [0.1234, 1.0]}
MEASURES = dict.fromkeys(COLUMNS, SPREAD) | {
    "parameters": spread([123456789.0, 123456789.0]),
    "stored_bytes": spread([12345678901.0, 12345678901.0]),
    "seconds": spread([98765.4, 98765.4]),
    **{f"a_last:{name}": SPREAD for name in ("caltech-101-128px", "tiny-imagenet-200-subset")},
    **{f"a_last:{name}": SPREAD for name in ("textures-10", "traffic-signs-20", "hand-digits-10")},
    **dict.fromkeys(DOMAIN_COLUMNS, SPREAD),
}
"""Every measure at its widest, of eight learners with the longest names that the package has."""
EIGHT = {
    "seeds": [1993, 1994],
    "chance": 0.1,
    "learners": dict.fromkeys(NAMES, MEASURES),
    "controls": {
        name: {"a_last_spikes_only": 1.0, "functional_share": 1.0, "spikes_per_image": 123456.7,
               "contacts_changed": 1.0}
        for name in ("shuffled_timing_equal_parameters", "shuffled_timing_equal_density")
    },
    "groups": [
        {"values": {"snn.plasticity.rule": "calcium_graupner_brunel", "snn.readout": 0.123456},
         "learner": name, "n": 10, "measures": MEASURES}
        for name in NAMES
    ],
    "pairs": [
        {"a": f"{a} (spikes)", "b": b, "difference": 0.9999, "interval_95": [-0.9999, 0.9999],
         "cohens_h": -3.14, "p_holm": 0.00001}
        for a, b in itertools.pairwise(NAMES)
    ],
    "alike": [],
    "warnings": [],
}  # fmt: skip
EIGHT_OF_ONE_SEED = {
    name: dict.fromkeys(COLUMNS, 1.0) | {"seconds": 12345.6, "mean_open_gates": 10.0}
    for name in NAMES
}
STUDY = {
    "seeds": [1993, 1994],
    "hypothesis": "Timing matters more than the number of contacts, at every rate of the encoder.",
    "warnings": [],
    "measures": {key: {"title": COLUMNS[key].title, "scale": 100} for key in [*COLUMNS][:5]},
    "settings": {
        f"snn.plasticity.rule: {rule}, snn.readout: 0.5": {
            "measures": {key: {"mean": 1.0, "interval_95": [0.9, 1.0]} for key in [*COLUMNS][:5]}
        }
        for rule in ("triplet_pfister_gerstner", "calcium_graupner_brunel")
    },
    "contrasts": {
        key: [
            {"name": "snn.plasticity.rule: calcium_graupner_brunel - triplet_pfister_gerstner",
             "value": -0.9999, "interval_95": [-0.9999, 0.9999], "p_holm": 0.00001}
        ]
        for key in [*COLUMNS][:5]
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "texts"),
    [
        (summary_table(EIGHT), [*NAMES, "60.0 ± 14.1", "Chance: 10.0"]),
        (summary_table(EIGHT | {"learners": EIGHT_OF_ONE_SEED}), [*NAMES, "12345.6", "100.0"]),
        (tables.domains_table(EIGHT)[0], [*NAMES, "200-subset", "60.0 ± 14.1"]),
        (
            tables.controls_table(EIGHT | {"learners": EIGHT_OF_ONE_SEED}),
            [*EIGHT["controls"], "123456.7", "10.0 "],
        ),
        (tables.comparison_table(EIGHT), [*NAMES, "12.3-100.0", "123456.8", "12345.7", "98765.4"]),
        (tables.pairs_table(EIGHT), [*NAMES, "-99.99 to +99.99", "-3.14", "<0.0001"]),
        (groups_table(EIGHT), [*NAMES, "0.123456", "60.0 ± 14.1"]),
        (tables.study_table(STUDY), ["100.0 [90.0 to 100.0]"]),
        (tables.contrasts_table(STUDY), ["-100.0 to +100.0", "<0.0001"]),
        (tables.info_table("a/" * 60 + "run.h5", {"platform": "Linux, " * 20}, {}), ["run.h5"]),
    ],
)  # fmt: skip
def test_eight_learners_fit_eighty_columns(table: Any, texts: list[str]) -> None:
    """Nothing is wider than a terminal of the usual size, where lines would break in the middle of
    a number, and nothing is cut."""
    lines = printed(table, 80)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for each in texts:
        assert each in text


def test_what_is_alike_stays_in_one_table() -> None:
    """Accuracies, then gates and time beside them, then all of the spikes in a table of their own;
    without spikes there is one table."""
    lines = printed(summary_table({"learners": EIGHT_OF_ONE_SEED}), 80)
    headings = [line.split() for line in lines if line.lstrip().startswith("learner")]
    assert [row[1] for row in headings] == ["A_last", "spikes"]
    few = {"a_last": 0.5, "forgetting_max_last": 0.1, "mean_open_gates": 1.0, "seconds": 1.0}
    text = printed(summary_table({"learners": dict.fromkeys(NAMES, few)}), 80)
    assert sum("learner" in line for line in text) == 1


def test_a_further_table_has_the_rows_that_say_something() -> None:
    learners = EIGHT_OF_ONE_SEED | {"simplecil": {"a_last": 0.5}}
    lines = printed(summary_table({"learners": learners}), 80)
    assert [line.split()[0] for line in lines].count("simplecil") == 1
    assert [line.split()[0] for line in lines].count("artsy_snn") == 2


def test_runs_beside_each_other_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences from the first run, in points; runs of other images are refused."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    beside = importlib.import_module("runs_beside")
    config = {"seed": 3, "data": {"name": "digits"}, "backbone": {"name": "bundled"}}

    def summary(images: str = "a", **a_last: float) -> dict[str, Any]:
        learners = {name: {"a_last": value} for name, value in a_last.items()}
        about = {"images": {"train": images}, "class_order": [1, 0]}
        return {"config": config, **about, "learners": learners}

    runs = {"x": summary(one=0.5, two=0.25), "y": summary(one=0.502, two=0.2)}
    runs["z"] = summary(two=0.2512)
    lines = beside.table(runs, "a_last").splitlines()
    assert lines[0] == "| a_last, % | x | y, less that | z, less that |"
    assert lines[2:5] == [
        "| one | 50.00 | +0.20 | – |",
        "| two | 25.00 | -5.00 | +0.12 |",
        "| largest difference |  | 5.00 | 0.12 |",
    ]
    with pytest.raises(ConfigError, match="w has another images"):
        beside.table({**runs, "w": summary("b", one=0.5)}, "a_last")
    tasks = {**config, "data": {"name": "digits", "n_tasks": 2}}
    with pytest.raises(ConfigError, match="w has another data"):
        beside.table({**runs, "w": {**summary(one=0.5), "config": tasks}}, "a_last")
    with pytest.raises(ConfigError, match="no learner has 'b_last'"):
        beside.table(runs, "b_last")
