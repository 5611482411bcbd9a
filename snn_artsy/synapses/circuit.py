"""What an engine is given: neurons, contacts and rule as plain records, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.physiology import Receptors
from snn_artsy.rules import GatedSTDP, Rule, Traces
from snn_artsy.synapses.conductance import Open
from snn_artsy.synapses.release import Released


class Contacts(NamedTuple):
    """Contacts [n_post, n_pre], which learning changes in place.

    Args:
        exists: bool. ampa: Occupancy in [0, 1]. state: Codes, uint8. functional_ms: Clock of
            functional contacts (simulated ms).
    """

    exists: Tensor
    ampa: Tensor
    state: Tensor
    functional_ms: Tensor


@dataclass(frozen=True)
class Circuit:
    """A population of neurons and the contacts onto it.

    Args:
        contacts: Changed in place. params: Of the contacts.
        neuron: Parameters of our own neurons; not used where there is a ``unit``.
        unit: A snnTorch neuron, used as it is.
        rule: None: nothing learns. target: Presynaptic target of each neuron, [n_post].
        receptors: Of the conductance fidelity; None: currents.
        contact_current: What a functional contact passes to a snnTorch neuron, in thresholds.
        averaged: Changes of a batch are averaged, not summed.
        noise: Standard normal numbers [n_post, n_pre] for a noisy rule, new ones at each call.
        predicted: Spikes that the contacts foresaw, for the error-driven rule, [T, B, n_post].
        released: Which spikes release at the contacts, where some fail; None: all do.
        inhibiting: Spikes that inhibition balances, [T, B, n_post] or [T, B, 1]; None: those at the
            contacts.
    """

    contacts: Contacts
    params: ContactConfig
    neuron: NeuronConfig
    unit: nn.Module | None
    dt_ms: float
    rule: Rule | None
    target: Tensor
    receptors: Receptors | None
    contact_current: float
    averaged: bool
    noise: Callable[[], Tensor | None]
    predicted: Tensor | None = None
    released: Released | None = None
    inhibiting: Tensor | None = None

    @property
    def dendritic(self) -> bool:
        """Whether the rule takes the dendrite's potential in place of the soma's."""
        return isinstance(self.rule, GatedSTDP) and self.rule.dendritic


@dataclass(frozen=True)
class Ongoing:
    """Where a simulation stands between two steps: what is carried from one call to the next.

    Args:
        neuron: State variables of the neurons, the membrane last, each [B, n_post].
        balance, threshold: Inhibition alpha_j and threshold of each neuron, [n_post]; set when the
            simulation begins.
        traces: Of the rule; None: it starts with the next step.
        opened: Receptors open, in the conductance fidelity.
        dendrite: Dendritic potential in thresholds, [B, n_post]; None: at rest, or not needed.
        step: Steps so far.
        since: Step at which each contact's clock was last set, counted from here, and the clock
            (ms) then, both [n_post, n_pre]; None: now, to what the contacts say.
    """

    neuron: tuple[Tensor, ...]
    balance: Tensor
    threshold: Tensor
    traces: Traces | None = None
    opened: Open | None = None
    dendrite: Tensor | None = None
    step: int = 0
    since: tuple[Tensor, Tensor] | None = None

    def after(self, n_steps: int, neuron: tuple[Tensor, ...], **changed: object) -> Ongoing:
        """The same simulation ``n_steps`` later."""
        return replace(self, neuron=neuron, step=self.step + n_steps, **changed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Response:
    """Postsynaptic answer to a batch of presentations.

    Args:
        spikes: [T, B, n_post], 0 or 1.
        membrane: Membrane just before the reset, in thresholds, [T, B, n_post].
        final: Membrane after the last step, in thresholds, [B, n_post].
        dendrite: Dendritic potential at each step's end, in thresholds, [T, B, n_post], where the
            contacts learn by it; else None.
    """

    spikes: Tensor
    membrane: Tensor
    final: Tensor
    dendrite: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Spikes of each neuron in the presentation, [B, n_post]."""
        return self.spikes.sum(0)

    @staticmethod
    def joined(parts: Sequence[Response]) -> Response:
        """The answer to steps that were shown in parts, one after the other."""
        dendrites = [part.dendrite for part in parts if part.dendrite is not None]
        return Response(
            torch.cat([part.spikes for part in parts]),
            torch.cat([part.membrane for part in parts]),
            parts[-1].final,
            torch.cat(dendrites) if dendrites else None,
        )


@dataclass(frozen=True)
class StateChange:
    """Contacts that changed state; all [n].

    Args:
        pre, post: int64. old, new: State codes, uint8.
    """

    pre: Tensor
    post: Tensor
    old: Tensor
    new: Tensor


@dataclass(frozen=True)
class StateEvents(StateChange):
    """Every change of state, in the order of steps, then of contacts.

    Args:
        step: Of the call in which the change came, int64 [n].
    """

    step: Tensor
