"""How many threads a run computes with.

Learners on frozen features multiply small matrices, where threads cost more than they save, and on
a machine that others use, many times more. So learners take one thread unless ``threads`` says
otherwise, or they run the transformer themselves (``ann.placement: blocks``), which takes all
cores. Features are extracted by all cores; no feature depends on their number
(:func:`snn_artsy.backbone.extract_features`).
"""

from __future__ import annotations

import os

from snn_artsy.config import RunConfig
from snn_artsy.provenance import available_cores


def set_threads(n: int | None) -> int:
    """Have torch, BLAS, OpenMP and Numba compute with ``n`` threads (None: one) from now on.

    It holds for the whole process and stays so; Numba takes no more than the machine's cores.

    Returns:
        The number that was set.
    """
    import numba
    import torch
    from threadpoolctl import threadpool_limits

    chosen = 1 if n is None else n
    # Numba first: when its pool starts, it sets OpenMP's number, torch's with it, to all cores.
    numba.set_num_threads(min(chosen, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    torch.set_num_threads(chosen)
    # What NumPy, SciPy and scikit-learn have loaded; outside a `with` block the limit stays.
    threadpool_limits(chosen)
    return chosen


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
