"""The spiking learner, presynaptic spikes shuffled in time inside each training presentation."""

from __future__ import annotations

from snn_artsy.learners import ArtsySNN, Setting, register
from snn_artsy.learners.shuffled import ShuffledAtEqualDensity


@register("shuffled_timing", label="Artsy SNN, shuffled timing")
class ShuffledTiming(ArtsySNN):
    """The control of that name, as a learner that a comparison takes."""

    def __init__(self, s: Setting) -> None:
        c = s.config
        own = (c.snn, c.ann, c.gate, s.dim, s.device, s.seed, s.observer)
        super().__init__(*own, control="shuffled_timing")


@register("shuffled_timing_equal_density", label="Artsy SNN, shuffled timing at equal density")
class ShuffledTimingEqualDensity(ShuffledAtEqualDensity):
    """The same with as many functional contacts as the model."""

    def __init__(self, s: Setting) -> None:
        c = s.config
        super().__init__(c.snn, c.ann, c.gate, s.dim, s.device, s.seed)
