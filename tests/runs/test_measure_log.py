"""Measures as they come: one line a task, the same after an interruption; TensorBoard's events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_artsy.api import configured
from snn_artsy.checks import ConfigError
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.runs import measure_log
from snn_artsy.runs.measure_log import MeasureLog
from snn_artsy.runs.run import execute

TASK_OF_LABEL = np.array([0, 0, 1, 1])


def answers(predicted: list[int], labels: list[int]) -> StepAnswers:
    return StepAnswers(np.array(labels), np.array(predicted), np.array(labels))


STEPS = [answers([0, 1, 1], [0, 1, 0]), answers([0, 1, 2, 3, 2], [0, 1, 0, 3, 2])]


def lines(directory: Path) -> list[dict[str, Any]]:
    text = (directory / measure_log.FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def told(log: MeasureLog, learner: str, done: int = 0) -> None:
    log.begin(learner, done)
    for step in range(done, 2):
        log.step(learner, STEPS[: step + 1], TASK_OF_LABEL, 1.5 * (step + 1))
    log.close()


def test_a_line_a_task_with_what_a_run_that_ends_there_measures(tmp_path: Path) -> None:
    """By hand: 2 of 3 right, then 4 of 5; of the first task 2 of 3 both times."""
    told(MeasureLog(tmp_path), "ease")
    first, second = lines(tmp_path)
    assert [(each["learner"], each["step"]) for each in (first, second)] == [
        ("ease", 0), ("ease", 1)
    ]  # fmt: skip
    assert first["a_last"] == pytest.approx(2 / 3) and first["seconds"] == 1.5
    assert second["a_last"] == pytest.approx(4 / 5)
    assert second["a_avg"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert second["forgetting_max_last"] == pytest.approx(0.0)


def test_what_is_learnt_again_stands_there_once(tmp_path: Path) -> None:
    log = MeasureLog(tmp_path)
    told(log, "joint")
    told(log, "ease")
    with (tmp_path / measure_log.FILE).open("a", encoding="utf-8") as file:
        file.write('{"learner": "ease", "st')  # a process was killed
    expected = lines_without_cut(tmp_path)
    told(MeasureLog(tmp_path), "ease", done=1)
    assert lines(tmp_path) == expected
    told(MeasureLog(tmp_path), "ease")
    assert lines(tmp_path) == expected


def lines_without_cut(directory: Path) -> list[dict[str, Any]]:
    text = (directory / measure_log.FILE).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()[:-1]]


def test_a_run_s_last_lines_are_its_summary(tmp_path: Path) -> None:
    data = {"n_tasks": 2, "class_range": [0, 4], "train_per_class": 6, "test_per_class": 4}
    config = configured({"data": data, "device": "cpu", "threads": 1,
                         "learners": ["simplecil", "artsy_ann"]})  # fmt: skip
    result = execute(configured(config, {"out": str(tmp_path / "run")}))
    found = lines(tmp_path / "run")
    assert [(each["learner"], each["step"]) for each in found] == [
        ("simplecil", 0), ("simplecil", 1), ("artsy_ann", 0), ("artsy_ann", 1)
    ]  # fmt: skip
    for each in found[1::2]:
        summary = result.summary["learners"][each["learner"]]
        for key in ("a_last", "a_avg", "til_a_last", "forgetting_max_last"):
            assert each[key] == pytest.approx(summary[key])
    assert found[3]["mean_open_gates"] == result.summary["learners"]["artsy_ann"]["mean_open_gates"]


def test_tensorboard_is_asked_for_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    config = configured({"record": {"tensorboard": True}, "out": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match=r"record\.tensorboard: .*snn-artsy\[tensorboard\]"):
        execute(config)
    assert not (tmp_path / "run").exists()


def test_events_are_those_measures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told(MeasureLog(tmp_path, tensorboard=True), "ease")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "ease"))
    events.Reload()
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("a_last")] == [
        (0, 2 / 3), (1, 4 / 5)
    ]  # fmt: skip
