"""Learners that are kept and taken up again go on as if nothing had been: small ones, all kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from synthetic_features import DIM, N_TASKS, gaussian_stream
from test_probe import Listener

from snn_artsy.config import (
    ANNConfig,
    ContactConfig,
    EncodingConfig,
    FinetuneConfig,
    GateConfig,
    JointConfig,
    MemoryConfig,
    NeuronConfig,
    PlasticityConfig,
    RanPACConfig,
    RidgeGateConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.learners import Setting, build, build_snn
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.state import below
from snn_artsy.registry import LEARNERS

STREAM = gaussian_stream(n_train=6, n_validation=3, n_test=3)
SNN = SNNConfig(
    encoding=EncodingConfig(preset="fast"),
    neuron=NeuronConfig(per_class=2),
    plasticity=PlasticityConfig(batch_size=5, epochs=2, a_plus=0.1),
)
CONFIG = RunConfig(
    seed=11,
    snn=SNN,
    ann=ANNConfig(bottleneck=3, epochs=2, lr=0.3, batch_size=5, gate_hidden=4, scale=1.0),
    gate=GateConfig(pseudo_per_class=4, exemplars_per_class=2),
    finetune=FinetuneConfig(epochs=2, batch_size=5),
    joint=JointConfig(l2=[0.1, 0.01], max_iterations=15),
    memory=MemoryConfig(per_class=3, hidden=3, epochs=2, batch_size=5),
    ranpac=RanPACConfig(projection=12),
    artsy_ridge=RidgeGateConfig(projection=12),
)
EXEMPLARS = replace(CONFIG, gate=replace(CONFIG.gate, replay="exemplars"))
ALIGNED = replace(CONFIG, finetune=replace(CONFIG.finetune, alignment_epochs=2))
FEW = replace(CONFIG, memory=replace(CONFIG.memory, per_class=None, total=7))
NOTHING = replace(CONFIG, gate=replace(CONFIG.gate, replay="none"))
VARIANTS: dict[str, tuple[str, RunConfig]] = {name: (name, CONFIG) for name in LEARNERS}
VARIANTS |= {
    "artsy_ann, exemplars": ("artsy_ann", EXEMPLARS),
    "artsy_ann, no replay": ("artsy_ann", NOTHING),
    "finetune_linear, aligned": ("finetune_linear", ALIGNED),
    "finetune_adapter, aligned": ("finetune_adapter", ALIGNED),
    "er, in all": ("er", FEW),
    "derpp, in all": ("derpp", FEW),
    "icarl, in all": ("icarl", FEW),
    "artsy_best, exemplars": ("artsy_best", EXEMPLARS),
    "artsy_snn, exemplars": ("artsy_snn", EXEMPLARS),
    "artsy_snn, no replay": ("artsy_snn", NOTHING),
    "artsy_snn, gate": ("artsy_snn", replace(CONFIG, snn=replace(SNN, mode="gate"))),
    "artsy_snn, plastic old, sparse": (
        "artsy_snn",
        replace(
            CONFIG, snn=replace(SNN, plastic_old=True, contacts=ContactConfig(probability=0.6))
        ),
    ),
    "ranpac on h_0": (
        "ranpac",
        replace(CONFIG, ranpac=RanPACConfig(projection=12, adapt_first=False)),
    ),
}


def built(variant: str) -> Any:
    name, config = VARIANTS[variant]
    return build(name, Setting(config, DIM, "cpu"))


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert value.dtype == two[key].dtype, key
        assert torch.equal(value, two[key]), key


def assert_alike(one: Any, two: Any) -> None:
    """Same state, same answers, same report."""
    assert_same(one.state_dict(), two.state_dict())
    assert_same(one.checkpoint(), two.checkpoint())
    first, second = one.predict(STREAM.test), two.predict(STREAM.test)
    for name in ("scores", "gate_scores", "gates", "spike_scores", "vit_passes", "operations"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None and b is None) or torch.equal(a, b), name
    assert one.report() == two.report()


def kept(learner: Any) -> dict[str, torch.Tensor]:
    """As it comes back from a file: copies."""
    return {key: value.clone() for key, value in learner.checkpoint().items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_learner_goes_on_from_its_checkpoint(variant: str) -> None:
    plain = built(variant)
    resumed = built(variant)
    for t, task in enumerate(STREAM.tasks):
        plain.learn(task)
        if t < N_TASKS - 1:
            again = built(variant)
            again.restore(kept(plain), STREAM.tasks[: t + 1])
            assert_alike(again, plain)
            resumed = again
    resumed.learn(STREAM.tasks[-1])
    assert_alike(resumed, plain)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("artsy_snn")])
def test_a_spiking_learner_goes_on_from_between_two_epochs(variant: str) -> None:
    states: list[dict[str, torch.Tensor]] = []
    plain = built(variant)
    plain.after_epoch = lambda: states.append(kept(plain))
    for task in STREAM.tasks[:2]:
        plain.learn(task)
    assert [int(state["counters.epoch"]) for state in states] == [1, 2, 1, 2]
    for state in states[2:]:
        resumed = built(variant)
        resumed.restore(state, STREAM.tasks[:1])
        resumed.learn(STREAM.tasks[1])
        assert_same(resumed.checkpoint(), plain.checkpoint())
    # what was learnt in the middle was not all of it
    assert not torch.equal(states[2]["layers.1.ampa"], states[3]["layers.1.ampa"])


def test_what_a_spiking_learner_has_learnt_is_enough_to_answer() -> None:
    for variant in ("artsy_snn", "artsy_snn, gate"):
        plain, other = built(variant), built(variant)
        for task in STREAM.tasks:
            plain.learn(task)
        other.load_state_dict(plain.state_dict())
        assert_same(other.state_dict(), plain.state_dict())
        one, two = plain.predict(STREAM.test), other.predict(STREAM.test)
        assert torch.equal(one.scores, two.scores)
        assert one.gates is not None and torch.equal(one.gates, two.gates)


def test_counters_of_older_checkpoints_had_an_underscore() -> None:
    plain = built("artsy_snn")
    plain.learn(STREAM.tasks[0])
    state = kept(plain)
    for name in ("to_record", "presented"):
        state[f"counters._{name}"] = state.pop(f"counters.{name}") + 3
    resumed = built("artsy_snn")
    resumed.restore(state, STREAM.tasks[:1])
    assert resumed.probe.presented == plain.probe.presented + 3
    assert resumed.probe.to_record == plain.probe.to_record + 3
    assert not hasattr(resumed, "_presented")


def test_the_state_of_another_learner_is_refused() -> None:
    plain = built("artsy_ann")
    plain.learn(STREAM.tasks[0])
    for variant in ("artsy_snn", "joint", "ranpac", "aper_adapter", "finetune_linear"):
        with pytest.raises((KeyError, RuntimeError)):
            built(variant).restore(kept(plain), STREAM.tasks[:1])


# --- reports --------------------------------------------------------------------------------------


def test_a_spiking_learner_s_report_by_hand() -> None:
    learner = built("artsy_snn")
    for task in STREAM.tasks:
        learner.learn(task)
    assert learner.report()["spikes_per_image"] == 0.0  # nobody was asked yet
    shown = 0.0
    for _ in range(2):
        learner.predict(STREAM.test)
    pre = learner.input_spikes(STREAM.test)
    for layer in learner.layers:
        shown += float(layer.respond(pre).spikes.sum())
    # validation samples, and samples whose task is told, do not count
    learner.predict(replace(STREAM.test, split="validation"))
    learner.predict(
        replace(STREAM.test, true_task=torch.zeros(len(STREAM.test), dtype=torch.int64))
    )
    report = learner.report()
    assert report["spikes_per_image"] == pytest.approx(shown / len(STREAM.test)) and shown > 0
    states = torch.cat([layer.state.flatten() for layer in learner.layers])
    n = N_TASKS * 2 * 2 * 2 * DIM
    assert report["n_contacts"] == n == len(states)
    counts = [int((states == code).sum()) for code in range(3)]
    assert [report[f"n_{k}"] for k in ("silent", "functional", "consolidated")] == counts
    assert report["functional_share"] == report["converted_share"] == (n - counts[0]) / n
    assert report["n_born_silent"] == n
    assert report["parameters"] == n
    state = learner.state_dict()
    gaussians = N_TASKS * (2 * DIM + DIM * DIM)  # means and a factor of the covariance
    assert report["stored_parameters"] == sum(v.numel() for v in state.values()) + gaussians
    stored = sum(v.numel() * v.element_size() for v in state.values()) + 4 * gaussians
    assert report["stored_bytes"] == stored
    assert (report["dt_ms"], report["n_steps"], report["test_steps"]) == (1.0, 8, 8)
    assert report["max_rate_hz"] == 1000.0
    # two epochs of 12 samples in each task, 8 ms each
    assert report["simulated_ms"] == N_TASKS * 2 * 12 * 8.0
    gated = built("artsy_snn, gate")
    gated.learn(STREAM.tasks[0])
    adapter = DIM * 3 + 3 + 3 * DIM + DIM
    assert gated.report()["parameters"] == n // N_TASKS + adapter


def test_contacts_born_mature_are_not_counted_as_converted() -> None:
    contacts = ContactConfig(silent_share=0.5)
    config = replace(CONFIG, snn=replace(SNN, contacts=contacts))
    learner = build_snn(Setting(config, DIM, "cpu"))
    learner.learn(STREAM.tasks[0])
    layer = learner.layers[0]
    silent = layer.born_silent
    report = learner.report()
    assert report["n_born_silent"] == int(silent.sum()) < layer.state.numel()
    converted = int((layer.state[silent] > 0).sum())
    assert report["converted_share"] == converted / int(silent.sum())
    assert report["functional_share"] > report["converted_share"]


# --- controls -------------------------------------------------------------------------------------


def controlled(control: Any) -> ArtsySNN:
    learner = build_snn(Setting(CONFIG, DIM, "cpu"), control)
    for task in STREAM.tasks[:2]:
        learner.learn(task)
    return learner


def test_controls_put_the_same_contacts_elsewhere() -> None:
    intact = controlled("none").layers[0]
    for control in ("permuted_contacts", "random_contacts"):
        moved = controlled(control).layers[0]
        assert not torch.equal(moved.state, intact.state)
        # occupancy and state move together
        for shown, wanted in ((moved, intact),):
            pairs = [
                sorted(zip(x.state.flatten().tolist(), x.ampa.flatten().tolist(), strict=True))
                for x in (shown, wanted)
            ]
            assert pairs[0] == pairs[1]
        by_neuron = [sorted(row) for row in moved.ampa.tolist()] == [
            sorted(row) for row in intact.ampa.tolist()
        ]
        assert by_neuron == (control == "permuted_contacts")
    # every neuron has an order of its own
    permuted = controlled("permuted_contacts").layers[0].ampa
    found = [
        [intact.ampa[j].tolist().index(a) for a in permuted[j].tolist() if 0 < a < 1]
        for j in range(len(permuted))
    ]
    assert len({tuple(order) for order in found}) > 1


def test_each_control_changes_what_it_names() -> None:
    intact = controlled("none")
    for control in ("shuffled_labels", "shuffled_timing"):
        other = controlled(control)
        assert not torch.equal(other.layers[0].ampa, intact.layers[0].ampa)
    # where contacts are moved afterwards, learning itself is the same: the recalled means are
    for control in ("permuted_contacts", "random_contacts"):
        other = controlled(control)
        assert torch.equal(other.recall[1], intact.recall[1])
        assert torch.equal(other.layers[1].counts(), intact.layers[1].counts())


def test_states_are_named_by_what_they_are_of() -> None:
    learner = built("artsy_snn, gate")
    for task in STREAM.tasks[:2]:
        learner.learn(task)
    state = learner.state_dict()
    assert {"scaling.mean", "scaling.matrix", "recall.0", "recall.1", "prototypes.base",
            "prototypes.gained.1", "gate.threshold", "gate.spread", "layers.1.state",
            "adapters.1.up.weight"} <= state.keys()  # fmt: skip
    assert below(state, "adapters.0.").keys() == learner.adapters[0].state_dict().keys()
    more = learner.checkpoint().keys() - state.keys()
    assert {"generator", "counters.epoch", "counters.clock_ms", "gate.good.0", "gate.bad.1",
            "replay.means.0", "replay.factors.1"} <= more  # fmt: skip


# --- what an observer is told ---------------------------------------------------------------------


def test_an_observer_is_told_of_every_batch() -> None:
    listener = Listener(spike_presentations=2, traced_synapses=3, trace_every=2)
    groups: dict[str, list[int]] = {}
    listener.population = lambda name, group: groups.update({name: group.tolist()})  # type: ignore[method-assign]
    learner = build_snn(Setting(CONFIG, DIM, "cpu", listener))
    for task in STREAM.tasks[:2]:
        learner.learn(task)
        learner.predict(STREAM.test)
    assert groups == {
        "retina": [0] * DIM + [1] * DIM, "task0": [0, 0, 1, 1], "task1": [2, 2, 3, 3],
    }  # fmt: skip
    told: dict[str, list[tuple[Any, ...]]] = {}
    for name, args in listener.told:
        told.setdefault(name, []).append(args)
    # two epochs of 12 samples in batches of 5, 5 and 2, and capture at the end of each task
    assert [(args[0], args[1]) for args in told["counts"]] == [
        (t, start + stop)
        for t, start in ((0, 0.0), (1, 8.0 * (24 + 2)))
        for stop in (40.0, 80.0, 96.0, 136.0, 176.0, 192.0, 192.0)
    ]
    shown = [args[0] for args in told["presentations"]]
    assert [(p.split, p.task, len(p.index)) for p in shown] == [
        (split, t, n) for t in (0, 1) for split, n in [("train", m) for m in (5, 5, 2) * 2]
        + [("test", 2)]
    ]  # fmt: skip
    # every second batch of a task, from its first one
    assert [(args[0], float(args[1][0])) for args in told["trace"]] == [
        (t, start + stop) for t, start in ((0, 0.0), (1, 208.0)) for stop in (40.0, 96.0, 176.0)
    ]
    assert [args[0] for args in told["pairings"]] == [0] * 6 + [1] * 6
    first = told["pairings"][0][2]
    assert not first.before.any()  # all contacts were empty
    second = told["pairings"][1][2]
    assert second.before.tolist() == first.after.tolist()
    # what converted adds up to the states that are left
    for t, layer in enumerate(learner.layers):
        state = torch.zeros_like(layer.state)
        for (event,) in told["conversions"]:
            if event.task == t:
                state[event.post, event.pre] = torch.from_numpy(event.new)
        assert torch.equal(state, layer.state) and state.any()
    # spikes of the first two presentations of training and test: input, and each answer
    names = [args[0] for args in told["spikes"]]
    assert names == ["retina", "task0"] * 2 + ["retina", "task1"] + ["retina", "task0", "task1"]
    assert max(float(time.max(initial=0)) for _, time, _ in told["spikes"][:2]) < 16.0
