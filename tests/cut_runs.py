"""Runs that are cut off, and what makes two runs the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from snn_artsy.config import (
    ANNConfig,
    BackboneConfig,
    DataConfig,
    PlasticityConfig,
    RecordConfig,
    RunConfig,
    SNNConfig,
)
from snn_artsy.recording import open_run
from snn_artsy.runs import checkpoint

TIMING = {"seconds", "seconds_learning", "inference_ms_per_image"}


def quick_run(cache: Path) -> RunConfig:
    """A run of about two seconds; its features are kept in ``cache``."""
    return RunConfig(
        data=DataConfig(train_per_class=16, test_per_class=5, n_tasks=5),
        backbone=BackboneConfig(cache_dir=str(cache)),
        ann=ANNConfig(epochs=3),
        snn=SNNConfig(plasticity=PlasticityConfig(epochs=2)),
        record=RecordConfig(spike_presentations=2, traced_synapses=4),
        device="cpu",
    )


def datasets(directory: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Everything in run.h5, by path."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(directory / "run.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def assert_same_run(directory: Path, whole: Path) -> None:
    """Final numbers, synaptic states, spikes, conversions and what was learnt, bit for bit."""
    ours, theirs = datasets(directory), datasets(whole)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    with open_run(directory) as run, open_run(whole) as other:
        assert run.status == "complete" == other.status
        for population in other.populations:  # order and SONATA's sorting attribute
            assert (
                run._files[0][f"spikes/{population}"].attrs["sorting"]
                == other._files[0][f"spikes/{population}"].attrs["sorting"]
            )
    a, b = (
        json.loads((d / "summary.json").read_text(encoding="utf-8"))["learners"]
        for d in (directory, whole)
    )
    assert a.keys() == b.keys()
    for name, measures in b.items():
        for key, value in measures.items():
            assert key in TIMING or a[name][key] == value, (name, key)
    for file in (whole / "state").iterdir():
        assert (directory / "state" / file.name).read_bytes() == file.read_bytes()
    left = {p.name for p in directory.iterdir()}
    assert left == {"run.h5", "run.h5.sha256", "config.yaml", "summary.json", "state", "figures",
                    "test_images.safetensors", "measures.jsonl"}  # fmt: skip


class Cut(BaseException):
    """The process dies here."""


def cut_after(
    n: int, monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any], target: str
) -> bool:
    """Have ``action`` die just after the n-th call of a function of `checkpoint`; False if it ended
    before."""
    calls = 0
    real = getattr(checkpoint, target)

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        result = real(*arguments)
        calls += 1
        if calls == n:
            raise Cut
        return result

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, target, counted)
        try:
            action()
        except Cut:
            return True
    return False
