"""Numbers that are NaN or infinite: nothing goes on from them, and the others are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from synthetic_features import DIM, gaussian_stream

import snn_artsy.runs.loop
import snn_artsy.runs.run
from snn_artsy import cli
from snn_artsy.backbone import FrozenBackbone, cache_directory, extract_features
from snn_artsy.checks import NotFinite, require_finite
from snn_artsy.config import (
    ANNConfig,
    BackboneConfig,
    DataConfig,
    FinetuneConfig,
    MemoryConfig,
    RanPACConfig,
    RidgeGateConfig,
    RunConfig,
)
from snn_artsy.data import ArraySplit
from snn_artsy.learners import Setting
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.prototypes import cosine_scores
from snn_artsy.learners.shelf import Shelf
from snn_artsy.recording import open_run
from snn_artsy.registry import LEARNERS
from snn_artsy.rules import GatedSTDP
from snn_artsy.runs import checkpoint
from snn_artsy.runs.run import execute, resume

STREAM = gaussian_stream(n_train=8, n_validation=4, n_test=4)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_and_counted(kind: str, value: float) -> None:
    good, bad = np.ones((2, 3), dtype=np.float32), np.array([[1.0, value], [value, 2.0]])
    values: dict[str, Any] = {"good": good, "numbers": np.arange(3), "bad": bad}
    if kind == "torch":
        values = {name: torch.from_numpy(array) for name, array in values.items()}
    with pytest.raises(NotFinite) as error:
        require_finite("ease, task 2", values)
    assert str(error.value) == "ease, task 2: 2 of 4 numbers in bad are NaN or infinite"
    del values["bad"]
    require_finite("ease, task 2", values)


def test_cosines_are_torchs_own_but_for_norms_that_overflow() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 7, generator=generator) for n in (5, 3))
    a[0] = 0.0
    expected = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    assert torch.equal(cosine_scores(a, b), expected)
    a[1] = 1e20
    assert torch.isfinite(a).all()
    assert cosine_scores(a, b)[1].isnan().all()


DIVERGES: dict[str, dict[str, Any]] = {
    "finetune_adapter": {"finetune": FinetuneConfig(lr=1e4)},
    "er": {"memory": MemoryConfig(lr=1e4)},
    "derpp": {"memory": MemoryConfig(lr=1e4)},
    "icarl": {"memory": MemoryConfig(lr=1e30)},
    "joint": {},  # no penalty that a configuration takes makes it diverge
    **{
        name: {"ann": ANNConfig(epochs=3, scale=scale)}
        for name, scale in (
            ("aper_adapter", 1e13),  # every number is finite, but no cosine is
            ("ease", 1e20),
            ("ranpac", 1e20),
            ("artsy_ann", 1e20),
            ("artsy_ann_no_gates", 1e20),
            ("artsy_ann_e0", 1e20),
            ("artsy_ann_subnetworks", 1e20),
            ("artsy_ann_gate_alone", 1e20),
        )
    },
    "artsy_ann_lda": {"ann": ANNConfig(epochs=10, weight_decay=1e4)},
    "artsy_best": {"ann": ANNConfig(epochs=10, weight_decay=1e4)},
    "artsy_ann_ridge": {"ann": ANNConfig(epochs=10, weight_decay=1e4)},
    "artsy_snn": {},
    "simplecil": {},
    "finetune_linear": {},
    "whitened_ncm": {},
    "binary_mean": {},
    "nested_mean": {},
    "mean_field": {},
}


class FromTasks:
    """What `run_learner` needs of frozen features, without a backbone."""

    def __init__(self, features_of_task_1: float = 0.0) -> None:
        first, second, *_ = STREAM.tasks
        train = replace(second.train, features=second.train.features + features_of_task_1)
        test = [
            replace(
                STREAM.test,
                **{k: getattr(STREAM.test, k)[rows] for k in ("features", "index")},
                labels=STREAM.test.labels[rows],
            )
            for rows in (STREAM.test.labels < 2, (STREAM.test.labels // 2) == 1)
        ]
        self.tasks = [(first, test[0]), (replace(second, train=train), test[1])]
        self.shelf = Shelf()

    @property
    def stream(self) -> Any:
        class Labels:
            task_of_label = np.array([0, 0, 1, 1])
            class_of_label = None
            domains: tuple[str, ...] = ()

        return Labels

    def setting(self, config: RunConfig, device: str, observer: Any = None) -> Setting:
        return Setting(config, DIM, device, observer)


def quietly(name: str, config: RunConfig, frozen: FromTasks) -> dict[str, Any]:
    from rich.console import Console

    return snn_artsy.runs.loop.run_learner(name, config, frozen, "cpu", Console(quiet=True))  # type: ignore[arg-type]


SMALL = RunConfig(
    ann=ANNConfig(epochs=2),
    ranpac=RanPACConfig(projection=20),
    artsy_ridge=RidgeGateConfig(projection=20),
    seed=0,
)


def test_every_learner_is_tried() -> None:
    assert set(DIVERGES) == set(LEARNERS)


@pytest.mark.parametrize("name", [name for name, values in DIVERGES.items() if values])
def test_a_learner_that_diverges_is_named_with_its_task(name: str) -> None:
    with pytest.raises(NotFinite, match=f"^{name}, task 1: "):
        quietly(name, replace(SMALL, **DIVERGES[name]), FromTasks())


@pytest.mark.parametrize("name", LEARNERS)
def test_features_that_are_nan_end_every_learner(name: str) -> None:
    """As if they had come through every earlier check, in the second task."""
    assert np.isfinite(quietly(name, SMALL, FromTasks())["a_last"])
    with pytest.raises(NotFinite, match=f"^{name}, task 2: "):
        quietly(name, SMALL, FromTasks(np.nan))


# --- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    return RunConfig(
        data=DataConfig(n_tasks=2, train_per_class=6, test_per_class=3),
        backbone=BackboneConfig(cache_dir=str(tmp_path_factory.mktemp("features"))),
        learners=["simplecil", "aper_adapter", "finetune_linear"],
        ann=ANNConfig(epochs=2, scale=1e20),
        device="cpu",
    )


def accuracies(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: measures["a_t"] for name, measures in summary["learners"].items()}


def test_the_other_learners_of_a_run_go_on(config: RunConfig, tmp_path: Path) -> None:
    summary = execute(replace(config, out=str(tmp_path / "run"))).summary
    assert list(summary["learners"]) == ["simplecil", "finetune_linear"]
    assert list(summary["failed"]) == ["aper_adapter"]
    assert summary["failed"]["aper_adapter"].startswith("aper_adapter, task 1: ")
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert not (tmp_path / "run" / "state" / "aper_adapter.safetensors").exists()
    with open_run(tmp_path / "run") as run:
        assert run.status == "complete"

    # a kill in the next learner: what failed is not tried again
    def killed(learner: Any, task: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.learners.Finetune, "learn", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(replace(config, out=str(tmp_path / "killed")))
    kept, _ = checkpoint.load(tmp_path / "killed")
    assert list(kept[0].failed) == ["aper_adapter"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.learners.APERAdapter, "learn", killed)
        resumed = resume(tmp_path / "killed").summary
    assert resumed["failed"] == summary["failed"]
    assert accuracies(resumed) == accuracies(summary)


def test_exit_code_1_and_a_line_that_says_so(
    config: RunConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = f"""run --data.n_tasks 2 --data.train_per_class 6 --data.test_per_class 3 --device cpu
        --backbone.cache_dir {config.backbone.cache_dir} --learners simplecil,ease
        --ann.epochs 2 --ann.scale 1e20 --out {tmp_path / "run"}"""
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "failed: ease, task 1: " in out
    assert "simplecil" in out


def test_a_state_in_the_middle_of_a_task_is_not_written(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ArtsySNN.checkpoint

    def spoilt(learner: ArtsySNN) -> dict[str, torch.Tensor]:
        return honest(learner) | {"counters.epoch": torch.tensor(torch.nan)}

    monkeypatch.setattr(ArtsySNN, "checkpoint", spoilt)
    summary = execute(
        replace(config, learners=["artsy_snn", "simplecil"], out=str(tmp_path / "run"))
    ).summary
    assert summary["failed"] == {
        "artsy_snn": "artsy_snn, task 1: checkpoint of artsy_snn: 1 of 1 numbers in counters.epoch "
        "are NaN or infinite"
    }
    assert list(summary["learners"]) == ["simplecil"]


def test_a_rule_that_diverges_is_named_with_its_learner(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GatedSTDP.presentation

    def broken(rule: GatedSTDP, *args: Any) -> Any:
        change, traces = honest(rule, *args)
        return change / 0.0, traces

    monkeypatch.setattr(GatedSTDP, "presentation", broken)
    summary = execute(
        replace(config, learners=["artsy_snn", "simplecil"], out=str(tmp_path / "run"))
    ).summary
    assert list(summary["learners"]) == ["simplecil"]
    assert summary["failed"]["artsy_snn"].startswith(
        "artsy_snn, task 1: rule: the change by GatedSTDP: expected numbers from -1e+09 to 1e+09"
    )


def test_a_control_that_diverges_costs_no_learner(config: RunConfig, tmp_path: Path) -> None:
    def nan(*args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotFinite("control shuffled_timing: answers")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.runs.run, "run_controls", nan)
        summary = execute(
            replace(config, learners=["simplecil"], controls=True, out=str(tmp_path / "run"))
        ).summary
    assert list(summary["learners"]) == ["simplecil"]
    assert summary["failed"] == {"controls": "control shuffled_timing: answers"}


# --- features -------------------------------------------------------------------------------------


@pytest.fixture
def backbone() -> FrozenBackbone:
    return FrozenBackbone.build(BackboneConfig(), "cpu")


@pytest.fixture
def images() -> ArraySplit:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    return ArraySplit(pixels, np.zeros(5, dtype=np.int64))


def test_features_that_are_nan_stop_the_run_and_are_not_kept(
    backbone: FrozenBackbone, images: ArraySplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = backbone.embed

    def broken(pixels: torch.Tensor) -> torch.Tensor:
        features = honest(pixels)
        features[-1, 3] = torch.nan
        return features

    monkeypatch.setattr(backbone, "embed", broken)
    monkeypatch.setattr(snn_artsy.backbone.features, "CPU_PASS", 2)
    config = BackboneConfig(cache_dir=str(tmp_path))
    with pytest.raises(NotFinite, match=r"for 2 of 4 images, first for image 2; look at"):
        extract_features(backbone, images, np.array([2, 3, 4, 0]), config)
    assert not list(cache_directory(config).glob("*.npy"))


def test_cached_features_that_are_nan_are_computed_again(
    backbone: FrozenBackbone, images: ArraySplit, tmp_path: Path
) -> None:
    config = BackboneConfig(cache_dir=str(tmp_path))
    first = np.array(extract_features(backbone, images, np.arange(5), config))
    file = next(tmp_path.glob("*.npy"))
    about = json.loads(file.with_suffix(".json").read_text())
    spoilt = first.copy()
    spoilt[2, 2] = np.inf
    np.save(file, spoilt)
    from snn_artsy.files import file_sha256

    about["features_sha256"] = file_sha256(file)  # so that the checksum is right
    file.with_suffix(".json").write_text(json.dumps(about))
    with pytest.warns(UserWarning, match="NaN or infinite"):
        again = extract_features(backbone, images, np.arange(5), config)
    np.testing.assert_array_equal(first, again)
