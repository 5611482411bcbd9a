"""What an observer is told of spiking sub-networks: from tensors to what a recorder writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from snn_artsy.config import SNNConfig
from snn_artsy.learners.base import Batch, LabelledBatch
from snn_artsy.observer import Conversions, Pairings, Presentations, SynapseObserver, lag_bins
from snn_artsy.rules import GatedSTDP, ProductRule
from snn_artsy.synapses.circuit import Response, StateChange, StateEvents
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import make_schedule
from snn_artsy.synapses.receptors import membrane_mV, mg_block
from snn_artsy.synapses.traces import binned, pair_counts, trace_before


class Probe:
    """Tells an observer what its plan asks for, and keeps the simulated time.

    Args:
        observer: Is told.
        config: Of the learner.
        seed: Draws the contacts that are traced.
    """

    # Plain numbers that a learner goes on from.
    COUNTERS = ("clock_ms", "to_record", "presented")

    def __init__(self, observer: SynapseObserver, config: SNNConfig, seed: int) -> None:
        self.observer, self.config, self.seed = observer, config, seed
        teach = make_schedule(config.encoding, config.teacher, config.neuron.per_class).teach
        self.first_teacher_ms = float(torch.nonzero(teach)[0, 0]) * config.encoding.dt
        self.clock_ms = 0.0
        self.to_record = self.presented = 0

    def wait_for_spikes(self, split: str) -> None:
        """From here on, presentations of ``split`` are counted for the plan."""
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
        """Presentations of some samples of a batch; ``split``: if not the batch's own."""
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
        """Spikes [T, b, n] of presentations that start at ``start`` (the first b are used)."""
        for name, spikes in [("retina", pre), *((f"task{t}", s) for t, s in post.items())]:
            step, shown, node = (x.cpu().numpy() for x in torch.nonzero(spikes, as_tuple=True))
            self.observer.spikes(name, start[shown] + step * self.config.encoding.dt, node)

    def change(
        self,
        task: int,
        layer: SilentSynapseLayer,
        change: StateChange,
        start: np.ndarray | None = None,
    ) -> None:
        """Conversions of sub-network ``task``, and how many contacts are in each state now.

        What changed in a step of a batch is told at that step. The batch's B presentations are
        simulated side by side and told one after the other, so that a step of it stands for B steps
        of simulated time (our definition). All other changes are told at the time it is now.

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
            self.observer.conversions(
                Conversions(
                    task=task,
                    time_ms=time_ms,
                    pre=change.pre.cpu().numpy(),
                    post=change.post.cpu().numpy(),
                    contact=np.zeros(len(change.pre), dtype=np.int64),
                    old=change.old.cpu().numpy(),
                    new=change.new.cpu().numpy(),
                )
            )

    def snapshot(self, layers: Sequence[SilentSynapseLayer], moment: str) -> None:
        """Occupancy and state of every contact."""
        for t, layer in enumerate(layers):
            ampa, state = layer.ampa.cpu().numpy(), layer.state.cpu().numpy()
            self.observer.snapshot(t, moment, ampa[:, :, None], state[:, :, None])

    def choose_traced(self, layer: SilentSynapseLayer) -> Tensor:
        """Contacts whose variables are recorded, int64 [n, 2] (post, pre)."""
        existing = torch.nonzero(layer.exists.cpu())
        generator = torch.Generator().manual_seed(self.seed)
        n = min(self.observer.plan.traced_synapses, len(existing))
        chosen = existing[torch.randperm(len(existing), generator=generator)[:n]]
        return chosen.to(layer.ampa.device)

    def trace(
        self, task: int, layer: SilentSynapseLayer, traced: Tensor, pre: Tensor, response: Response
    ) -> None:
        """Occupancy and state after each batch, and the mean of the rule's own traces in it.

        Traces are those that the running rule computes; a rule whose factors are functions of its
        own has none that are known here, and they are left out.
        """
        if not len(traced) or not self.observer.plan.trace_variables:
            return
        post_index, pre_index = traced.T
        spikes, glutamate = response.spikes[:, :, post_index], pre[:, :, pre_index]
        v_mV = membrane_mV(response.membrane[:, :, post_index], spikes.new_ones(()), spikes)
        variables = {
            "ampa": layer.ampa[post_index, pre_index],
            "state": layer.state[post_index, pre_index].float(),
            "membrane_mV": v_mV.mean((0, 1)),
        }
        rule, dt = layer.rule, self.config.encoding.dt
        base: object = rule.base if isinstance(rule, GatedSTDP) else rule
        terms = base.terms() if isinstance(base, ProductRule) and base.is_data else None
        if terms is not None and terms.post:
            y = trace_before(spikes, terms.post[0].tau_ms, dt, terms.post[0].nearest)
            variables["post_trace"] = y.mean((0, 1))
        if terms is not None and terms.pre:
            x = trace_before(glutamate, terms.pre[0].tau_ms, dt, terms.pre[0].nearest)
            variables["pre_trace"] = x.mean((0, 1))
            if isinstance(rule, GatedSTDP):
                gating = rule.gating
                opened = x * mg_block(v_mV, gating.mg_mM)
                variables["nmda_open"] = gating.nmda * opened.mean((0, 1))
        wanted = [name for name in self.observer.plan.trace_variables if name in variables]
        variables = {name: variables[name] for name in wanted}
        synapse = torch.stack([pre_index, post_index, torch.zeros_like(pre_index)], dim=1)
        self.observer.trace(
            task,
            np.array([self.clock_ms]),
            synapse.cpu().numpy(),
            {name: value.cpu().numpy()[None] for name, value in variables.items()},
        )

    def pairings(
        self,
        task: int,
        layer: SilentSynapseLayer,
        traced: Tensor,
        before: Tensor,
        pre: Tensor,
        response: Response,
    ) -> None:
        """Spike pairs of the traced contacts in a batch, and what became of their occupancy."""
        if not len(traced) or not self.observer.plan.pairings:
            return
        post_index, pre_index = traced.T
        post = response.spikes[:, :, post_index]
        dt = self.config.encoding.dt
        width, each_side = lag_bins(len(pre), dt)
        pairs = binned(pair_counts(pre[:, :, pre_index], post), width, each_side)
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
