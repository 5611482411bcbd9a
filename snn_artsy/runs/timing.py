"""Is it spike timing? What the spiking learner loses when its input is shuffled in time.

Shuffling changes how many contacts convert, and that alone costs accuracy. Beside the control at
equal parameters there is therefore one at equal density of functional contacts, which says what
the order of the spikes tells and their number does not (docs/model.md; our definition).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from snn_artsy.config import PlasticityConfig, RunConfig
from snn_artsy.learners import build_snn
from snn_artsy.learners.artsy_snn import ArtsySNN
from snn_artsy.learners.state import modules
from snn_artsy.observer import FUNCTIONAL, SILENT
from snn_artsy.runs.features import FeatureStream
from snn_artsy.synapses.layer import SilentSynapseLayer

EQUAL_DENSITY = "shuffled_timing_equal_density"
"""Name of the control."""

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
    found: dict[str, float] = {}
    if "shuffled_timing" in controls:
        lost = accuracy - controls["shuffled_timing"]["a_last_spikes_only"]
        found |= {"timing_index": lost, "timing_index_equal_parameters": lost}
    if matched := controls.get(EQUAL_DENSITY):
        found["timing_index_equal_density"] = accuracy - matched["a_last_spikes_only"]
        found["timing_contacts_changed"] = matched["contacts_changed"]
    return found


def shuffled_at_equal_density(
    config: RunConfig, features: FeatureStream, device: str, model: Mapping[str, Tensor]
) -> tuple[ArtsySNN, float]:
    """The shuffled control with as many functional contacts on each neuron as the model has.

    What holds contacts back (depression, presynaptic target) is first weakened or strengthened by
    one factor, found by bisection on the first task, until as many contacts convert as in the
    model, so that the occupancies tell contacts apart at that density. Then each neuron keeps its
    largest occupancies, as many as the model's neuron has functional contacts.

    Args:
        model: State of the model that learnt the same tasks (`ArtsySNN.state_dict`).

    Returns:
        The control, and the share of contacts that were born silent whose state, silent or not,
        is not the model's.
    """
    opened = [own["state"].to(device) != SILENT for own in modules(dict(model), "layers.")]
    factor = _factor(config, features, device, float(opened[0].float().mean()))
    learner = _shuffled(config, features, device, factor)
    for task, _ in features.tasks:
        learner.learn(task)
    changed = born = 0
    generator = torch.Generator().manual_seed(config.seed)
    for layer, wanted in zip(learner.layers, opened, strict=True):
        match_density(layer, wanted, generator)
        changed += int(((layer.state != SILENT) != wanted)[layer.born_silent].sum())
        born += int(layer.born_silent.sum())
    return learner, changed / max(born, 1)


def match_density(layer: SilentSynapseLayer, wanted: Tensor, generator: torch.Generator) -> None:
    """Open the largest occupancies of each neuron's contacts that were born silent, as many as
    ``wanted`` (bool [n_post, n_pre]) has, and shut the others; equal ones are drawn."""
    born = layer.born_silent
    n_open = (wanted & born).sum(1, keepdim=True)
    drawn = torch.rand(born.shape, generator=generator).to(layer.ampa.device)
    by_chance = drawn.argsort(1)
    ampa = torch.where(born, layer.ampa, -1.0).gather(1, by_chance)
    order = by_chance.gather(1, ampa.sort(dim=1, descending=True, stable=True).indices)
    chosen = torch.arange(layer.n_pre, device=order.device) < n_open
    opened = torch.zeros_like(born).scatter(1, order, chosen)
    layer.state.copy_(torch.where(born, torch.where(opened, FUNCTIONAL, SILENT), layer.state))


def held_back(plasticity: PlasticityConfig, factor: float) -> PlasticityConfig:
    """With depression and the presynaptic target ``factor`` times as strong; a published parameter
    set, and rules other than pair and triplet under the gate or alone, stay as they are."""
    triplet = plasticity.triplet
    return replace(
        plasticity,
        a_minus=factor * plasticity.a_minus,
        target=max(factor * plasticity.target, 1e-9),
        triplet=replace(
            triplet, a2_minus=factor * triplet.a2_minus, a3_minus=factor * triplet.a3_minus
        ),
    )


def _shuffled(config: RunConfig, features: FeatureStream, device: str, factor: float) -> ArtsySNN:
    plasticity = held_back(config.snn.plasticity, factor)
    changed = replace(config, snn=replace(config.snn, plasticity=plasticity))
    return build_snn(features.setting(changed, device), "shuffled_timing")


def _factor(config: RunConfig, features: FeatureStream, device: str, share: float) -> float:
    """Factor at which the first task's share of functional contacts is the model's."""
    low, high = 0.0, _MOST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        learner = _shuffled(config, features, device, middle)
        learner.learn(features.tasks[0][0])
        if learner.report()["functional_share"] > share:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
