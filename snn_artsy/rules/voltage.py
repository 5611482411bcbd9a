"""Voltage-based spike-timing-dependent plasticity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from snn_artsy.checks import amplitude, between, duration
from snn_artsy.rules.base import Factors, ProductRule, Signals, Traces, advance, decay
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
    1/tau_x (1/ms) at a spike. Traces and filters are read just before their own step. a_ltd is
    constant: the slow homeostatic factor of the paper is left out, as in its pairing protocols.

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
                                  from potentiating by itself
    v_rest_mV      mV     -70     where the filters start (our definition)
    spike_ms       ms     2       how long a postsynaptic spike lasts, see below
    ============== ====== ======= ================================================================

    Args:
        spike_ms: A number: `Signals.v_mV` is of an integrate-and-fire neuron, whose spike takes
            one step of any length; that step counts as so many ms at the spike's potential, in the
            potentiation and in the filters (our definition; 2 ms is the upstroke of the paper's own
            neuron). None: the potential is a full trace, upstroke and all (`synapses.adex`).
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
        u_minus, u_plus, past = self._delayed([*past, minus, plus], dt_ms)
        lasts, keep_minus, keep_plus = self._durations(signals, dt_ms)
        gain_post = (
            self.a_ltp
            * (signals.v_mV - self.theta_plus_mV).clamp_min(0.0)
            * (u_plus + (self.v_rest_mV - self.theta_minus_mV)).clamp_min(0.0)
            * lasts
        )
        f = Factors(
            gain_pre=xbar,
            gain_post=gain_post if signals.gate is None else gain_post * signals.gate,
            loss_pre=signals.pre,
            loss_post=self.a_ltd
            * (u_minus + (self.v_rest_mV - self.theta_minus_mV)).clamp_min(0.0),
        )
        above = signals.v_mV - self.v_rest_mV
        return f, (
            advance(xbar, signals.pre / self.tau_x_ms, dt_ms, self.tau_x_ms, nearest=False),
            above + (minus - above) * keep_minus,
            above + (plus - above) * keep_plus,
            *past,
        )

    def sped_up(self, factor: float) -> VoltageSTDP:
        return replace(self, a_ltd=factor * self.a_ltd, a_ltp=factor * self.a_ltp)

    def _delayed(self, values: list[Tensor], dt_ms: float) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The filters ``delay_ms`` ago, at rest before the start; and what later steps need."""
        kept = 2 * round(self.delay_ms / dt_ms)
        if len(values) <= kept:
            rest = values[-1] * 0.0
            return rest, rest, values
        values = values[len(values) - kept - 2 :]
        return values[0], values[1], values[2:]

    def _durations(
        self, signals: Signals, dt_ms: float
    ) -> tuple[Tensor | float, Tensor | float, Tensor | float]:
        """How long the step's potential lasts (ms), and what it leaves of the two filters."""

        def of(duration_ms: float) -> tuple[float, float, float]:
            minus, plus = (
                decay(duration_ms, self.tau_minus_ms),
                decay(duration_ms, self.tau_plus_ms),
            )
            return duration_ms, minus, plus

        step = of(dt_ms)
        if self.spike_ms is None:
            return step
        spike = of(self.spike_ms)
        lasts, minus, plus = (a + signals.post * (b - a) for a, b in zip(step, spike, strict=True))
        return lasts, minus, plus
