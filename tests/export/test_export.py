"""Exported runs, read back by the tools that own the formats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import libsonata
import numpy as np
import pytest
from synthetic_run import CONFIG, N_TASKS, Truth, evaluate, record, simulate

from snn_artsy import cli, protocols
from snn_artsy.checks import ConfigError
from snn_artsy.config import RecordConfig
from snn_artsy.export import export, to_neo
from snn_artsy.export.neo_block import pieces
from snn_artsy.protocols import store
from snn_artsy.recording import Run, RunRecorder, open_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("run")
    truth, _ = record(folder)
    return folder, truth


@pytest.fixture(scope="module")
def run(recorded: tuple[Path, Truth]) -> Run:
    return open_run(recorded[0])


@pytest.fixture(scope="module")
def nwb(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, "nwb", tmp_path_factory.mktemp("nwb") / "run.nwb")


@pytest.fixture(scope="module")
def sonata(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, "sonata", tmp_path_factory.mktemp("sonata") / "out")


def told(truth: Truth, population: str, neuron: int) -> list[float]:
    """Spike times (ms) of a neuron as they were told to the recorder."""
    return sorted(t for t, n in truth.spikes[population] if n == neuron)


def test_spikes_and_presentations_through_pynwb(nwb: Path, recorded: tuple[Path, Truth]) -> None:
    from pynwb import NWBHDF5IO

    truth = recorded[1]
    with NWBHDF5IO(str(nwb), "r") as io:
        content = io.read()
        units = content.units.to_dataframe()
        trials = content.trials.to_dataframe()
    shown = sum(len(times) for times in units["spike_times"])
    assert shown == sum(len(spikes) for spikes in truth.spikes.values()) > 0
    for _, unit in units.iterrows():
        expected = np.array(told(truth, unit["population"], unit["neuron"])) * 1e-3
        np.testing.assert_allclose(unit["spike_times"], expected)
    starts = np.concatenate([s.start_ms for s in truth.stimuli]) * 1e-3
    np.testing.assert_allclose(trials["start_time"], starts)
    labels = np.concatenate([s.label for s in truth.stimuli])
    assert trials["label"].tolist() == labels.tolist()
    # two presentations of each ten in training have spikes, and all in test
    recorded_in_training = trials["spikes_recorded"][trials["split"] == "train"]
    assert recorded_in_training.tolist() == ([True] * 2 + [False] * 8) * 12
    assert trials["spikes_recorded"][trials["split"] == "test"].all()
    assert trials["split"].tolist() == [s.split for s in truth.stimuli for _ in s.start_ms]


def test_synaptic_states_through_pynwb(nwb: Path, recorded: tuple[Path, Truth]) -> None:
    from pynwb import NWBHDF5IO

    truth = recorded[1]
    with NWBHDF5IO(str(nwb), "r") as io:
        content = io.read()
        for task in range(N_TASKS):
            series = content.acquisition[f"task{task}_contacts"]
            times, counts = zip(*truth.counts[task], strict=True)
            np.testing.assert_allclose(series.timestamps[:], np.array(times) * 1e-3)
            np.testing.assert_array_equal(series.data[:], counts)
            found = content.processing["synapses"][f"task{task}_conversions"].to_dataframe()
            assert found["pre"].tolist() == np.concatenate(
                [e.pre for e in truth.events[task]]).tolist()  # fmt: skip
            names = np.array(["silent", "functional", "consolidated"])
            new = np.concatenate([e.new for e in truth.events[task]])
            assert found["new"].tolist() == names[new].tolist()
            ampa = np.concatenate(truth.traces[task])
            np.testing.assert_array_equal(content.acquisition[f"task{task}_ampa"].data[:], ampa)


def test_the_nwb_file_is_valid(nwb: Path) -> None:
    from nwbinspector import Importance, inspect_nwbfile
    from pynwb import validate

    assert not list(validate(path=str(nwb)))
    found = list(
        inspect_nwbfile(
            nwbfile_path=nwb,
            importance_threshold=Importance.CRITICAL,
            ignore=["check_subject_exists"],  # a simulation has no animal
        )
    )
    assert not found, found


def test_neo_and_elephant_read_the_spikes(nwb: Path, recorded: tuple[Path, Truth]) -> None:
    import quantities as pq
    from elephant.statistics import mean_firing_rate
    from neo.io import NWBIO

    truth = recorded[1]
    segment = NWBIO(str(nwb), mode="r").read_block().segments[0]
    found = sorted(len(train) for train in segment.spiketrains)
    assert sum(found) == sum(len(spikes) for spikes in truth.spikes.values())
    neuron = truth.spikes["retina"][0][1]
    expected = told(truth, "retina", neuron)
    train = next(
        t for t in segment.spiketrains
        if len(t) == len(expected) and np.allclose(t.rescale("ms").magnitude, expected)
    )  # fmt: skip
    stop = expected[-1] * pq.ms
    rate = mean_firing_rate(train, t_start=0 * pq.ms, t_stop=stop).rescale("Hz").magnitude
    assert rate == pytest.approx(len(expected) / (expected[-1] * 1e-3))


def test_libsonata_reads_the_spikes(sonata: Path, recorded: tuple[Path, Truth]) -> None:
    reader = libsonata.SpikeReader(str(sonata / "spikes.h5"))
    truth = recorded[1]
    assert set(reader.get_population_names()) == set(truth.spikes)
    for population, spikes in truth.spikes.items():
        found = [(t, n) for n, t in reader[population].get()]
        assert sorted(found) == sorted(spikes)
        assert reader[population].sorting == "by_time"


def test_libsonata_reads_the_traces(sonata: Path, run: Run) -> None:
    reader = libsonata.ElementReportReader(str(sonata / "ampa.h5"))
    for task in range(N_TASKS):
        traces = run.traces(task)
        assert traces is not None
        frame = reader[f"task{task}"].get()
        assert len(frame.times) == len(traces.time_ms)
        for column, (post, element) in enumerate(frame.ids):
            assert traces.synapse[element, 1] == post
            np.testing.assert_array_equal(
                frame.data[:, column], traces.variables["ampa"][:, element]
            )
        assert len(frame.ids) == len(traces.synapse)
    with h5py.File(sonata / "ampa.h5") as file:
        at = file["report/task0/sample_time_ms"][()]
    first = run.traces(0)
    assert first is not None
    np.testing.assert_array_equal(at, first.time_ms)


@pytest.mark.parametrize("what", ["nothing", "answers", "populations", "no spikes", "one spike"])
def test_a_run_that_lacks_something_opens_elsewhere_or_is_refused(
    what: str, tmp_path: Path
) -> None:
    """NWB needs types of columns, libsonata a population."""
    from pynwb import NWBHDF5IO

    plan = RecordConfig(populations=[]) if what == "no spikes" else RecordConfig()
    with RunRecorder(tmp_path, CONFIG, {}, plan) as recorder:
        if what == "answers":
            evaluate(recorder)
        if what in ("populations", "one spike"):
            recorder.population("retina", np.array([0, 1]))
        if what == "one spike":
            recorder.spikes("retina", np.array([1.0]), np.array([0]))
        if what == "no spikes":
            simulate(recorder)
    with open_run(tmp_path) as run:
        with NWBHDF5IO(str(export(run, "nwb")), "r") as io:
            content = io.read()
            assert (content.trials is None) == (what != "no spikes")
            assert (content.units is None) == (what != "one spike")
            assert ("evaluation" in content.processing) == (what == "answers")
        if what in ("nothing", "answers", "populations"):
            with pytest.raises(ConfigError, match=r"neither spikes nor traced .* export to nwb"):
                export(run, "sonata")
            assert not (tmp_path / "sonata").exists()
            return
        made = export(run, "sonata")
    if what == "one spike":
        assert libsonata.SpikeReader(str(made / "spikes.h5"))["retina"].get() == [(0, 1.0)]
    else:
        names = libsonata.ElementReportReader(str(made / "ampa.h5")).get_population_names()
        assert names == ["task0", "task1", "task2"]
        assert sorted(p.name for p in made.iterdir()) == ["ampa.h5", "membrane_mV.h5"]


def test_what_is_refused(run: Run, nwb: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from nwb, sonata"):
        export(run, "mat")
    with pytest.raises(ConfigError, match="exists"):
        export(run, "nwb", nwb)
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        export(run, "sonata", tmp_path / "there")


def test_a_failure_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Run, "spikes", broken)
    for to in ("nwb", "sonata"):
        with pytest.raises(ConfigError, match="disk full"):
            export(run, to, tmp_path / to)
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_without_torch(recorded: tuple[Path, Truth], tmp_path: Path) -> None:
    out = tmp_path / "x"
    code = (
        "import sys, json; from snn_artsy.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as e: print(json.dumps([e.code, 'torch' in sys.modules]))"
    )
    command = [sys.executable, "-c", code, "export", str(recorded[0]), "--to", "sonata"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert lines == [str(out)]
    assert json.loads(last) == [0, False]
    assert (out / "spikes.h5").is_file()


def test_a_block_of_neo_has_names(run: Run, recorded: tuple[Path, Truth]) -> None:
    truth = recorded[1]
    block = to_neo(run)
    (segment,) = block.segments
    assert [group.name for group in block.groups] == list(run.populations)
    assert sum(map(len, segment.spiketrains)) == sum(map(len, truth.spikes.values()))
    for train in segment.spiketrains:
        population, neuron = train.annotations["population"], train.annotations["neuron"]
        assert train.name == f"{population} {neuron}"
        np.testing.assert_allclose(train.rescale("ms").magnitude, told(truth, population, neuron))
    of_class = [t.annotations["group"] for t in block.groups[1].spiketrains]
    assert of_class == run.group("task0")[run.recorded("task0")].tolist()
    (trials,) = segment.epochs
    starts = np.concatenate([s.start_ms for s in truth.stimuli])
    np.testing.assert_allclose(trials.times.rescale("ms").magnitude, starts)
    assert set(trials.durations.rescale("ms").magnitude.round(6)) == {100.0}
    assert trials.labels.tolist() == [s.split for s in truth.stimuli for _ in s.start_ms]
    labels = np.concatenate([s.label for s in truth.stimuli])
    assert trials.array_annotations["label"].tolist() == labels.tolist()
    events = segment.events[1]
    new = np.concatenate([e.new for e in truth.events[1]])
    names = ("silent", "functional", "consolidated")
    assert [text.split(" -> ")[1] for text in events.labels] == [names[k] for k in new]
    # four samples a ms apart before the end of each batch
    ampa = [s for s in segment.analogsignals if s.name == "task2 ampa"]
    assert len(ampa) == len(truth.traces[2]) and not segment.irregularlysampledsignals
    for signal, values in zip(ampa, truth.traces[2], strict=True):
        np.testing.assert_array_equal(signal.magnitude, values)
        assert signal.sampling_period.rescale("ms").magnitude == pytest.approx(1.0)
    (membrane,) = {str(s.units.dimensionality) for s in segment.analogsignals if "mV" in s.name}
    assert membrane == "mV"


def test_pieces_without_a_gap() -> None:
    assert pieces(np.array([0.0, 1, 2, 10, 11])) == [slice(0, 3), slice(3, 5)]
    assert pieces(np.array([0.0, 1, 3, 7, 20])) == [slice(0, 5)]
    assert pieces(np.zeros(1)) == [slice(0, 1)]


def test_a_protocol_through_pynwb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pynwb import NWBHDF5IO, validate

    outcome = protocols.pairing(pre_ms=[[10.0, 60.0], [30.0]], post_ms=[20.0, 70.0])
    store.save(outcome, tmp_path, seed=1)
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", str(tmp_path / "pairing.h5"), "--to", "nwb"])
    assert ended.value.code == 0
    file = tmp_path / "pairing.nwb"
    assert capsys.readouterr().out.strip().endswith("pairing.nwb")
    assert not list(validate(path=str(file)))
    with NWBHDF5IO(str(file), "r") as io:
        content = io.read()
        units = content.units.to_dataframe()
        assert units["side"].tolist() == ["post", "pre", "pre"]
        np.testing.assert_allclose(units["spike_times"][1], [0.01, 0.06])
        series = content.acquisition["occupancy"]
        np.testing.assert_array_equal(series.data[:], outcome.data["occupancy"].values)
        times = outcome.data["time_ms"].values
        np.testing.assert_allclose(series.timestamps[:], 1e-3 * times)
        change = content.scratch["change"]
        np.testing.assert_array_equal(change.data[:], outcome.data["change"].values)
        assert "[post, pre]" in change.description
        assert '"rule": "pair"' in content.experiment_description
    for words, said in (
        (["--to", "sonata", "--out", "x"], "to: 'sonata' is for runs"),
        (["--to", "nwb"], "exists and was left as it is"),
        (["--to", "nwb", "--out", str(tmp_path / "pairing.h5")], "is the file that is read"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["export", str(tmp_path / "pairing.h5"), *words])
        assert ended.value.code == 2 and said in capsys.readouterr().err
