"""Pharmacology on a trained run: APV during training, NBQX at test."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from snn_artsy.checks import between
from snn_artsy.config_builder import take_types
from snn_artsy.learners.prototypes import cosine_scores
from snn_artsy.observer import SILENT
from snn_artsy.plots.protocols import pharmacology_bars
from snn_artsy.protocols.base import Check, Column, Outcome, Session
from snn_artsy.protocols.trained import relearn, score, test_set, trained_run, with_plasticity


@dataclass(frozen=True)
class Parameters:
    """How much of a drug.

    Args:
        open_nmda: Share of NMDA receptors that APV leaves open in training.
    """

    open_nmda: float = 0.0

    def __post_init__(self) -> None:
        take_types(self)
        between("open_nmda", self.open_nmda, 0, 1)


DEFAULTS = Parameters()


def pharmacology(session: Session, p: Parameters = DEFAULTS) -> Outcome:
    """Accuracy in control, with APV (no NMDA) in training, and with NBQX (no AMPA) at test.

    APV closes NMDA receptors of the gated rule, all by default, and learns all tasks anew; rules
    without NMDA gating do not feel it. NBQX closes every contact at test.
    """
    trained, directory = trained_run(session)
    learner, snn = trained.learner, trained.config.snn
    control = score(trained)
    apv_learner = relearn(trained, with_plasticity(snn, replace(snn.plasticity, nmda=p.open_nmda)))
    apv = score(trained, apv_learner)
    converted = apv_learner.report()["converted_share"]
    states = [layer.state.clone() for layer in learner.layers]
    for layer in learner.layers:
        layer.state.fill_(SILENT)
    nbqx = score(trained)
    for layer, state in zip(learner.layers, states, strict=True):
        layer.state.copy_(state)
    samples = test_set(trained)
    assert learner.prototypes.base is not None
    h0 = cosine_scores(samples.features, learner.prototypes.base).argmax(1)
    backbone = float((h0 == samples.labels).double().mean())
    expected = "silent synapses without unsilencing: Isaac 1995, Liao 1995 (blocked by APV)"
    part = "" if p.open_nmda == 0.0 else "APV leaves NMDA receptors open"
    checks = (
        Check("contacts converted under APV", converted, 0.0, 0.0, expected, "share",
              not_compared=part),
        Check("from spikes, APV in training", apv.spikes_only, 0.0, 0.0, expected, "share",
              not_compared=part),
        Check("from spikes, NBQX at test", nbqx.spikes_only, 0.0, 0.0,
              "AMPA receptors carry the current", "share"),
        Check("with h_0, NBQX at test", nbqx.with_h0, backbone, 1e-9,
              "h_0 alone, nearest class mean", "share"),
    )  # fmt: skip
    names = ("control", "APV in training", "NBQX at test")
    table = np.array([[s.with_h0, s.spikes_only, s.task] for s in (control, apv, nbqx)])
    data = {
        "condition": Column(np.array(names, dtype="S"), "--", "order of the rows"),
        "accuracy": Column(table, "1", "[condition, (with h_0, spikes only, task from spikes)]"),
    }
    return Outcome(
        "pharmacology",
        checks,
        data,
        pharmacology_bars(names, table[None]),
        (f"run: {directory.name}",),
    )
