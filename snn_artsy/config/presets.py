"""Named sets of values of the spiking learner, which lie below everything that a user gives."""

from __future__ import annotations

SNN_PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Spike times decide: a strong feature fires before the teacher, a weak one after it.
    "timing": {
        "snn.encoding.code": "latency",
        "snn.plasticity.rule": "pair",
    },
}
"""``snn.preset``: values by dotted key, each other than its default."""
