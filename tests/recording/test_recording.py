"""The run file: round trips, crashes, broken and foreign files, other readers."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import (
    ASSEMBLY,
    CLASSES,
    CONFIG,
    N_TASKS,
    Truth,
    evaluate,
    record,
    simulate,
)

from snn_artsy import files
from snn_artsy.config import RecordConfig
from snn_artsy.observer import STATE_NAMES, NullObserver, Presentations
from snn_artsy.recording import (
    RecordingError,
    Run,
    RunRecorder,
    open_run,
    schema,
    storage,
    writer,
)
from snn_artsy.recording.about import run_integrity

ROOT = Path(__file__).resolve().parents[2]
ATTRIBUTES = {"seed": 7, "device": "cpu"}


def assert_matches(run: Run, truth: Truth) -> None:
    """Everything told through the observer interface is read back unchanged."""
    for population, told in truth.spikes.items():
        read = run.spikes(population)
        assert np.all(np.diff(read.time_ms) >= 0)
        assert sorted(zip(read.time_ms, read.node, strict=True)) == sorted(told)
    stimulus = run.stimulus
    for name in ("start_ms", "stop_ms", "index", "label"):
        told_column = np.concatenate([getattr(shown, name) for shown in truth.stimuli])
        np.testing.assert_array_equal(getattr(stimulus, name), told_column)
    splits = [shown.split for shown in truth.stimuli for _ in shown.start_ms]
    assert [schema.SPLIT_NAMES[code] for code in stimulus.split] == splits
    np.testing.assert_array_equal(np.isfinite(stimulus.teacher_ms), np.array(splits) == "train")
    assert run.synapse_tasks == tuple(range(N_TASKS))
    for task in range(N_TASKS):
        counts = run.counts(task)
        assert counts.time_ms.tolist() == [time_ms for time_ms, _ in truth.counts[task]]
        np.testing.assert_array_equal(counts.counts, [row for _, row in truth.counts[task]])
        events = run.events(task)
        for name in ("time_ms", "pre", "post", "contact", "old", "new"):
            told_column = np.concatenate([getattr(part, name) for part in truth.events[task]])
            np.testing.assert_array_equal(getattr(events, name), told_column)
        traces = run.traces(task)
        assert traces is not None and traces.synapse.shape == (5, 3)
        np.testing.assert_array_equal(traces.variables["ampa"], np.concatenate(truth.traces[task]))
        group = run.group(f"task{task}")
        np.testing.assert_array_equal(group, np.repeat(np.arange(2) + CLASSES * task, ASSEMBLY))
    for (task, moment), ampa in truth.ampa.items():
        assert moment in run.moments(task)
        np.testing.assert_array_equal(run.snapshot(task, moment).ampa, ampa)


@pytest.mark.parametrize("buffer_bytes", [2**24, 1], ids=["one segment a task", "one a call"])
def test_round_trip(tmp_path: Path, buffer_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_MERGE_SEGMENTS", 50)
    plan = RecordConfig(scores=True)
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, plan, buffer_bytes=buffer_bytes) as recorder:
        truth = simulate(recorder)
        with_segments = list((tmp_path / schema.SEGMENT_FOLDER).glob("*.h5"))
        assert len(with_segments) <= 50
        recorder.flush()
        accuracy = evaluate(recorder)
    assert sorted(os.listdir(tmp_path)) == [schema.RUN_FILE, f"{schema.RUN_FILE}.sha256"]
    with open_run(tmp_path) as run:
        assert run.status == "complete" and run.config == CONFIG
        assert run.attributes["seed"] == 7 and run.attributes["end"] >= run.attributes["start"]
        assert "torch" in run.versions
        assert_matches(run, truth)
        for learner, a_t in accuracy.items():
            read = [run.predictions(learner, step) for step in run.steps(learner)]
            assert [float((p.predicted == p.label).mean()) for p in read] == a_t
            assert run.summary(learner)["a_last"] == a_t[-1]
            np.testing.assert_array_equal(run.summary(learner)["a_t"], a_t)
            assert "mean_open_gates" not in run.summary(learner)
            assert (read[-1].gates is None) == (learner == "simplecil")
            assert read[-1].scores is not None and read[-1].scores.dtype == np.float32
        matrix = run.summary("artsy_snn")["accuracy_matrix"]
        assert np.isnan(matrix[0, 1]) and matrix[-1, 0] > 0
        assert set(run.datasets()) >= {"/stimulus/start_ms", "/spikes/retina/timestamps"}
        assert all(schema.lookup(path) is not None for path in run.datasets())


def test_unmerged_segments_read_like_merged_ones(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig(), buffer_bytes=1)
    truth = simulate(recorder)
    assert len(storage.segment_numbers(tmp_path)) > 5
    with open_run(tmp_path) as run:
        assert run.status == "running"
        assert_matches(run, truth)
        sizes = run.datasets()
    recorder.close()
    with open_run(tmp_path) as run:
        assert run.datasets() == sizes


def test_a_checkpoint_closes_one_segment_and_leaves_run_h5_alone(tmp_path: Path) -> None:
    """It is replaced once, at the end."""
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder:
        before = (tmp_path / "run.h5").read_bytes()
        for k in range(3):
            recorder.counts(0, float(k), np.array([k, 0, 0]))
            recorder.counts(1, float(k), np.array([k, 0, 0]))
            recorder.flush()
            recorder.flush()  # nothing new, no segment
            assert storage.segment_numbers(tmp_path) == list(range(1, k + 2))
        assert (tmp_path / "run.h5").read_bytes() == before
    assert storage.segment_numbers(tmp_path) == []
    with open_run(tmp_path) as run:
        assert run.counts(1).time_ms.tolist() == [0.0, 1.0, 2.0]


def test_spikes_of_a_time_range(tmp_path: Path) -> None:
    truth, _ = record(tmp_path)
    with open_run(tmp_path) as run:
        for start, stop in ((0.0, 250.0), (990.0, 1130.0), (1e9, 2e9)):
            read = run.spikes("retina", start, stop)
            told = sorted(s for s in truth.spikes["retina"] if start <= s[0] < stop)
            assert list(zip(read.time_ms, read.node, strict=True)) == told
        with pytest.raises(KeyError, match="recorded: retina, task0"):
            run.spikes("cortex")


def test_spikes_told_out_of_order_are_read_in_order(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder:
        recorder.spikes("retina", np.array([9.0, 7.0]), np.array([1, 2]))
        recorder.flush()
        recorder.spikes("retina", np.array([8.0]), np.array([3]))
    with open_run(tmp_path) as run:
        assert run.spikes("retina").node.tolist() == [2, 3, 1]
        assert run.spikes("retina", 7.5, 8.5).node.tolist() == [3]
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["spikes/retina"].attrs["sorting"] == schema.SORTING["none"]


def test_sonata_tools_open_the_run_file(tmp_path: Path) -> None:
    libsonata = pytest.importorskip("libsonata")
    truth, _ = record(tmp_path)
    reader = libsonata.SpikeReader(str(tmp_path / "run.h5"))
    assert sorted(reader.get_population_names()) == ["retina", "task0", "task1", "task2"]
    retina = reader["retina"]
    assert retina.sorting == "by_time"
    assert sorted((t, n) for n, t in retina.get()) == sorted(truth.spikes["retina"])
    some = retina.get(node_ids=[3], tstart=0.0, tstop=500.0)
    assert some == [(3, t) for t, n in sorted(truth.spikes["retina"]) if n == 3 and t <= 500.0]


def test_root_attributes_are_sonatas(tmp_path: Path) -> None:
    record(tmp_path)
    with h5py.File(tmp_path / "run.h5") as file:
        assert file.attrs["magic"] == 0x0A7A and file.attrs["magic"].dtype == np.uint32
        assert file.attrs["version"].tolist() == [0, 1]
        assert file["spikes/retina/timestamps"].attrs["units"] == "ms"
        sorting = h5py.check_enum_dtype(file["spikes/retina"].attrs.get_id("sorting").dtype)
        assert sorting == {"none": 0, "by_id": 1, "by_time": 2}


# --- interruption ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_an_interrupted_run(tmp_path: Path, error: type[BaseException]) -> None:
    with (
        pytest.raises(error),
        RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder,
    ):
        truth = simulate(recorder)
        raise error
    with open_run(tmp_path) as run:
        assert run.status == "interrupted"
        assert_matches(run, truth)


def test_a_killed_run_opens_and_says_interrupted(tmp_path: Path) -> None:
    script = f"""
        import sys, time
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from synthetic_run import CONFIG, simulate
        from snn_artsy.config import RecordConfig
        from snn_artsy.recording import RunRecorder
        recorder = RunRecorder(sys.argv[1], CONFIG, {{}}, RecordConfig(), buffer_bytes=1)
        simulate(recorder)
        print("ready", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        with open_run(tmp_path) as run:
            assert run.status == "running"
        with pytest.raises(RecordingError, match="another process is writing"):
            RunRecorder(tmp_path, CONFIG, {}, RecordConfig())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    with open_run(tmp_path) as run:
        assert run.status == "interrupted"
        assert_matches(run, simulate(NullObserver()))


LOW_LEVEL = [
    (os, "replace"),
    (os, "fsync"),
    (os, "unlink"),
    (shutil, "copyfile"),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (h5py.File, "__init__"),
    (h5py.File, "close"),
    (h5py.Group, "create_dataset"),
    (h5py.Dataset, "resize"),
    (h5py.Dataset, "__setitem__"),
    (h5py.AttributeManager, "create"),
]


def _write_until(n: int, directory: Path) -> None:
    """Two segments, each merged, in a process that dies with nothing cleaned up after its n-th
    low-level write, sync or rename; exit code 0 if it gets through. What was told first goes to a
    file."""
    facts = {"versions": "{}", "git_commit": "0" * 40}  # so that git is not asked a hundred times
    recorder = RunRecorder(directory, CONFIG, ATTRIBUTES | facts, RecordConfig())
    writer._MERGE_SEGMENTS = 1
    left = n

    def deadly(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            result = real(*arguments, **options)
            left -= 1
            if left == 0:
                os._exit(9)
            return result

        return call

    os.fsync = lambda descriptor: None  # the process dies here, not the machine
    for owner, name in LOW_LEVEL:
        setattr(owner, name, deadly(getattr(owner, name)))
    told = os.open(directory / "told", os.O_WRONLY | os.O_CREAT)
    for checkpoint in range(2):
        for k in range(3):
            recorder.counts(0, float(3 * checkpoint + k), np.array([k, 0, 0]))
            recorder.spikes("retina", np.array([3.0 * checkpoint + k]), np.array([k]))
        recorder.flush()
        os.write(told, b"x")
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_death_after_every_write_and_rename(tmp_path: Path) -> None:
    """Whatever step the writer dies at, the file opens and holds whole calls, in order, no row
    twice, and all that was flushed."""
    for n in itertools.count(1):
        directory = tmp_path / str(n)
        if (pid := os.fork()) == 0:
            try:
                _write_until(n, directory)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9)
        passed = 3 * (directory / "told").stat().st_size if (directory / "told").exists() else 0
        with open_run(directory) as run:
            times = run.counts(0).time_ms.tolist()
            assert run.status == "interrupted"
            if times:
                assert run.spikes("retina").time_ms.tolist() == times
        assert times in ([float(k) for k in range(rows)] for rows in (0, 3, 6))
        assert len(times) >= passed
        if code == 0:
            break
    assert len(times) == 6 and n > 60


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")]
)
def test_a_failing_disk_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(part: Path, path: Path) -> None:
        raise error

    with (
        pytest.raises(RecordingError, match=rf"{error.strerror}.*MiB free.*open_run"),
        RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder,
    ):
        recorder.counts(0, 1.0, np.array([1, 0, 0]))
        recorder.flush()
        recorder.counts(0, 2.0, np.array([1, 0, 0]))
        monkeypatch.setattr(files, "publish", fail)
        recorder.flush()
    with open_run(tmp_path) as run:
        assert run.status == "interrupted" and run.counts(0).time_ms.tolist() == [1.0]
    assert not list(tmp_path.rglob("*.part"))  # nothing half written takes up the full disk


def _recorded_within(limit: int, directory: Path) -> None:
    """Record in a process whose files cannot grow beyond ``limit`` bytes: exit code 0 if they need
    not, 1 with the error in a file, anything else if the process dies."""
    messages = os.open(directory.with_suffix(".messages"), os.O_WRONLY | os.O_CREAT)
    os.dup2(messages, 2)
    code = 0
    try:
        recorder = RunRecorder(directory, CONFIG, ATTRIBUTES, RecordConfig(), buffer_bytes=20_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with recorder:
            simulate(recorder)
            recorder.flush()
            evaluate(recorder)
    except RecordingError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        os.write(messages, str(error).encode())
        code = 1
    os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_files_that_cannot_grow_end_a_run_with_one_error(tmp_path: Path) -> None:
    """HDF5 crashes the process, or prints thousands of lines, where its own writes fail."""
    codes = []
    for limit in (*range(2_000, 400_000, 40_000), 2**20, 2**24):
        directory = tmp_path / str(limit)
        if (pid := os.fork()) == 0:
            try:
                _recorded_within(limit, directory)
            finally:
                os._exit(9)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        message = directory.with_suffix(".messages").read_text()
        if codes[-1]:
            assert codes[-1] == 1 and message.count("cannot be written") == 1
            assert "File too large" in message and "\n" not in message
        with open_run(directory) as run:
            assert run.status == ("interrupted" if codes[-1] else "complete")
            run.counts(0)
        assert not list(tmp_path.rglob("*.part"))
    assert 1 in codes and codes[-1] == 0


def test_a_merge_sets_aside_enough_and_gives_the_rest_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What HDF5 has used when it closes run.h5 is less than what was set aside for it."""
    before, after = [], []
    real = files.publish

    def seen(part: Path, path: Path) -> None:
        if path.name == "run.h5":
            after.append(part.stat().st_size)
        real(part, path)

    def set_aside(descriptor: int, start: int, n_bytes: int) -> None:
        before.append(start + n_bytes)

    monkeypatch.setattr(os, "posix_fallocate", set_aside)
    monkeypatch.setattr(writer, "_MERGE_SEGMENTS", 25)
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig(), buffer_bytes=1) as recorder:
        monkeypatch.setattr(files, "publish", seen)
        for seed in range(2):
            simulate(recorder, seed)
            recorder.flush()
    assert len(after) == len(before) >= 3
    assert all(used < given for used, given in zip(after, before, strict=True))
    monkeypatch.undo()
    assert (tmp_path / "run.h5").stat().st_size == after[-1]


def test_a_vanished_directory_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(RecordingError, match="its directory is gone"),
        RunRecorder(tmp_path / "run", CONFIG, ATTRIBUTES, RecordConfig()) as recorder,
    ):
        recorder.counts(0, 1.0, np.array([1, 0, 0]))
        shutil.rmtree(tmp_path / "run")
        recorder.flush()


@pytest.mark.parametrize("place", ["segment", "merge"])
def test_a_signal_between_two_statements_adds_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It comes after a segment, or run.h5, got its name and before the writer took note."""
    monkeypatch.setattr(writer, "_MERGE_SEGMENTS", 2)
    real = files.publish
    last = "0002.h5" if place == "segment" else "run.h5"

    def interrupted(part: Path, path: Path) -> None:
        real(part, path)
        if path.name == last:
            monkeypatch.setattr(files, "publish", real)
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder,
    ):
        recorder.counts(0, 1.0, np.array([1, 0, 0]))
        recorder.flush()
        recorder.counts(0, 2.0, np.array([1, 0, 0]))
        monkeypatch.setattr(files, "publish", interrupted)
        recorder.flush()
    with open_run(tmp_path) as run:
        assert run.counts(0).time_ms.tolist() == [1.0, 2.0]


# --- broken and foreign files ---------------------------------------------------------------------


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no run\.h5 there"):
        open_run(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    record(tmp_path)
    file = tmp_path / "run.h5"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(RecordingError, match="truncated"):
        open_run(tmp_path)


def test_another_format(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.attrs["format"] = "something"
    with pytest.raises(RecordingError, match="format something, expected snn-artsy-run"):
        open_run(tmp_path)
    (tmp_path / "run.h5").write_text("not HDF5 at all")
    with pytest.raises(RecordingError, match="not a readable HDF5 file"):
        open_run(tmp_path)


def _unseal(directory: Path) -> None:
    """Without its checksum, or a change would be noticed by that alone."""
    (directory / "run.h5.sha256").unlink()


def _edit(path: Path, change: str) -> None:
    _unseal(path.parent)
    with h5py.File(path, "r+") as file:
        if change == "version":
            file.attrs["format_version"] = 99
        elif change == "attribute":
            file.attrs["merged_segments"] = "many"
        elif change == "type":
            del file["stimulus/start_ms"]
            file["stimulus/start_ms"] = np.array([b"x"] * 10)
        elif change == "axes":
            del file["synapses/task0/counts/counts"]
            file["synapses/task0/counts/counts"] = np.zeros(3, dtype=np.int64)
        elif change == "external link":
            file["synapses/task9"] = h5py.ExternalLink("/etc/passwd", "/")
        elif change == "soft link":
            file["synapses/task9"] = h5py.SoftLink("/nowhere")
        elif change == "cycle":
            file["synapses/task9"] = file["synapses"]
        elif change == "external data":
            external = [("/etc/passwd", 0, 80)]
            file.create_dataset("spikes/x/timestamps", (10,), "f8", external=external)
        elif change == "huge":
            file.create_dataset("spikes/x/timestamps", (10**13,), "f8", chunks=(2**20,))
        elif change == "bomb":  # 8 MB of zeros in a piece of 80 bytes
            times = _replaced(file, compression="gzip")
            times.id.write_direct_chunk((0,), zlib.compress(bytes(8_000_000)))
        elif change == "filter":
            _replaced(file, compression="lzf")[:] = 1.0
        elif change == "attributes of spikes":
            file["spikes/retina"].attrs.update({f"x{k}": k for k in range(1100)})
        elif change == "group":
            del file["stimulus/start_ms"]
            file.create_group("stimulus/start_ms")


def _replaced(file: h5py.File, **options: Any) -> h5py.Dataset:
    shape = file["stimulus/start_ms"].shape
    del file["stimulus/start_ms"]
    return file.create_dataset(
        "stimulus/start_ms", shape, "f8", chunks=shape, maxshape=(None,), **options
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bomb", "has a piece of 7.* bytes in place of"),
        ("filter", "packed by a filter that run files do not use: 32000"),
        ("attributes of spikes", "too many or large attributes"),
        ("version", "version 99.*reads version 1"),
        ("attribute", "merged_segments"),
        ("type", r"/stimulus/start_ms is .*expected float64 \[n\]"),
        ("axes", "counts/counts"),
        ("external link", "is a link"),
        ("soft link", "is a link"),
        ("cycle", "levels"),
        ("external data", "from another file"),
        ("huge", "declares 80000000000000 bytes but holds 0"),
        ("group", "is a group"),
    ],
)
def test_what_does_not_belong_is_refused(tmp_path: Path, change: str, message: str) -> None:
    record(tmp_path)
    _edit(tmp_path / "run.h5", change)
    with pytest.raises(RecordingError, match=message):
        open_run(tmp_path)


def test_columns_of_different_length(tmp_path: Path) -> None:
    record(tmp_path)
    _unseal(tmp_path)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file["stimulus/label"].resize(3, axis=0)
    with pytest.raises(RecordingError, match="different length"):
        open_run(tmp_path)


def test_damaged_and_missing_segments(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig(), buffer_bytes=1)
    simulate(recorder)
    second = storage.segment_path(tmp_path, 2)
    whole = second.read_bytes()
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RecordingError, match=r"0002\.h5: damaged \(checksum"):
        open_run(tmp_path)
    second.unlink()
    with pytest.raises(RecordingError, match=r"0002\.h5: missing"):
        open_run(tmp_path)
    second.write_bytes(whole)
    open_run(tmp_path).close()
    recorder.close()


@pytest.mark.parametrize("path", ["spikes/retina/timestamps", "synapses/task0/events/time_ms"])
def test_damaged_data_is_noticed(tmp_path: Path, path: str) -> None:
    record(tmp_path)
    _unseal(tmp_path)
    with h5py.File(tmp_path / "run.h5") as file:
        chunk = file[path].id.get_chunk_info(0)
    with (tmp_path / "run.h5").open("r+b") as stream:
        stream.seek(chunk.byte_offset + chunk.size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 0xFF]))
    with open_run(tmp_path) as run, pytest.raises(RecordingError, match=r"run\.h5: damaged"):
        _ = run.spikes("retina"), run.events(0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_gets_past_the_checksum(
    finished: bytes, seal: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any byte changed, any tail cut off: one error, whatever HDF5 would have made of it."""
    directory = tmp_path_factory.mktemp("damaged")
    at = data.draw(st.integers(0, len(finished) - 1))
    if data.draw(st.booleans()):
        changed = finished[:at]
    else:
        flipped = bytes([finished[at] ^ data.draw(st.integers(1, 255))])
        changed = finished[:at] + flipped + finished[at + 1 :]
    (directory / "run.h5").write_bytes(changed)
    (directory / "run.h5.sha256").write_text(seal)
    with pytest.raises(RecordingError, match=r"damaged, its checksum"):
        open_run(directory)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sealed")
    record(directory)
    return directory


@pytest.fixture(scope="module")
def finished(sealed: Path) -> bytes:
    return (sealed / "run.h5").read_bytes()


@pytest.fixture(scope="module")
def seal(sealed: Path) -> str:
    return (sealed / "run.h5.sha256").read_text()


def test_a_finished_run_has_the_checksum_that_sha256sum_writes(
    sealed: Path, finished: bytes, seal: str
) -> None:
    assert seal == f"{hashlib.sha256(finished).hexdigest()}  run.h5\n"
    with open_run(sealed) as run:
        assert run_integrity(run) == "intact (SHA-256)"


# --- what may be told -----------------------------------------------------------------------------


def test_a_taken_directory_is_refused(tmp_path: Path) -> None:
    record(tmp_path)
    with pytest.raises(RecordingError, match="exists; give a directory that holds no run"):
        RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig())


def test_wrong_calls_name_the_dataset(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder:
        with pytest.raises(ValueError, match="different length"):
            recorder.trace(9, np.zeros(2), np.zeros((1, 3), dtype=int), {"ampa": np.zeros((3, 1))})
        with pytest.raises(ValueError, match="without slashes"):
            recorder.summary("a/b", {"a_t": [1.0]})
        recorder.trace(0, np.zeros(1), np.zeros((2, 3), dtype=int), {"ampa": np.zeros((1, 2))})
        with pytest.raises(ValueError, match="differ from those"):
            recorder.trace(0, np.zeros(1), np.ones((2, 3), dtype=int), {"ampa": np.zeros((1, 2))})


WRONG_CALLS: dict[str, Callable[[RunRecorder], None]] = {
    "got float64, expected int64": lambda r: r.counts(0, 1.0, np.array([0.5, 1, 2])),
    "got shape": lambda r: r.counts(0, 1.0, np.zeros((2, 3), dtype=int)),
    "NaN or infinite": lambda r: r.counts(0, np.nan, np.array([1, 2, 3])),
    "not part": lambda r: r.counts(1.5, 1.0, np.array([1, 2, 3])),  # type: ignore[arg-type]
    "expected float64": lambda r: r.spikes("retina", np.array(["a"]), np.array([1])),
    "beyond 0 to": lambda r: r.spikes("retina", np.array([1.0]), np.array([-1])),
    "of different length": lambda r: r.spikes("retina", np.array([1.0]), np.array([1, 2])),
    "use a name": lambda r: r.spikes("..", np.array([1.0]), np.array([1])),
    "split: 'all'": lambda r: r.presentations(
        Presentations(np.zeros(1), np.ones(1), "all", *np.zeros((2, 1), int), 0)  # type: ignore
    ),
    "beyond 0 to 2": lambda r: r.snapshot(
        0, "now", np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 3, np.uint8)
    ),
    "unequal length": lambda r: r.evaluation(
        "x", 0, [0, 1], [0, 1], [0, 1], scores=[[0.5], [1, 2]]
    ),
    "expected a number or text": lambda r: r.summary("x", {"a": object()}),
    "got int64, expected bool": lambda r: r.evaluation("x", 0, [0], [0], [0], gates=[[2]]),
}


@pytest.mark.parametrize("message", WRONG_CALLS)
def test_what_would_be_cut_or_wrap_around_is_refused(message: str, tmp_path: Path) -> None:
    plan = RecordConfig(scores=True)
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, plan) as recorder:
        with pytest.raises(ValueError, match=message):
            WRONG_CALLS[message](recorder)
        recorder.counts(0, 1.0, np.array([1, 0, 0]))
    with open_run(tmp_path) as run:
        assert set(run.datasets()) == {f"/synapses/task0/counts/{n}" for n in ("time_ms", "counts")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"config_yaml": {}},
        {"plan": {}},
        {"buffer_bytes": 0},
        {"buffer_bytes": float("nan")},
        {"attributes": {"seed": "x"}},
        {"attributes": {"x": [1]}},
        {"recorded": {"/stimulus/label": -1}},
    ],
    ids=str,
)
def test_a_recorder_is_made_of_what_it_takes(wrong: dict[str, Any], tmp_path: Path) -> None:
    right = {"config_yaml": CONFIG, "attributes": ATTRIBUTES, "plan": RecordConfig()}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RunRecorder(tmp_path / "new", **{**right, **wrong})
    assert not (tmp_path / "new").exists()


def test_the_recorder_keeps_copies(tmp_path: Path) -> None:
    counts = np.array([5, 0, 0])
    with RunRecorder(tmp_path, CONFIG, ATTRIBUTES, RecordConfig()) as recorder:
        recorder.counts(0, 1.0, counts)
        counts[:] = 0
    with open_run(tmp_path) as run:
        assert run.counts(0).counts.tolist() == [[5, 0, 0]]


def test_memory_is_bounded(tmp_path: Path) -> None:
    with RunRecorder(
        tmp_path, CONFIG, ATTRIBUTES, RecordConfig(), buffer_bytes=200_000
    ) as recorder:
        for batch in range(100):
            times = np.sort(np.random.default_rng(batch).uniform(batch, batch + 1, 1000))
            recorder.spikes("retina", times, np.zeros(1000, dtype=np.int64))
            assert recorder._bytes <= 200_000 + 20_000
    with open_run(tmp_path) as run:
        assert len(run.spikes("retina").time_ms) == 100_000


@pytest.mark.parametrize("name", ["spike_presentations", "traced_synapses"])
def test_plan_is_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"record.{name}: -1"):
        RecordConfig(**{name: -1})


# --- the format -----------------------------------------------------------------------------------


def test_documentation_holds_the_schema() -> None:
    text = (ROOT / "docs" / "file_format.md").read_text(encoding="utf-8")
    assert schema.markdown() in text, "paste snn_artsy.recording.schema.markdown() into it"


def test_documented_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("libsonata")
    record(tmp_path / "runs" / "X")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "file_format.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/file_format.md", "exec"), {})


def test_states_have_one_order() -> None:
    assert h5py.check_enum_dtype(schema.ENUMS["state"]) == {n: k for k, n in enumerate(STATE_NAMES)}


def test_reading_and_drawing_need_no_torch() -> None:
    code = (
        "import sys, snn_artsy.recording as r, snn_artsy.plots; r.open_run, r.RunRecorder;"
        "bad = {'torch', 'timm', 'snntorch', 'matplotlib.pyplot'} & set(sys.modules);"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_null_observer_wants_nothing() -> None:
    plan = NullObserver().plan
    assert not (plan.spike_presentations or plan.traced_synapses or plan.conversions)
    simulate(NullObserver())  # and takes every call
