"""The recording plan: what is left out is left out, and the size is known before the run."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from synthetic_features import DIM, N_TASKS, PER_TASK, gaussian_stream

from snn_artsy import files
from snn_artsy.checks import ConfigError
from snn_artsy.config import (
    ContactConfig,
    DataConfig,
    EncodingConfig,
    ExpansionConfig,
    GateConfig,
    PlasticityConfig,
    RecordConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build
from snn_artsy.recording import RunRecorder, open_run
from snn_artsy.recording.estimate import (
    TaskSize,
    check_disk,
    expected_bytes,
    in_words,
    needed_bytes,
)
from snn_artsy.runs import run
from snn_artsy.runs.evaluate import evaluate

STREAM = gaussian_stream()
SIZES = [TaskSize(PER_TASK, len(task.train), len(STREAM.test)) for task in STREAM.tasks]
KINDS = ("stimulus", "counts", "snapshots", "traces", "pairings", "populations", "predictions")


def recorded(directory: Path, plan: RecordConfig, **snn: Any) -> RunConfig:
    """Learn the three tasks of clusters with a plan, answer for the same test samples each time."""
    config = RunConfig(
        record=plan,
        learners=["artsy_snn"],
        gate=GateConfig(pseudo_per_class=5),
        snn=SNNConfig(
            encoding=EncodingConfig(decorrelation="standardise"),
            **{"plasticity": PlasticityConfig(epochs=2, batch_size=30), **snn},
        ),
    )
    with RunRecorder(directory, "", {"seed": config.seed}, plan) as recorder:
        learner: Any = build("artsy_snn", Setting(config, DIM, "cpu", recorder))
        for task in STREAM.tasks:
            learner.learn(task)
            if plan.snapshots:
                learner.snapshot(f"after_task_{task.number}")
            known = torch.nonzero(STREAM.test.labels < PER_TASK * (task.number + 1))[:, 0]
            rows = known[torch.arange(len(STREAM.test)) % len(known)]
            test = replace(
                STREAM.test,
                features=STREAM.test.features[rows],
                index=STREAM.test.index[rows],
                labels=STREAM.test.labels[rows],
            )
            of_label = np.repeat(np.arange(N_TASKS), PER_TASK)
            answers = evaluate(learner, test, of_label, False, keep_scores=True)
            recorder.evaluation(
                "artsy_snn",
                task.number,
                test.index.numpy(),
                answers.labels,
                answers.predicted,
                answers.gates,
                answers.gate_scores,
                answers.spike_predicted,
                answers.scores,
            )
    return config


def bytes_by_kind(directory: Path) -> Counter[str]:
    found: Counter[str] = Counter()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            parts = name.split("/")
            kind = parts[2] if parts[0] == "synapses" else parts[0]
            found[{"evaluation": "predictions"}.get(kind, kind)] += item.nbytes

    with h5py.File(directory / "run.h5") as file:
        file.visititems(add)
    return found


ONLINE = PlasticityConfig(update="step", batch_size=1, epochs=2)
KINDS_OF = ("", "plastic_old", "online")
PLANS = {
    "default": RecordConfig(),
    "more": RecordConfig(spike_presentations=30, scores=True, traced_synapses=7),
    "less": RecordConfig(
        neurons=5,
        spike_presentations=4,
        spike_every=3,
        traced_synapses=3,
        trace_variables=["ampa", "pre_trace"],
        trace_every=4,
        pairings=False,
        snapshots=False,
    ),
    "input": RecordConfig(populations=["retina"], splits=["train"], conversions=False),
    "nothing": RecordConfig(spike_presentations=0, traced_synapses=0, conversions=False),
}


def test_the_expected_size_with_an_expansion_layer(tmp_path: Path) -> None:
    """Snapshots and counts of its contacts exactly, its spikes at most as many as it may fire."""
    layer = ExpansionConfig(units=60, fan_in=4)
    config = recorded(tmp_path, PLANS["less"], expansion=layer)
    sizes = [
        replace(size, n_test=len(STREAM.test) if t == 0 else 0) for t, size in enumerate(SIZES)
    ]
    expected, real = expected_bytes(config, DIM, sizes), bytes_by_kind(tmp_path)
    assert {k: expected[k] for k in KINDS} == {k: real[k] for k in KINDS}
    assert 0.4 * expected["spikes"] <= real["spikes"] <= 1.2 * expected["spikes"]
    with open_run(tmp_path) as run:
        assert "expansion" in run.populations and "retina" not in run.populations
        assert run.spikes("expansion").node.max() >= 2 * DIM  # the ON/OFF units are fewer


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("snn", [{}, {"plastic_old": True}, {"plasticity": ONLINE}], ids=KINDS_OF)
def test_the_expected_size_is_the_real_one(name: str, snn: dict[str, Any], tmp_path: Path) -> None:
    config = recorded(tmp_path, PLANS[name], **snn)
    # every step answered for all test samples here, so a task brings none of its own
    sizes = [
        replace(size, n_test=len(STREAM.test) if t == 0 else 0) for t, size in enumerate(SIZES)
    ]
    expected, real = expected_bytes(config, DIM, sizes), bytes_by_kind(tmp_path)
    exact = [kind for kind in KINDS if kind != "traces" or "plasticity" not in snn]
    assert {kind: expected[kind] for kind in exact} == {kind: real[kind] for kind in exact}
    # in steps: windows meet, and not in every part does a traced contact change
    assert 0.4 * expected["traces"] <= real["traces"] <= expected["traces"]
    for kind in ("spikes", "events"):
        if snn and kind == "events":
            continue  # old sub-networks go on changing, for as long as there are tasks
        assert 0.4 * real[kind] <= expected[kind] <= 2.5 * real[kind], (kind, real, expected)


def test_only_what_the_plan_names_is_recorded(tmp_path: Path) -> None:
    recorded(tmp_path / "all", RecordConfig(spike_presentations=500))
    recorded(tmp_path / "less", PLANS["less"])
    recorded(tmp_path / "input", PLANS["input"])
    with open_run(tmp_path / "all") as every, open_run(tmp_path / "less") as run:
        traces = run.traces(0)
        assert traces is not None and set(traces.variables) == {"ampa", "pre_trace"}
        whole = every.traces(0)
        assert whole is not None and len(traces.time_ms) == math.ceil(len(whole.time_ms) / 4)
        np.testing.assert_array_equal(traces.variables["ampa"].shape, (len(traces.time_ms), 3))
        # five neurons of each population, with all their spikes in the chosen presentations:
        # numbers 0, 3, 6, 9 of task 0's training
        shown = every.stimulus
        chosen = np.flatnonzero(shown.task == 0)[[0, 3, 6, 9]]
        for population in ("retina", "task0"):
            neurons = run._read(f"/populations/{population}/recorded")
            assert neurons is not None and len(neurons) == 5
            until = float(shown.stop_ms[chosen[-1]])
            mine, theirs = run.spikes(population, 0, until), every.spikes(population, 0, until)
            inside = np.zeros(len(theirs.time_ms), dtype=bool)
            for k in chosen:
                inside |= (theirs.time_ms >= shown.start_ms[k]) & (
                    theirs.time_ms < shown.stop_ms[k]
                )
            inside &= np.isin(theirs.node, neurons)
            assert inside.any() or population == "task0"
            assert sorted(zip(mine.time_ms, mine.node, strict=True)) == sorted(
                zip(theirs.time_ms[inside], theirs.node[inside], strict=True)
            )
    with open_run(tmp_path / "input") as run:
        assert run.populations == ("retina",)
        assert not run.stimulus.of_split("test").any()


def test_the_plan_does_not_change_the_model(tmp_path: Path) -> None:
    for name in ("default", "less"):
        recorded(tmp_path / name, replace(PLANS[name], conversions=True))
    with open_run(tmp_path / "default") as a, open_run(tmp_path / "less") as b:
        for task in range(N_TASKS):
            for column in ("pre", "post", "old", "new"):
                x, y = (getattr(run.events(task), column) for run in (a, b))
                np.testing.assert_array_equal(x, y)


def test_changes_in_steps_are_told_at_spikes_of_their_presentations(tmp_path: Path) -> None:
    """One presentation at a time, each change has the time of a step in which one of the contact's
    two sides fires; a batch of several has times within it; by presentation it is the end."""
    for name, rule in {
        "one": PlasticityConfig(update="step", batch_size=1),
        "several": PlasticityConfig(update="step", batch_size=7),
        "presentation": PlasticityConfig(batch_size=7),
    }.items():
        contacts = ContactConfig(capture=False)
        plan = RecordConfig(spike_presentations=10**6)
        recorded(tmp_path / name, plan, plasticity=rule, contacts=contacts)
    with open_run(tmp_path / "one") as run:
        shown, events = run.stimulus, run.events(1)
        own = shown.of_split("train") & (shown.task == 1)
        step = (events.time_ms - shown.start_ms[own][0]) / 5.0
        assert len(step) > 100 and np.allclose(step, step.round(), atol=1e-6)
        assert len(np.unique(step.round() % 20)) > 1
        fired = {
            name: {(round(t, 3), n) for t, n in zip(s.time_ms, s.node.tolist(), strict=True)}
            for name in ("retina", "task1")
            for s in [run.spikes(name)]
        }
        for t, pre, post in zip(events.time_ms, events.pre, events.post, strict=True):
            sides = (
                (round(t, 3), int(pre)) in fired["retina"],
                (round(t, 3), int(post)) in fired["task1"],
            )
            assert any(sides)
    for name, inside in (("several", True), ("presentation", False)):
        with open_run(tmp_path / name) as run:
            ends, times = run.counts(1).time_ms, run.events(1).time_ms
            assert np.isin(times, ends).all() != inside
            assert times.min() >= ends[0] - 700.0 and times.max() <= ends[-1]


@pytest.mark.parametrize("learners", [["simplecil"], ["artsy_snn", "artsy_ann_ridge"]], ids=len)
def test_what_a_run_needs_covers_all_that_it_writes(
    learners: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files half written included, whenever one gets its name."""
    taken, needed = [0], [0]
    publish, check = files.publish, run.check_disk

    def seen(part: Path, path: Path) -> None:
        files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
        taken.append(sum(file.stat().st_size for file in files))
        publish(part, path)

    def checked(config: RunConfig, dim: int, *rest: Any) -> Any:
        needed.append(needed_bytes(config, dim, rest[0]))
        return check(config, dim, *rest)

    monkeypatch.setattr(files, "publish", seen)
    monkeypatch.setattr(run, "check_disk", checked)
    config = RunConfig(
        learners=learners,
        out=str(tmp_path / "run"),
        data=DataConfig(train_per_class=8, test_per_class=10),
        artsy_ridge=RidgeGateConfig(projection=300),
    )
    run.execute(config)
    taken.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
    assert max(taken) <= needed[-1] <= 3 * max(taken) + 8_000_000


def test_a_run_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(learners=["artsy_snn", "simplecil"])
    need = needed_bytes(config, 192, SIZES)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=need - 1))
    with pytest.raises(
        ConfigError, match=rf"record: the run needs about {in_words(need)} .*snapshots.*record less"
    ):
        check_disk(config, 192, SIZES, tmp_path / "new" / "deep")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=need))
    expected, free = check_disk(config, 192, SIZES, tmp_path / "new" / "deep")
    assert free == need and sum(expected.values()) < need


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5e9, "5 GB"), (3e15, "3e+03 TB")],
)
def test_bytes_in_words(n: float, text: str) -> None:
    assert in_words(n) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neurons": 0}, "record.neurons: 0"),
        ({"spike_every": 0}, "record.spike_every: 0"),
        ({"trace_every": 0}, "record.trace_every: 0"),
        ({"populations": ["cortex"]}, "record.populations: 'cortex' .*retina, tasks"),
        ({"splits": ["validation"]}, "record.splits: 'validation' .*train, test"),
        ({"trace_variables": ["v"]}, "record.trace_variables: 'v' .*ampa"),
    ],
)
def test_wrong_plans(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecordConfig(**changes)
