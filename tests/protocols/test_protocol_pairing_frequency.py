"""The pairing-frequency protocol: its checks pass, wrong models fail, NEST agrees."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.pairing_frequency import (
    ERROR,
    FREQUENCY_HZ,
    LAG_MS,
    MEASURED,
    NEST_HZ,
    NEST_PERCENT,
    Parameters,
    fit_pair,
    pairing_frequency,
    pairings,
    published_voltage,
    voltage_pairings,
    voltage_signals,
    voltage_train,
    weighted_error,
)
from snn_artsy.rules import PairSTDP, TripletSTDP

NEURON = Parameters().adex


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return pairing_frequency(Session())


def test_every_check_passes(outcome: Outcome) -> None:
    assert len(outcome.checks) == 9
    assert [c.name for c in outcome.checks if not c.passed] == []
    assert sum(c.name.startswith("wrong model fails") for c in outcome.checks) == 2
    # NEST's numbers; the bounds of E are ours
    assert {c.source for c in outcome.checks if c.independent} == {
        "NEST test suite, after Clopath et al. 2010"
    }
    assert sum(c.independent for c in outcome.checks) == 6


def test_errors_are_the_known_ones(outcome: Outcome) -> None:
    by_name = {c.name: c.measured for c in outcome.checks}
    assert by_name["error E of the triplet rule"] == pytest.approx(0.356, abs=0.001)
    assert by_name["wrong model fails: E of the pair rule, amplitudes fitted"] == pytest.approx(
        7.58, abs=0.01
    )


def test_voltage_rule_is_within_half_a_point_of_nest_s_test(outcome: Outcome) -> None:
    ours = np.stack([outcome.data[f"voltage/weight_{x}_10_ms"].values for x in ("plus", "minus")])
    assert np.abs(ours - NEST_PERCENT).max() < 0.5


def test_data_and_figure_are_complete(outcome: Outcome) -> None:
    assert all(c.unit and c.meaning for c in outcome.data.values())
    assert all(len(c.values) == 5 for k, c in outcome.data.items() if "change" in k)
    assert len(outcome.figure.axes) == 2
    for axes in outcome.figure.axes:
        labels = set(axes.get_legend_handles_labels()[1])
        assert {"triplet", "voltage, AdEx neuron", "Sjöström et al. 2001"} <= labels


def pairs_by_hand(rule: Any, hz: float, lag: float) -> float:
    """All pairs and triplets of 60 pairings, looked up one by one."""
    first = [1000.0 / hz * k for k in range(60)]
    second = [t + abs(lag) for t in first]
    pre, post = (first, second) if lag > 0 else (second, first)
    change = 0.0

    def trace(train: list[float], now: float, tau: float) -> float:
        return sum(math.exp(-(now - t) / tau) for t in train if t < now - 1e-6)

    for t in post:
        amplitude = (
            rule.a3_plus * trace(post, t, rule.tau_y_ms)
            if isinstance(rule, TripletSTDP)
            else rule.a_plus
        )
        change += amplitude * trace(pre, t, rule.tau_plus_ms)
    for t in pre:
        amplitude = rule.a2_minus if isinstance(rule, TripletSTDP) else rule.a_minus
        change -= amplitude * trace(post, t, rule.tau_minus_ms)
    return change


@pytest.mark.parametrize("rule", [TripletSTDP(), PairSTDP()])
def test_pairings_are_sums_over_all_pairs(rule: Any) -> None:
    expected = [[pairs_by_hand(rule, hz, lag) for hz in FREQUENCY_HZ] for lag in LAG_MS]
    np.testing.assert_allclose(pairings(rule), expected, rtol=1e-9, atol=1e-12)


def test_the_fit_is_the_best_and_the_rule_confirms_its_error() -> None:
    fit = fit_pair(np.array([16.8]), np.array([33.7]))
    assert weighted_error(pairings(fit.rule)) == pytest.approx(fit.error, rel=1e-9)
    for name in ("a_plus", "a_minus"):
        for factor in (0.9, 1.1):
            other = replace(fit.rule, **{name: factor * getattr(fit.rule, name)})
            assert weighted_error(pairings(other)) > fit.error
    # on the grid: no worse than any of its points alone
    taus = np.array([10.0, 30.0, 100.0])
    alone = [fit_pair(taus[i : i + 1], taus[j : j + 1]).error for i in range(3) for j in range(3)]
    assert fit_pair(taus, taus).error == pytest.approx(min(alone), rel=1e-12)


def test_wrong_models_fail() -> None:
    assert weighted_error(MEASURED) == 0.0
    assert weighted_error(MEASURED + ERROR) == pytest.approx(1.0)
    assert weighted_error(MEASURED[::-1]) > 2.5
    for wrong in (
        TripletSTDP(a2_plus=5e-3, a3_plus=0.0),
        TripletSTDP(tau_y_ms=30.0),
        TripletSTDP(pairing="nearest"),
        PairSTDP(),
    ):
        assert weighted_error(pairings(wrong)) > 0.4, wrong


def test_the_voltage_rule_without_its_delay_misses_nest_s_numbers() -> None:
    rule = published_voltage()
    for wrong in (replace(rule, delay_ms=0.0), replace(rule, a_ltp=0.8 * rule.a_ltp)):
        weight = 100 + 100 * voltage_pairings(Parameters(voltage=wrong), NEST_HZ[2:])
        assert np.abs(weight - NEST_PERCENT[:, 2:]).max() > 5.0


def test_nest_s_neuron_and_synapse_agree() -> None:
    """Potential and weight of NEST itself, at 50 Hz, both timings."""
    nest = pytest.importorskip("nest")
    rule, dt = published_voltage(), 0.1
    trains = [voltage_train(50.0, lag) for lag in LAG_MS]
    v_mV = voltage_signals(Parameters(), trains).v_mV[:, :, 0].numpy()
    weight = 100 + 100 * voltage_pairings(Parameters(), np.array([50.0]))[:, 0]
    for b, (pre_ms, post_ms) in enumerate(trains):
        nest.ResetKernel()
        nest.verbosity = nest.VerbosityLevel.ERROR
        nest.resolution = dt
        neuron = nest.Create(
            "aeif_psc_delta_clopath",
            params={
                "V_m": NEURON.e_l_mV, "E_L": NEURON.e_l_mV, "C_m": NEURON.c_pF,
                "g_L": NEURON.g_l_nS, "a": NEURON.a_nS, "b": NEURON.b_pA, "t_ref": 0.0,
                "V_reset": NEURON.v_reset_mV,
                "V_th_max": NEURON.v_t_max_mV, "I_sp": NEURON.i_sp_pA,
                "t_clamp": NEURON.t_clamp_ms,
                "A_LTD": rule.a_ltd, "A_LTP": rule.a_ltp, "delay_u_bars": rule.delay_ms,
                "theta_minus": rule.theta_minus_mV, "theta_plus": rule.theta_plus_mV,
                "tau_u_bar_minus": rule.tau_minus_ms, "tau_u_bar_plus": rule.tau_plus_ms,
            },
        )  # fmt: skip
        parrot = nest.Create("parrot_neuron")
        sources = [
            nest.Create("spike_generator", params={"spike_times": np.round(t, 1)})
            for t in (pre_ms, post_ms)
        ]
        meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": dt})
        nest.Connect(meter, neuron)
        nest.Connect(sources[0], parrot, syn_spec={"delay": dt})
        nest.Connect(sources[1], neuron, syn_spec={"delay": dt, "weight": 80.0})
        synapse = {
            "synapse_model": "clopath_synapse", "weight": 0.5, "delay": dt, "tau_x": rule.tau_x_ms
        }  # fmt: skip
        nest.Connect(parrot, neuron, syn_spec=synapse)
        nest.Simulate(max(*pre_ms, *post_ms) + 10.0)
        after = nest.GetConnections(parrot, neuron).weight
        assert weight[b] == pytest.approx(100 + 100 * 15 * (after - 0.5) / 0.5, abs=0.5)
        events = meter.events
        at = np.round(events["times"] / dt).astype(int)
        difference = np.abs(events["V_m"] - v_mV[at, b])
        assert len(at) > 900 and np.mean(difference < 0.05) > 0.98
