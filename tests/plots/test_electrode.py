"""What an electrode would see: against closed forms, draws and contacts that are told by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_run import CONTACTS, FEATURES, MEMBRANE_MV, POST, record

from snn_artsy import plots
from snn_artsy.config import RecordConfig
from snn_artsy.observer import CONSOLIDATED, FUNCTIONAL, SILENT, Conversions
from snn_artsy.physiology import Receptors
from snn_artsy.plots.electrode import (
    RecordedContacts,
    contacts,
    failure_rates,
    ratios,
    rounded,
    spike_triggered,
    variation,
)
from snn_artsy.plots.style import NothingRecorded
from snn_artsy.recording import RunRecorder, open_run
from snn_artsy.synapses.conductance import clamp_current

P = 0.4
OPEN = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]])


def by_hand(after: np.ndarray = OPEN, n: int | None = None) -> RecordedContacts:
    nothing = np.zeros_like(after)
    return RecordedContacts(0, nothing, after, nothing, after, n or after.size, P, Receptors())


@pytest.mark.parametrize("v_mV", [-70.0, 40.0])
def test_currents_are_those_of_the_clamp(v_mV: float) -> None:
    receptors, dt_ms = Receptors(mg_mM=0.7), 0.5
    stimulus = torch.zeros(200, 1, dtype=torch.float64)
    stimulus[10] = 1.0
    stepped = clamp_current(0.6 * stimulus, 2.0 * stimulus, v_mV, receptors, dt_ms)[:, 0]
    after_ms = dt_ms * (np.arange(200) - 10)
    closed = receptors.epsc_pA(after_ms, v_mV, ampa=0.6, nmda=2.0)
    assert closed == pytest.approx(stepped.numpy(), abs=1e-12) and closed[9] == 0
    assert np.sign(closed[10]) == np.sign(v_mV)


def test_the_ratio_of_each_neuron() -> None:
    found, r = by_hand(), Receptors()
    block = {v: 1 / (1 + 1 / 3.57 * math.exp(-0.062 * v)) for v in (-70.0, 40.0)}
    late = (math.exp(-50 / 100) - math.exp(-50 / 2)) / r.nmda_peak
    at_40 = r.g_nmda_nS * late * block[40.0] * 40
    # open AMPA receptors of a contact: 1 of 6, 5 of 6; NMDA receptors have not opened at the peak
    expected = [r.g_ampa_nS * a * 70 / at_40 for a in (1 / 6, 5 / 6)]
    assert ratios(found, found.after) == pytest.approx(expected, rel=1e-6)
    silent = r.g_nmda_nS * block[-70.0] * 70 / at_40  # what magnesium lets through
    assert ratios(found, found.before) == pytest.approx([silent] * 2, rel=1e-3)
    # half of the contacts are not there, and those that are have their receptors
    half = by_hand(n=OPEN.size // 2)
    assert ratios(half, half.after) == pytest.approx([2 * e for e in expected], rel=1e-6)


def test_failures_and_variation_are_binomial() -> None:
    found = by_hand()
    at_rest, above = failure_rates(found, found.after)
    assert at_rest == pytest.approx(np.array([[1.0, 0.6], [0.36, 0.216]]))
    assert above == pytest.approx(np.full((2, 2), 0.6**3))
    # the share of silent contacts by minimal stimulation, 1 - ln F(-70) / ln F(+40)
    estimate = 1 - np.log(at_rest) / np.log(above)
    assert estimate == pytest.approx(np.array([[1, 2 / 3], [1 / 3, 0]]))
    spread = variation(found, found.after)
    assert np.isnan(spread[0, 0])
    assert spread[0, 1] == pytest.approx(math.sqrt(0.6 / 0.4))
    assert spread[1] == pytest.approx([math.sqrt(0.6 / 0.4 / k) for k in (2, 3)])
    graded = by_hand(np.array([[[0.2, 0.5, 0.9]]]))
    drawn = (np.random.default_rng(0).random((200_000, 3)) < P) @ graded.after[0, 0]
    assert variation(graded, graded.after)[0, 0] == pytest.approx(drawn.std() / drawn.mean(), 0.01)


def test_potentials_around_spikes() -> None:
    time_ms = np.array([0.0, 1, 2, 3, 10, 11, 12, 13])
    v_mV = np.array([-70.0, -60, 20, -70, 20, -65, -55, 20])
    presentation = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    around = spike_triggered(time_ms, v_mV, presentation, -50.0, 2)
    nan = np.nan
    expected = [[-70, -60, 20, -70, nan], [nan, nan, 20, -65, -55], [nan, nan, 20, nan, nan]]
    assert around == pytest.approx(np.array(expected), nan_ok=True)
    assert spike_triggered(time_ms, v_mV, presentation, 30.0, 2).shape == (0, 5)


def told(directory: Path, config: str, *, conversions: bool = True) -> Path:
    """Four contacts of which one was born mature; one matured and one was silenced since."""
    with RunRecorder(directory, config, {}, RecordConfig()) as recorder:
        recorder.population("task0", np.zeros(2, dtype=np.int64))
        one = np.zeros(1, dtype=np.int64)
        before, after = np.array([2, 1, 1]), np.array([2, 0, 2])
        recorder.counts(0, 0.0, before)
        if conversions:
            for time_ms, pre, post, old, new in (
                (1.0, 0, 0, SILENT, FUNCTIONAL), (2.0, 1, 1, FUNCTIONAL, SILENT),
                (3.0, 0, 0, FUNCTIONAL, CONSOLIDATED),
            ):  # fmt: skip
                states = (np.array([s], dtype=np.uint8) for s in (old, new))
                recorder.conversions(
                    Conversions(0, np.array([time_ms]), one + pre, one + post, one, *states)
                )
        recorder.counts(0, 4.0, after)
        ampa = np.array([[[0.9], [0.1]], [[0.8], [0.2]]], dtype=np.float32)
        state = np.array([[[2], [0]], [[2], [0]]], dtype=np.uint8)
        recorder.snapshot(0, "after_task_0", ampa, state)
    return directory


def test_what_contacts_were_before_follows_from_the_changes(tmp_path: Path) -> None:
    config = "snn:\n  receptors: {g_ampa_nS: 2.0}\n  contacts: {transmission: graded}\n"
    with open_run(told(tmp_path, config)) as run:
        found = contacts(run)
    assert found.before[..., 0].tolist() == [[0, 0], [1, 1]] and found.n == 4
    assert found.occupancy_before.tolist() == found.before.tolist()
    assert found.after[..., 0] == pytest.approx(np.array([[0.9, 0], [0.8, 0]]))
    assert (found.receptors.g_ampa_nS, found.receptors.g_nmda_nS) == (2.0, Receptors.g_nmda_nS)
    assert found.release == 1.0 and found.all_there


def test_the_figures_show_it(tmp_path: Path) -> None:
    record(tmp_path)
    with open_run(tmp_path) as run:
        found = contacts(run, 0)
        assert found.after.shape == (POST, 2 * FEATURES, CONTACTS) and found.release == 0.4
        assert not found.before.any()
        figure = plots.epsc_averages(run, 0)
        for axes, v_mV in zip(figure.axes, (-70.0, 40.0), strict=True):
            born, learnt = (line.get_data() for line in axes.lines[:2])
            for (time_ms, current), share in ((born, 0.0), (learnt, found.after.mean())):
                expected = 0.4 * Receptors().epsc_pA(time_ms, v_mV, share)
                assert current == pytest.approx(expected)
            assert not axes.axison and {t.get_text()[-2:] for t in axes.texts} == {"ms", "pA"}
        (bars, _) = plots.release_failures(run, 0).axes
        heights = [bar.get_height() for bar in bars.patches]
        open_ones = np.count_nonzero(found.after, axis=2)
        assert heights == pytest.approx([1.0, (0.6**open_ones).mean(), 0.36])
        (axes,) = plots.occupancy_before_after(run, 0).axes
        born, learnt = (patch.get_data().values for patch in axes.patches)
        assert born[0] == pytest.approx(100) and learnt.sum() == pytest.approx(100)
        (axes,) = plots.spike_triggered_membrane(run, 0, reach_ms=2.0).axes
        mean = axes.lines[-2].get_ydata()
        assert mean[:3] == pytest.approx(MEMBRANE_MV[:3])
        assert "20 spikes of 5 neurons" in axes.get_title()
        (axes,) = plots.ampa_nmda_ratio(run, 0).axes
        assert axes.lines[-1].get_ydata() == pytest.approx(ratios(found, found.after).mean())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    def said(draw: str, name: str, config: str = "", **more: bool) -> str:
        (tmp_path / name).mkdir()
        with (
            open_run(told(tmp_path / name, config, **more)) as run,
            pytest.raises(NothingRecorded) as reason,
        ):
            plots.FIGURES[draw](run)
        return str(reason.value)

    assert "record.conversions" in said("epsc_averages", "a", conversions=False)
    assert "release_probability is 1" in said("release_failures", "b")
    plain = "snn:\n  contacts: {transmission: plain}\n"
    assert "transmission: plain" in said("ampa_nmda_ratio", "c", plain)
    assert "record.trace_windows" in said("spike_triggered_membrane", "d")
    with RunRecorder(tmp_path, "", {}, RecordConfig()):
        pass
    with open_run(tmp_path) as run, pytest.raises(NothingRecorded, match=r"record\.snapshots"):
        plots.FIGURES["occupancy_before_after"](run)


def test_lengths_of_bars_are_round() -> None:
    assert [rounded(x) for x in (0.7, 1.0, 4.9, 5.0, 38.0, 0.0)] == [0.5, 1, 2, 5, 20, 1]
