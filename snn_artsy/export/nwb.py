"""A run as Neurodata Without Borders (Rübel et al. 2022, eLife 11:e78362), by pynwb.

NWB counts time in seconds. Where things are:

- ``units``: a row for each recorded neuron, with its spike times, population, number and group;
- ``trials``: the presentations;
- ``acquisition``: contacts in each state (``task<t>_contacts``) and variables of traced contacts
  (``task<t>_<variable>``) as time series;
- ``processing/synapses``: conversion events and the traced contacts as tables;
- ``processing/evaluation``: accuracy of each learner after each task.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.checks import ConfigError
from snn_artsy.observer import STATE_NAMES
from snn_artsy.recording import schema, storage
from snn_artsy.recording.reader import Run

_MS = 1e-3  # seconds


def write_nwb(run: Run, file: Path) -> None:
    """Write an NWB file.

    Raises:
        ConfigError: pynwb is not installed.
    """
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise ConfigError(
            "to", "'nwb' needs pynwb, which is not installed; pip install 'snn-artsy[nwb]'"
        ) from error
    content = _session(run)
    _add_trials(content, run)
    _add_units(content, run)
    _add_synapses(content, run)
    _add_evaluation(content, run)
    with storage.in_memory(file) as target, NWBHDF5IO(file=target, mode="w") as io:
        io.write(content)


def _session(run: Run) -> Any:
    from pynwb import NWBFile

    start = datetime.fromisoformat(str(run.attributes["start"]))
    return NWBFile(
        session_description="Class-incremental learning with silent synapses (simulation)",
        identifier=f"{run.path.parent.name} {start.isoformat()}",
        session_start_time=start,
        experiment_description=run.config,
        notes=f"status: {run.status}; versions: {run.attributes.get('versions', '')}",
        source_script=f"snn-artsy, commit {run.attributes.get('git_commit') or 'unknown'}",
        source_script_file_name="snn-artsy",
    )


def _add_trials(content: Any, run: Run) -> None:
    shown = run.stimulus
    if not len(shown):
        return  # columns without a row have no type
    for name, text in (
        ("split", "train, validation or test"),
        ("sample", "number of the sample in its split"),
        ("label", "class, as position in the class order"),
        ("task", "task during or after which it was shown"),
        ("spikes_recorded", "whether its spikes are among those of the units"),
        ("teacher_time", "start of the teaching current (s); NaN without a teacher"),
    ):
        content.add_trial_column(name, text)
    observed = _observed(run)
    for i in range(len(shown)):
        content.add_trial(
            start_time=_MS * shown.start_ms[i],
            stop_time=_MS * shown.stop_ms[i],
            split=schema.SPLIT_NAMES[shown.split[i]],
            sample=int(shown.index[i]),
            label=int(shown.label[i]),
            task=int(shown.task[i]),
            spikes_recorded=bool(observed[i]),
            teacher_time=_MS * shown.teacher_ms[i],
        )


def _add_units(content: Any, run: Run) -> None:
    """A unit for each neuron whose spikes were recorded, in order of population and number."""
    if not run.populations:
        return
    for name, text in (
        ("population", "retina or expansion: input; task<t>: sub-network t"),
        ("neuron", "number within its population"),
        (
            "group_code",
            "retina: 0 ON, 1 OFF; expansion: 0; task<t>: class of its assembly; -1 unknown",
        ),
    ):
        content.add_unit_column(name, text)
    # Neo takes one interval: the column spikes_recorded of trials says what of it was observed
    whole = [[0.0, _MS * float(run.stimulus.stop_ms.max(initial=0.0))]]
    for population in run.populations:
        spikes, group = run.spikes(population), run.group(population)
        order = np.argsort(spikes.node, kind="stable")  # within a neuron, time keeps its order
        nodes, times = spikes.node[order], _MS * spikes.time_ms[order]
        for neuron in run.recorded(population):
            first, last = np.searchsorted(nodes, [neuron, neuron + 1])
            known = group is not None and neuron < len(group)
            content.add_unit(
                spike_times=times[first:last],
                obs_intervals=whole,
                population=population,
                neuron=int(neuron),
                group_code=int(group[neuron]) if known and group is not None else -1,
            )


def _observed(run: Run) -> NDArray[np.bool_]:
    """Presentations whose spikes were recorded, [n]: those with a spike of anyone."""
    shown = run.stimulus
    with_spikes = np.zeros(len(shown), dtype=bool)
    for population in run.populations:
        at = np.searchsorted(shown.start_ms, run.spikes(population).time_ms, side="right") - 1
        with_spikes[at[at >= 0]] = True
    return with_spikes


def _add_synapses(content: Any, run: Run) -> None:
    from hdmf.common import DynamicTable, VectorData
    from pynwb import TimeSeries

    tables = []
    for task in run.synapse_tasks:
        counts = run.counts(task)
        if len(counts.time_ms):
            content.add_acquisition(
                TimeSeries(
                    name=f"task{task}_contacts",
                    data=counts.counts,
                    unit="contacts",
                    timestamps=_MS * counts.time_ms,
                    description="contacts that are silent, functional, consolidated",
                )
            )
        traces = run.traces(task)
        if traces is not None and len(traces.time_ms):
            for name, values in traces.variables.items():
                content.add_acquisition(
                    TimeSeries(
                        name=f"task{task}_{name}",
                        data=values,
                        unit="n.a.",
                        timestamps=_MS * traces.time_ms,
                        description=f"{name} of the contacts in task{task}_traced_contacts",
                    )
                )
            columns = [
                VectorData(name=name, description=f"{name} of the contact", data=values)
                for name, values in zip(("pre", "post", "contact"), traces.synapse.T, strict=True)
            ]
            tables.append(
                DynamicTable(
                    name=f"task{task}_traced_contacts",
                    description=f"columns of the time series of task{task}, counted from 0",
                    columns=columns,
                )
            )
        events = run.events(task)
        if len(events.time_ms):
            states = np.array(STATE_NAMES)
            columns = [VectorData(name="time", description="s", data=_MS * events.time_ms)]
            columns += [
                VectorData(name=name, description=text, data=getattr(events, name))
                for name, text in (
                    ("pre", "presynaptic unit"),
                    ("post", "postsynaptic neuron"),
                    ("contact", "contact of the pair"),
                )
            ]
            columns += [
                VectorData(name=name, description=text, data=states[getattr(events, name)].tolist())
                for name, text in (("old", "state before"), ("new", "state after"))
            ]
            tables.append(
                DynamicTable(
                    name=f"task{task}_conversions",
                    description=f"changes of state of the contacts of task{task}, counted from 0",
                    columns=columns,
                )
            )
    if tables:
        module = content.create_processing_module("synapses", "state of synaptic contacts")
        for table in tables:
            module.add(table)


def _add_evaluation(content: Any, run: Run) -> None:
    from hdmf.common import DynamicTable, VectorData

    rows = [
        (learner, step, float(value))
        for learner in run.learners
        for step, value in enumerate(np.atleast_1d(run.summary(learner).get("a_t", [])))
    ]
    if not rows:
        return
    learners, steps, values = zip(*rows, strict=True)
    table = DynamicTable(
        name="accuracy",
        description="accuracy on the classes seen so far, after each task (shares)",
        columns=[
            VectorData(name="learner", description="name of the learner", data=list(learners)),
            VectorData(name="step", description="tasks learnt before it", data=list(steps)),
            VectorData(name="accuracy", description="share, 0 to 1", data=list(values)),
        ],
    )
    content.create_processing_module("evaluation", "class-incremental accuracy").add(table)
