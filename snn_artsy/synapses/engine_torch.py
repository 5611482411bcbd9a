"""The reference engine: all steps of a circuit in plain torch, on any device, in its precision.

`transmit` and `learn` are what an engine is (`engine_numba` has the same two). Everything that
another engine computes is tested against these loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from snn_artsy.arrays import check_computed, check_same_kind, check_spikes
from snn_artsy.observer import CONSOLIDATED, SILENT
from snn_artsy.physiology import Membrane
from snn_artsy.rules import Signals, Traces
from snn_artsy.synapses import neurons, states
from snn_artsy.synapses.circuit import Circuit, Ongoing, Response, StateEvents
from snn_artsy.synapses.conductance import (
    Open,
    balanced_step,
    contact_weight,
    in_thresholds,
    open_at_rest,
)
from snn_artsy.synapses.receptors import dendrite_mV, membrane_mV

ContactStep = Callable[[Circuit, Traces, Signals, float], Traces]


# --- two calls ------------------------------------------------------------------------------------


def transmit(
    circuit: Circuit,
    state: Ongoing,
    pre: Tensor | None,
    current: Tensor | None,
    clamped: bool = False,
) -> tuple[Response, Ongoing]:
    """Show spikes pre [T, B, n_pre] and a current [T, B, n_post] in thresholds; nothing learns.

    Args:
        pre: None: the electrode's current replaces the synaptic input.
        clamped: A spike takes the membrane of our own neurons to rest (`SilentSynapseLayer.clamp`).
    """
    injected = None if current is None else current * state.threshold
    if pre is None:
        assert injected is not None
        return integrate(circuit, state, torch.zeros_like(injected), injected, clamped)
    weights = transmitted(circuit)
    if circuit.receptors is None:
        return integrate(circuit, state, net_input(circuit, state, pre, weights), injected, clamped)
    unit, neuron = neuron_of(circuit, state.threshold), state.neuron
    membrane, excitation = membrane_of(circuit, unit), excited(circuit, pre, weights)
    afferent, inhibition = afferents(circuit, pre), inhibiting(circuit, pre)
    if circuit.released is not None:  # NMDA receptors see what is released, silent contacts, too
        afferent = circuit.released.drive(circuit.contacts.exists.to(pre.dtype))
    spikes, peaks, opened = [], [], _opened(state)
    for t in range(len(pre)):
        drive, opened = _conductance_drive(
            circuit, state, unit, membrane, excitation[t], afferent[t], inhibition[t], neuron[-1],
            opened,
        )  # fmt: skip
        at_t = None if injected is None else injected[t]
        fired, peak, neuron = fire(circuit, unit, drive, neuron, state.threshold, at_t)
        spikes.append(fired)
        peaks.append(peak)
    after = state.after(len(pre), neuron, opened=opened)
    return response(circuit, spikes, peaks, after), after


@torch.no_grad()
def learn(
    circuit: Circuit,
    state: Ongoing,
    pre: Tensor,
    current: Tensor | None,
    elapsed_ms: float,
    step: ContactStep | None = None,
) -> tuple[Response, Ongoing, StateEvents]:
    """Show spikes while the contacts change in every step.

    Args:
        pre: [T, B, n_pre]. current: Of an electrode that replaces the synaptic input, in
            thresholds, [T, B, n_post]; None: the neurons fire by their own synaptic input.
        elapsed_ms: Simulated time of one step.
        step: Changes the contacts in one step; default: in torch.
    """
    assert circuit.rule is not None
    step = step or _contact_step
    unit, neuron, threshold = neuron_of(circuit, state.threshold), state.neuron, state.threshold
    traces, opened, potentials = state.traces, state.opened, circuit.neuron.membrane
    if circuit.receptors is not None:
        membrane, opened = membrane_of(circuit, unit), _opened(state)
    if traces is None:
        traces = circuit.rule.start(pre[0], pre.new_zeros(pre.shape[1], len(threshold)))
    spikes, peaks, ones = [], [], torch.ones_like(threshold)
    events, dendrites, dendrite = [], [], state.dendrite
    keep = _kept_in_dendrite(circuit, unit) if circuit.dendritic else 0.0
    inhibition = inhibiting(circuit, pre) if current is None or circuit.dendritic else pre
    for t in range(len(pre)):
        injected = None
        if current is not None:
            drive, injected = torch.zeros_like(current[t]), current[t] * threshold
        elif circuit.receptors is not None:
            assert opened is not None
            excitation = pre[t] @ transmitted(circuit).T
            drive, opened = _conductance_drive(
                circuit, state, unit, membrane, excitation, afferents(circuit, pre[t]),
                inhibition[t], neuron[-1], opened,
            )  # fmt: skip
        else:
            drive = net_input(circuit, state, pre[t : t + 1], transmitted(circuit), inhibition[t])[
                0
            ]
        fired, peak, neuron = fire(
            circuit, unit, drive, neuron, threshold, injected, clamped=injected is not None
        )
        v_mV = membrane_mV(peak / threshold, ones, fired, potentials)
        if circuit.dendritic:
            net = net_input(circuit, state, pre[t : t + 1], transmitted(circuit), inhibition[t])
            net = net[0] / threshold
            dendrite = net if dendrite is None else dendrite * keep + net
            dendrites.append(dendrite)
            v_mV = dendrite_mV(dendrite, fired, potentials)
        before = circuit.contacts.state.clone()
        predicted = None if circuit.predicted is None else circuit.predicted[t]
        signals = Signals(pre[t], fired, v_mV, target=circuit.target, predicted=predicted)
        traces = step(circuit, traces, signals, elapsed_ms)
        events.append(_events(t, before, circuit.contacts.state))
        spikes.append(fired)
        peaks.append(peak)
    after = state.after(
        len(pre), neuron, traces=traces, opened=opened, dendrite=dendrite, since=None
    )
    every = StateEvents(*(torch.cat(parts) for parts in zip(*events, strict=True)))
    answer = response(circuit, spikes, peaks, after)
    if circuit.dendritic:
        answer = replace(answer, dendrite=torch.stack(dendrites))
    return answer, after, every


# --- transmission ---------------------------------------------------------------------------------


def transmitted(circuit: Circuit) -> Tensor:
    """AMPA weight of each contact, [n_post, n_pre]: 0 for silent ones (`binary`: else 1;
    `graded` and `plain`: else the occupancy)."""
    exists, ampa, state, _ = circuit.contacts
    open_contacts = (state != SILENT) & exists
    if circuit.params.transmission == "binary":
        return open_contacts.to(ampa.dtype)
    return ampa * open_contacts


def begin(circuit: Circuit, n_batch: int, balanced: tuple[Tensor, Tensor] | None = None) -> Ongoing:
    """A simulation of ``n_batch`` presentations at rest, balance and thresholds set;
    ``balanced``: `balance_and_threshold`, where it is known."""
    if balanced is None:
        balanced = balance_and_threshold(circuit, transmitted(circuit))
    balance, threshold = balanced
    unit = neuron_of(circuit, threshold)
    like = circuit.contacts.ampa.new_zeros(n_batch, len(threshold))
    return Ongoing(neurons.at_rest(unit, like), balance, threshold)


def balance_and_threshold(circuit: Circuit, weights: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_j and the threshold, both [n_post]."""
    if circuit.unit is not None:
        threshold = torch.as_tensor(circuit.unit.threshold).to(weights).expand(len(weights))
        return torch.zeros_like(threshold), threshold
    exists = circuit.contacts.exists.to(weights.dtype)
    alpha = weights.sum(1) / exists.sum(1).clamp_min(1.0)
    net, params = weights - alpha[:, None] * exists, circuit.params
    if params.per_connection > 1:  # a spike reaches all contacts of its connection
        net = net.unflatten(1, (-1, params.per_connection)).sum(2)
    # a contact that often fails is worth less, and the threshold follows what comes on average
    share = circuit.neuron.threshold * params.release_probability
    return alpha, share * net.square().sum(1).sqrt().clamp_min(1.0)


def net_input(
    circuit: Circuit,
    state: Ongoing,
    pre: Tensor,
    weights: Tensor,
    inhibition: Tensor | None = None,
) -> Tensor:
    """I_j(t), [T, B, n_post]; ``inhibition``: `inhibiting` of these steps, if it is known.

    Excitation and inhibition are summed apart: with one-bit contacts both sums are integers, so
    that they are exact and do not depend on the batch size or the device.
    """
    excitation = excited(circuit, pre, weights)
    if circuit.unit is not None:
        return excitation * circuit.contact_current * state.threshold
    if inhibition is None:
        inhibition = inhibiting(circuit, pre)
    return excitation - state.balance * inhibition


def excited(circuit: Circuit, pre: Tensor, weights: Tensor) -> Tensor:
    """What is released, times the weights: [T, B, n_post]."""
    if circuit.released is None:
        return product(pre, weights)
    return circuit.released.drive(weights)


def inhibiting(circuit: Circuit, pre: Tensor) -> Tensor:
    """Spikes that inhibition balances, [..., n_post] or 1."""
    return afferents(circuit, pre) if circuit.inhibiting is None else circuit.inhibiting


def afferents(circuit: Circuit, pre: Tensor) -> Tensor:
    """Spikes that reach each neuron's contacts, silent ones included, [..., n_post] or 1."""
    exists = circuit.contacts.exists
    if bool(exists.all()):
        return pre.sum(-1, keepdim=True)
    return pre @ exists.to(pre.dtype).T


def product(pre: Tensor, weights: Tensor) -> Tensor:
    """`pre @ weights.T` for pre [T, B, n_pre] and weights [n_post, n_pre], computed in the steps
    that have spikes: between volleys there are none."""
    busy = pre.flatten(1).any(1)
    if bool(busy.all()):
        return pre @ weights.T
    drive = pre.new_zeros(*pre.shape[:2], len(weights))
    drive[busy] = pre[busy] @ weights.T
    return drive


# --- neurons --------------------------------------------------------------------------------------


def integrate(
    circuit: Circuit,
    state: Ongoing,
    drive: Tensor,
    injected: Tensor | None = None,
    clamped: bool = False,
) -> tuple[Response, Ongoing]:
    """Membranes and spikes for a net input and an electrode's current, both [T, B, n_post] in units
    of the membrane."""
    unit, neuron = neuron_of(circuit, state.threshold), state.neuron
    spikes, peaks = [], []
    for t in range(len(drive)):
        at_t = None if injected is None else injected[t]
        fired, peak, neuron = fire(circuit, unit, drive[t], neuron, state.threshold, at_t, clamped)
        spikes.append(fired)
        peaks.append(peak)
    after = state.after(len(drive), neuron)
    return response(circuit, spikes, peaks, after), after


def fire(
    circuit: Circuit,
    unit: nn.Module,
    drive: Tensor,
    state: tuple[Tensor, ...],
    threshold: Tensor,
    injected: Tensor | None = None,
    clamped: bool = False,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """One step: spikes, membrane at its peak, and the state after the reset.

    Args:
        drive, injected: As in `neurons.step`. clamped: See `transmit`.
    """
    fired, after = neurons.step(unit, drive, state, injected)
    peak = after[-1]
    if circuit.unit is None:
        left = peak * (1.0 - fired) if clamped else peak - fired * threshold
        # inhibition cannot drive a membrane below its reversal
        after[-1] = torch.maximum(left, circuit.neuron.floor * threshold)
    return fired, peak, tuple(after)


def neuron_of(circuit: Circuit, threshold: Tensor) -> nn.Module:
    """The snnTorch neuron of a circuit."""
    if circuit.unit is not None:
        return circuit.unit
    return neurons.make_neuron(circuit.neuron, circuit.dt_ms, threshold)


def membrane_of(circuit: Circuit, unit: nn.Module) -> Membrane:
    """In mV and ms; its time constant is the neuron's own."""
    beta = float(torch.as_tensor(unit.beta).double().mean())
    return replace(circuit.neuron.membrane, tau_m_ms=-circuit.dt_ms / math.log(beta))


def response(
    circuit: Circuit, spikes: list[Tensor], peaks: list[Tensor], after: Ongoing
) -> Response:
    """Steps put together; membranes in thresholds."""
    fired = torch.stack(spikes)
    if circuit.unit is not None:  # a surrogate of one's own may give other numbers
        check_spikes("neuron: its spikes", fired)
    threshold = after.threshold
    return Response(fired, torch.stack(peaks) / threshold, after.neuron[-1] / threshold)


def _opened(state: Ongoing) -> Open:
    return open_at_rest(state.neuron[-1]) if state.opened is None else state.opened


def _conductance_drive(
    circuit: Circuit,
    state: Ongoing,
    unit: nn.Module,
    membrane: Membrane,
    excitation: Tensor,
    afferent: Tensor,
    inhibition: Tensor,
    v: Tensor,
    opened: Open,
) -> tuple[Tensor, Open]:
    """What takes the neuron's membrane where the open receptors take it in one step.

    The neuron's own leak is part of that step, so the drive is the difference: the membrane
    equation is integrated here, threshold and reset stay the neuron's.
    """
    assert circuit.receptors is not None
    threshold = state.threshold
    # an AMPA event is worth 1 / threshold (a snnTorch neuron: contact_current) thresholds
    event = 1.0 / threshold if circuit.unit is None else circuit.contact_current
    contacts = event / contact_weight(circuit.receptors, membrane)
    balance = contacts * state.balance * inhibition if circuit.unit is None else None
    span = membrane.v_th_mV - membrane.v_rest_mV
    after, opened = balanced_step(
        membrane.v_rest_mV + span * v / threshold,
        opened,
        contacts * excitation,
        contacts * afferent,
        balance,
        membrane,
        circuit.receptors,
        circuit.dt_ms,
    )
    beta = torch.as_tensor(unit.beta).to(v)
    return in_thresholds(after, membrane) * threshold - beta * v, opened


def _kept_in_dendrite(circuit: Circuit, unit: nn.Module) -> float:
    """Share of its potential that a dendrite keeps in a step. The potential is the net input of the
    dimensionless currents in both fidelities, leaky as the membrane is, and no electrode replaces
    it (`SilentSynapseLayer.foresee`)."""
    return math.exp(-circuit.dt_ms / membrane_of(circuit, unit).tau_m_ms)


# --- contacts -------------------------------------------------------------------------------------


def express(circuit: Circuit, change: Tensor, n_batch: int, elapsed_ms: float) -> None:
    """Let contacts take a change that was summed over a batch: occupancy, less in mature contacts
    and none in fixed ones, the others' decay, then states and clocks.

    Raises:
        NotFinite: The change is not finite; NaN would stay in the occupancies for good.
    """
    exists, ampa, state, functional_ms = circuit.contacts
    name = f"rule: the change by {type(circuit.rule).__name__}"
    sizes = {"n_post": len(ampa), "n_pre": ampa.shape[1]}
    check_same_kind(name, change, "n_post n_pre", sizes, ampa)
    check_computed(name, change)
    if circuit.averaged:
        change = change / n_batch
    params = circuit.params
    if min(params.mature_plasticity, params.consolidated_plasticity) < 1.0:
        share = torch.where(state == SILENT, 1.0, params.mature_plasticity)
        share = torch.where(state == CONSOLIDATED, params.consolidated_plasticity, share)
        change = change * share
    ampa.add_(change).clamp_(0.0, 1.0).mul_(exists)
    if params.decay_ms is not None:
        retention = math.exp(-elapsed_ms / params.decay_ms)
        ampa.mul_(torch.where(state == CONSOLIDATED, 1.0, retention))
    if params.transmission == "plain":
        return
    new, clock = states.update_states(state, ampa, functional_ms, elapsed_ms, params)
    state.copy_(new)
    functional_ms.copy_(clock)


def _contact_step(circuit: Circuit, traces: Traces, signals: Signals, elapsed_ms: float) -> Traces:
    """Change all contacts in one step from signals [B, n]; the traces after it."""
    assert circuit.rule is not None
    ampa = circuit.contacts.ampa
    change, traces = circuit.rule.step(ampa, traces, signals, circuit.dt_ms, circuit.noise())
    express(circuit, change, len(signals.pre), elapsed_ms)
    return traces


def _events(t: int, before: Tensor, after: Tensor) -> tuple[Tensor, ...]:
    post, pre = torch.nonzero(before != after, as_tuple=True)
    return pre, post, before[post, pre], after[post, pre], torch.full_like(post, t)
