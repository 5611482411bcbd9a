"""Contacts that mature by themselves, in time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snn_artsy.checks import duration
from snn_artsy.rules.base import Signals, Traces, check_signals

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Maturation:
    """AMPA receptors that contacts recruit without any pairing, all at once, at a constant rate.

        P(a contact fills in dt) = 1 - exp(-dt / tau)

    After retrieval of a cocaine memory synapses that had matured are silent, and about 6 h later
    they are not (Wright et al. 2020, doi 10.1038/s41593-019-0537-6): with the default 95 % have
    re-matured by then. That they do so one by one, at a constant rate, is our definition. Spikes
    play no part. It is for layers (protocol `re-silencing`); in a run contacts mature by pairing.

    ============= ==== ======= ===========================================================
    symbol        unit default meaning
    ============= ==== ======= ===========================================================
    tau_ms        ms   7200000 mean time until a contact fills (2 h)
    ============= ==== ======= ===========================================================
    """

    tau_ms: float = 7_200_000.0

    def __post_init__(self) -> None:
        duration("maturation.tau_ms", self.tau_ms)

    @property
    def noisy(self) -> bool:
        return True

    @property
    def slow(self) -> tuple[str, ...]:
        return ()

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        return ()

    def step(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, noise)
        elapsed_ms = dt_ms * (1 if w.ndim == 3 else len(signals.pre))
        return self._filled(w, elapsed_ms, noise), ()

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, noise, steps=True)
        n_steps, n_batch = signals.pre.shape[:2]
        return self._filled(w, dt_ms * n_steps * n_batch, noise), ()

    def _filled(self, w: Tensor, elapsed_ms: float, noise: Tensor | None) -> Tensor:
        if noise is None:
            raise ValueError("maturation needs noise: standard normal numbers")
        u = 0.5 * (1.0 + (noise * 0.5**0.5).erf())
        return (u < -math.expm1(-elapsed_ms / self.tau_ms)).to(w.dtype) * (1.0 - w)

    def sped_up(self, factor: float) -> Maturation:
        return replace(self, tau_ms=self.tau_ms / factor)
