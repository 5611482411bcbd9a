"""Learning at contacts that fail: each neuron by itself, with presynaptic trains of its own.

Where every spike releases, all neurons see one presynaptic train, and rules and engines are made
for that. Where contacts fail, each neuron is a circuit of one neuron, shown what was released at
its own contacts: no rule or engine need know of failures, and pairs of neurons are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from snn_artsy.rules import Signals, Traces
from snn_artsy.synapses import engine_numba, engine_torch
from snn_artsy.synapses.circuit import Circuit, Contacts, Ongoing, Response, StateEvents

Slow = Sequence[Tensor]
"""Slow traces of a rule as a layer keeps them."""


def learn_presentations(
    circuit: Circuit, slow: Slow, signals: Signals, elapsed_ms: float
) -> Traces:
    """`Rule.presentation` and `engine_torch.express` for every neuron.

    Args:
        circuit: With releases. signals: Of all neurons, [T, B, n]; ``pre`` is not used.

    Returns:
        Slow traces afterwards (`_joined`).
    """
    assert circuit.rule is not None and circuit.released is not None
    after = []
    for j in range(len(circuit.target)):
        own = _alone(circuit, j)
        one, predicted = slice(j, j + 1), own.predicted
        seen = Signals(
            circuit.released.train(j), signals.post[:, :, one], signals.v_mV[:, :, one],
            target=own.target, predicted=predicted,
        )  # fmt: skip
        traces = _traces(own, slow, j, seen.pre.shape[1])
        change, traces = circuit.rule.presentation(
            own.contacts.ampa, traces, seen, circuit.dt_ms, own.noise()
        )
        engine_torch.express(own, change, seen.pre.shape[1], elapsed_ms)
        after.append(traces)
    return _joined(slow, after)


def begin(circuit: Circuit, slow: Slow, n_batch: int) -> list[Ongoing]:
    """Every neuron at rest, the rule's slow traces as they are."""
    states = []
    for j in range(len(circuit.target)):
        own = _alone(circuit, j)
        state = engine_torch.begin(own, n_batch)
        states.append(state.after(0, state.neuron, traces=_traces(own, slow, j, n_batch)))
    return states


def learn_steps(
    circuit: Circuit,
    states: Sequence[Ongoing],
    current: Tensor | None,
    elapsed_ms: float,
    steps: slice = slice(None),
) -> tuple[Response, list[Ongoing], StateEvents]:
    """An engine's `learn` for every neuron.

    Args:
        circuit: With releases of a whole presentation. states: Of each neuron, before the steps.
        current: As for `engine_torch.learn`, of the whole presentation.
        elapsed_ms: Simulated time of one step.
        steps: Those that are simulated now.
    """
    assert circuit.released is not None
    parts = []
    for j, state in enumerate(states):
        own = _alone(circuit, j, steps)
        engine = engine_torch if engine_numba.covers(own) else engine_numba
        taught = None if current is None else current[steps, :, j : j + 1]
        parts.append(engine.learn(own, state, circuit.released.train(j)[steps], taught, elapsed_ms))
    answers, after, events = zip(*parts, strict=True)
    return _side_by_side(answers), list(after), _in_order(events)


def slow_after(slow: Slow, states: Sequence[Ongoing]) -> Traces:
    """The rule's slow traces when every neuron has learnt."""
    return _joined(slow, [state.traces or () for state in states])


def _alone(circuit: Circuit, j: int, steps: slice = slice(None)) -> Circuit:
    """Neuron j with its contacts, which are the circuit's own, in some steps."""
    one = slice(j, j + 1)

    def noise() -> Tensor | None:
        drawn = circuit.noise()
        return None if drawn is None else drawn[one]

    def of_neuron(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return values[steps, :, one] if values.shape[2] > 1 else values[steps]

    return replace(
        circuit, contacts=Contacts(*(x[one] for x in circuit.contacts)),
        target=circuit.target[one], noise=noise, released=None,
        predicted=of_neuron(circuit.predicted), inhibiting=of_neuron(circuit.inhibiting),
    )  # fmt: skip


def _traces(own: Circuit, slow: Slow, j: int, n_batch: int) -> Traces:
    """A rule's traces of one neuron at rest, slow ones as they are: an average of presynaptic
    spikes is that of all neurons, what each contact has is its own."""
    assert own.rule is not None
    ampa = own.contacts.ampa
    start = own.rule.start(ampa.new_zeros(n_batch, ampa.shape[1]), ampa.new_zeros(n_batch, 1))
    kept = (
        values if values.shape == at_rest.shape else values[j : j + 1].clone()
        for values, at_rest in zip(slow, start, strict=False)
    )
    return (*kept, *start[len(slow) :])


def _joined(slow: Slow, each: Sequence[Traces]) -> Traces:
    """Slow traces of a layer from those of its neurons: their mean, or one beside the other."""

    def one(k: int) -> Tensor:
        own = [traces[k] for traces in each]
        return torch.stack(own).mean(0) if own[0].shape == slow[k].shape else torch.cat(own)

    return tuple(one(k) for k in range(len(slow)))


def _side_by_side(answers: Sequence[Response]) -> Response:
    dendrites = [a.dendrite for a in answers if a.dendrite is not None]
    return Response(
        torch.cat([a.spikes for a in answers], 2),
        torch.cat([a.membrane for a in answers], 2),
        torch.cat([a.final for a in answers], 1),
        torch.cat(dendrites, 2) if dendrites else None,
    )


def _in_order(events: Sequence[StateEvents]) -> StateEvents:
    """Changes of all neurons in the order of steps, then of contacts."""
    post = torch.cat([torch.full_like(e.pre, j) for j, e in enumerate(events)])
    step = torch.cat([e.step for e in events])
    order = torch.sort(step, stable=True).indices
    pre, old, new = (
        torch.cat([getattr(e, name) for e in events])[order] for name in ("pre", "old", "new")
    )
    return StateEvents(pre, post[order], old, new, step[order])
