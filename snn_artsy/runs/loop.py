"""The one loop: tasks -> learner -> answers -> recorder and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from snn_artsy.checks import NotFinite, require_finite
from snn_artsy.config import RunConfig
from snn_artsy.evaluation.measures import StepAnswers, measure, measure_domains
from snn_artsy.evaluation.metrics import a_auc
from snn_artsy.learners import build as build_learner
from snn_artsy.learners import build_snn
from snn_artsy.learners.base import Learner
from snn_artsy.learners.tasks import join
from snn_artsy.recording.writer import RunRecorder
from snn_artsy.runs import checkpoint
from snn_artsy.runs.checkpointer import Checkpointer
from snn_artsy.runs.evaluate import evaluate
from snn_artsy.runs.features import FeatureStream
from snn_artsy.runs.measure_log import MeasureLog
from snn_artsy.runs.progress import progress_bar


def run_learner(
    name: str,
    config: RunConfig,
    features: FeatureStream,
    device: str,
    console: Console,
    recorder: RunRecorder | None = None,
    state_file: Path | None = None,
    keep: list[StepAnswers] | None = None,
    checkpointer: Checkpointer | None = None,
    log: MeasureLog | None = None,
) -> dict[str, Any]:
    """Learn all tasks and evaluate on all seen classes after each: the measures of one learner.

    What it has learnt goes to ``state_file`` (safetensors), its answers are added to ``keep``;
    ``checkpointer`` makes checkpoints, and has it go on from its own; ``log`` is told of every
    task's measures."""
    torch.manual_seed(config.seed)
    learner = build_learner(name, features.setting(config, device, recorder))
    steps = [] if checkpointer is None else checkpointer.begin(name, learner, features)
    # times continue from those that the interrupted run had taken
    learning = 0.0 if checkpointer is None else checkpointer.latest.seconds_learning
    # they are a learner's own, whatever it found done by others
    clock = features.shelf.clock
    started = clock() - (0.0 if checkpointer is None else checkpointer.latest.seconds)
    done = len(steps)
    if log is not None:
        log.begin(name, done)

    def elapsed() -> float:
        return clock() - started

    stream = features.stream
    with progress_bar(console) as progress:
        bar = progress.add_task(name, total=len(features.tasks), completed=done)
        # kept from task to task: to ask for an earlier task again would load its training samples
        tests = [test for _, test in features.tasks[:done]]
        for step, (task, test) in enumerate(features.tasks[done:], start=done):
            begun = elapsed() - learning
            if checkpointer is not None:
                learner.after_epoch = lambda begun=begun: checkpointer.learnt(
                    learner, elapsed(), elapsed() - begun, None
                )
            require_finite(f"{name}, task {step + 1}", {"its features": task.train.features})
            with _finite(learner, f"{name}, task {step + 1}"):
                learner.learn(task)
            learning = elapsed() - begun
            if config.record.snapshots:
                learner.snapshot(f"after_task_{step}")
            tests.append(test)
            samples = join(tests)
            last = step == len(features.tasks) - 1
            with _finite(learner, f"{name}, task {step + 1}"):
                answers = evaluate(
                    learner,
                    samples,
                    stream.task_of_label,
                    last,
                    stream.class_of_label,
                    clock,
                    config.record.scores,
                )
            if recorder is not None:
                recorder.evaluation(
                    name,
                    step,
                    samples.index.cpu().numpy(),
                    answers.labels,
                    answers.predicted,
                    gates=answers.gates,
                    gate_scores=answers.gate_scores,
                    spike_predicted=answers.spike_predicted,
                    scores=answers.scores,
                )
            # of every step they would grow with samples, classes and tasks
            answers = replace(answers, scores=None)
            steps.append(answers)
            if log is not None:
                log.step(name, steps, stream.task_of_label, elapsed())
            if checkpointer is not None:
                checkpointer.learnt(learner, elapsed(), learning, answers)
            progress.advance(bar)
    if log is not None:
        log.close()
    if state_file is not None:
        digest = checkpoint.write_tensors(state_file, learner.state_dict())
        if checkpointer is not None:
            checkpointer.latest.states[name] = digest
    if keep is not None:
        keep += steps
    measures = measure(steps, stream.task_of_label)
    if config.data.stream == "online":
        measures["a_auc"] = a_auc(measures["a_t"], [len(task.train) for task in stream.tasks])
    if len(stream.domains) > 1:
        domains = [task.domain for task in stream.tasks]
        measures |= measure_domains(steps[-1], stream.task_of_label, domains)
    measures |= learner.report()
    measures |= {"seconds": elapsed(), "seconds_learning": learning}
    if recorder is not None:
        recorder.summary(name, measures)
    return measures


def run_controls(
    config: RunConfig,
    features: FeatureStream,
    device: str,
    console: Console,
    checkpointer: Checkpointer,
) -> dict[str, dict[str, float]]:
    """Controls of the spiking learner: its accuracy from spikes alone after the last task."""
    controls = checkpointer.latest.controls
    learners = build_snn(features.setting(config, device)).controls()
    missing = {name: learner for name, learner in learners.items() if name not in controls}
    with progress_bar(console) as progress:
        bar = progress.add_task("controls", total=len(missing) * len(features.tasks))
        for name in list(missing):
            learner = missing.pop(name)  # its memory is freed before the next one learns
            with _finite(learner, f"control {name}"):
                for task, _ in features.tasks:
                    learner.learn(task)
                    progress.advance(bar)
                samples = join([test for _, test in features.tasks])
                stream = features.stream
                answers = evaluate(
                    learner, samples, stream.task_of_label, False, stream.class_of_label
                )
            assert answers.spike_predicted is not None
            right = float(np.mean(answers.spike_predicted == answers.labels))
            measures = {"a_last_spikes_only": right} | learner.report()
            controls[name] = {key: measures[key] for key in _OF_CONTROLS if key in measures}
            checkpointer.save()
    return controls


_OF_CONTROLS = ("a_last_spikes_only", "functional_share", "spikes_per_image", "contacts_changed")


@contextmanager
def _finite(learner: Learner, where: str) -> Iterator[None]:
    """What a learner has learnt must be finite afterwards; ``where`` begins the message if not.

    Raises:
        NotFinite: A number is not, there or in the answers. LAPACK's failures are the same thing:
            with finite numbers of a usual size it has none.
    """
    try:
        yield
        require_finite("state", learner.state_dict())
    except (NotFinite, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        raise NotFinite(f"{where}: {error}") from error
