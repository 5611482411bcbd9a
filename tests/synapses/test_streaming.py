"""Continuous activity in a run file: the same in pieces as in one, and what the layer gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.checks import ConfigError
from snn_artsy.config import ContactConfig, RecordConfig
from snn_artsy.plots.contact import contact_trace
from snn_artsy.recording import RunRecorder, open_run
from snn_artsy.rules import CalciumRule, GatedSTDP, Gating, PairSTDP
from snn_artsy.synapses import SilentSynapseLayer, StreamedSimulation, trace_contacts

N_PRE, N_POST, T, DT = 30, 7, 240, 0.5
GATED = GatedSTDP(PairSTDP(a_plus=0.08, a_minus=0.05), Gating(target=0.6, tau_target_ms=100.0))
CONTACTS = torch.tensor([[0, 3], [2, 3], [6, 29]])  # (post, pre)


def layer_of(rule: Any = GATED) -> SilentSynapseLayer:
    contacts = ContactConfig(silent_share=0.3, consolidate_ms=60.0)
    return SilentSynapseLayer(
        N_PRE, N_POST, DT, rule=rule, contacts=contacts, update="step",
        generator=torch.Generator().manual_seed(3),
    ).train()  # fmt: skip


def activity() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return (torch.rand(T, 1, N_PRE, generator=generator) < 0.12).float()


def recorded(
    directory: Path, lengths: list[int], layer: SilentSynapseLayer | None = None, every: int = 7,
    buffer_bytes: int = 2**24, plan: RecordConfig = RecordConfig(),  # noqa: B008  (frozen)
) -> dict[str, np.ndarray]:  # fmt: skip
    """All datasets of the run file of an activity in pieces."""
    with RunRecorder(directory, "", {"seed": 0}, plan, buffer_bytes) as recorder:
        simulation = StreamedSimulation(layer or layer_of(), recorder, CONTACTS, every)
        for piece in activity().split(lengths):
            assert len(simulation.simulate(piece).spikes) == len(piece)
    datasets: dict[str, np.ndarray] = {}
    with h5py.File(directory / "run.h5") as file:
        file.visititems(
            lambda name, item: datasets.update({name: item[()]} if hasattr(item, "shape") else {})
        )
    return datasets


@pytest.mark.parametrize("every", [1, 7])
def test_pieces_are_recorded_like_the_whole_bit_for_bit(every: int, tmp_path: Path) -> None:
    whole = recorded(tmp_path / "whole", [T], every=every)
    # so little room that every piece is written as it comes
    pieces = recorded(tmp_path / "pieces", [1, 2, 97, 140], every=every, buffer_bytes=1)
    assert set(pieces) == set(whole)
    for name, values in whole.items():
        assert values.tobytes() == pieces[name].tobytes(), name
    assert len(whole["synapses/task0/events/pre"]) > 20
    assert len(whole["synapses/task0/traces/ampa"]) == -(-T // every)


def test_what_is_recorded_is_what_the_layer_gave(tmp_path: Path) -> None:
    recorded(tmp_path, [100, 140], every=1)
    response, _, events = layer_of().simulate(activity())
    series = trace_contacts(layer_of(), CONTACTS, activity(), None)
    with open_run(tmp_path) as run:
        for name, spikes in (("retina", activity()), ("task0", response.spikes)):
            step, _, node = torch.nonzero(spikes, as_tuple=True)
            assert run.spikes(name).time_ms.tolist() == (step * DT).tolist()
            assert run.spikes(name).node.tolist() == node.tolist()
        changes = run.events(0)
        assert changes.time_ms.tolist() == (events.step * DT).tolist()
        for name in ("pre", "post", "old", "new"):
            assert getattr(changes, name).tolist() == getattr(events, name).tolist()
        assert run.counts(0).counts.tolist() == [layer_of().counts().tolist()]
        traces = run.traces(0)
        assert traces is not None
        assert traces.time_ms.tolist() == [t * DT for t in range(T)]
        assert traces.synapse[:, :2].tolist() == CONTACTS.flip(1).tolist()
        assert set(traces.variables) == set(series)
        for name, values in series.items():
            assert np.allclose(traces.variables[name], values, rtol=1e-4, atol=1e-6), name
        figure = contact_trace(run, synapse=0)
        own = (changes.post == 0) & (changes.pre == 3)
        assert len(figure.axes[0].lines) == 1 + own.sum() > 1


def test_only_what_the_plan_asks_for_is_recorded(tmp_path: Path) -> None:
    plan = RecordConfig(populations=["tasks"], conversions=False, trace_variables=["state"])
    datasets = recorded(tmp_path, [T], plan=plan)
    assert "spikes/retina/node_ids" not in datasets and "spikes/task0/node_ids" in datasets
    assert not any("events" in name for name in datasets)
    assert {n for n in datasets if "traces" in n} == {
        f"synapses/task0/traces/{name}" for name in ("synapse", "time_ms", "state")
    }


@pytest.mark.parametrize("kind", ["eval", "calcium", "no rule"])
def test_traces_that_are_not_advanced_or_not_known_are_left_out(kind: str, tmp_path: Path) -> None:
    rules = {"eval": GATED, "calcium": CalciumRule(), "no rule": None}
    layer = layer_of(rules[kind]).train(kind != "eval")
    datasets = recorded(tmp_path, [T], layer)
    sampled = {name.split("/")[-1] for name in datasets if "traces" in name}
    assert sampled == {"synapse", "time_ms", "ampa", "state", "membrane_mV"}


def test_what_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    with RunRecorder(tmp_path, "", {}, RecordConfig()) as recorder:
        with pytest.raises(ConfigError, match="every: 0 cannot be used; use a whole number of 1"):
            StreamedSimulation(layer_of(), recorder, every=0)
        with pytest.raises(ValueError, match="contacts"):
            StreamedSimulation(layer_of(), recorder, torch.tensor([[N_POST, 0]]))
        simulation = StreamedSimulation(layer_of(), recorder)
        with pytest.raises(
            ValueError, match=r"pre: expected steps of one presentation, \[T, 1, n_pre\]"
        ):
            simulation.simulate(activity().expand(T, 2, N_PRE))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("NaN at the end", "pre: expected spikes"),
        ("fewer steps taught", "current: expected shape"),
        ("no tensor", "pre: expected a torch tensor"),
        ("no step", "pre: expected at least one time step"),
        ("other inputs", "pre: expected shape"),
    ],
)
def test_a_piece_is_looked_at_before_any_of_it_is_told(
    wrong: str, message: str, tmp_path: Path
) -> None:
    pre: Any = activity()
    current = torch.zeros(T, 1, N_POST)
    if wrong == "NaN at the end":
        pre[-1, 0, 0] = float("nan")
    elif wrong == "fewer steps taught":
        current = current[:-1]
    elif wrong == "no tensor":
        pre = pre.numpy()
    elif wrong == "no step":
        pre, current = pre[:0], current[:0]
    else:
        pre = pre[..., 1:]
    layer = layer_of()
    before = layer.ampa.clone()
    with RunRecorder(tmp_path, "", {}, RecordConfig()) as recorder:
        simulation = StreamedSimulation(layer, recorder, CONTACTS, every=7)
        told = recorder.recorded
        with pytest.raises((TypeError, ValueError), match=message):
            simulation.simulate(pre, current)
        assert recorder.recorded == told and simulation.step == 0
    assert torch.equal(layer.ampa, before)


@pytest.mark.parametrize("every", [2.5, "5", float("nan"), -1])
def test_steps_from_sample_to_sample_are_a_whole_number(every: Any, tmp_path: Path) -> None:
    with RunRecorder(tmp_path, "", {}, RecordConfig()) as recorder:
        with pytest.raises(ConfigError, match=r"every: .* use a whole number of 1 or more"):
            StreamedSimulation(layer_of(), recorder, CONTACTS, every)
        with pytest.raises(ConfigError, match="task: -1 cannot be used"):
            StreamedSimulation(layer_of(), recorder, task=-1)
        with pytest.raises(TypeError, match="layer: expected a SilentSynapseLayer"):
            StreamedSimulation(None, recorder)  # type: ignore[arg-type]


def test_sampled_variables_are_the_same_all_the_time(tmp_path: Path) -> None:
    """In eval mode traces rest, and are left out: columns would have different lengths."""
    with RunRecorder(tmp_path, "", {}, RecordConfig()) as recorder:
        layer = layer_of()
        simulation = StreamedSimulation(layer, recorder, CONTACTS, every=7)
        simulation.simulate(activity()[:20])
        with pytest.raises(ValueError, match="layer: expected one in train mode"):
            layer.eval()
            simulation.simulate(activity()[20:])
        synapse = np.zeros((3, 3), np.int64)
        synapse[:, :2] = CONTACTS.flip(1)
        with pytest.raises(ValueError, match="task 0: traced variables differ"):
            recorder.trace(0, np.array([40.0]), synapse, {"ampa": np.zeros((1, 3), np.float32)})
        without = StreamedSimulation(layer, recorder, task=1)
        without.simulate(activity()[:20])
        layer.train()
        without.simulate(activity()[20:])
