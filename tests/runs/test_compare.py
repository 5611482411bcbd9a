"""Comparing learners over seeds: the summary, kept cells, and what is refused."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from processes import artsy, marked, marked_environment
from rich.console import Console

import snn_artsy.runs.facts
from snn_artsy.checks import ConfigError
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.recording.about import read_summary
from snn_artsy.recording.lock import WriterLock
from snn_artsy.runs import compare as module
from snn_artsy.runs.cells import cell_file, read_cell
from snn_artsy.runs.checkpoint import read_tensors, write_tensors
from snn_artsy.runs.features import prepare
from snn_artsy.runs.tables import comparison_table, pairs_table
from snn_artsy.runs.workers import Resources, WorkOutcome

QUIET = Console(quiet=True)


def cell(correct: list[int], spikes: list[int] | None = None, **measures: float) -> module.Cell:
    right = np.array(correct, dtype=bool)
    alone = None if spikes is None else np.array(spikes, dtype=bool)
    found = {"a_last": float(right.mean()), **measures}
    if alone is not None:
        found["a_last_spikes_only"] = float(alone.mean())
    curves: dict[str, list[float | None]] = {"old_accuracy": [None, found["a_last"]]}
    return module.Cell(found, "abc", np.arange(len(correct)), right, alone, curves)


def test_summary_of_hand_made_cells() -> None:
    cells = {
        "x": [cell([1, 1, 1, 0], seconds=1.0), cell([1, 1, 0, 0], seconds=3.0)],
        "y": [cell([1, 0, 0, 0], [0, 0, 0, 0]), cell([1, 0, 0, 0], [1, 0, 0, 0])],
    }
    summary = module.summarise(cells)
    x = summary["learners"]["x"]
    assert x["a_last"]["values"] == [0.75, 0.5] and x["a_last"]["mean"] == 0.625
    assert x["a_last"]["sd"] == pytest.approx(0.1767767)
    old = x["curves"]["old_accuracy"]
    assert old["mean"] == [None, 0.625] and old["values"] == [[None, 0.75], [None, 0.5]]
    assert old["sd"] == [None, pytest.approx(0.1767767)]
    assert x["seconds"]["mean"] == 2.0 and "seconds" not in summary["learners"]["y"]
    pairs = {(p["a"], p["b"]): p for p in summary["pairs"]}
    assert set(pairs) == {("x", "y"), ("x", "y (spikes)"), ("y", "y (spikes)")}
    pair = pairs["x", "y"]
    assert pair["difference"] == 0.375 and pair["values"] == [0.5, 0.25]
    # 2 arcsin sqrt(5/8) - 2 arcsin sqrt(1/4) = 1.823477 - pi/3
    assert pair["cohens_h"] == pytest.approx(0.776279, abs=1e-5)
    assert pair["p_holm"] >= pair["p"]
    low, high = pair["interval_95"]
    assert low <= 0.375 <= high
    assert summary["alike"] == [] and "2 seeds" in summary["warnings"][0]
    with pytest.raises(ConfigError, match="test images differ"):
        module.summarise({"x": [cell([1, 1]), cell([1, 1, 1])]})


def test_the_same_answers_are_counted_once() -> None:
    answers = ([1, 1, 1, 0], [1, 1, 0, 0])
    cells = {
        "simplecil": [cell(a) for a in answers],
        "joint": [cell([1, 0, 0, 0]), cell([0, 0, 0, 1])],
        "artsy_ann_e0": [cell(a) for a in answers],
        "ease": [cell([1, 1, 1, 0]), cell([1, 1, 0, 1])],  # the first seed's alone are the same
    }
    summary = module.summarise(cells)
    assert summary["alike"] == [["simplecil", "artsy_ann_e0"]]
    assert "a_last" in summary["learners"]["artsy_ann_e0"]
    pairs = [(p["a"], p["b"]) for p in summary["pairs"]]
    assert pairs == [("simplecil", "joint"), ("simplecil", "ease"), ("joint", "ease")]
    # Holm corrects for three tests, not for six.
    largest = min(summary["pairs"], key=lambda p: p["p"])
    assert largest["p_holm"] == pytest.approx(min(1.0, 3 * largest["p"]))
    console = Console(width=200, record=True)
    console.print(pairs_table(summary))
    text = " ".join(console.export_text().split())
    assert "artsy_ann_e0 answered as simplecil did everywhere and is counted once" in text
    assert "2 seeds: their spread is hardly known" in text


@pytest.mark.parametrize(("n", "said"), [(1, "1 seed:"), (4, "4 seeds:"), (5, None), (6, None)])
def test_few_seeds_are_warned_of(n: int, said: str | None) -> None:
    draws = np.random.default_rng(n)
    cells = {
        name: [cell(draws.integers(0, 2, 50).tolist()) for _ in range(n)] for name in ("x", "y")
    }
    warnings = module.summarise(cells)["warnings"]
    assert warnings == [] if said is None else warnings[0].startswith(said)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "out"
    options = ["--seeds", "2", "--out", str(out), "--data.train_per_class", "12"]
    done = artsy(out.parent, "compare", "--learners", "simplecil,artsy_snn", *options)
    assert done.returncode == 0, done.stderr
    assert "artsy_snn (spikes)" in done.stdout.replace("\n", " ")
    return out


def test_two_learners_two_seeds(compared: Path) -> None:
    summary = json.loads((compared / "summary.json").read_text())
    assert summary["seeds"] == [1993, 1994]
    assert set(summary["learners"]) == {"simplecil", "artsy_snn"}
    snn = summary["learners"]["artsy_snn"]
    for name in ("a_last", "a_last_spikes_only", "seconds", "stored_bytes", "vit_passes_per_image",
                 "inference_ms_per_image"):  # fmt: skip
        assert len(snn[name]["values"]) == 2, name
    for values in snn["curves"]["a_t"]["values"]:
        assert len(values) == 5
    assert [v[-1] for v in snn["curves"]["a_t"]["values"]] == snn["a_last"]["values"]
    assert len(summary["pairs"]) == 3
    low, high = snn["a_last"]["interval_95"]
    assert low < snn["a_last"]["mean"] < high
    assert summary["config"]["data"]["train_share"] == 0.9
    console = Console(width=80, record=True)
    console.print(comparison_table(summary), pairs_table(summary))
    assert all(len(line) <= 80 for line in console.export_text().splitlines())


def test_every_cell_holds_each_image_s_own_answer(compared: Path) -> None:
    """The nearest class mean worked out again: seeds show the images in another order each."""
    orders = []
    for seed in (1993, 1994):
        config = RunConfig(seed=seed, data=DataConfig(train_per_class=12, train_share=0.9))
        frozen = prepare(config, "cpu", Console(quiet=True))
        means: dict[int, NDArray[np.float64]] = {}
        for task, _ in frozen.tasks:
            x = np.concatenate([task.train.features, task.validation.features]).astype(np.float64)
            y = np.concatenate([task.train.labels, task.validation.labels])
            means |= {label: x[y == label].mean(0) for label in task.classes}
        right = {}
        for _, test in frozen.tasks:
            for number, h, label in zip(test.index, test.features, test.labels, strict=True):
                cosines = {c: float(h.numpy() @ m) / np.linalg.norm(m) for c, m in means.items()}
                right[int(number)] = max(cosines, key=cosines.__getitem__) == int(label)
        cell, facts = read_cell(cell_file(compared, "simplecil", seed))
        assert cell.image.tolist() == sorted(right)
        assert cell.correct.tolist() == [right[image] for image in sorted(right)]
        assert facts.config["seed"] == seed and facts.images == frozen.images
        assert 0.5 < np.mean(list(right.values())) < 1.0
        orders.append(list(right))
    assert orders[0] != orders[1]


def test_finished_cells_are_kept(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        data=DataConfig(train_per_class=12, train_share=0.9),
        learners=["simplecil", "artsy_snn"],
        out=str(compared),
    )
    monkeypatch.setattr(module, "prepare", lambda *_: pytest.fail("nothing is left to run"))
    before = json.loads((compared / "summary.json").read_text())
    _, again = module.compare(config, 2, Console(quiet=True))
    assert again["learners"]["simplecil"] == before["learners"]["simplecil"]


def test_what_is_refused(compared: Path, tmp_path: Path) -> None:
    other = RunConfig(data=DataConfig(train_per_class=13, train_share=0.9), out=str(compared))
    with pytest.raises(ConfigError, match=r"data\.train_per_class was 12 and is 13; choose"):
        module.compare(other, 2, QUIET)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        module.compare(RunConfig(out=str(tmp_path)), 1, QUIET)
    with WriterLock(compared), pytest.raises(ConfigError, match=r"^out: .*still being written"):
        module.compare(other, 2, QUIET)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }


def test_nothing_is_written_before_it_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [
        RunConfig(data=DataConfig(name="imagefolder", root="no")),
        RunConfig(data=DataConfig(name="../../../x")),
        RunConfig(data=DataConfig(n_tasks=3)),  # 10 classes
        RunConfig(seed=2**31 - 1),
    ]
    for out in (None, "new"):
        for config in wrong:
            with pytest.raises(ConfigError, match=r"^(data|seeds)\b"):
                module.compare(replace(config, out=out), 2, QUIET)
    assert contents(tmp_path) == {} and not Path("new").exists()
    assert {p.name for p in tmp_path.iterdir()} <= {"runs"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four classes of plain colours that differ a little."""
    draws = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, n in (("train", 8), ("test", 6)):
        for number, name in enumerate("abcd"):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = draws.integers(0, 60, (8, 8, 3)) + 60 * number
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{i}.png")
    return root


def of_folder(root: Path, out: Path, *learners: str) -> RunConfig:
    return RunConfig(
        data=DataConfig(name="imagefolder", root=str(root), n_tasks=2),
        learners=list(learners),
        out=str(out),
    )


def test_other_images_are_not_mixed_with_old_ones(folder: Path, tmp_path: Path) -> None:
    """Labels are corrected between two learners; then the folder is only moved."""
    out = tmp_path / "out"
    module.compare(of_folder(folder, out, "simplecil"), 2, QUIET)
    before = contents(out)
    moved = folder.rename(tmp_path / "moved")
    both = of_folder(moved, out, "simplecil", "artsy_ann_e0")
    _, summary = module.compare(both, 2, QUIET)
    assert contents(out).keys() > before.keys()
    assert (
        summary["learners"]["simplecil"]["a_last"] == summary["learners"]["artsy_ann_e0"]["a_last"]
    )
    (moved / "test/a").rename(moved / "t")
    (moved / "test/b").rename(moved / "test/a")
    (moved / "t").rename(moved / "test/b")
    before = contents(out)
    with pytest.raises(ConfigError, match=r"simplecil-1993.* otherwise: the test images changed;"):
        module.compare(of_folder(moved, out, "simplecil", "joint"), 2, QUIET)
    assert contents(out) == before


def test_other_versions_are_not_mixed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    module.compare(of_folder(folder, out, "simplecil"), 1, QUIET)
    real = snn_artsy.runs.facts.provenance

    def other(threads: int) -> dict[str, Any]:
        found = real(threads)
        return found | {"versions": found["versions"] | {"numpy": "0.1"}}

    monkeypatch.setattr(snn_artsy.runs.facts, "provenance", other)
    with pytest.raises(ConfigError, match=r"numpy was '[^']+' and is '0\.1'"):
        module.compare(of_folder(folder, out, "simplecil"), 2, QUIET)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_cell_is_named_and_run_again(folder: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    config = of_folder(folder, out, "simplecil")
    _, before = module.compare(config, 2, QUIET)
    file = cell_file(out, "simplecil", 1994)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # an answer
    file.write_bytes({"cut": data[:100], "flipped": data, "empty": b""}[damage])
    (out / "cells" / "simplecil-1993.safetensors.part").touch()
    (out / "config.yaml.part").touch()
    (out / "notes.part").touch()
    console = Console(record=True, width=500)
    _, again = module.compare(config, 2, console)
    text = console.export_text()
    assert "simplecil-1994.safetensors: damaged" in text and "run again" in text
    assert again["learners"]["simplecil"]["a_last"] == before["learners"]["simplecil"]["a_last"]
    assert [p.name for p in out.rglob("*.part")] == ["notes.part"]


def test_other_shapes_of_cells_are_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = of_folder(folder, out, "simplecil")
    module.compare(config, 1, QUIET)
    file = cell_file(out, "simplecil", 1993)
    tensors, header = read_tensors(file)
    about = json.loads(header["cell"])
    for other in (
        [], about | {"measures": {"a_last": "high"}}, about | {"facts": {}},
        about | {"curves": {"a_t": 3}}, about | {"facts": about["facts"] | {"threads": "x"}},
    ):  # fmt: skip
        told = {"format": header["format"], "cell": json.dumps(other)}
        write_tensors(file, tensors, told)
        with pytest.raises(ConfigError, match=r"^out: .*simplecil-1993\.safetensors"):
            module.compare(config, 1, QUIET)
    told = {"format": header["format"], "cell": header["cell"]}
    write_tensors(file, {k: v for k, v in tensors.items() if k != "correct"}, told)
    with pytest.raises(ConfigError, match="is no cell"):
        module.compare(config, 1, QUIET)


def test_an_interrupt_says_how_to_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = of_folder(folder, tmp_path / "my out", "simplecil", "artsy_ann_e0")
    real = module.run_learner

    def stop(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "artsy_ann_e0":
            raise KeyboardInterrupt
        return real(name, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_learner", stop)
        with pytest.raises(KeyboardInterrupt, match=r"--out '.*my out' goes on"):
            module.compare(config, 1, QUIET)
    assert sorted(p.name for p in (tmp_path / "my out").iterdir()) == ["cells", "config.yaml"]
    _, summary = module.compare(config, 1, QUIET)
    assert set(summary["learners"]) == {"simplecil", "artsy_ann_e0"}


# --- several workers ------------------------------------------------------------------------------


def without_times(found: Any) -> Any:
    """A summary or the measures of a cell, but for what differs between any two runs."""
    if not isinstance(found, dict):
        return found
    times = {name for name in found if "seconds" in name or "_ms_per_" in name}
    return {k: without_times(v) for k, v in found.items() if k not in {*times, "config"}}


def test_the_same_numbers_with_two_workers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNN_ARTSY_CACHE", str(tmp_path / "cache"))
    learners = ("simplecil", "artsy_ann", "artsy_snn")
    one, two = (of_folder(folder, tmp_path / name, *learners) for name in ("one", "two"))
    consoles = [Console(record=True, width=200, file=io.StringIO()) for _ in range(2)]
    _, expected = module.compare(one, 2, consoles[0])
    _, found = module.compare(two, 2, consoles[1], Resources(workers=2))
    assert without_times(found) == without_times(expected)
    alone, together = (console.export_text() for console in consoles)
    assert "2/2" in together
    for text in (alone, together):  # what comes before all seeds is printed once
        assert text.count("SNN_ARTSY_CACHE is set") == 1
        assert text.count("features (train)") == text.count("features (test)") == 1
    assert [alone.count(f"seed {seed}") for seed in (1993, 1994)] == [1, 1]
    assert found["learners"]["artsy_snn"]["a_last_spikes_only"]["values"]
    for name, seed in ((name, seed) for name in learners for seed in (1993, 1994)):
        (a, of_a), (b, of_b) = (
            read_cell(cell_file(tmp_path / out, name, seed)) for out in ("one", "two")
        )
        assert without_times(a.measures) == without_times(b.measures) and a.curves == b.curves
        assert np.array_equal(a.image, b.image) and np.array_equal(a.correct, b.correct)
        assert of_a == of_b and of_a.config["seed"] == seed
    # what one worker has made, several go on with
    cell_file(tmp_path / "one", "artsy_ann", 1994).unlink()
    _, again = module.compare(one, 2, QUIET, Resources(workers=2))
    assert without_times(again) == without_times(expected)


def test_what_goes_wrong_in_a_worker_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = {"1993": WorkOutcome({}), "1994": WorkOutcome(error="no disk left")}
    monkeypatch.setattr(module, "carry_out", lambda *_: outcomes)
    config = of_folder(folder, tmp_path / "out", "simplecil")
    with pytest.raises(RuntimeError, match=r"^seed 1994: no disk left; the same command goes on"):
        module.compare(config, 2, QUIET, Resources(workers=2))
    outcomes["1994"] = WorkOutcome(error="x", refused=["out", "the test images changed"])
    with pytest.raises(ConfigError, match=r"^out: the test images changed$"):
        module.compare(config, 2, QUIET, Resources(workers=2))


WAITS = """
import os, time
from pathlib import Path
from snn_artsy.learners import SimpleCIL, register

@register("waits")
class Waits(SimpleCIL):
    def __init__(self, setting):
        super().__init__()

    def learn(self, task):
        Path(f"begun-{os.getpid()}").touch()
        while not Path("go").exists():
            time.sleep(0.05)
        super().learn(task)
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_kills_cost_the_cells_that_were_being_made(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITS)
    environment = marked_environment(PYTHONPATH=os.pathsep.join([*filter(None, sys.path), "."]))
    words = ["compare", "--own", "waiting:Waits", "--learners", "simplecil,waits", "--seeds", "2"]
    words += ["--data.name", "imagefolder", "--data.root", "images", "--data.n_tasks", "2"]

    def begun() -> set[int]:
        return {int(file.name.removeprefix("begun-")) for file in tmp_path.glob("begun-*")}

    def until(happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    comparing = subprocess.Popen(
        [sys.executable, "-m", "snn_artsy", *words, "--out", "out", "--workers", "2"],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: len(begun()) == 2 or comparing.poll() is not None)
        assert comparing.poll() is None and comparing.pid not in begun()
        made = [cell_file(tmp_path / "out", "simplecil", seed) for seed in (1993, 1994)]
        cells = {file: file.read_bytes() for file in made}
        os.kill(min(begun()), signal.SIGKILL)
        until(lambda: len(begun()) == 3)  # the seed is begun again, without the cell that is there
        assert {file: file.read_bytes() for file in cells} == cells
    finally:
        comparing.kill()
        comparing.wait()
    until(lambda: not marked(environment))
    assert sorted(p.name for p in (tmp_path / "out" / "cells").iterdir()) == sorted(
        file.name for file in cells
    )
    (tmp_path / "go").touch()
    for out in ("out", "other"):
        done = artsy(tmp_path, *words, "--out", out)
        assert done.returncode == 0, done.stderr
    found, expected = (
        json.loads((tmp_path / out / "summary.json").read_text()) for out in ("out", "other")
    )
    assert without_times(found) == without_times(expected)
    assert {file: file.read_bytes() for file in cells} == cells


def test_measures_of_a_comparison_are_no_single_numbers(tmp_path: Path) -> None:
    """A comparison's summary is read with mean and sd of what spikes alone decide; a run's has a
    number there."""
    learners = {"artsy_snn": {"a_last_spikes_only": {"mean": 0.5, "sd": 0.1}}}
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({"learners": learners, "pairs": []}), encoding="utf-8")
    assert read_summary(tmp_path) == {"learners": learners, "pairs": []}
    file.write_text(json.dumps({"learners": learners}), encoding="utf-8")
    with pytest.raises(ConfigError, match="a_last_spikes_only is no number"):
        read_summary(tmp_path)
