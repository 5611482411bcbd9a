"""The one loop: tasks -> learner -> evaluation -> recorder."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors.torch import load_file, save_file

from snn_artsy.backbone import FrozenBackbone, extract_features
from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import build
from snn_artsy.data import build_stream, load_source
from snn_artsy.data.stream import TaskStream
from snn_artsy.evaluation.measures import StepAnswers, measure
from snn_artsy.learners import LEARNER_BUILDERS, Setting, build_snn
from snn_artsy.learners.artsy_snn import ArtsySNN, Control
from snn_artsy.learners.base import LabelledBatch, Learner, Prediction, Split, Task
from snn_artsy.learners.tasks import feature_task_stream, join, take
from snn_artsy.observer import SynapseObserver
from snn_artsy.provenance import provenance
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.rundir import run_directory
from snn_artsy.synapses.pairing import make_schedule

Stream = list[tuple[Task, LabelledBatch]]

# Test samples given to a learner at a time; no answer depends on it.
TEST_BATCH = 500


@dataclass(frozen=True)
class RunResult:
    """Where a run lies and what came out of it (``summary.json``)."""

    directory: Path
    summary: dict[str, Any]


@dataclass(frozen=True)
class Frozen:
    """Everything that the learners share: the tasks with their frozen features, and the backbone
    if learners put adapters into it."""

    tasks: Stream
    stream: TaskStream
    dim: int
    backbone_sha256: str
    seconds: float
    backbone: FrozenBackbone | None = None

    def setting(
        self, config: RunConfig, device: str, observer: SynapseObserver | None = None
    ) -> Setting:
        return Setting(config, self.dim, device, observer, self.backbone)


def execute(config: RunConfig, console: Console | None = None) -> RunResult:
    """Run the configured learners over the task stream; leaves the run's directory.

    The directory gets ``run.h5`` from the start, ``summary.json`` and ``figures/`` at the end. An
    interrupted run keeps what was recorded until then, marked interrupted.

    Raises:
        ConfigError: The configuration does not fit the data, the backbone or the machine.
    """
    console = console or Console(quiet=True)
    directory = run_directory(config.out, config.data.name)
    device = choose_device(config.device)
    make_schedule(config.snn.encoding, config.snn.teacher)  # refuse before anything is computed
    facts = provenance(torch.get_num_threads())
    frozen = prepare(config, device, console)
    config_yaml = yaml.safe_dump(asdict(config), sort_keys=False)
    attributes = {
        "versions": facts["versions"],
        "git_commit": _commit(facts),
        "seed": config.seed,
        "device": device,
        "threads": facts["threads"],
        "platform": facts["platform"],
        "backbone_sha256": frozen.backbone_sha256,
    }
    with RunRecorder(directory, config_yaml, attributes, config.record) as recorder:
        (directory / "config.yaml").write_text(config_yaml, encoding="utf-8")
        learners = {
            name: run_learner(
                name, config, frozen, device, console, recorder, state_path(directory, name)
            )
            for name in config.learners
        }
        controls = run_controls(config, frozen, device, console) if config.controls else {}
        if controls and "artsy_snn" in learners:
            reference = learners["artsy_snn"]["a_last_spikes_only"]
            shuffled = controls["shuffled_timing"]["a_last_spikes_only"]
            learners["artsy_snn"]["timing_index"] = reference - shuffled
    summary = {
        "learners": learners,
        "chance": 1.0 / len(frozen.stream.class_order),
        "class_order": frozen.stream.class_order.tolist(),
        "config": asdict(config),
        "versions": facts["versions"],
        "git_commit": _commit(facts),
        "device": device,
        "platform": facts["platform"],
        "threads": facts["threads"],
        "backbone_sha256": frozen.backbone_sha256,
        "feature_seconds": frozen.seconds,
    }
    if controls:
        summary["controls"] = controls
    summary = _plain(summary)
    text = json.dumps(summary, indent=2, allow_nan=False)
    (directory / "summary.json").write_text(text + "\n", encoding="utf-8")
    _draw(directory, console)
    for name, measures in summary["learners"].items():
        if measures.get("gates_uninformative"):
            console.print(
                f"{name}: gates uninformative, {measures['mean_open_gates']:.1f} of "
                f"{len(frozen.tasks)} open on average",
                highlight=False,
            )
    return RunResult(directory, summary)


def state_path(directory: Path, learner: str) -> Path:
    """Where a run keeps what a learner has learnt."""
    return directory / "state" / f"{learner}.safetensors"


@dataclass(frozen=True)
class Trained:
    """A spiking learner as its run left it, with the run's tasks."""

    config: RunConfig
    frozen: Frozen
    learner: ArtsySNN
    device: str


def load_trained(directory: Path) -> Trained:
    """The spiking learner of a finished run; its features come from the cache or are made anew.

    Raises:
        ConfigError: No such run, or it holds no trained spiking learner.
    """
    file, config_file = state_path(directory, "artsy_snn"), directory / "config.yaml"
    if not (file.is_file() and config_file.is_file()):
        raise ConfigError(
            f'run: no trained artsy_snn at "{directory}"; give the directory of a finished '
            "`snn-artsy run` whose learners include artsy_snn"
        )
    config = build(RunConfig, yaml.safe_load(config_file.read_text(encoding="utf-8")))
    device = choose_device(config.device)
    frozen = prepare(config, device, Console(quiet=True))
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    if frozen.backbone_sha256 != summary["backbone_sha256"]:
        raise ConfigError(f'backbone: its weights are not those that "{directory}" was made with')
    learner = build_snn(frozen.setting(config, device))
    learner.load_state_dict(load_file(file, device=device))
    return Trained(config, frozen, learner, device)


def choose_device(wanted: str) -> str:
    """``auto`` takes a GPU when there is one.

    Raises:
        ConfigError: ``cuda`` is asked for and absent.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ConfigError("device: 'cuda' cannot be used, torch finds no GPU here; use auto or cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def prepare(config: RunConfig, device: str, console: Console) -> Frozen:
    """Images -> task stream -> frozen features."""
    started = time.perf_counter()
    source = load_source(config.data)
    stream = build_stream(config.data, source, config.seed)
    # Features of every image that a seed could draw, so that seeds share them in the cache.
    whole = build_stream(replace(config.data, train_share=1.0), source, config.seed)
    every = np.union1d(whole.train_index, stream.train_index)
    backbone = FrozenBackbone.build(config.backbone, device)
    before = backbone.weights_sha256()
    features: dict[str, NDArray[np.float32]] = {}
    with _progress(console) as progress:
        for name, split, index in (
            ("train", source.train, every),
            ("test", source.test, stream.test_index),
        ):
            bar = progress.add_task(f"features ({name})", total=len(index))
            features[name] = extract_features(
                backbone,
                split,
                index,
                config.backbone,
                lambda done, total, bar=bar: progress.update(bar, completed=done, total=total),  # type: ignore[misc]
            )
            progress.update(bar, completed=len(index))
    if backbone.weights_sha256() != before:
        raise RuntimeError("the frozen backbone changed while features were extracted")
    features["train"] = features["train"][np.searchsorted(every, stream.train_index)]
    in_blocks = config.ann.placement == "blocks"

    def load_images(split: Split, index: NDArray[np.int64]) -> torch.Tensor:
        return backbone.load_images(source.test if split == "test" else source.train, index)

    tasks = list(
        feature_task_stream(
            stream, features["train"], features["test"], device, load_images if in_blocks else None
        )
    )
    seconds = time.perf_counter() - started
    kept = backbone if in_blocks else None
    return Frozen(tasks, stream, backbone.dim, before, seconds, kept)


def run_learner(
    name: str,
    config: RunConfig,
    frozen: Frozen,
    device: str,
    console: Console,
    recorder: RunRecorder | None = None,
    state_file: Path | None = None,
    keep: list[StepAnswers] | None = None,
) -> dict[str, Any]:
    """Learn all tasks and evaluate on all seen classes after each: the measures of one learner.

    What it has learnt goes to ``state_file`` (safetensors), its answers are added to ``keep``."""
    torch.manual_seed(config.seed)
    learner = LEARNER_BUILDERS[name](frozen.setting(config, device, recorder))
    steps: list[StepAnswers] = []
    learning = 0.0
    started = time.perf_counter()
    with _progress(console) as progress:
        bar = progress.add_task(name, total=len(frozen.tasks))
        for step, (task, _) in enumerate(frozen.tasks):
            at = time.perf_counter()
            learner.learn(task)
            learning += time.perf_counter() - at
            if isinstance(learner, ArtsySNN) and config.record.snapshots:
                learner.snapshot(f"after_task_{step}")
            seen = join([test for _, test in frozen.tasks[: step + 1]])
            last = step == len(frozen.tasks) - 1
            answers = evaluate(learner, seen, frozen.stream.task_of_label, oracle=last)
            steps.append(answers)
            if recorder is not None:
                recorder.evaluation(
                    name,
                    step,
                    seen.index.cpu().numpy(),
                    answers.labels,
                    answers.predicted,
                    gates=answers.gates,
                    gate_scores=answers.gate_scores,
                    spike_predicted=answers.spike_predicted,
                    scores=answers.scores,
                )
                recorder.barrier()
            progress.advance(bar)
    if state_file is not None:
        state_file.parent.mkdir(exist_ok=True)
        save_file({k: v.cpu().contiguous() for k, v in learner.state_dict().items()}, state_file)
    if keep is not None:
        keep += steps
    measures = measure(steps, frozen.stream.task_of_label)
    measures |= learner.report()
    measures |= {"seconds": time.perf_counter() - started, "seconds_learning": learning}
    if recorder is not None:
        recorder.summary(name, _recordable(measures))
    return measures


def run_controls(
    config: RunConfig, frozen: Frozen, device: str, console: Console
) -> dict[str, dict[str, float]]:
    """Controls of the spiking learner: its accuracy from spikes alone after the last task."""
    names = [name for name in get_args(Control) if name != "none"]
    found = {}
    with _progress(console) as progress:
        bar = progress.add_task("controls", total=(len(names) + 1) * len(frozen.tasks))
        for name in [*names, "no_plasticity"]:
            if name == "no_plasticity":
                blocked = replace(config.snn.plasticity, rule="none")
                changed = replace(config, snn=replace(config.snn, plasticity=blocked))
                learner = build_snn(frozen.setting(changed, device))
            else:
                learner = build_snn(frozen.setting(config, device), name)
            for task, _ in frozen.tasks:
                learner.learn(task)
                progress.advance(bar)
            seen = join([test for _, test in frozen.tasks])
            answers = evaluate(learner, seen, frozen.stream.task_of_label, oracle=False)
            assert answers.spike_predicted is not None
            found[name] = {
                "a_last_spikes_only": float(np.mean(answers.spike_predicted == answers.labels)),
                "functional_share": learner.report()["functional_share"],
                "spikes_per_image": learner.report()["spikes_per_image"],
            }
    return found


def evaluate(
    learner: Learner, seen: LabelledBatch, task_of_label: NDArray[np.int64], oracle: bool
) -> StepAnswers:
    """A learner's answers for test samples; ``oracle``: also with the true task's gate."""
    at = time.perf_counter()
    prediction = predict(learner, seen)
    if seen.features.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - at
    predicted = prediction.scores.argmax(1)
    spike_predicted = None
    if prediction.spike_scores is not None:
        silent = torch.isneginf(prediction.spike_scores).all(1)
        spike_predicted = prediction.spike_scores.argmax(1).masked_fill(silent, -1).cpu().numpy()
    oracle_predicted = None
    if oracle and prediction.gates is not None:
        task = torch.from_numpy(task_of_label).to(seen.labels.device)[seen.labels]
        oracle_scores = predict(learner, replace(seen, true_task=task)).scores
        oracle_predicted = oracle_scores.argmax(1).cpu().numpy()
    return StepAnswers(
        labels=seen.labels.cpu().numpy(),
        predicted=predicted.cpu().numpy(),
        scores=prediction.scores.cpu().numpy(),
        gates=None if prediction.gates is None else prediction.gates.cpu().numpy(),
        gate_scores=(
            None if prediction.gate_scores is None else prediction.gate_scores.cpu().numpy()
        ),
        spike_predicted=spike_predicted,
        oracle_gate_predicted=oracle_predicted,
        vit_passes=None if prediction.vit_passes is None else prediction.vit_passes.cpu().numpy(),
        seconds=seconds,
    )


def predict(learner: Learner, batch: LabelledBatch) -> Prediction:
    """`Learner.predict` in parts, so that memory does not grow with the test set."""
    rows = torch.arange(len(batch), device=batch.index.device).split(TEST_BATCH)
    return Prediction.concatenate([learner.predict(take(batch, r)) for r in rows])


@contextmanager
def _progress(console: Console) -> Any:
    with Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield progress


def _draw(directory: Path, console: Console) -> None:
    # matplotlib is slow to import and only needed at the end
    from snn_artsy.plots import save_figures
    from snn_artsy.recording import open_run

    skipped: dict[str, str] = {}
    with open_run(directory) as run, console.status("drawing figures"):
        save_figures(run, directory / "figures", skipped=skipped)
    for name, reason in skipped.items():
        console.print(f"figure {name} left out: {reason}", highlight=False)


def _commit(facts: Mapping[str, Any]) -> str:
    commit = facts["git_commit"] or "unknown"
    return f"{commit}-dirty" if facts["git_dirty"] else str(commit)


def _recordable(measures: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in measures.items() if v is not None}


def _plain(value: Any) -> Any:
    """JSON types only: arrays to lists, NaN (a measure that does not apply) to null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
