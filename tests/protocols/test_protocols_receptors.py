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
from snn_artsy.protocols.mg_block import current_voltage, mg_block
from snn_artsy.protocols.recording_cell import Rig


def block(v_mV: float, mg_mM: float = 1.0) -> float:
    return 1.0 / (1.0 + mg_mM / 3.57 * math.exp(-0.062 * v_mV))


@pytest.fixture(scope="module", params=[1993, 7])
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    setting = Session(seed=request.param)
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
    current = current_voltage(v_mV, 0.0, Receptors(mg_mM=0.0))["late"]
    assert current[0] / current[1] == pytest.approx(-70.0 / 40.0)


# --- pairing --------------------------------------------------------------------------------------


def test_each_release_adds_what_the_rule_says_for_5_ms() -> None:
    generator = torch.Generator().manual_seed(3)
    occupancy = pairing.pair(pairing.CONDITIONS, generator).numpy()
    names = [c.name for c in pairing.CONDITIONS]
    steps = np.diff(occupancy[:, names.index("pairing")], prepend=0.0)
    floor = block(-40.0)
    one = 0.1 * math.exp(-5.0 / 20.0) * (block(20.0) - floor) / (1.0 - floor)
    grown = steps[(steps > 0) & (occupancy[:, 0] < 1.0)]
    assert 8 <= len(grown) <= 15
    np.testing.assert_allclose(grown, one, rtol=1e-9)
    for name in ("pre_only", "post_only", "apv", "no_release"):
        assert not occupancy[:, names.index(name)].any(), name
    assert (occupancy[:, names.index("mature")] == 1.0).all()


def test_mistaken_experiments_fail_their_check() -> None:
    generator, rig = torch.Generator().manual_seed(5), Rig()
    silent, mature = pairing.CONDITIONS[0], pairing.CONDITIONS[-1]

    def taken(ampa: float, receptors: Receptors | None = None) -> pairing.Sweeps:
        return pairing.sweeps(rig, silent, ampa, generator, receptors)

    quiet = pairing.sweeps(rig, replace(silent, p_release=0.0), 0.0, generator)
    good = {c.name: taken(c.ampa) for c in pairing.CONDITIONS} | {"no_release": quiet}
    after = good | {"pairing": taken(1.0)}

    def failures(
        before: dict[str, pairing.Sweeps], after: dict[str, pairing.Sweeps], in_apv: pairing.Sweeps
    ) -> list[str]:
        return [c.name for c in pairing.judge(rig, before, after, in_apv) if not c.passed]

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
    formula = minimal.Estimate({}, failures, {}).standard_error
    assert formula == pytest.approx(float(shares.std()), rel=0.05)
