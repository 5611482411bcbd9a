"""Which engine a layer takes in a test."""

from __future__ import annotations

import math

import pytest
from torch import Tensor

from snn_artsy.rules import PairSTDP, Signals, Traces
from snn_artsy.rules.base import Factors
from snn_artsy.synapses import engine_numba, engine_torch


def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers take the reference from here on."""
    monkeypatch.setattr(engine_numba, "covers", lambda circuit: "a test compares the engines")
    monkeypatch.setattr(engine_numba, "transmit", engine_torch.transmit)


class OwnFactors(PairSTDP):
    """The same numbers from factors that the compiled loop is given."""

    def factors(self, traces: Traces, seen: Signals, dt_ms: float) -> tuple[Factors, Traces]:
        x, y = traces
        f = Factors(x, self.a_plus * seen.post, seen.pre, self.a_minus * y)
        keep = math.exp(-dt_ms / self.tau_plus_ms)
        return f, ((x + seen.pre) * keep, (y + seen.post) * keep)

    def start(self, pre: Tensor, post: Tensor, private: bool = False) -> Traces:
        return pre * 0.0, post * 0.0
