"""That an address-checked run of the compiled loops (NUMBA_BOUNDSCHECK=1, see .ci/run) can fail.

Numba checks indices only in code that it compiles under that variable: code from an ordinary cache
stays unchecked. And an IndexError of another thread than the main one is lost, so that such a run
must have one thread. Each fault here lies in the last pass of a parallel loop.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from snn_artsy.rules import PairSTDP
from snn_artsy.synapses import SilentSynapseLayer, compiled, contact_kernel, kernels

pytestmark = pytest.mark.skipif(
    not numba.config.BOUNDSCHECK, reason="an address-checked run: NUMBA_BOUNDSCHECK=1"
)

T, B, N_PRE, N_POST = 3, 1, 4, 5
CAUGHT = (IndexError, SystemError)  # the latter: a loop returned with an exception set


def floats(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def contacts() -> list[Any]:
    shape = (N_POST, N_PRE)
    return [floats(*shape), np.zeros(shape, np.uint8), floats(*shape), np.ones(shape, bool)]


def dynamics() -> contact_kernel.Dynamics:
    layer = SilentSynapseLayer(N_PRE, N_POST, update="step")
    return compiled._dynamics(layer, compiled.AS_GIVEN, 1.0, B)


def test_one_thread_sees_every_error() -> None:
    assert numba.config.NUMBA_NUM_THREADS == 1, "run with NUMBA_NUM_THREADS=1"


@pytest.mark.parametrize("short", [False, True])
def test_all_contacts_in_one_step(short: bool) -> None:
    change = floats(N_POST - short, N_PRE)
    if not short:
        contact_kernel._express_change(*contacts(), change, dynamics())
        return
    with pytest.raises(CAUGHT):
        contact_kernel._express_change(*contacts(), change, dynamics())


@pytest.mark.parametrize("fault", ["none", "target", "spike"])
def test_all_steps(fault: str) -> None:
    pre, post = floats(T, B, N_PRE), floats(T, B, N_POST)
    start, inputs, batch = kernels.spikes_by_input(pre)
    if fault == "spike":
        inputs[-1] = N_PRE
    target = floats(N_POST - (fault == "target"))
    given = (*contacts(), post, pre, post, pre, start, inputs, batch, floats(T, N_PRE), target)
    if fault == "none":
        contact_kernel._learn_contacts(*given, dynamics())
        return
    with pytest.raises(CAUGHT):
        contact_kernel._learn_contacts(*given, dynamics())


@pytest.mark.parametrize("fault", [False, True])
@pytest.mark.parametrize("private", [False, True])
def test_weights_of_leaky_units(private: bool, fault: bool) -> None:
    c = kernels.constants(PairSTDP(), 1.0, 0.9, 0.1, -2.0)
    pre, current = floats(T, B, N_PRE), floats(T, B, N_POST)
    row_start, where = kernels.spike_list(pre.reshape(-1, N_PRE))
    if fault:
        where[-1] = N_PRE
    answer = [np.empty_like(current), np.empty_like(current), np.empty_like(current[0])]
    if private:
        loop, given = kernels._private_lazy, (floats(B, N_POST, N_PRE), row_start, where)
    else:
        by_input = kernels.spikes_by_input(pre)
        loop, given = kernels._shared, (floats(N_POST, N_PRE), *by_input, row_start, where)
    if not fault:
        loop(*given, current, *answer, c, 2, 2)
        return
    with pytest.raises(CAUGHT):
        loop(*given, current, *answer, c, 2, 2)
