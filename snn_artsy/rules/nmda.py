"""The NMDA receptor as a coincidence detector; torch-free at import."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from snn_artsy.rules.base import Signals

# Membrane potentials behind the dimensionless units of current-based runs, unless snn.neuron says
# otherwise (our definition, values of a generic cortical pyramidal cell: Dayan & Abbott 2001):
# v = 0 is rest, v = threshold is V_th, and a spike peaks at V_peak, since an integrate-and-fire
# neuron has no upstroke of its own.
V_REST_MV = -70.0
V_THRESHOLD_MV = -50.0
V_PEAK_MV = 20.0
# Depolarisation beyond the threshold that inserts nothing yet (our definition).
SHUT_ABOVE_MV = 10.0

# Magnesium (mM) at which the largest opening without insertion is defined, whatever the bath's is.
MG_MM = 1.0

# A receptor that stays open for this time (ms) counts as one spike (our definition).
SUSTAINED_MS = 10.0


def mg_block(v_mV: Tensor, mg_mM: float = 1.0) -> Tensor:
    """Unblocked fraction of NMDA receptors at a potential (Jahr & Stevens 1990).

    B(V) = 1 / (1 + [Mg]/3.57 mM * exp(-0.062 V/mV)).
    """
    return 1.0 / (1.0 + mg_mM / 3.57 * (-0.062 * v_mV).exp())


def nmda_gate(
    v_mV: Tensor, mg_mM: float, shut_mV: float = V_THRESHOLD_MV + SHUT_ABOVE_MV
) -> Tensor:
    """Drive of AMPA insertion by depolarisation, in [0, 1]: (B(V) - B_0)+ / (1 - B_0).

    B_0 = B(shut_mV) at 1 mM magnesium (our definition): what opens up to there lets some calcium
    in, but not enough to insert receptors. By default that is all depolarisation short of a spike.
    Without magnesium the block is absent at any potential, so that glutamate alone inserts: the
    gate is then 1 everywhere.
    """
    if mg_mM == 0.0:
        return v_mV * 0.0 + 1.0
    shut = 1.0 / (1.0 + MG_MM / 3.57 * math.exp(-0.062 * shut_mV))
    return ((mg_block(v_mV, mg_mM) - shut) / (1.0 - shut)).clamp_min(0.0)


def insertion_event(signals: Signals, dt_ms: float) -> Tensor:
    """What stands for the postsynaptic spike in the potentiation of rules of spike times, [B, n].

    Without receptors the spike itself. With them (our definition) the gate D at a spike, and
    D dt / SUSTAINED_MS in a step without one, so that a voltage clamp or the lack of magnesium
    inserts receptors too, at a rate that does not depend on dt.
    """
    if signals.gate is None:
        return signals.post
    return signals.gate * (signals.post + (1.0 - signals.post) * min(dt_ms / SUSTAINED_MS, 1.0))
