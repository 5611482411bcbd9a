"""Kinetics, currents and membranes against closed forms and an ODE solver; the mapping."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from snn_artsy.checks import ConfigError
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Signals
from snn_artsy.rules.nmda import V_PEAK_MV
from snn_artsy.synapses.conductance import (
    clamp_current,
    contact_weight,
    in_thresholds,
    inhibition_ratio,
    injected_pA,
    integrate,
    released,
)
from snn_artsy.synapses.receptors import membrane_mV

R, M = Receptors(), Membrane()


def event(n_steps: int, at: int = 0, size: float = 1.0) -> torch.Tensor:
    pulse = torch.zeros(n_steps, 1, 1, dtype=torch.float64)
    pulse[at] = size
    return pulse


def block(v_mV: float, mg_mM: float = 1.0) -> float:
    return 1.0 / (1.0 + mg_mM / 3.57 * math.exp(-0.062 * v_mV))


@pytest.mark.parametrize("dt_ms", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("v_mV", [-70.0, -20.0, 40.0])
def test_clamped_current_is_the_closed_form(dt_ms: float, v_mV: float) -> None:
    n = round(200 / dt_ms)
    measured = clamp_current(event(n), event(n), v_mV, R, dt_ms)[:, 0, 0].numpy()
    t = np.arange(n) * dt_ms
    peak_ms = 200.0 / 98.0 * math.log(50.0)
    shape = (np.exp(-t / 100) - np.exp(-t / 2)) / (
        math.exp(-peak_ms / 100) - math.exp(-peak_ms / 2)
    )
    expected = (0.5 * np.exp(-t / 2) + 0.075 * shape * block(v_mV)) * v_mV
    np.testing.assert_allclose(measured, expected, rtol=1e-10, atol=1e-12)


def test_nmda_peaks_at_one_where_theory_says() -> None:
    fine = clamp_current(event(2000), event(2000), 40.0, replace(R, g_ampa_nS=0.0), 0.01)[:, 0, 0]
    peak_ms = 200.0 / 98.0 * math.log(50.0)
    assert float(fine.argmax()) * 0.01 == pytest.approx(peak_ms, abs=0.006)
    assert float(fine.max()) == pytest.approx(0.075 * 40.0 * block(40.0), rel=1e-6)


def test_currents_reverse_at_zero_and_mature_is_inward_below() -> None:
    for v_mV, sign in ((-30.0, -1.0), (0.0, 0.0), (30.0, 1.0)):
        current = clamp_current(event(50), event(50), v_mV, R, 1.0)
        assert set(torch.sign(current[1:]).flatten().tolist()) == {sign}


@pytest.mark.parametrize("dt_ms", [0.05, 0.5])
def test_free_membrane_follows_an_ode_solver(dt_ms: float) -> None:
    n, size, peak = round(60 / dt_ms), 12.0, R.nmda_peak

    def slope(t: float, y: np.ndarray) -> list[float]:
        ampa = 0.5 * size * math.exp(-t / 2)
        nmda = 0.075 * size * (math.exp(-t / 100) - math.exp(-t / 2)) / peak
        gaba = 0.5 * 3.0 * math.exp(-t / 2)
        current = 10.0 * (-70.0 - y[0]) - (ampa + nmda * block(y[0])) * y[0]
        return [(current + gaba * (-80.0 - y[0]) + 20.0) / 200.0]

    t = (np.arange(n) + 1) * dt_ms
    exact = solve_ivp(slope, (0, 60), [-70.0], t_eval=t, rtol=1e-9, atol=1e-9, max_step=0.1).y[0]
    pulse = event(n, size=size)
    found = integrate(pulse, pulse, event(n, size=3.0), torch.full_like(pulse, 20.0), M, R, dt_ms)
    assert found.spikes.sum() == 0 and exact.max() > -68.0
    np.testing.assert_allclose(found.v_mV[:, 0, 0].numpy(), exact, atol=0.3 * dt_ms)


def test_threshold_current_and_refractoriness() -> None:
    # a constant current: T = tau ln(I R / (I R - 20 mV))
    current = torch.full((2000, 1, 1), 300.0, dtype=torch.float64)
    still = torch.zeros_like(current)
    period = 20.0 * math.log(30.0 / 10.0)
    times = integrate(still, still, None, current, M, R, 0.1).spikes[:, 0, 0].nonzero()[:, 0] * 0.1
    np.testing.assert_allclose(np.diff(times.numpy()), period, atol=0.11)
    slower = integrate(still, still, None, current, replace(M, refractory_ms=5.0), R, 0.1)
    gaps = np.diff(slower.spikes[:, 0, 0].nonzero()[:, 0].numpy() * 0.1)
    np.testing.assert_allclose(gaps, period + 5.0, atol=0.21)
    below = integrate(still, still, None, current * 0.6, M, R, 0.1)
    assert below.spikes.sum() == 0


def test_release_fails_as_often_as_configured_and_each_contact_by_itself() -> None:
    pre = torch.ones(200, 10, 5)
    out = released(pre, 0.3, torch.Generator().manual_seed(7))
    assert abs(float(out.mean()) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 10_000)
    rows = out.flatten(0, 1)
    assert abs(float(torch.corrcoef(rows.T)[0, 1])) < 0.1
    assert released(pre, 0.0, torch.Generator()).sum() == 0


# --- the mapping ----------------------------------------------------------------------------------


def test_mapping_conserves_charge() -> None:
    # 0.5 nS * 2 ms * 60 mV = 60 fC, over 200 pF * 20 mV = 4,000 fC
    assert contact_weight(R, M) == pytest.approx(60.0 / 4000.0)
    # halfway, -60 mV: 60 mV of drive out, 20 mV of drive in
    assert inhibition_ratio(R, M) == pytest.approx(3.0)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    jump = integrate(0 * one, 0 * one, None, injected_pA(0.5 * one, M, 0.01), M, R, 0.01)
    assert float(in_thresholds(jump.v_mV, M)) == pytest.approx(0.5, rel=1e-3)


def conversions(dt_ms: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether a silent contact converts, [frequencies, volley sizes, repetitions]: of conductances,
    of currents, and of currents by a falsified mapping.

    Each pairing: the silent contact's afferent 5 ms before a volley over mature contacts, which
    alone has to make the neuron fire. Each frequency with each volley size is an image of the
    batch.
    """
    rule = GatedSTDP(PairSTDP(a_plus=0.1, a_minus=0.02), Gating(target=0.0))
    repetitions, frequencies = (1, 3, 6, 9, 12, 20), (1.0, 5.0, 10.0, 20.0, 40.0)
    volleys = torch.tensor([30, 50, 60, 80, 90, 110, 150], dtype=torch.float64)
    periods = [round(1000.0 / frequency / dt_ms) for frequency in frequencies]
    # pairings so far apart do not meet: additive, one is enough
    apart = [frequency <= 5 for frequency in frequencies]
    ends = [
        [round(200 / dt_ms)] if alone else [period * r for r in repetitions]
        for period, alone in zip(periods, apart, strict=True)
    ]
    n = max(map(max, ends))
    silent, mature = torch.zeros(2, n, len(frequencies), len(volleys), dtype=torch.float64)
    for f, (period, alone) in enumerate(zip(periods, apart, strict=True)):
        for k in range(1 if alone else max(repetitions)):
            silent[k * period, f] = 1.0
            mature[k * period + round(5 / dt_ms), f] = volleys
    silent, mature = (x.reshape(n, -1, 1) for x in (silent, mature))

    path = integrate(mature, mature + silent, None, None, M, R, dt_ms)
    v_mV = torch.where(path.spikes > 0, torch.full_like(path.v_mV, V_PEAK_MV), path.v_mV)
    scales = torch.tensor([1.0, 0.5], dtype=torch.float64)[:, None, None]
    weight = contact_weight(R, M) * scales
    v, fired, potentials = torch.zeros_like(weight * mature[0]), [], []
    for t in range(n):
        v = v * math.exp(-dt_ms / M.tau_m_ms) + weight * mature[t]
        fired.append((v >= 1.0).double())
        potentials.append(v)
        v = v - fired[-1] * v  # reset to rest, as the membrane in mV
    of_current, ones = torch.stack(fired), torch.ones(1, dtype=torch.float64)
    of_current_mV = membrane_mV(torch.stack(potentials), ones, of_current)

    # the three of them side by side
    spikes = torch.cat((path.spikes, *of_current.unbind(1)), 1)
    v_mV = torch.cat((v_mV, *of_current_mV.unbind(1)), 1)
    pre = torch.cat((silent,) * 3, 1)
    w = torch.zeros(pre.shape[1], 1, 1, dtype=torch.float64)
    traces, after = rule.start(pre[0], spikes[0], private=True), []
    for t in range(n):
        change, traces = rule.step(w, traces, Signals(pre[t], spikes[t], v_mV[t]), dt_ms)
        w = (w + change).clamp(0, 1)
        after.append(w.reshape(3, len(frequencies), len(volleys)))
    found = []
    for f, (alone, times) in enumerate(zip(apart, ends, strict=True)):
        occupancy = [after[end - 1][:, f] for end in times]
        if alone:
            occupancy = [(occupancy[0] * r).clamp_max(1.0) for r in repetitions]
        found.append(torch.stack(occupancy, -1) >= 0.5)
    conductance, current, falsified = torch.stack(found, 1)
    return conductance, current, falsified


def test_conversion_decisions_agree_between_the_fidelities() -> None:
    agree, converted, misled = [], [], []
    for dt_ms in (0.5, 1.0, 2.5):
        conductance, current, falsified = conversions(dt_ms)
        agree.append((current == conductance).float().mean())
        misled.append((falsified == conductance).float().mean())
        converted.append(conductance.float().mean())
    assert 0.1 < float(np.mean(converted)) < 0.9
    assert float(np.mean(agree)) >= 0.95
    assert float(np.mean(misled)) < 0.95  # the wrong mapping is found out


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: Receptors(g_ampa_nS=-1.0), "receptors.g_ampa_nS"),
        (lambda: Receptors(tau_nmda_rise_ms=100.0), "receptors.tau_nmda_rise_ms"),
        (lambda: Receptors(e_gaba_mV=10.0), "receptors.e_gaba_mV"),
        (lambda: Membrane(v_rest_mV=-40.0), "membrane.v_rest_mV"),
        (lambda: Membrane(tau_m_ms=0.0), "membrane.tau_m_ms"),
    ],
)
def test_bad_parameters_are_named(build: object, key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        build()  # type: ignore[operator]
