"""Conductance-based synapses (nS, mV, ms, pA): voltage clamp, free membrane, and the mapping that
joins them to the dimensionless units of `SilentSynapseLayer`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.rules.nmda import mg_block
from snn_artsy.synapses.receptors import (
    excitatory_current,
    gates_at_rest,
    gates_step,
    nmda_open,
)


@dataclass(frozen=True)
class Trajectory:
    """Free membranes over time.

    Args:
        v_mV: Just before the reset, [T, B, n_post].
        spikes: 0 or 1, [T, B, n_post].
        final_mV: After the last step, [B, n_post].
    """

    v_mV: Tensor
    spikes: Tensor
    final_mV: Tensor


def released(pre: Tensor, probability: Tensor | float, generator: torch.Generator) -> Tensor:
    """Presynaptic spikes that release transmitter, each contact by itself (its own unit).

    Katz's quantal release with one site a contact: a spike releases with a probability, else it is
    a failure. ``pre`` [T, B, n_contacts] of 0 and 1, ``probability`` [n_contacts] or one for all;
    drawn on the CPU.
    """
    drawn = torch.rand(pre.shape, generator=generator)
    return pre * (drawn < probability).to(pre.device)


def clamp_current(
    ampa_in: Tensor, nmda_in: Tensor, v_mV: Tensor | float, receptors: Receptors, dt_ms: float
) -> Tensor:
    """Synaptic current of a cell held at a potential, pA, at the start of each step.

    Args:
        ampa_in, nmda_in: Contacts that release, weighted with their receptors, [T, ...].
        v_mV: Holding potential, a number or [...].
    """
    held = torch.as_tensor(v_mV).to(ampa_in)
    gates, current = gates_at_rest(ampa_in[0]), []
    for ampa, nmda in zip(ampa_in, nmda_in, strict=True):
        now, gates = gates_step(gates, ampa, nmda, receptors, dt_ms)
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
    """
    v = torch.full_like(ampa_in[0], membrane.v_rest_mV)
    gates, inhibition = gates_at_rest(v), torch.zeros_like(v)
    waiting = torch.zeros_like(v)
    mean_ampa, mean_decay, mean_rise, mean_gaba = (
        tau / dt_ms * -math.expm1(-dt_ms / tau)
        for tau in (
            receptors.tau_ampa_ms,
            receptors.tau_nmda_decay_ms,
            receptors.tau_nmda_rise_ms,
            receptors.tau_gaba_ms,
        )
    )
    kept_gaba = math.exp(-dt_ms / receptors.tau_gaba_ms)
    peaks, spikes = [], []
    for t in range(len(ampa_in)):
        now, gates = gates_step(gates, ampa_in[t], nmda_in[t], receptors, dt_ms)
        mean = now._replace(
            ampa=now.ampa * mean_ampa,
            nmda_decay=now.nmda_decay * mean_decay,
            nmda_rise=now.nmda_rise * mean_rise,
        )
        block = mg_block(v, receptors.mg_mM)
        excitation = (
            receptors.g_ampa_nS * mean.ampa
            + receptors.g_nmda_nS * nmda_open(mean, receptors) * block
        )
        total = membrane.g_leak_nS + excitation
        drive = membrane.g_leak_nS * membrane.v_rest_mV + excitation * receptors.e_rev_mV
        if gaba_in is not None:
            inhibition = inhibition + gaba_in[t]
            open_gaba = receptors.g_ampa_nS * inhibition * mean_gaba
            total = total + open_gaba
            drive = drive + open_gaba * receptors.e_gaba_mV
            inhibition = inhibition * kept_gaba
        if injected_pA is not None:
            drive = drive + injected_pA[t]
        settled = drive / total
        v = settled + (v - settled) * torch.exp(-total * (dt_ms / membrane.capacitance_pF))
        if membrane.refractory_ms > 0:
            v = torch.where(waiting > 0, torch.full_like(v, membrane.v_reset_mV), v)
            waiting = (waiting - dt_ms).clamp_min(0.0)
        fired = (v >= membrane.v_th_mV).to(v.dtype)
        peaks.append(v)
        spikes.append(fired)
        v = torch.where(fired > 0, torch.full_like(v, membrane.v_reset_mV), v)
        waiting = torch.where(fired > 0, torch.full_like(v, membrane.refractory_ms), waiting)
    return Trajectory(torch.stack(peaks), torch.stack(spikes), v)


# --- the mapping between the two fidelities (our definition) --------------------------------------


def contact_weight(receptors: Receptors, membrane: Membrane) -> float:
    """What one mature contact's AMPA event adds to the membrane, in thresholds.

    The event's charge at the potential halfway between rest and threshold, over the charge that
    takes the membrane from rest to threshold:

        w = g_ampa tau_ampa (E_rev - (V_rest + V_th)/2) / (C (V_th - V_rest))
    """
    charge_fC = receptors.g_ampa_nS * receptors.tau_ampa_ms * _driving_mV(receptors, membrane)
    return charge_fC / _threshold_fC(membrane)


def contacts_for(weight: Tensor, receptors: Receptors, membrane: Membrane) -> Tensor:
    """Inverse of `contact_weight`: how many contacts' worth of g_ampa an event of ``weight``
    thresholds needs."""
    return weight / contact_weight(receptors, membrane)


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
