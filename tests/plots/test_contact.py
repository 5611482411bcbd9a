"""The figure of one contact: which window, which lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from snn_artsy import plots
from snn_artsy.config import RecordConfig
from snn_artsy.observer import Conversions, Presentations
from snn_artsy.recording import RunRecorder, open_run

PERIOD_MS, STEPS, DT = 60.0, 10, 5.0  # presentations of 50 ms, 10 ms between them


def record(directory: Path, traced: list[int], in_steps: bool, changes: dict[int, float]) -> None:
    """Twenty presentations, of which some are traced; contact k changes state once, at a time."""
    start = PERIOD_MS * np.arange(20.0)
    synapse = np.stack([np.arange(3), np.arange(3) + 7, np.zeros(3, dtype=int)], axis=1)
    with RunRecorder(directory, "", {"seed": 1}, RecordConfig()) as recorder:
        number = np.arange(20)
        recorder.presentations(
            Presentations(start, start + STEPS * DT, "train", number, 0 * number, 0, start + 20.0)
        )
        for k in traced:
            time = start[k] + DT * np.arange(STEPS) if in_steps else start[k : k + 1] + PERIOD_MS
            values = (time[:, None] + np.array([0.0, 0.25, 0.5])).astype(np.float32)
            recorder.trace(0, time, synapse, {"ampa": values, "membrane_mV": values})
        for k, time_ms in changes.items():
            code = np.array([0], dtype=np.uint8)
            one = np.array([k])
            recorder.conversions(
                Conversions(0, np.array([time_ms]), one, one + 7, 0 * one, code, code + 1)
            )


def lines_of(axes: object) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """X and y of the series, and where vertical lines stand (ms), by colour."""
    series, *lines = axes.lines  # type: ignore[attr-defined]
    found: dict[str, list[float]] = {}
    for line in lines:
        found.setdefault(line.get_color(), []).append(round(1000 * line.get_xdata()[0], 6))
    return list(1000 * series.get_xdata()), list(series.get_ydata()), found


def test_the_window_around_the_latest_first_change_is_drawn(tmp_path: Path) -> None:
    # contact 1 changes latest of those that change in a window; contact 2 outside of all
    record(tmp_path, [2, 3, 4, 9, 10, 11, 12, 16], True, {0: 200.0, 1: 625.0, 2: 900.0})
    with open_run(tmp_path) as run:
        figure = plots.contact_trace(run)
        x, y, lines = lines_of(figure.axes[0])
        expected = [PERIOD_MS * k + DT * t for k in (9, 10, 11, 12) for t in range(STEPS)]
        assert x == pytest.approx(expected)
        assert y == pytest.approx([t + 0.25 for t in expected])
        change, starts = lines.values()
        assert change == [625.0] and starts == [540.0, 600.0, 660.0, 720.0]
        assert "unit 1 to neuron 8" in figure.axes[0].get_title()
        # asked for: contact 2 changed in no window, so that the first one is shown, without a mark
        x, _, lines = lines_of(plots.contact_trace(run, synapse=2).axes[0])
        assert x[0] == pytest.approx(120.0) and x[-1] == pytest.approx(285.0)
        assert list(lines.values()) == [[120.0, 180.0, 240.0]]


def test_a_point_a_batch_is_drawn_as_a_whole(tmp_path: Path) -> None:
    record(tmp_path, [0, 5, 10, 15], False, {0: 60.0, 2: 360.0})
    with open_run(tmp_path) as run:
        x, y, lines = lines_of(plots.contact_trace(run).axes[0])
        assert x == pytest.approx([60.0, 360.0, 660.0, 960.0])
        assert y == pytest.approx([t + 0.5 for t in x])
        assert list(lines.values()) == [[360.0]]


def test_the_line_of_the_state_reaches_what_came_with_its_last_point(tmp_path: Path) -> None:
    """Capture at a task's end comes after the last batch, of which the trace has the state."""
    one = np.zeros(1, dtype=np.int64)
    with RunRecorder(tmp_path, "", {"seed": 1}, RecordConfig()) as recorder:
        start = PERIOD_MS * np.arange(3.0)
        recorder.presentations(
            Presentations(start, start + 50, "train", np.arange(3), np.zeros(3, int), 0)
        )
        synapse = np.zeros((1, 3), dtype=np.int64)
        for k, state in enumerate((0.0, 1.0, 1.0)):
            values = np.full((1, 1), state, dtype=np.float32)
            recorder.trace(0, start[k : k + 1] + PERIOD_MS, synapse, {"state": values})
        for time_ms, old in ((120.0, 0), (180.0, 1)):
            code = np.array([old], dtype=np.uint8)
            recorder.conversions(Conversions(0, np.array([time_ms]), one, one, one, code, code + 1))
    with open_run(tmp_path) as run:
        x, y, lines = lines_of(plots.contact_trace(run).axes[0])
    assert list(lines.values()) == [[120.0, 180.0]]
    assert y == [0, 1, 1, 2, 2] and x[:4] == pytest.approx([60, 120, 180, 180]) and x[4] > 180


def test_a_series_from_outside_a_run() -> None:
    """As a notebook has it from `synapses.trace_contacts`."""
    time_ms = np.arange(8.0)
    figure = plots.contact_series(
        time_ms, {"state": time_ms > 3, "ampa": time_ms / 8, "own": time_ms}, [4.0]
    )
    assert len(figure.axes) == 2  # what it does not know is not drawn
    assert lines_of(figure.axes[0])[1] == (time_ms / 8).tolist()
    assert lines_of(figure.axes[1])[2] and len(figure.axes[1].lines) == 2
