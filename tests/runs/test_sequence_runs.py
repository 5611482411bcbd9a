"""Runs on several data sets: features shared with each alone, results of each, going on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cut_runs import assert_same_run, cut_after
from PIL import Image
from rich.console import Console

from snn_artsy.api import configured
from snn_artsy.cli import main
from snn_artsy.config import RunConfig
from snn_artsy.data import build_stream, load_source
from snn_artsy.runs import checkpointer
from snn_artsy.runs.features import prepare
from snn_artsy.runs.run import execute, resume


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two folders with 4 and 2 classes of noise around colours, in mixed order; copies/ has classes
    of the same colours as signs/."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    colours = {name: rng.integers(0, 200, 3) for name in "abcd"}
    for domain, names in {"signs": "abcd", "hands": "ab", "copies": "ab"}.items():
        for name in names:
            colour = rng.integers(0, 200, 3) if domain == "hands" else colours[name]
            for split, n in (("train", 6), ("test", 3)):
                (root / domain / split / name).mkdir(parents=True)
                for i in range(n):
                    pixels = colour + rng.integers(0, 50, (8, 8, 3))
                    image = Image.fromarray(pixels.astype(np.uint8))
                    image.save(root / domain / split / name / f"{i}.png")
    return {
        "data.name": "sequence",
        "data.root": str(root),
        "data.sources": [{"root": "signs", "n_tasks": 2}, {"root": "hands"}],
        "data.task_order": "mixed",
        "backbone.cache_dir": str(tmp_path_factory.mktemp("cache")),
        "learners": ["simplecil", "artsy_ann"],
        "ann.epochs": 2,
        "device": "cpu",
        "threads": 1,
    }


@pytest.fixture(scope="module")
def whole(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "whole"
    execute(configured(values, {"out": str(directory)}))
    return directory


def prepared(config: RunConfig) -> Any:
    return prepare(config, "cpu", Console(quiet=True))


@pytest.mark.parametrize("placement", ["head", "blocks"])
def test_features_and_tokens_are_those_of_each_data_set_alone(
    values: dict[str, Any], tmp_path: Path, placement: str
) -> None:
    """Nothing is computed or kept twice."""
    given = values | {"backbone.cache_dir": str(tmp_path), "ann.placement": placement}
    config = configured(given)
    alone = [prepared(replace(config, data=config.data.alone(number))) for number in range(2)]
    kept = sorted(tmp_path.glob("*.npy"))
    assert len(kept) == (8 if placement == "blocks" else 4)
    both = prepared(config)
    assert sorted(tmp_path.glob("*.npy")) == kept
    for number, domain in enumerate(("signs", "hands")):
        mine = [t for t, split in zip(both.tasks, both.stream.tasks, strict=True)
                if split.domain == domain]  # fmt: skip
        assert len(mine) == len(alone[number].tasks)
        for (task, test), (other, other_test) in zip(_sorted(mine), _sorted(alone[number].tasks),
                                                     strict=True):  # fmt: skip
            for batch, expected in ((task.train, other.train), (test, other_test)):
                np.testing.assert_array_equal(batch.features, expected.features)
                if placement == "blocks":
                    np.testing.assert_array_equal(batch.tokens, expected.tokens)
                    np.testing.assert_array_equal(batch.images, expected.images)


def _sorted(tasks: list[Any]) -> list[Any]:
    """Tasks of one data set, by their first features, which other tasks do not have."""
    return sorted(tasks, key=lambda pair: float(pair[0].train.features[0, 0]))


def test_a_batch_of_several_data_sets_has_the_tokens_of_each(
    values: dict[str, Any],
) -> None:
    from snn_artsy.learners.tasks import join

    tests = [test for _, test in prepared(configured(values, {"ann.placement": "blocks"})).tasks]
    tokens = join(tests).tokens
    start = 0
    for test in tests:
        np.testing.assert_array_equal(tokens[start : start + len(test)], test.tokens)
        start += len(test)
    assert start == len(tokens)


def test_results_of_each_data_set_are_kept_and_shown(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((whole / "summary.json").read_text(encoding="utf-8"))
    domains = {each["name"]: each for each in summary["domains"]}
    assert set(domains) == {"signs", "hands"}
    assert domains["hands"]["class_names"][0].startswith("hands/")
    assert sorted(domains["signs"]["class_names"])[:2] == ["c", "d"]
    assert sorted(t for each in domains.values() for t in each["tasks"]) == [0, 1, 2]
    measures = summary["learners"]["artsy_ann"]
    parts = [measures[f"a_last:{name}"] * domains[name]["test_images"] for name in domains]
    assert sum(parts) / 18 == pytest.approx(measures["a_last"])
    assert {"domain_identified", "domain_opened", "domain_predicted:hands"} <= set(measures)
    assert "domain_identified" not in summary["learners"]["simplecil"]
    for command in (["info", str(whole)], ["report", str(whole), "--overwrite"]):
        with pytest.raises(SystemExit) as done:
            main(command)
        assert done.value.code == 0
    printed = capsys.readouterr().out
    page = (whole / "report.html").read_text(encoding="utf-8")
    for text in (printed, page):
        assert "A_last by data set" in text and "sequence: signs, hands" in text


def test_a_run_that_is_cut_off_goes_on_with_the_same_numbers(
    values: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "cut"
    config = configured(values, {"out": str(directory)})
    monkeypatch.setattr(checkpointer, "CHECKPOINT_SHARE", math.inf)  # after every task
    assert cut_after(5, monkeypatch, lambda: execute(config), "save_answers")
    resume(directory)
    assert_same_run(directory, whole)


@pytest.mark.parametrize("source", ["data.sources.1.test_per_class", "data.test_per_class"])
def test_seeds_of_a_comparison_share_the_test_images_that_are_drawn(
    values: dict[str, Any], source: str
) -> None:
    sources = [{"root": "signs"}, {"root": "hands"}]
    given: dict[str, Any] = {"data.sources": sources}
    if source == "data.test_per_class":
        given[source] = 2
    else:
        sources[1]["test_per_class"] = 2  # type: ignore[assignment]
    config = configured(values | given)
    assert config.data.draws_test_images
    images = load_source(config.data)

    def drawn(seed: int, test_seed: int | None) -> list[int]:
        data = replace(config.data, test_seed=test_seed)
        return build_stream(data, images, seed).test_index.tolist()

    assert drawn(1, 7) == drawn(2, 7) == drawn(7, None)
    assert len({tuple(drawn(0, test_seed)) for test_seed in range(6)}) > 1


def test_domains_with_the_same_classes(values: dict[str, Any], tmp_path: Path) -> None:
    """Whichever domain's class is answered, the class counts: checked beside a nearest mean."""
    sources = [{"root": "signs", "class_range": [0, 2]}, {"root": "copies"}]
    given = values | {
        "data.sources": sources,
        "data.scenario": "domain",
        "data.task_order": "listed",
    }
    config = configured(given, {"out": str(tmp_path / "run")})
    summary = execute(config).summary
    features = prepared(config)
    means, classes, names = [], [], features.stream.class_names
    for task, _ in features.tasks:
        x = np.concatenate([task.train.features, task.validation.features])
        y = np.concatenate([task.train.labels, task.validation.labels])
        means += [x[y == c].mean(0) for c in task.classes]
        classes += [names[c][-1] for c in task.classes]
    unit = np.stack(means) / np.linalg.norm(means, axis=1, keepdims=True)
    right, own = [], []
    for number, (_, test) in enumerate(features.tasks):
        answers = (np.asarray(test.features) @ unit.T).argmax(1)
        right += [
            classes[a] == names[int(c)][-1] for a, c in zip(answers, test.labels, strict=True)
        ]
        own += [features.stream.task_of_label[a] == number for a in answers]
    measures = summary["learners"]["simplecil"]
    assert measures["a_last"] == pytest.approx(np.mean(right))
    assert measures["domain_predicted"] == pytest.approx(np.mean(own)) and not all(own)
    assert np.mean(right) > np.mean([r and o for r, o in zip(right, own, strict=True)])
    assert summary["chance"] == 0.5
