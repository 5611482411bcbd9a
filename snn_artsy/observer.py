"""The one interface through which a simulation can be watched; the recorder implements it.

All arrays are NumPy, all times simulated ms since the start of the run, so that an observer needs
neither torch nor the simulation's objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from snn_artsy.config import RecordConfig

# The codes of a contact's state in every array and file.
SILENT, FUNCTIONAL, CONSOLIDATED = 0, 1, 2
STATE_NAMES = ("silent", "functional", "consolidated")

INPUTS = ("retina", "expansion")
"""Populations that the plastic contacts may come from, one of them in a run."""


@dataclass(frozen=True)
class Presentations:
    """Stimuli shown one after the other; all arrays [n].

    Args:
        start_ms, stop_ms: Simulated time.
        split: "train", "validation", "test" or "replay" (stand-ins for samples), of all of them.
        index: Sample number in its split.
        label: Class (position in the class order), of the sample.
        task: Task during whose learning or after which the stimuli were shown.
        teacher_ms: Simulated time at which each presentation's teaching current starts; None when
            there was no teacher.
    """

    start_ms: NDArray[np.float64]
    stop_ms: NDArray[np.float64]
    split: Literal["train", "validation", "test", "replay"]
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    task: int
    teacher_ms: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Conversions:
    """Contacts that changed state; all arrays [n]. ``old`` and ``new`` are state codes."""

    task: int
    time_ms: NDArray[np.float64]
    pre: NDArray[np.int64]
    post: NDArray[np.int64]
    contact: NDArray[np.int64]
    old: NDArray[np.uint8]
    new: NDArray[np.uint8]


@dataclass(frozen=True)
class Pairings:
    """Spike pairs of the traced contacts in one batch, all of them (not the nearest only).

    Args:
        lag_ms: Postsynaptic less presynaptic time, centres of bins, [lags].
        pairs: Pairs at each lag, summed over the images of the batch, [n_synapses, lags].
        post_spikes: Spikes of the postsynaptic neuron in the batch, [n_synapses].
        competition: The presynaptic target against which input competes, f_j <x_i> of the gated
            rule (docs/model.md), 0 for rules without one, [n_synapses].
        before, after: Occupancy before and after the batch's update, [n_synapses].
    """

    lag_ms: NDArray[np.float64]
    pairs: NDArray[np.int64]
    post_spikes: NDArray[np.int64]
    competition: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


def lag_bins(steps: int, dt_ms: float) -> tuple[int, int]:
    """Bins in which the lags of spike pairs are told: about 5 ms wide, up to 100 ms either way.

    Args:
        steps, dt_ms: Of a presentation.

    Returns:
        Width of a bin in steps; number of bins on each side of the one centred on lag 0.
    """
    width = max(1, round(5.0 / dt_ms))
    return width, min(math.ceil((steps - 1) / width), max(1, round(100.0 / (width * dt_ms))))


# Batches before and after the one in the middle of a window that is traced step by step.
TRACED_AROUND = 2
# Batches of a task whose spike pairs are told, at most.
_PAIRED = 64


def told_every(n_batches: int) -> int:
    """Every so many-th of a task's batches has its spike pairs told, from the first."""
    return -(-n_batches // _PAIRED)


class SynapseObserver(Protocol):
    """What a spiking learner tells while it runs."""

    @property
    def plan(self) -> RecordConfig:
        """What is wanted, so that nothing is computed only to be thrown away. The learner picks the
        presentations, contacts, variables and batches, and calls :meth:`conversions` and
        :meth:`snapshot` only if the plan asks for them; populations and neurons are the observer's
        to choose."""

    def population(self, name: str, group: NDArray[np.int64]) -> None:
        """Neurons of a population, told once before its first spikes. ``group`` [size]: for
        ``retina`` 0 = ON and 1 = OFF; for ``expansion`` 0; for ``task<t>`` the class whose assembly
        the neuron belongs to, -1 if none."""

    def presentations(self, shown: Presentations) -> None:
        """Every presentation of training, in order; test presentations that were sampled."""

    def spikes(
        self, population: str, time_ms: NDArray[np.float64], node: NDArray[np.int64]
    ) -> None:
        """Spikes of sampled presentations, calls of one population in order of time (any order
        within a call). Populations: ``retina`` (ON units 0..D-1, OFF units D..2D-1), or
        ``expansion`` in its place where there is one, and ``task<t>`` (postsynaptic neurons of
        sub-network t)."""

    def counts(self, task: int, time_ms: float, counts: NDArray[np.int64]) -> None:
        """Contacts of sub-network ``task`` in each state [3] at ``time_ms``."""

    def conversions(self, events: Conversions) -> None:
        """State changes as they happen."""

    def snapshot(
        self, task: int, moment: str, ampa: NDArray[np.float32], state: NDArray[np.uint8]
    ) -> None:
        """Occupancy and state [n_post, n_pre, n_contacts] of sub-network ``task`` at a named moment
        (``after_task_<u>``)."""

    def trace(
        self,
        task: int,
        time_ms: NDArray[np.float64],
        synapse: NDArray[np.int64],
        variables: dict[str, NDArray[np.float32]],
    ) -> None:
        """Sampled contacts' variables (``ampa``, ``pre_trace``, ...), each [n_times, n_synapses],
        in order of time: after a batch, or in every step of some (`RecordConfig.trace_windows`).
        ``synapse`` [n_synapses, 3] holds (pre, post, contact), the same in every call of a task."""

    def pairings(self, task: int, time_ms: float, batch: Pairings) -> None:
        """Spike pairs of the traced contacts in one batch, after the batch's update; of a task with
        many batches, some (`told_every`)."""


class NullObserver:
    """Wants nothing and keeps nothing: a spiking learner used without a recorder."""

    plan = RecordConfig(
        spike_presentations=0, traced_synapses=0, conversions=False, snapshots=False, scores=False
    )

    def population(self, name: str, group: NDArray[np.int64]) -> None:
        pass

    def presentations(self, shown: Presentations) -> None:
        pass

    def spikes(
        self, population: str, time_ms: NDArray[np.float64], node: NDArray[np.int64]
    ) -> None:
        pass

    def counts(self, task: int, time_ms: float, counts: NDArray[np.int64]) -> None:
        pass

    def conversions(self, events: Conversions) -> None:
        pass

    def snapshot(
        self, task: int, moment: str, ampa: NDArray[np.float32], state: NDArray[np.uint8]
    ) -> None:
        pass

    def trace(
        self,
        task: int,
        time_ms: NDArray[np.float64],
        synapse: NDArray[np.int64],
        variables: dict[str, NDArray[np.float32]],
    ) -> None:
        pass

    def pairings(self, task: int, time_ms: float, batch: Pairings) -> None:
        pass
