"""Named sets of values of the spiking learner, which lie below everything that a user gives."""

from __future__ import annotations

SNN_PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Spike times decide: a strong feature fires before the teacher, a weak one after it.
    "timing": {
        "snn.encoding.code": "latency",
        "snn.encoding.n_steps": 40,
        "snn.encoding.test_steps": 20,
        "snn.encoding.dt_ms": 1.0,
        "snn.encoding.volley_ms": 20.0,
        # The blank after the volley: spikes that come at any time depress (docs/model.md, 19c).
        "snn.encoding.period_ms": 40.0,
        "snn.encoding.saturation_sd": 1.5,
        "snn.plasticity.rule": "pair",
        "snn.plasticity.a_plus": 0.1,
        "snn.plasticity.a_minus": 0.12,
        "snn.teacher.phase_ms": 12.0,
        "snn.teacher.phase_spread_ms": 4.0,
    },
    # Errors decide: contacts that answer wrongly change in replay, before they are captured.
    "error": {
        "snn.plasticity.rule": "error",
        "snn.plasticity.target_over": "seen",
        "snn.plasticity.tau_target_ms": 1e6,
        "snn.encoding.code": "regular",
        "snn.encoding.statistics": "seen",
        "snn.encoding.shrinkage": None,
        "snn.neuron.threshold": 2.0,
        "snn.neuron.temperature": 1.0,
        "snn.contacts.consolidate_ms": 1e12,
        "snn.readout": 5.0,
        "snn.replay.epochs": 12,
        "snn.replay.pairing_epochs": 2,
        "snn.replay.speed": 0.15,
        "gate.covariance": "pooled",
        "gate.shrinkage": None,
    },
}
"""``snn.preset``: values by dotted key, each other than its default."""
