"""The rules against Brian2 and NEST: the same spike trains give the same weights.

Both sides integrate exponential traces exactly on a grid, so that weights agree to rounding:
relative tolerance 1e-9 after 2 s. Presynaptic spikes lie on even and postsynaptic ones on odd
steps, because simulators differ in what coincident spikes do (test_rules.py holds ours).
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from snn_artsy.rules import PairSTDP, Rule, Signals, TripletSTDP

DT, N_STEPS, N_PRE, N_POST, W_START = 0.5, 4000, 4, 3, 0.5
# Unequal amplitudes and time constants, so that no two of them can be mixed up.
PAIR = PairSTDP(a_plus=0.004, a_minus=0.003, tau_plus_ms=17.0, tau_minus_ms=34.0)
TRIPLET = TripletSTDP(
    a2_plus=0.001, a3_plus=0.002, a2_minus=0.002, a3_minus=0.0007, tau_x_ms=101.0, tau_y_ms=114.0
)


def trains(seed: int) -> tuple[Tensor, Tensor]:
    """Random trains of 25 Hz on average, [T, n]; the presynaptic ones all end with one spike."""
    generator = torch.Generator().manual_seed(seed)
    pre = (torch.rand(N_STEPS, N_PRE, generator=generator) < 0.025).double()
    post = (torch.rand(N_STEPS, N_POST, generator=generator) < 0.025).double()
    pre[1::2] = post[::2] = 0.0
    post[N_STEPS - 20 :] = pre[N_STEPS - 20 :] = 0.0
    pre[N_STEPS - 4] = 1.0
    return pre, post


def ours(rule: Rule, pre: Tensor, post: Tensor) -> Tensor:
    """Weights [n_post, n_pre], changed at every step."""
    w = torch.full((N_POST, N_PRE), W_START, dtype=torch.float64)
    traces = rule.start(pre[:1], post[:1])
    for t in range(N_STEPS):
        seen = Signals(pre[t : t + 1], post[t : t + 1], post[t : t + 1])
        dw, traces = rule.step(w, traces, seen, DT)
        w = w + dw
    return w


def assert_same_weights(a: Tensor, b: Tensor) -> None:
    assert float((a - W_START).abs().min()) > 1e-4  # every weight has moved
    assert float(a.min()) > 0.05 and float(a.max()) < 0.95  # and none has met a bound
    torch.testing.assert_close(a, b, rtol=1e-9, atol=0.0)


PAIR_MODEL = """
w : 1
dx/dt = -x / tau_plus : 1 (event-driven)
dy/dt = -y / tau_minus : 1 (event-driven)
"""
TRIPLET_MODEL = """
w : 1
dr1/dt = -r1 / tau_plus : 1 (event-driven)
dr2/dt = -r2 / tau_x : 1 (event-driven)
do1/dt = -o1 / tau_minus : 1 (event-driven)
do2/dt = -o2 / tau_y : 1 (event-driven)
"""
# rule, model, at a presynaptic spike, at a postsynaptic spike
BRIAN: dict[str, tuple[Rule, str, str, str]] = {
    "pair_additive": (PAIR, PAIR_MODEL, "w -= a_minus*y; x += 1", "w += a_plus*x; y += 1"),
    "pair_nearest": (
        replace(PAIR, pairing="nearest"), PAIR_MODEL,
        "w -= a_minus*y; x = 1", "w += a_plus*x; y = 1",
    ),
    "pair_soft": (
        replace(PAIR, bounds_of="soft"), PAIR_MODEL,
        "w -= a_minus*w*y; x += 1", "w += a_plus*(1 - w)*x; y += 1",
    ),
    "triplet": (
        TRIPLET, TRIPLET_MODEL,
        "w -= o1*(a2_minus + a3_minus*r2); r1 += 1; r2 += 1",
        "w += r1*(a2_plus + a3_plus*o2); o1 += 1; o2 += 1",
    ),
}  # fmt: skip


def in_brian(rule: Any, model: str, on_pre: str, on_post: str, pre: Tensor, post: Tensor) -> Tensor:
    b2 = pytest.importorskip("brian2")
    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    clock = b2.Clock(DT * b2.ms)
    groups = []
    for spikes in (pre, post):
        at, unit = spikes.nonzero().T.numpy()
        groups.append(b2.SpikeGeneratorGroup(spikes.shape[1], unit, at * DT * b2.ms, clock=clock))
    constants = {k: v for k, v in vars(rule).items() if k.startswith("a")}
    constants |= {
        k.removesuffix("_ms"): v * b2.ms for k, v in vars(rule).items() if k.startswith("tau")
    }
    synapses = b2.Synapses(
        *groups, model, on_pre=on_pre, on_post=on_post, clock=clock, namespace=constants
    )
    synapses.connect()
    synapses.w = W_START
    b2.Network(*groups, synapses).run(N_STEPS * DT * b2.ms)
    w = torch.zeros(N_POST, N_PRE, dtype=torch.float64)
    w[synapses.j[:].tolist(), synapses.i[:].tolist()] = torch.tensor(
        synapses.w[:].tolist(), dtype=torch.float64
    )
    return torch.where(w > 0, w, math.nan)


@pytest.mark.parametrize("name", BRIAN)
def test_brian2_gives_the_same_weights(name: str) -> None:
    rule, model, on_pre, on_post = BRIAN[name]
    pre, post = trains(1)
    assert_same_weights(ours(rule, pre, post), in_brian(rule, model, on_pre, on_post, pre, post))


def test_the_comparison_tells_nearest_spikes_from_all_pairs() -> None:
    pre, post = trains(1)
    theirs = in_brian(*BRIAN["pair_additive"], pre, post)
    assert float((ours(replace(PAIR, pairing="nearest"), pre, post) - theirs).abs().min()) > 1e-4


DENDRITE_STEPS = 2


def in_nest(
    model: str, synapse: dict[str, float], neuron: dict[str, float], pre: Tensor, post: Tensor
) -> Tensor:
    """NEST's weights. A spike of the neuron reaches its synapses after the (dendritic) delay."""
    nest = pytest.importorskip("nest")
    nest.ResetKernel()
    nest.set_verbosity("M_ERROR")
    nest.resolution = DT
    cells = []
    for spikes, values in ((pre, {}), (post, neuron)):
        times = [((at + 1).double() * DT).tolist() for at in (s.nonzero()[:, 0] for s in spikes.T)]
        source = nest.Create("spike_generator", len(times), [{"spike_times": t} for t in times])
        cells.append(nest.Create("parrot_neuron", len(times), values))
        nest.Connect(source, cells[-1], "one_to_one", {"delay": DT})
    # a parrot neuron ignores, for its own spikes, what arrives at receptor 1
    common = {
        "synapse_model": model,
        "weight": W_START,
        "delay": DENDRITE_STEPS * DT,
        "receptor_type": 1,
    }
    nest.Connect(*cells, "all_to_all", common | synapse)
    nest.Simulate((N_STEPS + 10) * DT)
    w = torch.full((N_POST, N_PRE), math.nan, dtype=torch.float64)
    for one in nest.GetConnections(*cells):
        w[one.target - cells[1][0].global_id, one.source - cells[0][0].global_id] = one.weight
    return w


def delayed(post: Tensor) -> Tensor:
    return torch.roll(post, DENDRITE_STEPS, 0)


@pytest.mark.parametrize("bounds_of, mu", [("additive", 0.0), ("soft", 1.0)])
def test_nest_pair_rule_gives_the_same_weights(bounds_of: Any, mu: float) -> None:
    rule = replace(PAIR, bounds_of=bounds_of)
    pre, post = trains(2)
    synapse = {
        "lambda": rule.a_plus, "alpha": rule.a_minus / rule.a_plus, "tau_plus": rule.tau_plus_ms,
        "mu_plus": mu, "mu_minus": mu, "Wmax": 1.0,
    }  # fmt: skip
    theirs = in_nest("stdp_synapse", synapse, {"tau_minus": rule.tau_minus_ms}, pre, post)
    assert_same_weights(ours(rule, pre, delayed(post)), theirs)
    # without the dendritic delay the weights would differ
    assert float((ours(rule, pre, post) - theirs).abs().max()) > 1e-4


def test_nest_triplet_rule_gives_the_same_weights() -> None:
    rule = TRIPLET
    pre, post = trains(3)
    synapse = {
        "Aplus": rule.a2_plus, "Aplus_triplet": rule.a3_plus, "tau_plus": rule.tau_plus_ms,
        "Aminus": rule.a2_minus, "Aminus_triplet": rule.a3_minus, "tau_plus_triplet": rule.tau_x_ms,
        "Wmax": 1.0,
    }  # fmt: skip
    neuron = {"tau_minus": rule.tau_minus_ms, "tau_minus_triplet": rule.tau_y_ms}
    theirs = in_nest("stdp_triplet_synapse", synapse, neuron, pre, post)
    assert_same_weights(ours(rule, pre, delayed(post)), theirs)
    assert (
        float((ours(replace(rule, a3_minus=0.0), pre, delayed(post)) - theirs).abs().min()) > 1e-4
    )
