"""Figures show the recorded numbers."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from synthetic_run import (
    CONFIG,
    LAG_MS,
    N_TASKS,
    POST,
    TEST,
    TRAIN,
    WINDOW,
    Truth,
    evaluate,
    record,
)

from snn_artsy import plots
from snn_artsy.config import RecordConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT, Conversions, Presentations
from snn_artsy.plots.comparison import runs_compared
from snn_artsy.plots.style import (
    BLACK,
    BLUE,
    PURPLE,
    STATE_COLOURS,
    learner_colour,
    learner_marker,
)
from snn_artsy.plots.synapses import _coarse
from snn_artsy.recording import Run, RunRecorder, open_run
from snn_artsy.registry import LEARNERS

ROOT = Path(__file__).resolve().parents[2]
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
    # born silent; the first count comes after the first batch
    counts = np.concatenate([[[counts[0].sum(), 0, 0]], counts])
    for state, (name, colour) in enumerate(STATE_COLOURS.items()):
        np.testing.assert_array_equal(lines[name].get_ydata(), counts[:, state])
        # Task 1 begins after TRAIN presentations; its counts come every ten.
        expected = TRAIN + 10 * np.arange(TRAIN // 10 + 1)
        np.testing.assert_allclose(lines[name].get_xdata(), expected)
        assert lines[name].get_color() == colour


def test_conversion_counts_sum_sub_networks(recorded: Recorded) -> None:
    run, truth, _ = recorded
    axes = plots.conversion_counts(run).axes[0]
    silent = next(line for line in axes.lines if line.get_label() == "silent")
    final = sum(int(truth.counts[task][-1][1][0]) for task in range(N_TASKS))
    assert silent.get_ydata()[-1] == final
    assert silent.get_ydata()[0] == truth.counts[0][0][1].sum() and silent.get_xdata()[0] == 0
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


@pytest.mark.parametrize("width", [85, 180])
@pytest.mark.parametrize("n_tests", [0, 3, 200])
def test_time_above_has_round_numbers(tmp_path: Path, width: int, n_tests: int) -> None:
    """Also where tests between tasks make jumps in time; no two of them crowd."""
    clock, nothing = 0.0, np.zeros(0, dtype=int)
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for task in range(3):
            for split, n in (("train", 243), ("test", n_tests)):
                start, clock = clock + 100.0 * np.arange(n), clock + 100.0 * n
                nothing = np.zeros(n, dtype=int)
                recorder.presentations(
                    Presentations(start, start + 100.0, split, nothing, nothing, task)
                )
            recorder.counts(task, clock, np.array([5, 3, 0]))
    with open_run(tmp_path) as run, plots.look(width=width):
        figure = plots.conversion_counts(run)
    figure.draw_without_rendering()
    above = figure.axes[0].child_axes[0]
    texts = [float(label.get_text()) for label in above.get_xticklabels()]
    np.testing.assert_allclose(texts, above.get_xticks())
    assert len(texts) >= 3 and all(text == float(f"{text:.2g}") for text in texts)
    boxes = [label.get_window_extent() for label in above.get_xticklabels()]
    assert all(a.x1 + 3 < b.x0 for a, b in itertools.pairwise(boxes))


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
    assert retina.get_xlim()[0] < 0  # a spike in the first step is no part of the frame
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
    last = int(np.flatnonzero(run.stimulus.of_split("test"))[-1])
    retina, post = plots.spike_raster(run, presentation=last).axes
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
    names = {"accuracy_per_step", "accuracy_matrix", "gate_matrix", "gate_scores", "ann_minus_snn"}
    assert {path.stem for path in written} == names and len(written) == 10
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
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "analysis" / script), str(run.path), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(out.glob("*.pdf"))


# --- conversion, over time and between states -----------------------------------------------------


def test_conversion_rate_times_presentations_is_every_event(tmp_path: Path) -> None:
    """Told by hand: 30 presentations in three updates, 6, 3 and 0 insertions, then capture."""
    state = np.zeros(9, dtype=np.uint8)
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for update, n in enumerate((6, 3, 0)):
            start = 1000.0 * update + 100.0 * np.arange(10)
            recorder.presentations(
                Presentations(start, start + 100, "train", np.arange(10), np.zeros(10, int), 0)
            )
            end = 1000.0 * (update + 1)
            if n:
                recorder.conversions(events(0, end, np.arange(n), SILENT, FUNCTIONAL))
            recorder.counts(0, end, np.array([0, 0, 0]))
        recorder.conversions(events(0, end, np.arange(9), FUNCTIONAL, CONSOLIDATED))
        recorder.counts(0, end, np.array([0, 0, len(state)]))
    with open_run(tmp_path) as run:
        lines = [
            line for line in plots.conversion_rate(run).axes[0].lines if len(line.get_xdata()) > 2
        ]
    assert len(lines) == 1  # capture is no rate
    np.testing.assert_allclose(lines[0].get_xdata(), [5, 15, 25])
    np.testing.assert_allclose(lines[0].get_ydata(), [0.6, 0.3, 0.0])


def events(task: int, time_ms: float, pre: NDArray[np.int64], old: int, new: int) -> Conversions:
    n, zero = len(pre), np.zeros(len(pre), dtype=np.int64)
    codes = [np.full(n, code, dtype=np.uint8) for code in (old, new)]
    return Conversions(task, np.full(n, time_ms), pre, zero, zero, *codes)


def test_transition_flow_is_the_cross_table_of_snapshots(tmp_path: Path) -> None:
    first = np.repeat([SILENT, FUNCTIONAL, CONSOLIDATED], [5, 3, 2]).astype(np.uint8)
    second = first.copy()
    second[0], second[5], second[6] = FUNCTIONAL, SILENT, CONSOLIDATED
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for task, state in enumerate((first, second)):
            shape = (2, 5, 1)
            recorder.snapshot(
                0, f"after_task_{task}", np.zeros(shape, np.float32), state.reshape(shape)
            )
    with open_run(tmp_path) as run:
        axes = plots.transition_flow(run).axes[0]
    columns = np.array([bar.get_height() for bar in axes.patches]).reshape(3, 3)
    np.testing.assert_allclose(columns, [[1, 0, 0], [0.5, 0.3, 0.2], [0.5, 0.2, 0.3]])
    # each band is as high as the share it stands for, at either end
    heights = []
    for band in axes.collections:
        x, y = band.get_paths()[0].vertices.T
        heights.append(np.ptp(y[np.isclose(x, x.max())]))
    np.testing.assert_allclose(
        sorted(heights), sorted([0.5, 0.3, 0.2, 0.4, 0.1, 0.1, 0.1, 0.1, 0.2]), atol=1e-9
    )


def test_a_birth_that_was_not_recorded_is_not_invented(tmp_path: Path) -> None:
    """Contacts changed, and no change was recorded."""
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for update, silent in enumerate((5, 3)):
            start = 1000.0 * update + 100.0 * np.arange(10)
            recorder.presentations(
                Presentations(start, start + 100, "train", np.arange(10), np.zeros(10, int), 0)
            )
            recorder.counts(0, 1000.0 * (update + 1), np.array([silent, 9 - silent, 0]))
    with open_run(tmp_path) as run:
        line = plots.silent_survival(run).axes[0].lines[0]
    assert line.get_xdata().tolist() == [10, 20]


def test_rates_of_two_tasks_are_not_joined(recorded: Recorded) -> None:
    run, _, _ = recorded
    figure = plots.conversion_rate(run)
    for line in figure.axes[0].lines:
        x = np.asarray(line.get_xdata())
        if len(x) > 2:
            assert x[0] // TRAIN == x[-1] // TRAIN
    names = [text.get_text() for text in figure.legends[0].texts]
    assert len(names) == len(set(names))


def test_equal_gate_scores_show_as_points_and_shares(tmp_path: Path) -> None:
    """A score that most samples share has no quartiles apart, of which a box could be made."""
    labels = np.repeat([0, 1], 10)
    scores = np.where(np.arange(20)[:, None] < 9, [[0.0, -1.0]], [[-2.0, 0.5]])
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for step in (0, 1):
            shown = slice(0, 10 * (step + 1))
            recorder.evaluation(
                "artsy_snn", step, np.arange(20)[shown], labels[shown], labels[shown],
                gates=(scores >= 0)[shown, : step + 1], gate_scores=scores[shown, : step + 1],
            )  # fmt: skip
        recorder.summary("artsy_snn", {"accuracy_matrix": np.eye(2)})
    with open_run(tmp_path) as run:
        figure = plots.gate_scores(run)
    above, below = figure.axes
    clouds = [line for line in above.lines if line.get_marker() == "."]
    assert [len(cloud.get_ydata()) for cloud in clouds] == [10, 10, 10, 10]
    shares = [[bar.get_height() for bar in bars] for bars in below.containers]
    assert shares == [[90, 100], [0, 10]]  # own: 9 of 10 and all; others: none and 1 of 10


@pytest.mark.parametrize("spread", [0.0, 4.0])
def test_every_teaching_spike_is_drawn(tmp_path: Path, spread: float) -> None:
    config = (
        "snn:\n  encoding: {period_ms: 25.0}\n  teacher: {phase_spread_ms: " + f"{spread}" + "}\n"
    )
    zero = np.zeros(1)
    with RunRecorder(tmp_path, config, {}, RecordConfig()) as recorder:
        recorder.classes(["cat", "a $name$ that is longer than it should be"])
        recorder.population("retina", np.array([0, 1]))
        recorder.population("task0", np.array([1, 1]))
        recorder.presentations(
            Presentations(zero, zero + 100, "train", zero.astype(int), zero.astype(int) + 1, 0,
                          zero + 15)
        )  # fmt: skip
        recorder.spikes("retina", np.array([0.0, 5.0]), np.array([0, 1]))
        recorder.spikes("task0", np.array([15.0]), np.array([1]))
    with open_run(tmp_path) as run:
        figure = plots.spike_raster(run)
    retina, post = figure.axes
    if spread:
        drawn = [(band.get_x(), band.get_width()) for band in retina.patches]
        assert drawn == [(15, 8), (40, 8), (65, 8), (90, 8)]
    else:
        assert [line.get_xdata()[0] for line in retina.lines] == [15, 40, 65, 90]
    assert retina.get_xlim()[0] < 0 and retina.get_ylim()[0] < 0
    name = "a \\$name\\$ that is longer…"
    assert retina.get_title().replace("\n", " ").endswith(f"train sample 0, class {name}")
    assert post.collections[0].get_label() == f"assembly of class {name}"


def test_legends_name_what_is_there(tmp_path: Path) -> None:
    """States that no contact is in, and learners that answered no common image, are not named."""
    state = np.array([SILENT, FUNCTIONAL], dtype=np.uint8).reshape(1, 2, 1)
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        start = 100.0 * np.arange(10)
        recorder.presentations(
            Presentations(start, start + 100, "train", np.arange(10), np.zeros(10, int), 0)
        )
        recorder.counts(0, 1000.0, np.array([1, 1, 0]))
        recorder.snapshot(0, "after_task_0", np.zeros((1, 2, 1), np.float32), state)
        for learner, index in (("artsy_ann", 0), ("artsy_snn", 1)):
            one = np.array([index])
            recorder.evaluation(learner, 0, one, one, one)
    with open_run(tmp_path) as run:
        for draw in (plots.state_flow, plots.transition_flow):
            texts = [text.get_text() for text in draw(run).legends[0].texts]
            assert texts == ["silent", "functional"]
        with pytest.raises(plots.NothingRecorded, match="no test images that both"):
            plots.ann_minus_snn(run)


def test_runs_compared_has_hollow_marks_of_spikes_alone(recorded: Recorded) -> None:
    run, _, _ = recorded
    axes = runs_compared([run]).axes[0]
    faces = [bars.lines[0].get_markerfacecolor() for bars in axes.containers]
    hollow = [text.get_text().endswith("only") for text in axes.get_yticklabels()]
    assert [face == "white" for face in faces] == hollow and sum(hollow) == 1
    mark = axes.containers[hollow.index(True)].lines[0]
    # white within the edge, wide enough to be seen
    assert mark.get_markersize() - 2 * mark.get_markeredgewidth() >= 4


def test_stdp_window_is_what_the_pairs_were_made_with(recorded: Recorded) -> None:
    run, _, _ = recorded
    figure = plots.stdp_window(run)
    drawn = {}
    for bars in figure.axes[0].containers:
        drawn |= dict(zip(*bars.lines[0].get_data(), strict=True))
    expected = {lag: change for lag, change in zip(LAG_MS, WINDOW, strict=True) if lag != 0}
    assert set(drawn) == set(expected)
    for lag, change in expected.items():
        assert drawn[lag] == pytest.approx(change, abs=1e-6)


def test_many_events_are_thinned_and_it_is_said(recorded: Recorded) -> None:
    run, truth, _ = recorded
    total = sum(len(part.pre) for parts in truth.events.values() for part in parts)
    figure = plots.conversion_raster(run, most=total // 7)
    drawn = sum(len(marks.get_offsets()) for marks in figure.axes[0].collections)
    assert abs(drawn - total / 8) <= N_TASKS
    assert figure.axes[0].get_title() == f"one of 8 events drawn, of {total:,}"


def test_coarse_maps_keep_the_mean() -> None:
    values = np.random.default_rng(0).random((10, 7)).astype(np.float32)
    found = _coarse(values, 4, 3)
    assert found.shape == (4, 3)
    np.testing.assert_allclose(found[0, 0], values[:3, :3].mean(), rtol=1e-5)
    np.testing.assert_allclose(found[3, 2], values[9:, 6:].mean(), rtol=1e-5)
    assert _coarse(values, 10, 7) is values


# --- ANN against SNN ------------------------------------------------------------------------------


def test_ann_minus_snn_is_paired(tmp_path: Path) -> None:
    """Both wrong on the same images: no difference and no spread, although accuracies have one."""
    labels = np.repeat([0, 1], 20)
    wrong = np.where(np.arange(40) % 4 == 0, 1 - labels, labels)
    worse = np.where(np.arange(40) % 2 == 0, 1 - labels, labels)
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        order = np.random.default_rng(0).permutation(40)
        recorder.evaluation("artsy_ann", 0, np.arange(40), labels, wrong)
        recorder.evaluation(
            "artsy_snn", 0, order, labels[order], wrong[order], spike_predicted=worse[order]
        )
    with open_run(tmp_path) as run:
        with_h0, alone = plots.ann_minus_snn(run).axes[0].containers
    assert with_h0.lines[0].get_ydata() == [0.0]
    np.testing.assert_array_equal(with_h0.lines[2][0].get_segments()[0][:, 1], 0.0)
    assert alone.lines[0].get_ydata() == [pytest.approx(25.0)]
    low, high = alone.lines[2][0].get_segments()[0][:, 1]
    # standard error of a paired difference that is 1 in a quarter of 40 images: 6.8 points
    assert low == pytest.approx(25 - 1.96 * 6.8, abs=2.5)
    assert high == pytest.approx(25 + 1.96 * 6.8, abs=2.5)


def test_learners_can_be_told_apart() -> None:
    looks = [(learner_colour(name, 0), learner_marker(name)) for name in LEARNERS]
    assert len(set(looks)) == len(LEARNERS)


# --- long runs ------------------------------------------------------------------------------------


def test_blocks_of_events_are_the_events(recorded: Recorded) -> None:
    run, _, _ = recorded
    whole = run.events(1)
    blocks = list(run.event_blocks(1, rows=7))
    assert run.n_events(1) == len(whole.time_ms) and len(blocks) > 3
    for name in ("time_ms", "pre", "post", "contact", "old", "new"):
        joined = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_one_contact_s_traces_are_its_column(recorded: Recorded) -> None:
    run, _, _ = recorded
    every, one = run.traces(0), run.traces(0, synapse=3)
    assert every is not None and one is not None
    np.testing.assert_array_equal(one.variables["ampa"][:, 0], every.variables["ampa"][:, 3])
    np.testing.assert_array_equal(one.synapse, every.synapse[3:4])


def test_pairings_are_thinned_evenly(recorded: Recorded) -> None:
    run, _, _ = recorded
    whole, some = run.pairings(2), run.pairings(2, most=2)
    assert whole is not None and some is not None and len(whole.time_ms) == 4
    np.testing.assert_array_equal(some.pairs, whole.pairs[::2])


def test_first_spike(recorded: Recorded) -> None:
    run, _, _ = recorded
    times = run.spikes("retina").time_ms
    assert run.first_spike_ms("retina", 0.0) == times[0]
    assert run.first_spike_ms("retina", times[17] + 1e-9) == times[18]
    assert run.first_spike_ms("retina", times[-1] + 1) is None
    assert run.first_spike_ms("task9", 0.0) is None


@pytest.mark.parametrize("writer", ["whole", "segments"])
def test_figures_do_not_depend_on_how_far_segments_were_merged(tmp_path: Path, writer: str) -> None:
    """A killed run is read from several files."""
    with RunRecorder(tmp_path, CONFIG, {}, RecordConfig()) as recorder:
        for update in range(6):
            recorder.conversions(events(0, 100.0 * update, np.arange(5), SILENT, FUNCTIONAL))
            if writer == "segments":
                recorder.flush()
        with open_run(tmp_path) as run:
            blocks = list(run.event_blocks(0, rows=4))
            n = run.n_events(0)
    expected = 30 if writer == "segments" else 0  # nothing is on the disk before
    assert n == expected == sum(len(block.time_ms) for block in blocks)
