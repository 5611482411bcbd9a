"""Named sets of values of the spiking learner, which lie below everything that a user gives."""

from __future__ import annotations

SNN_PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Spike times decide: a strong feature fires before the teacher, a weak one after it.
    "timing": {
        "snn.encoding.code": "latency",
        "snn.plasticity.rule": "pair",
    },
    # Errors decide: contacts that answer wrongly change in replay, before they are captured.
    "error": {
        "snn.plasticity.rule": "error",
        "snn.plasticity.target_over": "seen",
        "snn.plasticity.tau_target_ms": 1e6,
        "snn.neuron.threshold": 1.0,
        "snn.neuron.temperature": 0.2,
        "snn.contacts.consolidate_ms": 1e12,
        "snn.replay.epochs": 15,
        "snn.replay.speed": 0.15,
        "gate.covariance": "pooled",
        "gate.shrinkage": 0.05,
    },
}
"""``snn.preset``: values by dotted key, each other than its default."""
