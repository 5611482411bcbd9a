"""snnTorch neurons as the layer uses them: which it can use, and one step of them.

A current of x thresholds means the same for every neuron (our definition): given for one step at
rest, it takes the membrane to x times the threshold. snnTorch's own inputs do not: `Lapicque`
multiplies them by time_step / C, and `Synaptic` filters them, so that what an electrode injects
would go on flowing through the synapse.
"""

from __future__ import annotations

import math

import snntorch
import torch
from torch import Tensor, nn

from snn_artsy.arrays import check_range
from snn_artsy.config import NeuronConfig
from snn_artsy.registry import NEURONS


def make_neuron(neuron: NeuronConfig, dt_ms: float, threshold: Tensor) -> nn.Module:
    """A snnTorch neuron without a reset, for thresholds [n_post].

    The reset is the layer's: with reset_delay=True snnTorch subtracts it one step late, and with
    False a membrane that is still above threshold after its reset fires again only beyond twice the
    threshold. Neither is the textbook LIF.

    Raises:
        TypeError, ValueError: What was added to the registry makes none that the layer can use.
    """
    unit: nn.Module = NEURONS[neuron.model](neuron, dt_ms, threshold)
    forget(unit)
    if NEURONS.origin(neuron.model):
        check_added(neuron.model, unit, len(threshold))
    return unit.to(threshold.device)


def leaky(neuron: NeuronConfig, dt_ms: float, threshold: Tensor) -> snntorch.Leaky:
    """Its synaptic current is instantaneous."""
    beta = torch.tensor(math.exp(-dt_ms / neuron.tau_mem_ms), dtype=threshold.dtype)
    return snntorch.Leaky(beta=beta, threshold=threshold, reset_mechanism="none")


def synaptic(neuron: NeuronConfig, dt_ms: float, threshold: Tensor) -> snntorch.Synaptic:
    """Its synaptic current decays with ``tau_ampa_ms``."""
    alpha, beta = (
        torch.tensor(math.exp(-dt_ms / tau), dtype=threshold.dtype)
        for tau in (neuron.tau_ampa_ms, neuron.tau_mem_ms)
    )
    return snntorch.Synaptic(alpha=alpha, beta=beta, threshold=threshold, reset_mechanism="none")


def forget(unit: nn.Module) -> None:
    """Take a neuron out of snnTorch's class-level list, which keeps every one ever made alive."""
    known = snntorch.SpikingNeuron.instances
    known[:] = [each for each in known if each is not unit]


def check_unit(unit: object, n_post: int) -> None:
    """Whether the layer can use a snnTorch neuron as it is.

    Raises:
        TypeError: It is another neuron, or has an option that the layer would have to ignore.
        ValueError: One of its numbers is out of range or not one for each of ``n_post`` neurons.
    """
    if not isinstance(unit, snntorch.Leaky | snntorch.Lapicque | snntorch.Synaptic):
        raise TypeError(
            f"neuron: {type(unit).__name__} cannot be used; give a NeuronConfig or "
            "snntorch's Leaky, Lapicque or Synaptic"
        )
    reasons = {
        "init_hidden": (unit.init_hidden, "the layer keeps the neuron's state itself"),
        "state_quant": (unit.state_quant, "membranes are compared with exact ones"),
        "graded_spikes_factor": (
            isinstance(unit.graded_spikes_factor, nn.Parameter)
            or bool((unit.graded_spikes_factor != 1).any()),
            "spikes are 0 or 1",
        ),
    }
    for name, (used, why) in reasons.items():
        if used:
            raise TypeError(f"neuron: {name} cannot be used, {why}; leave it at its default")
    for name in ("beta", "alpha", "threshold", "time_step", "R", "C"):
        value = getattr(unit, name, None)
        if value is None:
            continue
        if value.numel() not in (1, n_post) or value.ndim > 1:
            raise ValueError(
                f"neuron.{name}: expected one number or shape [{n_post}], given shape "
                f"{list(value.shape)}"
            )
        # what is a positive number in ordinary use and would divide by zero otherwise
        smallest = 0.0 if name in ("beta", "alpha") else 1e-6
        check_range(f"neuron.{name}", value, smallest, 1.0 if smallest == 0.0 else 1e6)


def check_added(model: str, unit: object, n_post: int) -> None:
    """Whether a function that was added to the registry makes what the layer integrates.

    Raises:
        TypeError, ValueError: As `check_unit`; or it resets itself.
    """
    check_unit(unit, n_post)
    assert isinstance(unit, snntorch.SpikingNeuron)
    if unit.reset_mechanism != "none":
        raise ValueError(
            f"neuron: {model!r} has the reset {unit.reset_mechanism!r}, and the layer resets "
            "membranes itself; use reset_mechanism='none'"
        )


def check_time_constant(unit: nn.Module) -> None:
    """Whether a membrane in ms can be made of it: one fixed decay between 0 and 1.

    Raises:
        ValueError: It cannot.
    """
    beta = torch.as_tensor(unit.beta)
    if beta.requires_grad or not 0 < float(beta.mean()) < 1 or bool((beta != beta.mean()).any()):
        raise ValueError(
            "neuron.beta: it gives the membrane's time constant, to receptors and dendrites; use "
            "one fixed number between 0 and 1 for all neurons"
        )


def at_rest(unit: nn.Module, like: Tensor) -> tuple[Tensor, ...]:
    """A neuron's state variables at rest, the membrane last."""
    return tuple(torch.zeros_like(like) for _ in range(1 + isinstance(unit, snntorch.Synaptic)))


def step(
    unit: nn.Module, drive: Tensor, state: tuple[Tensor, ...], injected: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """One step: spikes, 0 or 1, and the state after it.

    Args:
        drive: Synaptic input, in units of the membrane, [B, n_post].
        injected: Current of an electrode, in the same units; it acts in this step alone.
    """
    given = drive if injected is None else drive + injected
    if isinstance(unit, snntorch.Lapicque):
        given = given * (unit.C / unit.time_step)
    fired, *after = unit(given, *state)
    if injected is not None and isinstance(unit, snntorch.Synaptic):
        after[0] = after[0] - injected  # the synapse carries on without it
    return fired.to(drive.dtype), after
