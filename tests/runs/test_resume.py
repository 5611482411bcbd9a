"""Runs that are cut off and go on: the same numbers as if nothing had happened."""

from __future__ import annotations

import math
import os
import random
import resource
import signal
import sys
import time
import types
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cut_runs import assert_same_run, cut_after, quick_run
from drawing import draw_few
from processes import forked
from safetensors.torch import load_file
from synthetic_features import DIM, gaussian_stream

import snn_artsy.runs.checkpointer
import snn_artsy.runs.run
from snn_artsy import cli
from snn_artsy.config import (
    ANNConfig,
    BackboneConfig,
    ContactConfig,
    DataConfig,
    EncodingConfig,
    ExpansionConfig,
    FinetuneConfig,
    GateConfig,
    InhibitionConfig,
    NeuronConfig,
    PlasticityConfig,
    RanPACConfig,
    ReplayConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Learner
from snn_artsy.recording import open_run
from snn_artsy.registry import LEARNERS
from snn_artsy.runs import checkpoint
from snn_artsy.runs.facts import Facts
from snn_artsy.runs.run import execute, resume

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
    return build(name, Setting(config, DIM, "cpu"))


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


@pytest.mark.parametrize(
    "options",
    [
        {
            "contacts": ContactConfig(per_connection=2, release_probability=0.5, tau_rec_ms=100.0),
            "neuron": NeuronConfig(per_class=2),  # each neuron learns by itself, which takes time
        },
        {"inhibition": InhibitionConfig(source="fixed", neurons=4, between=0.3)},
        {"inhibition": InhibitionConfig(source="plastic", neurons=4)},
        {"plasticity": PlasticityConfig(insertion="bernoulli")},
        {"plasticity": PlasticityConfig(rule="calcium")},
    ],
    ids=["contacts that fail", "fixed inhibition", "plastic inhibition", "bernoulli", "calcium"],
)
def test_noise_and_inhibitory_neurons_go_on(options: dict[str, Any], tmp_path: Path) -> None:
    """In the middle of task 2, with a contact's releases, a rule's noise and inhibitory neurons of
    task 1."""
    plasticity = replace(options.get("plasticity", PlasticityConfig()), epochs=2, batch_size=32)
    config = small(snn=replace(small().snn, **options | {"plasticity": plasticity}))
    whole, again = built("artsy_snn", config), built("artsy_snn", config)
    whole.learn(STREAM.tasks[0])
    kept: list[dict[str, torch.Tensor]] = []
    file = tmp_path / "state.safetensors"
    whole.after_epoch = lambda: kept.append(through_a_file(whole.checkpoint(), file))
    whole.learn(STREAM.tasks[1])
    again.restore(kept[0], STREAM.tasks[:1])
    again.learn(STREAM.tasks[1])
    assert_same_learner(whole, again)


@pytest.mark.parametrize(
    "gate",
    [
        GateConfig(replay="none"),
        GateConfig(replay="exemplars", exemplars_per_class=3),
        GateConfig(covariance="pooled"),
    ],
    ids=["none", "exemplars", "pooled"],
)
@pytest.mark.parametrize("name", ["artsy_ann", "artsy_snn"])
def test_other_replays_go_on(name: str, gate: GateConfig, tmp_path: Path) -> None:
    config = small(gate=gate)
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
        epochs=3, batch_size=16, update="step", rule="pair")}, {"plasticity": PlasticityConfig(
        epochs=3, batch_size=16, rule="error", target_over="seen"), "replay": ReplayConfig(2)},
        {"expansion": ExpansionConfig(units=30, fan_in=4)}],
    ids=["full", "gate", "plastic_old", "step", "replay", "expansion"],
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
    return quick_run(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    execute(replace(config, out=str(directory)))
    return directory


@pytest.fixture(autouse=True)
def _checkpoints_at_every_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snn_artsy.runs.checkpointer, "CHECKPOINT_SHARE", math.inf)


def test_checkpoints_take_a_bounded_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk where a checkpoint takes ten times as long as a task."""
    clock, saved = 0.0, 0

    def flush() -> None:
        nonlocal clock, saved
        clock, saved = clock + 10.0, saved + 1

    recorder: Any = types.SimpleNamespace(flush=flush, recorded={})
    facts = Facts.gather(RunConfig(), {}, "", "cpu", 1)
    checkpointer = snn_artsy.runs.checkpointer.Checkpointer(
        tmp_path, recorder, checkpoint.Checkpoint(facts), "cpu"
    )
    monkeypatch.setattr(
        snn_artsy.runs.checkpointer, "time", types.SimpleNamespace(perf_counter=lambda: clock)
    )
    monkeypatch.setattr(snn_artsy.runs.checkpointer, "CHECKPOINT_SHARE", 0.05)
    checkpointer.latest.begin("simplecil")
    learner = built("simplecil", small())
    for _ in range(1000):
        clock += 1.0
        checkpointer.learnt(learner, clock, clock, None)
    assert 5 <= saved <= 6  # 190 s between two of them


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
    draw_few()
    snn_artsy.runs.checkpointer.CHECKPOINT_SHARE = math.inf  # one after every task and epoch
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    with log.open("w") as stream:
        sys.stdout = sys.stderr = stream
        cli.main(arguments)


def _process(
    config: RunConfig, out: Path, largest_file: int | None = None, again: str = "resume"
) -> tuple[Any, Path]:
    """`run`, or what goes on with what was begun, not yet started; and its log."""
    file, log = out.with_suffix(".yaml"), out.with_suffix(".log")
    file.write_text(yaml.safe_dump(asdict(replace(config, out=str(out)))), encoding="utf-8")
    begun = (out / "config.yaml").exists()
    arguments = ["run", "--config", str(file)]
    if begun and again == "resume":
        arguments = ["resume", str(out)]
    return forked(_work, arguments, log, largest_file), log


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
        process, log = _process(config, out, again=rng.choice(["run", "resume"]))
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
            assert "Traceback" not in said, said
            assert list(out.rglob("*.part")) == []
        if not (out / "run.h5").exists():
            continue  # it had not begun to record
        with open_run(out) as run:
            assert run.status in ("interrupted", "complete")
            for task in run.synapse_tasks:
                run.events(task)  # columns of one length, or it raises
            assert run.stimulus is not None
        if not (out / "checkpoint").exists() and run.status == "complete":
            break
    if not (out / "run.h5").exists() or (out / "checkpoint").exists() or run.status != "complete":
        execute(replace(config, out=str(out)))
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
    assert last.startswith(f"snn-artsy: {out}") and "cannot be written" in last
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
