"""Voltage-based spike-timing-dependent plasticity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from snn_artsy.checks import amplitude, between, duration
from snn_artsy.rules.base import (
    Factors,
    ProductRule,
    Signals,
    Traces,
    advance,
    decay,
    delay_steps,
)
from snn_artsy.rules.nmda import V_REST_MV

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class VoltageSTDP(ProductRule):
    """Voltage-based STDP (Clopath, Büsing, Vasilaki & Gerstner 2010), visual cortex.

    dw = -a_ltd s_i (ubar_minus_j - theta_minus)+
         +a_ltp xbar_i (u_j - theta_plus)+ (ubar_plus_j - theta_minus)+ dt,

    with s the presynaptic spikes, u the postsynaptic potential, ubar_minus and ubar_plus the same
    low-pass filtered with tau_minus and tau_plus, and xbar the presynaptic trace, which grows by
    1/tau_x (1/ms) at a spike. a_ltd is constant: the slow homeostatic factor of the paper is left
    out, as in its pairing protocols.

    Spikes come at the start of their step, and the potential is constant in a step: for such input
    the change is exact at any dt. For a potential that varies it is of second order in dt where
    ``v_mV`` is that of the steps' middle, of first order where it is that of their end.

    ============== ====== ======= ================================================================
    symbol         unit   default meaning
    ============== ====== ======= ================================================================
    a_ltd          1/mV   14e-5   depression
    a_ltp          1/mV^2 8e-5    potentiation
    tau_x_ms       ms     15      presynaptic trace
    tau_minus_ms   ms     10      filter of the potential, depression
    tau_plus_ms    ms     7       filter of the potential, potentiation
    theta_minus_mV mV     -70.6   threshold of both filtered potentials
    theta_plus_mV  mV     -45.3   threshold of the potential itself
    delay_ms       ms     0       age of the filtered potentials; not in the paper, but in its
                                  authors' code and in NEST, where it keeps a spike's upstroke
                                  from potentiating by itself; in whole steps
    v_rest_mV      mV     -70     where the filters start (our definition)
    spike_ms       ms     2       how long a postsynaptic spike lasts, see below
    ============== ====== ======= ================================================================

    Args:
        spike_ms: A number: `Signals.v_mV` is of an integrate-and-fire neuron, whose spike takes
            one step of any length; that step counts as so many ms at the spike's potential, in the
            filters and in the potentiation, with trace and filter as they were just before it (our
            definition; 2 ms is the upstroke of the paper's own neuron). None: the potential is a
            full trace, upstroke and all (`synapses.adex`).
    """

    a_ltd: float = 14e-5
    a_ltp: float = 8e-5
    tau_x_ms: float = 15.0
    tau_minus_ms: float = 10.0
    tau_plus_ms: float = 7.0
    theta_minus_mV: float = -70.6
    theta_plus_mV: float = -45.3
    delay_ms: float = 0.0
    v_rest_mV: float = V_REST_MV
    spike_ms: float | None = 2.0

    # The values of NEST's test of the paper's pairing experiment (its defaults but for the delay).
    PUBLISHED: ClassVar[dict[str, dict[str, float | None]]] = {
        "visual_cortex": {"delay_ms": 4.0, "v_rest_mV": -70.6, "spike_ms": None},
    }

    def __post_init__(self) -> None:
        for name in ("a_ltd", "a_ltp", "delay_ms"):
            amplitude(f"voltage.{name}", getattr(self, name))
        for name in ("theta_minus_mV", "theta_plus_mV", "v_rest_mV"):
            between(f"voltage.{name}", getattr(self, name), -1e6, 1e6)
        for name in ("tau_x_ms", "tau_minus_ms", "tau_plus_ms"):
            duration(f"voltage.{name}", getattr(self, name))
        if self.spike_ms is not None:
            duration("voltage.spike_ms", self.spike_ms)

    # Traces: xbar [B, n_pre], then ubar_minus and ubar_plus above rest [B, n_post], then pairs of
    # their past values, oldest first, as many as the delay needs.
    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        return pre * 0.0, post * 0.0, post * 0.0

    def factors(self, traces: Traces, signals: Signals, dt_ms: float) -> tuple[Factors, Traces]:
        xbar, minus, plus, *past = traces
        above = signals.v_mV - self.v_rest_mV
        keep_minus, keep_plus = self._kept(signals, dt_ms)
        after = above + (minus - above) * keep_minus, above + (plus - above) * keep_plus
        u_minus, u_plus, u_plus_after, past = self._delayed([*past, minus, plus, *after], dt_ms)
        gain_pre, lasts = xbar, self._above_threshold(u_plus, u_plus_after, dt_ms)
        if self.spike_ms is None:
            gain_pre = xbar + signals.pre / self.tau_x_ms
        else:
            before = (u_plus + (self.v_rest_mV - self.theta_minus_mV)).clamp_min(0.0)
            lasts = lasts + signals.post * (before * self.spike_ms - lasts)
        gain_post = self.a_ltp * (signals.v_mV - self.theta_plus_mV).clamp_min(0.0) * lasts
        f = Factors(
            gain_pre=gain_pre,
            gain_post=gain_post if signals.gate is None else gain_post * signals.gate,
            loss_pre=signals.pre,
            loss_post=self.a_ltd
            * (u_minus + (self.v_rest_mV - self.theta_minus_mV)).clamp_min(0.0),
        )
        xbar = advance(xbar, signals.pre / self.tau_x_ms, dt_ms, self.tau_x_ms, nearest=False)
        return f, (xbar, *after, *past)

    def sped_up(self, factor: float) -> VoltageSTDP:
        return replace(self, a_ltd=factor * self.a_ltd, a_ltp=factor * self.a_ltp)

    def _above_threshold(self, start: Tensor, end: Tensor, dt_ms: float) -> Tensor:
        """Integral over a step of exp(-s/tau_x) (ubar_plus(s) - theta_minus)+ ds (mV ms), exact for
        a filter that goes from ``start`` to ``end`` (above rest) under a constant potential."""
        import torch

        # In a step that is short for the filter, level and slope are large and cancel: float64.
        begun, ended = start.double(), end.double()
        rest, tau_ms = self.v_rest_mV - self.theta_minus_mV, self.tau_plus_ms
        # ubar_plus - theta_minus = level + slope exp(-s/tau_plus) at the time s of the step
        slope = (begun - ended) / -math.expm1(-dt_ms / tau_ms)
        level = begun + rest - slope
        share = (-level / torch.where(slope == 0.0, 1.0, slope)).clamp(0.0, 1.0)
        crossing = (-tau_ms * share.log()).clamp(0.0, dt_ms)
        first = torch.where(begun + rest > 0.0, 0.0, crossing)
        last = torch.where(ended + rest > 0.0, dt_ms, crossing)

        def weight(tau_ms: float) -> Tensor:
            return tau_ms * ((-first / tau_ms).exp() - (-last / tau_ms).exp())

        both_ms = 1.0 / (1.0 / self.tau_x_ms + 1.0 / tau_ms)
        return (level * weight(self.tau_x_ms) + slope * weight(both_ms)).to(start.dtype)

    def _delayed(
        self, values: list[Tensor], dt_ms: float
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Both filters ``delay_ms`` ago, at rest before the start, and the second one a step later;
        and what later steps need. ``values`` end with those after the step."""
        n_past = 2 * delay_steps("voltage.delay_ms", self.delay_ms, dt_ms)
        if len(values) - 2 <= n_past:
            rest = values[-1] * 0.0
            return rest, rest, rest, values[:-2]
        values = values[len(values) - n_past - 4 :]
        return values[0], values[1], values[3], values[2:-2]

    def _kept(self, signals: Signals, dt_ms: float) -> tuple[Tensor | float, Tensor | float]:
        """Decay factors of the two filters over a step."""

        def of(tau_ms: float) -> Tensor | float:
            step = decay(dt_ms, tau_ms)
            if self.spike_ms is None:
                return step
            return step + signals.post * (decay(self.spike_ms, tau_ms) - step)

        return of(self.tau_minus_ms), of(self.tau_plus_ms)
