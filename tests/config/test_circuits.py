"""``snn.contacts.circuit`` gives the share of silent contacts, in place of ``silent_share``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig
from snn_artsy.config.circuits import CIRCUITS
from snn_artsy.config_sources import layered
from snn_artsy.synapses import SilentSynapseLayer


@pytest.mark.parametrize("name", CIRCUITS)
def test_contacts_have_the_share_of_their_circuit(name: str) -> None:
    contacts = ContactConfig(circuit=name)
    assert contacts.silent_share == CIRCUITS[name].share
    # what a run has written down is read again, and other values can change beside it
    assert replace(contacts, theta_up=0.6).silent_share == contacts.silent_share
    layer = SilentSynapseLayer(400, 50, contacts=contacts)
    measured = float(layer.born_silent.double().mean())
    assert measured == pytest.approx(contacts.silent_share, abs=0.015)


def test_the_published_shares() -> None:
    shares = {name: circuit.share for name, circuit in CIRCUITS.items()}
    assert (shares["l5_adult"], shares["v1_eye_opening"], shares["v1_adult"]) == (0.25, 0.5, 0.05)
    assert shares["barrel_p8_9"] == 0.0 and shares["accumbens_cocaine"] == 0.2495
    # only what was read as a number somewhere is claimed
    assert [name for name, circuit in CIRCUITS.items() if circuit.read == "none"] == ["barrel_p2_5"]


def test_a_share_beside_a_circuit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^snn.contacts.silent_share: 0.4.* l5_adult has 0.25"):
        ContactConfig(circuit="l5_adult", silent_share=0.4)
    with pytest.raises(ConfigError, match=r"^snn.contacts.circuit: 'moon'"):
        ContactConfig(circuit="moon")


def test_the_later_of_two_sources_decides() -> None:
    circuit, share = {"snn.contacts.circuit": "v1_adult"}, {"snn.contacts.silent_share": 0.4}
    assert layered(share, circuit) == {"snn": {"contacts": {"circuit": "v1_adult"}}}
    assert layered(circuit, share) == {"snn": {"contacts": {"silent_share": 0.4}}}
