"""A layer of silent synapses: an ordinary torch module between two populations of spikes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from snn_artsy.arrays import (
    Sizes,
    check_range,
    check_same_kind,
    check_spikes,
    check_tensor,
)
from snn_artsy.checks import duration
from snn_artsy.rules import Signals
from snn_artsy.rules.base import check_traces
from snn_artsy.synapses import apart, engine_numba, engine_torch, neurons
from snn_artsy.synapses.circuit import (
    Circuit,
    Ongoing,
    Response,
    StateChange,
    StateEvents,
)
from snn_artsy.synapses.competition import leaky_sum
from snn_artsy.synapses.population import ContactPopulation, check_kind
from snn_artsy.synapses.receptors import dendrite_mV, membrane_mV
from snn_artsy.synapses.release import Draws, Released, release_chances


class SilentSynapseLayer(ContactPopulation):
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

    With ``contacts.per_connection`` n, column i n + k of the buffers is contact k of input i. Where
    contacts can fail (``contacts.fails``) a neuron gets what is released at its own contacts, by
    ``draws`` that each call is given, or by new ones at each call; inhibition balances what is
    released on average, and the threshold is that of the mean, too. No gradient passes such
    contacts; `simulate` and snnTorch neurons of one's own refuse them.

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
            in a compiled loop unless `takes_reference` says why not.
        contact_current: See above; with a snnTorch neuron only, default 0.1.
        receptors: Conductance fidelity: AMPA, NMDA (silent contacts have it too) and inhibition in
            nS on a membrane in mV, in place of dimensionless currents; an AMPA event's charge is
            that of the current fidelity (`conductance.contact_weight`). With leaky neurons.
        batch_reduction: Changes of a batch are summed, or averaged.
        target_factor: Presynaptic target of each neuron, in multiples of the slow average,
            [n_post]; default: the rule's own for all.
        generator: Draws which contacts exist and are silent, and where the noise begins of rules
            and contacts that have some; on the CPU. Default: torch's own.
        first_neuron: Number of the first neuron, by which layers with the same ``draws`` have
            releases of their own.

    Raises:
        ConfigError: A value that cannot be used.
        TypeError: Something of another kind than it should be; a neuron that the layer cannot use.
    """

    # --- transmission -----------------------------------------------------------------------------

    def _joins(self, other: SilentSynapseLayer) -> bool:
        """Whether the neurons of both can be integrated as one population, exactly."""
        return (
            self.unit is None
            and self.receptors is None
            and not self.contacts.fails
            and self.contacts.transmission == "binary"
            and (self.neuron, self.dt_ms, self.n_pre) == (other.neuron, other.dt_ms, other.n_pre)
        )

    def respond(
        self, pre: Tensor, current: Tensor | None = None, draws: Draws | None = None
    ) -> Response:
        """Simulate T steps from rest: pre [T, B, n_pre] spikes -> `Response`.

        Args:
            current: Injected current in thresholds, [T, B, n_post]; negative inhibits.
            draws: Of releases, where contacts fail.

        Raises:
            TypeError, ValueError: An argument is no tensor, has another shape or device than the
                layer's, spikes that are neither 0 nor 1, or numbers that are not finite; there is
                no step. An empty batch has an empty answer.
        """
        pre, current = self._checked(pre, current)
        circuit = self._shown(pre, draws)
        state = engine_torch.begin(circuit, pre.shape[1])
        return engine_numba.transmit(circuit, state, pre, current)[0]

    def _shown(self, pre: Tensor, draws: Draws | None) -> Circuit:
        """The circuit with what spikes at its sites [T, B, n_sites] release."""
        circuit = self.circuit()
        if not self.contacts.fails:
            return circuit
        if draws is None:
            sample = torch.arange(pre.shape[1], device=pre.device)
            draws = Draws(int(self.noise_draws), 0, sample)
            self.noise_draws += 1
        chances = release_chances(pre, self.contacts, self.dt_ms)
        released = Released(pre, chances, draws, self.first_neuron)
        inhibiting = engine_torch.afferents(circuit, (pre * chances).double()).to(pre.dtype)
        return replace(circuit, released=released, inhibiting=inhibiting)

    def arrivals(self, pre: Tensor, contacts: Tensor, draws: Draws | None = None) -> Tensor:
        """Spikes that release at some contacts, [T, B, n].

        Args:
            pre: [T, B, n_pre]. contacts: (post, site) of each, int64 [n, 2]. draws: Of releases.
        """
        sites, (post, site) = self.per_contact(pre), contacts.T
        if not self.contacts.fails:
            return sites[:, :, site]
        released = self._shown(sites, draws).released
        assert released is not None
        return released.at_contacts(post, site)

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
        circuit = self.circuit()
        state = engine_torch.begin(circuit, current.shape[1])
        return engine_numba.transmit(circuit, state, None, current, clamped=True)[0]

    def _checked(
        self, pre: Tensor, current: Tensor | None, name: str = "current"
    ) -> tuple[Tensor, Tensor | None]:
        """Spikes at each site, and the current, in the contacts' own type; `respond` says what is
        refused."""
        self._check_precision()
        sizes: Sizes = {"n_pre": self.n_pre}
        check_tensor("pre", pre, "T B n_pre", sizes, self.ampa)
        check_spikes("pre", pre)
        if current is not None:
            current = self._checked_current(current, sizes, name)
        return self.per_contact(pre.to(self.ampa.dtype)), current

    def _checked_current(self, current: Tensor, sizes: Sizes, name: str = "current") -> Tensor:
        self._check_precision()
        sizes["n_post"] = self.n_post
        check_tensor(name, current, "T B n_post", sizes, self.ampa)
        current = current.to(self.ampa.dtype)
        check_range(name, current)
        return current

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

    @torch.no_grad()
    def foresee(self, pre: Tensor, steps: Tensor, draws: Draws | None = None) -> Tensor:
        """Dendritic potential that the contacts cause, in thresholds, [n, B, n_post].

        The net input, leaky with the membrane's time constant and without spikes: what a neuron can
        know of its teacher beforehand (Urbanczik & Senn 2014). It is that of the dimensionless
        currents in both fidelities (our definition).

        Args:
            pre: [T, B, n_pre]. steps: Those at whose end it is read, int64 [n].
            draws: Of releases, where contacts fail.

        Raises:
            TypeError, ValueError: As for `respond`; ``steps`` are none of T.
        """
        pre, _ = self._checked(pre, None)
        check_same_kind("steps", steps, "n", {}, self.exists.new_zeros((), dtype=torch.int64))
        check_range("steps", steps, 0, len(pre) - 1)
        circuit = self._shown(pre, draws)
        if circuit.released is not None:
            return self._dendrite(circuit, pre)[steps]
        # the potential is linear in spikes: a sum over few steps in place of one for every step
        return self.potential(self.dendritic(pre)[steps])

    def _dendrite(self, circuit: Circuit, pre: Tensor) -> Tensor:
        """Dendritic potential in every step, [T, B, n_post], for spikes at each site."""
        if circuit.released is None:
            return self.potential(self.dendritic(pre))
        weights = engine_torch.transmitted(circuit)
        state = Ongoing((), *engine_torch.balance_and_threshold(circuit, weights))
        net = engine_torch.net_input(circuit, state, pre, weights)
        return self.dendritic(net) / state.threshold

    def dendritic(self, pre: Tensor) -> Tensor:
        """Presynaptic spikes, or their means, as a dendrite sums them up: leaky with the membrane's
        time constant, [T, B, n] alike."""
        membrane = engine_torch.membrane_of(self.circuit(), self._unit())
        return leaky_sum(pre, self.dt_ms, membrane.tau_m_ms)

    def potential(self, sums: Tensor) -> Tensor:
        """Net input in thresholds for such sums, [n, B, n_sites] -> [n, B, n_post]: `foresee`
        without its checks."""
        circuit = self.circuit()
        weights = engine_torch.transmitted(circuit)
        balance, threshold = engine_torch.balance_and_threshold(circuit, weights)
        state = Ongoing((), balance, threshold)
        return engine_torch.net_input(circuit, state, sums, weights) / threshold

    # --- learning ---------------------------------------------------------------------------------

    @torch.no_grad()
    def simulate(
        self, pre: Tensor, current: Tensor | None = None, state: Ongoing | None = None
    ) -> tuple[Response, Ongoing, StateEvents]:
        """Continuous activity: like `forward`, but membranes, traces, receptors and clocks go on.

        Minutes of activity are simulated in pieces of a few seconds each, with the result of one
        piece, bit for bit on the CPU::

            state = None
            for pre in pieces:
                response, state, events = layer.simulate(pre, state=state)

        In train mode contacts learn in every step; in eval mode they only transmit. A teaching
        ``current`` replaces the synaptic input in train mode, and is added to it in eval mode.
        Thresholds and inhibition are those of the contacts when the simulation began
        (``state=None``): homeostasis is slower than what is simulated (our definition).

        Args:
            pre: Spikes of this piece, [T, B, n_pre]. current: In thresholds, [T, B, n_post].
            state: Where the last piece ended; None: at rest.

        Returns:
            The response, where this piece ended, and the contacts that changed state in it, whose
            steps count from its start.

        Raises:
            TypeError, ValueError: As for `respond`; ``state`` is another layer's, or of a batch of
                another size.
        """
        return self._simulated(*self._checked_piece(pre, current, state))

    def _checked_piece(
        self, pre: Tensor, current: Tensor | None, state: Ongoing | None
    ) -> tuple[Tensor, Tensor | None, Ongoing | None]:
        """What `simulate` is given."""
        if self.contacts.fails:
            raise ValueError(
                "layer: contacts fail in presentations only (respond, pair); for continuous "
                "activity use a release_probability of 1 and no tau_rec_ms"
            )
        pre, current = self._checked(pre, current)
        _check_shown(pre)
        return pre, current, None if state is None else self._checked_state(state, pre)

    @torch.no_grad()
    def _simulated(
        self, pre: Tensor, current: Tensor | None, state: Ongoing | None
    ) -> tuple[Response, Ongoing, StateEvents]:
        """`simulate` without its checks."""
        n_batch = pre.shape[1]
        state = self._begun(n_batch) if state is None else state
        if self.training and self.rule is not None:
            response, state, events = self._learnt(state, pre, current, n_batch * self.dt_ms)
            self._keep_slow(state.traces)
            return response, state, events
        response, state = engine_numba.transmit(self.circuit(), state, pre, current)
        nothing = torch.zeros(0, dtype=torch.int64, device=pre.device)
        codes = nothing.to(torch.uint8)
        return response, state, StateEvents(nothing, nothing, codes, codes, nothing)

    def _checked_state(self, state: object, pre: Tensor) -> Ongoing:
        check_kind("state", state, Ongoing)
        assert isinstance(state, Ongoing)
        n_variables = len(neurons.at_rest(self._unit(), self.ampa))
        if len(state.neuron) != n_variables:
            raise ValueError(
                f"state: expected {n_variables} state variables of each neuron, given "
                f"{len(state.neuron)}; it is that of another kind of neuron"
            )
        opened = [x for receptors in state.opened or () for x in receptors]
        dendrite = [] if state.dendrite is None else [state.dendrite]
        sizes: Sizes = {"B": pre.shape[1], "n_pre": self.n_sites, "n_post": self.n_post}
        for axes, parts in (
            ("B n_post", (*state.neuron, *opened, *dendrite)),
            ("n_post", (state.balance, state.threshold)),
            ("n_post n_pre", state.since or ()),
        ):
            for values in parts:
                check_same_kind("state", values, axes, sizes, self.ampa)
        if self.rule is not None and state.traces is not None:
            post = state.neuron[-1]
            check_traces(self.rule, state.traces, Signals(pre[0], post, post), name="state")
        return state

    @torch.no_grad()
    def pair(
        self,
        pre: Tensor,
        current: Tensor | None,
        presentation_ms: float | None = None,
        predicted: Tensor | None = None,
        draws: Draws | None = None,
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
            predicted: Spikes that the neurons' own contacts foresaw (`competition`), 0 or 1,
                [T, B, n_post], for the error-driven rule; None: none.
            draws: Of releases, where contacts fail.

        Returns:
            The response, and what changed state: from the start of the batch to its end, or with
            `update: step` each change with its step (`StateEvents`).
        """
        pre, current, elapsed_ms = self._checked_batch(pre, current, presentation_ms, predicted)
        n_samples, circuit = pre.shape[1], self._shown(pre, draws)
        if self.update == "step" and self.rule is not None:
            if circuit.released is not None:
                circuit = replace(circuit, predicted=predicted)
                slow = self._slow_buffers()
                states = apart.begin(circuit, slow, n_samples)
                response, states, events = apart.learn_steps(
                    circuit, states, current, elapsed_ms / len(pre)
                )
                self._keep_slow(apart.slow_after(slow, states))
                return response, events
            state = self._begun(n_samples)
            response, state, events = self._learnt(
                state, pre, current, elapsed_ms / len(pre), predicted
            )
            self._keep_slow(state.traces)
            return response, events
        if current is None:
            state = engine_torch.begin(circuit, n_samples)
            response = engine_numba.transmit(circuit, state, pre, None)[0]
        else:
            response = self.clamp(current)
        if circuit.dendritic:
            response = replace(response, dendrite=self._dendrite(circuit, pre))
        before = self.state.clone()
        if self.rule is None:
            return response, self._change_since(before)
        signals = self._signals(pre, response)._replace(predicted=predicted)
        if circuit.released is not None:
            circuit = replace(circuit, predicted=predicted)
            slow = self._slow_buffers()
            self._keep_slow(apart.learn_presentations(circuit, slow, signals, elapsed_ms))
            return response, self._change_since(before)
        traces = self._with_slow(self.rule.start(pre[0], signals.post[0]))
        change, traces = self.rule.presentation(
            self.ampa, traces, signals, self.dt_ms, self._noise()
        )
        self._keep_slow(traces)
        engine_torch.express(self.circuit(), change, n_samples, elapsed_ms)
        return response, self._change_since(before)

    @torch.no_grad()
    def pair_in_steps(
        self,
        pre: Tensor,
        current: Tensor | None,
        presentation_ms: float | None = None,
        predicted: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Iterator[Response]:
        """`pair` with `update: step`, one step at a time: the same numbers on the CPU, and the
        contacts can be looked at in between (`tracing`)."""
        pre, current, elapsed_ms = self._checked_batch(pre, current, presentation_ms, predicted)
        circuit = replace(self._shown(pre, draws), predicted=predicted)
        if circuit.released is not None:
            slow = self._slow_buffers()
            states = apart.begin(circuit, slow, pre.shape[1])
            for t in range(len(pre)):
                one, step_ms = slice(t, t + 1), elapsed_ms / len(pre)
                response, states, _ = apart.learn_steps(circuit, states, current, step_ms, one)
                yield response
            self._keep_slow(apart.slow_after(slow, states))
            return
        state = self._begun(pre.shape[1])
        for t in range(len(pre)):
            one = slice(t, t + 1)
            response, state, _ = self._learnt(
                state, pre[one], None if current is None else current[one],
                elapsed_ms / len(pre), None if predicted is None else predicted[one],
            )  # fmt: skip
            yield response
        self._keep_slow(state.traces)

    def _checked_batch(
        self,
        pre: Tensor,
        current: Tensor | None,
        presentation_ms: float | None,
        predicted: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, float]:
        """What `pair` is given, and the simulated time of it all (ms)."""
        pre, current = self._checked(pre, current)
        n_steps, n_samples = pre.shape[:2]
        _check_shown(pre)
        if presentation_ms is None:
            presentation_ms = n_steps * self.dt_ms
        duration("presentation_ms", presentation_ms)
        if predicted is not None:
            sizes: Sizes = {"T": n_steps, "B": n_samples, "n_post": self.n_post}
            check_same_kind("predicted", predicted, "T B n_post", sizes, self.ampa)
            check_spikes("predicted", predicted)
        return pre, current, n_samples * presentation_ms

    # What torch.compile traces are no numbers to Numba.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _learnt(
        self,
        state: Ongoing,
        pre: Tensor,
        current: Tensor | None,
        elapsed_ms: float,
        predicted: Tensor | None = None,
    ) -> tuple[Response, Ongoing, StateEvents]:
        """Steps in which the contacts change, by the engine that takes them."""
        circuit = replace(self.circuit(), predicted=predicted)
        engine = engine_torch if engine_numba.covers(circuit) else engine_numba
        return engine.learn(circuit, state, pre, current, elapsed_ms)

    def _begun(self, n_batch: int) -> Ongoing:
        """At rest, the rule's slow state as it is."""
        state = engine_torch.begin(self.circuit(), n_batch)
        if self.rule is None:
            return state
        like = self.ampa
        traces = self.rule.start(
            like.new_zeros(n_batch, self.n_sites), like.new_zeros(n_batch, self.n_post)
        )
        return state.after(0, state.neuron, traces=self._with_slow(traces))

    def _signals(self, pre: Tensor, response: Response) -> Signals:
        """What the contacts know of a batch of presentations."""
        ones = torch.ones_like(response.final[0])
        membrane = self.neuron.membrane
        v_mV = membrane_mV(response.membrane, ones, response.spikes, membrane)
        if response.dendrite is not None:
            v_mV = dendrite_mV(response.dendrite, response.spikes, membrane)
        return Signals(pre, response.spikes, v_mV, target=self.target_factor)


def _check_shown(pre: Tensor) -> None:
    if pre.shape[1] == 0:
        raise ValueError(f"pre: expected at least one presentation, given {list(pre.shape)}")
