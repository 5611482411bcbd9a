"""A run as SONATA files (Dai et al. 2020, PLoS Comput Biol 16:e1007696): spikes and reports.

SONATA has no trials: presentations stay in run.h5. A report samples at a constant step, which
batches do not: the step of the reports here is one sample, and ``sample_time_ms`` beside the data
says when it was taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.recording import schema, storage
from snn_artsy.recording.reader import Run
from snn_artsy.recording.tables import Traces


def write_sonata(run: Run, directory: Path) -> None:
    """Write ``spikes.h5``, and ``<variable>.h5`` for each traced variable with one report
    population a sub-network: its nodes are postsynaptic neurons, its elements their traced
    contacts (numbered as in run.h5's ``traces/synapse``).

    Raises:
        ConfigError: The run holds neither.
    """
    traced = {task: run.traces(task) for task in run.synapse_tasks}
    recorded = {task: t for task, t in traced.items() if t is not None and len(t.synapse)}
    if not run.populations and not recorded:
        raise ConfigError(
            "to",
            f'"{run.path}" holds neither spikes nor traced contacts, which are all that SONATA '
            "has a place for; record them (artsy_snn among the learners, "
            "record.spike_presentations, record.traced_synapses), or export to nwb",
        )
    directory.mkdir()
    # libsonata cannot open a file of no population
    if run.populations:
        with _new(directory / "spikes.h5") as file:
            for population in run.populations:
                spikes = run.spikes(population)
                group = file.create_group(f"spikes/{population}")
                group.attrs.create(
                    "sorting", schema.SORTING["by_time"], dtype=schema.ENUMS["sorting"]
                )
                times = group.create_dataset("timestamps", data=spikes.time_ms)
                times.attrs["units"] = "ms"
                group.create_dataset("node_ids", data=spikes.node.astype(np.uint64))
    for variable in sorted({name for t in recorded.values() for name in t.variables}):
        with _new(directory / f"{variable}.h5") as file:
            for task, traces in recorded.items():
                if variable in traces.variables:
                    _report(file, f"task{task}", traces, traces.variables[variable])


@contextmanager
def _new(path: Path) -> Iterator[h5py.File]:
    with storage.in_memory(path) as file:
        file.attrs["magic"] = schema.SONATA_MAGIC
        file.attrs["version"] = schema.SONATA_VERSION
        yield file


def _report(file: h5py.File, population: str, traces: Traces, values: NDArray[np.float32]) -> None:
    """One population of an element report: elements grouped by node, as SONATA wants them."""
    order = np.argsort(traces.synapse[:, 1], kind="stable")
    nodes, first = np.unique(traces.synapse[order, 1], return_index=True)
    group = file.create_group(f"report/{population}")
    data = group.create_dataset("data", data=values[:, order].astype(np.float32))
    data.attrs["units"] = "1"
    mapping = group.create_group("mapping")
    ids = mapping.create_dataset("node_ids", data=nodes.astype(np.uint64))
    ids.attrs["sorted"] = np.uint8(1)
    pointers = np.append(first, len(order)).astype(np.uint64)
    mapping.create_dataset("index_pointers", data=pointers)
    mapping.create_dataset("element_ids", data=order.astype(np.uint32))
    time = mapping.create_dataset("time", data=np.array([0.0, float(len(values)), 1.0]))
    time.attrs["units"] = "sample"
    at = group.create_dataset("sample_time_ms", data=traces.time_ms)
    at.attrs["units"] = "ms"
