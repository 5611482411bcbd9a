"""Plasticity rules of AMPA occupancy: one file each, parameters with pure functions."""

from snn_artsy.registry import RULES
from snn_artsy.rules.base import (
    ProductRule,
    Rule,
    Signals,
    SpikeTerms,
    Trace,
    Traces,
    WeightDependence,
)
from snn_artsy.rules.calcium import CalciumRule
from snn_artsy.rules.error import ErrorDriven
from snn_artsy.rules.filopodium_spine import FilopodiumSpine
from snn_artsy.rules.gated import GatedSTDP, Gating
from snn_artsy.rules.maturation import Maturation
from snn_artsy.rules.pair import PairSTDP
from snn_artsy.rules.triplet import TripletSTDP
from snn_artsy.rules.voltage import VoltageSTDP

register = RULES.register

__all__ = [
    "CalciumRule",
    "ErrorDriven",
    "FilopodiumSpine",
    "GatedSTDP",
    "Gating",
    "Maturation",
    "PairSTDP",
    "ProductRule",
    "Rule",
    "Signals",
    "SpikeTerms",
    "Trace",
    "Traces",
    "TripletSTDP",
    "VoltageSTDP",
    "WeightDependence",
    "register",
]
