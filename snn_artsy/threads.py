"""How many threads a run computes with.

Learners on frozen features multiply small matrices, where threads cost more than they save, and on
a machine that others use, many times more. So learners take one thread unless ``threads`` says
otherwise, or they run the transformer themselves (``ann.placement: blocks``), which takes all
cores. Features are extracted by all cores; no feature depends on their number
(:func:`snn_artsy.backbone.features.extract_features`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from snn_artsy.config import RunConfig
from snn_artsy.provenance import available_cores


@contextmanager
def computing_with(n: int) -> Iterator[None]:
    """Have torch, BLAS, OpenMP and Numba compute with ``n`` threads; Numba takes no more than the
    machine's cores. Afterwards each of them has the number that it had before: a run in a user's
    own process must not slow down what comes after it."""
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits():  # without a number it only puts back what it found
        # Numba first: when its pool starts, it sets OpenMP's number, torch's with it, to all cores.
        before_numba = numba.get_num_threads()
        try:
            numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
            torch.set_num_threads(n)
            threadpool_limits(n)  # what NumPy, SciPy and scikit-learn have loaded
            yield
        finally:
            numba.set_num_threads(before_numba)
            torch.set_num_threads(before)


def threads_of(config: RunConfig) -> int:
    """Threads of a run's learners."""
    if config.threads is not None:
        return config.threads
    return cores() if config.ann.placement == "blocks" else 1


def cores() -> int:
    """Cores that this process may use: those it is bound to, at most ``OMP_NUM_THREADS``."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit() and int(limit) >= 1:
        return min(available_cores(), int(limit))
    return available_cores()
