"""Values that are given are used, or refused with the setting that would use them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from snn_artsy.checks import ConfigError
from snn_artsy.config import DEFAULT_LEARNERS, RunConfig
from snn_artsy.config.presets import SNN_PRESETS
from snn_artsy.config.used import check_used, leaves, unused, uses_of, value_at
from snn_artsy.config.where_used import ALWAYS, OF_SPIKING, WHERE_USED
from snn_artsy.config_builder import build, keys_of
from snn_artsy.config_sources import complete
from snn_artsy.registry import LEARNERS
from snn_artsy.rules import GatedSTDP
from snn_artsy.runs.sweep import grid_cells


def config_of(values: dict[str, Any]) -> RunConfig:
    return build(RunConfig, complete(values))


def test_every_key_is_in_the_table_or_always_used() -> None:
    """A new key must be put into one of them; that of its section alone does not count."""
    conditional = {k for k in leaves() if any(use not in OF_SPIKING for use in uses_of(k))}
    assert conditional | set(ALWAYS) == set(leaves())
    assert not conditional & set(ALWAYS)
    known = set(keys_of(RunConfig))
    assert all(key in known for use in WHERE_USED for key in use.keys)


def test_nothing_is_refused_in_a_default_run_and_in_its_own_file() -> None:
    for learners in (list(DEFAULT_LEARNERS), ["simplecil"], list(LEARNERS)):
        for fast in ({}, {"snn.encoding.preset": "fast"} if "artsy_snn" in learners else {}):
            config = config_of({"learners": learners, **fast})
            check_used(config)
            check_used(build(RunConfig, asdict(config)))


IN_SEQUENCE = {"data.name": "sequence", "data.sources": [{"name": "digits"}]}

CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # what is given; what would use it (None: no such setting); words of the refusal
    (
        {
            "snn.neuron.v_th_mV": -45.0,
            "snn.plasticity.rule": "pair",
            "record.traced_synapses": 0,
        },
        {"snn.fidelity": "conductance"},
        "snn.fidelity conductance",
    ),
    ({"snn.receptors.g_ampa_nS": 1.0}, {"snn.fidelity": "conductance"}, "snn.fidelity conductance"),
    ({"snn.plasticity.triplet.tau_x_ms": 50.0}, {"snn.plasticity.rule": "triplet"}, "triplet rule"),
    ({"snn.plasticity.triplet.tau_x_ms": 50.0}, {"snn.plasticity.base": "triplet"}, "triplet rule"),
    ({"snn.neuron.tau_ampa_ms": 5.0}, {"snn.neuron.model": "synaptic"}, "snn.neuron.model"),
    (
        {"snn.plasticity.a_plus": 0.03, "snn.plasticity.rule": "triplet"},
        {"snn.plasticity.rule": "pair"},
        "pair rule",
    ),
    (
        {"snn.plasticity.a_plus": 0.03, "snn.plasticity.published": "morrison_2007"},
        {"snn.plasticity.published": None},
        "without a published set",
    ),
    (
        {"snn.plasticity.published": "song_2000", "snn.plasticity.rule": "none"},
        {"snn.plasticity.rule": "pair"},
        "with a plasticity rule",
    ),
    (
        {"snn.plasticity.base": "triplet", "snn.plasticity.rule": "pair"},
        {"snn.plasticity.rule": "gated"},
        "gated",
    ),
    (
        {"snn.plasticity.nmda": 0.5, "snn.plasticity.rule": "pair"},
        {"snn.plasticity.rule": "gated"},
        "gated",
    ),
    ({"snn.plasticity.probability": 0.5}, {"snn.plasticity.insertion": "bernoulli"}, "bernoulli"),
    (
        {"snn.plasticity.target": 1.1, "snn.plasticity.base": "calcium"},
        {"snn.plasticity.base": "pair"},
        "other than calcium and filopodium_spine",
    ),
    (
        {"snn.encoding.shrinkage": 0.5, "snn.encoding.decorrelation": "standardise"},
        {"snn.encoding.decorrelation": "whiten"},
        "whiten",
    ),
    (
        {"snn.encoding.max_rate_hz": 100.0, "snn.encoding.code": "latency"},
        {"snn.encoding.code": "poisson"},
        "regular or current",
    ),
    ({"snn.expansion.fan_in": 9}, {"snn.expansion.units": 50}, "units above 0"),
    ({"snn.readout": 0.1, "snn.mode": "gate"}, {"snn.mode": "full"}, "snn.mode full"),
    (
        {"snn.contacts.tag_ms": 5.0, "snn.contacts.capture": False},
        {"snn.contacts.capture": True},
        "capture true",
    ),
    (
        {"snn.contacts.capture": False, "snn.contacts.consolidation": False},
        {"snn.contacts.consolidation": True},
        "consolidation true",
    ),
    (
        {"snn.contacts.probability": 0.5, "snn.contacts.filopodia": 9},
        {"snn.contacts.filopodia": None},
        "filopodia",
    ),
    (
        {"snn.teacher.current": 2.0, "learners": ["simplecil"]},
        {"learners": ["artsy_snn"]},
        "artsy_snn",
    ),
    ({"snn.teacher.current": 2.0, "learners": ["simplecil"]}, {"controls": True}, "artsy_snn"),
    ({"snn.readout": 0.1, "learners": ["mean_field"]}, {"learners": ["artsy_snn"]}, "controls"),
    (
        {"snn.plasticity.epochs": 2, "learners": ["whitened_ncm"]},
        {"learners": ["mean_field"]},
        "mean_field",
    ),
    (
        {"snn.encoding.shrinkage": 0.5, "learners": ["simplecil"]},
        {"learners": ["whitened_ncm"]},
        "whitened_ncm",
    ),
    ({"binary_mean.share": 0.5}, {"learners": ["binary_mean"]}, "binary_mean"),
    ({"nested_mean.levels": 5}, {"learners": ["nested_mean"]}, "nested_mean"),
    ({"data.root": "images"}, {"data.name": "imagefolder"}, "not digits"),
    ({"data.download": True}, {"data.name": "mnist"}, "torchvision"),
    ({"data.test_seed": 3}, {"data.test_per_class": 5}, "with test_per_class"),
    (
        {"data.test_seed": 3, **IN_SEQUENCE},
        {"data.sources": [{"name": "digits", "test_per_class": 5}]},
        "with test_per_class",
    ),
    (
        {"data.download": True, **IN_SEQUENCE},
        {"data.sources": [{"name": "digits"}, {"name": "mnist"}]},
        "torchvision",
    ),
    ({"data.sources": [{"name": "digits"}]}, {"data.name": "sequence"}, "sequence"),
    ({"data.task_order": "mixed"}, IN_SEQUENCE, "sequence"),
    ({"data.scenario": "domain"}, IN_SEQUENCE, "sequence"),
    ({"data.n_tasks": 3, **IN_SEQUENCE}, {"data.name": "digits", "data.sources": None}, "sources"),
    (
        {"data.increment": 5, **IN_SEQUENCE},
        {"data.name": "digits", "data.sources": None},
        "sources",
    ),
    (
        {"data.class_range": [0, 5], **IN_SEQUENCE},
        {"data.name": "digits", "data.sources": None},
        "sources",
    ),
    (
        {"data.order_seed": 3, "data.class_order": list(range(10))},
        {"data.class_order": None},
        "without data.class_order",
    ),
    ({"backbone.pretrained": False}, {"backbone.name": "vit_tiny_patch16_224"}, "timm model"),
    ({"backbone.cache_dir": "c", "backbone.cache": False}, {"backbone.cache": True}, "cache true"),
    (
        {"gate.quantile": 0.1, "learners": ["simplecil", "ease"]},
        {"learners": ["artsy_ann"]},
        "artsy_ann",
    ),
    ({"gate.exemplars_per_class": 5}, {"gate.replay": "exemplars"}, "gate.replay exemplars"),
    (
        {"gate.replay": "none", "learners": ["artsy_best"]},
        {"gate.replay": "exemplars"},
        "for exemplars by artsy_best",
    ),
    ({"gate.pseudo_per_class": 5, "gate.replay": "none"}, {"gate.replay": "gaussian"}, "gaussian"),
    (
        {"gate.features": "good", "learners": ["artsy_ann_lda"]},
        {"learners": ["artsy_ann"]},
        "artsy_ann",
    ),
    ({"ann.lr": 0.1, "learners": ["finetune_adapter"]}, {"learners": ["ease"]}, "ease"),
    ({"ann.augmentation": "crop"}, {"ann.placement": "blocks"}, "ann.placement blocks"),
    (
        {
            "ann.augmentation": "crop",
            "ann.placement": "blocks",
            "learners": ["finetune_adapter"],
        },
        {"learners": ["ease"]},
        "ease",
    ),
    (
        {"ann.earlier": "dealt", "learners": ["ease"]},
        {"ann.placement": "blocks"},
        "with ann.placement blocks",
    ),
    (
        {"ann.continue_from_last": True, "learners": ["aper_adapter", "ranpac"]},
        {"learners": ["ease"]},
        "an adapter for each task",
    ),
    (
        {"ann.lr": 0.1, "learners": ["ranpac"], "ranpac.adapt_first": False},
        {"ranpac.adapt_first": True},
        "ranpac",
    ),
    ({"ann.lr": 0.1, "learners": ["artsy_snn"]}, {"snn.mode": "gate"}, "snn.mode gate"),
    (
        {"snn.teacher.source": "adapter", "snn.mode": "gate"},
        {"ann.placement": "blocks"},
        "snn.mode gate and ann.placement blocks",
    ),
    (
        {"snn.tap": "block_9", "snn.mode": "gate"},
        {"ann.placement": "blocks"},
        "snn.mode gate and ann.placement blocks",
    ),
    (
        {"snn.tap": "first", "snn.mode": "gate"},
        {"ann.placement": "blocks"},
        "snn.mode gate and ann.placement blocks",
    ),
    (
        {"artsy_best.open": 1, "learners": ["artsy_snn"], "snn.mode": "gate"},
        {"ann.placement": "blocks"},
        "artsy_snn in snn.mode gate",
    ),
    (
        {
            "gate.quantile": 0.1,
            "learners": ["artsy_snn"],
            "snn.mode": "gate",
            "ann.placement": "blocks",
        },
        {"ann.placement": "head"},
        "has none in snn.mode gate with ann.placement blocks",
    ),
    ({"ann.scale": 0.5, "learners": ["artsy_ann_lda"]}, {"learners": ["artsy_ann"]}, "artsy_ann"),
    ({"ann.bottleneck": 8, "learners": ["simplecil"]}, {"learners": ["finetune_adapter"]}, "ease"),
    ({"artsy_lda.scale": 1.0}, {"learners": ["artsy_ann_lda"]}, "artsy_ann_lda"),
    ({"ranpac.projection": 100}, {"learners": ["ranpac"]}, "ranpac"),
    ({"ease.alpha": 0.2}, {"learners": ["ease"]}, "ease"),
    ({"memory.total": 5, "learners": ["ease"]}, {"learners": ["er"]}, "derpp, er, icarl"),
    (
        {
            "data.blurry_share": 0.3,
            "data.disjoint_share": 1.0,
            "data.stream": "online",
            "learners": ["er"],
        },
        {"data.disjoint_share": 0.5},
        "data.disjoint_share below 1",
    ),
    ({"derpp.alpha": 0.5, "learners": ["er"]}, {"learners": ["derpp"]}, "derpp"),
    ({"joint.max_iterations": 5}, {"learners": ["joint"]}, "joint"),
    ({"finetune.lr": 0.1}, {"learners": ["finetune_linear"]}, "finetune_linear"),
    ({"record.neurons": 5, "learners": ["simplecil"]}, {"learners": ["artsy_snn"]}, "artsy_snn"),
    (
        {"record.trace_every": 5, "record.traced_synapses": 0},
        {"record.traced_synapses": 8},
        "traced_synapses above 0",
    ),
    (
        {"record.splits": ["test"], "record.spike_presentations": 0},
        {"record.spike_presentations": 8},
        "spike_presentations above 0",
    ),
]


@pytest.mark.parametrize(("given", "instead", "words"), CASES)
def test_what_does_nothing_is_refused_and_its_place_named(
    given: dict[str, Any], instead: dict[str, Any], words: str
) -> None:
    key = next(iter(given))
    with pytest.raises(ConfigError) as raised:
        check_used(config_of(given), [key])
    assert str(raised.value).startswith(f"{key}: ") and words in str(raised.value)
    check_used(config_of(given | instead), [key])
    # not typed: what another learner would use may stand in a file that several runs share
    idle = [use for use in uses_of(key) if not use.holds(config_of(given))]
    shared = any(use.of_learners for use in idle)
    assert [k for k, _ in unused(config_of(given))] == ([] if shared else [key])


def test_values_of_other_learners_may_stand_in_a_shared_file(tmp_path: Path) -> None:
    for values in ({"ease.alpha": 0.2}, {"ann.lr": 0.1, "learners": ["simplecil"]}):
        check_used(config_of(values))
        with pytest.raises(ConfigError, match="ease"):
            check_used(config_of(values), values)


OTHER_VALUES = {
    "snn.plasticity.a_plus": 0.03,
    "snn.plasticity.a_minus": 0.03,
    "snn.plasticity.tau_plus_ms": 9.0,
    "snn.plasticity.tau_minus_ms": 9.0,
    "snn.plasticity.bounds_of": "soft",
    "snn.plasticity.pairing": "nearest",
    "snn.plasticity.triplet.tau_x_ms": 50.0,
    "snn.plasticity.voltage.a_ltp": 1e-3,
    "snn.plasticity.calcium.tau_ca_ms": 9.0,
    "snn.plasticity.filopodium_spine.mu_spine": 0.2,
    "snn.plasticity.a_pre": 0.01,
    "snn.plasticity.speed": 2.0,
    "snn.plasticity.nmda": 0.5,
    "snn.plasticity.mg_mM": 2.0,
    "snn.plasticity.depolarisation": "dendrite",
    "snn.plasticity.clamp_mV": -10.0,
    "snn.plasticity.target": 1.1,
    "snn.plasticity.tau_target_ms": 9.0,
    "snn.plasticity.probability": 0.5,
}


@pytest.mark.parametrize("key", OTHER_VALUES)
@pytest.mark.parametrize(
    "setting",
    [
        {"rule": "none"},
        *({"rule": rule} for rule in ("pair", "triplet", "voltage", "calcium", "filopodium_spine")),
        *({"base": base} for base in ("pair", "triplet", "voltage")),
        {"rule": "pair", "published": "morrison_2007"},
        {"insertion": "bernoulli"},
    ],
    ids=str,
)
def test_the_table_is_true_of_rules(key: str, setting: dict[str, Any]) -> None:
    """A key that is used changes the rule that is built, one that is not does not."""
    values = {f"snn.plasticity.{name}": value for name, value in setting.items()}
    before, after = config_of(values), config_of(values | {key: OTHER_VALUES[key]})
    used = all(use.holds(after) for use in uses_of(key))
    rules = [config.snn.plasticity.build() for config in (before, after)]
    own = key.rpartition(".")[2]
    if own in ("target", "tau_target_ms", "probability") and isinstance(rules[0], GatedSTDP):
        # both ways of insertion have their values in the rule; `insertion` says which are read
        used = used or rules[0] != rules[1]
    assert (rules[0] != rules[1]) == used


def test_a_default_that_is_typed_is_refused_too() -> None:
    config = config_of({"snn.neuron.tau_ampa_ms": 2.0})
    check_used(config)  # from a file in which a run wrote every key
    with pytest.raises(ConfigError, match=r"snn\.neuron\.tau_ampa_ms: 2\.0 does nothing here"):
        check_used(config, ["snn.neuron.tau_ampa_ms"])


def test_a_sweep_refuses_what_some_or_all_runs_ignore(tmp_path: Path) -> None:
    rules = {"snn.plasticity.rule": ["pair", "triplet"]}
    both = {"snn.plasticity.a_plus": 0.03}  # used by the first of the two
    assert len(grid_cells(both, rules, tmp_path, both)) == 2
    with pytest.raises(ConfigError, match=r"nmda: 0\.5 does nothing here"):
        grid_cells({"snn.plasticity.nmda": 0.5}, rules, tmp_path)
    with pytest.raises(ConfigError, match=r"a_plus: 0\.02 does nothing .*in the combination"):
        grid_cells({}, rules | {"snn.plasticity.a_plus": [0.02, 0.03]}, tmp_path)


def test_a_comparison_refuses_what_only_a_run_does(tmp_path: Path) -> None:
    from rich.console import Console

    from snn_artsy.runs.compare import compare

    config = RunConfig(out=str(tmp_path / "c"))
    scores = replace(config.record, scores=True)
    for changed, key in (
        (replace(config, controls=True), "controls"),
        (replace(config, record=scores), "record"),
        (config_of({"out": str(tmp_path / "c"), "data.root": "x"}), "data.root"),
    ):
        with pytest.raises(ConfigError, match=f"^{key}"):
            compare(changed, 2, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_unused_gives_every_key_once() -> None:
    given = {"snn.receptors.g_ampa_nS": 1.0, "snn.neuron.tau_ampa_ms": 5.0, "data.root": "x"}
    assert [key for key, _ in unused(config_of(given))] == [
        "data.root",
        "snn.receptors.g_ampa_nS",
        "snn.neuron.tau_ampa_ms",
    ]


def test_a_preset_lies_below_what_is_given() -> None:
    for name, values in SNN_PRESETS.items():
        config = config_of({"snn.preset": name})
        assert {key: value_at(config, key) for key in values} == values
        check_used(config, ["snn.preset"])
        check_used(build(RunConfig, complete(asdict(config))))  # a run's own file
        plain = RunConfig()
        assert all(value_at(plain, key) != value for key, value in values.items())
    above = config_of({"snn": {"preset": "timing", "encoding": {"code": "poisson"}}})
    assert above.snn.encoding.code == "poisson" and above.snn.plasticity.rule == "pair"
    check_used(above)
    lag = config_of({"snn.preset": "timing", "snn.teacher.lag_ms": 5.0})  # in place of the phase
    assert lag.snn.teacher.phase_ms is None and lag.snn.teacher.phase_spread_ms == 0.0
    check_used(lag, ["snn.preset", "snn.teacher.lag_ms"])
    own = asdict(RunConfig())  # every key is given
    with pytest.raises(ConfigError, match=r"^snn\.preset: 'timing' does nothing here"):
        check_used(build(RunConfig, complete(own, {"snn.preset": "timing"})))
    with pytest.raises(ConfigError, match=r"^snn\.preset: .*default, timing"):
        config_of({"snn.preset": "tming"})


def test_what_a_preset_fills_in_and_nothing_uses_is_not_the_users_fault() -> None:
    config = config_of({"snn.preset": "timing", "learners": ["simplecil"]})
    check_used(config)
    assert config.snn.plasticity.rule == "pair"


def test_runs_of_a_sweep_have_the_values_of_their_own_preset(tmp_path: Path) -> None:
    for base in ({}, {"snn.preset": "timing"}):
        cells = grid_cells(base, {"snn.preset": ["default", "timing"]}, tmp_path)
        assert [cell.config.snn.plasticity.rule for cell in cells] == ["gated", "pair"]
        assert cells[0].config.snn.encoding.code == "poisson"
