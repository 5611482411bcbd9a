"""Spiking synapses that are silent until they learn: a PyTorch layer library of its own."""

from snn_artsy.registry import ENCODERS, NEURONS
from snn_artsy.synapses.circuit import Ongoing, Response, StateChange, StateEvents
from snn_artsy.synapses.encoding import FeatureScaling, SpikeEncoder, fit_scaling, on_off
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import Schedule, make_schedule
from snn_artsy.synapses.receptors import mg_block
from snn_artsy.synapses.release import Draws
from snn_artsy.synapses.streaming import StreamedSimulation
from snn_artsy.synapses.together import simulate_apart
from snn_artsy.synapses.tracing import trace_contacts

register_code, register_neuron = ENCODERS.register, NEURONS.register

__all__ = [
    "Draws",
    "FeatureScaling",
    "Ongoing",
    "Response",
    "Schedule",
    "SilentSynapseLayer",
    "SpikeEncoder",
    "StateChange",
    "StateEvents",
    "StreamedSimulation",
    "fit_scaling",
    "make_schedule",
    "mg_block",
    "on_off",
    "register_code",
    "register_neuron",
    "simulate_apart",
    "trace_contacts",
]
