"""`SilentSynapseLayer` with `update: step`: compiled engine against the reference.

    python experiments/benchmarks/layer_throughput.py --into docs/benchmarks.md

The default rule (NMDA-gated pair STDP with a presynaptic target), under a teacher and by the
neurons' own synaptic input, and rules of which the compiled engine takes the contacts only
(voltage) or nothing (calcium, stochastic insertion); states and clocks of all contacts included;
interleaved, medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.rules import CalciumRule, GatedSTDP, Gating, VoltageSTDP
from snn_artsy.synapses import SilentSynapseLayer, engine_numba

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

SIZES = ((768, 64, 1, 400), (768, 768, 1, 300), (768, 768, 32, 60))
PATHS = {"compiled": engine_numba.covers, "torch": lambda circuit: "to be compared"}
RULES = {
    "gated": GatedSTDP(),
    "voltage": VoltageSTDP(),
    "calcium": CalciumRule(),
    "bernoulli": GatedSTDP(gating=Gating(insertion="bernoulli")),
}


class Case(NamedTuple):
    n_pre: int
    n_post: int
    batch: int
    steps: int
    rule: str = "gated"
    taught: bool = True


CASES = (
    *(Case(*size, taught=taught) for taught in (True, False) for size in SIZES),
    *(Case(768, 768, 1, 30, rule) for rule in ("voltage", "calcium", "bernoulli")),
)


def throughput(case: Case, path: str) -> tuple[float, float]:
    """Million synapse updates a second of one batch, after another that warms up; and the share of
    steps in which a neuron fires."""
    n_pre, n_post, batch, steps, rule, taught = case
    generator = torch.Generator().manual_seed(0)
    pre = (torch.rand(steps, batch, n_pre, generator=generator) < 0.03).float()
    current = 1.5 * (torch.rand(steps, batch, n_post, generator=generator) < 0.03)
    engine_numba.covers = PATHS[path]
    # untaught neurons fire by the contacts that are not silent
    contacts = ContactConfig(silent_share=1.0 if taught else 0.7)
    layer = SilentSynapseLayer(
        n_pre, n_post, 1.0, NeuronConfig(), RULES[rule], contacts, update="step",
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    shown = (pre, current if taught else None)
    layer.pair(*shown)
    at = time.perf_counter()
    response, _ = layer.pair(*shown)
    seconds = time.perf_counter() - at
    return n_pre * n_post * batch * steps / seconds / 1e6, float(response.spikes.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    lines = [
        "| synapses | rule | teacher | neurons that fire in a step | compiled | torch | ratio |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for case in CASES:
        found: dict[str, list[float]] = {path: [] for path in PATHS}
        for _ in range(given.repeats):
            for path in PATHS:
                rate, fired = throughput(case, path)
                found[path].append(rate)
        ours, plain = (statistics.median(values) for values in found.values())
        ratios = [a / b for a, b in zip(*found.values(), strict=True)]
        lines.append(
            f"| {case.n_pre} × {case.n_post}, B {case.batch} | {case.rule} | "
            f"{'yes' if case.taught else 'no'} | "
            f"{100 * fired:.1f} % | {ours:,.0f} | {plain:,.0f} | {statistics.median(ratios):.1f} |"
        )
    lines += [
        "",
        f"Million synapse updates a second, {torch.get_num_threads()} threads, median of "
        f"{given.repeats} interleaved runs; 3 % of inputs fire in a step.",
    ]
    text = "\n".join(lines)
    print(text)
    if given.into is not None:
        insert(given.into, "layer_throughput", text)


if __name__ == "__main__":
    main()
