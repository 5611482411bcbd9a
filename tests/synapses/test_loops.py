"""The compiled loop as an ordinary plastic synapse, against float64 torch and numbers by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.rules import PairSTDP
from snn_artsy.synapses import Response, SilentSynapseLayer, engine_numba
from snn_artsy.synapses.loops import steps

# changes so large that many weights reach both bounds
RULE = PairSTDP(a_plus=0.06, a_minus=0.05, tau_plus_ms=12.0, tau_minus_ms=25.0)
N_PRE, N_POST = 37, 70
PLAIN = ContactConfig(transmission="plain")


def trains(n_batch: int, n_steps: int = 150, rate: float = 0.08, seed: int = 0) -> Any:
    g = torch.Generator().manual_seed(seed)
    pre = (torch.rand(n_steps, n_batch, N_PRE, generator=g) < rate).float()
    current = 1.5 * (torch.rand(n_steps, n_batch, N_POST, generator=g) < rate)
    return torch.rand(N_POST, N_PRE, generator=g), pre, current


def learnt(
    w: Tensor, pre: Tensor, current: Tensor | None, rule: PairSTDP, kind: torch.dtype
) -> tuple[Tensor, Response]:
    """Weights after, and what the neurons did."""
    layer = SilentSynapseLayer(
        w.shape[1], w.shape[0], 1.0, NeuronConfig(threshold=1.0), rule, PLAIN
    ).to(kind)
    layer.ampa.copy_(w)
    assert (layer.takes_reference() is None) == (kind == torch.float32)
    response, _, events = layer.train().simulate(pre, current)
    assert len(events.step) == 0 and int(layer.counts()[1]) == w.numel()  # there are no states
    return layer.ampa, response


def both(w: Tensor, *arguments: Any) -> tuple[Tensor, Response, Tensor, Response]:
    """Compiled in float32, and torch in float64 from the same start."""
    return (
        *learnt(w, *arguments, torch.float32),  # type: ignore[call-arg]
        *learnt(w, *arguments, torch.float64),  # type: ignore[call-arg]
    )


@pytest.mark.parametrize("bounds_of", ["additive", "soft", "van_rossum", "power_law"])
@pytest.mark.parametrize("pairing", ["all_to_all", "nearest"])
@pytest.mark.parametrize("taught", [True, False])
# a batch is added up by eights, and the rest
@pytest.mark.parametrize("n_batch", [1, 5, 11])
def test_equals_the_torch_path(n_batch: int, taught: bool, pairing: Any, bounds_of: Any) -> None:
    w, pre, current = trains(n_batch, seed=1)
    if not taught:  # until a rounding decides about a spike
        pre, current = pre[:60], None
    rule = replace(RULE, bounds_of=bounds_of, pairing=pairing)
    fast, found, exact, expected = both(w, pre, current, rule)
    assert torch.equal(found.spikes.double(), expected.spikes)
    assert 0.005 < expected.spikes.mean() < 0.5 and expected.spikes.sum() > 20
    # at least as exact as float32 torch: hundreds of roundings of numbers up to 1
    assert (fast - exact).abs().max() < 1e-5
    assert (found.membrane - expected.membrane).abs().max() < 1e-5
    assert (found.final - expected.final).abs().max() < 1e-5
    assert (exact - w).abs().mean() > 0.01
    if bounds_of == "additive" and taught:
        assert ((exact == 0) | (exact == 1)).float().mean() > 0.01


def test_a_wrong_rule_is_found_out() -> None:
    w, pre, current = trains(2)
    fast, _ = learnt(w, pre, current, RULE, torch.float32)
    other, _ = learnt(w, pre, current, replace(RULE, pairing="nearest"), torch.float32)
    assert (fast - other).abs().max() > 0.01


@pytest.mark.parametrize("n_batch", [1, 2])
def test_one_pair_by_hand(n_batch: int) -> None:
    pre, current = torch.zeros(40, n_batch, 2), torch.zeros(40, n_batch, 1)
    pre[5, 0, 0] = 1.0  # 7 ms before the postsynaptic spike
    pre[16, 0, 1] = 1.0  # 4 ms after it
    current[12, 0, 0] = 2.0
    w, found = learnt(torch.full((1, 2), 0.5), pre, current, RULE, torch.float32)
    assert found.spikes.nonzero().tolist() == [[12, 0, 0]]
    assert w[0, 0].item() == pytest.approx(0.5 + 0.06 * math.exp(-7 / 12), abs=1e-6)
    assert w[0, 1].item() == pytest.approx(0.5 - 0.05 * math.exp(-4 / 25), abs=1e-6)


@pytest.mark.parametrize("n_batch", [1, 2])
def test_spikes_of_one_step_do_not_pair(n_batch: int) -> None:
    pre, current = torch.zeros(8, n_batch, 1), torch.zeros(8, n_batch, 1)
    pre[3, 0, 0], current[3, 0, 0] = 1.0, 2.0
    w, found = learnt(torch.full((1, 1), 0.5), pre, current, RULE, torch.float32)
    assert w.item() == 0.5 and found.spikes.sum() == 1


@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    n_batch=st.integers(1, 3),
    nearest=st.booleans(),
    taught=st.booleans(),
    bounds_of=st.sampled_from(["additive", "van_rossum", "soft"]),
    tau=st.sampled_from([0.5, 3.0, 400.0]),
)
def test_any_trains(data: Any, n_batch: int, taught: bool, **kind: Any) -> None:
    n_steps = data.draw(st.integers(1, 30))
    bits = st.lists(
        st.booleans(), min_size=n_steps * n_batch * 5, max_size=n_steps * n_batch * 5
    )  # 3 inputs and 2 neurons a presentation
    drawn = torch.tensor(data.draw(bits)).float().reshape(n_steps, n_batch, 5)
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    rule = PairSTDP(
        a_plus=0.3, a_minus=0.25, tau_plus_ms=kind["tau"], bounds_of=kind["bounds_of"],
        pairing="nearest" if kind["nearest"] else "all_to_all",
    )  # fmt: skip
    current = 1.5 * drawn[..., 3:] if taught else None
    w = torch.rand(2, 3, generator=g)
    fast, found, exact, expected = both(w, drawn[..., :3], current, rule)
    assume((expected.membrane - 1.0).abs().min() > 1e-4)  # else a rounding decides about a spike
    assert torch.equal(found.spikes.double(), expected.spikes)
    # sums of up to 30 steps (a_plus x up to 9) round before they are clipped
    assert (fast - exact).abs().max() < 2e-5


@pytest.mark.parametrize("n_batch", [1, 11])
@pytest.mark.parametrize("taught", [True, False])
def test_threads_change_nothing(
    n_batch: int, taught: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, pre, current = trains(n_batch)
    monkeypatch.setattr(engine_numba, "WORTH_A_THREAD", 1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(learnt(w, pre, current if taught else None, RULE, torch.float32)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_more_steps_than_are_made_at_a_time() -> None:
    n_pre = steps.BLOCK // 8 + 13
    g = torch.Generator().manual_seed(2)
    pre = (torch.rand(20, 3, n_pre, generator=g) < 0.01).float()
    current = 1.5 * (torch.rand(20, 3, 5, generator=g) < 0.1)
    w = torch.rand(5, n_pre, generator=g)
    fast, found, exact, expected = both(w, pre, current, RULE)
    assert torch.equal(found.spikes.double(), expected.spikes) and found.spikes.sum() > 20
    assert (fast - exact).abs().max() < 1e-5
    assert (exact - w).abs().mean() > 0.003


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("n_batch", [1, 5])
def test_cuda_gives_the_cpu_s_weights(n_batch: int) -> None:
    w, pre, current = trains(n_batch, seed=1)
    found = []
    for device in ("cpu", "cuda"):
        layer = SilentSynapseLayer(N_PRE, N_POST, rule=RULE, contacts=PLAIN).to(device)
        layer.ampa.copy_(w)
        response, _, _ = layer.train().simulate(pre.to(device), current.to(device))
        found.append((layer.ampa.cpu(), response.spikes.cpu()))
    assert torch.equal(found[0][1], found[1][1])
    assert (found[0][0] - found[1][0]).abs().max() < 2e-5


def test_a_change_of_any_module_compiles_the_entry_points_again(tmp_path: Path) -> None:
    """Numba looks at the file of a cached function alone, and at its arguments' types."""
    learnt(*trains(1), RULE, torch.float32)
    for signature in steps.run.signatures:
        assert signature[-1].value == steps.SOURCES
    assert steps.checksum(Path(steps.__file__).parent) == steps.SOURCES
    for module in ("contacts", "neurons"):
        (tmp_path / f"{module}.py").write_text("one = 1\n")
    before = steps.checksum(tmp_path)
    (tmp_path / "neurons.py").write_text("one = 2\n")
    assert steps.checksum(tmp_path) != before
