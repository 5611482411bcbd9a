"""Plasticity rules of AMPA occupancy: one file each, parameters with pure functions."""

from snn_artsy.rules.base import ProductRule, Rule, Signals, Traces
from snn_artsy.rules.gated import GatedSTDP, Gating
from snn_artsy.rules.pair import PairSTDP
from snn_artsy.rules.triplet import TripletSTDP

__all__ = [
    "GatedSTDP",
    "Gating",
    "PairSTDP",
    "ProductRule",
    "Rule",
    "Signals",
    "Traces",
    "TripletSTDP",
]
