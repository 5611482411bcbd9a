"""Controls of spike timing: the spiking learner on input that is shuffled in time.

Shuffling changes how many contacts convert, and that alone costs accuracy. Beside the control at
equal parameters there is therefore one at equal density of functional contacts, which says what
the order of the spikes tells and their number does not (docs/model.md; our definition).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from snn_artsy.config import SNNConfig
from snn_artsy.learners.base import Batch, Learner, Prediction, Task
from snn_artsy.learners.wake_and_sleep import TaughtSubnetworks
from snn_artsy.observer import FUNCTIONAL, SILENT
from snn_artsy.synapses.layer import SilentSynapseLayer

EQUAL_DENSITY = "shuffled_timing_equal_density"
"""Name of the control at equal density."""

_HALVINGS, _MOST = 6, 4.0


def timing_indices(
    accuracy: float, controls: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Accuracy from spikes alone that the shuffled controls lose, and the share of contacts that
    another density-matched order of spikes changes; by the names of ``summary.json``.

    Args:
        accuracy: Of the model, ``a_last_spikes_only``.
        controls: Measures of each control, by its name.
    """
    indices: dict[str, float] = {}
    if "shuffled_timing" in controls:
        lost = accuracy - controls["shuffled_timing"]["a_last_spikes_only"]
        indices |= {"timing_index": lost, "timing_index_equal_parameters": lost}
    if matched := controls.get(EQUAL_DENSITY):
        indices["timing_index_equal_density"] = accuracy - matched["a_last_spikes_only"]
        indices["timing_contacts_changed"] = matched["contacts_changed"]
    return indices


class ShuffledAtEqualDensity(Learner):
    """The shuffled control with as many functional contacts on each neuron as the model has.

    What holds contacts back (depression, presynaptic target) is first weakened or strengthened by
    one factor, found by bisection on the first task, until as many contacts convert as in the
    model, so that the occupancies tell contacts apart at that density. Then each neuron keeps its
    largest occupancies, as many as the model's neuron has functional contacts. The model learns
    beside it, and is in no checkpoint, so that a resumed run learns the tasks again.

    Args:
        like: An untaught learner; model and control are its variants.
        beside: ``like`` is the model itself, and has learnt each task before the control does.
    """

    def __init__(self, like: TaughtSubnetworks, beside: bool = False) -> None:
        self.like, self.beside = like, beside
        self.model = like if beside else like.variant(like.config)
        self.shuffled: TaughtSubnetworks | None = None

    def learn(self, task: Task) -> None:
        if not self.beside:
            self.model.learn(task)
        if self.shuffled is None:
            config = self._at_the_density_of_the_model(task)
            self.shuffled = self.like.variant(config, "shuffled_timing")
            self.shuffled.after_teaching = self._match
        self.shuffled.learn(task)

    def predict(self, batch: Batch) -> Prediction:
        return self._control().predict(batch)

    def _at_the_density_of_the_model(self, task: Task) -> SNNConfig:
        share, config = self.model.report()["functional_share"], self.like.config
        low, high = 0.0, _MOST
        for _ in range(_HALVINGS):
            tried = held_back(config, (low + high) / 2.0)
            shuffled = self.like.variant(tried, "shuffled_timing")
            shuffled.learn(task)
            if shuffled.report()["functional_share"] > share:
                low = (low + high) / 2.0
            else:
                high = (low + high) / 2.0
        return held_back(config, (low + high) / 2.0)

    def _match(self) -> None:
        """Match all densities before anything is measured; replay may change old contacts."""
        layers = zip(self._control().layers, self.model.layers, strict=True)
        for t, (layer, model) in enumerate(layers):
            # one for each layer, so that a layer that did not change is matched as before
            generator = torch.Generator().manual_seed(self.like.seed + t + 1)
            match_density(layer, model.state != SILENT, generator)

    def _control(self) -> TaughtSubnetworks:
        if self.shuffled is None:
            raise RuntimeError("no contacts yet: learn a task first")
        return self.shuffled

    def state_dict(self) -> dict[str, Tensor]:
        return self._control().state_dict()

    def report(self) -> dict[str, Any]:
        changed = born = 0
        for layer, model in zip(self._control().layers, self.model.layers, strict=True):
            differs = (layer.state != SILENT) != (model.state != SILENT)
            changed += int(differs[layer.born_silent].sum())
            born += int(layer.born_silent.sum())
        return self._control().report() | {"contacts_changed": changed / max(born, 1)}


def match_density(layer: SilentSynapseLayer, wanted: Tensor, generator: torch.Generator) -> None:
    """Open the largest occupancies of each neuron's contacts that were born silent, as many as
    ``wanted`` (bool [n_post, n_pre]) has, and shut the others; equal ones are drawn."""
    born = layer.born_silent
    n_open = (wanted & born).sum(1, keepdim=True)
    drawn = torch.rand(born.shape, generator=generator).to(layer.ampa.device)
    by_chance = drawn.argsort(1)
    ampa = torch.where(born, layer.ampa, -1.0).gather(1, by_chance)
    order = by_chance.gather(1, ampa.sort(dim=1, descending=True, stable=True).indices)
    chosen = torch.arange(layer.n_sites, device=order.device) < n_open
    opened = torch.zeros_like(born).scatter(1, order, chosen)
    functional = layer.state.clamp_min(FUNCTIONAL)  # or consolidated
    layer.state.copy_(torch.where(born, torch.where(opened, functional, SILENT), layer.state))


def held_back(config: SNNConfig, factor: float) -> SNNConfig:
    """Scale depression and the presynaptic target by ``factor``; a published parameter set, and
    rules other than pair and triplet under the gate or alone, stay as they are."""
    rule, triplet = config.plasticity, config.plasticity.triplet
    weaker = replace(
        triplet, a2_minus=factor * triplet.a2_minus, a3_minus=factor * triplet.a3_minus
    )
    changed = replace(
        rule,
        a_minus=factor * rule.a_minus,
        target=max(factor * rule.target, 1e-9),
        triplet=weaker,
    )
    return replace(config, plasticity=changed)
