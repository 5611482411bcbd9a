"""Data sets made of others: their classes, images and tasks are those that each has alone."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.config.data import SourceConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import complete
from snn_artsy.data import ArraySplit, ImageSource, TaskStream, build_stream, load_source
from snn_artsy.data.joined import by_part, parts_of
from snn_artsy.registry import DATA
from snn_artsy.runs.facts import added, config_differences

SOURCES: list[dict[str, Any]] = [
    {"root": "signs", "n_tasks": 2},
    {"root": "hands", "train_per_class": 3, "test_per_class": 1},
    {"name": "digits", "class_range": [0, 6], "increment": 2, "train_per_class": 4},
]
LISTED = ["signs", "signs", "hands", "digits", "digits", "digits"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """signs/ with 4 classes, hands/ and others/ with 2, of 6 + 2 images."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    classes = {"signs": ("0", "1", "stop", "yield"), "hands": ("0", "1"), "others": ("0", "1")}
    for domain, names in classes.items():
        for name in names:
            for split, n in (("train", 6), ("test", 2)):
                (folder / domain / split / name).mkdir(parents=True)
                for i in range(n):
                    pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / domain / split / name / f"{i}.png")
    return folder


def config_of(root: Path, sources: list[dict[str, Any]] | None = None, **values: Any) -> DataConfig:
    given = {"name": "sequence", "root": str(root), "sources": sources or SOURCES} | values
    return build(RunConfig, {"data": given}).data


def opened(config: DataConfig, seed: int = 3) -> tuple[ImageSource, TaskStream]:
    source = load_source(config)
    return source, build_stream(config, source, seed)


def test_data_sets_come_one_after_the_other_with_class_names_of_their_own(root: Path) -> None:
    source, stream = opened(config_of(root))
    assert [task.domain for task in stream.tasks] == LISTED
    assert stream.domains == ("signs", "hands", "digits")
    assert [label for task in stream.tasks for label in task.classes] == list(range(12))
    assert stream.task_of_label.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    # 0 and 1 are in all three, the others in one
    assert {*stream.class_names[:4]} == {"signs/0", "signs/1", "stop", "yield"}
    assert {*stream.class_names[4:6]} == {"hands/0", "hands/1"}
    assert {*stream.class_names[6:]} == {"digits/0", "digits/1", *"2345"}
    assert stream.class_names == tuple(source.class_names[c] for c in stream.class_order)
    assert stream.by_domain()[1] == {
        "name": "hands",
        "tasks": [2],
        "labels": [4, 5],
        "class_names": list(stream.class_names[4:6]),
        "test_images": 2,
    }


@pytest.mark.parametrize("order", ["listed", "mixed"])
def test_each_data_set_gives_the_tasks_and_images_that_it_gives_alone(
    root: Path, order: str
) -> None:
    config = config_of(root, task_order=order)
    source, stream = opened(config)
    labels = {name: label for label, name in enumerate(stream.class_names)}
    for number, domain in enumerate(("signs", "hands", "digits")):
        part = load_source(config.alone(number))
        alone = build_stream(config.alone(number), part, 3)
        for expected in alone.tasks:
            named = [alone.class_names[label] for label in expected.classes]
            own = [labels.get(f"{domain}/{name}", labels.get(name)) for name in named]
            (task,) = (task for task in stream.tasks if own[0] in task.classes)
            assert task.domain == domain and list(task.classes) == own
            for split in ("train", "validation", "test"):
                joined = source.test if split == "test" else source.train
                samples, theirs = getattr(task, split), getattr(expected, split)
                ((where, _, images),) = by_part(joined, samples.index)
                assert where == number
                np.testing.assert_array_equal(images, theirs.index)
                np.testing.assert_array_equal(
                    samples.labels, [own[expected.classes.index(label)] for label in theirs.labels]
                )
                classes = stream.class_order[samples.labels]
                np.testing.assert_array_equal(classes, joined.labels[samples.index])


def test_domains_share_their_classes(root: Path) -> None:
    """Labels are new in every task, and say which class they stand for by its name."""
    sources = [
        {"root": "signs", "class_range": [0, 2], "class_order": [1, 0]},
        {"root": "hands", "class_order": [0, 1]},
        {"name": "digits", "class_range": [0, 2], "class_order": [1, 0], "train_per_class": 4},
    ]
    _, stream = opened(config_of(root, sources, scenario="domain"))
    assert [list(task.classes) for task in stream.tasks] == [[0, 1], [2, 3], [4, 5]]
    assert stream.class_names == (
        "signs/1",
        "signs/0",
        "hands/0",
        "hands/1",
        "digits/1",
        "digits/0",
    )
    assert stream.class_of_label is not None and stream.n_classes == 2
    assert stream.class_of_label.tolist() == [1, 0, 0, 1, 1, 0]
    _, of_classes = opened(config_of(root, sources))
    assert of_classes.class_of_label is None and of_classes.n_classes == 6


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"root": "hands", "n_tasks": 2}, "data.sources.1.n_tasks: 2 cannot be used; leave it out"),
        ({"root": "hands", "increment": 2}, "data.sources.1.increment: 2 cannot be used; leave it"),
        (
            {"name": "digits", "class_range": [1, 3]},
            "data.sources.1: 2 of its classes and of those",
        ),
        (
            {"root": "signs", "domain": "more", "class_range": [0, 3]},
            "data.sources.1.class_range: 2",
        ),
    ],
)
def test_domains_that_do_not_share_their_classes_are_refused(
    root: Path, source: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        opened(
            config_of(root, [{"root": "signs", "class_range": [0, 2]}, source], scenario="domain")
        )
    assert str(raised.value).startswith(message)


def test_mixed_tasks_follow_the_order_seed_alone(root: Path) -> None:
    def domains(**values: Any) -> list[str]:
        _, stream = opened(config_of(root, task_order="mixed", order_seed=4, **values), seed=5)
        assert [task.number for task in stream.tasks] == list(range(6))
        assert [label for task in stream.tasks for label in task.classes] == list(range(12))
        return [task.domain for task in stream.tasks]

    drawn = [LISTED[place] for place in np.random.RandomState(4).permutation(6)]
    assert domains() == drawn != LISTED
    assert domains(train_share=0.7) == drawn


def test_images_are_those_of_the_parts(root: Path) -> None:
    source = load_source(config_of(root))
    signs, hands, digits = parts_of(source.train)
    assert len(source.train) == 24 + 12 + len(digits)
    for number, part, own in ((0, signs, 0), (23, signs, 23), (24, hands, 0), (36, digits, 0)):
        np.testing.assert_array_equal(source.train.load(number), part.load(own))
        assert source.train.name(number) == part.name(own)
    assert source.train.labels[[0, 23, 24, 35]].tolist() == [0, 3, 4, 5]
    found = [
        (number, rows.tolist(), own.tolist())
        for number, rows, own in by_part(source.train, np.array([40, 1, 25, 0]))
    ]
    assert found == [(0, [1, 3], [1, 0]), (1, [2], [1]), (2, [0], [4])]
    nothing = np.array([], dtype=np.int64)
    assert [len(rows) for _, rows, _ in by_part(source.train, nothing)] == [0]


def test_the_fingerprint_follows_every_part(root: Path) -> None:
    def fingerprint(*folders: str) -> str:
        return load_source(
            config_of(root, [{"root": folder} for folder in folders])
        ).train.fingerprint()

    assert fingerprint("signs", "hands") == fingerprint("signs", "hands")
    found = {fingerprint(*each) for each in (("signs", "hands"), ("signs", "others"), ("signs",))}
    assert len(found) == 3


def test_shares_that_a_source_does_not_give_are_those_of_all(root: Path) -> None:
    config = config_of(root, train_per_class=2, validation_share=0.5)
    assert [config.alone(n).train_per_class for n in range(3)] == [2, 3, 4]
    assert [config.alone(n).validation_share for n in range(3)] == [0.5] * 3
    assert config.alone(0).root == str(root / "signs") and config.alone(2).root == str(root)
    absolute = config_of(Path("elsewhere"), [{"root": str(root / "hands")}])
    assert absolute.alone(0).root == str(root / "hands")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources": []}, "data.sources: [] cannot be used; list the data sets"),
        (
            {"sources": [{"n_task": 1}]},
            "data.sources.0.n_task: unknown key (value 1); did you mean",
        ),
        ({"sources": "[{n_tasks: x}]"}, "data.sources.0.n_tasks: 'x' cannot be used; give an int"),
        ({"sources": ["signs"]}, "data.sources.0: 'signs' cannot be used; give a section with"),
        ({"sources": [{}, {"name": "sequence"}]}, "data.sources.1.name: 'sequence' cannot be used"),
        (
            {"sources": [{"root": "a/signs"}, {"root": "b/signs/"}]},
            "data.sources.1.domain: 'signs' cannot be used; another source is called so",
        ),
        (
            {"sources": [{"root": "signs"}, {"root": "hands", "train_per_class": 0}]},
            "data.sources.1.train_per_class: 0 cannot be used",
        ),
        ({"sources": [{"base": 2}]}, "data.sources.0.base: 2 cannot be used"),
        ({"sources": [{"name": "digits", "root": "x"}]}, "data.sources.0.root: 'x' cannot be used"),
        ({"task_order": "shuffled"}, "data.task_order: 'shuffled' cannot be used; give one of"),
    ],
)
def test_mistakes_name_the_source_before_anything_is_read(
    values: dict[str, Any], message: str
) -> None:
    given = {"name": "sequence", "sources": SOURCES} | values
    with pytest.raises(ConfigError) as raised:
        build(RunConfig, {"data": given})
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"root": "nowhere"}, "data.sources.1.root: no folder"),
        ({"name": "nothing"}, "data.sources.1.name: 'nothing' cannot be used; choose from"),
        ({"root": "hands", "n_tasks": 4}, "data.sources.1.n_tasks: 4 cannot be used; 2 classes"),
        ({"root": "hands", "class_range": [0, 3]}, "data.sources.1.class_range: [0, 3] cannot"),
        (
            {"root": "again", "class_range": [3, 4]},
            "data.sources.1.class_range: 1 of its classes are also those of data.sources.0",
        ),
    ],
)
def test_what_a_source_lacks_is_named_by_its_key(
    root: Path, tmp_path: Path, source: dict[str, Any], message: str
) -> None:
    (tmp_path / "again").symlink_to(root / "signs")
    if source.get("root") == "again":
        source = source | {"root": str(tmp_path / "again")}
    with pytest.raises(ConfigError) as raised:
        opened(config_of(root, [{"root": "signs"}, source]))
    assert str(raised.value).startswith(message)


def test_unreadable_images_are_named_by_the_sources_key(root: Path, tmp_path: Path) -> None:
    (tmp_path / "hands").symlink_to(root / "hands")
    for split in ("train", "test"):
        (tmp_path / "mine" / split / "a").mkdir(parents=True)
        (tmp_path / "mine" / split / "a" / "x.png").write_bytes(b"no image")
    (tmp_path / "mine" / "test" / "a" / "notes.txt").write_text("no image")
    source = load_source(config_of(tmp_path, [{"root": "hands"}, {"root": "mine"}]))
    assert source.notes[0] == "data (mine): left out 1 files of other kinds: .txt 1"
    for read in (lambda: source.train.check(np.array([0, 12])), lambda: source.train.load(12)):
        with pytest.raises(ConfigError, match=r"^data\.sources\.1\.root: cannot read the image"):
            read()


def test_a_data_source_of_ones_own_takes_part_and_is_recorded() -> None:
    @DATA.register("mine")
    def mine(config: DataConfig) -> ImageSource:
        split = ArraySplit(np.zeros((8, 2, 2), dtype=np.uint8), np.arange(8) % 4)
        return ImageSource("mine", tuple("abcd"), split, split)

    sources = [{"name": "mine", "n_tasks": 2}, {"name": "digits"}]
    config = build(RunConfig, {"data": {"name": "sequence", "sources": sources}})
    _, stream = opened(config.data)
    assert [task.domain for task in stream.tasks] == ["mine", "mine", "digits"]
    assert (DATA, "mine") in added(config)


def test_the_same_folder_may_give_different_classes(root: Path) -> None:
    halves = [
        {"root": "signs", "class_range": [0, 2]},
        {"root": "signs", "class_range": [2, 4], "domain": "more"},
    ]
    _, stream = opened(config_of(root, halves))
    assert stream.domains == ("signs", "more") and len(stream.class_order) == 4


def test_where_images_lie_is_no_difference_and_what_sources_are_is(root: Path) -> None:
    def plain(sources: list[dict[str, Any]]) -> dict[str, Any]:
        return asdict(build(RunConfig, {"data": {"name": "sequence", "sources": sources}}))

    here = plain([{"root": "signs"}, {"root": "hands"}])
    moved = plain([{"root": "signs"}, {"root": "/elsewhere/hands"}])
    assert config_differences(here, moved) == []
    others = plain([{"root": "signs"}, {"root": "hands", "n_tasks": 2}])
    assert config_differences(here, others) == ["data.sources.1.n_tasks was 1 and is 2"]
    assert config_differences(here, plain([{"root": "signs"}])) != []


def test_a_sequence_survives_its_own_file_and_typed_text() -> None:
    text = "[{root: signs, n_tasks: 2}, {name: digits, class_range: [0, 4]}]"
    config = build(RunConfig, complete({"data.name": "sequence", "data.sources": text}))
    assert build(RunConfig, asdict(config)) == config
    assert [source.domain for source in config.data.sources or []] == ["signs", "digits"]
    odd = SourceConfig(root=os.fsdecode(b"images/\xffsigns/"))
    assert odd.domain == "?signs" and os.fsencode(str(odd.root)) == b"images/\xffsigns/"
