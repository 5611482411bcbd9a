"""Expected change of occupancy under the class pairing protocol (docs/model.md, "Pairing")."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_range, check_same_kind
from snn_artsy.checks import between, duration
from snn_artsy.config import EncodingConfig, NeuronConfig
from snn_artsy.physiology import Membrane
from snn_artsy.registry import ENCODERS
from snn_artsy.rules.base import ProductRule, Rule, Signals, all_factors
from snn_artsy.rules.gated import GatedSTDP
from snn_artsy.rules.nmda import SUSTAINED_MS
from snn_artsy.rules.pair import PairSTDP
from snn_artsy.rules.triplet import TripletSTDP
from snn_artsy.synapses import engine_torch
from snn_artsy.synapses.encoding import Presentation
from snn_artsy.synapses.layer import SilentSynapseLayer
from snn_artsy.synapses.pairing import Schedule, each_taught
from snn_artsy.synapses.receptors import DEFAULT_MEMBRANE, membrane_mV


def expected_change(
    rule: PairSTDP | TripletSTDP | GatedSTDP,
    w: Tensor,
    q: Tensor,
    reliability: Tensor,
    schedule: Schedule,
    dt_ms: float,
    slow: Tensor | None = None,
    target: Tensor | None = None,
    membrane: Membrane = DEFAULT_MEMBRANE,
) -> Tensor:
    """E[change of ``w``] in one presentation of an image, [n_post, n_pre].

    Input i fires with probability q_i in each volley step (``poisson``), or q_i(u) in step u
    (`chances`: 0 or 1 in the codes without noise), and neuron j with probability R_j at each of its
    teaching steps, all independently; the potential is at a spike's peak or at rest. The mean
    trains are sent through the rule's own factors. That is exact, not a linearisation, because each
    factor is a product of one step's spike with traces of earlier steps, and traces are updated
    linearly in each single spike (nearest-spike traces too: x + s (1 - x)). So for independent
    spikes

        E[a2 s + a3 o2 s] = (a2 + a3 E[o2]) E[s]

    holds for the triplet as well, and pre- and postsynaptic factors are independent of each other.
    For several images, average this function over them and not q: the triplet's ``a3_minus`` term
    is quadratic in q, and images whose spikes come together in time are not independent inputs.
    With neurons that fire by themselves this does not hold.

    Args:
        rule: Pair, triplet, or graded gating on one of them.
        w: Occupancy, frozen meanwhile, [n_post, n_pre].
        q: [n_pre], or of each step, [T, n_pre].
        reliability: R_j of taught neurons and 0 for the others, [n_post].
        slow: Slow average <x_i> of a gated rule with a target, [n_pre]; None: this image's own mean
            over the presentation.
        target: As in `Signals`.
        membrane: Of the neurons: rest and peak of the potential.

    Raises:
        TypeError: The rule has factors that are not linear in each spike, or an array is no tensor
            of ``w``'s type.
        ValueError: Shapes do not fit together, or a probability lies outside [0, 1].
    """
    q = _check(w, q, reliability, schedule, dt_ms, slow, target)
    base = require_linear("expected_change", rule)
    pre = q[:, None]
    post = (each_taught(schedule, len(reliability)).to(q) * reliability)[:, None]
    gate = _mean_gate(rule, post, dt_ms, membrane) if isinstance(rule, GatedSTDP) else None
    signals = Signals(pre, post, torch.full_like(post, membrane.v_rest_mV), gate)
    f, _ = all_factors(base, base.start(pre[0], post[0]), signals, dt_ms)
    gain_pre, gain_post, loss_pre, loss_post = (factor[:, 0] for factor in f)
    gain = gain_post.T @ gain_pre
    if isinstance(rule, GatedSTDP):
        slow = gain_pre.mean(0) if slow is None else slow
        each = q.new_full(reliability.shape, rule.gating.target) if target is None else target
        gain = gain - (gain_post.sum(0) * each)[:, None] * slow
    up, down = base.dependence().of(w)
    return gain * up - loss_post.T @ loss_pre * down


def require_linear(name: str, rule: object) -> PairSTDP | TripletSTDP:
    """A rule whose change is linear in each single spike, without its gate; ``name`` begins the
    message.

    Raises:
        TypeError: It is not, or nobody knows.
    """
    base = rule.base if isinstance(rule, GatedSTDP) else rule
    if not isinstance(base, PairSTDP | TripletSTDP):
        raise TypeError(f"{name}: not exact for {type(base).__name__}; use pair or triplet")
    if isinstance(rule, GatedSTDP) and rule.gating.insertion != "graded":
        raise TypeError(f"{name}: insertion 'bernoulli' is not a sum over pairs; use graded")
    if isinstance(rule, GatedSTDP) and rule.dendritic:
        raise TypeError(f"{name}: inputs open a gate of depolarisation 'dendrite'; use spike")
    return base


@torch.no_grad()
def pair_in_the_mean(
    layer: SilentSynapseLayer,
    pre: Tensor,
    post: Tensor,
    presentation_ms: float,
    predicted: Tensor | None = None,
) -> None:
    """`SilentSynapseLayer.pair` without spikes: contacts take the mean change of a batch.

    The sum of `expected_change` over its presentations, with the slow average of the layer; states
    and clocks follow. With the error-driven rule, whose dendritic spikes depend on the same inputs,
    it is the mean-field approximation: the mean of the product is that of the means.

    Args:
        layer: With a rule that `require_linear` takes, error-driven, or none.
        pre: Probability of a spike in each step, [T, B, n_pre] (`chances`).
        post: Of the teacher's, [T, B, n_post].
        presentation_ms: As for ``pair``.
        predicted: Of dendritic spikes, [T, B, n_post], for the error-driven rule; None: none.
    """
    rule = layer.rule
    if rule is None:
        return
    assert isinstance(rule, GatedSTDP | ProductRule)
    membrane, gated = layer.neuron.membrane, isinstance(rule, GatedSTDP)
    gate = _mean_gate(rule, post, layer.dt_ms, membrane) if gated else None
    rest = torch.full_like(post, membrane.v_rest_mV)
    signals = Signals(pre, post, rest, gate, layer.target_factor, predicted)
    slow = [layer.get_buffer(f"slow_{name}") for name in rule.slow]
    traces = (*slow, *rule.start(pre[0], post[0])[len(slow) :])
    change, traces = rule.summed(layer.ampa, traces, signals, layer.dt_ms)
    for buffer, trace in zip(slow, traces, strict=False):
        buffer.copy_(trace)
    engine_torch.express(layer.circuit(), change, pre.shape[1], pre.shape[1] * presentation_ms)


def chances(encoding: EncodingConfig, schedule: Schedule, drive: Tensor) -> Tensor:
    """Probability of a spike in each step of an image with this drive (`SpikeEncoder.drive`).

    Args:
        drive: [n_pre] in [0, 1]; of several images, [B, n_pre].

    Returns:
        [T, n_pre] or [T, B, n_pre]; 0 or 1 with ``latency`` and ``current``. Steps of a unit are
        independent of each other with ``poisson`` alone.

    Raises:
        TypeError: A code of one's own, whose noise nobody knows here.
        ValueError: A drive outside [0, 1].
    """
    check_range("drive", drive, 0.0, 1.0)
    rate = encoding.rate_hz * encoding.dt * 1e-3
    if encoding.code in ("poisson", "regular"):  # alike in each step, not from step to step
        return schedule.volley.to(drive).view(-1, *[1] * drive.ndim) * (rate * drive)
    if encoding.code not in ("latency", "current"):
        known = "poisson, regular, latency, current"
        raise TypeError(f"chances: not known for {encoding.code!r}; use {known}")
    several = drive if drive.ndim == 2 else drive[None]
    nobody = torch.zeros(len(several), dtype=torch.int64)
    spikes = ENCODERS[encoding.code](Presentation(several, schedule, rate, 0, 0, nobody)).to(drive)
    return spikes if drive.ndim == 2 else spikes[:, 0]


def sampled_change(
    rule: Rule,
    w: Tensor,
    q: Tensor,
    reliability: Tensor,
    schedule: Schedule,
    dt_ms: float,
    generator: torch.Generator,
    n_presentations: int = 2000,
    slow: Tensor | None = None,
    target: Tensor | None = None,
    current: float = 1.5,
) -> tuple[Tensor, Tensor]:
    """The same for any rule, by drawing presentations: mean change and its standard error.

    Arguments as for `expected_change`; ``w`` stays frozen, rules with noise run without it. The
    potential is that of the layer's default neurons under a teaching current of ``current``
    thresholds. Standard errors come from 20 groups of presentations.

    Args:
        slow: Slow average of a gated rule, kept as it is; None: that of the presentations drawn.

    Raises:
        TypeError, ValueError: As for `expected_change`; ``n_presentations`` is no multiple of 20.
    """
    q = _check(w, q, reliability, schedule, dt_ms, slow, target)
    between("current", current, -1e6, 1e6)
    groups = 20
    if n_presentations < groups or n_presentations % groups:
        raise ValueError(f"n_presentations: {n_presentations}, use a multiple of {groups}")
    n_steps, size, n_post = len(schedule.volley), n_presentations // groups, len(reliability)
    cells = SilentSynapseLayer(1, n_post, dt_ms, NeuronConfig()).to(q)
    if slow is not None and isinstance(rule, GatedSTDP):
        # so slow that a few presentations do not move it
        rule = replace(rule, gating=replace(rule.gating, tau_target_ms=1e15))
    changes = []
    for _ in range(groups):
        drawn = torch.rand(n_steps, size, q.shape[1], generator=generator).to(q)
        pre = (drawn < q[:, None]).to(q)
        drawn = torch.rand(n_steps, size, n_post, generator=generator).to(q)
        chance = reliability * each_taught(schedule, n_post).to(q)
        taught = (drawn < chance[:, None]).to(q)
        answer = cells.clamp(current * taught)
        v_mV = membrane_mV(answer.membrane, torch.ones_like(reliability), answer.spikes)
        signals = Signals(pre, answer.spikes, v_mV, target=target)
        traces = rule.start(pre[0], taught[0])
        if slow is not None and isinstance(rule, GatedSTDP):
            traces = (slow, torch.ones_like(traces[1]), *traces[2:])
        change, _ = rule.presentation(w, traces, signals, dt_ms)
        changes.append(change / size)
    each = torch.stack(changes)
    return each.mean(0), each.std(0) / groups**0.5


def _check(
    w: Tensor,
    q: Tensor,
    reliability: Tensor,
    schedule: Schedule,
    dt_ms: float,
    slow: Tensor | None,
    target: Tensor | None,
) -> Tensor:
    """Refuse what does not fit; the probability of each step, [T, n_pre]."""
    duration("dt_ms", dt_ms)
    sizes: Sizes = {}
    check_same_kind("w", w, "n_post n_pre", sizes, w)
    check_range("w", w)
    sizes["T"] = len(schedule.volley)
    each_step = getattr(q, "ndim", 1) == 2
    axes = (("q", q, "T n_pre" if each_step else "n_pre"), ("reliability", reliability, "n_post"))
    for name, probability, axis in axes:
        check_same_kind(name, probability, axis, sizes, w)
        check_range(name, probability, 0.0, 1.0)
    for name, values, axis in (("slow", slow, "n_pre"), ("target", target, "n_post")):
        if values is not None:
            check_same_kind(name, values, axis, sizes, w)
            check_range(name, values)
    return q if each_step else schedule.volley.to(q)[:, None] * q


def _mean_gate(rule: GatedSTDP, post: Tensor, dt_ms: float, membrane: Membrane) -> Tensor:
    """The gate that turns the mean train into the mean of `nmda.insertion_event`.

    The gate is D_peak at spikes and D_rest elsewhere, so its mean is not what multiplies.
    """
    potentials = torch.tensor([membrane.v_peak_mV, membrane.v_rest_mV]).to(post)
    gate = rule.gated(Signals(potentials, potentials, potentials)).gate
    assert gate is not None
    peak, rest = gate
    lasting = (1.0 - post) * min(dt_ms / SUSTAINED_MS, 1.0)
    return (peak * post + rest * lasting) / (post + lasting)
