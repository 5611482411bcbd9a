"""Triplet spike-timing-dependent plasticity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from snn_artsy.checks import amplitude, duration, one_of
from snn_artsy.rules.base import ProductRule, SpikeTerms, Trace


@dataclass(frozen=True)
class TripletSTDP(ProductRule):
    """Triplet STDP (Pfister & Gerstner 2006); defaults: visual cortex, all-to-all, minimal.

    At a postsynaptic spike  dw = +r1_i (a2_plus + a3_plus o2_j),
    at a presynaptic spike   dw = -o1_j (a2_minus + a3_minus r2_i),

    with traces r1 (tau_plus), r2 (tau_x) of presynaptic and o1 (tau_minus), o2 (tau_y) of
    postsynaptic spikes, each read just before the spikes of its own step.

    ============= ==== ======= ============================================
    symbol        unit default meaning
    ============= ==== ======= ============================================
    a2_plus       --   0       potentiation per pair
    a3_plus       --   0.0065  potentiation per post-pre-post triplet
    a2_minus      --   0.0071  depression per pair
    a3_minus      --   0       depression per pre-post-pre triplet
    tau_plus_ms   ms   16.8    fast presynaptic trace
    tau_minus_ms  ms   33.7    fast postsynaptic trace
    tau_x_ms      ms   101     slow presynaptic trace
    tau_y_ms      ms   114     slow postsynaptic trace
    ============= ==== ======= ============================================

    Args:
        pairing: ``all_to_all`` or ``nearest``.
    """

    a2_plus: float = 0.0
    a3_plus: float = 6.5e-3
    a2_minus: float = 7.1e-3
    a3_minus: float = 0.0
    tau_plus_ms: float = 16.8
    tau_minus_ms: float = 33.7
    tau_x_ms: float = 101.0
    tau_y_ms: float = 114.0
    pairing: Literal["all_to_all", "nearest"] = "all_to_all"

    PUBLISHED: ClassVar[dict[str, dict[str, float | str]]] = {
        "visual_cortex_all_to_all_minimal": {},
    }

    def __post_init__(self) -> None:
        one_of("triplet.pairing", self.pairing, ("all_to_all", "nearest"))
        for name in ("a2_plus", "a3_plus", "a2_minus", "a3_minus"):
            amplitude(f"triplet.{name}", getattr(self, name))
        for name in ("tau_plus_ms", "tau_minus_ms", "tau_x_ms", "tau_y_ms"):
            duration(f"triplet.{name}", getattr(self, name))

    def terms(self) -> SpikeTerms:
        nearest = self.pairing == "nearest"
        return SpikeTerms(
            pre=(Trace(self.tau_plus_ms, nearest), Trace(self.tau_x_ms, nearest)),  # r1, r2
            post=(Trace(self.tau_minus_ms, nearest), Trace(self.tau_y_ms, nearest)),  # o1, o2
            gain_pre=(0.0, 1.0),
            gain_post=(self.a2_plus, 0.0, self.a3_plus),
            loss_pre=(self.a2_minus, 0.0, self.a3_minus),
            loss_post=(0.0, 1.0),
        )

    def sped_up(self, factor: float) -> TripletSTDP:
        names = ("a2_plus", "a3_plus", "a2_minus", "a3_minus")
        return replace(self, **{name: factor * getattr(self, name) for name in names})
