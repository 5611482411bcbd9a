"""Capacity: how many patterns one-bit contacts hold, and what a silent share and protection do.

Contacts with two states forget: every new pattern overwrites some of what the old ones left, so
that a memory's signal falls off exponentially and the number of memories grows with the logarithm
of the number of contacts only, unless patterns are sparse or contacts have more than two states
(Amit & Fusi 1994; Fusi, Drew & Abbott 2005). In each pattern some inputs come before a teaching
spike, which fills their contacts with a probability q (`insertion: bernoulli`), and some after it,
which takes AMPA receptors away until a contact falls silent. A contact is then a Markov chain; its
signal is computed and compared with the layer's. Sizes and patterns are our definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_artsy.checks import between, require, within
from snn_artsy.config import ContactConfig
from snn_artsy.config_builder import take_types
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.plots.style import BLUE, GREEN, GREY, ORANGE, in_rows, styled
from snn_artsy.protocols.base import (
    MOST_CHANGES,
    MOST_CONTACTS,
    Check,
    Column,
    Outcome,
    Session,
    sizes,
)
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP
from snn_artsy.synapses import SilentSynapseLayer

Values = NDArray[np.float64]

THEORY = "Markov chain of a contact (Amit & Fusi 1994; Fusi, Drew & Abbott 2005)"
OURS = "a wrong model must be told apart: our definition"
GAP_MS, TAU_MS = 2.0, 20.0  # between inputs and teacher; of the rule's traces


@dataclass(frozen=True)
class Parameters:
    """Of the experiment.

    Args:
        n_inputs: Contacts of each neuron.
        n_neurons: Neurons, which learn the same patterns.
        n_patterns: Shown after the contacts have reached their steady state.
        before: Share of inputs before the teaching spike of a pattern.
        after: Share of inputs after it.
        q: Probability that a contact before it is filled.
        levels: Depressions that take a full contact to silence: 1, or more for contacts that are
            protected (metaplasticity).
        silent_share: Of contacts that take part; the others are consolidated.
        replay_every: The first pattern is shown again after so many others; 0: never.
    """

    n_inputs: int = 4000
    n_neurons: int = 20
    n_patterns: int = 100
    before: float = 0.05
    after: float = 0.01
    q: float = 0.2
    levels: int = 1
    silent_share: float = 1.0
    replay_every: int = 0

    def __post_init__(self) -> None:
        take_types(self)
        sizes(self, MOST_CONTACTS, n_inputs=1, n_neurons=1)
        sizes(self, 100_000_000, n_inputs=1, n_patterns=60)
        sizes(self, MOST_CHANGES, n_inputs=1, n_neurons=1, n_patterns=60)
        within("levels", self.levels, 1, 1000)
        within("replay_every", self.replay_every, 0, 1_000_000_000)
        for name in ("before", "after", "q"):
            between(name, getattr(self, name), 1e-6, 1)
        between("silent_share", self.silent_share, 0.01, 1)
        both = self.before + self.after <= 1
        require(both, "before", self.before, "an input comes before the teacher or after it")

    @property
    def n_before(self) -> int:
        return round(self.before * self.n_inputs)

    @property
    def n_after(self) -> int:
        return round(self.after * self.n_inputs)


# --- theory ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """States of a contact that takes part: full, then one depression less each, silent last.

    Args:
        step: Transition matrix of a pattern, rows from, columns to.
        stationary: Distribution that it leaves as it is.
    """

    step: Values
    stationary: Values

    @staticmethod
    def of(p: Parameters) -> Chain:
        n = p.levels + 1
        step = np.zeros((n, n))
        for j in range(n):
            step[j, 0] += p.before * p.q
            step[j, min(j + 1, n - 1)] += p.after
            step[j, j] += 1.0 - p.before * p.q - p.after
        values, vectors = np.linalg.eig(step.T)
        first = np.real(vectors[:, np.argmin(np.abs(values - 1.0))])
        return Chain(step, first / first.sum())

    @property
    def functional(self) -> float:
        """Share of contacts that are not silent."""
        return float(self.stationary[:-1].sum())


def expected_signal(p: Parameters) -> Values:
    """Functional share of the contacts before the teacher, less that of all, by the pattern's age,
    [n_patterns]."""
    chain = Chain.of(p)
    excess = p.q * (np.eye(p.levels + 1)[0] - chain.stationary)
    signal = []
    for _ in range(p.n_patterns):
        signal.append(p.silent_share * float(excess[:-1].sum()))
        excess = excess @ chain.step
    return np.array(signal)


def expected_with_replay(p: Parameters) -> float:
    """The first pattern's signal after all others, replayed among them."""
    chain = Chain.of(p)
    full = np.eye(p.levels + 1)[0]
    state = (1.0 - p.q) * chain.stationary + p.q * full
    for k in range(1, p.n_patterns):
        state = state @ chain.step
        if p.replay_every and k % p.replay_every == 0:
            state = (1.0 - p.q) * state + p.q * full
    return p.silent_share * float(state[:-1].sum() - chain.functional)


def noise(p: Parameters) -> float:
    """Standard deviation of one neuron's signal for a pattern that it has never seen."""
    share = Chain.of(p).functional
    return math.sqrt(p.silent_share * share * (1.0 - share) / p.n_before)


def stored(p: Parameters, signal: Values) -> float:
    """Patterns whose signal exceeds the noise, of one with exponential decay between ages."""
    above = np.flatnonzero(signal < noise(p))
    return float(above[0]) if len(above) else float(len(signal))


# --- contacts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recalled:
    """Signal of each pattern after all were shown, youngest first, mean over neurons, [n_patterns],
    and the functional share of contacts that take part."""

    signal: Values
    functional: float


def learn(p: Parameters, seed: int) -> Recalled:
    """Show patterns to a layer whose contacts are in their steady state."""
    drawn = np.random.default_rng(seed)
    layer = made(p, seed, drawn)
    gap = round(GAP_MS)
    orders = [drawn.permutation(p.n_inputs) for _ in range(p.n_patterns)]
    taught = torch.zeros(2 * gap + 1, 1, p.n_neurons)
    taught[gap] = 1.5

    def show(order: NDArray[np.int64]) -> None:
        pre = torch.zeros(2 * gap + 1, 1, p.n_inputs)
        pre[0, 0, order[: p.n_before]] = 1.0
        pre[2 * gap, 0, order[p.n_before : p.n_before + p.n_after]] = 1.0
        layer.pair(pre, taught, presentation_ms=1000.0)

    for k, order in enumerate(orders):
        show(order)
        if p.replay_every and k > 0 and k % p.replay_every == 0:
            show(orders[0])
    there = (layer.state != SILENT).double().mean(0).numpy()
    signal = [there[order[: p.n_before]].mean() - there.mean() for order in reversed(orders)]
    functional = (there.mean() - (1.0 - p.silent_share)) / p.silent_share
    return Recalled(np.array(signal), float(functional))


def made(p: Parameters, seed: int, drawn: np.random.Generator) -> SilentSynapseLayer:
    """A layer whose contacts that take part are distributed as in the steady state."""
    kept = math.exp(-GAP_MS / TAU_MS)
    loss = 0.75 / p.levels
    # a little more than the share of a level, so that rounding does not leave a contact functional
    base = PairSTDP(1.0, 1.0001 * loss / kept, TAU_MS, TAU_MS)
    gating = Gating(insertion="bernoulli", probability=p.q, window_ms=10.0)
    contacts = ContactConfig(consolidate_ms=1e12, capture=False)
    layer = SilentSynapseLayer(
        p.n_inputs, p.n_neurons, 1.0, rule=GatedSTDP(base, gating), contacts=contacts,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    shape = (p.n_neurons, p.n_inputs)
    level = drawn.choice(p.levels + 1, shape, p=Chain.of(p).stationary)
    plastic = torch.from_numpy(drawn.random(shape) < p.silent_share)
    occupancy = torch.from_numpy(1.0 - 1.0001 * loss * level).float().clamp_min(0.0)
    functional = torch.from_numpy(level < p.levels)
    layer.ampa.copy_(torch.where(plastic, occupancy, 1.0))
    states = torch.where(functional, FUNCTIONAL, SILENT)
    layer.state.copy_(torch.where(plastic, states, CONSOLIDATED))
    layer.born_silent.copy_(plastic)
    return layer


# --- the experiment -------------------------------------------------------------------------------


DEFAULTS = Parameters()


def capacity(session: Session, p: Parameters = Parameters()) -> Outcome:
    """Signals of patterns by age for three silent shares, protected contacts, and replay."""
    settings = {
        "all plastic": p,
        "half plastic": replace(p, silent_share=0.5),
        "a quarter plastic": replace(p, silent_share=0.25),
        "protected": replace(p, levels=3),
        "replay": replace(p, replay_every=10),
    }
    found = {name: learn(each, session.seed) for name, each in settings.items()}
    expected = {name: expected_signal(each) for name, each in settings.items()}
    checks = []
    for name, each in settings.items():
        if name != "replay":
            checks += checks_of(name, each, found[name], expected[name])
    plain, young, old = expected["all plastic"], slice(0, 10), slice(20, 60)

    def left(signal: Values) -> float:
        """Of a young pattern's signal in an old one's."""
        return float(signal[old].mean() / signal[young].mean())

    forgetful, protected = found["all plastic"].signal, found["protected"].signal
    checks += [
        Check("first pattern's signal with replay", found["replay"].signal[-1],
              expected_with_replay(settings["replay"]), 2.0 * noise(p), THEORY),
        Check("first pattern's signal without replay", forgetful[-1], expected_with_replay(p),
              2.0 * noise(p), THEORY),
        Check("share of its signal left to a pattern of age 20 to 59", left(forgetful), 0.65, 0.0,
              "forgets: Amit & Fusi 1994; the bound is our definition", kind="at_most"),
        Check("the same, protected", left(protected) / left(forgetful), 1.2, 0.0,
              "more states keep memories longer: Fusi, Drew & Abbott 2005; the bound is ours",
              "of unprotected", kind="at_least"),
        Check("signal of young patterns, protected",
              float(protected[young].mean() / forgetful[young].mean()), 0.6, 0.0,
              "and take up less at once: Fusi, Drew & Abbott 2005; the bound is ours",
              "of unprotected", kind="at_most"),
        Check("contacts that never forget miss the signal of ages 20 to 59 by",
              float(plain[0] - forgetful[old].mean()), 0.03, 0.0, OURS, kind="at_least"),
        Check("two-state theory misses the share left to protected patterns by",
              left(protected) - left(plain), 0.1, 0.0, OURS, kind="at_least"),
    ]  # fmt: skip
    data: dict[str, Column] = {}
    for name in settings:
        group = name.replace(" ", "_")
        data[f"{group}/signal"] = Column(
            found[name].signal, "--", "of each pattern, youngest first: functional share in excess"
        )
        data[f"{group}/expected"] = Column(expected[name], "--", "the same by theory, no replay")
    notes = (
        f"{p.n_inputs} contacts of each of {p.n_neurons} neurons; {p.before:.0%} of the inputs "
        f"before and {p.after:.0%} after each teaching spike; q {p.q:g}.",
        "Stored is a pattern whose signal exceeds one standard deviation of a neuron's noise; "
        + "; ".join(
            f"{name}: {stored(each, expected[name]):.0f}"
            for name, each in settings.items()
            if name != "replay"
        )
        + ".",
        "Protected contacts take three depressions to silence in place of one.",
    )
    return Outcome("capacity", tuple(checks), data, draw(settings, found, expected), notes)


def checks_of(name: str, p: Parameters, found: Recalled, expected: Values) -> list[Check]:
    """Signal and number of stored patterns of one setting, beside theory."""
    # contacts of a group of ten patterns: binomial, the same inputs in all neurons
    tolerance = 4.0 * noise(p) / math.sqrt(10.0)
    young, middle = slice(0, 10), slice(20, 30)
    return [
        Check(f"functional share of plastic contacts, {name}", found.functional,
              Chain.of(p).functional, 0.05, THEORY),
        Check(f"signal of ages 0 to 9, {name}", float(found.signal[young].mean()),
              float(expected[young].mean()), tolerance, THEORY),
        Check(f"signal of ages 20 to 29, {name}", float(found.signal[middle].mean()),
              float(expected[middle].mean()), tolerance, THEORY),
    ]  # fmt: skip


@styled
def draw(
    settings: dict[str, Parameters], found: dict[str, Recalled], expected: dict[str, Values]
) -> Figure:
    """Signals against age beside theory; patterns stored against the silent share, by theory."""
    figure, (left, middle, right) = in_rows(3, 2.5)
    for name, colour in (
        ("all plastic", BLUE), ("half plastic", GREEN), ("a quarter plastic", ORANGE),
    ):  # fmt: skip
        left.plot(found[name].signal, ".", ms=2, color=colour)
        left.plot(expected[name], color=colour, label=name)
    for name, colour in (("all plastic", BLUE), ("protected", GREEN), ("replay", ORANGE)):
        middle.plot(found[name].signal, ".", ms=2, color=colour)
        if name != "replay":
            middle.plot(expected[name], color=colour, label=name)
    middle.plot(len(found["replay"].signal) - 1, found["replay"].signal[-1], "o", color=ORANGE,
                label="replayed")  # fmt: skip
    for axes in (left, middle):
        axes.axhline(noise(settings["all plastic"]), color=GREY, lw=0.7, ls=":")
        axes.set(xlabel="patterns since", ylabel="signal")
        axes.legend()
    shares = np.linspace(0.05, 1.0, 20)
    for levels, colour in ((1, BLUE), (3, GREEN)):
        p = replace(settings["all plastic"], levels=levels)
        each = [replace(p, silent_share=share) for share in shares]
        kept = [stored(one, expected_signal(one)) for one in each]
        right.plot(shares, kept, color=colour, label=f"{levels} to silence")
    right.set(xlabel="silent share", ylabel="patterns stored (theory)", ylim=(0, None))
    right.legend()
    return figure
