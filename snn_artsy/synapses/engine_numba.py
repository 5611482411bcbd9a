"""The fast engine on the CPU in float32: `engine_torch`'s two calls, compiled (`loops`).

It takes circuits whose neurons are ours and whose rule is a sum of products (`covers`). Where a
rule gives its factors as data, all steps are one compiled call, neurons included. Where a rule
makes them by functions of its own, or a snnTorch neuron of one's own fires, they are made in torch
and only the contacts run compiled: all steps at once under a teacher, else one step a call.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_artsy.arrays import check_computed
from snn_artsy.observer import FUNCTIONAL
from snn_artsy.physiology import Membrane
from snn_artsy.rules import GatedSTDP, ProductRule, Rule, Signals, Traces
from snn_artsy.rules.base import Factors, SpikeTerms, Trace, WeightDependence, decay
from snn_artsy.rules.nmda import insertion_event
from snn_artsy.synapses import engine_torch
from snn_artsy.synapses.circuit import Circuit, Ongoing, Response, StateEvents
from snn_artsy.synapses.loops import records
from snn_artsy.synapses.receptors import membrane_mV

# Less than so many contacts times steps and presentations are not worth a second thread.
WORTH_A_THREAD = 2**21


# --- what it takes --------------------------------------------------------------------------------


def covers(circuit: Circuit) -> str | None:
    """None if contacts can learn here; else the reason why they take `engine_torch`."""
    ampa, rule = circuit.contacts.ampa, circuit.rule
    if ampa.device.type != "cpu" or ampa.dtype != torch.float32:
        return f"contacts are {ampa.dtype} on {ampa.device}".replace("torch.", "")
    base = _base(rule)
    if rule is None or base is None:
        named = rule.base if type(rule) is GatedSTDP else rule
        return f"{type(named).__name__} computes its change by functions of its own"
    if circuit.dendritic:
        return "its NMDA gate follows the dendrite's potential"
    if rule.noisy:
        return f"{type(rule).__name__} is stochastic"
    if type(base.dependence()) is not WeightDependence:  # a subclass may have a function of its own
        return f"{type(base).__name__} depends on the weight by a function of its own"
    return None


def _base(rule: Rule | None) -> ProductRule | None:
    """The product rule at the bottom, if its steps are made of its factors."""
    # of a gate of one's own the loop knows nothing
    base: object = rule.base if type(rule) is GatedSTDP else rule
    if not isinstance(base, ProductRule) or type(base).step is not ProductRule.step:
        return None
    return base


def _compiled_neurons(circuit: Circuit) -> bool:
    known = circuit.neuron.model in ("leaky", "synaptic")
    return known and circuit.unit is None and circuit.receptors is None


def _only_spikes_count(circuit: Circuit) -> bool:
    """Whether the NMDA gate is the same at any potential below a spike's, so that two numbers say
    all about it (`_events_of`)."""
    if not isinstance(circuit.rule, GatedSTDP):
        return True
    membrane = circuit.neuron.membrane
    v_mV = torch.tensor([membrane.v_rest_mV, membrane.v_th_mV])
    gate = circuit.rule.gated(Signals(v_mV, v_mV, v_mV)).gate
    assert gate is not None
    return bool(gate[0] == gate[1])


def _terms(circuit: Circuit) -> Any:
    base = _base(circuit.rule)
    return base._terms if base is not None and base.is_data else None


# --- two calls ------------------------------------------------------------------------------------


def transmit(
    circuit: Circuit,
    state: Ongoing,
    pre: Tensor | None,
    current: Tensor | None,
    clamped: bool = False,
    weights: Tensor | None = None,
) -> tuple[Response, Ongoing]:
    """`engine_torch.transmit`; ``weights``: what contacts transmit, where it is known."""
    shown = current if pre is None else pre
    assert shown is not None
    wanted = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (pre, current)
    )
    ours = shown.device.type == "cpu" and shown.dtype == torch.float32
    if wanted or not ours or not _compiled_neurons(circuit):
        return engine_torch.transmit(circuit, state, pre, current, clamped)
    drive = None
    if pre is not None:
        weights = engine_torch.transmitted(circuit) if weights is None else weights
        drive = engine_torch.net_input(circuit, state, pre, weights)
    return integrate(circuit, state, drive, current, clamped)


def integrate(
    circuit: Circuit,
    state: Ongoing,
    drive: Tensor | None,
    current: Tensor | None,
    clamped: bool = False,
) -> tuple[Response, Ongoing]:
    """Membranes and spikes for a net input in units of the membrane and an electrode's current in
    thresholds, both [T, B, n_post], of which one may be None."""
    from snn_artsy.synapses.loops import steps  # Numba takes a while to import

    shown = drive if drive is not None else current
    assert shown is not None
    cells = _Cells(circuit, state, shown.shape, clamped)
    driven, injected = _array(drive), _array(current)
    _in_threads(
        shown.shape[2],
        shown.numel(),
        lambda first, last: steps.integrate(
            first, last, cells.population(injected), driven, cells.numbers
        ),
    )
    after = cells.after(state)
    return cells.response(after), after


@torch.no_grad()
def learn(
    circuit: Circuit,
    state: Ongoing,
    pre: Tensor,
    current: Tensor | None,
    elapsed_ms: float,
) -> tuple[Response, Ongoing, StateEvents]:
    """`engine_torch.learn`, for what `covers` takes."""
    known = _terms(circuit) is not None and _only_spikes_count(circuit)
    if _compiled_neurons(circuit) and known:
        return _learn_at_once(circuit, state, pre, current, elapsed_ms)
    if current is None:
        return engine_torch.learn(circuit, state, pre, current, elapsed_ms, _contact_step)
    # the electrode decides when neurons fire, whatever the contacts do meanwhile
    response, after = transmit(circuit, state, None, current, clamped=True)
    ones, membrane = torch.ones_like(response.final[0]), circuit.neuron.membrane
    v_mV = membrane_mV(response.membrane, ones, response.spikes, membrane)
    signals = Signals(
        pre, response.spikes, v_mV, target=circuit.target, predicted=circuit.predicted
    )
    assert circuit.rule is not None
    traces = state.traces
    if traces is None:
        traces = circuit.rule.start(pre[0], response.spikes[0])
    traces, since, events = _learn_from(circuit, traces, signals, elapsed_ms, state.since)
    return response, after.after(0, after.neuron, traces=traces, since=since), events


def _learn_at_once(
    circuit: Circuit, state: Ongoing, pre: Tensor, current: Tensor | None, elapsed_ms: float
) -> tuple[Response, Ongoing, StateEvents]:
    """Neurons and contacts in one call."""
    rule = circuit.rule
    base = _base(rule)
    assert rule is not None and base is not None
    n_steps, n_batch = pre.shape[:2]
    cells = _Cells(circuit, state, (n_steps, n_batch, len(state.threshold)), current is not None)
    traces = state.traces
    if traces is None:
        traces = rule.start(pre[0], cells.spikes[0])
    held = _Held(circuit, traces)
    spikes = _spikes(pre)
    afferents = _array(engine_torch.inhibiting(circuit, pre) if current is None else None)
    since, events = _run(
        circuit, state.since, spikes, cells.population(_array(current), afferents),
        held.traces, None, cells.numbers, _plasticity(circuit, n_batch), elapsed_ms,
    )  # fmt: skip
    after = cells.after(state, traces=held.after(traces), since=since)
    return cells.response(after), after, events


def _learn_from(
    circuit: Circuit,
    traces: Traces,
    signals: Signals,
    elapsed_ms: float,
    since: tuple[Tensor, Tensor] | None = None,
) -> tuple[Traces, tuple[Tensor, Tensor], StateEvents]:
    """Contacts alone, for these signals [T, B, n]; factors by the rule's own functions."""
    rule, base = circuit.rule, _base(circuit.rule)
    assert base is not None
    n_steps, n_batch, n_pre = signals.pre.shape
    steps, references = [], []
    for t in range(n_steps):
        if isinstance(rule, GatedSTDP):
            f, reference, traces = rule.factors(traces, signals.at(t), circuit.dt_ms)
        else:
            f, traces = base.checked_factors(traces, signals.at(t), circuit.dt_ms)
            reference = signals.pre.new_zeros(n_pre)
        steps.append(f)
        references.append(reference)
    factors = Factors(*(torch.stack(parts) for parts in zip(*steps, strict=True)))
    for name, values in zip(factors._fields, factors, strict=True):
        # the loop is compiled for finite numbers, and a NaN would stay in the occupancies
        check_computed(f"rule: {name} of {type(rule).__name__}", values)
    cells = _Cells(circuit, None, (n_steps, n_batch, signals.post.shape[2]), False)
    moved, events = _run(
        circuit, since, _spikes(factors.loss_pre), cells.population(_array(None)),
        _Held(circuit, None).traces, (factors, torch.stack(references)), cells.numbers,
        _plasticity(circuit, n_batch), elapsed_ms,
    )  # fmt: skip
    return traces, moved, events


def _contact_step(circuit: Circuit, traces: Traces, signals: Signals, elapsed_ms: float) -> Traces:
    """One step of the contacts from signals [B, n]; the clock is brought up to date."""
    one = Signals(
        signals.pre[None],
        signals.post[None],
        signals.v_mV[None],
        target=signals.target,
        predicted=None if signals.predicted is None else signals.predicted[None],
    )
    return _learn_from(circuit, traces, one, elapsed_ms)[0]


# --- from records to arrays -----------------------------------------------------------------------


class _Cells:
    """A circuit's neurons as arrays; what they do is written into them."""

    def __init__(
        self, circuit: Circuit, state: Ongoing | None, shape: tuple[int, ...], taught: bool
    ) -> None:
        n, dt = circuit.neuron, circuit.dt_ms
        self.circuit, n_post = circuit, shape[2]
        self.numbers = records.Neuron(
            np.float32(decay(dt, n.tau_mem_ms)), np.float32(decay(dt, n.tau_ampa_ms)),
            np.float32(n.floor), n.model == "synaptic", taught,
            circuit.params.transmission != "binary",
        )  # fmt: skip
        ones = torch.ones(n_post)
        self.threshold = ones if state is None else state.threshold
        self.balance = ones if state is None else state.balance
        rest = torch.zeros(shape[1], n_post)
        # written in place, and somebody may hold the state that it began with
        held = (rest,) if state is None else tuple(x.clone() for x in state.neuron)
        self.v = held[-1].contiguous()
        self.current = held[0].contiguous() if len(held) == 2 else rest
        shown = (0, 0, 0) if state is None else shape
        self.spikes, self.membrane = torch.empty(shown), torch.empty(shown)

    def population(
        self, injected: NDArray[np.float32], afferents: NDArray[np.float32] | None = None
    ) -> records.Population:
        if afferents is None or afferents.size == 0:
            afferents = np.zeros((*self.spikes.shape[:2], 1), np.float32)
        return records.Population(
            self.v.numpy(), self.current.numpy(), _array(self.threshold), _array(self.balance),
            _array(self.circuit.target), afferents, injected, self.spikes.numpy(),
            self.membrane.numpy(),
        )  # fmt: skip

    def after(self, state: Ongoing, **changed: object) -> Ongoing:
        own = (self.current, self.v) if self.numbers.synaptic else (self.v,)
        return state.after(len(self.spikes), own, **changed)

    def response(self, after: Ongoing) -> Response:
        return Response(self.spikes, self.membrane, after.neuron[-1] / after.threshold)


class _Held:
    """A rule's traces as the loop's arrays, changed in place; None: there are none."""

    def __init__(self, circuit: Circuit, traces: Traces | None) -> None:
        self.gated = isinstance(circuit.rule, GatedSTDP)
        empty = torch.zeros(2, 0, 0)
        self.x, self.y, slow, weight = empty, empty, torch.zeros(0), torch.zeros(1)
        if traces is not None:
            terms = _terms(circuit)
            self.n_pre, self.n_post = len(terms.pre), len(terms.post)
            # the gate's traces: sum, weight, age, then the base rule's
            fast = traces[3:] if self.gated else traces
            self.x = _two(fast[: self.n_pre])
            self.y = _two(fast[self.n_pre :])
            if self.gated:
                slow, weight = traces[0].clone(), traces[1].reshape(1).clone()
        self.slow, self.weight = slow, weight
        self.traces = records.TraceArrays(*(x.numpy() for x in (self.x, self.y, slow, weight)))

    def after(self, before: Traces) -> Traces:
        """The rule's traces now."""
        fast = (*self.x[: self.n_pre], *self.y[: self.n_post])
        if not self.gated:
            return fast
        # The time since the last spike is for stochastic insertion, which takes another engine.
        return (self.slow, self.weight[0], before[2], *fast)


def _two(traces: Traces) -> Tensor:
    """[2, B, n]; a missing second one is 0."""
    first = traces[0] if traces else torch.zeros(0, 0)
    second = traces[1] if len(traces) == 2 else torch.zeros_like(first)
    return torch.stack((first, second)).contiguous()


def _plasticity(circuit: Circuit, n_batch: int) -> records.Plasticity:
    """Numbers of a circuit's rule."""
    rule, dt, f = circuit.rule, circuit.dt_ms, np.float32
    terms = _terms(circuit)
    gated = isinstance(rule, GatedSTDP)
    keep_slow = decay(dt * n_batch, rule.gating.tau_target_ms) if isinstance(rule, GatedSTDP) else 0
    given = terms is None  # then these numbers are not used
    if terms is None:
        terms = SpikeTerms((), (), (0.0,), (0.0,), (0.0,), (0.0,))
    x1, x2, y1, y2 = (
        side[k] if k < len(side) else None for side in (terms.pre, terms.post) for k in (0, 1)
    )

    def keep(trace: Trace | None) -> np.float32:
        return f(0.0 if trace is None else decay(dt, trace.tau_ms))

    def three(c: tuple[float, ...]) -> tuple[np.float32, np.float32, np.float32]:
        first, second, third = (*c, 0.0, 0.0)[:3]
        return f(first), f(second), f(third)

    at_spike, otherwise = _events_of(rule, dt, circuit.neuron.membrane)
    return records.Plasticity(
        keep_x1=keep(x1), keep_x2=keep(x2), keep_y1=keep(y1), keep_y2=keep(y2),
        nearest_x1=x1 is not None and x1.nearest, nearest_x2=x2 is not None and x2.nearest,
        nearest_y1=y1 is not None and y1.nearest, nearest_y2=y2 is not None and y2.nearest,
        gain_pre=three(terms.gain_pre), gain_post=three(terms.gain_post),
        loss_pre=three(terms.loss_pre), loss_post=three(terms.loss_post),
        at_spike=at_spike, otherwise=otherwise,
        keep_slow=f(keep_slow), fresh_slow=f(1.0 - keep_slow), gated=gated, given=given,
    )  # fmt: skip


def _events_of(
    rule: Rule | None, dt_ms: float, membrane: Membrane
) -> tuple[np.float32, np.float32]:
    """`insertion_event` at a spike, and in a step without one: our neurons' potential is then at
    most the threshold's (`_only_spikes_count`)."""
    v_mV = torch.tensor([membrane.v_peak_mV, membrane.v_rest_mV])
    signals = Signals(v_mV, torch.tensor([1.0, 0.0]), v_mV)
    if isinstance(rule, GatedSTDP):
        signals = rule.gated(signals)
    at_spike, otherwise = insertion_event(signals, dt_ms).numpy()
    return at_spike, otherwise


def _dynamics(circuit: Circuit, elapsed_ms: float, n_batch: int) -> records.Dynamics:
    base = _base(circuit.rule)
    assert base is not None
    w, c, f = base.dependence(), circuit.params, np.float32
    assert isinstance(w, WeightDependence)
    consolidate = min(f(c.consolidate_ms), records.NEVER) if c.consolidation else records.NEVER
    return records.Dynamics(
        up=f(w.up), down_0=f(w.down_0), down=f(w.down),
        power_law=w.power is not None, power=f(w.power or 0.0), mu=f(w.mu), floor=f(w.floor),
        scale=f(1.0 / n_batch if circuit.averaged else 1.0),
        mature=f(c.mature_plasticity), fixed=c.consolidated_plasticity < c.mature_plasticity,
        retention=f(1.0 if c.decay_ms is None else decay(elapsed_ms, c.decay_ms)),
        theta_up=f(c.theta_up), theta_down=f(c.theta_down), elapsed_ms=f(elapsed_ms),
        consolidate_ms=consolidate, stateless=c.transmission == "plain",
    )  # fmt: skip


def _spikes(values: Tensor) -> records.InputSpikes:
    """Where they are not 0."""
    from snn_artsy.synapses.loops import steps

    dense = _array(values)
    return records.InputSpikes(*steps.spike_list(dense.reshape(-1, dense.shape[2])), dense)


def _run(
    circuit: Circuit,
    since: tuple[Tensor, Tensor] | None,
    spikes: records.InputSpikes,
    population: records.Population,
    traces: records.TraceArrays,
    factors: tuple[Factors, Tensor] | None,
    neuron: records.Neuron,
    plasticity: records.Plasticity,
    elapsed_ms: float,
) -> tuple[tuple[Tensor, Tensor], StateEvents]:
    """Run the loop; occupancy, states and clocks change in place.

    Returns:
        `Ongoing.since` for the next step, and changes of state.
    """
    from snn_artsy.synapses.loops import steps

    exists, ampa, state, functional_ms = circuit.contacts
    n_steps, n_batch = spikes.dense.shape[:2]
    if since is None or not _still(since, circuit, elapsed_ms):
        since = torch.zeros_like(ampa), functional_ms
    clock, at = since[1].clone().contiguous(), since[0].clone().contiguous()
    occupancy, codes = ampa.contiguous(), state.to(torch.float32)
    contacts = records.ContactArrays(
        occupancy.numpy(), codes.numpy(), clock.numpy(), _array(exists), at.numpy()
    )
    if factors is None:
        given = records.Given(*(np.zeros((0,) * k, np.float32) for k in (3, 3, 3, 2, 1)))
    else:
        f, reference = factors
        loss = _array(f.loss_pre)
        given = records.Given(
            _array(f.gain_pre), _array(f.gain_post), _array(f.loss_post), _array(reference),
            loss[loss != 0.0],
        )  # fmt: skip
        plasticity = plasticity._replace(given=True)
    if factors is None:
        records.check_arrays(contacts, population, spikes, traces)
    else:
        records.check_arrays(contacts, population, spikes, given=given)
    dynamics = _dynamics(circuit, elapsed_ms, n_batch)
    started = [traces.x.copy(), traces.slow.copy(), traces.weight.copy()]

    def share(first: int, last: int) -> NDArray[np.int32]:
        # every thread advances the presynaptic traces by itself, the first one keeps them
        mine = traces if first == 0 else traces._replace(
            x=started[0].copy(), slow=started[1].copy(), weight=started[2].copy()
        )  # fmt: skip
        return steps.run(
            first, last, contacts, population, spikes, mine, given, neuron, plasticity, dynamics
        )

    tables = _in_threads(len(ampa), ampa.numel() * n_steps * n_batch, share)
    ampa.copy_(occupancy)
    state.copy_(codes)
    if not dynamics.stateless:
        now = clock + (n_steps - at) * elapsed_ms
        functional_ms.copy_(now.mul_(state == FUNCTIONAL))
    return (at - n_steps, clock), _sorted(np.concatenate(tables))


def _still(since: tuple[Tensor, Tensor], circuit: Circuit, elapsed_ms: float) -> bool:
    """Whether the contacts' clocks are those of the last step: between two pieces of a simulation
    contacts can be captured, made labile or loaded."""
    at, clock = since
    _, _, state, functional_ms = circuit.contacts
    return torch.equal((clock - at * elapsed_ms) * (state == FUNCTIONAL), functional_ms)


def _sorted(events: NDArray[np.int32]) -> StateEvents:
    order = np.lexsort((events[:, 2], events[:, 1], events[:, 0]))
    step, post, pre, old, new = torch.from_numpy(events[order].astype(np.int64)).T
    return StateEvents(pre, post, old.to(torch.uint8), new.to(torch.uint8), step)


def _in_threads(n_post: int, work: int, share: Callable[[int, int], Any]) -> list[Any]:
    """``share(first, last)`` for all neurons, by as many threads as torch uses."""
    n = max(1, min(torch.get_num_threads(), n_post, work // WORTH_A_THREAD + 1))
    ends = [n_post * k // n for k in range(n + 1)]
    if n == 1:
        return [share(0, n_post)]
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(share, ends[:-1], ends[1:]))


def _array(values: Tensor | None) -> NDArray[np.float32]:
    """C-contiguous float32; None: empty, [0, 0, 0]."""
    if values is None:
        return np.zeros((0, 0, 0), np.float32)
    return values.detach().to(torch.float32).contiguous().numpy()
