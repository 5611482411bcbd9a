"""Classes of hardly any images, features that hardly vary: every learner has a defined result."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

import snn_artsy.runs.loop
from snn_artsy.checks import require_finite
from snn_artsy.config import (
    ANNConfig,
    BackboneConfig,
    ConfigError,
    DataConfig,
    DiscriminantConfig,
    EncodingConfig,
    GateConfig,
    PlasticityConfig,
    RanPACConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import LabelledBatch, Learner, Split, Task
from snn_artsy.learners.gates import DiscriminantGates
from snn_artsy.learners.replay import ClassGaussians
from snn_artsy.learners.ridge import RandomRidge
from snn_artsy.recording import open_run
from snn_artsy.registry import LEARNERS
from snn_artsy.runs.run import execute, resume
from snn_artsy.synapses.encoding import fit_scaling, shrunk, within_class_covariance

DIM = 12
CONFIG = RunConfig(
    ann=ANNConfig(epochs=3, gate_epochs=3),
    ranpac=RanPACConfig(projection=60),
    artsy_ridge=RidgeGateConfig(projection=60),
    seed=0,
)


@dataclass(frozen=True)
class Data:
    """Classes around orthogonal means, in order of arrival.

    Args:
        train: Training images of each class, validation images not counted.
        validation: Of each class.
        per_task: Classes in each task.
        noise: Standard deviation around the means, whose length is 1.
        scale, shift: Of all features.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    per_task: int = 2
    noise: float = 0.05
    scale: float = 1.0
    shift: float = 0.0

    def batch(self, counts: dict[int, int], split: Split, seed: int) -> LabelledBatch:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.tensor([c for c, n in counts.items() for _ in range(n)])
        noise = self.noise * torch.randn(len(labels), DIM, generator=generator)
        features = self.scale * (torch.eye(DIM)[labels] + noise) + self.shift
        index = 1000 * seed + torch.arange(len(labels))
        return LabelledBatch(features, index, split, labels=labels)

    def tasks(self) -> list[Task]:
        found = []
        for t, first in enumerate(range(0, len(self.train), self.per_task)):
            classes = range(first, first + self.per_task)
            train = self.batch({c: self.train[c] for c in classes}, "train", 2 * t)
            held = self.batch({c: self.validation[c] for c in classes}, "validation", 2 * t + 1)
            found.append(Task(t, tuple(classes), train, held))
        return found

    def test(self) -> LabelledBatch:
        return self.batch(dict.fromkeys(range(len(self.train)), 5), "test", 99)


DATA = {
    "two images a class": Data((1,) * 6, (1,) * 6),
    "three images a class": Data((2,) * 6, (1,) * 6),
    "two images in one late class": Data((8, 8, 8, 8, 1), (2, 2, 2, 2, 1), per_task=1),
    "two images in the first class": Data((1, 8, 8), (1, 2, 2), per_task=1),
    "the same image six times": Data((5,) * 4, (1,) * 4, noise=0.0),
    "one class a task, the same image": Data((5,) * 4, (1,) * 4, noise=0.0, per_task=1),
    "two classes": Data((1, 1), (1, 1), per_task=1),
    "one class": Data((4,), (1,), per_task=1),
    "all features the same": Data((3,) * 4, (1,) * 4, noise=0.0, scale=0.0, shift=1.0),
    "all features zero": Data((3,) * 4, (1,) * 4, noise=0.0, scale=0.0),
    "features of 1e-3": Data((2,) * 4, (1,) * 4, scale=1e-3),
    "features of 1e1": Data((2,) * 4, (1,) * 4, scale=10.0),
}


def built(name: str, config: RunConfig = CONFIG) -> Learner:
    return build(name, Setting(config, DIM, "cpu"))


def learnt(name: str, data: Data, config: RunConfig = CONFIG) -> Learner:
    learner = built(name, config)
    for task in data.tasks():
        learner.learn(task)
    return learner


@functools.cache
def of_data(name: str, data: str) -> Learner:
    """Shared, so it must only be asked."""
    return learnt(name, DATA[data])


def accuracy(scores: Tensor, batch: LabelledBatch) -> float:
    return float((scores.argmax(1) == batch.labels).double().mean())


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_finite_numbers_and_goes_on_from_them(name: str, data: str) -> None:
    learner, test = of_data(name, data), DATA[data].test()
    require_finite("state", learner.checkpoint())
    answer = learner.predict(test)
    given = {"scores": answer.scores, "gates": answer.gate_scores}
    require_finite("answers", {k: v for k, v in given.items() if v is not None})
    assert answer.scores.shape == (len(test), len(DATA[data].train))

    other = built(name)
    other.restore({k: v.clone() for k, v in learner.checkpoint().items()}, DATA[data].tasks())
    assert torch.equal(other.predict(test).scores, answer.scores)


TELLING = [name for name in DATA if not name.startswith("all features") and "1e" not in name]
# Rehearsal by gradient descent takes few steps for so few images.
FORGETFUL = {"finetune_linear", "finetune_adapter", "artsy_ann_subnetworks", "er", "derpp"}
# A few pairings unsilence nothing, two binary means of twelve features share most units, and a gate
# that knows one image of a task errs.
COARSE = {"mean_field", "binary_mean", "nested_mean", "artsy_ann_gate_alone"}


@pytest.mark.parametrize("data", TELLING)
@pytest.mark.parametrize("name", [n for n in LEARNERS if n not in FORGETFUL | COARSE])
def test_classes_that_lie_far_apart_are_told_apart_from_one_image(name: str, data: str) -> None:
    test = DATA[data].test()
    assert accuracy(of_data(name, data).predict(test).scores, test) == 1.0


@pytest.mark.parametrize("data", ["all features the same", "all features zero"])
@pytest.mark.parametrize("name", LEARNERS)
def test_features_that_tell_nothing_give_chance(name: str, data: str) -> None:
    test = DATA[data].test()
    assert accuracy(of_data(name, data).predict(test).scores, test) == 0.25


@pytest.mark.parametrize("data", ["two images a class", "the same image six times"])
@pytest.mark.parametrize("shrinkage", [1e-38, 1.0])
@pytest.mark.parametrize("name", ["artsy_ann", "artsy_ann_lda", "artsy_snn"])
def test_any_shrinkage_that_a_configuration_may_have(
    name: str, shrinkage: float, data: str
) -> None:
    config = RunConfig(
        ann=CONFIG.ann,
        gate=GateConfig(shrinkage=shrinkage),
        snn=SNNConfig(encoding=EncodingConfig(shrinkage=shrinkage)),
        artsy_lda=DiscriminantConfig(shrinkage=shrinkage),
        seed=0,
    )
    learner, test = learnt(name, DATA[data], config), DATA[data].test()
    require_finite("state", learner.checkpoint())
    assert accuracy(learner.predict(test).scores, test) == 1.0


# --- covariances, scaling, ridge ------------------------------------------------------------------


def test_an_ordinary_covariance_is_shrunk_and_nothing_else() -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    covariance = np.cov(x.numpy().T)
    expected = 0.7 * covariance + 0.3 * np.trace(covariance) / 4 * np.eye(4)
    found = shrunk(torch.from_numpy(covariance), 0.3, x.square().mean())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize(("mean_square", "variance"), [(9.0, 9e-6), (0.0, 1e-6)])
def test_a_covariance_without_variance_gets_the_least_one(
    mean_square: float, variance: float
) -> None:
    none = torch.zeros(3, 3, dtype=torch.float64)
    found = shrunk(none, 0.2, torch.tensor(mean_square, dtype=torch.float64))
    torch.testing.assert_close(found, variance * torch.eye(3, dtype=torch.float64))


def test_one_sample_a_class_is_replayed_where_it_was() -> None:
    train = Data((1, 1), (1, 1), scale=3.0).tasks()[0].train
    replay = ClassGaussians(per_class=200, shrinkage=0.3, seed=0)
    replay.add_task(train)
    stand_ins = replay.batch([0], purpose=1)
    distance = (stand_ins.features - train.features[stand_ins.labels]).square().mean().sqrt()
    # a thousandth of the features' root mean square
    rms = float(train.features.square().mean().sqrt())
    assert float(distance) == pytest.approx(1e-3 * rms, rel=0.1)


def test_features_that_do_not_vary_are_scaled_by_their_own_size() -> None:
    one = torch.tensor([[3.0, -4.0]])
    for features in (one, one.repeat(5, 1)):
        for decorrelation in ("whiten", "standardise"):
            scaling = fit_scaling(
                features,
                torch.zeros(len(features), dtype=torch.int64),
                EncodingConfig(decorrelation=decorrelation),  # type: ignore[arg-type]
            )
            rms = (25 / 2) ** 0.5
            expected = torch.tensor([[1.0, 2.0]], dtype=torch.float64) / rms
            torch.testing.assert_close(scaling(one + torch.tensor([[1.0, 2.0]])), expected)


def test_rounding_is_no_variance() -> None:
    """Features of one picture in batches of other sizes differ in their last bits."""
    generator = torch.Generator().manual_seed(0)
    features = torch.ones(6, 8) + 1e-7 * torch.randn(6, 8, generator=generator)
    labels = torch.zeros(6, dtype=torch.int64)
    for decorrelation in ("whiten", "standardise"):
        config = EncodingConfig(decorrelation=decorrelation)  # type: ignore[arg-type]
        z = fit_scaling(features, labels, config)(features + 0.1)
        assert float(z.min()) > 0.09 and float(z.max()) < 0.11


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("n", [1, 2])
def test_a_ridge_regression_of_one_or_two_samples(n: int, scale: float) -> None:
    ridge = RandomRidge(DIM, 300, torch.Generator().manual_seed(0), "cpu")
    x = scale * torch.eye(DIM)[:n]
    ridge.add(x, torch.arange(n), n)
    ridge.add(-x, torch.arange(n), n)
    scores = ridge.scores(torch.cat([x, -x]))
    assert torch.equal(scores.argmax(1), torch.arange(2 * n))
    assert bool(torch.isfinite(scores).all()) and float(scores.abs().max()) < 1.5


def test_gates_of_classes_without_scatter() -> None:
    gates = DiscriminantGates(shrinkage=0.1)
    for t in range(2):
        gates.add_task(2.0 * torch.eye(3)[[t, t]], torch.full((2,), t))
    covariance = within_class_covariance(
        torch.eye(3).double()[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1]), 0.1
    )
    assert bool((covariance.diagonal() > 0).all())
    scores = gates.scores(2.0 * torch.eye(3))
    # log-odds |mu|^2 / variance with the least variance, 1e-6 of the means' mean square 4/3
    expected = 4.0 / (1e-6 * 4.0 / 3.0)
    torch.testing.assert_close(
        scores[:2], expected * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), rtol=1e-5, atol=0.0
    )
    assert scores[2].tolist() == [0.0, 0.0]


# --- runs -----------------------------------------------------------------------------------------


def folder(root: Path, counts: dict[str, int], same: str = "") -> Path:
    """Noisy patterns, one a class; of class ``same`` one picture again and again."""
    for split in ("train", "test"):
        for k, (name, n) in enumerate(counts.items()):
            (root / split / name).mkdir(parents=True)
            pattern = np.random.default_rng(k).uniform(0, 255, (8, 8, 3))
            for i in range(n if split == "train" else 2):
                number = 0 if name == same else i
                noise = np.random.default_rng([k, number, split == "test"])
                pixels = pattern + noise.normal(0, 20, pattern.shape)
                picture = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
                picture.save(root / split / name / f"{i}.png")
    return root


def config_of(root: Path, learners: list[str], cache: Path) -> RunConfig:
    return RunConfig(
        data=DataConfig(name="imagefolder", root=str(root), increment=1, order_seed=0),
        backbone=BackboneConfig(cache_dir=str(cache)),
        learners=learners,
        ann=ANNConfig(epochs=2, gate_epochs=2),
        device="cpu",
    )


def test_a_late_class_with_two_images_in_a_run_that_is_resumed(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {"a": 12, "b": 12, "c": 2})
    config = replace(config_of(root, ["artsy_snn"], tmp_path / "cache"), out=str(tmp_path / "a"))
    config = replace(config, data=replace(config.data, class_order=[0, 1, 2], order_seed=None))
    console = Console(record=True, file=StringIO(), width=80)
    whole = execute(config, console).summary["learners"]["artsy_snn"]
    # task 1: features are centred on the first task, here on its only class
    assert whole["unconverted_tasks"] == [0, 2]
    text = console.export_text()
    assert "artsy_snn: no silent synapse converted in 2 of 3 tasks (1, 3), so that" in text
    with open_run(tmp_path / "a") as run:
        assert run.summary("artsy_snn")["unconverted_tasks"].tolist() == [0.0, 2.0]

    real = snn_artsy.runs.loop.evaluate

    def killed(learner: Any, seen: Any, *args: Any, **kwargs: Any) -> Any:
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real(learner, seen, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.runs.loop, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(replace(config, out=str(tmp_path / "b")))
    resumed = resume(tmp_path / "b").summary["learners"]["artsy_snn"]
    for key in ("a_t", "a_t_spikes_only", "unconverted_tasks", "gate_matrix", "n_functional"):
        assert resumed[key] == whole[key]


def test_one_picture_six_times(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {"a": 6, "b": 6}, same="a")
    learners = ["artsy_ann", "artsy_ann_lda", "artsy_ann_ridge", "artsy_snn"]
    config = config_of(root, learners, tmp_path / "cache")
    found = execute(replace(config, out=str(tmp_path / "run"))).summary
    assert "failed" not in found
    assert all(found["learners"][name]["a_last"] == 1.0 for name in learners)


def test_spikes_alone_that_mean_nothing_are_named(tmp_path: Path) -> None:
    config = RunConfig(
        data=DataConfig(n_tasks=2, train_per_class=4, test_per_class=3),
        backbone=BackboneConfig(cache_dir=str(tmp_path / "cache")),
        learners=["artsy_snn"],
        snn=SNNConfig(plasticity=PlasticityConfig(epochs=1)),
        device="cpu",
        out=str(tmp_path / "run"),
    )
    console = Console(record=True, file=StringIO(), width=80)
    measures = execute(config, console).summary["learners"]["artsy_snn"]
    assert measures["converted_share"] == 0.0 == measures["a_last_spikes_only"]
    assert measures["unconverted_tasks"] == [0, 1]
    assert "no silent synapse converted in 2 of 2 tasks (1, 2)" in console.export_text()


@pytest.mark.parametrize("n", [0, 1])
def test_a_class_with_one_image_is_refused_by_name_and_leaves_nothing(
    n: int, tmp_path: Path
) -> None:
    root = folder(tmp_path / "data", {"few": n, "many": 3})
    config = replace(config_of(root, ["simplecil"], tmp_path / "c"), out=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="few") as error:
        execute(config)
    assert str(error.value).startswith("data.root: ") and "\n" not in str(error.value)
    assert not (tmp_path / "run" / "run.h5").exists() and not (tmp_path / "c").exists()
