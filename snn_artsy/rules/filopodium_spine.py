"""Spike-timing-dependent plasticity of filopodia, which compete, and of graded spines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from snn_artsy.checks import amplitude, between, duration, require
from snn_artsy.rules.base import (
    Signals,
    Traces,
    all_factors,
    check_signals,
    check_traces,
    decay,
    outer,
)
from snn_artsy.rules.pair import PairSTDP

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FilopodiumSpine:
    """Filopodium-spine STDP (Albesa-González & Clopath 2024, doi 10.1371/journal.pcbi.1012110).

    ::

        at a postsynaptic spike  dw = +a_plus |1 - w|^mu x_i
        at a presynaptic spike   dw = -alpha a_plus |w - w_spine|^mu y_j
        tau_mu dmu/dt = -(mu - mu_rest(w))

    with exponential traces x of presynaptic and y of postsynaptic spikes. mu, an exponent of each
    contact's own, follows the weight slowly: mu_rest is the line through mu_filopodium at w = 0
    and mu_spine at the middle of w_spine and 1. A small contact, a filopodium, has an exponent near
    0 and changes additively: it competes. One that grew past w_spine and stayed, a spine, has soft
    bounds at w_spine and at 1: it is graded, and protected from what the filopodia compete for.
    Equations and defaults were read in the authors' code, too (github.com/albesagonzalez/
    filopodium-spine-learning).

    ============== ==== ======= ==================================================================
    symbol         unit default meaning
    ============== ==== ======= ==================================================================
    a_plus         --   0.006   potentiation per pair (lambda in the paper)
    alpha          --   1.35    depression per pair over potentiation per pair
    tau_plus_ms    ms   20      presynaptic trace
    tau_minus_ms   ms   20      postsynaptic trace
    tau_mu_ms      ms   20000   how slowly an exponent follows its weight
    mu_filopodium  --   0.01    exponent of a weight of 0
    mu_spine       --   0.1     exponent of a weight of (w_spine + 1) / 2
    w_spine        --   0.5     weight at which a filopodium counts as a spine
    ============== ==== ======= ==================================================================

    `PUBLISHED`: what their figure 4 calls total, partial and no overwriting of a first memory by a
    second one.

    Conventions (our definition). Spikes of the same step do not pair, as in all of our rules; in
    the authors' simulation a presynaptic one counts as first. An exponent starts at 0, as theirs;
    it takes its steps at their start, toward the rest of the weight that has held since the last
    spike, which is exact for steps of any length. In `presentation` it is frozen as the weight is,
    and moves when all presentations are over.
    """

    a_plus: float = 0.006
    alpha: float = 1.35
    tau_plus_ms: float = 20.0
    tau_minus_ms: float = 20.0
    tau_mu_ms: float = 20_000.0
    mu_filopodium: float = 0.01
    mu_spine: float = 0.1
    w_spine: float = 0.5

    PUBLISHED: ClassVar[dict[str, dict[str, float]]] = {
        "total_overwriting": {},
        "partial_overwriting": {"mu_spine": 0.15},
        "no_overwriting": {"mu_spine": 0.3},
    }

    def __post_init__(self) -> None:
        for name in ("a_plus", "alpha"):
            amplitude(f"filopodium_spine.{name}", getattr(self, name))
        for name in ("tau_plus_ms", "tau_minus_ms", "tau_mu_ms"):
            duration(f"filopodium_spine.{name}", getattr(self, name))
        for name in ("mu_filopodium", "mu_spine", "w_spine"):
            between(f"filopodium_spine.{name}", getattr(self, name), 0, 1)
        # a line that falls would cross 0, and 0 has no negative power
        rises = f"spines have the larger exponent: use at least {self.mu_filopodium:g}"
        require(
            self.mu_spine >= self.mu_filopodium, "filopodium_spine.mu_spine", self.mu_spine, rises
        )

    @property
    def noisy(self) -> bool:
        return False

    @property
    def slow(self) -> tuple[str, ...]:
        return ("exponent",)

    # Traces: mu [n_post, n_pre] ([B, n_post, n_pre] if private), then those of the pair rule.
    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        exponent = outer(post * 0.0, pre * 0.0, private)
        return (exponent, *self.pair().start(pre, post))

    def step(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms)
        private = w.ndim == 3
        check_traces(self, traces, signals, private)
        mu = self._moved(traces[0], w, dt_ms * (1 if private else len(signals.pre)))
        f, fast = self.pair().factors(traces[1:], signals, dt_ms)
        up, down = self.scales(w, mu)
        gain = outer(f.gain_post, f.gain_pre, private)
        return gain * up - outer(f.loss_post, f.loss_pre, private) * down, (mu, *fast)

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, steps=True)
        n_steps, n_batch = signals.pre.shape[:2]
        pair, mu = self.pair(), traces[0]
        start = pair.start(signals.pre[0], signals.post[0])
        f, fast = all_factors(pair, start, signals, dt_ms)
        up, down = self.scales(w, mu)
        gain = f.gain_post.flatten(0, 1).T @ f.gain_pre.flatten(0, 1)
        loss = f.loss_post.flatten(0, 1).T @ f.loss_pre.flatten(0, 1)
        return gain * up - loss * down, (self._moved(mu, w, dt_ms * n_steps * n_batch), *fast)

    def scales(self, w: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """What potentiation and depression of contacts with exponents ``mu`` are multiplied by."""
        return (1.0 - w).abs() ** mu, (w - self.w_spine).abs() ** mu

    def pair(self) -> PairSTDP:
        """The additive rule that a contact of exponent 0 follows."""
        return PairSTDP(self.a_plus, self.alpha * self.a_plus, self.tau_plus_ms, self.tau_minus_ms)

    def mu_rest(self, w: Tensor) -> Tensor:
        """Where the exponent of a weight goes: (w + a) / q in the paper."""
        slope = (self.mu_spine - self.mu_filopodium) / (0.5 * (self.w_spine + 1.0))
        return self.mu_filopodium + slope * w

    def _moved(self, mu: Tensor, w: Tensor, elapsed_ms: float) -> Tensor:
        rest = self.mu_rest(w)
        return rest + (mu - rest) * decay(elapsed_ms, self.tau_mu_ms)

    def sped_up(self, factor: float) -> FilopodiumSpine:
        return replace(self, a_plus=factor * self.a_plus, tau_mu_ms=self.tau_mu_ms / factor)
