"""analysis/efficiency.py: operations by hand, with adapters on h_0 and in the ViT's blocks."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_vit import BLOCKS, DIM, N_TASKS, PER_TASK, QUICK_SNN, in_blocks, stream

from snn_artsy.learners import Setting, build, build_snn
from snn_artsy.learners.artsy_best import ArtsyBest

CLASSES, HIDDEN = N_TASKS * PER_TASK, BLOCKS.bottleneck
TASKS, TEST = stream()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    return importlib.import_module("efficiency")


def trained(given: Setting) -> Any:
    """What `load_trained` gives, as far as the script reads it."""
    learner = build_snn(given)
    for task in TASKS:
        learner.learn(task)
    features = SimpleNamespace(
        tasks=[(task, TEST) for task in TASKS],
        backbone=given.backbone,
        setting=lambda config, device: given,
    )
    return SimpleNamespace(config=given.config, features=features, learner=learner, device="cpu")


def test_adapters_in_the_blocks(script: Any) -> None:
    """With adapters in the last two of three blocks a sub-network computes, from the tokens of the
    first of these on, its adapter on five tokens; then attention over them, and MLP and adapter of
    the class token alone."""
    ann = replace(BLOCKS, blocks=2)
    run = trained(in_blocks(replace(QUICK_SNN, tap="first"), ann=ann))
    adapter = 2 * DIM * HIDDEN
    attention = 5 * 4 * DIM**2 + 2 * 5**2 * DIM
    network = 5 * adapter + attention + 8 * DIM**2 + adapter
    own = [(2 * DIM if t == 0 else 3 * DIM) * (CLASSES - PER_TASK * t) for t in range(N_TASKS)]
    best = build("artsy_best", run.features.setting(run.config, "cpu"))
    assert isinstance(best, ArtsyBest)
    best.subnetworks = run.learner.subnetworks.sharing()
    for task in TASKS:
        best.learn(task)
    ann_cost = script.of_ann(run)["artsy_best"]
    with torch.no_grad():
        snn = script.of_snn(run)
    of_both = (
        (best, ann_cost, 2 * DIM * CLASSES),
        (run.learner, snn["artsy_snn: sub-networks"], 0),
    )
    for learner, cost, every_image in of_both:
        gates = learner.predict(TEST).gates
        assert gates is not None
        behind = float((gates.double().mean(0) * torch.tensor(own)).sum())
        gates[:, 0] = True  # both see what the first sub-network says
        computed = float(gates.sum(1).double().mean())
        assert cost.operations.dense == pytest.approx(computed * network + behind + every_image)
    total = sum(cost.operations.dense for name, cost in snn.items() if ":" in name)
    assert snn["artsy_snn"].operations.dense == total
    # two adapters with biases a task, in float32; discriminants in float64
    adapters = N_TASKS * 2 * (2 * DIM * HIDDEN + HIDDEN + DIM)
    assert snn["artsy_snn: sub-networks"].footprint == 4 * adapters + 8 * sum(own)
    weights = (
        12 * DIM**2 + N_TASKS * 2 * adapter + sum(own)
    )  # of one block of the ViT, all adapters
    assert snn["artsy_snn: sub-networks"].weights[1] == weights
    assert ann_cost.footprint == 4 * adapters + 8 * (sum(own) + 2 * DIM * CLASSES)


@pytest.mark.parametrize("mode", ["full", "gate"])
def test_adapters_on_h0(script: Any, mode: str) -> None:
    """Gates see every image, sub-networks those that they let through; the SNN's adapters count,
    where it has any."""
    given = in_blocks(replace(QUICK_SNN, mode=mode), ann=replace(BLOCKS, placement="head"))
    run = trained(replace(given, backbone=None))
    ann = script.of_ann(run)["artsy_ann"]
    with torch.no_grad():
        snn = script.of_snn(run)
    hidden = given.config.ann.gate_hidden
    gates, network = N_TASKS * (DIM * hidden + hidden), 2 * DIM * HIDDEN
    behind = (ann.operations.dense - gates) / network
    assert 0 <= behind <= N_TASKS and (len(TEST) * behind) % 1 == pytest.approx(0, abs=1e-6)
    if mode == "full":
        assert "artsy_snn: sub-networks" not in snn
    else:
        assert snn["artsy_snn: sub-networks"].operations.dense == N_TASKS * network
