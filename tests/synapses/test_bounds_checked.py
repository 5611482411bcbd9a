"""That an address-checked run of the compiled loops (NUMBA_BOUNDSCHECK=1, see .ci/run) can fail.

Numba checks indices only in code that it compiles under that variable: code from an ordinary cache
stays unchecked.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
import torch

from snn_artsy.config import ContactConfig
from snn_artsy.rules import GatedSTDP
from snn_artsy.synapses import SilentSynapseLayer, engine_numba
from snn_artsy.synapses.loops import steps

pytestmark = pytest.mark.skipif(
    not numba.config.BOUNDSCHECK, reason="an address-checked run: NUMBA_BOUNDSCHECK=1"
)

T, B, N_PRE, N_POST = 3, 2, 4, 5
CAUGHT = (IndexError, SystemError)  # the latter: a loop returned with an exception set
FAULTS: dict[str, str] = {
    "target": "population", "balance": "population", "v": "population", "spikes": "population",
    "where": "spikes", "y": "traces", "slow": "traces", "clock": "contacts", "since": "contacts",
}  # fmt: skip


def learn(monkeypatch: pytest.MonkeyPatch, fault: str | None, transmission: Any) -> None:
    """A step of everything; one array ends too early, or one spike lies beyond the last input."""

    def run(first: int, last: int, *records: Any) -> Any:
        named = dict(zip(("contacts", "population", "spikes", "traces"), records, strict=False))
        if fault is not None:
            record = named[FAULTS[fault]]
            values = getattr(record, fault)
            if fault == "where":
                wrong = np.where(np.arange(len(values)) == len(values) - 1, N_PRE, values)
                wrong = wrong.astype(values.dtype)
            else:
                wrong = np.ascontiguousarray(values[..., :-1])
            named[FAULTS[fault]] = record._replace(**{fault: wrong})
        return real(first, last, *named.values(), *records[4:])

    real = steps.run
    monkeypatch.setattr(steps, "run", run)
    # clocks are gone through where contacts decay, else only where one changes its state
    decay_ms = 100.0 if fault in ("clock", "since") else None
    contacts = ContactConfig(silent_share=0.5, transmission=transmission, decay_ms=decay_ms)
    layer = SilentSynapseLayer(N_PRE, N_POST, rule=GatedSTDP(), contacts=contacts).train()
    # inhibition is balanced where neurons fire by their own synapses
    current = None if fault == "balance" else 1.5 * torch.ones(T, B, N_POST)
    layer.simulate(torch.ones(T, B, N_PRE), current)


@pytest.mark.parametrize("transmission", ["binary", "graded", "plain"])
def test_what_fits_passes(transmission: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(monkeypatch, None, transmission)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CAUGHT):
        learn(monkeypatch, fault, "binary")


def test_a_fault_in_another_thread_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(engine_numba, "WORTH_A_THREAD", 1)
    torch.set_num_threads(2)
    try:
        with pytest.raises(CAUGHT):
            learn(monkeypatch, "target", "binary")
    finally:
        torch.set_num_threads(before)
