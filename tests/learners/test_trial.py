"""A code, a neuron or a rule of one's own that cannot be used is found out before anything else."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch
import torch

from snn_artsy.checks import ConfigError
from snn_artsy.config import NeuronConfig, RunConfig
from snn_artsy.learners import Setting, build
from snn_artsy.registry import ENCODERS, NEURONS
from snn_artsy.synapses import SilentSynapseLayer


def built(snn: dict[str, Any]) -> Any:
    config = RunConfig(snn=snn, learners=["artsy_snn"])  # type: ignore[arg-type]
    return build("artsy_snn", Setting(config, 8, "cpu"))


def ones(shown: Any) -> torch.Tensor:
    return torch.ones(len(shown.on), *shown.drive.shape)


CODES: dict[str, tuple[Any, str]] = {
    "nothing": (lambda shown: None, "expected a torch tensor, given NoneType"),
    "one step": (lambda shown: ones(shown)[:1], "its spikes: expected shape"),
    "on units alone": (lambda shown: ones(shown)[..., :8], "its spikes: expected shape"),
    "halves": (lambda shown: 0.5 * ones(shown), "expected spikes, 0 or 1, given 0.5"),
    "NaN": (lambda shown: ones(shown) * float("nan"), "expected spikes, 0 or 1, given nan"),
    "bool": (lambda shown: ones(shown) > 0, "its spikes: expected float32, given bool"),
    "an error": (lambda shown: {}["x"], "KeyError: 'x'"),
}


@pytest.mark.parametrize("name", CODES)
def test_a_code_that_makes_no_spikes(name: str) -> None:
    make, message = CODES[name]
    ENCODERS.register("mine")(make)
    with pytest.raises(ConfigError, match=f"snn.encoding.code: 'mine' cannot be used .*{message}"):
        built({"encoding": {"code": "mine"}})


def leaky(**given: Any) -> Any:
    return lambda n, dt_ms, threshold: snntorch.Leaky(
        **{"beta": 0.9, "threshold": threshold, "reset_mechanism": "none"} | given
    )


UNITS: dict[str, tuple[Any, str]] = {
    "nothing": (lambda n, dt_ms, threshold: None, "NoneType cannot be used"),
    "a module": (lambda n, dt_ms, threshold: torch.nn.Linear(1, 1), "Linear cannot be used"),
    "a reset": (leaky(reset_mechanism="subtract"), "has the reset 'subtract'"),
    "thresholds of others": (leaky(threshold=torch.ones(5)), r"expected one number or shape"),
    "its own state": (leaky(init_hidden=True), "init_hidden cannot be used"),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_neuron_that_the_layer_does_not_integrate(name: str) -> None:
    make, message = UNITS[name]
    NEURONS.register("mine")(make)
    with pytest.raises(ConfigError, match=f"snn.neuron.model: 'mine' cannot be used .*{message}"):
        built({"neuron": {"model": "mine"}})


def test_what_fits_is_taken_and_draws_nothing() -> None:
    @ENCODERS.register("noisy")
    def noisy(shown: Any) -> torch.Tensor:
        return (torch.rand(len(shown.on), *shown.drive.shape) < 0.5).float()

    NEURONS.register("mine")(leaky())
    torch.manual_seed(3)
    built({"encoding": {"code": "noisy"}, "neuron": {"model": "mine"}})
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))
    layer = SilentSynapseLayer(4, 2, neuron=NeuronConfig(model="mine"))
    assert layer.respond(torch.ones(5, 1, 4)).spikes.shape == (5, 1, 2)
