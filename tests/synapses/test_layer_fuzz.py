"""Random arrays and options: a clear error, or finite results in range, the same on both paths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from engines import in_torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.config import ContactConfig
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Rule, TripletSTDP
from snn_artsy.synapses import SilentSynapseLayer
from snn_artsy.synapses.loops import records

N_PRE, N_POST = 4, 3
FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
RULES: list[Rule] = [
    PairSTDP(a_plus=0.3, a_minus=0.2),
    PairSTDP(a_plus=1e6, a_minus=1e6, tau_plus_ms=1e15),
    PairSTDP(a_plus=0.3, bounds_of="power_law"),
    TripletSTDP(a3_plus=0.5),
    GatedSTDP(PairSTDP(a_plus=0.3), Gating(target=0.5)),
]
# mostly what fits, so that not every example is an error
sizes = st.sampled_from([N_PRE] * 6 + [N_POST, 0, 1, 7, 4096])
steps = st.sampled_from([5] * 8 + [0, 1, 9])
images = st.sampled_from([2] * 8 + [0, 1, 3])
odd = st.sampled_from([None] * 12 + [0.5, -1.0, 2.0, 1e30, math.nan, math.inf, -math.inf])
kinds = st.sampled_from([torch.float32] * 4 + [torch.float64, torch.float16, torch.int32])


@st.composite
def arrays(draw: st.DrawFn, steps: Any = steps, images: Any = images) -> tuple[Tensor, Tensor]:
    """Spikes and currents, nearly always right in most of what they are."""
    n_steps, n_images, n_pre = draw(steps), draw(images), draw(sizes)
    same = draw(st.sampled_from([True] * 6 + [False]))
    t, b, n = (n_steps, n_images, N_POST) if same else (draw(steps), draw(images), draw(sizes))
    source = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    pre = (torch.rand(n_steps, n_images, n_pre, generator=source) < 0.4).float()
    current = 1.5 * (torch.rand(t, b, n, generator=source) < 0.4)
    for values in (pre, current):
        value = draw(odd)
        if value is not None and values.numel():
            values.view(-1)[draw(st.integers(0, values.numel() - 1))] = value
    pre, current = pre.to(draw(kinds)), current.to(torch.float64 if draw(st.booleans()) else None)
    if draw(st.sampled_from([False] * 6 + [True])):
        pre = pre.transpose(0, 1).contiguous().transpose(0, 1)  # the same numbers, other strides
    return pre, current


def outcome(call: Any) -> Any:
    """What a call gives, or its error in words."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        text = str(error)
        assert ": " in text and ("expected" in text or "; " in text), f"not a clear error: {text}"
        return f"{type(error).__name__}: {text}"


def learnt(
    rule: Rule, contacts: ContactConfig, reduction: Any, update: Any, shown: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    layer = SilentSynapseLayer(
        N_PRE, N_POST, rule=rule, contacts=contacts, update=update, batch_reduction=reduction,
        generator=torch.Generator().manual_seed(0),
    ).train()  # fmt: skip
    spikes = layer(*shown)
    for values, most in ((layer.ampa, 1.0), (layer.state, 2.0), (spikes, 1.0)):
        assert bool(((values >= 0) & (values <= most)).all()), "in range, so finite"
    assert bool(layer.functional_ms.isfinite().all()) and bool(layer.slow_sum.isfinite().all())
    return spikes, layer.ampa


@FEW
@given(
    rule=st.sampled_from(RULES),
    probability=st.sampled_from([1.0, 0.5]),
    decay_ms=st.sampled_from([None, 3.0, 0.01]),
    reduction=st.sampled_from(["sum", "mean"]),
    shown=arrays(),
)
def test_a_layer_errs_or_learns_alike_on_both_paths(
    rule: Rule, probability: float, decay_ms: float | None, reduction: str, shown: Any
) -> None:
    contacts = ContactConfig(probability=probability, decay_ms=decay_ms, consolidation=False)
    found = []
    for covered in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not covered:
                in_torch(patch)
            given = (rule, contacts, reduction, "step", shown)
            found.append(outcome(lambda given=given: learnt(*given)))  # type: ignore[misc]
    event("error" if isinstance(found[0], str) else "learnt")
    at_once = outcome(lambda: learnt(rule, contacts, reduction, "presentation", shown))
    if isinstance(found[0], str):
        assert found[0] == found[1] == at_once
        return
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][0], at_once[0])
    # amplitudes of 1e6 round by tenths before they are clipped
    if not (isinstance(rule, PairSTDP) and rule.a_plus > 1):
        torch.testing.assert_close(found[0][1], found[1][1], atol=2e-5, rtol=0)


@FEW
@given(
    bounds_of=st.sampled_from(["additive", "soft", "van_rossum", "power_law"]),
    transmission=st.sampled_from(["plain", "graded", "binary"]),
    taught=st.booleans(),
    shown=arrays(),
    weight=st.sampled_from([0.5] * 8 + [0.0, 1.0, -0.1, 1.5, math.nan]),
    dt_ms=st.sampled_from([1.0] * 6 + [1e-6, 50.0, 0.0, -1.0, math.nan]),
)
def test_learning_in_every_step_errs_or_stays_in_range_in_both_precisions(
    bounds_of: Any, transmission: Any, taught: bool, shown: Any, weight: float, dt_ms: float
) -> None:
    rule = PairSTDP(a_plus=0.3, a_minus=0.2, bounds_of=bounds_of)
    contacts = ContactConfig(transmission=transmission)
    found = []
    for kind in (torch.float32, torch.float64):

        def learn(kind: torch.dtype = kind) -> Tensor:
            layer = SilentSynapseLayer(N_PRE, N_POST, dt_ms, rule=rule, contacts=contacts)
            stored = layer.state_dict()
            stored["ampa"] = torch.full((N_POST, N_PRE), weight)
            try:
                layer.load_state_dict(stored)
            except RuntimeError as error:
                raise ValueError(str(error)) from error
            layer = layer.to(kind).train()
            pre, current = shown
            before = layer.ampa.clone()
            try:
                layer.simulate(pre, current if taught else None)
            except (TypeError, ValueError):
                assert torch.equal(layer.ampa, before), "nothing was learnt"
                raise
            return layer.ampa

        found.append(outcome(learn))
        if not isinstance(found[-1], str):
            assert bool(((found[-1] >= 0) & (found[-1] <= 1)).all())
    event("error" if isinstance(found[0], str) else "learnt")
    if isinstance(found[0], str):
        assert found[0] == found[1]
    elif taught:  # else a rounding decides about a spike
        torch.testing.assert_close(found[0].double(), found[1], atol=2e-5, rtol=0)


@FEW
@given(
    record=st.sampled_from(["contacts", "population", "spikes", "traces"]),
    which=st.integers(0, 8),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, 7]), min_size=3, max_size=3),
    kind=st.sampled_from([np.float32] * 6 + [np.float64, np.uint8]),
)
def test_compiled_entries_take_one_set_of_sizes(
    record: str, which: int, shape: list[int], kind: Any
) -> None:
    """One array of another shape or type, in each place in turn."""
    arrays_of = {
        "contacts": records.ContactArrays(
            *(np.zeros((N_POST, N_PRE), np.float32) for _ in range(5))
        ),
        "population": records.Population(
            *(np.zeros((2, N_POST), np.float32) for _ in range(2)),
            *(np.ones(N_POST, np.float32) for _ in range(3)),
            np.zeros((5, 2, 1), np.float32),
            *(np.zeros((5, 2, N_POST), np.float32) for _ in range(3)),
        ),
        "spikes": records.InputSpikes(
            np.zeros(11, np.int64), np.zeros(0, np.uint32), np.zeros((5, 2, N_PRE), np.float32)
        ),
        "traces": records.TraceArrays(
            np.zeros((2, 2, N_PRE), np.float32), np.zeros((2, 2, N_POST), np.float32),
            np.zeros(N_PRE, np.float32), np.zeros(1, np.float32),
        ),
    }  # fmt: skip
    records.check_arrays(**arrays_of)
    fields = arrays_of[record]._fields
    name = fields[which % len(fields)]
    right = getattr(arrays_of[record], name)
    other = np.ones(shape[: right.ndim], kind)
    arrays_of[record] = arrays_of[record]._replace(**{name: other})
    result = outcome(lambda: records.check_arrays(**arrays_of))
    fits = other.shape == right.shape and other.dtype == right.dtype
    # afferents may be each neuron's own; an empty current is none
    fits |= name == "afferents" and other.shape == (5, 2, N_POST) and kind == np.float32
    fits |= name == "injected" and other.size == 0 and kind == np.float32
    # where the spikes lie has a length of its own, and positions are looked at
    assert isinstance(result, str) != fits
