"""Figures show the recorded numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from synthetic_run import CONFIG, N_TASKS, POST, TEST, TRAIN, Truth, evaluate, record

from snn_artsy import plots
from snn_artsy.config import RecordConfig
from snn_artsy.plots.style import BLACK, BLUE, PURPLE, STATE_COLOURS
from snn_artsy.recording import Run, RunRecorder, open_run

ROOT = Path(__file__).resolve().parents[1]
Recorded = tuple[Run, Truth, dict[str, list[float]]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    directory = tmp_path_factory.mktemp("run")
    truth, accuracy = record(directory)
    return open_run(directory), truth, accuracy


def test_conversion_counts_of_one_sub_network(recorded: Recorded) -> None:
    run, truth, _ = recorded
    axes = plots.conversion_counts(run, task=1).axes[0]
    lines = {line.get_label(): line for line in axes.lines if line.get_drawstyle() == "steps-post"}
    counts = np.array([row for _, row in truth.counts[1]])
    for state, (name, colour) in enumerate(STATE_COLOURS.items()):
        np.testing.assert_array_equal(lines[name].get_ydata(), counts[:, state])
        # Task 1 begins after TRAIN presentations; its counts come every ten.
        expected = TRAIN + 10 * np.arange(1, TRAIN // 10 + 1)
        np.testing.assert_allclose(lines[name].get_xdata(), expected)
        assert lines[name].get_color() == colour


def test_conversion_counts_sum_sub_networks(recorded: Recorded) -> None:
    run, truth, _ = recorded
    axes = plots.conversion_counts(run).axes[0]
    silent = next(line for line in axes.lines if line.get_label() == "silent")
    final = sum(int(truth.counts[task][-1][1][0]) for task in range(N_TASKS))
    assert silent.get_ydata()[-1] == final
    assert silent.get_ydata()[0] == truth.counts[0][0][1][0]
    starts = [line.get_xdata()[0] for line in axes.lines if line.get_drawstyle() == "default"]
    assert starts == [TRAIN, 2 * TRAIN]


def test_time_above_counts_simulated_seconds(recorded: Recorded) -> None:
    run, truth, _ = recorded
    timeline = plots.conversion.Timeline.of(run)
    stops = [stop for shown in truth.stimuli if shown.split == "train" for stop in shown.stop_ms]
    np.testing.assert_allclose(timeline.presentations(np.array(stops)), np.arange(len(stops)) + 1)
    assert timeline.task_starts() == {0: 0, 1: TRAIN, 2: 2 * TRAIN}
    figure = plots.conversion_counts(run)
    figure.draw_without_rendering()
    above = figure.axes[0].child_axes[0]
    assert above.get_xlim() == pytest.approx((0.0, stops[-1] / 1000), rel=0.01)
    ticks = [tick for tick in above.get_xticks() if 0 <= tick <= above.get_xlim()[1]]
    # Test presentations make jumps in time, so each tick is checked through the recorded stops.
    pixels = above.transData.transform([(tick, 0.0) for tick in ticks])[:, 0]
    places = figure.axes[0].transData.inverted().transform([(x, 0.0) for x in pixels])[:, 0]
    np.testing.assert_allclose(places, timeline.presentations(1000 * np.array(ticks)), atol=0.1)


def test_conversion_raster_draws_every_event(recorded: Recorded) -> None:
    run, truth, _ = recorded
    axes = plots.conversion_raster(run).axes[0]
    drawn = np.concatenate([np.asarray(marks.get_offsets()) for marks in axes.collections])
    assert len(drawn) == sum(len(part.pre) for parts in truth.events.values() for part in parts)
    rows = np.concatenate(
        [part.post + POST * task for task, parts in truth.events.items() for part in parts]
    )
    np.testing.assert_array_equal(np.sort(np.floor(drawn[:, 1])), np.sort(rows))
    insertions = sum(
        int((part.new == 1).sum()) for parts in truth.events.values() for part in parts
    )
    blue = [marks for marks in axes.collections if to_hex(marks.get_edgecolor()[0]) == BLUE.lower()]
    assert sum(len(marks.get_offsets()) for marks in blue) == insertions


def test_spike_raster(recorded: Recorded) -> None:
    run, truth, _ = recorded
    row = 2 * (TRAIN + TEST)  # the last task's first training presentation
    retina, post = plots.spike_raster(run).axes
    start = run.stimulus.start_ms[row]
    told = [(t - start, n) for t, n in truth.spikes["retina"] if start <= t < start + 100]
    drawn = np.concatenate([np.asarray(marks.get_offsets()) for marks in retina.collections])
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(told))
    assert [line.get_xdata()[0] for line in retina.lines] == [pytest.approx(30.0)]
    label = int(run.stimulus.label[row])
    group = run.group("task2")
    assert group is not None
    for marks in post.collections:
        own = to_hex(marks.get_edgecolor()[0]) == PURPLE.lower()
        assert own or to_hex(marks.get_edgecolor()[0]) == BLACK
        nodes = np.asarray(marks.get_offsets())[:, 1].astype(int)
        assert np.all((group[nodes] == label) == own)


def test_spike_raster_of_a_test_presentation_has_no_teacher(recorded: Recorded) -> None:
    run, _, _ = recorded
    retina, post = plots.spike_raster(run, presentation=len(run.stimulus) - 1).axes
    assert not retina.lines
    assert len(post.texts) == N_TASKS  # at test, every sub-network is listening
    with pytest.raises(plots.NothingRecorded, match="presentation 5 were not recorded"):
        plots.spike_raster(run, presentation=5)
    with pytest.raises(plots.NothingRecorded, match="no presentation 5000"):
        plots.spike_raster(run, presentation=5000)


def test_accuracy_per_step(recorded: Recorded) -> None:
    run, _, accuracy = recorded
    axes = plots.accuracy_per_step(run).axes[0]
    curves = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    assert set(curves) == {"SimpleCIL", "Artsy ANN", "Artsy SNN", "Artsy SNN, spikes only"}
    for name, learner in (("SimpleCIL", "simplecil"), ("Artsy SNN", "artsy_snn")):
        np.testing.assert_allclose(curves[name].get_ydata(), 100 * np.array(accuracy[learner]))
        np.testing.assert_allclose(curves[name].get_xdata(), np.arange(N_TASKS) + 1, atol=0.1)
    assert curves["Artsy SNN, spikes only"].get_linestyle() == "--"
    assert curves["Artsy SNN, spikes only"].get_color() == curves["Artsy SNN"].get_color()


@pytest.mark.parametrize("name", ["accuracy_matrix", "gate_matrix"])
def test_matrices(recorded: Recorded, name: str) -> None:
    run, _, _ = recorded
    figure = getattr(plots, name)(run, "artsy_snn")
    matrix = run.summary("artsy_snn")[name]
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, matrix)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"{100 * value:.0f}" for value in matrix.ravel() if np.isfinite(value)]
    learners = 3 if name == "accuracy_matrix" else 2  # SimpleCIL has no gates
    assert sum(bool(axes.images) for axes in getattr(plots, name)(run).axes) == learners


def test_ampa_occupancy(recorded: Recorded) -> None:
    run, truth, _ = recorded
    steps = plots.ampa_occupancy(run).axes[0].patches
    assert [patch.get_label() for patch in steps] == ["task 1", "task 2", "task 3"]
    ampa = truth.ampa[0, "after_task_0"]
    shares = steps[0].get_data().values
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] == pytest.approx((ampa < 0.025).mean())


def test_missing_data_is_skipped_with_a_reason(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        evaluate(recorder)
    skipped: dict[str, str] = {}
    with open_run(tmp_path) as run:
        written = plots.save_figures(run, tmp_path / "figures", ("png", "pdf"), skipped=skipped)
    names = {"accuracy_per_step", "accuracy_matrix", "gate_matrix", "gate_scores"}
    assert {path.stem for path in written} == names and len(written) == 8
    assert set(skipped) == set(plots.FIGURES) - names
    assert "did a spiking learner run?" in skipped["spike_raster"]


def test_an_empty_run_has_no_figures(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()):
        pass
    with open_run(tmp_path) as run:
        assert plots.save_figures(run, tmp_path) == []


def test_figures_save_and_leave_global_settings_alone(recorded: Recorded, tmp_path: Path) -> None:
    run, _, _ = recorded
    before = dict(matplotlib.rcParams)
    written = plots.save_figures(run, tmp_path)
    assert {path.stem for path in written} == set(plots.FIGURES)
    assert all(path.stat().st_size > 5_000 for path in written)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("script", ["conversion_dynamics.py", "ann_vs_snn.py"])
def test_analysis_scripts(recorded: Recorded, tmp_path: Path, script: str) -> None:
    run, _, _ = recorded
    out = tmp_path / ("out" if script == "conversion_dynamics.py" else "out.pdf")
    command = [sys.executable, str(ROOT / "analysis" / script), str(run.path), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert out.exists()
