"""Continuous activity of a layer, told to an observer as it goes: spikes, changes, samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snn_artsy.checks import whole_number
from snn_artsy.observer import Conversions, SynapseObserver
from snn_artsy.synapses.circuit import Ongoing, Response, StateChange
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.population import check_kind
from snn_artsy.synapses.tracing import check_contacts, signals_of


class StreamedSimulation:
    """`SilentSynapseLayer.simulate` in pieces, each of which an observer is told of at once.

    With a `recording.RunRecorder` hours of activity go into run.h5 in bounded memory. What is told
    does not depend on how the activity is cut into pieces, bit for bit on the CPU::

        with RunRecorder(directory, "", {"seed": 0}, RecordConfig()) as recorder:
            simulation = StreamedSimulation(layer, recorder, torch.tensor([[3, 17]]))
            for pre in pieces:
                simulation.simulate(pre)

    The observer is told what its plan asks for: input spikes as those of ``retina``, the neurons'
    as those of ``task<t>``, every change of state at its step, how many contacts are in each state
    at the start, and `RecordConfig.trace_variables` of the chosen contacts.

    Args:
        layer: As for `SilentSynapseLayer.simulate`, which it is in train or eval mode.
        observer: Is told.
        contacts: (post, site) of those that are sampled, int64 [n, 2]; None: none.
        every: Steps from one sample to the next. A sample takes two calls of the engine, a few
            milliseconds, which is most of the time where samples are frequent.
        task: Number of the sub-network under which the layer is told.

    Raises:
        ConfigError: ``every`` or ``task`` is no such number.
        TypeError, ValueError: ``layer`` is none, or ``contacts`` are none of the layer's.
    """

    def __init__(
        self,
        layer: SilentSynapseLayer,
        observer: SynapseObserver,
        contacts: Tensor | None = None,
        every: int = 100,
        task: int = 0,
    ) -> None:
        check_kind("layer", layer, SilentSynapseLayer)
        self.every = whole_number("every", every, 1)
        self.layer, self.observer, self.task = layer, observer, whole_number("task", task, 0)
        self.training = layer.training
        if contacts is not None:
            check_contacts(layer, contacts)
        self.contacts = contacts
        self.state: Ongoing | None = None
        observer.population("retina", np.zeros(layer.n_pre, np.int64))
        observer.population(f"task{self.task}", np.full(layer.n_post, -1))
        observer.counts(self.task, 0.0, layer.counts().cpu().numpy())

    @property
    def step(self) -> int:
        """Steps so far."""
        return 0 if self.state is None else self.state.step

    @torch.no_grad()
    def simulate(self, pre: Tensor, current: Tensor | None = None) -> Response:
        """The next piece, [T, 1, n_pre], with a current in thresholds, [T, 1, n_post].

        Raises:
            TypeError, ValueError: As for `SilentSynapseLayer.simulate`; there is more than one
                presentation, or sampled contacts were in another mode when the simulation began.
        """
        # all of a piece is looked at before the first of its steps is simulated and told
        pre, current, _ = self.layer._checked_piece(pre, current, self.state)
        if pre.shape[1] != 1:
            raise ValueError(
                f"pre: expected steps of one presentation, [T, 1, n_pre], given {list(pre.shape)}"
            )
        if self.contacts is not None and self.layer.training != self.training:
            mode = "train" if self.training else "eval"
            raise ValueError(
                f"layer: expected one in {mode} mode, as when the simulation began, given another: "
                "what is sampled of contacts differs; begin a new simulation"
            )
        responses, at = [], 0
        while at < len(pre):
            sampled = self.step % self.every == 0 and self.contacts is not None
            length = 1 if sampled else self._until_sample(len(pre) - at)
            part = slice(at, at + length)
            responses.append(
                self._told(pre[part], None if current is None else current[part], sampled)
            )
            at += length
        return Response.joined(responses)

    def _until_sample(self, left: int) -> int:
        if self.contacts is None:
            return left
        return min(left, self.every - self.step % self.every)

    def _told(self, pre: Tensor, current: Tensor | None, sampled: bool) -> Response:
        """Steps of which the first one is sampled, or none."""
        layer, plan, first = self.layer, self.observer.plan, self.step
        before = None if self.state is None else self.state.traces
        response, self.state, events = layer._simulated(pre, current, self.state)
        inputs = pre[:, :, :: layer.contacts.per_connection]
        for name, spikes in (("retina", inputs), (f"task{self.task}", response.spikes)):
            step, _, node = (x.cpu().numpy() for x in torch.nonzero(spikes, as_tuple=True))
            self.observer.spikes(name, (first + step) * layer.dt_ms, node)
        if plan.conversions and len(events.pre):
            time_ms = (first + events.step.cpu().numpy()) * layer.dt_ms
            tell_conversions(
                self.observer, self.task, events, time_ms, layer.contacts.per_connection
            )
        if sampled:
            assert self.contacts is not None
            post_index, pre_index = self.contacts.T
            signals = signals_of(layer, self.contacts, inputs, response, before)
            if not layer.training:  # traces rest where nothing learns
                signals = {"membrane_mV": signals["membrane_mV"]}
            variables = {
                "ampa": layer.ampa[post_index, pre_index][None],
                "state": layer.state[post_index, pre_index][None],
                **{name: values[:, 0] for name, values in signals.items()},
            }
            time_ms = np.array([first * layer.dt_ms])
            tell_traces(
                self.observer, self.task, time_ms, self.contacts, variables,
                layer.contacts.per_connection,
            )  # fmt: skip
        return response


def tell_conversions(
    observer: SynapseObserver,
    task: int,
    change: StateChange,
    time_ms: np.ndarray,
    per_connection: int = 1,
) -> None:
    """Contacts of sub-network ``task`` that changed state at these times, [n]; of so many each
    connection has."""
    site = change.pre.cpu().numpy()
    observer.conversions(
        Conversions(
            task=task,
            time_ms=time_ms,
            pre=site // per_connection,
            post=change.post.cpu().numpy(),
            contact=site % per_connection,
            old=change.old.cpu().numpy(),
            new=change.new.cpu().numpy(),
        )
    )


def tell_traces(
    observer: SynapseObserver,
    task: int,
    time_ms: np.ndarray,
    contacts: Tensor,
    variables: dict[str, Tensor],
    per_connection: int = 1,
) -> None:
    """Variables [n_times, n] of some contacts (post, site) of sub-network ``task``, those that the
    observer's plan asks for."""
    wanted = [name for name in observer.plan.trace_variables if name in variables]
    post, site = contacts.T
    synapse = torch.stack([site // per_connection, post, site % per_connection], dim=1)
    observer.trace(
        task,
        time_ms,
        synapse.cpu().numpy(),
        {name: variables[name].float().cpu().numpy() for name in wanted},
    )
