"""Inhibitory neurons of sub-networks, in the place of the exact balance (`engine_torch.net_input`).

Each sub-network has leaky integrate-and-fire neurons of its own that inhibit. Presynaptic units
drive them in the step of their spikes (a step is longer than the delay of one more synapse), and
the sub-network's own neurons in the next one. What they pass balances the excitation that all
afferents have in common on average, not in each step; or it is learnt by inhibitory plasticity
(Vogels, Sprekeler, Zenke, Clopath & Gerstner 2011), which keeps each neuron's rate at a target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snn_artsy.config import InhibitionConfig, NeuronConfig
from snn_artsy.rules.base import decay
from snn_artsy.synapses import engine_torch, neurons
from snn_artsy.synapses.circuit import Ongoing, Response
from snn_artsy.synapses.competition import leaky_sum
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.release import Draws

GRID = 2.0**-10
"""Weights are rounded to it where they transmit, so that sums are exact in any batch (contacts)."""


def inhibitory_change(
    inhibitory: Tensor, excitatory: Tensor, dt_ms: float, tau_ms: float, target_hz: float
) -> Tensor:
    """Change of inhibitory synapses by presentations, over the learning rate: [n_i, n_e].

    Vogels et al. 2011: at a presynaptic spike w += eta (x_post - alpha), at a postsynaptic one
    w += eta x_pre, with traces x of ``tau_ms`` and alpha = 2 rho_0 tau. Two spikes in one step are
    one pair. A presentation is short, and alpha is what the rate rho_0 makes of it in its T steps,

        alpha(t) = rho_0 dt sum_s exp(-abs(t - s) dt / tau),   s = 0 .. T - 1,

    (2 rho_0 tau far from its ends, with small steps), so that for independent spikes the mean
    change is 0 where the rate is rho_0.

    Args:
        inhibitory, excitatory: Spikes, [T, B, n_i] and [T, B, n_e].
    """
    ever = leaky_sum(torch.ones_like(excitatory[:, :1, :1]), dt_ms, tau_ms)
    alpha = target_hz * 1e-3 * dt_ms * (ever + ever.flip(0) - 1.0)
    seen = leaky_sum(excitatory, dt_ms, tau_ms) - alpha  # spikes of the step itself, too
    earlier = leaky_sum(inhibitory, dt_ms, tau_ms) - inhibitory
    at_pre = inhibitory.flatten(0, 1).T @ seen.flatten(0, 1)
    return at_pre + earlier.flatten(0, 1).T @ excitatory.flatten(0, 1)


class InhibitoryNeurons:
    """The inhibitory neurons of all sub-networks, and their synapses.

    Args:
        config: Parameters. neuron: Of the sub-networks, whose membrane time constant is theirs.
        seed: Draws which presynaptic units drive which of them.

    Attributes:
        inputs: Of each sub-network's neurons, 0 or 1, [n_pre, n].
        threshold: In presynaptic spikes, [n].
        afferents: Spikes that reach a neuron's contacts in a step on average, [n_post].
        spikes: Of its inhibitory neurons together in a step, on average, [].
        weights: Onto the neurons of each sub-network, from all inhibitory neurons, in contacts:
            [n * sub-networks, n_post].
    """

    def __init__(
        self, config: InhibitionConfig, neuron: NeuronConfig, dt_ms: float, seed: int
    ) -> None:
        self.config, self.dt_ms, self.seed = config, dt_ms, seed
        self.keep = decay(dt_ms, neuron.tau_mem_ms)
        self.tau_mem_ms = neuron.tau_mem_ms
        self.inputs: list[Tensor] = []
        self.threshold: list[Tensor] = []
        self.afferents: list[Tensor] = []
        self.spikes: list[Tensor] = []
        self.weights: list[Tensor] = []

    def add(self, layer: SilentSynapseLayer, batches: Sequence[Tensor]) -> None:
        """Inhibitory neurons of a new sub-network.

        Half the mean of what is summed up on a membrane without spikes is the threshold, so that
        they fire in some proportion to their input at any rate of it.

        Args:
            batches: Spikes of its task's images, [T, B, n_pre] each.
        """
        u, n_images = len(self.inputs), sum(pre.shape[1] for pre in batches)
        self._draw_inputs(u, layer)
        summed = [leaky_sum(pre @ self.inputs[u], self.dt_ms, self.tau_mem_ms) for pre in batches]
        mean = sum(s.double().mean(0).sum(0) for s in summed) / n_images
        assert isinstance(mean, Tensor)
        self.threshold.append((0.5 * mean).clamp_min(1.0).to(layer.ampa.dtype))
        fired, reached = torch.zeros((), dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for pre in batches:
            v = torch.zeros_like(pre[0] @ self.inputs[u])
            for spikes in pre:
                v = self.keep * v + (spikes @ self.inputs[u]) / self.threshold[u]
                fires = (v > 1.0).to(v)
                v = v - fires
                fired = fired + fires.double().sum().cpu()
            anything = Draws(0, 0, torch.arange(pre.shape[1], device=pre.device))
            circuit = layer._shown(layer.per_contact(pre), anything)
            afferents = engine_torch.inhibiting(circuit, layer.per_contact(pre)).double()
            reached = reached + afferents.mean(0).sum(0).cpu()
        n_steps = len(batches[0])
        self.spikes.append((fired / (n_images * n_steps)).clamp_min(1e-6))
        self.afferents.append((reached / n_images).expand(layer.n_post).clone())

    def balance(self, layers: Sequence[SilentSynapseLayer]) -> None:
        """Set what balances excitation on average, of all synapses that are not plastic and of
        plastic ones that are new."""
        n, plastic = self.config.neurons, self.config.source == "plastic"
        for u, layer in enumerate(layers):
            circuit = layer.circuit()
            alpha, _ = engine_torch.balance_and_threshold(
                circuit, engine_torch.transmitted(circuit)
            )
            wanted = alpha.double().cpu() * self.afferents[u]
            rows = [
                (self._share(v, u, len(layers)) * wanted / self.spikes[v]).expand(n, -1)
                for v in range(len(layers))
            ]
            now = torch.cat(rows).to(layer.ampa)
            if plastic and u < len(self.weights):
                known = self.weights[u]
                now = torch.cat([known, torch.zeros_like(now[len(known) :])])
            self.weights[u : u + 1] = [now]

    def respond(
        self, layers: Sequence[SilentSynapseLayer], pre: Tensor, draws: Draws | None
    ) -> tuple[list[Response], Tensor]:
        """Answers of all sub-networks to presynaptic spikes [T, B, n_pre], and the inhibitory
        neurons' spikes, [T, B, n * sub-networks]."""
        circuits = [layer._shown(layer.per_contact(pre), draws) for layer in layers]
        first, sizes = circuits[0], [layer.n_post for layer in layers]
        weights = [engine_torch.transmitted(circuit) for circuit in circuits]
        excitation = torch.cat(
            [
                engine_torch.excited(circuit, layer.per_contact(pre), w)
                for circuit, layer, w in zip(circuits, layers, weights, strict=True)
            ],
            2,
        )
        each = zip(circuits, weights, strict=True)
        threshold = torch.cat([engine_torch.balance_and_threshold(c, w)[1] for c, w in each])
        driven = torch.cat(
            [(pre @ x) / h for x, h in zip(self.inputs, self.threshold, strict=True)], 2
        )
        inhibition = torch.cat([(w / GRID).round() * GRID for w in self.weights], 1)
        unit = engine_torch.neuron_of(first, threshold)
        state = neurons.at_rest(unit, torch.zeros_like(excitation[0]))
        v, back = torch.zeros_like(driven[0]), torch.zeros_like(driven[0])
        spikes, peaks, inhibiting = [], [], []
        for t in range(len(pre)):
            v = self.keep * v + driven[t] + back
            fires = (v > 1.0).to(v)
            v = v - fires
            net = excitation[t] - fires @ inhibition
            fired, peak, state = engine_torch.fire(first, unit, net, state, threshold)
            own = [part.sum(1, keepdim=True) / part.shape[1] for part in fired.split(sizes, 1)]
            back = self.config.feedback * torch.cat(own, 1).repeat_interleave(
                self.config.neurons, 1
            )
            spikes.append(fired)
            peaks.append(peak)
            inhibiting.append(fires)
        after = Ongoing(state, torch.zeros_like(threshold), threshold)
        whole = engine_torch.response(first, spikes, peaks, after)
        parts = (x.split(sizes, -1) for x in (whole.spikes, whole.membrane, whole.final))
        answers = [Response(*part) for part in zip(*parts, strict=True)]
        return answers, torch.stack(inhibiting)

    def learn(self, layers: Sequence[SilentSynapseLayer], pre: Tensor, draws: Draws | None) -> None:
        """Inhibitory plasticity by a batch, whose changes are summed up; it never excites."""
        answers, fired = self.respond(layers, pre, draws)
        c = self.config
        for u, answer in enumerate(answers):
            change = inhibitory_change(fired, answer.spikes, self.dt_ms, c.tau_ms, c.target_hz)
            for v in range(len(layers)):
                if self._share(v, u, len(layers)) > 0:
                    of_v = slice(v * c.neurons, (v + 1) * c.neurons)
                    self.weights[u][of_v].add_(c.rate * change[of_v]).clamp_min_(0.0)

    def operations(self, shown: Tensor, fired: Tensor) -> Tensor:
        """Synaptic operations of inhibition for each sample, [B]: onto the inhibitory neurons, and
        from them.

        Args:
            shown: Spikes of each presynaptic unit, [B, n_pre]. fired: Of each inhibitory neuron,
                [B, n * sub-networks].
        """
        onto = torch.stack([x.sum(1) for x in self.inputs]).sum(0)
        passing = torch.stack([(w != 0).sum(1) for w in self.weights]).sum(0)
        return shown @ onto + fired @ passing.to(fired)

    def _share(self, v: int, u: int, n_networks: int) -> float:
        """Of sub-network u's inhibition, what comes from v's inhibitory neurons."""
        if n_networks == 1:
            return 1.0
        if v == u:
            return 1.0 - self.config.between
        return self.config.between / (n_networks - 1)

    def _draw_inputs(self, u: int, layer: SilentSynapseLayer) -> None:
        # a generator of its own: contacts and order are drawn as without these neurons
        generator = torch.Generator().manual_seed(self.seed + u)
        drawn = torch.rand(layer.n_pre, self.config.neurons, generator=generator)
        self.inputs.append((drawn < self.config.inputs).to(layer.ampa))

    def state_dict(self) -> dict[str, Tensor]:
        """Of each sub-network: thresholds, averages and weights; inputs are drawn again."""
        return {
            f"inhibition.{name}.{u}": values
            for name in ("threshold", "afferents", "spikes", "weights")
            for u, values in enumerate(getattr(self, name))
        }

    def load_state_dict(
        self, state: dict[str, Tensor], layers: Sequence[SilentSynapseLayer]
    ) -> None:
        """Take over `state_dict`; the newest sub-network may have no such neurons yet."""
        n = sum(key.startswith("inhibition.threshold.") for key in state)
        for name in ("threshold", "afferents", "spikes", "weights"):
            setattr(self, name, [state[f"inhibition.{name}.{u}"].clone() for u in range(n)])
        self.inputs = []
        for u, layer in enumerate(layers[:n]):
            self._draw_inputs(u, layer)
