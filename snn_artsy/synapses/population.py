"""The contacts of a layer: which exist, their occupancy and states, and what a checkpoint holds."""

from __future__ import annotations

import math
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
    check_tensor,
)
from snn_artsy.checks import duration, one_of, positive, require, whole_number
from snn_artsy.config import ContactConfig, NeuronConfig, PlasticityConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT
from snn_artsy.physiology import Receptors
from snn_artsy.rules import ErrorDriven, GatedSTDP, Rule, Traces
from snn_artsy.rules.base import check_start, require_rule
from snn_artsy.synapses import engine_numba, engine_torch, neurons, states
from snn_artsy.synapses.circuit import (
    Circuit,
    Contacts,
    StateChange,
)

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


class ContactPopulation(nn.Module):
    """Contacts with their neurons and rule, as `SilentSynapseLayer` holds them and documents them.

    Here they are made, checked, loaded and counted, and change state between two presentations;
    nothing is shown to them.
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
        first_neuron: int = 0,
    ) -> None:
        super().__init__()
        self.n_pre, self.n_post = whole_number("n_pre", n_pre, 1), whole_number("n_post", n_post, 1)
        self.first_neuron = whole_number("first_neuron", first_neuron, 0)
        duration("dt_ms", dt_ms)
        one_of("update", update, ("presentation", "step"))
        one_of("batch_reduction", batch_reduction, ("sum", "mean"))
        check_kind("contacts", contacts, ContactConfig)
        check_kind("receptors", receptors, Receptors, type(None))
        check_kind("generator", generator, torch.Generator, type(None))
        require(
            generator is None or generator.device.type == "cpu",
            "generator",
            str(generator and generator.device),
            "use one on the CPU, so that contacts are the same on every device",
        )
        self.dt_ms = float(dt_ms)
        self.unit: nn.Module | None = None
        self.neuron = NeuronConfig()
        if isinstance(neuron, NeuronConfig):
            self.neuron = neuron
        elif neuron is not None:
            neurons.check_unit(neuron, self.n_post)
            self.unit = neuron
            neurons.forget(neuron)
        built = rule.build(self.neuron.membrane) if isinstance(rule, PlasticityConfig) else rule
        self.rule = built
        if self.rule is not None:
            require_rule("rule", self.rule)
        if isinstance(self.rule, GatedSTDP) and self.rule.gating.insertion == "bernoulli":
            sums = "stochastic insertion fills a contact or not: use sum"
            require(batch_reduction == "sum", "batch_reduction", batch_reduction, sums)
        self.contacts, self.update = contacts, update
        if self.unit is not None and contacts.fails:
            raise TypeError("neuron: contacts that fail need a NeuronConfig, not a snnTorch neuron")
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
        shape = (self.n_post, self.n_sites)
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
        born, silent = CONSOLIDATED if contacts.consolidation else FUNCTIONAL, SILENT
        if contacts.transmission == "plain":
            born = silent = FUNCTIONAL
        codes = torch.where(mature, born, silent) * exists
        self.register_buffer("state", codes.to(torch.uint8))
        self.register_buffer("born_silent", exists & ~mature & (codes == SILENT))
        self.register_buffer("functional_ms", torch.zeros(shape))
        # slow average of the presynaptic trace, kept with its total weight (0 before any input)
        self.register_buffer("slow_sum", torch.zeros(self.n_sites))
        self.register_buffer("slow_weight", torch.zeros(()))
        if self.rule is not None:  # slow state of a rule of one's own
            start = check_start(self.rule, self.n_sites, self.n_post)
            for name, trace in zip(self.rule.slow, start, strict=False):
                if f"slow_{name}" not in self._buffers:
                    self.register_buffer(f"slow_{name}", trace.clone())
                self._check_slow(name, trace)
        # where the noise of this layer begins: anywhere, so that layers do not share theirs
        noise = torch.zeros((), dtype=torch.int64)
        if contacts.fails or (self.rule is not None and self.rule.noisy):
            noise = torch.randint(2**61, (), generator=generator)
        self.register_buffer("noise_draws", noise)
        if target_factor is None:
            own = self.rule.gating.target if isinstance(self.rule, GatedSTDP) else 0.0
            own = self.rule.target if isinstance(self.rule, ErrorDriven) else own
            target_factor = torch.full((self.n_post,), own)
        check_tensor("target_factor", target_factor, "n_post", {"n_post": self.n_post}, self.ampa)
        check_range("target_factor", target_factor)
        target_factor = target_factor.to(self.ampa.dtype)
        self.register_buffer("target_factor", target_factor.clone())

    def _check_receptors(self) -> None:
        if self.receptors is not None:
            leaky = self.neuron.model == "leaky"
            if not leaky or not (self.unit is None or isinstance(self.unit, snntorch.Leaky)):
                raise TypeError(
                    "receptors: they have kinetics of their own, and need a leaky neuron; give "
                    "NeuronConfig(model='leaky') or snntorch's Leaky"
                )
            if isinstance(self.rule, GatedSTDP) and self.rule.gating.mg_mM != self.receptors.mg_mM:
                raise ValueError(
                    f"receptors.mg_mM: {self.receptors.mg_mM:g}, but the rule's gating.mg_mM is "
                    f"{self.rule.gating.mg_mM:g}; there is one magnesium concentration"
                )
        elif not (isinstance(self.rule, GatedSTDP) and self.rule.dendritic):
            return
        # both integrate a membrane by the neuron's time constant
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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Refuse values that no layer can have had, before anything is overwritten: torch then
        raises RuntimeError with all of them."""
        errors: list[str] = rest[-1]
        before = len(errors)
        own = dict(self.named_buffers(recurse=False))
        slow = {name: (-LARGEST, LARGEST) for name in own if name.startswith("slow_")}
        for name, (low, high) in {**slow, **_STORED}.items():
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

    @property
    def n_sites(self) -> int:
        """Contacts of a neuron, those that do not exist included: columns of all buffers."""
        return self.n_pre * self.contacts.per_connection

    def per_contact(self, pre: Tensor) -> Tensor:
        """Spikes, or their means, at each site: [..., n_pre] -> [..., n_sites]."""
        n = self.contacts.per_connection
        return pre if n == 1 else pre.repeat_interleave(n, -1)

    def circuit(self) -> Circuit:
        """What an engine is given of this layer; its contacts are the layer's own."""
        return Circuit(
            Contacts(self.exists, self.ampa, self.state, self.functional_ms),
            self.contacts, self.neuron, self.unit, self.dt_ms, self.rule, self.target_factor,
            self.receptors, self.contact_current, self.batch_reduction == "mean", self._noise,
        )  # fmt: skip

    def takes_reference(self) -> str | None:
        """Why `update: step` runs in plain torch (`engine_torch`) for this layer; None: it runs
        compiled (`engine_numba`), or there is no rule."""
        return None if self.rule is None else engine_numba.covers(self.circuit())

    def transmitted(self) -> Tensor:
        """AMPA weight of each contact, [n_post, n_pre]: 0 for silent ones (`binary`: else 1;
        `graded` and `plain`: else the occupancy)."""
        return engine_torch.transmitted(self.circuit())

    def competition(self, pre: Tensor, post: Tensor) -> Tensor:
        """Presynaptic target f_j <x_i> of the contacts (pre[k], post[k]) in the gated rule; 0 where
        there is none. [n].

        Raises:
            TypeError, ValueError: They are no int64 indices of contacts, one for one.
        """
        sizes: Sizes = {}
        for name, which, size in (("pre", pre, self.n_sites), ("post", post, self.n_post)):
            check_same_kind(name, which, "n", sizes, self.exists.new_zeros((), dtype=torch.int64))
            check_range(name, which, 0, size - 1)
        if float(self.slow_weight) == 0.0:
            return torch.zeros_like(pre, dtype=self.slow_sum.dtype)
        return self.target_factor[post] * self.slow_sum[pre] / self.slow_weight

    def counts(self) -> Tensor:
        """Silent, functional and consolidated contacts, int64 [3]."""
        return states.count_states(self.state, self.exists)

    @torch.no_grad()
    def capture(self) -> StateChange:
        """Consolidate what is functional at a task's end (tag and capture)."""
        before = self.state.clone()
        if self.contacts.consolidation:
            captured = states.capture(before, self.functional_ms, self.contacts.tag_ms)
            self.functional_ms.mul_(captured == FUNCTIONAL)
            self.state.copy_(captured)
        return self._change_since(before)

    @torch.no_grad()
    def labilise(self) -> StateChange:
        """Make contacts that learning consolidated functional again.

        Reactivated memories can change until they are captured anew (reconsolidation: Nader, Schafe
        & LeDoux 2000)."""
        before = self.state.clone()
        self.state.masked_fill_((before == CONSOLIDATED) & self.born_silent, FUNCTIONAL)
        return self._change_since(before)

    @torch.no_grad()
    def silence(self) -> StateChange:
        """Take the AMPA receptors of contacts that were born silent and have matured.

        Retrieval of a memory does so to the synapses that were made for it (re-silencing: Wright et
        al. 2020); those born mature stay as they are."""
        before = self.state.clone()
        matured = (before != SILENT) & self.born_silent
        self.ampa.masked_fill_(matured, 0.0)
        self.functional_ms.masked_fill_(matured, 0.0)
        self.state.masked_fill_(matured, SILENT)
        return self._change_since(before)

    def _change_since(self, before: Tensor) -> StateChange:
        post, pre = torch.nonzero(self.state != before, as_tuple=True)
        return StateChange(pre, post, before[post, pre], self.state[post, pre])

    def _slow_buffers(self) -> list[Tensor]:
        """The rule's slow traces, in its order."""
        names = () if self.rule is None else self.rule.slow
        return [getattr(self, f"slow_{name}") for name in names]

    def _keep_slow(self, traces: Traces | None) -> None:
        if self.rule is None or traces is None:
            return
        for name, trace in zip(self.rule.slow, traces, strict=False):
            self._check_slow(name, trace)
            getattr(self, f"slow_{name}").copy_(trace)

    def _check_slow(self, name: str, trace: Tensor) -> None:
        """Slow state has the shape that it is kept in, and is finite: NaN would stay for good."""
        shown = f"rule: slow trace {name!r} of {type(self.rule).__name__}"
        axes = axes_like(kept := getattr(self, f"slow_{name}"))
        check_tensor(shown, trace, axes, dict(zip(axes.split(), kept.shape, strict=True)), kept)
        check_computed(shown, trace)

    def _with_slow(self, traces: Traces) -> Traces:
        """Fast traces as they are, slow ones as the layer keeps them."""
        slow = self._slow_buffers()
        return (*slow, *traces[len(slow) :])

    def _noise(self) -> Tensor | None:
        """Standard normal numbers for noisy rules: a stream of its own, whatever the device."""
        assert self.rule is not None
        if not self.rule.noisy:
            return None
        generator = torch.Generator().manual_seed(int(self.noise_draws))
        self.noise_draws += 1
        return torch.randn(self.ampa.shape, generator=generator).to(self.ampa)

    def _unit(self) -> nn.Module:
        return engine_torch.neuron_of(self.circuit(), self.ampa.new_ones(self.n_post))

    def _check_precision(self) -> None:
        """Contacts, and a snnTorch neuron with them, are all float32 or all float64."""
        numbers = [self.ampa] if self.unit is None else [self.ampa, *self.unit.buffers()]
        for dtype in (number.dtype for number in numbers if number.ndim):
            if dtype != self.ampa.dtype or dtype not in (torch.float32, torch.float64):
                raise TypeError(
                    "layer: expected contacts and neuron in float32, or both in float64, given "
                    f"{self.ampa.dtype} and {dtype}; convert the whole layer with .float() or "
                    ".double()"
                )


def check_kind(name: str, given: object, *kinds: type) -> None:
    if not isinstance(given, kinds):
        raise TypeError(f"{name}: expected a {kinds[0].__name__}, given {given!r}")
