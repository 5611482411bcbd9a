"""Throughput of STDP with an update in every step: our layer, plain torch, and other simulators.

    python experiments/benchmarks/stdp_throughput.py --make-envs --json throughput.json
    python experiments/benchmarks/stdp_throughput.py --quick
    python experiments/benchmarks/stdp_throughput.py --device cuda --json cuda.json

Every contestant runs in a process of its own on the same processors with as many threads, on the
same spikes (`stdp_contestants.py`); runs are interleaved and the median counts. A throughput is
in million synapse updates a second, N_pre N_post T B / time, with the neurons' steps included.
``ours`` is `SilentSynapseLayer.simulate` with the pair rule and contacts without states, which is
what the others compute; ``gated`` the same call with its default rule, states, clocks and events.
``--make-envs`` gives the peers that are not installed virtual environments of their own, which see
this one's packages, so that all use the same torch. A peer that is absent or fails is null in the
JSON and its reason is under "reasons". On a GPU (``--device cuda``) those of torch take
part, a large layer is added, and the bound is what a step must move and compute in float32 at the
measured rates. "limits_mups" has these two one by one, and what starting a kernel for each
operation of our step allows, which nothing but fewer kernels would raise; "binds" names the least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from stdp_contestants import CONTESTANTS, PULSE, Task

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "analysis"))

PEERS = [name for name in CONTESTANTS if name not in ("ours", "gated", "plain")]
# what is installed, where that is not just a package of the module's name; Brian2 2.9 uses
# ndarray.ptp, which NumPy 2.4 has no longer
PACKAGES = {"nest": ["nest-simulator"], "brian2": ["brian2", "numpy<2.4"]}
RULE = {"a_plus": 0.005, "a_minus": 0.00525, "tau_ms": 20.0}


class Case(NamedTuple):
    n_pre: int
    n_post: int
    batch: int
    n_steps: int


CASES = (
    Case(768, 64, 1, 1000),
    Case(768, 768, 1, 1000),
    Case(768, 64, 32, 400),
    Case(768, 768, 32, 50),
)
CUDA_CASES = (*CASES, Case(4096, 4096, 256, 50))


MODES = ("taught", "closed")


def make_task(
    case: Case, rate: float, threads: int, device: str, seed: int, mode: str = "taught"
) -> Task:
    """Random spikes and weights; input through the weights stays far below the threshold."""
    rng = np.random.default_rng(seed)

    def spikes(n: int) -> np.ndarray:
        return (rng.random((case.n_steps, case.batch, n)) < rate).astype(np.float32)

    w = rng.random((case.n_post, case.n_pre), dtype=np.float32)
    # a mean membrane of 0.1 thresholds were all weights 1
    gain = 0.1 / (case.n_pre * rate * RULE["tau_ms"])
    pre, post = spikes(case.n_pre), spikes(case.n_post)
    task = Task(pre, post, w, **RULE, gain=gain, threads=threads, device=device)
    return task if mode == "taught" else firing_by_itself(task._replace(taught=False), rate)


def firing_by_itself(task: Task, rate: float) -> Task:
    """The threshold at which our neurons fire about as often as the electrode makes others."""
    from stdp_contestants import ours

    tried = []
    for threshold in np.geomspace(0.5, 16.0, 11):
        trial = task._replace(threshold=float(threshold), pre=task.pre[:200])
        found = ours(trial)().spikes / (len(trial.pre) * task.pre.shape[1] * len(task.w))
        tried.append((abs(np.log(max(found, 1e-9) / rate)), float(threshold)))
    return task._replace(threshold=min(tried)[1])


class Contestant:
    """A process that runs one case again and again."""

    def __init__(self, name: str, python: Path, task_file: Path, threads: int) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        extra = {key: str(threads) for key in names}
        # threads that wait must not hold up the next contestant
        extra |= {"OMP_WAIT_POLICY": "passive", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        self.name, self.reason = name, ""
        self.process = subprocess.Popen(
            [python, HERE / "stdp_contestants.py", name, task_file],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **extra},
        )  # fmt: skip

    def run(self, save: str = "") -> dict[str, Any] | None:
        """Seconds and spikes, or None from a contestant that is out of the race."""
        if self.reason:
            return None
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(save + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has said why before it ended
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"unable": "its process died"}
        self.reason = answer.get("unable", "")
        return None if self.reason else answer

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def exact_weights(task: Task) -> np.ndarray:
    """The weights after the run, by the reference engine in float64."""
    import torch
    from stdp_contestants import layer_of

    from snn_artsy.config import ContactConfig
    from snn_artsy.rules import PairSTDP

    rule = PairSTDP(task.a_plus, task.a_minus, task.tau_ms, task.tau_ms)
    layer = layer_of(task, rule, ContactConfig(transmission="plain")).double()
    layer.ampa.copy_(torch.from_numpy(task.w))
    pre, current = (torch.from_numpy(s).to(task.device) for s in (task.pre, PULSE * task.post))
    layer.simulate(pre, current)
    return layer.ampa.cpu().numpy()


def race(
    task: Task, pythons: dict[str, Path], runs: int, scratch: Path
) -> tuple[dict[str, float], dict[str, str], float | None, dict[str, float]]:
    """Median seconds of each contestant, why others did not run, our largest weight error (where
    the electrode decides about spikes; else a rounding does), and spikes a neuron and step."""
    file, weights = scratch / "task.npz", scratch / "ours.npy"
    np.savez(file, **task._asdict())
    seconds: dict[str, list[float]] = {name: [] for name in pythons}
    contestants, rates = [], {}
    for name, python in pythons.items():  # one after the other: they compile
        contestant = Contestant(name, python, file, task.threads)
        contestants.append(contestant)
        answer = contestant.run(str(weights) if name == "ours" else "")
        expected = float(task.post.sum())
        if answer is not None:
            rates[name] = answer["spikes"] / task.post.size
        own = name in ("ours", "gated") and not task.taught  # fire as they do
        if answer is not None and not own and abs(answer["spikes"] / expected - 1.0) > 0.01:
            contestant.reason = f"{answer['spikes']:.0f} postsynaptic spikes, not {expected:.0f}"
    for _ in range(runs):
        for contestant in contestants:
            answer = contestant.run()
            if answer is not None:
                seconds[contestant.name].append(answer["seconds"])
    for contestant in contestants:
        contestant.stop()
    for needed in contestants[:3]:
        if needed.reason:
            raise SystemExit(f"{needed.name}: {needed.reason}")
    error = None
    if task.taught:
        error = float(np.abs(np.load(weights) - exact_weights(task)).max())
    reasons = {c.name: c.reason for c in contestants if c.reason}
    medians = {n: median(s) for n, s in seconds.items() if s and n not in reasons}
    return medians, reasons, error, rates


def hardware(threads: int, device: str) -> tuple[float, float]:
    """Measured GEMM rate (GFLOP/s, float32) and memory bandwidth (GB/s, read and written)."""
    import torch

    torch.set_num_threads(threads)
    n, size = (2048, 2**26) if device == "cpu" else (8192, 2**29)
    a, b, c = (torch.rand(n, n, device=device) for _ in range(3))
    big = torch.rand(size, device=device)
    to = torch.empty_like(big)
    rates = []
    for work, amount in (
        (lambda: torch.mm(a, b, out=c), 2.0 * n**3),
        (lambda: to.copy_(big), 2.0 * big.nbytes),
    ):
        times = []
        for _ in range(8):
            begin = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        rates.append(amount / median(times[1:]) / 1e9)
    return rates[0], rates[1]


def limits(
    case: Case, gemm_gflops: float, memory_gbs: float, step_seconds: float, device: str
) -> dict[str, float]:
    """Million updates a second that each limit would allow alone. A dense update costs 6
    operations, and weights are read and written in each step; shared ones stay in a CPU's cache,
    where no kernels are started either."""
    found = {"computing": gemm_gflops / 6.0 * 1e3}
    if device == "cuda":
        found["moving weights"] = memory_gbs / 8.0 * 1e3 * case.batch
        found["starting kernels"] = case.n_pre * case.n_post * case.batch / step_seconds / 1e6
    return found


def launch_seconds(device: str) -> float:
    """Seconds from one operation to the next where there is nearly nothing to compute: on a GPU
    those of starting a kernel."""
    import torch

    x, n = torch.zeros(1, device=device), 5000
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(n):
            x.add_(1.0)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / n)
    return min(times)


def operations_a_step(task: Task) -> float:
    """Of torch, in a step of our layer with the engine that a GPU takes; views compute nothing."""
    import torch
    from stdp_contestants import layer_of, torch_spikes
    from torch.utils._python_dispatch import TorchDispatchMode

    from snn_artsy.config import ContactConfig
    from snn_artsy.rules import PairSTDP

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(
            self, called: Any, _: Any, given: Any = (), named: Any = None
        ) -> Any:
            alias = [each.alias_info for each in called._schema.returns]
            self.n += not any(a is not None and not a.is_write for a in alias)
            return called(*given, **(named or {}))

    rule = PairSTDP(task.a_plus, task.a_minus, task.tau_ms, task.tau_ms)
    contacts, counts, lengths = ContactConfig(transmission="plain"), [], (4, 20)
    for n_steps in lengths:  # what is done once in a call is in both
        layer = layer_of(task, rule, contacts).double()  # which takes the reference on a CPU, too
        pre, current = (part[:n_steps].double() for part in torch_spikes(task))
        with torch.no_grad(), Count() as count:
            layer.simulate(pre, current if task.taught else None)
        counts.append(count.n)
    return (counts[1] - counts[0]) / (lengths[1] - lengths[0])


def find_pythons(
    envs: Path, make: bool, peers: list[str]
) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreter that can import each peer, and why others are absent."""
    found, absent = {}, {}
    for name in peers:
        own = envs / name / "bin" / "python"
        here = Path(sys.executable)
        if importable(here, name):
            found[name] = here
        elif (own.exists() and importable(own, name)) or (
            make and make_env(envs / name, name) and importable(own, name)
        ):
            found[name] = own
        else:
            absent[name] = "not installed; --make-envs installs it"
    return found, absent


def importable(python: Path, name: str) -> bool:
    command = [python, "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, cwd=HERE.parent).returncode == 0


def make_env(folder: Path, name: str) -> bool:
    """A virtual environment with one peer, which sees this environment's packages after its own."""
    print(f"installing {name} into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True)
    shared = [path for path in sys.path if path.endswith("site-packages")]
    own = next((folder / "lib").glob("python*")) / "site-packages"
    (own / "shared.pth").write_text("\n".join(shared) + "\n")
    command = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
    command += PACKAGES.get(name, [name])
    return subprocess.run(command).returncode == 0


def cuda_is_here() -> bool:
    import torch

    return torch.cuda.is_available()


def device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def million_updates(case: Case, seconds: float) -> float:
    return case.n_pre * case.n_post * case.n_steps * case.batch / seconds / 1e6


def markdown(result: dict[str, Any]) -> str:
    """Throughputs in million updates a second, and ratios."""
    head = ["synapses", "our neurons", "rates pre, post", "layer", "gated layer", "plain torch"]
    head += [*PEERS, "layer / plain", "layer / fastest peer", "gated / fastest peer"]
    head += ["layer / dense bound", "largest weight error"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 3)]
    for row in result["rows"]:
        peers = [row["peers"][name] for name in PEERS]
        fastest = max((value for value in peers if value), default=None)
        numbers = [row["layer_mups"], row["gated_mups"], row["plain_mups"], *peers]
        cells = [f"{row['n_pre']} × {row['n_post']}, B {row['batch']}", row["mode"]]
        cells.append(f"{row['pre_rate']:.3f}, {row['post_rate']:.3f}")
        cells += ["–" if value is None else f"{value:,.0f}" for value in numbers]
        cells.append(f"{row['layer_mups'] / row['plain_mups']:.1f}")
        for ours in (row["layer_mups"], row["gated_mups"]):
            cells.append("–" if fastest is None else f"{ours / fastest:.1f}")
        cells.append(f"{row['layer_mups'] / row['dense_bound_mups']:.1f}")
        error = row["max_abs_dw_error"]
        lines.append("| " + " | ".join([*cells, "–" if error is None else f"{error:.1e}"]) + " |")
    lines += [
        "",
        f"Million synapse updates a second, {result['device']}, {result['threads']} threads, "
        f"median of {result['runs']} interleaved runs. Measured beside them: "
        f"{result['gemm_gflops']:.0f} GFLOP/s (float32 GEMM), "
        f"{result['memory_gbs']:.0f} GB/s (copy).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--into", type=Path, help="a page with <!-- NAME --> markers")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.03], help="spikes a step")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--batch", type=int, help="only layers with so many presentations at once")
    parser.add_argument("--name", default="stdp_throughput", help="of the markers")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, 3 runs")
    parser.add_argument("--make-envs", action="store_true", help="install absent peers")
    parser.add_argument(
        "--envs", type=Path, default=Path.home() / ".cache/snn_artsy/benchmark_envs"
    )
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # the same processors for everybody
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    runs = 3 if arguments.quick else arguments.runs
    found, absent = find_pythons(arguments.envs, arguments.make_envs, arguments.peers)
    absent |= {name: "not asked for" for name in PEERS if name not in arguments.peers}
    own = dict.fromkeys(("ours", "gated", "plain"), Path(sys.executable))
    pythons = {**own, **found}
    device = arguments.device
    if device == "cuda" and not cuda_is_here():
        raise SystemExit("--device cuda: torch finds no GPU here")
    gemm, memory = hardware(arguments.threads, device)
    launch = launch_seconds(device)
    rows = []
    cases = CASES if device == "cpu" else CUDA_CASES
    cases = tuple(case for case in cases if arguments.batch in (None, case.batch))
    for case, rate, mode in itertools.product(cases, arguments.rates, MODES):
        if arguments.quick:
            case = case._replace(n_steps=max(20, case.n_steps // 10))
        task = make_task(case, rate, arguments.threads, device, seed=0, mode=mode)
        with tempfile.TemporaryDirectory() as scratch:
            seconds, reasons, error, fired = race(task, pythons, runs, Path(scratch))
        mups = {name: million_updates(case, s) for name, s in seconds.items()}
        operations = operations_a_step(task)
        allowed = limits(case, gemm, memory, operations * launch, device)
        dense = min(v for name, v in allowed.items() if name != "starting kernels")
        rows.append({
            "n_pre": case.n_pre, "n_post": case.n_post, "batch": case.batch,
            "synapses": "shared", "mode": mode, "n_steps": case.n_steps,
            "pre_rate": float(task.pre.mean()), "post_rate": fired["ours"],
            "gated_post_rate": fired["gated"], "max_abs_dw_error": error,
            "layer_mups": mups["ours"], "gated_mups": mups["gated"], "plain_mups": mups["plain"],
            "dense_bound_mups": dense, "limits_mups": allowed,
            "binds": min(allowed, key=allowed.__getitem__), "operations_a_step": operations,
            "peers": {name: mups.get(name) for name in PEERS},
            "reasons": absent | reasons,
        })  # fmt: skip
        print(case, mode, {n: round(m) for n, m in mups.items()}, reasons, file=sys.stderr)
    result = {
        "rows": rows, "gemm_gflops": gemm, "memory_gbs": memory,
        "launch_seconds": launch, "threads": arguments.threads, "runs": runs,
        "device": device_name(device),
    }  # fmt: skip
    print(markdown(result))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.into is not None:
        from results_table import insert

        insert(arguments.into, f"{arguments.name}{'_cuda' * (device == 'cuda')}", markdown(result))


if __name__ == "__main__":
    main()
