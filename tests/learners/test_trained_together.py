"""Adapters in the blocks trained by two processes, beside one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_vit import BLOCKS, DIM, small_vit

from snn_artsy import cli
from snn_artsy.checks import ConfigError
from snn_artsy.learners import sgd, subnetworks, together
from snn_artsy.learners.together import Together
from snn_artsy.provenance import follows

SCRIPT = """
import json, os, sys
from dataclasses import replace
import torch
from small_vit import BLOCKS, small_vit, stream
from snn_artsy.learners import subnetworks

curve = []
one = subnetworks.minimise

def watched(loss, parameters, n, *given, **more):
    def look(epoch, rows):
        with torch.no_grad():
            curve.append(float(loss(torch.arange(n))))
    one(loss, parameters, n, *given, after_step=look, **more)

subnetworks.minimise = watched
# 24 images in batches of 5 are four of 5 and one of 4, and one batch that both processes halve
config = replace(BLOCKS, batch_size=5, epochs=4, lr=0.01)
generator = torch.Generator().manual_seed(0)
network = subnetworks.builder(config, 16, "cpu", small_vit())(generator)
subnetworks.train(network, stream()[0][0], config, generator)
number = os.environ.get("RANK", "alone")
flat = torch.cat([p.flatten() for p in network.parameters()])
with open(f"{sys.argv[1]}/{number}.json", "w") as file:
    json.dump({"curve": curve, "parameters": flat.tolist()}, file)
"""


@pytest.mark.slow
def test_the_loss_falls_as_in_one_process(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for words in ([], several):
        command = [sys.executable, *words, str(script), str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    alone, first, second = (
        {key: torch.tensor(value) for key, value in found.items()}
        for name in ("alone", "0", "1")
        for found in [json.loads((tmp_path / f"{name}.json").read_text())]
    )
    assert len(alone["curve"]) == 20 and alone["curve"][-1] < alone["curve"][0] - 0.01
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(first[key], second[key])  # the processes have the same adapter


class TwoInOne:
    """Both processes of a `Together` after each other, in the place of Accelerate."""

    num_processes = 2

    def __init__(self, process_index: int, gradients: list[torch.Tensor]) -> None:
        self.process_index, self.gradients = process_index, gradients

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        self.gradients.append(tensor.clone())
        return tensor


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    x = torch.arange(6.0).view(3, 2)
    gradients: list[torch.Tensor] = []
    for processes in (*(Together(TwoInOne(k, gradients)) for k in (0, 1)), None):
        weight = torch.nn.Parameter(torch.ones(2))

        def loss(rows: torch.Tensor, weight: torch.nn.Parameter = weight) -> torch.Tensor:
            return (x[rows] @ weight).square().mean()

        class Settings:
            epochs, lr, batch_size, weight_decay = 1, 0.0, 3, 0.0

        drawn = torch.Generator().manual_seed(0)
        sgd.minimise(loss, [weight], 3, Settings, drawn, processes=processes)
    assert weight.grad is not None
    torch.testing.assert_close(gradients[0] + gradients[1], weight.grad)


def test_what_several_processes_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Together(TwoInOne(0, []))
    monkeypatch.setattr(subnetworks, "together", lambda: two)
    with pytest.raises(ConfigError, match=r"^ann\.dropout: .*patch_dropout"):
        subnetworks.builder(replace(BLOCKS, dropout=0.1), DIM, "cpu", small_vit())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr(together, "find_spec", lambda name: None)
    together.together.cache_clear()
    with pytest.raises(ConfigError, match=r"^torchrun: needs Accelerate.*snn-artsy\[parallel\]"):
        together.together()
    together.together.cache_clear()


def test_one_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert not follows()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "0")
    assert not follows()
    monkeypatch.setenv("RANK", "1")
    assert follows()
    with pytest.raises(ConfigError, match=r"^sweep: is for one process; torchrun starts"):
        cli._dispatch(["sweep"])
