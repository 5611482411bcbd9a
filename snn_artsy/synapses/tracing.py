"""Chosen contacts of a layer in every step: what an electrode and a labelled spine would show."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from snn_artsy.arrays import check_range, check_same_kind
from snn_artsy.rules import GatedSTDP, ProductRule, Traces
from snn_artsy.synapses.circuit import Response
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.receptors import dendrite_mV, membrane_mV, mg_block
from snn_artsy.synapses.release import Draws
from snn_artsy.synapses.traces import trace_before


@torch.no_grad()
def trace_contacts(
    layer: SilentSynapseLayer,
    contacts: Tensor,
    pre: Tensor,
    current: Tensor | None,
    presentation_ms: float | None = None,
    predicted: Tensor | None = None,
    draws: Draws | None = None,
) -> dict[str, Tensor]:
    """Variables of some contacts in every step of ``layer.pair(pre, current)``, which is not done.

    A copy of the layer is shown the same batch one step at a time. On the CPU its contacts go
    through the same numbers, bit for bit, as they do when `SilentSynapseLayer.pair` is called next:

        series = trace_contacts(layer, torch.tensor([[0, 3]]), pre, current)
        layer.pair(pre, current)  # ends at series["ampa"][-1]

    Args:
        layer: With `update: step` and a rule.
        contacts: (post, site) of each, int64 [n, 2].
        pre, current, presentation_ms, predicted, draws: Of `SilentSynapseLayer.pair`.

    Returns:
        Name -> [T, n], `membrane_mV` and traces as means over the batch: ``ampa`` (occupancy) and
        ``state`` at each step's end, and what `signals_of` has.

    Raises:
        TypeError, ValueError: As for `SilentSynapseLayer.pair`; ``contacts`` are none of the
            layer's; its contacts do not change in steps.
    """
    if layer.update != "step" or layer.rule is None:
        raise ValueError(
            "layer: its contacts do not change in steps; give it a rule, and update='step'"
        )
    check_contacts(layer, contacts)
    own = copy.deepcopy(layer)
    post, site = contacts.T
    ampa, state, steps = [], [], []
    for response in own.pair_in_steps(pre, current, presentation_ms, predicted, draws):
        ampa.append(own.ampa[post, site])
        state.append(own.state[post, site].to(own.ampa.dtype))
        steps.append(response)
    pre, answer = pre.to(own.ampa.dtype), Response.joined(steps)
    signals = signals_of(layer, contacts, pre, answer, draws=draws)
    return {
        "ampa": torch.stack(ampa),
        "state": torch.stack(state),
        **{name: values.mean(1) for name, values in signals.items()},
    }


def check_contacts(layer: SilentSynapseLayer, contacts: Tensor) -> None:
    """Whether a layer has these contacts (post, site), int64 [n, 2].

    Raises:
        TypeError, ValueError: It has not.
    """
    index = layer.exists.new_zeros((), dtype=torch.int64)
    check_same_kind("contacts", contacts, "n two", {"two": 2}, index)
    for side, size in ((0, layer.n_post), (1, layer.n_sites)):
        check_range("contacts", contacts[:, side], 0, size - 1)


def signals_of(
    layer: SilentSynapseLayer,
    contacts: Tensor,
    pre: Tensor,
    response: Response,
    traces: Traces | None = None,
    draws: Draws | None = None,
) -> dict[str, Tensor]:
    """What some contacts know of a batch that was shown, each [T, B, n].

    ``membrane_mV`` of the postsynaptic neuron, its spikes at their peak; of the rule's first traces
    ``pre_trace`` (glutamate) and ``post_trace``, just before the step's own spikes; under the NMDA
    gate ``nmda_open``, glutamate times the share of the contact's receptors that is unblocked. A
    rule whose factors are functions of its own has no traces that are known here, and they are left
    out.

    Args:
        contacts: (post, site) of each, int64 [n, 2].
        pre, response: Spikes [T, B, n_pre] and the answer to them.
        traces: Of the rule before the first step (`Ongoing.traces`); None: at rest.
        draws: Of releases, where contacts fail.
    """
    post_index, site = contacts.T
    spikes, glutamate = response.spikes[:, :, post_index], layer.arrivals(pre, contacts, draws)
    membrane = layer.neuron.membrane
    v_mV = membrane_mV(response.membrane[:, :, post_index], spikes.new_ones(()), spikes, membrane)
    variables = {"membrane_mV": v_mV}
    rule, dt = layer.rule, layer.dt_ms
    base: object = rule.base if isinstance(rule, GatedSTDP) else rule
    terms = base.terms() if isinstance(base, ProductRule) and base.is_data else None
    if terms is None:
        return variables
    # a gate's own traces come before those of its base rule
    y = 0 if traces is None else len(traces) - len(terms.post)
    x = y - len(terms.pre)
    if terms.post:
        first = terms.post[0]
        start = None if traces is None else traces[y][:, post_index]
        variables["post_trace"] = trace_before(spikes, first.tau_ms, dt, first.nearest, start)
    if terms.pre:
        first = terms.pre[0]
        start = None if traces is None else traces[x][:, site]
        variables["pre_trace"] = trace_before(glutamate, first.tau_ms, dt, first.nearest, start)
        if isinstance(rule, GatedSTDP):
            if response.dendrite is not None:
                v_mV = dendrite_mV(response.dendrite[:, :, post_index], spikes, membrane)
            seen_mV = rule.gating.potential(v_mV)
            unblocked = rule.gating.nmda * mg_block(seen_mV, rule.gating.mg_mM)
            variables["nmda_open"] = variables["pre_trace"] * unblocked
    return variables
