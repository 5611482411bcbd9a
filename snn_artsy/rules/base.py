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
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

from snn_artsy.arrays import LARGEST, Sizes, check_range, check_same_kind, check_spikes
from snn_artsy.checks import between, duration, require
from snn_artsy.rules.nmda import insertion_event

if TYPE_CHECKING:
    from torch import Tensor

Traces = tuple["Tensor", ...]
SomeRule = TypeVar("SomeRule", bound="Rule")


class Signals(NamedTuple):
    """What a contact can know of one step; of presentations, with a leading axis T on the first
    four and on ``predicted``.

    Args:
        pre: Presynaptic spikes, 0 or 1, [B, n_pre].
        post: Postsynaptic spikes, 0 or 1, [B, n_post].
        v_mV: Postsynaptic potential at the contacts (mV), the spike's upstroke included,
            [B, n_post].
        gate: How far NMDA receptors let calcium in, in [0, 1], [B, n_post]; None for a rule as
            published, which knows no receptors. Rules of spike times take `insertion_event` for the
            postsynaptic spike in their potentiation; others multiply their potentiation by it.
        target: Presynaptic target of each neuron, in multiples of the slow average, [n_post]; None
            for the rule's own. Only `gated` and `error` use it.
        predicted: Spikes that the neurons' own contacts foresaw, 0 or 1, [B, n_post]; None: none.
            Only `error` uses it.
    """

    pre: Tensor
    post: Tensor
    v_mV: Tensor
    gate: Tensor | None = None
    target: Tensor | None = None
    predicted: Tensor | None = None

    def at(self, t: int) -> Signals:
        """Signals of step t of presentations."""
        gate = None if self.gate is None else self.gate[t]
        predicted = None if self.predicted is None else self.predicted[t]
        return Signals(self.pre[t], self.post[t], self.v_mV[t], gate, self.target, predicted)


class Rule(Protocol):
    """The interface of every plasticity rule."""

    @property
    def noisy(self) -> bool:
        """Whether `step` and `presentation` take noise."""

    @property
    def slow(self) -> tuple[str, ...]:
        """Names of the first traces, those that outlast a presentation: they have no batch axis,
        and whoever holds the contacts keeps them and saves them."""

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        """Traces at rest, like ``pre`` [B, n_pre] and ``post`` [B, n_post] (values unused)."""

    def step(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        """Change of ``w`` in one step (before clipping, shape of ``w``) and the traces after it.

        Args:
            noise: Standard normal numbers of ``w``'s shape if the rule is `noisy`; None: no noise.

        Raises:
            TypeError, ValueError: As `check_signals` has it.
        """

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        """Change of shared ``w`` [n_post, n_pre] over presentations [T, B, n], ``w`` frozen
        meanwhile, summed over steps and batch; and the traces after them. Each presentation starts
        with the slow traces given and its fast traces at rest, whatever those given are."""

    def sped_up(self: SomeRule, factor: float) -> SomeRule:
        """The same rule with every change ``factor`` times as large (compressed time)."""


def check_signals(
    w: Tensor, signals: Signals, dt_ms: float, noise: Tensor | None = None, steps: bool = False
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
    check_same_kind("signals.pre", signals.pre, f"{axes} n_pre", sizes, w)
    for name in ("post", "v_mV", "gate"):
        values = getattr(signals, name)
        if values is not None or name != "gate":
            check_same_kind(f"signals.{name}", values, f"{axes} n_post", sizes, w)
    for name, spikes in (("signals.pre", signals.pre), ("signals.post", signals.post)):
        check_spikes(name, spikes)
    check_range("w", w)
    check_range("signals.v_mV", signals.v_mV)
    if signals.gate is not None:
        check_range("signals.gate", signals.gate, 0.0, 1.0)
    if signals.target is not None:
        check_same_kind("signals.target", signals.target, "n_post", sizes, w)
        check_range("signals.target", signals.target)
    if noise is not None:
        check_same_kind("noise", noise, " ".join(("B", "n_post", "n_pre")[-w.ndim :]), sizes, w)
        check_range("noise", noise)


def check_traces(
    rule: Rule | ProductRule,
    traces: Traces,
    signals: Signals,
    private: bool = False,
    name: str = "traces",
) -> None:
    """Whether traces have the shapes that the rule's `start` gives them for such a step; what a
    rule with functions of its own appends to them later is its own.

    Raises:
        ValueError: They were started for other sizes, or by another rule.
    """
    expected = [list(trace.shape) for trace in rule.start(signals.pre, signals.post, private)]
    given = [list(trace.shape) for trace in traces]
    if not getattr(getattr(rule, "base", rule), "is_data", False):
        given = given[: len(expected)]
    if given != expected:
        raise ValueError(f"{name}: expected shapes {expected} as start gives them, given {given}")


def check_start(rule: Rule, n_pre: int, n_post: int) -> Traces:
    """Traces of a rule at rest for one presentation, as whoever holds contacts keeps them.

    Raises:
        TypeError: `start` gives no tensors, or `slow` is no tuple of names.
        ValueError: There are more slow traces than traces.
    """
    import torch

    name = type(rule).__name__
    traces = rule.start(torch.zeros(1, n_pre), torch.zeros(1, n_post))
    if not isinstance(traces, tuple) or not all(isinstance(x, torch.Tensor) for x in traces):
        raise TypeError(f"rule: {name}.start: expected a tuple of tensors, given {traces!r}")
    slow: object = rule.slow
    if not isinstance(slow, tuple) or not all(
        isinstance(x, str) and x.isidentifier() for x in slow
    ):
        raise TypeError(f"rule: {name}.slow: expected a tuple of names, given {slow!r}")
    if len(slow) > len(traces):
        raise ValueError(f"rule: {name}.slow: {len(slow)} names of {len(traces)} traces")
    return traces


class Factors(NamedTuple):
    """Potentiation and depression of one step, each a product of a pre- and a postsynaptic factor.

    dw_ij = up(w_ij) gain_post_j gain_pre_i - down(w_ij) loss_post_j loss_pre_i; all [B, n].
    """

    gain_pre: Tensor
    gain_post: Tensor
    loss_pre: Tensor
    loss_post: Tensor


@dataclass(frozen=True)
class Trace:
    """An exponential trace of one side's spikes, read just before the spikes of its own step.

    Args:
        tau_ms: Time constant (ms).
        nearest: Each spike sets it to 1 instead of adding 1 (`advance`).
    """

    tau_ms: float
    nearest: bool = False

    def __post_init__(self) -> None:
        duration("trace.tau_ms", self.tau_ms)


@dataclass(frozen=True)
class SpikeTerms:
    """A rule of spike times as data: four factors that are linear in traces.

    With x the presynaptic and y the postsynaptic traces, each factor is c_0 + sum_k c_k x_k (or
    y_k); a missing coefficient is 0. ``gain_post`` is multiplied by `insertion_event` (the
    postsynaptic spike), ``loss_pre`` by the presynaptic spike.

    Args:
        pre, post: At most two traces a side.
        gain_pre, gain_post, loss_pre, loss_post: Coefficients (c_0, c_1, ...).
    """

    pre: tuple[Trace, ...]
    post: tuple[Trace, ...]
    gain_pre: tuple[float, ...]
    gain_post: tuple[float, ...]
    loss_pre: tuple[float, ...]
    loss_post: tuple[float, ...]

    def __post_init__(self) -> None:
        for side in ("pre", "post"):
            traces = getattr(self, side)
            known = isinstance(traces, tuple) and all(isinstance(each, Trace) for each in traces)
            require(known, f"terms.{side}", traces, "give a tuple of Trace")
            require(len(traces) <= 2, f"terms.{side}", len(traces), "use at most two traces")
            for name in (f"gain_{side}", f"loss_{side}"):
                given = getattr(self, name)
                require(isinstance(given, tuple), f"terms.{name}", given, "give a tuple of numbers")
                most = f"use at most {1 + len(traces)} coefficients, one for each trace of {side}"
                require(1 <= len(given) <= 1 + len(traces), f"terms.{name}", given, most)
                for each in given:  # loops are compiled for finite numbers
                    between(f"terms.{name}", each, -LARGEST, LARGEST)
                object.__setattr__(self, name, tuple(float(each) for each in given))


@dataclass(frozen=True)
class WeightDependence:
    """How a change depends on the weight w, as data.

    up(w) = 1 + up w, or power max(w, floor)^mu where ``power`` is given;
    down(w) = down_0 + down w. The default is an additive rule's: 1 and 1.

    A dependence of another form is an object of one's own with a method ``of``; the compiled loops
    know this class only.
    """

    up: float = 0.0
    down_0: float = 1.0
    down: float = 0.0
    power: float | None = None
    mu: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up", "down_0", "down", "mu", "floor"):
            between(f"dependence.{name}", getattr(self, name), -LARGEST, LARGEST)
        if self.power is not None:
            between("dependence.power", self.power, -LARGEST, LARGEST)
            least = "0 has no such power: use a mu of 0 or more, or a floor above 0"
            require(self.mu >= 0 or self.floor > 0, "dependence.mu", self.mu, least)

    def of(self, w: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """up(w) and down(w)."""
        down = self.down_0 if self.down == 0.0 else self.down_0 + self.down * w
        if self.power is not None:
            return self.power * w.clamp_min(self.floor) ** self.mu, down
        return (1.0 if self.up == 0.0 else 1.0 + self.up * w), down


class Dependence(Protocol):
    """What `ProductRule.dependence` gives."""

    def of(self, w: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """up(w) and down(w), each a number or like ``w``."""


# A dataclass without fields, so that the command line takes its subclasses for plain dataclasses.
@dataclass(frozen=True)
class ProductRule:
    """A rule whose change is a sum of two products of a pre- and a postsynaptic factor.

    Pair-based, triplet and voltage-based STDP are of this kind: nothing of size batch x post x pre
    is ever made for shared contacts, and presentations cost two matrix products. A subclass gives
    either `terms`, data that compiled loops understand, or `start` and `factors`, functions of its
    own; besides `sped_up`, and `dependence` if its change depends on ``w``.
    """

    is_data: ClassVar[bool] = False
    """Whether `terms` defines the factors completely, without functions of a subclass's own."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "bounds" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__}.bounds: bounds(w) is called dependence().of(w) since 0.2; return "
                "a WeightDependence, or an object of your own with a method of(w)"
            )
        # what a class computes by functions of its own, its parents' data do not describe
        own = {"factors", "start", "slow"} & {*cls.__dict__}
        if own or "terms" in cls.__dict__:
            cls.is_data = "terms" in cls.__dict__

    @property
    def noisy(self) -> bool:
        return False

    @property
    def slow(self) -> tuple[str, ...]:
        return ()

    def terms(self) -> SpikeTerms | None:
        """The rule as data; None: `factors` is a function of its own."""
        return None

    def dependence(self) -> Dependence:
        """How changes depend on the weight; default: not at all (additive)."""
        return WeightDependence()

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        terms = self._terms
        return (*(pre * 0.0 for _ in terms.pre), *(post * 0.0 for _ in terms.post))

    def factors(self, traces: Traces, signals: Signals, dt_ms: float) -> tuple[Factors, Traces]:
        """Factors of one step, and the traces after it."""
        terms = self._terms
        x, y = traces[: len(terms.pre)], traces[len(terms.pre) :]
        f = Factors(
            gain_pre=_linear(terms.gain_pre, x, signals.pre),
            gain_post=_linear(terms.gain_post, y, signals.post) * insertion_event(signals, dt_ms),
            loss_pre=_linear(terms.loss_pre, x, signals.pre) * signals.pre,
            loss_post=_linear(terms.loss_post, y, signals.post),
        )
        return f, (
            *(advance(v, signals.pre, dt_ms, *_of(k)) for v, k in zip(x, terms.pre, strict=True)),
            *(advance(v, signals.post, dt_ms, *_of(k)) for v, k in zip(y, terms.post, strict=True)),
        )

    def checked_factors(
        self, traces: Traces, signals: Signals, dt_ms: float
    ) -> tuple[Factors, Traces]:
        """`factors`, whose shapes are looked at where a subclass makes them by a function of its
        own: sums over a batch would take others for what they are not, and compiled loops trust
        them.

        Raises:
            TypeError, ValueError: They are no factors of such a step.
        """
        made: object = self.factors(traces, signals, dt_ms)
        name = f"rule: {type(self).__name__}.factors"
        if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], Factors):
            raise TypeError(f"{name}: expected Factors and the traces after them, given {made!r}")
        f, after = made
        if not self.is_data:
            sizes: Sizes = {}
            like = signals.pre
            check_same_kind("signals.pre", like, "B n_pre", sizes, like)
            sizes["n_post"] = signals.post.shape[1]
            for part, values in zip(Factors._fields, f, strict=True):
                axes = "B n_pre" if part.endswith("_pre") else "B n_post"
                check_same_kind(f"{name}: {part}", values, axes, sizes, like)
        return f, tuple(after)

    # A rule is frozen, so that what it says of itself holds for all steps; to have it made and
    # looked at in each of them would take half of the reference's time.
    @cached_property
    def _terms(self) -> SpikeTerms:
        terms: object = self.terms()
        if terms is None:
            raise NotImplementedError(
                f"{type(self).__name__}: give terms(), or start() and factors()"
            )
        if not isinstance(terms, SpikeTerms):
            raise TypeError(
                f"rule: {type(self).__name__}.terms: expected SpikeTerms, given {terms!r}"
            )
        return terms

    @cached_property
    def _dependence(self) -> Dependence:
        return self.dependence()

    def step(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms)
        check_traces(self, traces, signals, w.ndim == 3)
        f, traces = self.checked_factors(traces, signals, dt_ms)
        up, down = self._dependence.of(w)
        private = w.ndim == 3
        gain = outer(f.gain_post, f.gain_pre, private)
        return gain * up - outer(f.loss_post, f.loss_pre, private) * down, traces

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, steps=True)
        return self.summed(w, traces, signals, dt_ms)

    def summed(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float
    ) -> tuple[Tensor, Traces]:
        """`presentation` without its checks: of independent mean trains in place of spikes it gives
        the mean change, where factors are linear in each spike (`synapses.expectation`)."""
        f, traces = all_factors(self, self.begun(traces, signals), signals, dt_ms)
        up, down = self._dependence.of(w)
        gain = f.gain_post.flatten(0, 1).T @ f.gain_pre.flatten(0, 1)
        loss = f.loss_post.flatten(0, 1).T @ f.loss_pre.flatten(0, 1)
        return gain * up - loss * down, traces

    def begun(self, traces: Traces, signals: Signals) -> Traces:
        """Traces at the start of presentations [T, B, n]: slow ones as they are, fast at rest."""
        n_slow = len(self.slow)
        return (*traces[:n_slow], *self.start(signals.pre[0], signals.post[0])[n_slow:])


def _linear(coefficients: tuple[float, ...], traces: Traces, like: Tensor) -> Tensor:
    """c_0 + sum_k c_k trace_k, of ``like``'s shape."""
    total: Tensor | float = coefficients[0]
    for c, trace in zip(coefficients[1:], traces, strict=False):
        if c != 0.0:
            total = total + c * trace
    return like * 0.0 + total if isinstance(total, float) else total


def _of(trace: Trace) -> tuple[float, bool]:
    return trace.tau_ms, trace.nearest


def all_factors(
    rule: ProductRule, traces: Traces, signals: Signals, dt_ms: float
) -> tuple[Factors, Traces]:
    """Factors of every step of presentations, [T, B, n], and the last traces."""
    import torch

    steps = []
    for t in range(len(signals.pre)):
        f, traces = rule.checked_factors(traces, signals.at(t), dt_ms)
        steps.append(f)
    return Factors(*(torch.stack(parts) for parts in zip(*steps, strict=True))), traces


def outer(post: Tensor, pre: Tensor, private: bool) -> Tensor:
    """post_j pre_i of [B, n]: [B, n_post, n_pre] if private, else summed over the batch."""
    return post.unsqueeze(2) * pre.unsqueeze(1) if private else post.T @ pre


def decay(dt_ms: float, tau_ms: float) -> float:
    """exp(-dt/tau): exact for any step, unlike 1 - dt/tau."""
    return math.exp(-dt_ms / tau_ms)


def unbiased(total: Tensor, weight: Tensor) -> Tensor:
    """A slow average: a sum over its weight; 0 as long as so little time has passed that the weight
    is 0."""
    import torch

    return total / weight.clamp_min(torch.finfo(weight.dtype).tiny)


def advance(trace: Tensor, spikes: Tensor, dt_ms: float, tau_ms: float, nearest: bool) -> Tensor:
    """An exponential trace one step later, just before that step's own spikes.

    All-to-all traces sum the spikes; nearest-spike traces are set to 1 by each (Morrison, Diesmann
    & Gerstner 2008).
    """
    after = trace + spikes * (1.0 - trace) if nearest else trace + spikes
    return after * decay(dt_ms, tau_ms)


def delay_steps(name: str, delay_ms: float, dt_ms: float) -> int:
    """A delay in whole steps, the nearest number.

    Raises:
        ConfigError: A delay above 0 would be rounded to no step.
    """
    steps = round(delay_ms / dt_ms)
    lost = f"it would be lost in steps of {dt_ms:g} ms: use a shorter dt_ms, or no delay (0)"
    require(steps > 0 or delay_ms == 0.0, name, delay_ms, lost)
    return steps


_PARTS = ("noisy", "slow", "start", "step", "presentation", "sped_up")


def require_rule(name: str, given: object) -> None:
    """Check that an object is a rule, not its name or its class.

    Raises:
        TypeError: It lacks a part of `Rule`.
    """
    missing = [part for part in _PARTS if not hasattr(given, part)]
    if missing or isinstance(given, type):
        shown = given.__name__ if isinstance(given, type) else repr(given)
        raise TypeError(f"{name}: expected a rule such as PairSTDP(), given {shown}")
