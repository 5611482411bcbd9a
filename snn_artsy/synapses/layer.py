"""A layer of silent synapses: an ordinary torch module between two populations of spikes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Literal

import snntorch
import torch
from torch import Tensor, nn

from snn_artsy.arrays import (
    LARGEST,
    Sizes,
    axes_like,
    check_computed,
    check_range,
    check_same_kind,
    check_spikes,
    check_tensor,
)
from snn_artsy.checks import duration, one_of, positive, require
from snn_artsy.config import ContactConfig, NeuronConfig, PlasticityConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.physiology import Membrane, Receptors
from snn_artsy.rules import GatedSTDP, Rule, Signals, Traces
from snn_artsy.rules.base import require_rule
from snn_artsy.synapses import compiled, neurons, states
from snn_artsy.synapses.conductance import (
    Open,
    balanced_step,
    contact_weight,
    in_thresholds,
    open_at_rest,
)
from snn_artsy.synapses.receptors import membrane_mV


@dataclass(frozen=True)
class Response:
    """Postsynaptic answer to a batch of presentations.

    Args:
        spikes: [T, B, n_post], 0 or 1.
        membrane: Membrane just before the reset, in thresholds, [T, B, n_post].
        final: Membrane after the last step, in thresholds, [B, n_post].
    """

    spikes: Tensor
    membrane: Tensor
    final: Tensor

    @property
    def counts(self) -> Tensor:
        """Spikes of each neuron in the presentation, [B, n_post]."""
        return self.spikes.sum(0)


@dataclass(frozen=True)
class StateChange:
    """Contacts that changed state in one update; int64 [n] and state codes uint8 [n]."""

    pre: Tensor
    post: Tensor
    old: Tensor
    new: Tensor


# What a layer's buffers can hold, from and to; for what is loaded.
_STORED: dict[str, tuple[float, float]] = {
    "exists": (0, 1),
    "born_silent": (0, 1),
    "ampa": (0, 1),
    "state": (SILENT, CONSOLIDATED),
    "functional_ms": (0, torch.finfo(torch.float32).max),
    "slow_sum": (-LARGEST, LARGEST),
    "slow_weight": (0, 1),
    "target_factor": (-LARGEST, LARGEST),
    "noise_draws": (0, 2**62),
}


class SilentSynapseLayer(nn.Module):
    """Plastic contacts from ``n_pre`` spike trains onto ``n_post`` snnTorch neurons.

    Every contact is born silent: NMDA receptors only, AMPA occupancy 0. A silent contact passes no
    AMPA current. Net input of neuron j is its AMPA current less feed-forward inhibition that
    balances it (Vogels et al. 2011: inhibition matched to each neuron's excitation),

        I_j(t) = sum_i (w_ij - alpha_j e_ij) s_i(t),   alpha_j = sum_i w_ij / sum_i e_ij,

    with e_ij = 1 where a contact exists, so that input common to all afferents cancels. Its
    threshold is ``neuron.threshold`` standard deviations of that net input for unspecific input of
    one spike per afferent, sqrt(sum_i (w_ij - alpha_j e_ij)^2), at least one contact's worth (our
    definition of a homeostatic threshold).

    A snnTorch neuron of your own (``neuron=snntorch.Leaky(...)``) is used as it is, with its own
    threshold and reset; then there is no inhibition, and a functional contact passes
    ``contact_current`` thresholds. In train mode `forward` with a teacher learns; otherwise it only
    transmits. Gradients pass through to ``pre``, none reaches the contacts.

    A current of x thresholds takes any neuron's membrane from rest to x times its threshold in one
    step. An injected current goes straight to the membrane: the synaptic filter of a `Synaptic`
    neuron is no part of an electrode.

    Spikes and currents may be of any real type; they are taken in the contacts' own (float32, or
    float64 after ``layer.double()``). Inside a module that is compiled by ``torch.compile`` the
    layer runs as it is; ``torch.vmap`` is refused, since presentations have an axis of their own,
    and so is ``torch.autocast``, whose short numbers would lose small changes.

    Args:
        n_pre, n_post: Sizes.
        dt_ms: Step (ms).
        neuron: Parameters, or a snnTorch `Leaky`, `Lapicque` or `Synaptic`.
        rule: A rule of `snn_artsy.rules`, the configuration of one, or None (not plastic).
        contacts: Parameters.
        update: ``presentation``: occupancy is frozen while a batch is shown, one update for all of
            it; ``step``: it changes in every step (states too; changes are summed over the batch),
            in a compiled loop where `compiled.covers` says so.
        contact_current: See above; with a snnTorch neuron only, default 0.1.
        receptors: Conductance fidelity: AMPA, NMDA (silent contacts have it too) and inhibition in
            nS on a membrane in mV, in place of dimensionless currents; an AMPA event's charge is
            that of the current fidelity (`conductance.contact_weight`). With leaky neurons.
        batch_reduction: Changes of a batch are summed, or averaged.
        target_factor: Presynaptic target of each neuron, in multiples of the slow average,
            [n_post]; default: the rule's own for all.
        generator: Draws which contacts exist when ``contacts.probability`` < 1; on the CPU.

    Raises:
        ConfigError: A value that cannot be used.
        TypeError: Something of another kind than it should be; a neuron that the layer cannot use.
    """

    exists: Tensor
    born_silent: Tensor
    ampa: Tensor
    state: Tensor
    functional_ms: Tensor
    slow_sum: Tensor
    slow_weight: Tensor
    target_factor: Tensor
    noise_draws: Tensor

    def __init__(
        self,
        n_pre: int,
        n_post: int,
        dt_ms: float = 1.0,
        neuron: NeuronConfig | nn.Module | None = None,
        rule: Rule | PlasticityConfig | None = GatedSTDP(),  # noqa: B008  (frozen)
        contacts: ContactConfig = ContactConfig(),  # noqa: B008  (frozen)
        update: Literal["presentation", "step"] = "presentation",
        contact_current: float | None = None,
        receptors: Receptors | None = None,
        batch_reduction: Literal["sum", "mean"] = "sum",
        target_factor: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("n_pre", n_pre), ("n_post", n_post)):
            whole = hasattr(size, "__index__")
            require(whole and index(size) >= 1, name, size, "use a whole number of 1 or more")
        duration("dt_ms", dt_ms)
        one_of("update", update, ("presentation", "step"))
        one_of("batch_reduction", batch_reduction, ("sum", "mean"))
        _check_kind("contacts", contacts, ContactConfig)
        _check_kind("receptors", receptors, Receptors, type(None))
        _check_kind("generator", generator, torch.Generator, type(None))
        require(
            generator is None or generator.device.type == "cpu",
            "generator",
            str(generator and generator.device),
            "use one on the CPU, so that contacts are the same on every device",
        )
        self.n_pre, self.n_post, self.dt_ms = index(n_pre), index(n_post), float(dt_ms)
        self.rule = rule.build() if isinstance(rule, PlasticityConfig) else rule
        if self.rule is not None:
            require_rule("rule", self.rule)
        if isinstance(self.rule, GatedSTDP) and self.rule.gating.insertion == "bernoulli":
            sums = "stochastic insertion fills a contact or not: use sum"
            require(batch_reduction == "sum", "batch_reduction", batch_reduction, sums)
        self.contacts, self.update = contacts, update
        self.unit: nn.Module | None = None
        self.neuron = NeuronConfig()
        if isinstance(neuron, NeuronConfig):
            self.neuron = neuron
        elif neuron is not None:
            neurons.check_unit(neuron, self.n_post)
            self.unit = neuron
            neurons.forget(neuron)
        require(
            contact_current is None or self.unit is not None,
            "contact_current",
            contact_current,
            "it is for a snnTorch neuron; leave it out, our own neurons scale their threshold",
        )
        self.contact_current = 0.1 if contact_current is None else contact_current
        positive("contact_current", self.contact_current)
        require(
            self.contact_current <= 1e6, "contact_current", contact_current, "use at most 1e+06"
        )
        self.batch_reduction = batch_reduction
        self.receptors = receptors
        self._check_receptors()
        shape = (self.n_post, self.n_pre)
        exists = torch.ones(shape, dtype=torch.bool)
        if contacts.filopodia is not None:
            rank = torch.rand(shape, generator=generator).argsort(1).argsort(1)
            exists = rank < contacts.filopodia
        elif contacts.probability < 1.0:
            exists = torch.rand(shape, generator=generator) < contacts.probability
        self.register_buffer("exists", exists)
        mature = torch.zeros(shape, dtype=torch.bool)
        if contacts.silent_share < 1.0:
            mature = (torch.rand(shape, generator=generator) >= contacts.silent_share) & exists
        self.register_buffer("ampa", mature.float())
        born = CONSOLIDATED if contacts.consolidation else FUNCTIONAL
        self.register_buffer("state", torch.where(mature, born, SILENT).to(torch.uint8))
        self.register_buffer("born_silent", exists & ~mature)
        self.register_buffer("functional_ms", torch.zeros(shape))
        # slow average of the presynaptic trace, kept with its total weight (0 before any input)
        self.register_buffer("slow_sum", torch.zeros(self.n_pre))
        self.register_buffer("slow_weight", torch.zeros(()))
        self.register_buffer("noise_draws", torch.zeros((), dtype=torch.int64))
        if target_factor is None:
            own = self.rule.gating.target if isinstance(self.rule, GatedSTDP) else 0.0
            target_factor = torch.full((self.n_post,), own)
        check_tensor("target_factor", target_factor, "n_post", {"n_post": self.n_post}, self.ampa)
        check_range("target_factor", target_factor)
        target_factor = target_factor.to(self.ampa.dtype)
        self.register_buffer("target_factor", target_factor.clone())

    def _check_receptors(self) -> None:
        if self.receptors is None:
            return
        leaky = self.neuron.model == "leaky"
        if not leaky or not (self.unit is None or isinstance(self.unit, snntorch.Leaky)):
            raise TypeError(
                "receptors: they have kinetics of their own, and need a leaky neuron; give "
                "NeuronConfig(model='leaky') or snntorch's Leaky"
            )
        if self.unit is not None:
            neurons.check_time_constant(self.unit)
            return
        decay = float(torch.tensor(math.exp(-self.dt_ms / self.neuron.tau_mem_ms)))
        require(
            0 < decay < 1,
            "dt_ms",
            self.dt_ms,
            f"use a step in proportion to the time constant of {self.neuron.tau_mem_ms:g} ms",
        )
        if isinstance(self.rule, GatedSTDP) and self.rule.gating.mg_mM != self.receptors.mg_mM:
            raise ValueError(
                f"receptors.mg_mM: {self.receptors.mg_mM:g}, but the rule's gating.mg_mM is "
                f"{self.rule.gating.mg_mM:g}; there is one magnesium concentration"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Refuse values that no layer can have had, before anything is overwritten: torch then
        raises RuntimeError with all of them."""
        errors: list[str] = rest[-1]
        before = len(errors)
        own = dict(self.named_buffers(recurse=False))
        for name, (low, high) in _STORED.items():
            values = state_dict.get(prefix + name)
            try:
                if values is not None:
                    # another device or precision is torch's to convert
                    axes = axes_like(own[name])
                    sizes = dict(zip(axes.split(), own[name].shape, strict=True))
                    check_tensor(prefix + name, values, axes, sizes, values)
                    check_range(prefix + name, values.to(torch.float64), low, high)
            except (TypeError, ValueError) as error:
                errors.append(str(error))
        if len(errors) == before:
            super()._load_from_state_dict(state_dict, prefix, *rest)

    # --- transmission -----------------------------------------------------------------------------

    def transmitted(self) -> Tensor:
        """AMPA weight of each contact, [n_post, n_pre]: 0 for silent ones (`binary`: else 1;
        `graded`: else the occupancy)."""
        open_contacts = (self.state != SILENT) & self.exists
        if self.contacts.transmission == "binary":
            return open_contacts.to(self.ampa.dtype)
        return self.ampa * open_contacts

    def _balance_and_threshold(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_j and the threshold, both [n_post]."""
        if self.unit is not None:
            threshold = torch.as_tensor(self.unit.threshold).to(weights).expand(self.n_post)
            return torch.zeros_like(threshold), threshold
        exists = self.exists.to(weights.dtype)
        alpha = weights.sum(1) / exists.sum(1).clamp_min(1.0)
        net = weights - alpha[:, None] * exists
        return alpha, self.neuron.threshold * net.square().sum(1).sqrt().clamp_min(1.0)

    def _net_input(self, pre: Tensor, weights: Tensor, alpha: Tensor) -> Tensor:
        """I_j(t), [T, B, n_post].

        Excitation and inhibition are summed apart: with one-bit contacts both sums are integers, so
        that they are exact and do not depend on the batch size or the device.
        """
        excitation = _product(pre, weights)
        if self.unit is not None:
            _, threshold = self._balance_and_threshold(weights)
            return excitation * self.contact_current * threshold
        return excitation - alpha * self._afferents(pre)

    def _afferents(self, pre: Tensor) -> Tensor:
        """Spikes that reach each neuron's contacts, silent ones included, [..., n_post] or 1."""
        if bool(self.exists.all()):
            return pre.sum(-1, keepdim=True)
        return pre @ self.exists.to(pre.dtype).T

    def _joins(self, other: SilentSynapseLayer) -> bool:
        """Whether the neurons of both can be integrated as one population, exactly."""
        return (
            self.unit is None
            and self.receptors is None
            and self.contacts.transmission == "binary"
            and (self.neuron, self.dt_ms, self.n_pre) == (other.neuron, other.dt_ms, other.n_pre)
        )

    def respond(self, pre: Tensor, current: Tensor | None = None) -> Response:
        """Simulate T steps from rest: pre [T, B, n_pre] spikes -> `Response`.

        Args:
            current: Injected current in thresholds, [T, B, n_post]; negative inhibits.

        Raises:
            TypeError, ValueError: An argument is no tensor, has another shape or device than the
                layer's, spikes that are neither 0 nor 1, or numbers that are not finite; there is
                no step. An empty batch has an empty answer.
        """
        pre, current = self._checked(pre, current)
        weights = self.transmitted()
        if self.receptors is not None:
            return self._integrate_receptors(pre, current, weights)
        alpha, threshold = self._balance_and_threshold(weights)
        drive = self._net_input(pre, weights, alpha)
        return self._integrate(drive, threshold, None if current is None else current * threshold)

    def clamp(self, current: Tensor) -> Response:
        """Answer to a teaching current alone, from rest: current [T, B, n_post] -> `Response`.

        The electrode's current replaces the synaptic input, and a spike takes the membrane of our
        own neurons back to rest (leaky integrate-and-fire with a fixed reset potential: Dayan &
        Abbott 2001). What a pulse brings beyond the threshold is lost then, so that every pulse of
        more than a threshold is one spike, whatever came before. A snnTorch neuron keeps its own
        reset.

        Args:
            current: In thresholds.

        Raises:
            TypeError, ValueError: As for `respond`.
        """
        current = self._checked_current(current, {})
        _, threshold = self._balance_and_threshold(self.transmitted())
        nothing = torch.zeros_like(current)
        return self._integrate(nothing, threshold, current * threshold, clamped=True)

    def _checked(
        self, pre: Tensor, current: Tensor | None, name: str = "current"
    ) -> tuple[Tensor, Tensor | None]:
        """Both in the contacts' own type; `respond` says what is refused."""
        self._check_precision()
        sizes: Sizes = {"n_pre": self.n_pre}
        check_tensor("pre", pre, "T B n_pre", sizes, self.ampa)
        check_spikes("pre", pre)
        if current is not None:
            current = self._checked_current(current, sizes, name)
        return pre.to(self.ampa.dtype), current

    def _checked_current(self, current: Tensor, sizes: Sizes, name: str = "current") -> Tensor:
        self._check_precision()
        sizes["n_post"] = self.n_post
        check_tensor(name, current, "T B n_post", sizes, self.ampa)
        current = current.to(self.ampa.dtype)
        check_range(name, current)
        return current

    def _check_precision(self) -> None:
        """Contacts, and a snnTorch neuron with them, are all float32 or all float64."""
        numbers = [self.ampa] if self.unit is None else [self.ampa, *self.unit.buffers()]
        for found in (number.dtype for number in numbers if number.ndim):
            if found != self.ampa.dtype or found not in (torch.float32, torch.float64):
                raise TypeError(
                    "layer: expected contacts and neuron in float32, or both in float64, given "
                    f"{self.ampa.dtype} and {found}; convert the whole layer with .float() or "
                    ".double()"
                )

    def _integrate(
        self,
        drive: Tensor,
        threshold: Tensor,
        injected: Tensor | None = None,
        clamped: bool = False,
    ) -> Response:
        """Membranes and spikes for a net input and an electrode's current [T, B, n_post]."""
        unit = self._neuron_of(threshold)
        state = neurons.at_rest(unit, drive[0])
        spikes, peak = [], []
        for t in range(len(drive)):
            at_t = None if injected is None else injected[t]
            fired, at_peak, state = self._fire(unit, drive[t], state, threshold, at_t, clamped)
            spikes.append(fired)
            peak.append(at_peak)
        return self._response(spikes, peak, state, threshold)

    def _response(
        self, spikes: list[Tensor], peak: list[Tensor], state: tuple[Tensor, ...], threshold: Tensor
    ) -> Response:
        found = torch.stack(spikes)
        if self.unit is not None:  # a surrogate of one's own may give other numbers
            check_spikes("neuron: its spikes", found)
        return Response(found, torch.stack(peak) / threshold, state[-1] / threshold)

    def _integrate_receptors(
        self, pre: Tensor, current: Tensor | None, weights: Tensor
    ) -> Response:
        """`_integrate` in the conductance fidelity."""
        alpha, threshold = self._balance_and_threshold(weights)
        unit = self._neuron_of(threshold)
        state = neurons.at_rest(unit, pre.new_zeros(pre.shape[1], self.n_post))
        opened, spikes, peak = open_at_rest(state[-1]), [], []
        membrane, excitation, afferent = self._membrane(unit), pre @ weights.T, self._afferents(pre)
        for t in range(len(pre)):
            drive, opened = self._conductance_drive(
                unit, membrane, excitation[t], afferent[t], alpha, threshold, state[-1], opened
            )
            injected = None if current is None else current[t] * threshold
            fired, at_peak, state = self._fire(unit, drive, state, threshold, injected)
            spikes.append(fired)
            peak.append(at_peak)
        return self._response(spikes, peak, state, threshold)

    def _conductance_drive(
        self,
        unit: nn.Module,
        membrane: Membrane,
        excitation: Tensor,
        afferent: Tensor,
        alpha: Tensor,
        threshold: Tensor,
        v: Tensor,
        opened: Open,
    ) -> tuple[Tensor, Open]:
        """What takes the neuron's membrane where the open receptors take it in one step.

        The neuron's own leak is part of that step, so the drive is the difference: the membrane
        equation is integrated here, threshold and reset stay the neuron's.
        """
        assert self.receptors is not None
        # an AMPA event is worth 1 / threshold (a snnTorch neuron: contact_current) thresholds
        event = 1.0 / threshold if self.unit is None else self.contact_current
        contacts = event / contact_weight(self.receptors, membrane)
        balance = contacts * alpha * afferent if self.unit is None else None
        span = membrane.v_th_mV - membrane.v_rest_mV
        after, opened = balanced_step(
            membrane.v_rest_mV + span * v / threshold,
            opened,
            contacts * excitation,
            contacts * afferent,
            balance,
            membrane,
            self.receptors,
            self.dt_ms,
        )
        beta = torch.as_tensor(unit.beta).to(v)
        return in_thresholds(after, membrane) * threshold - beta * v, opened

    def _membrane(self, unit: nn.Module) -> Membrane:
        """In mV and ms; its time constant is the neuron's own."""
        beta = float(torch.as_tensor(unit.beta).double().mean())
        return Membrane(tau_m_ms=-self.dt_ms / math.log(beta))

    def _neuron_of(self, threshold: Tensor) -> nn.Module:
        if self.unit is not None:
            return self.unit
        return neurons.make_neuron(self.neuron, self.dt_ms, threshold)

    def _fire(
        self,
        unit: nn.Module,
        drive: Tensor,
        state: tuple[Tensor, ...],
        threshold: Tensor,
        injected: Tensor | None = None,
        clamped: bool = False,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """One step: spikes, membrane at its peak, and the state after the reset.

        Args:
            drive, injected: As in `neurons.step`.
            clamped: See `clamp`.
        """
        fired, after = neurons.step(unit, drive, state, injected)
        peak = after[-1]
        if self.unit is None:
            left = peak * (1.0 - fired) if clamped else peak - fired * threshold
            # inhibition cannot drive a membrane below its reversal
            after[-1] = torch.maximum(left, self.neuron.floor * threshold)
        return fired, peak, tuple(after)

    def forward(self, pre: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Postsynaptic spikes [T, B, n_post] for presynaptic spikes [T, B, n_pre].

        Args:
            teacher: Teaching current in thresholds, [T, B, n_post]: in train mode it replaces the
                synaptic input and the contacts learn (`pair`); in eval mode it is added to it.
        """
        if teacher is not None:
            pre, teacher = self._checked(pre, teacher, "teacher")
        if self.training and teacher is not None:
            return self.pair(pre, teacher)[0].spikes
        return self.respond(pre, teacher).spikes

    # --- learning ---------------------------------------------------------------------------------

    @torch.no_grad()
    def pair(
        self, pre: Tensor, current: Tensor | None, presentation_ms: float | None = None
    ) -> tuple[Response, StateChange]:
        """Show a batch with a teaching current, then apply the plasticity that it caused.

        As in pairing experiments in slices (Isaac, Nicoll & Malenka 1995; Liao, Hessler & Malinow
        1995), the electrode decides when the postsynaptic neuron fires: its current replaces the
        synaptic input. Contacts are frozen while the batch is shown and updates are summed over it
        (`update: presentation`).

        Args:
            pre: [T, B, n_pre]. current: In thresholds, [T, B, n_post]; None: no electrode, the
                neurons fire by their own synaptic input.
            presentation_ms: Simulated time from one presentation's start to the next one's;
                default: T steps.

        Returns:
            The response, and what changed from the start of the batch to its end.
        """
        pre, current = self._checked(pre, current)
        n_steps, n_samples = pre.shape[:2]
        if n_samples == 0:
            raise ValueError(f"pre: expected at least one presentation, given {list(pre.shape)}")
        if presentation_ms is None:
            presentation_ms = n_steps * self.dt_ms
        duration("presentation_ms", presentation_ms)
        if self.update == "step" and self.rule is not None:
            return self._pair_online(pre, current, presentation_ms)
        response = self.respond(pre) if current is None else self.clamp(current)
        if self.rule is None:
            nothing = torch.zeros(0, dtype=torch.int64, device=pre.device)
            return response, StateChange(nothing, nothing, nothing.byte(), nothing.byte())
        seen = self._seen(pre, response)
        change, traces = self.rule.presentation(
            self.ampa, self.traces_at_rest(seen), seen, self.dt_ms, self._noise()
        )
        self.keep_slow(traces)
        self._check_change(change)
        self._express(self._reduced(change, n_samples), n_samples * presentation_ms)
        state, functional_ms = states.update_states(
            self.state, self.ampa, self.functional_ms, n_samples * presentation_ms, self.contacts
        )
        return response, self._change_to(state, functional_ms)

    def _pair_online(
        self, pre: Tensor, current: Tensor | None, presentation_ms: float
    ) -> tuple[Response, StateChange]:
        """`pair` with an update in every step; a threshold of ours is set at the batch's start."""
        assert self.rule is not None
        if current is not None and compiled.covers(self):
            # the electrode decides when neurons fire, whatever the contacts do meanwhile
            response = self.clamp(current)
            return response, self._change_to(
                *compiled.learn(self, self._seen(pre, response), presentation_ms)
            )
        n_steps, n_batch = pre.shape[:2]
        before = self.state.clone()
        alpha, threshold = self._balance_and_threshold(self.transmitted())
        unit = self._neuron_of(threshold)
        state = neurons.at_rest(unit, pre.new_zeros(n_batch, self.n_post))
        traces = self.traces_at_rest(
            Signals(pre, pre.new_zeros(n_steps, n_batch, self.n_post), pre)
        )
        spikes, peaks, ones = [], [], torch.ones_like(threshold)
        opened, membrane = open_at_rest(state[-1]), None
        if self.receptors is not None:
            membrane = self._membrane(unit)
        elapsed_ms, by_loop = n_batch * presentation_ms / n_steps, compiled.covers(self)
        for t in range(n_steps):
            injected = None
            if current is None and membrane is not None:
                excitation, afferent = pre[t] @ self.transmitted().T, self._afferents(pre[t])
                drive, opened = self._conductance_drive(
                    unit, membrane, excitation, afferent, alpha, threshold, state[-1], opened
                )
            elif current is None:
                drive = self._net_input(pre[t : t + 1], self.transmitted(), alpha)[0]
            else:
                drive, injected = torch.zeros_like(current[t]), current[t] * threshold
            fired, peak, state = self._fire(
                unit, drive, state, threshold, injected, clamped=injected is not None
            )
            v_mV = membrane_mV(peak / threshold, ones, fired)
            seen = Signals(pre[t], fired, v_mV, target=self.target_factor)
            if by_loop:
                traces = compiled.step(self, traces, seen, elapsed_ms)
            else:
                traces = self._learn_in_step(traces, seen, elapsed_ms)
            spikes.append(fired)
            peaks.append(peak)
        self.keep_slow(traces)
        after = self.state.clone()
        self.state.copy_(before)
        response = self._response(spikes, peaks, state, threshold)
        return response, self._change_to(after, self.functional_ms)

    def _learn_in_step(self, traces: Traces, seen: Signals, elapsed_ms: float) -> Traces:
        """Change of all contacts in one step, seen [B, n]; the traces after it."""
        assert self.rule is not None
        change, traces = self.rule.step(self.ampa, traces, seen, self.dt_ms, self._noise())
        self._check_change(change)
        if compiled.runs_here(self):
            compiled.express(self, change, elapsed_ms, len(seen.pre))
            return traces
        self._express(self._reduced(change, len(seen.pre)), elapsed_ms)
        new, functional_ms = states.update_states(
            self.state, self.ampa, self.functional_ms, elapsed_ms, self.contacts
        )
        self.state.copy_(new)
        self.functional_ms.copy_(functional_ms)
        return traces

    def competition(self, pre: Tensor, post: Tensor) -> Tensor:
        """Presynaptic target f_j <x_i> of the contacts (pre[k], post[k]) in the gated rule; 0 where
        there is none. [n].

        Raises:
            TypeError, ValueError: They are no int64 indices of contacts, one for one.
        """
        sizes: Sizes = {}
        for name, which, size in (("pre", pre, self.n_pre), ("post", post, self.n_post)):
            check_same_kind(name, which, "n", sizes, self.exists.new_zeros((), dtype=torch.int64))
            check_range(name, which, 0, size - 1)
        if float(self.slow_weight) == 0.0:
            return torch.zeros_like(pre, dtype=self.slow_sum.dtype)
        return self.target_factor[post] * self.slow_sum[pre] / self.slow_weight

    def _seen(self, pre: Tensor, response: Response) -> Signals:
        """What the contacts know of a batch of presentations."""
        ones = torch.ones_like(response.final[0])
        v_mV = membrane_mV(response.membrane, ones, response.spikes)
        return Signals(pre, response.spikes, v_mV, target=self.target_factor)

    def keep_slow(self, traces: Traces) -> None:
        if isinstance(self.rule, GatedSTDP):
            self.slow_sum.copy_(traces[0])
            self.slow_weight.copy_(traces[1])

    def traces_at_rest(self, seen: Signals) -> Traces:
        """Fast traces at rest, the gated rule's slow average as it is."""
        assert self.rule is not None
        traces = self.rule.start(seen.pre[0], seen.post[0])
        if isinstance(self.rule, GatedSTDP):
            return (self.slow_sum, self.slow_weight, *traces[2:])
        return traces

    def _noise(self) -> Tensor | None:
        """Standard normal numbers for noisy rules: a stream of its own, whatever the device."""
        assert self.rule is not None
        if not self.rule.noisy:
            return None
        generator = torch.Generator().manual_seed(int(self.noise_draws))
        self.noise_draws += 1
        return torch.randn(self.ampa.shape, generator=generator).to(self.ampa)

    def _check_change(self, change: Tensor) -> None:
        """What a rule wants; NaN would stay in the occupancies for good."""
        name = f"rule: the change by {type(self.rule).__name__}"
        sizes = {"n_post": self.n_post, "n_pre": self.n_pre}
        check_same_kind(name, change, "n_post n_pre", sizes, self.ampa)
        check_computed(name, change)

    def _reduced(self, change: Tensor, n_samples: int) -> Tensor:
        """Rules sum over a batch."""
        return change / n_samples if self.batch_reduction == "mean" else change

    def _express(self, change: Tensor, elapsed_ms: float) -> None:
        """Add a change of occupancy, less in mature contacts, and let the others decay."""
        if self.contacts.mature_plasticity < 1.0:
            change = change * torch.where(
                self.state == SILENT, 1.0, self.contacts.mature_plasticity
            )
        self.ampa.add_(change).clamp_(0.0, 1.0).mul_(self.exists)
        if self.contacts.decay_ms is not None:
            kept = math.exp(-elapsed_ms / self.contacts.decay_ms)
            self.ampa.mul_(torch.where(self.state == CONSOLIDATED, 1.0, kept))

    @torch.no_grad()
    def capture(self) -> StateChange:
        """Consolidate what is functional at a task's end (tag and capture)."""
        if not self.contacts.consolidation:
            return self._change_to(self.state.clone(), self.functional_ms.clone())
        captured = states.capture(self.state, self.functional_ms, self.contacts.tag_ms)
        left = torch.where(captured == FUNCTIONAL, self.functional_ms, 0.0)
        return self._change_to(captured, left)

    def counts(self) -> Tensor:
        """Silent, functional and consolidated contacts, int64 [3]."""
        return states.count_states(self.state, self.exists)

    def _change_to(self, state: Tensor, functional_ms: Tensor) -> StateChange:
        post, pre = torch.nonzero(state != self.state, as_tuple=True)
        change = StateChange(pre, post, self.state[post, pre], state[post, pre])
        self.state.copy_(state)
        self.functional_ms.copy_(functional_ms)
        return change


def _product(pre: Tensor, weights: Tensor) -> Tensor:
    """`pre @ weights.T` for pre [T, B, n_pre] and weights [n_post, n_pre], computed in the steps
    that have spikes: between volleys there are none."""
    busy = pre.flatten(1).any(1)
    if bool(busy.all()):
        return pre @ weights.T
    drive = pre.new_zeros(*pre.shape[:2], len(weights))
    drive[busy] = pre[busy] @ weights.T
    return drive


def respond_together(layers: Sequence[SilentSynapseLayer], pre: Tensor) -> list[Response]:
    """``[layer.respond(pre) for layer in layers]``, one product and one integration for all.

    Sub-networks do not see each other, so that their neurons can be integrated as one population.
    Where sums would not be exact (graded transmission), and for neurons and receptors that cannot
    be joined, the layers answer one by one.
    """
    for layer in layers:
        _check_kind("layers", layer, SilentSynapseLayer)
    first = layers[0] if layers else None
    if first is None or not all(layer._joins(first) for layer in layers):
        return [layer.respond(pre) for layer in layers]
    each = [layer.transmitted() for layer in layers]
    balance = [layer._balance_and_threshold(w) for layer, w in zip(layers, each, strict=True)]
    alpha, threshold = (torch.cat(parts) for parts in zip(*balance, strict=True))
    pre, _ = first._checked(pre, None)
    afferents = pre.sum(-1, keepdim=True)
    if not all(bool(layer.exists.all()) for layer in layers):
        afferents = torch.cat(
            [layer._afferents(pre).expand(*pre.shape[:2], layer.n_post) for layer in layers], 2
        )
    drive = _product(pre, torch.cat(each)) - alpha * afferents
    whole = first._integrate(drive, threshold)
    sizes = [layer.n_post for layer in layers]
    parts = zip(
        *(x.split(sizes, -1) for x in (whole.spikes, whole.membrane, whole.final)), strict=True
    )
    return [Response(*part) for part in parts]


def _check_kind(name: str, given: object, *kinds: type) -> None:
    if not isinstance(given, kinds):
        raise TypeError(f"{name}: expected a {kinds[0].__name__}, given {given!r}")
