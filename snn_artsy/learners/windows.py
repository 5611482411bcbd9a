"""Which batches are traced step by step: windows around conversions, and at random."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from snn_artsy.observer import TRACED_AROUND
from snn_artsy.synapses.release import Draws


class Shown(NamedTuple):
    """A batch that was shown, with its layer's state before it.

    Args:
        before: Buffers of the layer, by name.
        pre, current, predicted, draws: Of `SilentSynapseLayer.pair`.
        start_ms: Of its first presentation.
    """

    before: dict[str, Tensor]
    pre: Tensor
    current: Tensor | None
    predicted: Tensor | None
    start_ms: float
    draws: Draws | None = None


class Windows:
    """Chooses batches of an epoch as they come.

    The epoch is cut into parts of equal length. In each there is a window around the first batch in
    which a traced contact changed state, and one around a batch drawn at random: that batch with
    the two before and the two after it.

    Args:
        n_batches: Number of batches in the epoch. parts: Largest number of parts.
        seed: Seed of the draw of random batches.
    """

    def __init__(self, n_batches: int, parts: int, seed: int) -> None:
        self.n_batches, self.parts = n_batches, min(parts, n_batches)
        generator = torch.Generator().manual_seed(seed)
        ends = [n_batches * k // self.parts for k in range(self.parts + 1)]
        self.drawn = {
            int(torch.randint(first, last, (), generator=generator))
            for first, last in pairwise(ends)
        }
        self.number = self.follow = 0
        self.converted: set[int] = set()
        self.before: deque[Shown] = deque(maxlen=TRACED_AROUND)

    def chosen(self, batch: Shown, converted: bool) -> list[Shown]:
        """Batches to trace now, in order, after the next batch was shown."""
        part = self.number * self.parts // self.n_batches
        centre = self.number in self.drawn
        if converted and part not in self.converted:
            self.converted.add(part)
            centre = True
        self.number += 1
        if not centre and self.follow == 0:
            self.before.append(batch)
            return []
        self.follow = TRACED_AROUND if centre else self.follow - 1
        batches = [*self.before, batch]  # self.before is empty inside a window
        self.before.clear()
        return batches
