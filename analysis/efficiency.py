"""Cost of an answer, ANN against SNN, after the last task of a finished run.

    python analysis/efficiency.py runs/default --into experiments/RESULTS.md --name efficiency

Counted from h_0 on, since the ViT is the same for both (Yik et al. 2025, NeuroBench). The SNN is
the run's own; the ANN learns the run's tasks again here. ANN: the gates and the sub-networks behind
open ones. SNN: scaling of features, neurons, and every contact that conducts, in every step; the
sub-networks, where they are adapters. Adapters in the ViT's blocks count with what they compute of
these blocks again; the ANN beside them has the best ANN gate, over the SNN's own sub-networks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_artsy.cli import script
from snn_artsy.evaluation.efficiency import (
    Operations,
    footprint_bytes,
    synaptic_operations,
)
from snn_artsy.learners import build
from snn_artsy.learners.artsy_ann import ArtsyANN
from snn_artsy.learners.artsy_best import ArtsyBest
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.base import Learner
from snn_artsy.learners.opened_evidence import OpenedEvidence
from snn_artsy.learners.spiking_gates import SpikingGates
from snn_artsy.learners.subnetworks import BlockAdapters
from snn_artsy.learners.tasks import join
from snn_artsy.protocols.trained import Trained, spiking
from snn_artsy.runs.evaluate import predict
from snn_artsy.synapses import engine_torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert


@dataclass(frozen=True)
class Cost:
    """What a part of a model takes to answer an image.

    Args:
        footprint: Bytes.
        weights, activations: How many are not zero, and how many there are.
        operations: Of an image.
    """

    footprint: int
    weights: tuple[int, int]
    activations: tuple[int, int]
    operations: Operations

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.footprint + other.footprint,
            _sum(self.weights, other.weights),
            _sum(self.activations, other.activations),
            self.operations + other.operations,
        )


def _sum(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def _counted(tensors: Sequence[Tensor]) -> tuple[int, int]:
    return sum(int(x.count_nonzero()) for x in tensors), sum(x.numel() for x in tensors)


def _plain(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    return [tensor.detach().cpu().numpy() for tensor in tensors]


def of_snn(trained: Trained) -> dict[str, Cost]:
    """Scaling of features, neurons, contacts and sub-networks that are adapters, and all together.

    Neurons keep a threshold, a balance of inhibition and their membrane; each multiplies its
    membrane by the leak in every step. Features are scaled by as many multiplications as their
    matrix has entries.
    """
    learner = trained.learner
    samples = join([test for _, test in trained.features.tasks])
    pre, scaling = learner.input_spikes(samples), learner.scaling
    assert scaling is not None
    centred = learner.driven_by(samples).double() - scaling.mean
    kept = footprint_bytes(_plain([scaling.mean, scaling.matrix]))
    whitening = synaptic_operations(*_plain([scaling.matrix.T, centred]))
    parts = {
        "scaling of features": Cost(
            kept, _counted([scaling.matrix]), _counted([centred]), whitening
        )
    }
    weights, states, post = [], [], []
    contacts, leaks = Operations(0, 0, 0), 0.0
    for layer in learner.layers:
        begun = engine_torch.begin(layer.circuit(), 1)
        weights.append(layer.transmitted())
        states += [begun.threshold, begun.balance, *begun.neuron]
        post.append(layer.respond(pre).spikes)
        contacts += synaptic_operations(*_plain([weights[-1], pre]))
        leaks += len(pre) * layer.n_post
    held = footprint_bytes(_plain(states))
    parts["neurons"] = Cost(held, (0, 0), _counted(post), Operations(leaks, leaks, 0))
    # a contact that conducts or not is one bit; occupancies are needed to learn, not to answer
    bits = footprint_bytes([np.packbits(w != 0) for w in _plain(weights)])
    parts["contacts"] = Cost(bits, _counted(weights), _counted([pre]), contacts)
    if isinstance(learner, SpikingGates):
        opened = learner.subnetworks
        parts["sub-networks"] = of_networks(learner, trained, opened.networks, opened)
    elif isinstance(learner, ArtsySNN) and learner.adapters:
        parts["sub-networks"] = of_networks(learner, trained, learner.adapters)
    first, *others = parts.values()
    rows = {f"artsy_snn: {name}": cost for name, cost in parts.items()}
    return rows | {"artsy_snn": sum(others, first)}


def of_ann(trained: Trained) -> dict[str, Cost]:
    """Artsy (ANN); with sub-networks in the blocks the best ANN gate over those of the SNN."""
    setting = trained.features.setting(trained.config, trained.device)
    if isinstance(trained.learner, SpikingGates):
        best = build("artsy_best", setting)
        assert isinstance(best, ArtsyBest)
        best.subnetworks = opened = trained.learner.subnetworks.sharing()
        _learn(best, trained)
        gates = [part.discriminant()[0] for part in best.gates.parts]
        return {"artsy_best": of_networks(best, trained, opened.networks, opened, gates)}
    ann = build("artsy_ann", setting)
    assert isinstance(ann, ArtsyANN)
    _learn(ann, trained)
    return {"artsy_ann": of_networks(ann, trained, [*ann.networks, *ann.gates])}


def _learn(learner: Learner, trained: Trained) -> None:
    for task, _ in trained.features.tasks:
        learner.learn(task)


def of_networks(
    learner: Learner,
    trained: Trained,
    networks: Sequence[nn.Module],
    opened: OpenedEvidence | None = None,
    discriminants: Sequence[Tensor] = (),
) -> Cost:
    """What networks take while a learner answers all test images.

    Args:
        networks: Sub-networks, and gates that are networks. Those in the blocks compute parts of
            the ViT anew, whose operations count; its weights are there anyway.
        opened: Its discriminants are those of opened sub-networks.
        discriminants: Weights that every image is multiplied with, [n_in, n_out] each.
    """
    samples = join([test for _, test in trained.features.tasks])
    blocks: list[Any] = []
    for network in networks:
        if isinstance(network, BlockAdapters):
            assert trained.features.backbone is not None
            network.shelf = None  # every answer is computed here, to be counted
            # of the first adapted block nothing but the adapter is computed again
            blocks = list(trained.features.backbone.vit.blocks)[network.first + 1 :]
    linear = [m for x in (*networks, *blocks) for m in x.modules() if isinstance(m, nn.Linear)]
    with metered(linear, [block.attn for block in blocks]) as meter:
        answer = predict(learner, samples)
    total = Operations(*(x / len(samples) for x in meter.total))
    shares = [1.0] * len(discriminants)
    if opened is not None:
        assert answer.gates is not None
        shares += answer.gates.double().mean(0).tolist()
        discriminants = [*discriminants, *(own.discriminant()[0] for own in opened.own)]
    products = sum(m * w.numel() for m, w in zip(shares, discriminants, strict=True))
    total += Operations(products, products, 0.0)
    kept = [p for network in networks for p in network.parameters()]
    return Cost(
        footprint_bytes(_plain([*kept, *discriminants])),
        _counted([*(m.weight for m in linear), *discriminants]),
        meter.entered,
        total,
    )


class Meter:
    """What `metered` layers did: operations of all samples, and the numbers that entered."""

    def __init__(self) -> None:
        self.total = Operations(0.0, 0.0, 0.0)
        self.entered = (0, 0)

    def linear(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Linear)
        rows = given[0].flatten(0, -2)
        if len(rows):
            found = synaptic_operations(*_plain([module.weight, rows]))
            self.total += Operations(*(len(rows) * x for x in found))
            self.entered = _sum(self.entered, _counted([rows]))

    def attention(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        """Products of tokens with each other: queries with keys, and shares with values."""
        n, tokens, width = given[0].shape
        products = 2.0 * n * tokens**2 * width
        self.total += Operations(products, products, 0.0)


@contextmanager
def metered(linear: Sequence[nn.Module], attention: Sequence[nn.Module]) -> Iterator[Meter]:
    """Count what enters these layers within the block."""
    meter = Meter()
    hooks = [m.register_forward_pre_hook(meter.linear) for m in linear]
    hooks += [m.register_forward_pre_hook(meter.attention) for m in attention]
    try:
        yield meter
    finally:
        for hook in hooks:
            hook.remove()


def _zero(of: tuple[int, int]) -> str:
    """Percent of what is zero; a dash where there is nothing."""
    return f"{100 * (1 - of[0] / of[1]):.1f}" if of[1] else "–"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="efficiency")
    given = parser.parse_args(words)
    trained = spiking(given.run)
    lines = ["| | footprint, kB | zero connections, % | zero activations, % | dense operations | "
             "effective MACs | effective ACs |", "|---|" + "---:|" * 6]  # fmt: skip
    with torch.no_grad():
        snn = of_snn(trained)
    for name, cost in (of_ann(trained) | snn).items():
        ops = cost.operations
        lines.append(
            f"| {name} | {cost.footprint / 1e3:,.1f} | {_zero(cost.weights)} | "
            f"{_zero(cost.activations)} | "
            f"{ops.dense:,.0f} | {ops.multiply:,.0f} | {ops.accumulate:,.0f} |"
        )
    lines += ["", f"{trained.config.data.name}, {trained.config.backbone.name}, seed "
              f"{trained.config.seed}; operations per image, from h_0 on."]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    script(main)
