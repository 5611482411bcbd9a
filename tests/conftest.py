"""What has to be done before any test."""

import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:
    # One of several processes that share the cores, each of which would take all of them. Libraries
    # read it once, when they are imported, and the commands that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from snn_artsy.registry import KINDS


@pytest.fixture(scope="session", autouse=True)
def few_figures_a_run() -> None:
    """A run draws two figures, but in tests that ask for `drawing.all_figures`."""
    from drawing import draw_few  # imports torch, which collecting tests does not need

    draw_few()


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of several processes the first compiles the loop of a layer, which takes most of a minute,
    and the others load what it has made."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    import torch
    from filelock import FileLock

    from snn_artsy.synapses import SilentSynapseLayer

    with FileLock(tmp_path_factory.getbasetemp().parent / "compiling.lock"):
        SilentSynapseLayer(3, 2, update="step").simulate(torch.ones(4, 1, 3))


@pytest.fixture(autouse=True)
def only_what_the_package_brings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test adds to the registry, the next one does not know."""
    for registry in KINDS.values():
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
        monkeypatch.setattr(registry, "_spelled", {})
        monkeypatch.setattr(registry, "_points", [])
    yield
