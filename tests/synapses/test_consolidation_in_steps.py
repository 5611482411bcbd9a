"""When a contact is consolidated where contacts change in every step, counted by hand."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from engines import OwnFactors, in_torch
from torch import Tensor

from snn_artsy.config import ContactConfig, NeuronConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.rules import PairSTDP
from snn_artsy.synapses import SilentSynapseLayer

# one pairing of 3 ms fills a contact to .7 exp(-3 / 20) = .60 > theta_up, one of the other order
# takes .9 exp(-3 / 20) = .77 away
RULE = PairSTDP(a_plus=0.7, a_minus=0.9)
GAIN = 0.7 * math.exp(-3 / 20)
CONVERTED = 13  # the step of the postsynaptic spike; the clock starts with the next one
AFTER_MS = 50.0


def shown_for(
    n_steps: int,
    pre: list[int],
    post: list[int],
    consolidation: bool = True,
    decay_ms: float | None = None,
) -> SilentSynapseLayer:
    """Two neurons with one input, 1 ms steps: input spikes at ``pre``, the first neuron's at
    ``post``; the second one has only the last of them."""
    contacts = ContactConfig(
        consolidate_ms=AFTER_MS, consolidation=consolidation, decay_ms=decay_ms
    )
    layer = SilentSynapseLayer(1, 2, 1.0, NeuronConfig(), RULE, contacts, update="step")
    spikes, current = torch.zeros(n_steps, 1, 1), torch.zeros(n_steps, 1, 2)
    spikes[[t for t in pre if t < n_steps]] = 1.0
    current[[t for t in post if t < n_steps], 0, 0] = (
        1.05  # so little above threshold that nothing is left of it
    )
    if post[-1] < n_steps:
        current[post[-1], 0, 1] = 1.05
    response, _ = layer.pair(spikes, current)
    assert response.spikes[:, 0, 0].nonzero()[:, 0].tolist() == [t for t in post if t < n_steps]
    return layer


def state_of(layer: SilentSynapseLayer) -> tuple[int, float]:
    return int(layer.state[0, 0]), float(layer.functional_ms[0, 0])


class Ones:
    def of(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(w), torch.ones_like(w)


class OwnBounds(PairSTDP):
    """The same numbers from a rule that the compiled loop does not know."""

    def dependence(self) -> Ones:  # type: ignore[override]
        return Ones()


@pytest.fixture(params=["compiled", "own factors", "own bounds", "torch"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways in which a layer goes through the steps."""
    if request.param == "torch":
        in_torch(monkeypatch)
        return
    if request.param.startswith("own"):
        kind = OwnBounds if request.param == "own bounds" else OwnFactors
        own = kind(a_plus=RULE.a_plus, a_minus=RULE.a_minus)
        monkeypatch.setattr(sys.modules[__name__], "RULE", own)
    layer = SilentSynapseLayer(1, 2, 1.0, NeuronConfig(), RULE, ContactConfig(), update="step")
    assert (layer.takes_reference() is None) == (request.param != "own bounds")


@pytest.mark.parametrize(
    ("n_steps", "state", "clock_ms"),
    [
        (CONVERTED, SILENT, 0.0),
        (CONVERTED + 1, FUNCTIONAL, 0.0),
        (CONVERTED + 2, FUNCTIONAL, 1.0),
        (CONVERTED + 50, FUNCTIONAL, 49.0),
        (CONVERTED + 51, CONSOLIDATED, 0.0),
        (200, CONSOLIDATED, 0.0),
    ],
)
def test_in_silence_the_clock_runs_on(n_steps: int, state: int, clock_ms: float) -> None:
    layer = shown_for(n_steps, pre=[10], post=[CONVERTED])
    assert state_of(layer) == (state, clock_ms)
    occupancy = GAIN if n_steps > CONVERTED else 0.0
    assert float(layer.ampa[0, 0]) == pytest.approx(occupancy, abs=1e-5)


@pytest.mark.parametrize(
    ("last", "state"), [(CONVERTED + 49, FUNCTIONAL), (CONVERTED + 50, CONSOLIDATED)]
)
def test_with_spikes_until_the_end_the_clock_runs_on(last: int, state: int) -> None:
    """The neuron fires every ten steps, so that all of its contacts are gone through."""
    post = [CONVERTED, *range(CONVERTED + 10, last, 10), last]
    layer = shown_for(last + 1, pre=[10], post=post)
    assert state_of(layer)[0] == state


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (CONVERTED + 30, SILENT),
        (CONVERTED + 50, SILENT),  # 49 ms are not enough
        (CONVERTED + 51, CONSOLIDATED),
        (CONVERTED + 120, CONSOLIDATED),
    ],
)
@pytest.mark.parametrize("fires", [True, False])
def test_a_consolidated_contact_stays_when_it_is_emptied(
    step: int, state: int, fires: bool
) -> None:
    """An input spike 3 ms after a postsynaptic one empties the contact, in a step in which the
    neuron itself fires or does not: two ways through the loop."""
    post = [CONVERTED, step - 3, *([step] if fires else [])]
    layer = shown_for(step + 1, pre=[10, step], post=post)
    assert float(layer.ampa[0, 0]) < ContactConfig().theta_down
    assert state_of(layer)[0] == state


def test_without_consolidation_nothing_is_consolidated() -> None:
    layer = shown_for(200, pre=[10], post=[CONVERTED], consolidation=False)
    assert state_of(layer) == (FUNCTIONAL, pytest.approx(200.0 - CONVERTED - 1))
    step = CONVERTED + 150
    emptied = shown_for(step + 1, pre=[10, step], post=[CONVERTED, step - 3], consolidation=False)
    assert state_of(emptied) == (SILENT, 0.0)


def test_the_clock_goes_on_in_the_next_presentation() -> None:
    layer = shown_for(CONVERTED + 31, pre=[10], post=[CONVERTED])
    assert state_of(layer) == (FUNCTIONAL, 30.0)
    nothing = torch.zeros(19, 1, 1), torch.zeros(19, 1, 2)
    layer.pair(*nothing)
    assert state_of(layer) == (FUNCTIONAL, 49.0)
    layer.pair(nothing[0][:1], nothing[1][:1])
    assert state_of(layer) == (CONSOLIDATED, 0.0)


@pytest.mark.parametrize("n_steps", [CONVERTED + 30, CONVERTED + 51, 300])
def test_a_contact_decays_until_it_is_consolidated(n_steps: int) -> None:
    """Without consolidation it would be silent again after 175 ms."""
    layer = shown_for(n_steps, pre=[10], post=[CONVERTED], decay_ms=200.0)
    lasted = min(n_steps - CONVERTED, 51)  # the step in which it is consolidated decays still
    assert float(layer.ampa[0, 0]) == pytest.approx(GAIN * math.exp(-lasted / 200), abs=1e-5)
    expected = (CONSOLIDATED, 0.0) if lasted == 51 else (FUNCTIONAL, 29.0)
    assert state_of(layer) == expected
