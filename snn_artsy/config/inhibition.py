"""What inhibits the neurons of spiking sub-networks when they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from snn_artsy.checks import one_of, require, within
from snn_artsy.config_builder import take_types


@dataclass(frozen=True)
class InhibitionConfig:
    """Inhibition of the neurons of sub-networks.

    Args:
        source: ``balance``: what cancels the excitation that all afferents have in common, exactly
            and in the same step. ``fixed``: inhibitory neurons that the presynaptic units and the
            sub-network's own neurons drive; what they pass balances excitation on average.
            ``plastic``: the same, and their synapses change by Vogels et al. 2011.
        neurons: Inhibitory neurons of each sub-network.
        inputs: Share of the presynaptic units that drive an inhibitory neuron, drawn at random.
        feedback: What a spike of all neurons of a sub-network drives each of its inhibitory neurons
            with in the next step, in thresholds.
        between: Share of a neuron's inhibition that comes from other sub-networks' inhibitory
            neurons (``plastic``: at first); 0: none does.
        target_hz: Rate at which plastic inhibition keeps the neurons, on average over the images
            that it has seen (Hz).
        tau_ms: Of the traces of plastic inhibition (ms).
        rate: How fast it learns: change of a synapse at one pair of spikes, in contacts.
        epochs: Passes over a task's images, and stand-ins for earlier ones, in which it learns.
    """

    source: Literal["balance", "fixed", "plastic"] = "balance"
    neurons: int = 32
    inputs: float = 0.25
    feedback: float = 0.5
    between: float = 0.0
    target_hz: float = 50.0
    tau_ms: float = 20.0
    rate: float = 0.0002
    epochs: int = 1

    def __post_init__(self) -> None:
        take_types(self, "snn.inhibition.")
        one_of("snn.inhibition.source", self.source, ("balance", "fixed", "plastic"))
        within("snn.inhibition.neurons", self.neurons, 1, 10_000, "neurons")
        require(0 < self.inputs <= 1, "snn.inhibition.inputs", self.inputs, "use a share in (0, 1]")
        within("snn.inhibition.feedback", self.feedback, 0, 1e3, "thresholds")
        require(0 <= self.between < 1, "snn.inhibition.between", self.between, "use [0, 1)")
        within("snn.inhibition.target_hz", self.target_hz, 0.001, 1e4, "Hz")
        within("snn.inhibition.tau_ms", self.tau_ms, 0.01, 1e6, "ms")
        within("snn.inhibition.rate", self.rate, 1e-9, 1e3, "contacts")
        within("snn.inhibition.epochs", self.epochs, 1, 1_000_000)
