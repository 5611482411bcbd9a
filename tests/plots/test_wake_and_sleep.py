"""What wake and sleep do to contacts, counted against what was told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from synthetic_run import CONFIG

from snn_artsy import plots
from snn_artsy.config import RecordConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT, Conversions, Presentations
from snn_artsy.recording import RunRecorder, open_run


def events(task: int, time_ms: float, pre: NDArray[np.int64], old: int, new: int) -> Conversions:
    n, zero = len(pre), np.zeros(len(pre), dtype=np.int64)
    codes = [np.full(n, code, dtype=np.uint8) for code in (old, new)]
    return Conversions(task, np.full(n, time_ms), pre, zero, zero, *codes)


def test_wake_and_sleep_counts_every_change_in_its_phase(tmp_path: Path) -> None:
    """Told by hand: two tasks of 10 training and 20 replayed presentations each, in batches whose
    changes come when the next batch begins; capture after sleep, and test presentations."""
    clock = 0.0
    told = {
        (0, "train"): {(SILENT, FUNCTIONAL): 6},
        (0, "replay"): {(SILENT, FUNCTIONAL): 2, (FUNCTIONAL, SILENT): 3},
        (1, "train"): {(SILENT, FUNCTIONAL): 4, (FUNCTIONAL, SILENT): 1},
        (1, "replay"): {(FUNCTIONAL, SILENT): 5},
    }
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for (task, split), changed in told.items():
            if split == "replay" and task:
                labile = events(0, clock, np.arange(7), CONSOLIDATED, FUNCTIONAL)
                recorder.conversions(labile)
            for _ in range(1 if split == "train" else 2):
                start = clock + 100.0 * np.arange(10)
                clock += 1000.0
                nothing = np.zeros(10, int)
                recorder.presentations(
                    Presentations(start, start + 100, split, nothing, nothing, task)
                )
            for (old, new), n in changed.items():
                recorder.conversions(events(task, clock, np.arange(n), old, new))
            if split == "replay":
                recorder.conversions(events(0, clock, np.arange(8), FUNCTIONAL, CONSOLIDATED))
                start = clock + 100.0 * np.arange(2)
                clock += 200.0
                nothing = np.zeros(2, int)
                recorder.presentations(
                    Presentations(start, start + 100, "test", nothing, nothing, task)
                )
    with open_run(tmp_path) as run:
        figure = plots.wake_and_sleep(run)
    above, below = figure.axes
    assert [label.get_text() for label in below.get_xticklabels()] == [
        "1 wake", "1 sleep", "2 wake", "2 sleep"
    ]  # fmt: skip
    drawn = {bars.get_label(): [bar.get_height() for bar in bars] for bars in below.containers}
    assert drawn == {
        "unsilenced": [6, 2, 4, 0],
        "silenced": [0, 3, 1, 5],
        "consolidated": [0, 8, 0, 8],
        "made labile": [0, 0, 0, 7],
    }
    for steps, n in zip(above.patches, ((6, 2, 4, 0), (0, 3, 1, 5)), strict=False):
        values, edges, _ = steps.get_data()
        assert set(edges) >= {0, 10, 30, 40, 60}
        phase = np.searchsorted([10, 30, 40], edges[:-1], side="right")
        per_phase = np.bincount(phase, values * np.diff(edges))
        np.testing.assert_allclose(per_phase, n)
    shaded = [span.get_x() for span in above.patches if isinstance(span, Rectangle)]
    assert shaded == [10, 40]


def test_without_a_change_there_is_no_figure(tmp_path: Path) -> None:
    zero = np.zeros(1)
    shown = Presentations(zero, zero + 1, "train", zero.astype(int), zero.astype(int), 0)
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        recorder.presentations(shown)
        recorder.presentations(replace(shown, start_ms=zero + 1, stop_ms=zero + 2, split="replay"))
    with (
        open_run(tmp_path) as run,
        pytest.raises(plots.NothingRecorded, match="no conversion events"),
    ):
        plots.wake_and_sleep(run)


def test_without_sleep_there_is_no_figure(tmp_path: Path) -> None:
    """Such as of a default run, whose bars would all say wake."""
    start, nothing = np.arange(3.0), np.zeros(3, dtype=int)
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        recorder.presentations(Presentations(start, start + 1, "train", nothing, nothing, 0))
        recorder.conversions(events(0, 3.0, np.arange(2), SILENT, FUNCTIONAL))
    with open_run(tmp_path) as run, pytest.raises(plots.NothingRecorded, match="no sleep"):
        plots.wake_and_sleep(run)
