"""What the compiled loop of a spiking layer takes (`steps.run`): numbers and arrays, float32."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from snn_artsy.arrays import Sizes, check_array

Floats = NDArray[np.float32]
# unsigned, so that no index is looked at for being negative
Indices = NDArray[np.uint32]

# No NaN or infinity can arise from checked input, which lets min and max be vector instructions.
FAST = {"nnan", "ninf", "nsz"}

NEVER = np.finfo(np.float32).max  # infinity is out: the loops are compiled without it


class ContactArrays(NamedTuple):
    """Contacts of a layer, [n_post, n_pre], changed in place.

    The loop takes those of some neurons out, [n_pre * neurons]: all of an input's stand together.

    Args:
        ampa, state, clock: See `circuit.Contacts`; ``clock`` (ms) is the one at step ``since``.
        exists: 1 or 0. since: Step, in steps of this call: whole numbers.
    """

    ampa: Floats
    state: Floats
    clock: Floats
    exists: Floats
    since: Floats


class Dynamics(NamedTuple):
    """Numbers of a contact's dynamics.

    Args:
        up, down_0, down, power_law, power, mu, floor: `rules.base.WeightDependence`.
        scale: Of every change: 1, or 1/B where changes of a batch are averaged.
        mature: Share of the change that functional contacts take; consolidated ones, too, unless
            they are ``fixed`` and take none.
        retention: Share of its occupancy that a contact which is not consolidated keeps in a step.
        theta_up, theta_down: Of the states. elapsed_ms: Of a step.
        consolidate_ms: How long a contact must stay functional to be consolidated; `NEVER`.
        stateless: Contacts have no states: the occupancy is the weight.
    """

    up: np.float32
    down_0: np.float32
    down: np.float32
    power_law: bool
    power: np.float32
    mu: np.float32
    floor: np.float32
    scale: np.float32
    mature: np.float32
    fixed: bool
    retention: np.float32
    theta_up: np.float32
    theta_down: np.float32
    elapsed_ms: np.float32
    consolidate_ms: np.float32
    stateless: bool


class Neuron(NamedTuple):
    """Numbers of a leaky (or synaptic) neuron in units of its membrane.

    Args:
        beta, alpha: Decay of membrane and synaptic current in a step. floor: In thresholds.
        synaptic: There is a synaptic current. taught: An electrode replaces the synaptic input,
            and a spike takes the membrane to rest.
        graded: A contact transmits its occupancy, else 1.
    """

    beta: np.float32
    alpha: np.float32
    floor: np.float32
    synaptic: bool
    taught: bool
    graded: bool


class Plasticity(NamedTuple):
    """Numbers of a rule of spike times (`rules.base.SpikeTerms`), gated or not.

    Args:
        keep_x1, keep_x2, keep_y1, keep_y2: Decay of the traces in a step. nearest_x1, ...: Each
            spike sets the trace to 1.
        gain_pre, gain_post, loss_pre, loss_post: Coefficients, three each.
        at_spike, otherwise: `rules.nmda.insertion_event` at a postsynaptic spike, and without one.
        keep_slow: Decay of the presynaptic target's average in a step; ``gated``: there is one.
        given: The factors are in arrays, made by the rule's own functions.
    """

    keep_x1: np.float32
    keep_x2: np.float32
    keep_y1: np.float32
    keep_y2: np.float32
    nearest_x1: bool
    nearest_x2: bool
    nearest_y1: bool
    nearest_y2: bool
    gain_pre: tuple[np.float32, np.float32, np.float32]
    gain_post: tuple[np.float32, np.float32, np.float32]
    loss_pre: tuple[np.float32, np.float32, np.float32]
    loss_post: tuple[np.float32, np.float32, np.float32]
    at_spike: np.float32
    otherwise: np.float32
    keep_slow: np.float32
    fresh_slow: np.float32
    gated: bool
    given: bool


class TraceArrays(NamedTuple):
    """Changed in place: presynaptic x [2, B, n_pre], postsynaptic y [2, B, n_post], and the slow
    average's sum [n_pre] and weight [1]."""

    x: Floats
    y: Floats
    slow: Floats
    weight: Floats


class Given(NamedTuple):
    """Factors of every step that a rule's own functions have made; empty where there are none.

    Args:
        gain_pre: [T, B, n_pre]. gain_post, loss_post: [T, B, n_post]. reference: [T, n_pre].
        loss_pre: At the spikes of `InputSpikes`, in their order.
    """

    gain_pre: Floats
    gain_post: Floats
    loss_post: Floats
    reference: Floats
    loss_pre: Floats


class InputSpikes(NamedTuple):
    """Presynaptic spikes: those of step t in presentation b are where[start[t B + b] :
    start[t B + b + 1]], in order. dense: The same as 0 and 1, [T, B, n_pre]."""

    start: NDArray[np.int64]
    where: Indices
    dense: Floats


class Population(NamedTuple):
    """Neurons: ``v`` and ``current`` are their state variables [B, n_post], changed in place.

    Args:
        threshold, balance, target: [n_post]. afferents: Spikes on existing contacts, [T, B, n_post]
            or [T, B, 1]. injected: In thresholds, [T, B, n_post]; empty: none.
        spikes, membrane: [T, B, n_post]; written. The spikes are read where factors are given.
    """

    v: Floats
    current: Floats
    threshold: Floats
    balance: Floats
    target: Floats
    afferents: Floats
    injected: Floats
    spikes: Floats
    membrane: Floats


def check_arrays(
    contacts: ContactArrays,
    population: Population,
    spikes: InputSpikes,
    traces: TraceArrays | None = None,
    given: Given | None = None,
) -> None:
    """Whether arrays have the types and fit together as the loop trusts them to.

    Args:
        traces: None: factors are ``given``, and there is no population but its targets.

    Raises:
        TypeError: An array is not C-contiguous, or not of its type.
        ValueError: Shapes do not fit together.
    """
    sizes: Sizes = {}
    check_array("spikes.dense", spikes.dense, "float32", "T B n_pre", sizes)
    check_array(
        "spikes.start", spikes.start, "int64", "rows", {"rows": sizes["T"] * sizes["B"] + 1}
    )
    check_array("spikes.where", spikes.where, "uint32", "spikes", {"spikes": spikes.start[-1]})
    for name, values in zip(contacts._fields, contacts, strict=True):
        check_array(name, values, "float32", "n_post n_pre", sizes)
    check_array("target", population.target, "float32", "n_post", sizes)
    if given is not None:
        check_array("given.gain_pre", given.gain_pre, "float32", "T B n_pre", sizes)
        for name in ("gain_post", "loss_post"):
            check_array(f"given.{name}", getattr(given, name), "float32", "T B n_post", sizes)
        check_array("given.reference", given.reference, "float32", "T n_pre", sizes)
        n_spikes = {"spikes": len(spikes.where)}
        check_array("given.loss_pre", given.loss_pre, "float32", "spikes", n_spikes)
    if traces is None:
        return
    for name in ("v", "current"):
        check_array(name, getattr(population, name), "float32", "B n_post", sizes)
    for name in ("threshold", "balance"):
        check_array(name, getattr(population, name), "float32", "n_post", sizes)
    one = {**sizes, "each": sizes["n_post"]}
    if population.afferents.ndim == 3 and population.afferents.shape[2] == 1:
        one["each"] = 1
    check_array("afferents", population.afferents, "float32", "T B each", one)
    for name in ("injected", "spikes", "membrane"):
        values = getattr(population, name)
        if name != "injected" or values.size:
            check_array(name, values, "float32", "T B n_post", sizes)
    sizes["sides"] = 2
    check_array("traces.x", traces.x, "float32", "sides B n_pre", sizes)
    check_array("traces.y", traces.y, "float32", "sides B n_post", sizes)
    if len(traces.slow) > 0:  # there is a presynaptic target
        check_array("traces.slow", traces.slow, "float32", "n_pre", sizes)
    check_array("traces.weight", traces.weight, "float32", "one", {"one": 1})
