"""Codes, neurons and rules of one's own, tried on two samples before anything takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from snn_artsy.checks import ConfigError
from snn_artsy.config import SNNConfig
from snn_artsy.registry import ENCODERS, NEURONS, RULES
from snn_artsy.synapses.encoding import SpikeEncoder
from snn_artsy.synapses.layer import SilentSynapseLayer


def try_added(config: SNNConfig, dim: int, encoder: SpikeEncoder) -> None:
    """Show two samples to two neurons, and teach them, where a code, a neuron or a rule was added.

    Raises:
        ConfigError: One of them fails, or gives something else than it should.
    """
    plasticity = config.plasticity
    rule = plasticity.base if plasticity.rule == "gated" else plasticity.rule
    code, model = config.encoding.code, config.neuron.model
    if not (ENCODERS.origin(code) or NEURONS.origin(model) or RULES.origin(rule)):
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        with _named("snn.encoding.code", code):
            z = torch.linspace(-2.0, 2.0, dim, dtype=torch.float64)
            pre = encoder(torch.stack([z, z.flip(0)]), 0, 0, torch.arange(2))
        with _named("snn.plasticity.rule", rule):
            layer = SilentSynapseLayer(
                pre.shape[2], 2, config.encoding.dt, config.neuron, plasticity,
                update=plasticity.update,
            )  # fmt: skip
        with _named("snn.neuron.model", model):
            layer.respond(pre)
        with _named("snn.plasticity.rule", rule):
            taught = encoder.schedule.teach[:, :1, None].float().expand(len(pre), 2, 2)
            layer.pair(pre, config.teacher.current * taught)


@contextmanager
def _named(key: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a function of somebody else's does
        raise ConfigError(
            key, f"{name!r} cannot be used ({type(error).__name__}: {error}); mend it"
        ) from error
