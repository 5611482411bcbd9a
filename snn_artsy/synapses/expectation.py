"""Expected change of occupancy under the class pairing protocol (docs/model.md, "Pairing")."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_artsy.rules.base import Signals, all_factors
from snn_artsy.rules.gated import GatedSTDP
from snn_artsy.rules.nmda import SUSTAINED_MS, V_PEAK_MV, V_REST_MV, nmda_gate
from snn_artsy.rules.pair import PairSTDP
from snn_artsy.rules.triplet import TripletSTDP
from snn_artsy.synapses.pairing import Schedule


def expected_change(
    rule: PairSTDP | TripletSTDP | GatedSTDP,
    w: Tensor,
    q: Tensor,
    reliability: Tensor,
    schedule: Schedule,
    dt_ms: float,
    slow: Tensor | None = None,
    target: Tensor | None = None,
) -> Tensor:
    """E[change of ``w``] in one presentation of the ``poisson`` code, [n_post, n_pre].

    Input i fires with probability q_i in each volley step and neuron j with probability R_j at each
    teaching step, all independently; the potential is at a spike's peak or at rest. The mean trains
    are sent through the rule's own factors. That is exact, not a linearisation, because each factor
    is a product of one step's spike with traces of earlier steps, and traces are updated linearly
    in each single spike (nearest-spike traces too: x + s (1 - x)). So for independent spikes

        E[a2 s + a3 o2 s] = (a2 + a3 E[o2]) E[s]

    holds for the triplet as well, and pre- and postsynaptic factors are independent of each other.
    For several images the triplet's ``a3_minus`` term is quadratic in q: average this function over
    the images then, not q. With latency or current code, or with neurons that fire by themselves,
    spikes are not independent and this does not hold.

    Args:
        rule: Pair, triplet, or graded gating on one of them.
        w: Occupancy, frozen meanwhile, [n_post, n_pre].
        q: [n_pre]. reliability: R_j of taught neurons and 0 for the others, [n_post].
        slow: Slow average <x_i> of a gated rule with a target, [n_pre]; None: this image's own mean
            over the presentation.
        target: As in `Signals`.

    Raises:
        TypeError: The rule has factors that are not linear in each spike.
    """
    base = rule.base if isinstance(rule, GatedSTDP) else rule
    if not isinstance(base, PairSTDP | TripletSTDP):
        raise TypeError(
            f"expected_change: not exact for {type(base).__name__}; use pair or triplet"
        )
    if isinstance(rule, GatedSTDP) and rule.gating.insertion != "graded":
        raise TypeError(
            "expected_change: insertion 'bernoulli' is not a sum over pairs; use graded"
        )
    pre = schedule.volley.to(q)[:, None, None] * q
    post = schedule.teach.to(q)[:, None, None] * reliability
    gate = _mean_gate(rule, post, dt_ms) if isinstance(rule, GatedSTDP) else None
    f, _ = all_factors(base, Signals(pre, post, torch.full_like(post, V_REST_MV), gate), dt_ms)
    gain_pre, gain_post, loss_pre, loss_post = (factor[:, 0] for factor in f)
    gain = gain_post.T @ gain_pre
    if isinstance(rule, GatedSTDP):
        slow = gain_pre.mean(0) if slow is None else slow
        each = q.new_full(reliability.shape, rule.gating.target) if target is None else target
        gain = gain - (gain_post.sum(0) * each)[:, None] * slow
    up, down = base.bounds(w)
    return gain * up - loss_post.T @ loss_pre * down


def _mean_gate(rule: GatedSTDP, post: Tensor, dt_ms: float) -> Tensor:
    """The gate that turns the mean train into the mean of `nmda.insertion_event`.

    The gate is D_peak at spikes and D_rest elsewhere, so its mean is not what multiplies.
    """
    potentials = torch.tensor([V_PEAK_MV, V_REST_MV]).to(post)
    peak, rest = rule.gating.nmda * nmda_gate(potentials, rule.gating.mg_mM)
    lasting = (1.0 - post) * min(dt_ms / SUSTAINED_MS, 1.0)
    return (peak * post + rest * lasting) / (post + lasting)
