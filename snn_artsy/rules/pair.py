"""Pair-based spike-timing-dependent plasticity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from snn_artsy.checks import amplitude, between, duration, one_of, positive, require
from snn_artsy.rules.base import ProductRule, SpikeTerms, Trace, WeightDependence


@dataclass(frozen=True)
class PairSTDP(ProductRule):
    """Pair-based STDP (Song, Miller & Abbott 2000; review: Morrison, Diesmann & Gerstner 2008).

    At a postsynaptic spike  dw = +a_plus up(w) x_i,
    at a presynaptic spike   dw = -(a_pre + a_minus y_j) down(w),

    with exponential traces x of presynaptic and y of postsynaptic spikes. A coincident pair sees
    the traces before their own increment: spikes in the same step do not pair.

    ============= ==== ======= ===========================================================
    symbol        unit default meaning
    ============= ==== ======= ===========================================================
    a_plus        --   0.005   potentiation per pair
    a_minus       --   0.00525 depression per pair (1.05 a_plus)
    tau_plus_ms   ms   20      presynaptic trace
    tau_minus_ms  ms   20      postsynaptic trace
    mu            --   0.4     exponent of ``power_law``
    w_reference   --   1       weight at which ``power_law`` potentiates by a_plus
    w_floor       --   0.01    weights below count as this in ``power_law`` (our definition:
                               zero would never grow)
    a_pre         --   0       depression per presynaptic spike, whatever the postsynaptic
                               neuron does (w_in in Kempter, Gerstner & van Hemmen 1999):
                               stimulation alone silences (Xiao et al. 2004)
    ============= ==== ======= ===========================================================

    Args:
        bounds_of: Dependence on the weight, up(w) and down(w): ``additive`` 1 and 1 (Song, Miller &
            Abbott 2000); ``soft`` 1 - w and w (soft bounds: Rubin, Lee & Sompolinsky 2001);
            ``van_rossum`` 1 and w (van Rossum, Bi & Turrigiano 2000); ``power_law``
            w_reference^(1-mu) w^mu and w (Morrison, Aertsen & Diesmann 2007).
        pairing: ``all_to_all`` or ``nearest`` (symmetric: each spike pairs with the last one of
            the other side).
    """

    a_plus: float = 0.005
    a_minus: float = 0.00525
    tau_plus_ms: float = 20.0
    tau_minus_ms: float = 20.0
    bounds_of: Literal["additive", "soft", "van_rossum", "power_law"] = "additive"
    pairing: Literal["all_to_all", "nearest"] = "all_to_all"
    mu: float = 0.4
    w_reference: float = 1.0
    w_floor: float = 0.01
    a_pre: float = 0.0

    PUBLISHED: ClassVar[dict[str, dict[str, float | str]]] = {
        "song_2000": {},
        # lambda 0.1, alpha 0.11, w0 1 pA; here w = 1 stands for 80 pA, twice the mean they find
        "morrison_2007": {
            "a_plus": 0.1, "a_minus": 0.011, "mu": 0.4, "w_reference": 0.0125,
            "bounds_of": "power_law",
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        one_of("pair.bounds_of", self.bounds_of, ("additive", "soft", "van_rossum", "power_law"))
        one_of("pair.pairing", self.pairing, ("all_to_all", "nearest"))
        for name in ("a_plus", "a_minus", "a_pre"):
            amplitude(f"pair.{name}", getattr(self, name))
        for name in ("tau_plus_ms", "tau_minus_ms"):
            duration(f"pair.{name}", getattr(self, name))
        for name in ("mu", "w_floor"):
            between(f"pair.{name}", getattr(self, name), 0, 1)
        require(self.w_floor < 1, "pair.w_floor", self.w_floor, "use [0, 1)")
        positive("pair.w_reference", self.w_reference)
        between("pair.w_reference", self.w_reference, 0, 1e6)

    def terms(self) -> SpikeTerms:
        nearest = self.pairing == "nearest"
        return SpikeTerms(
            pre=(Trace(self.tau_plus_ms, nearest),),
            post=(Trace(self.tau_minus_ms, nearest),),
            gain_pre=(0.0, 1.0),
            gain_post=(self.a_plus,),
            loss_pre=(1.0,),
            loss_post=(self.a_pre, self.a_minus),
        )

    def dependence(self) -> WeightDependence:
        if self.bounds_of == "additive":
            return WeightDependence()
        if self.bounds_of == "soft":
            return WeightDependence(up=-1.0, down_0=0.0, down=1.0)
        if self.bounds_of == "van_rossum":
            return WeightDependence(down_0=0.0, down=1.0)
        power = self.w_reference ** (1.0 - self.mu)
        return WeightDependence(0.0, 0.0, 1.0, power=power, mu=self.mu, floor=self.w_floor)

    def sped_up(self, factor: float) -> PairSTDP:
        names = ("a_plus", "a_minus", "a_pre")
        return replace(self, **{name: factor * getattr(self, name) for name in names})
