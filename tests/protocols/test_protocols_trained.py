"""Protocols on a trained run: a run can be loaded again, lesions and drugs do what they must."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from synthetic_features import DIM, gaussian_stream

from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.learners import Setting, build_snn
from snn_artsy.observer import SILENT
from snn_artsy.protocols import retention
from snn_artsy.protocols.base import Check, Session
from snn_artsy.protocols.lesion import DEFAULTS, _cut, _drive, lesion
from snn_artsy.protocols.pharmacology import pharmacology
from snn_artsy.protocols.trained import score, spiking
from snn_artsy.runs.run import execute


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = {
        "learners": ["artsy_snn"],
        "data": {"n_tasks": 2, "class_range": [0, 4], "train_per_class": 40, "test_per_class": 20},
        "snn": {"neuron": {"per_class": 4}},
        "out": str(tmp_path_factory.mktemp("runs") / "small"),
    }
    return execute(build(RunConfig, values)).directory


@pytest.mark.parametrize("mode", ["full", "gate"])
def test_a_loaded_learner_answers_as_the_trained_one(tmp_path: Path, mode: str) -> None:
    values = {
        "learners": ["artsy_snn"],
        "data": {"n_tasks": 2, "class_range": [0, 4], "train_per_class": 30, "test_per_class": 10},
        "snn": {"mode": mode},
        "out": str(tmp_path / "run"),
    }
    result = execute(build(RunConfig, values))
    recorded = result.summary["learners"]["artsy_snn"]
    again = score(spiking(result.directory))
    assert again.with_h0 == recorded["a_last"]
    assert again.spikes_only == recorded["a_last_spikes_only"]


def test_lesion(trained: Path) -> None:
    outcome = lesion(Session(seed=1, run=trained))
    assert all(check.passed for check in outcome.checks), outcome.checks
    spikes = outcome.data["random/spikes_only"].values
    assert spikes.shape == (5, len(DEFAULTS.shares))
    mean = spikes.mean(0)
    assert mean[0] > 0.5 and mean[-1] == 0 and mean[0] > mean[-2]
    # repeats cut other contacts
    assert np.ptp(outcome.data["random/with_h0"].values[:, 0]) == 0
    assert np.ptp(spikes[:, DEFAULTS.shares.index(0.9)]) > 0


@pytest.mark.parametrize("preset", ["default", "error"])
def test_ranks_are_of_the_code_as_it_is_in_the_end(preset: str) -> None:
    """With ``error`` the code follows all classes seen: its mean and matrix are others than when
    the first tasks were learnt."""
    snn = {"preset": preset, "neuron": {"per_class": 2}}
    if preset == "error":
        snn["replay"] = {"epochs": 1}
    config = build(RunConfig, complete({"snn": snn}))
    learner, tasks = build_snn(Setting(config, DIM, "cpu")), gaussian_stream().tasks
    for task in tasks:
        learner.learn(task)
    assert learner.scaling is not None
    for task in tasks:
        parts = [task.train, task.validation] if preset == "error" else [task.train]
        x, labels = (torch.cat([getattr(p, k) for p in parts]) for k in ("features", "labels"))
        means = torch.stack([x[labels == c].mean(0) for c in task.classes]).double()
        z = (means - learner.scaling.mean) @ learner.scaling.matrix
        units = torch.cat([z.clamp_min(0), (-z).clamp_min(0)], 1)
        expected = (units / learner.config.encoding.saturation_sd).clamp_max(1)
        found = _drive(learner, task)
        assert found.shape == (2 * len(task.classes), 2 * DIM)
        torch.testing.assert_close(found[::2].double(), expected, atol=1e-3, rtol=1e-3)
        assert torch.equal(found[::2], found[1::2])


def test_a_cut_takes_the_highest_ranks_of_the_open_contacts() -> None:
    state = torch.tensor([[1, 0, 2], [2, 1, 0]], dtype=torch.uint8)
    rank = torch.tensor([[0.1, 9.0, 0.5], [0.3, 0.2, 8.0]])
    after = _cut(state, rank, 0.5)
    assert after.tolist() == [[1, 0, SILENT], [SILENT, 1, 0]]
    assert _cut(state, rank, 1.0).sum() == 0 and torch.equal(_cut(state, rank, 0.0), state)


def test_pharmacology(trained: Path) -> None:
    outcome = pharmacology(Session(seed=1, run=trained))
    assert all(check.passed for check in outcome.checks), outcome.checks
    control, apv, nbqx = outcome.data["accuracy"].values
    assert control[1] > 0.5 and apv[1] == nbqx[1] == 0


def test_apv_does_not_stop_a_rule_without_receptors(tmp_path: Path, trained: Path) -> None:
    """The check fails where it must."""
    values = yaml.safe_load((trained / "config.yaml").read_text())
    values["snn"]["plasticity"]["rule"] = "pair"
    values["out"] = str(tmp_path / "pair")
    directory = execute(build(RunConfig, values)).directory
    outcome = pharmacology(Session(seed=1, run=directory))
    failed = {check.name for check in outcome.checks if not check.passed}
    assert failed == {"contacts converted under APV", "from spikes, APV in training"}


def test_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    few = partial(DataConfig, class_range=(0, 4), train_per_class=8, test_per_class=4)
    monkeypatch.setattr(retention, "DataConfig", few)
    outcome = retention.retention(Session(seed=1), retention.Parameters(n_seeds=2, n_tasks=2))
    accuracy, last = (outcome.data[k].values for k in ("task1_accuracy", "a_last_spikes_only"))
    assert accuracy.shape == (4, 2, 2) and last.shape == (4, 2)
    assert len(np.unique(last)) > 1 and last.max() > 0.5
    _, frozen = outcome.checks  # consolidation has nothing to protect
    assert frozen.passed and frozen.measured == 0


def test_no_trained_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run: no finished run at"):
        spiking(tmp_path)


def test_checks() -> None:
    assert Check("a", 1.0, 1.1, 0.11, "s").passed and not Check("a", 1.0, 1.2, 0.1, "s").passed
    assert Check("a", 1.0, 1.0, 0.0, "s", kind="at_most").passed
    assert not Check("a", 1.0, 0.9, 9.0, "s", kind="at_most").passed
    assert not Check("a", 1.0, 1.1, 9.0, "s", kind="at_least").passed
