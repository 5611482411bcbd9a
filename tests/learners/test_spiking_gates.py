"""Sub-networks in the ViT's blocks behind spiking silent synapses, on a small ViT."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from small_vit import (
    BLOCKS,
    DIM,
    N_TASKS,
    PER_TASK,
    QUICK_SNN,
    in_blocks,
    small_vit,
    stream,
)
from test_kept_learners import assert_same, kept
from test_probe import Listener
from torch import Tensor

import snn_artsy.learners.opened_evidence
import snn_artsy.learners.spiking_gates
from snn_artsy.config import BestGateConfig, InhibitionConfig, RunConfig
from snn_artsy.config_builder import build as build_config
from snn_artsy.config_sources import complete
from snn_artsy.learners import Setting, build, build_snn
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.class_evidence import of_tasks
from snn_artsy.learners.prototypes import cosine_scores
from snn_artsy.learners.spiking_gates import SpikingGates
from snn_artsy.learners.tasks import join, take
from snn_artsy.observer import SILENT

TASKS, TEST = stream()
OF_CLASS = torch.arange(N_TASKS * PER_TASK) // PER_TASK


def untaught(tap: str = "h0", **values: Any) -> SpikingGates:
    learner = build("artsy_snn", in_blocks(replace(QUICK_SNN, tap=tap), **values))
    assert isinstance(learner, SpikingGates)
    return learner


@cache
def learnt(tap: str = "h0") -> SpikingGates:
    learner = untaught(tap)
    for task in TASKS:
        learner.learn(task)
    return learner


def share_right(scores: Tensor) -> float:
    return float((scores.argmax(1) == TEST.labels).double().mean())


@pytest.mark.parametrize("tap", ["h0", "first"])
def test_votes_of_assemblies_open_the_likeliest_tasks_sub_networks(tap: str) -> None:
    learner = learnt(tap)
    answer = learner.predict(TEST)
    votes = answer.spike_scores
    assert votes is not None and answer.gates is not None and not votes.isneginf().any()
    tasks = of_tasks((votes.double() / learner.report()["temperature"]).log_softmax(1), OF_CLASS)
    likeliest = tasks.topk(2, dim=1).indices
    expected = torch.zeros(len(TEST), N_TASKS, dtype=torch.bool).scatter(1, likeliest, True)
    assert torch.equal(answer.gates, expected)
    computed = answer.gates.clone()
    # what drives the synapses, or else the second look, takes the first sub-network
    computed[:, 0] |= (tap == "first") | computed.any(1)
    assert answer.vit_passes is not None
    torch.testing.assert_close(answer.vit_passes, 1.0 + computed.sum(1))
    # six classes of which one is right
    assert share_right(answer.scores) > 0.6 and share_right(votes) > 0.4
    oracle = learner.predict(replace(TEST, true_task=OF_CLASS[TEST.labels])).scores.argmax(1)
    assert torch.equal(OF_CLASS[oracle], OF_CLASS[TEST.labels])


def test_the_answer_is_that_of_the_best_ann_gate_with_other_evidence() -> None:
    """Sub-networks are the same, trained in the same way and asked alike."""
    learner, best = learnt(), build("artsy_best", in_blocks())
    assert isinstance(best, ArtsyBest)
    for task in TASKS:
        best.learn(task)
    for one, other in zip(learner.subnetworks.networks, best.subnetworks.networks, strict=True):
        assert_same(one.state_dict(), other.state_dict())
    mine, its = (of.subnetworks.own[1].discriminant()[0] for of in (learner, best))
    assert torch.equal(mine, its)
    answer = learner.predict(TEST)
    assert answer.spike_scores is not None
    responses = learner._responses(TEST.features, TEST.index, "test")
    driven = torch.stack([counts.sum(1) > 0 for _, counts in responses], dim=1)
    votes = answer.spike_scores.double()
    given = learner.subnetworks.answer(TEST, votes, driven=driven)
    for name in ("scores", "gate_scores", "gates", "added_norm", "shut_predicted"):
        assert torch.equal(getattr(answer, name), getattr(given, name)), name


def test_a_network_that_does_not_fire_leaves_all_gates_shut() -> None:
    learner = learnt()
    before = [layer.state.clone() for layer in learner.layers]
    try:
        # one sub-network alone: likely or not, it cannot open
        learner.layers[1].state.fill_(SILENT)
        answer = learner.predict(TEST)
        assert answer.gates is not None and not answer.gates[:, 1].any()
        assert answer.gates.any()
        for layer in learner.layers:
            layer.state.fill_(SILENT)
        answer = learner.predict(TEST)
    finally:
        for layer, state in zip(learner.layers, before, strict=True):
            layer.state.copy_(state)
    assert answer.spike_scores is not None and answer.spike_scores.isneginf().all()
    assert answer.gates is not None and not answer.gates.any()
    assert answer.vit_passes is not None and bool((answer.vit_passes == 1).all())
    base = learner.prototypes.base
    assert base is not None
    nearest = cosine_scores(TEST.features, base).argmax(1)
    assert torch.equal(answer.scores.argmax(1), nearest)


def test_ablations_of_the_gates_are_those_of_the_best_ann_gate() -> None:
    learner = learnt()
    given = learner.predict(TEST)
    config, answers = learner.subnetworks.config, {}
    for gates in ("shuffled", "open", "first", "shut"):
        learner.subnetworks.config = BestGateConfig(gates=gates, open=1)  # type: ignore[arg-type]
        answers[gates] = learner.predict(TEST)
    learner.subnetworks.config = config
    assert given.spike_scores is not None
    assert torch.equal(answers["first"].scores.argmax(1), given.spike_scores.argmax(1))
    assert learner.prototypes.base is not None
    nearest = cosine_scores(TEST.features, learner.prototypes.base).argmax(1)
    assert torch.equal(answers["shut"].scores.argmax(1), nearest)
    assert bool((answers["open"].vit_passes == 1 + N_TASKS).all())
    assert share_right(answers["shuffled"].scores) < share_right(given.scores) - 0.2


def test_a_tap_of_the_first_sub_network_doubles_the_units() -> None:
    learner = learnt("first")
    driving = learner.driven_by(TEST)
    assert driving.shape == (len(TEST), 2 * DIM)
    assert torch.equal(driving[:, :DIM], TEST.features)
    with torch.no_grad():
        added = learner.subnetworks.networks[0].answer(TEST)
    train, spread = TASKS[0].train, []
    with torch.no_grad():
        for x in (train.features, learner.subnetworks.networks[0].answer(train)):
            rest = torch.cat([x[train.labels == c] - x[train.labels == c].mean(0) for c in (0, 1)])
            spread.append(float(rest.square().mean().sqrt()))
    torch.testing.assert_close(driving[:, DIM:], spread[0] / spread[1] * added)
    assert spread[0] > 3 * spread[1] > 0.01  # whatever the scale of adapters
    assert learner.input_spikes(TEST).shape == (8, len(TEST), 4 * DIM)
    assert learner.layers[2].n_pre == 4 * DIM == QUICK_SNN.n_inputs(2 * DIM)
    # what stands in for old tasks is of the same features
    stand_ins = learner.replay.batch([0, 2], purpose=0)
    assert stand_ins.features.shape[1] == 2 * DIM
    whole = join([TASKS[2].train, TASKS[2].validation])
    mean = learner.driven_by(whole)[whole.labels == 4].mean(0)
    torch.testing.assert_close(learner.replay.means[2][0], mean)  # type: ignore[attr-defined]
    assert learnt().driven_by(TEST) is TEST.features


def test_calibration_is_with_samples_that_contacts_were_not_taught() -> None:
    """Afterwards all are taught, and of the first time nobody is told."""
    values = {"snn.preset": "error", "snn.mode": "gate", "snn.replay.epochs": 2}
    config = build_config(RunConfig, complete(values | {"ann.placement": "blocks"}))
    config = replace(config, ann=BLOCKS, seed=5)
    listener = Listener()
    learner: Any = build_snn(Setting(config, DIM, "cpu", listener, small_vit()))
    other: Any = build_snn(Setting(config, DIM, "cpu", None, small_vit()))
    given: list[Tensor] = []
    calibrate = learner.subnetworks.calibrate

    def told(task: Any, evidence: Tensor, chosen: Tensor | None) -> None:
        given.append(evidence)
        calibrate(task, evidence, chosen)

    learner.subnetworks.calibrate = told
    for task in TASKS[:2]:
        learner.learn(task)
    shown = [args[0] for name, args in listener.told if name == "presentations"]
    taught = [p for p in shown if p.split != "replay"]
    assert {p.split for p in taught} == {"train"} and len(taught) < len(shown)
    n = [len(p.index) for p in taught]
    assert sum(n) == sum(len(task.train) + len(task.validation) for task in TASKS[:2])
    # the second task, after the first was learnt as a whole
    other.learn(TASKS[0])
    held = TASKS[1].validation
    other._teach(replace(TASKS[1], validation=take(held, held.index[:0])))
    responses = other._responses(held.features, held.index, "validation")
    votes = torch.cat([votes for votes, _ in responses], 1)
    assert torch.equal(given[1], votes.double()) and bool((votes.max(1).values > 1).all())
    # what was taught in the end is something else
    states = [layer.state for layer in learner.layers]
    assert not all(torch.equal(a, b.state) for a, b in zip(states, other.layers, strict=True))
    assert share_right(learner.predict(TEST).scores) > 0.4  # of four of six classes


def test_it_goes_on_from_its_checkpoint_and_between_epochs() -> None:
    for tap in ("h0", "first"):
        states: list[dict[str, Tensor]] = []
        plain = untaught(tap)
        plain.after_epoch = lambda p=plain, s=states: s.append(kept(p))
        plain.learn(TASKS[0])
        first = kept(plain)
        plain.learn(TASKS[1])
        for state, task in ((first, TASKS[0]), (states[2], TASKS[0])):
            resumed = untaught(tap)
            resumed.restore(state, [task])
            resumed.learn(TASKS[1])
            assert_same(resumed.checkpoint(), plain.checkpoint())
            assert resumed.report() == plain.report()
        other = untaught(tap)
        other.load_state_dict(plain.state_dict())
        one, two = plain.predict(TEST), other.predict(TEST)
        assert torch.equal(one.scores, two.scores) and torch.equal(one.gates, two.gates)  # type: ignore[arg-type]


def test_controls_share_the_sub_networks_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    whole = snn_artsy.learners.opened_evidence.train

    def counted(network: Any, task: Any, *rest: Any) -> None:
        trained.append(task.number)
        whole(network, task, *rest)

    monkeypatch.setattr(snn_artsy.learners.opened_evidence, "train", counted)
    found = untaught().controls()
    assert len(found) == 6
    for control in found.values():
        for task in TASKS[:2]:
            control.learn(task)
    assert trained == [0, 1]  # though seven learners of each task learnt it, and some more
    alone = build_snn(in_blocks(), "permuted_contacts")
    for task in TASKS[:2]:
        alone.learn(task)
    assert_same(found["permuted_contacts"].state_dict(), alone.state_dict())
    accuracy = {name: share_right(c.predict(TEST).spike_scores) for name, c in found.items()}  # type: ignore[arg-type]
    plain = untaught()
    for task in TASKS[:2]:
        plain.learn(task)
    votes = plain.predict(TEST).spike_scores
    assert votes is not None
    assert max(accuracy["permuted_contacts"], accuracy["no_plasticity"]) < share_right(votes) - 0.1


def test_a_first_sub_network_that_says_nothing_is_not_scaled() -> None:
    h0, labels = torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    ratio = snn_artsy.learners.spiking_gates._ratio
    assert float(ratio(h0, torch.zeros(6, 4), labels)) == 1.0
    assert float(ratio(h0[:2], h0[:2], torch.tensor([0, 1]))) == 1.0
    assert float(ratio(h0, h0 / 3, labels)) == pytest.approx(3.0)


def test_what_it_reports_and_keeps() -> None:
    learner = learnt("first")
    report = learner.report()
    contacts = 4 * DIM * 2 * N_TASKS * PER_TASK
    adapters = sum(p.numel() for n in learner.subnetworks.networks for p in n.parameters())
    assert report["n_contacts"] == contacts and report["parameters"] == contacts + adapters
    state = learner.state_dict()
    assert {"recall.2", "prototypes.base", "layers.2.state", "opened.pools",
            "opened.subnetworks.0.adapters.0.up.weight"} <= state.keys()  # fmt: skip
    assert learner.recall[2].shape == (PER_TASK, 2 * DIM)
    operations = learner.predict(TEST).operations
    spikes = learner.input_spikes(TEST).sum(0)
    opened = torch.stack([(x.transmitted() != 0).sum(0) for x in learner.layers]).sum(0)
    assert operations is not None
    torch.testing.assert_close(operations, spikes @ opened.float())


@pytest.mark.parametrize("source", ["fixed", "plastic"])
def test_what_is_tried_adds_no_inhibitory_neurons(source: str) -> None:
    """Contacts are tried on a copy of the network, which has inhibitory neurons of its own."""
    snn = replace(QUICK_SNN, inhibition=InhibitionConfig(source=source))
    learner = build("artsy_snn", in_blocks(snn))
    for task in TASKS[:2]:
        learner.learn(task)
    assert learner.predict(TEST).scores.isfinite().all()
