"""What is read from a run, as NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snn_artsy.recording import schema


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
