"""Parameters of receptors and membranes in physical units, with where they come from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_artsy.checks import amplitude, between, duration, positive, require


@dataclass(frozen=True)
class Receptors:
    """AMPA, NMDA and GABA_A receptors of one contact.

    ================== ==== ======= ===============================================================
    symbol             unit default meaning
    ================== ==== ======= ===============================================================
    g_ampa_nS          nS   0.5     peak conductance of a mature contact (our definition)
    g_nmda_nS          nS   0.075   peak conductance without block, mature and silent contacts
                                    alike (our definition: a silent contact at -70 mV passes less
                                    than 5 % of a mature one's early current)
    tau_ampa_ms        ms   2       decay of AMPA (our definition)
    tau_nmda_rise_ms   ms   2       rise of NMDA (our definition)
    tau_nmda_decay_ms  ms   100     decay of NMDA (our definition)
    tau_gaba_ms        ms   2       decay of inhibition, that of AMPA so that both balance at any
                                    time (our definition)
    e_rev_mV           mV   0       reversal of AMPA and NMDA (Jahr & Stevens 1990)
    e_gaba_mV          mV   -80     reversal of inhibition (our definition)
    mg_mM              mM   1       extracellular magnesium (Jahr & Stevens 1990)
    ================== ==== ======= ===============================================================
    """

    g_ampa_nS: float = 0.5
    g_nmda_nS: float = 0.075
    tau_ampa_ms: float = 2.0
    tau_nmda_rise_ms: float = 2.0
    tau_nmda_decay_ms: float = 100.0
    tau_gaba_ms: float = 2.0
    e_rev_mV: float = 0.0
    e_gaba_mV: float = -80.0
    mg_mM: float = 1.0

    def __post_init__(self) -> None:
        for name in ("g_ampa_nS", "g_nmda_nS", "mg_mM"):
            amplitude(f"receptors.{name}", getattr(self, name))
        for name in ("e_rev_mV", "e_gaba_mV"):
            between(f"receptors.{name}", getattr(self, name), -1e6, 1e6)
        for name in ("tau_ampa_ms", "tau_nmda_rise_ms", "tau_nmda_decay_ms", "tau_gaba_ms"):
            duration(f"receptors.{name}", getattr(self, name))
        require(
            self.tau_nmda_rise_ms < self.tau_nmda_decay_ms,
            "receptors.tau_nmda_rise_ms",
            self.tau_nmda_rise_ms,
            f"it must rise faster than it decays ({self.tau_nmda_decay_ms:g} ms)",
        )
        require(
            self.e_gaba_mV < self.e_rev_mV,
            "receptors.e_gaba_mV",
            self.e_gaba_mV,
            "inhibition must reverse below excitation",
        )

    @property
    def nmda_peak(self) -> float:
        """Peak of exp(-t/decay) - exp(-t/rise), which the NMDA time course is divided by."""
        rise, decay = self.tau_nmda_rise_ms, self.tau_nmda_decay_ms
        peak_ms = rise * decay / (decay - rise) * math.log(decay / rise)
        return math.exp(-peak_ms / decay) - math.exp(-peak_ms / rise)

    def epsc_pA(
        self, after_ms: ArrayLike, v_mV: float, ampa: float = 1.0, nmda: float = 1.0
    ) -> NDArray[np.float64]:
        """Current of contacts under voltage clamp after release at 0 ms (pA, inward is negative).

        I = (g_ampa a exp(-t/tau_ampa) + g_nmda n s(t) B(V)) (V - E_rev), with the NMDA time course
        s of peak 1 and the magnesium block B (Jahr & Stevens 1990): the closed form of what
        `snn_artsy.synapses.conductance.clamp_current` computes step by step.

        Args:
            after_ms: Times since the release (ms); before it (negative) there is no current.
            v_mV: Holding potential (mV).
            ampa, nmda: Open AMPA receptors, and contacts with NMDA receptors, in contacts.
        """
        t = np.asarray(after_ms, dtype=np.float64)
        since = np.maximum(t, 0.0)
        decayed, risen = (
            np.exp(-since / tau) for tau in (self.tau_nmda_decay_ms, self.tau_nmda_rise_ms)
        )
        unblocked = 1.0 / (1.0 + self.mg_mM / 3.57 * math.exp(-0.062 * v_mV))
        slow = self.g_nmda_nS * nmda * unblocked * (decayed - risen) / self.nmda_peak
        fast = self.g_ampa_nS * ampa * np.exp(-since / self.tau_ampa_ms)
        return np.asarray((t >= 0) * (fast + slow) * (v_mV - self.e_rev_mV))


@dataclass(frozen=True)
class Membrane:
    """A leaky integrate-and-fire membrane.

    ============= ==== ======= ==============================================================
    symbol        unit default meaning
    ============= ==== ======= ==============================================================
    tau_m_ms      ms   20      membrane time constant (Song, Miller & Abbott 2000)
    g_leak_nS     nS   10      leak conductance (our definition)
    v_rest_mV     mV   -70     rest (Dayan & Abbott 2001)
    v_th_mV       mV   -50     threshold (Dayan & Abbott 2001)
    v_reset_mV    mV   -70     after a spike (our definition)
    v_peak_mV     mV   20      of a spike, which has no upstroke of its own (our definition)
    refractory_ms ms   0       held at the reset for so long after a spike (our definition)
    ============= ==== ======= ==============================================================
    """

    tau_m_ms: float = 20.0
    g_leak_nS: float = 10.0
    v_rest_mV: float = -70.0
    v_th_mV: float = -50.0
    v_reset_mV: float = -70.0
    refractory_ms: float = 0.0
    v_peak_mV: float = 20.0

    def __post_init__(self) -> None:
        duration("membrane.tau_m_ms", self.tau_m_ms)
        positive("membrane.g_leak_nS", self.g_leak_nS)
        for name in ("v_rest_mV", "v_th_mV", "v_reset_mV", "v_peak_mV"):
            between(f"membrane.{name}", getattr(self, name), -1e6, 1e6)
        require(
            self.v_rest_mV < self.v_th_mV,
            "membrane.v_rest_mV",
            self.v_rest_mV,
            f"rest must lie below the threshold ({self.v_th_mV:g} mV)",
        )
        require(
            self.v_reset_mV < self.v_th_mV,
            "membrane.v_reset_mV",
            self.v_reset_mV,
            f"the reset must lie below the threshold ({self.v_th_mV:g} mV)",
        )
        require(
            self.v_th_mV < self.v_peak_mV,
            "membrane.v_peak_mV",
            self.v_peak_mV,
            f"a spike must peak above the threshold ({self.v_th_mV:g} mV)",
        )
        amplitude("membrane.refractory_ms", self.refractory_ms)

    @property
    def capacitance_pF(self) -> float:
        """tau_m * g_leak (ms * nS = pF)."""
        return self.tau_m_ms * self.g_leak_nS
