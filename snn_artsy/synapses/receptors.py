"""AMPA and NMDA receptors: kinetics, currents, and the potential behind dimensionless units."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV, V_THRESHOLD_MV, mg_block, nmda_gate

__all__ = [
    "V_PEAK_MV",
    "V_REST_MV",
    "V_THRESHOLD_MV",
    "OpenReceptors",
    "dendrite_mV",
    "excitatory_current",
    "membrane_mV",
    "mg_block",
    "nmda_bound",
    "nmda_gate",
    "receptors_at_rest",
    "receptors_step",
]  # fmt: skip


DEFAULT_MEMBRANE = Membrane()


class OpenReceptors(NamedTuple):
    """Receptors open at one time, in contacts (1: all of one contact's at their peak).

    ``nmda_decay`` and ``nmda_rise`` are the two exponentials of the NMDA time course; `nmda_bound`
    is their difference over its peak.
    """

    ampa: Tensor
    nmda_decay: Tensor
    nmda_rise: Tensor


def receptors_at_rest(like: Tensor) -> OpenReceptors:
    """Nothing open; tensors of ``like``'s shape, type and device."""
    return OpenReceptors(*(torch.zeros_like(like) for _ in range(3)))


def receptors_step(
    opened: OpenReceptors, ampa_in: Tensor, nmda_in: Tensor, receptors: Receptors, dt_ms: float
) -> tuple[OpenReceptors, OpenReceptors]:
    """One step of exact exponential decay after the step's transmitter.

    Transmitter comes at the step's start and opens AMPA receptors at once; NMDA receptors follow
    exp(-t/tau_decay) - exp(-t/tau_rise), scaled to a peak of 1.

    Args:
        ampa_in, nmda_in: Contacts that release in this step, weighted with their AMPA and NMDA
            receptors, [...].

    Returns:
        OpenReceptors at the step's start, transmitter included, and at its end.
    """
    now = OpenReceptors(
        opened.ampa + ampa_in, opened.nmda_decay + nmda_in, opened.nmda_rise + nmda_in
    )
    taus = (receptors.tau_ampa_ms, receptors.tau_nmda_decay_ms, receptors.tau_nmda_rise_ms)
    after = (gate * math.exp(-dt_ms / tau) for gate, tau in zip(now, taus, strict=True))
    return now, OpenReceptors(*after)


def nmda_bound(opened: OpenReceptors, receptors: Receptors) -> Tensor:
    """NMDA receptors with glutamate bound, in contacts: what would be open without the block."""
    return (opened.nmda_decay - opened.nmda_rise) / receptors.nmda_peak


def excitatory_current(opened: OpenReceptors, v_mV: Tensor, receptors: Receptors) -> Tensor:
    """AMPA and NMDA current at a potential, pA; inward is negative.

    I = (g_ampa a + g_nmda n B(V)) (V - E_rev), with B the magnesium block (Jahr & Stevens 1990).
    """
    blocked = nmda_bound(opened, receptors) * mg_block(v_mV, receptors.mg_mM)
    conductance = receptors.g_ampa_nS * opened.ampa + receptors.g_nmda_nS * blocked
    return conductance * (v_mV - receptors.e_rev_mV)


def membrane_mV(
    v: Tensor, threshold: Tensor, spikes: Tensor, membrane: Membrane = DEFAULT_MEMBRANE
) -> Tensor:
    """Potential (mV) of dimensionless membranes: linear from rest to threshold, peak at a spike.

    Args:
        v: Membrane [..., n_post]. threshold: [n_post]. spikes: 0 or 1, shape of ``v``.
        membrane: Its rest, threshold and peak (`NeuronConfig.membrane`).
    """
    span = membrane.v_th_mV - membrane.v_rest_mV
    subthreshold = membrane.v_rest_mV + span * v / threshold
    return torch.where(spikes > 0, torch.full_like(v, membrane.v_peak_mV), subthreshold)


def dendrite_mV(v: Tensor, spikes: Tensor, membrane: Membrane = DEFAULT_MEMBRANE) -> Tensor:
    """Potential (mV) of a dendrite, on the scale of `membrane_mV` (our definition).

    EPSPs take it to their reversal potential at most; a spike of the neuron invades it at its peak
    (back-propagating action potential), whatever the EPSPs.

    Args:
        v: Dendritic potential in thresholds (`SilentSynapseLayer.foresee`). spikes: 0 or 1, alike.
        membrane: As for `membrane_mV`.
    """
    span = membrane.v_th_mV - membrane.v_rest_mV
    most = (Receptors.e_rev_mV - membrane.v_rest_mV) / span
    return membrane_mV(v.clamp_max(most), torch.ones_like(v[..., :1]), spikes, membrane)
