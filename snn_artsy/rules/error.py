"""Error-driven insertion and removal of AMPA receptors: what was taught less what was foreseen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from snn_artsy.checks import amplitude, duration
from snn_artsy.rules.base import (
    Factors,
    ProductRule,
    Signals,
    Traces,
    advance,
    check_signals,
    decay,
    unbiased,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ErrorDriven(ProductRule):
    """A local three-factor rule: what is taught inserts receptors, what is foreseen removes them.

        dw_ij = a_plus (f_j - s_j) (x_i - c_j <x_i>)

    f_j are the neuron's spikes, which the teacher causes, and s_j those that its own contacts
    foresaw (`Signals.predicted`: dendritic spikes, which the teacher does not replace: Urbanczik &
    Senn 2014). The difference of two spike trains times a presynaptic trace is remote supervised
    learning (Ponulak & Kasinski 2010, with an exponential window and without its non-associative
    term): STDP with the teacher's spikes and anti-STDP with one's own. x_i is the
    presynaptic trace just before the step, <x_i> its average over simulated time (unbiased from the
    first step). Where nothing is foreseen, s_j = 0, the rule is Hebbian, and c_j is the presynaptic
    target, which makes inputs compete (after Diehl & Cook 2015); else c_j = 1.

    ============= ==== ======= ===========================================================
    symbol        unit default meaning
    ============= ==== ======= ===========================================================
    a_plus        --   0.02    change per spike and unit of presynaptic trace
    tau_plus_ms   ms   20      presynaptic trace
    target        --   1       c_j where nothing is foreseen, in multiples of the slow average
    tau_target_ms ms   20000   slow average
    ============= ==== ======= ===========================================================
    """

    a_plus: float = 0.02
    tau_plus_ms: float = 20.0
    target: float = 1.0
    tau_target_ms: float = 20000.0

    def __post_init__(self) -> None:
        for name in ("a_plus", "target"):
            amplitude(f"error.{name}", getattr(self, name))
        for name in ("tau_plus_ms", "tau_target_ms"):
            duration(f"error.{name}", getattr(self, name))

    @property
    def slow(self) -> tuple[str, ...]:
        return ("sum", "weight")

    # Traces: the slow average's sum [n_pre] ([B, n_pre] if private) and weight [], the presynaptic
    # trace [B, n_pre].
    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        total = pre * 0.0 if private else pre[0] * 0.0
        return (total, total.new_zeros(()), pre * 0.0)

    def factors(self, traces: Traces, signals: Signals, dt_ms: float) -> tuple[Factors, Traces]:
        total, weight, x = traces
        private = total.ndim == 2
        keep = decay(dt_ms * (1 if private else len(x)), self.tau_target_ms)
        total = total * keep + (x if private else x.mean(0)) * (1.0 - keep)
        weight = weight * keep + (1.0 - keep)
        error = signals.post if signals.predicted is None else signals.post - signals.predicted
        target: Tensor | float = 1.0
        if signals.predicted is None:
            target = self.target if signals.target is None else signals.target
        f = Factors(
            gain_pre=x,
            gain_post=self.a_plus * error,
            loss_pre=unbiased(total, weight).expand_as(x),
            loss_post=self.a_plus * error * target,
        )
        return f, (total, weight, advance(x, signals.pre, dt_ms, self.tau_plus_ms, False))

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        import torch

        check_signals(w, signals, dt_ms, steps=True)
        traces, change = self.begun(traces, signals), torch.zeros_like(w)
        wrong = signals.post if signals.predicted is None else signals.post != signals.predicted
        erring = wrong.flatten(1).any(1).tolist()
        for t in range(len(signals.pre)):
            f, traces = self.factors(traces, signals.at(t), dt_ms)
            if erring[t]:  # only in few steps is any neuron taught or predicted
                change += f.gain_post.T @ f.gain_pre
                change -= f.loss_post.sum(0)[:, None] * f.loss_pre[0]
        return change, traces

    def sped_up(self, factor: float) -> ErrorDriven:
        return replace(self, a_plus=factor * self.a_plus)
