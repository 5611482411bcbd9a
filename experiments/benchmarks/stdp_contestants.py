"""Contestants of `stdp_throughput.py`: one simulator in a process of its own.

    python experiments/benchmarks/stdp_contestants.py NAME TASK.npz

builds the network, then answers each line on stdin with one run from the same start: a line of JSON
with the seconds of its time loop (neither building nor compilation) and its postsynaptic spikes. A
case that a simulator cannot do is answered with its reason.

All get the same presynaptic spikes; an electrode's pulse of 1.01 thresholds decides when each
postsynaptic neuron fires, and input through the weights stays below the threshold, so that all have
the same postsynaptic spikes too. Each uses its own neuron and its own additive pair rule,
all-to-all, clipped to [0, 1], with weights that change in every step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

PULSE = 1.01  # of the electrode, in thresholds


class Unable(Exception):
    """Why a simulator cannot do a case."""


class Task(NamedTuple):
    """What is to be simulated in steps of 1 ms.

    Args:
        pre, post: Spikes [T, B, n], float32. w: Start, [n_post, n_pre].
        tau_ms: Of both traces and the membrane. gain: Input of a spike through a weight of 1, in
            thresholds. threads: To be used. taught: Our neurons fire by the electrode, else by
            their own synapses; the others' by the electrode, their synapses computed beside it.
            threshold: Of our neurons, in standard deviations of their net input. device: ``cpu`` or
            ``cuda``.
    """

    pre: np.ndarray
    post: np.ndarray
    w: np.ndarray
    a_plus: float
    a_minus: float
    tau_ms: float
    gain: float
    threads: int
    taught: bool = True
    threshold: float = 1.0
    device: str = "cpu"

    @property
    def keep(self) -> float:
        """exp(-dt/tau)."""
        return float(np.exp(-1.0 / self.tau_ms))


class Outcome(NamedTuple):
    """Seconds of the time loop, postsynaptic spikes, and the weights in the task's shape."""

    seconds: float
    spikes: float
    w: Any


Run = Callable[[], Outcome]


def torch_spikes(task: Task) -> tuple[Any, Any]:
    """Presynaptic spikes and the electrode's current as tensors on the device."""
    import torch

    torch.set_num_threads(task.threads)
    pre, post = (torch.from_numpy(s).to(task.device) for s in (task.pre, task.post))
    return pre, PULSE * post


def torch_weights(task: Task) -> Any:
    """A copy of the weights on the device."""
    import torch

    return torch.from_numpy(task.w.copy()).to(task.device)


def now(task: Task) -> float:
    """Seconds, once the device has done all it was given."""
    if task.device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def layer_of(task: Task, rule: Any, contacts: Any) -> Any:
    """Our layer with the task's weights, in train mode."""
    import torch

    from snn_artsy.config import NeuronConfig
    from snn_artsy.synapses import SilentSynapseLayer

    n_post, n_pre = task.w.shape
    neuron = NeuronConfig(tau_mem_ms=task.tau_ms, threshold=task.threshold)
    layer = SilentSynapseLayer(
        n_pre, n_post, 1.0, neuron, rule, contacts, generator=torch.Generator().manual_seed(0)
    )
    return layer.to(task.device).train()


def ours(task: Task) -> Run:
    """The layer as an ordinary plastic synapse, which is what the others compute."""
    from snn_artsy.config import ContactConfig
    from snn_artsy.rules import PairSTDP

    rule = PairSTDP(task.a_plus, task.a_minus, task.tau_ms, task.tau_ms)
    layer = layer_of(task, rule, ContactConfig(transmission="plain"))
    pre, current = torch_spikes(task)

    def run() -> Outcome:
        layer.ampa.copy_(torch_weights(task))
        begin = now(task)
        response, _, _ = layer.simulate(pre, current if task.taught else None)
        return Outcome(now(task) - begin, float(response.spikes.sum()), layer.ampa)

    return run


def gated(task: Task) -> Run:
    """The layer with its default rule and contacts: NMDA gates, states, clocks, events."""
    from snn_artsy.config import ContactConfig
    from snn_artsy.rules import GatedSTDP

    # without a teacher neurons fire by the contacts that are not silent
    contacts = ContactConfig(silent_share=1.0 if task.taught else 0.7)
    layer = layer_of(task, GatedSTDP(), contacts)
    start = {name: values.clone() for name, values in layer.state_dict().items()}
    pre, current = torch_spikes(task)

    def run() -> Outcome:
        layer.load_state_dict(start)
        begin = now(task)
        response, _, _ = layer.simulate(pre, current if task.taught else None)
        return Outcome(now(task) - begin, float(response.spikes.sum()), layer.ampa)

    return run


def plain(task: Task) -> Run:
    """Plain torch as one would write it for speed: one addmm_ a step for both halves of
    the rule, in place."""
    import torch

    pre, current = torch_spikes(task)

    @torch.no_grad()
    def run() -> Outcome:
        w = torch_weights(task)
        x, y = torch.zeros_like(pre[0]), torch.zeros_like(current[0])
        v, spikes = torch.zeros_like(current[0]), current.new_zeros(())
        begin = now(task)
        for t in range(len(pre)):
            s = pre[t]
            drive = s @ w.T
            v.mul_(task.keep).add_(drive, alpha=task.gain).add_(current[t])
            fired = (v > 1.0).float()
            v.sub_(fired)
            left = torch.cat([task.a_plus * fired, -task.a_minus * y])
            w.addmm_(left.T, torch.cat([x, s])).clamp_(0.0, 1.0)
            x.add_(s).mul_(task.keep)
            y.add_(fired).mul_(task.keep)
            spikes += fired.sum()
        return Outcome(now(task) - begin, float(spikes), w)

    return run


def only_single(task: Task) -> None:
    if task.device != "cpu":
        raise Unable("it takes part on the CPU only")
    if task.pre.shape[1] > 1:
        raise Unable("no batches")


def bindsnet(task: Task) -> Run:
    import torch
    from bindsnet.learning import PostPre
    from bindsnet.network import Network
    from bindsnet.network.nodes import Input, LIFNodes
    from bindsnet.network.topology import Connection

    n_post, n_pre = task.w.shape
    network = Network(dt=1.0, batch_size=task.pre.shape[1])
    traces = {"traces": True, "traces_additive": True, "tc_trace": task.tau_ms}
    network.add_layer(Input(n_pre, **traces), "pre")
    cells = LIFNodes(
        n_post,
        thresh=1.0 / task.gain,
        rest=0.0,
        reset=0.0,
        refrac=0,
        tc_decay=task.tau_ms,
        **traces,
    )
    network.add_layer(cells, "post")
    connection = Connection(
        network.layers["pre"], cells, update_rule=PostPre, nu=(task.a_minus, task.a_plus),
        reduction=torch.sum, wmin=0.0, wmax=1.0, w=torch.from_numpy(task.w.T.copy()),
    )  # fmt: skip
    network.add_connection(connection, "pre", "post")
    network.to(task.device)
    pre, current = torch_spikes(task)
    # injected before the membrane decays by one step, read after it
    pulses = current / (task.gain * task.keep)
    fired: list[torch.Tensor] = []
    own = cells.forward

    def counted(x: torch.Tensor) -> None:
        own(x)
        fired.append(cells.s.sum())

    cells.forward = counted

    def run() -> Outcome:
        network.reset_state_variables()
        connection.w.data.copy_(torch.from_numpy(task.w.T))
        fired.clear()
        begin = now(task)
        network.run({"pre": pre}, time=len(pre), injects_v={"post": pulses})
        return Outcome(now(task) - begin, float(sum(fired)), connection.w.data.T)

    return run


def torch_learner(task: Task, neuron: Any, learner_of: Any, reset: Any) -> Run:
    """The loop that SpikingJelly's and snnTorch's documentation show for their STDPLearner."""
    import torch

    n_post, n_pre = task.w.shape
    pre, current = torch_spikes(task)
    fc = torch.nn.Linear(n_pre, n_post, bias=False, device=task.device)
    neuron.to(task.device)

    @torch.no_grad()
    def run() -> Outcome:
        fc.weight.data.copy_(torch.from_numpy(task.w))
        reset()
        learner = learner_of(fc, neuron)
        spikes = current.new_zeros(())
        begin = now(task)
        for t in range(len(pre)):
            fired = neuron(fc(pre[t]) * task.gain + current[t])
            fc.weight.data.add_(learner.step(on_grad=False)).clamp_(0.0, 1.0)
            spikes += fired.sum()
        seconds = now(task) - begin
        learner.disable()
        return Outcome(seconds, float(spikes), fc.weight.data)

    return run


def spikingjelly(task: Task) -> Run:
    from spikingjelly.activation_based import functional, learning, neuron

    cell = neuron.LIFNode(tau=task.tau_ms, decay_input=False, v_threshold=1.0, v_reset=0.0)
    return torch_learner(
        task, cell,
        lambda fc, sn: learning.STDPLearner(
            step_mode="s", synapse=fc, sn=sn, tau_pre=task.tau_ms, tau_post=task.tau_ms,
            f_pre=lambda w: task.a_minus, f_post=lambda w: task.a_plus,
        ),
        lambda: functional.reset_net(cell),
    )  # fmt: skip


def snntorch(task: Task) -> Run:
    import torch
    from snntorch import Leaky
    from snntorch.functional.stdp_learner import STDPLearner

    # with init_hidden it returns spikes alone, which the learner's monitor needs
    cell = Leaky(beta=task.keep, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    def reset() -> None:
        cell.mem = torch.zeros(task.post.shape[1:], device=task.device)

    return torch_learner(
        task, cell,
        lambda fc, sn: STDPLearner(
            fc, sn, task.tau_ms, task.tau_ms, lambda w: task.a_minus, lambda w: task.a_plus
        ),
        reset,
    )  # fmt: skip


def norse(task: Task) -> Run:
    import torch
    from norse.torch.functional.lif_box import (
        LIFBoxFeedForwardState,
        LIFBoxParameters,
        lif_box_feed_forward_step,
    )
    from norse.torch.functional.stdp import STDPParameters, STDPState, stdp_step_linear

    pre, current = torch_spikes(task)
    rate = current.new_tensor(1000.0 / task.tau_ms)  # 1/s
    scale = current.new_tensor(task.tau_ms)  # a spike raises its trace by dt/tau times this
    rule = STDPParameters(
        a_pre=scale, a_post=scale, tau_pre_inv=rate, tau_post_inv=rate,
        eta_plus=task.a_plus, eta_minus=task.a_minus,
    )  # fmt: skip
    cell = LIFBoxParameters(tau_mem_inv=rate)

    @torch.no_grad()
    def run() -> Outcome:
        w = torch_weights(task)
        state = LIFBoxFeedForwardState(v=torch.zeros_like(current[0]))
        traces = STDPState(torch.zeros_like(pre[0]), torch.zeros_like(current[0]))
        spikes = current.new_zeros(())
        begin = now(task)
        for t in range(len(pre)):
            drive = (pre[t] @ w.T * task.gain + current[t]) * task.tau_ms
            fired, state = lif_box_feed_forward_step(drive, state, cell)
            w, traces = stdp_step_linear(pre[t], fired, w, traces, rule)
            spikes += fired.sum()
        return Outcome(now(task) - begin, float(spikes), w)

    return run


def brian2(task: Task) -> Run:
    only_single(task)
    import tempfile

    import brian2 as b2

    n_post, n_pre = task.w.shape
    folder = tempfile.mkdtemp()
    b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b2.prefs.devices.cpp_standalone.openmp_threads = task.threads if task.threads > 1 else 0
    b2.prefs.core.default_float_dtype = np.float32
    b2.defaultclock.dt = 1.0 * b2.ms
    sources = []
    for spikes in (task.pre[:, 0], task.post[:, 0]):
        at, unit = np.nonzero(spikes)
        sources.append(b2.SpikeGeneratorGroup(spikes.shape[1], unit, at * b2.ms))
    # Brian2 adds a pulse after the step's threshold test: it decays before the next one's
    tau, gain, pulse = task.tau_ms * b2.ms, task.gain, PULSE / task.keep
    a_plus, a_minus = task.a_plus, task.a_minus
    cells = b2.NeuronGroup(
        n_post, "dv/dt = -v/tau : 1", threshold="v > 1", reset="v = 0", method="exact"
    )
    synapses = b2.Synapses(
        sources[0], cells,
        """w : 1
        dx/dt = -x/tau : 1 (event-driven)
        dy/dt = -y/tau : 1 (event-driven)""",
        on_pre="v_post += gain*w; w = clip(w - a_minus*y, 0, 1); x += 1",
        on_post="w = clip(w + a_plus*x, 0, 1); y += 1",
    )  # fmt: skip
    synapses.connect()
    synapses.w = task.w.T.ravel()
    electrode = b2.Synapses(sources[1], cells, on_pre="v_post += pulse")
    electrode.connect(j="i")
    seen = b2.SpikeMonitor(cells, record=False)
    # by hand: the "magic" network leaves out objects in lists, such as the two sources
    network = b2.Network(*sources, cells, synapses, electrode, seen)
    # resets before synapses, or the reset of a neuron that fired wipes out the next pulse
    network.schedule = ["start", "groups", "thresholds", "resets", "synapses", "end"]
    network.run(
        (len(task.pre) + 1) * b2.ms,  # the last step's pulses fire in the next one
        namespace={
            "tau": tau, "gain": gain, "pulse": pulse, "a_plus": a_plus, "a_minus": a_minus
        },
    )  # fmt: skip
    b2.device.build(directory=folder, compile=True, run=False)

    def run() -> Outcome:
        b2.device.run(folder, with_output=False)
        return Outcome(
            float(b2.device._last_run_time), float(np.array(seen.count[:]).sum()),
            np.array(synapses.w[:]).reshape(n_pre, n_post).T,
        )  # fmt: skip

    return run


def nest(task: Task) -> Run:
    only_single(task)
    import nest as kernel

    n_post, n_pre = task.w.shape

    def times(spikes: np.ndarray) -> list[dict[str, list[float]]]:
        return [{"spike_times": (np.nonzero(unit)[0] + 1.0).tolist()} for unit in spikes[:, 0].T]

    def run() -> Outcome:
        kernel.ResetKernel()
        kernel.set_verbosity("M_ERROR")
        kernel.resolution = 1.0
        kernel.local_num_threads = task.threads
        pre = kernel.Create("parrot_neuron", n_pre)
        kernel.Connect(kernel.Create("spike_generator", n_pre, times(task.pre)), pre, "one_to_one")
        cells = kernel.Create(
            "iaf_psc_delta", n_post,
            {"tau_m": task.tau_ms, "E_L": 0.0, "V_m": 0.0, "V_reset": 0.0, "t_ref": 0.0,
             "V_th": 1.0 / task.gain, "tau_minus": task.tau_ms},
        )  # fmt: skip
        electrode = kernel.Create("spike_generator", n_post, times(task.post))
        kernel.Connect(
            electrode, cells, "one_to_one",
            {"synapse_model": "static_synapse", "weight": PULSE / task.gain, "delay": 1.0},
        )  # fmt: skip
        kernel.Connect(
            pre, cells, "all_to_all",
            {"synapse_model": "stdp_synapse", "weight": task.w, "delay": 1.0, "Wmax": 1.0,
             "lambda": task.a_plus, "alpha": task.a_minus / task.a_plus, "mu_plus": 0.0,
             "mu_minus": 0.0, "tau_plus": task.tau_ms},
        )  # fmt: skip
        seen = kernel.Create("spike_recorder")
        kernel.Connect(cells, seen)
        kernel.Prepare()
        begin = time.perf_counter()
        kernel.Run(len(task.pre) + 3.0)
        seconds = time.perf_counter() - begin
        kernel.Cleanup()
        return Outcome(seconds, float(seen.n_events), None)

    return run


def brainpy(task: Task) -> Run:
    only_single(task)
    import brainpy as bp
    import brainpy.math as bm
    import jax

    bm.set_platform("cpu")
    bm.set_dt(1.0)
    n_post, n_pre = task.w.shape
    # the layer's weight is trainable, hence a variable that plasticity may change
    synapses = bp.dnn.Dense(
        n_pre, n_post, W_initializer=bm.asarray(task.w.T), b_initializer=None, mode=bm.training_mode
    )
    cells = bp.dyn.Lif(
        n_post, V_rest=0.0, V_reset=0.0, V_th=1.0, tau=task.tau_ms,
        V_initializer=bp.init.ZeroInit(), mode=bm.nonbatching_mode,
    )  # fmt: skip
    x, y = bm.Variable(bm.zeros(n_pre)), bm.Variable(bm.zeros(n_post))
    to_current = 1.0 / (1.0 - task.keep)  # the membrane takes this share of a current in a step

    def step(s: Any, electrode: Any) -> Any:
        drive = synapses(s) * task.gain + electrode
        cells.update(drive * to_current)
        fired = cells.spike.value
        synapses.stdp_update(
            on_pre={"spike": s > 0, "trace": -task.a_minus * y.value}, w_min=0.0, w_max=1.0
        )
        synapses.stdp_update(
            on_post={"spike": fired > 0, "trace": task.a_plus * x.value}, w_min=0.0, w_max=1.0
        )
        x.value = (x.value + s) * task.keep
        y.value = (y.value + fired) * task.keep
        return fired.sum()

    pre = bm.asarray(task.pre[:, 0])
    current = bm.asarray(PULSE * task.post[:, 0])
    loop = bm.jit(lambda: bm.for_loop(step, (pre, current)))

    def run() -> Outcome:
        synapses.W.value = bm.asarray(task.w.T)
        x.value, y.value = bm.zeros(n_pre), bm.zeros(n_post)
        cells.V.value = bm.zeros(n_post)
        begin = time.perf_counter()
        fired = jax.block_until_ready(bm.as_jax(loop()))
        jax.block_until_ready(bm.as_jax(synapses.W.value))
        return Outcome(
            time.perf_counter() - begin, float(fired.sum()), np.array(synapses.W.value).T
        )

    return run


CONTESTANTS: dict[str, Callable[[Task], Run]] = {
    "ours": ours, "gated": gated, "plain": plain,
    "bindsnet": bindsnet, "spikingjelly": spikingjelly,
    "norse": norse, "snntorch": snntorch, "brian2": brian2, "nest": nest, "brainpy": brainpy,
}  # fmt: skip


def main() -> None:
    name, path = sys.argv[1:]
    # only answers go to stdout; what a simulator or compiler prints goes to stderr
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    arrays = np.load(path)
    task = Task(*(arrays[key] if arrays[key].ndim else arrays[key].item() for key in Task._fields))
    try:
        run = CONTESTANTS[name](task)
        for line in sys.stdin:
            found = run()
            if line.strip():  # the weights are wanted
                on_cpu = found.w.cpu() if hasattr(found.w, "cpu") else found.w
                np.save(line.strip(), np.asarray(on_cpu))
            answer = {"seconds": found.seconds, "spikes": found.spikes}
            print(json.dumps(answer), file=answers, flush=True)
    except Unable as error:
        print(json.dumps({"unable": str(error)}), file=answers, flush=True)
    except Exception as error:  # a peer that fails is a result, not the benchmark's end
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        print(json.dumps({"unable": reason}), file=answers, flush=True)


if __name__ == "__main__":
    main()
