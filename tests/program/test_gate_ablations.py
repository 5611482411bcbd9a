"""analysis/gate_ablations.py: measures and table by hand; learners that share sub-networks answer
as they do alone."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from small_vit import PER_TASK, QUICK_SNN, in_blocks, stream

from snn_artsy.config import BestGateConfig
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.learners import build
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.shuffled import EQUAL_DENSITY
from snn_artsy.learners.subnetworks import BlockAdapters
from snn_artsy.learners.tasks import take

N_LEARNT = 2
OF_CLASS = np.arange(N_LEARNT * PER_TASK) // PER_TASK


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    return importlib.import_module("gate_ablations")


def test_measures_by_hand(script: Any) -> None:
    """Four samples of classes 0 to 3 in two tasks: one is right, one in its task alone; a network
    that did not fire has decided nothing."""
    answers = StepAnswers(
        labels=np.arange(4),
        predicted=np.array([0, 0, 1, 0]),
        within_task=np.arange(4),
        gates=np.array([[True, False], [True, True], [True, True], [False, False]]),
        vit_passes=np.array([1.0, 2.0, 2.0, 1.0]),
        spike_predicted=np.array([-1, 1, 2, 0]),
        seconds=0.2,
    )
    found = script.measured(script.Answered(answers, 7.0), np.array([0, 0, 1, 1]))
    assert found == {
        "accuracy": 0.25, "task": 0.5, "open": 1.25, "passes": 1.5, "spikes": 0.5,
        "right": "1000", "ms_per_image": 50.0, "seconds_learning": 7.0,
    }  # fmt: skip


def test_the_table_by_hand(script: Any) -> None:
    """Every seed loses the same two of eight images: 25 points, whose standard error is that of
    the images alone, sqrt(.25 * .75 / 7) = 16.4 points; spiking gates are held against the best
    ANN gate, and what answered alike is no test."""

    def row(right: str, **more: float) -> dict[str, Any]:
        accuracy = right.count("1") / len(right)
        return {"accuracy": accuracy, "task": 0.8, "passes": 2.0, "right": right, **more}

    def seed(gated: str, shut: str, spiking: str) -> dict[str, dict[str, dict[str, Any]]]:
        best = {"gated": row(gated, open=3.0, ms_per_image=4.0), "every gate shut": row(shut)}
        return {"best": best, "spiking": {"gated": row(spiking, spikes=0.5)}}

    text, n_tests = script.table([seed("11111100", "11110000", "11111100")] * 2)
    lines = text.split("\n")
    assert n_tests == 1
    assert lines[2].startswith("| best ANN gate: gated | 75.0 ± 0.0 | ")
    assert lines[2].endswith(
        " | – | – | 80.0 ± 0.0 | – | 3.00 ± 0.00 | 2.00 ± 0.00 | – | 4.0 ± 0.0 |"
    )
    assert lines[3].startswith(
        "| best ANN gate: every gate shut | 50.0 ± 0.0 | 5.3 to 94.7 | -25.0 (-63.7 to +13.7) | 0.1"
    )
    assert "| the same answers | – | 80.0 ± 0.0 | 50.0 ± 0.0 |" in lines[4]
    assert len(lines) == 5


def test_every_way_that_gates_can_be_set_has_a_row(script: Any) -> None:
    ways = {config.gates for config in script.settings(BestGateConfig(), 5).values()}
    assert ways == set(get_args(get_type_hints(BestGateConfig)["gates"]))


QUICK = replace(QUICK_SNN, tap="first", plasticity=replace(QUICK_SNN.plasticity, epochs=1))


def numbered_tasks() -> list[Task]:
    """Two of the small ViT's, with numbers that no two training images share, as in a run."""
    tasks, count = [], 0
    for task in stream()[0][:N_LEARNT]:
        parts = {}
        for name in ("train", "validation"):
            part = getattr(task, name)
            parts[name] = replace(part, index=count + torch.arange(len(part)))
            count += len(part)
        tasks.append(replace(task, **parts))
    return tasks


def learnt_test() -> LabelledBatch:
    test = stream()[1]
    return take(test, test.labels < N_LEARNT * PER_TASK)


@pytest.fixture
def seed(script: Any) -> Any:
    """Learners over the small ViT, with two tasks."""
    tasks, test = numbered_tasks(), learnt_test()
    of_task = torch.from_numpy(OF_CLASS)[test.labels]
    each = [(task, take(test, of_task == task.number)) for task in tasks]
    given = in_blocks(QUICK)
    frozen = SimpleNamespace(
        tasks=each,
        stream=SimpleNamespace(task_of_label=OF_CLASS, class_of_label=None),
        setting=lambda config, device: replace(given, config=config),
    )
    return script.Seed(given.config, frozen, "cpu")


def test_learners_over_shared_sub_networks_answer_as_they_do_alone(
    script: Any, seed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no sub-network computes an image twice, or is trained twice."""
    asked: dict[int, list[Any]] = {}
    answer = BlockAdapters.answer

    def counted(network: BlockAdapters, batch: Any) -> Any:
        if not torch.is_grad_enabled():
            numbers = [(batch.split == "test", i) for i in batch.index.tolist()]
            asked.setdefault(id(network), []).extend(numbers)
        return answer(network, batch)

    monkeypatch.setattr(BlockAdapters, "answer", counted)
    found = {
        (key, name): script.measured(answered, OF_CLASS)
        for key, name, answered in seed.answers(with_controls=True)
    }
    assert len(asked) == N_LEARNT
    assert all(len(numbers) == len(set(numbers)) for numbers in asked.values())
    monkeypatch.setattr(BlockAdapters, "answer", answer)
    tasks, test = numbered_tasks(), learnt_test()
    for key, name in (("best", "artsy_best"), ("spiking", "artsy_snn")):
        alone = build(name, in_blocks(QUICK))
        for task in tasks:
            alone.learn(task)
        right = alone.predict(test).scores.argmax(1) == test.labels
        assert found[key, "gated"]["right"] == "".join("01"[int(r)] for r in right)
    # controls
    controls = seed.spiking.controls()
    for name in (*controls, "mean field"):
        row = found["spiking", name.replace("_", " ")]
        assert 0 <= row["spikes"] <= 1 and row["seconds_learning"] > 0
    assert EQUAL_DENSITY in controls
    assert found["spiking", "no plasticity"]["spikes"] == 0
    shut = found["spiking", "every gate shut (e0)"]["accuracy"]
    assert found["best", "oracle gate"]["accuracy"] >= shut
