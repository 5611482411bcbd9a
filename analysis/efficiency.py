"""Cost of an answer, ANN against SNN, after the last task of a finished run.

    python analysis/efficiency.py runs/default --into README.md --name efficiency

Counted from h_0 on, since the ViT is the same for both (Yik et al. 2025, NeuroBench). The SNN is
the run's own; the ANN learns the run's tasks again here. ANN: the gates and the sub-networks behind
open ones. SNN: scaling of features, neurons, and every contact that conducts, in every step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from snn_artsy.cli import script
from snn_artsy.evaluation.efficiency import (
    Operations,
    activation_sparsity,
    connection_sparsity,
    footprint_bytes,
    synaptic_operations,
)
from snn_artsy.learners import build
from snn_artsy.learners.tasks import join
from snn_artsy.runs.trained import Trained, load_trained
from snn_artsy.synapses import engine_torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert

Row = tuple[str, int, float | None, float, Operations]


def of_snn(trained: Trained) -> list[Row]:
    """Scaling of features, neurons and contacts, and all of them together.

    Neurons keep a threshold, a balance of inhibition and their membrane; each multiplies its
    membrane by the leak in every step. Features are scaled by as many multiplications as their
    matrix has entries.
    """
    learner = trained.learner
    samples = join([test for _, test in trained.features.tasks])
    pre = learner.input_spikes(samples).cpu().numpy()
    scaling = learner.scaling
    centred = (learner.driven_by(samples).double() - scaling.mean).cpu().numpy()
    matrix = scaling.matrix.cpu().numpy()
    kept = footprint_bytes([scaling.mean.cpu().numpy(), matrix])
    whitening = synaptic_operations(matrix.T, centred)
    parts = [("artsy_snn: scaling of features", kept, [matrix], [centred], whitening)]

    weights, states, post = [], [], []
    contacts, leaks = Operations(0, 0, 0), 0.0
    for layer in learner.layers:
        w = layer.transmitted().cpu().numpy()
        begun = engine_torch.begin(layer.circuit(), 1)
        response = layer.respond(torch.from_numpy(pre))
        weights.append(w)
        states += [x.cpu().numpy() for x in (begun.threshold, begun.balance, *begun.neuron)]
        post.append(response.spikes.cpu().numpy())
        contacts += synaptic_operations(w, pre)
        leaks += len(pre) * layer.n_post
    neurons = Operations(leaks, leaks, 0)
    parts.append(("artsy_snn: neurons", footprint_bytes(states), [], post, neurons))
    # a contact that conducts or not is one bit; occupancies are needed to learn, not to answer
    bits = footprint_bytes([np.packbits(w != 0) for w in weights])
    parts.append(("artsy_snn: contacts", bits, weights, [pre], contacts))

    sizes, all_weights, activations, operations = zip(*(part[1:] for part in parts), strict=True)
    joined = [[x for each in kind for x in each] for kind in (all_weights, activations)]
    total = Operations(0, 0, 0)
    for found in operations:
        total += found
    rows = [
        (name, size, connection_sparsity(w) if w else None, activation_sparsity(x), ops)
        for name, size, w, x, ops in parts
    ]
    return [
        *rows,
        ("artsy_snn", sum(sizes), connection_sparsity(joined[0]), activation_sparsity(joined[1]),
         total),
    ]  # fmt: skip


def of_ann(trained: Trained) -> Row:
    learner = build("artsy_ann", trained.features.setting(trained.config, trained.device))
    for task, _ in trained.features.tasks:
        learner.learn(task)
    samples = join([test for _, test in trained.features.tasks])
    gates = learner.predict(samples).gates
    assert gates is not None
    h0, n = samples.features, len(samples)
    total, weights, activations = Operations(0, 0, 0), [], []
    for t, (network, gate) in enumerate(zip(learner.networks, learner.gates, strict=True)):  # type: ignore[attr-defined]
        layers = [(gate.hidden, gate.norm(h0), n), (gate.out, None, n)]
        shown = h0[gates[:, t]]
        layers += [(network.down, shown, len(shown)), (network.up, None, len(shown))]
        entered = None
        for linear, given, samples in layers:
            a = given if given is not None else torch.relu(entered)
            entered = linear(a) if samples else a
            w = linear.weight.detach().numpy()
            weights.append(w)
            if samples:
                activations.append(a.detach().numpy())
                found = synaptic_operations(w, a.detach().numpy())
                total += Operations(*(samples / n * x for x in found))
    kept = [p.detach().numpy() for m in (*learner.networks, *learner.gates)  # type: ignore[attr-defined]
            for p in m.parameters()]  # fmt: skip
    sparsity = activation_sparsity(activations)
    return "artsy_ann", footprint_bytes(kept), connection_sparsity(weights), sparsity, total


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="efficiency")
    given = parser.parse_args(words)
    trained = load_trained(given.run)
    lines = ["| | footprint, kB | zero connections, % | zero activations, % | dense operations | "
             "effective MACs | effective ACs |", "|---|" + "---:|" * 6]  # fmt: skip
    with torch.no_grad():
        snn = of_snn(trained)
    for name, size, connections, activity, ops in (of_ann(trained), *snn):
        zero = "–" if connections is None else f"{100 * connections:.1f}"
        lines.append(
            f"| {name} | {size / 1e3:,.1f} | {zero} | {100 * activity:.1f} | "
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
