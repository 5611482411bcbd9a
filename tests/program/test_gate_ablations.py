"""analysis/gate_ablations.py: measures and table by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from snn_artsy.learners.base import Prediction


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    return importlib.import_module("gate_ablations")


def test_measures_by_hand(script: Any) -> None:
    """Four samples of classes 0 to 3 in two tasks: one is right, one in its task alone; a network
    that did not fire has decided nothing."""
    labels, of = torch.arange(4), torch.tensor([0, 0, 1, 1])
    scores = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 0]), 4).float()
    votes = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0]), 4).float()
    votes[0] = -torch.inf
    gates = torch.tensor([[True, False], [True, True], [True, True], [False, False]])
    passes = torch.tensor([1.0, 2.0, 2.0, 1.0])
    answer = Prediction(scores, gates=gates, vit_passes=passes, spike_scores=votes)
    found = script.measured(answer, labels, of)
    assert found == {"accuracy": 0.25, "task": 0.5, "open": 1.25, "passes": 1.5, "spikes": 0.5}


def test_the_table_by_hand(script: Any) -> None:
    """Differences are paired: 10 and 12 points have an sd of 1.41, and the interval of two values
    is 12.706 standard errors wide on each side."""

    def seed(gated: float, shut: float) -> dict[str, dict[str, dict[str, float]]]:
        own = {"gated": {"accuracy": gated, "task": 0.8, "open": 3.0, "passes": 2.0},
               "every gate shut": {"accuracy": shut, "task": 0.7, "passes": 1.0}}  # fmt: skip
        return {"best": own, "spiking": own}

    lines = script.table([seed(0.9, 0.8), seed(0.7, 0.58)]).split("\n")
    assert lines[2] == "| best ANN gate: gated | 80.0 ± 14.1 | – | 80.0 ± 0.0 | – | 3.00 | 2.00 |"
    assert lines[3].startswith("| best ANN gate: every gate shut | 69.0 ± 15.6 | -11.0 (-23.7 to ")
    assert len(lines) == 6


def test_every_way_that_gates_can_be_set_has_a_row(script: Any) -> None:
    from typing import get_args, get_type_hints

    from snn_artsy.config import BestGateConfig

    ways = {config.gates for config in script.settings(BestGateConfig(), 5).values()}
    assert ways == set(get_args(get_type_hints(BestGateConfig)["gates"]))
