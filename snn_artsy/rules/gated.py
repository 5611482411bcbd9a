"""NMDA-gated insertion of AMPA receptors, on top of any rule (our definition)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from snn_artsy.checks import ConfigError, amplitude, between, duration, one_of
from snn_artsy.rules.base import (
    Factors,
    ProductRule,
    Rule,
    Signals,
    Traces,
    all_factors,
    check_signals,
    check_traces,
    outer,
    require_rule,
    unbiased,
)
from snn_artsy.rules.nmda import (
    SHUT_ABOVE_MV,
    V_REST_MV,
    V_THRESHOLD_MV,
    insertion_event,
    nmda_gate,
)
from snn_artsy.rules.pair import PairSTDP

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gating:
    """Parameters of NMDA gating (our definition).

    ============== ==== ======= ==================================================================
    symbol         unit default meaning
    ============== ==== ======= ==================================================================
    nmda           --   1       share of NMDA receptors that are not blocked by a drug (APV: 0)
    mg_mM          mM   1       extracellular magnesium, in the receptor's block
    target         --   1.2     presynaptic target, in multiples of the slow average; 0: none
    tau_target_ms  ms   20000   slow average
    probability    --   0.1     ``bernoulli``: chance of insertion at each coincidence
    window_ms      ms   20      ``bernoulli``: a postsynaptic spike so soon after the last
                                presynaptic one is a coincidence
    v_rest_mV      mV   -70     rest of the neuron, up to which a dendrite inserts nothing
    v_th_mV        mV   -50     its threshold: up to 10 mV above it a membrane inserts nothing
    ============== ==== ======= ==================================================================

    Args:
        depolarisation: What relieves the block. ``spike``: the membrane, of which nothing short of
            a spike inserts receptors. ``dendrite``: the dendrite, which functional contacts
            depolarise and spikes invade; insertion is graded from rest on.
        clamp_mV: Potential at which a voltage clamp holds the contacts; None: there is none.
        insertion: ``graded``: the base rule's potentiation; ``bernoulli``: each coincidence fills
            the contact (occupancy 1) with a probability, depression as in the base rule.
    """

    nmda: float = 1.0
    mg_mM: float = 1.0
    target: float = 1.2
    tau_target_ms: float = 20000.0
    insertion: Literal["graded", "bernoulli"] = "graded"
    probability: float = 0.1
    window_ms: float = 20.0
    depolarisation: Literal["spike", "dendrite"] = "spike"
    clamp_mV: float | None = None
    v_rest_mV: float = V_REST_MV
    v_th_mV: float = V_THRESHOLD_MV

    def __post_init__(self) -> None:
        one_of("gating.insertion", self.insertion, ("graded", "bernoulli"))
        one_of("gating.depolarisation", self.depolarisation, ("spike", "dendrite"))
        if self.clamp_mV is not None:
            between("gating.clamp_mV", self.clamp_mV, -200, 200)
        for name in ("v_rest_mV", "v_th_mV"):
            between(f"gating.{name}", getattr(self, name), -200, 200)
        for name in ("mg_mM", "target"):
            amplitude(f"gating.{name}", getattr(self, name))
        for name in ("nmda", "probability"):
            between(f"gating.{name}", getattr(self, name), 0, 1)
        for name in ("tau_target_ms", "window_ms"):
            duration(f"gating.{name}", getattr(self, name))

    def potential(self, v_mV: Tensor) -> Tensor:
        """What the contacts see of a postsynaptic potential: all of it, or a voltage clamp's."""
        return v_mV if self.clamp_mV is None else v_mV * 0.0 + self.clamp_mV


@dataclass(frozen=True)
class GatedSTDP:
    """Insertion of AMPA receptors needs glutamate AND an open NMDA receptor (our definition).

    The base rule's potentiation is multiplied by the gate D of `nmda.nmda_gate` (Mg block: Jahr &
    Stevens 1990); in rules of spike times D takes the place of the postsynaptic spike
    (`nmda.insertion_event`). `Signals.v_mV` is to be the dendrite's potential where it says so
    (`dendritic`). For product rules a presynaptic target makes inputs compete (after Diehl & Cook
    2015):

        dw_ij = up(w_ij) gain_j (x_i - f_j <x_i>) - down(w_ij) loss_j loss_i,

    with x_i the base rule's presynaptic potentiation factor, <x_i> its slow average over simulated
    time, divided by its own weight so that it is unbiased from the first step, and f_j the target.
    """

    base: Rule = field(default_factory=PairSTDP)
    gating: Gating = Gating()

    def __post_init__(self) -> None:
        require_rule("base", self.base)
        if not isinstance(self.gating, Gating):
            raise TypeError(f"gating: expected a Gating, given {self.gating!r}")
        if self.gating.insertion == "bernoulli" and not isinstance(self.base, ProductRule):
            raise ConfigError(
                "gating.insertion",
                f"'bernoulli' cannot be used with {type(self.base).__name__}, which is no product "
                "of a pre- and a postsynaptic factor; use graded",
            )

    @property
    def noisy(self) -> bool:
        return self.base.noisy or self.gating.insertion == "bernoulli"

    @property
    def dendritic(self) -> bool:
        """Whether `Signals.v_mV` is to be the dendrite's potential, not the soma's."""
        return self.gating.depolarisation == "dendrite" and self.gating.clamp_mV is None

    @property
    def slow(self) -> tuple[str, ...]:
        return ("sum", "weight", *self.base.slow)

    # Traces: the slow average's sum [n_pre] ([B, n_pre] if private) and weight [], the base rule's
    # slow traces; the time since the last presynaptic spike (ms) [B, n_pre], its fast traces.
    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        total = pre * 0.0 if private else pre[0] * 0.0
        base = self.base.start(pre, post, private)
        return self._joined(total, total.new_zeros(()), pre * 0.0 + 1e9, base)

    def _joined(self, total: Tensor, weight: Tensor, age: Tensor, base: Traces) -> Traces:
        n_slow = len(self.base.slow)
        return (total, weight, *base[:n_slow], age, *base[n_slow:])

    def _parts(self, traces: Traces) -> tuple[Tensor, Tensor, Tensor, Traces]:
        n_slow = 2 + len(self.base.slow)
        return traces[0], traces[1], traces[n_slow], (*traces[2:n_slow], *traces[n_slow + 1 :])

    def step(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, noise)
        check_traces(self, traces, signals, w.ndim == 3)
        if not isinstance(self.base, ProductRule):
            total, weight, age, base = self._parts(traces)
            dw, base = self.base.step(w, base, self.gated(signals), dt_ms, noise)
            return dw, self._joined(total, weight, age, base)
        private, age = w.ndim == 3, self._parts(traces)[2]
        f, reference, traces = self.factors(traces, signals, dt_ms, private)
        up, down = self.base._dependence.of(w)
        loss = outer(f.loss_post, f.loss_pre, private) * down
        if self.gating.insertion == "bernoulli":
            near = (age < self.gating.window_ms).to(w.dtype)
            event = self._event(self.gated(signals), dt_ms)
            return self._inserted(w, outer(event, near, private), noise) - loss, traces
        gain = outer(f.gain_post, f.gain_pre, private)
        factor = self.gating.target if signals.target is None else signals.target
        if private:
            gain = gain - reference.unsqueeze(1) * f.gain_post.unsqueeze(2) * _column(factor)
        else:
            gain = gain - (f.gain_post.sum(0) * factor).unsqueeze(1) * reference
        return gain * up - loss, traces

    def factors(
        self, traces: Traces, signals: Signals, dt_ms: float, private: bool = False
    ) -> tuple[Factors, Tensor, Traces]:
        """The base rule's factors of one step, the reference <x_i> in it ([n_pre], or [B, n_pre] if
        private), and the traces after it; for a product rule as base."""
        assert isinstance(self.base, ProductRule)
        total, weight, age, base = self._parts(traces)
        f, base = self.base.checked_factors(base, self.gated(signals), dt_ms)
        observed = f.gain_pre if private else f.gain_pre.mean(0)
        elapsed_ms = dt_ms * (1 if private else len(signals.pre))
        total, weight = self._average(total, weight, observed, elapsed_ms)
        age = (age + dt_ms) * (1.0 - signals.pre) + dt_ms * signals.pre
        return f, unbiased(total, weight), self._joined(total, weight, age, base)

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, noise, steps=True)
        check_traces(self, traces, signals.at(0))
        return self.summed(w, traces, self.gated(signals), dt_ms, noise)

    def summed(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        """`presentation` without its checks, of signals with a gate (`ProductRule.summed`)."""
        total, weight, age, base = self._parts(traces)
        if not isinstance(self.base, ProductRule):
            dw, base = self.base.presentation(w, base, signals, dt_ms, noise)
            return dw, self._joined(total, weight, age, base)
        f, base = all_factors(self.base, self.base.begun(base, signals), signals, dt_ms)
        n_steps, n_batch = signals.pre.shape[:2]
        total, weight = self._average(
            total, weight, f.gain_pre.mean((0, 1)), dt_ms * n_steps * n_batch
        )
        up, down = self.base._dependence.of(w)
        f = Factors(*(factor.flatten(0, 1) for factor in f))
        loss = f.loss_post.T @ f.loss_pre
        if self.gating.insertion == "bernoulli":
            event = self._event(signals, dt_ms).flatten(0, 1)
            near = self._near(signals.pre, dt_ms).flatten(0, 1)
            gain = self._inserted(w, event.T @ near, noise)
        else:
            gain = f.gain_post.T @ f.gain_pre
            factor = self.gating.target if signals.target is None else signals.target
            gain -= (f.gain_post.sum(0) * factor).unsqueeze(1) * unbiased(total, weight)
            gain = gain * up
        return gain - loss * down, self._joined(total, weight, age, base)

    def sped_up(self, factor: float) -> GatedSTDP:
        gating = self.gating
        if gating.insertion == "bernoulli":  # as if each coincidence came so many times
            gating = replace(gating, probability=1.0 - (1.0 - gating.probability) ** factor)
        return replace(self, base=self.base.sped_up(factor), gating=gating)

    def gated(self, signals: Signals) -> Signals:
        """The same signals with the NMDA gate that the potential at the contacts opens."""
        gating = self.gating
        v_mV = gating.potential(signals.v_mV)
        if gating.depolarisation == "dendrite":
            opened = nmda_gate(v_mV, gating.mg_mM, gating.v_rest_mV)
        else:
            opened = nmda_gate(v_mV, gating.mg_mM, gating.v_th_mV + SHUT_ABOVE_MV)
        return signals._replace(v_mV=v_mV, gate=gating.nmda * opened)

    def _average(
        self, slow: Tensor, weight: Tensor, value: Tensor, elapsed_ms: float
    ) -> tuple[Tensor, Tensor]:
        import math

        keep = math.exp(-elapsed_ms / self.gating.tau_target_ms)
        return slow * keep + value * (1.0 - keep), weight * keep + (1.0 - keep)

    def _near(self, pre: Tensor, dt_ms: float) -> Tensor:
        """Where the last presynaptic spike before a step is at most a window old, [T, B, n_pre]."""
        near, age = pre * 0.0, pre[0] * 0.0 + 1e9
        for t in range(len(pre)):
            near[t] = age < self.gating.window_ms
            age = (age + dt_ms) * (1.0 - pre[t]) + dt_ms * pre[t]
        return near

    def _inserted(self, w: Tensor, coincidences: Tensor, noise: Tensor | None) -> Tensor:
        """Fill a contact with probability 1 - (1 - p)^n after n coincidences."""
        if noise is None:
            raise ValueError("gating.insertion 'bernoulli' needs noise: standard normal numbers")
        u = 0.5 * (1.0 + (noise * 0.5**0.5).erf())
        stays = (1.0 - self.gating.probability) ** coincidences
        # a rounded u can reach 1, which must not fill a contact without a coincidence
        filled = (u >= stays) & (coincidences > 0)
        return filled.to(w.dtype) * (1.0 - w)

    def _event(self, signals: Signals, dt_ms: float) -> Tensor:
        """Coincidences of a step with glutamate: 1 at a spike through an open gate, and
        dt/SUSTAINED_MS where the gate is open without one, so that their number does not depend on
        dt; a dendrite's gate, which is never quite shut, counts by how far it is open."""
        assert signals.gate is not None
        if self.gating.depolarisation == "spike":
            signals = signals._replace(gate=(signals.gate > 0).to(signals.gate.dtype))
        return insertion_event(signals, dt_ms)


def _column(factor: Tensor | float) -> Tensor | float:
    return factor if isinstance(factor, float) else factor.unsqueeze(1)
