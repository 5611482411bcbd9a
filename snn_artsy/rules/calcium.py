"""Calcium-based plasticity of a bistable contact, and the change predicted for pairings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from snn_artsy.checks import amplitude, duration, finite, positive, require
from snn_artsy.rules.base import (
    Signals,
    Traces,
    check_signals,
    check_traces,
    decay,
    delay_steps,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CalciumRule:
    """Calcium-based plasticity (Graupner & Brunel 2012, doi 10.1073/pnas.1109359109).

    tau drho/dt = -rho (1 - rho) (rho_star - rho)
                  + gamma_p (1 - rho) H[c - theta_p] - gamma_d rho H[c - theta_d] + noise(t),
    noise(t)    = sigma sqrt(tau) sqrt(H[c - theta_d] + H[c - theta_p]) eta(t),

    the noise as in the paper's correction (doi 10.1073/pnas.1220044110). rho is the occupancy
    ``w``, H a step function, eta Gaussian white noise. Calcium is a sum of transients,

    dc/dt = -c / tau_ca + c_pre sum delta(t - t_pre - delay) + c_post sum delta(t - t_post),

    so that c_ij = c_pre x_i + c_post y_j with traces of single neurons.

    =========== ==== ======= ===================================================
    symbol      unit default meaning
    =========== ==== ======= ===================================================
    tau_ca_ms   ms   20      calcium transient
    c_pre       --   1       transient of a presynaptic spike
    c_post      --   2       transient of a postsynaptic spike
    theta_d     --   1       calcium above which depression is on
    theta_p     --   1.3     calcium above which potentiation is on
    gamma_d     --   200     rate of depression, per tau
    gamma_p     --   321.808 rate of potentiation, per tau
    sigma       --   2.8284  noise while a threshold is exceeded
    tau_ms      ms   150000  change of the occupancy
    rho_star    --   0.5     unstable fixed point between the wells at 0 and 1
    delay_ms    ms   13.7    from a presynaptic spike to its calcium transient
    =========== ==== ======= ===================================================

    Defaults and `PUBLISHED`: the paper's sets, read in its authors' code
    (github.com/mgraupe/CalciumBasedPlasticityModel, synapticChange.py); `READOUT` holds the
    share of contacts that start in the lower well (beta) and the ratio of strengths (b) of the sets
    that were fitted to data.

    Conventions (our definition). Spikes of a step come at its start and act together: calcium of a
    coincident pair is c_pre + c_post if the delay is 0. Inside a step calcium decays exponentially,
    so the share of a step above a threshold, tau_ca/dt ln(c/theta) clamped to [0, 1], is exact for
    spikes on the grid at any dt. The occupancy takes one Euler step per step, its drift evaluated
    at the step's start: relative to the step's change this is off by gamma dt / (2 tau), 0.2 % at
    1 ms with the defaults. The delay is rounded to steps, and refused where none is left; dt may
    change while no presynaptic spike is on its way (overdue ones arrive together). Changes are not
    clipped: noise takes the occupancy out of [0, 1], which the equation allows; whoever holds the
    contacts clips.

    With receptors (``Signals.gate``; our definition) potentiation and its part of the noise's
    variance are multiplied by a gate that is held as long as calcium is, g <- max(D, g
    exp(-dt/tau_ca)) for each postsynaptic neuron.
    """

    tau_ca_ms: float = 20.0
    c_pre: float = 1.0
    c_post: float = 2.0
    theta_d: float = 1.0
    theta_p: float = 1.3
    gamma_d: float = 200.0
    gamma_p: float = 321.808
    sigma: float = 2.8284
    tau_ms: float = 150_000.0
    rho_star: float = 0.5
    delay_ms: float = 13.7

    PUBLISHED: ClassVar[dict[str, dict[str, float]]] = {
        "DP": {},
        "DPD": {
            "c_pre": 0.9, "c_post": 0.9, "gamma_d": 250.0, "gamma_p": 550.0, "delay_ms": 4.6,
        },
        "DPD_prime": {"theta_p": 2.5, "gamma_d": 50.0, "gamma_p": 600.0, "delay_ms": 2.2},
        "P": {"c_pre": 2.0, "gamma_d": 160.0, "gamma_p": 257.447, "delay_ms": 0.0},
        "D": {
            "c_pre": 0.6, "c_post": 0.6, "gamma_d": 500.0, "gamma_p": 550.0, "sigma": 5.6568,
            "delay_ms": 0.0,
        },
        "D_prime": {"theta_p": 3.5, "gamma_d": 60.0, "gamma_p": 600.0, "delay_ms": 0.0},
        "hippocampal_slices": {
            "tau_ca_ms": 48.8373, "c_pre": 1.0, "c_post": 0.275865, "gamma_d": 313.0965,
            "gamma_p": 1645.59, "sigma": 9.1844, "tau_ms": 688_355.0, "delay_ms": 18.8008,
        },
        "hippocampal_cultures": {
            "tau_ca_ms": 11.9536, "c_pre": 0.58156, "c_post": 1.76444, "gamma_d": 61.141,
            "gamma_p": 113.6545, "sigma": 2.5654, "tau_ms": 33_759.6, "delay_ms": 10.0,
        },
        "cortical_slices": {
            "tau_ca_ms": 22.6936, "c_pre": 0.5617539, "c_post": 1.23964, "gamma_d": 331.909,
            "gamma_p": 725.085, "sigma": 3.3501, "tau_ms": 346_361.5, "delay_ms": 4.6098,
        },
    }  # fmt: skip

    READOUT: ClassVar[dict[str, dict[str, float]]] = {
        "hippocampal_slices": {"beta": 0.7, "b": 5.28145},
        "hippocampal_cultures": {"beta": 0.5, "b": 36.0263},
        "cortical_slices": {"beta": 0.5, "b": 5.40988},
    }

    def __post_init__(self) -> None:
        for name in ("c_pre", "c_post", "gamma_d", "gamma_p", "sigma", "delay_ms"):
            amplitude(f"calcium.{name}", getattr(self, name))
        for name in ("theta_d", "theta_p"):
            positive(f"calcium.{name}", getattr(self, name))
            amplitude(f"calcium.{name}", getattr(self, name))
        for name in ("tau_ca_ms", "tau_ms"):
            duration(f"calcium.{name}", getattr(self, name))
        finite("calcium.rho_star", self.rho_star)
        require(0 < self.rho_star < 1, "calcium.rho_star", self.rho_star, "use a value in (0, 1)")

    @property
    def noisy(self) -> bool:
        return self.sigma > 0

    @property
    def slow(self) -> tuple[str, ...]:
        return ()

    # Traces: calcium of a pre- and of a postsynaptic spike just before the step's own, [B, n_pre]
    # and [B, n_post], the held gate [B, n_post], then the presynaptic spikes of the last steps that
    # have not arrived yet, oldest first: as many as the delay has steps, fewer at the beginning.
    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        return pre * 0.0, post * 0.0, post * 0.0

    def step(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        check_signals(w, signals, dt_ms, noise)
        self._check_delay(signals, dt_ms)
        check_traces(self, traces, signals, w.ndim == 3)
        x, y, gate, traces = self._calcium(traces, signals, dt_ms)
        if w.ndim == 3:
            log_c = self._log(x.unsqueeze(1), y.unsqueeze(2))
            up = self._share(log_c, self.theta_p, dt_ms)
            if gate is not None:
                up = up * gate.unsqueeze(2)
            down = self._share(log_c, self.theta_d, dt_ms)
            return self._change(w, up, down, 1, dt_ms, noise), traces
        up, down = self._shares(
            x.unsqueeze(0), y.unsqueeze(0), None if gate is None else gate.unsqueeze(0), dt_ms
        )
        return self._change(w, up, down, len(x), dt_ms, noise), traces

    def presentation(
        self, w: Tensor, traces: Traces, signals: Signals, dt_ms: float, noise: Tensor | None = None
    ) -> tuple[Tensor, Traces]:
        """As in `Rule.presentation`; ``w`` being frozen, the change is one Euler step of all of it:
        in the class pairing protocol 12 % larger than that of single steps where the batch lasts a
        third of `contact_ms`, 60 to 70 % at 1.7 times as long, and beyond 3 it asks for changes
        beyond [0, 1], which whoever holds the contacts clips."""
        import torch

        check_signals(w, signals, dt_ms, noise, steps=True)
        self._check_delay(signals, dt_ms)
        traces = self.start(signals.pre[0], signals.post[0])
        steps = []
        for t in range(len(signals.pre)):
            *values, traces = self._calcium(traces, signals.at(t), dt_ms)
            steps.append(values)
        xs, ys, gates = zip(*steps, strict=True)
        held = None if signals.gate is None else torch.stack(gates)
        up, down = self._shares(torch.stack(xs), torch.stack(ys), held, dt_ms)
        n_steps, n_batch = signals.pre.shape[:2]
        return self._change(w, up, down, n_steps * n_batch, dt_ms, noise), traces

    @property
    def contact_ms(self) -> float:
        """How long a contact takes to change while calcium is above both thresholds (ms): `step`
        is accurate where dt is much less, `presentation` where a whole batch lasts much less."""
        return self.tau_ms / max(self.gamma_p + self.gamma_d, 1.0)

    def sped_up(self, factor: float) -> CalciumRule:
        return replace(self, tau_ms=self.tau_ms / factor)

    def _check_delay(self, signals: Signals, dt_ms: float) -> None:
        if bool(signals.pre.any()):  # a quiet step may be longer than the delay
            delay_steps("calcium.delay_ms", self.delay_ms, dt_ms)

    def _calcium(
        self, traces: Traces, signals: Signals, dt_ms: float
    ) -> tuple[Tensor, Tensor, Tensor | None, Traces]:
        """Traces just after the step's spikes, the gate that holds in it, and the next traces."""
        x, y, gate, *pending = traces
        pending.append(signals.pre.clone())
        overdue = max(len(pending) - round(self.delay_ms / dt_ms), 0)
        for arrived in pending[:overdue]:
            x = x + arrived
        y, keep = y + signals.post, decay(dt_ms, self.tau_ca_ms)
        held = None
        if signals.gate is not None:
            held = gate.maximum(signals.gate)
            gate = held * keep
        return x, y, held, (x * keep, y * keep, gate, *pending[overdue:])

    def _log(self, x: Tensor, y: Tensor) -> Tensor:
        """Ln c of contacts, from traces that broadcast."""
        return (self.c_pre * x + self.c_post * y).log_()

    def _share(self, log_c: Tensor, theta: float, dt_ms: float) -> Tensor:
        """Share of a step that calcium spends above a threshold."""
        return (log_c - math.log(theta)).mul_(self.tau_ca_ms / dt_ms).clamp_(0.0, 1.0)

    def _shares(
        self, x: Tensor, y: Tensor, gate: Tensor | None, dt_ms: float
    ) -> tuple[Tensor, Tensor]:
        """Shares above theta_p (times the gate) and theta_d, summed over steps and batch,
        [n_post, n_pre], from traces [T, B, n] just after each step's spikes.

        Neurons that are silent throughout a presentation share the calcium of their inputs, which
        costs a matrix product; the others are taken presentation by presentation.
        """
        active = (y != 0).any(0)
        silent = (~active).to(x.dtype)
        log_c = self._log(x, x.new_zeros(()))
        up, down = (self._share(log_c, theta, dt_ms) for theta in (self.theta_p, self.theta_d))
        if gate is None:
            potentiated = silent.T @ up.sum(0)
        else:
            potentiated = (gate * silent).flatten(0, 1).T @ up.flatten(0, 1)
        depressed = silent.T @ down.sum(0)
        for b in active.any(1).nonzero()[:, 0].tolist():
            j = active[b].nonzero()[:, 0]
            log_c = self._log(x[:, b].unsqueeze(1), y[:, b, j].unsqueeze(2))
            up, down = (self._share(log_c, theta, dt_ms) for theta in (self.theta_p, self.theta_d))
            if gate is not None:
                up *= gate[:, b, j].unsqueeze(2)
            potentiated.index_add_(0, j, up.sum(0))
            depressed.index_add_(0, j, down.sum(0))
        return potentiated, depressed

    def _change(
        self, w: Tensor, up: Tensor, down: Tensor, n_steps: int, dt_ms: float, noise: Tensor | None
    ) -> Tensor:
        """One Euler step over ``n_steps`` steps, of which shares are spent above the thresholds."""
        elapsed = dt_ms / self.tau_ms
        drift = self.gamma_p * (1.0 - w) * up - self.gamma_d * w * down
        dw = elapsed * (drift - n_steps * w * (1.0 - w) * (self.rho_star - w))
        if noise is not None:
            dw = dw + self.sigma * ((up + down) * elapsed).sqrt() * noise
        return dw


def shares_above(rule: CalciumRule, lag_ms: float, rate_hz: float) -> tuple[float, float]:
    """Shares of time above theta_d and theta_p during periodic pairings, calcium in its periodic
    steady state (Graupner & Brunel 2012); lag: postsynaptic minus presynaptic spike."""
    period = 1000.0 / rate_hz
    lag = (lag_ms - rule.delay_ms) % period  # of the two transients
    left = 1.0 / (1.0 - math.exp(-period / rule.tau_ca_ms))  # all earlier transients of a kind
    since_pre, since_post = (
        math.exp(-lag / rule.tau_ca_ms),
        math.exp(-(period - lag) / rule.tau_ca_ms),
    )
    peaks = (
        (left * (rule.c_pre + rule.c_post * since_post), lag),
        (left * (rule.c_post + rule.c_pre * since_pre), period - lag),
    )

    def share(theta: float) -> float:
        above = (
            min(rule.tau_ca_ms * math.log(peak / theta), until_next_ms)
            for peak, until_next_ms in peaks
            if peak > theta
        )
        return sum(above) / period

    return share(rule.theta_d), share(rule.theta_p)


def expected_change(
    lag_ms: float,
    n_pairs: int = 60,
    rate_hz: float = 1.0,
    rule: CalciumRule = CalciumRule(),
    b: float = 5.0,
    beta: float = 0.5,
) -> float:
    """Mean strength after pairings over mean strength before, predicted by Graupner & Brunel 2012.

    The occupancy is taken for an Ornstein-Uhlenbeck process of the averaged rates Gamma = gamma
    alpha, alpha the `shares_above`, without the cubic term. Its mean goes to Gamma_p / (Gamma_p +
    Gamma_d) with the time constant tau / (Gamma_p + Gamma_d); a contact that started in the lower
    (upper) well is in the other one at the end with probability U (D); formulas as in the authors'
    code (synapticChange.py). Calcium ebbs in every period from potentiation to depression, which
    the average leaves out: the rule's own change is about 0.01 lower with the defaults at 1 Hz.

    Args:
        lag_ms: Postsynaptic minus presynaptic spike.
        b: Strength in the upper well over strength in the lower one.
        beta: Share of contacts that start in the lower well.
    """
    alpha_d, alpha_p = shares_above(rule, lag_ms, rate_hz)
    up, down = rule.gamma_p * alpha_p, rule.gamma_d * alpha_d
    if up + down == 0.0:
        return 1.0
    exponent = n_pairs * 1000.0 / rate_hz * (up + down) / rule.tau_ms
    variance = (
        rule.sigma**2 * (alpha_p + alpha_d) / (up + down) * -math.expm1(-2.0 * exponent) / 2.0
    )

    def ends_up(start: float) -> float:
        """Probability to be above rho_star at the end."""
        mean = up / (up + down) * -math.expm1(-exponent) + start * math.exp(-exponent)
        if variance == 0.0:
            return float(mean > rule.rho_star)
        return 0.5 * (1.0 + math.erf((mean - rule.rho_star) / math.sqrt(2.0 * variance)))

    upper = beta * ends_up(0.0) + (1.0 - beta) * ends_up(1.0)
    return (1.0 - upper + b * upper) / (beta + (1.0 - beta) * b)
