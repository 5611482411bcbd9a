"""Reading a run as NumPy arrays: run.h5 and, after a kill, the segments it does not hold yet.

Nothing is read before it is asked for. Files are not trusted: links out of the file, unexpected
types and sizes that the file cannot hold are refused with a :class:`RecordingError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_artsy.recording import schema, storage
from snn_artsy.recording.files import (
    attributes_of,
    check_format,
    check_seal,
    check_tree,
    check_values,
    damage_in,
    first_at,
    open_file,
    read_values,
)
from snn_artsy.recording.lock import writer_alive
from snn_artsy.recording.schema import RecordingError
from snn_artsy.recording.tables import (
    Counts,
    Events,
    PairingTable,
    Predictions,
    Snapshot,
    Spikes,
    Stimulus,
    Traces,
)
from snn_artsy.yaml_file import read_mapping

_ATTEMPTS = 5  # openings of a run whose files its writer replaces meanwhile


def open_run(path: str | Path) -> Run:
    """Open a recorded run.

    Args:
        path: Run directory or its run.h5.

    Raises:
        RecordingError: No run there, another format or version, or a damaged file.
    """
    return Run(Path(path))


def _numbers(word: str, names: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of names such as ``task0``, ascending."""
    digits = (name.removeprefix(word) for name in names if name.startswith(word))
    numbers = sorted(int(text) for text in digits if text.isdecimal())
    return tuple(number for number in numbers if f"{word}{number}" in names)


class Run:
    """A recorded run; a context manager. Made by :func:`open_run`.

    Attributes:
        path: The run.h5.
        attributes: Root attributes, by name.
        status: ``running``, ``complete`` or ``interrupted`` (also when its writer was killed).
    """

    def __init__(self, path: Path) -> None:
        self.path = path / schema.RUN_FILE if path.is_dir() else path
        directory = self.path.parent
        if not self.path.is_file():
            raise RecordingError(
                f"{path}: no {schema.RUN_FILE} there; give a run directory or its {schema.RUN_FILE}"
            )
        check_seal(self.path)
        for attempt in range(_ATTEMPTS):
            with ExitStack() as stack:
                try:
                    self._files = [stack.enter_context(open_file(self.path))]
                    with damage_in(self._files[0]):
                        self.attributes = attributes_of(self._files[0])
                    check_format(self.path, self.attributes)
                    alive = writer_alive(directory)
                    merged = int(self.attributes["merged_segments"])
                    for segment in storage.newer_segments(directory, merged):
                        self._files.append(stack.enter_context(open_file(segment)))
                except FileNotFoundError as error:
                    # The writer merged and removed segments between our two looks.
                    if attempt == _ATTEMPTS - 1:
                        raise RecordingError(
                            f"{error.filename}: missing, though later segments exist; the run is "
                            "incomplete"
                        ) from error
                    continue
                self._shapes = []
                for file in self._files:
                    with damage_in(file):
                        self._shapes.append(check_tree(file))
                self._stack = stack.pop_all()
            break
        self.status = str(self.attributes["status"])
        if self.status == schema.RUNNING and not alive:
            self.status = schema.INTERRUPTED

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- what was run -----------------------------------------------------------------------------

    @property
    def config(self) -> str:
        """The configuration, as YAML text."""
        return str(self.attributes.get("config", ""))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as nested mappings, read once.

        Raises:
            ConfigError: There is none, or it is no YAML.
        """
        return read_mapping(self.config, "run", f'"{self.path}", its attribute config,')

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that made the run."""
        try:
            versions = json.loads(self.attributes.get("versions", "{}"))
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"{self.path}: attribute versions is not JSON") from error
        if not isinstance(versions, dict):
            raise RecordingError(f"{self.path}: attribute versions holds no names with versions")
        return {name: str(version) for name, version in versions.items()}

    def datasets(self) -> dict[str, tuple[int, ...]]:
        """Path -> shape of everything recorded."""
        shapes: dict[str, tuple[int, ...]] = {}
        for shapes_of in self._shapes:
            for path, shape in shapes_of.items():
                entry = schema.lookup(path)
                if path in shapes and entry is not None and entry.grows:
                    shapes[path] = (shapes[path][0] + shape[0], *shapes[path][1:])
                else:
                    shapes[path] = shape
        return shapes

    # --- simulation -------------------------------------------------------------------------------

    @cached_property
    def stimulus(self) -> Stimulus:
        """The presentations; empty if no spiking learner ran."""
        return Stimulus(**self._columns("/stimulus", Stimulus))

    @property
    def populations(self) -> tuple[str, ...]:
        """Populations with recorded spikes."""
        return self._names("/spikes")

    def group(self, population: str) -> NDArray[np.int64] | None:
        """Of each neuron [size]: ``retina``: 0 ON, 1 OFF; ``task<t>``: class of its assembly, -1 if
        none. None if not recorded."""
        return self._read(f"/populations/{population}/group")

    def recorded(self, population: str) -> NDArray[np.int64]:
        """Numbers of the neurons whose spikes were recorded, ascending."""
        chosen = self._read(f"/populations/{population}/recorded")
        if chosen is not None:
            return np.sort(chosen)
        group = self.group(population)
        if group is not None:
            return np.arange(len(group))
        return np.unique(self.spikes(population).node)

    def spikes(self, population: str, start_ms: float = -np.inf, stop_ms: float = np.inf) -> Spikes:
        """Spikes in [start_ms, stop_ms); of sorted files only that part is read."""
        times, nodes = [], []
        for file in self._files:
            with damage_in(file):
                group = file.get(f"spikes/{population}")
                if group is None:
                    continue
                rows = slice(None)
                if int(group.attrs.get("sorting", 0)) == schema.SORTING["by_time"]:
                    time_ms = group["timestamps"]
                    rows = slice(first_at(time_ms, start_ms), first_at(time_ms, stop_ms))
                times.append(self._checked(group["timestamps"], rows))
                nodes.append(self._checked(group["node_ids"], rows).astype(np.int64))
        if not times:
            known = ", ".join(self.populations) or "none"
            raise KeyError(f"no spikes of population {population!r}; recorded: {known}")
        time_all, node_all = np.concatenate(times), np.concatenate(nodes)
        neurons = self.group(population)
        if neurons is not None and node_all.max(initial=-1) >= len(neurons):
            raise RecordingError(
                f"{self.path}: spikes of neuron {node_all.max()} of {population}, which has "
                f"{len(neurons)}; the file is damaged"
            )
        inside = (time_all >= start_ms) & (time_all < stop_ms)
        order = np.argsort(time_all[inside], kind="stable")
        return Spikes(time_all[inside][order], node_all[inside][order])

    def first_spike_ms(self, population: str, since_ms: float) -> float | None:
        """Time of the first recorded spike at or after ``since_ms``; None if there is none.

        Of sorted files only a few values are read.
        """
        times = []
        for file in self._files:
            with damage_in(file):
                group = file.get(f"spikes/{population}")
                if group is None:
                    continue
                time_ms = group["timestamps"]
                if int(group.attrs.get("sorting", 0)) == schema.SORTING["by_time"]:
                    first = first_at(time_ms, since_ms)
                    times += [float(time_ms[first])] if first < len(time_ms) else []
                else:
                    later = read_values(time_ms)
                    later = later[later >= since_ms]
                    times += [float(later.min())] if len(later) else []
        return min(times, default=None)

    @property
    def synapse_tasks(self) -> tuple[int, ...]:
        """Tasks whose sub-network's contacts were recorded."""
        return _numbers("task", self._names("/synapses"))

    def counts(self, task: int) -> Counts:
        """Contacts in each state over time."""
        group = f"/synapses/task{task}/counts"
        time_ms = self._read(f"{group}/time_ms")
        counts = self._read(f"{group}/counts")
        if time_ms is None or counts is None:
            return Counts(np.empty(0), np.empty((0, 3), dtype=np.int64))
        return Counts(time_ms, counts)

    def events(self, task: int) -> Events:
        """Changes of state."""
        return Events(**self._columns(f"/synapses/task{task}/events", Events))

    def event_blocks(self, task: int, rows: int = 2**18) -> Iterator[Events]:
        """`events` in parts of at most ``rows``, for files that do not fit into memory."""
        names = tuple(Events.__dataclass_fields__)
        for file in self._files:
            with damage_in(file):
                group = file.get(f"synapses/task{task}/events")
                if group is None or any(name not in group for name in names):
                    continue
                lengths = {len(group[name]) for name in names}
                if len(lengths) != 1:
                    raise RecordingError(f"{file.filename}: events of unequal length")
            for start in range(0, lengths.pop(), rows):
                with damage_in(file):
                    block = slice(start, start + rows)
                    columns = {name: self._checked(group[name], block) for name in names}
                yield Events(**columns)

    def n_events(self, task: int) -> int:
        """How many changes of state were recorded."""
        return self._rows(f"/synapses/task{task}/events/time_ms")

    def moments(self, task: int) -> tuple[str, ...]:
        """Names of the snapshots of a sub-network, in order of their last number."""

        def order(name: str) -> tuple[int, str]:
            digits = name.rpartition("_")[2]
            return (int(digits) if digits.isdigit() else -1, name)

        return tuple(sorted(self._names(f"/synapses/task{task}/snapshots"), key=order))

    def snapshot(self, task: int, moment: str) -> Snapshot:
        """Occupancy and state of all contacts at one of :meth:`moments`."""
        group = f"/synapses/task{task}/snapshots/{moment}"
        ampa, state = self._read(f"{group}/ampa"), self._read(f"{group}/state")
        if ampa is None or state is None:
            if moment in self.moments(task):
                raise RecordingError(f"{self.path}: {group} lacks ampa or state")
            known = ", ".join(self.moments(task)) or "none"
            raise KeyError(f"no snapshot {moment!r} of task {task}; recorded: {known}")
        return Snapshot(ampa, state)

    def traced(self, task: int) -> NDArray[np.int64] | None:
        """The sampled contacts [synapses, 3] (pre, post, contact); None if not recorded."""
        return self._read(f"/synapses/task{task}/traces/synapse")

    def traces(self, task: int, synapse: int | None = None) -> Traces | None:
        """Variables of the sampled contacts over time; None if not recorded.

        Args:
            synapse: Only this row of `traced`, of which alone is then kept in memory.
        """
        group = f"/synapses/task{task}/traces"
        time_ms, contacts = self._read(f"{group}/time_ms"), self.traced(task)
        if time_ms is None or contacts is None:
            return None
        columns = slice(None) if synapse is None else slice(synapse, synapse + 1)
        names = [name for name in self._names(group) if name not in ("time_ms", "synapse")]
        variables = {}
        for name in names:
            values = self._read(f"{group}/{name}", columns=columns)
            assert values is not None
            variables[name] = values
        return Traces(time_ms, contacts[columns], variables)

    def pairings(self, task: int, most: int | None = None) -> PairingTable | None:
        """Spike pairs of the sampled contacts and their changes; None if not recorded.

        Args:
            most: At most so many batches, evenly spaced; default: all.
        """
        group = f"/synapses/task{task}/pairings"
        rows = self._rows(f"{group}/time_ms")
        every = 1 if most is None else max(1, -(-rows // most))
        columns = {
            name: self._read(f"{group}/{name}", every=every)
            for name in PairingTable.__dataclass_fields__
        }
        if any(values is None for values in columns.values()):
            return None
        return PairingTable(**columns)  # type: ignore[arg-type]

    # --- evaluation -------------------------------------------------------------------------------

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by its position in the class order; empty in files of releases up to
        0.2, which have none."""
        names = self._read("/classes/name")
        return () if names is None else tuple(name.decode("utf-8", "replace") for name in names)

    @property
    def learners(self) -> tuple[str, ...]:
        """Learners with an evaluation."""
        return self._names("/evaluation")

    def summary(self, learner: str) -> dict[str, Any]:
        """A learner's measures: numbers, text and arrays, by name."""
        group = f"/evaluation/{learner}"
        measures: dict[str, Any] = {}
        for file in self._files:
            with damage_in(file):
                if group in file:
                    measures |= attributes_of(file[group])
        for name in self._names(group):
            if name != "predictions":
                measures[name] = self._read(f"{group}/{name}")
        return measures

    def steps(self, learner: str) -> tuple[int, ...]:
        """Tasks after which the learner's predictions were recorded."""
        names = self._names(f"/evaluation/{learner}/predictions")
        return _numbers("step", names)

    def predictions(self, learner: str, step: int) -> Predictions:
        """The learner's answers for the test samples after task ``step``."""
        group = f"/evaluation/{learner}/predictions/step{step}"
        read = {name: self._read(f"{group}/{name}") for name in Predictions.__dataclass_fields__}
        if any(read[name] is None for name in ("index", "label", "predicted")):
            if step in self.steps(learner):
                raise RecordingError(f"{self.path}: {group} lacks index, label or predicted")
            raise KeyError(f"no predictions of {learner!r} after task {step}")
        return Predictions(**read)  # type: ignore[arg-type]

    # --- reading ----------------------------------------------------------------------------------

    def _names(self, group: str) -> tuple[str, ...]:
        """Members of a group over all files, by name."""
        names: set[str] = set()
        for file in self._files:
            with damage_in(file):
                members = file.get(group)
                if isinstance(members, h5py.Group):
                    names |= set(members)
        return tuple(sorted(names))

    def _rows(self, path: str) -> int:
        """Length of a growing dataset over all files."""
        rows = 0
        for file in self._files:
            with damage_in(file):
                rows += len(file[path]) if path in file else 0
        return rows

    def _read(self, path: str, columns: slice | None = None, every: int = 1) -> NDArray[Any] | None:
        """A dataset: its rows from all files if it grows, its last version otherwise.

        Args:
            columns: Of the second axis.
            every: Only every so many-th row of a growing dataset, counted over all files.
        """
        entry = schema.lookup(path)
        grows = entry is not None and entry.grows
        pieces = []
        before = 0
        for file in self._files:
            with damage_in(file):
                if path not in file:
                    continue
                rows = slice(-before % every if grows else 0, None, every if grows else 1)
                if grows:
                    before += len(file[path])
                pieces.append(self._checked(file[path], rows, columns))
        if not pieces:
            return None
        if len({piece.shape[1:] for piece in pieces}) > 1 and grows:
            raise RecordingError(f"{self.path}: {path} has other columns in later segments")
        return np.concatenate(pieces) if grows else pieces[-1]

    def _checked(
        self, dataset: h5py.Dataset, rows: slice, columns: slice | None = None
    ) -> NDArray[Any]:
        """Part of a dataset, if its values can be."""
        values = read_values(dataset, rows, columns)
        check_values(Path(dataset.file.filename), dataset.name, values)
        return values

    def _columns(self, group: str, table: type) -> dict[str, NDArray[Any]]:
        """Columns of a table, equally long; empty ones if the table is not there."""
        columns = {}
        for name in table.__dataclass_fields__:  # type: ignore[attr-defined]
            values = self._read(f"{group}/{name}")
            if values is None:
                entry = schema.lookup(f"{group}/{name}")
                assert entry is not None
                values = np.empty(0, dtype=entry.numpy_dtype)
            columns[name] = values
        if len({len(values) for values in columns.values()}) != 1:
            lengths = {name: len(values) for name, values in columns.items()}
            raise RecordingError(f"{self.path}: {group} has columns of different length: {lengths}")
        return columns
