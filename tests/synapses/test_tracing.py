"""Time series of single contacts are what pairing does to them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from engines import in_torch
from torch import Tensor

from snn_artsy.config import ContactConfig
from snn_artsy.rules import CalciumRule, GatedSTDP, Gating, PairSTDP
from snn_artsy.rules.nmda import V_PEAK_MV
from snn_artsy.synapses import SilentSynapseLayer, trace_contacts

N_PRE, N_POST, T, DT = 12, 3, 30, 2.0
FAST = GatedSTDP(PairSTDP(a_plus=0.9, a_minus=0.6), Gating(target=0.4, nmda=0.5))
CONTACTS = torch.tensor([[0, 3], [2, 3], [2, 11]])  # (post, pre)


def layer_of(rule: Any = FAST, **given: Any) -> SilentSynapseLayer:
    contacts = ContactConfig(consolidate_ms=100.0, silent_share=0.6)
    generator = torch.Generator().manual_seed(1)
    return SilentSynapseLayer(
        N_PRE, N_POST, DT, rule=rule, contacts=contacts, generator=generator,
        **{"update": "step", **given},
    )  # fmt: skip


def batch(n_batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    pre = (torch.rand(T, n_batch, N_PRE, generator=generator) < 0.2).float()
    teacher = 1.5 * (torch.rand(T, n_batch, N_POST, generator=generator) < 0.2)
    return pre, teacher


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("n_batch", [1, 3])
@pytest.mark.parametrize("taught", [True, False])
def test_every_step_is_that_of_pairing_up_to_it(
    taught: bool, n_batch: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "torch":
        in_torch(monkeypatch)
    pre, teacher = batch(n_batch)
    layer = layer_of()
    layer.pair(*batch(n_batch))  # traces of the rule that outlast a batch are not at rest
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    current = teacher if taught else None
    series = trace_contacts(layer, CONTACTS, pre, current, T * DT + 180.0)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name
    post_index, pre_index = CONTACTS.T
    states = set()
    for t in range(T):
        layer.load_state_dict(before)
        response, _ = layer.pair(
            pre[: t + 1], None if current is None else current[: t + 1],
            (T * DT + 180.0) * (t + 1) / T,
        )  # fmt: skip
        assert torch.equal(series["ampa"][t], layer.ampa[post_index, pre_index]), t
        assert torch.equal(series["state"][t], layer.state[post_index, pre_index].float()), t
        states.add(tuple(series["state"][t].tolist()))
    assert len(states) > (1 if taught else 0)
    fired = response.spikes[:, :, post_index]
    if n_batch == 1:
        peak = series["membrane_mV"] == V_PEAK_MV
        assert torch.equal(peak, fired[:, 0] == 1.0) and peak.any() == bool(fired.any())


def test_traces_and_opening_by_hand() -> None:
    pre, teacher = batch()
    series = trace_contacts(layer_of(), CONTACTS, pre, teacher)
    assert all(values.shape == (T, 3) for values in series.values())
    spikes = layer_of().clamp(teacher).spikes
    tau_pre, tau_post = FAST.base.tau_plus_ms, FAST.base.tau_minus_ms
    for k, (j, i) in enumerate(CONTACTS.tolist()):
        for t in range(T):
            x = sum(math.exp(-(t - s) * DT / tau_pre) for s in range(t) if pre[s, 0, i])
            y = sum(math.exp(-(t - s) * DT / tau_post) for s in range(t) if spikes[s, 0, j])
            v = float(series["membrane_mV"][t, k])
            opened = 0.5 * x / (1 + 1.0 * math.exp(-0.062 * v) / 3.57)
            assert float(series["pre_trace"][t, k]) == pytest.approx(x, rel=1e-4, abs=1e-6)
            assert float(series["post_trace"][t, k]) == pytest.approx(y, rel=1e-4, abs=1e-6)
            assert float(series["nmda_open"][t, k]) == pytest.approx(opened, rel=1e-4, abs=1e-6)


def test_what_cannot_be_traced_is_refused() -> None:
    pre, teacher = batch()
    for layer in (layer_of(update="presentation"), layer_of(rule=None)):
        with pytest.raises(ValueError, match=r"layer: its contacts do not change in steps; give"):
            trace_contacts(layer, CONTACTS, pre, teacher)
    with pytest.raises(ValueError, match="contacts"):
        trace_contacts(layer_of(), torch.tensor([[N_POST, 0]]), pre, teacher)
    with pytest.raises(ValueError, match="contacts"):
        trace_contacts(layer_of(), torch.tensor([[0, 0, 0]]), pre, teacher)
    series = trace_contacts(layer_of(rule=CalciumRule()), CONTACTS, pre, teacher)
    assert set(series) == {"ampa", "state", "membrane_mV"}
