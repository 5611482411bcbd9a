"""Every plasticity rule against a loop over all pairs of spikes, and against closed forms."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.rules import GatedSTDP, Gating, PairSTDP, Rule, Signals, TripletSTDP
from snn_artsy.rules.base import SpikeTerms, WeightDependence
from snn_artsy.rules.nmda import V_PEAK_MV, V_REST_MV

DT = 0.5
# Unequal amplitudes and time constants, so that no two of them can be mixed up.
PAIR = PairSTDP(a_plus=0.03, a_minus=0.021, tau_plus_ms=17.0, tau_minus_ms=34.0, w_reference=0.7)
TRIPLET = TripletSTDP(
    a2_plus=0.02, a3_plus=0.013, a2_minus=0.017, a3_minus=0.009,
    tau_plus_ms=16.0, tau_minus_ms=33.0, tau_x_ms=90.0, tau_y_ms=114.0,
)  # fmt: skip
GRADED = Gating(nmda=0.8, target=1.2, tau_target_ms=11.0)
BERNOULLI = Gating(insertion="bernoulli", probability=0.3, window_ms=3.25)

PUBLISHED_KINDS: dict[str, Rule] = {
    f"pair_{bounds}_{pairing}": replace(PAIR, bounds_of=bounds, pairing=pairing)
    for bounds in ("additive", "soft", "van_rossum", "power_law")
    for pairing in ("all_to_all", "nearest")
}
PUBLISHED_KINDS |= {f"triplet_{p}": replace(TRIPLET, pairing=p) for p in ("all_to_all", "nearest")}
SOFT = replace(PAIR, bounds_of="soft")
NO_TARGET: dict[str, Rule] = {
    "gated_pair_no_target": GatedSTDP(SOFT, replace(GRADED, target=0.0)),
    "gated_triplet_no_target": GatedSTDP(TRIPLET, replace(GRADED, target=0.0)),
    "gated_pair_no_mg": GatedSTDP(PAIR, replace(GRADED, target=0.0, mg_mM=0.0)),
    "gated_pair_little_mg": GatedSTDP(PAIR, replace(GRADED, target=0.0, mg_mM=0.1)),
    "gated_pair_clamped": GatedSTDP(PAIR, replace(GRADED, target=0.0, clamp_mV=-12.0)),
    "gated_pair_dendrite": GatedSTDP(PAIR, replace(GRADED, target=0.0, depolarisation="dendrite")),
}
WITH_TARGET: dict[str, Rule] = {
    "gated_pair": GatedSTDP(SOFT, GRADED),
    "gated_triplet": GatedSTDP(TRIPLET, GRADED),
    "gated_nearest": GatedSTDP(replace(PAIR, pairing="nearest"), GRADED),
}
ONE_BIT: dict[str, Rule] = {
    "bernoulli_pair": GatedSTDP(SOFT, BERNOULLI),
    "bernoulli_triplet": GatedSTDP(TRIPLET, BERNOULLI),
    "bernoulli_dendrite": GatedSTDP(SOFT, replace(BERNOULLI, depolarisation="dendrite")),
}
LINEAR = PUBLISHED_KINDS | NO_TARGET  # a batch's change is the sum of its presentations' changes
ALL = LINEAR | WITH_TARGET | ONE_BIT


def by_name(rules: dict[str, Rule]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", rules.values(), ids=rules.keys())


# ---- the reference: Python floats, one contact at a time, every earlier spike looked up anew ----


def gate_of(v_mV: float, gating: Gating) -> float:
    """NMDA gate by its formula (Jahr & Stevens 1990; shut at -40 mV, a dendrite's at rest)."""
    if gating.clamp_mV is not None:
        v_mV = gating.clamp_mV
    shut_mV = -70.0 if gating.depolarisation == "dendrite" else -40.0
    block, shut = (
        1 / (1 + mg_mM / 3.57 * math.exp(-0.062 * v))
        for mg_mM, v in ((gating.mg_mM, v_mV), (1.0, shut_mV))
    )
    return gating.nmda * max(0.0, (block - shut) / (1 - shut))


def coincidence(v_mV: float, gating: Gating) -> float:
    """What stochastic insertion counts of an event: a spike's gate is open or not."""
    opened = gate_of(v_mV, gating)
    return opened if gating.depolarisation == "dendrite" else float(opened > 0)


def dependence(rule: Any, w: float) -> tuple[float, float]:
    kind = getattr(rule, "bounds_of", "additive")
    if kind == "additive":
        return 1.0, 1.0
    if kind == "soft":
        return 1.0 - w, w
    if kind == "van_rossum":
        return 1.0, w
    return rule.w_reference**0.6 * max(w, 0.01) ** 0.4, w


def contact(
    rule: Any, w: float, pre: list[float], post: list[float], v: list[float], noise: list[float]
) -> float:
    """Weight of one contact after a presentation, changed at every step."""
    gated = isinstance(rule, GatedSTDP)
    base: Any = rule.base if gated else rule
    nearest = base.pairing == "nearest"

    def seen(train: list[float], t: int, tau_ms: float) -> float:
        earlier = [u for u in range(t) if train[u]]
        if nearest:
            earlier = earlier[-1:]
        return sum(math.exp(-(t - u) * DT / tau_ms) for u in earlier)

    for t in range(len(pre)):
        event = 1.0 if post[t] else 0.0
        if gated:
            event += 0.0 if post[t] else DT / 10.0
            gate = gate_of(v[t], rule.gating)
        else:
            gate = 1.0
        if isinstance(base, TripletSTDP):
            amplitude = base.a2_plus + base.a3_plus * seen(post, t, base.tau_y_ms)
            loss = pre[t] * seen(post, t, base.tau_minus_ms)
            loss *= base.a2_minus + base.a3_minus * seen(pre, t, base.tau_x_ms)
        else:
            amplitude = base.a_plus
            loss = base.a_minus * pre[t] * seen(post, t, base.tau_minus_ms)
        up, down = dependence(base, w)
        glutamate = seen(pre, t, base.tau_plus_ms)
        if gated and rule.gating.insertion == "bernoulli":
            spikes = [u for u in range(t) if pre[u]]
            near = bool(spikes) and (t - spikes[-1]) * DT < rule.gating.window_ms
            event *= coincidence(v[t], rule.gating) * near
            chance = 1 - (1 - rule.gating.probability) ** event
            uniform = (1 + math.erf(noise[t] / math.sqrt(2))) / 2
            gain = 1 - w if uniform >= 1 - chance and chance > 0 else 0.0
        else:
            if gated and rule.gating.target:
                keep = math.exp(-DT / rule.gating.tau_target_ms)
                weights = [keep ** (t - u) for u in range(t + 1)]
                past = [seen(pre, u, base.tau_plus_ms) for u in range(t + 1)]
                mean = sum(a * b for a, b in zip(weights, past, strict=True)) / sum(weights)
                glutamate -= rule.gating.target * mean
            gain = amplitude * gate * event * glutamate * up
        w += gain - loss * down
    return w


def by_pairs(rule: Rule, w: Tensor, seen: Signals, noise: Tensor) -> Tensor:
    """Final weights [B, n_post, n_pre]."""
    out = w.clone()
    for b, j, i in product(*map(range, w.shape)):
        out[b, j, i] = contact(
            rule, float(w[b, j, i]), seen.pre[:, b, i].tolist(), seen.post[:, b, j].tolist(),
            seen.v_mV[:, b, j].tolist(), noise[:, b, j, i].tolist(),
        )  # fmt: skip
    return out


# ---- the rule under test ----


def run(rule: Rule, w: Tensor, seen: Signals, noise: Tensor | None, frozen: bool = False) -> Tensor:
    """Final weights, or the summed change at frozen weights."""
    traces = rule.start(seen.pre[0], seen.post[0], w.ndim == 3)
    total, now = torch.zeros_like(w), w
    for t in range(len(seen.pre)):
        dw, traces = rule.step(now, traces, seen.at(t), DT, noise[t] if rule.noisy else None)
        total = total + dw
        now = w if frozen else w + total
    return total if frozen else now


def trains(
    seed: int, n_batch: int, rate: float = 0.25, n_steps: int = 26
) -> tuple[Tensor, Signals, Tensor]:
    """Weights [B, 2, 3], presentations and noise."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    pre = (draw(n_steps, n_batch, 3) < rate).double()
    post = (draw(n_steps, n_batch, 2) < rate).double()
    v_mV = torch.where(post > 0, V_PEAK_MV, -80.0 + 70.0 * draw(n_steps, n_batch, 2))
    noise = torch.randn(n_steps, n_batch, 2, 3, generator=generator, dtype=torch.float64)
    return 0.2 + 0.6 * draw(n_batch, 2, 3), Signals(pre, post, v_mV), noise


def part(seen: Signals, b: int) -> Signals:
    return Signals(*(x[:, b : b + 1] for x in (seen.pre, seen.post, seen.v_mV)))


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@by_name(ALL)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), rate=st.floats(0.02, 0.6))
def test_rule_equals_the_loop_over_all_pairs(rule: Rule, seed: int, rate: float) -> None:
    w, seen, noise = trains(seed, 1, rate)
    assert_same(run(rule, w, seen, noise), by_pairs(rule, w, seen, noise))


WRONG = {
    "pairing": (PAIR, replace(PAIR, pairing="nearest")),
    "soft": (PAIR, replace(PAIR, bounds_of="soft")),
    "van_rossum": (SOFT, replace(PAIR, bounds_of="van_rossum")),
    "power_law": (replace(PAIR, bounds_of="van_rossum"), replace(PAIR, bounds_of="power_law")),
    "amplitudes": (PAIR, replace(PAIR, a_plus=PAIR.a_minus, a_minus=PAIR.a_plus)),
    "time constants": (PAIR, replace(PAIR, tau_plus_ms=34.0, tau_minus_ms=17.0)),
    "tau_x": (TRIPLET, replace(TRIPLET, tau_x_ms=TRIPLET.tau_y_ms)),
    "tau_y": (TRIPLET, replace(TRIPLET, tau_y_ms=TRIPLET.tau_x_ms)),
    "triplet pairing": (TRIPLET, replace(TRIPLET, pairing="nearest")),
    "no gate": (NO_TARGET["gated_triplet_no_target"], TRIPLET),
    "target": (WITH_TARGET["gated_pair"], NO_TARGET["gated_pair_no_target"]),
    "average": (GatedSTDP(SOFT, GRADED), GatedSTDP(SOFT, replace(GRADED, tau_target_ms=40.0))),
    "window": (GatedSTDP(SOFT, BERNOULLI), GatedSTDP(SOFT, replace(BERNOULLI, window_ms=0.75))),
}  # fmt: skip


@pytest.mark.parametrize("rule, wrong", WRONG.values(), ids=WRONG.keys())
def test_the_loop_tells_another_rule_apart(rule: Rule, wrong: Rule) -> None:
    w, seen, noise = trains(3, 2)
    assert float((run(rule, w, seen, noise) - by_pairs(wrong, w, seen, noise)).abs().max()) > 1e-4


def test_the_loop_tells_spikes_that_pair_with_their_own_step_apart() -> None:
    w, seen, noise = trains(3, 1)
    early = seen._replace(pre=torch.roll(seen.pre, -1, 0))
    assert float((run(PAIR, w, early, noise) - by_pairs(PAIR, w, seen, noise)).abs().max()) > 1e-3


# ---- batches ----


@by_name(LINEAR)
def test_a_presentation_is_the_sum_of_its_steps_at_frozen_weights(rule: Rule) -> None:
    w, seen, _ = trains(5, 4)
    once, _ = rule.presentation(w[0], rule.start(seen.pre[0], seen.post[0]), seen, DT)
    assert_same(once, run(rule, w[0], seen, None, frozen=True))
    assert float(once.abs().min()) > 1e-4


@by_name(LINEAR)
def test_shared_contacts_change_by_the_sum_of_private_ones(rule: Rule) -> None:
    w, seen, _ = trains(6, 4)
    private = run(rule, w[:1].expand(4, -1, -1), seen, None, frozen=True)
    assert_same(run(rule, w[0], seen, None, frozen=True), private.sum(0))
    assert float((private[0] - private[1]).abs().max()) > 1e-4


@by_name(WITH_TARGET)
def test_one_shared_presentation_is_one_private_one(rule: Rule) -> None:
    w, seen, _ = trains(6, 1)
    assert_same(run(rule, w[0], seen, None), run(rule, w, seen, None)[0])


@by_name(ALL)
def test_32_private_contacts_are_32_single_runs(rule: Rule) -> None:
    w, seen, noise = trains(7, 32)
    batch = run(rule, w, seen, noise)
    for b in range(32):
        one = slice(b, b + 1)
        assert_same(batch[one], run(rule, w[one], part(seen, b), noise[:, one]))
    assert float((batch - w).abs().max()) > 0.01


def test_target_of_a_presentation_takes_in_the_batch_before_its_update() -> None:
    rule = GatedSTDP(PAIR, GRADED)
    w, seen, _ = trains(8, 3)
    traces = rule.start(seen.pre[0], seen.post[0])
    n_steps, n_batch = seen.pre.shape[:2]
    keep = math.exp(-DT * n_steps * n_batch / GRADED.tau_target_ms)
    past: list[Tensor] = []
    for trial in range(3):
        shown = Signals(*(torch.roll(x, 5 * trial, 0) for x in (seen.pre, seen.post, seen.v_mV)))
        glutamate = torch.zeros_like(shown.pre)
        for t in range(n_steps):
            for u in range(t):
                glutamate[t] += shown.pre[u] * math.exp(-(t - u) * DT / PAIR.tau_plus_ms)
        past.append(glutamate.mean((0, 1)))
        ages = [keep ** (trial - k) for k in range(trial + 1)]
        mean = torch.stack([a * x for a, x in zip(ages, past, strict=True)]).sum(0) / sum(ages)
        expected = torch.zeros_like(w[0])
        for b in range(n_batch):
            for t in range(n_steps):
                for j in range(2):
                    event = 1.0 if shown.post[t, b, j] else DT / 10.0
                    event *= gate_of(float(shown.v_mV[t, b, j]), GRADED)
                    expected[j] += PAIR.a_plus * event * (glutamate[t, b] - 1.2 * mean)
                    for u in range(t):
                        decay = math.exp(-(t - u) * DT / PAIR.tau_minus_ms)
                        expected[j] -= PAIR.a_minus * shown.pre[t, b] * shown.post[u, b, j] * decay
        dw, traces = rule.presentation(w[0], traces, shown, DT)
        assert_same(dw, expected)


def test_target_of_shared_contacts_averages_over_the_batch_at_every_step() -> None:
    rule = GatedSTDP(PAIR, GRADED)
    w, seen, _ = trains(15, 3)
    n_steps, n_batch = seen.pre.shape[:2]
    keep = math.exp(-DT * n_batch / GRADED.tau_target_ms)  # a step shows each of three contacts
    glutamate, expected = torch.zeros_like(seen.pre), torch.zeros_like(w[0])
    for t in range(n_steps):
        for u in range(t):
            glutamate[t] += seen.pre[u] * math.exp(-(t - u) * DT / PAIR.tau_plus_ms)
        ages = torch.tensor([keep ** (t - u) for u in range(t + 1)], dtype=torch.float64)
        mean = (ages[:, None] * glutamate[: t + 1].mean(1)).sum(0) / ages.sum()
        for b, j in product(range(n_batch), range(2)):
            event = 1.0 if seen.post[t, b, j] else DT / 10.0
            event *= gate_of(float(seen.v_mV[t, b, j]), GRADED)
            expected[j] += PAIR.a_plus * event * (glutamate[t, b] - 1.2 * mean)
    no_loss = replace(rule, base=replace(PAIR, a_minus=0.0))
    assert_same(run(no_loss, w[0], seen, None, frozen=True), expected)


def test_targets_of_single_neurons_replace_the_common_one() -> None:
    rule = GatedSTDP(PAIR, GRADED)
    w, seen, _ = trains(8, 3)
    traces = rule.start(seen.pre[0], seen.post[0])
    common, _ = rule.presentation(w[0], traces, seen, DT)
    each, _ = rule.presentation(
        w[0], traces, seen._replace(target=torch.tensor([1.2, 0.0], dtype=torch.float64)), DT
    )
    none, _ = replace(rule, gating=replace(GRADED, target=0.0)).presentation(w[0], traces, seen, DT)
    assert_same(each[0], common[0])
    assert_same(each[1], none[1])
    assert float((each[1] - common[1]).abs().max()) > 1e-4


@by_name(ONE_BIT)
def test_one_bit_presentation_fills_by_the_number_of_coincidences(rule: GatedSTDP) -> None:
    w, seen, noise = trains(9, 3, rate=0.1)
    dw, _ = rule.presentation(w[0], rule.start(seen.pre[0], seen.post[0]), seen, DT, noise[0, 0])
    shut = replace(rule, gating=replace(rule.gating, nmda=0.0))
    loss = run(shut, w[0], seen, noise[:, 0], frozen=True)
    n_filled = 0
    for j in range(2):
        for i in range(3):
            n = 0.0
            for b in range(3):
                for t in range(len(seen.pre)):
                    spikes = [u for u in range(t) if seen.pre[u, b, i]]
                    if spikes and (t - spikes[-1]) * DT < BERNOULLI.window_ms:
                        open_ = coincidence(float(seen.v_mV[t, b, j]), rule.gating)
                        n += (1.0 if seen.post[t, b, j] else DT / 10.0) * open_
            uniform = (1 + math.erf(float(noise[0, 0, j, i]) / math.sqrt(2))) / 2
            filled = uniform >= 0.7**n
            n_filled += filled
            gain = float(1 - w[0, j, i]) if filled else 0.0
            assert float(dw[j, i] - loss[j, i]) == pytest.approx(gain, abs=1e-12)
    assert 0 < n_filled < 6  # both cases occur


def test_between_presentations_fast_traces_rest_and_the_slow_average_stays() -> None:
    _, seen, _ = trains(10, 3)
    rule = GatedSTDP(PAIR, GRADED)
    start = rule.start(seen.pre[0], seen.post[0])
    w = torch.zeros(2, 3, dtype=torch.float64)
    first, traces = rule.presentation(w, start, seen, DT)
    assert float(traces[0].min()) > 0
    assert float(traces[3].max()) > 0  # glutamate is left
    second, _ = rule.presentation(w, traces, seen, DT)
    assert torch.equal(second, rule.presentation(w, (*traces[:2], *start[2:]), seen, DT)[0])
    assert not torch.equal(second, first)  # the slow average goes on


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@by_name(ALL)
def test_cuda_equals_cpu(rule: Rule) -> None:
    w, seen, noise = trains(11, 8)
    there = Signals(*(x.cuda() for x in (seen.pre, seen.post, seen.v_mV)))
    on_gpu = run(rule, w.cuda(), there, noise.cuda())
    torch.testing.assert_close(on_gpu.cpu(), run(rule, w, seen, noise), rtol=1e-9, atol=1e-12)


# ---- closed forms ----


def pairing(
    n_steps: int, pre_at: list[int], post_at: list[int], v_mV: float = V_REST_MV
) -> Signals:
    pre, post = torch.zeros(2, n_steps, 1, 1, dtype=torch.float64)
    pre[pre_at] = post[post_at] = 1.0
    return Signals(pre, post, torch.where(post > 0, V_PEAK_MV, v_mV).double())


def change(rule: Rule, seen: Signals, w: float = 0.5, dt_ms: float = DT) -> float:
    weight = torch.full((1, 1), w, dtype=torch.float64)
    dw, _ = rule.presentation(weight, rule.start(seen.pre[0], seen.post[0]), seen, dt_ms)
    return float(dw)


@pytest.mark.parametrize("kind", ["all_to_all", "nearest"])
@pytest.mark.parametrize("lag", [1, 2, 3, 5, 8, 20, 61, 140, 200])
def test_isolated_pair(lag: int, kind: str) -> None:
    before, after = pairing(240, [20], [20 + lag]), pairing(240, [20 + lag], [20])
    rule = replace(PAIR, pairing=kind)
    causal, acausal = 0.03 * math.exp(-lag * DT / 17.0), -0.021 * math.exp(-lag * DT / 34.0)
    assert change(rule, before) == pytest.approx(causal, rel=1e-12)
    assert change(rule, after) == pytest.approx(acausal, rel=1e-12)
    for bounds, up, down in (("soft", 0.7, 0.3), ("van_rossum", 1.0, 0.3)):
        bounded = replace(rule, bounds_of=bounds)
        assert change(bounded, before, 0.3) == pytest.approx(causal * up, rel=1e-12)
        assert change(bounded, after, 0.3) == pytest.approx(acausal * down, rel=1e-12)
    triplet = replace(TRIPLET, pairing=kind)
    assert change(triplet, before) == pytest.approx(0.02 * math.exp(-lag * DT / 16.0), rel=1e-12)
    assert change(triplet, after) == pytest.approx(-0.017 * math.exp(-lag * DT / 33.0), rel=1e-12)
    gated = GatedSTDP(rule, Gating(target=0.0))
    opened = gate_of(V_PEAK_MV, gated.gating)
    assert change(gated, before) == pytest.approx(opened * causal, rel=1e-12)
    assert change(gated, after) == pytest.approx(acausal, rel=1e-12)


@by_name(PUBLISHED_KINDS | NO_TARGET | WITH_TARGET)
def test_a_coincident_pair_changes_nothing(rule: Rule) -> None:
    seen = pairing(240, [20], [20])
    if isinstance(rule, GatedSTDP):
        rule = replace(rule, gating=replace(rule.gating, mg_mM=1.0, clamp_mV=None))
        if rule.gating.target:  # the target alone depresses: that is competition, not pairing
            assert change(rule, seen) < 0
            return
    assert change(rule, seen) == 0.0


@pytest.mark.parametrize("lag", [3, 20, 55])
def test_periodic_pairing_in_the_steady_state(lag: int) -> None:
    period, n = 80, 60  # 40 ms
    starts = [k * period for k in range(n)]

    def cycles(k: int) -> float:
        return change(PAIR, pairing(n * period, starts[:k], [t + lag for t in starts[:k]]))

    p, d = period * DT, lag * DT
    gain = 0.03 * math.exp(-d / 17) / (1 - math.exp(-p / 17))
    loss = 0.021 * math.exp(-(p - d) / 34) / (1 - math.exp(-p / 34))
    assert cycles(n) - cycles(n - 1) == pytest.approx(gain - loss, rel=1e-9)
    # nearest-spike pairing forgets the earlier cycles
    nearest = replace(PAIR, pairing="nearest")
    seen = [pairing(n * period, starts[:k], [t + lag for t in starts[:k]]) for k in (n - 1, n)]
    less = change(nearest, seen[1]) - change(nearest, seen[0])
    single = 0.03 * math.exp(-d / 17) - 0.021 * math.exp(-(p - d) / 34)
    assert less == pytest.approx(single, rel=1e-9)
    assert abs(less - (gain - loss)) > 1e-4


# ---- NMDA receptors ----


@pytest.mark.parametrize("base", [PAIR, TRIPLET])
@pytest.mark.parametrize("mg_mM", [0.0, 1.0])
def test_apv_blocks_all_potentiation(base: Rule, mg_mM: float) -> None:
    w, seen, noise = trains(12, 4)
    for gating in (Gating(mg_mM=mg_mM, target=0.0), Gating(mg_mM=mg_mM, insertion="bernoulli")):
        control, apv = GatedSTDP(base, gating), GatedSTDP(base, replace(gating, nmda=0.0))
        no_gain = replace(base, **{n: 0.0 for n in vars(base) if n.endswith("_plus")})
        only_depression = run(no_gain, w, seen, noise)
        assert_same(run(apv, w, seen, noise), only_depression)
        assert float((run(control, w, seen, noise) - only_depression).max()) > 0.01


@pytest.mark.parametrize("base", [PAIR, replace(PAIR, pairing="nearest")])
def test_without_magnesium_glutamate_alone_potentiates_whatever_the_step(base: PairSTDP) -> None:
    gains = {}
    for dt in (0.1, 0.5, 1.0):
        rule = GatedSTDP(base, Gating(mg_mM=0.0, target=0.0))
        gains[dt] = change(rule, pairing(round(300 / dt), [0], []), dt_ms=dt)
        # sum of a_plus x dt/10 ms over the steps after the spike
        exact = 0.03 * dt / 10 * sum(math.exp(-k * dt / 17) for k in range(1, round(300 / dt)))
        assert gains[dt] == pytest.approx(exact, rel=1e-12)
        assert gains[dt] == pytest.approx(0.03 * 17 / 10, rel=0.03)  # the limit of small steps
        magnesium = replace(rule, gating=replace(rule.gating, mg_mM=1.0))
        assert change(magnesium, pairing(round(300 / dt), [0], []), dt_ms=dt) == 0.0
    # a count of steps instead of time would differ tenfold
    assert gains[0.1] / gains[1.0] == pytest.approx(1.0, abs=0.03)


def silent_share(rule: GatedSTDP, seen: Signals, dt_ms: float, n: int = 20000) -> float:
    """Share of n empty contacts left empty by one presentation, each with noise of its own."""
    wide = Signals(*(x.expand(-1, -1, n) if x is seen.pre else x for x in seen[:3]))
    noise = torch.randn(1, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = torch.zeros(1, n, dtype=torch.float64)
    dw, _ = rule.presentation(w, rule.start(wide.pre[0], wide.post[0]), wide, dt_ms, noise)
    assert set(dw.unique().tolist()) <= {0.0, 1.0}
    return float((dw == 0).double().mean())


def within(share: float, p: float, n: int = 20000) -> bool:
    return abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_one_bit_contacts_stay_silent_with_the_binomial_share(n: int) -> None:
    rule = GatedSTDP(replace(PAIR, a_minus=0.0), Gating(insertion="bernoulli", probability=0.1))
    starts = [100 * k for k in range(n)]
    share = silent_share(rule, pairing(1000, starts, [t + 20 for t in starts]), DT)
    assert within(share, 0.9**n)
    assert not within(share, 0.9 ** (n + 1)) and not within(share, 0.88**n)
    # too late after the presynaptic spike, or before it: no coincidence
    assert silent_share(rule, pairing(1000, starts, [t + 60 for t in starts]), DT) == 1.0
    assert silent_share(rule, pairing(1020, [t + 20 for t in starts], starts), DT) == 1.0


def test_one_bit_insertion_without_magnesium_does_not_depend_on_the_step() -> None:
    gating = Gating(insertion="bernoulli", probability=0.3, mg_mM=0.0, window_ms=20.05)
    rule = GatedSTDP(replace(PAIR, a_minus=0.0), gating)
    for dt in (0.1, 1.0, 5.0):  # 20 ms of glutamate are two sustained coincidences of 10 ms
        assert within(silent_share(rule, pairing(round(100 / dt), [0], []), dt), 0.7**2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_noise_inserts_nothing_without_a_coincidence(dtype: torch.dtype) -> None:
    rule = GatedSTDP(PAIR, Gating(insertion="bernoulli", probability=1.0))
    noise = torch.tensor([[9.0, -9.0]], dtype=dtype)  # uniform numbers of exactly 1 and 0
    for post_at, filled in (([], 0.0), ([5], 1.0)):
        seen = Signals(*(x.to(dtype) for x in pairing(9, [2], post_at)[:3]))
        seen = seen._replace(pre=seen.pre.expand(-1, -1, 2))
        w = torch.zeros(1, 2, dtype=dtype)
        dw, _ = rule.presentation(w, rule.start(seen.pre[0], seen.post[0]), seen, DT, noise)
        assert dw.tolist() == [[filled, filled]]


def test_noise_is_asked_for() -> None:
    rule = GatedSTDP(PAIR, BERNOULLI)
    assert rule.noisy and not GatedSTDP(PAIR).noisy and not PAIR.noisy
    w, seen, _ = trains(1, 1)
    with pytest.raises(ValueError, match="noise"):
        run_without_noise = rule.start(seen.pre[0], seen.post[0], True)
        rule.step(w, run_without_noise, seen.at(0), DT)


# ---- parameters ----


@by_name(LINEAR | WITH_TARGET)
def test_twice_the_speed_doubles_every_change(rule: Rule) -> None:
    w, seen, _ = trains(13, 3)
    start = rule.start(seen.pre[0], seen.post[0])
    once, _ = rule.presentation(w[0], start, seen, DT)
    twice, _ = rule.sped_up(2.0).presentation(w[0], start, seen, DT)
    assert_same(twice, 2 * once)
    assert float(once.abs().max()) > 0.01


def test_twice_the_speed_of_one_bit_insertion_counts_every_coincidence_twice() -> None:
    rule = GatedSTDP(replace(PAIR, a_minus=0.0), Gating(insertion="bernoulli", probability=0.1))
    seen = pairing(300, [0, 100], [20, 120])
    assert within(silent_share(rule.sped_up(2.0), seen, DT), 0.9**4)
    assert not within(silent_share(rule, seen, DT), 0.9**4)


@pytest.mark.parametrize("cls", [PairSTDP, TripletSTDP])
def test_published_sets_build(cls: Any) -> None:
    assert cls.PUBLISHED
    for values in cls.PUBLISHED.values():
        assert isinstance(cls(**values), cls)
    with pytest.raises(TypeError):
        cls(**{"no_such_parameter": 1.0})


def test_published_values() -> None:
    song = PairSTDP(**PairSTDP.PUBLISHED["song_2000"])
    assert (song.a_plus, song.tau_plus_ms, song.tau_minus_ms) == (0.005, 20.0, 20.0)
    assert song.a_minus / song.a_plus == pytest.approx(1.05)
    # lambda w0^(1-mu) w^mu and lambda alpha w (pA) for a pair without delay; w = 1 is 80 pA
    morrison = PairSTDP(**PairSTDP.PUBLISHED["morrison_2007"])
    up, down = morrison.dependence().of(torch.tensor(45.0 / 80.0))
    assert 80 * morrison.a_plus * float(up) == pytest.approx(0.1 * 45**0.4, rel=1e-5)
    assert 80 * morrison.a_minus * float(down) == pytest.approx(0.1 * 0.11 * 45, rel=1e-5)
    triplet = TripletSTDP(**TripletSTDP.PUBLISHED["visual_cortex_all_to_all_minimal"])
    assert (triplet.a2_plus, triplet.a3_plus, triplet.a2_minus, triplet.a3_minus) == (
        0.0, 6.5e-3, 7.1e-3, 0.0,
    )  # fmt: skip
    assert (triplet.tau_plus_ms, triplet.tau_minus_ms, triplet.tau_y_ms) == (16.8, 33.7, 114.0)


BAD: list[tuple[Callable[..., Any], str, str, Any]] = [
    *((PairSTDP, "pair", name, -0.1) for name in ("a_plus", "a_minus")),
    *((PairSTDP, "pair", name, 0.0) for name in ("tau_plus_ms", "tau_minus_ms", "w_reference")),
    (PairSTDP, "pair", "mu", 1.1),
    (PairSTDP, "pair", "w_floor", 1.0),
    (PairSTDP, "pair", "bounds_of", "hard"),
    (PairSTDP, "pair", "pairing", "all"),
    *((TripletSTDP, "triplet", f"a{k}_{s}", -1e-9) for k in "23" for s in ("plus", "minus")),
    *((TripletSTDP, "triplet", f"tau_{s}_ms", -1.0) for s in ("plus", "minus", "x", "y")),
    (TripletSTDP, "triplet", "pairing", "all"),
    *((Gating, "gating", name, -0.1) for name in ("mg_mM", "target", "nmda", "probability")),
    *((Gating, "gating", name, 1.1) for name in ("nmda", "probability")),
    *((Gating, "gating", name, 0.0) for name in ("tau_target_ms", "window_ms")),
    (Gating, "gating", "insertion", "graduated"),
]


@pytest.mark.parametrize("cls, key, name, value", BAD)
def test_bad_parameters_are_named(cls: Callable[..., Any], key: str, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}\.{name}: .*(use|choose)"):
        cls(**{name: value})


def test_parameter_sets_of_this_file_differ() -> None:
    """No two rules under test agree: each name stands for behaviour of its own."""
    w, seen, noise = trains(14, 2)
    results = sorted(float(run(rule, w, seen, noise).double().sum()) for rule in ALL.values())
    assert all(b - a > 1e-6 for a, b in pairwise(results))


def test_what_a_rule_says_of_itself_is_asked_once() -> None:
    """It is frozen; asked in every step it would take half of the time of the reference."""
    asked = []

    @dataclass(frozen=True)
    class Asked(PairSTDP):
        def terms(self) -> SpikeTerms:
            asked.append("terms")
            return super().terms()

        def dependence(self) -> WeightDependence:
            asked.append("dependence")
            return super().dependence()

    rule, w = Asked(), torch.full((1, 1), 0.5)
    spike = torch.ones(1, 1)
    traces, changes = rule.start(spike, spike), []
    for _ in range(3):
        dw, traces = rule.step(w, traces, Signals(spike, spike, spike), 1.0)
        changes.append(float(dw))
    assert sorted(asked) == ["dependence", "terms"]
    assert len({*changes}) == 3  # traces grow as before
    assert replace(rule, a_plus=1.0)._terms.gain_post == (1.0,)
