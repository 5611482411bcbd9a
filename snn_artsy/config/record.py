"""What goes into run.h5."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn_artsy.checks import one_of, require, within
from snn_artsy.config_builder import take_types

POPULATIONS = ("retina", "tasks")
RECORDED_SPLITS = ("train", "test")
TRACE_VARIABLES = ("ampa", "state", "pre_trace", "post_trace", "membrane_mV", "nmda_open")
"""What a recording plan can choose from."""


@dataclass(frozen=True)
class RecordConfig:
    """What of the simulation goes into ``run.h5`` (accuracies and predictions always do).

    Args:
        populations: Whose spikes: ``retina`` (the input: ON/OFF units, or the units of an expansion
            layer), ``tasks`` (postsynaptic neurons).
        neurons: At most so many neurons of each population, drawn by the seed; default: all.
        spike_presentations: Presentations whose spikes are recorded: so many of each task's
            training and so many of the test that follows it.
        spike_every: Every so many-th presentation, until there are ``spike_presentations``.
        splits: Presentations of which splits: ``train``, ``test``.
        traced_synapses: Contacts of each sub-network whose variables are recorded over time.
        trace_variables: Which: ``ampa`` (occupancy), ``state``, ``pre_trace`` (glutamate),
            ``post_trace``, ``membrane_mV`` (of the postsynaptic neuron), ``nmda_open`` (glutamate
            times the unblocked fraction). Traces are the running rule's own; what it does not
            compute is left out.
        trace_every: With ``snn.plasticity.update: presentation``: occupancy and state after every
            so many-th batch of training, and the mean of the others in it.
        trace_windows: With ``snn.plasticity.update: step``: time series with the simulation's step
            in so many windows of each pass over a task, one in each equal part of it, around the
            first change of a traced contact; and in as many at random. A window has five batches.
        pairings: Record the lags of the traced contacts' spike pairs in each batch (at most 64 of a
            task, evenly spaced), and how their occupancy changed: what the plasticity window of the
            run is measured from.
        conversions: Record every change of a contact's state.
        snapshots: Record occupancy and state of all contacts at task ends.
        scores: Record each test sample's class scores as well as its predicted class.
        tensorboard: Write every measure as it comes for TensorBoard, too (``tensorboard/`` in the
            run's directory); ``measures.jsonl`` always has them.
    """

    populations: list[str] = field(default_factory=lambda: list(POPULATIONS))
    neurons: int | None = None
    spike_presentations: int = 8
    spike_every: int = 1
    splits: list[str] = field(default_factory=lambda: list(RECORDED_SPLITS))
    traced_synapses: int = 32
    trace_variables: list[str] = field(default_factory=lambda: list(TRACE_VARIABLES))
    trace_every: int = 1
    trace_windows: int = 4
    pairings: bool = True
    conversions: bool = True
    snapshots: bool = True
    scores: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        take_types(self, "record.")
        for name in ("spike_presentations", "traced_synapses", "trace_windows"):
            within(f"record.{name}", getattr(self, name), 0, 1_000_000_000)
        for name in ("neurons", "spike_every", "trace_every"):
            within(f"record.{name}", getattr(self, name), 1, 1_000_000_000)
        for name, known in (
            ("populations", POPULATIONS),
            ("splits", RECORDED_SPLITS),
            ("trace_variables", TRACE_VARIABLES),
        ):
            items = getattr(self, name)
            for item in items:
                one_of(f"record.{name}", item, known)
            require(len(set(items)) == len(items), f"record.{name}", items, "name each once")
