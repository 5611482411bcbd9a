"""The layer of silent synapses against a textbook neuron in Python floats, and its bookkeeping."""

import math
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor

from snn_artsy.config import ContactConfig, NeuronConfig, PlasticityConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.physiology import Receptors
from snn_artsy.synapses import engine_torch
from snn_artsy.synapses.circuit import StateEvents
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.together import Joined, respond_together

N_PRE, N_POST, DT = 24, 6, 5.0


def make_layer(
    neuron: NeuronConfig | None = None,
    rule: PlasticityConfig | None = None,
    contacts: ContactConfig | None = None,
    **values: Any,
) -> SilentSynapseLayer:
    sizes = {"n_pre": N_PRE, "n_post": N_POST} | values
    return SilentSynapseLayer(
        dt_ms=DT,
        neuron=neuron or NeuronConfig(),
        rule=rule or PlasticityConfig(),
        contacts=contacts or ContactConfig(),
        **sizes,
    )


def open_at_random(layer: SilentSynapseLayer, seed: int = 0) -> SilentSynapseLayer:
    generator = torch.Generator().manual_seed(seed)
    state = torch.randint(0, 3, layer.state.shape, generator=generator).to(torch.uint8)
    layer.state.copy_(state * layer.exists)
    layer.ampa.copy_(torch.rand(layer.ampa.shape, generator=generator) * layer.exists)
    return layer


def random_spikes(n_samples: int = 5, n_steps: int = 40, seed: int = 1, p: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n_steps, n_samples, N_PRE, generator=generator) < p).float()


def textbook(
    layer: SilentSynapseLayer, pre: Tensor, current: Tensor | None = None
) -> tuple[list[Any], list[Any]]:
    """Spikes [T][B][n_post] and final membranes in thresholds [B][n_post], step by step.

    v = beta v + I; spike if v > threshold; subtract it; the reversal potential bounds v below.
    """
    neuron = layer.neuron
    beta = math.exp(-DT / neuron.tau_mem_ms)
    decay = math.exp(-DT / neuron.tau_ampa_ms) if neuron.model == "synaptic" else 0.0
    n_steps, n_samples, n_pre = pre.shape
    spikes = [[[0.0] * layer.n_post for _ in range(n_samples)] for _ in range(n_steps)]
    final = [[0.0] * layer.n_post for _ in range(n_samples)]
    for j in range(layer.n_post):
        afferents = [i for i in range(n_pre) if layer.exists[j, i]]
        weight = {}
        for i in afferents:
            graded = layer.contacts.transmission == "graded"
            full = float(layer.ampa[j, i]) if graded else 1.0
            weight[i] = 0.0 if int(layer.state[j, i]) == SILENT else full
        inhibition = sum(weight.values()) / len(afferents)
        norm = math.sqrt(sum((w - inhibition) ** 2 for w in weight.values()))
        threshold = neuron.threshold * max(norm, 1.0)
        for b in range(n_samples):
            v = synaptic = 0.0
            for t in range(n_steps):
                drive = sum((weight[i] - inhibition) * float(pre[t, b, i]) for i in afferents)
                synaptic = decay * synaptic + drive
                v = beta * v + synaptic
                if current is not None:  # the electrode's current takes no way through a synapse
                    v += float(current[t, b, j]) * threshold
                if v > threshold:
                    spikes[t][b][j] = 1.0
                    v -= threshold
                v = max(v, neuron.floor * threshold)
            final[b][j] = v / threshold
    return spikes, final


@pytest.mark.parametrize("model", ["leaky", "synaptic"])
@pytest.mark.parametrize("transmission", ["binary", "graded"])
@pytest.mark.parametrize("probability", [1.0, 0.6])
def test_neurons_follow_the_textbook(model: Any, transmission: Any, probability: float) -> None:
    layer = make_layer(
        NeuronConfig(model=model, threshold=0.5, tau_mem_ms=20.0, tau_ampa_ms=4.0, floor=-1.5),
        contacts=ContactConfig(transmission=transmission, probability=probability),
        generator=torch.Generator().manual_seed(4),
    ).double()
    open_at_random(layer)
    pre = random_spikes().double()
    generator = torch.Generator().manual_seed(2)
    current = torch.randn(40, 5, N_POST, generator=generator, dtype=torch.float64)
    for injected in (None, current):
        response = layer.respond(pre, None if injected is None else injected.clone())
        spikes, final = textbook(layer, pre, injected)
        assert response.spikes.tolist() == spikes
        torch.testing.assert_close(
            response.final, torch.tensor(final, dtype=torch.float64), rtol=1e-9, atol=1e-9
        )
        rate = float(response.spikes.mean())
        assert 0.02 < rate < 0.6, "nothing is compared unless neurons fire, and not always"
    layer.eval()
    assert torch.equal(layer(pre, current), layer.respond(pre, current).spikes)
    assert torch.equal(response.counts, response.spikes.sum(0))


def test_a_neuron_far_above_threshold_keeps_firing() -> None:
    # 3.0 thresholds at once: v = 3 fires, 2 beta = 1.56 fires, .56 beta = .43 does not
    layer = make_layer(NeuronConfig(tau_mem_ms=20.0), n_pre=1, n_post=1)
    current = torch.zeros(4, 1, 1)
    current[0] = 3.0
    response = layer.respond(torch.zeros(4, 1, 1), current)
    assert response.spikes.flatten().tolist() == [1.0, 1.0, 0.0, 0.0]
    beta = math.exp(-0.25)
    peaks = [3.0, 2 * beta, (2 * beta - 1) * beta, (2 * beta - 1) * beta**2]
    assert response.membrane.flatten().tolist() == pytest.approx(peaks)


def test_membrane_stops_at_the_floor() -> None:
    layer = make_layer(NeuronConfig(floor=-0.5), n_pre=1, n_post=1)
    response = layer.respond(torch.zeros(2, 1, 1), torch.full((2, 1, 1), -9.0))
    assert float(response.final) == -0.5


@pytest.mark.parametrize("transmission", ["binary", "graded"])
def test_silent_contacts_pass_nothing(transmission: Any) -> None:
    layer = make_layer(contacts=ContactConfig(transmission=transmission))
    # occupancy short of conversion must not leak through either
    layer.ampa.fill_(0.49)
    response = layer.respond(torch.ones(200, 2, N_PRE))
    assert float(response.spikes.sum()) == 0.0
    assert float(response.membrane.abs().max()) == 0.0
    layer.state[:, :12] = FUNCTIONAL
    half = torch.zeros(20, 1, N_PRE)
    half[:, :, :12] = 1.0
    assert float(layer(half).sum()) > 0
    # input to the silent half alone inhibits
    assert float(layer.respond(1.0 - half).membrane.max()) < 0


def test_input_common_to_all_afferents_cancels() -> None:
    layer = make_layer()
    layer.state[:, :7] = CONSOLIDATED
    response = layer.respond(torch.ones(20, 1, N_PRE))
    assert float(response.membrane.abs().max()) < 1e-5


def test_threshold_follows_the_net_input_s_standard_deviation() -> None:
    """Monte Carlo: one volley of independent inputs has the declared scatter."""
    layer = open_at_random(make_layer(NeuronConfig(threshold=0.3)))
    weights = layer.transmitted()
    alpha, threshold = engine_torch.balance_and_threshold(layer.circuit(), weights)
    # unspecific input of unit variance at each afferent
    pre = torch.randn(20_000, N_PRE, generator=torch.Generator().manual_seed(0))
    scatter = (pre @ (weights - alpha[:, None]).T).std(0)
    torch.testing.assert_close(threshold, 0.3 * scatter, rtol=0.03, atol=0)


@pytest.mark.parametrize("model", ["leaky", "synaptic"])
def test_float32_answers_are_bitwise_the_same_in_any_batch(model: Any) -> None:
    layer = open_at_random(
        make_layer(NeuronConfig(model=model), contacts=ContactConfig(probability=0.7))
    )
    pre = random_spikes(n_samples=33)
    whole = layer.respond(pre)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer.respond(pre[:, order]).final, whole.final[order])
    for size in (1, 4, 32):
        parts = [layer.respond(p) for p in pre.split(size, dim=1)]
        assert torch.equal(torch.cat([p.spikes for p in parts], dim=1), whole.spikes)
        assert torch.equal(torch.cat([p.membrane for p in parts], dim=1), whole.membrane)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_cpu_s_spikes() -> None:
    layer = open_at_random(make_layer())
    pre = random_spikes(n_samples=16)
    on_cpu = layer.respond(pre)
    on_gpu = layer.to("cuda").respond(pre.to("cuda"))
    assert torch.equal(on_gpu.spikes.cpu(), on_cpu.spikes)
    torch.testing.assert_close(on_gpu.membrane.cpu(), on_cpu.membrane)


@pytest.mark.parametrize("shape", [(10, 2, N_PRE + 1), (10, N_PRE), (N_PRE,)])
def test_wrong_input_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"= \[T, B, {N_PRE}\], given"):
        make_layer().respond(torch.zeros(shape))


def test_snntorch_keeps_no_neuron_alive() -> None:
    before = len(snntorch.SpikingNeuron.instances)
    for model in ("leaky", "synaptic"):
        layer = make_layer(NeuronConfig(model=model))  # type: ignore[arg-type]
        layer(random_spikes())
        layer.pair(random_spikes(), torch.zeros(40, 5, N_POST), 200.0)
    assert len(snntorch.SpikingNeuron.instances) == before


def test_state_dict_round_trip() -> None:
    pre = random_spikes()
    teacher = 1.5 * (torch.rand(40, 5, N_POST, generator=torch.Generator().manual_seed(3)) < 0.2)
    generator = torch.Generator().manual_seed(8)
    rule, contacts = PlasticityConfig(a_plus=0.5, target=1.0), ContactConfig(probability=0.5)
    layer = make_layer(rule=rule, contacts=contacts, generator=generator)
    layer.pair(pre, teacher, 200.0)
    saved = {name: value.clone() for name, value in layer.state_dict().items()}
    twin = make_layer(rule=rule, contacts=contacts)
    assert not torch.equal(twin.exists, layer.exists)
    twin.load_state_dict(saved)
    # both answer and go on learning alike
    for one in (layer, twin):
        one.pair(pre.flip(0), teacher, 200.0)
    assert int(layer.counts()[1]) > 0
    for name, value in layer.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value), name
    assert torch.equal(twin(pre), layer(pre))


def test_contacts_exist_with_the_given_probability() -> None:
    layer = make_layer(n_pre=200, n_post=50, contacts=ContactConfig(probability=0.3))
    n = 200 * 50
    assert abs(int(layer.exists.sum()) - 0.3 * n) < 5 * math.sqrt(0.21 * n)
    assert int(layer.counts().sum()) == int(layer.exists.sum())


# --- learning -------------------------------------------------------------------------------------


def pairing(n_samples: int = 1) -> tuple[Tensor, Tensor]:
    """Units 0..11 fire at step 1, neurons 0..2 are made to fire once, at step 2."""
    pre, current = torch.zeros(6, n_samples, N_PRE), torch.zeros(6, n_samples, N_POST)
    pre[1, :, :12] = 1.0
    current[2, :, :3] = 1.2
    return pre, current


def occupancy_of_one_pairing(a_plus: float) -> float:
    """a_plus * D(spike peak) * exp(-dt / tau_plus), written out."""

    def unblocked(v_mV: float) -> float:
        return 1 / (1 + math.exp(-0.062 * v_mV) / 3.57)

    gate = (unblocked(20.0) - unblocked(-40.0)) / (1 - unblocked(-40.0))
    return a_plus * gate * math.exp(-DT / 20.0)


@pytest.mark.parametrize("a_plus", [0.05, 0.11, 0.9])
def test_conversion_takes_threshold_over_step_pairings(a_plus: float) -> None:
    layer = make_layer(
        rule=PlasticityConfig(a_plus=a_plus, tau_plus_ms=20.0), target_factor=torch.zeros(N_POST)
    )
    needed = math.ceil(0.5 / occupancy_of_one_pairing(a_plus))
    pre, current = pairing()
    for n in range(1, needed + 1):
        response, change = layer.pair(pre, current, 30.0)
        assert response.spikes.sum(0)[0].tolist() == [1.0] * 3 + [0.0] * 3
        step = occupancy_of_one_pairing(a_plus)
        assert float(layer.ampa[0, 0]) == pytest.approx(min(n * step, 1.0), rel=1e-5)
        assert len(change.pre) == (36 if n == needed else 0)
    assert layer.state.nonzero().tolist() == [[j, i] for j in range(3) for i in range(12)]
    # neither glutamate alone nor depolarisation alone inserted anything
    assert float(layer.ampa[3:].abs().max()) == 0.0
    assert float(layer.ampa[:, 12:].abs().max()) == 0.0


def test_target_is_the_slow_average_of_the_trace() -> None:
    """The first batch's average is that batch's mean trace, not a share of it."""
    rule = PlasticityConfig(a_plus=0.5, tau_plus_ms=20.0, tau_target_ms=200.0)
    layer = make_layer(rule=rule, target_factor=torch.full((N_POST,), 0.8))
    pre, current = pairing()
    layer.pair(pre, current, 30.0)
    d = math.exp(-DT / 20.0)
    mean_trace = sum(d**k for k in range(1, 5)) / 6
    step = occupancy_of_one_pairing(0.5)
    assert float(layer.ampa[0, 0]) == pytest.approx(step * (1 - 0.8 * mean_trace / d), rel=1e-5)
    # the second batch brings twice the rate: an exponentially weighted mean of both
    pre[0, :, :12] = 1.0
    layer.pair(pre, current, 30.0)
    second = mean_trace + sum(d**k for k in range(1, 6)) / 6
    keep = math.exp(-30.0 / 200.0)
    average = (keep * mean_trace + second) / (keep + 1)
    estimate = layer.slow_sum / layer.slow_weight
    assert float(estimate[0]) == pytest.approx(average, rel=1e-4)
    assert float(estimate[12]) == 0.0


def test_reported_conversions_are_the_difference_of_the_states() -> None:
    rule = PlasticityConfig(a_plus=0.2, a_minus=0.02, target=1.0)
    layer = make_layer(rule=rule, contacts=ContactConfig(consolidate_ms=20_000.0))
    generator = torch.Generator().manual_seed(0)
    kinds = set()
    for k in range(12):
        before = layer.state.clone()
        teacher = 1.5 * (torch.rand(40, 2, N_POST, generator=generator) < 0.15)
        _, change = layer.pair(random_spikes(2, seed=k, p=0.1), teacher, 8000.0)
        differs = before != layer.state
        assert len(change.pre) == int(differs.sum())
        assert bool(differs[change.post, change.pre].all())
        assert torch.equal(change.old, before[change.post, change.pre])
        assert torch.equal(change.new, layer.state[change.post, change.pre])
        kinds |= set(zip(change.old.tolist(), change.new.tolist(), strict=True))
        assert int(layer.counts().sum()) == N_PRE * N_POST
        assert 0.0 <= float(layer.ampa.min()) <= float(layer.ampa.max()) <= 1.0
    assert kinds == {(SILENT, FUNCTIONAL), (FUNCTIONAL, SILENT), (FUNCTIONAL, CONSOLIDATED)}


def test_pairing_in_steps_tells_every_change_with_its_step() -> None:
    """Played back, they lead from the states before to those after, in the steps of simulate."""
    rule = PlasticityConfig(a_plus=0.9, a_minus=0.9)
    teacher = 1.5 * (torch.arange(40)[:, None, None] % 8 == 3) * torch.ones(1, 1, N_POST)
    pre = random_spikes(1, seed=0, p=0.15)
    given = {"update": "step", "target_factor": torch.zeros(N_POST)}
    layer, same = (make_layer(rule=rule, **given).train() for _ in range(2))
    state = layer.state.clone()
    _, events = layer.pair(pre, teacher)
    assert isinstance(events, StateEvents)
    rows = zip(*(x.tolist() for x in vars(events).values()), strict=True)
    names, pairs = list(vars(events)), set()
    for row in rows:
        told = dict(zip(names, row, strict=True))
        assert int(state[told["post"], told["pre"]]) == told["old"] != told["new"]
        state[told["post"], told["pre"]] = told["new"]
        pairs.add((told["post"], told["pre"]))
    assert torch.equal(state, layer.state)
    assert len(pairs) < len(events.step)  # some changed more than once
    _, _, simulated = same.simulate(pre, teacher)
    assert torch.equal(simulated.step, events.step)
    assert len(events.step.unique()) > 3


def test_capture_reports_and_consolidates_the_functional_contacts() -> None:
    layer = make_layer(rule=PlasticityConfig(a_plus=0.9), target_factor=torch.zeros(N_POST))
    layer.pair(*pairing(), 30.0)
    change = layer.capture()
    assert sorted(zip(change.post.tolist(), change.pre.tolist(), strict=True)) == [
        (j, i) for j in range(3) for i in range(12)
    ]
    assert set(change.old.tolist()) == {FUNCTIONAL}
    assert set(change.new.tolist()) == {CONSOLIDATED}
    assert layer.counts().tolist() == [N_PRE * N_POST - 36, 0, 36]
    assert len(layer.capture().pre) == 0


def test_rule_none_changes_nothing() -> None:
    layer = make_layer(rule=PlasticityConfig(rule="none"))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    response, change = layer.pair(*pairing(), 30.0)
    assert float(response.spikes.sum()) == 3.0  # the teacher's current still makes it fire
    assert len(change.pre) == 0
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_missing_contacts_are_never_born() -> None:
    contacts = ContactConfig(probability=0.5)
    layer = make_layer(
        rule=PlasticityConfig(a_plus=0.9),
        contacts=contacts,
        target_factor=torch.zeros(N_POST),
        generator=torch.Generator().manual_seed(1),
    )
    layer.pair(*pairing(), 30.0)
    assert float(layer.ampa[~layer.exists].abs().max()) == 0.0
    assert int(layer.state[~layer.exists].sum()) == 0
    assert int(layer.counts()[1]) == int(layer.exists[:3, :12].sum()) > 0


def test_the_electrode_decides_when_the_neuron_fires_during_pairing() -> None:
    layer = make_layer()
    layer.state[:, :12] = CONSOLIDATED
    strong = torch.zeros(6, 1, N_PRE)
    strong[:, :, :12] = 1.0
    assert float(layer(strong).sum()) > 0
    response, _ = layer.pair(strong, torch.zeros(6, 1, N_POST), 30.0)
    assert float(response.spikes.sum()) == 0.0


def test_contacts_take_no_gradient() -> None:
    layer = open_at_random(make_layer())
    assert list(layer.parameters()) == []
    # but it reaches what comes before the layer
    pre = random_spikes().requires_grad_()
    layer(pre).sum().backward()
    assert pre.grad is not None and float(pre.grad.abs().sum()) > 0


# --- layers that share their input ----------------------------------------------------------------


def some_layers(**options: Any) -> list[SilentSynapseLayer]:
    """Three sub-networks of different sizes with half of their contacts open."""
    options = {"neuron": NeuronConfig()} | options
    layers = []
    for seed, n_post in enumerate((3, 7, 5)):
        generator = torch.Generator().manual_seed(seed)
        layer = SilentSynapseLayer(20, n_post, generator=generator, **options)
        layer.state.copy_((torch.rand(n_post, 20, generator=generator) < 0.5).byte() * FUNCTIONAL)
        layer.ampa.copy_(layer.state * torch.rand(n_post, 20, generator=generator))
        layers.append(layer)
    return layers


def volleys(steps: int = 30) -> Tensor:
    """Spikes with pauses, as the encoder sends them."""
    generator = torch.Generator().manual_seed(9)
    pre = (torch.rand(steps, 6, 20, generator=generator) < 0.3).float()
    pre[torch.arange(steps) % 5 >= 3] = 0
    return pre


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"neuron": NeuronConfig(model="synaptic")},
        {"contacts": ContactConfig(probability=0.6)},
        {"contacts": ContactConfig(transmission="graded")},
        {"receptors": Receptors()},
    ],
    ids=["leaky", "synaptic", "sparse", "graded", "conductance"],
)
def test_layers_answer_together_as_they_do_alone(options: dict[str, Any]) -> None:
    layers, pre = some_layers(**options), volleys()
    together = respond_together(layers, pre)
    for layer, found in zip(layers, together, strict=True):
        alone = layer.respond(pre)
        for name in ("spikes", "membrane", "final"):
            assert torch.equal(getattr(found, name), getattr(alone, name)), name
    assert sum(float(found.spikes.sum()) for found in together) > 0


def test_no_layers_answer_nothing() -> None:
    assert respond_together([], volleys()) == []


def test_pauses_are_left_out_of_the_product_and_nothing_else() -> None:
    """Against the plain product of every step."""
    layer, pre = some_layers()[1], volleys()
    circuit, weights = layer.circuit(), layer.transmitted()
    state = engine_torch.begin(circuit, pre.shape[1])
    drive = pre @ weights.T - state.balance * pre.sum(-1, keepdim=True)
    expected, _ = engine_torch.integrate(circuit, state, drive)
    assert torch.equal(expected.spikes, layer.respond(pre).spikes)


def test_layers_that_were_joined_notice_what_changes() -> None:
    """What follows from contacts is made once, and made anew when a contact changes."""
    layers, pre = some_layers(), volleys()
    together = Joined(layers)
    assert together.holds(layers) and not together.holds(layers[:1])
    for found, layer in zip(together.respond(pre), layers, strict=True):
        assert torch.equal(found.final, layer.respond(pre).final)
    fan_out = torch.stack([(layer.transmitted() != 0).sum(0) for layer in layers]).sum(0)
    assert torch.equal(together.fan_out, fan_out.float())
    layers[-1].state[0, 0] = 1 - layers[-1].state[0, 0].clamp_max(1)
    assert not together.holds(layers)
    assert Joined(layers).holds(layers)


@pytest.mark.parametrize("what", ["rule", "contacts"])
def test_layers_have_noise_of_their_own(what: str) -> None:
    """By the generator, or by torch's own, and again the same."""

    def shown(generator: torch.Generator | None) -> list[Tensor]:
        if what == "rule":
            rule = PlasticityConfig(insertion="bernoulli", probability=0.5)
            layers = [make_layer(rule=rule, generator=generator) for _ in range(2)]
            taught = torch.zeros(40, 5, N_POST)
            taught[20] = 1.5
            for layer in layers:
                layer.pair(random_spikes(p=0.03), taught)
            return [layer.ampa for layer in layers]
        fails = ContactConfig(release_probability=0.5)
        layers = [open_at_random(make_layer(contacts=fails, generator=generator)) for _ in range(2)]
        return [layer.respond(random_spikes()).membrane for layer in layers]

    with torch.random.fork_rng(devices=[]):
        seeds: list[torch.Generator | None] = [torch.Generator().manual_seed(s) for s in (1, 2, 1)]
        found = [shown(generator) for generator in seeds]
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            found.append(shown(None))
    assert all(not torch.equal(a, b) for a, b in found)
    for first, other, again in (found[:3], found[3:]):
        assert not torch.equal(first[0], other[0])
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
