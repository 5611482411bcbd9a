"""Random arrays and options: a clear error, or finite results in range, the same on both paths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.config import ContactConfig
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Rule, TripletSTDP
from snn_artsy.synapses import LeakyUnits, SilentSynapseLayer, compiled, learn_online

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
                patch.setattr(compiled, "runs_here", lambda layer: False)
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
    private=st.booleans(),
    shown=arrays(),
    weight=st.sampled_from([0.5] * 8 + [0.0, 1.0, -0.1, 1.5, math.nan]),
    dt_ms=st.sampled_from([1.0] * 6 + [1e-6, 50.0, 0.0, -1.0, math.nan]),
)
def test_learning_in_every_step_errs_or_stays_in_range_in_both_precisions(
    bounds_of: Any, private: bool, shown: Any, weight: float, dt_ms: float
) -> None:
    rule = PairSTDP(a_plus=0.3, a_minus=0.2, bounds_of=bounds_of)
    found = []
    for kind in (torch.float32, torch.float64):
        w = torch.full((2, N_POST, N_PRE) if private else (N_POST, N_PRE), weight, dtype=kind)
        before = w.clone()

        def learn(w: Tensor = w) -> Tensor:
            learn_online(w, *shown, rule, dt_ms, LeakyUnits(gain=0.0))
            return w

        found.append(outcome(learn))
        if isinstance(found[-1], str):
            assert torch.equal(w.nan_to_num(9.0), before.nan_to_num(9.0)), "nothing was learnt"
        else:
            assert bool(((w >= 0) & (w <= 1)).all())
    event("error" if isinstance(found[0], str) else "learnt")
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        torch.testing.assert_close(found[0].double(), found[1], atol=2e-5, rtol=0)


@FEW
@given(
    shapes=st.lists(st.sampled_from([0, 1, 2, 3, 4, 5]), min_size=3, max_size=3),
    which=st.integers(0, 9),
    kind=st.sampled_from([np.float32] * 6 + [np.float64, np.uint8]),
)
def test_compiled_entries_take_one_set_of_sizes(shapes: list[int], which: int, kind: Any) -> None:
    """One array of another shape or type, in each place in turn."""
    from snn_artsy.synapses import contact_kernel

    contacts = [np.zeros((N_POST, N_PRE), t) for t in (np.float32, np.uint8, np.float32, bool)]
    factors = [np.ones((5, 2, n), np.float32) for n in (N_POST, N_PRE, N_POST, N_PRE)]
    given = [*contacts, *factors, np.zeros((5, N_PRE), np.float32), np.zeros(N_POST, np.float32)]
    right = given[which]
    given[which] = np.ones(shapes[: right.ndim], kind)
    layer = SilentSynapseLayer(N_PRE, N_POST, update="step")
    dynamics = compiled._dynamics(layer, compiled.AS_GIVEN, 1.0, 2)
    result = outcome(lambda: contact_kernel.learn_contacts(*given, dynamics))
    fits = given[which].shape == right.shape and given[which].dtype == right.dtype
    assert isinstance(result, str) != fits
