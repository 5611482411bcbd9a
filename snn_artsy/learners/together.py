"""Training by several processes at a time, which torchrun starts: each has a part of every batch.

Accelerate joins the processes (gloo on CPUs, NCCL on GPUs) and sums their gradients. Everything
else every process computes for itself, alike: all draw the same random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.provenance import started_together


class Together:
    """The processes that train together, and this one among them.

    Args:
        accelerator: Accelerate's, which has joined them.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.number, self.of = int(accelerator.process_index), int(accelerator.num_processes)

    def part(self, rows: Tensor) -> Tensor:
        """The rows of a batch that are this process's: every n-th."""
        return rows[self.number :: self.of]

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Put the sum over all processes in the place of each gradient; none counts as zero."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        whole = self._accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
        sizes = [p.numel() for p in parameters]
        for parameter, grad in zip(parameters, whole.split(sizes), strict=True):
            parameter.grad = grad.view_as(parameter)


@cache
def together() -> Together | None:
    """The processes that torchrun has started, this one among them; None: it is alone.

    Raises:
        ConfigError: Accelerate is not installed.
    """
    if not started_together():
        return None
    if find_spec("accelerate") is None:
        raise ConfigError(
            "torchrun",
            "needs Accelerate, which is not installed; pip install 'snn-artsy[parallel]'",
        )
    from accelerate import Accelerator

    found = Together(Accelerator(cpu=not torch.cuda.is_available()))
    return found if found.of > 1 else None
