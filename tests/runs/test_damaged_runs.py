"""Going on with a run: what is refused, what is damaged and computed again, and that recovery never
removes anything."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
import yaml
from cut_runs import Cut, assert_same_run, cut_after, quick_run
from rich.console import Console
from safetensors.torch import save_file

import snn_artsy.runs.checkpointer
from snn_artsy import cli
from snn_artsy.backbone import FrozenBackbone
from snn_artsy.config import ConfigError, DataConfig, RecordConfig, RunConfig
from snn_artsy.recording import RecordingError, RunRecorder, open_run
from snn_artsy.recording.lock import WriterLock
from snn_artsy.runs import checkpoint, facts
from snn_artsy.runs import directory as rundir
from snn_artsy.runs import features as frozen
from snn_artsy.runs.run import execute, resume
from snn_artsy.runs.trained import load_trained


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    quick = quick_run(tmp_path_factory.mktemp("features"))
    return replace(quick, learners=["simplecil", "artsy_ann_e0"])


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    execute(replace(config, out=str(directory)))
    return directory


@pytest.fixture(autouse=True)
def _checkpoints_at_every_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snn_artsy.runs.checkpointer, "CHECKPOINT_SHARE", math.inf)


@pytest.fixture(scope="module")
def died(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died in its second learner."""
    out = tmp_path_factory.mktemp("runs") / "cut"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snn_artsy.runs.checkpointer, "CHECKPOINT_SHARE", math.inf)
        assert cut_after(8, patch, lambda: execute(replace(config, out=str(out))), "save")
    return out


@pytest.fixture
def cut(died: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(died, tmp_path / "cut")


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }


def flip(path: Path, at: float = 0.5) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def edit_config(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = directory / "config.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(values)
    file.write_text(yaml.safe_dump(values), encoding="utf-8")


def assert_refused(directory: Path, match: str) -> None:
    """In one line, and everything stays as it was."""
    before = contents(directory)
    with pytest.raises(ConfigError, match=match):
        resume(directory)
    assert contents(directory) == before


def said_by(action: Callable[[Console], Any]) -> str:
    console = Console(record=True, quiet=False, width=500)
    action(console)
    return console.export_text()


# --- what a run began with ------------------------------------------------------------------------


def test_a_finished_run_is_left_alone(config: RunConfig, whole: Path) -> None:
    assert_refused(whole, "complete, there is nothing to resume")
    before = contents(whole)
    with pytest.raises(ConfigError, match="holds a finished run"):
        execute(replace(config, out=str(whole)))
    assert contents(whole) == before


def test_the_same_command_goes_on(config: RunConfig, cut: Path, whole: Path) -> None:
    execute(replace(config, out=str(cut)))
    assert_same_run(cut, whole)


def test_another_command_is_refused(config: RunConfig, cut: Path) -> None:
    before = contents(cut)
    with pytest.raises(ConfigError, match="begun otherwise: seed was 1993 and is 4"):
        execute(replace(config, out=str(cut), seed=4))
    assert contents(cut) == before


def test_another_configuration_is_refused(cut: Path) -> None:
    edit_config(cut, lambda v: v.update(seed=4) or v["snn"]["teacher"].update(current=2.0))
    assert_refused(cut, r"seed was 1993 and is 4; snn\.teacher\.current was 1\.5 and is 2\.0")


def test_what_cannot_change_a_number_may_change(cut: Path, whole: Path, tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["backbone"].update(workers=1, cache_dir=str(tmp_path / "elsewhere"))
        values["learners"].reverse()
        values["threads"] = 2

    edit_config(cut, change)
    resume(cut)
    assert_same_run(cut, whole)
    summary = json.loads((cut / "summary.json").read_text(encoding="utf-8"))
    with open_run(cut) as run:
        assert yaml.safe_load(run.config) == summary["config"]
        assert run.attributes["threads"] == summary["threads"] == 1
    assert torch.get_num_threads() == 1


@pytest.fixture
def unrecorded(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that died before its first checkpoint."""

    def die(*_: object, **__: object) -> None:
        raise Cut

    out = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr("snn_artsy.runs.run.run_learner", die)
        with pytest.raises(Cut):
            execute(replace(config, out=str(out)))
    assert not (out / "checkpoint").exists()
    return out


def test_killed_before_the_first_checkpoint(unrecorded: Path, whole: Path) -> None:
    (unrecorded / "config.yaml").unlink()
    resume(unrecorded)
    (whole / "config.yaml").rename(whole / "config.yaml.away")
    shutil.copy(whole / "config.yaml.away", unrecorded / "config.yaml")
    (whole / "config.yaml.away").rename(whole / "config.yaml")
    assert_same_run(unrecorded, whole)


def test_edited_before_the_first_checkpoint(unrecorded: Path) -> None:
    edit_config(unrecorded, lambda v: v.update(seed=4))
    assert_refused(unrecorded, "not what the run began with: seed was 1993 and is 4")


def test_other_images_are_refused(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = frozen.load_source

    def changed(config: DataConfig) -> Any:
        source: Any = real(config)
        source.test.images[0, 0, 0] ^= 1
        return source

    monkeypatch.setattr(frozen, "load_source", changed)
    assert_refused(cut, "the test images changed; give")


def test_other_weights_are_refused(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrozenBackbone, "weights_sha256", lambda _: "0" * 64)
    assert_refused(cut, "the backbone's weights changed")


def test_other_versions_are_refused_before_features_are_made(
    cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = facts.provenance

    def other(threads: int) -> dict[str, Any]:
        found = real(threads)
        return found | {"versions": found["versions"] | {"torch": "0.1"}}

    monkeypatch.setattr(facts, "provenance", other)
    monkeypatch.setattr("snn_artsy.runs.run.prepare", lambda *_: pytest.fail("features were made"))
    assert_refused(cut, r"torch was '[^']+' and is '0\.1'")


def test_what_fails_for_now_changes_nothing(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ConfigError("record", "the run needs about 1 TB")

    def unmounted(*_: object) -> None:
        raise ConfigError("data.root", "no folder")

    for target, failure in (("run.check_disk", full), ("features.load_source", unmounted)):
        with monkeypatch.context() as patch:
            patch.setattr(f"snn_artsy.runs.{target}", failure)
            assert_refused(cut, "record: the run|data.root: no")


# --- damage ---------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_costs_one_learner(cut: Path, whole: Path) -> None:
    flip(cut / "checkpoint" / "run.safetensors")
    said = said_by(lambda console: resume(cut, console))
    assert "checkpoint/run.safetensors: damaged" in said and "computed again" in said
    assert_same_run(cut, whole)


@pytest.mark.parametrize("at", [0.0, 0.02, 1.0])
def test_both_checkpoints_damaged(cut: Path, whole: Path, at: float) -> None:
    for name in ("run", "settled"):
        flip(cut / "checkpoint" / f"{name}.safetensors", at)
    said = said_by(lambda console: resume(cut, console))
    assert said.count("computed again") == 2
    assert_same_run(cut, whole)


@pytest.mark.parametrize("what", ["flipped", "missing", "another's"])
def test_damaged_answers(cut: Path, whole: Path, what: str) -> None:
    first, second = (cut / "checkpoint/answers" / f"artsy_ann_e0-{k}.safetensors" for k in (0, 1))
    if what == "flipped":
        flip(first, 0.9)
    elif what == "missing":
        first.unlink()
    else:
        shutil.copy(second, first)
    said = said_by(lambda console: resume(cut, console))
    assert "artsy_ann_e0-0.safetensors" in said
    assert_same_run(cut, whole)


def test_a_damaged_run_file_is_refused(cut: Path) -> None:
    flip(cut / "run.h5", 0.99)
    assert_refused(cut, r"run\.h5: damaged, its checksum is not that of run\.h5\.sha256.* anew in")


def test_a_damaged_segment_that_is_not_needed(cut: Path, whole: Path) -> None:
    """Rows told after the checkpoint are dropped anyway."""
    segments = cut / "segments"
    segments.mkdir(exist_ok=True)
    with h5py.File(cut / "run.h5") as file:
        number = int(file.attrs["merged_segments"]) + 1
    (segments / f"{number:04d}.h5").write_bytes(b"damaged")
    (segments / f"{number:04d}.h5.sha256").write_text("0" * 64)
    resume(cut)
    assert_same_run(cut, whole)


def test_a_run_file_with_less_than_the_checkpoint(cut: Path, whole: Path) -> None:
    kept = checkpoint.load(cut)[0][0]
    kept.recorded["/stimulus/start_ms"] = 10**6
    checkpoint.save(cut, kept)
    said = said_by(lambda console: resume(cut, console))
    assert "/stimulus/start_ms holds less" in said
    assert_same_run(cut, whole)


def _edit(directory: Path, **changes: Any) -> None:
    """Another header, with the right checksum."""
    path = directory / "checkpoint" / "run.safetensors"
    state, header = checkpoint.read_tensors(path)
    header |= changes
    del header["sha256"]
    checkpoint.write_tensors(path, state, header)


def _with(directory: Path, **changes: Any) -> str:
    _, header = checkpoint.read_tensors(directory / "checkpoint" / "run.safetensors")
    return json.dumps(json.loads(header["run"]) | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "9"}, "has version 9, this program reads 3"),
        ({"version": "2"}, "has version 2, this program reads 3"),
        ({"format": "something"}, "not a checkpoint"),
        ({"run": "{"}, "does not hold what"),
        ({"run": "[]"}, "does not hold what"),
        ({"run": '{"more": 1}'}, "does not hold what"),
    ],
)
def test_other_checkpoints_are_refused(cut: Path, changes: dict[str, str], message: str) -> None:
    _edit(cut, **changes)
    assert_refused(cut, rf"^checkpoint: .*run\.safetensors.*{message}")


@pytest.mark.parametrize(
    "changes",
    [
        {"recorded": {"/stimulus/start_ms": "many"}},
        {"recorded": {"/stimulus/start_ms": -1}},
        {"recorded": [1]},
        {"finished": {"simplecil": 3}},
        {"controls": {"none": []}},
        {"states": {"simplecil": 3}},
        {"failed": {"simplecil": 3}},
        {"learner": 3},
        {"step": 1.5},
        {"step": 5},
        {"answers": {"a": "b"}},
        {"seconds": "long"},
        {"facts": {}},
        {"facts": 3},
        {"more": 1},
    ],
)
def test_fields_of_other_types_are_refused(cut: Path, changes: dict[str, Any]) -> None:
    _edit(cut, run=_with(cut, **changes))
    assert_refused(cut, r"^checkpoint: .*run\.safetensors.* does not hold what")


def test_a_checkpoint_of_another_run_is_refused(cut: Path) -> None:
    kept = checkpoint.load(cut)[0][0]
    checkpoint.save(cut, replace(kept, facts=replace(kept.facts, backbone_sha256="0")))
    assert_refused(cut, "is of another run")


def test_another_learners_state_is_refused(cut: Path) -> None:
    kept = checkpoint.load(cut)[0][0]
    del kept.state["torch_rng"]
    checkpoint.save(cut, kept)
    with pytest.raises(ConfigError, match="does not fit artsy_ann_e0"):
        resume(cut)


def test_tensors_of_an_older_release_are_read_without_a_checksum(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "old.safetensors")
    tensors, header = checkpoint.read_tensors(tmp_path / "old.safetensors")
    assert torch.equal(tensors["a"], torch.ones(2)) and header["sha256"] == ""


def test_every_flipped_bit_of_tensors_shows(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(3.0), "b": torch.tensor(True), "c": torch.empty(0)}
    checkpoint.write_tensors(path, tensors, {"x": "y"})
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found, header = checkpoint.read_tensors(path)
        except RecordingError:
            continue
        # spaces that pad the header, or a header without a checksum, which `checkpoint` refuses
        assert header["sha256"] == "" or all(torch.equal(found[k], v) for k, v in tensors.items())


@pytest.mark.parametrize(
    "text", ["{", "a: [", "[]", "3", "seed: yes", "\x00", "more: 1"], ids=range(7)
)
def test_a_broken_config_file_is_named(cut: Path, text: str) -> None:
    (cut / "config.yaml").write_text(text, encoding="utf-8")
    assert_refused(cut, r"config\.yaml|seed: |more: ")


@pytest.mark.parametrize(
    ("name", "value"), [("images", 3), ("versions", "["), ("threads", "many"), ("config", "a: [")]
)
def test_attributes_of_other_types_are_named(cut: Path, name: str, value: Any) -> None:
    with h5py.File(cut / "run.h5", "r+") as file:
        file.attrs[name] = value
    (cut / "run.h5.sha256").unlink()
    assert_refused(cut, r"run\.h5")


# --- one at a time --------------------------------------------------------------------------------


def test_a_run_under_way_is_left_alone(config: RunConfig, cut: Path) -> None:
    """The lock comes before anything is read."""
    with WriterLock(cut):
        (cut / "config.yaml").write_text("{", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"^run: .*still being written"):
            resume(cut)
        with pytest.raises(ConfigError, match=r"^out: .*still being written"):
            execute(replace(config, out=str(cut)))
        with pytest.raises(RecordingError, match="another process is writing"):
            RunRecorder(cut, "", {}, RecordConfig(), recorded={})


def test_the_lock_is_held_until_the_end(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, held = tmp_path / "run", []

    def refused(*_: Any, **__: Any) -> None:
        with pytest.raises(RecordingError):
            WriterLock(out)
        held.append(True)

    monkeypatch.setattr("snn_artsy.runs.run._draw", refused)
    execute(replace(config, learners=["simplecil"], out=str(out)))
    assert held and not (out / "writer.lock").exists()
    WriterLock(out).release()


def test_a_lock_file_that_its_owner_removed_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened by another process just before, locked by it just after."""
    fcntl = pytest.importorskip("fcntl")
    first = WriterLock(tmp_path)
    real = fcntl.flock

    def late(*arguments: Any) -> None:
        monkeypatch.undo()
        first.release()
        real(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    second = WriterLock(tmp_path)
    assert (tmp_path / "writer.lock").exists()
    monkeypatch.undo()
    with pytest.raises(RecordingError):
        WriterLock(tmp_path)
    second.release()


def test_runs_of_the_same_second_get_a_directory_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: rundir.claim(None, "digits"), range(100)))
    assert len({directory for directory, _ in found}) == 100
    assert all(made for _, made in found)


@pytest.mark.parametrize("label", ["../../../x", "a/b", "x" * 5000, "", "a b\n"])
def test_a_label_never_leaves_runs(
    label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory, made = rundir.claim(None, label)
    assert made and directory.parent == Path("runs") and directory.is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("out", [None, "new/deep", "there/deep"])
def test_a_refused_run_leaves_no_directory(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    config = RunConfig(data=DataConfig(name="imagefolder", root="nowhere"), out=out)
    with pytest.raises(ConfigError, match=r"^data\.root: "):
        execute(config)
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["there"]


@pytest.mark.parametrize("out", ["x" * 5000, "a\0b", "file/below"])
def test_places_that_cannot_be_made(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^out: "):
        rundir.claim(str(tmp_path / out), "x")


# --- before anything is recorded ------------------------------------------------------------------


def test_a_failure_before_the_recording_leaves_nothing(tmp_path: Path) -> None:
    wrong = RunConfig(data=DataConfig(name="imagefolder", root=str(tmp_path / "no")))
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        with pytest.raises(ConfigError, match=r"data\.root"):
            execute(replace(wrong, out=str(tmp_path / name)))
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"]  # the user's own


@pytest.fixture
def begun(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed while features were made."""

    def die(*_: object) -> None:
        raise Cut

    out = tmp_path / "begun"
    with monkeypatch.context() as patch:
        patch.setattr("snn_artsy.runs.run.prepare", die)
        with pytest.raises(Cut):
            execute(replace(config, out=str(out)))
    assert list(contents(out)) == ["config.yaml"]
    (out / "writer.lock").touch()
    (out / "segments").mkdir()
    (out / "run.h5.sha256").write_text("x")
    (out / "run.h5.part").write_text("x")
    return out


def test_killed_before_anything_was_written(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    for name in ("writer.lock", "config.yaml.part"):
        (tmp_path / name).touch()
    rundir.check_out(str(tmp_path))
    execute(replace(config, out=str(tmp_path)))
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_killed_before_the_recording(
    begun: Path, whole: Path, config: RunConfig, command: str
) -> None:
    if command == "run":
        execute(replace(config, out=str(begun)))
    else:
        resume(begun)
    assert_same_run(begun, whole)


def test_begun_otherwise(begun: Path, config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="seed was 1993 and is 4"):
        execute(replace(config, out=str(begun), seed=4))
    assert (begun / "config.yaml").is_file()


def test_a_failure_of_resume_before_the_recording_leaves_the_configuration(begun: Path) -> None:
    edit_config(begun, lambda v: v["data"].update(name="imagefolder", root=str(begun / "no")))
    with pytest.raises(ConfigError, match=r"data\.root"):
        resume(begun)
    assert (begun / "config.yaml").is_file()


def test_leftovers_go_and_what_is_not_ours_stays(cut: Path, whole: Path) -> None:
    ours = ["run.h5.part", "config.yaml.part", "checkpoint/run.safetensors.part",
            "checkpoint/answers/simplecil-0.safetensors.part", "summary.json.part"]  # fmt: skip
    for name in [*ours, "notes.part"]:
        (cut / name).write_text("x")
    resume(cut)
    assert [p.name for p in cut.rglob("*.part")] == ["notes.part"]
    (cut / "notes.part").unlink()
    assert_same_run(cut, whole)


def test_files_of_others_are_no_run(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="already holds other files"):
        execute(replace(config, out=str(tmp_path)))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    for action in (lambda: execute(replace(config, out=str(tmp_path))), lambda: resume(tmp_path)):
        with pytest.raises(ConfigError, match="no run that was begun"):
            action()
    assert sorted(contents(tmp_path)) == ["config.yaml", "notes.txt"]


# --- what was learnt ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spiking(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = str(tmp_path_factory.mktemp("spiking") / "run")
    return execute(replace(config, learners=["artsy_snn"], out=out)).directory


def test_what_was_learnt_is_checked_before_it_is_used(spiking: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(spiking, tmp_path / "run")
    load_trained(directory)["artsy_snn"]
    state = directory / "state" / "artsy_snn.safetensors"
    kept = state.read_bytes()
    flip(state)
    with pytest.raises(ConfigError, match=r"artsy_snn\.safetensors: damaged"):
        load_trained(directory)["artsy_snn"]
    state.write_bytes(kept)
    tensors, _ = checkpoint.read_tensors(state)
    checkpoint.write_tensors(state, {k: v + 1 for k, v in tensors.items() if v.is_floating_point()})
    with pytest.raises(ConfigError, match="not what the run in"):
        load_trained(directory)["artsy_snn"]
    state.write_bytes(kept)
    edit_config(directory, lambda v: v["snn"]["teacher"].update(current=2.0))
    with pytest.raises(ConfigError, match=r"snn\.teacher\.current was 1\.5 and is 2\.0"):
        load_trained(directory)["artsy_snn"]
    edit_config(directory, lambda v: v["snn"]["teacher"].update(current=1.5))
    for text in ("{", "[]", "{}", "[" * 10_000):
        (directory / "summary.json").write_text(text)
        with pytest.raises(ConfigError, match=r"summary\.json"):
            load_trained(directory)["artsy_snn"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "scaling.mean"}, "scaling.mean"),
        (lambda s: {f"x{k}": v for k, v in s.items()}, "scaling.mean"),
        (lambda s: {k: v for k, v in s.items() if k != "recall.1"}, ""),
        (lambda s: s | {"recall.9": s["recall.0"]}, "recall.9 differs"),
        (lambda s: s | {"layers.0.ampa": s["layers.0.ampa"][:, 1:]}, "ampa"),
        (lambda s: s | {"layers.0.ampa": s["layers.0.ampa"].new_tensor(1.0)}, ""),
        (lambda s: s | {"scaling.mean": s["scaling.mean"][1:]}, ""),
        (lambda s: s | {"recall.0": s["recall.0"] * torch.nan}, "NaN"),
        (lambda s: {"prototypes": torch.zeros(10, 3)}, "scaling.mean"),
    ],
    ids=["no mean", "other names", "fewer", "more", "narrower", "number", "other dim", "NaN",
         "another learner"],
)  # fmt: skip
def test_a_state_that_fits_no_learner_is_named(
    change: Any, words: str, spiking: Path, tmp_path: Path
) -> None:
    """Whole, and listed as this run's own, but of something else."""
    directory = tmp_path / "run"
    shutil.copytree(spiking, directory)
    state = directory / "state" / "artsy_snn.safetensors"
    tensors, _ = checkpoint.read_tensors(state)
    digest = checkpoint.write_tensors(state, change(dict(tensors)))
    summary = json.loads((directory / "summary.json").read_text())
    summary["states"]["artsy_snn"] = digest
    (directory / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(
        ConfigError, match=rf'^run: ".*artsy_snn\.safetensors" does not fit .*{words}'
    ) as error:
        load_trained(directory)["artsy_snn"]
    assert "\n" not in str(error.value) and "run it anew" in str(error.value)


def test_a_state_that_is_missing_is_named(spiking: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(spiking, directory)
    (directory / "state" / "artsy_snn.safetensors").unlink()
    with pytest.raises(ConfigError, match="no trained artsy_snn"):
        load_trained(directory)["artsy_snn"]


# --- the command ----------------------------------------------------------------------------------


def test_the_command(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call("resume", str(cut)) == 0
    assert "A_last" in capsys.readouterr().out
    for arguments, text in (
        ([str(cut)], "nothing to resume"),
        ([str(cut / "no")], "no directory"),
        ([], "none given"),
        ([str(cut / "state")], "no run.h5 there"),
    ):
        assert _call("resume", *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("snn-artsy: run: ") and text in error and error.count("\n") == 1


def _call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert isinstance(raised.value.code, int)
    return raised.value.code
