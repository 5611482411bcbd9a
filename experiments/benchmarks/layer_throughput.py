"""`SilentSynapseLayer` with `update: step` under a teacher: compiled loop against the torch path.

    python experiments/benchmarks/layer_throughput.py --into docs/benchmarks.md

The default rule (NMDA-gated pair STDP with a presynaptic target), states and clocks of all contacts
included; interleaved, medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from snn_artsy.config import NeuronConfig
from snn_artsy.rules import GatedSTDP
from snn_artsy.synapses import SilentSynapseLayer, compiled

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

SIZES = ((768, 64, 1, 400), (768, 768, 1, 300), (768, 768, 32, 60))
PATHS = {"compiled": compiled.covers, "torch": lambda layer: False}


def throughput(n_pre: int, n_post: int, batch: int, steps: int, path: str) -> float:
    """Million synapse updates a second of one batch, after another that warms up."""
    generator = torch.Generator().manual_seed(0)
    pre = (torch.rand(steps, batch, n_pre, generator=generator) < 0.03).float()
    current = 1.5 * (torch.rand(steps, batch, n_post, generator=generator) < 0.03)
    compiled.covers = PATHS[path]
    layer = SilentSynapseLayer(n_pre, n_post, 1.0, NeuronConfig(), GatedSTDP(), update="step")
    layer.pair(pre, current)
    at = time.perf_counter()
    layer.pair(pre, current)
    return n_pre * n_post * batch * steps / (time.perf_counter() - at) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    lines = ["| synapses | compiled | torch | ratio |", "|---|---:|---:|---:|"]
    for n_pre, n_post, batch, steps in SIZES:
        found: dict[str, list[float]] = {path: [] for path in PATHS}
        for _ in range(given.repeats):
            for path in PATHS:
                found[path].append(throughput(n_pre, n_post, batch, steps, path))
        ours, plain = (statistics.median(values) for values in found.values())
        ratios = [a / b for a, b in zip(*found.values(), strict=True)]
        lines.append(
            f"| {n_pre} × {n_post}, B {batch} | {ours:,.0f} | {plain:,.0f} | "
            f"{statistics.median(ratios):.1f} |"
        )
    lines += [
        "",
        f"Million synapse updates a second, {torch.get_num_threads()} threads, median of "
        f"{given.repeats} interleaved runs; 3 % of inputs and neurons fire in a step.",
    ]
    text = "\n".join(lines)
    print(text)
    if given.into is not None:
        insert(given.into, "layer_throughput", text)


if __name__ == "__main__":
    main()
