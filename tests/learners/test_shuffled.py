"""The shuffled control at the density of the model."""

from dataclasses import replace

import torch

from snn_artsy.config import ContactConfig, PlasticityConfig, SNNConfig
from snn_artsy.learners.shuffled import held_back, match_density, timing_indices
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.synapses.layer import SilentSynapseLayer


def test_each_neuron_keeps_its_largest_occupancies() -> None:
    layer = SilentSynapseLayer(4, 3, rule=None)
    layer.ampa.copy_(torch.tensor([[0.1, 0.9, 0.3, 0.7], [0.0, 0.0, 0.0, 0.2], [0.5] * 4]))
    layer.state[0, 0], layer.state[0, 1] = FUNCTIONAL, CONSOLIDATED
    wanted = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    match_density(layer, wanted, torch.Generator().manual_seed(0))
    assert layer.state.tolist() == [
        [SILENT, CONSOLIDATED, SILENT, FUNCTIONAL],
        [SILENT, SILENT, SILENT, FUNCTIONAL],
        [SILENT] * 4,
    ]


def test_equal_occupancies_are_drawn() -> None:
    layer = SilentSynapseLayer(8, 400, rule=None)
    wanted = (torch.arange(8) < 2).expand(400, 8)
    match_density(layer, wanted, torch.Generator().manual_seed(0))
    opened = layer.state != SILENT
    assert opened.sum(1).tolist() == [2] * 400
    assert (opened.float().mean(0) - 0.25).abs().max() < 5 * (0.25 * 0.75 / 400) ** 0.5


def test_contacts_that_were_born_mature_or_do_not_exist_stay() -> None:
    contacts = ContactConfig(silent_share=0.5, probability=0.8)
    generator = torch.Generator().manual_seed(1)
    layer = SilentSynapseLayer(20, 5, rule=None, contacts=contacts, generator=generator)
    mature = layer.state == CONSOLIDATED
    match_density(layer, torch.ones(5, 20).bool(), torch.Generator().manual_seed(0))
    assert torch.equal(layer.state == CONSOLIDATED, mature) and mature.any()
    assert torch.equal(layer.state == FUNCTIONAL, layer.born_silent)
    assert not layer.state[~layer.exists].any()


def test_what_holds_contacts_back_is_one_factor() -> None:
    plain = PlasticityConfig()
    weaker = held_back(SNNConfig(plasticity=plain), 0.5).plasticity
    assert (weaker.a_minus, weaker.target) == (0.5 * plain.a_minus, 0.5 * plain.target)
    assert weaker.triplet.a3_minus == 0.5 * plain.triplet.a3_minus
    assert replace(weaker, a_minus=plain.a_minus, target=plain.target, triplet=plain.triplet) == (
        plain
    )


def test_the_three_numbers() -> None:
    shuffled = {"a_last_spikes_only": 0.1}
    matched = {"a_last_spikes_only": 0.5, "contacts_changed": 0.2}
    controls = {"shuffled_timing": shuffled, "shuffled_timing_equal_density": matched}
    found = timing_indices(0.6, controls)
    assert {name: round(value, 12) for name, value in found.items()} == {
        "timing_index": 0.5,
        "timing_index_equal_parameters": 0.5,
        "timing_index_equal_density": 0.1,
        "timing_contacts_changed": 0.2,
    }
    assert timing_indices(0.6, {}) == {}
