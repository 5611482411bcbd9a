"""Neurons in a step, and the factors of plasticity that spikes make."""

from __future__ import annotations

import numpy as np

from snn_artsy.synapses.loops.inner import inner
from snn_artsy.synapses.loops.records import (
    FAST,
    Floats,
    InputSpikes,
    Neuron,
    Plasticity,
    Population,
    TraceArrays,
)
from snn_artsy.synapses.loops.sums import copy


@inner()
def _fire(
    drive: np.float32, injected: np.float32, v: np.float32, current: np.float32,
    threshold: np.float32, n: Neuron,
) -> tuple[np.float32, np.float32, np.float32, np.float32]:  # fmt: skip
    """One step of a neuron: whether it fires, its membrane at the peak and after the reset, and its
    synaptic current."""
    one = np.float32(1.0)
    if n.synaptic:
        current = n.alpha * current + (drive + injected)
        peak = n.beta * v + current
        current -= injected  # an electrode is no part of the synapse
    else:
        peak = n.beta * v + (drive + injected)
    fired = one if peak - threshold > np.float32(0.0) else np.float32(0.0)
    left = peak * (one - fired) if n.taught else peak - fired * threshold
    return fired, peak, max(left, n.floor * threshold), current


@inner(error_model="numpy")
def fire(
    t: int, b: int, j: int, drive: np.float32, population: Population, n: Neuron
) -> np.float32:
    """Step t of neuron j in presentation b for a net input ``drive`` in units of the membrane; its
    spike, which is returned, and its membrane are written."""
    threshold = population.threshold[j]
    injected = np.float32(0.0)
    if len(population.injected) > 0:
        injected = population.injected[t, b, j] * threshold
    fired, peak, population.v[b, j], population.current[b, j] = _fire(
        drive, injected, population.v[b, j], population.current[b, j], threshold, n
    )
    population.spikes[t, b, j] = fired
    population.membrane[t, b, j] = peak / threshold
    return fired


@inner()
def _advanced(trace: np.float32, spike: np.float32, keep: np.float32, nearest: bool) -> np.float32:
    """`rules.base.advance`."""
    raised = trace + spike * (np.float32(1.0) - trace) if nearest else trace + spike
    return raised * keep


@inner(fastmath=FAST)
def postsynaptic(
    fired: np.float32, y: Floats, b: int, j: int, p: Plasticity
) -> tuple[np.float32, np.float32]:
    """Postsynaptic factors of potentiation and of depression; neuron j's traces are advanced."""
    y1, y2 = y[0, b, j], y[1, b, j]
    event = p.at_spike if fired > np.float32(0.0) else p.otherwise
    gain = (p.gain_post[0] + p.gain_post[1] * y1 + p.gain_post[2] * y2) * event
    loss = p.loss_post[0] + p.loss_post[1] * y1 + p.loss_post[2] * y2
    y[0, b, j] = _advanced(y1, fired, p.keep_y1, p.nearest_y1)
    y[1, b, j] = _advanced(y2, fired, p.keep_y2, p.nearest_y2)
    return gain, loss


@inner(fastmath=FAST, error_model="numpy")
def presynaptic(
    t0: int, n_steps: int, spikes: InputSpikes, traces: TraceArrays, p: Plasticity,
    gain_pre: Floats, loss_pre: Floats, reference: Floats,
) -> None:  # fmt: skip
    """Presynaptic factors of a block of steps, the same for all neurons; traces are advanced.

    Args:
        gain_pre: [block, B, n_pre]. reference: [block, n_pre]. loss_pre: At the block's spikes, in
            their order. All written.
    """
    n_batch, n_pre = spikes.dense.shape[1:]
    one, share = np.float32(1.0), np.float32(n_batch)
    first = spikes.start[t0 * n_batch]
    for k in range(n_steps):
        for b in range(n_batch):
            x1, x2, g = traces.x[0, b], traces.x[1, b], gain_pre[k, b]
            row = spikes.dense[t0 + k, b]
            r = (t0 + k) * n_batch + b
            for e in range(spikes.start[r], spikes.start[r + 1]):
                i = spikes.where[e]
                loss_pre[e - first] = (
                    p.loss_pre[0] + p.loss_pre[1] * x1[i] + p.loss_pre[2] * x2[i]
                ) * row[i]
            for i in range(n_pre):
                g[i] = p.gain_pre[0] + p.gain_pre[1] * x1[i] + p.gain_pre[2] * x2[i]
            if p.nearest_x1:
                for i in range(n_pre):
                    x1[i] = (x1[i] + row[i] * (one - x1[i])) * p.keep_x1
            else:
                for i in range(n_pre):
                    x1[i] = (x1[i] + row[i]) * p.keep_x1
            if p.keep_x2 > np.float32(0.0):
                for i in range(n_pre):
                    x2[i] = _advanced(x2[i], row[i], p.keep_x2, p.nearest_x2)
        if p.gated:
            mean, slow = reference[k], traces.slow
            copy(gain_pre[k, 0], mean)
            for b in range(1, n_batch):
                for i in range(n_pre):
                    mean[i] += gain_pre[k, b, i]
            weight = traces.weight[0] * p.keep_slow + p.fresh_slow
            traces.weight[0] = weight
            over = max(weight, np.float32(np.finfo(np.float32).tiny))
            for i in range(n_pre):
                slow[i] = slow[i] * p.keep_slow + (mean[i] / share) * p.fresh_slow
                mean[i] = slow[i] / over
