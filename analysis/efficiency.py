"""Cost of an answer, ANN against SNN, after the last task of a finished run.

    python analysis/efficiency.py runs/default --into README.md --name efficiency

Counted from h_0 on, since the ViT is the same for both (Yik et al. 2025, NeuroBench). The SNN is
the run's own; the ANN learns the run's tasks again here. ANN: the gates and the sub-networks behind
open ones. SNN: every contact that conducts, in every step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

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

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_table import insert

Row = tuple[str, int, float, float, Operations]


def of_snn(trained: Trained) -> Row:
    learner = trained.learner
    samples = join([test for _, test in trained.features.tasks])
    pre = learner.input_spikes(samples).cpu().numpy()
    weights = [layer.transmitted().cpu().numpy() for layer in learner.layers]
    total = Operations(0, 0, 0)
    post = []
    for layer, w in zip(learner.layers, weights, strict=True):
        total += synaptic_operations(w, pre)
        post.append(layer.respond(torch.from_numpy(pre)).spikes.cpu().numpy())
    # a contact that conducts or not is one bit; occupancies are needed to learn, not to answer
    bits = [np.packbits(w != 0) for w in weights]
    sparsity = activation_sparsity([pre, *post])
    return "artsy_snn", footprint_bytes(bits), connection_sparsity(weights), sparsity, total


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--name", default="efficiency")
    given = parser.parse_args()
    trained = load_trained(given.run)
    lines = ["| | footprint, kB | zero connections, % | zero activations, % | dense operations | "
             "effective MACs | effective ACs |", "|---|" + "---:|" * 6]  # fmt: skip
    with torch.no_grad():
        snn = of_snn(trained)
    for name, size, connections, activity, ops in (of_ann(trained), snn):
        lines.append(
            f"| {name} | {size / 1e3:,.1f} | {100 * connections:.1f} | {100 * activity:.1f} | "
            f"{ops.dense:,.0f} | {ops.multiply:,.0f} | {ops.accumulate:,.0f} |"
        )
    lines += ["", f"{trained.config.data.name}, {trained.config.backbone.name}, seed "
              f"{trained.config.seed}; operations per image, from h_0 on."]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    if given.into is not None:
        insert(given.into, given.name, text)


if __name__ == "__main__":
    main()
