"""Expected change under the pairing protocol: against sums over pairs, and against simulation."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from snn_artsy.config import EncodingConfig, NeuronConfig, TeacherConfig
from snn_artsy.rules import (
    CalciumRule,
    GatedSTDP,
    Gating,
    PairSTDP,
    Signals,
    TripletSTDP,
    VoltageSTDP,
)
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV
from snn_artsy.synapses.encoding import SpikeEncoder
from snn_artsy.synapses.expectation import (
    chances,
    expected_change,
    pair_in_the_mean,
    sampled_change,
)
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import (
    each_taught,
    make_schedule,
    shuffle_in_time,
    teaching_spikes,
)

ENCODING, TEACHER = EncodingConfig(), TeacherConfig(reliability=0.8)
SCHEDULE = make_schedule(ENCODING, TEACHER)
DT = ENCODING.dt
VOLLEY = [t for t in range(ENCODING.steps) if SCHEDULE.volley[t]]
TAUGHT = [t for t in range(ENCODING.steps) if SCHEDULE.teach[t, 0]]
R = torch.tensor([0.8, 0.0], dtype=torch.float64)  # one taught neuron, one that is not
Q = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)
W = torch.tensor([[0.1, 0.3, 0.5, 0.8], [0.2, 0.4, 0.6, 0.7]], dtype=torch.float64)

PAIR = PairSTDP(a_plus=0.03, a_minus=0.021, tau_plus_ms=17.0, tau_minus_ms=34.0)
TRIPLET = TripletSTDP(a2_plus=0.004, a3_plus=0.02, a2_minus=0.007, a3_minus=0.011)
RULES: dict[str, Any] = {
    "pair": PAIR,
    "pair_soft": replace(PAIR, bounds_of="soft"),
    "pair_nearest": replace(PAIR, pairing="nearest"),
    "triplet": TRIPLET,
    "triplet_nearest": replace(TRIPLET, pairing="nearest"),
    "gated_pair": GatedSTDP(PAIR),
    "gated_triplet": GatedSTDP(TRIPLET, Gating(nmda=0.7)),
    "gated_no_mg": GatedSTDP(PAIR, Gating(mg_mM=0.0, target=0.5)),
    "gated_clamped": GatedSTDP(PAIR, Gating(clamp_mV=-20.0, target=0.0, depolarisation="dendrite")),
}


def peak() -> float:
    block, at_threshold = (1 / (1 + math.exp(-0.062 * v) / 3.57) for v in (20.0, -40.0))
    return (block - at_threshold) / (1 - at_threshold)


def pairs(first: list[int], second: list[int], tau_ms: float) -> float:
    """Sum over pairs of steps, the first before the second."""
    return sum(math.exp(-(b - a) * DT / tau_ms) for a, b in product(first, second) if a < b)


def test_pair_rule_with_target_is_equation_18() -> None:
    slow = torch.tensor([0.3, 0.4, 0.1, 0.5], dtype=torch.float64)
    rule = GatedSTDP(PAIR)
    m = len(TAUGHT)
    c_teacher, c_post = pairs(VOLLEY, TAUGHT, 17.0) / m, pairs(TAUGHT, VOLLEY, 34.0)
    gained = PAIR.a_plus * peak() * m * (Q * c_teacher - 1.2 * slow)
    taught = 0.8 * (gained - PAIR.a_minus * Q * c_post)
    result = expected_change(rule, W, Q, R, SCHEDULE, DT, slow)
    torch.testing.assert_close(result, torch.stack([taught, 0 * taught]), rtol=1e-12, atol=0)
    assert float(taught.min()) < 0 < float(taught.max())  # the sign differs between contacts
    # slow average of the image itself: q c_mean of equation 16
    c_mean = pairs(VOLLEY, list(range(ENCODING.steps)), 17.0) / ENCODING.steps
    own = expected_change(rule, W, Q, R, SCHEDULE, DT)
    torch.testing.assert_close(
        own, expected_change(rule, W, Q, R, SCHEDULE, DT, Q * c_mean), rtol=1e-12, atol=0
    )


def test_pair_rule_is_selective_for_nothing_but_rate() -> None:
    """Equation 14's point: without the target every contact drifts the same way, by its rate."""
    result = expected_change(PAIR, W, Q, R, SCHEDULE, DT)[0]
    torch.testing.assert_close(result, Q * result[3], rtol=1e-12, atol=1e-15)
    assert abs(float(result[3])) > 1e-3


def test_triplet_rule_is_the_sum_over_pairs_and_triplets() -> None:
    def e(lag: int, tau_ms: float) -> float:
        return math.exp(-lag * DT / tau_ms)

    expected = torch.zeros(2, 4, dtype=torch.float64)
    for (j, r), (i, q) in product(enumerate(R.tolist()), enumerate(Q.tolist())):
        for b in TAUGHT:
            for a in (a for a in VOLLEY if a < b):
                third = sum(r * e(b - c, 114.0) for c in TAUGHT if c < b)
                expected[j, i] += q * r * e(b - a, 16.8) * (0.004 + 0.02 * third)
        for b in VOLLEY:
            for a in (a for a in TAUGHT if a < b):
                third = sum(q * e(b - c, 101.0) for c in VOLLEY if c < b)
                expected[j, i] -= q * r * e(b - a, 33.7) * (0.007 + 0.011 * third)
    result = expected_change(TRIPLET, W, Q, R, SCHEDULE, DT)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    assert float(result[0].abs().min() if Q[0] else result[0, 1:].abs().min()) > 1e-4


def simulated(rule: Any, n_blocks: int = 40, size: int = 100) -> tuple[Tensor, Tensor]:
    """Mean change of a presentation and its standard error, from encoder, teacher and rule."""
    encoder = SpikeEncoder(ENCODING, SCHEDULE)
    means = []
    for block in range(n_blocks):
        sample = torch.arange(block * size, (block + 1) * size)
        z = (Q * ENCODING.saturation_sd).expand(size, 4)
        pre = encoder(z, seed=3, stream=0, sample=sample)[:, :, :4].double()
        taught = (R > 0).expand(size, 2)
        post = teaching_spikes(SCHEDULE, TEACHER, taught, 3, 5, sample).double()
        seen = Signals(pre, post, torch.where(post > 0, V_PEAK_MV, V_REST_MV).double())
        dw, _ = rule.presentation(W, rule.start(pre[0], post[0]), seen, DT)
        means.append(dw / size)
    measured = torch.stack(means)
    return measured.mean(0), measured.std(0) / math.sqrt(n_blocks)


def agree(expected: Tensor, mean: Tensor, error: Tensor) -> bool:
    return bool(((mean - expected).abs() <= 4.5 * error + 1e-9).all())


@pytest.mark.parametrize("name", RULES)
def test_expected_change_is_the_mean_of_simulated_pairings(name: str) -> None:
    rule = RULES[name]
    mean, error = simulated(rule)
    expected = expected_change(rule, W, Q, R, SCHEDULE, DT)
    assert agree(expected, mean, error)
    assert float(error.max()) < 0.02 * float(expected.abs().max())
    assert float(expected[0, 3].abs()) > 20 * float(error.max())


WRONG: dict[str, tuple[str, Any]] = {
    "no depression": ("pair", replace(PAIR, a_minus=0.0)),
    "no bounds": ("pair_soft", PAIR),
    "all pairs": ("pair_nearest", PAIR),
    "no slow post trace": ("triplet", replace(TRIPLET, a3_plus=0.0)),
    "no slow pre trace": ("triplet", replace(TRIPLET, a3_minus=0.0)),
    "no target": ("gated_pair", GatedSTDP(PAIR, Gating(target=0.0))),
    "magnesium": ("gated_no_mg", GatedSTDP(PAIR, Gating(target=0.5))),
}


@pytest.mark.parametrize("name, wrong", WRONG.values(), ids=WRONG.keys())
def test_simulated_pairings_tell_a_wrong_expectation(name: str, wrong: Any) -> None:
    mean, error = simulated(RULES[name])
    assert not agree(expected_change(wrong, W, Q, R, SCHEDULE, DT), mean, error)


def test_the_mean_over_images_is_not_the_change_of_the_mean_image() -> None:
    """What the docstring warns of: exact for each image, but the triplet is not linear in q."""

    def mean_and_at_mean(rule: Any) -> tuple[Tensor, Tensor]:
        low, high = 0.2 * Q, Q
        each = [expected_change(rule, W, q, R, SCHEDULE, DT) for q in (low, high)]
        return (each[0] + each[1]) / 2, expected_change(rule, W, (low + high) / 2, R, SCHEDULE, DT)

    torch.testing.assert_close(*mean_and_at_mean(PAIR), rtol=1e-12, atol=1e-15)
    a, b = mean_and_at_mean(TRIPLET)
    assert float((a - b).abs().max()) > 0.01 * float(a.abs().max())


def test_rules_for_which_it_is_not_exact_are_refused() -> None:
    with pytest.raises(TypeError, match="bernoulli"):
        rule = GatedSTDP(PAIR, Gating(insertion="bernoulli"))
        expected_change(rule, W, Q, R, SCHEDULE, DT)
    with pytest.raises(TypeError, match="dendrite"):
        dendritic = GatedSTDP(PAIR, Gating(depolarisation="dendrite"))
        expected_change(dendritic, W, Q, R, SCHEDULE, DT)
    with pytest.raises(TypeError, match="use pair or triplet"):
        expected_change(GatedSTDP(GatedSTDP(PAIR)), W, Q, R, SCHEDULE, DT)


@pytest.mark.parametrize("name", ["pair_soft", "triplet", "gated_pair", "gated_triplet"])
def test_sampling_agrees_with_the_closed_form(name: str) -> None:
    rule, slow = RULES[name], torch.tensor([0.1, 0.2, 0.2, 0.3]).double()
    generator = torch.Generator().manual_seed(4)
    mean, error = sampled_change(rule, W, Q, R, SCHEDULE, DT, generator, slow=slow)
    exact = expected_change(rule, W, Q, R, SCHEDULE, DT, slow)
    assert ((mean - exact).abs() <= 4.5 * error + 1e-12).all()
    assert float(error[0, 1:].max()) < 0.1 * float(exact.abs().max())
    wrong = expected_change(rule.sped_up(2.0), W, Q, R, SCHEDULE, DT, slow)
    assert ((mean - wrong).abs() > 4.5 * error).any()


@pytest.mark.parametrize("rule", [VoltageSTDP(spike_ms=2.0), CalciumRule()])
def test_certain_spikes_are_one_presentation_of_any_rule(rule: Any) -> None:
    q, certain = torch.tensor([0.0, 1.0]).double(), torch.ones(1).double()
    w = torch.tensor([[0.2, 0.4]]).double()
    generator = torch.Generator().manual_seed(4)
    mean, error = sampled_change(rule, w, q, certain, SCHEDULE, DT, generator, 20)
    traces = rule.start(torch.zeros(1, 2).double(), torch.zeros(1, 1).double())
    total, membrane = torch.zeros_like(w), 0.0
    # by hand, step by step: tau_m 20 ms, reset to rest under a teaching current
    for t in range(ENCODING.steps):
        pre = (q * SCHEDULE.volley[t])[None]
        membrane = membrane * math.exp(-DT / 20.0) + 1.5 * float(SCHEDULE.teach[t, 0])
        fired = float(membrane > 1.0)
        post = torch.full((1, 1), fired).double()
        v_mV = torch.full((1, 1), V_PEAK_MV if fired else V_REST_MV + 20.0 * membrane).double()
        membrane *= 1.0 - fired
        change, traces = rule.step(w, traces, Signals(pre, post, v_mV), DT)
        total = total + change
    assert float(error.max()) == 0.0 and float(total.abs().max()) > 0
    torch.testing.assert_close(mean, total)
    with pytest.raises(ValueError, match="multiple of 20"):
        sampled_change(rule, w, q, certain, SCHEDULE, DT, generator, 30)


# --- latency: one spike a volley, the teacher inside it

FINE = EncodingConfig(
    code="latency", n_steps=30, dt_ms=1.0, max_rate_hz=1000.0, volley_ms=10.0, period_ms=15.0
)
INSIDE = TeacherConfig(phase_ms=5.0, phase_spread_ms=2.0, reliability=0.8)
TWO = make_schedule(FINE, INSIDE, 2)  # an assembly of two, taught at 3 and 7 ms
DRIVE = torch.tensor([0.0, 0.1, 0.34, 0.5, 0.8, 1.0], dtype=torch.float64)
EARLY_LATE = torch.tensor([0.8, 0.8, 0.0, 0.0], dtype=torch.float64)  # taught, and not


def by_hand(rule: PairSTDP, drive: float, phase: int, reliability: float) -> float:
    """Sum over the pairs of two volleys of 15 ms, spike by spike."""
    total = 0.0
    if drive == 0.0:
        return total
    for pre, post in product((0, 15), (0, 15)):
        lag = post + phase - (pre + round((1.0 - drive) * 9))
        if lag > 0:
            total += reliability * rule.a_plus * math.exp(-lag / rule.tau_plus_ms)
        elif lag < 0:
            total -= reliability * rule.a_minus * math.exp(lag / rule.tau_minus_ms)
    return total


def test_latency_in_the_mean_is_the_sum_over_its_pairs() -> None:
    q = chances(FINE, TWO, DRIVE)
    assert q.shape == (30, 6) and set(q.unique().tolist()) == {0.0, 1.0}
    w = torch.zeros(4, 6, dtype=torch.float64)
    result = expected_change(PAIR, w, q, EARLY_LATE, TWO, 1.0)
    for j, (phase, r) in enumerate(((3, 0.8), (7, 0.8), (3, 0.0), (7, 0.0))):
        for i, drive in enumerate(DRIVE.tolist()):
            by_pairs = by_hand(PAIR, drive, phase, r)
            assert float(result[j, i]) == pytest.approx(by_pairs, rel=1e-12, abs=1e-15)
    # strong inputs grow and weak ones shrink: the sign is that of the order of the spikes
    assert float(result[0, 1]) < 0 < float(result[0, 5])
    assert float(result[0, 3]) < 0 < float(result[1, 3])  # at .5, each neuron draws its own line


def presented(shuffled: bool) -> tuple[Tensor, Tensor]:
    """Mean change of a silent contact over 4,000 presentations and its standard error."""
    encoder, w, means = SpikeEncoder(FINE, TWO), torch.zeros(4, 6).double(), []
    for sample in torch.arange(4000).split(100):
        z = (DRIVE * FINE.saturation_sd).expand(100, 6)
        pre = encoder(z, seed=3, stream=0, sample=sample)[:, :, :6]
        if shuffled:
            pre = shuffle_in_time(pre, 3, 4, sample)
        post = teaching_spikes(TWO, INSIDE, (EARLY_LATE > 0).expand(100, 4), 3, 5, sample).double()
        seen = Signals(pre.double(), post, torch.full_like(post, V_REST_MV))
        dw, _ = PAIR.presentation(w, PAIR.start(seen.pre[0], post[0]), seen, 1.0)
        means.append(dw / 100)
    measured = torch.stack(means)
    return measured.mean(0), measured.std(0) / math.sqrt(len(means))


def test_latency_in_the_mean_agrees_with_encoder_and_teacher() -> None:
    mean, error = presented(shuffled=False)
    w = torch.zeros(4, 6).double()
    assert agree(
        expected_change(PAIR, w, chances(FINE, TWO, DRIVE), EARLY_LATE, TWO, 1.0), mean, error
    )
    reversed_order = chances(FINE, TWO, 1.0 - DRIVE)
    wrong = expected_change(PAIR, w, reversed_order, EARLY_LATE, TWO, 1.0)
    assert not agree(wrong, mean, error)


def test_shuffled_spikes_change_every_contact_by_how_often_its_unit_fires() -> None:
    """Equation 19c: one factor for all contacts of a neuron; only its sign is the neuron's."""
    factor = [0.0, 0.0]
    for j, phase in enumerate((3, 7)):  # two spikes, each anywhere in 30 steps
        for at, spike in product((phase, 15 + phase), range(30)):
            lag = at - spike
            up, down = PAIR.a_plus * math.exp(-lag / 17.0), PAIR.a_minus * math.exp(lag / 34.0)
            factor[j] += 0.8 * 2 / 30 * (up * (lag > 0) - down * (lag < 0))
    uniform = chances(FINE, TWO, DRIVE).sum(0).expand(30, 6) / 30.0
    expected = expected_change(PAIR, torch.zeros(4, 6).double(), uniform, EARLY_LATE, TWO, 1.0)
    for j in range(2):
        torch.testing.assert_close(expected[j, 1:], torch.full((5,), factor[j]).double())
    assert float(expected[:, 0].abs().max()) == float(expected[2:].abs().max()) == 0.0
    mean, error = presented(shuffled=True)
    assert agree(expected, mean, error)
    assert not agree(expected, *presented(shuffled=False))


def test_chances_of_the_codes() -> None:
    poisson = replace(FINE, code="poisson", max_rate_hz=500.0)
    q = chances(poisson, TWO, DRIVE)
    assert torch.equal(q[0], 0.5 * DRIVE) and torch.equal(q[10], 0.0 * DRIVE)
    shown = SpikeEncoder(replace(FINE, code="current"), TWO)
    spikes = shown((DRIVE * 2.0)[None], 0, 0, torch.zeros(1, dtype=torch.int64))[:, 0, :6].double()
    assert torch.equal(chances(replace(FINE, code="current"), TWO, DRIVE), spikes)
    with pytest.raises(ValueError, match="drive"):
        chances(FINE, TWO, DRIVE + 1.0)


@pytest.mark.parametrize("code", ["poisson", "regular", "latency"])
@pytest.mark.parametrize("name", ["gated_pair", "pair", "triplet", "pair_soft"])
def test_a_layer_in_the_mean_is_the_mean_of_layers_that_see_spikes(name: str, code: str) -> None:
    """Encoder, teacher and `pair` 400 times, against one expected update of three images."""
    if (name, code) == ("triplet", "regular"):
        pytest.skip("multiplies spikes of one unit with each other, which are not independent")
    encoding = EncodingConfig(code=code)
    teacher = TeacherConfig(reliability=0.8)
    schedule = make_schedule(encoding, teacher)
    z = torch.tensor([[1.9, -0.4, 0.9], [0.2, 1.1, -1.5], [-0.7, 0.3, 2.5]], dtype=torch.float64)
    taught = torch.tensor([[True, False], [False, True], [True, False]])
    half = torch.full((2, 6), 0.5)  # far from both bounds

    def layer() -> SilentSynapseLayer:
        made = SilentSynapseLayer(6, 2, encoding.dt, NeuronConfig(), RULES[name])
        made.ampa.copy_(half)
        return made

    encoder, drawn = SpikeEncoder(encoding, schedule), []
    for seed in range(400):
        own, index = layer(), torch.arange(3)
        fires = teaching_spikes(schedule, teacher, taught, seed, 3, index)
        own.pair(encoder(z, seed, 0, index), 1.5 * fires)
        drawn.append(own.ampa - half)
    mean = layer()
    pre = chances(encoding, schedule, encoder.drive(z))
    post = 0.8 * each_taught(schedule, 2)[:, None] * taught
    pair_in_the_mean(mean, pre, post, 100.0)
    each = torch.stack(drawn)
    error = each.std(0) / 20.0 + 1e-6
    assert float(((mean.ampa - half - each.mean(0)) / error).abs().max()) < 4.5
    assert float((mean.ampa - half).abs().max()) > 10 * float(error.min())


def test_chances_of_several_images_are_those_of_each() -> None:
    drive = torch.tensor([[0.1, 0.5, 1.0], [0.0, 0.9, 0.3]])
    for code in ("poisson", "regular", "latency", "current"):
        encoding = EncodingConfig(code=code)
        schedule = make_schedule(encoding, TEACHER)
        each = [chances(encoding, schedule, row) for row in drive]
        assert torch.equal(chances(encoding, schedule, drive), torch.stack(each, 1))
