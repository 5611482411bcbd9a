"""What sub-networks in the blocks have learnt and answered in a run, so that none does it twice."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import perf_counter

from torch import Tensor

ROOM = 2**29
"""Bytes of tensors that a run keeps."""


class Shelf:
    """Tensors by everything that they were computed from, and how long that had taken.

    Learners of a run that train the same sub-network (the same start, data, settings and random
    numbers) get it from here after the first one, and so do those that ask the same sub-network
    about the same images. Nothing is approximated: an entry stands for one computation, number by
    number. It lives as long as the run's process, and is in no checkpoint.

    Args:
        room: Bytes that may be kept; what comes later is computed each time.

    Attributes:
        saved: Seconds that computing again would have taken, so far.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.saved = 0.0
        self._kept: dict[Hashable, tuple[float, tuple[Tensor, ...]]] = {}

    def get(self, key: Hashable, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What ``compute`` gives, or has given for this key. Nobody may change the tensors."""
        if key in self._kept:
            seconds, tensors = self._kept[key]
            self.saved += seconds
            return tensors
        begun = perf_counter() + self.saved
        tensors = compute()
        # what was found here on the way would have taken its time, too
        seconds = perf_counter() + self.saved - begun
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if size <= self.room:
            self.room -= size
            self._kept[key] = seconds, tensors
        return tensors

    def clock(self) -> float:
        """Seconds as `time.perf_counter`, as if everything had been computed."""
        return perf_counter() + self.saved
