"""The adaptive exponential neuron of the voltage-based rule, with its spike's upstroke."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from snn_artsy.arrays import check_range, check_same_kind
from snn_artsy.checks import between, duration, positive, require


@dataclass(frozen=True)
class AdEx:
    """AdEx neuron with spike afterpotential and adaptive threshold (Clopath et al. 2010).

    C dV/dt = -g_L (V - E_L) + g_L Delta_T exp((V - V_T)/Delta_T) - w + z + I,
    tau_w dw/dt = a (V - E_L) - w,   tau_z dz/dt = -z,   tau_VT dV_T/dt = -(V_T - V_T_rest);

    at V >= V_peak: w += b, z = I_sp, V_T = V_T_max, and V stays at V_clamp for t_clamp (with w
    frozen), then starts again from V_reset. The neuron without z and with fixed V_T: Brette &
    Gerstner 2005. Values and clamp as in NEST's ``aeif_psc_delta_clopath`` (3.10): its defaults
    but for V_reset, which is E_L + 21 mV in its test of the pairing experiment.

    ============== ==== ======= =================================================================
    symbol         unit default meaning
    ============== ==== ======= =================================================================
    c_pF           pF   281     membrane capacitance C
    g_l_nS         nS   30      leak conductance g_L
    e_l_mV         mV   -70.6   leak reversal potential E_L
    delta_t_mV     mV   2       slope factor Delta_T
    v_t_rest_mV    mV   -50.4   threshold V_T at rest
    v_t_max_mV     mV   30.4    V_T after a spike
    tau_vt_ms      ms   50      time constant of V_T
    a_nS           nS   4       adaptation by the potential
    b_pA           pA   80.5    adaptation by a spike; NEST's test of the pairing experiment takes
                                0.0805 (`NEST_TEST_B_PA`)
    tau_w_ms       ms   144     time constant of w
    i_sp_pA        pA   400     spike afterpotential current
    tau_z_ms       ms   40      time constant of z
    v_peak_mV      mV   33      a spike
    v_clamp_mV     mV   33      potential of the upstroke
    t_clamp_ms     ms   2       duration of the upstroke
    v_reset_mV     mV   -49.6   potential after it
    ============== ==== ======= =================================================================
    """

    c_pF: float = 281.0
    g_l_nS: float = 30.0
    e_l_mV: float = -70.6
    delta_t_mV: float = 2.0
    v_t_rest_mV: float = -50.4
    v_t_max_mV: float = 30.4
    tau_vt_ms: float = 50.0
    a_nS: float = 4.0
    b_pA: float = 80.5
    tau_w_ms: float = 144.0
    i_sp_pA: float = 400.0
    tau_z_ms: float = 40.0
    v_peak_mV: float = 33.0
    v_clamp_mV: float = 33.0
    t_clamp_ms: float = 2.0
    v_reset_mV: float = -49.6

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            between(f"adex.{name}", getattr(self, name), -1e6, 1e6)
        for name in ("c_pF", "g_l_nS", "delta_t_mV"):
            positive(f"adex.{name}", getattr(self, name))
        for name in ("tau_vt_ms", "tau_w_ms", "tau_z_ms"):
            duration(f"adex.{name}", getattr(self, name))
        require(self.t_clamp_ms >= 0, "adex.t_clamp_ms", self.t_clamp_ms, "use 0 or more")
        below = "use a value below v_peak_mV"
        require(self.v_reset_mV < self.v_peak_mV, "adex.v_reset_mV", self.v_reset_mV, below)


NEST_TEST_B_PA = 0.0805


class AdExState(NamedTuple):
    """State of B neurons, each [B], float64; ``clamp_ms`` is what is left of the upstroke."""

    v_mV: Tensor
    w_pA: Tensor
    z_pA: Tensor
    v_t_mV: Tensor
    clamp_ms: Tensor


def adex_start(n: int, params: AdEx) -> AdExState:
    """N neurons at rest."""
    require(n >= 1, "n", n, "use 1 or more")
    zero = torch.zeros(n, dtype=torch.float64)
    return AdExState(zero + params.e_l_mV, zero, zero, zero + params.v_t_rest_mV, zero)


def adex_step(
    state: AdExState,
    current_pA: Tensor | float,
    params: AdEx,
    dt_ms: float,
    jump_mV: Tensor | float = 0.0,
) -> tuple[AdExState, Tensor]:
    """One step of dt: the state at its end, and spikes, 0 or 1 [B].

    V and w by the second-order Runge-Kutta method (Heun), z and V_T exactly. ``jump_mV`` is a
    delta pulse at the end of the step, lost on a neuron in its upstroke (as in NEST).

    Raises:
        TypeError, ValueError: Shapes or types do not fit, or a number is not finite.
    """
    duration("dt_ms", dt_ms)
    for name, given in (("current_pA", current_pA), ("jump_mV", jump_mV)):
        if isinstance(given, Tensor):
            check_same_kind(name, given, "B" if given.ndim else "", {"B": len(state.v_mV)}, given)
        check_range(name, torch.as_tensor(given))
    check_range("state.v_mV", state.v_mV)
    p, (v, w, z, v_t, clamp) = params, state
    z_after = z * math.exp(-dt_ms / p.tau_z_ms)
    v_t_after = p.v_t_rest_mV + (v_t - p.v_t_rest_mV) * math.exp(-dt_ms / p.tau_vt_ms)

    def slopes(v: Tensor, w: Tensor, z: Tensor, v_t: Tensor) -> tuple[Tensor, Tensor]:
        v = v.clamp_max(p.v_peak_mV)  # beyond it the exponential would overflow
        upswing = p.g_l_nS * p.delta_t_mV * ((v - v_t) / p.delta_t_mV).exp()
        dv = (-p.g_l_nS * (v - p.e_l_mV) + upswing - w + z + current_pA) / p.c_pF
        return dv, (p.a_nS * (v - p.e_l_mV) - w) / p.tau_w_ms

    dv, dw = slopes(v, w, z, v_t)
    dv_after, dw_after = slopes(v + dt_ms * dv, w + dt_ms * dw, z_after, v_t_after)
    held = clamp > 0.0
    w_after = torch.where(held, w, w + 0.5 * dt_ms * (dw + dw_after))
    v_after = torch.where(held, v, v + 0.5 * dt_ms * (dv + dv_after) + jump_mV)

    clamp = (clamp - dt_ms).clamp_min(0.0)
    clamp = torch.where(clamp < 0.5 * dt_ms, 0.0, clamp)  # rounding must not add a step
    v_after = torch.where(held & (clamp == 0.0), p.v_reset_mV, v_after)

    fires = ~held & (v_after >= p.v_peak_mV)
    peak = p.v_clamp_mV if p.t_clamp_ms else p.v_reset_mV
    after = AdExState(
        torch.where(fires, peak, v_after),
        torch.where(fires, w_after + p.b_pA, w_after),
        torch.where(fires, p.i_sp_pA, z_after),
        torch.where(fires, p.v_t_max_mV, v_t_after),
        torch.where(fires, p.t_clamp_ms, clamp),
    )
    return after, fires.to(v.dtype)
