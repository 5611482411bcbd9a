"""The layer in conductance fidelity: against a scalar loop, the free membrane, and its errors."""

import math

import numpy as np
import pytest
import snntorch
import torch

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig, NeuronConfig, PlasticityConfig, SNNConfig
from snn_artsy.observer import FUNCTIONAL
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.rules import GatedSTDP, Gating
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.conductance import contact_weight, in_thresholds, integrate

T, B, N_PRE, N_POST = 40, 3, 14, 4


def make_layer(**values: object) -> SilentSynapseLayer:
    generator = torch.Generator().manual_seed(1)
    given: dict[str, object] = {"receptors": Receptors(), "neuron": NeuronConfig(), "dt_ms": 1.0}
    layer = SilentSynapseLayer(N_PRE, N_POST, generator=generator, **(given | values)).double()  # type: ignore[arg-type]
    layer.state.copy_((torch.rand(layer.state.shape, generator=generator) < 0.4) * FUNCTIONAL)
    layer.state.mul_(layer.exists)
    return layer


def spikes(rate: float = 0.2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return (torch.rand(T, B, N_PRE, generator=generator) < rate).double()


def block(v_mV: float) -> float:
    return 1.0 / (1.0 + 1.0 / 3.57 * math.exp(-0.062 * v_mV))


def by_hand(layer: SilentSynapseLayer, pre: np.ndarray, j: int, dt: float) -> tuple[list, list]:
    """One neuron of one presentation, event by event: sums over all earlier spikes."""
    w = (layer.state[j] > 0).double().numpy()
    e = layer.exists[j].double().numpy()
    alpha = w.sum() / e.sum()
    theta = 0.3 * math.sqrt(((w - alpha * e) ** 2).sum())
    theta = max(theta, 0.3 * 1.0)
    tau, c_pF = 20.0, 200.0
    rest, th = layer.neuron.v_rest_mV, layer.neuron.v_th_mV
    span, middle = th - rest, (rest + th) / 2
    ratio = -middle / (middle + 80.0)
    contacts = (1.0 / theta) / (0.5 * 2.0 * -middle / (c_pF * span))
    peak_ms = 200.0 / 98.0 * math.log(50.0)
    top = math.exp(-peak_ms / 100) - math.exp(-peak_ms / 2)

    def mean(tau_ms: float, age: float) -> float:
        """Of an exponential over a step that begins ``age`` after the event."""
        return math.exp(-age / tau_ms) * tau_ms / dt * (1 - math.exp(-dt / tau_ms))

    v, fired, peaks = 0.0, [], []
    for t in range(len(pre)):
        mv = rest + span * v / theta
        ampa = nmda = balance = 0.0
        for u in range(t + 1):
            age = (t - u) * dt
            events, common = float(w @ pre[u]), float(e @ pre[u])
            ampa += events * mean(2.0, age)
            balance += alpha * common * mean(2.0, age)
            nmda += common * (mean(100.0, age) - mean(2.0, age)) / top
        g_e = contacts * (0.5 * ampa + 0.075 * nmda * block(mv))
        g_i = contacts * (0.5 * ratio * balance + 0.075 * ratio * block(middle) * nmda)
        total = 10.0 + g_e + g_i
        settled = (10.0 * rest + g_i * -80.0) / total
        mv = settled + (mv - settled) * math.exp(-total * dt / c_pF)
        peak = (mv - rest) / span
        spike = float(peak > 1.0)
        fired.append(spike)
        peaks.append(peak)
        v = max((peak - spike) * theta, -2.0 * theta)
    assert tau * 10.0 == c_pF
    return fired, peaks


OTHER = NeuronConfig(v_rest_mV=-65.0, v_th_mV=-52.0)


@pytest.mark.parametrize(
    ("dt_ms", "probability", "neuron"),
    [(1.0, 1.0, OTHER), *((dt, p, NeuronConfig()) for dt in (1.0, 5.0) for p in (1.0, 0.7))],
)
def test_layer_equals_a_scalar_loop(dt_ms: float, probability: float, neuron: NeuronConfig) -> None:
    contacts = ContactConfig(probability=probability)
    layer = make_layer(dt_ms=dt_ms, contacts=contacts, neuron=neuron)
    pre = spikes()
    answer = layer.respond(pre)
    assert 0 < answer.spikes.sum() < answer.spikes.numel() / 2
    for b in range(B):
        for j in range(N_POST):
            fired, peaks = by_hand(layer, pre[:, b].numpy(), j, dt_ms)
            np.testing.assert_allclose(answer.membrane[:, b, j].numpy(), peaks, atol=1e-9)
            assert answer.spikes[:, b, j].tolist() == fired


def test_a_snntorch_leaky_follows_the_free_membrane() -> None:
    unit = snntorch.Leaky(beta=torch.tensor(math.exp(-1.0 / 20.0), dtype=torch.float64))
    layer = make_layer(neuron=unit, contact_current=0.02)
    pre = spikes(0.1)
    answer = layer.respond(pre)
    scale = 0.02 / contact_weight(Receptors(), Membrane())
    ampa = scale * pre @ (layer.state > 0).double().T
    nmda = scale * pre.sum(2, keepdim=True).expand_as(ampa)
    free = integrate(ampa, nmda, None, None, Membrane(), Receptors(), 1.0)
    assert free.spikes.sum() == 0 and answer.spikes.sum() == 0
    torch.testing.assert_close(answer.membrane, in_thresholds(free.v_mV, Membrane()))


def test_silent_contacts_pass_nmda_current_and_no_ampa() -> None:
    unit = snntorch.Leaky(beta=0.95)
    pre = spikes()
    for receptors, moves in ((Receptors(), True), (Receptors(g_nmda_nS=0.0), False)):
        layer = make_layer(neuron=unit, receptors=receptors)
        layer.state.zero_()
        assert bool((layer.respond(pre).membrane.abs() > 1e-4).any()) == moves


def test_one_at_a_time_equals_a_batch_and_float32_is_close() -> None:
    layer, pre = make_layer(), spikes()
    together = layer.respond(pre)
    for b in range(B):
        alone = layer.respond(pre[:, b : b + 1])
        torch.testing.assert_close(alone.membrane[:, 0], together.membrane[:, b])
    single = make_layer().float().respond(pre.float())
    assert single.membrane.dtype == torch.float32
    first = torch.nonzero(together.spikes.sum((1, 2)))[0, 0]  # before any spike, none can differ
    torch.testing.assert_close(
        single.membrane[:first].double(), together.membrane[:first], atol=1e-4, rtol=1e-4
    )


def test_teaching_is_the_same_in_both_fidelities() -> None:
    pre, teacher = spikes(), torch.zeros(T, B, N_POST, dtype=torch.float64)
    teacher[9::10, :, :2] = 1.5
    after = []
    for receptors in (Receptors(), None):
        layer = make_layer(receptors=receptors, rule=PlasticityConfig(a_plus=0.3, target=1.0))
        layer.pair(pre, teacher)
        after.append(layer.ampa)
    assert after[0].sum() > 0
    torch.testing.assert_close(after[0], after[1])


@pytest.mark.parametrize("update", ["presentation", "step"])
def test_own_spikes_drive_plasticity(update: str) -> None:
    rule = PlasticityConfig(a_plus=0.3, target=1.0)
    layer = make_layer(rule=rule, update=update)
    before = layer.ampa.clone()
    response, _ = layer.pair(spikes(), None)
    assert response.spikes.sum() > 0 and not torch.equal(layer.ampa, before)


def test_what_does_not_fit_is_refused() -> None:
    for neuron in (snntorch.Lapicque(beta=0.9), NeuronConfig(model="synaptic")):
        with pytest.raises(TypeError, match="need a leaky neuron"):
            make_layer(neuron=neuron)
    with pytest.raises(ValueError, match="between 0 and 1"):
        make_layer(neuron=snntorch.Leaky(beta=1.0))
    with pytest.raises(ValueError, match="one magnesium concentration"):
        make_layer(rule=GatedSTDP(gating=Gating(mg_mM=0.0)))
    with pytest.raises(ConfigError, match=r"snn\.receptors\.mg_mM"):
        SNNConfig(fidelity="conductance", receptors=Receptors(mg_mM=0.5))
    with pytest.raises(ConfigError, match=r"snn\.neuron\.model"):
        SNNConfig(fidelity="conductance", neuron=NeuronConfig(model="synaptic"))
    with pytest.raises(ConfigError, match=r"snn\.fidelity"):
        SNNConfig(fidelity="exact")  # type: ignore[arg-type]
