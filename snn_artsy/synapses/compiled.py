"""Which layers learn in compiled loops, and how they do it.

Under ``update: step`` and a teacher, on the CPU in float32, for rules that are sums of products
(`contact_kernel`); everything else takes the layer's own path in torch. That depends on
configuration and device only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.rules import GatedSTDP, PairSTDP, ProductRule, Rule, Signals
from snn_artsy.rules.base import all_factors

if TYPE_CHECKING:
    from snn_artsy.synapses.layer import SilentSynapseLayer

Bounds = tuple[int, np.float32, np.float32, np.float32]


def covers(layer: SilentSynapseLayer) -> bool:
    """Whether the compiled loop computes what this layer does."""
    return (
        layer.ampa.device.type == "cpu"
        and layer.ampa.dtype == torch.float32
        and layer.contacts.decay_ms is None
        and layer.rule is not None
        and bounds_of(layer.rule) is not None
    )


def bounds_of(rule: Rule) -> Bounds | None:
    """The kernel's numbers of a rule's dependence on the weight; None for rules it does not know:
    calcium, stochastic insertion, bounds of one's own."""
    base: object = rule.base if isinstance(rule, GatedSTDP) else rule
    if rule.noisy or not isinstance(base, ProductRule):
        return None
    zero = np.float32(0.0)
    if type(base).bounds is ProductRule.bounds:
        return 0, zero, zero, zero
    if isinstance(base, PairSTDP) and type(base).bounds is PairSTDP.bounds:
        from snn_artsy.synapses.kernels import BOUNDS

        power = np.float32(base.w_reference ** (1.0 - base.mu))
        return BOUNDS[base.bounds_of], power, np.float32(base.mu), np.float32(base.w_floor)
    return None


@torch.no_grad()
def learn(
    layer: SilentSynapseLayer, seen: Signals, presentation_ms: float
) -> tuple[Tensor, Tensor]:
    """Let a layer's contacts change in every step of what it has seen; occupancy changes in place.

    Returns:
        States and clocks (ms) after the last step.
    """
    from snn_artsy.synapses import contact_kernel, kernels  # Numba takes a while to import

    rule: object = layer.rule
    n_steps, n_batch = seen.pre.shape[:2]
    if isinstance(rule, GatedSTDP):
        traces = layer.traces_at_rest(seen)
        factors, reference, traces = rule.step_factors(traces, seen, layer.dt_ms)
        layer.keep_slow(traces)
    else:
        assert isinstance(rule, ProductRule)
        factors, _ = all_factors(rule, seen, layer.dt_ms)
        reference = seen.pre.new_zeros(n_steps, layer.n_pre)
    assert layer.rule is not None
    bounds = bounds_of(layer.rule)
    assert bounds is not None
    c, number = layer.contacts, np.float32
    dynamics = contact_kernel.Dynamics(
        *bounds,
        scale=number(1.0 / n_batch if layer.batch_reduction == "mean" else 1.0),
        mature=number(c.mature_plasticity),
        theta_up=number(c.theta_up),
        theta_down=number(c.theta_down),
        elapsed_ms=number(n_batch * presentation_ms / n_steps),
        consolidate_ms=number(c.consolidate_ms),
        consolidates=c.consolidation,
    )
    kernels.set_threads(torch.get_num_threads())
    state, clock = layer.state.clone(), layer.functional_ms.clone()
    loss_pre = _array(factors.loss_pre)
    contact_kernel.learn_contacts(
        layer.ampa.numpy(), state.numpy(), clock.numpy(), layer.exists.numpy(),
        _array(factors.gain_post), _array(factors.gain_pre), _array(factors.loss_post), loss_pre,
        *kernels.spikes_by_input(loss_pre), _array(reference), _array(layer.target_factor),
        dynamics,
    )  # fmt: skip
    return state, clock


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.to(torch.float32).contiguous().numpy()
