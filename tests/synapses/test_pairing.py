"""The time course of a presentation: volleys, teacher, and the shuffled control."""

import math

import pytest
import torch

from snn_artsy.config import ConfigError, EncodingConfig, PlasticityConfig, TeacherConfig
from snn_artsy.rules import GatedSTDP, Signals
from snn_artsy.synapses.encoding import SpikeEncoder
from snn_artsy.synapses.pairing import (
    jitter_in_time,
    make_schedule,
    reading_schedule,
    shuffle_in_time,
    teaching_spikes,
)
from snn_artsy.synapses.receptors import V_PEAK_MV, V_REST_MV, nmda_gate


def test_schedule_of_the_physiological_preset() -> None:
    schedule = make_schedule(EncodingConfig(), TeacherConfig())
    # 20 steps of 5 ms: on for 3 steps of each 5, teacher one step after the volley's last
    assert schedule.volley.tolist() == [True, True, True, False, False] * 4
    assert schedule.teach[:, 0].tolist() == [False, False, False, True, False] * 4
    assert (schedule.volley_steps, schedule.period_steps) == (3, 5)


def test_schedule_of_the_fast_preset() -> None:
    schedule = make_schedule(EncodingConfig(preset="fast"), TeacherConfig())
    assert schedule.volley.tolist() == [True, True, False, False] * 2
    assert schedule.teach[:, 0].tolist() == [False, False, True, False] * 2


def test_lag_counts_from_the_volley_s_last_step() -> None:
    schedule = make_schedule(EncodingConfig(), TeacherConfig(lag_ms=10.0))
    assert schedule.teach.nonzero()[:, 0].tolist() == [4, 9, 14, 19]


def test_a_last_volley_without_room_for_its_teacher_is_not_taught() -> None:
    schedule = make_schedule(EncodingConfig(n_steps=8), TeacherConfig())
    assert schedule.teach.nonzero()[:, 0].tolist() == [3]


def test_lag_into_the_next_volley_is_refused_with_the_largest_that_fits() -> None:
    with pytest.raises(ConfigError, match=r"snn\.teacher\.lag_ms.*at most 10 ms"):
        make_schedule(EncodingConfig(), TeacherConfig(lag_ms=15.0))


def test_presentation_too_short_for_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"snn\.encoding\.n_steps.*use 4 or more"):
        make_schedule(EncodingConfig(n_steps=3), TeacherConfig())


def test_the_teacher_drives_the_taught_assembly_at_teaching_steps_only() -> None:
    schedule = make_schedule(EncodingConfig(), TeacherConfig())
    taught = torch.zeros(3, 8, dtype=torch.bool)
    taught[0, :4] = taught[1, 4:] = True
    spikes = teaching_spikes(
        schedule, TeacherConfig(reliability=1.0), taught, 0, 3, torch.arange(3)
    )
    expected = torch.zeros(20, 3, 8)
    for t in (3, 8, 13, 18):
        expected[t, 0, :4] = expected[t, 1, 4:] = 1.0
    assert torch.equal(spikes, expected)


def test_reliability_is_the_probability_of_a_teaching_spike() -> None:
    schedule = make_schedule(EncodingConfig(), TeacherConfig())
    n = 500
    taught = torch.ones(n, 8, dtype=torch.bool)
    spikes = teaching_spikes(
        schedule, TeacherConfig(reliability=0.7), taught, 0, 3, torch.arange(n)
    )
    draws = n * 8 * 4
    assert abs(float(spikes.sum()) - 0.7 * draws) < 4.5 * math.sqrt(0.21 * draws)
    # its noise is keyed by the sample, too
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    again = teaching_spikes(schedule, TeacherConfig(reliability=0.7), taught, 0, 3, order)
    assert torch.equal(again, spikes[:, order])


def test_shuffling_in_time_keeps_each_unit_s_count_and_destroys_the_timing() -> None:
    volley = make_schedule(EncodingConfig(), TeacherConfig()).volley
    n = 200
    generator = torch.Generator().manual_seed(0)
    spikes = ((torch.rand(20, n, 6, generator=generator) < 0.5) & volley[:, None, None]).float()
    shuffled = shuffle_in_time(spikes, 0, 4, torch.arange(n))
    assert torch.equal(shuffled.sum(0), spikes.sum(0))
    # 12 of the 20 steps are volley steps: that share of the spikes stays inside by chance
    total = float(spikes.sum())
    inside = float(shuffled[volley].sum())
    assert abs(inside - 0.6 * total) < 5 * math.sqrt(0.24 * total)
    order = torch.arange(n).flip(0)
    assert torch.equal(shuffle_in_time(spikes[:, order], 0, 4, order), shuffled[:, order])


def test_expected_change_of_occupancy_under_the_protocol() -> None:
    """Equation (18) of docs/model.md, constants by explicit sums, against simulated pairings."""
    encoding, teacher, rule = EncodingConfig(), TeacherConfig(), PlasticityConfig()
    schedule = make_schedule(encoding, teacher)
    volley = [u for u in range(encoding.steps) if schedule.volley[u]]
    taught = [u for u in range(encoding.steps) if schedule.teach[u, 0]]
    plus = math.exp(-encoding.dt / rule.tau_plus_ms)
    minus = math.exp(-encoding.dt / rule.tau_minus_ms)
    c_teacher = sum(plus ** (u - w) for u in taught for w in volley if w < u) / len(taught)
    c_post = sum(minus ** (u - k) for u in volley for k in taught if k < u)
    q = torch.tensor([0.0, 0.2, 0.5, 1.0])  # spike probability of each ON unit in a volley step
    slow = torch.tensor([0.3, 0.4, 0.1, 0.5, 0.2, 0.2, 0.2, 0.2])  # <x>: any values
    factor = torch.tensor([1.2])
    peak = float(nmda_gate(torch.tensor(V_PEAK_MV), rule.mg_mM))
    rates = torch.cat([q, torch.zeros(4)]).double()  # the OFF units of positive features are quiet
    gained = rule.a_plus * peak * len(taught) * (rates * c_teacher - factor * slow)
    expected = teacher.reliability * (gained - rule.a_minus * rates * c_post)

    gated = rule.build()
    assert isinstance(gated, GatedSTDP)
    encoder = SpikeEncoder(encoding, schedule)
    means = []
    for block in range(40):
        sample = torch.arange(block * 100, (block + 1) * 100)
        z = (q * encoding.saturation_sd).double().expand(100, 4)
        pre = encoder(z, seed=3, stream=0, sample=sample)
        post = teaching_spikes(
            schedule, teacher, torch.ones(100, 1, dtype=torch.bool), 3, 5, sample
        )
        # a heavy average that this batch cannot move stands for the given <x>
        traces = (1e12 * slow, torch.tensor(1e12), *gated.start(pre[0], post[0])[2:])
        v_mV = torch.where(post > 0, V_PEAK_MV, V_REST_MV)
        seen = Signals(pre, post, v_mV, target=factor)
        change, _ = gated.presentation(torch.zeros(1, 8), traces, seen, encoding.dt)
        means.append(change[0].double() / 100)
    measured = torch.stack(means)
    error = measured.std(0) / math.sqrt(len(means))
    assert ((measured.mean(0) - expected).abs() < 4.5 * error + 1e-6).all()
    # the check can fail: leaving out depression is noticed, and the sign differs between contacts
    without = teacher.reliability * gained
    assert ((measured.mean(0) - without).abs() > 4.5 * error + 1e-6).any()
    assert expected.min() < 0 < expected.max()


def test_a_presentation_without_a_teacher_may_have_another_length() -> None:
    encoding = EncodingConfig(preset="fast", test_steps=5)
    taught, read = make_schedule(encoding, TeacherConfig()), reading_schedule(encoding)
    assert len(taught.volley) == 8
    assert read.volley.tolist() == [True, True, False, False, True]  # 2 of every 4 steps
    assert not read.teach.any()
    assert (encoding.duration_ms(teaching=True), encoding.duration_ms(teaching=False)) == (8.0, 5.0)
    # one step is enough to be read, not to be taught
    assert len(reading_schedule(EncodingConfig(preset="fast", test_steps=1)).volley) == 1
    with pytest.raises(ConfigError, match="test_steps"):
        EncodingConfig(test_steps=0)


FINE = EncodingConfig(
    code="latency", n_steps=10, dt_ms=1.0, max_rate_hz=1000.0, volley_ms=4.0, period_ms=5.0
)


def test_a_phase_counts_from_the_volley_s_start() -> None:
    for phase, steps in ((0.0, [0, 5]), (2.0, [2, 7]), (2.6, [3, 8]), (4.0, [4, 9])):
        schedule = make_schedule(FINE, TeacherConfig(phase_ms=phase))
        assert schedule.teach.shape == (10, 1)
        assert schedule.teach[:, 0].nonzero()[:, 0].tolist() == steps


def test_the_neurons_of_an_assembly_are_taught_in_turn() -> None:
    teacher = TeacherConfig(phase_ms=2.0, phase_spread_ms=2.0, reliability=1.0)
    schedule = make_schedule(FINE, teacher, 3)
    assert [column.nonzero()[:, 0].tolist() for column in schedule.teach.T] == [
        [0, 5],
        [2, 7],
        [4, 9],
    ]
    taught = torch.zeros(2, 6, dtype=torch.bool)  # two assemblies of three
    taught[0, :3] = taught[1, 3:] = True
    spikes = teaching_spikes(schedule, teacher, taught, 0, 3, torch.arange(2))
    expected = torch.zeros(10, 2, 6)
    for k, first in enumerate((0, 2, 4)):
        for t in (first, first + 5):
            expected[t, 0, k] = expected[t, 1, 3 + k] = 1.0
    assert torch.equal(spikes, expected)
    with pytest.raises(ValueError, match="n_post: 4 neurons are no assemblies of 3"):
        teaching_spikes(schedule, teacher, taught[:, :4], 0, 3, torch.arange(2))
    # one neuron has nobody to differ from
    assert torch.equal(make_schedule(FINE, teacher).teach[:, 0], schedule.teach[:, 1])


def test_a_phase_outside_its_period_is_refused() -> None:
    for phase, spread in ((5.0, 0.0), (1.0, 2.0), (4.0, 1.0)):
        teacher = TeacherConfig(phase_ms=phase, phase_spread_ms=spread)
        with pytest.raises(ConfigError, match=r"snn\.teacher\.phase_ms: .*stay in 0 to 4 ms"):
            make_schedule(FINE, teacher, 8)
    with pytest.raises(ConfigError, match=r"snn\.teacher\.phase_ms: 2.*lag_ms is given too"):
        TeacherConfig(phase_ms=2.0, lag_ms=1.0)


def test_jitter_moves_each_spike_by_a_normal_number_of_steps() -> None:
    n = 4000
    spikes = torch.zeros(40, n, 2)
    spikes[20, :, 0] = 1.0
    index = torch.arange(n)
    assert torch.equal(jitter_in_time(spikes, 0.0, 0, 4, index), spikes)
    moved = jitter_in_time(spikes, 3.0, 0, 4, index)
    assert torch.equal(moved.sum(0), spikes.sum(0))
    step = moved[:, :, 0].argmax(0).double()
    assert abs(float(step.mean()) - 20.0) < 5 * 3.0 / math.sqrt(n)
    # rounding to whole steps adds the variance 1/12
    assert abs(float(step.var()) - 9.0 - 1 / 12) < 5 * 9.0 * math.sqrt(2 / n)
    # beyond the end comes the start: in the limit any step is as likely
    wide = jitter_in_time(spikes, 400.0, 0, 4, index)[:, :, 0].mean(1)
    assert float((wide - 1 / 40).abs().max()) < 5 * math.sqrt(1 / 40 / n)
    order = index.flip(0)
    again = jitter_in_time(spikes[:, order], 3.0, 0, 4, order)
    assert torch.equal(again, moved[:, order])
