"""Inhibitory neurons: their plasticity and their network against loops in floats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig, InhibitionConfig, NeuronConfig, SNNConfig
from snn_artsy.synapses.engine_torch import balance_and_threshold, transmitted
from snn_artsy.synapses.inhibition import InhibitoryNeurons, inhibitory_change
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.release import Draws

DT, N_PRE, N = 5.0, 20, 5


def spikes(n_steps: int, n_samples: int, n: int, p: float = 0.3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n_steps, n_samples, n, generator=generator) < p).float()


def network(
    sizes: tuple[int, ...] = (4, 6), contacts: ContactConfig | None = None, **values: Any
) -> tuple[InhibitoryNeurons, list[SilentSynapseLayer]]:
    config = InhibitionConfig(**{"source": "fixed", "neurons": N, "inputs": 0.5} | values)
    generator = torch.Generator().manual_seed(4)
    contacts = contacts or ContactConfig(silent_share=0.5)
    layers: list[SilentSynapseLayer] = []
    for n in sizes:
        first = sum(layer.n_post for layer in layers)
        layer = SilentSynapseLayer(
            N_PRE, n, DT, contacts=contacts, generator=generator, first_neuron=first
        )
        layers.append(layer)
    inhibition = InhibitoryNeurons(config, NeuronConfig(), DT, seed=3)
    for u, layer in enumerate(layers):
        inhibition.add(layer, [spikes(20, 9, N_PRE, seed=u), spikes(20, 7, N_PRE, seed=9 + u)])
        inhibition.balance(layers[: u + 1])
    return inhibition, layers


def test_plasticity_is_a_sum_over_pairs_less_a_constant_for_each_inhibitory_spike() -> None:
    """Vogels et al. 2011 in loops: +1 exp(-|t - s| / tau) for every pair, - alpha at each
    presynaptic spike."""
    inhibitory, excitatory = spikes(15, 2, 3, seed=1), spikes(15, 2, 4, seed=2)
    wanted = np.zeros((3, 4))
    for b in range(2):
        for t, m in torch.nonzero(inhibitory[:, b]).tolist():
            wanted[m] -= sum(0.03 * DT * math.exp(-abs(t - s) * DT / 20.0) for s in range(15))
            for s, j in torch.nonzero(excitatory[:, b]).tolist():
                wanted[m, j] += math.exp(-abs(t - s) * DT / 20.0)
    change = inhibitory_change(inhibitory, excitatory, DT, 20.0, target_hz=30.0)
    np.testing.assert_allclose(change, wanted, atol=1e-4)


@pytest.mark.parametrize("dt_ms", [1.0, 5.0])
def test_independent_spikes_are_balanced_at_the_target_rate_whatever_the_step(
    dt_ms: float,
) -> None:
    """Mean change 0 at rho_0; 2 tau (rho - rho_0) for each inhibitory spike beside it, in long
    presentations (Vogels et al. 2011), and 0 at rho_0 in short ones, too."""
    n_steps, n_samples, rate_hz = 4000, 30, 20.0
    inhibitory = spikes(n_steps, n_samples, 1, 0.03 * dt_ms, seed=1)
    counts = float(inhibitory.sum())
    for hz, side in ((rate_hz, 0.0), (10.0, -1.0), (30.0, 1.0)):
        excitatory = spikes(n_steps, n_samples, 8, hz * 1e-3 * dt_ms, seed=2)
        change = inhibitory_change(inhibitory, excitatory, dt_ms, 20.0, rate_hz) / counts
        expected = side * 2 * 0.02 * 10.0  # 10 Hz beside the target
        error = change.std() / 8**0.5
        assert abs(float(change.mean()) - expected) < 4.5 * float(error) + 0.01
    inhibitory = spikes(10, 12_000, 1, 0.03 * dt_ms, seed=1)
    excitatory = spikes(10, 12_000, 8, rate_hz * 1e-3 * dt_ms, seed=2)
    change = inhibitory_change(inhibitory, excitatory, dt_ms, 20.0, rate_hz) / inhibitory.sum()
    assert abs(float(change.mean())) < 4.5 * float(change.std()) / 8**0.5


def test_plastic_inhibition_keeps_neurons_at_the_target_rate() -> None:
    """All neurons end at one rate, from above and from below, near rho_0: somewhat above, since a
    neuron is less likely to fire in the steps in which it is inhibited."""
    inhibition, layers = network(sizes=(8,), source="plastic", target_hz=43.0, rate=0.0005)
    pre = [spikes(40, 20, N_PRE, seed=s) for s in range(4)]

    def rates_hz() -> Tensor:
        shown = [inhibition.respond(layers, batch, None)[0][0].spikes for batch in pre]
        return torch.cat(shown, 1).mean((0, 1)) / (DT * 1e-3)

    before = rates_hz()
    for _ in range(8):
        for batch in pre:
            inhibition.learn(layers, batch, None)
    after = rates_hz()
    assert float(before.min()) < 40.0 and float(before.max()) > 48.0
    assert abs(float(after.mean()) - 43.0) < 5.0
    assert float(after.std()) < 0.5 * float(before.std())
    assert (inhibition.weights[0] >= 0).all()


@pytest.mark.parametrize("between", [0.0, 0.4])
def test_the_network_is_that_of_a_loop_over_neurons(between: float) -> None:
    contacts = ContactConfig(silent_share=0.5, per_connection=2, release_probability=0.5)
    inhibition, layers = network(contacts=contacts, between=between, feedback=0.7)
    pre, draws = spikes(12, 2, N_PRE, seed=5), Draws(1, -1, torch.arange(2))
    answers, fired = inhibition.respond(layers, pre, draws)
    keep, weights = math.exp(-DT / 20.0), [w.double() for w in inhibition.weights]
    for b in range(2):
        v_i = [[0.0] * N for _ in layers]
        v_e = [[0.0] * layer.n_post for layer in layers]
        last = [[0.0] * layer.n_post for layer in layers]
        for t in range(12):
            inhibiting: list[float] = []
            for u in range(len(layers)):
                back = 0.7 * sum(last[u]) / len(last[u])
                for m in range(N):
                    drive = float(pre[t, b] @ inhibition.inputs[u][:, m])
                    v = keep * v_i[u][m] + drive / float(inhibition.threshold[u][m]) + back
                    inhibiting.append(float(v > 1.0))
                    v_i[u][m] = v - inhibiting[-1]
            assert fired[t, b].tolist() == inhibiting
            for u, layer in enumerate(layers):
                sites = layer.per_contact(pre)
                released = layer._shown(sites, draws).released
                assert released is not None
                open_contacts = layer.transmitted()
                threshold = balance_and_threshold(layer.circuit(), open_contacts)[1]
                for j in range(layer.n_post):
                    net = float(released.train(j)[t, b] @ open_contacts[j])
                    for m, fires in enumerate(inhibiting):
                        net -= fires * round(float(weights[u][m, j]) * 1024) / 1024
                    theta = float(threshold[j])
                    v = keep * v_e[u][j] + net
                    assert v / theta == pytest.approx(float(answers[u].membrane[t, b, j]), abs=1e-3)
                    last[u][j] = float(answers[u].spikes[t, b, j])
                    assert last[u][j] == float(v > theta) or abs(v / theta - 1) < 1e-3
                    v_e[u][j] = max(v - last[u][j] * theta, -2.0 * theta)


def test_what_is_fixed_balances_on_average_and_does_so_for_each_share() -> None:
    """Sum of inhibitory weights times mean spikes = alpha_j times mean afferents (7)."""
    inhibition, layers = network(between=0.3, feedback=0.0)
    for u, layer in enumerate(layers):
        alpha, _ = balance_and_threshold(layer.circuit(), transmitted(layer.circuit()))
        own = [inhibition.weights[u][v * N : (v + 1) * N] for v in range(2)]
        passed = [w[0] * inhibition.spikes[v] for v, w in enumerate(own)]  # spikes are of all N
        np.testing.assert_allclose(sum(passed), alpha * inhibition.afferents[u], rtol=1e-5)
        np.testing.assert_allclose(passed[1 - u], 0.3 * sum(passed), rtol=1e-5)
    # measured on the images that it was made from
    shown = [spikes(20, 9, N_PRE, seed=0), spikes(20, 7, N_PRE, seed=9)]
    fired = torch.cat([inhibition.respond(layers, pre, None)[1] for pre in shown], 1)
    assert float(fired[:, :, :N].sum(2).mean()) == pytest.approx(float(inhibition.spikes[0]))
    afferents = torch.cat(shown, 1).sum(2).mean()
    assert float(inhibition.afferents[0][0]) == pytest.approx(float(afferents), rel=1e-6)


def test_sub_networks_inhibit_each_other_only_where_they_are_told_to() -> None:
    pre = spikes(20, 3, N_PRE, seed=5)
    for between in (0.0, 0.4):
        inhibition, layers = network(between=between)
        alone, first = network(sizes=(4,), between=between)
        answer = inhibition.respond(layers, pre, None)[0][0]
        expected = alone.respond(first, pre, None)[0][0]
        assert torch.equal(answer.membrane, expected.membrane) == (between == 0.0)


def test_a_sample_s_answer_depends_on_no_other_sample() -> None:
    inhibition, layers = network(between=0.3)
    pre = spikes(20, 50, N_PRE, seed=5)
    whole, _ = inhibition.respond(layers, pre, None)
    one, _ = inhibition.respond(layers, pre[:, 17:18], None)
    for answer, alone in zip(whole, one, strict=True):
        assert torch.equal(answer.membrane[:, 17:18], alone.membrane)


def test_operations_count_what_reaches_and_leaves_inhibitory_neurons() -> None:
    inhibition, layers = network()
    pre = spikes(20, 2, N_PRE, seed=5)
    _, fired = inhibition.respond(layers, pre, None)
    counted = inhibition.operations(pre.sum(0), fired.sum(0))
    for b in range(2):
        expected = sum(float((pre[:, b] @ x).sum()) for x in inhibition.inputs)
        for u, layer in enumerate(layers):
            expected += float(fired[:, b, u * N : (u + 1) * N].sum()) * layer.n_post
        assert float(counted[b]) == expected


@pytest.mark.parametrize(
    "values", [{"fidelity": "conductance"}, {"plastic_old": True}], ids=["conductance", "old"]
)
def test_where_only_the_exact_balance_is_known_nothing_else_is_taken(
    values: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match=r"snn\.inhibition\.source: .*balance"):
        SNNConfig(inhibition=InhibitionConfig(source="fixed"), **values)
