"""One neuron under correlated Poisson inputs whose weights follow STDP, from spike to spike.

Neuron, inputs and their correlation are those of Albesa-González & Clopath 2024 (doi
10.1371/journal.pcbi.1012110), as in the authors' code: all inputs listen to one reference train,
each as closely as its correlation says. The loop is compiled: minutes of 1,000 inputs in steps of
.5 ms take a second or two. It changes a weight at spikes only, with what has decayed since its last
one; that this is what `FilopodiumSpine.step` and `PairSTDP.step` do is tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from snn_artsy.rules import FilopodiumSpine, PairSTDP

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """The neuron (conductances in nS, potentials in mV, times in ms), their names in brackets.

    Args:
        g_exc_nS: Of an excitatory input of weight 1, for 1,000 of them (g_exc_hat).
        g_inh_nS: Of an inhibitory one (g_inh_hat). inh_hz, inh_share: Rate of inhibitory inputs,
            and how many there are for each excitatory one.
        capacitance_pF: Of the membrane (C_m). tau_m_ms: Its time constant, R_m C_m.
        tau_syn_ms: Rise and decay of both conductances, an alpha function.
    """

    g_exc_nS: float = 0.148
    g_inh_nS: float = 0.25
    inh_hz: float = 10.0
    inh_share: float = 0.2
    capacitance_pF: float = 200.0
    tau_m_ms: float = 20.0
    tau_syn_ms: float = 5.0
    v_rest_mV: float = -70.0
    v_threshold_mV: float = -54.0
    e_exc_mV: float = 0.0
    e_inh_mV: float = -70.0


class Change(NamedTuple):
    """A rule as numbers, for spikes of either side.

    ``dw = a_plus |1 - w|^p x`` at a postsynaptic spike and ``-a_minus |w - w_low|^q y`` at a
    presynaptic one; p and q follow the weight where ``tau_mu_ms`` is finite.
    """

    a_plus: float
    a_minus: float
    tau_plus_ms: float
    tau_minus_ms: float
    w_low: float
    p: float
    q: float
    tau_mu_ms: float
    mu_filopodium: float
    slope: float


def change_of(rule: FilopodiumSpine | PairSTDP) -> Change:
    """The numbers of a rule; of pair-based ones those with bounds ``additive`` and ``van_rossum``.

    Raises:
        ValueError: Other bounds, or nearest-spike pairing.
    """
    if isinstance(rule, FilopodiumSpine):
        slope = (rule.mu_spine - rule.mu_filopodium) / (0.5 * (rule.w_spine + 1.0))
        return Change(
            rule.a_plus, rule.alpha * rule.a_plus, rule.tau_plus_ms, rule.tau_minus_ms,
            rule.w_spine, 0.0, 0.0, rule.tau_mu_ms, rule.mu_filopodium, slope,
        )  # fmt: skip
    if rule.pairing != "all_to_all" or rule.bounds_of not in ("additive", "van_rossum"):
        raise ValueError(f"rule: not known here, {rule}; give additive or van_rossum, all-to-all")
    down = 1.0 if rule.bounds_of == "van_rossum" else 0.0
    return Change(
        rule.a_plus, rule.a_minus, rule.tau_plus_ms, rule.tau_minus_ms, 0.0, 0.0, down,
        math.inf, 0.0, 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Course:
    """What became of the weights.

    Args:
        w: [n_recorded, n_inputs], ``every_s`` apart, the last one at the end.
        rate_hz: Output spikes between two of them, as a rate, [n_recorded].
    """

    w: Floats
    rate_hz: Floats


def simulate(
    rule: FilopodiumSpine | PairSTDP,
    correlations: list[tuple[float, Floats]],
    *,
    rate_hz: float = 30.0,
    w_start: float = 0.3,
    dt_ms: float = 0.5,
    every_s: float = 1.0,
    seed: int = 0,
    cell: Cell = Cell(),
    pre_first: bool = False,
) -> Course:
    """Show patterns of correlation one after the other.

    Args:
        correlations: Duration (s) of each pattern, and the correlation with the reference train of
            each input, in [0, 1], [n_inputs].
        w_start: Weight of every input at first. every_s: Weights are recorded so often.
        pre_first: A presynaptic spike comes before a postsynaptic one of the same step and pairs
            with it, as in Brian2 and so in the authors' code. Without, they do not pair, as in
            the rules' own steps.

    Raises:
        ValueError: Patterns are not of one length or not in [0, 1], or inputs spike in every step.
    """
    n_inputs = len(correlations[0][1])
    # the compiled loop looks at no index and takes the logarithm of 1 - chance
    for k, (_, c) in enumerate(correlations):
        if c.shape != (n_inputs,):
            raise ValueError(f"correlations[{k}]: of shape {c.shape}, give {(n_inputs,)}")
        if not ((c >= 0.0) & (c <= 1.0)).all():
            raise ValueError(f"correlations[{k}]: some are not in [0, 1]")
    if not 0.0 < rate_hz * dt_ms * 1e-3 < 1.0:
        raise ValueError(f"rate_hz: {rate_hz:g} Hz in steps of {dt_ms:g} ms, not between 0 and 1")
    w, state = np.full(n_inputs, w_start), np.zeros((4, n_inputs))
    state[3] = -dt_ms  # exponents move at the start of each step, the first one's too
    # conductances of more or fewer inputs add up to what those of 1,000 do
    scale = 1000.0 / n_inputs
    neuron = np.array([
        cell.g_exc_nS * scale / cell.capacitance_pF, cell.g_inh_nS * scale / cell.capacitance_pF,
        dt_ms / cell.tau_m_ms, dt_ms / cell.tau_syn_ms, cell.v_rest_mV, cell.v_threshold_mV,
        cell.e_exc_mV, cell.e_inh_mV, cell.inh_share * n_inputs * cell.inh_hz * dt_ms * 1e-3,
    ])  # fmt: skip
    membrane = np.array([cell.v_rest_mV, 0.0, 0.0, 0.0, 0.0])
    clock = np.zeros(3)
    records, rates = [], []
    _seed(seed)
    every = round(1000.0 * every_s / dt_ms)
    for seconds, c in correlations:
        for _ in range(round(seconds / every_s)):
            n = _run(
                every, dt_ms, rate_hz * dt_ms * 1e-3, np.sqrt(c), change_of(rule), neuron,
                membrane, clock, w, state, pre_first,
            )  # fmt: skip
            records.append(w.copy())
            rates.append(n / every_s)
    return Course(np.array(records), np.array(rates))


@njit(cache=True)
def _seed(seed: int) -> None:
    np.random.seed(seed)


@njit(cache=True)
def _moved(mu: float, w: float, elapsed_ms: float, rule: Change) -> float:
    rest = rule.mu_filopodium + rule.slope * w
    return rest + (mu - rest) * math.exp(-elapsed_ms / rule.tau_mu_ms)


@njit(cache=True)
def _run(
    n_steps: int, dt_ms: float, chance: float, close: Floats, rule: Change, cell: Floats,
    membrane: Floats, clock: Floats, w: Floats, state: Floats, pre_first: bool,
) -> int:  # fmt: skip
    """Steps of all; ``w`` and what goes on are changed in place.

    Args:
        chance: Of a spike of an input in a step. close: Square roots of the correlations.
        cell: See `simulate`. membrane: v, g and its rise of excitation and of inhibition.
        clock: Time (ms), postsynaptic trace and its time. state: Of each input its trace and the
            trace's time, its exponent and the exponent's time, [4, n_inputs].
        pre_first: Presynaptic spikes of a step pair with a postsynaptic one of it.

    Returns:
        Output spikes.
    """
    n_inputs, n_out = len(w), 0
    spiking, lost = np.empty(n_inputs, np.int64), np.empty(n_inputs)
    x, x_at, mu, mu_at = state[0], state[1], state[2], state[3]
    moving = rule.tau_mu_ms < math.inf
    for _ in range(n_steps):
        v = membrane[0]
        dv = cell[2] * (cell[4] - v)
        dv += dt_ms * membrane[1] * cell[0] * (cell[6] - v)
        dv += dt_ms * membrane[3] * cell[1] * (cell[7] - v)
        membrane[1] += cell[3] * (membrane[2] - membrane[1])
        membrane[2] -= cell[3] * membrane[2]
        membrane[3] += cell[3] * (membrane[4] - membrane[3])
        membrane[4] -= cell[3] * membrane[4]
        v += dv
        fired = v > cell[5]
        now, n = clock[0], 0
        if np.random.random() < chance:  # the reference train has a spike
            for i in range(n_inputs):
                if np.random.random() < chance + close[i] * (1.0 - chance):
                    spiking[n] = i
                    n += 1
        else:
            # each input with `chance`, drawn by the gaps between those with a spike, and of these
            # the share that its correlation leaves
            i = int(math.log(1.0 - np.random.random()) / math.log(1.0 - chance))
            while i < n_inputs:
                if np.random.random() < 1.0 - close[i]:
                    spiking[n] = i
                    n += 1
                i += 1 + int(math.log(1.0 - np.random.random()) / math.log(1.0 - chance))
        y = clock[1] * math.exp(-(now - clock[2]) / rule.tau_minus_ms)
        for k in range(n):
            i = spiking[k]
            membrane[2] += w[i]
            if moving:
                mu[i] = _moved(mu[i], w[i], now - mu_at[i], rule)
                mu_at[i] = now
            power = mu[i] if moving else rule.q
            lost[k] = abs(w[i] - rule.w_low) ** power * rule.a_minus * y
            if pre_first:
                x[i] = x[i] * math.exp(-(now - x_at[i]) / rule.tau_plus_ms) + 1.0
                x_at[i] = now
                w[i] = min(max(w[i] - lost[k], 0.0), 1.0)
        if fired:
            for i in range(n_inputs):
                if moving:
                    mu[i] = _moved(mu[i], w[i], now - mu_at[i], rule)
                    mu_at[i] = now
                power = mu[i] if moving else rule.p
                trace = x[i] * math.exp(-(now - x_at[i]) / rule.tau_plus_ms)
                w[i] += abs(1.0 - w[i]) ** power * rule.a_plus * trace
            clock[1], clock[2] = y + 1.0, now
            v = cell[4]
            n_out += 1
        for k in range(0 if pre_first else n):
            i = spiking[k]
            x[i] = x[i] * math.exp(-(now - x_at[i]) / rule.tau_plus_ms) + 1.0
            x_at[i] = now
            # what a coincident postsynaptic spike brings is clipped with it
            w[i] -= lost[k]
            w[i] = min(max(w[i], 0.0), 1.0)
        if fired:
            for i in range(n_inputs):
                w[i] = min(w[i], 1.0)
        membrane[4] += np.random.poisson(cell[8])
        membrane[0], clock[0] = v, now + dt_ms
    return n_out
