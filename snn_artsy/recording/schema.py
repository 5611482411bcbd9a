"""The run file, described in one place: the writer, the reader and docs/file_format.md follow it.

A run file is HDF5 whose ``/spikes`` follow SONATA, so that SONATA tools open it as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import h5py
import numpy as np

from snn_artsy.observer import STATE_NAMES

FORMAT = "snn-artsy-run"
FORMAT_VERSION = 1
RUN_FILE = "run.h5"
SEGMENT_FOLDER = "segments"

# SONATA developer guide, "HDF5 header": root attributes that identify its files.
SONATA_MAGIC = np.uint32(0x0A7A)
SONATA_VERSION = np.array([0, 1], dtype=np.uint32)

STATUSES = RUNNING, COMPLETE, INTERRUPTED = "running", "complete", "interrupted"

SPLIT_NAMES = ("train", "validation", "test", "replay")
SORTING = {"none": 0, "by_id": 1, "by_time": 2}
TEXT = "text"

ENUMS = {
    "split": h5py.enum_dtype({name: code for code, name in enumerate(SPLIT_NAMES)}, basetype="u1"),
    "state": h5py.enum_dtype({name: code for code, name in enumerate(STATE_NAMES)}, basetype="u1"),
    "sorting": h5py.enum_dtype(SORTING, basetype="u1"),
}


class RecordingError(RuntimeError):
    """A run file that cannot be written or read: which file, what is wrong, what to do."""


class DamageError(RecordingError):
    """A file of a run is not what was written."""


@dataclass(frozen=True)
class Dataset:
    """One dataset of the file.

    Args:
        path: Where it is; ``<name>`` stands for any one name without a slash, ``<t>``, ``<u>`` and
            ``<k>`` for a number from 0.
        dtype: NumPy name, a key of :data:`ENUMS` (stored as an HDF5 enumeration over uint8), or
            ``text``: UTF-8 of a fixed length, that of the longest.
        shape: Names of the axes; ``()`` for "any".
        unit: Unit of the values, ``--`` if none.
        meaning: One line.
        grows: Rows are appended while the run lasts; otherwise the dataset is written once.
    """

    path: str
    dtype: str
    shape: tuple[str, ...]
    unit: str
    meaning: str
    grows: bool = True

    @property
    def numpy_dtype(self) -> np.dtype:
        """Of text, whose length is the file's own, the type without one."""
        if self.dtype == TEXT:
            return np.dtype("S")
        return ENUMS[self.dtype] if self.dtype in ENUMS else np.dtype(self.dtype)

    def is_kept_as(self, dtype: np.dtype) -> bool:
        """Whether a file may hold the dataset in this type."""
        return dtype.kind == "S" if self.dtype == TEXT else dtype == self.numpy_dtype


@dataclass(frozen=True)
class Attribute:
    """One attribute: the object that carries it, its name, its type and one line of meaning."""

    on: str
    name: str
    kind: str
    meaning: str


ATTRIBUTES = (
    Attribute("/", "format", "text", f'always "{FORMAT}"'),
    Attribute("/", "format_version", "int", f"version of this layout, now {FORMAT_VERSION}"),
    Attribute("/", "magic", "uint32", "0x0A7A: a SONATA file"),
    Attribute("/", "version", "uint32 [2]", "SONATA version, [0, 1]"),
    Attribute("/", "status", "text", "`running`, `complete` or `interrupted`"),
    Attribute("/", "versions", "text (JSON)", "package name -> version"),
    Attribute(
        "/",
        "git_commit",
        "text",
        "commit of the checkout, with `-dirty` if changed; empty outside one",
    ),
    Attribute("/", "config", "text (YAML)", "the whole configuration"),
    Attribute("/", "start", "text", "start of the run, ISO 8601, UTC"),
    Attribute("/", "end", "text", "end of the run, ISO 8601, UTC; empty while it runs"),
    Attribute("/", "merged_segments", "int", "segments up to this number are part of this file"),
    Attribute("/", "resumed", "int", "how often the run went on after an interruption, if it did"),
    Attribute("/", "seed", "int", "seed of the run"),
    Attribute("/", "device", "text", "device the tensors were on"),
    Attribute("/", "(others)", "number or text", "what the run adds, such as `threads`"),
    Attribute("/spikes/<population>", "sorting", "enum (uint8)", "0 none, 1 by_id, 2 by_time"),
    Attribute("/evaluation/<learner>", "(summary)", "number or text", "scalar measures, by name"),
)

DATASETS = (
    Dataset(
        "/classes/name",
        TEXT,
        ("classes",),
        "--",
        "name of each class, by its position in the class order",
        grows=False,
    ),
    Dataset("/stimulus/start_ms", "float64", ("n",), "ms", "start of each presentation"),
    Dataset("/stimulus/stop_ms", "float64", ("n",), "ms", "end of each presentation"),
    Dataset(
        "/stimulus/teacher_ms",
        "float64",
        ("n",),
        "ms",
        "start of the teaching current; NaN if none",
    ),
    Dataset("/stimulus/split", "split", ("n",), "--", "0 train, 1 validation, 2 test"),
    Dataset("/stimulus/index", "int64", ("n",), "--", "sample number in its split"),
    Dataset("/stimulus/label", "int64", ("n",), "--", "class (position in the class order)"),
    Dataset("/stimulus/task", "int64", ("n",), "--", "task during or after which it was shown"),
    Dataset(
        "/populations/<population>/group",
        "int64",
        ("size",),
        "--",
        "of each neuron; `retina`: 0 ON, 1 OFF; `expansion`: 0; `task<t>`: class of its assembly, "
        "-1 if none",
        grows=False,
    ),
    Dataset(
        "/populations/<population>/recorded",
        "int64",
        ("n",),
        "--",
        "neurons whose spikes were recorded; absent if all were",
        grows=False,
    ),
    Dataset(
        "/spikes/<population>/timestamps", "float64", ("spikes",), "ms", "spike times (SONATA)"
    ),
    Dataset("/spikes/<population>/node_ids", "uint64", ("spikes",), "--", "neurons (SONATA)"),
    Dataset(
        "/synapses/task<t>/counts/time_ms", "float64", ("n",), "ms", "when contacts were counted"
    ),
    Dataset(
        "/synapses/task<t>/counts/counts",
        "int64",
        ("n", "3"),
        "contacts",
        "silent, functional, consolidated",
    ),
    Dataset(
        "/synapses/task<t>/events/time_ms", "float64", ("events",), "ms", "when a contact changed"
    ),
    Dataset("/synapses/task<t>/events/pre", "int64", ("events",), "--", "presynaptic unit"),
    Dataset("/synapses/task<t>/events/post", "int64", ("events",), "--", "postsynaptic neuron"),
    Dataset("/synapses/task<t>/events/contact", "int64", ("events",), "--", "contact of the pair"),
    Dataset(
        "/synapses/task<t>/events/old",
        "state",
        ("events",),
        "--",
        "state before: 0 silent, 1 functional, 2 consolidated",
    ),
    Dataset("/synapses/task<t>/events/new", "state", ("events",), "--", "state after"),
    Dataset(
        "/synapses/task<t>/snapshots/<moment>/ampa",
        "float32",
        ("post", "pre", "contacts"),
        "1",
        "AMPA occupancy, 0 to 1, at a moment such as `after_task_<u>`",
        grows=False,
    ),
    Dataset(
        "/synapses/task<t>/snapshots/<moment>/state",
        "state",
        ("post", "pre", "contacts"),
        "--",
        "state of each contact",
        grows=False,
    ),
    Dataset(
        "/synapses/task<t>/traces/time_ms", "float64", ("n",), "ms", "when traces were sampled"
    ),
    Dataset(
        "/synapses/task<t>/traces/synapse",
        "int64",
        ("synapses", "3"),
        "--",
        "pre, post, contact of each traced contact",
        grows=False,
    ),
    Dataset(
        "/synapses/task<t>/traces/membrane_mV",
        "float32",
        ("n", "synapses"),
        "mV",
        "mean potential of the postsynaptic neuron in the batch",
    ),
    Dataset(
        "/synapses/task<t>/pairings/time_ms", "float64", ("n",), "ms", "end of each training batch"
    ),
    Dataset(
        "/synapses/task<t>/pairings/lag_ms",
        "float64",
        ("lags",),
        "ms",
        "post less pre: centres of the bins",
        grows=False,
    ),
    Dataset(
        "/synapses/task<t>/pairings/pairs",
        "int64",
        ("n", "synapses", "lags"),
        "--",
        "spike pairs of each traced contact in the batch",
    ),
    Dataset(
        "/synapses/task<t>/pairings/post_spikes",
        "int64",
        ("n", "synapses"),
        "--",
        "spikes of its postsynaptic neuron",
    ),
    Dataset(
        "/synapses/task<t>/pairings/competition",
        "float32",
        ("n", "synapses"),
        "1",
        "presynaptic target of the gated rule, f_j <x_i>; 0 for others",
    ),
    Dataset(
        "/synapses/task<t>/pairings/before",
        "float32",
        ("n", "synapses"),
        "1",
        "its AMPA occupancy before the batch's update",
    ),
    Dataset("/synapses/task<t>/pairings/after", "float32", ("n", "synapses"), "1", "and after it"),
    Dataset(
        "/synapses/task<t>/traces/<variable>",
        "float32",
        ("n", "synapses"),
        "1",
        "a variable of the traced contacts, such as `ampa` or `pre_trace`",
    ),
    Dataset(
        "/evaluation/<learner>/<metric>",
        "float64",
        (),
        "1",
        "array measures, by name: `accuracy_matrix` [step, task], `a_t` [step], "
        "`gate_matrix` [test task, gate]; shares, not percent",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/index",
        "int64",
        ("n",),
        "--",
        "test samples after task k: sample number",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/label",
        "int64",
        ("n",),
        "--",
        "true class",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/predicted",
        "int64",
        ("n",),
        "--",
        "predicted class",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/spike_predicted",
        "int64",
        ("n",),
        "--",
        "class predicted from postsynaptic spikes alone; SNN only",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/gates",
        "bool",
        ("n", "gates"),
        "--",
        "m_t: gate t open for this sample; learners with gates only",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/gate_scores",
        "float32",
        ("n", "gates"),
        "1",
        "calibrated S_t; learners with gates only",
        grows=False,
    ),
    Dataset(
        "/evaluation/<learner>/predictions/step<k>/scores",
        "float32",
        ("n", "classes"),
        "1",
        "class scores, if `record.scores`",
        grows=False,
    ),
)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(<\w+>)", path)
    regex = "".join(
        re.escape(part)
        if not part.startswith("<")
        else (r"\d+" if part in ("<t>", "<u>", "<k>") else r"[^/]+")
        for part in parts
    )
    return re.compile(regex)


# Named paths come before the catch-all ones (<variable>, <metric>): the first match is meant.
_PATTERNS = [(_pattern(dataset.path), dataset) for dataset in DATASETS]


@lru_cache(maxsize=4096)
def lookup(path: str) -> Dataset | None:
    """The schema's entry for an absolute path; None for a path that the format does not know."""
    for pattern, dataset in _PATTERNS:
        if pattern.fullmatch(path):
            return dataset
    return None


MEASURE_AXES = {"accuracy_matrix": 2, "gate_matrix": 2, "a_t": 1}
"""Number of axes of the measures that figures and exports know."""

_GROUPS = [
    _pattern("/".join(levels[:n]))
    for levels in sorted({tuple(dataset.path.split("/")[:-1]) for dataset in DATASETS})
    for n in range(2, len(levels) + 1)
]


@lru_cache(maxsize=4096)
def is_group(path: str) -> bool:
    """Whether the format has a group there."""
    return any(pattern.fullmatch(path) for pattern in _GROUPS)


def markdown() -> str:
    """The tables of docs/file_format.md."""
    lines = ["| on | attribute | type | meaning |", "|---|---|---|---|"]
    lines += [f"| `{a.on}` | `{a.name}` | {a.kind} | {a.meaning} |" for a in ATTRIBUTES]
    lines += ["", "| dataset | dtype | shape | unit | meaning |", "|---|---|---|---|---|"]
    for dataset in DATASETS:
        dtype = f"enum {dataset.dtype} (uint8)" if dataset.dtype in ENUMS else dataset.dtype
        shape = f"[{', '.join(dataset.shape)}]" if dataset.shape else "any"
        lines.append(
            f"| `{dataset.path}` | {dtype} | {shape} | {dataset.unit} | {dataset.meaning} |"
        )
    return "\n".join(lines) + "\n"
