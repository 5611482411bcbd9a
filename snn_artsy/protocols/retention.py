"""Retention: consolidation on and off, old sub-networks plastic or not (2 x 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from snn_artsy.checks import require, within
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.config_builder import take_types
from snn_artsy.learners import build_snn
from snn_artsy.learners.tasks import join
from snn_artsy.plots.style import BLUE, GREEN, ORANGE, VERMILLION, new_figure, styled
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.runs.evaluate import evaluate
from snn_artsy.runs.features import choose_device, prepare

CELLS = tuple((c, p) for c in (True, False) for p in (False, True))


@dataclass(frozen=True)
class Parameters:
    """How often the digits default is learnt in each of the four cells.

    Args:
        n_seeds: Seeds, from the session's on.
        n_tasks: Tasks that the ten digits come in.
    """

    n_seeds: int = 3
    n_tasks: int = 5

    def __post_init__(self) -> None:
        take_types(self)
        within("n_seeds", self.n_seeds, 2, 1000)
        require(self.n_tasks in (2, 5), "n_tasks", self.n_tasks, "use 2 or 5")


DEFAULTS = Parameters()


def retention(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Accuracy on task 1's test samples, from spikes alone within its own classes, after each task
    of the digits default, with and without consolidation and plastic old sub-networks."""
    accuracy = np.zeros((len(CELLS), p.n_seeds, p.n_tasks))
    last = np.zeros((len(CELLS), p.n_seeds))
    data_config = DataConfig(n_tasks=p.n_tasks)
    for s in range(p.n_seeds):
        config = RunConfig(learners=["artsy_snn"], seed=session.seed + s, data=data_config)
        device = choose_device(config.device)
        features = prepare(config, device, Console(quiet=True))
        task_of = features.stream.task_of_label
        for k, (consolidation, plastic_old) in enumerate(CELLS):
            contacts = replace(config.snn.contacts, consolidation=consolidation)
            snn = replace(config.snn, contacts=contacts, plastic_old=plastic_old)
            learner = build_snn(features.setting(replace(config, snn=snn), device))
            first = features.tasks[0][1]
            for step, (task, _) in enumerate(features.tasks):
                learner.learn(task)
                votes = learner.predict(first).spike_scores
                assert votes is not None
                own = votes[:, : int((task_of == 0).sum())]
                accuracy[k, s, step] = float((own.argmax(1) == first.labels).float().mean())
            everything = join([test for _, test in features.tasks])
            answers = evaluate(learner, everything, task_of, oracle=False)
            last[k, s] = float(np.mean(answers.spike_predicted == answers.labels))
    gain = last[CELLS.index((True, True))] - last[CELLS.index((False, True))]
    checks = (
        Check("A_last from spikes lost without consolidation, old networks plastic",
              float(gain.mean()), 0.05, 0.0, "our definition of an effect", "share", "at_least"),
        Check("the same while old networks are frozen",
              float((last[CELLS.index((True, False))] - last[CELLS.index((False, False))]).mean()),
              0.0, 0.01, "nothing to protect from", "share"),
    )  # fmt: skip
    meaning = "cells: (consolidation, plastic_old) = (1,0), (1,1), (0,0), (0,1)"
    data = {
        "task1_accuracy": Column(accuracy, "1", f"[cell, seed, step]; {meaning}"),
        "a_last_spikes_only": Column(last, "1", f"[cell, seed]; {meaning}"),
    }
    return Outcome("retention", checks, data, draw(accuracy))


@styled
def draw(accuracy: np.ndarray) -> Figure:
    """Mean over seeds, which are small marks; what coincides stands side by side."""
    figure = new_figure(3.5, 2.8)
    axes = figure.subplots()
    colours, learnt = (GREEN, BLUE, ORANGE, VERMILLION), np.arange(1, accuracy.shape[2] + 1)
    for k, ((consolidation, plastic_old), values) in enumerate(zip(CELLS, accuracy, strict=True)):
        old = "plastic" if plastic_old else "frozen"
        label = f"{'' if consolidation else 'no '}consolidation, old {old}"
        beside = learnt + 0.08 * (k - 1.5)
        axes.plot(beside, 100 * values.mean(0), "osD^"[k], ls="-", color=colours[k], label=label)
        axes.plot(beside, 100 * values.T, "_", color=colours[k], markersize=5)
    axes.set(xlabel="tasks learnt", ylabel="task 1, spikes only (%)", ylim=(0, 103))
    axes.set_xticks(learnt)
    axes.legend()
    return figure
