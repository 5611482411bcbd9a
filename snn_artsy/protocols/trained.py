"""What the protocols on trained runs share: the run, its test set, accuracies from spikes alone."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snn_artsy.config import PlasticityConfig, RunConfig, SNNConfig
from snn_artsy.learners import build_snn
from snn_artsy.learners.base import LabelledBatch
from snn_artsy.learners.tasks import join
from snn_artsy.learners.wake_and_sleep import TaughtSubnetworks
from snn_artsy.protocols.base import Session
from snn_artsy.runs.evaluate import evaluate
from snn_artsy.runs.features import FeatureStream
from snn_artsy.runs.run import execute
from snn_artsy.runs.trained import load_trained


@dataclass(frozen=True)
class Scores:
    """Shares of all test samples: right with h_0, right from spikes alone, task right from spikes
    alone."""

    with_h0: float
    spikes_only: float
    task: float


@dataclass(frozen=True)
class Trained:
    """A spiking learner as its run left it, with the run's tasks."""

    config: RunConfig
    features: FeatureStream
    learner: TaughtSubnetworks
    device: str


def spiking(directory: str | Path) -> Trained:
    """The spiking learner of a finished run, and the tasks that it has learnt.

    Raises:
        ConfigError: The run has no such learner, or its images are not there.
    """
    run = load_trained(directory)
    learner = run["artsy_snn"].learner
    assert isinstance(learner, TaughtSubnetworks)
    return Trained(run.config, run.features, learner, run.device)


def trained_run(session: Session) -> tuple[Trained, Path]:
    """The given run, or the digits default, trained now."""
    if session.run is not None:
        return spiking(session.run), session.run
    scratch = session.scratch or Path(tempfile.mkdtemp(prefix="snn-artsy-"))
    config = RunConfig(learners=["artsy_snn"], seed=session.seed, threads=session.threads)
    directory = execute(replace(config, out=str(scratch / "digits"))).directory
    return spiking(directory), directory


def score(trained: Trained, learner: TaughtSubnetworks | None = None) -> Scores:
    """Accuracies on all classes' test samples after the last task."""
    samples = test_set(trained)
    stream = trained.features.stream
    task_of = stream.task_of_label
    answers = evaluate(learner or trained.learner, samples, task_of, False, stream.class_of_label)
    spikes = answers.spike_predicted
    assert spikes is not None
    # -1: no neuron fired, no decision
    task = np.where(spikes >= 0, task_of[spikes], -1)
    return Scores(
        with_h0=float(np.mean(answers.predicted == answers.labels)),
        spikes_only=float(np.mean(spikes == answers.labels)),
        task=float(np.mean(task == task_of[answers.labels])),
    )


def test_set(trained: Trained) -> LabelledBatch:
    return join([test for _, test in trained.features.tasks])


def relearn(trained: Trained, snn: SNNConfig) -> TaughtSubnetworks:
    """The same tasks learnt anew under another configuration of the spiking learner."""
    config = replace(trained.config, snn=snn)
    learner = build_snn(trained.features.setting(config, trained.device))
    for task, _ in trained.features.tasks:
        learner.learn(task)
    return learner


def with_plasticity(snn: SNNConfig, plasticity: PlasticityConfig) -> SNNConfig:
    return replace(snn, plasticity=plasticity)
