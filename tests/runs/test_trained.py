"""Learners of finished runs answer as they did in the run, for images in any form."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

import snn_artsy as sa
from snn_artsy import cli
from snn_artsy.api import configured
from snn_artsy.backbone import FrozenBackbone, extract_features
from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.data import load_source
from snn_artsy.data.given import GivenImages
from snn_artsy.learners.base import Batch, Learner, Prediction, Task
from snn_artsy.registry import LEARNERS
from snn_artsy.runs import answers as answers_module
from snn_artsy.runs import trained as trained_module
from snn_artsy.runs.kept import require_kept
from snn_artsy.runs.measure_log import scalars
from snn_artsy.runs.pack import pack
from snn_artsy.runs.run import execute
from snn_artsy.runs.study import OF_THE_PACKAGE
from snn_artsy.runs.trained import TrainedRun, load_trained

SMALL = {
    "data": {"n_tasks": 2, "class_range": [0, 4], "train_per_class": 10, "test_per_class": 6},
    "ann": {"epochs": 2, "gate_epochs": 2},
    "snn": {"neuron": {"per_class": 2}, "plasticity": {"speed": 5.0}},
    "finetune": {"epochs": 2},
    "memory": {"epochs": 2},
    "ranpac": {"projection": 30},
    "artsy_ridge": {"projection": 30},
    "record": {"scores": True},
    "device": "cpu",
    "threads": 1,
}
IN_BLOCKS = {
    **SMALL,
    "ann": {"epochs": 1, "gate_epochs": 1, "placement": "blocks", "blocks": 1},
    "snn": {**SMALL["snn"], "mode": "gate", "tap": "first"},
}
WITH_SUBNETWORKS = ["artsy_ann", "artsy_best", "artsy_snn", "ease", "aper_adapter", "ranpac",
                    "finetune_adapter"]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module", params=["head", "blocks"])
def run(
    request: pytest.FixtureRequest, cache: str, tmp_path_factory: pytest.TempPathFactory
) -> TrainedRun:
    values, names = (
        (SMALL, [*LEARNERS]) if request.param == "head" else (IN_BLOCKS, WITH_SUBNETWORKS)
    )
    out = tmp_path_factory.mktemp(request.param) / "run"
    config = configured(values, {"learners": names, "out": str(out), "backbone.cache_dir": cache})
    return load_trained(execute(config).directory)


@pytest.fixture(scope="module")
def head(cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three learners."""
    out = tmp_path_factory.mktemp("default") / "run"
    return execute(configured(SMALL, {"out": str(out), "backbone.cache_dir": cache})).directory


def shown(config: RunConfig, index: NDArray[np.int64]) -> NDArray[np.uint8]:
    return load_source(config.data).test.images[index]  # type: ignore[attr-defined]


def in_blocks(run: TrainedRun) -> bool:
    return run.config.ann.placement == "blocks"


def test_every_learner_answers_as_it_did_in_the_run(run: TrainedRun) -> None:
    assert [*run] == run.config.learners and len(run) == len(run.config.learners)
    with sa.open_run(run.directory) as recorded:
        names = recorded.class_names
        _, test = zip(*run.features.tasks, strict=True)
        features = torch.cat([batch.features for batch in test])
        for name in run:
            last = recorded.predictions(name, 1)
            images = shown(run.config, last.index)
            from_images = name in ("artsy_snn", *(WITH_SUBNETWORKS if in_blocks(run) else ()))
            answers = run[name].predict(images if from_images else features)
            np.testing.assert_array_equal(answers.predicted, last.predicted, name)
            assert answers.classes == [names[label] for label in last.predicted]
            np.testing.assert_allclose(answers.scores, last.scores, rtol=1e-4, atol=1e-5)
            for field in ("gates", "spike_predicted"):
                mine, theirs = getattr(answers, field), getattr(last, field)
                assert (mine is None) == (theirs is None), (name, field)
                assert mine is None or np.array_equal(mine, theirs), (name, field)
            if answers.spike_counts is not None:
                assert answers.spike_counts.shape == answers.scores.shape
                assert answers.spike_counts.sum() > 0
                fired = answers.spike_predicted >= 0
                assert (answers.spike_counts[~fired] == 0).all()
                most = answers.spike_counts.max(1)
                chosen = answers.spike_counts[np.arange(len(most)), answers.spike_predicted]
                np.testing.assert_array_equal(chosen[fired], most[fired])
            assert answers.vit_passes.shape == (len(last.index),)


def test_class_names_are_those_of_the_data(head: Path) -> None:
    summary = json.loads((head / "summary.json").read_text())
    assert summary["class_names"] == [str(number) for number in summary["class_order"]]
    with sa.open_run(head) as recorded:
        assert list(recorded.class_names) == summary["class_names"]


def test_an_answer_depends_on_the_image_alone(head: Path) -> None:
    """Not on its place, its company, or its being one of the run's."""
    learner = load_trained(head)["artsy_snn"]
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    all_of_them = learner.predict(images)
    assert len({tuple(counts) for counts in all_of_them.spike_counts.tolist()}) > 1
    for order in ([4], [8, 4, 4, 0]):
        some = learner.predict(images[order])
        np.testing.assert_array_equal(some.spike_counts, all_of_them.spike_counts[order])
        np.testing.assert_array_equal(some.predicted, all_of_them.predicted[order])


def test_images_come_in_any_form(head: Path, tmp_path: Path) -> None:
    learner = load_trained(head)["simplecil"]
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    expected = learner.predict(pixels).scores
    colour = np.repeat(pixels[..., None], 3, axis=3)
    pictures = [Image.fromarray(each) for each in pixels]
    folder = tmp_path / "folder" / "below"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
    (folder / "notes.txt").touch()
    files = [folder / f"{number}.png" for number in range(3)]
    config = load_trained(head).config
    backbone = FrozenBackbone.build(config.backbone, "cpu")
    features = extract_features(
        backbone, GivenImages(pixels), np.arange(3), replace(config.backbone, cache=False)
    )
    for given in (
        colour, torch.from_numpy(pixels), pictures, [*pixels], files, [str(f) for f in files],
        tmp_path / "folder", [files[0], pictures[1], colour[2]], features,
        torch.from_numpy(features).double(),
    ):  # fmt: skip
        np.testing.assert_array_equal(learner.predict(given).scores, expected)
    assert learner.predict(folder).images == tuple(map(str, files))
    assert learner.predict(pictures[0]).images == ("image 0",)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"):
        source = Image.fromarray(colour[0]) if mode == "LAB" else pictures[0]
        picture = source if mode == "LAB" else source.convert("RGB").convert(mode)
        assert len(learner.predict(picture)) == 1, mode
    for size in ((1, 1), (3, 500), (20_000, 1), (301, 200)):
        assert len(learner.predict(Image.new("RGB", size))) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "none given"),
        ("nowhere.png", "no file or folder nowhere.png"),
        ("a\0b", "no file or folder"),
        (np.zeros((4, 4)), "features of 4 numbers; the backbone's have 192"),
        (np.zeros((2, 4, 4)), r"a ndarray of float64 \[2, 4, 4\] is no image"),
        (np.zeros((0, 4, 4), np.uint8), "is no image"),
        (np.zeros(7, np.uint8), "is no image"),
        (3, "is no image"),
        (None, "is no image"),
        ([object()], "is no image"),
        (Image.new("I;16", (4, 4)), "I;16 pixels are not 8 bits deep"),
    ],
)
def test_what_is_no_image_is_named(head: Path, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^image: .*{message}") as error:
        load_trained(head)["simplecil"].predict(given)
    assert "\n" not in str(error.value)


def test_many_images_are_seen_a_few_at_a_time(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = load_trained(head)["artsy_snn"]
    images = np.random.default_rng(2).integers(0, 256, (10, 8, 8), dtype=np.uint8)
    whole = learner.predict(images)
    seen: list[int] = []
    extract = answers_module.extract_features

    def counted(backbone: Any, split: Any, rows: Any, *args: Any, **more: Any) -> Any:
        seen.append(len(rows))
        return extract(backbone, split, rows, *args, **more)

    monkeypatch.setattr(answers_module, "TEST_BATCH", 4)
    monkeypatch.setattr(answers_module, "extract_features", counted)
    parts = learner.predict(images)
    assert max(seen) <= 4 and sum(seen) == 10
    np.testing.assert_array_equal(parts.spike_counts, whole.spike_counts)
    np.testing.assert_array_equal(parts.predicted, whole.predicted)


def test_every_measure_is_known_to_studies(run: TrainedRun) -> None:
    """A study refuses others before it runs anything."""
    learners = json.loads((run.directory / "summary.json").read_text())["learners"]
    for name, measures in learners.items():
        assert scalars(measures).keys() <= OF_THE_PACKAGE, name


def test_records_and_their_table(head: Path) -> None:
    run = load_trained(head)
    names = {str(number) for number in range(4)}
    images = np.random.default_rng(3).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    for name in run:
        answers = run[name].predict(images)
        for record in json.loads(json.dumps(answers.records(), allow_nan=False)):
            assert set(record) == {"image", "class", "scores", "gates", "gate_scores",
                                   "spike_class", "spike_counts", "vit_passes"}  # fmt: skip
            assert set(record["scores"]) == names
            assert record["class"] == max(record["scores"], key=record["scores"].get)
            gated = name != "simplecil"
            assert (record["gates"] is not None) == (record["gate_scores"] is not None) == gated
            assert not gated or {type(v) for v in record["gates"].values()} == {bool}
            assert not gated or [*record["gates"]] == [*record["gate_scores"]] == ["1", "2"]
            assert (record["spike_counts"] is not None) == (name == "artsy_snn")
        shown = answers._repr_mimebundle_([], [])["text/plain"]
        assert "image 1" in shown and ("open gates" in shown) == gated


def test_older_runs_have_numbers_for_names(head: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(head, tmp_path / "run")
    summary = json.loads((directory / "summary.json").read_text())
    del summary["class_names"]
    (directory / "summary.json").write_text(json.dumps(summary))
    (directory / "test_images.safetensors").unlink()
    run = load_trained(directory)
    assert run.class_names == ("0", "1", "2", "3")
    assert len(run["artsy_snn"].predict(np.zeros((1, 8, 8), np.uint8))) == 1


def test_names_that_are_shared_are_told_apart() -> None:
    names = trained_module._class_names({"class_order": [2, 0, 1], "class_names": ["a", "b", "a"]})
    assert names == ("a (0)", "b", "a (2)")


def test_what_is_asked_for_must_be_there(head: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run: no finished run at"):
        load_trained(tmp_path)
    run = load_trained(head)
    assert "ease" not in run and "artsy_snn" in run
    with pytest.raises(ConfigError, match=r"no trained ease at .* it has simplecil, artsy_ann, a"):
        run["ease"]
    other = shutil.copytree(head, tmp_path / "run")
    text = (other / "summary.json").read_text()
    sha = json.loads(text)["backbone_sha256"]
    (other / "summary.json").write_text(text.replace(sha, "0" * 64))
    with pytest.raises(ConfigError, match=r"backbone\.checkpoint: the weights are not those"):
        load_trained(other)["simplecil"]


# --- a learner of one's own -----------------------------------------------------------------------


class Kept(Learner):
    """A tensor, a list of tensors, and a module; nothing of its own about keeping them."""

    def __init__(self, setting: Any) -> None:
        super().__init__(setting)
        self.scale = torch.nn.Linear(1, 1)
        self.means: list[torch.Tensor] = []

    def learn(self, task: Task) -> None:
        x, y = task.train.features, task.train.labels
        self.means.append(torch.stack([x[y == c].mean(0) for c in task.classes]))
        self.shift = x.mean()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Prediction:
        scores = (batch.features - self.shift) @ torch.cat(self.means).T
        return Prediction(self.scale(scores[..., None])[..., 0])


class Listed(Kept):
    """Its module is in a list that learning fills."""

    def learn(self, task: Task) -> None:
        super().learn(task)
        self.modules = [torch.nn.Linear(1, 1)]


def test_a_learner_of_ones_own_is_loaded_without_code_for_it(cache: str, tmp_path: Path) -> None:
    for name, learner in (("kept", Kept), ("listed", Listed)):
        sa.learners.register(name)(learner)
    config = configured(SMALL, {"learners": ["kept", "listed"], "out": str(tmp_path / "run"),
                                "backbone.cache_dir": cache})  # fmt: skip
    run = load_trained(execute(config).directory)
    with sa.open_run(run.directory) as recorded:
        last = recorded.predictions("kept", 1)
    answers = run["kept"].predict(shown(config, last.index))
    np.testing.assert_array_equal(answers.predicted, last.predicted)
    with pytest.raises(ConfigError, match=r"override Listed\.load_state_dict"):
        run["listed"]


def test_a_file_chooses_no_code(cache: str, tmp_path: Path) -> None:
    sa.learners.register("kept")(Kept)
    config = configured(SMALL, {"learners": ["kept"], "out": str(tmp_path / "run"),
                                "backbone.cache_dir": cache})  # fmt: skip
    directory = execute(config).directory
    del LEARNERS.entries["kept"], LEARNERS._spelled[f"{__name__}:Kept"]
    with pytest.raises(ConfigError, match="learners: 'kept' cannot be used; choose from"):
        load_trained(directory)


# --- the command ----------------------------------------------------------------------------------


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(4)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(file)
    return files


def test_predict(
    head: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    expected = load_trained(head)["artsy_snn"].predict(pictures).records()
    out = tmp_path / "answers.json"
    assert call("predict", head, *pictures, "--json", "--out", out) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == expected == json.loads(out.read_text())
    assert printed.startswith('[\n{"image": ') and len(printed.splitlines()) == 5
    assert call("predict", head, *pictures, "--json", "--out", out) == 2
    assert "answers.json" in capsys.readouterr().err

    listed = "".join(f"{file}\n" for file in pictures) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    assert call("predict", "--json", head, "-", "--learner", "simplecil") == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["image"] for record in records] == [str(file) for file in pictures]
    assert records[0]["gates"] is None

    assert call("predict", head, pictures[0]) == 0
    assert "a.png" in capsys.readouterr().out


def test_a_mistake_costs_no_wait(
    head: Path, packed: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = pictures[0].read_bytes()
    text, cut, empty = (tmp_path / name for name in ("text.png", "cut.png", "empty.jpg"))
    text.write_text("no image")
    cut.write_bytes(whole[: len(whole) // 2])
    empty.touch()
    for bad in (text, cut, empty, tmp_path / "none.png", tmp_path):
        # before anything of the run is read
        with monkeypatch.context() as patch:
            patch.setattr(trained_module, "load_trained", lambda *_: pytest.fail("loaded"))
            if bad == tmp_path:
                bad = text
            assert call("predict", head, *pictures, bad) == 2
        error = capsys.readouterr().err
        assert error.startswith("snn-artsy: image: ") and error.count("\n") == 1
        assert bad.name in error
    for words, message in (
        ([head], "image: none given"),
        ([], "run: none given"),
        ([tmp_path / "no", pictures[0]], "run: nothing at"),
        ([head, pictures[0], "--learner", "eas"], "no trained eas"),
        ([packed, pictures[0], "--learner", "eas"], "no trained eas"),
        ([head, pictures[0], "--device", "tpu"], "device: "),
    ):
        # torch, which takes seconds, is loaded with this
        with monkeypatch.context() as patch:
            patch.setattr(trained_module, "load_trained", lambda *_: pytest.fail("loaded"))
            assert call("predict", *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_open_gates_are_named_by_tasks_from_1(head: Path) -> None:
    """As figures name them; the second gate alone is open."""
    run = load_trained(head)
    answers = run["artsy_ann"].predict(np.zeros((1, 8, 8), np.uint8))
    answers = replace(answers, gates=np.array([[False, True]]))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(answers)
    row = next(line for line in console.export_text().splitlines() if "image 0" in line)
    assert row.split()[-2] == "2"
    assert answers.records()[0]["gates"] == {"1": False, "2": True}


def test_a_learner_of_a_run_is_known_without_torch(
    head: Path, packed: Path, tmp_path: Path
) -> None:
    for run in (head, packed):
        require_kept(run, "artsy_snn")
        with pytest.raises(ConfigError, match=r"no trained ease at .* has artsy_ann, artsy_snn, s"):
            require_kept(run, "ease")
    require_kept(tmp_path, "ease")  # no run at all is another's to say
    code = "import sys, snn_artsy.runs.kept; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_read_is_never_written_over(
    head: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also with --overwrite; and a place that cannot be written is found out before anything."""
    monkeypatch.setattr(trained_module, "load_trained", lambda *_: pytest.fail("loaded"))
    for out, message in (
        (pictures[1], "is part of what is read"),
        (head / "summary.json", "is part of what is read"),
        (tmp_path, "directory"),
        (pictures[0] / "a.json", "cannot be written"),
        (tmp_path / ("a" * 300), "cannot be written"),
    ):
        before = out.read_bytes() if out in (pictures[1], head / "summary.json") else None
        assert call("predict", head, *pictures, "--overwrite", "--out", out) == 2
        error = capsys.readouterr().err
        assert error.startswith("snn-artsy: out: ") and message in error, error
        assert error.count("\n") == 1
        assert before is None or out.read_bytes() == before


def test_no_place_is_made_of_an_empty_name_or_of_an_unknown_home(
    head: Path, capsys: pytest.CaptureFixture[str], pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(pictures[0].parent)
    for words in (("", head), ("~no-such-user/a.png", head), (pictures[0], "~no-such-user/run")):
        assert call("predict", words[1], words[0]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# --- packs ----------------------------------------------------------------------------------------


@pytest.fixture
def packed(head: Path, tmp_path: Path) -> Path:
    return pack(head, tmp_path / "mine.zip")


def test_a_pack_answers_the_same_elsewhere(head: Path, packed: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(5).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "elsewhere")
    for place in (packed, tmp_path / "elsewhere" / "mine"):
        there = load_trained(place)
        for name, learner in load_trained(head).items():
            assert there[name].predict(images).records() == learner.predict(images).records()
        folder = there.directory
    assert folder.is_dir()
    kept = load_trained(packed).directory  # of a run that nobody holds any more
    assert not kept.exists()


def test_a_pack_holds_no_images_and_no_places(head: Path, packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
        content = b"".join(archive.read(name) for name in names)
    learners = {f"mine/state/{n}.safetensors" for n in ("simplecil", "artsy_ann", "artsy_snn")}
    assert names == learners | {"mine/config.yaml", "mine/summary.json",
                                "mine/test_images.safetensors"}  # fmt: skip
    assert (
        str(tmp_path.parents[1]).encode() not in content
        and str(Path.home()).encode() not in content
    )
    again = pack(head, tmp_path / "again" / "mine.zip")
    assert again.read_bytes() == packed.read_bytes()


def test_a_pack_replaces_nothing_without_being_told(
    head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.zip"
    out.write_text("mine")
    assert call("pack", head, out) == 2
    assert "exists and was left as it is" in capsys.readouterr().err and out.read_text() == "mine"
    assert call("pack", head, out, "--overwrite") == 0
    assert "mine.zip (0." in capsys.readouterr().out and zipfile.is_zipfile(out)
    for words, message in (
        ([tmp_path, tmp_path / "b.zip"], "no finished run"),
        ([tmp_path / "no", tmp_path / "b.zip"], "no directory"),
        ([head, tmp_path / "b.tar"], "ends in .zip"),
    ):
        assert call("pack", *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "b.zip").exists()


def test_weights_go_with_a_pack(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked of the network then; without them timm asks for the published ones."""
    backbone = {"name": "test_vit", "cache_dir": cache, "checkpoint": None}
    source = FrozenBackbone.build(
        configured({"backbone": backbone | {"pretrained": False}}).backbone, "cpu"
    )
    torch.save(source.vit.state_dict(), tmp_path / "weights.pth")
    backbone["checkpoint"] = str(tmp_path / "weights.pth")
    values = {**SMALL, "learners": ["simplecil"], "backbone": backbone,
              "data": {**SMALL["data"], "train_per_class": 3, "test_per_class": 1}}  # fmt: skip
    directory = execute(configured(values, {"out": str(tmp_path / "run")})).directory
    images = np.zeros((1, 8, 8), np.uint8)
    expected = load_trained(directory)["simplecil"].predict(images).records()
    light = pack(directory, tmp_path / "light.zip")
    heavy = pack(directory, tmp_path / "heavy.zip", with_weights=True)
    (tmp_path / "weights.pth").rename(tmp_path / "moved.pth")
    asked: list[object] = []

    def unreachable(*what: object, **_: object) -> None:
        asked.append(what[:2])
        raise OSError("the network is off")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the hub's client tries again for a while
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert load_trained(heavy)["simplecil"].predict(images).records() == expected
    moved = load_trained(light, weights=tmp_path / "moved.pth")
    assert moved["simplecil"].predict(images).records() == expected
    assert asked == []
    with pytest.raises(ConfigError, match=r"backbone\.name: cannot get published weights"):
        load_trained(light)["simplecil"]
    assert asked
    with pytest.raises(ConfigError, match=r"backbone\.checkpoint: no file"):
        load_trained(directory)["simplecil"]


def changed(packed: Path, **members: bytes | None) -> Path:
    """A pack with other members; of None, without one."""
    out = packed.with_name("changed.zip")
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            if name not in members:
                target.writestr(name, source.read(name))
        for name, content in members.items():
            if content is not None:
                target.writestr(name, content)
    return out


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "mine/../../evil.py", "/evil.py", "mine/state/../../evil.safetensors",
     "mine\\config.yaml", "mine/evil.py", "mine/state/evil.pkl", "other/config.yaml",
     "C:/config.yaml"],
)  # fmt: skip
def test_a_pack_puts_nothing_elsewhere(packed: Path, tmp_path: Path, name: str) -> None:
    before = {path for path in tmp_path.rglob("*")}
    with pytest.raises(ConfigError, match=r"^run: .* which no pack of a run does") as error:
        load_trained(changed(packed, **{name: b"evil"}))
    assert "\n" not in str(error.value)
    assert {path for path in tmp_path.rglob("*")} == before | {tmp_path / "changed.zip"}


def test_a_damaged_pack_is_refused(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pictures: list[Path]
) -> None:
    whole = packed.read_bytes()
    for damage in (whole[:-100], whole[:40] + b"?" * 40 + whole[80:], b"no zip at all", b""):
        (tmp_path / "damaged.zip").write_bytes(damage)
        assert call("predict", tmp_path / "damaged.zip", pictures[0]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "damaged" in error, error
    state = "mine/state/simplecil.safetensors"
    for member, content, message in (
        ("mine/config.yaml", None, "has no config.yaml"),
        (state, b"other", "damaged"),
        (state, None, "no trained simplecil"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_trained(changed(packed, **{member: content}))["simplecil"]


def test_damage_in_streams_of_every_method(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as source:
        text = source.read("mine/config.yaml")
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(file, "w", method) as target:
            target.writestr("mine/config.yaml", text)
        whole = bytearray(file.read_bytes())
        whole[80:90] = b"\xff" * 10
        file.write_bytes(whole)
        with pytest.raises(ConfigError, match=r"^run: .* is no pack of a run, or damaged"):
            load_trained(file)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("class_order", [0], "4 classes, and 1 names"),
        ("class_order", [*range(9)], "4 classes, and 9 names"),
        ("threads", 10**9, "run: 1000000000 cannot be used"),
        ("threads", -1, "run: -1 cannot be used"),
    ],
)
def test_a_summary_that_does_not_fit(head: Path, tmp_path: Path, key: str, value: Any,
                                     message: str) -> None:  # fmt: skip
    directory = shutil.copytree(head, tmp_path / "run")
    summary = json.loads((directory / "summary.json").read_text())
    (directory / "summary.json").write_text(json.dumps(summary | {key: value}))
    with pytest.raises(ConfigError, match=message):
        load_trained(directory)["simplecil"]


def test_damaged_test_images_are_named(head: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(head, tmp_path / "run")
    (directory / "test_images.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigError, match=r'^run: "[^"]*test_images.safetensors" is damaged'):
        load_trained(directory)["simplecil"]


def test_a_pack_that_would_fill_the_disk(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(packed.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigError, match="needs more room"):
        load_trained(packed)


def test_a_run_as_a_nir_graph(head: Path, tmp_path: Path) -> None:
    """Its network is that of the layers; each neuron says which class it votes for."""
    nir = pytest.importorskip("nir")
    from snn_artsy.export import written
    from snn_artsy.runs.to_nir import write_nir
    from snn_artsy.synapses.nir_graph import nir_graph

    with sa.open_run(head) as run:
        path = written(run, write_nir, "run.nir", tmp_path / "run.nir")
    found, trained = nir.read(path), load_trained(head)
    expected = nir_graph(trained["artsy_snn"].learner.layers)  # type: ignore[attr-defined]
    assert np.array_equal(found.nodes["contacts"].weight, expected.nodes["contacts"].weight)
    about = found.nodes["neurons"].metadata
    assert about["class"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert about["class_names"].split("\n") == list(trained.class_names)
