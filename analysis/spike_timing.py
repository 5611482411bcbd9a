"""What the order of spikes decides: jittered inputs, and conversion against spike time.

    python analysis/spike_timing.py --config experiments/tiny_imagenet_timing.yaml \
        --set data.root=DIR --set backbone.checkpoint=FILE --out runs/spike_timing

Learns the configuration once for each width of Gaussian jitter of the presynaptic spikes in
training, and reads from the model without jitter how likely a contact converts, by how long before
the teacher its unit fires on average in the images of its neuron's class. Writes a figure and the
numbers (``spike_timing.png``, ``spike_timing.json``).
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console

from snn_artsy.checks import ConfigError
from snn_artsy.cli import script
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.config_sources import assignments, complete, read_config
from snn_artsy.learners import ArtsySNN, Setting, Task
from snn_artsy.learners.tasks import join
from snn_artsy.observer import SILENT
from snn_artsy.plots.style import BLACK, BLUE, ORANGE, PAGE_INCHES, new_figure, styled
from snn_artsy.provenance import provenance
from snn_artsy.rules import PairSTDP
from snn_artsy.runs.evaluate import evaluate
from snn_artsy.runs.features import FeatureStream, choose_device, prepare
from snn_artsy.synapses.encoding import SpikeEncoder
from snn_artsy.synapses.pairing import jitter_in_time

JITTER_MS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
OFTEN = 5
"""Images of a class in which a unit must fire, to have a mean spike time there."""
FILE = "spike_timing.json"
STREAM = 4  # of the noise, as in the shuffled control


class Jittered(ArtsySNN):
    """The spiking learner, presynaptic spikes moved in time in training presentations."""

    def __init__(self, s: Setting, sd_ms: float) -> None:
        c = s.config
        super().__init__(c.snn, c.ann, c.gate, s.dim, s.device, s.seed)
        self.sd_steps = sd_ms / c.snn.encoding.dt

    def _encode(
        self,
        encoder: SpikeEncoder,
        features: torch.Tensor,
        index: torch.Tensor,
        split: Any,
        offset: int = 0,
    ) -> torch.Tensor:
        pre = super()._encode(encoder, features, index, split, offset)
        if encoder is not self.encoder:
            return pre
        return jitter_in_time(pre, self.sd_steps, self.seed, STREAM + offset, index)


def learnt(features: FeatureStream, config: RunConfig, device: str, sd_ms: float) -> Jittered:
    learner = Jittered(features.setting(config, device), sd_ms)
    for task, _ in features.tasks:
        learner.learn(task)
    return learner


def accuracy(learner: ArtsySNN, features: FeatureStream) -> float:
    """From spikes alone after the last task."""
    seen = join([test for _, test in features.tasks])
    stream = features.stream
    answers = evaluate(learner, seen, stream.task_of_label, False, stream.class_of_label)
    return float(np.mean(answers.spike_predicted == answers.labels))


def lead_and_state(learner: ArtsySNN, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each contact whose unit fires often enough: teacher less the unit's mean spike time (ms),
    mean change by the STDP window in one presentation, and whether it converted."""
    layer, dt = learner.layers[task.number], learner.config.encoding.dt
    rule = layer.rule
    assert isinstance(rule, PairSTDP)
    k, columns = learner.config.neuron.per_class, []
    step = torch.arange(len(learner.schedule.teach))
    for c, label in enumerate(task.classes):
        rows = task.train.labels == label
        pre = learner._encode(
            learner.encoder, task.train.features[rows], task.train.index[rows], "train"
        )
        for neuron in range(k):
            column = learner.schedule.teach[:, min(neuron, learner.schedule.teach.shape[1] - 1)]
            lag = (torch.nonzero(column)[0, 0] - step)[:, None, None] * dt
            window = torch.where(
                lag > 0,
                rule.a_plus * torch.exp(-lag / rule.tau_plus_ms),
                -rule.a_minus * torch.exp(lag / rule.tau_minus_ms),
            ) * (lag != 0)
            fired = pre.sum((0, 1))
            often = (pre.amax(0).sum(0) >= OFTEN) & layer.born_silent[c * k + neuron]
            lead = (pre * lag).sum((0, 1)) / fired.clamp_min(1.0)
            change = (pre * window).sum((0, 1)) / pre.shape[1]
            converted = layer.state[c * k + neuron] != SILENT
            columns.append([x[often].double() for x in (lead, change, converted)])
    lead, change, converted = (torch.cat(part).numpy() for part in zip(*columns, strict=True))
    return lead, change, converted


def binned(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> list[float | None]:
    """Mean of y in each bin of x; None with fewer than 20."""
    bins = [y[(x >= a) & (x < b)] for a, b in itertools.pairwise(edges)]
    return [float(part.mean()) if len(part) >= 20 else None for part in bins]


def read(directory: Path) -> dict[str, Any]:
    """Numbers that were kept."""
    found: dict[str, Any] = json.loads((directory / FILE).read_text(encoding="utf-8"))
    return found


def measured(config: RunConfig, features: FeatureStream, device: str) -> dict[str, Any]:
    curve = []
    for sd_ms in JITTER_MS:
        learner = learnt(features, config, device, sd_ms)
        share = learner.report()["converted_share"]
        curve.append({"jitter_ms": sd_ms, "a_last_spikes_only": accuracy(learner, features),
                      "converted_share": share})  # fmt: skip
        print(curve[-1], flush=True)
        if sd_ms == 0.0:
            parts = [lead_and_state(learner, task) for task, _ in features.tasks]
            lead, change, converted = (np.concatenate(part) for part in zip(*parts, strict=True))
    edges = np.arange(-16.5, 17.5, 1.0)
    p = config.snn.plasticity
    return {
        "data": config.data.name,
        "seed": config.seed,
        "git_commit": provenance(1)["git_commit"],
        "window": {
            "a_plus": p.a_plus,
            "tau_plus_ms": p.tau_plus_ms,
            "a_minus": p.a_minus,
            "tau_minus_ms": p.tau_minus_ms,
        },
        "jitter": curve,
        "lead_ms": ((edges[:-1] + edges[1:]) / 2).tolist(),
        "converted": binned(lead, converted, edges),
        "grows_by_the_window": binned(lead, (change > 0).astype(float), edges),
        "window_change": binned(lead, change, edges),
        "agreement": float(np.mean((change > 0) == converted)),
    }


@styled
def draw(found: dict[str, Any]) -> Figure:
    """Conversion against spike time with the STDP window; accuracy and contacts against jitter."""
    figure = new_figure(PAGE_INCHES, 2.4)
    left, right = figure.subplots(1, 2)
    lead = np.array(found["lead_ms"])
    shown = [100 * np.array(found[k], dtype=float) for k in ("converted", "grows_by_the_window")]
    left.plot(lead, shown[0], "o", color=BLUE, label="converted")
    left.plot(lead, shown[1], color=BLACK, lw=0.8, label="mean window above zero")
    left.axvline(0.0, color=BLACK, lw=0.5, ls=":")
    left.set(xlabel="teacher - mean spike time of the unit (ms)", ylabel="contacts (%)")
    left.legend(loc="upper left")
    window = left.twinx()
    p, d = found["window"], np.linspace(-16, 16, 321)
    up = p["a_plus"] * np.exp(-d / p["tau_plus_ms"])
    down = -p["a_minus"] * np.exp(d / p["tau_minus_ms"])
    for side in (d < 0, d > 0):
        window.plot(d[side], np.where(d > 0, up, down)[side], color=ORANGE, lw=0.8)
    window.set_ylabel("STDP window (occupancy)", color=ORANGE)
    sd = np.array([row["jitter_ms"] for row in found["jitter"]])
    for key, label, colour in (("a_last_spikes_only", "accuracy from spikes alone", BLUE),
                               ("converted_share", "converted contacts", ORANGE)):  # fmt: skip
        values = [100 * row[key] for row in found["jitter"]]
        right.plot(sd, values, "o-", color=colour, label=label)
    right.set(xlabel="jitter of presynaptic spikes (ms)", ylabel="%", ylim=(0, None))
    right.set_xscale("symlog", linthresh=1.0)
    right.set_xticks(sd, [f"{value:g}" for value in sd])
    right.legend()
    return figure


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    base = read_config(given.config) if given.config else {}
    config = build(RunConfig, complete(base, assignments(given.set)))
    if config.snn.plasticity.rule != "pair":
        raise ConfigError("snn.plasticity.rule", "the window is read for the pair rule; use pair")
    if given.out.exists():
        raise ConfigError("out", f'"{given.out}" is there; give another name')
    device = choose_device(config.device)
    found = measured(config, prepare(config, device, Console()), device)
    given.out.mkdir(parents=True)
    text = json.dumps(found, indent=1)
    (given.out / FILE).write_text(text + "\n", encoding="utf-8")
    draw(found).savefig(given.out / "spike_timing.png", dpi=150)


if __name__ == "__main__":
    script(main)
