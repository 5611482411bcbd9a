"""Flat, dotted names for the tensors of a learner's nested parts, and the way back."""

from __future__ import annotations

from itertools import count, takewhile

import torch
from torch import Tensor

State = dict[str, Tensor]


def below(state: State, prefix: str) -> State:
    """Select the tensors named ``<prefix>...``, and drop the prefix."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def under(prefix: str, state: State) -> State:
    """Put ``prefix`` before the names of tensors."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def numbered(prefix: str, tensors: list[Tensor]) -> State:
    """Name the tensors of a list ``<prefix>0``, ``<prefix>1``, ..."""
    return {f"{prefix}{t}": tensor for t, tensor in enumerate(tensors)}


def listed(state: State, prefix: str) -> list[Tensor]:
    """Put the list that `numbered` named together again."""
    names = takewhile(lambda name: name in state, (f"{prefix}{t}" for t in count()))
    return [state[name] for name in names]


def modules(state: State, prefix: str) -> list[State]:
    """States named ``<prefix>0.<key>``, ``<prefix>1.<key>``, ...: one for each module of a list."""
    states = (below(state, f"{prefix}{t}.") for t in count())
    return list(takewhile(bool, states))


def number(value: float) -> Tensor:
    """A Python number, exactly."""
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else torch.float64)


def set_generator(generator: torch.Generator, state: Tensor) -> None:
    """Let a generator go on from where ``get_state()`` was asked."""
    generator.set_state(state.cpu())
