"""Which layers learn in compiled loops, and how they do it.

Under ``update: step``, on the CPU in float32 (`contact_kernel`); everything else takes the layer's
own path in torch. That depends on configuration and device only. For rules that are sums of
products all steps of a batch run at once under a teacher (`learn`); without one spikes depend on
the contacts, and each step is a call (`step`). Other rules compute their change in torch, and
`express` does with it what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.arrays import check_computed
from snn_artsy.rules import GatedSTDP, PairSTDP, ProductRule, Rule, Signals, Traces
from snn_artsy.rules.base import Factors, all_factors, decay

if TYPE_CHECKING:
    from snn_artsy.synapses import contact_kernel
    from snn_artsy.synapses.layer import SilentSynapseLayer


class Bounds(NamedTuple):
    """A rule's dependence on the weight: those numbers of `contact_kernel.Dynamics`."""

    up: np.float32
    down_0: np.float32
    down: np.float32
    power_law: bool = False
    power: np.float32 = np.float32(1.0)
    mu: np.float32 = np.float32(0.0)
    w_floor: np.float32 = np.float32(0.0)


# of a change that a rule has computed by itself
AS_GIVEN = Bounds(np.float32(0.0), np.float32(0.0), np.float32(0.0))


def runs_here(layer: SilentSynapseLayer) -> bool:
    """Whether compiled loops can hold this layer's contacts."""
    return layer.ampa.device.type == "cpu" and layer.ampa.dtype == torch.float32


def covers(layer: SilentSynapseLayer) -> bool:
    """Whether the compiled loop computes what this layer does, its rule included."""
    return runs_here(layer) and layer.rule is not None and bounds_of(layer.rule) is not None


def bounds_of(rule: Rule) -> Bounds | None:
    """The kernel's numbers of a rule's dependence on the weight; None for rules it does not know:
    calcium, stochastic insertion, bounds of one's own."""
    base: object = rule.base if isinstance(rule, GatedSTDP) else rule
    if rule.noisy or not isinstance(base, ProductRule):
        return None
    zero, one = np.float32(0.0), np.float32(1.0)
    if type(base).bounds is ProductRule.bounds:
        return Bounds(zero, one, zero)
    if isinstance(base, PairSTDP) and type(base).bounds is PairSTDP.bounds:
        power = np.float32(base.w_reference ** (1.0 - base.mu))
        return {
            "additive": Bounds(zero, one, zero),
            "soft": Bounds(-one, zero, one),
            "van_rossum": Bounds(zero, zero, one),
            "power_law": Bounds(
                zero, zero, one, True, power, np.float32(base.mu), np.float32(base.w_floor)
            ),
        }[base.bounds_of]
    return None


@torch.no_grad()
def learn(
    layer: SilentSynapseLayer, seen: Signals, presentation_ms: float
) -> tuple[Tensor, Tensor]:
    """Let a layer's contacts change in every step of what it has seen; occupancy changes in place.

    Returns:
        States and clocks (ms) after the last step.
    """
    rule: object = layer.rule
    n_steps, n_batch = seen.pre.shape[:2]
    if isinstance(rule, GatedSTDP):
        factors, reference, traces = rule.step_factors(
            layer.traces_at_rest(seen), seen, layer.dt_ms
        )
        layer.keep_slow(traces)
    else:
        assert isinstance(rule, ProductRule)
        factors, _ = all_factors(rule, seen, layer.dt_ms)
        reference = seen.pre.new_zeros(n_steps, layer.n_pre)
    state, clock = layer.state.clone(), layer.functional_ms.clone()
    _change(layer, factors, reference, n_batch * presentation_ms / n_steps, state, clock)
    return state, clock


@torch.no_grad()
def step(layer: SilentSynapseLayer, traces: Traces, seen: Signals, elapsed_ms: float) -> Traces:
    """One step: occupancy, state and clock of the layer's contacts change in place.

    Args:
        seen: Of this step, [B, n].

    Returns:
        The rule's traces after it.
    """
    rule: object = layer.rule
    if isinstance(rule, GatedSTDP):
        one = Signals(seen.pre[None], seen.post[None], seen.v_mV[None], target=seen.target)
        factors, reference, traces = rule.step_factors(traces, one, layer.dt_ms)
    else:
        assert isinstance(rule, ProductRule)
        parts, traces = rule.factors(traces, seen, layer.dt_ms)
        factors = Factors(*(part.unsqueeze(0) for part in parts))
        reference = seen.pre.new_zeros(1, layer.n_pre)
    _change(layer, factors, reference, elapsed_ms, layer.state, layer.functional_ms)
    return traces


# What torch.compile traces are no numbers to Numba.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _change(
    layer: SilentSynapseLayer,
    factors: Factors,
    reference: Tensor,
    elapsed_ms: float,
    state: Tensor,
    clock: Tensor,
) -> None:
    """Run the compiled loop over factors [T, B, n] and reference [T, n_pre], all in place."""
    from snn_artsy.synapses import contact_kernel, kernels  # Numba takes a while to import

    assert layer.rule is not None
    bounds = bounds_of(layer.rule)
    assert bounds is not None
    dynamics = _dynamics(layer, bounds, elapsed_ms, factors.gain_pre.shape[1])
    for name, values in zip(factors._fields, factors, strict=True):
        # the loop is compiled for finite numbers, and a NaN would stay in the occupancies
        check_computed(f"rule: {name} of {type(layer.rule).__name__}", values)
    kernels.set_threads(torch.get_num_threads())
    contact_kernel.learn_contacts(
        layer.ampa.numpy(), state.numpy(), clock.numpy(), layer.exists.numpy(),
        _array(factors.gain_post), _array(factors.gain_pre), _array(factors.loss_post),
        _array(factors.loss_pre), _array(reference), _array(layer.target_factor), dynamics,
    )  # fmt: skip


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def express(layer: SilentSynapseLayer, change: Tensor, elapsed_ms: float, n_batch: int) -> None:
    """Add a change [n_post, n_pre], summed over a batch, to a layer's contacts: occupancy, state
    and clock after ``elapsed_ms`` more, in place."""
    from snn_artsy.synapses import contact_kernel, kernels

    kernels.set_threads(torch.get_num_threads())
    contact_kernel.express_change(
        layer.ampa.numpy(), layer.state.numpy(), layer.functional_ms.numpy(),
        layer.exists.numpy(), _array(change), _dynamics(layer, AS_GIVEN, elapsed_ms, n_batch),
    )  # fmt: skip


def _dynamics(
    layer: SilentSynapseLayer, bounds: Bounds, elapsed_ms: float, n_batch: int
) -> contact_kernel.Dynamics:
    from snn_artsy.synapses import contact_kernel

    c, number = layer.contacts, np.float32
    return contact_kernel.Dynamics(
        *bounds,
        scale=number(1.0 / n_batch if layer.batch_reduction == "mean" else 1.0),
        mature=number(c.mature_plasticity),
        kept=number(1.0 if c.decay_ms is None else decay(elapsed_ms, c.decay_ms)),
        theta_up=number(c.theta_up),
        theta_down=number(c.theta_down),
        elapsed_ms=number(elapsed_ms),
        consolidate_ms=min(number(c.consolidate_ms), contact_kernel.NEVER)
        if c.consolidation
        else contact_kernel.NEVER,
    )


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().to(torch.float32).contiguous().numpy()
