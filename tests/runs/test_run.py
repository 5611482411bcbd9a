"""The whole way: configuration, tasks, features, learners, measures, files and figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import all_figures
from rich.console import Console

from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import BackboneConfig, ConfigError, DataConfig, RecordConfig, RunConfig
from snn_artsy.recording import open_run
from snn_artsy.runs.features import choose_device
from snn_artsy.runs.run import execute

TIMING = {"seconds", "seconds_learning", "inference_ms_per_image"}


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A small default run: digits, bundled backbone, features cached between the tests."""
    cache = tmp_path_factory.mktemp("features")
    return RunConfig(
        data=DataConfig(train_per_class=40, test_per_class=10),
        backbone=BackboneConfig(cache_dir=str(cache)),
        record=RecordConfig(spike_presentations=2, traced_synapses=4),
        device="cpu",
    )


@pytest.fixture(scope="session")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "small"
    with all_figures():
        execute(replace(config, out=str(directory), controls=True))
    return directory


def summary_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def test_summary_has_what_the_readme_promises(finished: Path) -> None:
    summary = summary_of(finished)
    common = {
        "a_last",
        "a_avg",
        "task_identification",
        "oracle_task_accuracy",
        "forgetting_max_last",
        "seconds",
    }
    spiking = {
        "a_last_spikes_only",
        "functional_share",
        "converted_share",
        "n_contacts",
        "mean_open_gates",
        "spikes_per_image",
        "timing_index",
        "timing_index_equal_parameters",
        "timing_index_equal_density",
        "timing_contacts_changed",
    }
    assert set(summary["learners"]) == {"simplecil", "artsy_ann", "artsy_snn"}
    for measures in summary["learners"].values():
        assert common <= set(measures)
        assert 0.0 <= measures["a_last"] <= measures["oracle_task_accuracy"] <= 1.0
        assert measures["a_last"] <= measures["task_identification"]
    snn = summary["learners"]["artsy_snn"]
    assert spiking <= set(snn)
    # all-to-all: 10 classes x 8 neurons x (ON + OFF) x D
    assert snn["n_contacts"] == 10 * 8 * 2 * 192
    assert summary["config"]["seed"] == 1993 and summary["device"] == "cpu"
    assert summary["versions"]["torch"]


def test_the_synapses_do_the_work(finished: Path) -> None:
    summary = summary_of(finished)
    snn, controls = summary["learners"]["artsy_snn"], summary["controls"]
    assert snn["a_last_spikes_only"] > 4 * summary["chance"]
    for name in ("permuted_contacts", "shuffled_labels", "random_contacts"):
        assert controls[name]["a_last_spikes_only"] <= 3 * summary["chance"], name
    assert controls["no_plasticity"]["spikes_per_image"] == 0
    assert controls["no_plasticity"]["functional_share"] == 0
    # the accuracy that is lost when spikes are shuffled in time
    lost = snn["a_last_spikes_only"] - controls["shuffled_timing"]["a_last_spikes_only"]
    assert snn["timing_index"] == pytest.approx(lost) and lost != 0
    assert snn["timing_index_equal_parameters"] == snn["timing_index"]
    matched = controls["shuffled_timing_equal_density"]
    assert matched["functional_share"] == pytest.approx(snn["functional_share"], abs=1e-12)
    lost = snn["a_last_spikes_only"] - matched["a_last_spikes_only"]
    assert snn["timing_index_equal_density"] == pytest.approx(lost)
    assert 0 < snn["timing_contacts_changed"] == matched["contacts_changed"] < 0.5


def test_simplecil_is_the_nearest_class_mean_of_the_same_features(
    config: RunConfig, finished: Path
) -> None:
    from snn_artsy.backbone import extract_features
    from snn_artsy.data import build_stream, load_source

    source = load_source(config.data)
    stream = build_stream(config.data, source, config.seed)
    backbone = FrozenBackbone.build(config.backbone, "cpu")
    train = extract_features(backbone, source.train, stream.train_index, config.backbone)
    test = extract_features(backbone, source.test, stream.test_index, config.backbone)
    labels = source.train.labels[stream.train_index]
    means = np.stack([train[labels == c].astype(np.float64).mean(0) for c in range(10)])
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    predicted = (unit @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(1)
    accuracy = np.mean(predicted == source.test.labels[stream.test_index])
    assert summary_of(finished)["learners"]["simplecil"]["a_last"] == pytest.approx(accuracy)


def test_run_file_agrees_with_the_summary(finished: Path) -> None:
    summary = summary_of(finished)
    with open_run(finished) as run:
        assert run.status == "complete"
        assert run.learners == ("artsy_ann", "artsy_snn", "simplecil")
        for name in run.learners:
            last = run.predictions(name, 4)
            accuracy = np.mean(last.predicted == last.label)
            assert accuracy == pytest.approx(summary["learners"][name]["a_last"])
        consolidated = sum(run.counts(t).counts[-1, 2] for t in range(5))
        assert consolidated == summary["learners"]["artsy_snn"]["n_consolidated"]
        for task in range(5):
            # replaying the events from all-silent gives the snapshot
            events, snapshot = run.events(task), run.snapshot(task, "after_task_4")
            state = np.zeros_like(snapshot.state)
            for post, pre, contact, new in zip(
                events.post, events.pre, events.contact, events.new, strict=True
            ):
                state[post, pre, contact] = new
            np.testing.assert_array_equal(state, snapshot.state)
        assert len(run.spikes("retina").time_ms) > 0
    drawn = {path.stem for path in (finished / "figures").glob("*.png")}
    assert {
        "conversion_counts",
        "conversion_raster",
        "spike_raster",
        "accuracy_per_step",
        "gate_matrix",
    } <= drawn


def test_same_seed_same_numbers(config: RunConfig, finished: Path, tmp_path: Path) -> None:
    again = execute(replace(config, out=str(tmp_path / "again"))).summary
    first = summary_of(finished)
    for name, measures in again["learners"].items():
        for key, value in measures.items():
            if key not in TIMING:
                assert value == first["learners"][name][key], (name, key)
    other = execute(
        replace(config, out=str(tmp_path / "other"), seed=7, learners=["artsy_snn"])
    ).summary
    assert other["class_order"] != first["class_order"]


def test_no_backbone_byte_changes(config: RunConfig, finished: Path) -> None:
    fresh = FrozenBackbone.build(config.backbone, "cpu")
    assert summary_of(finished)["backbone_sha256"] == fresh.weights_sha256()
    assert not any(p.requires_grad for p in fresh.vit.parameters())


def test_gate_mode_runs(config: RunConfig, tmp_path: Path) -> None:
    gated = replace(
        config,
        snn=replace(config.snn, mode="gate"),
        learners=["artsy_snn"],
        out=str(tmp_path / "gate"),
    )
    snn = execute(gated).summary["learners"]["artsy_snn"]
    assert snn["parameters"] > snn["n_contacts"]  # adapters besides the contacts
    assert snn["a_last"] > 0.3


def test_interrupted_run_keeps_what_was_recorded(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_artsy.learners.artsy_snn import ArtsySNN

    learn = ArtsySNN.learn

    def interrupt(self: ArtsySNN, task: Any) -> None:
        if task.number == 2:
            raise KeyboardInterrupt
        learn(self, task)

    monkeypatch.setattr(ArtsySNN, "learn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        execute(replace(config, out=str(tmp_path / "cut")))
    with open_run(tmp_path / "cut") as run:
        assert run.status == "interrupted"
        assert run.steps("artsy_snn") == (0, 1)
        assert run.steps("simplecil") == (0, 1, 2, 3, 4)


def test_cuda_is_refused_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="device: 'cuda'"):
        choose_device("cuda")


def test_readme_code_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "default").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert blocks and len(readme.splitlines()) < 120
    session: dict[str, Any] = {}  # one after the other, as a reader pastes them
    for block in blocks:
        exec(compile(block, "README.md", "exec"), session)


def test_results_table_fills_a_page(finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n", encoding="utf-8")
    script = Path(__file__).parents[2] / "analysis" / "results_table.py"
    command = [sys.executable, str(script), str(finished), "--into", str(page), "--name", "x"]
    subprocess.run(command, check=True)
    text = page.read_text(encoding="utf-8")
    a_last = 100 * summary_of(finished)["learners"]["artsy_snn"]["a_last"]
    assert f"| artsy_snn | {a_last:.1f} |" in text
    assert "\nold\n" not in text and text.startswith("before") and text.endswith("after\n")


def test_lag_into_the_next_volley_is_refused_before_anything_is_made(
    config: RunConfig, tmp_path: Path
) -> None:
    teacher = replace(config.snn.teacher, lag_ms=15.0)
    wrong = replace(config, snn=replace(config.snn, teacher=teacher), out=str(tmp_path / "x"))
    with pytest.raises(ConfigError, match=r"snn\.teacher\.lag_ms: 15 ms"):
        execute(wrong)
    assert not (tmp_path / "x").exists()


def test_a_share_of_the_training_images_has_the_features_of_those_images() -> None:
    from rich.console import Console

    from snn_artsy.runs.features import prepare

    quiet = Console(quiet=True)
    data = DataConfig(n_tasks=2, class_range=[0, 4], test_per_class=5)
    whole = prepare(RunConfig(data=data, device="cpu"), "cpu", quiet)
    part = prepare(RunConfig(data=replace(data, train_share=0.5), device="cpu"), "cpu", quiet)
    features = {}
    for task, _ in whole.tasks:
        for batch in (task.train, task.validation):
            features |= dict(zip(batch.index.tolist(), batch.features, strict=True))
    n = 0
    for task, _ in part.tasks:
        for batch in (task.train, task.validation):
            n += len(batch)
            for index, row in zip(batch.index.tolist(), batch.features, strict=True):
                assert (features[index] == row).all()
    assert n == pytest.approx(len(features) / 2, abs=10)


@pytest.mark.parametrize(
    ("rule", "update", "reason"),
    [
        ("calcium", "step", "CalciumRule computes"),
        ("gated", "step", None),
        ("calcium", "presentation", None),
    ],
)
def test_a_run_says_how_contacts_changed(
    config: RunConfig, tmp_path: Path, rule: Any, update: Any, reason: str | None
) -> None:
    """By the reference engine, or in steps that are coarse for the rule."""
    learnt = replace(config.snn.plasticity, rule=rule, update=update, epochs=1)
    small = replace(
        config, data=DataConfig(train_per_class=6, test_per_class=3, class_range=[0, 4], n_tasks=2),
        snn=replace(config.snn, plasticity=learnt), learners=["artsy_snn"], out=str(tmp_path / "r"),
    )  # fmt: skip
    console = Console(width=200, record=True)
    measures = execute(small, console).summary["learners"]["artsy_snn"]
    said = " ".join(console.export_text().split())
    assert ("changed in plain torch and not compiled" in said) == (reason is not None)
    assert ("a batch freezes contacts for" in said) == (update == "presentation")
    assert (reason or "") in measures.get("reference_engine", "")
    assert ("reference_engine" in measures) == (reason is not None)
