"""Minutes of ongoing activity through a plastic layer, in pieces: time and memory.

    python experiments/benchmarks/long_simulation.py --into docs/benchmarks.md
    python experiments/benchmarks/long_simulation.py --minutes 1 --record DIRECTORY

Poisson input at 10 Hz, dt 1 ms, the default rule and contacts; neurons fire by their own synapses.
With --record all spikes, changes of state and ten samples a second of some contacts are streamed to
DIRECTORY/run.h5.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from snn_artsy.config import ContactConfig, NeuronConfig, RecordConfig
from snn_artsy.recording import RunRecorder, open_run
from snn_artsy.synapses import SilentSynapseLayer, StreamedSimulation

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert

N_PRE, N_POST, DT_MS, RATE_HZ, PIECE_S = 768, 64, 1.0, 10.0, 5
SAMPLED = torch.tensor([[j, 12 * j] for j in range(N_POST)])  # (post, pre)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--record", type=Path, metavar="DIRECTORY")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    generator = torch.Generator().manual_seed(0)
    contacts = ContactConfig(silent_share=0.7)
    layer = SilentSynapseLayer(
        N_PRE, N_POST, DT_MS, NeuronConfig(), contacts=contacts, generator=generator
    ).train()
    steps = round(PIECE_S * 1000.0 / DT_MS)
    layer.simulate(torch.zeros(2, 1, N_PRE))  # what is compiled or loaded on first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state, spikes, changes, drawing = None, 0.0, 0, 0.0
    begun = time.perf_counter()
    with ExitStack() as stack:
        streamed = None
        if given.record is not None:
            recorder = RunRecorder(given.record, "", {"seed": 0}, RecordConfig())
            streamed = StreamedSimulation(layer, stack.enter_context(recorder), SAMPLED)
        for _ in range(round(given.minutes * 60 / PIECE_S)):
            at = time.perf_counter()
            pre = torch.rand(steps, 1, N_PRE, generator=generator).lt_(RATE_HZ * DT_MS / 1000.0)
            drawing += time.perf_counter() - at
            if streamed is None:
                response, state, events = layer.simulate(pre, state=state)
                changes += len(events.step)
            else:
                response = streamed.simulate(pre)
            spikes += float(response.spikes.sum())
    if streamed is not None:
        with open_run(given.record) as run:
            changes = run.n_events(0)
    seconds = time.perf_counter() - begun - drawing
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    rate = spikes / (N_POST * given.minutes * 60)
    text = "\n".join([
        "| simulated | layer | our neurons | changes of state | seconds | memory on top |",
        "|---|---|---:|---:|---:|---:|",
        f"| {given.minutes:g} min at {RATE_HZ:g} Hz, dt {DT_MS:g} ms | {N_PRE} × {N_POST} | "
        f"{rate:.1f} Hz | {changes:,} | {seconds:.1f} | {grown:.0f} MB |",
        "",
        f"{given.threads} threads; pieces of {PIECE_S} s; drawing the input took another "
        f"{drawing:.1f} s.",
    ])  # fmt: skip
    print(text)
    if given.into is not None:
        insert(given.into, "long_simulation", text)


if __name__ == "__main__":
    main()
