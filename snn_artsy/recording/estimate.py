"""How large a run will get on the disk, before it starts."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snn_artsy.checks import ConfigError
from snn_artsy.config import EncodingConfig, RunConfig, SNNConfig
from snn_artsy.config.where_used import REHEARSING
from snn_artsy.observer import TRACED_AROUND, lag_bins, told_every
from snn_artsy.recording.storage import CHUNK_BYTES, MERGE_BYTES

# Bytes of a row of these tables (schema.py).
_STIMULUS, _SPIKE, _EVENT, _COUNT = 49, 16, 34, 32
# Bytes of a contact in a snapshot, and in a learner's tensors.
_SNAPSHOT, _CONTACT = 5, 11
# Bytes of a dataset's description, of other files' descriptions with random generators' states, and
# of all figures.
_DATASET, _HEADER, _FIGURES = 4_000, 20_000, 2_500_000
_BLOCKS = 24  # of a large ViT
# gzip leaves less than this of what compresses well (seen in default runs: 3 % and 41 %).
_PACKED = {"events": 0.1, "snapshots": 0.5}


@dataclass(frozen=True)
class TaskSize:
    """Classes, and training and test samples of one task."""

    n_classes: int
    n_train: int
    n_test: int


def expected_bytes(config: RunConfig, dim: int, tasks: Sequence[TaskSize]) -> dict[str, int]:
    """Bytes before compression of each kind of data in ``run.h5``.

    Exact, but for ``spikes`` (features taken as standard normal, and each postsynaptic neuron to
    answer every test volley with one spike at most), ``events`` (one change a contact) and
    ``traces`` with `update: step` (as if a contact changed in every part, and no windows met).

    Args:
        dim: D, the size of h_0.
    """
    n_bytes: dict[str, int] = {}
    if "artsy_snn" in config.learners:
        n_bytes |= _simulation(config, dim, tasks)
    n_bytes["predictions"] = sum(_predictions(config, name, tasks) for name in config.learners)
    return n_bytes


def needed_bytes(config: RunConfig, dim: int, tasks: Sequence[TaskSize]) -> int:
    """Free space that a run needs, at most: at its end all segments and the whole run.h5 lie side
    by side, checkpoints are replaced by a second copy, and what all learners have learnt, their
    answers, summary.json and figures stay."""
    packed = sum(n * _PACKED.get(k, 1.0) for k, n in expected_bytes(config, dim, tasks).items())
    layout = _layout(config, len(tasks))
    learnt = [_learnt(config, name, dim, tasks) for name in config.learners]
    going_on = [_continued(config, name, dim, tasks) for name in config.learners]
    answers = len(config.learners) * sum(n * (8 * k + 64) for n, k in _cumulative(tasks))
    merged = 2 * (packed + layout) + MERGE_BYTES
    checkpoints = sum(learnt) + 2 * max(n + m for n, m in zip(learnt, going_on, strict=True))
    return int(merged + checkpoints + answers + _texts(config, tasks) + _FIGURES)


def _layout(config: RunConfig, n: int) -> int:
    """What HDF5 needs besides the data: descriptions of datasets, and spikes in whole chunks."""
    n_bytes = len(config.learners) * (12 + 7 * n) * _DATASET
    if "artsy_snn" in config.learners:
        populations = n + 1
        n_bytes += _DATASET * (n * (24 + 2 * n) + 2 * populations)
        if config.record.spike_presentations and config.record.populations:
            n_bytes += 2 * CHUNK_BYTES * populations
    return n_bytes


def _learnt(config: RunConfig, name: str, dim: int, tasks: Sequence[TaskSize]) -> int:
    """Bytes of what a learner keeps of all tasks (``state/``), at most."""
    n, classes = len(tasks), sum(task.n_classes for task in tasks)
    blocks = (config.ann.blocks or _BLOCKS) if config.ann.placement == "blocks" else 1
    adapter = 4 * blocks * dim * (2 * config.ann.bottleneck + 2)
    gate = 4 * config.ann.gate_hidden * (dim + 2)
    if name in REHEARSING:
        adapter = 4 * dim * (2 * config.memory.hidden + 2)
    # class means of h_0 and of each sub-network, a covariance, adapters, gates
    n_bytes = 8 * classes * dim * (n + 2) + 8 * dim**2 + n * (adapter + gate) + _HEADER
    wide = {"ranpac": config.ranpac.projection, "artsy_ann_ridge": config.artsy_ridge.projection}
    if name == "artsy_best":
        n_bytes += 24 * dim**2  # its covariance is that of [h_0, h_0 + h_1]
        seen = config.artsy_best.grid**2 * dim  # of the image's parts
        n_bytes += 8 * (seen**2 + classes * seen)
    if name == "artsy_best" or (name == "artsy_snn" and config.ann.placement == "blocks"):
        # scatter and class means of [h_0, h_0 + h_1, h_0 + h_t] for each sub-network
        n_bytes += n * 8 * (9 * dim**2 + 3 * classes * dim)
    if name in wide:
        m = wide[name]
        n_bytes += 8 * m**2 + 4 * dim * m + 8 * classes * m
    if name in ("artsy_snn", "mean_field"):
        seen = config.snn.tapped(dim)  # whose means and whitening are kept as well
        n_bytes += _CONTACT * sum(_contacts(config, seen, task) for task in tasks)
        n_bytes += 8 * (seen**2 + classes * seen)
    return n_bytes


def _continued(config: RunConfig, name: str, dim: int, tasks: Sequence[TaskSize]) -> int:
    """Bytes that a learner's checkpoint has besides what it has learnt, at most: what stands in for
    old data, scores of the gates, a second solution of a ridge regression."""
    n, classes = len(tasks), sum(task.n_classes for task in tasks)
    n_bytes = _HEADER
    if name == "artsy_snn":
        dim = config.snn.tapped(dim)
    if name.startswith("artsy"):
        scores = n * (sum(task.n_train for task in tasks) + config.gate.pseudo_per_class * classes)
        n_bytes += 4 * n * dim**2 + 8 * classes * dim + 8 * scores
        if config.gate.replay == "exemplars":  # their numbers, of two choices at most
            n_bytes += 16 * classes * config.gate.exemplars_per_class
    if name.startswith("finetune") and config.finetune.alignment_epochs:
        n_bytes += 4 * n * dim**2 + 4 * classes * dim + 8 * classes
    if name in REHEARSING:  # numbers, labels and logits of kept samples
        n_bytes += config.memory.most(classes) * (32 + 4 * classes)
    wide = {"ranpac": config.ranpac.projection, "artsy_ann_ridge": config.artsy_ridge.projection}
    return n_bytes + 8 * classes * wide.get(name, 0)


def _texts(config: RunConfig, tasks: Sequence[TaskSize]) -> int:
    """config.yaml and summary.json: two matrices of tasks and a list or two for each learner."""
    n, classes = len(tasks), sum(task.n_classes for task in tasks)
    return 2 * _HEADER + 20 * classes + len(config.learners) * (4_000 + 70 * n**2 + 200 * n)


def check_disk(
    config: RunConfig, dim: int, tasks: Sequence[TaskSize], directory: Path
) -> tuple[dict[str, int], int]:
    """Expected bytes by kind and free bytes where the run will lie.

    Raises:
        ConfigError: The run would fill the disk.
    """
    expected, needed = expected_bytes(config, dim, tasks), needed_bytes(config, dim, tasks)
    place = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ConfigError(
            "record",
            f"the run needs about {in_words(needed)} and {in_words(free)} are free at "
            f'"{place}" ({listed(expected)} before compression); record less, or give out a place '
            "on another disk",
        )
    return expected, free


def listed(expected: dict[str, int]) -> str:
    """``snapshots 1.2 GB, spikes 5.1 MB``, largest first, without what is negligible."""
    total = sum(expected.values())
    large = sorted((n, kind) for kind, n in expected.items() if n > 0.01 * total)
    return ", ".join(f"{kind} {in_words(n)}" for n, kind in reversed(large))


def in_words(n_bytes: float) -> str:
    """In kB, MB, ..."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB"


def _cumulative(tasks: Sequence[TaskSize]) -> list[tuple[int, int]]:
    """Test samples and classes seen after each task."""
    return [
        (sum(t.n_test for t in tasks[: k + 1]), sum(t.n_classes for t in tasks[: k + 1]))
        for k in range(len(tasks))
    ]


def _contacts(config: RunConfig, dim: int, task: TaskSize) -> int:
    sites = config.snn.n_inputs(dim) * config.snn.contacts.per_connection
    return sites * config.snn.neuron.per_class * task.n_classes


def _simulation(config: RunConfig, dim: int, tasks: Sequence[TaskSize]) -> dict[str, int]:
    plan, snn = config.record, config.snn
    dim = snn.tapped(dim)
    rule, k = snn.plasticity, snn.neuron.per_class
    contacts = [_contacts(config, dim, task) for task in tasks]
    n_bytes = dict.fromkeys(
        (
            "stimulus",
            "spikes",
            "counts",
            "events",
            "snapshots",
            "traces",
            "pairings",
            "populations",
        ),
        0,
    )
    inputs = snn.n_inputs(dim)
    neurons = inputs if plan.neurons is None else min(plan.neurons, inputs)
    input_share = neurons / inputs if "retina" in plan.populations else 0.0
    n_bytes["populations"] = 8 * inputs
    for t, task in enumerate(tasks):
        presented = task.n_train * rule.epochs
        batches = math.ceil(task.n_train / rule.batch_size) * rule.epochs
        wanted = plan.spike_presentations
        taught = min(wanted, math.ceil(presented / plan.spike_every))
        n_test = _cumulative(tasks)[t][0]
        tested = min(wanted, math.ceil(n_test / plan.spike_every))
        taught *= "train" in plan.splits
        tested *= "test" in plan.splits
        replayed = replayed_in(config, sum(other.n_classes for other in tasks[: t + 1]))
        n_bytes["stimulus"] += _STIMULUS * (presented + tested + replayed)
        posts = [k * other.n_classes for other in tasks[: t + 1]]
        recorded = [n if plan.neurons is None else min(n, plan.neurons) for n in posts]
        n_bytes["populations"] += 8 * posts[-1]
        spikes = input_share * (
            taught * _spikes_shown(snn, dim, snn.encoding.steps)
            + tested * _spikes_shown(snn, dim, snn.encoding.steps_shown)
        )
        if "tasks" in plan.populations:
            spikes += taught * recorded[-1] / task.n_classes * _volleys(snn.encoding, True)
            spikes += tested * sum(recorded) * _volleys(snn.encoding, False)
        n_bytes["spikes"] += int(_SPIKE * spikes)
        captured = snn.contacts.capture and rule.rule != "none"
        changing = t + 1 if snn.replay.old else 1
        asleep = math.ceil(replayed / snn.replay.batch_size) * changing + 2 * changing
        n_bytes["counts"] += _COUNT * (batches * (t + 1 if snn.plastic_old else 1) + captured)
        n_bytes["counts"] += _COUNT * asleep * (replayed > 0)
        if plan.conversions and rule.rule != "none":
            n_bytes["events"] += _EVENT * contacts[t]
            if replayed:  # contacts of old sub-networks become labile, and are captured anew
                n_bytes["events"] += 2 * _EVENT * sum(contacts[: t + 1] if snn.replay.old else [])
        if plan.snapshots:
            n_bytes["snapshots"] += _SNAPSHOT * sum(contacts[: t + 1])
        samples = math.ceil(batches / plan.trace_every)
        if rule.update == "step" and rule.rule != "none":
            traced_batches = 2 * (2 * TRACED_AROUND + 1) * plan.trace_windows * rule.epochs
            samples = snn.encoding.steps * min(batches, traced_batches)
        traced = min(plan.traced_synapses, contacts[t])
        if traced and plan.trace_variables:
            n_bytes["traces"] += (
                samples * (8 + 4 * traced * len(plan.trace_variables)) + 24 * traced
            )
        if traced and plan.pairings:
            lags = 2 * lag_bins(snn.encoding.steps, snn.encoding.dt)[1] + 1
            told = math.ceil(batches / told_every(batches))
            n_bytes["pairings"] += told * (8 + traced * (8 * lags + 20)) + 8 * lags
    if plan.neurons is not None:
        sizes = [inputs, *(k * task.n_classes for task in tasks)]
        n_bytes["populations"] += 8 * sum(plan.neurons for n in sizes if n > plan.neurons)
    return n_bytes


def replayed_in(config: RunConfig, n_classes: int) -> int:
    """Presentations of stand-ins after a task's pairing, of so many classes."""
    gate = config.gate
    each = {"gaussian": gate.pseudo_per_class, "exemplars": gate.exemplars_per_class, "none": 0}
    replay = config.snn.replay
    if replay.epochs == 0:
        return 0
    return (replay.pairing_epochs + replay.epochs) * each[gate.replay] * n_classes


def _volleys(encoding: EncodingConfig, teaching: bool) -> int:
    steps = encoding.steps if teaching else encoding.steps_shown
    return max(math.ceil(steps * encoding.dt / encoding.period), 1)


def _spikes_shown(snn: SNNConfig, dim: int, steps: int) -> float:
    """Expected input spikes of a presentation for standard normal features; with an expansion layer
    at most, as if all its active units were driven to saturation."""
    encoding, expansion = snn.encoding, snn.expansion
    volley = max(round(encoding.volley / encoding.dt), 1)
    period = max(round(encoding.period / encoding.dt), volley)
    on = sum(step % period < volley for step in range(steps))
    active = math.ceil(expansion.active * expansion.units) if expansion.units else dim
    if encoding.code == "latency":
        return float(active * math.ceil(steps / period))
    if expansion.units:
        return active * on * encoding.rate_hz * encoding.dt * 1e-3
    s = encoding.saturation_sd
    # E[min(|z| / s, 1)] of a standard normal z
    drive = math.sqrt(2 / math.pi) * (1 - math.exp(-(s**2) / 2)) / s + math.erfc(s / math.sqrt(2))
    return dim * on * encoding.rate_hz * encoding.dt * 1e-3 * drive


def _predictions(config: RunConfig, name: str, tasks: Sequence[TaskSize]) -> int:
    gated = name.startswith("artsy") and name not in ("artsy_ann_no_gates", "artsy_ann_e0")
    n_bytes = 0
    for step, (n, classes) in enumerate(_cumulative(tasks)):
        row = 24 + 8 * (name == "artsy_snn") + 5 * (step + 1) * gated
        n_bytes += n * (row + 4 * classes * config.record.scores)
    return n_bytes
