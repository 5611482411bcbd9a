"""Parameters of protocols: on the command line, in a file and in Python; what is refused; which
published values are compared with what."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from snn_artsy import cli, protocols
from snn_artsy.checks import ConfigError
from snn_artsy.config_builder import build, keys_of, section_of, type_of
from snn_artsy.config_sources import layered
from snn_artsy.options import descriptions
from snn_artsy.protocols import store
from snn_artsy.protocols.base import Check, Column, Outcome, Session, unlike_published
from snn_artsy.protocols.parameters import OF_ALL, parameters_of
from snn_artsy.registry import PROTOCOLS

BUILT_IN = [name for name in PROTOCOLS if not PROTOCOLS.origin(name)]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["protocol", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def recorded(file: Path) -> dict[str, object]:
    with h5py.File(file) as source:
        return dict(json.loads(source.attrs["parameters"]))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_parameter_is_explained_and_listed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cls = parameters_of(name)
    told = descriptions(cls)
    own = set(asdict(cls()))
    assert own and own <= set(told) and told[""]
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert run(name, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for key in keys_of(cls):
        assert section_of(type_of(cls, key)) or f"--{key} " in shown, key


def test_help_shows_the_defaults_of_this_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    """Which are not always those of a rule by itself."""
    assert run("bimodal-weights", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Of each (Hz). (default: 15.0)" in shown
    assert "--pair.a_plus X a number (default: 0.01)" in shown


def test_three_ways_to_set_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is typed beats the file, key by key; sections keep what is left out."""
    file = tmp_path / "mine.yaml"
    file.write_text("n_pairs: 3\nlargest_lag_ms: 20\npair: {a_plus: 0.02, tau_plus_ms: 15}\n")
    typed = ["--n_pairs", "2", "--pair.a_plus=1e-2"]
    assert run("stdp-window", "--config", str(file), *typed, "--out", str(tmp_path)) == 0
    outcome = protocols.run(
        "stdp-window", n_pairs=2, largest_lag_ms=20, pair={"a_plus": 0.01, "tau_plus_ms": 15}
    )
    found = recorded(tmp_path / "stdp_window.h5")
    assert found == json.loads(json.dumps(asdict(outcome.parameters)))
    assert (found["n_pairs"], found["period_ms"]) == (2, 1000.0)
    assert found["pair"]["a_minus"] == 0.00525  # type: ignore[index]
    columns, checks = store.read(tmp_path / "stdp_window.h5")
    assert np.array_equal(columns["pair/change"].values, outcome.data["pair/change"].values)
    # what is expected follows the parameters
    tau = next(c for c in checks if c.name == "tau_plus of the pair window")
    assert tau.published == 15.0 and tau.passed
    capsys.readouterr()
    assert run("stdp-window", "--config", str(file), "--print_config") == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert run("stdp-window", "--config", str(again), "--print_config") == 0
    assert capsys.readouterr().out == again.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["lead-lag", "--n_input", "3"],
            "n_input: unknown key (value '3'); did you mean n_inputs?",
        ),
        (["lead-lag", "--n_inputs", "0"], "n_inputs: 0 cannot be used; use 1 to 100,000"),
        (["lead-lag", "--n_inputs", "1.5"], "n_inputs: '1.5' cannot be used; give an integer"),
        (["lead-lag", "--early_volleys", "200"], "early_volleys: 200 cannot be used; use 1 to 120"),
        (["lead-lag", "--period_ms", "50"], "period_ms: 50.0 cannot be used; use 56 to 100000 ms"),
        (["lead-lag", "--pair.tau_plus_ms", "-1"], "pair.tau_plus_ms: -1.0 cannot be used"),
        (["lead-lag", "--gating.insertion", "bernoulli"], "gating.insertion: 'bernoulli' cannot"),
        (["nmda-gate", "--neighbours", "0,3,9"], "neighbours: (0, 3, 9) cannot be used"),
        (["nmda-gate", "--together_ms", "16,10"], "together_ms: (16.0, 10.0) cannot be used"),
        (["mg-block", "--highest_mV", "30"], "highest_mV: 30 cannot be used; use 40 to 200 mV"),
        (["mg-block", "--receptors.mg_mM", "nan"], "receptors.mg_mM: nan cannot be used"),
        (["bimodal-weights", "--v_threshold_mV", "-80"], "v_threshold_mV: -80.0 cannot be used"),
        (["bimodal-weights", "--dt_ms", "0.7"], "dt_ms: 0.7 cannot be used"),
        (["calcium-window", "--rate_hz", "5"], "rate_hz: 5.0 cannot be used; use 1e-06 to 3.1"),
        (["stdp-window", "--triplet.pairing", "nearest"], "triplet.pairing: 'nearest' cannot"),
        (["stdp-window", "--mg_mM", "0"], "mg_mM: 0.0 cannot be used; use 0.2 to 100 mM"),
        (["pairing-frequency", "--voltage.delay_ms", "0.01"], "voltage.delay_ms: 0.01 cannot"),
        (["minimal-stimulation", "--shares", "0.3"], "shares: 0.3 cannot be used"),
        (["minimal-stimulation", "--n_contacts", "40"], "p_release: 0.3 cannot be used; too few"),
        (["silent-synapse-pairing", "--receptors.mg_mM", "2"], "receptors.mg_mM: 2.0 cannot be"),
        (["silent-synapse-pairing", "--nmda_ms", "60,80"], "nmda_ms: (60.0, 80.0) cannot be used"),
        (["retention", "--n_tasks", "3"], "n_tasks: 3 cannot be used; use 2 or 5"),
        (["lesion", "--shares", "0,0.5"], "shares: (0.0, 0.5) cannot be used"),
        (["pharmacology", "--open_nmda", "2"], "open_nmda: 2.0 cannot be used; use 0 to 1"),
        (["all", "--n_inputs", "3"], "n_inputs: unknown key"),
        (["lead-lag", "--config", "no.yaml"], 'config: no file "no.yaml" here'),
        (["leadlag", "--n_inputs", "3"], "protocol: 'leadlag' cannot be used; choose from"),
        (["--n_inputs", "3"], "n_inputs: unknown key"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_cannot_be_used_is_one_line_before_anything_runs(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("snn_artsy.protocols.run_all.perform", None)
    assert run(*arguments, "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"snn-artsy: {message}") and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()


def test_the_name_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--n_inputs", "3", "lead-lag"],
        ["--seed=4", "lead-lag", "--n_inputs=3"],
        ["--overwrite", "lead-lag", "--n_inputs", "3"],
        ["--out", "lesion", "--n_inputs", "3", "lead-lag"],
    ):
        assert run(*words, "--print_config") == 0, words
        assert capsys.readouterr().out.startswith("n_inputs: 3\n")


def test_in_python_the_session_has_its_own() -> None:
    outcome = protocols.run("mg-block", Session(seed=4), mg_mM=[1, 0.5], highest_mV="50", seed=3)
    assert outcome.parameters == replace(
        parameters_of("mg-block")(), mg_mM=(1.0, 0.5), highest_mV=50
    )
    assert "block/mg_0.5_mM" in outcome.data and len(outcome.data["v_mV"].values) == 151
    for options, message in (
        ({"mg": 1}, "^mg: unknown key"),
        ({"seed": -1}, "^seed: -1"),
        ({"receptors": {"tau_ampa_ms": 0}}, "^receptors.tau_ampa_ms: 0"),
        ({"receptors.tau_ampa_ms": 0}, "^receptors.tau_ampa_ms: 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            protocols.run("mg-block", **options)


# --- published values -----------------------------------------------------------------------------


def test_a_published_value_is_not_compared_with_another_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--receptors.e_rev_mV", "5", "--out", str(tmp_path)]
    assert run("mg-block", *more) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not compared: e_rev_mV differs from the" in shown and "FAIL" not in shown
    rows = json.loads((tmp_path / "protocols.json").read_text())
    apart = [row for row in rows if row["not_compared"]]
    assert [row["pass"] for row in apart] == [None] and len(rows) == 8
    assert apart[0]["measured"] != pytest.approx(apart[0]["published"], abs=0.1)


@pytest.mark.parametrize(
    ("name", "options", "n_apart"),
    [
        ("pairing-frequency", {"n_pairings": 30}, 3),
        ("pairing-frequency", {"voltage.a_ltp": 1e-5}, 6),
        ("calcium-window", {"n_pairs": 3, "contacts": 100, "lags_ms": [5]}, 4),
    ],
)
def test_which_published_values_depend_on_what(
    name: str, options: dict[str, object], n_apart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "snn_artsy.protocols.pairing_frequency"  # what takes long in it
    monkeypatch.setattr(f"{module}.voltage_pairings", lambda *_: np.zeros((2, 6)))
    monkeypatch.setattr(f"{module}.pairings", lambda *_: np.zeros((2, 5)))
    outcome = protocols.run(name, **options)
    apart = [check for check in outcome.checks if check.not_compared]
    assert len(apart) == n_apart
    changed = next(iter(options)).split(".")[0]
    assert all(check.not_compared.startswith(changed) for check in apart)
    # what is computed is compared all the same
    assert all(c.passed for c in outcome.checks if "simulated" in c.name)


def test_brian2_s_share_is_that_of_its_own_example() -> None:
    for options, reason in (
        ({"duration_s": 1}, "1 s were simulated"),
        ({"duration_s": 100}, "n_inputs, rate_hz differ from the published"),
    ):
        few = {"n_inputs": 5, "dt_ms": 1000.0, "rate_hz": 1.0, "control_s": 1}
        outcome = protocols.run("bimodal-weights", **few, **options)
        (apart,) = (c for c in outcome.checks if c.independent)
        assert apart.not_compared == reason and apart.passed


@dataclass(frozen=True)
class Few:
    """For a test."""

    one: int = 1
    two: float = 2.0


def test_the_reason_names_what_differs() -> None:
    assert unlike_published(Few(), "one", "two") == ""
    assert unlike_published(Few(one=2), "one", "two") == "one differs from the published"
    assert unlike_published(Few(2, 3.0), "one", "two") == "one, two differ from the published"
    assert unlike_published(Few(2, 3.0), "two") == "two differs from the published"
    assert not Check("a", 1.0, 2.0, 0.0, "s").passed
    assert Check("a", 1.0, 2.0, 0.0, "s", not_compared="why").passed


# --- of a protocol of one's own -------------------------------------------------------------------


def counted(session: Session, given: Few) -> Outcome:
    check = Check("one", given.one, 1.0, 0.0, "here")
    return Outcome("counted", (check,), {"x": Column(np.arange(given.one), "--", "x")}, Figure())


def test_a_protocol_of_ones_own_has_parameters_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocols.register("counted", label="what I count", config=Few)(counted)
    assert run("counted", "--one", "2", "--out", str(tmp_path)) == 3
    assert recorded(tmp_path / "counted.h5") == {"one": 2, "two": 2.0}
    assert protocols.run("counted").parameters == Few()
    assert run("counted", "--two", "x", "--out", str(tmp_path)) == 2
    assert "two: 'x' cannot be used; give a number" in capsys.readouterr().err
    assert run("counted", "--help") == 0
    assert "what I count" in capsys.readouterr().out


@pytest.mark.parametrize("taken", ["seed", "out"])
def test_a_parameter_is_called_like_no_option_of_every_protocol(
    taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cls = dataclass(frozen=True)(type("Own", (), {"__annotations__": {taken: int}, taken: 1}))
    protocols.register("taken", config=cls)(counted)
    assert taken in OF_ALL and run("taken") == 2
    assert f"taken: its parameter '{taken}' is called like an option" in capsys.readouterr().err


def test_sections_keep_what_is_left_out_of_the_protocol_s_own_default() -> None:
    cls = parameters_of("pairing-frequency")
    given = build(cls, {"voltage": {"a_ltd": 1e-4}})
    assert given.voltage == replace(cls().voltage, a_ltd=1e-4)  # type: ignore[attr-defined]
    assert given.voltage.delay_ms == 4.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_size_is_without_bound(name: str) -> None:
    """What would fill the memory, or take for ever, is refused before anything runs."""
    cls = parameters_of(name)
    sizes = [key for key in keys_of(cls) if type_of(cls, key) is int]
    for key in sizes:
        with pytest.raises(ConfigError, match=rf"^{key}: ") as error:
            build(cls, layered({key: 10**12}, cls=cls))
        assert "\n" not in str(error.value)


def test_a_product_of_sizes_is_bounded() -> None:
    for name, given in (
        ("capacity", {"n_inputs": 1_000_000, "n_neurons": 1000}),
        ("capacity", {"n_inputs": 100_000, "n_patterns": 10_000, "n_neurons": 1}),
        ("critical-period", {"n_contacts": 1_000_000, "n_pairings": 10_000}),
        ("probe-silencing", {"n_contacts": 1_000_000}),
        ("protection", {"n_inputs": 100_000, "n_pairings": 1_000_000}),
    ):
        with pytest.raises(ConfigError, match=r" times .* make one smaller"):
            build(parameters_of(name), given)


def test_what_takes_hours_is_told_before_it_begins() -> None:
    """Sizes that are each within their bounds, and together too much."""
    for name, given, said in (
        ("bimodal-weights", {"duration_s": 100_000}, "duration_s: .* would take about 20 hours"),
        ("bimodal-weights", {"dt_ms": 0.01}, "duration_s: .* hours; simulate less"),
        ("bimodal-weights", {"n_inputs": 1_000_000}, "n_inputs: .* use 1 to 100,000"),
        ("stdp-window", {"n_pairs": 10_000, "dt_ms": 0.01}, "n_pairs: .* hours"),
        ("filopodium-spine", {"b_s": 36_000, "n_inputs": 100_000}, "n_inputs: .* hours"),
    ):
        with pytest.raises(ConfigError, match=f"^{said}"):
            build(parameters_of(name), given)
    assert build(parameters_of("bimodal-weights"), {"duration_s": 3000})
    for rule, key in (("voltage", "dt_ms"), ("pair", "pre")):
        spikes = [0.0, 1e8] if rule == "voltage" else np.arange(6e6)
        with pytest.raises(ConfigError, match=f"^{key}: .* hours"):
            protocols.pairing(pre_ms=spikes, post_ms=[1.0], rule=rule)


def test_lists_of_conditions_hold_each_once() -> None:
    for name, key, values in (
        ("critical-period", "circuits", ([], ["v1_adult", "v1_adult"])),
        ("probe-silencing", "frequencies_hz", ([], [1.0, 1.0])),
    ):
        for value in values:
            with pytest.raises(ConfigError, match=f"^{key}: .* different"):
                build(parameters_of(name), {key: value})
