"""Gradient descent as every trained learner does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import torch
from torch import Tensor

from snn_artsy.checks import require_finite
from snn_artsy.learners.together import Together


class SGDSettings(Protocol):
    """Settings of gradient descent, as a configuration section has them."""

    @property
    def epochs(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...


def minimise(
    loss: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor],
    n: int,
    settings: SGDSettings,
    generator: torch.Generator,
    optimiser: Literal["sgd", "adamw"] = "sgd",
    after_step: Callable[[int, Tensor], None] | None = None,
    processes: Together | None = None,
) -> None:
    """SGD with momentum 0.9, or AdamW, and a cosine schedule to zero, in shuffled batches.

    Args:
        loss: Row numbers int64 [b] (on the CPU) -> mean loss of these samples.
        parameters: What is trained; a new optimiser each time, so nothing is carried over.
        n: Number of samples.
        settings: epochs, lr, batch_size, weight_decay.
        generator: Order of the samples.
        after_step: Told of each batch: its epoch and its row numbers.
        processes: Share the batches' rows; ``loss`` is asked for those of this one, and must draw
            as many random numbers whatever the rows.

    Raises:
        NotFinite: Training diverged.
    """
    parameters = list(parameters)
    lr, decay = settings.lr, settings.weight_decay
    descent: torch.optim.Optimizer = (
        # one call for all parameters; the numbers are the same
        torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=decay, fused=True)
        if optimiser == "sgd"
        else torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, settings.epochs)
    for epoch in range(settings.epochs):
        for rows in torch.randperm(n, generator=generator).split(settings.batch_size):
            own = rows if processes is None else processes.part(rows)
            descent.zero_grad(set_to_none=True)
            # of the mean over the whole batch; with no rows of its own a process draws, too
            share = len(own) / len(rows)
            (loss(own if len(own) else rows[:1]) * share).backward()
            if processes is not None:
                processes.add_up(parameters)
            descent.step()
            if after_step is not None:
                after_step(epoch, rows)
        schedule.step()
    require_finite("training", {f"parameter {i}": p for i, p in enumerate(parameters)})
