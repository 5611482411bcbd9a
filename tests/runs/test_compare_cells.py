"""A comparison of learners whose every answer is made up: what is run, kept, joined and refused."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from snn_artsy import cli
from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.config import DataConfig, RunConfig
from snn_artsy.data.stream import SampleSet, TaskSplit, TaskStream
from snn_artsy.evaluation.measures import StepAnswers
from snn_artsy.evaluation.statistics import crossed_mean
from snn_artsy.learners.base import LabelledBatch, Task
from snn_artsy.learners.tasks import join
from snn_artsy.runs import compare as module
from snn_artsy.runs.cells import cell_file, read_cell
from snn_artsy.runs.features import FeatureStream

N_IMAGES, FIRST_SEED = 12, 5
QUIET = Console(quiet=True)


def is_right(name: str, seed: int, image: int) -> bool:
    """What the made-up learners know."""
    if name == "simplecil":
        return image % 3 != 0  # 8 of 12 images, whatever the seed
    if name == "artsy_snn":
        return image < 9 + seed - FIRST_SEED  # 9, 10, 11 images
    return image % 3 != 0 and name == "joint"


def spikes_right(seed: int, image: int) -> bool:
    return image < 3 * (seed - FIRST_SEED)  # 0, 3, 6 images


def frozen_of(seed: int, first_image: int = 40) -> FeatureStream:
    """Two tasks of two classes; each seed shows the test images in an order of its own."""
    order = first_image + np.random.default_rng(seed).permutation(N_IMAGES)
    tasks, splits = [], []
    for t, index in enumerate(np.split(order, 2)):
        labels = torch.arange(len(index)) % 2 + 2 * t
        x = torch.zeros(len(index), 3)
        test = LabelledBatch(x, torch.from_numpy(index), "test", labels=labels)
        part = SampleSet(index, labels.numpy())
        tasks.append((Task(t, (2 * t, 2 * t + 1), test, test), test))
        splits.append(TaskSplit(t, (2 * t, 2 * t + 1), part, part, part))
    stream = TaskStream(np.arange(4), ("a", "b", "c", "d"), tuple(splits))
    return FeatureStream(tasks, stream, 3, "sha", {"train": "x", "test": "y"}, 1.0)


@dataclass
class Calls:
    """What was prepared and run."""

    prepared: list[int] = field(default_factory=list)
    run: list[tuple[str, int]] = field(default_factory=list)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls()

    def prepare(config: RunConfig, device: str, console: Console) -> FeatureStream:
        made.prepared.append(config.seed)
        return frozen_of(config.seed)

    def run_learner(
        name: str, config: RunConfig, frozen: FeatureStream, device: str, console: Console,
        *args: Any, keep: list[StepAnswers], **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        made.run.append((name, config.seed))
        assert device == "cpu" and config.learners
        seen = join([test for _, test in frozen.tasks])
        labels = seen.labels.numpy()
        images = (seen.index - 40).tolist()
        right = np.array([is_right(name, config.seed, image) for image in images])
        fired = np.array([spikes_right(config.seed, image) for image in images])
        spiking = name == "artsy_snn"
        wrong = 3 - labels
        keep.append(StepAnswers(wrong, labels, labels))  # an earlier step, which does not count
        keep.append(
            StepAnswers(
                labels, np.where(right, labels, wrong), labels,
                spike_predicted=np.where(fired, labels, -1) if spiking else None,
            )
        )  # fmt: skip
        found: dict[str, Any] = {
            "a_last": float(right.mean()),
            "a_t": np.array([1.0, right.mean()]),
            "old_accuracy": np.array([math.nan, config.seed / 10]),
            "new_accuracy": [0.5, 0.25],
            "til_a_t": np.array([1.0, 1.0]),
            "seconds": np.float32(config.seed),
            "stored_bytes": 7,
            "gates_uninformative": True,
            "forgetting_max_last": math.nan,
            "backward_transfer": math.inf,
            "class_order": "words",
            "accuracy_matrix": np.array([[1.0, math.nan], [right.mean(), config.seed / 10]]),
        }
        if spiking:
            found |= {"a_last_spikes_only": float(fired.mean()), "a_t_spikes_only": [0.5, 0.5]}
        return found

    facts = {"git_commit": "abc", "git_dirty": True, "versions": {"torch": "9"}}
    facts |= {"platform": "here", "threads": 1}
    # asking git takes longer than all the rest
    monkeypatch.setattr(module, "provenance", lambda *_: facts, raising=False)
    images = {"train": "x", "test": "y"}
    monkeypatch.setattr(module, "fingerprints", lambda *_: (images, "sha", "float32"))
    monkeypatch.setattr(module, "prepare", prepare)
    monkeypatch.setattr(module, "run_learner", run_learner)
    return made


def config_of(out: Path, *learners: str, **data: Any) -> RunConfig:
    return RunConfig(
        seed=FIRST_SEED, device="cpu", out=str(out), data=DataConfig(**data),
        learners=list(learners or ("simplecil", "artsy_snn")),
    )  # fmt: skip


def test_every_cell_s_numbers_are_tables(calls: Calls, tmp_path: Path) -> None:
    """By hand: 8 of 12 right with simplecil; of the second task the seed's tenth."""
    module.compare(config_of(tmp_path / "out"), 2, QUIET)

    def rows(name: str) -> list[dict[str, str]]:
        with (tmp_path / "out" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    cells = rows("cells.csv")
    assert [(row["learner"], row["seed"]) for row in cells] == [
        ("simplecil", "5"), ("simplecil", "6"), ("artsy_snn", "5"), ("artsy_snn", "6")
    ]  # fmt: skip
    assert float(cells[0]["a_last"]) == 8 / 12 and cells[0]["a_last_spikes_only"] == ""
    assert float(cells[3]["a_last_spikes_only"]) == 3 / 12
    matrix = [row for row in rows("matrix.csv") if row["learner"] == "simplecil"]
    assert [(r["seed"], r["step"], r["task"], float(r["accuracy"])) for r in matrix[:3]] == [
        ("5", "0", "0", 1.0), ("5", "1", "0", 8 / 12), ("5", "1", "1", 0.5)
    ]  # fmt: skip
    lost = rows("forgetting.csv")
    assert float(lost[0]["forgetting"]) == pytest.approx(1 - 8 / 12) and len(lost) == 4
    assert not (tmp_path / "out" / "gates.csv").exists()  # nobody has any


def test_every_learner_runs_with_every_seed(calls: Calls, tmp_path: Path) -> None:
    out = tmp_path / "made" / "here"
    directory, summary = module.compare(config_of(out), 3, QUIET)
    assert directory == out
    assert calls.prepared == [5, 6, 7]  # once for both learners
    assert calls.run == [(name, seed) for seed in (5, 6, 7) for name in ("simplecil", "artsy_snn")]
    assert summary["seeds"] == [5, 6, 7]
    assert summary["config"]["seed"] == 5 and summary["config"]["out"] == str(out)
    assert summary["device"] == "cpu" and summary["threads"] >= 1
    assert summary["versions"] and summary["platform"] and len(summary["git_commits"]) == 1
    written = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(summary))


def test_measures_are_means_over_seeds(calls: Calls, tmp_path: Path) -> None:
    _, summary = module.compare(config_of(tmp_path / "out"), 3, QUIET)
    plain, snn = summary["learners"]["simplecil"], summary["learners"]["artsy_snn"]
    assert plain["a_last"]["values"] == pytest.approx([8 / 12] * 3)
    assert snn["a_last"]["values"] == pytest.approx([9 / 12, 10 / 12, 11 / 12])
    assert snn["a_last"]["mean"] == pytest.approx(10 / 12)
    assert snn["a_last"]["sd"] == pytest.approx(1 / 12)  # n - 1
    assert snn["a_last_spikes_only"]["values"] == pytest.approx([0, 3 / 12, 6 / 12])
    assert plain["seconds"] == {"mean": 6.0, "sd": 1.0, "values": [5.0, 6.0, 7.0]}
    assert plain["stored_bytes"]["values"] == [7.0] * 3
    assert plain["gates_uninformative"]["values"] == [1.0] * 3
    # neither numbers that are not finite, nor what is no number
    for name in ("forgetting_max_last", "backward_transfer", "class_order", "accuracy_matrix"):
        assert name not in plain
    assert "a_last_spikes_only" not in plain
    curves = plain["curves"]
    assert set(curves) == {"a_t", "new_accuracy", "old_accuracy", "til_a_t"}
    assert set(snn["curves"]) == {*curves, "a_t_spikes_only"}
    assert curves["old_accuracy"]["mean"] == [None, pytest.approx(0.6)]
    assert curves["old_accuracy"]["sd"] == [None, pytest.approx(0.1)]
    assert curves["old_accuracy"]["values"] == [[None, 0.5], [None, 0.6], [None, 0.7]]
    assert curves["a_t"]["mean"] == pytest.approx([1.0, 8 / 12])
    assert curves["new_accuracy"]["values"] == [[0.5, 0.25]] * 3


def test_pairs_and_intervals_are_of_the_same_images(calls: Calls, tmp_path: Path) -> None:
    """Rows of right and wrong worked out here, in the order of image numbers."""
    directory, summary = module.compare(config_of(tmp_path / "out"), 3, QUIET)
    seeds, images = (5, 6, 7), range(N_IMAGES)
    table = {
        name: np.array([[float(is_right(name, s, i)) for i in images] for s in seeds])
        for name in ("simplecil", "artsy_snn")
    }
    table["artsy_snn (spikes)"] = np.array(
        [[float(spikes_right(s, i)) for i in images] for s in seeds]
    )
    found = {(pair["a"], pair["b"]): pair for pair in summary["pairs"]}
    names = list(table)
    assert list(found) == [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    for (a, b), pair in found.items():
        expected = crossed_mean(table[a] - table[b])
        assert pair["difference"] == pytest.approx(table[a].mean() - table[b].mean())
        assert pair["values"] == pytest.approx((table[a].mean(1) - table[b].mean(1)).tolist())
        assert pair["interval_95"] == pytest.approx(list(expected.interval()))
        assert pair["p"] == pytest.approx(expected.p_value())
        assert pair["measure"] == "a_last"
        assert pair["p"] <= pair["p_holm"] <= min(1.0, 3 * pair["p"])
    low, high = crossed_mean(table["artsy_snn"]).interval()
    expected_interval = pytest.approx([max(low, 0), min(high, 1)])
    assert summary["learners"]["artsy_snn"]["a_last"]["interval_95"] == expected_interval
    low, high = crossed_mean(table["artsy_snn (spikes)"]).interval()
    expected_interval = pytest.approx([max(low, 0), min(high, 1)])
    assert summary["learners"]["artsy_snn"]["a_last_spikes_only"]["interval_95"] == (
        expected_interval
    )
    assert summary["alike"] == []
    for seed, right, spikes in zip(seeds, table["artsy_snn"], table[names[2]], strict=True):
        cell, _ = read_cell(cell_file(directory, "artsy_snn", seed))
        assert cell.image.tolist() == [40 + i for i in images]
        assert cell.correct.tolist() == right.astype(bool).tolist()
        assert cell.spikes_correct is not None
        assert cell.spikes_correct.tolist() == spikes.astype(bool).tolist()


def test_learners_with_the_same_answers_are_counted_once(calls: Calls, tmp_path: Path) -> None:
    config = config_of(tmp_path / "out", "simplecil", "joint", "artsy_snn", "ranpac", "ease")
    _, summary = module.compare(config, 2, QUIET)
    assert summary["alike"] == [["simplecil", "joint"], ["ranpac", "ease"]]
    pairs = {(pair["a"], pair["b"]) for pair in summary["pairs"]}
    assert len(pairs) == 6 and not any({"joint", "ease"} & {*pair} for pair in pairs)
    assert set(summary["learners"]) == set(config.learners)


@pytest.mark.parametrize(("n", "words"), [(1, ["1 seed"]), (4, ["4 seeds"]), (5, []), (6, [])])
def test_few_seeds_are_warned_of(calls: Calls, tmp_path: Path, n: int, words: list[str]) -> None:
    _, summary = module.compare(config_of(tmp_path / "out", "simplecil"), n, QUIET)
    assert len(summary["warnings"]) == len(words)
    for warning, word in zip(summary["warnings"], words, strict=True):
        assert warning.startswith(f"{word}:")
    assert summary["pairs"] == []
    spread = summary["learners"]["simplecil"]["seconds"]
    assert (spread["sd"] is None) == (n == 1) and len(spread["values"]) == n
    curve = summary["learners"]["simplecil"]["curves"]["old_accuracy"]
    assert (curve["sd"][1] is None) == (n == 1)


def test_a_learner_that_is_not_finite_is_named_and_left_out(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = module.run_learner

    def diverges(name: str, config: RunConfig, *args: Any, **more: Any) -> dict[str, Any]:
        found = honest(name, config, *args, **more)
        if name == "joint" and config.seed > FIRST_SEED:
            raise NotFinite(f"joint, task {config.seed}: 1 of 2 numbers in w are NaN or infinite")
        return found

    monkeypatch.setattr(module, "run_learner", diverges)
    config = config_of(tmp_path / "out", "simplecil", "joint", "artsy_snn")
    said = io.StringIO()
    _, summary = module.compare(config, 3, Console(file=said, width=200))
    why = "; ".join(
        f"seed {seed}: joint, task {seed}: 1 of 2 numbers in w are NaN or infinite"
        for seed in (6, 7)
    )
    assert summary["failed"] == {"joint": why}
    assert f"failed: {why}; joint is left out" in " ".join(said.getvalue().split())
    assert list(summary["learners"]) == ["simplecil", "artsy_snn"]
    others = module.compare(config_of(tmp_path / "others"), 3, QUIET)[1]
    assert summary["pairs"] == others["pairs"] and "failed" not in others
    # the same command again goes on with what failed, and with nothing else
    calls.run.clear()
    monkeypatch.setattr(module, "run_learner", honest)
    _, again = module.compare(config, 3, QUIET)
    assert calls.run == [("joint", 6), ("joint", 7)]
    assert "failed" not in again and list(again["learners"]) == config.learners


def test_a_comparison_of_which_nothing_is_left(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: Any, **__: Any) -> dict[str, Any]:
        raise NotFinite("simplecil, task 0: answers")

    monkeypatch.setattr(module, "run_learner", diverges)
    words = f"compare --seeds 1 --learners simplecil --device cpu --out {tmp_path / 'out'}"
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["learners"] == {} and summary["pairs"] == []
    assert list(summary["failed"]) == ["simplecil"]


def test_only_what_is_missing_is_run(calls: Calls, tmp_path: Path) -> None:
    out = tmp_path / "out"
    module.compare(config_of(out, "simplecil"), 2, QUIET)
    calls.run.clear()
    calls.prepared.clear()
    _, first = module.compare(config_of(out, "simplecil"), 2, QUIET)
    assert not calls.run and not calls.prepared
    # another learner and another seed
    _, summary = module.compare(config_of(out), 3, QUIET)
    assert calls.run == [("artsy_snn", 5), ("artsy_snn", 6), ("simplecil", 7), ("artsy_snn", 7)]
    assert calls.prepared == [5, 6, 7]
    values = summary["learners"]["simplecil"]["a_last"]["values"]
    assert values[:2] == first["learners"]["simplecil"]["a_last"]["values"]
    calls.run.clear()
    cell_file(out, "artsy_snn", 6).unlink()
    module.compare(config_of(out), 3, QUIET)
    assert calls.run == [("artsy_snn", 6)]
    assert not list(out.rglob("*.part"))


def test_a_directory_of_another_comparison_is_refused(calls: Calls, tmp_path: Path) -> None:
    out = tmp_path / "out"
    module.compare(config_of(out, "simplecil", train_per_class=20), 1, QUIET)
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for other, word in (
        (config_of(out, "simplecil", train_per_class=21), r"data\.train_per_class.*20.*21"),
        (replace(config_of(out, "simplecil", train_per_class=20), seed=8), "seed.*5.*8"),
    ):
        with pytest.raises(ConfigError, match=word):
            module.compare(other, 1, QUIET)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    (tmp_path / "mine").mkdir()
    module.compare(config_of(tmp_path / "mine"), 1, QUIET)  # an empty one is taken
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thoughts.txt").write_text("mine")
    with pytest.raises(ConfigError, match="choose another directory"):
        module.compare(config_of(tmp_path / "notes"), 1, QUIET)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["thoughts.txt"]


def test_test_images_must_be_the_same(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # not all of them: the first seed draws them for all, in the comparison's own file, too
    prepared: list[RunConfig] = []

    def prepare(config: RunConfig, *_: Any) -> FeatureStream:
        prepared.append(config)
        return frozen_of(config.seed)

    with monkeypatch.context() as patch:
        patch.setattr(module, "prepare", prepare)
        module.compare(config_of(tmp_path / "few", test_per_class=3), 2, QUIET)
        assert len({config.seed for config in prepared}) == 2
        assert {config.data.test_seed for config in prepared} == {prepared[0].seed}
        module.compare(config_of(tmp_path / "few", test_per_class=3), 2, QUIET)
        with pytest.raises(ConfigError, match=r"data\.test_seed was"):
            module.compare(config_of(tmp_path / "few", test_per_class=3, test_seed=9), 2, QUIET)
        module.compare(config_of(tmp_path / "own", test_per_class=3, test_seed=9), 1, QUIET)
        assert prepared[-1].data.test_seed == 9
    monkeypatch.setattr(
        module, "prepare", lambda config, *_: frozen_of(config.seed, first_image=40 + config.seed)
    )
    with pytest.raises(ConfigError, match="test images differ"):
        module.compare(config_of(tmp_path / "out", "joint"), 2, QUIET)
