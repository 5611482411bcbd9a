"""AMPA and NMDA receptors of a contact."""

from __future__ import annotations

import torch
from torch import Tensor

# Membrane potentials behind the dimensionless units of current-based runs (our definition, values
# of a generic cortical pyramidal cell: Dayan & Abbott 2001): v = 0 is rest, v = threshold is
# V_th, and a spike peaks at V_peak, since an integrate-and-fire neuron has no upstroke of its own.
V_REST_MV = -70.0
V_THRESHOLD_MV = -50.0
V_PEAK_MV = 20.0


def mg_block(v_mV: Tensor, mg_mM: float = 1.0) -> Tensor:
    """Unblocked fraction of NMDA receptors at a potential (Jahr & Stevens 1990).

    B(V) = 1 / (1 + [Mg]/3.57 mM * exp(-0.062 V/mV)).
    """
    return 1.0 / (1.0 + mg_mM / 3.57 * torch.exp(-0.062 * v_mV))


def membrane_mV(v: Tensor, threshold: Tensor, spikes: Tensor) -> Tensor:
    """Potential (mV) of dimensionless membranes: linear from rest to threshold, peak at a spike.

    Args:
        v: Membrane [..., n_post]. threshold: [n_post]. spikes: 0 or 1, shape of ``v``.
    """
    subthreshold = V_REST_MV + (V_THRESHOLD_MV - V_REST_MV) * v / threshold
    return torch.where(spikes > 0, torch.full_like(v, V_PEAK_MV), subthreshold)


def nmda_gate(v_mV: Tensor, mg_mM: float) -> Tensor:
    """Drive of AMPA insertion by depolarisation, in [0, 1]: (B(V) - B_th)+ / (1 - B_th).

    B_th = B(V_threshold + 10 mV) (our definition): depolarisation short of a spike lets some
    calcium in, but not enough to insert receptors. Without magnesium the block is absent at any
    potential, so that glutamate alone would insert: the gate is then 1 everywhere.
    """
    if mg_mM == 0.0:
        return torch.ones_like(v_mV)
    threshold = mg_block(v_mV.new_tensor(V_THRESHOLD_MV + 10.0), mg_mM)
    return ((mg_block(v_mV, mg_mM) - threshold) / (1.0 - threshold)).clamp_min(0.0)
