"""Virtual experiments: each a function of a `Setting` that returns an `Outcome`.

A module is imported when its protocol is run, so that the list of names costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snn_artsy.protocols.base import Outcome, Setting

# Command-line name -> what it shows; module and function are the name with underscores.
PROTOCOLS = {
    "stdp-window": "change of a contact against the interval of a spike pair",
    "pairing-frequency": "pairings at 0.1 to 50 Hz: triplet and voltage rules, pair-based control",
    "calcium-window": "the calcium rule: 60 pairings at 1 Hz against the lag of a pair",
    "bimodal-weights": "1,000 Poisson inputs drive a neuron: weights gather at both bounds",
    "mg-block": "magnesium block of NMDA receptors; currents of silent and mature contacts",
    "silent-synapse-pairing": "EPSCs at -70 and +40 mV before and after pairing, with controls",
    "minimal-stimulation": "share of silent contacts from failures at -70 and +40 mV",
    "retention": "consolidation on and off, old sub-networks plastic or not",
    "lesion": "functional contacts of a trained run cut, at random and targeted",
    "pharmacology": "APV in training, NBQX at test, on a trained run",
}
# These work on a trained run (--run), and train the digits default without one.
ON_A_RUN = ("lesion", "pharmacology")


def load(name: str) -> Callable[[Setting], Outcome]:
    """The protocol's function.

    Raises:
        NotImplementedError: This version has no module for it.
    """
    function = name.replace("-", "_")
    module = f"snn_artsy.protocols.{function}"
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name != module:  # something that the module needs is missing
            raise
        raise NotImplementedError(f"protocol {name!r} is not part of this version") from error
