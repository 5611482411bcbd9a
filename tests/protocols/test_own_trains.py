"""Pairing with trains of one's own: against loops over spikes, from files and from arrays."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_artsy import cli, protocols
from snn_artsy.checks import ConfigError
from snn_artsy.protocols import own_trains, store
from snn_artsy.protocols.base import Session
from snn_artsy.protocols.parameters import parameters_of
from snn_artsy.rules import (
    CalciumRule,
    GatedSTDP,
    PairSTDP,
    Signals,
    TripletSTDP,
    VoltageSTDP,
    register,
)

DRAWN = np.random.default_rng(3)
# on a grid of 1 ms, so that some spikes coincide
PRE = [np.sort(DRAWN.choice(400, n, replace=False)).astype(float) for n in (30, 12)]
POST = [np.sort(DRAWN.choice(400, n, replace=False)).astype(float) for n in (25, 40, 1)]


def pairs(rule: PairSTDP, pre: list[float], post: list[float]) -> float:
    """Pair by pair."""
    change = 0.0
    for a in pre:
        for b in post:
            if b > a:
                change += rule.a_plus * math.exp(-(b - a) / rule.tau_plus_ms)
            if b < a:
                change -= rule.a_minus * math.exp(-(a - b) / rule.tau_minus_ms)
    return change


def triplets(rule: TripletSTDP, pre: list[float], post: list[float]) -> float:
    """Pair by pair and triplet by triplet."""
    change = 0.0
    for b in post:
        for a in (a for a in pre if a < b):
            third = sum(math.exp(-(b - c) / rule.tau_y_ms) for c in post if c < b)
            change += math.exp(-(b - a) / rule.tau_plus_ms) * (rule.a2_plus + rule.a3_plus * third)
    for a in pre:
        for b in (b for b in post if b < a):
            third = sum(math.exp(-(a - c) / rule.tau_x_ms) for c in pre if c < a)
            loss = rule.a2_minus + rule.a3_minus * third
            change -= math.exp(-(a - b) / rule.tau_minus_ms) * loss
    return change


@pytest.mark.parametrize(
    ("rule", "by_hand"),
    [
        (PairSTDP(a_minus=0.004, tau_minus_ms=33.0), pairs),
        (TripletSTDP(a2_plus=0.003, a3_minus=0.002), triplets),
    ],
)
def test_the_change_is_a_sum_over_spikes(rule: PairSTDP | TripletSTDP, by_hand: object) -> None:
    outcome = protocols.pairing(PRE, POST, rule=rule)
    assert sum(bool(np.isin(a, b).any()) for a in PRE for b in POST) >= 2
    expected = [[by_hand(rule, list(a), list(b)) for a in PRE] for b in POST]  # type: ignore[operator]
    np.testing.assert_allclose(outcome.data["change"].values, expected, rtol=1e-9)
    assert len(outcome.checks) == 6 and all(check.passed for check in outcome.checks)
    np.testing.assert_allclose([check.published for check in outcome.checks], np.ravel(expected))


def test_a_wrong_rule_misses_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    right = own_trains.expected_change

    def other(rule: PairSTDP, *trains: object) -> object:
        return right(replace(rule, tau_plus_ms=19.99), *trains)  # type: ignore[arg-type]

    monkeypatch.setattr(own_trains, "expected_change", other)
    outcome = protocols.pairing([10, 30], [20, 41])
    assert not outcome.checks[0].passed


def test_contacts_convert_when_their_occupancy_says_so() -> None:
    """Potentiation alone: 20 pairs 10 ms apart, each of .05 e^-.5 and what is left of earlier."""
    times = 1000.0 * np.arange(20)
    outcome = protocols.pairing(
        times, times + 10.0, pair={"a_plus": 0.05, "a_minus": 0.0}, consolidate_ms=2000.0
    )
    data = {name: column.values for name, column in outcome.data.items()}
    each = 0.05 * math.exp(-0.5)
    needed = math.ceil(0.5 / each)
    # at each spike, and at the end
    assert data["time_ms"][[0, 1, -2, -1]].tolist() == [0.0, 10.0, 19010.0, 19210.0]
    occupancy = data["occupancy"][:, 0, 0]
    np.testing.assert_allclose(occupancy[1:40:2], each * np.arange(1, 21), rtol=1e-9)
    assert len(occupancy) == 41 and occupancy[-1] == occupancy[-2]
    functional = 1000.0 * (needed - 1) + 10.0
    assert data["events/time_ms"].tolist() == [functional, functional + 2000.0]
    assert data["events/old"].tolist() == [0, 1] and data["events/new"].tolist() == [1, 2]
    assert data["state"][-1].item() == 2 and data["change"].item() == pytest.approx(20 * each)
    assert data["pre/0"].tolist() == times.tolist()


def test_occupancy_has_bounds_and_the_change_has_none() -> None:
    outcome = protocols.pairing([10.0], [0.0, 20.0], occupancy=1.0, pair={"a_plus": 0.5})
    assert outcome.data["occupancy"].values.max() == 1.0
    assert outcome.data["change"].values.item() == pytest.approx(0.49475 * math.exp(-0.5))
    assert outcome.data["state"].values[0].item() == 1


@pytest.mark.parametrize("name", ["voltage", "calcium", "gated"])
def test_other_rules_take_steps_and_say_that_no_sum_is_known(name: str) -> None:
    options = {"calcium": {"sigma": 0.5}, "voltage": {"delay_ms": 2.0}} | {"speed": 50.0}
    first, again, other = (
        protocols.pairing(PRE[:1], POST[:1], rule=name, seed=seed, **options)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    values = [outcome.data["occupancy"].values for outcome in (first, again, other)]
    assert np.array_equal(values[0], values[1]) and np.ptp(values[0]) > 0
    assert np.array_equal(values[0], values[2]) == (name != "calcium")  # which has noise
    assert len(first.data["time_ms"].values) == round(max(PRE[0][-1], POST[0][-1])) + 1 + 200
    (check,) = first.checks
    assert check.not_compared == f"no sum over spikes is known of the {name} rule"


def test_the_recorded_potential_is_what_the_voltage_rule_sees() -> None:
    """Against the rule's own steps, by hand."""
    v_mV = -70.0 + 30.0 * DRAWN.random(500)
    v_mV[[100, 101, 300]] = 20.0
    outcome = protocols.pairing([90.0, 310.0], [100.0, 300.0], v_mv=v_mV, rule="voltage")
    rule = VoltageSTDP(spike_ms=None)
    pre, post = torch.zeros(2, 500, 1, 1, dtype=torch.float64)
    pre[[90, 310]] = post[[100, 300]] = 1.0
    signals = Signals(pre, post, torch.from_numpy(v_mV)[:, None, None])
    w = torch.zeros(1, 1, dtype=torch.float64)
    traces, total = rule.start(pre[0], post[0]), 0.0
    for t in range(500):
        dw, traces = rule.step(w, traces, signals.at(t), 1.0)
        total += float(dw)
    assert outcome.data["change"].values.item() == pytest.approx(total, rel=1e-12)
    assert np.array_equal(outcome.data["v_mv"].values[:, 0], v_mV)
    without = protocols.pairing([90.0, 310.0], [100.0, 300.0], rule="voltage")
    assert without.data["change"].values.item() != pytest.approx(total, rel=1e-3)


def test_a_rule_may_be_given_as_it_is() -> None:
    for rule, found in (
        (TripletSTDP(a3_plus=0.01), {"rule": "triplet", "triplet": TripletSTDP(a3_plus=0.01)}),
        (CalciumRule(sigma=0.0), {"rule": "calcium", "calcium": CalciumRule(sigma=0.0)}),
        (GatedSTDP(PairSTDP(mu=0.1)), {"rule": "gated", "pair": PairSTDP(mu=0.1)}),
    ):
        parameters = protocols.pairing([1.0, 9.0], [5.0], rule=rule).parameters
        assert {name: getattr(parameters, name) for name in found} == found


def test_a_rule_of_ones_own() -> None:
    class Twice(PairSTDP):
        """Another class, of which no sum over spikes is known."""

    register("twice")(Twice)
    outcome = protocols.pairing([10.0], [20.0], rule="twice", parameters={"a_plus": 0.01})
    assert outcome.data["change"].values.item() == pytest.approx(0.01 * math.exp(-0.5))
    with pytest.raises(ConfigError, match=r"^parameters: .* do not fit twice"):
        protocols.pairing([10.0], [20.0], rule="twice", parameters={"b": 1.0})
    with pytest.raises(ConfigError, match=r"^rule: .*register its class"):
        protocols.pairing([10.0], [20.0], rule=GatedSTDP(TripletSTDP()))


# --- files ----------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["protocol", "pairing", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_files_give_what_arrays_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pre, post = tmp_path / "a.csv", tmp_path / "b.csv"
    pre.write_text("left,right\n10,5.5\n60,\n110.25,\n")
    post.write_text("20\n70\n119\n")
    given = ["--pre", str(pre), "--post", str(post), "--rule", "triplet", "--out", str(tmp_path)]
    assert run(*given) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "change by the rule, left to post 1" in shown and "right to" in shown
    columns, checks = store.read(tmp_path / "pairing.h5")
    outcome = protocols.pairing([[10, 60, 110.25], [5.5]], [20, 70, 119], rule="triplet")
    for name, column in outcome.data.items():
        assert np.array_equal(columns[name].values, column.values), name
    assert len(checks) == 2 and (tmp_path / "pairing.png").is_file()


def test_without_files_there_are_sixty_pairings() -> None:
    outcome = protocols.run("pairing", Session(seed=1))
    assert len(outcome.data["pre/0"].values) == len(outcome.data["post/0"].values) == 60
    assert all(check.passed for check in outcome.checks)
    assert outcome.parameters == parameters_of("pairing")()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10\n5\n", "pre: 5 after 10 ms in pre 1; give times in order, each once"),
        ("10\n10\n", "pre: 10 after 10 ms in pre 1; give"),
        ("one,two\n1,1\n2,-3\n", "pre: -3.0 cannot be used; in two: use finite times from 0 ms on"),
        ("1\nnan\n", "pre: nan cannot be used; in pre 1"),
        ("1\ninf\n", "pre: inf cannot be used; in pre 1"),
        ("1\n2 ms\n", "row 2, column 1: '2 ms' is no number; give numbers alone"),
        ("1,2\n,3\n5,\n", "row 3, column 1: the cell above is empty; leave no gaps"),
        ("", "is empty; give a column of numbers"),
        ("name\n", "pre: there is no spike in it; give at least one time (ms)"),
        (None, "no file"),
    ],
)
def test_what_is_no_train_is_one_line(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pre, post = tmp_path / "a.csv", tmp_path / "b.csv"
    post.write_text("20\n")
    if text is not None:
        pre.write_text(text)
    given = ["--pre", str(pre), "--post", str(post), "--out", str(tmp_path / "out")]
    assert run(*given) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("snn-artsy: pre: ") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pre_ms": [3, 2]}, "pre_ms: 2 after 3 ms in pre 1"),
        ({"post_ms": [[1, 2], [-1]]}, "post_ms: -1.0 cannot be used; in post 2"),
        ({"pre_ms": []}, "pre_ms: there is no spike in it"),
        ({"post_ms": []}, "post_ms: there is no spike in it"),
        ({"pre_ms": [], "v_mv": [-70.0] * 400, "rule": "voltage"}, "pre_ms: there is no spike"),
        ({"pre_ms": ["x"]}, "pre_ms: no such numbers"),
        ({"pre_ms": 3.0}, "pre_ms: no such numbers"),
        ({"pre": "a.csv"}, "pre: 'a.csv' cannot be used; give the times, as pre_ms"),
        ({"v_mv": [-70.0] * 30}, "v_mv: 'a potential' cannot be used; the pair rule knows"),
        ({"v_mv": [-70.0] * 3, "rule": "voltage"}, "v_mv: '3 steps of 1 neurons' cannot be used"),
        ({"v_mv": [-70.0, math.nan], "rule": "voltage"}, "v_mv: nan cannot be used; in row 2"),
        ({"rule": "gated", "dt_ms": 100.0}, "dt_ms: pre 1 has spikes at 10 and 30 ms"),
        ({"rule": "error"}, "rule: 'error' cannot be used; no train"),
        ({"rule": "stdp"}, "rule: 'stdp' cannot be used; choose from"),
        ({"theta_down": 0.7}, "theta_down: 0.7 cannot be used"),
        ({"parameters": {"a": 1.0}}, "parameters: {'a': 1.0} cannot be used"),
        ({"pair": {"tau_plus_ms": 0}}, "pair.tau_plus_ms: 0.0 cannot be used"),
        ({"occupancies": 1}, "occupancies: unknown key"),
    ],
)
def test_what_cannot_be_used_in_python(options: dict[str, object], message: str) -> None:
    given = {"pre_ms": [10, 30], "post_ms": [20, 40], **options}
    with pytest.raises(ConfigError) as refused:
        protocols.pairing(**given)  # type: ignore[arg-type]
    assert str(refused.value).startswith(message), refused.value


def test_a_silent_neuron_whose_potential_is_known_can_learn() -> None:
    """Depression at presynaptic spikes while it is depolarised below threshold (Artola, Brocher &
    Singer 1990), and none at rest; two neurons, each without a spike."""
    rest, depolarised = np.full(4000, -72.0), np.full(4000, -50.0)
    v_mV = np.stack([rest, depolarised], axis=1)
    outcome = protocols.pairing([50.0, 100.0], [[], []], v_mv=v_mV, rule="voltage", occupancy=0.5)
    change = outcome.data["change"].values[:, 0]
    assert change[0] == 0.0 and change[1] < 0.0
    alone = protocols.pairing([50.0, 100.0], [], v_mv=depolarised, rule="voltage", occupancy=0.5)
    assert alone.data["change"].values[0, 0] == change[1]


def test_a_file_may_be_without_a_spike_where_the_potential_is_given(tmp_path: Path) -> None:
    pre, post, v_mv = (tmp_path / f"{name}.csv" for name in ("pre", "post", "v"))
    pre.write_text("50\n100\n")
    post.write_text("cell\n")
    v_mv.write_text("-50\n" * 4000)
    given = own_trains.Parameters(
        pre=str(pre), post=str(post), v_mv=str(v_mv), rule="voltage", occupancy=0.5
    )
    outcome = own_trains.own_trains(Session(seed=0), given)
    assert outcome.data["change"].values[0, 0] < 0.0
    with pytest.raises(ConfigError, match="post: there is no spike"):
        own_trains.own_trains(Session(seed=0), replace(given, v_mv=None, rule="pair"))
