"""Measures of a run as rows: CSV and pandas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import record

from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.config import RecordConfig
from snn_artsy.evaluation import metrics
from snn_artsy.export.measures import KINDS, as_csv, as_frame
from snn_artsy.recording import Run, RunRecorder, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory: Path = tmp_path_factory.mktemp("run")
    record(directory)
    return open_run(directory)


def test_the_matrix_is_the_recorded_one(run: Run) -> None:
    pytest.importorskip("pandas")
    frame = as_frame(run, "matrix")
    assert list(frame) == ["learner", "step", "task", "accuracy", "accuracy_spikes_only"]
    for name in run.learners:
        own = frame[frame["learner"] == name].pivot_table("accuracy", "step", "task")
        np.testing.assert_array_equal(own.to_numpy(), run.summary(name)["accuracy_matrix"])


def test_forgetting_is_the_metric(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(run, "forgetting"))))
    for name in run.learners:
        own = [float(row["forgetting"]) for row in rows if row["learner"] == name]
        matrix = run.summary(name)["accuracy_matrix"]
        assert len(own) == len(matrix) - 1
        assert np.mean(own) == pytest.approx(metrics.forgetting_max_last(matrix))


def test_pieces_of_a_stream_without_new_classes_have_no_rows() -> None:
    acc = np.array([[0.5, np.nan, np.nan], [0.4, np.nan, np.nan], [0.3, np.nan, 0.9]])
    rows = [*KINDS["matrix"]({"accuracy_matrix": acc})]
    assert [(r["step"], r["task"]) for r in rows] == [(0, 0), (1, 0), (2, 0), (2, 2)]
    [lost] = KINDS["forgetting"]({"accuracy_matrix": acc})
    assert (lost["task"], lost["best"], lost["last"]) == (0, 0.5, 0.3)


def test_gates_are_the_recorded_ones(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(run, "gates"))))
    assert {row["learner"] for row in rows} == {"artsy_ann", "artsy_snn"}
    matrix = run.summary("artsy_ann")["gate_matrix"]
    for row in rows:
        if row["learner"] == "artsy_ann":
            assert float(row["open_share"]) == matrix[int(row["task"]), int(row["gate"])]


def test_the_command(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for kind in KINDS:
        with pytest.raises(SystemExit) as ended:
            cli.main(["info", str(run.path), "--csv", kind])
        assert not ended.value.code and capsys.readouterr().out == as_csv(run, kind)
    with pytest.raises(SystemExit) as ended:
        cli.main(["info", str(run.path), "--csv", "all"])
    assert ended.value.code == 2
    assert "csv: 'all' cannot be used; choose from matrix, forg" in capsys.readouterr().err
    with RunRecorder(tmp_path, "seed: 1\n", {"seed": 1, "device": "cpu"}, RecordConfig()):
        pass
    with open_run(tmp_path) as empty, pytest.raises(ConfigError, match="no learner of this run"):
        as_csv(empty, "gates")
