"""Recorded tables as pandas and xarray."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import record

from snn_artsy.checks import ConfigError
from snn_artsy.recording import Run, open_run
from snn_artsy.recording.frames import to_pandas, to_xarray

pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory: Path = tmp_path_factory.mktemp("run")
    record(directory)
    return open_run(directory)


def test_tables(run: Run) -> None:
    shown = to_pandas(run.stimulus)
    assert (shown["split"] == "train").sum() == 3 * 40
    np.testing.assert_array_equal(shown["label"], run.stimulus.label)
    spikes = to_pandas(run.spikes("retina"))
    assert list(spikes) == ["time_ms", "node"] and len(spikes) == len(run.spikes("retina").node)
    events = to_pandas(run.events(1))
    silent = (events["old"] == "silent").to_numpy()
    np.testing.assert_array_equal(silent, run.events(1).old == 0)
    counts = to_pandas(run.counts(0))
    assert list(counts) == ["time_ms", "silent", "functional", "consolidated"]
    np.testing.assert_array_equal(counts["functional"], run.counts(0).counts[:, 1])


def test_predictions(run: Run) -> None:
    answers = run.predictions("artsy_ann", 2)
    table = to_pandas(answers)
    assert "spike_predicted" not in table and len(table) == len(answers.label)
    assert answers.gates is not None
    np.testing.assert_array_equal(table["gates_2"], answers.gates[:, 2])


def test_traces(run: Run) -> None:
    pytest.importorskip("xarray")
    traces = run.traces(1)
    assert traces is not None
    data = to_xarray(traces)
    assert dict(data.sizes) == {"time_ms": len(traces.time_ms), "synapse": 5}
    assert data["time_ms"].attrs["units"] == "ms"
    one = data["ampa"].sel(synapse=3)
    np.testing.assert_array_equal(one, traces.variables["ampa"][:, 3])
    assert int(one["post"]) == traces.synapse[3, 1]


def test_without_the_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        to_pandas(run.stimulus)
