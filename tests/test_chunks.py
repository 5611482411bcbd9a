"""Statistics that are taken some samples at a time are those of all samples at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_features import DIM, gaussian_stream
from torch import Tensor

from snn_artsy import chunks as module
from snn_artsy.chunks import ROWS, chunks, rows_of
from snn_artsy.config import RunConfig
from snn_artsy.learners import Setting, build
from snn_artsy.learners.gates import DiscriminantGates, RidgeGates
from snn_artsy.learners.prototypes import class_means, means_of_answers
from snn_artsy.synapses.encoding import within_class_scatter

X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) * 7 % 3


@pytest.fixture
def three_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)


def test_every_sample_is_in_one_part(three_at_a_time: None) -> None:
    assert [list(range(7))[rows] for rows in chunks(7)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks(0)) == []


def discriminant() -> Tensor:
    gates = DiscriminantGates(0.1)
    gates.add_task(X, Y)
    gates.add_task(X + 1.0, Y + 3)
    return gates.class_scores(X)


def ridge() -> Tensor:
    gates = RidgeGates(4, 10, torch.Generator().manual_seed(0), "cpu")
    gates.add_task(X, Y)
    gates.add_task(X + 1.0, Y + 3)
    return gates.scores(X)


def spiking_prototypes() -> Tensor:
    stream = gaussian_stream(n_train=8, n_validation=2)
    learner = build("artsy_snn", Setting(RunConfig(learners=["artsy_snn"]), DIM, "cpu"))
    for task in stream.tasks[:2]:
        learner.learn(task)
    return torch.cat(learner.prototypes.gained)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "statistics",
    [
        lambda: within_class_scatter(X, Y),
        lambda: means_of_answers(lambda rows: X[rows].square(), Y, (2, 0, 1)),
        discriminant,
        ridge,
        spiking_prototypes,
    ],
)
def test_parts_change_no_statistic(
    statistics: Callable[[], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = statistics()
    monkeypatch.setattr(module, "ROWS", 3)
    torch.testing.assert_close(statistics(), whole, rtol=1e-5, atol=1e-6)


def test_means_of_answers_are_class_means() -> None:
    answers = X.square()
    found = means_of_answers(lambda rows: answers[rows], Y, (2, 0, 1))
    assert torch.equal(found, class_means(answers, Y, (2, 0, 1)))


def test_gates_are_solved_anew_when_more_is_known() -> None:
    gates = DiscriminantGates(0.1)
    gates.add_task(X, Y)
    before, kept = gates.class_scores(X), gates.checkpoint()
    gates.add_task(X + 1.0, Y + 3)
    assert gates.class_scores(X).shape == (20, 6)
    gates.restore(kept)
    assert torch.equal(gates.class_scores(X), before)


def resident_files() -> int:
    """Pages of files that count as this process's memory, bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("RssFile:")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_what_was_read_of_a_map_is_given_back(tmp_path: Path) -> None:
    """64 MB, in two parts; the map stays open, as a run's features do."""
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (2 * ROWS, 2048))
    file[:, 0] = np.arange(len(file))
    file.flush()
    del file
    kept = np.load(tmp_path / "x.npy", mmap_mode="r")
    index = np.arange(2 * ROWS)[::-1]
    before = resident_files()
    taken = rows_of(kept, index)
    assert resident_files() - before < 2**24
    assert not isinstance(taken, np.memmap)
    assert np.array_equal(taken[:, 0], index.astype(np.float32)) and not taken[:, 1:].any()
    assert np.array_equal(rows_of(kept, index[:0]), taken[:0])
    assert np.array_equal(rows_of(taken, index[:3]), taken[index[:3]])
