"""Magnesium block, silent-synapse pairing and minimal stimulation: published claims hold, and
wrong models are found out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_artsy.physiology import Receptors
from snn_artsy.protocols import minimal_stimulation as minimal
from snn_artsy.protocols import silent_synapse_pairing as pairing
from snn_artsy.protocols.base import Outcome, Session
from snn_artsy.protocols.mg_block import Parameters, current_voltage, mg_block


def block(v_mV: float, mg_mM: float = 1.0) -> float:
    return 1.0 / (1.0 + mg_mM / 3.57 * math.exp(-0.062 * v_mV))


PAIRED: list[pairing.Paired] = []  # what the protocol of pairing made of its contacts


@pytest.fixture(scope="module", params=[1993, pytest.param(7, marks=pytest.mark.slow)])
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    setting, pair = Session(seed=request.param), pairing.pair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "pair", lambda *given: (PAIRED.append(pair(*given)), PAIRED[-1])[1])
        return [
            mg_block(setting),
            minimal.minimal_stimulation(setting),
            pairing.silent_synapse_pairing(setting),
        ]


def test_every_check_passes_and_every_column_is_explained(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        assert [c.name for c in outcome.checks if not c.passed] == []
        assert all(len(c.values) and c.unit and c.meaning for c in outcome.data.values())
        assert outcome.figure.axes or outcome.figure.subfigs
    assert [len(o.checks) for o in outcomes] == [8, 5, 10]


# --- magnesium ------------------------------------------------------------------------------------


def test_current_voltage_is_the_closed_form() -> None:
    v_mV = np.array([-70.0, -25.0, 0.0, 40.0])
    found = current_voltage(v_mV, ampa=1.0)
    peak_ms = 200.0 / 98.0 * math.log(50.0)
    top = math.exp(-peak_ms / 100) - math.exp(-peak_ms / 2)
    for t, name in ((1.0, "early"), (50.0, "late")):
        nmda = (math.exp(-t / 100) - math.exp(-t / 2)) / top
        expected = [(0.5 * math.exp(-t / 2) + 0.075 * nmda * block(v)) * v for v in v_mV]
        np.testing.assert_allclose(found[name], expected, rtol=1e-10)


def test_without_magnesium_the_silent_contact_is_ohmic() -> None:
    v_mV = np.array([-70.0, 40.0])
    current = current_voltage(v_mV, 0.0, Parameters(receptors=Receptors(mg_mM=0.0)))["late"]
    assert current[0] / current[1] == pytest.approx(-70.0 / 40.0)


# --- pairing --------------------------------------------------------------------------------------


def test_pairing_is_that_of_default_runs(outcomes: list[Outcome]) -> None:
    """Occupancy against a loop over pairings with the values of the default configuration, and
    currents that follow states."""
    paired = PAIRED[-1]
    assert np.array_equal(paired.occupancy.numpy(), outcomes[-1].data["occupancy"].values)
    occupancy, state = paired.occupancy.numpy(), paired.state.numpy()
    names = [c.name for c in pairing.CONDITIONS]
    floor = block(-40.0)
    gate = (block(20.0) - floor) / (1.0 - floor)
    # the trace's mean over a window of 500 steps, its spike in the hundredth
    trace = sum(math.exp(-0.2 * k / 20.0) for k in range(1, 400)) / 500
    window, pause = math.exp(-100.0 / 20_000.0), math.exp(-900.0 / 20_000.0)
    a, slow, weight, n_released = 0.0, 0.0, 0.0, 0
    grew = np.diff(occupancy[:, 0], prepend=0.0) > 0.0
    for k, released in enumerate(grew):
        slow, weight = slow * window + released * trace * (1 - window), weight * window + 1 - window
        target = 1.2 * slow / weight
        a = max(a + 0.02 * gate * (released * math.exp(-5.0 / 20.0) - target), 0.0)
        slow, weight = slow * pause, weight * pause + 1 - pause
        n_released += released
        assert occupancy[k, 0] == pytest.approx(a, rel=1e-9)
    assert 45 <= n_released <= 75  # of 120 at 0.5
    # silent below theta_up, whatever receptors it has: 60 pairings don't convert it, 120 do
    assert np.array_equal(state[:, 0], occupancy[:, 0] >= 0.5)
    assert 0.2 < occupancy[59, 0] < 0.5 and state[59, 0] == 0 and state[-1, 0] == 1
    assert np.array_equal(paired.transmitted.numpy(), state > 0)
    for name in ("pre_only", "post_only", "apv", "no_release"):
        assert not occupancy[:, names.index(name)].any(), name
    assert (state[:, names.index("mature")] == 2).all()


def test_mistaken_experiments_fail_their_check() -> None:
    generator, p = torch.Generator().manual_seed(5), pairing.Parameters()
    silent, mature = pairing.CONDITIONS[0], pairing.CONDITIONS[-1]

    def taken(ampa: float, receptors: Receptors | None = None) -> pairing.Sweeps:
        return pairing.sweeps(p, silent, ampa, generator, receptors)

    quiet = pairing.sweeps(p, replace(silent, releases=False), 0.0, generator)
    good = {c.name: taken(c.ampa) for c in pairing.CONDITIONS} | {"no_release": quiet}
    after = good | {"pairing": taken(1.0)}

    def failures(
        before: dict[str, pairing.Sweeps], after: dict[str, pairing.Sweeps], in_apv: pairing.Sweeps
    ) -> list[str]:
        return [c.name for c in pairing.judge(p, before, after, in_apv) if not c.passed]

    blocked = taken(0.0, replace(Receptors(), g_nmda_nS=0.0))
    assert failures(good, after, blocked) == []
    leaking = failures(good | {"pairing": taken(0.1)}, after, blocked)
    assert leaking == ["silent, before: EPSC at -70 mV / mature"]
    assert failures(good, good, blocked) == ["silent, after pairing: EPSC at -70 mV / mature"]
    assert failures(good, after | {"apv": taken(1.0)}, blocked) == [
        "paired in APV, after: EPSC at -70 mV / mature"
    ]
    assert failures(good, after, taken(0.0)) == ["silent, in APV: EPSC at +40 mV"]
    weaker = after | {"mature": taken(0.5)}
    assert failures(good, weaker, blocked) == ["mature: EPSC at -70 mV after / before"]
    no_nmda = good | {"pairing": blocked}
    assert failures(no_nmda, after, blocked) == ["silent, before: EPSC at +40 mV"]
    assert mature.ampa == 1.0


# --- minimal stimulation --------------------------------------------------------------------------


def test_failures_follow_the_binomial_of_the_contacts() -> None:
    found = minimal.estimate(0.5, torch.Generator().manual_seed(11))
    for v_mV, n_seen in ((-70, 2), (40, 4)):
        expected = 0.7**n_seen
        spread = math.sqrt(expected * (1 - expected) / 1000)
        assert abs(found.rate(v_mV) - expected) < 4 * spread


def test_standard_error_is_that_of_repeated_experiments() -> None:
    """Against Monte Carlo of binomial failures, not through the cell."""
    draws = np.random.default_rng(0)
    f70, f40 = 0.7**2, 0.7**4
    shares = 1 - np.log(draws.binomial(1000, f70, 4000) / 1000) / np.log(
        draws.binomial(1000, f40, 4000) / 1000
    )
    failures = {
        -70: (np.arange(1000) < 1000 * f70).astype(float),
        40: (np.arange(1000) < 1000 * f40).astype(float),
    }
    formula = minimal.Estimate({}, failures).standard_error
    assert formula == pytest.approx(float(shares.std()), rel=0.05)
