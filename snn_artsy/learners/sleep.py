"""Replay before capture: who changes, how fast, and what competing sub-networks foresee."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from snn_artsy.config import ReplayConfig
from snn_artsy.synapses.competition import winners
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.release import Draws

# Where purposes of replayed stand-ins begin (`Replay.batch`); passes of all tasks follow.
SLEEP = 16


def changing_asleep(n_layers: int, replay: ReplayConfig) -> list[int]:
    """Sub-networks whose contacts change in replay, the newest last; without it the newest."""
    return list(range(n_layers)) if replay.epochs and replay.old else [n_layers - 1]


def passes(
    changing: Sequence[SilentSynapseLayer], replay: ReplayConfig, task: int
) -> Iterator[tuple[int, bool]]:
    """Each pass over the stand-ins after task number ``task``: its number, counted over all tasks,
    so that each has draws of its own, and whether what sub-networks foresee is subtracted.

    Passes of pairing come first, at the rule's own speed. In those that correct, the sub-networks'
    rule is slowed down, and changes get smaller from pass to pass, so that contacts settle."""
    awake = changing[-1].rule
    assert awake is not None
    first = task * (replay.pairing_epochs + replay.epochs)
    for epoch in range(replay.pairing_epochs):
        yield first + epoch, False
    for epoch in range(replay.epochs):
        for layer in changing:
            layer.rule = awake.sped_up(replay.speed * (1.0 - epoch / replay.epochs))
        yield first + replay.pairing_epochs + epoch, True
    for layer in changing:
        layer.rule = awake


def foreseen(
    layers: Sequence[SilentSynapseLayer],
    pre: Tensor,
    steps: Tensor,
    per_class: int,
    temperature: float,
    uniform: Tensor,
    draws: Draws | None = None,
) -> list[Tensor]:
    """Dendritic spikes of every sub-network, float32 [T, B, n_post] each: at each of some steps all
    neurons of the one assembly that lateral inhibition lets fire.

    Args:
        layers: Sub-networks that compete; an assembly's potential is the mean over its neurons.
        pre: [T, B, n_pre].
        steps: When, int64 [n].
        per_class: Neurons in an assembly.
        temperature: In thresholds (`competition.winners`).
        uniform: Noise in [0, 1), [n, B].
        draws: Of releases, where contacts fail.
    """
    potentials = [
        layer.foresee(pre, steps, draws).unflatten(2, (-1, per_class)).mean(3) for layer in layers
    ]
    winner = winners(torch.cat(potentials, 2), temperature, uniform)
    fires = F.one_hot(winner, sum(u.shape[2] for u in potentials)).repeat_interleave(per_class, 2)
    spikes = pre.new_zeros(*pre.shape[:2], fires.shape[2])
    spikes[steps] = fires.to(spikes.dtype)
    return [part.contiguous() for part in spikes.split([layer.n_post for layer in layers], 2)]
