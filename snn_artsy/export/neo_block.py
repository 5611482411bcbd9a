"""A run as a Neo block (Garcia et al. 2014, Front. Neuroinform. 8:10), for Elephant and its like.

In memory, since Neo has no file format of its own; `snn_artsy.export.nwb` writes a file that Neo
reads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_artsy.observer import STATE_NAMES
from snn_artsy.recording import schema
from snn_artsy.recording.frames import optional
from snn_artsy.recording.reader import Run
from snn_artsy.recording.tables import Traces

_UNITS = {"membrane_mV": "mV"}


def to_neo(run: Run) -> Any:
    """A ``neo.Block`` with one segment, times in ms.

    - ``spiketrains``: one a recorded neuron, named ``<population> <neuron>``, with annotations
      ``population``, ``neuron``, ``group`` (retina: 0 ON, 1 OFF; else the class of its assembly, -1
      without) and ``class_name``; one ``neo.Group`` a population;
    - ``epochs``: the presentations as trials, labels their split, with arrays ``sample``,
      ``label``, ``class_name`` and ``task``;
    - ``events``: changes of state of each sub-network's contacts, labels ``silent -> functional``;
    - ``analogsignals``: variables of traced contacts, a piece for each window without a gap;
      ``irregularlysampledsignals`` where steps differ (batches). Channels have arrays ``pre``,
      ``post`` and ``contact``.

    Raises:
        ConfigError: neo is not installed.
    """
    neo = optional("neo")
    block = neo.Block(
        name=run.path.parent.name,
        description="class-incremental learning with silent synapses (simulation)",
        file_origin=str(run.path),
        config=run.config,
    )
    segment = neo.Segment(name="run")
    block.segments.append(segment)
    stop_ms = float(run.stimulus.stop_ms.max(initial=0.0))
    names = run.class_names
    for population in run.populations:
        group = neo.Group(name=population)
        for train in _trains(neo, run, population, stop_ms, names):
            segment.spiketrains.append(train)
            group.spiketrains.append(train)
        block.groups.append(group)
    if len(run.stimulus):
        segment.epochs.append(_trials(neo, run, names))
    for task in run.synapse_tasks:
        segment.events.append(_changes(neo, run, task))
        traces = run.traces(task)
        if traces is not None and len(traces.time_ms):
            for signal in _signals(neo, traces, task):
                regular = isinstance(signal, neo.AnalogSignal)
                kept = segment.analogsignals if regular else segment.irregularlysampledsignals
                kept.append(signal)
    return block


def _trains(
    neo: Any, run: Run, population: str, stop_ms: float, names: tuple[str, ...]
) -> list[Any]:
    spikes, group = run.spikes(population), run.group(population)
    order = np.argsort(spikes.node, kind="stable")  # within a neuron, time keeps its order
    nodes, times = spikes.node[order], spikes.time_ms[order]
    trains = []
    for neuron in run.recorded(population).tolist():
        first, last = np.searchsorted(nodes, [neuron, neuron + 1])
        code = int(group[neuron]) if group is not None and neuron < len(group) else -1
        of_class = population.startswith("task") and 0 <= code < len(names)
        train = neo.SpikeTrain(
            times[first:last], units="ms", t_start=0.0,
            t_stop=max(stop_ms, float(times[first:last].max(initial=0.0))),
            name=f"{population} {neuron}", population=population, neuron=neuron, group=code,
            class_name=names[code] if of_class else "",
        )  # fmt: skip
        trains.append(train)
    return trains


def _trials(neo: Any, run: Run, names: tuple[str, ...]) -> Any:
    shown = run.stimulus
    classes = [names[k] if 0 <= k < len(names) else str(k) for k in shown.label.tolist()]
    return neo.Epoch(
        times=shown.start_ms, durations=shown.stop_ms - shown.start_ms, units="ms",
        labels=np.array(schema.SPLIT_NAMES)[shown.split], name="trials",
        array_annotations={
            "sample": shown.index, "label": shown.label, "class_name": np.array(classes),
            "task": shown.task,
        },
    )  # fmt: skip


def _changes(neo: Any, run: Run, task: int) -> Any:
    events, states = run.events(task), np.array(STATE_NAMES)
    labels = [f"{a} -> {b}" for a, b in zip(states[events.old], states[events.new], strict=True)]
    where = {"pre": events.pre, "post": events.post, "contact": events.contact}
    return neo.Event(
        times=events.time_ms, units="ms", labels=np.array(labels, dtype="U32"),
        name=f"task{task} conversions", array_annotations=where,
    )  # fmt: skip


def _signals(neo: Any, traces: Traces, task: int) -> list[Any]:
    where = dict(zip(("pre", "post", "contact"), traces.synapse.T, strict=True))
    signals = []
    for name, values in traces.variables.items():
        units = _UNITS.get(name, "dimensionless")
        about = {"name": f"task{task} {name}", "array_annotations": where}
        for piece in pieces(traces.time_ms):
            time_ms = traces.time_ms[piece]
            steps = np.diff(time_ms)
            even = len(steps) and np.allclose(steps, steps[0])
            signals.append(
                neo.AnalogSignal(
                    values[piece], units=units, t_start=time_ms[0] * _ms(),
                    sampling_period=steps[0] * _ms(), **about,
                )
                if even
                else neo.IrregularlySampledSignal(
                    time_ms, values[piece], units=units, time_units="ms", **about
                )
            )  # fmt: skip
    return signals


def pieces(time_ms: NDArray[np.float64]) -> list[slice]:
    """Samples that follow each other without a gap, a gap being more than 1.5 usual steps; where
    steps differ throughout (most of them), all of them."""
    steps = np.diff(time_ms)
    if not len(steps):
        return [slice(0, len(time_ms))]
    usual = float(np.median(steps))
    if np.mean(np.abs(steps - usual) > 0.01 * usual) > 0.5:
        return [slice(0, len(time_ms))]
    edges = [0, *(np.flatnonzero(steps > 1.5 * usual) + 1).tolist(), len(time_ms)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _ms() -> Any:
    return optional("quantities").ms
