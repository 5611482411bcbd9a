"""What every plasticity rule is: published parameters with pure functions, no hidden state.

A rule is a frozen dataclass. `start` gives its traces at rest, `step` takes one time step, and
`presentation` takes a batch of presentations while the occupancy stays frozen. ``w`` is the AMPA
occupancy of the contacts: [n_post, n_pre] if the presentations of a batch share them (changes are
summed over the batch), or [B, n_post, n_pre] if each presentation has contacts of its own.

torch is imported when a rule runs, not with this module: the configuration is made of these
dataclasses and must be quick to load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from snn_artsy.arrays import Sizes, check_range, check_same_kind, check_spikes
from snn_artsy.checks import duration

if TYPE_CHECKING:
    from torch import Tensor

Traces = tuple["Tensor", ...]
SomeRule = TypeVar("SomeRule", bound="Rule")


class Signals(NamedTuple):
    """What a contact can know of one step; of presentations, with a leading axis T on the first
    four.

    Args:
        pre: Presynaptic spikes, 0 or 1, [B, n_pre].
        post: Postsynaptic spikes, 0 or 1, [B, n_post].
        v_mV: Postsynaptic potential (mV), the spike's upstroke included, [B, n_post].
        gate: How far NMDA receptors let calcium in, in [0, 1], [B, n_post]; None for a rule as
            published, which knows no receptors. Rules of spike times take `insertion_event` for the
            postsynaptic spike in their potentiation; others multiply their potentiation by it.
        target: Presynaptic target of each neuron, in multiples of the slow average, [n_post]; None
            for the rule's own. Only `gated` uses it.
    """

    pre: Tensor
    post: Tensor
    v_mV: Tensor
    gate: Tensor | None = None
    target: Tensor | None = None

    def at(self, t: int) -> Signals:
        """Step t of presentations."""
        gate = None if self.gate is None else self.gate[t]
        return Signals(self.pre[t], self.post[t], self.v_mV[t], gate, self.target)


class Rule(Protocol):
    """The interface of every plasticity rule."""

    @property
    def noisy(self) -> bool:
        """Wants noise in `step` and `presentation`."""

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        """Traces at rest, like ``pre`` [B, n_pre] and ``post`` [B, n_post] (values unused)."""

    def rest(self, traces: Traces) -> Traces:
        """Traces at the start of the next presentation: fast ones at rest, slow ones kept."""

    def step(
        self, w: Tensor, traces: Traces, seen: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        """Change of ``w`` in one step (before clipping, shape of ``w``) and the traces after it.

        Args:
            noise: Standard normal numbers of ``w``'s shape if the rule is `noisy`; None: no noise.

        Raises:
            TypeError, ValueError: As `check_seen` has it.
        """

    def presentation(
        self, w: Tensor, traces: Traces, seen: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        """Change of shared ``w`` [n_post, n_pre] over presentations [T, B, n] that each start at
        rest, ``w`` frozen meanwhile, summed over steps and batch; and the traces after them."""

    def sped_up(self: SomeRule, factor: float) -> SomeRule:
        """The same rule with every change ``factor`` times as large (compressed time)."""


def check_seen(
    w: Tensor, seen: Signals, dt_ms: float, noise: Tensor | None = None, steps: bool = False
) -> None:
    """Whether a rule can compute with these; ``steps``: with presentations, else with one step.

    Raises:
        TypeError: Something is no tensor, or of another type than ``w``.
        ValueError: Shapes or devices do not fit together; a spike is neither 0 nor 1; a number is
            not finite or beyond `arrays.LARGEST`, a gate outside [0, 1].
    """
    duration("dt_ms", dt_ms)
    sizes: Sizes = {}
    private = not steps and getattr(w, "ndim", 2) == 3
    check_same_kind("w", w, "B n_post n_pre" if private else "n_post n_pre", sizes, w)
    axes = "T B" if steps else "B"
    check_same_kind("seen.pre", seen.pre, f"{axes} n_pre", sizes, w)
    for name in ("post", "v_mV", "gate"):
        values = getattr(seen, name)
        if values is not None or name != "gate":
            check_same_kind(f"seen.{name}", values, f"{axes} n_post", sizes, w)
    for name, spikes in (("seen.pre", seen.pre), ("seen.post", seen.post)):
        check_spikes(name, spikes)
    check_range("w", w)
    check_range("seen.v_mV", seen.v_mV)
    if seen.gate is not None:
        check_range("seen.gate", seen.gate, 0.0, 1.0)
    if seen.target is not None:
        check_same_kind("seen.target", seen.target, "n_post", sizes, w)
        check_range("seen.target", seen.target)
    if noise is not None:
        check_same_kind("noise", noise, " ".join(("B", "n_post", "n_pre")[-w.ndim :]), sizes, w)
        check_range("noise", noise)


def check_traces(
    rule: Rule | ProductRule, traces: Traces, seen: Signals, private: bool = False
) -> None:
    """Whether traces have the shapes that the rule's `start` gives them for such a step; what a
    rule appends to them later is its own.

    Raises:
        ValueError: They were started for other sizes, or by another rule.
    """
    expected = [list(trace.shape) for trace in rule.start(seen.pre, seen.post, private)]
    given = [list(trace.shape) for trace in traces[: len(expected)]]
    if given != expected:
        raise ValueError(f"traces: expected shapes {expected} as start gives them, given {given}")


class Factors(NamedTuple):
    """Potentiation and depression of one step as products of what pre and post know by themselves.

    dw_ij = up(w_ij) gain_post_j gain_pre_i - down(w_ij) loss_post_j loss_pre_i; all [B, n].
    """

    gain_pre: Tensor
    gain_post: Tensor
    loss_pre: Tensor
    loss_post: Tensor


# A dataclass without fields, so that the command line takes its subclasses for plain dataclasses.
@dataclass(frozen=True)
class ProductRule:
    """A rule whose change is a sum of two products of a pre- and a postsynaptic factor.

    Pair-based, triplet and voltage-based STDP are of this kind: nothing of size batch x post x pre
    is ever made for shared contacts, and presentations cost two matrix products. A subclass gives
    `start`, `factors` and `sped_up`, and `bounds` if its change depends on ``w``.
    """

    @property
    def noisy(self) -> bool:
        return False

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        raise NotImplementedError

    def factors(self, traces: Traces, seen: Signals, dt_ms: float) -> tuple[Factors, Traces]:
        """Factors of one step, and the traces after it."""
        raise NotImplementedError

    def bounds(self, w: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """up(w) and down(w); 1 and 1 for an additive rule."""
        return 1.0, 1.0

    def rest(self, traces: Traces) -> Traces:
        return tuple(trace.new_zeros(()).expand_as(trace) for trace in traces)

    def step(
        self, w: Tensor, traces: Traces, seen: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_seen(w, seen, dt_ms)
        check_traces(self, traces, seen, w.ndim == 3)
        f, traces = self.factors(traces, seen, dt_ms)
        up, down = self.bounds(w)
        private = w.ndim == 3
        gain = outer(f.gain_post, f.gain_pre, private)
        return gain * up - outer(f.loss_post, f.loss_pre, private) * down, traces

    def presentation(
        self, w: Tensor, traces: Traces, seen: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_seen(w, seen, dt_ms, steps=True)
        f, traces = all_factors(self, seen, dt_ms)
        up, down = self.bounds(w)
        gain = f.gain_post.flatten(0, 1).T @ f.gain_pre.flatten(0, 1)
        loss = f.loss_post.flatten(0, 1).T @ f.loss_pre.flatten(0, 1)
        return gain * up - loss * down, traces


def all_factors(rule: ProductRule, seen: Signals, dt_ms: float) -> tuple[Factors, Traces]:
    """Factors of every step of presentations that start at rest, [T, B, n], and the last traces."""
    import torch

    traces = rule.start(seen.pre[0], seen.post[0])
    steps = []
    for t in range(len(seen.pre)):
        f, traces = rule.factors(traces, seen.at(t), dt_ms)
        steps.append(f)
    return Factors(*(torch.stack(parts) for parts in zip(*steps, strict=True))), traces


def outer(post: Tensor, pre: Tensor, private: bool) -> Tensor:
    """post_j pre_i of [B, n]: [B, n_post, n_pre] if private, else summed over the batch."""
    return post.unsqueeze(2) * pre.unsqueeze(1) if private else post.T @ pre


def decay(dt_ms: float, tau_ms: float) -> float:
    """exp(-dt/tau): exact for any step, unlike 1 - dt/tau."""
    return math.exp(-dt_ms / tau_ms)


def advance(trace: Tensor, spikes: Tensor, dt_ms: float, tau_ms: float, nearest: bool) -> Tensor:
    """An exponential trace one step later, just before that step's own spikes.

    All-to-all traces sum the spikes; nearest-spike traces are set to 1 by each (Morrison, Diesmann
    & Gerstner 2008).
    """
    after = trace + spikes * (1.0 - trace) if nearest else trace + spikes
    return after * decay(dt_ms, tau_ms)


_PARTS = ("noisy", "start", "rest", "step", "presentation", "sped_up")


def require_rule(name: str, given: object) -> None:
    """A rule, not its name or its class.

    Raises:
        TypeError: It lacks a part of `Rule`.
    """
    missing = [part for part in _PARTS if not hasattr(given, part)]
    if missing or isinstance(given, type):
        shown = given.__name__ if isinstance(given, type) else repr(given)
        raise TypeError(f"{name}: expected a rule such as PairSTDP(), given {shown}")
