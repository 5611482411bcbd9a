"""What Artsy (SNN) costs against tasks, T, n_pre, n_post and images, and a model that explains it.

    python experiments/benchmarks/cost_model.py --into docs/benchmarks.md \
        --out docs/figures/cost_model.png

Random features take the place of images. One setting at a time is varied around a base, and a few
settings differ in all; medians of repeated runs, learning and answering apart. The model is a sum
of operation counts (`counts`), each with a cost found by non-negative least squares on the relative
error. It is fitted to the settings varied one at a time and judged on those that it has not seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import track
from scipy.optimize import nnls

from snn_artsy.config import EncodingConfig, NeuronConfig, RunConfig, SNNConfig
from snn_artsy.learners import Setting, build
from snn_artsy.learners.base import LabelledBatch, Split, Task
from snn_artsy.plots.style import BLUE, GREY, ORANGE, new_figure, styled

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "analysis"))
from results_table import insert


@dataclass(frozen=True)
class Size:
    """Tasks, steps, features (half of n_pre), neurons a class, classes, training images a class,
    test images a class."""

    tasks: int = 10
    steps: int = 16
    features: int = 192
    per_class: int = 8
    classes: int = 100
    images: int = 50
    tests: int = 20


VARIED: dict[str, tuple[int, ...]] = {
    "tasks": (5, 10, 20, 50),
    "steps": (4, 8, 16, 32, 64),
    "features": (96, 192, 384, 768),
    "per_class": (2, 4, 8, 16),
    "images": (20, 50, 100, 200),
    "tests": (5, 20, 80),
}
LABELS = {
    "tasks": "tasks",
    "steps": "steps T",
    "features": "features D (n_pre = 2 D)",
    "per_class": "neurons a class (n_post = 100 x)",
    "images": "training images a class",
    "tests": "test images a class",
}
# What grows with the tasks and what with the features besides: varied one at a time they would not
# be told apart.
TWO_VARIED = (
    Size(tasks=50, features=64),
    Size(tasks=50, steps=4, tests=40),
    Size(tasks=50, images=100),
    Size(features=384, steps=4),
    Size(features=768, images=20),
)
UNSEEN = (
    Size(tasks=20, steps=8, features=384, images=100),
    Size(tasks=5, steps=32, features=96, per_class=16),
    Size(tasks=10, steps=10, features=512, per_class=4, images=30, tests=50),
    Size(tasks=25, steps=24, features=256, per_class=12, images=40),
    Size(tasks=4, steps=12, features=640, per_class=6, images=80, tests=10),
    Size(tasks=50, steps=6, features=128, per_class=8, images=60, tests=40),
    Size(tasks=20, steps=48, features=192, per_class=4, images=25, tests=10),
    Size(tasks=10, steps=20, features=300, per_class=10, images=120, tests=20),
)


def measured(size: Size) -> tuple[float, float]:
    """Seconds of learning all tasks, and of answering for all classes seen after each."""
    encoding = EncodingConfig(n_steps=size.steps)
    snn = SNNConfig(encoding=encoding, neuron=NeuronConfig(per_class=size.per_class))
    config = RunConfig(snn=snn, learners=["artsy_snn"], device="cpu")
    learner = build("artsy_snn", Setting(config, size.features, "cpu"))
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(size.classes, size.features, generator=generator)
    per_task = size.classes // size.tasks
    issued = {"train": 0, "validation": 10**6, "test": 0}

    def batch(classes: range, n: int, split: Split) -> LabelledBatch:
        labels = torch.tensor(list(classes)).repeat(n)
        noise = torch.randn(len(labels), size.features, generator=generator)
        index = issued[split] + torch.arange(len(labels))
        issued[split] += len(labels)
        return LabelledBatch(means[labels] + noise, index, split, labels=labels)

    test = batch(range(size.classes), size.tests, "test")
    learning = answering = 0.0
    for t in range(size.tasks):
        classes = range(t * per_task, (t + 1) * per_task)
        held_out = max(1, size.images // 10)
        task = Task(
            t,
            tuple(classes),
            batch(classes, size.images - held_out, "train"),
            batch(classes, held_out, "validation"),
        )
        at = time.perf_counter()
        learner.learn(task)
        learning += time.perf_counter() - at
        rows = torch.nonzero(test.labels < (t + 1) * per_task)[:, 0]
        seen = replace(
            test, features=test.features[rows], index=test.index[rows], labels=test.labels[rows]
        )
        at = time.perf_counter()
        learner.predict(seen)
        answering += time.perf_counter() - at
    return learning, answering


def counts(size: Size) -> tuple[dict[str, float], dict[str, float]]:
    """How often learning and answering do what takes time, whatever the hardware.

    ``noise``: a number drawn and compared (one for an ON and OFF unit and step). ``product``: a
    spike slot times a contact, in the steps of a volley. ``membrane``: a neuron in a step.
    ``update``: a contact's share in the change of a batch. ``call``: a step of a batch, which takes
    some time even for one neuron. ``sample``: a feature of a sample moved about. ``recall``: a
    feature that a sub-network adds to an answer. ``gate``: a gate's decision for a sample.
    ``score``: a feature of a prototype that a sample is compared with. ``square``, ``cubic``:
    covariances, draws from them, and their decompositions.
    """
    n, per_task = size.tasks, size.classes / size.tasks
    encoding = EncodingConfig(n_steps=size.steps)
    period, volley = round(encoding.period / encoding.dt), round(encoding.volley / encoding.dt)
    busy = sum(step % period < volley for step in range(size.steps))
    post = size.per_class * per_task  # of one sub-network
    shared = ("noise", "product", "membrane", "call", "sample", "recall", "gate")
    learn = dict.fromkeys((*shared, "update", "square", "cubic"), 0.0)
    answer = dict.fromkeys((*shared, "score"), 0.0)

    def shown(into: dict[str, float], samples: float, networks: float) -> None:
        """Samples shown without a teacher to some sub-networks."""
        into["noise"] += samples * busy * size.features
        into["product"] += samples * busy * 2 * size.features * post * networks
        into["membrane"] += samples * size.steps * post * networks
        widest = size.steps * max(post * networks, 2 * size.features)
        into["call"] += size.steps * np.ceil(samples / max(16, min(256, 2**22 // widest)))
        into["sample"] += samples * size.features
        into["recall"] += samples * size.features * networks
        into["gate"] += samples * networks

    held_out = max(1, size.images // 10)
    for t in range(n):
        train, validation = (k * per_task for k in (size.images - held_out, held_out))
        # pairing: encode, membranes under the teacher, one update a batch of 50
        learn["noise"] += train * busy * size.features
        learn["membrane"] += train * size.steps * post
        learn["update"] += train * size.steps * 2 * size.features * post
        learn["call"] += size.steps * np.ceil(train / 50)
        learn["sample"] += train * size.steps * 2 * size.features
        # prototypes, thresholds: everything is shown again, and stand-ins for old classes
        shown(learn, train + validation, t + 1)
        shown(learn, validation, t + 1)
        pseudo = 20 * per_task * t
        shown(learn, 2 * pseudo, 1)
        learn["square"] += (train + 2 * pseudo) * size.features**2
        learn["cubic"] += size.features**3
        asked = size.tests * per_task * (t + 1)
        shown(answer, asked, t + 1)
        answer["score"] += asked * per_task * (t + 1) * size.features
    return learn, answer


def fit(sizes: list[Size], seconds: list[float], part: int) -> dict[str, float]:
    """Cost of each count (s), of smallest relative error."""
    rows = [counts(size)[part] for size in sizes]
    names = list(rows[0])
    design = np.array([[row[name] for name in names] for row in rows])
    scale = design.max(0)
    found, _ = nnls(design / scale / np.array(seconds)[:, None], np.ones(len(seconds)))
    return dict(zip(names, found / scale, strict=True))


def predicted(costs: dict[str, float], size: Size, part: int) -> float:
    return sum(costs[name] * n for name, n in counts(size)[part].items())


@styled
def draw(
    found: dict[Size, tuple[float, float]], costs: tuple[dict[str, float], dict[str, float]]
) -> Figure:
    """Measured (marks) and predicted (lines) seconds, one panel a setting; and of settings that the
    model was not fitted to, measured against predicted."""
    figure = new_figure(7.2, 4.6)
    panels = figure.subplots(2, 4).flatten()
    for axes, (name, values) in zip(panels, VARIED.items(), strict=False):
        for part, colour, label in ((0, BLUE, "learning"), (1, ORANGE, "answering")):
            sizes = [replace(Size(), **{name: value}) for value in values]
            axes.plot(values, [found[s][part] for s in sizes], "o", color=colour, label=label)
            model = [predicted(costs[part], s, part) for s in sizes]
            axes.plot(values, model, "-", color=colour)
        axes.set(xlabel=LABELS[name], xscale="log", yscale="log")
        axes.set_xticks(values, [str(v) for v in values])
        axes.minorticks_off()
    for axes in panels[::4]:
        axes.set_ylabel("seconds")
    axes = panels[len(VARIED)]
    for part, colour in ((0, BLUE), (1, ORANGE)):
        real = [found[s][part] for s in UNSEEN]
        axes.plot([predicted(costs[part], s, part) for s in UNSEEN], real, "o", color=colour)
    ends = np.array(axes.get_xlim())
    for factor in (0.8, 1.0, 1.2):
        axes.plot(
            ends, factor * ends, color=GREY, linewidth=0.7, linestyle="-" if factor == 1 else ":"
        )
    axes.set(xlabel="predicted (s), unseen", ylabel="measured (s)", xscale="log", yscale="log")
    panels[-1].axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center")
    return figure


def report(
    found: dict[Size, tuple[float, float]], costs: tuple[dict[str, float], dict[str, float]]
) -> str:
    lines = ["| cost of | learning, ns | answering, ns |", "|---|---:|---:|"]
    for name in dict.fromkeys([*costs[0], *costs[1]]):
        cells = [f"{1e9 * cost[name]:,.3g}" if name in cost else "–" for cost in costs]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines += ["", "| relative error | learning | answering |", "|---|---:|---:|"]
    seen = [size for size in found if size not in UNSEEN]
    for label, sizes in (("fitted", seen), ("unseen", list(UNSEEN))):
        cells = []
        for part in (0, 1):
            errors = [abs(predicted(costs[part], s, part) / found[s][part] - 1) for s in sizes]
            cells.append(f"{100 * np.median(errors):.0f} %, at most {100 * max(errors):.0f} %")
        lines.append(f"| {label}, {len(sizes)} settings | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep what was measured; read it if it is there")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    sizes = list(dict.fromkeys([replace(Size(), **{k: v}) for k, vs in VARIED.items() for v in vs]))
    sizes += [*TWO_VARIED, *UNSEEN]
    if given.json is not None and given.json.is_file():
        rows = json.loads(given.json.read_text(encoding="utf-8"))
        found = {Size(**row["size"]): tuple(row["seconds"]) for row in rows}
    else:
        measured(Size(tasks=2))  # whatever is loaded at first use
        times: dict[Size, list[tuple[float, float]]] = {size: [] for size in sizes}
        for size in track([s for _ in range(given.repeats) for s in sizes], "measuring"):
            times[size].append(measured(size))
        found = {
            size: tuple(statistics.median(column) for column in zip(*each, strict=True))
            for size, each in times.items()
        }
        if given.json is not None:
            rows = [{"size": asdict(s), "seconds": list(v)} for s, v in found.items()]
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    seen = [size for size in sizes if size not in UNSEEN]
    costs = tuple(fit(seen, [found[s][part] for s in seen], part) for part in (0, 1))
    text = report(found, costs)
    print(text)
    if given.out is not None:
        draw(found, costs).savefig(given.out, dpi=150)
    if given.into is not None:
        insert(given.into, "cost_model", text)


if __name__ == "__main__":
    main()
