"""Runs that are cut off and go on: the same numbers as if nothing had happened."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
import types
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from synthetic_features import DIM, gaussian_stream

import snn_artsy.keeper
import snn_artsy.run
from snn_artsy import checkpoint, cli
from snn_artsy.config import (
    LEARNERS,
    ANNConfig,
    BackboneConfig,
    ConfigError,
    ContactConfig,
    DataConfig,
    EncodingConfig,
    FinetuneConfig,
    GateConfig,
    PlasticityConfig,
    RanPACConfig,
    RecordConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import LEARNER_BUILDERS, Setting
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Learner
from snn_artsy.recording import RecordingError, RunRecorder, open_run
from snn_artsy.run import execute, resume

TIMING = {"seconds", "seconds_learning", "inference_ms_per_image"}
STREAM = gaussian_stream()

# --- learners -------------------------------------------------------------------------------------


def small(**changes: Any) -> RunConfig:
    config = RunConfig(
        seed=3,
        ann=ANNConfig(epochs=2, bottleneck=4),
        finetune=FinetuneConfig(epochs=2),
        ranpac=RanPACConfig(projection=50),
        artsy_ridge=RidgeGateConfig(projection=50),
        snn=SNNConfig(
            encoding=EncodingConfig(decorrelation="standardise"),
            contacts=ContactConfig(probability=0.8),
            plasticity=PlasticityConfig(epochs=3, batch_size=16),
        ),
    )
    return replace(config, **changes)


def built(name: str, config: RunConfig) -> Learner:
    return LEARNER_BUILDERS[name](Setting(config, DIM, "cpu"))


def through_a_file(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    checkpoint.write_tensors(path, state)
    return load_file(path)


def assert_same_learner(a: Learner, b: Learner) -> None:
    """Bit for bit: answers, what is kept, and what would be drawn next."""
    first, second = a.predict(STREAM.test), b.predict(STREAM.test)
    for name in ("scores", "gate_scores", "gates", "spike_scores"):
        x, y = getattr(first, name), getattr(second, name)
        assert (x is None) == (y is None)
        assert x is None or torch.equal(x, y), name
    kept, other = a.checkpoint(), b.checkpoint()
    assert kept.keys() == other.keys()
    for name in kept:
        assert torch.equal(kept[name], other[name]) or kept[name].isnan().all(), name
    assert repr(a.report()) == repr(b.report())


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_goes_on_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    """After task 1 of 3 another object takes over, through a file; the global generator is not
    what it relies on."""
    config = small()
    whole, first = built(name, config), built(name, config)
    for task in STREAM.tasks:
        whole.learn(task)
    for task in STREAM.tasks[:2]:
        first.learn(task)
    state = through_a_file(first.checkpoint(), tmp_path / "state.safetensors")
    torch.manual_seed(99)
    second = built(name, config)
    second.restore(state, STREAM.tasks[:2])
    second.learn(STREAM.tasks[2])
    assert_same_learner(whole, second)


@pytest.mark.parametrize("replay", ["none", "exemplars"])
@pytest.mark.parametrize("name", ["artsy_ann", "artsy_snn"])
def test_other_replays_go_on(name: str, replay: Any, tmp_path: Path) -> None:
    config = small(gate=GateConfig(replay=replay, exemplars_per_class=3))
    whole, first, second = (built(name, config) for _ in range(3))
    for task in STREAM.tasks:
        whole.learn(task)
    first.learn(STREAM.tasks[0])
    second.restore(through_a_file(first.checkpoint(), tmp_path / "s.safetensors"), STREAM.tasks[:1])
    for task in STREAM.tasks[1:]:
        second.learn(task)
    assert_same_learner(whole, second)


@pytest.mark.parametrize(
    "changes",
    [{}, {"mode": "gate"}, {"plastic_old": True}, {"plasticity": PlasticityConfig(
        epochs=3, batch_size=16, update="step", rule="pair")}],
    ids=["full", "gate", "plastic_old", "step"],
)  # fmt: skip
@pytest.mark.parametrize("task_cut", [0, 2])
def test_the_spiking_learner_goes_on_between_epochs(
    changes: dict[str, Any], task_cut: int, tmp_path: Path
) -> None:
    config = small()
    config = replace(config, snn=replace(config.snn, **changes))
    whole, second = built("artsy_snn", config), built("artsy_snn", config)
    kept: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
    assert isinstance(whole, ArtsySNN)
    for task in STREAM.tasks:
        whole.after_epoch = lambda t=task.number: kept.update(  # type: ignore[misc]
            {(t, whole.epoch): {k: v.clone() for k, v in whole.checkpoint().items()}}
        )
        whole.learn(task)
    assert sorted(kept) == [(t, epoch) for t in range(3) for epoch in (1, 2, 3)]
    state = through_a_file(kept[task_cut, 2], tmp_path / "state.safetensors")
    second.restore(state, STREAM.tasks[:task_cut])
    for task in STREAM.tasks[task_cut:]:
        second.learn(task)
    assert_same_learner(whole, second)


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run of about two seconds."""
    torch.set_num_threads(1)
    return RunConfig(
        data=DataConfig(train_per_class=16, test_per_class=5, n_tasks=5),
        backbone=BackboneConfig(cache_dir=str(tmp_path_factory.mktemp("features"))),
        ann=ANNConfig(epochs=3),
        snn=SNNConfig(plasticity=PlasticityConfig(epochs=2)),
        record=RecordConfig(spike_presentations=2, traced_synapses=4),
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    execute(replace(config, out=str(directory)))
    return directory


def datasets(directory: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Everything in run.h5, by path."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(directory / "run.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def assert_same_run(directory: Path, whole: Path) -> None:
    """Final numbers, synaptic states, spikes, conversions and what was learnt, bit for bit."""
    ours, theirs = datasets(directory), datasets(whole)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    with open_run(directory) as run, open_run(whole) as other:
        assert run.status == "complete" == other.status
        for population in other.populations:  # order and SONATA's sorting attribute
            assert (
                run._files[0][f"spikes/{population}"].attrs["sorting"]
                == other._files[0][f"spikes/{population}"].attrs["sorting"]
            )
    a, b = (
        json.loads((d / "summary.json").read_text(encoding="utf-8"))["learners"]
        for d in (directory, whole)
    )
    assert a.keys() == b.keys()
    for name, measures in b.items():
        for key, value in measures.items():
            assert key in TIMING or a[name][key] == value, (name, key)
    for file in (whole / "state").iterdir():
        assert (directory / "state" / file.name).read_bytes() == file.read_bytes()
    left = {p.name for p in directory.iterdir()}
    assert left == {"run.h5", "run.h5.sha256", "config.yaml", "summary.json", "state", "figures"}


@pytest.fixture(autouse=True)
def _checkpoints_at_every_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snn_artsy.keeper, "CHECKPOINT_SHARE", math.inf)


def test_checkpoints_take_a_bounded_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk where a checkpoint takes ten times as long as a task."""
    clock, saved = 0.0, 0

    def barrier() -> None:
        nonlocal clock, saved
        clock, saved = clock + 10.0, saved + 1

    recorder: Any = types.SimpleNamespace(barrier=barrier, recorded={})
    keeper = snn_artsy.keeper.Keeper(tmp_path, recorder, checkpoint.Checkpoint({}, {}), "cpu")
    monkeypatch.setattr(snn_artsy.keeper, "time", types.SimpleNamespace(perf_counter=lambda: clock))
    monkeypatch.setattr(snn_artsy.keeper, "CHECKPOINT_SHARE", 0.05)
    keeper.kept.begin("simplecil")
    for _ in range(1000):
        clock += 1.0
        keeper.learnt(built("simplecil", small()), clock, clock, None)
    assert 5 <= saved <= 6  # 190 s between two of them


class Cut(BaseException):
    """The process dies here."""


def cut_after(
    n: int, monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any], target: str
) -> bool:
    """Have ``action`` die just after the n-th call of a function of `checkpoint`; False if it ended
    before."""
    calls = 0
    real = getattr(checkpoint, target)

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        result = real(*arguments)
        calls += 1
        if calls == n:
            raise Cut
        return result

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, target, counted)
        try:
            action()
        except Cut:
            return True
    return False


def test_a_run_goes_on_from_any_checkpoint(
    config: RunConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut again and again, each time further on: each checkpoint is gone on from once."""
    out = tmp_path / "cut"
    first = lambda: execute(replace(config, out=str(out)))  # noqa: E731
    assert cut_after(3, monkeypatch, first, "save")
    n_cuts = 1
    for step in (4, 6, 3, 5, 2):
        with open_run(out) as run:
            assert run.status == "interrupted"
        n_cuts += cut_after(step, monkeypatch, lambda: resume(out), "save")
    with open_run(out) as run:
        assert run.attributes["resumed"] == n_cuts - 1
    resume(out)
    assert n_cuts == 6
    assert_same_run(out, whole)


def test_what_was_told_after_the_checkpoint_is_not_there_twice(
    config: RunConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the answers of a step, already in run.h5, and their checkpoint."""
    out = tmp_path / "cut"
    assert cut_after(
        12, monkeypatch, lambda: execute(replace(config, out=str(out))), "save_answers"
    )
    with open_run(out) as run:
        assert run.steps("artsy_snn") == (0, 1)
    resume(out)
    assert_same_run(out, whole)


def _work(arguments: list[str], log: Path, largest_file: int | None = None) -> None:
    """The command in a process of its own; what it says goes to ``log``."""
    torch.set_num_threads(1)
    snn_artsy.keeper.CHECKPOINT_SHARE = math.inf  # one after every task and epoch
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    with log.open("w") as stream:
        sys.stdout = sys.stderr = stream
        cli.main(arguments)


def _process(config: RunConfig, out: Path, largest_file: int | None = None) -> tuple[Any, Path]:
    """`run`, or `resume` if there is something to resume, not yet started; and its log."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snn_artsy.run", "snn_artsy.plots"])
    file, log = out.with_suffix(".yaml"), out.with_suffix(".log")
    file.write_text(yaml.safe_dump(asdict(replace(config, out=str(out)))), encoding="utf-8")
    begun = (out / "run.h5").exists()
    arguments = ["resume", str(out)] if begun else ["run", "--config", str(file)]
    return context.Process(target=_work, args=(arguments, log, largest_file)), log


def kill_and_go_on(config: RunConfig, whole: Path, out: Path, kills: int, seed: int) -> int:
    """Run in processes of their own, each ended at a random moment, then to the end in this one.

    A moment is a number of checkpoints away, so that a slow machine does not matter, and a random
    time after that.

    Returns:
        How many processes were ended while they ran.
    """
    rng = random.Random(seed)
    hits = 0
    for _ in range(kills):
        process, log = _process(config, out)
        process.start()
        n = rng.randrange(28 // kills)
        _wait_for_checkpoints(out, n, process)
        time.sleep(rng.uniform(0, 0.3))
        assert process.exitcode in (None, 0), log.read_text(encoding="utf-8")
        hits += process.exitcode is None
        number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        os.kill(process.pid, number if n and process.is_alive() else signal.SIGKILL)
        process.join()
        if process.exitcode in (130, 143):
            said = log.read_text(encoding="utf-8")
            assert f"`snn-artsy resume {out}` goes on from there" in said, said
            with h5py.File(out / "run.h5") as file:
                assert file.attrs["status"] in ("interrupted", "complete")
            assert "Traceback" not in said, said
            assert list(out.rglob("*.part")) == []
        if not (out / "run.h5").exists():
            shutil.rmtree(out, ignore_errors=True)  # it had not begun to record
            continue
        with open_run(out) as run:
            assert run.status in ("interrupted", "complete")
            for task in run.synapse_tasks:
                run.events(task)  # columns of one length, or it raises
            assert run.stimulus is not None
        if not (out / "checkpoint").exists() and run.status == "complete":
            break
    if not (out / "run.h5").exists():
        execute(replace(config, out=str(out)))
    elif (out / "checkpoint").exists() or run.status == "interrupted":
        resume(out)
    assert_same_run(out, whole)
    return hits


def _wait_for_checkpoints(out: Path, n: int, process: Any) -> None:
    """Until ``n`` checkpoints were made, or the process has ended."""
    file, last = out / "checkpoint" / "run.safetensors", None
    while n > 0 and process.is_alive():
        try:
            made = file.stat().st_mtime_ns
        except FileNotFoundError:
            made = None
        if made is not None and last is not None and made != last:
            n -= 1
        last = made if made is not None else last or 0
        time.sleep(0.002)


def test_killed_at_random_moments(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    assert kill_and_go_on(config, whole, tmp_path / "killed", 2, seed) >= 1


def test_a_full_disk_ends_in_one_line_and_a_run_that_goes_on(
    config: RunConfig, whole: Path, tmp_path: Path
) -> None:
    """No file may grow beyond 200 kB: real writes fail, in HDF5 too."""
    out = tmp_path / "full"
    process, log = _process(config, out, largest_file=200_000)
    process.start()
    process.join()
    last = log.read_text(encoding="utf-8").splitlines()[-1]
    assert process.exitcode == 1
    assert last.startswith("snn-artsy: RecordingError: ") and "cannot be written" in last
    with open_run(out) as run:
        assert run.status == "interrupted" and run.learners
    assert not list(out.rglob("*.part"))
    resume(out)
    assert_same_run(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_twenty_kills_of_a_longer_run(number: int, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    longer = RunConfig(
        data=DataConfig(n_tasks=5),
        backbone=BackboneConfig(cache_dir=str(tmp_path / "features")),
        snn=SNNConfig(plasticity=PlasticityConfig(epochs=3)),
        device="cpu",
    )
    whole = tmp_path / "whole"
    execute(replace(longer, out=str(whole)))
    assert kill_and_go_on(longer, whole, tmp_path / "killed", 5, seed=number) == 5


# --- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def cut(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that died in its first learner."""
    out = tmp_path / "cut"
    quick = replace(config, learners=["simplecil"], out=str(out))
    assert cut_after(2, monkeypatch, lambda: execute(quick), "save")
    return out


def test_a_finished_run_is_left_alone(whole: Path) -> None:
    with pytest.raises(ConfigError, match="complete, there is nothing to resume"):
        resume(whole)


def test_killed_before_the_first_checkpoint(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, once = tmp_path / "cut", replace(config, learners=["simplecil"])
    execute(replace(once, out=str(tmp_path / "reference")))

    def die(*_: object, **__: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr("snn_artsy.run.run_learner", die)
        with pytest.raises(Cut):
            execute(replace(once, out=str(out)))
    (out / "config.yaml").unlink()
    resume(out)
    assert_same_run(out, tmp_path / "reference")


def test_another_configuration_is_refused(cut: Path) -> None:
    file = cut / "config.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    values["snn"]["teacher"]["current"] = 2.0
    values["seed"] = 4
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    before = (cut / "run.h5").read_bytes()
    with pytest.raises(
        ConfigError, match=r"seed was 1993 and is 4; snn\.teacher\.current was 1\.5 and is 2\.0"
    ):
        resume(cut)
    assert (cut / "run.h5").read_bytes() == before


def _edit(directory: Path, **changes: Any) -> None:
    path = directory / "checkpoint" / "run.safetensors"
    kept = checkpoint.load(directory)
    assert kept is not None
    state = kept.state
    header = {"format": checkpoint.FORMAT, "version": str(checkpoint.VERSION)}
    header["run"] = json.dumps({k: v for k, v in vars(kept).items() if k != "state"})
    save_file(state, path, header | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "9"}, "has version 9, this program reads up to 1"),
        ({"format": "something"}, "not a checkpoint"),
        ({"run": "{"}, "damaged"),
        ({"run": "[]"}, "damaged"),
        ({"run": '{"more": 1}'}, "damaged"),
    ],
)
def test_other_checkpoints_are_refused(cut: Path, changes: dict[str, str], message: str) -> None:
    _edit(cut, **changes)
    with pytest.raises(ConfigError, match=message):
        resume(cut)


def test_a_damaged_checkpoint_is_refused(cut: Path) -> None:
    path = cut / "checkpoint" / "run.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ConfigError, match="damaged"):
        resume(cut)


def test_another_learners_state_is_refused(cut: Path) -> None:
    kept = checkpoint.load(cut)
    assert kept is not None
    del kept.state["torch_rng"]
    checkpoint.save(cut, kept)
    with pytest.raises(ConfigError, match="does not fit simplecil"):
        resume(cut)


def test_a_run_file_with_less_than_the_checkpoint_is_refused(cut: Path) -> None:
    kept = checkpoint.load(cut)
    assert kept is not None
    kept.recorded["/stimulus/start_ms"] = 10**6
    checkpoint.save(cut, kept)
    with pytest.raises(RecordingError, match="/stimulus/start_ms holds less"):
        resume(cut)
    assert not list(cut.glob("*.part"))


def test_another_backbone_is_refused(cut: Path) -> None:
    kept = checkpoint.load(cut)
    assert kept is not None
    kept.facts["backbone_sha256"] = "0" * 64
    checkpoint.save(cut, kept)
    with pytest.raises(ConfigError, match=r"backbone_sha256 was '0000"):
        resume(cut)


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


def test_a_run_under_way_is_left_alone(cut: Path) -> None:
    kept = checkpoint.load(cut)
    assert kept is not None
    recorder = RunRecorder(cut, "", {}, RecordConfig(), recorded=kept.recorded)
    with pytest.raises(ConfigError, match="still being written"):
        resume(cut)
    recorder.close("interrupted")
    assert os.listdir(cut / "checkpoint")


def _call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert isinstance(raised.value.code, int)
    return raised.value.code
