"""SNN-Artsy: continual learning with silent synapses between a frozen ViT and its sub-networks."""

__version__ = "0.1.0"
