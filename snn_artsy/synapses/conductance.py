"""Conductance-based synapses (nS, mV, ms, pA): voltage clamp, free membrane, and the mapping that
joins them to the dimensionless units of `SilentSynapseLayer`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from snn_artsy.arrays import (
    Sizes,
    axes_like,
    check_range,
    check_same_kind,
    check_spikes,
    check_tensor,
)
from snn_artsy.checks import duration
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.rules.nmda import mg_block
from snn_artsy.synapses.receptors import (
    OpenReceptors,
    excitatory_current,
    nmda_bound,
    receptors_at_rest,
    receptors_step,
)


@dataclass(frozen=True)
class Trajectory:
    """Free membranes over time.

    Args:
        v_mV: Just before the reset, [T, B, n_post].
        spikes: 0 or 1, [T, B, n_post].
    """

    v_mV: Tensor
    spikes: Tensor


def released(pre: Tensor, probability: Tensor | float, generator: torch.Generator) -> Tensor:
    """Presynaptic spikes that release transmitter, each contact by itself (its own unit).

    Katz's quantal release with one site a contact: a spike releases with a probability, else it is
    a failure. ``pre`` [T, B, n_contacts] of 0 and 1, ``probability`` [n_contacts] or one for all;
    drawn on the CPU.

    Raises:
        TypeError, ValueError: Shapes do not fit, a spike is neither 0 nor 1, or a probability lies
            outside [0, 1].
    """
    sizes: Sizes = {}
    check_tensor("pre", pre, "T B n_contacts", sizes, pre)
    check_spikes("pre", pre)
    chances = torch.as_tensor(probability)
    check_range("probability", chances, 0.0, 1.0)
    if chances.ndim:
        check_tensor("probability", chances, "n_contacts", sizes, chances)
    drawn = torch.rand(pre.shape, generator=generator)
    return pre * (drawn < probability).to(pre.device)


def clamp_current(
    ampa_in: Tensor, nmda_in: Tensor, v_mV: Tensor | float, receptors: Receptors, dt_ms: float
) -> Tensor:
    """Synaptic current of a cell held at a potential, pA, at the start of each step.

    Args:
        ampa_in, nmda_in: Contacts that release, weighted with their receptors, [T, ...].
        v_mV: Holding potential, a number or [...].

    Raises:
        TypeError, ValueError: Shapes or types do not fit, or a number is not finite.
    """
    duration("dt_ms", dt_ms)
    _check_like("nmda_in", nmda_in, "ampa_in", ampa_in)
    check_range("v_mV", torch.as_tensor(v_mV))
    held = torch.as_tensor(v_mV).to(ampa_in)
    opened, current = receptors_at_rest(ampa_in[0]), []
    for ampa, nmda in zip(ampa_in, nmda_in, strict=True):
        now, opened = receptors_step(opened, ampa, nmda, receptors, dt_ms)
        current.append(excitatory_current(now, held, receptors))
    return torch.stack(current)


def integrate(
    ampa_in: Tensor,
    nmda_in: Tensor,
    gaba_in: Tensor | None,
    injected_pA: Tensor | None,
    membrane: Membrane,
    receptors: Receptors,
    dt_ms: float,
) -> Trajectory:
    """Membranes that integrate their synapses, from rest: exponential Euler.

        C dV/dt = g_leak (V_rest - V) + (g_ampa a + g_nmda n B(V)) (E_rev - V)
                  + g_ampa i (E_gaba - V) + I

    (leaky integrate-and-fire with conductances: Dayan & Abbott 2001; block: Jahr & Stevens 1990).
    In a step the conductances are held at their mean over it, so that the charge does not depend on
    dt, and the block at the potential of the step's start. A membrane at or above threshold spikes
    and is reset.

    Args:
        ampa_in, nmda_in, gaba_in: Contacts that release in each step, weighted, in units of
            g_ampa, g_nmda and g_ampa, [T, B, n_post]; ``gaba_in`` None: no inhibition.
        injected_pA: Injected current, [T, B, n_post].

    Raises:
        TypeError, ValueError: Shapes or types do not fit, or a number is not finite.
    """
    duration("dt_ms", dt_ms)
    check_tensor("ampa_in", ampa_in, "T B n_post", {}, ampa_in)
    for name, values in (("nmda_in", nmda_in), ("gaba_in", gaba_in), ("injected_pA", injected_pA)):
        if values is not None or name == "nmda_in":
            _check_like(name, values, "ampa_in", ampa_in)
    v = torch.full_like(ampa_in[0], membrane.v_rest_mV)
    opened, inhibition = receptors_at_rest(v), torch.zeros_like(v)
    waiting = torch.zeros_like(v)
    mean_gaba = _mean_of_decay(receptors.tau_gaba_ms, dt_ms)
    kept_gaba = math.exp(-dt_ms / receptors.tau_gaba_ms)
    peaks, spikes = [], []
    for t in range(len(ampa_in)):
        now, opened = receptors_step(opened, ampa_in[t], nmda_in[t], receptors, dt_ms)
        inhibition = inhibition if gaba_in is None else inhibition + gaba_in[t]
        v = membrane_step(
            v,
            excitatory_conductance(_mean_over_step(now, receptors, dt_ms), v, receptors),
            receptors.g_ampa_nS * inhibition * mean_gaba,
            None if injected_pA is None else injected_pA[t],
            membrane,
            receptors,
            dt_ms,
        )
        inhibition = inhibition * kept_gaba
        if membrane.refractory_ms > 0:
            v = torch.where(waiting > 0, torch.full_like(v, membrane.v_reset_mV), v)
            waiting = (waiting - dt_ms).clamp_min(0.0)
        fired = (v >= membrane.v_th_mV).to(v.dtype)
        peaks.append(v)
        spikes.append(fired)
        v = torch.where(fired > 0, torch.full_like(v, membrane.v_reset_mV), v)
        waiting = torch.where(fired > 0, torch.full_like(v, membrane.refractory_ms), waiting)
    return Trajectory(torch.stack(peaks), torch.stack(spikes))


def _check_like(name: str, values: Tensor | None, of: str, like: Tensor) -> None:
    """Both finite, and of one shape, type and device with at least one step."""
    axes = axes_like(like, "T")
    sizes: Sizes = {}
    check_same_kind(of, like, axes, sizes, like)
    check_same_kind(name, values, axes, sizes, like)
    check_range(of, like)
    assert values is not None
    check_range(name, values)


def membrane_step(
    v_mV: Tensor,
    excitation_nS: Tensor,
    inhibition_nS: Tensor,
    injected_pA: Tensor | None,
    membrane: Membrane,
    receptors: Receptors,
    dt_ms: float,
) -> Tensor:
    """Potential (mV) after a step with constant conductances: exact for them, so stable for any."""
    total = membrane.g_leak_nS + excitation_nS + inhibition_nS
    drive = excitation_nS * receptors.e_rev_mV + inhibition_nS * receptors.e_gaba_mV
    drive = drive + membrane.g_leak_nS * membrane.v_rest_mV
    if injected_pA is not None:
        drive = drive + injected_pA
    settled = drive / total
    return settled + (v_mV - settled) * torch.exp(-total * (dt_ms / membrane.capacitance_pF))


def excitatory_conductance(opened: OpenReceptors, v_mV: Tensor, receptors: Receptors) -> Tensor:
    """AMPA and unblocked NMDA conductance at a potential, nS."""
    unblocked = nmda_bound(opened, receptors) * mg_block(v_mV, receptors.mg_mM)
    return receptors.g_ampa_nS * opened.ampa + receptors.g_nmda_nS * unblocked


def _mean_of_decay(tau_ms: float, dt_ms: float) -> float:
    """Mean of exp(-t/tau) over a step."""
    return tau_ms / dt_ms * -math.expm1(-dt_ms / tau_ms)


def _mean_over_step(now: OpenReceptors, receptors: Receptors, dt_ms: float) -> OpenReceptors:
    taus = (receptors.tau_ampa_ms, receptors.tau_nmda_decay_ms, receptors.tau_nmda_rise_ms)
    return OpenReceptors(
        *(g * _mean_of_decay(tau, dt_ms) for g, tau in zip(now, taus, strict=True))
    )


# --- balanced input, as the layer of silent synapses has it (our definition) ----------------------


class Open(NamedTuple):
    """Receptors open on each neuron; the inhibitory ones in contacts of g_ampa and g_nmda."""

    excitatory: OpenReceptors
    inhibitory: OpenReceptors


def open_at_rest(like: Tensor) -> Open:
    """Nothing open; tensors of ``like``'s shape, type and device."""
    return Open(receptors_at_rest(like), receptors_at_rest(like))


def balanced_step(
    v_mV: Tensor,
    receptors_open: Open,
    ampa_in: Tensor,
    nmda_in: Tensor,
    balance_in: Tensor | None,
    membrane: Membrane,
    receptors: Receptors,
    dt_ms: float,
) -> tuple[Tensor, Open]:
    """One step of a membrane under excitation and the inhibition that balances it.

    Feed-forward inhibition is matched to each kind of excitation (after Vogels et al. 2011): a fast
    part cancels the charge of ``balance_in`` AMPA events, and a part as slow as NMDA cancels that
    of ``nmda_in``, both at the potential halfway between rest and threshold.

    Args:
        ampa_in, nmda_in: Contacts that release, weighted, [B, n_post].
        balance_in: AMPA events to be balanced, [B, n_post]; None: no inhibition.

    Returns:
        Potential (mV) at the end of the step, before any reset, and the receptors then open.
    """
    now, excitatory = receptors_step(receptors_open.excitatory, ampa_in, nmda_in, receptors, dt_ms)
    excitation = excitatory_conductance(_mean_over_step(now, receptors, dt_ms), v_mV, receptors)
    inhibition, inhibitory = torch.zeros_like(v_mV), receptors_open.inhibitory
    if balance_in is not None:
        gaba = replace(receptors, tau_ampa_ms=receptors.tau_gaba_ms)
        now, inhibitory = receptors_step(inhibitory, balance_in, nmda_in, gaba, dt_ms)
        mean = _mean_over_step(now, gaba, dt_ms)
        middle = 0.5 * (membrane.v_rest_mV + membrane.v_th_mV)
        slow = _driving_mV(receptors, membrane) / (middle - receptors.e_gaba_mV)
        slow *= float(mg_block(torch.tensor(middle, dtype=torch.float64), receptors.mg_mM))
        inhibition = receptors.g_ampa_nS * inhibition_ratio(receptors, membrane) * mean.ampa
        inhibition = inhibition + receptors.g_nmda_nS * slow * nmda_bound(mean, receptors)
    after = membrane_step(v_mV, excitation, inhibition, None, membrane, receptors, dt_ms)
    return after, Open(excitatory, inhibitory)


# --- the mapping between the two fidelities (our definition) --------------------------------------


def contact_weight(receptors: Receptors, membrane: Membrane) -> float:
    """What one mature contact's AMPA event adds to the membrane, in thresholds.

    The event's charge at the potential halfway between rest and threshold, over the charge that
    takes the membrane from rest to threshold:

        w = g_ampa tau_ampa (E_rev - (V_rest + V_th)/2) / (C (V_th - V_rest))
    """
    charge_fC = receptors.g_ampa_nS * receptors.tau_ampa_ms * _driving_mV(receptors, membrane)
    return charge_fC / _threshold_fC(membrane)


def inhibition_ratio(receptors: Receptors, membrane: Membrane) -> float:
    """Inhibitory contacts (of g_ampa each) that cancel an excitatory one halfway to threshold."""
    middle = 0.5 * (membrane.v_rest_mV + membrane.v_th_mV)
    charge = receptors.tau_gaba_ms * (middle - receptors.e_gaba_mV)
    return receptors.tau_ampa_ms * _driving_mV(receptors, membrane) / charge


def injected_pA(current: Tensor, membrane: Membrane, dt_ms: float) -> Tensor:
    """Current (pA) that does in one step what ``current`` thresholds do in current fidelity."""
    return current * (_threshold_fC(membrane) / dt_ms)


def in_thresholds(v_mV: Tensor, membrane: Membrane) -> Tensor:
    """Potential on the dimensionless scale: 0 at rest, 1 at threshold."""
    return (v_mV - membrane.v_rest_mV) / (membrane.v_th_mV - membrane.v_rest_mV)


def _driving_mV(receptors: Receptors, membrane: Membrane) -> float:
    return receptors.e_rev_mV - 0.5 * (membrane.v_rest_mV + membrane.v_th_mV)


def _threshold_fC(membrane: Membrane) -> float:
    return membrane.capacitance_pF * (membrane.v_th_mV - membrane.v_rest_mV)
