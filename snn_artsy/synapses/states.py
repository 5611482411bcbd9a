"""Silent, functional and consolidated contacts: pure functions on state codes (our definition).

silent -> functional when occupancy a >= theta_up; functional -> silent when a <= theta_down <
theta_up (hysteresis); functional -> consolidated after tau_c of simulated time without falling
silent, or when captured at its task's end (synaptic tagging and capture, Frey & Morris 1997).
A consolidated contact stays so; with graded transmission its occupancy, too, is fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, axes_like, check_range, check_same_kind, check_tensor
from snn_artsy.config import ContactConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT


def update_states(
    state: Tensor, ampa: Tensor, functional_ms: Tensor, elapsed_ms: float, params: ContactConfig
) -> tuple[Tensor, Tensor]:
    """States after ``elapsed_ms`` at occupancy ``ampa``.

    Args:
        state: Codes, uint8. ampa: Occupancy in [0, 1]. functional_ms: Simulated time since each
            contact became functional, 0 for the silent ones. All of one shape.

    Returns:
        New ``state`` and ``functional_ms``; the arguments are left as they are.

    Raises:
        TypeError, ValueError: Shapes or types do not fit together.
    """
    _check_alike(state, ampa=ampa, functional_ms=functional_ms)
    silent, functional = state == SILENT, state == FUNCTIONAL
    new = state.clone()
    new[silent & (ampa >= params.theta_up)] = FUNCTIONAL
    new[functional & (ampa <= params.theta_down)] = SILENT
    # a contact that converts in this batch starts its clock with the next one
    clock = torch.where(functional & (new == FUNCTIONAL), functional_ms + elapsed_ms, 0.0)
    if params.consolidation:
        new[functional & (clock >= params.consolidate_ms)] = CONSOLIDATED
    return new, torch.where(new == FUNCTIONAL, clock, 0.0)


def capture(state: Tensor, functional_ms: Tensor, tag_ms: float | None = None) -> Tensor:
    """States after capture at a task's end: functional contacts with a tag are consolidated.

    A contact is tagged when it converts, for ``tag_ms`` (None: until the task's end).

    Raises:
        TypeError, ValueError: Shapes or types do not fit together.
    """
    _check_alike(state, functional_ms=functional_ms)
    tagged = state == FUNCTIONAL
    if tag_ms is not None:
        tagged = tagged & (functional_ms <= tag_ms)
    return torch.where(tagged, torch.full_like(state, CONSOLIDATED), state)


def count_states(state: Tensor, exists: Tensor) -> Tensor:
    """Contacts in each state, int64 [3].

    Raises:
        TypeError, ValueError: Shapes or types do not fit together, or a code is none of the three.
    """
    _check_alike(state, exists=exists)
    check_range("state", state, SILENT, CONSOLIDATED)
    return torch.bincount(state[exists].long(), minlength=3)


def _check_alike(state: Tensor, **others: Tensor) -> None:
    axes = axes_like(state)
    sizes: Sizes = {}
    codes = torch.zeros((), dtype=torch.uint8, device=getattr(state, "device", None))
    check_same_kind("state", state, axes, sizes, codes)
    for name, values in others.items():
        check_tensor(name, values, axes, sizes, state)
