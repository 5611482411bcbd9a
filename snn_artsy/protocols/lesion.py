"""Lesion: functional contacts of a trained run are cut, at random or the most driven ones first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError, require, within
from snn_artsy.config_builder import take_types
from snn_artsy.files import SUMMARY_FILE
from snn_artsy.learners.base import Task
from snn_artsy.learners.prototypes import class_means
from snn_artsy.learners.spiking_subnetworks import training_of
from snn_artsy.learners.wake_and_sleep import TaughtSubnetworks
from snn_artsy.observer import SILENT
from snn_artsy.plots.protocols import lesion_curves
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.trained import score, trained_run
from snn_artsy.recording.about import read_summary


@dataclass(frozen=True)
class Parameters:
    """How much is cut, how often.

    Args:
        shares: Shares of functional contacts that are cut, rising from 0 to 1.
        n_repeats: Of random cuts, each of other contacts.
    """

    shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
    n_repeats: int = 5

    def __post_init__(self) -> None:
        take_types(self)
        rising = self.shares == tuple(sorted(set(self.shares)))
        whole = len(self.shares) > 1 and (self.shares[0], self.shares[-1]) == (0.0, 1.0)
        require(rising and whole, "shares", self.shares, "use rising shares from 0 to 1")
        within("n_repeats", self.n_repeats, 1, 10_000)


DEFAULTS = Parameters()


def lesion(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Accuracy and task identification against the share of functional contacts cut.

    ``random``: repeats with other contacts. ``targeted``: contacts whose presynaptic unit is
    driven most by the mean feature of the neuron's class go first (our definition).
    """
    trained, directory = trained_run(session)
    learner = trained.learner
    intact = [layer.state.clone() for layer in learner.layers]
    drive = [_drive(learner, task) for task, _ in trained.features.tasks]
    generator = torch.Generator().manual_seed(session.seed)
    repeats = {"random": p.n_repeats, "targeted": 1}
    scores = {kind: np.zeros((n, len(p.shares), 3)) for kind, n in repeats.items()}
    for kind, values in scores.items():
        for repeat in range(len(values)):
            ranks = [
                torch.rand(d.shape, generator=generator).to(d.device) if kind == "random" else d
                for d in drive
            ]
            for k, share in enumerate(p.shares):
                for layer, state, rank in zip(learner.layers, intact, ranks, strict=True):
                    layer.state.copy_(_cut(state, rank, share))
                s = score(trained)
                values[repeat, k] = s.with_h0, s.spikes_only, s.task
    for layer, state in zip(learner.layers, intact, strict=True):
        layer.state.copy_(state)
    recorded = (read_summary(directory) or {"learners": {}})["learners"].get("artsy_snn", {})
    if not all(isinstance(recorded.get(m), float) for m in ("a_last", "a_last_spikes_only")):
        raise ConfigError(
            "run",
            f'"{directory / SUMMARY_FILE}" does not say how artsy_snn did; give a finished run',
        )
    random = scores["random"]
    checks = (
        Check("intact, spikes only", float(random[0, 0, 1]), recorded["a_last_spikes_only"], 1e-9,
              "summary.json of the run", "share"),
        Check("intact, with h_0", float(random[0, 0, 0]), recorded["a_last"], 1e-9,
              "summary.json of the run", "share"),
        Check("all contacts cut, spikes only", float(random[0, -1, 1]), 0.0, 0.0,
              "no AMPA, no spike: by definition", "share"),
    )  # fmt: skip
    data = {"share_cut": Column(np.array(p.shares), "1", "share of functional contacts cut")}
    for kind, values in scores.items():
        for m, name in enumerate(("with_h0", "spikes_only", "task_identified")):
            data[f"{kind}/{name}"] = Column(values[:, :, m], "1", f"[repeat, share], {kind} cuts")
    figure = lesion_curves({name: np.asarray(column.values) for name, column in data.items()})
    return Outcome("lesion", checks, data, figure, (f"run: {directory.name}",))


def _drive(learner: TaughtSubnetworks, task: Task) -> Tensor:
    """Mean drive of every contact by its neuron's class, [n_post, n_sites].

    The means are taken anew from the task's samples: `recall` is relative to the code's mean when
    the task was learnt, which later tasks move with ``snn.encoding.statistics: seen``.
    """
    assert learner.scaling is not None
    train = training_of(task, learner.config)
    means = class_means(learner.driven_by(train), train.labels, task.classes)
    per_class = learner.encoder.drive(learner.scaling(means))
    per_neuron = per_class.repeat_interleave(learner.config.neuron.per_class, dim=0)
    return learner.layers[task.number].per_contact(per_neuron)


def _cut(state: Tensor, rank: Tensor, share: float) -> Tensor:
    """States with ``share`` of the open contacts silenced, those of highest rank first."""
    open_contacts = torch.nonzero(state.flatten() != SILENT)[:, 0]
    order = open_contacts[rank.flatten()[open_contacts].argsort(descending=True, stable=True)]
    after = state.clone().flatten()
    after[order[: round(share * len(order))]] = SILENT
    return after.reshape(state.shape)
