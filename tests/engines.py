"""Which engine a layer takes in a test."""

from __future__ import annotations

import pytest

from snn_artsy.synapses import engine_numba, engine_torch


def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers take the reference from here on."""
    monkeypatch.setattr(engine_numba, "covers", lambda circuit: "a test compares the engines")
    monkeypatch.setattr(engine_numba, "transmit", engine_torch.transmit)
