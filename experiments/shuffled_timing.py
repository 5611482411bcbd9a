"""The spiking learner, presynaptic spikes shuffled in time inside each training presentation."""

from __future__ import annotations

from snn_artsy.learners import ArtsySNN, Setting, register


@register("shuffled_timing", label="Artsy SNN, shuffled timing")
class ShuffledTiming(ArtsySNN):
    """The control of that name, as a learner that a comparison takes."""

    def __init__(self, s: Setting) -> None:
        c = s.config
        own = (c.snn, c.ann, c.gate, s.dim, s.device, s.seed, s.observer)
        super().__init__(*own, control="shuffled_timing")
