"""With graded transmission a consolidated contact keeps its occupancy, whatever changes the others:
every engine, in steps and in batches, against a loop over single contacts."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from engines import OwnFactors, in_torch

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.rules import PairSTDP
from snn_artsy.synapses import SilentSynapseLayer

N_PRE, N_POST, DT = 5, 4, 1.0
A_PLUS, A_MINUS, TAU_MS = 0.2, 0.25, 20.0


def single_contact(
    batches: list[tuple[list[list[float]], list[list[float]]]],
    c: ContactConfig,
    in_steps: bool,
    fixed: bool,
) -> tuple[float, int, float]:
    """Occupancy, code and what it lost while consolidated, for spikes [T][B] of both sides."""
    a, state, clock, drained, kept = 0.0, SILENT, 0.0, 0.0, math.exp(-DT / TAU_MS)
    for pre, post in batches:
        n_batch = len(pre[0])
        x, y, change = [0.0] * n_batch, [0.0] * n_batch, 0.0
        for t in range(len(pre)):
            for b in range(n_batch):
                change += A_PLUS * post[t][b] * x[b] - A_MINUS * pre[t][b] * y[b]
                x[b], y[b] = (x[b] + pre[t][b]) * kept, (y[b] + post[t][b]) * kept
            if not in_steps and t < len(pre) - 1:
                continue
            elapsed = n_batch * DT * (1 if in_steps else len(pre))
            share = c.mature_plasticity if state != SILENT else 1.0
            if state == CONSOLIDATED and fixed:
                share = 0.0
            before, a = a, min(max(a + share * change, 0.0), 1.0)
            change = 0.0
            if state != CONSOLIDATED and c.decay_ms:
                a *= math.exp(-elapsed / c.decay_ms)
            if state == SILENT and a >= c.theta_up:
                state, clock = FUNCTIONAL, 0.0
            elif state == FUNCTIONAL:
                clock += elapsed
                if a <= c.theta_down:
                    state = SILENT
                elif clock >= c.consolidate_ms:
                    state = CONSOLIDATED
            elif state == CONSOLIDATED:
                drained += before - a
    return a, state, drained


@pytest.mark.parametrize("engine", ["compiled", "own factors", "torch"])
@pytest.mark.parametrize("update", ["step", "presentation"])
@pytest.mark.parametrize("n_batch", [1, 3])
@pytest.mark.parametrize("decay_ms", [None, 400.0])
def test_it_equals_single_contacts(
    engine: str,
    update: Literal["step", "presentation"],
    n_batch: int,
    decay_ms: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # half a millisecond more, so that rounding decides nothing
    contacts = ContactConfig(
        transmission="graded", consolidate_ms=20.5 * n_batch, mature_plasticity=0.6,
        decay_ms=decay_ms,
    )  # fmt: skip
    kind = OwnFactors if engine == "own factors" else PairSTDP
    rule = kind(a_plus=A_PLUS, a_minus=A_MINUS, tau_plus_ms=TAU_MS, tau_minus_ms=TAU_MS)
    layer = SilentSynapseLayer(N_PRE, N_POST, DT, NeuronConfig(), rule, contacts, update=update)
    assert layer.takes_reference() is None
    if engine == "torch":
        in_torch(monkeypatch)
    g = torch.Generator().manual_seed(4)
    shown = []
    for _ in range(6):
        pre = (torch.rand(30, n_batch, N_PRE, generator=g) < 0.08).float()
        current = 1.5 * (torch.rand(30, n_batch, N_POST, generator=g) < 0.08)
        shown.append((pre, layer.pair(pre, current)[0].spikes))
    codes, unprotected = [], []
    for j in range(N_POST):
        for i in range(N_PRE):
            batches = [(pre[:, :, i].tolist(), post[:, :, j].tolist()) for pre, post in shown]
            a, state, drained = single_contact(batches, contacts, update == "step", fixed=True)
            assert drained == 0.0
            assert int(layer.state[j, i]) == state
            assert float(layer.ampa[j, i]) == pytest.approx(a, abs=2e-5)
            codes.append(state)
            unprotected.append(single_contact(batches, contacts, update == "step", False)[2])
    assert codes.count(CONSOLIDATED) >= 3
    assert max(unprotected) > 0.1  # these very spikes drain a contact that is not protected
