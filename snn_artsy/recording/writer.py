"""Writing a run: rows are collected in memory, kept in closed segments, merged into run.h5.

HDF5's own flush is not atomic, so a kill inside it can cost a whole open file. Here no file that
counts is ever open for writing: a segment is written under a temporary name and renamed, one for
each checkpoint, and at the end run.h5 is replaced by a copy that holds them all. A kill loses what
was in memory, which a run that goes on from its checkpoint computes again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_artsy import files
from snn_artsy.config import RecordConfig
from snn_artsy.observer import INPUTS, Conversions, Pairings, Presentations
from snn_artsy.provenance import git_state, versions
from snn_artsy.recording import schema, storage, told
from snn_artsy.recording.files import open_checked
from snn_artsy.recording.guard import first_look, read_attributes
from snn_artsy.recording.lock import WriterLock
from snn_artsy.recording.schema import RecordingError

# Segments pile up until the end, or until a reader would need so many open files.
_MERGE_SEGMENTS = 256


def _grows(path: str) -> bool:
    entry = schema.lookup(path)
    return entry is not None and entry.grows


def _commit() -> str:
    commit, dirty = git_state(Path(__file__).resolve().parents[2])
    return (commit or "") + ("-dirty" if dirty else "")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class RunRecorder:
    """Writes ``directory/run.h5``; a `SynapseObserver` and a context manager.

    Leaving the ``with`` block merges everything: status ``complete``, or ``interrupted`` when it is
    left by an exception (KeyboardInterrupt and SystemExit included).

    Args:
        directory: Directory of the run, made if missing; must not hold a run already, unless
            ``recorded`` is given.
        config_yaml: The whole configuration, as text.
        attributes: Root attributes: ``seed``, ``device`` and any other numbers or text.
            ``versions`` (a mapping) and ``git_commit`` are found when not given; None is left out.
        plan: What to record; the learner reads it.
        buffer_bytes: Rows kept in memory at most, about; more are written to a segment.
        recorded: Go on with the run in ``directory`` from the moment when `recorded` was this; what
            was told later is dropped, and its configuration and attributes stay as they are.
        lock: The directory's, held by the caller; None: it is taken here and released by `close`.

    Raises:
        RecordingError: The directory holds a run (none, with ``recorded``), another process writes
            there, or it can't be written.
        ValueError: An argument is of another kind; calls raise it likewise, and keep nothing then.
        DamageError: With ``recorded``: the run is damaged, or holds less. It is left as it was.
    """

    def __init__(
        self,
        directory: str | Path,
        config_yaml: str,
        attributes: Mapping[str, Any],
        plan: RecordConfig,
        buffer_bytes: int = 2**24,
        recorded: Mapping[str, int] | None = None,
        lock: WriterLock | None = None,
    ) -> None:
        told.check_recorder(config_yaml, attributes, plan, buffer_bytes, recorded)
        self.directory = Path(directory)
        self.path = self.directory / schema.RUN_FILE
        self._plan = plan
        self._buffer_bytes = buffer_bytes
        # One entry a call: appending it is one step, which a signal can't leave half done.
        self._calls: list[dict[str, NDArray[Any]]] = []
        self._recorded: dict[str, int] = {}
        self._bytes = 0
        self._scalars: dict[str, dict[str, Any]] = {}
        self._last_spike: dict[str, float] = {}
        self._unsorted: set[str] = set()
        self._traced: dict[int, NDArray[np.int64]] = {}
        self._chosen: dict[str, NDArray[np.int64]] = {}  # neurons of populations, where not all
        self._seed = int(attributes.get("seed", 0))
        self._segment = self._merged = 0
        self._closed = False
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._own_lock = WriterLock(self.directory) if lock is None else None
        except OSError as error:
            raise storage.cannot_write(self.path, error) from error
        try:
            if recorded is None:
                self._create(config_yaml, attributes)
            else:
                self._reopen(recorded)
        except BaseException:
            self._unlock()
            raise

    def _create(self, config_yaml: str, attributes: Mapping[str, Any]) -> None:
        root: dict[str, Any] = {
            "versions": attributes.get("versions") or versions(),
            "git_commit": attributes.get("git_commit") or _commit(),
            **attributes,
            "format": schema.FORMAT,
            "format_version": schema.FORMAT_VERSION,
            "magic": schema.SONATA_MAGIC,
            "version": schema.SONATA_VERSION,
            "status": schema.RUNNING,
            "config": config_yaml,
            "start": _now(),
            "end": "",
            "merged_segments": 0,
        }
        if not isinstance(root["versions"], str):
            root["versions"] = json.dumps(root["versions"])
        if self.path.exists():
            raise RecordingError(f"{self.path} exists; give a directory that holds no run yet")
        try:
            storage.segment_path(self.directory, 1).parent.mkdir(exist_ok=True)
        except OSError as error:
            raise storage.cannot_write(self.path, error) from error
        with storage.whole(self.path, sealed=True) as part, storage.in_memory(part) as file:
            for name, value in root.items():
                if value is not None:
                    file.attrs[name] = value

    def _reopen(self, recorded: Mapping[str, int]) -> None:
        """Make run.h5 what it was at a moment before."""
        merged = int(read_attributes(self.path)["merged_segments"])
        # A damaged segment matters only if `recorded` counts its rows, which `cut` finds out.
        segments = storage.sound_segments(self.directory, merged)
        first_look(segments)
        storage.segment_path(self.directory, 1).parent.mkdir(exist_ok=True)
        with storage.whole(self.path, sealed=True) as part:
            shutil.copyfile(self.path, part)
            with storage.extended(part, storage.merge_bytes(self.directory, recorded)) as file:
                for path in segments:
                    with open_checked(path) as segment:
                        storage.merge(file, segment)
                storage.cut(file, recorded)
                # all that are there, so that none is taken for one written from now on
                self._segment = max([merged, *storage.segment_numbers(self.directory)])
                self._merged = self._segment
                file.attrs["merged_segments"] = self._merged
                file.attrs["status"] = schema.RUNNING
                file.attrs["end"] = ""
                file.attrs["resumed"] = int(file.attrs.get("resumed", 0)) + 1
                self._remember(file)
        self._remove_segments()
        self._recorded = dict(recorded)

    def _remember(self, file: h5py.File) -> None:
        """What later calls are checked against."""
        for name, population in file.get("spikes", {}).items():
            if int(population.attrs["sorting"]) == schema.SORTING["by_time"]:
                self._last_spike[name] = float(population["timestamps"][-1])
            else:
                self._unsorted.add(name)
        for name, population in file.get("populations", {}).items():
            if "recorded" in population:
                self._chosen[name] = population["recorded"][()]
        for name, task in file.get("synapses", {}).items():
            if "traces" in task:
                self._traced[int(name.removeprefix("task"))] = task["traces/synapse"][()]

    # --- the observer's calls ---------------------------------------------------------------------

    @property
    def plan(self) -> RecordConfig:
        return self._plan

    def population(self, name: str, group: NDArray[np.int64]) -> None:
        arrays = {f"/populations/{name}/group": group}
        if self._plan.neurons is not None and len(group) > self._plan.neurons:
            drawn = np.random.default_rng([self._seed, *name.encode()])
            chosen = np.sort(drawn.choice(len(group), self._plan.neurons, replace=False))
            arrays[f"/populations/{name}/recorded"] = self._chosen[name] = chosen
        self._keep(arrays)

    def presentations(self, shown: Presentations) -> None:
        n = len(shown.start_ms)
        if shown.split not in schema.SPLIT_NAMES:
            raise ValueError(f"split: {shown.split!r}; use {', '.join(schema.SPLIT_NAMES)}")
        split = schema.SPLIT_NAMES.index(shown.split)
        teacher = np.full(n, np.nan) if shown.teacher_ms is None else shown.teacher_ms
        self._table(
            "/stimulus",
            {
                "start_ms": shown.start_ms,
                "stop_ms": shown.stop_ms,
                "teacher_ms": teacher,
                "split": np.full(n, split),
                "index": shown.index,
                "label": shown.label,
                "task": np.full(n, shown.task),
            },
        )

    def spikes(
        self, population: str, time_ms: NDArray[np.float64], node: NDArray[np.int64]
    ) -> None:
        if ("retina" if population in INPUTS else "tasks") not in self._plan.populations:
            return
        if population in self._chosen:
            wanted = np.isin(node, self._chosen[population])
            time_ms, node = time_ms[wanted], node[wanted]
        group = f"/spikes/{population}"
        time_ms = told.column(f"{group}/timestamps", time_ms)
        node = told.column(f"{group}/node_ids", node)
        if len(time_ms) != len(node):
            raise ValueError(
                f"{group}: columns of different length: {len(time_ms)} times, {len(node)} neurons"
            )
        # SONATA wants an order that holds for the whole file; batches arrive image by image.
        order = np.argsort(time_ms, kind="stable")
        times = time_ms[order]
        if len(times):
            if times[0] < self._last_spike.get(population, -np.inf):
                self._unsorted.add(population)
            self._last_spike[population] = max(
                float(times[-1]), self._last_spike.get(population, -np.inf)
            )
        self._table(group, {"timestamps": times, "node_ids": node[order]})

    def counts(self, task: int, time_ms: float, counts: NDArray[np.int64]) -> None:
        self._table(
            f"/synapses/task{task}/counts",
            {"time_ms": np.array([time_ms]), "counts": np.asarray(counts)[None]},
        )

    def conversions(self, events: Conversions) -> None:
        self._table(
            f"/synapses/task{events.task}/events",
            {
                "time_ms": events.time_ms,
                "pre": events.pre,
                "post": events.post,
                "contact": events.contact,
                "old": events.old,
                "new": events.new,
            },
        )

    def snapshot(
        self, task: int, moment: str, ampa: NDArray[np.float32], state: NDArray[np.uint8]
    ) -> None:
        group = f"/synapses/task{task}/snapshots/{moment}"
        self._keep({f"{group}/ampa": ampa, f"{group}/state": state})

    def trace(
        self,
        task: int,
        time_ms: NDArray[np.float64],
        synapse: NDArray[np.int64],
        variables: dict[str, NDArray[np.float32]],
    ) -> None:
        group = f"/synapses/task{task}/traces"
        if task not in self._traced:
            self._traced[task] = np.array(synapse)
            self._keep({f"{group}/synapse": synapse})
        elif not np.array_equal(self._traced[task], synapse):
            raise ValueError(f"task {task}: traced synapses differ from those of the first call")
        given = {f"{group}/{name}" for name in (*variables, "synapse", "time_ms")}
        told_before = {path for path in self._recorded if path.startswith(f"{group}/")}
        if f"{group}/time_ms" in told_before and given != told_before:
            raise ValueError(f"task {task}: traced variables differ from those of the first call")
        self._table(group, {"time_ms": time_ms, **variables})

    def pairings(self, task: int, time_ms: float, batch: Pairings) -> None:
        group = f"/synapses/task{task}/pairings"
        self._keep({f"{group}/lag_ms": batch.lag_ms})
        columns = {
            "pairs": batch.pairs,
            "post_spikes": batch.post_spikes,
            "competition": batch.competition,
            "before": batch.before,
            "after": batch.after,
        }
        rows = {name: np.asarray(column)[None] for name, column in columns.items()}
        self._table(group, {"time_ms": np.array([time_ms]), **rows})

    # --- evaluation -------------------------------------------------------------------------------

    def classes(self, names: Sequence[str]) -> None:
        """Keep the names of the classes, by their positions in the class order."""
        self._keep({"/classes/name": np.array(names, dtype=object)})

    def evaluation(
        self,
        learner: str,
        step: int,
        index: ArrayLike,
        labels: ArrayLike,
        predicted: ArrayLike,
        gates: ArrayLike | None = None,
        gate_scores: ArrayLike | None = None,
        spike_predicted: ArrayLike | None = None,
        scores: ArrayLike | None = None,
    ) -> None:
        """Keep a learner's answers for the test samples after task ``step`` (from 0).

        Args:
            index, labels, predicted, spike_predicted: [n]; the last from spikes alone.
            gates, gate_scores: [n, gates].
            scores: [n, classes]; kept only if the plan asks for them.
        """
        columns = {
            "index": index,
            "label": labels,
            "predicted": predicted,
            "spike_predicted": spike_predicted,
            "gates": gates,
            "gate_scores": gate_scores,
            "scores": scores if self._plan.scores else None,
        }
        given = {name: column for name, column in columns.items() if column is not None}
        self._table(f"/evaluation/{learner}/predictions/step{step}", given)

    def summary(self, learner: str, metrics: Mapping[str, Any]) -> None:
        """Keep a learner's measures: numbers and text as attributes, arrays as datasets; None is
        left out. The plots know ``accuracy_matrix`` [step, task] and ``gate_matrix`` [test task,
        gate], both shares."""
        group = f"/evaluation/{learner}"
        arrays = {
            f"{group}/{name}": np.asarray(value, dtype=np.float64)
            for name, value in metrics.items()
            if not isinstance(value, str) and value is not None and np.ndim(value) > 0
        }
        scalars = {
            name: value
            for name, value in metrics.items()
            if isinstance(value, str) or (value is not None and np.ndim(value) == 0)
        }
        told.check_scalars(group, scalars)
        self._scalars.setdefault(group, {}).update(scalars)
        self._keep(arrays)

    # --- files ------------------------------------------------------------------------------------

    @property
    def recorded(self) -> dict[str, int]:
        """Path -> rows of everything told so far; what ``recorded=`` goes on from. All of it is on
        the disk after `flush`."""
        return dict(self._recorded)

    def flush(self) -> None:
        """Close a segment, so that everything told so far survives a kill."""
        self._flush()
        if self._segment - self._merged >= _MERGE_SEGMENTS:
            self._merge(schema.RUNNING)

    def close(self, status: str = schema.COMPLETE) -> None:
        """Merge everything into run.h5 with its final status and remove the segments."""
        if self._closed:
            return
        try:
            self._flush()
            self._merge(status)
            shutil.rmtree(self.directory / schema.SEGMENT_FOLDER, ignore_errors=True)
            self._closed = True
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._own_lock is not None:
            self._own_lock.release()

    def __enter__(self) -> RunRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(schema.INTERRUPTED)
        except RecordingError as second:
            # The first failure is the cause; the reader still finds run.h5 and the segments.
            if hasattr(error, "add_note"):  # Python >= 3.11
                error.add_note(str(second))

    def _table(self, group: str, columns: Mapping[str, ArrayLike]) -> None:
        copies = told.columns({f"{group}/{name}": column for name, column in columns.items()})
        if len({len(copy) for copy in copies.values()}) != 1:
            shapes = {name: np.shape(column) for name, column in columns.items()}
            raise ValueError(f"{group}: columns of different length: {shapes}")
        self._append(copies)

    def _keep(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take copies in the file's types; all of them or nothing."""
        self._append(told.columns(arrays))

    def _append(self, copies: dict[str, NDArray[Any]]) -> None:
        if self._closed:
            raise RecordingError(f"{self.path} is closed")
        self._calls.append(copies)
        # small rows cost more than their numbers
        self._bytes += sum(copy.nbytes + 128 for copy in copies.values())
        for path, copy in copies.items():
            if _grows(path):
                if len(copy):
                    self._recorded[path] = self._recorded.get(path, 0) + len(copy)
            else:
                self._recorded[path] = 1
        if self._bytes > self._buffer_bytes:
            self.flush()

    def _flush(self) -> None:
        """Close a segment with the rows in memory."""
        rows: dict[str, list[NDArray[Any]]] = {}
        for call in self._calls:
            for name, copy in call.items():
                if not _grows(name):
                    rows[name] = [copy]
                elif len(copy):
                    rows.setdefault(name, []).append(copy)
        if not rows and not self._scalars:
            return
        path = storage.segment_path(self.directory, self._segment + 1)
        with storage.whole(path) as part:
            with storage.in_memory(part) as file:
                for name, pieces in rows.items():
                    values = np.concatenate(pieces) if pieces[1:] else pieces[0]
                    storage.store(file, name, values, more=False)
                for group, scalars in self._scalars.items():
                    for name, value in scalars.items():
                        file.require_group(group).attrs[name] = value
                for population in file.get("spikes", {}):
                    order = "none" if population in self._unsorted else "by_time"
                    file["spikes"][population].attrs.create(
                        "sorting", schema.SORTING[order], dtype=schema.ENUMS["sorting"]
                    )
            # The checksum is written first, so that a segment without one is damaged, and never one
            # whose writing was interrupted.
            line = f"{files.file_sha256(part)}  {path.name}\n"
            storage.write_text(storage.checksum_file(path), line)
        # A signal before this has the same segment written again, with the same name.
        self._segment += 1
        self._calls, self._scalars, self._bytes = [], {}, 0

    def _merge(self, status: str) -> None:
        """Replace run.h5 by a copy with the segments added, then remove them."""
        with storage.whole(self.path, sealed=True) as part:
            shutil.copyfile(self.path, part)
            growth = storage.merge_bytes(self.directory, self._recorded)
            with storage.extended(part, growth) as target:
                # The file's own number: a signal may have come after it was replaced.
                self._merged = int(target.attrs["merged_segments"])
                for number in range(self._merged + 1, self._segment + 1):
                    with h5py.File(storage.segment_path(self.directory, number), "r") as segment:
                        storage.merge(target, segment)
                target.attrs["merged_segments"] = self._segment
                target.attrs["status"] = status
                if status != schema.RUNNING:
                    target.attrs["end"] = _now()
        self._merged = self._segment
        self._remove_segments()

    def _remove_segments(self) -> None:
        """Those that run.h5 holds."""
        for number in storage.segment_numbers(self.directory):
            if number <= self._merged:
                path = storage.segment_path(self.directory, number)
                path.unlink()
                storage.checksum_file(path).unlink(missing_ok=True)
