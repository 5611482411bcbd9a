"""Reports of spiking sub-networks to an observer: tensors become what a recorder writes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from snn_artsy.config import SNNConfig
from snn_artsy.learners.base import Batch, LabelledBatch
from snn_artsy.learners.windows import Shown, Windows
from snn_artsy.observer import Pairings, Presentations, SynapseObserver, lag_bins
from snn_artsy.synapses.circuit import Response, StateChange, StateEvents
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import make_schedule
from snn_artsy.synapses.release import Draws
from snn_artsy.synapses.streaming import tell_conversions, tell_traces
from snn_artsy.synapses.traces import binned, pair_counts
from snn_artsy.synapses.tracing import signals_of, trace_contacts


class Probe:
    """Tells an observer what its plan asks for, and keeps the simulated time.

    Args:
        observer: Receives the reports.
        config: Configuration of the learner.
        seed: Seed of the draw of traced contacts.
    """

    # Plain numbers that a checkpoint holds, so that a resumed learner continues from them.
    COUNTERS = ("clock_ms", "to_record", "presented")

    def __init__(self, observer: SynapseObserver, config: SNNConfig, seed: int) -> None:
        self.observer, self.config, self.seed = observer, config, seed
        teach = make_schedule(config.encoding, config.teacher, config.neuron.per_class).teach
        self.first_teacher_ms = float(torch.nonzero(teach)[0, 0]) * config.encoding.dt
        self.input = "expansion" if config.expansion.units else "retina"
        self.clock_ms = 0.0
        self.to_record = self.presented = 0

    def input_population(self, dim: int) -> None:
        """The units that all sub-networks have contacts with; ``dim``: size of features."""
        units = self.config.expansion.units
        self.observer.population(
            self.input, np.zeros(units, dtype=np.int64) if units else np.repeat([0, 1], dim)
        )

    def wait_for_spikes(self, split: str) -> None:
        """Begin to count presentations of ``split``, of which the plan records some."""
        plan = self.observer.plan
        self.to_record = plan.spike_presentations if split in plan.splits else 0
        self.presented = 0

    def recorded_of(self, n: int) -> Tensor:
        """Which of the next ``n`` presentations are recorded, int64."""
        number = torch.arange(self.presented, self.presented + n)
        every = self.observer.plan.spike_every
        chosen = torch.nonzero(number % every == 0)[: self.to_record, 0]
        self.presented += n
        self.to_record -= len(chosen)
        return chosen

    def presentations(
        self,
        batch: LabelledBatch,
        rows: Tensor,
        start: np.ndarray,
        task: int,
        teaching: bool,
        split: Literal["replay"] | None = None,
    ) -> None:
        """Report presentations of some samples of a batch; ``split`` replaces the batch's own."""
        encoding = self.config.encoding
        self.observer.presentations(
            Presentations(
                start_ms=start,
                stop_ms=start
                + (encoding.steps if teaching else encoding.steps_shown) * encoding.dt,
                split=split or batch.split,
                index=batch.index[rows].cpu().numpy(),
                label=batch.labels[rows].cpu().numpy(),
                task=task,
                teacher_ms=start + self.first_teacher_ms if teaching else None,
            )
        )

    def spikes(self, pre: Tensor, post: dict[int, Tensor], start: np.ndarray) -> None:
        """Report spikes [T, b, n] of presentations; the first b of ``start`` are theirs (ms)."""
        for name, spikes in [(self.input, pre), *((f"task{t}", s) for t, s in post.items())]:
            step, shown, node = (x.cpu().numpy() for x in torch.nonzero(spikes, as_tuple=True))
            self.observer.spikes(name, start[shown] + step * self.config.encoding.dt, node)

    def change(
        self,
        task: int,
        layer: SilentSynapseLayer,
        change: StateChange,
        start: np.ndarray | None = None,
    ) -> None:
        """Report a sub-network's conversions, and how many contacts are in each state now.

        A change in a step of a batch carries the time of that step. The batch's B presentations are
        simulated side by side and told one after the other, so that a step of it stands for B steps
        of simulated time (our definition). All other changes carry the present time.

        Args:
            start: When each presentation of the batch started (ms), [B].
        """
        plan = self.observer.plan
        time_ms = np.full(len(change.pre), self.clock_ms)
        if isinstance(change, StateEvents):
            assert start is not None
            time_ms = start[0] + change.step.cpu().numpy() * (len(start) * self.config.encoding.dt)
        self.observer.counts(task, self.clock_ms, layer.counts().cpu().numpy())
        if plan.conversions and len(change.pre):
            tell_conversions(self.observer, task, change, time_ms, layer.contacts.per_connection)

    def snapshot(self, layers: Sequence[SilentSynapseLayer], moment: str) -> None:
        """Report the occupancy and state of every contact."""
        for t, layer in enumerate(layers):
            ampa, state = layer.ampa.cpu().numpy(), layer.state.cpu().numpy()
            n = layer.contacts.per_connection
            ampa, state = (x.reshape(len(x), -1, n) for x in (ampa, state))
            self.observer.snapshot(t, moment, ampa, state)

    def choose_traced(self, layer: SilentSynapseLayer) -> Tensor:
        """Draw the contacts whose variables are recorded, int64 [n, 2] (post, site)."""
        existing = torch.nonzero(layer.exists.cpu())
        generator = torch.Generator().manual_seed(self.seed)
        n = min(self.observer.plan.traced_synapses, len(existing))
        chosen = existing[torch.randperm(len(existing), generator=generator)[:n]]
        return chosen.to(layer.ampa.device)

    def windows(self, layer: SilentSynapseLayer, n_batches: int, epoch: int) -> Windows | None:
        """Selection of an epoch's batches that are traced step by step; None if none are."""
        plan = self.observer.plan
        in_steps = layer.update == "step" and layer.rule is not None
        wanted = plan.traced_synapses and plan.trace_variables and plan.trace_windows
        if not (in_steps and wanted):
            return None
        return Windows(n_batches, plan.trace_windows, self.seed + epoch)

    def trace_steps(
        self,
        task: int,
        layer: SilentSynapseLayer,
        traced: Tensor,
        windows: Windows,
        batch: Shown,
        change: StateChange,
    ) -> None:
        """Report time series of the traced contacts in the batches that ``windows`` chooses.

        Those batches are simulated again on a copy of the layer as it was before them.
        """
        code = change.post * layer.n_sites + change.pre
        converted = torch.isin(code, traced[:, 0] * layer.n_sites + traced[:, 1]).any()
        for shown in windows.chosen(batch, bool(converted)):
            was = copy.deepcopy(layer)
            for name, buffer in was.named_buffers():
                buffer.copy_(shown.before[name])
            n_steps, n_batch = shown.pre.shape[:2]
            duration = self.config.encoding.duration_ms(teaching=True)
            variables = trace_contacts(
                was, traced, shown.pre, shown.current, duration, shown.predicted, shown.draws
            )
            step_ms = n_batch * self.config.encoding.dt  # of a batch: see `change`
            time_ms = shown.start_ms + step_ms * np.arange(n_steps)
            n = layer.contacts.per_connection
            tell_traces(self.observer, task, time_ms, traced, variables, n)

    def trace(
        self,
        task: int,
        layer: SilentSynapseLayer,
        traced: Tensor,
        pre: Tensor,
        response: Response,
        draws: Draws | None = None,
    ) -> None:
        """Report occupancy and state after a batch, and the mean of the rule's traces in it."""
        if not len(traced) or not self.observer.plan.trace_variables:
            return
        post_index, pre_index = traced.T
        signals = signals_of(layer, traced, pre, response, draws=draws)
        variables = {
            "ampa": layer.ampa[post_index, pre_index][None],
            "state": layer.state[post_index, pre_index].float()[None],
            **{name: values.mean((0, 1))[None] for name, values in signals.items()},
        }
        n = layer.contacts.per_connection
        tell_traces(self.observer, task, np.array([self.clock_ms]), traced, variables, n)

    def pairings(
        self,
        task: int,
        layer: SilentSynapseLayer,
        traced: Tensor,
        before: Tensor,
        pre: Tensor,
        response: Response,
        draws: Draws | None = None,
    ) -> None:
        """Report spike pairs of the traced contacts in a batch, and their change of occupancy."""
        if not len(traced) or not self.observer.plan.pairings:
            return
        post_index, pre_index = traced.T
        post = response.spikes[:, :, post_index]
        dt = self.config.encoding.dt
        width, each_side = lag_bins(len(pre), dt)
        arrived = layer.arrivals(pre, traced, draws)
        pairs = binned(pair_counts(arrived, post), width, each_side)
        batch = Pairings(
            lag_ms=np.arange(-each_side, each_side + 1, dtype=np.float64) * (width * dt),
            pairs=pairs.cpu().numpy(),
            post_spikes=post.sum((0, 1)).long().cpu().numpy(),
            competition=layer.competition(pre_index, post_index).cpu().numpy(),
            before=before.cpu().numpy(),
            after=layer.ampa[post_index, pre_index].cpu().numpy(),
        )
        self.observer.pairings(task, self.clock_ms, batch)

    def test(self, batch: Batch, rows: Tensor, pre: Tensor, answers: list[Response]) -> None:
        """Record some test presentations after a task, as presentations of their own."""
        chosen = self.recorded_of(len(rows))
        if len(chosen) == 0 or not isinstance(batch, LabelledBatch):
            return
        duration = self.config.encoding.duration_ms(teaching=False)
        start = self.clock_ms + duration * np.arange(len(chosen))
        told = rows[chosen.to(rows.device)]
        self.presentations(batch, told, start, len(answers) - 1, teaching=False)
        post = {t: a.spikes[:, chosen] for t, a in enumerate(answers)}
        self.spikes(pre[:, chosen], post, start)
        self.clock_ms += duration * len(chosen)
