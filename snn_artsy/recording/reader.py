"""Reading a run as NumPy arrays: run.h5 and, after a kill, the segments it does not hold yet.

Nothing is read before it is asked for. Files are not trusted: links out of the file, unexpected
types and sizes that the file cannot hold are refused with a :class:`RecordingError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
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
    damage_in,
    first_at,
    open_file,
    read_values,
    walk,
)
from snn_artsy.recording.lock import writer_alive
from snn_artsy.recording.schema import RecordingError

_ATTEMPTS = 5  # openings of a run whose files its writer replaces meanwhile


@dataclass(frozen=True)
class Spikes:
    """Spikes in order of time: ``time_ms`` [n], ``node`` [n]."""

    time_ms: NDArray[np.float64]
    node: NDArray[np.int64]


@dataclass(frozen=True)
class Stimulus:
    """The presentations recorded, all [n]; ``split`` holds codes of schema.SPLIT_NAMES;
    ``teacher_ms`` is NaN without a teacher."""

    start_ms: NDArray[np.float64]
    stop_ms: NDArray[np.float64]
    teacher_ms: NDArray[np.float64]
    split: NDArray[np.uint8]
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    task: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start_ms)

    def of_split(self, name: str) -> NDArray[np.bool_]:
        """Mask [n] of the presentations of a split."""
        mask: NDArray[np.bool_] = self.split == schema.SPLIT_NAMES.index(name)
        return mask


@dataclass(frozen=True)
class Counts:
    """Contacts in each state over time: ``time_ms`` [n], ``counts`` [n, 3]."""

    time_ms: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """Changes of state of one sub-network's contacts, all [n]; ``old`` and ``new`` hold codes of
    schema.STATE_NAMES."""

    time_ms: NDArray[np.float64]
    pre: NDArray[np.int64]
    post: NDArray[np.int64]
    contact: NDArray[np.int64]
    old: NDArray[np.uint8]
    new: NDArray[np.uint8]


@dataclass(frozen=True)
class Snapshot:
    """AMPA occupancy and state of all contacts, [n_post, n_pre, n_contacts]."""

    ampa: NDArray[np.float32]
    state: NDArray[np.uint8]


@dataclass(frozen=True)
class Traces:
    """Variables [n, synapses] of the ``synapse`` [synapses, 3] (pre, post, contact) at ``time_ms``
    [n]."""

    time_ms: NDArray[np.float64]
    synapse: NDArray[np.int64]
    variables: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class PairingTable:
    """Spike pairs of the traced contacts in each training batch: ``lag_ms`` [lags] (post less pre),
    ``pairs`` [n, synapses, lags]; [n, synapses]: ``post_spikes``, ``competition`` (presynaptic
    target of the gated rule), AMPA occupancy ``before`` and ``after`` the batch's update."""

    time_ms: NDArray[np.float64]
    lag_ms: NDArray[np.float64]
    pairs: NDArray[np.int64]
    post_spikes: NDArray[np.int64]
    competition: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Answers for the test samples after one task; [n] or [n, gates] / [n, classes]. What a learner
    does not have, or the plan left out, is None."""

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    spike_predicted: NDArray[np.int64] | None
    gates: NDArray[np.bool_] | None
    gate_scores: NDArray[np.float32] | None
    scores: NDArray[np.float32] | None


def open_run(path: str | Path) -> Run:
    """Open a recorded run.

    Args:
        path: Run directory or its run.h5.

    Raises:
        RecordingError: No run there, another format or version, or a damaged file.
    """
    return Run(Path(path))


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
                for file in self._files:
                    with damage_in(file):
                        check_tree(file)
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

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that made the run."""
        try:
            versions: dict[str, str] = json.loads(self.attributes.get("versions", "{}"))
        except (TypeError, ValueError) as error:
            raise RecordingError(f"{self.path}: attribute versions is not JSON") from error
        return versions

    def datasets(self) -> dict[str, tuple[int, ...]]:
        """Path -> shape of everything recorded."""
        shapes: dict[str, tuple[int, ...]] = {}
        for file in self._files:
            with damage_in(file):
                found = walk(file)
            for path, dataset in found:
                if not isinstance(dataset, h5py.Dataset):
                    continue
                entry = schema.lookup(path)
                if path in shapes and entry is not None and entry.grows:
                    shapes[path] = (shapes[path][0] + dataset.shape[0], *shapes[path][1:])
                else:
                    shapes[path] = dataset.shape
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
                times.append(read_values(group["timestamps"], rows))
                nodes.append(read_values(group["node_ids"], rows).astype(np.int64))
        if not times:
            known = ", ".join(self.populations) or "none"
            raise KeyError(f"no spikes of population {population!r}; recorded: {known}")
        time_all, node_all = np.concatenate(times), np.concatenate(nodes)
        inside = (time_all >= start_ms) & (time_all < stop_ms)
        order = np.argsort(time_all[inside], kind="stable")
        return Spikes(time_all[inside][order], node_all[inside][order])

    def first_spike_ms(self, population: str, since_ms: float) -> float | None:
        """Time of the first recorded spike at or after ``since_ms``; None if there is none.

        Of sorted files only a few values are read.
        """
        found = []
        for file in self._files:
            with damage_in(file):
                group = file.get(f"spikes/{population}")
                if group is None:
                    continue
                time_ms = group["timestamps"]
                if int(group.attrs.get("sorting", 0)) == schema.SORTING["by_time"]:
                    first = first_at(time_ms, since_ms)
                    found += [float(time_ms[first])] if first < len(time_ms) else []
                else:
                    later = read_values(time_ms)
                    later = later[later >= since_ms]
                    found += [float(later.min())] if len(later) else []
        return min(found, default=None)

    @property
    def synapse_tasks(self) -> tuple[int, ...]:
        """Tasks whose sub-network's contacts were recorded."""
        names = self._names("/synapses")
        return tuple(sorted(int(name[4:]) for name in names if name[4:].isdigit()))

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
                    columns = {name: read_values(group[name], block) for name in names}
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
        kept = slice(None) if synapse is None else slice(synapse, synapse + 1)
        names = [name for name in self._names(group) if name not in ("time_ms", "synapse")]
        variables = {}
        for name in names:
            values = self._read(f"{group}/{name}", columns=kept)
            assert values is not None
            variables[name] = values
        return Traces(time_ms, contacts[kept], variables)

    def pairings(self, task: int, most: int | None = None) -> PairingTable | None:
        """Spike pairs of the sampled contacts and their changes; None if not recorded.

        Args:
            most: At most so many batches, evenly spaced; default: all.
        """
        group = f"/synapses/task{task}/pairings"
        rows = self._rows(f"{group}/time_ms")
        every = 1 if most is None else max(1, -(-rows // most))
        found = {
            name: self._read(f"{group}/{name}", every=every)
            for name in PairingTable.__dataclass_fields__
        }
        if any(values is None for values in found.values()):
            return None
        return PairingTable(**found)  # type: ignore[arg-type]

    # --- evaluation -------------------------------------------------------------------------------

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
        return tuple(sorted(int(name[4:]) for name in names if name[4:].isdigit()))

    def predictions(self, learner: str, step: int) -> Predictions:
        """The learner's answers for the test samples after task ``step``."""
        group = f"/evaluation/{learner}/predictions/step{step}"
        read = {name: self._read(f"{group}/{name}") for name in Predictions.__dataclass_fields__}
        if read["label"] is None or read["predicted"] is None:
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
                pieces.append(read_values(file[path], rows, columns))
        if not pieces:
            return None
        return np.concatenate(pieces) if grows else pieces[-1]

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
