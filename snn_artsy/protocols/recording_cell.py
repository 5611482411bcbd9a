"""A voltage-clamped cell with a few contacts: stimulation sweeps as on a patch rig."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_artsy.checks import amplitude, duration, require, within
from snn_artsy.physiology import Receptors
from snn_artsy.synapses.conductance import clamp_current, released


@dataclass(frozen=True)
class Rig:
    """How sweeps are taken (our definition).

    Args:
        noise_pA: SD of white recording noise in each sample.
        baseline_ms: Recorded before the stimulus.
        sweep_ms: Recorded from the stimulus on.
    """

    dt_ms: float = 0.2
    noise_pA: float = 1.0
    baseline_ms: float = 10.0
    sweep_ms: float = 70.0

    def __post_init__(self) -> None:
        duration("rig.dt_ms", self.dt_ms)
        amplitude("rig.noise_pA", self.noise_pA)
        for name in ("baseline_ms", "sweep_ms"):
            within(f"rig.{name}", getattr(self, name), self.dt_ms, 1e5 * self.dt_ms, "ms")

    def check_window(self, key: str, window_ms: tuple[float, float]) -> None:
        """Raise `ConfigError` for ``key`` unless its samples lie in a sweep."""
        start, stop = window_ms
        inside = 0.0 <= start < stop < self.sweep_ms
        require(inside, key, window_ms, f"use two times, 0 to less than {self.sweep_ms:g} ms")

    def sample(self, after_stimulus_ms: float) -> int:
        return round((self.baseline_ms + after_stimulus_ms) / self.dt_ms)

    def sweeps(
        self,
        ampa: Tensor,
        v_mV: float,
        p_release: Tensor | float,
        n_sweeps: int,
        receptors: Receptors,
        generator: torch.Generator,
    ) -> Tensor:
        """Clamped currents (pA) of stimuli at 0 ms, each contact's, [T, n_sweeps, n_contacts].

        Args:
            ampa: AMPA occupancy of each contact, [n_contacts]; all have NMDA receptors.
            p_release: Of each contact, [n_contacts], or of all.

        Noise belongs to the electrode, not to a contact: add it with `record`.
        """
        stimulus = torch.zeros(self.sample(self.sweep_ms), n_sweeps, len(ampa), dtype=ampa.dtype)
        stimulus[self.sample(0.0)] = 1.0
        transmitter = released(stimulus, p_release, generator)
        return clamp_current(transmitter * ampa, transmitter, v_mV, receptors, self.dt_ms)

    def record(self, current_pA: Tensor, generator: torch.Generator) -> Tensor:
        """The current with the electrode's noise."""
        noise = torch.randn(current_pA.shape, generator=generator, dtype=current_pA.dtype)
        return current_pA + self.noise_pA * noise

    def amplitude(self, traces: Tensor, from_ms: float, to_ms: float) -> Tensor:
        """Mean current in a window after the stimulus less its baseline, [n_sweeps, ...]."""
        window = traces[self.sample(from_ms) : self.sample(to_ms) + 1].mean(0)
        return window - traces[: self.sample(0.0)].mean(0)
