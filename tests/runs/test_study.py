"""A study: a grid of comparisons, one a setting, and the table that is made of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config.used import check_used
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.registry import LEARNERS
from snn_artsy.runs import compare as module

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
            assert "seconds_learning" in cell and "a_avg" not in cell
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
    for name, over in yaml.safe_load(file.read_text(encoding="utf-8")).items():
        config = build(RunConfig, complete({"learners": ["artsy_snn"]}, over or {}))
        if file.stem == "gates" and "learners" not in over:
            config = build(RunConfig, complete({"learners": ["artsy_ann"]}, over))
        assert len(config.learners) == 1, name
        check_used(config)
