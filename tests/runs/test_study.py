"""A study: a grid of comparisons, one a setting, and the table that is made of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

import snn_artsy as sa
from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete, read_config
from snn_artsy.export.measures import csv_text
from snn_artsy.plots.study import study_lines
from snn_artsy.plots.style import NothingRecorded
from snn_artsy.registry import LEARNERS
from snn_artsy.runs import compare as module
from snn_artsy.runs.study import KEYS, planned
from snn_artsy.runs.sweep import read_grid
from snn_artsy.runs.tables import markdown

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SETTINGS = """
"all images": {}
"few, of each": {data.train_per_class: 6}
"ridge": {learners: [artsy_ann_ridge]}
"""


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script's main function; it is called with words after the study's file."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    for name in ("study", "shuffled_timing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("entries", "_spelled"):  # what is registered here is not for other tests
        monkeypatch.setattr(LEARNERS, name, dict(getattr(LEARNERS, name)))
    import study as script

    file = tmp_path / "settings.yaml"
    file.write_text(SETTINGS)
    small = ["--seeds", "2", "--learner", "simplecil"]
    small += ["--set", "data.train_per_class=12", "--set", "data.class_range=[0, 4]"]
    small += ["--set", "data.n_tasks=2", "--set", "data.train_share=0.9"]
    return lambda *words: script.main([str(file), *small, *words])


def test_every_setting_is_a_comparison(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "out", tmp_path / "page.md"
    page.write_text("<!-- mine --><!-- /mine -->")
    study("--out", str(out), "--into", str(page), "--name", "mine", "--columns", "a_last")
    folders = {"all images": "all_images", "few, of each": "few_of_each", "ridge": "ridge"}
    found = json.loads((out / "study.json").read_text())
    assert list(found["cells"]) == [f"{name}/{seed}" for name in folders for seed in (1993, 1994)]
    assert found["device"] == "cpu" and found["base"]["data"]["n_tasks"] == 2
    rows = []
    for name, folder in folders.items():
        summary = json.loads((out / folder / "summary.json").read_text())
        assert summary["config"]["data"]["train_per_class"] == (6 if name.startswith("few") else 12)
        ((learner, measures),) = summary["learners"].items()
        assert learner == ("artsy_ann_ridge" if name == "ridge" else "simplecil")
        for i, seed in enumerate((1993, 1994)):
            cell = found["cells"][f"{name}/{seed}"]
            assert cell["a_last"] == measures["a_last"]["values"][i]
            assert "seconds_learning" in cell
        mean, sd = (100 * measures["a_last"][key] for key in ("mean", "sd"))
        rows.append(f"| {name} | {mean:.1f} ± {sd:.1f} |")
    for text in (capsys.readouterr().out, page.read_text()):
        assert "| | A_last |\n|---|---:|\n" + "\n".join(rows) in text
        assert "digits, bundled, seeds 1993-1994, cpu, commit " in text
    # the same command again
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("nothing is left to run"))
    study("--out", str(out))
    assert json.loads((out / "study.json").read_text())["cells"] == found["cells"]


def test_a_study_of_an_earlier_version_is_left_alone(study: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text("{}")
    with pytest.raises(ConfigError, match="choose another --out"):
        study("--out", str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["study.json"]
    assert (tmp_path / "out" / "study.json").read_text() == "{}"


def test_the_timing_index_is_of_the_same_seed(
    study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text('"spikes": {}\n"none": {snn.plasticity.rule: none}')
    more = ["--learner", "artsy_snn", "--timing", "--workers", "2", "--out", str(tmp_path / "out")]
    study(*more)
    cells = json.loads((tmp_path / "out" / "study.json").read_text())["cells"]
    summary = json.loads((tmp_path / "out" / "spikes" / "summary.json").read_text())
    assert list(summary["learners"]) == [
        "artsy_snn", "shuffled_timing", "shuffled_timing_equal_density"
    ]  # fmt: skip
    own, *shuffled = (each["a_last_spikes_only"]["values"] for each in summary["learners"].values())
    for at, others in zip(("parameters", "density"), shuffled, strict=True):
        name = f"timing_index_equal_{at}"
        found = [cells[f"spikes/{seed}"][name] for seed in (1993, 1994)]
        assert found == [a - b for a, b in zip(own, others, strict=True)] and any(found)
    changed = summary["learners"]["shuffled_timing_equal_density"]["contacts_changed"]["values"]
    assert [cells[f"spikes/{s}"]["timing_contacts_changed"] for s in (1993, 1994)] == changed
    assert "spikes, 95 % intervals over seeds (Student's t): timing_index_equal" in (
        capsys.readouterr().out
    )
    assert "timing_index" not in cells["none/1993"]


@pytest.mark.parametrize("file", sorted(EXPERIMENTS.glob("studies/*.yaml")), ids=lambda f: f.stem)
def test_the_studies_are_configurations(file: Path) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if "vary" in content or "settings" in content:
        about = {key: content.pop(key) for key in KEYS if key in content}
        assert planned({"learners": ["artsy_snn"], **content}, about, Path("nowhere")).settings
        return
    for name, over in content.items():
        config = build(RunConfig, complete({"learners": ["artsy_snn"]}, over or {}))
        if file.stem == "gates" and "learners" not in over:
            config = build(RunConfig, complete({"learners": ["artsy_ann"]}, over))
        assert len(config.learners) == 1, name
        check_used(config)


# --- snn-artsy study ------------------------------------------------------------------------------

STUDY = """
hypothesis: More images, better answers.
vary:
  data: {train_per_class: [3, 6, 12]}
measure: [a_last, a_avg]
seeds: 2
learners: [simplecil]
data: {class_range: [0, 4], n_tasks: 2}
"""


def command(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["study", *map(str, words)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_from_a_file_to_tables_figure_and_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(STUDY)
    assert command(file, "--out", out, "--workers", "1") == 0
    shown = capsys.readouterr().out
    assert "Hypothesis: More images, better answers." in shown and "per train_per_class" in shown
    found = json.loads((out / "study.json").read_text())
    names = [f"train_per_class {n}" for n in (3, 6, 12)]
    assert list(found["settings"]) == list(found["study"]) == names
    assert found["varied"] == ["data.train_per_class"]
    assert found["seeds"] == [1993, 1994] and list(found["cells"])[:1] == [f"{names[0]}/1993"]
    for name, setting in found["settings"].items():
        summary = json.loads((out / setting["directory"] / "summary.json").read_text())
        assert summary["config"]["data"]["train_share"] == 0.9, "as in a comparison"
        measured = summary["learners"]["simplecil"]["a_last"]
        assert setting["measures"]["a_last"] == measured, name
    # one accuracy is of seeds and images, the other one of seeds alone
    contrasts = found["contrasts"]
    assert {e["over"] for e in contrasts["a_last"]} == {"seeds and images"}
    assert {e["over"] for e in contrasts["a_avg"]} == {"seeds"}
    kinds = [entry["kind"] for entry in contrasts["a_last"]]
    assert kinds == ["difference"] * 2 + ["slope"]
    assert len((out / "study.csv").read_text().splitlines()) == 1 + 3 * 2
    assert (
        (out / "study.md")
        .read_text()
        .startswith("Hypothesis: More images, better answers.\n\n| | A_last |")
    )
    heads = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for kind, head in heads.items():
        assert (out / f"study.{kind}").read_bytes().startswith(head)
    # a run of a cell's configuration gives the cell's numbers, with a recording
    setting = found["settings"][names[0]]
    given = read_config(str(out / setting["directory"] / "config.yaml"))
    again = sa.run(given, learners=["simplecil"], seed=1994, out=str(tmp_path / "run"))
    measured = again.summary["learners"]["simplecil"]["a_last"]
    assert measured == found["cells"][f"{names[0]}/1994"]["a_last"]
    # the same again takes nothing anew, a measure that is not there is named, cells are kept
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("nothing is left to run"))
    result = sa.study(file, out=str(out), measure=["a_avg"])
    assert result.directory == out and list(result.found["measures"]) == ["a_avg"]
    assert "More images" in result._repr_mimebundle_([], [])["text/plain"]
    capsys.readouterr()
    assert command(file, "--out", out, "--measure", "a_lst") == 2
    assert "did you mean a_last?" in capsys.readouterr().err
    # another study is none to go on with
    assert command(file, "--vary", "data.n_tasks=1,2", "--out", out) == 2
    assert "which this study has not" in capsys.readouterr().err
    (out / found["settings"][names[-1]]["directory"] / "config.yaml").write_text("seed: 1\n")
    assert command(file, "--out", out) == 2
    assert "is of another comparison" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "vary: give what is varied"),
        ({"vary": {"seed": [1, 2]}}, "vary: seeds are not varied"),
        ({"vary": {"seed.x": [1, 2]}}, "seed.x: unknown key"),
        ({"vary": {"data.n_tasks": [1]}, "settings": {"a": {}}}, "vary: give what is varied"),
        ({"vary": {"data.n_tasks": 3}}, "vary: data.n_tasks has no list"),
        ({"vary": [1]}, r"vary: \[1\] cannot be used; give KEY"),
        ({"settings": {"a b": {}, "a_b": {}}}, "settings: 'a_b' and 'a b' would share"),
        ({"settings": {"a": {"snn.sed": 1}}}, "snn.sed: unknown key"),
        ({"settings": []}, "settings: .* give NAME"),
        ({"settings": {"a": {"learners": ["ease", "joint"]}}}, "learners: .*measures one learner"),
        ({"settings": {"a": {}}, "measure": ["a_last", "a_last"]}, "measure: .*name each once"),
        ({"settings": {"a": {}}, "seeds": 0}, "seeds: 0 cannot be used"),
        ({"settings": {"a": {}}, "seed": -1}, "seed: -1"),
        ({"settings": {"..": {}}}, "settings: '..' cannot be used; no directory"),
        ({"settings": {"study.json": {}}}, "settings: 'study.json' cannot be used; no directory"),
        ({"settings": {"a\nb": {}}}, "settings: .*leave out line breaks"),
        ({"settings": {1: {}}}, "settings: .* give NAME"),
        ({"settings": {"a": 0}}, "settings: .* give NAME"),
        ({"settings": {"a": {"out": "b"}}}, "settings: 'a' has out, but each has its own"),
        ({"settings": {"a": {}, "b": {"seed": 1}}}, "settings: 'b' has seed, but every setting"),
        ({"settings": {"a": {}, "b": {"controls": True}}}, "controls: true does nothing"),
        ({"settings": {"a": {}, "b": {"data.n_tasks": 3}}}, "data.n_tasks: 3 cannot be used"),
        ({"vary": {"data.n_tasks": [1]}, "seed": 2**31 - 1}, "seeds: 5 .*the last one would be"),
        ({"vary": {"data.n_tasks": np.array([1, 2])}}, "vary: data.n_tasks has no list"),
    ],
)
def test_a_wrong_study_is_refused_before_a_directory_is_made(
    about: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^{said}"):
        sa.study(about)
    assert not list(tmp_path.iterdir())


def test_values_that_differ_slightly_are_settings_of_their_own() -> None:
    about = {"vary": {"snn.contacts.silent_share": [0.1234567, 0.1234568, 0.5]}}
    names = list(planned({"learners": ["artsy_snn"]}, about, Path("nowhere")).settings)
    assert names == ["silent_share 0.1234567", "silent_share 0.1234568", "silent_share 0.5"]


def test_a_folded_hypothesis_is_one_line() -> None:
    about = {"settings": {"a": {}}, "hypothesis": "More images,\nbetter answers.\n"}
    found = planned({"learners": ["simplecil"]}, about, Path("nowhere"))
    assert found.hypothesis == "More images, better answers."


def test_an_unknown_measure_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(STUDY)
    assert command(file, "--out", out, "--measure", "a_lst") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "measure: 'a_lst' is what no learner has (unknown key; did you mean a_last?)" in error
    assert not out.exists()


def test_a_measure_that_the_learner_has_not_costs_one_cell(tmp_path: Path) -> None:
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(STUDY)
    assert command(file, "--out", out, "--measure", "gate_recall") == 2
    assert len(list(out.rglob("*.safetensors"))) == 1
    with pytest.raises(ConfigError, match=r"vary: 'x' is not key=value"):
        read_grid("x", "vary")


def test_a_study_of_another_learner_stays(tmp_path: Path) -> None:
    content = {"study": {"a": {}}, "settings": {"a": {"learner": "simplecil"}}}
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="measures simplecil in 'a'; choose another --out"):
        sa.study(settings={"a": {}}, learners=["ranpac"], out=str(tmp_path))


def test_names_are_no_formulas_and_no_cells() -> None:
    rows = [{"setting": "=1+1", "a": -1.0}, {"setting": "no @", "a": None}]
    assert csv_text(rows) == "setting,a\n'=1+1,-1.0\nno @,\n"
    assert markdown(["x"], [("a | b", ["1"])])[-1] == "| a \\| b | 1 |"


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    (tmp_path / "study.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"study.csv.* is of no study here"):
        sa.study(settings={"a": {}}, out=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["study.csv"]


def test_ways_to_draw_a_study() -> None:
    def setting(values: dict[str, Any], mean: float) -> dict[str, Any]:
        entry = {"mean": mean, "values": [mean, mean], "interval_95": [mean - 0.1, mean + 0.2]}
        return {"values": values, "measures": {"a_last": entry}}

    found = {
        "varied": ["a.share", "a.kept"],
        "measures": {"a_last": {"title": "A_last", "scale": 100}},
        "settings": {
            f"{share}{kept}": setting({"a.share": share, "a.kept": kept}, share / 2)
            for kept in (True, False)
            for share in (0.2, 0.8)
        },
    }
    axes = Figure().subplots()
    study_lines(axes, found, "a_last")
    drawn = axes.get_legend_handles_labels()
    assert drawn[1] == ["kept true", "kept false"]
    for line, shift in zip(drawn[0], (-0.5, 0.5), strict=True):
        x, y = line.lines[0].get_data()
        assert x == pytest.approx(np.array([0.2, 0.8]) + shift * 0.012 * 0.6)
        assert y == pytest.approx([10, 40])
        (low, high), _ = line.lines[2][0].get_segments()
        assert [low[1], high[1]] == pytest.approx([0, 30])
    # names in place of numbers
    named = found | {"varied": [], "settings": {n: setting({}, 0.5) for n in ("usual", "other")}}
    axes = Figure().subplots()
    study_lines(axes, named, "a_last")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["usual", "other"]
    with pytest.raises(NothingRecorded, match="no setting of this study has a_avg"):
        study_lines(axes, found, "a_avg")
