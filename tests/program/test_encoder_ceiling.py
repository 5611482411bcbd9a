"""analysis/encoder_ceiling.py: classifiers against scikit-learn, inputs against the learner's."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from synthetic_features import DIM, N_CLASSES, PER_TASK, gaussian_stream, pick

from snn_artsy.checks import ConfigError
from snn_artsy.config import RunConfig
from snn_artsy.learners import Setting, build

STREAM = gaussian_stream()


def stream() -> Any:
    """What `prepare` gives, as far as the script reads it."""
    of_task = STREAM.test.labels // PER_TASK
    tests = [pick(STREAM.test, torch.nonzero(of_task == t)[:, 0]) for t in range(3)]
    return SimpleNamespace(tasks=list(zip(STREAM.tasks, tests, strict=True)))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "analysis"))
    found = importlib.import_module("encoder_ceiling")
    monkeypatch.setattr(found, "prepare", lambda *_: stream())
    return found


def test_ridge_is_that_of_scikit_learn(script: Any) -> None:
    train = STREAM.tasks[0].train
    x, y = train.features.double(), train.labels
    weight, intercept = script.ridge(x, y, 0.3)
    rest = (x - x.mean(0)).numpy()
    alpha = 0.3 * (rest**2).sum() / DIM
    expected = Ridge(alpha=alpha).fit(x.numpy(), np.eye(PER_TASK)[y.numpy()])
    np.testing.assert_allclose(weight.numpy(), expected.coef_, atol=1e-10)
    np.testing.assert_allclose(intercept.numpy(), expected.intercept_, atol=1e-10)


def test_inputs_are_what_the_spiking_learner_sees(script: Any) -> None:
    config = RunConfig(seed=7)
    snn: Any = build("artsy_snn", Setting(config, DIM, "cpu"))
    snn.learn(STREAM.tasks[0])
    found = script.inputs(config, stream())
    test = found["h_0"][2]
    own = replace(test, features=test.features.float())
    assert torch.equal(found["counts"][2].features, snn.input_spikes(own).sum(0).double())
    p = snn.reader.drive(snn.scaling(own.features))
    assert torch.equal(found["p"][2].features, p.double())
    for batches in found.values():
        assert [len(batch) for batch in batches] == [240, 72, 120]
        assert batches[2].labels.unique().tolist() == list(range(N_CLASSES))


def test_the_table_by_hand(script: Any) -> None:
    """Losses are paired: 10 and 12 points have an sd of 1.41, whatever the rows'; the interval of
    two values is 12.706 standard errors wide on each side."""
    each = [
        {"h_0": {"ridge": 0.9, "softmax": 0.8}, "p": {"ridge": 0.8, "softmax": 0.8},
         "counts": {"ridge": 0.5, "softmax": 0.7}},
        {"h_0": {"ridge": 0.7, "softmax": 0.8}, "p": {"ridge": 0.58, "softmax": 0.8},
         "counts": {"ridge": 0.28, "softmax": 0.7}},
    ]  # fmt: skip
    lines = script.table(each).split("\n")
    assert lines[2] == "| h_0 | 80.0 ± 14.1 | -47.1 to 207.1 | 80.0 ± 0.0 | 80.0 to 80.0 |"
    assert lines[5].startswith("| encoding loses (h_0 - p) | 11.0 ± 1.4 | -1.7 to 23.7 | 0.0 ± 0.0")
    assert lines[6].startswith("| spikes lose (p - counts) | 30.0 ± 0.0 |")
    assert "| h_0 | 90.0 | – | 80.0 | – |" in script.table(each[:1])


def test_it_prints_and_writes(script: Any, tmp_path: Path, capsys: Any) -> None:
    page, out = tmp_path / "page.md", tmp_path / "below" / "ceiling.json"
    page.write_text("<!-- ceiling -->\n<!-- /ceiling -->\n", encoding="utf-8")
    words = ["--seeds", "2", "--out", str(out), "--into", str(page), "--name", "ceiling"]
    script.main(words)
    printed = capsys.readouterr().out
    assert printed.strip() in page.read_text(encoding="utf-8")
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["seeds"] == [1993, 1994]
    accuracy = kept["accuracy"]
    # noise of the spikes alone differs here, and counts tell less than p
    assert accuracy[0]["p"] == accuracy[1]["p"] != accuracy[0]["counts"]
    for seed in accuracy:
        for name in ("ridge", "softmax"):
            assert 0.5 < seed["counts"][name] <= seed["h_0"][name] + 0.05 < 1.05
    with pytest.raises(ConfigError, match="give another name"):
        script.main(words)
