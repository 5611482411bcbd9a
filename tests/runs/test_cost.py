"""What a run needs is known before it starts, and refused where the machine lacks it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import layered
from snn_artsy.recording.estimate import TaskSize, expected_bytes, needed_bytes
from snn_artsy.registry import LEARNERS
from snn_artsy.runs.cost import (
    _group_leaves,
    _limit_leaves,
    check_cost,
    free_memory,
    memory,
    seconds,
)
from snn_artsy.runs.run import execute

DIM = 192
TASKS = [TaskSize(2, 270, 90)] * 5  # digits


def config_of(**values: Any) -> RunConfig:
    return build(RunConfig, layered({k.replace("__", "."): v for k, v in values.items()}))


def test_what_a_default_run_needs_is_little() -> None:
    for name in LEARNERS:
        needed, _ = memory(name, RunConfig(), DIM, TASKS)
        assert 1e5 < needed < 5e8
        assert seconds(name, RunConfig(), DIM, TASKS) < 60
    check_cost(RunConfig(), DIM, TASKS, 2 * 10**9)


def test_worked_out_by_hand() -> None:
    """Ridge: images 4 D n of a task and of all tests; one adapter while it trains; sums
    8 (3 M^2 + n M), P 4 D M."""
    config = config_of(ranpac__projection=1000, ann__bottleneck=10, ann__batch_size=10)
    images = 4 * (270 + 5 * 90) * DIM
    adapter = 4 * 3 * 2 * DIM * 10 + 8 * 10 * (DIM + 10)
    ridge = 8 * (3 * 1000**2 + 270 * 1000) + 4 * DIM * 1000
    assert memory("ranpac", config, DIM, TASKS) == (images + adapter + ridge, "ranpac.projection")
    # Contacts of two neurons a class: 2 D K n_classes in each of five tasks, 14 bytes kept, 16 more
    # in the one that learns; spikes of 50 presentations of 100 steps, 90 test images fewer steps.
    snn = config_of(snn__neuron__per_class=2, snn__encoding__n_steps=100,
                    snn__encoding__test_steps=10)  # fmt: skip
    contacts = 2 * DIM * 2 * 2
    spikes = 8 * 100 * 50 * 2 * DIM
    found, largest = memory("artsy_snn", snn, DIM, TASKS)
    replay = (8 + 2 * 4) * 8 * 20 * DIM  # those for means and those for thresholds are kept
    assert found == images + replay + 14 * 5 * contacts + 16 * contacts + spikes
    assert largest.startswith("snn.encoding.n_steps")
    # samples of a task and all answers pass as many sub-networks as there are, stand-ins for two
    # classes of each older task (20 each) the new one, twice
    passed = (5 * 4 // 2 + 5) * 270 + sum((t + 1) * 90 * (t + 1) for t in range(5))
    passed += 2 * 20 * 2 * (1 + 2 + 3 + 4)
    assert seconds("artsy_snn", snn, DIM, TASKS) == pytest.approx(
        contacts * (5 * 270 * 100 + passed * 10) / 1e12 + 5 * 270 * 100 / 50 * 5e-5
    )


def test_gates_see_stand_ins_by_hand() -> None:
    """Three tasks of 2 classes, 10 and 4 samples: the new gate sees its own 10 and 6 for each older
    class, an older one 12 and the 10; two epochs in batches of 16, there and back to the weights.
    Thresholds and answers then ask each gate."""
    tasks = [TaskSize(2, 10, 4)] * 3
    config = config_of(gate__pseudo_per_class=6, ann__gate_epochs=2, ann__gate_hidden=5,
                       ann__batch_size=16, ann__epochs=1)  # fmt: skip
    shown = [10 + 12, 12 + 10, 10 + 24, 12 + 10, 12 + 10]  # nothing is trained with the first task
    asked = 1 * 4 + 2 * (12 + 8) + 3 * (24 + 12)
    products = (2 * 2 * sum(shown) + asked) * DIM * 5
    batches = 2 * (4 * 2 + 3)
    plain = config_of(gate__replay="none", ann__gate_epochs=2, ann__gate_hidden=5,
                      ann__batch_size=16, ann__epochs=1)  # fmt: skip
    answers = (4 + 2 * 8 + 3 * 12) * DIM * 5
    more = seconds("artsy_ann", config, DIM, tasks) - seconds("artsy_ann", plain, DIM, tasks)
    assert more == pytest.approx((products - answers) / 1e12 + batches * 5e-5)
    bad = replace(config, gate=replace(config.gate, features="bad"))
    fewer = seconds("artsy_ann", config, DIM, tasks) - seconds("artsy_ann", bad, DIM, tasks)
    only = [12, 10, 24, 10, 10]
    left = 2 * 2 * (sum(shown) - sum(only)) * DIM * 5 / 1e12
    assert fewer == pytest.approx(left + 2 * (11 - (1 + 1 + 2 + 1 + 1)) * 5e-5)


def test_exemplars_alignment_and_augmented_images_by_hand() -> None:
    """Kept features; samples of 256 a class and their head; the trunk once an image and epoch."""
    few = config_of(gate__replay="exemplars", gate__exemplars_per_class=3)
    none = config_of(gate__replay="none")
    for name in ("artsy_best", "artsy_ann", "artsy_snn", "mean_field"):
        more = memory(name, few, DIM, TASKS)[0] - memory(name, none, DIM, TASKS)[0]
        assert more == 4 * 5 * 2 * 3 * DIM
    plain, aligned = (config_of(finetune__alignment_epochs=n) for n in (0, 7))
    assert memory("finetune_linear", aligned, DIM, TASKS)[0] == (
        memory("finetune_linear", plain, DIM, TASKS)[0] + 4 * 10 * 256 * DIM
    )
    times = [seconds("finetune_linear", config, DIM, TASKS) for config in (plain, aligned)]
    batches = sum(-(-256 * n // aligned.finetune.batch_size) for n in (4, 6, 8, 10))
    products = sum(256 * n * DIM * n for n in (4, 6, 8, 10))
    assert times[1] - times[0] == pytest.approx(7 * (batches * 5e-5 + products / 1e12))
    # Gaussians and numbers of exemplars in two checkpoints
    for name, without, kept, more in (
        ("finetune_linear", plain, aligned, 5 * 4 * DIM**2 + 10 * (4 * DIM + 8)),
        ("artsy_best", none, few, 16 * 10 * 3),
    ):
        disk = [
            needed_bytes(replace(config, learners=[name]), DIM, TASKS) for config in (without, kept)
        ]
        assert disk[1] - disk[0] == 2 * more
    blocks = {"ann__placement": "blocks", "ann__epochs": 3}
    plain, crops = (config_of(**blocks, ann__augmentation=kind) for kind in ("none", "crop"))
    for name, n_tasks in (("ease", 5), ("aper_adapter", 1), ("finetune_adapter", 0)):
        times = [seconds(name, config, DIM, TASKS, 10**10) for config in (plain, crops)]
        assert times[1] - times[0] == pytest.approx(3 * n_tasks * 270 * 10**10 / 1e12)
    without = config_of(**blocks, ann__augmentation="crop", ranpac__adapt_first=False)
    assert seconds("ranpac", without, DIM, TASKS, 10**10) < 1
    with pytest.raises(ConfigError, match=r"ease would take more than .* fewer ann\.epochs"):
        check_cost(config_of(**blocks, ann__augmentation="crop", learners=["ease"]), DIM, TASKS,
                   None, 10**16)  # fmt: skip


def test_spiking_gates_train_adapters_and_a_tap_doubles_the_units() -> None:
    """By hand: 2 D units more for 8 neurons a class, and adapters of every task beside them."""
    full = config_of(record__snapshots=True)
    values = {"ann__placement": "blocks", "snn__mode": "gate", "record__snapshots": True}
    gate, tapped = config_of(**values), config_of(**values, snn__tap="first")
    ann, steps = gate.ann, gate.snn.encoding.steps
    passes = ann.epochs * -(-270 // ann.batch_size) * 5
    products = ann.epochs * 5 * 270 * 4 * DIM * ann.bottleneck
    times = [seconds("artsy_snn", config, DIM, TASKS) for config in (full, gate, tapped)]
    assert times[1] - times[0] == pytest.approx(passes * 5e-5 + products / 1e12)
    contacts = 2 * DIM * 8 * 2
    # all of a task's and all answers in every sub-network, stand-ins in the new one, twice
    passed = 15 * 270 + sum((t + 1) ** 2 * 90 for t in range(5)) + 2 * 20 * 2 * 10
    shown = (5 * 270 + passed) * steps
    assert times[2] - times[1] == pytest.approx(contacts * shown / 1e12)
    sizes = [memory("artsy_snn", config, DIM, TASKS)[0] for config in (full, gate, tapped)]
    adapters = 4 * (5 + 2) * 2 * DIM * ann.bottleneck
    assert sizes[1] - sizes[0] == adapters + 8 * ann.batch_size * (DIM + ann.bottleneck)
    assert sizes[2] - sizes[1] == (14 * 5 + 16) * contacts + 8 * steps * 90 * 2 * DIM
    recorded = [expected_bytes(config, DIM, TASKS) for config in (gate, tapped)]
    assert recorded[1]["snapshots"] == 2 * recorded[0]["snapshots"] > 0
    assert recorded[1]["populations"] - recorded[0]["populations"] == 8 * 2 * DIM
    # of the mean field, which sees h_0 whatever the tap, nothing changes
    assert memory("mean_field", tapped, DIM, TASKS) == memory("mean_field", gate, DIM, TASKS)


def test_kept_samples_and_an_mlp_by_hand() -> None:
    """Features and logits of what is kept; the MLP with its gradients and momenta."""
    config = config_of(memory__hidden=5, memory__epochs=3, memory__batch_size=50)
    images = 4 * (270 + 5 * 90) * DIM
    kept, mlp = 4 * 10 * 20 * (DIM + 10), 4 * 3 * 2 * DIM * 5
    for name in ("er", "derpp", "icarl"):
        assert memory(name, config, DIM, TASKS) == (images + kept + mlp, "data (its images)")
    few = config_of(memory__hidden=5, memory__total=7)
    assert memory("er", few, DIM, TASKS)[0] == images + 4 * 7 * (DIM + 10) + mlp
    asked = sum(90 * (t + 1) * 2 * (t + 1) for t in range(5)) * DIM
    assert seconds("er", config, DIM, TASKS) == pytest.approx(
        5 * 3 * 6 * 5e-5 + (5 * 3 * 270 * 4 * DIM * 5 + asked) / 1e12
    )


def test_an_expansion_layer_costs_contacts_and_its_own_connections() -> None:
    """By hand: 1,000 units in place of 2 D, each summing over 2 D inputs in double precision."""
    small = config_of(snn__expansion__units=1000)
    contacts = 1000 * 8 * 2
    spikes = 8 * 20 * 90 * 1000
    images, replay = 4 * (270 + 5 * 90) * DIM, (8 + 2 * 4) * 8 * 20 * DIM
    kept = 14 * 5 * contacts + 16 * contacts + 8 * 2 * DIM * 1000
    assert memory("artsy_snn", small, DIM, TASKS)[0] == images + replay + kept + spikes
    shown, answered = 5 * 270, (1 + 2 + 3 + 4 + 5) * 90
    passed = 15 * 270 + sum((t + 1) ** 2 * 90 for t in range(5)) + 2 * 20 * 2 * 10
    assert seconds("artsy_snn", small, DIM, TASKS) == pytest.approx(
        ((shown + passed) * 20 * contacts + (shown + answered) * 2 * DIM * 1000) / 1e12
        + shown * 20 / 50 * 5e-5
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learners": ["ranpac"], "ranpac__projection": 200_000}, "ranpac.projection"),
        ({"learners": ["artsy_ann_ridge"], "artsy_ridge__projection": 200_000}, "artsy_ridge"),
        ({"snn__neuron__per_class": 10_000, "learners": ["artsy_snn"]}, "snn.neuron.per_class"),
        ({"ann__bottleneck": 1_000_000, "learners": ["ease"]}, "ann.bottleneck"),
        ({"memory__hidden": 1_000_000, "learners": ["er"]}, "memory.hidden"),
        ({"memory__epochs": 1_000_000, "memory__batch_size": 1, "learners": ["icarl"]},
         "memory.epochs"),
        ({"ann__gate_hidden": 1_000_000, "learners": ["artsy_ann"]}, "ann.gate_hidden"),
        ({"gate__pseudo_per_class": 1_000_000, "learners": ["artsy_ann"]}, "gate.pseudo"),
        (
            {"snn__encoding__n_steps": 10_000, "snn__plasticity__batch_size": 10_000,
             "controls": True, "learners": ["simplecil"]},
            "snn.encoding.n_steps",
        ),
        ({"ann__epochs": 1_000_000, "ann__batch_size": 1, "learners": ["ease"]}, "ann.epochs"),
        ({"snn__plasticity__epochs": 1_000_000, "snn__encoding__n_steps": 10_000,
          "snn__encoding__test_steps": 20, "snn__plasticity__batch_size": 1,
          "learners": ["artsy_snn"]}, "snn.plasticity.epochs"),
        ({"snn__inhibition__source": "plastic", "snn__inhibition__epochs": 1_000_000,
          "learners": ["artsy_snn"]}, "snn.inhibition.epochs"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        check_cost(config_of(**values), DIM, [TaskSize(20, 50_000, 90)] * 5, 4 * 10**9)
    assert str(raised.value).startswith("learners: ")


def test_a_memory_with_no_place_for_each_class_is_refused() -> None:
    tasks = [TaskSize(2, 10, 5)] * 5
    check_cost(config_of(learners=["icarl"], memory__total=10), DIM, tasks, None)
    with pytest.raises(ConfigError, match=r"^memory.total: 9 cannot be used; .*give 10 or more"):
        check_cost(config_of(learners=["icarl"], memory__total=9), DIM, tasks, None)
    check_cost(config_of(learners=["er"], memory__total=9), DIM, tasks, None)


def test_it_is_refused_before_features_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snn_artsy.runs.features.free_memory", lambda: 10**6)
    monkeypatch.setattr("snn_artsy.runs.features.extract_features", None)
    for out in (None, "here", "new/deep"):
        with pytest.raises(ConfigError, match="of memory and 1 MB are free"):
            execute(config_of(out=out, data__train_per_class=4))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not (tmp_path / "here").exists() and not (tmp_path / "new" / "deep").exists()


def test_free_memory_is_what_the_system_says() -> None:
    found = free_memory()
    assert found is None or 10**7 < found < 10**14


def test_pages_of_files_that_were_read_are_free(tmp_path: Path) -> None:
    """A container that has read images is not full of them."""
    assert _group_leaves(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    assert _group_leaves(tmp_path) == 100_000
    (tmp_path / "memory.stat").write_text(
        "anon 200000\nfile 700000\ninactive_file 600000\nactive_file 100000\n"
    )
    assert _group_leaves(tmp_path) == 700_000
    (tmp_path / "memory.max").write_text("max\n")
    assert _group_leaves(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_limit_of_addresses_leaves_what_is_not_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (mapped + 10**8, resource.RLIM_INFINITY))
    found = _limit_leaves()
    assert found is not None and abs(found - 10**8) < 5 * 10**7
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert _limit_leaves() is None
