"""The one record of what a run's numbers depend on: what is a difference and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from snn_artsy.checks import ConfigError
from snn_artsy.config import BackboneConfig, DataConfig, RunConfig
from snn_artsy.config.data import SourceConfig
from snn_artsy.config_builder import build, keys_of
from snn_artsy.data.sources import FolderSplit
from snn_artsy.registry import load
from snn_artsy.runs.facts import NO_DIFFERENCE, Facts, differences, plain, remarks
from snn_artsy.runs.features import _fingerprint

IMAGES = {"train": "a" * 64, "test": "b" * 64}


def facts(config: RunConfig | None = None, **changes: Any) -> Facts:
    made = Facts.gather(config or RunConfig(), IMAGES, "c" * 64, "cpu", 1)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": 4}, "seed was 1993 and is 4"),
        ({"snn": {"teacher": {"current": 2.0}}}, "snn.teacher.current was 1.5 and is 2.0"),
        ({"data": {"increment": 2}}, "data.increment was None and is 2"),
    ],
)
def test_a_difference_of_configuration_is_named(values: dict[str, Any], words: str) -> None:
    assert words in differences(facts(), facts(build(RunConfig, values)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": IMAGES | {"test": "0"}}, "the test images changed"),
        ({"images": IMAGES | {"train": "0"}}, "the train images changed"),
        ({"backbone_sha256": "0"}, "the backbone's weights changed"),
        ({"device": "cuda"}, "device was 'cpu' and is 'cuda'"),
        ({"precision": "bfloat16"}, "precision was 'float32' and is 'bfloat16'"),
    ],
)
def test_a_difference_is_named(changes: dict[str, Any], words: str) -> None:
    assert differences(facts(), facts(**changes)) == [words]


def test_another_version_of_ones_own_rule_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "a_rule_of_mine.py"
    source = "from snn_artsy.rules import PairSTDP\n\nclass Mine(PairSTDP):\n    half = 0.5\n"
    file.write_text(source)
    load("a_rule_of_mine:Mine")
    config = build(RunConfig, {"snn": {"plasticity": {"rule": "a_rule_of_mine:Mine"}}})
    old = facts(config)
    assert differences(old, facts(config)) == [] == differences(old, facts().of_config(config))
    assert "rule a_rule_of_mine:Mine" not in old.of_config(RunConfig()).versions
    file.write_text(source.replace("0.5", "0.25"))
    (found,) = differences(old, facts(config))
    assert found.startswith("rule a_rule_of_mine:Mine was ")


def test_labels_from_a_list_are_part_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"1")
    (tmp_path / "y.png").write_bytes(b"2")
    splits = [
        FolderSplit(tmp_path, ["x.png", "y.png"], np.array(each)) for each in ([0, 1], [1, 0])
    ]
    assert _fingerprint(splits[0]) != _fingerprint(splits[1])


def test_versions_that_compute_are_a_difference_and_others_are_not() -> None:
    old = facts(versions={"torch": "2.4.0", "h5py": "3.10"})
    assert differences(old, facts(versions={"torch": "2.4.0", "h5py": "3.11"})) == []
    new = facts(versions={"torch": "2.5.1", "h5py": "3.10"})
    assert differences(old, new) == ["torch was '2.4.0' and is '2.5.1'"]


def test_what_cannot_change_a_number_is_no_difference() -> None:
    other = RunConfig(
        data=DataConfig(root="elsewhere", download=True),
        backbone=BackboneConfig(
            pretrained=False,
            workers=7,
            cache=False,
            cache_dir="there",
            checkpoint=None,
            precision="auto",
        ),
        device="cpu",
        learners=list(reversed(RunConfig().learners)),
        out="elsewhere",
    )
    assert differences(facts(), facts(other, precision="float32")) == []
    assert differences(facts(), facts(threads=8, platform="another", git_commit="0")) == []
    known = {*keys_of(RunConfig), *keys_of(SourceConfig, "data.sources.")}
    assert known >= NO_DIFFERENCE - {"threads"}  # none is misspelt


def test_a_key_that_came_later_had_its_default() -> None:
    """What an older release made is used on, as long as the new key is left alone."""
    new = facts()
    backbone = {key: value for key, value in new.config["backbone"].items() if key != "engine"}
    old = replace(new, config={**new.config, "backbone": backbone})
    assert differences(old, new) == []
    chosen = replace(RunConfig(), backbone=BackboneConfig(engine="openvino"))
    told = differences(old, replace(new, config=plain(chosen)))
    assert told == ["backbone.engine was 'torch' and is 'openvino'"]


def test_a_key_of_a_data_set_that_came_later_had_its_default() -> None:
    def listed(*sources: SourceConfig) -> Facts:
        return facts(RunConfig(data=DataConfig(name="sequence", sources=list(sources))))

    signs, textures = SourceConfig(root="signs"), SourceConfig(root="textures")
    new = listed(signs, textures)
    data = new.config["data"]
    older = [
        {key: value for key, value in source.items() if key not in ("base", "test_per_class")}
        for source in data["sources"]
    ]
    old = replace(new, config={**new.config, "data": {**data, "sources": older}})
    fewer = listed(signs, replace(textures, test_per_class=5))
    assert differences(old, new) == []
    told = differences(old, fewer)
    assert told == ["data.sources.1.test_per_class was None and is 5"]
    # a data set that was not there is a difference, also one that has all defaults
    told = differences(listed(signs), listed(signs, SourceConfig()))
    assert "data.sources.1.name was None and is 'imagefolder'" in told


def test_other_learners_are_a_difference() -> None:
    (found,) = differences(facts(), facts(RunConfig(learners=["simplecil"])))
    assert found.startswith("learners was ['artsy_ann'")


def test_what_is_only_told() -> None:
    assert remarks(facts(), facts(threads=8)) == []
    (told,) = remarks(facts(git_commit="a"), facts(git_commit="b-dirty"))
    assert told == "git_commit was 'a' and is 'b-dirty'"


def test_both_files_say_the_same() -> None:
    made = facts()
    assert (
        Facts.read(made.plain(), "run", "x")
        == made
        == Facts.of_attributes(made.attributes(), "run", "x")
    )
    assert build(RunConfig, yaml.safe_load(made.config_yaml())) == RunConfig()
    assert differences(made, Facts.of_attributes(made.attributes(), "run", "x")) == []


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], "no record"),
        ({}, "does not say its config, images"),
        (facts().plain() | {"threads": "many"}, "threads: 'many'"),
        (facts().plain() | {"images": ["x"]}, "images: "),
        (facts().plain() | {"config": 3}, "config: 3"),
    ],
)
def test_a_record_of_another_shape_is_refused(record: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=r'^run: "f" ') as raised:
        Facts.read(record, "run", '"f"')
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "changes", [{"images": 3}, {"images": "{"}, {"versions": "[1]"}, {"config": "a: ["}]
)
def test_attributes_of_another_shape_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"damaged record|not valid YAML"):
        Facts.of_attributes(facts().attributes() | changes, "run", '"f"')
